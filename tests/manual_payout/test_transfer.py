"""Money moves once, when everything allows it; whatever breaks, the next run knows what to do."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from manual_payout import transfer
from manual_payout.approval.approvals import given_approvals, statement_of
from manual_payout.approval.verification import verify
from manual_payout.database.schema import approvals
from manual_payout.database.store.rows import approval_values
from manual_payout.desk.people import Registry
from manual_payout.desk.signatures import APPROVAL, SEAL, AllowedSigner, AllowedSigners, key_from_seed
from manual_payout.desk.signing import sandbox_key
from manual_payout.domain.canonical import canonical_json, digest_bytes
from manual_payout.domain.errors import (
    ApprovalError,
    AttemptRefusedError,
    ClaimError,
    DatabaseError,
    EvidenceError,
    ManualPayoutError,
    MovedBeforeError,
    ParameterError,
    PolicyRefusedError,
    RefusedError,
    SettingsError,
    UnknownOutcomeError,
)
from manual_payout.domain.models import Mode, State
from manual_payout.domain.money import Money
from manual_payout.gateway import Accepted, Refused
from mishaps import CrashError, crash, race, refusal
from movements import Out, crash_at, lose_the_answer
from payout_rehearsal import APPROVERS
from payout_rehearsal.demo import automation, incident

TRANSFER = "/v1/transfers"


def standing(scene):
    """What our row, Stripe's books and the ledger say."""
    return scene.record.state, len(scene.transfers), scene.due.standing


# ---------------------------------------------------------------------------------------------- all well


def test_approved_request_moves_once(any_scene):
    """With everything in order one transfer is made, and the row, the attempt, the journal and the ledger say so."""
    record = any_scene.send()
    made = any_scene.transfers[0]

    assert (State.PAID, 1, "claimed") == standing(any_scene)
    assert (125_075, "usd", "acct_123", record.transfer_group) == (
        made.amount, made.currency, made.destination, made.transfer_group,
    )  # fmt: skip
    assert [(record.idempotency_key, "paid")] == any_scene.attempts()
    assert made.id == record.stripe_transfer_id == any_scene.events("outcome_paid")[0].data["stripe_transfer_id"]


# ---------------------------------------------------------------------------------------------- the gate


def test_code_of_another_operator_sends_nothing(scene):
    """A code is for one operator: what one has read, another has not."""
    other = scene.desk.registry.find("noor")
    scene.dry_run(operator=other)
    error = refusal(transfer.send, scene.desk, scene.live(), other)

    assert ("confirm", []) == (error.field, scene.posts)


def test_made_up_operator_sends_nothing(scene):
    """A person that the registry does not know is nobody, whatever object stands for them."""
    nobody = replace(scene.operator, person_id="00000000-0000-4000-8000-000000000000", handle="nobody")
    error = refusal(scene.send, operator=nobody)

    assert (ParameterError, []) == (type(error), scene.posts)


def approvals_gone(scene):
    scene.tamper("DELETE FROM approvals")


def finance_gone(scene):
    scene.tamper("DELETE FROM approvals WHERE team = 'finance'")


def expired(scene):
    scene.pass_time(seconds=scene.settings.policy.request.approval_lifetime_s)


def lifetime_stretched(scene):
    scene.tamper("UPDATE approvals SET expires_at = :at", at="2027-01-01 00:00:00.000000+00:00")


def approver_swapped(scene):
    scene.tamper("UPDATE approvals SET approver_id = :who WHERE team = 'finance'", who=_id(scene, "lucia"))


def digest_swapped(scene):
    scene.tamper("UPDATE approvals SET request_digest = 'abc' WHERE team = 'finance'")


def team_swapped(scene):
    scene.tamper("UPDATE approvals SET team = 'finance'")


def team_unheard_of(scene):
    scene.tamper("UPDATE approvals SET team = 'friends'")


def mode_swapped(scene):
    scene.tamper("UPDATE approvals SET mode = 'live'")


def rewritten_with_its_digest(scene):
    """The careful forger: the row is consistent in itself, but for its signature, and the journal does not tell of it."""
    forged = forgery(scene, "lucia", "finance")
    scene.tamper(
        "UPDATE approvals SET approver_id = :who, signed_text = :text, statement_digest = :digest WHERE team = 'finance'",
        who=forged.approver_id, text=forged.signed_text, digest=forged.statement_digest,
    )  # fmt: skip


def forgery(scene, handle, team, *, key=None, namespace=APPROVAL, request=None, **changes):
    """An approval that nobody gave, consistent in itself, signed with whatever key there was."""
    given = next(a for a in scene.desk.store.approvals_of(scene.request.request_id) if a.team == team)
    new = {"approval_id": f"forged-{handle}", "nonce": f"forged-{handle}", "approver_id": _id(scene, handle)}
    forged = replace(given, **new | changes)
    text = canonical_json(statement_of(request or scene.request, forged))
    signature = (key or STRANGER).sign(namespace, text.encode())
    return replace(forged, signed_text=text, statement_digest=digest_bytes(text.encode()), signature=signature)


STRANGER = key_from_seed(b"a stranger's key, thirty-two byte", "a test")


def _key(scene, handle):
    signs = scene.desk.registry.signers.entries
    email = scene.desk.registry.find(handle).email
    return sandbox_key(handle) if any(entry.principal == email for entry in signs) else STRANGER


def _id(scene, handle):
    return scene.desk.registry.find(handle).person_id


@pytest.mark.parametrize(
    "spoil",
    [
        approvals_gone, finance_gone, expired, lifetime_stretched, approver_swapped, digest_swapped, team_swapped,
        team_unheard_of, mode_swapped, rewritten_with_its_digest,
    ],
)  # fmt: skip
def test_approvals_that_do_not_stand_send_nothing(scene, spoil):
    """Missing, expired or altered by somebody with the database's own client: nothing leaves."""
    spoil(scene)
    error = refusal(scene.send)

    assert [] == scene.posts
    assert isinstance(error, ApprovalError | EvidenceError)
    assert error.remedy


def insert(scene, forged, team):
    """Put *forged* in place of what was given, with the database's own client; the journal is not told."""
    scene.tamper(f"DELETE FROM approvals WHERE team = '{team}'")
    with scene.engine.begin() as connection:
        connection.execute(approvals.insert().values(approval_values(forged)))


