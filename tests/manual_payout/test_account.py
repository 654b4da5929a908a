"""The account of the money, and what no error may say once something has left."""

from __future__ import annotations

import itertools

import pytest

from local_stripe import SandboxAccount
from manual_payout import transfer
from manual_payout.approval.books import account_at, as_it_is, by_the_books, exit_code, safe_to_repeat
from manual_payout.database.store import Store
from manual_payout.domain import errors
from manual_payout.domain.account import Account, Standing, account_of
from manual_payout.domain.errors import (
    AstrayError,
    AttemptRefusedError,
    DatabaseError,
    ManualPayoutError,
    MovedBeforeError,
    ParameterError,
    PolicyRefusedError,
    RefusedError,
    StripeRefusedError,
    UnknownOutcomeError,
)
from manual_payout.domain.models import CHECKLIST, Event, State
from manual_payout.steps.run import Run, question
from manual_payout.transfer import settlement
from payout_rehearsal.demo import incident

MOVED = [standing for standing in Standing if standing is not Standing.NOTHING]
KINDS = sorted(
    (kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, ManualPayoutError)),
    key=lambda kind: kind.__name__,
)
LINE = "the reversal's line"
NOTHING_MOVED = "nothing moved"


def an_error(kind):
    """One error of that class, with whatever its class asks for."""
    if kind is ParameterError:
        return kind("amount", "1", "2")
    if kind is errors.IntentConflictError:
        return kind([("amount", "1", "2")], "Look.")
    return kind("The gate said no.", "Look.")


def account(standing, *moved):
    """What the books would say, in short."""
    return Account(standing, standing.value, f"The money is {standing.value}.", "Act.", frozenset(moved))


@pytest.mark.parametrize(
    ("kind", "standing"), list(itertools.product(KINDS, MOVED)), ids=lambda one: getattr(one, "__name__", one)
)
def test_no_error_says_that_nothing_moved_once_something_has(kind, standing):
    """Whatever went wrong, on the way out and on the way back: neither class, nor exit code, nor title claims it."""
    out = as_it_is(an_error(kind), account(standing))
    back = as_it_is(an_error(kind), account(standing, LINE), reversal=LINE)

    for told in (out, back):
        assert not isinstance(told, RefusedError)
        assert 3 != told.exit_code
        assert NOTHING_MOVED not in told.title


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_open_attempt_is_exit_code_4_whatever_else_is_wrong(kind):
    """Only what was typed wrong stays what it is: it says nothing of the money, and nothing was begun for it."""
    told = as_it_is(an_error(kind), account(Standing.OPEN))
    kept = (errors.UsageError, MovedBeforeError, AstrayError)

    assert isinstance(told, kept if issubclass(kind, kept) else UnknownOutcomeError)


@pytest.mark.parametrize("standing", [Standing.OUT, Standing.ASTRAY, Standing.TAKEN_BACK])
def test_a_refused_reversal_says_that_nothing_was_taken_back_and_is_never_7(standing):
    """It is refused for itself: the transfer has moved, and the title does not deny it."""
    told = as_it_is(PolicyRefusedError("No.", "Look."), account(standing), reversal=LINE)

    assert (3, "Refused, nothing was taken back") == (told.exit_code, told.title)


@pytest.mark.parametrize(
    ("code", "standing", "reversal", "expected"),
    [
        (0, Standing.NOTHING, False, 0),
        (0, Standing.OUT, False, 0),
        (0, Standing.ASTRAY, False, 7),
        (0, Standing.ASTRAY, True, 0),
        (0, Standing.TAKEN_BACK, False, 0),
        (2, Standing.ASTRAY, False, 2),
        (2, Standing.OPEN, False, 4),
        (3, Standing.NOTHING, False, 3),
        (3, Standing.OPEN, False, 4),
        (3, Standing.OUT, False, 5),
        (3, Standing.TAKEN_BACK, False, 5),
        (3, Standing.OUT, True, 3),
        (5, Standing.OPEN, True, 4),
        (6, Standing.ASTRAY, False, 7),
        (6, Standing.OUT, False, 6),
    ],
)
def test_a_run_ends_with_the_gravest_of_what_it_says_and_what_the_books_say(code, standing, reversal, expected):
    """The exit codes of the contract."""
    assert expected == exit_code(code, account(standing), reversal=reversal)


