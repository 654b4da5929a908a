"""Money of a mistaken transfer comes back once, under approvals of its own; whatever breaks, the next run knows what to do."""

from __future__ import annotations

import itertools
import json
import shutil
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import local_stripe
import payout_rehearsal
from desks import STREAM, Scene
from local_stripe.permissions import PLATFORM_ACCOUNT
from local_stripe.transfers import TransferOrder, create_transfer
from manual_payout import transfer
from manual_payout.approval.approving import shown_to_approver
from manual_payout.approval.policy import StripeFacts
from manual_payout.approval.reversal import (
    ReversalFacts,
    checks,
    reversal_ticket,
)
from manual_payout.desk.people import Registry
from manual_payout.desk.settings import Policy, StripePolicy
from manual_payout.desk.signatures import APPROVAL, AllowedSigners
from manual_payout.desk.signing import sandbox_key
from manual_payout.domain.errors import (
    ApprovalError,
    AttemptRefusedError,
    ClaimError,
    EvidenceError,
    ManualPayoutError,
    MovedBeforeError,
    ParameterError,
    PolicyRefusedError,
    StripeRefusedError,
    UnknownOutcomeError,
)
from manual_payout.domain.intent import build_payload
from manual_payout.domain.models import CheckStatus, Kind, Line, Mode, Request, ReversalReason, ReversalRecord, State
from manual_payout.domain.money import Money
from mishaps import CrashError, crash, race, refusal
from movements import (
    PAID,
    THIRD,
    THIRD_MINOR,
    Mistake,
    crash_at,
    give_studio,
    lose_the_answer,
    paid_by_mistake,
)
from payout_rehearsal.demo import incident
from proofs import code

_numbers = itertools.count()


@pytest.fixture(name="mistake")
def _mistake(scene):
    """On SQLite."""
    return paid_by_mistake(scene).prepare()


@pytest.fixture(name="any_mistake")
def _any_mistake(any_scene):
    """Once on each kind of database."""
    return paid_by_mistake(any_scene).prepare()


@pytest.fixture(name="third")
def _third(any_scene):
    """A reversal of a third of it, once on each kind of database."""
    return paid_by_mistake(any_scene).prepare(amount=THIRD)


@pytest.fixture(scope="module", name="approved")
def _approved(tmp_path_factory, demo_file):
    """One Stripe and one database file for every test in which nothing reaches Stripe."""
    accounts, available = payout_rehearsal.sandbox_books()
    root = tmp_path_factory.mktemp("approved")
    shutil.copy(demo_file, root / "state.sqlite")
    with local_stripe.running(start=incident.NOW, accounts=accounts, available=available) as stripe:
        scene = Scene(root, f"sqlite:///{root / 'state.sqlite'}", stripe)
        ready = paid_by_mistake(scene.prepare()).prepare()
        scene.close()
        yield root / "state.sqlite", stripe, scene.request, ready.request


@pytest.fixture(name="ready")
def _ready(approved, tmp_path):
    """A copy of it."""
    file, stripe, request, wanted = approved
    shutil.copy(file, tmp_path / "approved.sqlite")
    scene = Scene(tmp_path, f"sqlite:///{tmp_path / 'approved.sqlite'}", stripe)
    scene.request = request
    yield Mistake(scene, wanted)
    scene.close()


# ---------------------------------------------------------------------------------------------- all well


def test_approved_reversal_takes_the_whole_back_once(any_mistake):
    """The reversal's row, the payout's row, the attempt, the journal and Stripe's books say the same."""
    scene, before = any_mistake.scene, len(any_mistake.scene.desk.store.events_of(STREAM))
    record = any_mistake.reverse()
    made = scene.stripe.books.reversals[0]
    events = scene.desk.store.events_of(STREAM)[before:]

    assert (State.REVERSED, State.REVERSED, [PAID]) == any_mistake.standing
    assert (made.id, made.idempotency_key) == (record.stripe_reversal_id, record.idempotency_key)
    assert [(1, "reversed")] == any_mistake.attempts()
    assert ["intent_recorded", "sending", "outcome_reversed", "payout_reversed"] == [event.kind for event in events]
    assert made.id == events[2].data["stripe_reversal_id"]
    assert ("reversed", PAID) == (events[3].data["state"], events[3].data["reversed_minor"])
    assert PAID == json.loads(record.reversal)["amount"]


def test_both_signed_which_transfer_and_how_much_of_it(third):
    """An approval of a reversal says what is taken from where, and how much had come back before."""
    given = third.scene.desk.store.approvals_of(third.request.request_id)
    lines = [json.loads(one.signed_text)["predicate"]["request"]["lines"]["line"] for one in given]
    names = ("stripe_transfer_id", "amount_minor", "reversed_before_minor", "destination_account")
    expected = (third.scene.transfers[0].id, THIRD_MINOR, 0, incident.DESTINATION_ACCOUNT)

    assert [expected] * 2 == [tuple(line[name] for name in names) for line in lines]


def test_part_of_it_comes_back(third):
    """A third is a third: the payout is partly reversed, keeps its row and its claim."""
    third.reverse()

    assert (State.REVERSED, State.PARTLY_REVERSED, [THIRD_MINOR]) == third.standing
    assert THIRD_MINOR == third.scene.events("payout_reversed")[0].data["reversed_minor"]
    assert "claimed" == third.scene.due.standing


