"""Two people of two teams sign a yes to one exact request, each once, each with a key of their own, each for a while."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from desks import LAST4, STREAM
from manual_payout.approval.approvals import approve, check_approvals, given_approvals, statement_of, teams_approved
from manual_payout.approval.approving import shown_to_approver
from manual_payout.desk.people import Person, Registry
from manual_payout.desk.settings import SANDBOX_APPROVERS, RequestPolicy
from manual_payout.desk.signatures import APPROVAL, SEAL, AllowedSigner, AllowedSigners, key_from_seed
from manual_payout.desk.signing import sandbox_key
from manual_payout.domain.canonical import canonical_json, digest_bytes
from manual_payout.domain.errors import ApprovalError, ParameterError
from manual_payout.domain.models import Approval, Kind, Line, Mode, Reason, Request, Team
from manual_payout.domain.money import Money
from manual_payout.evidence.folder import Folder
from manual_payout.steps.papers import keep_approvals
from openssh import openssh, required
from payout_rehearsal.demo import incident

DEMO, DOCS = SANDBOX_APPROVERS.parent, Path(__file__).parents[2] / "docs"
AT = datetime.fromisoformat(incident.NOW)
LIFETIME = timedelta(hours=4)
LINE = Line("line-1", 1, "studio-1", "Harbor", "ledger-1", Money(125_075, "usd"), Money(31_000, "usd"), "acct_123")
REQUEST = Request(
    "request-1", "INC-123", Kind.TRANSFER, Mode.SANDBOX, "acct_platform", "maya", Reason.OTHER, "", "nonce-1", AT,
    AT + timedelta(hours=24), (LINE,),
)  # fmt: skip


def person(name, team, *may, since=AT - timedelta(days=1), until=None):
    return Person(name, name, name.title(), f"{name}@x.example", (team,), frozenset(may), since, until)


PEOPLE = (
    person("maya", "finance", "request", "approve"),
    person("tomas", "payments_ops", "operate", "approve"),
    person("priya", "payments_ops", "approve"),
    person("jonas", "payments_ops", "approve"),
    person("amara", "finance", "approve"),
    person("lucia", "finance", "approve"),
    person("greta", "finance", "approve", until=AT),
    person("noor", "payments_ops", "operate"),
    person("sven", "support", "approve"),
)


@cache
def key_of(name):
    """The key of one of these people, or of a stranger."""
    return key_from_seed(digest_bytes(name.encode()).encode()[:32], "a test")


def signers(*, revoked=(), **changed):
    """Everybody's key, some of the lines changed."""
    entries = [AllowedSigner(one.email, (APPROVAL,), key_of(one.handle).public_key) for one in PEOPLE]
    entries = [replace(one, **changed.get(one.principal.split("@")[0], {})) for one in entries]
    return AllowedSigners(tuple(entries), frozenset(key_of(name).public_key for name in revoked), "allowed_signers")


REGISTRY = Registry(PEOPLE, "approvers.toml", signers())


def signed(made, request=REQUEST, key=None, namespace=APPROVAL):
    """An approval with its signature, over *request* whatever its row says."""
    text = canonical_json(statement_of(request, made))
    signature = (key or key_of(made.approver_id)).sign(namespace, text.encode())
    return replace(made, signed_text=text, statement_digest=digest_bytes(text.encode()), signature=signature)


def approval(who, team, at=AT, *, key=None, namespace=APPROVAL, **changes):
    """An approval as `approve` makes it, some of it changed before it was signed."""
    made = Approval(
        f"approval-{who}-{at:%H%M}", REQUEST.request_id, REQUEST.digest, who, team, REQUEST.mode, REQUEST.platform_account,
        f"nonce-{who}-{at:%H%M}", at, at + LIFETIME, "",
    )  # fmt: skip
    return signed(replace(made, **changes), key=key, namespace=namespace)


RULES = RequestPolicy()
PRIYA, AMARA = approval("priya", Team.PAYMENTS_OPS), approval("amara", Team.FINANCE)


