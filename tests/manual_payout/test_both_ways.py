"""Money moves once, out or back; whatever breaks, the next run knows what to do. Each claim is of both directions."""

from __future__ import annotations

from dataclasses import replace

import pytest

from desks import STREAM
from manual_payout import transfer
from manual_payout.approval.dry_runs import DRY_RUN, DRY_RUN_SEALED, find_sealed
from manual_payout.desk.signing import sandbox_key
from manual_payout.domain.errors import (
    ApprovalError,
    AttemptRefusedError,
    ClaimError,
    DatabaseError,
    ManualPayoutError,
    MovedBeforeError,
    ParameterError,
    PolicyRefusedError,
    UnknownOutcomeError,
)
from manual_payout.domain.models import State
from mishaps import CrashError, crash, race, refusal
from movements import BOUNDARIES, WAYS, crash_at, lose_the_answer, plant_lost_answer
from proofs import leave_dry_run

ONLY = {"before the claim": "out", "after the claim": "out", "in the outcome": "back"}


@pytest.fixture(name="moving", params=WAYS)
def _moving(request, scene):
    """A movement of each direction on SQLite."""
    return WAYS[request.param](scene)


@pytest.fixture(name="any_moving", params=WAYS)
def _any_moving(request, any_scene):
    """A movement of each direction, once on each kind of database."""
    return WAYS[request.param](any_scene)


def keys(moving):
    return {post.idempotency_key for post in moving.posts}


def test_same_command_again_moves_nothing_more(moving):
    """On another machine and whatever its code, it finds the money moved and posts nothing."""
    first = moving.run()
    again = moving.run(moving.scene.new_desk(), confirm="")

    assert first == again
    assert 1 == len(moving.posts)


def test_intent_is_committed_before_anything_leaves(any_moving, monkeypatch):
    """When Stripe is called, another connection sees the row as sent, the attempt without outcome, and both events."""
    scene, seen = any_moving.scene, []
    create = getattr(scene.desk.gateway, any_moving.create)

    def watched(*args, **kwargs):
        seen.extend(scene.rows(f"SELECT state, sent, idempotency_key FROM {any_moving.rows}"))
        seen.extend(scene.rows(f"SELECT idempotency_key, outcome FROM {any_moving.tries}"))
        seen.extend(scene.rows("SELECT kind FROM events ORDER BY seq DESC LIMIT 2"))
        return create(*args, **kwargs)

    monkeypatch.setattr(scene.desk.gateway, any_moving.create, watched)
    key = any_moving.run().idempotency_key

    assert [("submitting", True, key), (key, None), ("sending",), ("intent_recorded",)] == seen


# ---------------------------------------------------------------------------------------------- the gate


@pytest.mark.parametrize("changes", [{"dry_run": True}, {"confirm": ""}, {"confirm": "AAAA-2222"}])
def test_dry_run_or_wrong_code_moves_nothing(moving, changes):
    """A dry run is refused by the last function itself, and so is a run without the code that it printed."""
    error = refusal(moving.run, **changes)

    assert isinstance(error, PolicyRefusedError if "dry_run" in changes else ParameterError)
    assert (None, []) == (moving.record, moving.posts)


def test_operator_without_a_sealed_dry_run_moves_nothing(moving):
    """No code replaces it, and neither does the notebook's own word for it, which anybody can write."""
    noor, request = moving.scene.desk.registry.find("noor"), moving.request
    said = {"request_id": request.request_id, "operator_id": noor.person_id}
    moving.scene.desk.store.record_event(STREAM, DRY_RUN, noor.person_id, said)
    error = refusal(moving.run, operator=noor)

    assert ("has not made a dry run of this request that was sealed" in error.message, []) == (True, moving.posts)
    assert "--operator noor` first; after plain papermill, `manual-payout seal INC-123" in error.remedy


@pytest.mark.parametrize("signer", ["priya", "noor"])
def test_dry_run_that_another_person_signed_moves_nothing(moving, signer):
    """An approver who holds Stripe's key and types the operator's name is refused before, not found at the seal."""
    leave_dry_run(moving.scene.desk, moving.request, key=sandbox_key(signer))
    error = refusal(moving.run)

    assert (PolicyRefusedError, []) == (type(error), moving.posts)
    assert "is not proved to be by Tomas Lindqvist" in error.message