def test_two_thirds_come_back_by_two_requests(any_scene):
    """Each part is a request with two approvals of its own; the second knows of the first."""
    first = paid_by_mistake(any_scene).prepare(amount=THIRD)
    first.reverse()
    any_scene.pass_time(minutes=5)
    second = Mistake(any_scene).prepare(amount=THIRD)
    second.reverse()

    assert (0, THIRD_MINOR) == (
        first.request.line_for().reversed_before_minor,
        second.request.line_for().reversed_before_minor,
    )
    assert (State.REVERSED, State.PARTLY_REVERSED, [THIRD_MINOR] * 2) == second.standing
    assert [THIRD_MINOR, 2 * THIRD_MINOR] == [e.data["reversed_minor"] for e in any_scene.events("payout_reversed")]


def test_last_part_makes_the_payout_reversed(scene):
    """A third and all that is left are the whole."""
    paid_by_mistake(scene).prepare(amount=THIRD).reverse()
    scene.pass_time(minutes=5)
    rest = Mistake(scene).prepare()
    rest.reverse()

    assert (State.REVERSED, State.REVERSED, [THIRD_MINOR, PAID - THIRD_MINOR]) == rest.standing


def test_both_rows_change_together(any_mistake, monkeypatch):
    """Death between the two rows leaves both as they were: they are one transaction."""
    with monkeypatch.context() as patch:
        patch.setattr(any_mistake.scene.desk.store, "_mark_reversed", crash)
        with pytest.raises(CrashError):
            any_mistake.reverse()

    assert (State.SUBMITTING, State.PAID, [PAID]) == any_mistake.standing
    assert [(1, None)] == any_mistake.attempts()
    any_mistake.reverse(any_mistake.scene.new_desk())
    assert (State.REVERSED, State.REVERSED, [PAID]) == any_mistake.standing


def test_what_is_sent_names_the_request_and_no_person(ready):
    """Stripe is told the amount and our ids; no free text."""
    sent = build_payload(ready.request, ready.request.line_for(), 1)

    assert {"amount", "description", "metadata"} == set(sent)
    assert (PAID, ready.request.digest) == (sent["amount"], sent["metadata"]["request_digest"])
    assert ready.request.notes not in json.dumps(sent)


# ---------------------------------------------------------------------------------------------- the request


def test_request_freezes_what_the_approvers_see(ready):
    """Transfer, account, amount and what had come back by then are the line's; a reversal touches no reserve."""
    line, made = ready.request.line_for(), ready.scene.stripe.books.transfers[0]

    assert (Kind.REVERSAL, made.id, made.destination) == (
        ready.request.kind, line.stripe_transfer_id, line.destination_account,
    )  # fmt: skip
    assert (Money(PAID, "usd"), Money(0, "usd"), 0) == (line.amount, line.reserve_after, line.reversed_before_minor)


@pytest.mark.parametrize("change", [{"stripe_transfer_id": "tr_other"}, {"reversed_before_minor": 1}])
def test_digest_covers_the_transfer_and_what_had_come_back(ready, change):
    """An approval of one transfer is none of another, nor of the same on top of more."""
    other = replace(ready.request, lines=(replace(ready.request.line_for(), **change),))

    assert other.digest != ready.request.digest
    assert set(change) <= set(ready.request.statement()["lines"][0])


def test_request_for_a_payout_says_nothing_of_reversals(ready):
    """Its statement, and so its digest, is what it was before there were reversals."""
    assert {"stripe_transfer_id", "reversed_before_minor"}.isdisjoint(ready.scene.request.statement()["lines"][0])


def test_same_content_filed_again_returns_the_one_on_record(ready):
    """Asking twice is asking once, also with the transfer named."""
    again = ready.file(stripe_transfer_id=ready.transfer.id, requester="tomas")

    assert ready.request == again


def test_other_content_needs_replace(ready):
    """A second request for something else is refused, or withdraws the first."""
    error = refusal(ready.file, amount=THIRD)
    second = ready.file(amount=THIRD, replace=True)

    assert (ClaimError, True) == (type(error), "--replace" in error.remedy)
    assert ready.scene.desk.store.is_withdrawn(ready.request)
    assert THIRD_MINOR == second.line_for().amount.amount_minor


@pytest.mark.parametrize("amount", ["1250.76", "0", "-1", "1.005", "much", "1,250.75"])
def test_amount_that_cannot_come_back_is_a_parameter_error(ready, amount):
    """More than what is left, nothing, or no amount: one field, one sentence."""
    error = refusal(ready.file, amount=amount, replace=True)

    assert (ParameterError, "amount") == (type(error), error.field)


def test_more_than_what_is_left_says_how_much_is(third):
    """After a third came back the whole is too much."""
    third.reverse()
    error = refusal(third.file, amount=incident.AMOUNT, replace=True)

    assert isinstance(error, ParameterError)
    assert "at most 833.84" in error.expected


def test_nothing_left_is_refused(mistake):
    """What has come back whole is not asked for again."""
    mistake.reverse()
    error = refusal(mistake.file, replace=True)

    assert (PolicyRefusedError, True) == (type(error), "reversed in full" in error.message)


@pytest.mark.parametrize(
    ("change", "error", "word"),
    [
        ({"ledger_payout_id": "00000000-0000-4000-8000-000000000000"}, PolicyRefusedError, "no payout"),
        ({"stripe_transfer_id": "tr_unknown"}, PolicyRefusedError, "No such transfer"),
    ],
)
def test_what_nobody_knows_is_refused(ready, change, error, word):
    """Neither a ledger payout nor a transfer can be made up."""
    told = refusal(ready.file, **change)

    assert (error, True) == (type(told), word in told.message)


def test_without_a_transfer_of_ours_one_has_to_be_named(scene):
    """Where this runbook has paid nothing, it cannot know which transfer is meant."""
    error = refusal(Mistake(scene).file)

    assert (PolicyRefusedError, True) == (type(error), "--transfer" in error.remedy)