def judge(*approvals, operator="tomas", at=AT, registry=REGISTRY, rules=RULES):
    return check_approvals(REQUEST, approvals, registry, rules, operator_id=operator, at=at)


def test_one_of_each_team_stand():
    """The two, their people, and until when."""
    found = judge(PRIYA, AMARA)

    assert (PRIYA, AMARA, AT + LIFETIME) == (found.payments_ops, found.finance, found.stand_until)
    assert "Priya (Payments Ops), Amara (Finance)" == str(found)
    assert (PRIYA.approval_id, AMARA.approval_id) == found.approval_ids


@pytest.mark.parametrize(
    ("approvals", "why"),
    [
        ((), "No approval by Payments Ops"),
        ((PRIYA,), "No approval by Finance"),
        ((AMARA,), "No approval by Payments Ops"),
        ((PRIYA, approval("jonas", Team.PAYMENTS_OPS)), "No approval by Finance"),
        ((PRIYA, approval("maya", Team.FINANCE)), "filed this request"),
        ((approval("tomas", Team.PAYMENTS_OPS), AMARA), "cannot also run it"),
        ((PRIYA, approval("priya", Team.FINANCE)), "may not approve"),
        ((PRIYA, approval("greta", Team.FINANCE)), "may not approve"),
        ((PRIYA, approval("nobody", Team.FINANCE)), "may not approve"),
        ((approval("noor", Team.PAYMENTS_OPS), AMARA), "may not approve"),
        ((PRIYA, approval("sven", Team.FINANCE)), "may not approve"),
        ((PRIYA, approval("amara", Team.FINANCE, request_id="request-2")), "another request"),
        ((PRIYA, approval("amara", Team.FINANCE, request_digest="0" * 64)), "another request"),
        ((PRIYA, approval("amara", Team.FINANCE, mode=Mode.LIVE)), "another request"),
        ((PRIYA, approval("amara", Team.FINANCE, platform_account="acct_other")), "another request"),
        ((PRIYA, approval("amara", Team.FINANCE, at=AT - LIFETIME)), "expired"),
        ((PRIYA, approval("amara", Team.FINANCE, at=AT + timedelta(seconds=1))), "No approval by Finance"),
    ],
)  # fmt: skip
def test_everything_else_is_refused_with_a_remedy(approvals, why):
    """Missing, of one team, by requester, operator, stranger or leaver, for something else, too old or not given yet."""
    with pytest.raises(ApprovalError, match=why) as caught:
        judge(*approvals)

    assert caught.value.remedy


OTHER = {
    "approval_id": "x", "request_id": "x", "request_digest": "x", "approver_id": "lucia", "team": Team.PAYMENTS_OPS,
    "mode": Mode.LIVE, "platform_account": "x", "nonce": "x", "approved_at": AT - timedelta(microseconds=1),
    "expires_at": AT + timedelta(days=9), "statement_digest": "x", "signature": PRIYA.signature,
    "signed_text": PRIYA.signed_text, "facts": '{"version":2}', "rules_digest": "x", "registry_digest": "x",
}  # fmt: skip


@pytest.mark.parametrize(
    ("given", "at", "teams"),
    [
        ((), AT, set()),
        ((PRIYA, AMARA), AT, {Team.PAYMENTS_OPS, Team.FINANCE}),
        ((PRIYA, approval("jonas", Team.PAYMENTS_OPS)), AT, {Team.PAYMENTS_OPS}),
        ((PRIYA, replace(AMARA, signature="")), AT, {Team.PAYMENTS_OPS}),
        ((PRIYA, AMARA), AT - timedelta(seconds=1), set()),
        ((PRIYA, AMARA), AT + LIFETIME, set()),
    ],
)
def test_what_is_counted_is_teams_whose_approval_stands_now(given, at, teams):
    """Two approvals of one team are not two of two, and one that has ended is none."""

    assert teams == teams_approved(given, REQUEST, RULES, at)


def test_every_field_of_an_approval_has_another_value_here():
    """A new field has to be added to the table."""
    assert {one.name for one in fields(Approval)} == set(OTHER)