@pytest.mark.parametrize("name", ["manifest_sha256", "rules_digest"])
def test_dry_run_that_says_something_else_than_was_signed_moves_nothing(moving, name):
    """Whoever writes to the database can put in a record, and not the operator's signature under it."""
    desk, tomas = moving.scene.desk, moving.scene.operator
    signed = find_sealed(desk, moving.request, moving.request.line_for(), tomas.person_id).data
    desk.store.record_event(STREAM, DRY_RUN_SEALED, tomas.person_id, signed | {name: "1" * 64})
    error = refusal(moving.run)

    assert ("is not proved to be by" in error.message, []) == (True, moving.posts)


def test_rules_have_to_be_those_of_the_dry_run_until_something_was_begun(moving):
    """What was approved, or read, under other rules was not; a new attempt needs approvals under its rules, and no new dry run."""
    other = moving.scene.new_desk(request={"reserve_minimum_minor": {"usd": 1}})

    assert "rules of money are not those under which" in refusal(moving.run, other).message
    moving.fault("refuse", code="resource_missing")
    assert AttemptRefusedError is type(refusal(moving.run))
    assert "rules of money are not those under which" in refusal(moving.run, other).message
    approve_under(moving, other)
    assert moving.done is moving.run(other).state


def test_dry_run_under_other_rules_lets_nothing_begin(moving):
    """Approved again under the rules of now, and read under those of then."""
    other = moving.scene.new_desk(request={"reserve_minimum_minor": {"usd": 1}})
    approve_under(moving, other)
    error = refusal(moving.run, other)

    assert ("The policy's rules of money are not those of the dry run" in error.message, []) == (True, moving.posts)


def approve_under(moving, desk):
    """Have both approve again, under the policy of that desk."""
    moving.scene.pass_time(minutes=1)
    before, moving.scene.desk = moving.scene.desk, desk
    settings, moving.scene.settings = moving.scene.settings, desk.settings
    for approver in ("priya", "amara"):
        moving.approve(approver)
    moving.scene.desk, moving.scene.settings = before, settings


@pytest.mark.parametrize("handle", ["priya", "maya"])
def test_who_may_not_operate_moves_nothing(moving, handle):
    """Approvers and requesters who are no operators can move nothing, whatever code they hold."""
    person = moving.scene.desk.registry.find(handle)
    moving.dry_run(person)
    error = refusal(moving.run, operator=person)

    assert (ApprovalError, []) == (type(error), moving.posts)
    assert "may not operate" in error.message


def test_begun_movement_keeps_its_request(any_moving, monkeypatch):
    """What has begun, or is done, keeps its request from being replaced."""
    deliver, errors = transfer.sending.deliver_attempt, []
    twin = replace(any_moving.request, request_id="r2", nonce="n2", replaces=any_moving.request.request_id)

    def supplant():
        store = any_moving.scene.desk.store
        errors.append(refusal(store.record_request, twin))

    def withdraw_then_deliver(desk, record):
        errors.append(refusal(any_moving.file, notes="other", replace=True))
        supplant()
        return deliver(desk, record)

    monkeypatch.setattr(transfer.sending, "deliver_attempt", withdraw_then_deliver)
    any_moving.run()
    supplant()

    assert [ClaimError] * 3 == [type(error) for error in errors]
    assert any_moving.stands(any_moving.done) == any_moving.standing


# ---------------------------------------------------------------------------------------------- faults of the call

# What becomes of each: whether it is done, or the state; and the error that is raised.
FAULTS = {
    "drop_before": ({"kind": "drop_before"}, None),
    "drop_after": ({"kind": "drop_after"}, None),
    "drop_after thrice": ({"kind": "drop_after", "times": 3}, None),
    "garbage": ({"kind": "garbage"}, None),
    "500 that took effect": ({"kind": "error_500", "effect": True}, None),
    "rate limit": ({"kind": "rate_limit"}, None),
    "lock timeout": ({"kind": "lock_timeout", "times": 2}, None),
    "conflict": ({"kind": "conflict"}, None),
    "500 without effect": ({"kind": "error_500", "effect": False}, State.UNKNOWN),
    "drop_before thrice": ({"kind": "drop_before", "times": 3}, State.UNKNOWN),
    "conflict thrice": ({"kind": "conflict", "times": 3}, State.UNKNOWN),
    "rate limit thrice": ({"kind": "rate_limit", "times": 3}, State.REFUSED),
    "403": ({"kind": "status_403"}, State.REFUSED),
    "refused": ({"kind": "refuse", "code": "resource_missing"}, State.REFUSED),
}
RAISED = {State.UNKNOWN: UnknownOutcomeError, State.REFUSED: AttemptRefusedError}