def test_unrelated_transfer_is_refused(ready):
    """A transfer to another studio is not taken back under this payout."""
    books = ready.scene.stripe.books
    other = next(account for account in books.accounts if account.id.startswith("acct_1") and account.currency == "usd"
                 and account.country == "US" and account.transfers == "active" and account.id != incident.DESTINATION_ACCOUNT)  # fmt: skip
    with books.lock:
        made = create_transfer(books, PLATFORM_ACCOUNT, TransferOrder(100, "usd", other.id))
    error = refusal(ready.file, stripe_transfer_id=made.id)

    assert (PolicyRefusedError, True) == (type(error), "nothing connects it" in error.message)


def test_payout_and_reversal_are_never_taken_for_each_other(ready):
    """Under one incident and one ledger payout each kind finds its own, and neither runs as the other."""
    store, wanted = ready.scene.desk.store, (incident.INCIDENT_ID, incident.LEDGER_PAYOUT_ID)
    other = ready.file(incident_id="INC-124")
    ready.scene.dry_run(other)
    as_reversal = refusal(ready.reverse, request_id=ready.scene.request.request_id)
    as_payout = refusal(transfer.send, ready.scene.desk, ready.scene.live(request=other), ready.scene.operator)

    assert ready.scene.request == store.find_request(*wanted)
    assert ready.request == store.find_request(*wanted, kind=Kind.REVERSAL)
    assert [PolicyRefusedError, MovedBeforeError] == [type(as_reversal), type(as_payout)]
    assert "for a transfer under" in as_reversal.message
    assert "has no request" in as_payout.message
    assert [] == ready.posts


def test_request_of_another_incident_is_not_run(ready):
    """The incident that is typed has to be the request's."""
    error = refusal(ready.reverse, incident_id="INC-9")

    assert (PolicyRefusedError, []) == (type(error), ready.posts)


def test_approver_is_shown_the_effect(ready):
    """Amounts before and after, whence it is taken and why."""
    shown = str(shown_to_approver(ready.scene.desk, ready.request).tables)

    for text in ("1,250.75", incident.DESTINATION_ACCOUNT, ready.transfer.id, "paid_twice", ready.request.digest):
        assert text in shown


def test_ticket_says_all_and_cannot_be_led_astray(ready):
    """Free text of a person is no Markdown of ours."""
    request = replace(ready.request, notes="[click](http://evil)")
    text = reversal_ticket(ready.scene.desk, request)

    for wanted in (request.digest, ready.transfer.id, "1,250.75", "paid twice", "Maya Okafor"):
        assert wanted in text
    assert "[click]" not in text


# ---------------------------------------------------------------------------------------------- the gate


def test_code_of_the_payout_takes_nothing(ready):
    """The code that let the money out does not bring it back."""
    request = ready.scene.request
    error = refusal(ready.reverse, confirm=code(ready.scene.desk, request))

    assert (ParameterError, []) == (type(error), ready.posts)


MINE = "request_id = (SELECT request_id FROM requests WHERE kind = 'reversal')"
SPOILT = {
    "none": f"DELETE FROM approvals WHERE {MINE}",
    "one": f"DELETE FROM approvals WHERE {MINE} AND team = 'finance'",
    "two of one team": f"UPDATE approvals SET team = 'finance' WHERE {MINE}",
    "the payout's, renamed": f"UPDATE approvals SET request_id = (SELECT request_id FROM requests WHERE kind = 'reversal') WHERE NOT {MINE}",
    "the payout's digest": f"UPDATE approvals SET request_digest = (SELECT digest FROM requests WHERE kind = 'transfer') WHERE {MINE}",
    "stretched": f"UPDATE approvals SET expires_at = '2027-01-01 00:00:00.000000' WHERE {MINE}",
    "another person": f"UPDATE approvals SET approver_id = 'a4e79c63-1d85-4f02-9a5b-d83b60f2c407' WHERE {MINE} AND team = 'finance'",
    "another mode": f"UPDATE approvals SET mode = 'live' WHERE {MINE}",
    "journal": "UPDATE events SET actor = 'x' WHERE seq = 1",
}


@pytest.mark.parametrize("spoilt", SPOILT)
def test_approvals_that_do_not_stand_take_nothing(ready, spoilt):
    """Missing, the payout's own, or altered by somebody with the database's own client: nothing reaches Stripe."""
    if spoilt == "the payout's, renamed":
        ready.scene.tamper(SPOILT["none"])
    ready.scene.tamper(SPOILT[spoilt])
    error = refusal(ready.reverse)

    assert isinstance(error, ApprovalError | EvidenceError)
    assert (None, []) == (ready.record, ready.posts)


def test_operators_own_approval_takes_nothing(ready):
    """Who runs it has not approved it, even where the registry would let them."""
    people = tuple(
        replace(p, may=p.may | {"approve"}, teams=("finance",)) if p.handle == "tomas" else p
        for p in ready.scene.desk.registry.people
    )
    before = ready.scene.desk.registry.signers
    lines = tuple(replace(entry, namespaces=(APPROVAL,)) for entry in before.entries)
    signers = AllowedSigners(lines, before.revoked, before.source)
    ready.scene.desk.registry = Registry(people, "a registry that grew wrong", signers)
    ready.request = ready.file(notes="other", replace=True)
    ready.approve("priya"), ready.approve("tomas")
    ready.scene.dry_run(ready.request)
    error = refusal(ready.reverse)

    assert (ApprovalError, []) == (type(error), ready.posts)
    assert "cannot also run it" in error.message


