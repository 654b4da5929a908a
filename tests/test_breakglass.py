"""One approval moves money only under break-glass, and only where every one of its conditions holds."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import time
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from datetime import datetime, timedelta
from types import SimpleNamespace

import pytest
from tests.crash.simulation.memory_store import Hooks, MemoryStore

import glass as g
from desks import LAST4, STREAM, Scene
from manual_payout.approvals import check_approvals
from manual_payout.breakglass import check_glass, declare, find_review, review, review_due, standing, stop, used_glass
from manual_payout.canonical import canonical_json
from manual_payout.clock import FixedClock
from manual_payout.demo import incident
from manual_payout.errors import (
    ApprovalError,
    ParameterError,
    PolicyRefusedError,
    RefusedError,
    SettingsError,
    UnknownOutcomeError,
)
from manual_payout.evidence.folder import Folder
from manual_payout.evidence.review import write_page
from manual_payout.models import CheckStatus, Kind, State, Team
from manual_payout.people import Registry, load_registry
from manual_payout.settings import DEMO_APPROVERS, Policy
from manual_payout.signatures import AllowedSigners
from manual_payout.signing import sandbox_key
from manual_payout.store import message_id
from manual_payout.verification import verify


def nothing_moved(scene):
    """No request by which money moves has reached Stripe."""
    return [] == scene.posts and {} == dict(scene.transfers)


def test_one_approval_moves_the_money_once_under_break_glass(any_alone):
    """Declared, paged, held back: sent; the row names nobody for the missing team, and the declaration is used up."""
    glass = g.opened(any_alone)
    record = any_alone.send()
    again = any_alone.send()
    told = any_alone.events("intent_recorded")[0].data
    columns = any_alone.rows("SELECT approved_by_finance, approval_finance FROM manual_payouts")

    assert (State.PAID, Team.FINANCE) == (record.state, record.unapproved_by)
    assert record == again
    assert 1 == len(any_alone.posts)
    assert [("", glass.declaration.declaration_id)] == columns
    assert (1, glass.declaration.declaration_id) == (len(told["approval_ids"]), told["break_glass"])


def test_one_approval_without_a_declaration_moves_nothing(any_alone):
    """That the policy allows it is not enough, and nothing of it is there before it is declared."""
    g.allow(any_alone.desk)
    with pytest.raises(ApprovalError, match="No approval by Finance"):
        any_alone.send()

    assert nothing_moved(any_alone)
    assert [] == any_alone.events("break_glass_declared")


# ------------------------------------------------------------------- each condition alone, inside the send


def _policy_off(scene):
    g.allow(scene.desk, enabled=False)


def _cap_lowered(scene):
    g.allow(scene.desk, amount_minor_max={"usd": g.AMOUNT_MINOR - 1})


def _no_cap(scene):
    g.allow(scene.desk, amount_minor_max={"eur": 10**6})


def _longer_hold(scene):
    g.allow(scene.desk, hold_s=g.HOLD_S + 1)


def _stopped(scene):
    stop(scene.desk, scene.request, owner=g.OWNER, because="not tonight")


def _expired(scene):
    scene.pass_time(hours=4)


def _owner_left(scene):
    registry, now = scene.desk.registry, scene.desk.now()
    people = (replace(p, valid_until=now) if p.handle == g.OWNER else p for p in registry.people)
    scene.desk.registry = Registry(tuple(people), registry.source, registry.signers)


def _owner_taken_out(scene):
    registry = scene.desk.registry
    people = tuple(p for p in registry.people if p.handle != g.OWNER)
    emails = {person.email for person in people}
    kept = tuple(line for line in registry.signers.entries if line.principal in emails)
    scene.desk.registry = Registry(people, registry.source, AllowedSigners(kept, frozenset(), registry.source))


SPOILED = [
    (_policy_off, "The policy does not allow break-glass"),
    (_cap_lowered, r"1,250.75 USD is above the cap of break-glass, 1,250.74 USD"),
    (_no_cap, "Break-glass has no cap for USD"),
    (_longer_hold, "Break-glass is held back until 2026-03-02 03:30:01 UTC"),
    (_stopped, "Jonas Weber stopped break-glass"),
    (_expired, "The approval by Payments Ops expired"),
    (_owner_left, "Jonas Weber, who was paged as the owner of break-glass, is not in force"),
    (_owner_taken_out, "who was paged as the owner of break-glass, is not in force"),
]


@pytest.mark.parametrize(("spoil", "why"), SPOILED, ids=lambda value: getattr(value, "__name__", ""))
def test_each_condition_that_ends_after_the_declaration_refuses_inside_the_send(any_alone, spoil, why):
    """Everything was in place, the dry run was green; what changes before the send is found inside the send."""
    g.opened(any_alone)
    spoil(any_alone)
    with pytest.raises(ApprovalError, match=why) as refused:
        any_alone.send()

    assert 3 == refused.value.exit_code
    assert nothing_moved(any_alone)
    assert any_alone.record is None


def test_hold_counts_from_the_page_to_the_second(any_alone):
    """Neither a page that waits nor one that came late shortens the time in which the owner can stop it."""
    g.allow(any_alone.desk)
    glass = g.declared(any_alone)
    any_alone.pass_time(seconds=g.HOLD_S)
    with pytest.raises(ApprovalError, match="The page to Jonas Weber is not on record as delivered"):
        any_alone.send()
    g.paged(any_alone, glass)
    any_alone.pass_time(seconds=g.HOLD_S - 1)
    with pytest.raises(ApprovalError, match="held back until 2026-03-02 04:00:00 UTC, so that Jonas Weber can stop it"):
        any_alone.send()
    assert nothing_moved(any_alone)
    any_alone.pass_time(seconds=1)

    assert State.PAID is any_alone.send().state


def test_page_that_a_person_copied_is_not_a_page(alone):
    """Only what PagerDuty took wakes somebody; a hand that marks it as sent does not."""
    g.allow(alone.desk)
    glass = g.declared(alone)
    alone.desk.store.record_copied(g.page_of(glass.declaration, alone.request), actor="priya")
    alone.pass_time(seconds=g.HOLD_S)
    with pytest.raises(ApprovalError, match="not on record as delivered"):
        alone.send()

    assert nothing_moved(alone)


def test_second_approval_makes_it_an_ordinary_payout(any_alone):
    """Who was reached after all counts; the declaration is not used, stopped or not."""
    g.opened(any_alone)
    _stopped(any_alone)
    any_alone.approve("amara")
    record = any_alone.send()

    assert (State.PAID, None) == (record.state, record.unapproved_by)
    assert "break_glass" not in any_alone.events("intent_recorded")[0].data


def test_second_approval_that_is_wrong_is_not_a_missing_one(any_alone):
    """An approval that was forged is a reason to stop, not to go on without it."""
    g.opened(any_alone)
    any_alone.approve("amara", key=None)
    any_alone.tamper("UPDATE approvals SET approver_id = 'somebody' WHERE team = 'finance'")
    with pytest.raises(ApprovalError, match="was altered, or was never given"):
        any_alone.send()

    assert nothing_moved(any_alone)


def _forge(scene, **changes):
    """Put a declaration into the journal past the command, page its owner, and wait."""
    g.allow(scene.desk)
    (approval,) = scene.desk.store.approvals_of(scene.request.request_id)
    made = g.forged(scene.desk, scene.request, approval, scene.desk.now(), **changes)
    scene.desk.store.record_declaration(made, scene.request, [g.page_of(made, scene.request)])
    g.paged(scene, SimpleNamespace(declaration=made))
    scene.pass_time(seconds=g.HOLD_S)


def _id(name):
    return load_registry(DEMO_APPROVERS).find(name).person_id


FORGED = [
    ({"signer": "jonas"}, "The break-glass declaration by Priya Raman does not stand"),
    ({"declarer_id": _id("lucia")}, "was not declared by Priya Raman"),
    ({"declarer_id": _id("jonas")}, "was not declared by Priya Raman"),
    ({"approval_id": "another"}, "was not declared by Priya Raman"),
    ({"missing": Team.PAYMENTS_OPS}, "No approval by Finance"),
    ({"owner_id": _id("tomas")}, "Tomas Lindqvist is paged as the owner"),
    ({"owner_id": _id("priya")}, "Priya Raman is paged as the owner"),
    ({"owner_id": _id("maya")}, "Maya Okafor is paged as the owner"),
    ({"limit_minor": g.AMOUNT_MINOR - 1}, "above the cap"),
    ({"hold_s": g.HOLD_S + 1}, "held back"),
    ({"expires_at": datetime.fromisoformat(incident.NOW) + timedelta(seconds=g.HOLD_S)}, "declaration ended at"),
    ({"expires_at": datetime.fromisoformat(incident.NOW) + timedelta(hours=5)}, "at other times than its approval"),
    ({"declared_at": datetime.fromisoformat(incident.NOW) - timedelta(hours=1)}, "at other times than its approval"),
]


@pytest.mark.parametrize(("changes", "why"), FORGED, ids=lambda value: str(value)[:60])
def test_declaration_that_the_command_would_not_make_is_worth_nothing(any_alone, changes, why):
    """Whoever can write into the journal, even with a key of their own, moves nothing."""
    _forge(any_alone, **changes)
    with pytest.raises(ApprovalError, match=why):
        any_alone.send()

    assert nothing_moved(any_alone)


def test_declaration_copied_from_another_request_is_worth_nothing(any_alone):
    """The whole request is signed: another amount, destination or mode is another request."""
    other = replace(any_alone.request, notes="another night")
    _forge(any_alone, signed_for=other)
    with pytest.raises(
        ApprovalError, match=r"not about this request as filed: predicate.request.notes was 'another night'"
    ):
        any_alone.send()

    assert nothing_moved(any_alone)


def test_declaration_altered_in_the_journal_is_found_by_its_chain(any_alone):
    """A changed word breaks the journal, which is exit code 5 and no approval."""
    g.opened(any_alone)
    any_alone.tamper("UPDATE events SET data = replace(data, '200000', '900000') WHERE kind = 'break_glass_declared'")
    with pytest.raises(Exception, match=r"journal .* is broken"):
        any_alone.send()

    assert nothing_moved(any_alone)


def test_approval_does_not_pass_for_a_declaration_nor_the_other_way_round(alone):
    """Both are signed with one key for one namespace; their types keep them apart."""
    glass = g.opened(alone)
    (approval,) = alone.desk.store.approvals_of(alone.request.request_id)
    text = glass.declaration.signed_text
    dressed = replace(approval, approval_id="x", nonce="x", signed_text=text, signature=glass.declaration.signature)
    declared = replace(glass.declaration, signed_text=approval.signed_text, signature=approval.signature)
    with pytest.raises(ApprovalError, match="is not what stands here"):
        check_approvals(alone.request, [dressed], alone.desk.registry, operator_id="x", at=alone.desk.now())
    with pytest.raises(ApprovalError, match="not about this request"):
        check_glass(
            alone.request, replace(glass, declaration=declared), approval, alone.desk.registry.find("priya"), g.POLICY,
            alone.desk.registry, operator_id="x", at=alone.desk.now(), until=approval.expires_at,
        )  # fmt: skip


# ------------------------------------------------------------------------------------ stop, races, crashes


def test_stop_between_gate_and_intent_is_found_under_the_lock(any_alone, monkeypatch):
    """The owner's no that arrives after the gate was passed still comes before the intent."""
    g.opened(any_alone)
    record_intent = any_alone.desk.store.record_intent

    def stopped_first(*args, **kwargs):
        _stopped(any_alone)
        return record_intent(*args, **kwargs)

    monkeypatch.setattr(any_alone.desk.store, "record_intent", stopped_first)
    with pytest.raises(ApprovalError, match="The owner stopped break-glass"):
        any_alone.send()

    assert nothing_moved(any_alone)
    assert any_alone.record is None