@pytest.mark.parametrize("handle", ["lucia", "tomas", "maya"])
def test_inserted_approval_sends_nothing(scene, handle):
    """An approval that nobody gave stands in the table, but not in the journal."""
    insert(scene, forgery(scene, handle, "finance", key=_key(scene, handle)), "finance")
    error = refusal(scene.send)

    assert (ApprovalError, []) == (type(error), scene.posts)
    assert "never given" in error.message


@pytest.mark.parametrize(
    ("handle", "why"),
    [("tomas", "cannot also run it"), ("maya", "filed this request")],
)
def test_gate_judges_people_even_if_the_registry_grew_wrong(scene, handle, why):
    """Operator and requester are refused as approvers by who they are, also where the registry would let them approve."""
    registry = scene.desk.registry
    people = tuple(
        replace(p, may=p.may | {"approve"}, teams=("finance",)) if p.handle == handle else p for p in registry.people
    )
    forged = forgery(scene, handle, "finance")
    signers = with_line(registry.signers, registry.find(handle).email, STRANGER)
    scene.desk.registry = Registry(people, "a registry that grew wrong", signers)
    scene.desk.store.record_approval(forged, scene.request)
    scene.tamper("DELETE FROM approvals WHERE team = 'finance' AND approval_id <> :mine", mine=forged.approval_id)
    error = refusal(scene.send)

    assert (ApprovalError, []) == (type(error), scene.posts)
    assert why in error.message


def with_line(signers, email, key, namespaces=(APPROVAL,)):
    """One more key, in place of any that this person has."""
    kept = tuple(entry for entry in signers.entries if entry.principal != email)
    return AllowedSigners((*kept, AllowedSigner(email, namespaces, key.public_key)), signers.revoked, signers.source)


def of_another_environment(scene, **changes):
    """What Lucia signed, rightly, for the same payout elsewhere; its row says that it was for here."""
    elsewhere = replace(scene.request, **changes)
    return forgery(scene, "lucia", "finance", key=_key(scene, "lucia"), request=elsewhere)


FORGED = {
    "a stranger's key": (lambda scene: forgery(scene, "lucia", "finance"), "is not in allowed_signers"),
    "another approver's key": (
        lambda scene: forgery(scene, "lucia", "finance", key=_key(scene, "priya")), "is priya.raman@",
    ),
    "the operator's key": (
        lambda scene: forgery(scene, "lucia", "finance", key=_key(scene, "tomas")), "is tomas.lindqvist@",
    ),
    "the wrong purpose": (
        lambda scene: forgery(scene, "lucia", "finance", key=_key(scene, "lucia"), namespace=SEAL),
        "was made for 'seal@manual-payout'",
    ),
    "a copied signature": (
        lambda scene: replace(
            forgery(scene, "lucia", "finance"),
            signature=forgery(scene, "lucia", "finance", key=_key(scene, "lucia"), nonce="x").signature,
        ),
        "does not fit these bytes",
    ),
    "no signature": (
        lambda scene: replace(forgery(scene, "lucia", "finance"), signature=""), "No signed approval by Finance",
    ),
    "another mode's": (lambda scene: of_another_environment(scene, mode=Mode.LIVE), "request.mode was 'live'"),
    "another account's": (
        lambda scene: of_another_environment(scene, platform_account="acct_x"), "platform_account was 'acct_x'",
    ),
    "another amount's": (
        lambda scene: of_another_environment(scene, lines=(replace(scene.request.line_for(), amount=Money(1, "usd")),)),
        "lines.line.amount_minor was 1, expected 125075",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", FORGED)
def test_forged_approval_sends_nothing_even_where_the_journal_tells_of_it(scene, what):
    """Whoever writes to the database and rebuilds the journal still has no approver's key."""
    make, why = FORGED[what]
    forged = make(scene)
    scene.desk.store.record_approval(forged, scene.request)
    scene.tamper("DELETE FROM approvals WHERE team = 'finance' AND approval_id <> :mine", mine=forged.approval_id)
    error = refusal(scene.send)

    assert (ApprovalError, []) == (type(error), scene.posts)
    assert why in error.message


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"revoked": True}, "was revoked"),
        ({"valid_before": timedelta()}, "expired at"),
        ({"valid_after": timedelta(seconds=1)}, "is valid from"),
        ({"namespaces": (SEAL,)}, "is for seal@manual-payout"),
        ({"key": None}, "is not in allowed_signers"),
    ],
    ids=lambda one: next(iter(one)) if isinstance(one, dict) else "",
)
def test_key_that_was_taken_away_after_the_approval_sends_nothing(scene, changed, why):
    """What was a good key when it signed has to be one when money moves."""
    registry, now, key = scene.desk.registry, scene.desk.now(), _key(scene, "amara").public_key
    new = {name: now + value if isinstance(value, timedelta) else value for name, value in changed.items()}
    new = {"key": STRANGER.public_key} if "key" in new else new
    revoked = frozenset([key] if new.pop("revoked", False) else [])
    entries = tuple(replace(entry, **new) if entry.key == key else entry for entry in registry.signers.entries)
    registry.signers = AllowedSigners(entries, revoked, registry.signers.source)
    error = refusal(scene.send)

    assert (ApprovalError, []) == (type(error), scene.posts)
    assert f"The approval by Amara Diallo is not valid. The key {key} {why}" in error.message


def test_two_approvals_of_one_team_send_nothing(scene):
    """Two of Payments Ops are not one of each."""
    scene.request = scene.file(notes="again", replace=True)
    for approver in ("priya", "jonas"):
        scene.approve(approver)
    scene.dry_run()
    error = refusal(scene.send, notes="again")

    assert ("No approval by Finance.", []) == (error.message, scene.posts)


def test_approvals_of_another_request_send_nothing(scene):
    """Approvals copied to another request, even with its id, are over another digest."""
    before = scene.request
    scene.request = scene.file(notes="again", replace=True)
    scene.dry_run()
    scene.tamper("UPDATE approvals SET request_id = :new WHERE request_id = :old",
                 new=scene.request.request_id, old=before.request_id)  # fmt: skip
    error = refusal(scene.send, notes="again")

    assert (ApprovalError, []) == (type(error), scene.posts)