def test_requesters_own_approval_is_not_taken(ready):
    """Who asks for the money back does not approve it."""
    people = tuple(
        replace(p, may=p.may | {"approve"}, teams=("finance",)) if p.handle == "maya" else p
        for p in ready.scene.desk.registry.people
    )
    ready.scene.desk.registry = Registry(people, "a registry that grew wrong", ready.scene.desk.registry.signers)
    error = refusal(ready.scene.approve, "maya", ready.request, key=sandbox_key("priya"))

    assert (ApprovalError, True) == (type(error), "filed this request" in error.message)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("amount_minor", 1), ("currency", "eur"), ("destination_account", "acct_evil"), ("stripe_transfer_id", "tr_evil"),
        ("stripe_transfer_id", ""), ("reversed_before_minor", 7), ("ledger_payout_id", "x"), ("line_id", "x"),
    ],
)  # fmt: skip
def test_line_altered_in_the_database_takes_nothing(ready, column, value):
    """Whatever column of the line is changed, the digest no longer fits."""
    engine, foreign_keys = ready.scene.engine, "PRAGMA foreign_keys = OFF"
    with engine.connect() as connection:
        connection.exec_driver_sql(foreign_keys)
    ready.scene.tamper(f"UPDATE request_lines SET {column} = :value WHERE {MINE}", value=value)
    error = refusal(ready.reverse)

    assert (EvidenceError, []) == (type(error), ready.posts)


@pytest.mark.parametrize(
    ("column", "value"),
    [("kind", "transfer"), ("reason", "not_owed"), ("notes", "x"), ("mode", "live"), ("nonce", "x")],
)
def test_request_altered_in_the_database_takes_nothing(ready, column, value):
    """The same for the request itself."""
    ready.scene.tamper(f"UPDATE requests SET {column} = :value WHERE kind = 'reversal'", value=value)
    error = refusal(ready.reverse)

    assert (EvidenceError, []) == (type(error), ready.posts)


def test_amount_rewritten_with_its_digest_takes_nothing(ready):
    """A forger who computes the digest anew still has approvals over the old one."""
    forged = replace(ready.request, lines=(replace(ready.request.line_for(), amount=Money(1, "usd")),))
    ready.scene.tamper(f"UPDATE request_lines SET amount_minor = 1 WHERE {MINE}")
    ready.scene.tamper("UPDATE requests SET digest = :digest WHERE kind = 'reversal'", digest=forged.digest)
    ready.request = forged
    error = refusal(ready.reverse)

    assert (ApprovalError, []) == (type(error), ready.posts)


def test_withdrawn_request_takes_nothing(ready):
    """What was replaced is not run."""
    ready.file(notes="other", replace=True)
    error = refusal(ready.reverse)

    assert (ApprovalError, []) == (type(error), ready.posts)
    assert "withdrawn" in error.message


def test_other_mode_or_account_takes_nothing(ready, monkeypatch):
    """A desk of another mode or account, or a key of another account, is refused."""
    desks = [ready.scene.new_desk(mode=Mode.TEST), ready.scene.new_desk(platform_account="acct_other")]
    errors = [refusal(ready.reverse, desk) for desk in desks]
    monkeypatch.setattr(ready.scene.desk.gateway, "account_id", lambda: "acct_other")
    errors.append(refusal(ready.reverse))

    assert [ApprovalError, ApprovalError, PolicyRefusedError] == [type(error) for error in errors]
    assert [] == ready.posts


@pytest.mark.parametrize("lifetime", ["approval_lifetime_s", "request_lifetime_s"])
def test_expired_papers_take_nothing(mistake, lifetime):
    """After its approvals' lifetime, or its own, a request is not run, and expired it can be filed anew."""
    mistake.scene.pass_time(seconds=getattr(mistake.scene.settings.policy.request, lifetime))
    error = refusal(mistake.reverse)

    assert (ApprovalError, None, []) == (type(error), mistake.record, mistake.posts)
    assert "expired" in error.message
    if lifetime == "request_lifetime_s":
        assert mistake.file() != mistake.request


def test_request_withdrawn_during_the_gate_takes_nothing(any_mistake, monkeypatch):
    """A withdrawal that falls between the gate and the intent still comes first: the database decides."""
    verify = transfer.movement.verify_reversal

    def verify_then_withdraw(*args):
        found = verify(*args)
        any_mistake.file(notes="other", replace=True)
        return found

    monkeypatch.setattr(transfer.movement, "verify_reversal", verify_then_withdraw)
    error = refusal(any_mistake.reverse)

    assert (ApprovalError, None, []) == (type(error), any_mistake.record, any_mistake.posts)


# ---------------------------------------------------------------------------------------------- the rules, by themselves

AT = datetime.fromisoformat(incident.NOW)
POLICY = Policy(stripe=StripePolicy(platform_account="acct_platform"))
LINE = Line(
    "line-1", 1, incident.STUDIO_ID, incident.STUDIO_NAME, incident.LEDGER_PAYOUT_ID, Money(THIRD_MINOR, "usd"),
    Money(0, "usd"), incident.DESTINATION_ACCOUNT, "tr_1", 10_000,
)  # fmt: skip
ASKED = Request(
    "request-1", incident.INCIDENT_ID, Kind.REVERSAL, Mode.SANDBOX, "acct_platform", "maya", ReversalReason.PAID_TWICE, "",
    "nonce", AT, AT + timedelta(hours=24), (LINE,),
)  # fmt: skip
SHOWN = {
    "id": "tr_1", "amount": PAID, "amount_reversed": 10_000, "currency": "usd", "destination": incident.DESTINATION_ACCOUNT,
    "livemode": False,
}  # fmt: skip
STRIPE = StripeFacts(key="restricted test key …Fbk", key_restricted=True, account_id="acct_platform")
DOWN = StripeRefusedError("Stripe cannot be reached.", "Check the network.", code="unreachable")