def test_stop_between_intent_and_post_is_found_at_the_fence(any_alone, monkeypatch):
    """Nothing leaves after the stop; the row is then settled as never sent, and a second approval leads on."""
    g.opened(any_alone)
    mark_sent = any_alone.desk.store.mark_sent

    def stopped_first(*args, **kwargs):
        monkeypatch.undo()
        _stopped(any_alone)
        return mark_sent(*args, **kwargs)

    monkeypatch.setattr(any_alone.desk.store, "mark_sent", stopped_first)
    with pytest.raises(ApprovalError, match="The owner stopped break-glass"):
        any_alone.send()
    assert nothing_moved(any_alone)
    any_alone.pass_time(minutes=15)
    any_alone.reconcile()
    assert (State.REFUSED, Team.FINANCE) == (any_alone.record.state, any_alone.record.unapproved_by)
    any_alone.approve("amara")
    record = any_alone.send()

    assert (State.PAID, 2, None) == (record.state, record.attempt_no, record.unapproved_by)


@pytest.mark.parametrize("stopped_before", ["record_intent", "mark_sent"])
def test_stop_ends_every_declaration_for_the_request(any_alone, monkeypatch, stopped_before):
    """A colleague declares too in the middle of a send; the owner's no to the later one ends the send under the first."""
    store = any_alone.desk.store
    glass = g.opened(any_alone, owner="lucia")

    def declared_too():
        any_alone.approve("jonas")
        assert glass.declaration != g.declared(any_alone, "jonas").declaration

    def stopped():
        stop(any_alone.desk, any_alone.request, owner="lucia", because="")

    def before(name, *doings):
        real = getattr(store, name)

        def call(*args, **kwargs):
            for one in doings:
                one()
            return real(*args, **kwargs)

        monkeypatch.setattr(store, name, call)

    if stopped_before == "record_intent":
        before("record_intent", declared_too, stopped)
    else:
        before("record_intent", declared_too)
        before("mark_sent", stopped)
    with pytest.raises(ApprovalError, match="The owner stopped break-glass"):
        any_alone.send()

    assert nothing_moved(any_alone)