@pytest.mark.parametrize("name", FAULTS)
def test_fault_of_the_call_ends_in_its_state(moving, name):
    """Each fault leaves the state that is true of it, and money never moves twice."""
    fault, state = FAULTS[name]
    moving.fault(**fault)
    if state is None:
        moving.run()
    else:
        assert RAISED[state] is type(refusal(moving.run))

    assert moving.stands(state or moving.done) == moving.standing
    assert {moving.record.idempotency_key} == keys(moving)


def test_answer_that_differs_needs_a_person(moving, monkeypatch):
    """What Stripe made with another amount is on record, and nothing is sent or decided any more."""
    gateway = moving.scene.desk.gateway
    create, sent = getattr(gateway, moving.create), moving.request.line_for().amount.amount_minor

    def altered(*args, idempotency_key):
        *first, payload = args
        return create(*first, payload | {"amount": sent - 1}, idempotency_key=idempotency_key)

    monkeypatch.setattr(gateway, moving.create, altered)
    errors = [refusal(moving.run), refusal(moving.reconcile)]
    moving.scene.pass_time(hours=30)
    errors.append(refusal(moving.decide))

    assert [UnknownOutcomeError] * 3 == [type(error) for error in errors]
    assert f"amount: sent {sent}, Stripe shows {sent - 1}" in errors[0].message
    assert (State.NEEDS_HUMAN, moving.stands(State.UNKNOWN)[1], [sent - 1]) == moving.standing
    assert 1 == len(moving.posts)


@pytest.mark.parametrize("error", [DatabaseError("the disk is full.", ""), RuntimeError("anything")])
def test_database_that_fails_after_the_call_names_what_was_made(moving, monkeypatch, error):
    """The money has moved and our database says no: unknown, with the id of what was made; reconcile finds it."""

    def fails(*_args, **_kwargs):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(moving.scene.desk.store, "record_outcome", fails)
        told = refusal(moving.run)
    moving.reconcile()

    assert UnknownOutcomeError is type(told)
    assert moving.record.stripe_id in told.message
    assert moving.stands(moving.done) == moving.standing


# ---------------------------------------------------------------------------------------------- reconcile


def test_lost_answer_becomes_unknown_and_reconcile_finds_it(any_moving):
    """Unknown is not failed: sending again is refused, and the listing tells what happened."""
    error = lose_the_answer(any_moving, moved=True)
    again, state = refusal(any_moving.run), any_moving.record.state

    assert [(UnknownOutcomeError, 4)] * 2 == [(type(one), one.exit_code) for one in (error, again)]
    assert "reconcile INC-123" in error.remedy
    found = any_moving.reconcile(any_moving.scene.new_desk())
    assert (State.UNKNOWN, *any_moving.stands(any_moving.done)) == (state, *any_moving.standing)
    assert (1, any_moving.cut_short) == (len(any_moving.posts), found.difference)
    assert found.stripe_says.startswith(found.record.stripe_id)


@pytest.mark.parametrize("moved", [True, False])
def test_frozen_sender_says_what_was_settled_since(moving, moved, monkeypatch):
    """It recorded *unknown* and froze; when it wakes, another run has found what moved, or a person has decided that nothing did."""
    store = moving.scene.desk.store
    record_outcome = store.record_outcome

    def record_and_freeze(record, state, *args, **options):
        recorded = record_outcome(record, state, *args, **options)
        if state is State.UNKNOWN:
            monkeypatch.setattr(store, "record_outcome", record_outcome)
            if moved:
                moving.reconcile(moving.scene.new_desk())
            else:
                moving.scene.pass_time(hours=23)
                refusal(moving.reconcile)
                moving.decide()
        return recorded

    monkeypatch.setattr(store, "record_outcome", record_and_freeze)
    plant_lost_answer(moving, moved=moved)

    if moved:
        assert moving.done is moving.run().state
    else:
        woken = refusal(moving.run)
        assert (ClaimError, 3, State.REFUSED) == (type(woken), woken.exit_code, moving.record.state)
        assert "ended without a" in woken.message
        assert "decided by Tomas" in woken.message