def row(state, reversal_id="line-1", incident_id=incident.INCIDENT_ID):
    return ReversalRecord(
        reversal_id=reversal_id, request_id="request-1", incident_id=incident_id, ledger_payout_id=incident.LEDGER_PAYOUT_ID,
        studio_id=incident.STUDIO_ID, studio_name=incident.STUDIO_NAME, stripe_transfer_id="tr_1", amount=LINE.amount,
        destination_account=LINE.destination_account, reversed_before_minor=10_000, mode=Mode.SANDBOX,
        reason=ReversalReason.PAID_TWICE, notes="", requested_by="maya", approved_by_payments_ops="priya",
        approved_by_finance="amara", operator_id="tomas", state=state, attempt_no=1, idempotency_key="key-1", payload="{}",
        owner="tomas@desk", fence=1, lease_until=None, sent=False, created_at=AT,
    )  # fmt: skip


GOOD = ReversalFacts(
    ASKED, LINE, Mode.SANDBOX, AT, False, None, "two people", None, None, STRIPE, SHOWN, 0, Money(THIRD_MINOR, "usd")
)


def judged(**changes):
    facts = replace(GOOD, **changes)
    return {check.name: check for check in (rule(facts, POLICY) for rule in checks.REVERSAL_RULES)}


def shown(**changes):
    return {"transfer": SHOWN | changes}


def seen(**changes):
    return {"stripe": replace(STRIPE, **changes)}


def test_good_facts_are_a_go():
    """With nothing wrong every check is ok, and none carries a remedy."""
    found = judged()

    assert {CheckStatus.OK} == {check.status for check in found.values()}
    assert {""} == {check.remedy for check in found.values()}
    assert len(checks.REVERSAL_RULES) == len(found)


# rule → facts that break it, how, and a word of the remedy.
NO, UNKNOWN, WARN = CheckStatus.FAIL, CheckStatus.UNKNOWN, CheckStatus.WARN
NOT_OK = [
    ("request_in_force", {"request_withdrawn": True}, NO, "requested and approved again"),
    ("request_in_force", {"at": ASKED.expires_at}, NO, "requested and approved again"),
    ("request_in_force", {"at": ASKED.expires_at, "record": row(State.REFUSED)}, NO, "requested and approved again"),
    ("approved_by_both_teams", {"approval_error": ApprovalError("No approval.", "Ask Finance.")}, NO, "Ask Finance"),
    ("transfer_as_filed", shown(id="tr_2"), NO, "file another"),
    ("transfer_as_filed", shown(currency="eur"), NO, "file another"),
    ("transfer_as_filed", shown(destination="acct_2"), NO, "file another"),
    ("transfer_as_filed", shown(livemode=True), NO, "file another"),
    ("transfer_as_filed", {"transfer": None, "stripe": replace(STRIPE, error=DOWN)}, UNKNOWN, "Check the network"),
    ("nothing_came_back_since", shown(amount_reversed=10_001), NO, "file another request"),
    ("nothing_came_back_since", shown(amount_reversed=9_999), NO, "file another request"),
    ("nothing_came_back_since", shown(amount_reversed=20_000) | {"own_minor": 5_000}, NO, "file another request"),
    ("nothing_came_back_since", {"transfer": None, "stripe": replace(STRIPE, error=DOWN)}, UNKNOWN, "Check the network"),
    ("enough_left", shown(amount_reversed=PAID - THIRD_MINOR + 1), NO, "what is left"),
    ("enough_left", {"transfer": None, "stripe": replace(STRIPE, error=DOWN)}, UNKNOWN, "Check the network"),
    ("no_other_reversal", {"other": row(State.UNKNOWN, "line-2", "INC-7")}, NO, "manual-payout status"),
    ("outcome_known", {"record": row(State.UNKNOWN)}, NO, "reversal reconcile INC-123"),
    ("outcome_known", {"record": row(State.NEEDS_HUMAN)}, NO, "reversal reconcile INC-123"),
    ("key_is_right", seen(key_restricted=False), NO, "secret manager"),
    ("key_is_right", seen(key_livemode=True), NO, "secret manager"),
    ("account_is_right", seen(account_id="acct_other"), NO, "approved account"),
    ("account_is_right", seen(account_id=None), NO, "approved account"),
    ("account_is_right", seen(livemode=True), NO, "approved account"),
    ("studio_can_return_it", {"studio_available": Money(THIRD_MINOR - 1, "usd")}, WARN, "agree with the studio"),
    ("studio_can_return_it", {"studio_available": Money(-1, "usd")}, WARN, "agree with the studio"),
    ("studio_can_return_it", {"studio_available": None}, WARN, "Dashboard"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "facts", "status", "remedy"), NOT_OK)
def test_rule_says_so_when_its_fact_is_wrong(name, facts, status, remedy):
    """Each rule ends as it should, tells what was found, and says what to do."""
    check = judged(**facts)[name]

    assert (status, True) == (check.status, bool(check.found))
    assert remedy in check.remedy
    assert check.stops == (status is not WARN)