def test_what_is_open_or_astray_is_not_safe_to_repeat():
    """Everything else is: the same command sends nothing twice."""
    nothing, opened = account(Standing.NOTHING), account(Standing.OPEN)

    assert [True, True, True, True] == [safe_to_repeat(code, nothing) for code in (0, 2, 3, 6)]
    assert [False, False, False] == [
        safe_to_repeat(4, nothing),
        safe_to_repeat(7, nothing),
        safe_to_repeat(130, opened),
    ]


# ------------------------------------------------------------------------------------------------- the account itself


def of(scene, *events):
    """The account of the scene's payout, with more events than the journal has."""
    desk = scene.desk
    told = desk.store.events_of(f"{incident.INCIDENT_ID}/{incident.LEDGER_PAYOUT_ID}")
    return account_of(
        desk.store.payouts_of(ledger_payout_id=incident.LEDGER_PAYOUT_ID),
        desk.store.reversals_of(ledger_payout_id=incident.LEDGER_PAYOUT_ID),
        [*told, *events],
    )


def event(scene, kind, **data):
    """One more line of the scene's journal."""
    return Event(f"{incident.INCIDENT_ID}/{incident.LEDGER_PAYOUT_ID}", 99, kind, scene.desk.now(), "x", data)


def test_nothing_moved_before_and_after_a_refusal_by_stripe(scene):
    """A row alone is no movement."""
    before = of(scene)
    scene.stripe.fault("refuse", code="transfers_not_allowed")
    with pytest.raises(AttemptRefusedError) as caught:
        scene.send()

    assert [Standing.NOTHING, Standing.NOTHING] == [before.standing, of(scene).standing]
    assert (3, "Refused by Stripe, nothing moved") == (caught.value.exit_code, caught.value.title)


def test_paid_says_how_much_went_where_under_which_name(scene):
    """The last line of a run is this sentence."""
    record = scene.send()
    found = of(scene)

    assert (Standing.OUT, "paid") == (found.standing, found.state)
    assert f"1,250.75 USD moved to {record.destination_account} as {record.stripe_transfer_id}" in found.sentence


def test_what_the_bank_sent_back_is_astray_until_the_incident_is_closed(scene):
    """And again where it fails after the close."""
    scene.send()
    lost = event(
        scene, "settlement_observed", failed=True, failed_rung="paid_to_bank", note="No account of that number."
    )
    arrived, closed = event(scene, "settlement_observed", failed=False, note=""), event(scene, "incident_closed")

    assert [Standing.ASTRAY, Standing.OUT, Standing.RETURNED, Standing.ASTRAY] == [
        of(scene, *events).standing for events in ([lost], [lost, arrived], [lost, closed], [closed, lost])
    ]
    assert "did not arrive: No account of that number." in of(scene, lost).sentence


@pytest.mark.parametrize("share", [1, 2])
def test_what_came_back_by_no_reversal_of_ours_is_astray(scene, share):
    """Somebody reversed it in the Dashboard: no approval here explains it."""
    record = scene.send()
    minor = record.amount.amount_minor // share
    scene.desk.store.record_reversed(record, minor, actor="x")
    found = of(scene)

    assert (Standing.ASTRAY, "returned") == (found.standing, found.state)
    assert "came back without a reversal that was approved here" in found.sentence


def test_an_open_attempt_names_key_and_command(scene):
    """What a person needs when everything else is gone."""
    scene.stripe.fault("drop_before", times=3)
    with pytest.raises(UnknownOutcomeError):
        scene.send()
    found = of(scene)

    assert (Standing.OPEN, "unknown") == (found.standing, found.state)
    assert scene.record.idempotency_key in found.sentence
    assert "manual-payout reconcile INC-123" in found.remedy