@pytest.mark.parametrize("name", OTHER)
def test_altered_approval_is_refused_whatever_was_altered(name):
    """Each field is under the signature."""
    with pytest.raises(ApprovalError):
        judge(PRIYA, replace(AMARA, **{name: OTHER[name]}))


# -------------------------------------------------------------------------------------------- what was signed

STUDIO = replace(LINE, studio_id="studio-2", studio_name="Other", reserve_after=Money(1, "usd"))
BACK = replace(LINE, stripe_transfer_id="tr_1", reversed_before_minor=0)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"incident_id": "INC-124"}, "predicate.request.incident_id was 'INC-124', expected 'INC-123'"),
        ({"mode": Mode.LIVE}, "predicate.request.mode was 'live', expected 'sandbox'"),
        ({"platform_account": "acct_other"}, "predicate.request.platform_account"),
        ({"requested_by": "jonas"}, "predicate.request.requested_by"),
        ({"notes": "x"}, "predicate.request.notes"),
        ({"reason": Reason.DATA_ERROR}, "predicate.request.reason"),
        ({"nonce": "nonce-2"}, "predicate.request.nonce"),
        ({"request_id": "request-2"}, "predicate.request.request_id"),
        ({"kind": Kind.REVERSAL}, "predicate.request.kind"),
        ({"filed_at": AT - LIFETIME}, "predicate.request.filed_at"),
        ({"expires_at": AT + timedelta(hours=25)}, "predicate.request.expires_at"),
        ({"lines": (replace(LINE, amount=Money(125_076, "usd")),)}, "lines.line.amount_minor was 125076, expected 125075"),
        ({"lines": (replace(LINE, amount=Money(125_075, "eur")),)}, "lines.currency was 'eur', expected 'usd'"),
        ({"lines": (replace(LINE, destination_account="acct_124"),)}, "lines.line.destination_account"),
        ({"lines": (replace(LINE, ledger_payout_id="ledger-2"),)}, "lines.line.ledger_payout_id"),
        ({"lines": (STUDIO,)}, "lines.line.reserve_after_minor"),
        ({"lines": (BACK,)}, "lines.line.reversed_before_minor was 0, expected missing"),
        ({"lines": (LINE, replace(LINE, line_id="line-2", line_no=2))}, "lines.count was 2, expected 1"),
    ],
)  # fmt: skip
def test_signature_over_another_request_is_refused_by_the_field_that_differs(changes, field):
    """Even where the row claims this request, and where the digest was made to fit."""
    other = replace(REQUEST, **changes)
    forged = signed(approval("amara", Team.FINANCE), other)
    with pytest.raises(ApprovalError, match=re.escape(field)):
        judge(PRIYA, forged)
    text = forged.signed_text.replace(other.digest, REQUEST.digest)
    again = replace(
        forged, signed_text=text, statement_digest=digest_bytes(text.encode()),
        signature=key_of("amara").sign(APPROVAL, text.encode()),
    )  # fmt: skip
    with pytest.raises(ApprovalError, match=re.escape(field)):
        judge(PRIYA, again)


@given(
    st.integers(min_value=0, max_value=len(AMARA.signed_text) - 1), st.characters(max_codepoint=0x2FFF, codec="utf-8")
)
def test_any_changed_character_of_what_was_signed_is_refused(at, character):
    """With the digest made to fit it too."""
    text = AMARA.signed_text[:at] + character + AMARA.signed_text[at + 1 :]
    if text != AMARA.signed_text:
        with pytest.raises(ApprovalError):
            judge(PRIYA, replace(AMARA, signed_text=text, statement_digest=digest_bytes(text.encode())))


@given(st.integers(min_value=0, max_value=len(AMARA.signature) - 1), st.characters(max_codepoint=255))
def test_any_changed_character_of_a_signature_is_refused(at, character):
    """Wherever it stands."""
    changed = AMARA.signature[:at] + character + AMARA.signature[at + 1 :]
    if changed != AMARA.signature:
        with pytest.raises(ApprovalError, match=r"approval by Amara is not valid|No signed approval"):
            judge(PRIYA, replace(AMARA, signature=changed))