def test_every_rule_has_been_seen_to_say_no():
    """No rule stands only for decoration."""
    # What was shown is compared with what is in test_shown.py.
    assert set(judged()) - {"facts_as_shown"} == {name for name, *_ in NOT_OK}


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("request_in_force", {"at": ASKED.expires_at, "record": row(State.UNKNOWN)}),
        ("request_in_force", {"request_withdrawn": True, "record": row(State.REVERSED)}),
        ("nothing_came_back_since", shown(amount_reversed=10_000 + THIRD_MINOR) | {"own_minor": THIRD_MINOR}),
        ("enough_left", shown(amount_reversed=PAID - THIRD_MINOR)),
        ("enough_left", shown(amount_reversed=PAID) | {"own_minor": THIRD_MINOR}),
        ("outcome_known", {"record": row(State.REFUSED)}),
        ("outcome_known", {"record": row(State.SUBMITTING)}),
        ("studio_can_return_it", {"studio_available": Money(0, "usd"), "own_minor": THIRD_MINOR}),
    ],
)
def test_rule_lets_pass_what_is_no_hindrance(name, facts):
    """What has begun is finished, and what this very request took is not held against it."""
    assert CheckStatus.OK is judged(**facts)[name].status


def test_unreachable_stripe_is_no_go(ready, monkeypatch):
    """Whatever cannot be asked is unknown, which is not a yes; and nothing is sent."""
    monkeypatch.setattr(ready.scene.desk.gateway, "reversals_of", lambda _id: (_ for _ in ()).throw(DOWN))
    found = ready.checks()
    error = refusal(ready.reverse)

    assert {"transfer_as_filed", "nothing_came_back_since", "enough_left"} <= {n for n, c in found.items() if c.stops}
    assert (PolicyRefusedError, []) == (type(error), ready.posts)


def test_key_that_sees_no_studio_still_works(ready, monkeypatch):
    """A key without a look into connected accounts gives a warning, and no more."""
    monkeypatch.setitem(ready.scene.desk.__dict__, "watcher", ready.scene.desk.gateway)

    assert (WARN, "not visible to this key") == (
        (check := ready.checks()["studio_can_return_it"]).status, check.found,
    )  # fmt: skip


# ---------------------------------------------------------------------------------------------- what Stripe refuses


def test_money_that_the_studio_was_paid_out_does_not_come_back(scene):
    """A day later the bank has it: Stripe refuses, nothing moved, and the operator is told what to do."""
    scene.send()
    scene.pass_time(days=1)
    mistake = Mistake(scene).prepare()
    warned = mistake.checks()["studio_can_return_it"]
    error = refusal(mistake.reverse)

    assert (WARN, "0.00 USD") == (warned.status, warned.found)
    assert (AttemptRefusedError, "balance_insufficient") == (type(error), error.code)
    assert "from a later payout" in error.remedy
    assert (State.REFUSED, State.PAID, []) == mistake.standing


def test_refused_reversal_is_tried_again_under_a_new_key(any_mistake):
    """Once the studio's balance holds it, the same request is another attempt: number two, with its own key."""
    give_studio(any_mistake.scene, 0)
    refusal(any_mistake.reverse)
    first = any_mistake.record
    give_studio(any_mistake.scene)
    second = any_mistake.reverse()

    assert (State.REVERSED, State.REVERSED, [PAID]) == any_mistake.standing
    assert [(1, "refused"), (2, "reversed")] == any_mistake.attempts()
    assert [first.idempotency_key, second.idempotency_key] == [post.idempotency_key for post in any_mistake.posts]
    assert first.idempotency_key != second.idempotency_key


def test_connected_reserves_take_it_all_the_same(mistake):
    """Where the platform stands in for its studios Stripe takes it below zero: the warning was none to stop for."""
    give_studio(mistake.scene, 0)
    mistake.scene.stripe.switch(connected_reserves=True)
    mistake.reverse()

    assert (State.REVERSED, State.REVERSED, [PAID]) == mistake.standing


def test_something_else_that_came_back_since_is_no_go(mistake):
    """Somebody used the Dashboard meanwhile: what two people approved is no longer what would happen."""
    mistake.in_dashboard(1)
    error = refusal(mistake.reverse)

    assert (PolicyRefusedError, [], None) == (type(error), mistake.posts, mistake.record)
    assert "0.01 USD reversed" in error.message
    assert mistake.file(replace=True).line_for().reversed_before_minor == 1


def test_something_else_that_comes_back_after_the_gate_takes_nothing(any_scene, monkeypatch):
    """The look directly before the call sees what the verification could not: another request's third, just taken."""
    first = paid_by_mistake(any_scene).prepare(amount=THIRD)
    second = Mistake(any_scene).prepare(incident_id="INC-124", amount=THIRD)
    verify = transfer.movement.verify_reversal

    def verify_then_lose(*args):
        found = verify(*args)
        monkeypatch.undo()
        first.reverse(any_scene.new_desk())
        return found

    monkeypatch.setattr(transfer.movement, "verify_reversal", verify_then_lose)
    error = refusal(second.reverse)

    assert isinstance(error, PolicyRefusedError)
    assert (State.REFUSED, State.PARTLY_REVERSED, [THIRD_MINOR]) == second.standing
    assert 1 == len(second.posts)


# ---------------------------------------------------------------------------------------------- faults of the call


@pytest.mark.parametrize("amount", ["", THIRD])
def test_asking_again_after_a_lost_answer_names_the_way_out(scene, amount):
    """That it has come back, or that --replace would help, would be a guess: the open reversal has to be settled first."""
    mistake = paid_by_mistake(scene).prepare(amount=amount)
    lose_the_answer(mistake, moved=True)
    errors = [refusal(mistake.file, amount=amount, replace=again) for again in (False, True)]
    told = [(type(error), "reversal reconcile INC-123" in error.remedy) for error in errors]
    mistake.reconcile()

    assert [(ClaimError, True)] * 2 == told
    assert State.REVERSED is mistake.record.state