class Interrupted:
    """Something of the desk that has the owner stop break-glass before one call of any of its methods."""

    def __init__(self, inner, calls, at, stops):
        self.inner, self.calls, self.at, self.stops = inner, calls, at, stops

    def __getattr__(self, name):
        found = getattr(self.inner, name)
        if not callable(found):
            return found

        def call(*args, **kwargs):
            self.calls.append(name)
            if len(self.calls) == self.at:
                self.stops()
            return found(*args, **kwargs)

        return call


# A send under break-glass makes so many calls to the store and to Stripe before it is over.
CALLS = 26


@pytest.mark.parametrize("at", range(1, CALLS + 1))
def test_stop_before_any_call_of_the_send_is_found_before_the_request_leaves(alone, at):
    """Wherever the owner's no falls: what is not yet marked as leaving does not leave."""
    g.opened(alone)
    desk, calls, failed = alone.new_desk(), [], []
    g.allow(desk)

    def stops():
        try:
            _stopped(alone)
        except PolicyRefusedError as error:
            failed.append(error)

    desk.store = Interrupted(desk.store, calls, at, stops)
    desk.__dict__["gateway"] = Interrupted(desk.gateway, calls, at, stops)
    with contextlib.suppress(RefusedError):
        alone.send(desk)
    chain = [event.kind for event in alone.desk.store.events_of(STREAM)]
    stopped = chain.index("break_glass_stopped") if not failed else len(chain)

    assert len(calls) == CALLS if at == CALLS else len(calls) >= at
    assert chain[:stopped].count("sending") == chain.count("sending") == len(alone.posts) == len(alone.transfers)