@pytest.mark.parametrize("change", ["gone", "expired", "moved"])
def test_approver_who_left_sends_nothing(scene, change):
    """Whoever the registry no longer lets approve has not approved, whenever they signed."""
    now, people = scene.desk.now(), scene.desk.registry.people
    changed = {"expired": {"valid_until": now}, "moved": {"teams": ("support",)}}.get(change, {})
    kept = [p for p in people if p.handle != "amara" or change != "gone"]
    signers = scene.desk.registry.signers
    lines = tuple(entry for entry in signers.entries if entry.principal in {p.email for p in kept})
    scene.desk.registry = Registry(
        tuple(replace(p, **changed) if p.handle == "amara" else p for p in kept), "approvers.toml",
        AllowedSigners(lines, signers.revoked, signers.source),
    )  # fmt: skip
    error = refusal(scene.send)

    assert (ApprovalError, []) == (type(error), scene.posts)
    assert "may not approve" in error.message


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("notes", "x"), ("mode", "live"), ("mode", "dream"), ("reason", "whim"), ("platform_account", "acct_other"),
        ("requested_by", "x"), ("digest", "x"), ("nonce", "x"), ("incident_id", "INC-9"), ("kind", "gift"),
        ("expires_at", "2030-01-01 00:00:00.000000"),
    ],
)  # fmt: skip
def test_request_altered_in_the_database_sends_nothing(scene, column, value):
    """Whatever column of the request is changed, its digest no longer fits and nothing leaves."""
    scene.tamper(f"UPDATE requests SET {column} = :value", value=value)
    error = refusal(scene.send, scene.new_desk())

    assert [] == scene.posts
    assert error.exit_code in (3, 5)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("amount_minor", 999_900), ("currency", "eur"), ("currency", "zzz"), ("destination_account", "acct_evil"),
        ("studio_id", "x"), ("studio_name", "x"), ("reserve_after_minor", 1), ("line_no", 7), ("line_id", "x"),
    ],
)  # fmt: skip
def test_line_altered_in_the_database_sends_nothing(scene, column, value):
    """The same for every column of its line."""
    scene.tamper(f"UPDATE request_lines SET {column} = :value", value=value)
    error = refusal(scene.send)

    assert (EvidenceError, []) == (type(error), scene.posts)


def test_request_rewritten_with_its_digest_sends_nothing(scene):
    """A forger who computes the digest anew still has approvals over the old one."""
    forged = replace(scene.request, lines=(replace(scene.request.line_for(), destination_account="acct_evil"),))
    scene.tamper("UPDATE request_lines SET destination_account = 'acct_evil'")
    scene.tamper("UPDATE requests SET digest = :digest", digest=forged.digest)
    scene.request = forged
    error = refusal(scene.send, destination_account="acct_evil")

    assert (ApprovalError, []) == (type(error), scene.posts)


def test_broken_journal_sends_nothing(scene):
    """Where the journal was tampered with, nobody can say what was approved."""
    scene.tamper("UPDATE events SET actor = 'x' WHERE seq = 1")
    error = refusal(scene.send)

    assert (EvidenceError, []) == (type(error), scene.posts)


def test_expired_request_sends_nothing(scene):
    """After its lifetime a request is not sent, even under approvals that were given late."""
    scene.pass_time(seconds=scene.settings.policy.request.request_lifetime_s)
    error = refusal(scene.send)

    assert (ApprovalError, []) == (type(error), scene.posts)
    assert "expired or withdrawn" in error.message


def test_withdrawn_request_sends_nothing(scene):
    """What was replaced is not sent: its parameters are no longer those of the request in force."""
    scene.file(notes="other", replace=True)
    error = refusal(scene.send)

    assert [] == scene.posts
    assert isinstance(error, RefusedError | ParameterError)


def test_request_withdrawn_during_the_gate_sends_nothing(any_scene, monkeypatch):
    """A withdrawal that falls between the gate and the intent still comes first: the database decides."""
    claim = transfer.movement.claim

    def withdraw_then_claim(desk, line):
        claim(desk, line)
        any_scene.file(notes="other", replace=True)

    monkeypatch.setattr(transfer.movement, "claim", withdraw_then_claim)
    error = refusal(any_scene.send)

    assert (ApprovalError, None, []) == (type(error), any_scene.record, any_scene.posts)
    assert "was withdrawn" in error.message


def test_gate_that_fell_asleep_sends_nothing(scene, monkeypatch):
    """A laptop closed between gate and intent wakes to find its judgement too old, though the approvals still stand."""
    claim = transfer.movement.claim

    def sleep_then_claim(desk, line):
        claim(desk, line)
        scene.stripe.advance(transfer.sending.JUDGEMENT_AGE_MAX.total_seconds())

    monkeypatch.setattr(transfer.movement, "claim", sleep_then_claim)
    error = refusal(scene.send)

    assert (ApprovalError, None, []) == (type(error), scene.record, scene.posts)
    monkeypatch.undo()
    assert State.PAID is scene.send().state


def test_other_mode_sends_nothing(scene):
    """A request of the sandbox is not sent by a desk of another mode, and the other mode's key is refused."""
    desk = scene.new_desk(mode=Mode.TEST)
    error = refusal(scene.send, desk)

    assert (ApprovalError, []) == (type(error), scene.posts)
    assert "sandbox mode" in error.message
    with pytest.raises(SettingsError, match="but the mode is live"):
        replace(desk, settings=scene.settings_with(stripe={"mode": Mode.LIVE})).gateway.identity  # noqa: B018


@pytest.mark.parametrize("check", ["required", "if_visible"])
def test_other_account_sends_nothing(scene, check):
    """The account of the policy file has to be the one that the approvals bind to, visible or not."""
    error = refusal(scene.send, scene.new_desk(platform_account="acct_other", account_check=check))

    assert (ApprovalError, []) == (type(error), scene.posts)


def test_key_of_another_account_sends_nothing(scene, monkeypatch):
    """What Stripe says of the key's account counts, not what the policy file says."""
    monkeypatch.setattr(scene.desk.gateway, "account_id", lambda: "acct_other")
    error = refusal(scene.send)

    assert (PolicyRefusedError, []) == (type(error), scene.posts)
    assert "acct_other" in error.message


