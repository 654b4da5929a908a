"""
Approvals of one exact request: made, and judged.

Two people of two teams, neither of them the requester or the operator, each within the lifetime of the approval, each
over the digest of the request as filed. Whoever judges asks again at the moment of sending (design, rule 1).
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from manual_payout.canonical import digest_of
from manual_payout.errors import ApprovalError, ParameterError
from manual_payout.models import Approval, Mode, Request, Team, stream_of
from manual_payout.people import Person, Registry
from manual_payout.store import Store

_ASK = "Ask {team} to run `manual-payout approve {incident} --as …`."


@dataclass(frozen=True, slots=True)
class Approved:
    """The two approvals that stand, and who gave them."""

    payments_ops: Approval
    finance: Approval
    payments_ops_person: Person
    finance_person: Person

    @property
    def stand_until(self) -> datetime:
        """When the first of the two expires."""
        return min(self.payments_ops.expires_at, self.finance.expires_at)

    @property
    def approval_ids(self) -> tuple[str, str]:
        """Of Payments Ops and of Finance."""
        return self.payments_ops.approval_id, self.finance.approval_id

    def __str__(self) -> str:
        return f"{self.payments_ops_person.name} (Payments Ops), {self.finance_person.name} (Finance)"


def approve(
    store: Store,
    registry: Registry,
    request: Request,
    *,
    approver: str,
    amount: str,
    destination_last4: str,
    lifetime_s: int,
) -> Approval:
    """
    Record one approver's yes.

    Args:
        approver: Id, handle or email of a registered approver.

        amount: As the approver typed it, in major units.

        destination_last4: The last four characters of the destination as the approver typed them.

        lifetime_s: For how long the approval stands.

    Raises:
        ParameterError: What was typed is not what the request says.

        ApprovalError: This person may not approve this request, has already, or it is no longer in force.
    """
    now = store.clock.now()
    person = registry.get_allowed(approver, "approve", now, field="as")
    team = _check_person(request, person)
    _check_open(store, request, now)
    _check_typed(request, amount, destination_last4)
    standing = [
        a for a in store.approvals_of(request.request_id) if a.approver_id == person.person_id and a.expires_at > now
    ]
    if standing:
        raise ApprovalError(
            f"{person.name} approved this request at {standing[-1].approved_at:%H:%M} UTC already.",
            "Ask the other team; one person counts once.",
        )
    approval = _build(request, person, team, now, lifetime_s, number=len(store.approvals_of(request.request_id)))
    store.record_approval(approval, request)
    return approval


def given_approvals(store: Store, request: Request) -> list[Approval]:
    """
    Return the approvals of *request* that the journal tells of, oldest first.

    Raises:
        ApprovalError: One stands in the table that was never given: the journal has no event of it.

        EvidenceError: The journal is broken.
    """
    told = [
        (event.actor, event.data["statement"])
        for event in store.events_of(stream_of(request.incident_id, request.lines[0].ledger_payout_id))
        if event.kind == "approved"
    ]
    given = store.approvals_of(request.request_id)
    for approval in given:
        if (approval.approver_id, approval.statement()) not in told:
            raise ApprovalError(
                f"Approval {approval.approval_id} was altered, or was never given through `manual-payout approve`.",
                "Stop, keep the database as it is and call Security.",
            )
    return given


def check_approvals(
    request: Request,
    approvals: Iterable[Approval],
    registry: Registry,
    *,
    operator_id: str,
    at: datetime,
) -> Approved:
    """
    Find the two approvals that allow *request* to be sent by *operator_id* at *at*.

    Raises:
        ApprovalError: One is missing, expired, altered, over another digest, or by somebody who may not.
    """
    approvals = list(approvals)
    for approval in approvals:
        _check_statement(request, approval)
    found = {team: _newest_of(request, approvals, team, at) for team in Team}
    people = {team: _check_approver(request, approval, registry, operator_id, at) for team, approval in found.items()}
    if people[Team.PAYMENTS_OPS].person_id == people[Team.FINANCE].person_id:
        raise ApprovalError(f"Both approvals are by {people[Team.FINANCE].name}.", "A second person has to approve.")
    return Approved(
        found[Team.PAYMENTS_OPS], found[Team.FINANCE], people[Team.PAYMENTS_OPS], people[Team.FINANCE]
    )  # fmt: skip


def _check_person(request: Request, person: Person) -> Team:
    team = person.approving_team()
    if team is None:
        raise ApprovalError(f"{person.name} is in neither Payments Ops nor Finance.", "Ask somebody who is.")
    if person.person_id == request.requested_by:
        raise ApprovalError(
            f"{person.name} filed this request and cannot approve it.", "Ask somebody else of the team."
        )
    return team


def _check_open(store: Store, request: Request, now: datetime) -> None:
    if store.is_withdrawn(request):
        raise ApprovalError(f"Request {request.request_id} was withdrawn.", "Approve the one that replaced it.")
    if now >= request.expires_at:
        raise ApprovalError(
            f"Request {request.request_id} expired at {request.expires_at:%Y-%m-%d %H:%M} UTC.", "Have it filed again."
        )


def _check_typed(request: Request, amount: str, destination_last4: str) -> None:
    line = request.line
    if amount.strip() != line.amount.text:
        raise ParameterError(
            "amount",
            amount,
            "exactly the amount you were shown",
            "Look again at amount and currency; if it is wrong, do not approve.",
        )
    if destination_last4.strip() != line.destination_account[-4:]:
        raise ParameterError(
            "destination-last4", destination_last4, "the last four characters of the destination you were shown",
            "Look again at the destination; if it is wrong, do not approve.",
        )  # fmt: skip


def _build(request: Request, person: Person, team: Team, now: datetime, lifetime_s: int, *, number: int) -> Approval:
    # In the sandbox the same story gives the same ids, so that notebooks can be compared; elsewhere nobody can guess.
    sandbox = digest_of({"request": request.digest, "approver": person.person_id, "number": number})[:32]
    nonce = sandbox if request.mode is Mode.SANDBOX else secrets.token_hex(16)
    approval = Approval(
        approval_id=str(uuid.uuid5(uuid.NAMESPACE_OID, f"approval {request.digest} {nonce}")),
        request_id=request.request_id,
        request_digest=request.digest,
        approver_id=person.person_id,
        team=team,
        mode=request.mode,
        platform_account=request.platform_account,
        nonce=nonce,
        approved_at=now,
        expires_at=min(now + timedelta(seconds=lifetime_s), request.expires_at),
        statement_digest="",
    )
    return replace(approval, statement_digest=digest_of(approval.statement()))


def _check_statement(request: Request, approval: Approval) -> None:
    if digest_of(approval.statement()) != approval.statement_digest:
        raise ApprovalError(
            f"Approval {approval.approval_id} was altered after it was given.",
            "Stop, keep the database as it is and call Security.",
        )
    bound = (approval.request_id, approval.request_digest, approval.mode, approval.platform_account)
    if bound != (request.request_id, request.digest, request.mode, request.platform_account):
        raise ApprovalError(
            f"Approval {approval.approval_id} is for another request, account or mode.",
            "Have this exact request approved.",
        )


def _newest_of(request: Request, approvals: list[Approval], team: Team, at: datetime) -> Approval:
    # What was approved later than the instant in question says nothing about it.
    of_team = [approval for approval in approvals if approval.team is team and approval.approved_at <= at]
    name = "Payments Ops" if team is Team.PAYMENTS_OPS else "Finance"
    if not of_team:
        raise ApprovalError(f"No approval by {name}.", _ASK.format(team=name, incident=request.incident_id))
    newest = max(of_team, key=lambda approval: approval.approved_at)
    if at >= newest.expires_at:
        raise ApprovalError(
            f"The approval by {name} expired at {newest.expires_at:%Y-%m-%d %H:%M} UTC.",
            _ASK.format(team=name, incident=request.incident_id),
        )
    return newest


def _check_approver(request: Request, approval: Approval, registry: Registry, operator_id: str, at: datetime) -> Person:
    person = registry.find(approval.approver_id)
    if (
        person is None
        or "approve" not in person.may
        or not person.valid_at(at)
        or person.approving_team() is not approval.team
    ):
        name = person.name if person else approval.approver_id
        raise ApprovalError(
            f"{name} may not approve for {approval.team} now.", "Ask somebody whom the registry allows to."
        )
    if person.person_id == request.requested_by:
        raise ApprovalError(f"{person.name} filed this request and approved it.", "Ask somebody else of the team.")
    if person.person_id == operator_id:
        raise ApprovalError(
            f"{person.name} approved this request and cannot also run it.", "Another operator has to run it."
        )
    return person