@pytest.mark.parametrize("moved", [True, False])
def test_frozen_reconcile_says_what_was_settled_since(moving, moved, monkeypatch):
    """The same of a run that only looked: what it says is what stands when it says it."""
    lose_the_answer(moving, moved=moved)
    asked, store = moving.record, moving.scene.desk.store
    record_outcome = store.record_outcome

    def record_and_freeze(record, state, *args, **options):
        recorded = record_outcome(record, state, *args, **options)
        if state is State.UNKNOWN:
            monkeypatch.setattr(store, "record_outcome", record_outcome)
            transfer.reconcile(moving.scene.new_desk(), asked, moving.scene.operator)
        return recorded

    monkeypatch.setattr(store, "record_outcome", record_and_freeze)
    if not moved:
        moving.fault("drop_before", times=3)
    found = moving.reconcile()

    assert moving.done is found.record.state
    assert moving.stands(moving.done) == moving.standing


def test_what_never_arrived_is_sent_again_under_the_same_key(any_moving):
    """Inside the window reconcile sends the same key once more, under the approvals that stand, on the record."""
    lose_the_answer(any_moving, moved=False)
    any_moving.reconcile()

    assert any_moving.stands(any_moving.done) == any_moving.standing
    assert {any_moving.record.idempotency_key} == keys(any_moving)
    assert 2 == len(any_moving.scene.events("resend_allowed")[0].data["approval_ids"])


def test_stored_500_never_makes_a_new_key(moving):
    """It is replayed and stays unknown through every reconcile."""
    moving.fault("error_500", effect=False)
    refusal(moving.run)
    errors = [refusal(moving.reconcile) for _ in range(2)]

    assert [UnknownOutcomeError] * 2 == [type(error) for error in errors]
    assert moving.stands(State.UNKNOWN) == moving.standing
    assert {moving.record.idempotency_key} == keys(moving)


def test_after_the_window_a_person_decides(moving):
    """Nothing is sent under an old key; the decision needs the window's end, a name and a reason, and moves no money."""
    lose_the_answer(moving, moved=False)
    before, early = len(moving.posts), refusal(moving.decide)
    moving.scene.pass_time(hours=23)
    errors = [early, *(refusal(moving.reconcile) for _ in range(2)), refusal(moving.decide, " ")]

    assert [*[UnknownOutcomeError] * 3, ParameterError] == [type(error) for error in errors]
    assert (before, State.NEEDS_HUMAN) == (len(moving.posts), moving.record.state)
    assert "reconcile INC-123" in errors[1].remedy
    assert "--decide not-moved" in errors[1].remedy
    moving.decide("Dashboard checked at 03:10")
    assert moving.stands(State.REFUSED) == moving.standing
    assert "decided by Tomas Lindqvist: Dashboard checked at 03:10" == moving.record.outcome_reason


def test_decision_finds_what_shows_late(moving):
    """Stripe is asked once more at the moment of the decision."""
    lose_the_answer(moving, moved=True)
    moving.scene.pass_time(hours=24)
    moving.scene.tamper(f"UPDATE {moving.rows} SET state = 'needs_human'")
    moving.decide()

    assert moving.stands(moving.done) == moving.standing


def test_expired_approvals_need_a_person_until_given_anew(moving):
    """Inside the window, expired approvals keep the key from being sent; new ones let reconcile go on."""
    lose_the_answer(moving, moved=False)
    moving.scene.pass_time(hours=5)
    before, error = len(moving.posts), refusal(moving.reconcile)

    assert (before, State.NEEDS_HUMAN) == (len(moving.posts), moving.record.state)
    assert "approve" in error.remedy
    moving.approve("jonas"), moving.approve("lucia")
    moving.reconcile()
    assert moving.stands(moving.done) == moving.standing