# ------------------------------------------------------------------------------------------------- the edges that ask


@pytest.mark.parametrize("stage", CHECKLIST)
@pytest.mark.parametrize("kind", [PolicyRefusedError, errors.ApprovalError, errors.ClaimError, errors.SignatureError])
def test_every_stage_asks_the_books_before_it_refuses(scene, stage, kind, tmp_path, monkeypatch):
    """Also in a notebook that plain papermill runs: the title in it is this error's."""
    from manual_payout.evidence.folder import Folder

    scene.send()
    run = Run(stage, scene.live(), scene.desk, scene.operator, Folder(tmp_path, scene.desk.redactor))
    monkeypatch.setattr("scrapbook.glue", lambda *_, **__: None)

    @question
    def answer(_):
        raise kind("The gate said no.", "Look.")

    with pytest.raises(MovedBeforeError) as caught:
        answer(run)

    assert scene.record.stripe_transfer_id in caught.value.message
    assert NOTHING_MOVED not in " ".join(caught.value._render_traceback_())


def test_where_the_books_cannot_be_asked_nothing_is_claimed(scene, monkeypatch):
    """A refusal becomes a failure of the database; an unknown outcome stays what it is."""

    def away(*_, **__):
        raise DatabaseError("It is away.", "Mend it.")

    monkeypatch.setattr(Store, "payouts_of", away)
    unknown = UnknownOutcomeError("tr_1 may have been made.", "Run reconcile.")
    told = by_the_books(scene.desk, PolicyRefusedError("No.", "Look."), incident.LEDGER_PAYOUT_ID)

    assert (DatabaseError, 5) == (type(told), told.exit_code)
    assert by_the_books(scene.desk, unknown, incident.LEDGER_PAYOUT_ID) is unknown


def test_a_failing_read_after_the_payment_claims_nothing(scene):
    """Stripe cannot be asked how far the money is: not finished, and no word of nothing moved."""
    record = scene.send()
    scene.stripe.fault("drop_before", method="GET", times=9)
    with pytest.raises(StripeRefusedError) as caught:
        settlement.look(scene.desk, record)

    assert not isinstance(caught.value, RefusedError)
    assert 6 == by_the_books(scene.desk, caught.value, incident.LEDGER_PAYOUT_ID).exit_code


def test_the_same_send_after_a_lost_answer_is_unknown(scene):
    """The same command instead of reconcile, by whoever and under whatever refusal."""
    scene.stripe.fault("drop_before", times=3)
    for _ in range(2):
        with pytest.raises(UnknownOutcomeError):
            scene.send()

    assert State.UNKNOWN is scene.record.state


def test_reconcile_names_the_hour_from_which_a_person_may_decide(scene):
    """Stripe cannot be reached: besides that, when somebody may put an end to it, and how."""
    scene.stripe.fault("drop_before", times=3)
    with pytest.raises(UnknownOutcomeError):
        scene.send()
    opens = scene.record.first_sent_at + transfer.KEY_WINDOW
    scene.stripe.fault("drop_before", method="GET", times=9)
    with pytest.raises(UnknownOutcomeError) as caught:
        scene.reconcile()

    assert "Check the network" in caught.value.remedy
    assert (
        f"from {opens:%Y-%m-%d %H:%M} UTC on: `manual-payout reconcile INC-123 --decide not-moved"
        in caught.value.remedy
    )


def test_settlement_that_failed_says_7_and_what_to_do(scene):
    """By the row's own events, so that every later command says it."""
    record = scene.send()
    scene.stripe.seed([SandboxAccount(incident.DESTINATION_ACCOUNT, bank="fails", payout_schedule="daily")])
    scene.pass_time(days=4)
    settlement.note(scene.desk, record, settlement.look(scene.desk, record), actor="x")
    found = account_at(scene.desk, incident.LEDGER_PAYOUT_ID)
    told = as_it_is(PolicyRefusedError("No.", "Look."), found)

    assert (Standing.ASTRAY, 7) == (found.standing, told.exit_code)
    assert "never send" in told.remedy