def test_dashboard_reversal_after_a_lost_answer_needs_a_person(mistake):
    """What came back since may be what the operator gave up waiting for: the key is not sent again by itself."""
    lose_the_answer(mistake, moved=False)
    before = len(mistake.posts)
    mistake.in_dashboard(THIRD_MINOR)
    error = refusal(mistake.reconcile)

    assert (UnknownOutcomeError, before, State.NEEDS_HUMAN) == (type(error), len(mistake.posts), mistake.record.state)
    mistake.scene.pass_time(hours=24)
    mistake.decide("taken back in the Dashboard instead")
    assert (State.REFUSED, [THIRD_MINOR]) == (mistake.record.state, mistake.taken)


def test_dashboard_reversal_after_ours_is_counted(third):
    """The payout's row follows what Stripe shows in all, not only what this request took."""
    lose_the_answer(third, moved=True)
    third.in_dashboard(PAID - THIRD_MINOR)
    third.reconcile()

    assert (State.REVERSED, State.REVERSED, [THIRD_MINOR, PAID - THIRD_MINOR]) == third.standing
    assert PAID == third.scene.events("payout_reversed")[0].data["reversed_minor"]


def test_transfer_that_cannot_be_read_afterwards_is_still_counted(third, monkeypatch):
    """After Stripe's yes a failing read is no doubt: what was there before and what was taken are known."""
    gateway = third.scene.desk.gateway
    create = gateway.create_reversal

    def then_down(*args, **kwargs):
        answer = create(*args, **kwargs)
        monkeypatch.setattr(gateway, "get_transfer", lambda _id: (_ for _ in ()).throw(DOWN))
        return answer

    monkeypatch.setattr(gateway, "create_reversal", then_down)
    third.reverse()

    assert (State.REVERSED, State.PARTLY_REVERSED, [THIRD_MINOR]) == third.standing
    assert THIRD_MINOR == third.scene.events("payout_reversed")[0].data["reversed_minor"]


# ---------------------------------------------------------------------------------------------- crashes


# ---------------------------------------------------------------------------------------------- contention


def test_two_requests_for_one_transfer_take_one_after_the_other(any_scene):
    """Two incidents, each with its approved third, at the same moment: never more than one of them goes out."""
    first = paid_by_mistake(any_scene).prepare(amount=THIRD)
    second = Mistake(any_scene).prepare(incident_id="INC-124", amount=THIRD)
    desks = any_scene.new_desk(), any_scene.new_desk()
    results = race(lambda: first.reverse(desks[0]), lambda: second.reverse(desks[1]))

    assert 1 == len([result for result in results if isinstance(result, ManualPayoutError)])
    assert [THIRD_MINOR] == first.taken


def test_second_request_is_told_who_is_at_it(mistake):
    """While the first is open, a second one is neither filed nor run, and both are told whose it is."""
    scene = mistake.scene
    second = Mistake(scene).prepare(incident_id="INC-124")
    lose_the_answer(mistake, moved=False)
    before = len(mistake.posts)
    run = refusal(second.reverse)
    filed = refusal(second.file, incident_id="INC-125")

    assert [UnknownOutcomeError, ClaimError] == [type(run), type(filed)]
    for error in (run, filed):
        assert f"unknown under INC-123, by {mistake.record.owner}" in error.message
    assert before == len(mistake.posts)


def test_database_decides_between_two_open_reversals(any_mistake, monkeypatch):
    """Where both have passed every check, the unique row decides, and the loser is told which incident holds it."""
    crash_at(any_mistake, "after the intent", monkeypatch)
    first, store = any_mistake.record, any_mistake.scene.desk.store
    line = replace(any_mistake.request.line_for(), line_id="l2")
    store.record_request(
        replace(any_mistake.request, request_id="r2", nonce="n2", incident_id="INC-124", lines=(line,))
    )
    second = replace(first, reversal_id="l2", request_id="r2", incident_id="INC-124", idempotency_key="k2", fence=1)
    error = refusal(
        store.record_intent, second, ("a1", "a2"), lease_s=60, not_after=store.clock.now() + timedelta(hours=1)
    )

    assert ClaimError is type(error)
    assert f"INC-123, submitting since 2026-03-02 03:00:00 UTC by {first.owner}" in error.message


def test_approval_stands_under_one_reversal_only(any_mistake):
    """The database refuses a second row under the same two approvals."""
    done, store = any_mistake.reverse(), any_mistake.scene.desk.store
    line = replace(any_mistake.request.line_for(), line_id="l2")
    store.record_request(
        replace(any_mistake.request, request_id="r2", nonce="n2", incident_id="INC-124", lines=(line,))
    )
    second = replace(done, reversal_id="l2", request_id="r2", incident_id="INC-124", idempotency_key="k2", fence=1,
                     state=State.SUBMITTING, stripe_reversal_id=None)  # fmt: skip
    ids = tuple(any_mistake.scene.events("intent_recorded")[-1].data["approval_ids"])
    error = refusal(store.record_intent, second, ids, lease_s=60, not_after=store.clock.now() + timedelta(hours=1))

    assert (ClaimError, True) == (type(error), "approvals stand under another one" in error.message)


# ---------------------------------------------------------------------------------------------- which transfer, and after


def test_transfer_of_the_automation_comes_back_without_touching_our_rows(any_scene):
    """A second payment by the automation is reversed under the ledger payout that it paid; ours stays paid."""
    mistake = paid_by_mistake(any_scene)
    with any_scene.stripe.books.lock:
        order = TransferOrder(50_000, "usd", incident.DESTINATION_ACCOUNT)
        theirs = create_transfer(any_scene.stripe.books, PLATFORM_ACCOUNT, order)
    rows = any_scene.rows("SELECT * FROM manual_payouts")
    mistake.prepare(stripe_transfer_id=theirs.id)
    mistake.reverse()

    assert (State.REVERSED, State.PAID, [50_000]) == mistake.standing
    assert rows == any_scene.rows("SELECT * FROM manual_payouts")
    assert [] == any_scene.events("payout_reversed")