# ---------------------------------------------------------------------------------------------- crashes


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_crash_at_any_boundary_then_the_same_command_moves_it_once(any_scene, boundary, monkeypatch):
    """Wherever the process dies, the same command on another machine ends done, with one movement in Stripe's books."""
    for name in [ONLY[boundary]] if boundary in ONLY else WAYS:
        moving = WAYS[name](any_scene)
        crash_at(moving, boundary, monkeypatch)
        record = moving.run(any_scene.new_desk())

        assert (1, *moving.stands(moving.done)) == (record.attempt_no, *moving.standing)


@pytest.mark.parametrize(
    "boundary", [name for name in BOUNDARIES if "claim" not in name and name != "before the intent"]
)
def test_crash_at_any_boundary_then_reconcile_tells_the_truth(scene, boundary, monkeypatch):
    """Reconcile ends done where a request may have left, and refused where none did; the next command completes it."""
    unsent = boundary in {"after the intent", "before the fence"}
    for name in [ONLY[boundary]] if boundary in ONLY else WAYS:
        moving = WAYS[name](scene)
        crash_at(moving, boundary, monkeypatch)
        found = moving.reconcile(scene.new_desk())

        assert moving.stands(State.REFUSED if unsent else moving.done) == (found.record.state, *moving.standing[1:])
        moving.run(scene.new_desk())
        assert moving.stands(moving.done) == moving.standing


def test_recovery_run_may_die_too(any_moving, monkeypatch):
    """Two crashes deep, money has moved once."""
    crash_at(any_moving, "after the call", monkeypatch)
    second = any_moving.scene.new_desk()
    monkeypatch.setattr(second.store, "record_outcome", crash)
    with pytest.raises(CrashError):
        any_moving.run(second)
    any_moving.run(any_moving.scene.new_desk())

    assert any_moving.stands(any_moving.done) == any_moving.standing


def test_run_that_may_not_continue_says_that_money_may_have_moved(moving, monkeypatch):
    """An interrupted attempt and expired approvals: that is unknown, not "nothing moved"; reconcile tells."""
    crash_at(moving, "after the call", monkeypatch)
    moving.scene.pass_time(hours=5)
    error = refusal(moving.run)
    moving.reconcile()

    assert (UnknownOutcomeError, 4) == (type(error), error.exit_code)
    assert moving.stands(moving.done) == moving.standing


def test_sender_that_slept_before_the_fence_moves_nothing(moving, monkeypatch):
    """Frozen after the look-up and woken after its lease: the fence stops it, even though nobody took over."""
    mark = moving.scene.desk.store.mark_sent

    def sleep_then_mark(record, **options):
        moving.scene.stripe.advance(600)
        return mark(record, **options)

    monkeypatch.setattr(moving.scene.desk.store, "mark_sent", sleep_then_mark)
    error = refusal(moving.run)

    assert (UnknownOutcomeError, [], False) == (type(error), moving.posts, moving.record.sent)


def test_sender_that_was_overtaken_moves_nothing(any_moving, monkeypatch):
    """A zombie whose attempt was taken over and done may not send, although it had looked before anything was there."""
    crash_at(any_moving, "before the fence", monkeypatch)
    zombie = any_moving.record
    any_moving.run(any_moving.scene.new_desk())
    monkeypatch.setattr(any_moving.scene.desk.gateway, any_moving.look, lambda _named: [])
    error = refusal(transfer.delivery.deliver_attempt, any_moving.scene.desk, zombie)

    assert isinstance(error, ManualPayoutError)
    assert 1 == len(any_moving.posts)
    assert any_moving.stands(any_moving.done) == any_moving.standing


# ---------------------------------------------------------------------------------------------- contention


def test_two_operators_at_once_move_it_once(any_moving):
    """Both run the same request at the same moment: money moves once, and each ends done or is told who was faster."""
    scene, noor = any_moving.scene, any_moving.scene.desk.registry.find("noor")
    any_moving.dry_run(noor)
    desks = scene.new_desk(), scene.new_desk()
    results = race(lambda: any_moving.run(desks[0]), lambda: any_moving.run(desks[1], noor))

    losers = [result for result in results if isinstance(result, ManualPayoutError)]
    assert {MovedBeforeError, UnknownOutcomeError} >= {type(error) for error in losers}
    assert len(losers) < 2
    assert any_moving.done is any_moving.run().state
    assert any_moving.stands(any_moving.done) == any_moving.standing