@pytest.mark.parametrize("after_s", [0.0, 0.02, 0.05])
def test_of_a_stop_and_a_sending_at_the_same_moment_one_comes_first(any_alone, after_s):
    """Two machines: nothing is sent after the stop is on record, and what was sent before it is told as sent."""
    g.opened(any_alone)
    other = any_alone.new_desk()
    g.allow(other)
    with ThreadPoolExecutor(2) as pool:
        sending = pool.submit(any_alone.send)
        time.sleep(after_s)
        stopping = pool.submit(stop, other, any_alone.request, owner=g.OWNER, because="")
        wait((sending, stopping))
    chain = [event.kind for event in any_alone.desk.store.events_of(STREAM)]
    sent = [at for at, kind in enumerate(chain) if kind == "sending"]

    assert len(sent) == len(any_alone.transfers) == len(any_alone.posts) <= 1
    if "break_glass_stopped" in chain:
        assert all(at < chain.index("break_glass_stopped") for at in sent)
        assert sent or isinstance(sending.exception(), RefusedError)
    else:
        assert isinstance(stopping.exception(), PolicyRefusedError)


def test_stop_after_a_lost_answer_leaves_only_the_question_what_happened(any_alone):
    """An answer that was lost may hide a transfer: the stop forbids sending again, not finding out."""
    g.opened(any_alone)
    any_alone.stripe.fault("drop_before", times=9)
    with pytest.raises(UnknownOutcomeError):
        any_alone.send()
    posts = len(any_alone.posts)
    _stopped(any_alone)
    any_alone.pass_time(minutes=15)
    with pytest.raises(UnknownOutcomeError, match="stopped break-glass"):
        any_alone.reconcile()

    assert posts == len(any_alone.posts)


def test_stop_between_two_tries_that_moved_nothing_ends_the_attempt(any_alone, monkeypatch):
    """Stripe was busy and ran nothing; stopped in the pause, nothing is in doubt, and a second approval leads on at once."""
    g.opened(any_alone)
    any_alone.stripe.fault("rate_limit", times=1)
    pause = any_alone.desk.clock.wait

    def stopped_first(seconds):
        monkeypatch.undo()
        _stopped(any_alone)
        return pause(seconds)

    monkeypatch.setattr(any_alone.desk.clock, "wait", stopped_first)
    with pytest.raises(ApprovalError, match="The owner stopped break-glass"):
        any_alone.send()
    assert (State.REFUSED, 1, {}) == (any_alone.record.state, len(any_alone.posts), dict(any_alone.transfers))
    any_alone.approve("amara")
    record = any_alone.send()

    assert (State.PAID, 2, None) == (record.state, record.attempt_no, record.unapproved_by)
    assert 1 == len(any_alone.transfers)


