"""Two people of two teams say yes to one exact request, each once, each for a while."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from desks import LAST4, STREAM
from manual_payout.approvals import approve, check_approvals, given_approvals
from manual_payout.canonical import digest_of
from manual_payout.demo import incident
from manual_payout.errors import ApprovalError, ParameterError
from manual_payout.models import Approval, Kind, Line, Mode, Reason, Request, Team
from manual_payout.money import Money
from manual_payout.people import Person, Registry

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
REGISTRY = Registry(PEOPLE, "approvers.toml")


def approval(who, team, at=AT, **changes):
    """An approval as `approve` makes it, some of it changed before it was signed."""
    made = Approval(
        f"approval-{who}-{at:%H%M}", REQUEST.request_id, REQUEST.digest, who, team, REQUEST.mode, REQUEST.platform_account,
        f"nonce-{who}-{at:%H%M}", at, at + LIFETIME, "",
    )  # fmt: skip
    made = replace(made, **changes)
    return replace(made, statement_digest=digest_of(made.statement()))


PRIYA, AMARA = approval("priya", Team.PAYMENTS_OPS), approval("amara", Team.FINANCE)


def judge(*approvals, operator="tomas", at=AT, registry=REGISTRY):
    return check_approvals(REQUEST, approvals, registry, operator_id=operator, at=at)


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
    "expires_at": AT + timedelta(days=9), "statement_digest": "x",
}  # fmt: skip


def test_every_field_of_an_approval_has_another_value_here():
    """A new field has to be added to the table; the signature is over the statement and not part of it."""
    assert {one.name for one in fields(Approval)} - {"signature"} == set(OTHER)


@pytest.mark.parametrize("name", OTHER)
def test_altered_approval_is_refused_whatever_was_altered(name):
    """Each field is under the digest that was recorded when it was given."""
    with pytest.raises(ApprovalError):
        judge(PRIYA, replace(AMARA, **{name: OTHER[name]}))


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


def say_yes(scene, who, *, amount=incident.AMOUNT, last4=LAST4, request=None, lifetime_s=3600):
    return approve(
        scene.desk.store, scene.desk.registry, request or scene.request, approver=who, amount=amount,
        destination_last4=last4, lifetime_s=lifetime_s,
    )  # fmt: skip


@pytest.fixture(name="filed")
def _filed(any_scene):
    """A request that nobody has approved yet."""
    any_scene.request = any_scene.file(notes="fresh", replace=True)
    return any_scene


def test_yes_is_recorded_and_told(filed):
    """The row, its digest, its end, and an event by the approver with the whole statement."""
    made = say_yes(filed, "priya")
    told = filed.desk.store.find_event(STREAM, "approved")

    assert [made] == given_approvals(filed.desk.store, filed.request)
    assert (made.approver_id, made.statement()) == (told.actor, told.data["statement"])
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


@pytest.mark.parametrize("amount", ["", "1250.7", "1250.76", "1,250.75", "125075", "1250.75 USD", "１２５０.75"])
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
    filed.tamper("UPDATE approvals SET nonce = 'x', approval_id = 'x' WHERE approval_id = :id", id=made.approval_id)

    with pytest.raises(ApprovalError, match="never given"):
        given_approvals(filed.desk.store, filed.request)


def test_recording_one_approval_twice_is_refused(filed):
    """The database refuses a second row with the same nonce, in a sentence."""
    made = say_yes(filed, "priya")

    with pytest.raises(ApprovalError, match="a moment ago"):
        filed.desk.store.record_approval(replace(made, approval_id="x"), filed.request)
