"""What will be sent, its key and its code: the same on every machine, different for anything that differs."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manual_payout.intent import (
    build_payload,
    confirm_code,
    difference,
    idempotency_key,
    is_own,
    transfer_group,
)
from manual_payout.models import Kind, Line, Mode, Reason, Request
from manual_payout.money import Money

AT = datetime(2026, 3, 2, 3, 0, tzinfo=UTC)
LINE = Line(
    "line-1", 1, "studio-1", "Harbor Light Pottery", "ledger-1", Money(125_075, "usd"), Money(31_000, "usd"), "acct_123"
)
REQUEST = Request(
    "request-1", "INC-123", Kind.TRANSFER, Mode.SANDBOX, "acct_platform", "maya", Reason.SCHEDULER_OUTAGE, "notes", "nonce-1",
    AT, AT + timedelta(hours=24), (LINE,),
)  # fmt: skip
PAYLOAD = build_payload(REQUEST, LINE, 1)


def at_stripe(**changes):
    """The payload as Stripe shows it once it is a transfer."""
    shown = {"id": "tr_1", "livemode": False, "reversed": False, "amount_reversed": 0}
    return PAYLOAD | shown | changes


# One other value for each field of each noun.
OTHER_LINE = {
    "line_id": "line-2", "line_no": 2, "studio_id": "studio-2", "studio_name": "Other", "ledger_payout_id": "ledger-2",
    "amount": Money(125_076, "usd"), "reserve_after": Money(0, "usd"), "destination_account": "acct_124",
}  # fmt: skip
OTHER_REQUEST = {
    "request_id": "request-2", "incident_id": "INC-124", "kind": "reversal", "mode": Mode.TEST,
    "platform_account": "acct_p2", "requested_by": "noor", "reason": Reason.OTHER, "notes": "Notes", "nonce": "nonce-2",
    "filed_at": AT + timedelta(microseconds=1), "expires_at": AT, "lines": (replace(LINE, amount=Money(1, "usd")),),
}  # fmt: skip


def test_every_field_has_another_value_here():
    """The two tables above are complete: a new field of a request or a line has to be added to them."""
    assert {one.name for one in fields(Line)} == set(OTHER_LINE)
    assert {one.name for one in fields(Request)} == set(OTHER_REQUEST)


@pytest.mark.parametrize("name", OTHER_REQUEST)
def test_any_field_of_the_request_changes_digest_and_code(name):
    """An approval and a confirm code bind every field of the request."""
    other = replace(REQUEST, **{name: OTHER_REQUEST[name]})

    assert REQUEST.digest != other.digest
    assert confirm_code(REQUEST, LINE, "tomas") != confirm_code(other, other.lines[0], "tomas")


@pytest.mark.parametrize("name", OTHER_LINE)
def test_any_field_of_the_line_changes_digest_and_code(name):
    """And every field of the line."""
    other = replace(REQUEST, lines=(replace(LINE, **{name: OTHER_LINE[name]}),))

    assert REQUEST.digest != other.digest
    assert confirm_code(REQUEST, LINE, "tomas") != confirm_code(other, other.lines[0], "tomas")


def test_currency_alone_changes_the_digest():
    """Equal digits in another currency are another amount."""
    other = replace(LINE, amount=Money(125_075, "eur"), reserve_after=Money(31_000, "eur"))

    assert REQUEST.digest != replace(REQUEST, lines=(other,)).digest


def test_code_is_the_same_on_every_machine_and_reads_aloud():
    """Computed from the request alone; letters and digits that are not taken for each other."""
    code = confirm_code(REQUEST, LINE, "tomas")

    assert code == confirm_code(replace(REQUEST), replace(LINE), "tomas")
    assert re.fullmatch(r"[A-Z2-7]{4}-[A-Z2-7]{4}", code)
    assert code != confirm_code(REQUEST, LINE, "noor")


@given(st.text(min_size=1), st.text(min_size=1))
def test_codes_of_two_operators_differ(one, other):
    """Whatever they are called."""
    try:
        one.encode(), other.encode()
    except UnicodeEncodeError:
        return
    codes = confirm_code(REQUEST, LINE, one), confirm_code(REQUEST, LINE, other)

    assert (one == other) == (codes[0] == codes[1])


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

    assert "" == difference(at_stripe(), PAYLOAD, Mode.SANDBOX) == difference(other_attempt, PAYLOAD, Mode.TEST)


DIFFERENT = {
    "amount": 125_076, "currency": "eur", "destination": "acct_124", "transfer_group": "other", "livemode": True,
    "reversed": True, "amount_reversed": 1,
}  # fmt: skip


@pytest.mark.parametrize("name", DIFFERENT)
@pytest.mark.parametrize("missing", [False, True])
def test_any_difference_is_named(name, missing):
    """Each field that is other than sent, or not shown at all, is named with both values."""
    shown = at_stripe(**{name: DIFFERENT[name]})
    if missing:
        del shown[name]

    assert difference(shown, PAYLOAD, Mode.SANDBOX).startswith(f"{name}: sent ")


@pytest.mark.parametrize("name", [name for name in PAYLOAD["metadata"] if name != "attempt"])
def test_metadata_that_differs_is_named(name):
    """The ids and the digest that travel along are compared too."""
    shown = at_stripe(metadata=PAYLOAD["metadata"] | {name: "x"})

    assert difference(shown, PAYLOAD, Mode.SANDBOX).startswith(f"metadata.{name}: ")


def test_live_transfer_in_a_test_is_a_difference():
    """The mode that Stripe shows has to be the one that was meant."""
    assert difference(at_stripe(livemode=True), PAYLOAD, Mode.TEST)
    assert difference(at_stripe(), PAYLOAD, Mode.LIVE)


def test_number_of_another_kind_is_a_difference():
    """1 is not True, and 125075.0 is not an amount."""
    assert difference(at_stripe(amount=125_075.0), PAYLOAD, Mode.SANDBOX)
    assert difference(at_stripe(livemode=0), PAYLOAD, Mode.SANDBOX)