@pytest.mark.parametrize("text", ["{}", "[]", "", "x", "[" * 100_000])
def test_what_is_no_statement_is_refused(text):
    """Signed or not."""
    signature = key_of("amara").sign(APPROVAL, text.encode())
    with pytest.raises(ApprovalError, match="What was signed"):
        judge(
            PRIYA, replace(AMARA, signed_text=text, signature=signature, statement_digest=digest_bytes(text.encode()))
        )


def test_approval_that_stands_longer_than_its_request_is_refused():
    """Whoever signs by hand cannot give more than the request has."""
    with pytest.raises(ApprovalError, match="is valid for longer than its request"):
        judge(PRIYA, approval("amara", Team.FINANCE, expires_at=REQUEST.expires_at + timedelta(seconds=1)))


# ---------------------------------------------------------------------------------------------------- the keys

STRANGER = key_of("a stranger")
LATER = AT + timedelta(hours=1)


@pytest.mark.parametrize(
    ("finance", "registry", "why"),
    [
        (approval("amara", Team.FINANCE, key=STRANGER), signers(), "is not in allowed_signers"),
        (approval("amara", Team.FINANCE, key=key_of("lucia")), signers(), "is lucia@x.example's, not amara@x.example"),
        (approval("amara", Team.FINANCE, key=key_of("priya")), signers(), "is priya@x.example's, not amara@x.example"),
        (approval("amara", Team.FINANCE, namespace=SEAL), signers(), "was made for 'seal@manual-payout'"),
        (AMARA, signers(amara={"namespaces": (SEAL,)}), "is for seal@manual-payout, not for approval@"),
        (AMARA, signers(revoked=["amara"]), "was revoked"),
        (AMARA, signers(amara={"valid_before": AT}), "expired at 2026-03-02 03:00"),
        (AMARA, signers(amara={"valid_before": LATER}), "expired at 2026-03-02 04:00"),
        (AMARA, signers(amara={"valid_after": AT + timedelta(seconds=1)}), "is valid from"),
        (replace(AMARA, signature=PRIYA.signature), signers(), "is priya@x.example's"),
        (replace(AMARA, signature=approval("amara", Team.FINANCE, LATER).signature), signers(), "not fit these bytes"),
        (replace(AMARA, signature=""), signers(), "No signed approval by Finance"),
        (replace(AMARA, signature="", signed_text=""), signers(), "No signed approval by Finance"),
    ],
)  # fmt: skip
def test_signature_that_proves_nothing_is_refused_with_the_reason(finance, registry, why):
    """Unknown, another's, for another purpose, revoked, ended before or since, too early, copied, or none at all."""
    with pytest.raises(ApprovalError, match=why) as caught:
        judge(PRIYA, finance, at=LATER, registry=Registry(PEOPLE, "approvers.toml", registry))

    assert caught.value.remedy


def test_approvals_stand_no_longer_than_their_keys():
    """What is judged now may be relied on until the first key ends, even where both approvals last longer."""
    registry = Registry(PEOPLE, "approvers.toml", signers(amara={"valid_before": LATER}))

    assert LATER == judge(PRIYA, AMARA, registry=registry).stand_until


def test_key_that_was_replaced_does_not_hinder_its_successor():
    """The old line has ended, the new one stands."""
    entries = signers(amara={"valid_before": AT}).entries
    fresh = AllowedSigner("amara@x.example", (APPROVAL,), STRANGER.public_key, AT)
    both = AllowedSigners((*entries, fresh), frozenset(), "allowed_signers")
    made = approval("amara", Team.FINANCE, key=STRANGER)

    assert made == judge(PRIYA, made, registry=Registry(PEOPLE, "approvers.toml", both)).finance