def test_account_out_of_sight_is_refused_unless_policy_accepts_it(scene, monkeypatch):
    """A key that does not show its account is refused, or accepted where the reviewed policy says so."""
    lenient = scene.new_desk(account_check="if_visible")
    for desk in (scene.desk, lenient):
        monkeypatch.setattr(desk.gateway, "account_id", lambda: None)
    error = refusal(scene.send)

    assert (PolicyRefusedError, []) == (type(error), scene.posts)
    scene.desk = lenient
    scene.pass_time(minutes=1)
    for approver in ("priya", "amara"):
        scene.approve(approver)
    scene.dry_run()
    assert State.PAID is scene.send(lenient).state


def test_automation_that_was_faster_sends_nothing(any_scene):
    """A payout that the automation has paid since cannot be claimed."""
    automation.attempt(any_scene.engine, incident.LEDGER_PAYOUT_ID, any_scene.desk.now())
    error = refusal(any_scene.send)

    assert ("paid", None, []) == (any_scene.due.standing, any_scene.record, any_scene.posts)
    assert isinstance(error, RefusedError)


def test_automation_that_is_faster_than_the_claim_sends_nothing(any_scene, monkeypatch):
    """If it pays after the verification and before the claim, the claim finds out."""
    judge = transfer.movement.verify

    def judge_then_lose(desk, parameters, operator_id):
        found = judge(desk, parameters, operator_id)
        automation.attempt(any_scene.engine, incident.LEDGER_PAYOUT_ID, desk.now())
        return found

    monkeypatch.setattr(transfer.movement, "verify", judge_then_lose)
    error = refusal(any_scene.send)

    assert (ClaimError, None, []) == (type(error), any_scene.record, any_scene.posts)
    assert "already paid" in error.message


def test_claimed_payout_is_skipped_by_the_automation(scene):
    """Once claimed, the automation's own update finds nothing to pay."""
    scene.send()

    assert not automation.attempt(scene.engine, incident.LEDGER_PAYOUT_ID, scene.desk.now())


def test_claim_of_another_line_sends_nothing(scene):
    """A claim that is not known to be dead is respected, and its holder named."""
    scene.desk.ledger.claim(incident.LEDGER_PAYOUT_ID, "somebody else", at=scene.desk.now())
    error = refusal(scene.send)

    assert [] == scene.posts
    assert "somebody else" in error.message


def test_claim_of_a_withdrawn_request_that_never_began_is_taken_over(any_scene, monkeypatch):
    """A run that died between claim and intent does not lock the ledger payout for the request that replaces it."""
    monkeypatch.setattr(any_scene.desk.store, "record_intent", crash)
    with pytest.raises(CrashError):
        any_scene.send()
    monkeypatch.undo()
    any_scene.request = any_scene.file(notes="second", replace=True)
    for approver in ("priya", "amara"):
        any_scene.approve(approver)
    any_scene.dry_run()
    any_scene.send(notes="second")

    assert (State.PAID, 1, "claimed") == standing(any_scene)
    assert any_scene.due.is_claimed_by(any_scene.request.line_for().line_id)


def test_destination_that_changed_since_sends_nothing(scene):
    """A fact that turned to NO-GO after the approvals stops the send, with its remedy."""
    scene.tamper("UPDATE manual_payout_due SET destination_account = 'acct_new' WHERE ledger_payout_id = :id",
                 id=incident.LEDGER_PAYOUT_ID)  # fmt: skip
    error = refusal(scene.send)

    assert (PolicyRefusedError, []) == (type(error), scene.posts)
    assert "ask the studio" in error.remedy


# ---------------------------------------------------------------------------------------------- faults of the call


def test_refusal_after_a_lost_answer_proves_nothing(scene):
    """A 403 after a drop says nothing about the request before it."""
    scene.stripe.fault("drop_before")
    scene.stripe.fault("status_403", times=2)
    refusal(scene.send)

    assert (State.UNKNOWN, 0, "claimed") == standing(scene)


@pytest.mark.parametrize(("asked", "waited_s"), [("", (2.5, 7.5)), ("9", (18.0, 18.0)), ("0", (2.5, 7.5))])
def test_retry_after_is_waited_out_and_the_wait_is_told(scene, asked, waited_s):
    """Never sooner than Stripe asks, nor than our own back-off with its jitter; whoever waited is told how long."""
    scene.stripe.fault("rate_limit", times=2, retry_after=asked)
    began = scene.desk.now()
    record = scene.send()
    least, most = waited_s
    waited = (scene.desk.now() - began).total_seconds()

    assert least <= waited <= most
    assert f"Stripe accepted the transfer, after 3 tries and {waited:.0f} s of waiting" == record.outcome_reason
    assert {record.idempotency_key} == {post.idempotency_key for post in scene.posts}


@pytest.mark.parametrize("lost", [False, True])
def test_longer_pause_than_a_run_waits_is_left_to_the_operator(scene, lost):
    """Nobody is asked again before the time, nor is the right to send held for so long: the run ends and says it."""
    if lost:
        scene.stripe.fault("drop_before")
    scene.stripe.fault("rate_limit", retry_after="300")
    began = scene.desk.now()
    error = refusal(scene.send)

    assert (UnknownOutcomeError if lost else AttemptRefusedError) is type(error)
    assert (2 if lost else 1) == len(scene.posts)
    assert error.remedy.startswith("Wait 300 s, as Stripe asks. ")
    assert ("reconcile" if lost else "run the same command again") in error.remedy
    assert (scene.desk.now() - began).total_seconds() < 2


def test_slow_answer_is_a_lost_answer(scene):
    """A timeout is a lost answer; the transfer that came of it is found, not made again."""
    desk = scene.new_desk(timeout_s=0.3)
    scene.stripe.fault("slow", seconds=1.0)
    record = scene.send(desk)

    assert (State.PAID, 1, "claimed") == standing(scene)
    assert record.stripe_transfer_id == scene.transfers[0].id