def test_second_approval_does_not_send_a_key_again_that_was_stopped(any_alone):
    """An answer was lost, then it was stopped: once the key is over a person decides, and nothing pretends to send before."""
    g.opened(any_alone)
    any_alone.stripe.fault("drop_before", times=3)
    with pytest.raises(UnknownOutcomeError):
        any_alone.send()
    posts = len(any_alone.posts)
    _stopped(any_alone)
    any_alone.pass_time(minutes=15)
    any_alone.approve("amara")
    for _ in range(2):
        with pytest.raises(UnknownOutcomeError, match="Jonas Weber stopped break-glass") as caught:
            any_alone.reconcile()
        assert "Then reconcile again" not in caught.value.remedy
        assert "After 2026-03-03 02:30 UTC" in caught.value.remedy
        any_alone.pass_time(minutes=15)

    assert State.NEEDS_HUMAN is any_alone.record.state
    assert posts == len(any_alone.posts)
    assert [] == any_alone.events("resend_allowed")


def test_only_the_owner_stops_it_and_only_before_the_money_moved(any_alone):
    """Anybody else is told who may; afterwards there is a reversal."""
    g.opened(any_alone)
    for other in ("priya", "tomas", "amara", "nobody"):
        with pytest.raises(ApprovalError, match="Only Jonas Weber, who was paged as its owner, may stop it"):
            stop(any_alone.desk, any_alone.request, owner=other, because="")
    any_alone.send()
    with pytest.raises(PolicyRefusedError, match="The money has moved"):
        _stopped(any_alone)

    assert [] == any_alone.events("break_glass_stopped")


def test_stop_is_final_for_the_request(any_alone):
    """An owner's no is not worn down by declaring again."""
    g.opened(any_alone)
    _stopped(any_alone)
    _stopped(any_alone)
    with pytest.raises(ApprovalError, match="stopped break-glass for this request"):
        g.declared(any_alone)

    assert 1 == len(any_alone.events("break_glass_stopped"))


# ------------------------------------------------------------------------------------ what the command refuses


def _twice_approved(scene):
    scene.approve("amara")


def _nobodys(scene):
    g.allow(scene.desk, owner="nobody")


def _late(scene):
    scene.pass_time(seconds=4 * 3600 - g.HOLD_S)


def _sent(scene):
    g.opened(scene)
    scene.send()


def _nothing(_scene):
    pass


REFUSED_AT_ONCE = [
    (_policy_off, "priya", PolicyRefusedError, "The policy does not allow break-glass"),
    (_cap_lowered, "priya", ApprovalError, "above the cap"),
    (_no_cap, "priya", ApprovalError, "no cap for USD"),
    (_twice_approved, "priya", ApprovalError, "Amara Diallo has approved for Finance"),
    (_nobodys, "priya", SettingsError, "break_glass.owner in the policy file is 'nobody'"),
    (_late, "priya", ApprovalError, "before the hold of 30 minutes would"),
    (_expired, "priya", ApprovalError, "expired"),
    (_nothing, "jonas", ApprovalError, "Priya Raman approved this request for Payments Ops, not Jonas Weber"),
    (_nothing, "amara", ApprovalError, "No approval by Finance"),
    (_nothing, "tomas", ApprovalError, "Tomas Lindqvist may not approve"),
    (_sent, "priya", PolicyRefusedError, "This request is paid already"),
]


@pytest.mark.parametrize(
    ("spoil", "who", "error", "why"), REFUSED_AT_ONCE, ids=lambda value: getattr(value, "__name__", str(value)[:20])
)
def test_declaring_refuses_what_the_send_would_refuse(any_alone, spoil, who, error, why):
    """Each with its own sentence, and nothing is recorded."""
    g.allow(any_alone.desk)
    spoil(any_alone)
    before = any_alone.rows("SELECT count(*) FROM events"), any_alone.rows("SELECT count(*) FROM messages")
    key = sandbox_key("priya") if who == "tomas" else sandbox_key(who)
    with pytest.raises(error, match=why):
        declare(
            any_alone.desk, any_alone.request, declarer=who, amount=incident.AMOUNT, destination_last4=LAST4,
            because=g.BECAUSE, key=key, page=lambda _: [],
        )  # fmt: skip

    assert before == (any_alone.rows("SELECT count(*) FROM events"), any_alone.rows("SELECT count(*) FROM messages"))


@pytest.mark.parametrize("typed", [{"amount": "1250.76"}, {"destination_last4": "_124"}])
def test_who_declares_types_what_they_read(alone, typed):
    """As for an approval."""
    g.allow(alone.desk)
    with pytest.raises(ParameterError):
        g.declared(alone, **typed)

    assert [] == alone.events("break_glass_declared")