def test_one_key_never_counts_twice():
    """Also where a registry were to let two people have it."""

    class Lax(AllowedSigners):
        def judge(self, key, principal, namespace, at):
            """Everybody may."""

    made = approval("amara", Team.FINANCE, key=key_of("priya"))
    with pytest.raises(ApprovalError, match="Priya and Amara are signed with one key"):
        judge(PRIYA, made, registry=Registry(PEOPLE, "approvers.toml", Lax(signers().entries, frozenset(), "x")))


def test_unsigned_approval_does_not_hinder_a_signed_one():
    """What was given before approvals were signed is passed over."""
    old = replace(approval("lucia", Team.FINANCE, AT), signature="", signed_text="", statement_digest="x")

    assert AMARA == judge(PRIYA, AMARA, old).finance


@given(
    st.lists(
        st.tuples(
            st.sampled_from([one.person_id for one in PEOPLE]),
            st.sampled_from(list(Team)),
            st.integers(min_value=-300, max_value=10),
        ),
        max_size=6,
    ),
    st.sampled_from(["tomas", "noor", "priya", "amara"]),
)
def test_whatever_was_given_two_different_people_of_two_teams_stand_or_none(given_by, operator):
    """No combination of people, teams and times lets fewer than two fitting people through."""
    made = [approval(who, team, AT + timedelta(minutes=minutes)) for who, team, minutes in given_by]
    try:
        found = judge(*made, operator=operator)
    except ApprovalError:
        return
    people = (found.payments_ops_person, found.finance_person)

    assert ["payments_ops", "finance"] == [one.teams[0] for one in people]
    assert not {REQUEST.requested_by, operator} & {one.person_id for one in people}
    assert all("approve" in one.may and one.valid_at(AT) for one in people)
    assert all(one.approved_at <= AT < one.expires_at for one in (found.payments_ops, found.finance))


def test_newest_approval_of_a_team_counts():
    """One that was given again after it expired stands in place of the first."""
    later = approval("lucia", Team.FINANCE, AT + timedelta(hours=5))
    again = approval("priya", Team.PAYMENTS_OPS, AT + timedelta(hours=5))
    found = judge(PRIYA, AMARA, later, again, at=AT + timedelta(hours=6))

    assert ("lucia", again) == (found.finance_person.person_id, found.payments_ops)


def test_what_was_approved_later_does_not_count_earlier():
    """The same approvals, judged at the time of the first ones, are the first ones."""
    later = approval("lucia", Team.FINANCE, AT + timedelta(hours=5))

    assert AMARA == judge(PRIYA, AMARA, later).finance


# ---------------------------------------------------------------------------------------------- giving one


def say_yes(scene, who, *, amount=incident.AMOUNT, last4=LAST4, request=None, lifetime_s=3600, key=None):
    person = scene.desk.registry.find(who)
    signs = person is not None and scene.desk.registry.signers.keys_for(person.email, APPROVAL, scene.desk.now())
    return approve(
        scene.desk.store, scene.desk.registry, request or scene.request, approver=who, amount=amount,
        destination_last4=last4, shown=shown_to_approver(scene.desk, request or scene.request),
        rules=RequestPolicy.model_construct(approval_lifetime_s=lifetime_s), key=key or (sandbox_key(person.handle) if signs else STRANGER),
    )  # fmt: skip


@pytest.fixture(name="filed")
def _filed(any_scene):
    """A request that nobody has approved yet."""
    any_scene.request = any_scene.file(notes="fresh", replace=True)
    return any_scene


def test_yes_is_recorded_and_told(filed):
    """The row, what was signed, its end, and an event by the approver with statement and signature."""
    made = say_yes(filed, "priya")
    told = filed.desk.store.find_event(STREAM, "approved")

    assert [made] == given_approvals(filed.desk.store, filed.request)
    assert (made.approver_id, made.told()) == (told.actor, told.data)
    assert canonical_json(told.data["statement"]) == made.signed_text
    assert statement_of(filed.request, made) == told.data["statement"]
    assert (filed.request.digest, Team.PAYMENTS_OPS) == (made.request_digest, made.team)
    assert made.expires_at == made.approved_at + timedelta(hours=1)