@pytest.mark.parametrize(("amount", "state"), [("", State.REVERSED), (THIRD, State.PARTLY_REVERSED)])
def test_transfer_of_a_wrong_amount_comes_back_and_needs_nobody_any_more(scene, monkeypatch, amount, state):
    """Stripe made another amount than was sent: taking it back is the way out of needs_human."""
    create = scene.desk.gateway.create_transfer

    def altered(payload, *, idempotency_key):
        return create(payload | {"amount": payload["amount"] + 1}, idempotency_key=idempotency_key)

    with monkeypatch.context() as patch:
        patch.setattr(scene.desk.gateway, "create_transfer", altered)
        refusal(scene.send)
    assert State.NEEDS_HUMAN is scene.record.state
    give_studio(scene)
    mistake = Mistake(scene).prepare(reason=ReversalReason.WRONG_AMOUNT, amount=amount)
    mistake.reverse()

    assert (State.REVERSED, state, [THIRD_MINOR if amount else PAID + 1]) == mistake.standing


def test_paid_again_by_hand_after_it_all_came_back(any_mistake):
    """A reversal of the whole makes the ledger payout payable again: same form, new approvals, second transfer."""
    scene, first = any_mistake.scene, any_mistake.scene.request
    any_mistake.reverse()
    scene.pass_time(minutes=5)
    scene.request = scene.file()
    for approver in payout_rehearsal.APPROVERS:
        scene.approve(approver)
    scene.dry_run()
    record = scene.send()

    assert (State.PAID, 2) == (record.state, len(scene.transfers))
    assert first.request_id != scene.request.request_id
    assert scene.due.is_claimed_by(scene.request.line_for().line_id)
    assert [State.PAID, State.REVERSED] == [
        one.state for one in scene.desk.store.payouts_of(ledger_payout_id=incident.LEDGER_PAYOUT_ID)
    ]


def test_not_paid_again_after_a_part_came_back(third):
    """What has come back in part is still paid in part: no second transfer for the same ledger payout."""
    third.reverse()
    error = refusal(third.scene.file, incident_id="INC-124")
    again = third.scene.send()

    assert (ClaimError, True) == (type(error), "partly_reversed" in error.message)
    assert (State.PARTLY_REVERSED, 1) == (again.state, len(third.scene.transfers))
    assert [] == third.scene.desk.store.dead_claims(incident.LEDGER_PAYOUT_ID)


def test_payout_reconciled_after_its_reversal_agrees(third):
    """What came back by this way is no difference to reconcile of the payout, nor of the reversal."""
    third.reverse()

    assert ("", "nothing") == ((found := third.scene.reconcile()).difference, found.action)
    assert ("", "nothing") == ((own := third.reconcile()).difference, own.action)
    assert f"{THIRD} USD" in own.stripe_says


# ---------------------------------------------------------------------------------------------- whatever happens

PARTS = st.lists(
    st.tuples(
        st.sampled_from([1, 200, 500, 999]),
        st.sampled_from(["", "drop_before", "drop_after", "garbage", "refuse", "lost", "crash", "dashboard"]),
        st.booleans(),
    ),
    min_size=1,
    max_size=4,
)


def take_a_part(part, fault, *, again):
    """Run an approved part with one fault, then let the next run look after it."""
    store = part.scene.desk.store
    if fault == "crash":
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(store, "record_outcome", crash)
            with pytest.raises(CrashError):
                part.reverse()
    else:
        if fault == "lost":
            part.fault("drop_before", times=3)
        elif fault == "dashboard":
            part.in_dashboard(1)
        elif fault:
            part.fault(fault)
        race(part.reverse)
    if again:
        race(part.reverse)
    if part.record is not None and part.record.state in (State.SUBMITTING, State.UNKNOWN):
        race(part.reconcile)


@settings(
    max_examples=6, deadline=None, database=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(parts=PARTS)
def test_never_more_comes_back_than_the_transfer_nor_than_was_approved(scene, parts):
    """Whatever parts and faults in whatever order: the books, the approvals and the rows agree."""
    give_studio(scene)
    with scene.stripe.books.lock:
        theirs = create_transfer(
            scene.stripe.books, PLATFORM_ACCOUNT, TransferOrder(1_000, "usd", incident.DESTINATION_ACCOUNT)
        )
    approved, dashboard = 0, 0
    for minor, fault, again in parts:
        part = Mistake(scene)
        asked = {
            "incident_id": f"INC-{next(_numbers)}",
            "stripe_transfer_id": theirs.id,
            "amount": f"{minor / 100:.2f}",
        }
        if minor > 1_000 - theirs.amount_reversed:
            assert isinstance(refusal(part.file, **asked), ParameterError | PolicyRefusedError)
            continue
        part.prepare(**asked)
        approved += minor
        dashboard += fault == "dashboard"
        take_a_part(part, fault, again=again)
        own = [
            r.amount
            for r in scene.stripe.books.reversals
            if r.metadata.get("line_id") == part.request.line_for().line_id
        ]
        assert len(own) <= 1
        assert ([minor] if part.record and part.record.state is State.REVERSED else []) == own

    assert theirs.amount_reversed <= min(theirs.amount, approved + dashboard)
    assert theirs.amount_reversed == sum(r.amount for r in scene.stripe.books.reversals if r.transfer == theirs.id)