def test_declaration_and_page_are_recorded_together_and_once(any_alone):
    """Declared twice, it is one declaration with one page."""
    g.allow(any_alone.desk)
    first, second = g.declared(any_alone), g.declared(any_alone)
    messages = any_alone.rows("SELECT kind, state FROM messages")

    assert first == second
    assert 1 == len(any_alone.events("break_glass_declared"))
    assert [("page_break_glass", "waiting")] == messages


def test_declaration_whose_page_cannot_be_written_is_not_recorded(any_alone):
    """The page stands in the transaction of the declaration: neither is there without the other."""
    g.allow(any_alone.desk)
    (approval,) = any_alone.desk.store.approvals_of(any_alone.request.request_id)
    made = g.forged(any_alone.desk, any_alone.request, approval, any_alone.desk.now())
    broken = replace(g.page_of(made, any_alone.request), payout_id="no such payout")
    with pytest.raises(Exception, match=r"(?i)foreign key"):
        any_alone.desk.store.record_declaration(made, any_alone.request, [broken])

    assert [] == any_alone.events("break_glass_declared")


def test_reversal_is_never_made_under_break_glass(alone):
    """Taking money back can wait until two people are awake."""
    g.allow(alone.desk)
    asked = replace(alone.request, kind=Kind.REVERSAL)
    with pytest.raises(ApprovalError, match="A reversal is never made under break-glass"):
        declare(
            alone.desk, asked, declarer="priya", amount=incident.AMOUNT, destination_last4=LAST4, because=g.BECAUSE,
            key=sandbox_key("priya"), page=lambda _: [],
        )  # fmt: skip


# ------------------------------------------------------------------------------------ what is shown


def test_verification_shows_it_as_a_warning_of_its_own(any_alone):
    """What, who, until when; and it never looks like two approvals."""
    g.opened(any_alone)
    found = verify(any_alone.desk, any_alone.live(), any_alone.operator.person_id)
    checks = {check.name: check for check in found.checks}

    assert found.go
    assert CheckStatus.WARN is checks["approved_by_both_teams"].status is checks["break_glass"].status
    assert "Priya Raman (Payments Ops) ALONE, under break-glass" in checks["approved_by_both_teams"].found
    assert (
        "Priya Raman declared at 2026-03-02 03:00 UTC that Finance cannot be reached: both of Finance are on one flight; "
        "owner Jonas Weber paged, held until 03:30 UTC; ends 07:00 UTC"
    ) == checks["break_glass"].found


def test_verification_of_what_does_not_stand_says_no_twice(any_alone):
    """A declaration that is there and does not count is a NO-GO of its own."""
    g.opened(any_alone)
    _stopped(any_alone)
    checks = {c.name: c for c in verify(any_alone.desk, any_alone.live(), any_alone.operator.person_id).checks}

    assert CheckStatus.FAIL is checks["approved_by_both_teams"].status is checks["break_glass"].status
    assert "STOPPED by the owner" in checks["break_glass"].found


def test_ordinary_verification_has_no_such_check(scene):
    """Where nothing was declared, or both approved, nobody is asked a question that does not arise."""
    g.allow(scene.desk)
    checks = verify(scene.desk, scene.live(), scene.operator.person_id).checks

    assert "break_glass" not in {check.name for check in checks}


def test_verification_of_what_was_paid_goes_by_what_was_allowed_then(any_alone):
    """The policy is switched off the next day: what was sent stays as it was sent, and is still marked."""
    g.opened(any_alone)
    any_alone.send()
    _policy_off(any_alone)
    any_alone.pass_time(hours=20)
    checks = {c.name: c.status for c in verify(any_alone.desk, any_alone.live(), any_alone.operator.person_id).checks}

    assert CheckStatus.WARN is checks["approved_by_both_teams"] is checks["break_glass"]


def test_page_of_what_was_not_sent_does_not_claim_that_it_was(alone, tmp_path, monkeypatch):
    """Stopped before the request left: begun with one approval, and nothing was made or is to be reviewed."""
    g.opened(alone)
    mark_sent = alone.desk.store.mark_sent

    def stopped_first(*args, **kwargs):
        monkeypatch.undo()
        _stopped(alone)
        return mark_sent(*args, **kwargs)

    monkeypatch.setattr(alone.desk.store, "mark_sent", stopped_first)
    with pytest.raises(ApprovalError, match="stopped break-glass"):
        alone.send()
    folder = Folder(tmp_path / "folder", alone.desk.redactor_at_hand)
    page = write_page(alone.desk, folder, incident.INCIDENT_ID, incident.LEDGER_PAYOUT_ID).read_text("utf-8")

    assert "BEGUN WITH ONE APPROVAL under break-glass" in page
    assert "Attempted with ONE approval under break-glass" in page
    assert "SENT WITH ONE" not in page
    assert "--review" not in page