@pytest.mark.parametrize(
    "name", ["priya", "PRIYA", "priya.raman@marketplace.example", "71d4a0f8-2b9e-4c65-9e18-6c05d7b3f204"]
)
def test_one_person_counts_once_by_whatever_name(scene, name):
    """Handle, email and id are the same person, who has approved already."""
    with pytest.raises(ApprovalError, match="approved this request at"):
        say_yes(scene, name)


def test_same_person_approves_again_once_the_first_expired(scene):
    """After its end an approval can be given anew."""
    scene.pass_time(hours=5)

    assert "priya" == scene.desk.registry.find(say_yes(scene, "priya").approver_id).handle


def test_approval_never_outlives_its_request(scene):
    """However long its lifetime."""
    request = scene.file(notes="fresh", replace=True)

    assert request.expires_at == say_yes(scene, "priya", request=request, lifetime_s=10**7).expires_at


@pytest.mark.parametrize(
    ("who", "error"),
    [("tomas", ApprovalError), ("maya", ApprovalError), ("greta", ApprovalError), ("nobody", ParameterError)],
)
def test_who_may_not_approve_is_told_why(scene, who, error):
    """Operators, requesters, leavers and strangers."""
    before = len(scene.desk.store.approvals_of(scene.request.request_id))
    with pytest.raises(error) as caught:
        say_yes(scene, who)

    assert caught.value.remedy
    assert before == len(scene.desk.store.approvals_of(scene.request.request_id))


def test_requester_who_is_an_approver_may_not_approve(scene):
    """Whoever filed it cannot also say yes to it."""
    request = replace(scene.request, requested_by=scene.desk.registry.find("jonas").person_id)
    with pytest.raises(ApprovalError, match="filed this request"):
        say_yes(scene, "jonas", request=request)


@pytest.mark.parametrize(
    "amount", ["", "1250.7", "1250.76", "1.250,75", "125075", "1250.75 EUR", "12,50.75", "１２５０.75"]
)
def test_amount_has_to_be_typed_as_shown(scene, amount):
    """What was not read cannot be typed; nothing is recorded."""
    with pytest.raises(ParameterError, match="amount"):
        say_yes(scene, "jonas", amount=amount)


@pytest.mark.parametrize("last4", ["", "123", "acct_123", "_124", "_123 4"])
def test_destination_has_to_be_typed_as_shown(scene, last4):
    """The last four characters, no more and no fewer."""
    with pytest.raises(ParameterError, match="destination-last4"):
        say_yes(scene, "jonas", last4=last4)


def test_withdrawn_or_expired_request_is_not_approved(scene):
    """There is nothing to say yes to."""
    first, second = scene.request, scene.file(notes="fresh", replace=True)
    with pytest.raises(ApprovalError, match="withdrawn"):
        say_yes(scene, "jonas", request=first)
    scene.pass_time(hours=24)
    with pytest.raises(ApprovalError, match="expired"):
        say_yes(scene, "jonas", request=second)


def test_approval_that_the_journal_does_not_tell_of_is_refused(filed):
    """A row by itself is not an approval."""
    made = say_yes(filed, "priya")
    filed.tamper("UPDATE approvals SET statement_digest = 'x' WHERE approval_id = :id", id=made.approval_id)

    with pytest.raises(ApprovalError, match="never given"):
        given_approvals(filed.desk.store, filed.request)


def test_recording_one_approval_twice_is_refused(filed):
    """The database refuses a second row with the same nonce, in a sentence."""
    made = say_yes(filed, "priya")

    with pytest.raises(ApprovalError, match="a moment ago"):
        filed.desk.store.record_approval(replace(made, approval_id="x"), filed.request)


@pytest.mark.parametrize(
    ("who", "key", "why"),
    [
        ("jonas", STRANGER, "is not in allowed_signers"),
        ("jonas", sandbox_key("amara"), "is amara.diallo@marketplace.example's, not jonas"),
        ("lucia", sandbox_key("greta"), "is greta.nystrom@marketplace.example's"),
        ("jonas", sandbox_key("tomas"), "is tomas.lindqvist@marketplace.example's"),
    ],
)
def test_yes_with_a_key_that_is_not_theirs_is_not_recorded(scene, who, key, why):
    """Identity is the key, not the name that was typed."""
    with pytest.raises(ApprovalError, match=why):
        say_yes(scene, who, key=key)

    assert 2 == len(scene.desk.store.approvals_of(scene.request.request_id))