def test_transfer_filed_elsewhere_is_still_known_by_its_id(scene, monkeypatch):
    """A transfer in another group than was sent stays on record through reconcile, and nothing is sent for it again."""
    create = scene.desk.gateway.create_transfer

    def misfiled(payload, *, idempotency_key):
        return create(payload | {"transfer_group": "elsewhere"}, idempotency_key=idempotency_key)

    monkeypatch.setattr(scene.desk.gateway, "create_transfer", misfiled)
    refusal(scene.send)
    refusal(scene.reconcile)

    assert (State.NEEDS_HUMAN, 1, "claimed") == standing(scene)
    assert (scene.transfers[0].id, 1) == (scene.record.stripe_transfer_id, len(scene.posts))


def test_unreachable_stripe_before_anything_was_sent_moves_nothing(scene):
    """If Stripe cannot even be asked first, the attempt ends refused and the ledger payout is free again."""
    scene.stripe.fault("drop_before", method="GET", path=TRANSFER, skip=2)
    error = refusal(scene.send)

    assert (PolicyRefusedError, []) == (type(error), scene.posts)
    assert (State.REFUSED, 0, "claimed") == standing(scene)
    assert (State.PAID, 2) == (scene.send().state, scene.record.attempt_no)


def test_foreign_transfer_that_appears_after_the_gate_sends_nothing(scene, monkeypatch):
    """The look directly before the call sees what the verification could not."""
    other = {"id": "tr_other", "reversed": False, "metadata": {}}
    judge = transfer.movement.verify

    def judge_then_appear(*args):
        found = judge(*args)
        monkeypatch.setattr(scene.desk.gateway, "transfers_in_group", lambda _group: [other])
        return found

    monkeypatch.setattr(transfer.movement, "verify", judge_then_appear)
    error = refusal(scene.send)

    assert (PolicyRefusedError, []) == (type(error), scene.posts)
    assert "tr_other" in error.message
    assert (State.REFUSED, 0, "claimed") == standing(scene)


def test_foreign_transfer_after_a_lost_answer_needs_a_person(scene, monkeypatch):
    """Once something was sent, a transfer that is not ours makes it a person's case, and no more is sent."""
    scene.stripe.fault("drop_before", times=3)
    refusal(scene.send)
    monkeypatch.setattr(
        scene.desk.gateway, "transfers_in_group", lambda _group: [{"id": "tr_o", "reversed": False, "metadata": {}}]
    )
    error = refusal(scene.reconcile)

    assert (UnknownOutcomeError, 3) == (type(error), len(scene.posts))
    assert (State.NEEDS_HUMAN, 0, "claimed") == standing(scene)


# ---------------------------------------------------------------------------------------------- funding and attempts


def test_retry_after_funding_is_a_new_attempt_under_the_same_approvals(any_scene):
    """Refused for want of money, then funded: attempt 2 with a new key, the first on record as refused."""
    any_scene.stripe.fault("refuse", code="balance_insufficient", message="You have insufficient available funds")
    error = refusal(any_scene.send)
    first = any_scene.record
    second = any_scene.send()

    assert (AttemptRefusedError, "balance_insufficient") == (type(error), error.code)
    assert "Top up" in error.remedy
    assert (1, 2, 2) == (first.attempt_no, second.attempt_no, second.fence)
    assert [(first.idempotency_key, "refused"), (second.idempotency_key, "paid")] == any_scene.attempts()
    assert first.idempotency_key != second.idempotency_key
    assert (State.PAID, 1, "claimed") == standing(any_scene)
    approvals = [sorted(event.data["approval_ids"]) for event in any_scene.events("intent_recorded")]
    assert approvals[0] == approvals[1]


def test_empty_balance_is_refused_before_stripe_is(scene):
    """A balance that does not cover the amount is seen by the verification; nothing is sent."""
    scene.stripe.seed(available={"usd": 100})
    error = refusal(scene.send)

    assert (PolicyRefusedError, []) == (type(error), scene.posts)
    assert "Top up" in error.remedy


def test_second_attempt_under_new_approvals_can_be_interrupted_and_continued(scene, monkeypatch):
    """Attempt 2 is judged by the approvals of its own time: those of attempt 1 may be long expired."""
    scene.stripe.fault("refuse", code="balance_insufficient")
    refusal(scene.send)
    scene.pass_time(hours=5)
    for approver in ("jonas", "lucia"):
        scene.approve(approver)
    monkeypatch.setattr(scene.desk.gateway, "create_transfer", crash)
    with pytest.raises(CrashError):
        scene.send()
    record = scene.send(scene.new_desk())

    assert (State.PAID, 2) == (record.state, record.attempt_no)
    assert (_id(scene, "jonas"), _id(scene, "lucia")) == (record.approved_by_payments_ops, record.approved_by_finance)
    assert verify(scene.desk, scene.live(), scene.operator.person_id).go


def test_later_approvals_do_not_unsettle_what_was_paid(scene):
    """Approvals given after the payout leave its verification as it was."""
    scene.send()
    scene.pass_time(hours=5)
    scene.approve("priya")

    assert verify(scene.desk, scene.live(), scene.operator.person_id).go


# ---------------------------------------------------------------------------------------------- crashes


def test_resume_waits_for_the_lease(scene, monkeypatch):
    """Who continues waits until the dead run's request cannot be on its way any more."""
    crash_at(Out(scene), "before the call", monkeypatch)
    lease = scene.record.lease_until
    scene.send(scene.new_desk())

    assert lease <= scene.desk.now()
    assert ("sending_taken_over", 2) == (scene.events("sending_taken_over")[0].kind, scene.record.fence)


def test_interrupted_run_that_was_settled_while_waiting_is_not_taken_over(scene, monkeypatch):
    """If the other run finishes within its lease, the one that waited finds its result and posts nothing."""
    crash_at(Out(scene), "before the call", monkeypatch)
    held, slow = scene.record, scene.new_desk()
    monkeypatch.setattr(slow.clock, "wait", lambda _seconds: transfer.delivery.deliver_attempt(scene.desk, held))
    record = scene.send(slow)

    assert (State.PAID, held.owner, 1) == (record.state, record.owner, len(scene.posts))