# ------------------------------------------------------------------------------------ the review


def test_somebody_of_the_missing_team_reviews_it_once(any_alone):
    """Signed, on record, and not by the one who declared it."""
    g.opened(any_alone)
    record = any_alone.send()
    for other, why in (("jonas", "may not review for Finance"), ("priya", "may not review for Finance")):
        with pytest.raises(ApprovalError, match=why):
            review(any_alone.desk, record, reviewer=other, because="fine", key=sandbox_key(other))
    made = review(any_alone.desk, record, reviewer="amara", because="owed and right", key=sandbox_key("amara"))
    with pytest.raises(PolicyRefusedError, match="Amara Diallo reviewed it"):
        review(any_alone.desk, record, reviewer="lucia", because="too", key=sandbox_key("lucia"))
    events = any_alone.desk.store.events_of(STREAM)
    found = find_review(used_glass(record, any_alone.request, events), events, any_alone.desk.registry)

    assert made == found


def test_ordinary_payout_has_nothing_to_review(scene):
    """Nobody reviews what both teams approved."""
    record = scene.send()
    with pytest.raises(PolicyRefusedError, match="no payout that was sent under break-glass"):
        review(scene.desk, record, reviewer="amara", because="fine", key=sandbox_key("amara"))


def _operating(scene, name):
    """Let an approver of the demo operate too, as a small team may have it."""
    registry = scene.desk.registry
    people = tuple(
        replace(person, may=person.may | {"operate"}) if person.handle == name else person
        for person in registry.people
    )  # fmt: skip
    scene.desk.registry = Registry(people, registry.source, registry.signers)
    return scene.desk.registry.find(name)


def _reviewed(scene, who):
    return review(scene.desk, scene.record, reviewer=who, because="owed and right", key=sandbox_key(who))


def _takes_over(scene, operator):
    """The run that recorded the intent is gone before the request leaves; *operator* goes on with it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scene.desk.store, "mark_sent", lambda *_args, **_kwargs: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            scene.send()
    scene.pass_time(minutes=15)
    scene.dry_run(operator=operator)
    scene.send(operator=operator)


def _sends_again(scene, operator):
    """Every answer was lost; *operator* has the same key sent once more."""
    scene.stripe.fault("drop_before", times=3)
    with pytest.raises(UnknownOutcomeError):
        scene.send()
    scene.pass_time(minutes=15)
    scene.reconcile(operator=operator)


@pytest.mark.parametrize("sends", [_takes_over, _sends_again])
def test_whoever_went_on_with_the_sending_does_not_review_it(any_alone, sends):
    """Not only who recorded the intent: who took it over or sent the key again had a part in it as well."""
    g.opened(any_alone)
    sends(any_alone, _operating(any_alone, "amara"))
    with pytest.raises(ApprovalError, match="Amara Diallo had a part in it and cannot review it"):
        _reviewed(any_alone, "amara")

    assert State.PAID is any_alone.record.state
    assert "Lucía Ferrer" == _reviewed(any_alone, "lucia").person.name


def test_review_stands_whatever_its_reviewer_does_afterwards(alone):
    """Who reviewed it may later run its reversal: that is no part of the sending."""
    glass = g.opened(alone)
    alone.send()
    made = _reviewed(alone, "amara")
    events = alone.desk.store.events_of(STREAM)
    later = replace(next(event for event in events if event.kind == "sending"), actor=made.person.person_id)

    assert made == find_review(glass, [*events, later], alone.desk.registry)


def test_nothing_is_reviewed_before_its_transfer_is_on_record(any_alone):
    """A review of nothing would count for what moves later."""
    g.opened(any_alone)
    any_alone.stripe.fault("drop_before", times=3)
    with pytest.raises(UnknownOutcomeError):
        any_alone.send()
    with pytest.raises(PolicyRefusedError, match="is unknown: no transfer is on record to review"):
        _reviewed(any_alone, "amara")
    any_alone.pass_time(minutes=15)
    any_alone.reconcile()

    assert "Amara Diallo" == _reviewed(any_alone, "amara").person.name


@pytest.mark.parametrize("change", ["signature", "reviewer", "declaration", "operator", "transfer"])
def test_review_that_is_not_signed_by_the_missing_team_is_none(alone, change):
    """Whoever can write into the journal has not reviewed anything."""
    glass = g.opened(alone)
    record = alone.send()
    review(alone.desk, record, reviewer="amara", because="fine", key=sandbox_key("amara"))
    events = alone.desk.store.events_of(STREAM)
    data = next(e.data for e in events if e.kind == "break_glass_reviewed")
    said = data["statement"]["predicate"]
    if change == "signature":
        data["signature"] = sandbox_key("lucia").sign(
            "approval@manual-payout", canonical_json(data["statement"]).encode()
        )
    elif change == "operator":
        events = [replace(e, actor=said["reviewer_id"]) if e.kind == "intent_recorded" else e for e in events]
    elif change == "transfer":
        said["stripe_transfer_id"] = ""
        data["signature"] = sandbox_key("amara").sign(
            "approval@manual-payout", canonical_json(data["statement"]).encode()
        )
    elif change == "reviewer":
        said["reviewer_id"] = alone.desk.registry.find("jonas").person_id
    else:
        said["declaration_sha256"] = "0" * 64

    assert find_review(glass, events, alone.desk.registry) is None


@pytest.mark.parametrize(
    ("sent", "due"),
    [
        ("2026-03-02T03:30:00+00:00", "2026-03-03T03:30:00+00:00"),  # Monday
        ("2026-03-06T22:00:00+00:00", "2026-03-09T22:00:00+00:00"),  # Friday night
        ("2026-03-07T12:00:00+00:00", "2026-03-10T00:00:00+00:00"),  # Saturday
        ("2026-03-08T23:59:59+00:00", "2026-03-10T00:00:00+00:00"),  # Sunday
    ],
)
def test_business_day_leaves_saturdays_and_sundays_out(sent, due):
    """24 hours of Monday to Friday, in UTC."""

    assert datetime.fromisoformat(due) == review_due(datetime.fromisoformat(sent))


# ------------------------------------------------------------------------------------ every combination


NAMES = ("priya", "amara")
MATRIX = list(
    itertools.product(
        NAMES, ("priya", "jonas", "amara"), ("tomas", "noor", "priya", "jonas", "maya"), (True, False),
        (g.AMOUNT_MINOR - 1, g.AMOUNT_MINOR, g.AMOUNT_MINOR + 1), (-1, 0, 1), (True, False), (True, False),
    )
)  # fmt: skip


@pytest.fixture(scope="module", name="filed")
def _filed(shared_stripe, tmp_path_factory, demo_file):
    """The demo's request, with an approval by somebody of each team on a desk of its own."""
    root = tmp_path_factory.mktemp("matrix")
    shutil.copy(demo_file, root / "state.sqlite")
    shared_stripe.reset()
    scene = Scene(root, f"sqlite:///{root / 'state.sqlite'}", shared_stripe)
    scene.request = scene.file()
    given = {name: scene.approve(name) for name in NAMES}
    yield scene.request, given, scene.desk.registry
    scene.close()


