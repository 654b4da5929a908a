"""What will be sent, its key and its code: the same on every machine, different for anything that differs."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manual_payout.domain.canonical import canonical_json
from manual_payout.domain.intent import (
    build_payload,
    difference,
    idempotency_key,
    is_own,
    transfer_group,
)
from manual_payout.domain.models import (
    Kind,
    Line,
    Mode,
    PayoutRecord,
    Reason,
    Request,
    ReversalReason,
    ReversalRecord,
    State,
)
from manual_payout.domain.money import Money

AT = datetime(2026, 3, 2, 3, 0, tzinfo=UTC)
LINE = Line(
    "line-1", 1, "studio-1", "Harbor Light Pottery", "ledger-1", Money(125_075, "usd"), Money(31_000, "usd"), "acct_123"
)
REQUEST = Request(
    "request-1", "INC-123", Kind.TRANSFER, Mode.SANDBOX, "acct_platform", "maya", Reason.SCHEDULER_OUTAGE, "notes", "nonce-1",
    AT, AT + timedelta(hours=24), (LINE,),
)  # fmt: skip
PAYLOAD = build_payload(REQUEST, LINE, 1)
BACK_LINE = replace(LINE, amount=Money(10_000, "usd"), stripe_transfer_id="tr_1", reversed_before_minor=500)
BACK = replace(REQUEST, kind=Kind.REVERSAL, reason=ReversalReason.WRONG_AMOUNT, lines=(BACK_LINE,))
BACK_PAYLOAD = build_payload(BACK, BACK_LINE, 1)


def record(mode=Mode.SANDBOX):
    """The row of the request's only line."""
    return PayoutRecord(
        payout_id="line-1", request_id="request-1", incident_id="INC-123", ledger_payout_id="ledger-1", studio_id="studio-1",
        studio_name="Harbor Light Pottery", amount=LINE.amount, reserve_after=LINE.reserve_after, destination_account="acct_123",
        mode=mode, reason=Reason.SCHEDULER_OUTAGE, notes="notes", requested_by="maya", approved_by_payments_ops="priya",
        approved_by_finance="amara", operator_id="tomas", state=State.SUBMITTING, attempt_no=1, idempotency_key="k",
        transfer_group=PAYLOAD["transfer_group"], payload=canonical_json(PAYLOAD), owner="tomas", fence=1, lease_until=None,
        sent=True, created_at=AT,
    )  # fmt: skip


def reversal_record():
    """The row of a reversal's only line."""
    return ReversalRecord(
        reversal_id="line-1", request_id="request-1", incident_id="INC-123", ledger_payout_id="ledger-1", studio_id="studio-1",
        studio_name="Harbor Light Pottery", stripe_transfer_id="tr_1", amount=BACK_LINE.amount, destination_account="acct_123",
        reversed_before_minor=500, mode=Mode.SANDBOX, reason=ReversalReason.WRONG_AMOUNT, notes="notes", requested_by="maya",
        approved_by_payments_ops="priya", approved_by_finance="amara", operator_id="tomas", state=State.SUBMITTING, attempt_no=1,
        idempotency_key="k", payload=canonical_json(BACK_PAYLOAD), owner="tomas", fence=1, lease_until=None, sent=True,
        created_at=AT,
    )  # fmt: skip


def at_stripe(**changes):
    """The payload as Stripe shows it once it is a transfer."""
    shown = {"id": "tr_1", "livemode": False, "reversed": False, "amount_reversed": 0}
    return PAYLOAD | shown | changes


# One other value for each field of each noun.
OTHER_LINE = {
    "line_id": "line-2", "line_no": 2, "studio_id": "studio-2", "studio_name": "Other", "ledger_payout_id": "ledger-2",
    "amount": Money(125_076, "usd"), "reserve_after": Money(0, "usd"), "destination_account": "acct_124",
    "stripe_transfer_id": "tr_2", "reversed_before_minor": 501, "acknowledged": ("tr_1OtherTransfer",),
}  # fmt: skip
OTHER_REQUEST = {
    "request_id": "request-2", "incident_id": "INC-124", "kind": Kind.REVERSAL, "mode": Mode.TEST,
    "platform_account": "acct_p2", "requested_by": "noor", "reason": Reason.OTHER, "notes": "Notes", "nonce": "nonce-2",
    "filed_at": AT + timedelta(microseconds=1), "expires_at": AT, "lines": (replace(LINE, amount=Money(1, "usd")),),
    "replaces": "request-0",
}  # fmt: skip


def test_every_field_has_another_value_here():
    """The two tables above are complete: a new field of a request or a line has to be added to them."""
    assert {one.name for one in fields(Line)} == set(OTHER_LINE)
    # A signature is made over the digest.
    assert {one.name for one in fields(Request)} == {*OTHER_REQUEST, "signature"}


@pytest.mark.parametrize("name", OTHER_REQUEST)
def test_any_field_of_the_request_changes_the_digest(name):
    """An approval and a dry run bind every field of the request."""
    other = replace(REQUEST, **{name: OTHER_REQUEST[name]})

    assert REQUEST.digest != other.digest


@pytest.mark.parametrize("name", OTHER_LINE)
def test_any_field_of_the_line_changes_the_digest(name):
    """And every field of the line; those that a transfer has no use for bind a reversal."""
    request = BACK if name in {"stripe_transfer_id", "reversed_before_minor"} else REQUEST
    other = replace(request, lines=(replace(request.line_for(), **{name: OTHER_LINE[name]}),))

    assert request.digest != other.digest