def test_live_run_is_not_taken_over(scene, monkeypatch):
    """A run that renews its lease keeps it; the other is told who holds the sending and until when."""
    crash_at(Out(scene), "before the call", monkeypatch)
    held, second = scene.record, scene.new_desk()

    def renew(seconds):
        scene.stripe.advance(seconds - 1)
        scene.desk.store.mark_sent(held, lease_s=500, window=transfer.KEY_WINDOW)
        scene.stripe.advance(1)

    monkeypatch.setattr(second.clock, "wait", renew)
    error = refusal(scene.send, second)

    # Whoever is still sending may have moved the money by now.
    assert (UnknownOutcomeError, []) == (type(error), scene.posts)
    assert held.owner in error.message


# ---------------------------------------------------------------------------------------------- fence and lease


@pytest.mark.parametrize("pause", [timedelta(minutes=10), timedelta(hours=30)])
def test_sender_that_slept_between_look_and_call_does_not_send(any_scene, monkeypatch, pause):
    """Frozen after the look-up and woken after its lease: the fence stops it, even though nobody took over."""
    look = any_scene.desk.gateway.transfers_in_group
    calls = []

    def look_then_sleep(group):
        calls.append(group)
        found = look(group)
        if len(calls) == 2:
            any_scene.stripe.advance(pause.total_seconds())
        return found

    monkeypatch.setattr(any_scene.desk.gateway, "transfers_in_group", look_then_sleep)
    error = refusal(any_scene.send)

    assert (UnknownOutcomeError, []) == (type(error), any_scene.posts)
    assert not any_scene.record.sent


def test_fence_reads_the_clock_after_the_wait_for_the_lock(any_scene, monkeypatch):
    """Frozen between the last look at the clock and the database's answer: the fence judges by the clock of the answer."""
    from manual_payout.database import journal

    hold, mark = journal.hold_stream, any_scene.desk.store.mark_sent

    def frozen_mark(record, **options):
        def slow_hold(connection, stream):
            hold(connection, stream)
            any_scene.stripe.advance(3600)
            monkeypatch.setattr(journal, "hold_stream", hold)

        monkeypatch.setattr(journal, "hold_stream", slow_hold)
        return mark(record, **options)

    monkeypatch.setattr(any_scene.desk.store, "mark_sent", frozen_mark)
    error = refusal(any_scene.send)

    assert (UnknownOutcomeError, []) == (type(error), any_scene.posts)


def test_zombie_cannot_call_refused_what_another_run_is_sending(any_scene, monkeypatch):
    """A run frozen after a refusal, overtaken meanwhile, may neither close the attempt nor give the claim back."""
    crash_at(Out(any_scene), "before the call", monkeypatch)
    zombie, second = any_scene.record, any_scene.new_desk()
    any_scene.pass_time(hours=1)
    second.store.take_over(zombie, owner="second", operator_id=any_scene.operator.person_id, lease_s=60)
    answer = Refused("rate_limit", "Too many requests", "", same_key=True)
    error = refusal(transfer.delivery.record_refused, any_scene.desk, zombie, answer)

    assert (ClaimError, State.SUBMITTING, "claimed") == (type(error), any_scene.record.state, any_scene.due.standing)


def test_late_acceptance_of_an_overtaken_run_is_told_by_name(scene, monkeypatch):
    """A run that wakes with Stripe's yes after others went on must not say that nothing moved."""
    create = scene.desk.gateway.create_transfer

    def sleeps(payload, *, idempotency_key):
        reply = create(payload, idempotency_key=idempotency_key)
        scene.tamper("UPDATE manual_payouts SET attempt_no = 7, idempotency_key = 'other'")
        return reply

    monkeypatch.setattr(scene.desk.gateway, "create_transfer", sleeps)
    error = refusal(scene.send)

    assert (UnknownOutcomeError, 4) == (type(error), error.exit_code)
    assert scene.transfers[0].id in error.message
    assert scene.transfers[0].id == scene.events("late_answer")[0].data["stripe_transfer_id"]


def test_acceptance_corrects_an_attempt_taken_for_refused(any_scene, monkeypatch):
    """Stripe's transfer is a fact: it is recorded even though somebody closed the attempt as refused."""
    create, store = any_scene.desk.gateway.create_transfer, any_scene.desk.store

    def closed_meanwhile(payload, *, idempotency_key):
        store.record_outcome(any_scene.record, State.REFUSED, "decided", actor="x", code="decided_not_moved")
        return create(payload, idempotency_key=idempotency_key)

    monkeypatch.setattr(any_scene.desk.gateway, "create_transfer", closed_meanwhile)
    any_scene.send()

    assert (State.PAID, 1, "claimed") == standing(any_scene)


def test_database_that_fails_between_tries_is_unknown(scene, monkeypatch):
    """After a lost answer a failing database is no reason to say that nothing moved."""
    mark, calls = scene.desk.store.mark_sent, []

    def fails_second(record, **options):
        calls.append(record)
        if len(calls) == 2:
            raise DatabaseError("gone.", "")
        return mark(record, **options)

    monkeypatch.setattr(scene.desk.store, "mark_sent", fails_second)
    scene.stripe.fault("drop_before")
    error = refusal(scene.send)

    assert UnknownOutcomeError is type(error)
    assert (State.SUBMITTING, True) == (scene.record.state, scene.record.sent)


# ---------------------------------------------------------------------------------------------- reconcile


def test_reconcile_does_not_wait_for_a_run_that_has_ended(scene):
    """A run that recorded its outcome holds no lease any more."""
    lose_the_answer(Out(scene), moved=True)
    before = scene.desk.now()
    scene.reconcile()

    assert before == scene.desk.now()


def test_interrupted_run_is_not_continued_after_the_window(scene, monkeypatch):
    """The same for a crash during the call, continued a day later under new approvals."""
    scene.settings = scene.settings_with(request={"request_lifetime_s": 72 * 3600})
    scene.desk = scene.new_desk()
    scene.request = scene.file(notes="long", replace=True)
    scene.approve("priya"), scene.approve("amara")
    scene.dry_run()
    with monkeypatch.context() as patch:
        patch.setattr(scene.desk.gateway, "create_transfer", crash)
        with pytest.raises(CrashError):
            scene.send(notes="long")
    scene.pass_time(hours=23)
    scene.approve("jonas"), scene.approve("lucia")
    error = refusal(scene.send, notes="long")

    assert (UnknownOutcomeError, State.NEEDS_HUMAN, []) == (type(error), scene.record.state, scene.posts)