def test_of_all_combinations_only_the_allowed_ones_pass_the_gate(filed):
    """Who approves, declares and operates, on or off, around cap and hold, paged or not, stopped or not: all of them."""
    request, given, registry = filed
    at = request.filed_at
    passed, wrong = 0, []
    for approver, declarer, operator, on, cap, late, page, stopped in MATRIX:
        clock = FixedClock(at)
        store = MemoryStore(clock, Hooks())
        store.record_request(request)
        store.record_approval(given[approver], request)
        glass = g.POLICY.model_copy(update={"enabled": on, "amount_minor_max": {"usd": cap}})
        desk = SimpleNamespace(
            store=store, registry=registry, now=clock.now,
            settings=SimpleNamespace(policy=Policy().model_copy(update={"break_glass": glass})),
        )  # fmt: skip
        owner = "lucia"
        made = g.forged(
            desk, request, given[approver], at, signer=declarer, declarer_id=registry.find(declarer).person_id,
            owner_id=registry.find(owner).person_id,
        )  # fmt: skip
        store.record_declaration(made, request, [])
        if page:
            data = {"message_id": message_id(g.page_key(made.declaration_id)), "kind": "page_break_glass"}
            store.record_event(STREAM, "message_delivered", "priya", data)
        if stopped:
            stop(desk, request, owner=owner, because="")
        clock.wait(g.HOLD_S + late)
        allowed = (
            declarer == approver and operator in ("tomas", "noor") and on and cap >= g.AMOUNT_MINOR and late >= 0
            and page and not stopped
        )  # fmt: skip
        try:
            # As `admit` does it: who may not operate at all is not asked about approvals.
            person = registry.get_allowed(operator, "operate", clock.now(), field="operator")
            standing(desk, request, operator_id=person.person_id, at=clock.now())
            went = True
        except RefusedError:
            went = False
        if went != allowed:
            wrong.append((approver, declarer, operator, on, cap, late, page, stopped))
        passed += went

    assert [] == wrong
    assert 2 * 2 * 2 * 2 == passed