def test_currency_alone_changes_the_digest():
    """Equal digits in another currency are another amount."""
    other = replace(LINE, amount=Money(125_075, "eur"), reserve_after=Money(31_000, "eur"))

    assert REQUEST.digest != replace(REQUEST, lines=(other,)).digest


def test_payload_holds_no_free_text_of_a_person():
    """Studio name and notes stay with us."""
    other = replace(REQUEST, notes="<script>", lines=(replace(LINE, studio_name="<b>"),))
    sent = build_payload(other, other.lines[0], 1)

    assert "<" not in repr(sent)
    assert {"amount", "currency", "destination", "transfer_group", "description", "metadata"} == set(sent)


def test_amount_is_whole_minor_units():
    """Cents as an integer, the currency in Stripe's lower case."""
    assert (125_075, int, "usd") == (PAYLOAD["amount"], type(PAYLOAD["amount"]), PAYLOAD["currency"])


@given(st.uuids(), st.integers(min_value=1, max_value=10**6))
def test_key_fits_into_stripes_limit_and_is_new_for_every_attempt(line_id, attempt_no):
    """At most 255 characters; an attempt's key is its own."""
    key = idempotency_key(str(line_id), attempt_no)

    assert len(key) <= 255
    assert key != idempotency_key(str(line_id), attempt_no + 1)


def test_group_names_the_ledger_payout():
    """One listing shows every transfer for one ledger payout, whoever requested it."""
    assert transfer_group("ledger-1") == PAYLOAD["transfer_group"] != transfer_group("ledger-2")


@pytest.mark.parametrize("transfer", [{}, {"metadata": None}, {"metadata": {}}, {"metadata": {"line_id": "line-2"}}])
def test_transfer_without_our_line_is_not_ours(transfer):
    """Only a transfer that names the line is its own."""
    assert is_own(at_stripe(), "line-1")
    assert not is_own(transfer, "line-1")


def test_transfer_as_sent_does_not_differ():
    """What Stripe shows of what was sent is the same, also where another attempt made it."""
    other_attempt = at_stripe(metadata=PAYLOAD["metadata"] | {"attempt": "2"})

    assert "" == difference(at_stripe(), record()) == difference(other_attempt, record(Mode.TEST))


DIFFERENT = {
    "amount": 125_076, "currency": "eur", "destination": "acct_124", "transfer_group": "other", "livemode": True,
}  # fmt: skip


@pytest.mark.parametrize("name", DIFFERENT)
@pytest.mark.parametrize("missing", [False, True])
def test_any_difference_is_named(name, missing):
    """Each field that is other than sent, or not shown at all, is named with both values."""
    shown = at_stripe(**{name: DIFFERENT[name]})
    if missing:
        del shown[name]

    assert difference(shown, record()).startswith(f"{name}: sent ")


@pytest.mark.parametrize(("back", "whole"), [(0, False), (1, False), (125_075, True)])
def test_what_has_come_back_since_is_no_difference(back, whole):
    """It says nothing about what was made."""
    assert "" == difference(at_stripe(amount_reversed=back, reversed=whole), record())


@pytest.mark.parametrize(
    ("back", "whole"), [(None, False), (0, None), (-1, False), (125_076, True), (1, True), (0.0, False)]
)
def test_what_has_come_back_has_to_be_told_in_a_way_that_can_be(back, whole):
    """A transfer that does not say how much of it came back is not taken for one that stands."""
    assert difference(at_stripe(amount_reversed=back, reversed=whole), record()).startswith("amount_reversed: ")


def test_reversal_as_sent_does_not_differ_and_any_difference_is_named():
    """Amount, currency, transfer and the ids that travel along are compared."""
    made = {
        "id": "trr_1",
        "amount": 10_000,
        "currency": "usd",
        "transfer": "tr_1",
        "metadata": BACK_PAYLOAD["metadata"],
    }

    assert "" == difference(made, reversal_record())
    for name, other in {"amount": 10_001, "currency": "eur", "transfer": "tr_2"}.items():
        assert difference(made | {name: other}, reversal_record()).startswith(f"{name}: sent ")
    assert difference(made | {"metadata": {}}, reversal_record()).startswith("metadata.incident_id: ")


def test_payload_of_a_reversal_always_says_how_much():
    """Without an amount Stripe would take all that is left."""
    assert {"amount": 10_000, "transfer": "tr_1"} == {
        "amount": BACK_PAYLOAD["amount"], "transfer": BACK_PAYLOAD["metadata"]["stripe_transfer_id"],
    }  # fmt: skip
    assert {"amount", "description", "metadata"} == set(BACK_PAYLOAD)


@pytest.mark.parametrize("name", [name for name in PAYLOAD["metadata"] if name != "attempt"])
def test_metadata_that_differs_is_named(name):
    """The ids and the digest that travel along are compared too."""
    shown = at_stripe(metadata=PAYLOAD["metadata"] | {name: "x"})

    assert difference(shown, record()).startswith(f"metadata.{name}: ")


def test_live_transfer_in_a_test_is_a_difference():
    """The mode that Stripe shows has to be the one that was meant."""
    assert difference(at_stripe(livemode=True), record(Mode.TEST))
    assert difference(at_stripe(), record(Mode.LIVE))


def test_number_of_another_kind_is_a_difference():
    """1 is not True, and 125075.0 is not an amount."""
    assert difference(at_stripe(amount=125_075.0), record())
    assert difference(at_stripe(livemode=0), record())