def test_fence_refuses_a_key_that_left_its_window(any_scene, monkeypatch):
    """The window is judged once more in the statement that lets a request leave."""
    crash_at(Out(any_scene), "before the call", monkeypatch)
    store = any_scene.desk.store
    any_scene.pass_time(hours=22, minutes=59)
    record = store.take_over(any_scene.record, owner="o", operator_id="p", lease_s=3600)
    store.mark_sent(record, lease_s=3600, window=transfer.KEY_WINDOW)
    any_scene.pass_time(minutes=1)

    with pytest.raises(ClaimError):
        store.mark_sent(record, lease_s=3600, window=transfer.KEY_WINDOW)


def test_decision_is_refused_before_the_window_ends(scene):
    """While Stripe may yet show or replay the transfer, nobody decides that there is none."""
    lose_the_answer(Out(scene), moved=False)
    early = refusal(scene.decide)
    scene.pass_time(hours=5)
    refusal(scene.reconcile)
    still = refusal(scene.decide)

    assert ("not needs_human" in early.message, State.NEEDS_HUMAN) == (True, scene.record.state)
    assert "inside its window" in still.message


def test_decision_after_the_window_is_recorded_with_person_and_reason(scene):
    """Then a person decides, by name and reason; the ledger payout is free, and a retry is a new request and key."""
    lose_the_answer(Out(scene), moved=False)
    scene.pass_time(hours=24)
    refusal(scene.reconcile)
    first = scene.record
    found = scene.decide("Dashboard checked at 03:10, no transfer")
    event = scene.events("outcome_refused")[0]
    scene.request = scene.file()
    scene.approve("priya"), scene.approve("amara")
    scene.dry_run()
    second = scene.send()

    assert (State.REFUSED, "decided_not_moved") == (found.record.state, event.data["code"])
    assert "decided by Tomas Lindqvist: Dashboard checked at 03:10, no transfer" == event.data["reason"]
    assert scene.operator.person_id == event.actor
    assert (State.PAID, 1, "claimed") == standing(scene)
    assert first.idempotency_key != second.idempotency_key


@pytest.mark.parametrize("because", ["", "  ", "two\nlines", "sk_live_abcdefgh12345678"])
def test_decision_needs_a_reason_that_can_be_shown(scene, because):
    """A decision without a reason, or with a secret in it, is not recorded."""
    lose_the_answer(Out(scene), moved=False)
    scene.pass_time(hours=24)
    refusal(scene.reconcile)
    error = refusal(scene.decide, because)

    assert (ParameterError, State.NEEDS_HUMAN) == (type(error), scene.record.state)


def test_nothing_is_decided_while_stripe_cannot_be_asked(scene):
    """A decision without a look at Stripe is none, and its refusal does not say that nothing moved."""
    lose_the_answer(Out(scene), moved=True)
    scene.pass_time(hours=24)
    scene.tamper("UPDATE manual_payouts SET state = 'needs_human'")
    scene.stripe.fault("drop_before", method="GET", path="/v1", times=9)
    error = refusal(scene.decide)

    assert (UnknownOutcomeError, State.NEEDS_HUMAN) == (type(error), scene.record.state)


def test_fact_that_turned_keeps_the_key_from_being_sent_again(scene):
    """A destination that changed after the lost answer: reconcile sends nothing, a person is needed."""
    lose_the_answer(Out(scene), moved=False)
    before = len(scene.posts)
    scene.tamper("UPDATE manual_payout_due SET destination_account = 'acct_new' WHERE ledger_payout_id = :id",
                 id=incident.LEDGER_PAYOUT_ID)  # fmt: skip
    refusal(scene.reconcile)

    assert (before, State.NEEDS_HUMAN) == (len(scene.posts), scene.record.state)


@pytest.mark.parametrize("act", ["reconcile", "decide"])
def test_another_account_proves_nothing(scene, monkeypatch, act):
    """Reconcile and decision look only through a key of the account that was approved."""
    lose_the_answer(Out(scene), moved=True)
    scene.pass_time(hours=24)
    scene.tamper("UPDATE manual_payouts SET state = 'needs_human'")
    monkeypatch.setattr(scene.desk.gateway, "account_id", lambda: "acct_other")
    refusal(getattr(scene, act))

    assert (State.NEEDS_HUMAN, 1) == (scene.record.state, len(scene.posts))


def test_reconcile_in_another_mode_does_nothing(scene):
    """A desk of another mode is refused before it asks anything."""
    lose_the_answer(Out(scene), moved=False)
    error = refusal(scene.reconcile, scene.new_desk(mode=Mode.TEST))

    assert (UnknownOutcomeError, State.UNKNOWN) == (type(error), scene.record.state)


@pytest.mark.parametrize(
    "changes",
    [{"amount": "1250.76"}, {"destination_account": "acct_other"}, {"notes": "other"}],
    ids=lambda one: next(iter(one)),
)
def test_other_content_is_refused_by_name_after_the_payment_too(scene, changes):
    """Whoever types something else is told which field, and that it was paid as filed: other values, no refusal."""
    scene.send()
    error = refusal(scene.send, scene.new_desk(), **changes)

    assert (2, True) == (error.exit_code, scene.record.stripe_transfer_id in error.remedy)
    assert error.message.startswith(f"{next(iter(changes))} differs from what is on record")
    assert 1 == len(scene.transfers)


@pytest.mark.parametrize(("share", "state"), [(1, State.REVERSED), (3, State.PARTLY_REVERSED)])
def test_reversed_transfer_is_not_paid(scene, share, state):
    """A transfer that somebody took back before reconcile is told as it is, and never sent again."""
    lose_the_answer(Out(scene), moved=True)
    made = scene.transfers[0]
    made.amount_reversed = made.amount // share
    found = scene.reconcile()

    assert (state, f"recorded as {state}", made.id) == (
        scene.record.state, found.action, scene.record.stripe_transfer_id,
    )  # fmt: skip
    assert f"{Money(made.amount_reversed, 'usd').grouped} of it have come back since" in scene.record.outcome_reason
    assert 1 == len(scene.posts)