def test_yes_that_was_given_unsigned_can_be_given_again(filed):
    """After the migration the same person approves anew at once."""
    made = say_yes(filed, "priya")
    filed.tamper("UPDATE approvals SET signature = '', signed_text = '' WHERE approval_id = :id", id=made.approval_id)
    again = say_yes(filed, "priya")

    assert again.signature


def test_yes_by_a_key_that_was_revoked_since_can_be_given_again(scene):
    """The revoked one counts no more and hinders nobody; the fresh key stands, with a line of its own."""
    registry, priya = scene.desk.registry, scene.desk.registry.find("priya")
    fresh = AllowedSigner(priya.email, (APPROVAL,), STRANGER.public_key)
    before = registry.signers
    registry.signers = AllowedSigners((*before.entries, fresh), frozenset([sandbox_key("priya").public_key]), "f")
    made = say_yes(scene, "priya", key=STRANGER)
    given = given_approvals(scene.desk.store, scene.request)
    found = check_approvals(
        scene.request, given, registry, RequestPolicy(), operator_id=scene.operator.person_id, at=scene.desk.now()
    )

    assert made == found.payments_ops


# ---------------------------------------------------------------------------------------------- by hand


@required("ssh-keygen")
def test_command_of_the_documentation_checks_an_approval_with_stock_openssh(scene, tmp_path):
    """As it stands in docs/approvals.md, on the files that the verification keeps; and not after one byte was changed."""
    given = scene.desk.store.approvals_of(scene.request.request_id)
    folder = Folder(tmp_path / "folder", scene.desk.redactor)
    keep_approvals(folder, "approvals.json", given)
    (file,) = folder.path.glob("approval-payments_ops-*.json")
    shown = re.search(r"\$ (ssh-keygen -Y verify (?:.*\\\n)+.*)", (DOCS / "approvals.md").read_text())[1]
    command = re.sub(r"\\\n\s*", "", re.sub(r"approval-payments_ops-[0-9a-f]{8}\.json", file.name, shown))
    command = re.sub(r"verify-time=\S+", f"verify-time={given[0].approved_at:%Y%m%d%H%M%SZ}", command)
    for name in ("allowed_signers", "revoked_keys"):
        (folder.path / name).write_text((DEMO / name).read_text())
    good = openssh("sh", "-c", command, cwd=folder.path)
    (folder.path / "revoked_keys").write_text(f"{sandbox_key('priya').public_key.text} lost\n")
    revoked = openssh("sh", "-c", command, cwd=folder.path)
    (folder.path / "revoked_keys").write_text("")
    file.write_text(file.read_text().replace("125075", "925075"))
    bad = openssh("sh", "-c", command, cwd=folder.path)

    assert (0, 255, 255) == (good.returncode, bad.returncode, revoked.returncode), good.stderr
    assert good.stdout.startswith(b'Good "approval@manual-payout" signature for priya.raman@marketplace.example with')


# ---------------------------------------------------------------------------------------------- what is shown


def test_approver_sees_earlier_manual_payouts_and_how_fresh_the_destination_is(scene):
    """What would make somebody look twice: the last ones by amount and date, and an account that was changed today."""
    shown = dict(shown_to_approver(scene.desk, scene.request).tables[1].rows)
    scene.send()
    later = dict(shown_to_approver(scene.desk, scene.request).tables[1].rows)
    name = "earlier manual payouts to this studio"

    assert ("0", "1: 1,250.75 USD on 2026-03-02, paid") == (shown[name], later[name])
    assert re.fullmatch(r"never|\d{4}-\d\d-\d\d, (today|\d+ days ago)", shown["destination last changed"])