def test_reconcile_of_a_paid_record_compares(scene):
    """Where all agree it says so; what was reversed since is a difference, and the row follows."""
    scene.send()
    fine = scene.reconcile()
    scene.transfers[0].amount_reversed = 75
    later = scene.reconcile()

    assert ("", "nothing") == (fine.difference, fine.action)
    assert "our row said paid; 0.75 USD have come back since" == later.difference
    assert (State.PARTLY_REVERSED, "recorded as partly_reversed") == (scene.record.state, later.action)
    assert ("", "nothing") == ((again := scene.reconcile()).difference, again.action)


def test_refused_row_is_settled_whatever_a_later_request_has_paid(any_scene):
    """The transfer in the group is on record under the other request: neither unknown nor a difference of this row."""
    scene = any_scene
    scene.stripe.fault("refuse", code="transfers_not_allowed")
    refusal(scene.send)
    refused = scene.record
    scene.request = scene.file(replace=True, notes="again")
    for approver in APPROVERS:
        scene.approve(approver)
    scene.dry_run()
    paid = scene.send(notes="again")
    found = transfer.reconcile(scene.desk, refused, scene.operator)

    assert (State.REFUSED, State.PAID) == (refused.state, paid.state)
    assert (refused, "", "nothing") == (found.record, found.difference, found.action)


def test_reconcile_corrects_a_refused_attempt_whose_transfer_shows(scene):
    """Never refused while a transfer exists: the row becomes paid and the automation is kept away again."""
    lose_the_answer(Out(scene), moved=True)
    scene.tamper("UPDATE manual_payouts SET state = 'refused'")
    scene.desk.ledger.release(incident.LEDGER_PAYOUT_ID, scene.request.line_for().line_id)
    scene.reconcile()

    assert (State.PAID, 1, "claimed") == standing(scene)


def test_reconcile_tells_when_the_automation_has_paid_too(scene):
    """If the automation paid meanwhile, the correction needs a person: it was paid twice."""
    lose_the_answer(Out(scene), moved=True)
    scene.tamper("UPDATE manual_payouts SET state = 'refused'")
    scene.desk.ledger.release(incident.LEDGER_PAYOUT_ID, scene.request.line_for().line_id)
    automation.attempt(scene.engine, incident.LEDGER_PAYOUT_ID, scene.desk.now())
    error = refusal(scene.reconcile)

    assert (UnknownOutcomeError, State.NEEDS_HUMAN) == (type(error), scene.record.state)
    assert "already paid" in error.message


def test_reconcile_without_stripe_stays_unknown(scene):
    """If Stripe cannot be asked, the outcome stays unknown; the exit code does not say that nothing moved."""
    lose_the_answer(Out(scene), moved=True)
    scene.stripe.fault("drop_before", method="GET", path="/v1", times=9)
    error = refusal(scene.reconcile)

    assert (UnknownOutcomeError, State.UNKNOWN) == (type(error), scene.record.state)


# ---------------------------------------------------------------------------------------------- contention


def test_two_machines_with_the_same_request_make_one_transfer(any_scene):
    """Both run the same command at once: one transfer, and each ends paid or is told who was faster."""
    desks = [any_scene.new_desk() for _ in range(3)]
    results = race(*(lambda desk=desk: any_scene.send(desk) for desk in desks))

    assert 1 == len(any_scene.transfers)
    assert any(getattr(result, "state", None) is State.PAID for result in results)
    losers = [result for result in results if isinstance(result, ManualPayoutError)]
    assert {MovedBeforeError, UnknownOutcomeError} >= {type(error) for error in losers}
    assert State.PAID is any_scene.send().state


def test_two_requests_for_one_ledger_payout_make_one_transfer(any_scene, monkeypatch):
    """Two incidents, two approved requests, one ledger payout: one is sent, the other is told so, and not that nothing moved."""
    first = any_scene.request
    # Both were filed in the same moment, when neither saw the other.
    monkeypatch.setattr("manual_payout.approval.requesting._require_no_other", lambda *_: None)
    any_scene.request = any_scene.file(incident_id="INC-124")
    any_scene.approve("jonas"), any_scene.approve("lucia")
    any_scene.dry_run()
    requests, desks = (first, any_scene.request), (any_scene.new_desk(), any_scene.new_desk())

    def run(request, desk):
        return transfer.send(desk, any_scene.live(request=request), any_scene.operator)

    results = race(*(lambda r=r, d=d: run(r, d) for r, d in zip(requests, desks, strict=True)))
    refused = [result for result in results if isinstance(result, ManualPayoutError)]

    assert (1, 1) == (len(any_scene.transfers), len(refused))
    # Between the other's claim and its intent nothing has left, and that may be said.
    assert isinstance(refused[0], MovedBeforeError | UnknownOutcomeError | ClaimError)


def test_live_row_of_another_incident_is_named(any_scene):
    """Where the unique row decides, the loser is told which incident holds it."""
    any_scene.send()
    other = any_scene.desk.store.find_payout(any_scene.request.line_for().line_id)
    request = replace(any_scene.request, request_id="r2", nonce="n2", incident_id="INC-124",
                      lines=(replace(any_scene.request.line_for(), line_id="l2"),))  # fmt: skip
    any_scene.desk.store.record_request(request)
    second = replace(other, payout_id="l2", request_id="r2", incident_id="INC-124", idempotency_key="k2",
                     state=State.SUBMITTING, stripe_transfer_id=None, fence=1)  # fmt: skip
    error = refusal(
        any_scene.desk.store.record_intent, second, ("a1", "a2"), lease_s=60,
        not_after=any_scene.desk.now() + timedelta(hours=1),
    )  # fmt: skip

    assert ClaimError is type(error)
    assert "INC-123, paid" in error.message


def test_accepted_answers_are_those_of_the_real_gateway(scene):
    """The scene's gateway is the real one over HTTP: what it answers is `Accepted` with Stripe's own text."""
    record = scene.send()
    reply = scene.desk.gateway.create_transfer(json.loads(record.payload), idempotency_key=record.idempotency_key)

    assert (Accepted, True, record.stripe_transfer_id) == (type(reply), reply.replayed, reply.made["id"])


def test_approvals_of_the_scene_are_told_in_the_journal(scene):
    """What `approve` records is what the gate demands: each approval has its event."""
    given = given_approvals(scene.desk.store, scene.request)

    assert ["payments_ops", "finance"] == [approval.team.value for approval in given]
