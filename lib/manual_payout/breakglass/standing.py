"""Whether one approval stands under break-glass: asked in the verification, and again inside the send."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from manual_payout.approvals import Approved, check_approval_of, check_approvals, difference, given_approvals, keys_end
from manual_payout.breakglass.statement import check_signed, declaration_in, page_key, statement_of, unsigned
from manual_payout.canonical import canonical_json
from manual_payout.desk import Desk
from manual_payout.errors import ApprovalError, SignatureError
from manual_payout.models import Approval, Declaration, Event, Kind, Request, Team, stream_of
from manual_payout.money import Money
from manual_payout.people import Person, Registry
from manual_payout.settings import BreakGlassPolicy
from manual_payout.store import message_id

_SECURITY = "Stop, keep the database as it is and call Security."


@dataclass(frozen=True, slots=True)
class Glass:
    """
    One declaration and what the journal tells of it.

    Attributes:
        told_at: When the journal was told, by the clock that judges.

        paged_at: When PagerDuty took the page to the owner; None while that is not on record.

        stopped_at: When the owner stopped it, or None.
    """

    declaration: Declaration
    told_at: datetime
    paged_at: datetime | None
    stopped_at: datetime | None

    def opens_at(self, hold_s: int) -> datetime | None:
        """Say from when on something may be sent under a hold; None before the owner is paged, who needs that time."""
        if self.paged_at is None:
            return None
        begun = max(self.told_at, self.declaration.declared_at, self.paged_at)
        return begun + timedelta(seconds=max(hold_s, self.declaration.hold_s))


@dataclass(frozen=True, slots=True)
class UnderGlass:
    """
    The one approval that stands, and the declaration that lets it stand alone.

    Attributes:
        stand_until: When the approval, the declaration, or a key they are signed with expires first.
    """

    approval: Approval
    person: Person
    declaration: Declaration
    stand_until: datetime

    @property
    def approval_ids(self) -> tuple[str, str]:
        """Of Payments Ops and of Finance; the declaration stands in the place of the missing one, and so can be used once."""
        return self._places(self.approval.approval_id, self.declaration.declaration_id)

    @property
    def approver_ids(self) -> tuple[str, str]:
        """The people, of Payments Ops and of Finance; for the missing team nobody."""
        return self._places(self.person.person_id, "")

    def told(self) -> dict[str, Any]:
        """What the journal is told of them."""
        return {"approval_ids": [self.approval.approval_id], "break_glass": self.declaration.declaration_id}

    def __str__(self) -> str:
        missing = self.declaration.missing
        return f"{self.person.name} ({missing.other.label}) ALONE, under break-glass; {missing.label} has not approved"

    def _places(self, own: str, missing: str) -> tuple[str, str]:
        return (missing, own) if self.declaration.missing is Team.PAYMENTS_OPS else (own, missing)


Standing = Approved | UnderGlass


def standing(desk: Desk, request: Request, *, operator_id: str, at: datetime, begun: bool = False) -> Standing:
    """
    Return what allows *request* to be sent by *operator_id* at *at*: both approvals, else one under break-glass.

    Args:
        begun: Whether *at* lies in the past, when the sending began: then what was declared and allowed by that time
            counts, whatever the policy says now. Whoever sends asks about the present.

    Raises:
        ApprovalError: Neither stands.

        EvidenceError: The journal is broken.
    """
    given = given_approvals(desk.store, request)
    try:
        return check_approvals(request, given, desk.registry, operator_id=operator_id, at=at)
    except ApprovalError as error:
        # Only a missing approval is what break-glass is for; one that is there and wrong stays wrong.
        glass = _glass_at(desk, request, at if begun else None) if error.absent else None
        if glass is None or glass.declaration.missing.value != error.absent:
            raise
    team = glass.declaration.missing.other
    alone, person, until = check_approval_of(team, request, given, desk.registry, operator_id=operator_id, at=at)
    policy = _as_declared(request, glass) if begun else desk.settings.policy.break_glass
    return check_glass(
        request, glass, alone, person, policy, desk.registry, operator_id=operator_id, at=at, until=until
    )


def check_glass(
    request: Request,
    glass: Glass,
    approval: Approval,
    person: Person,
    policy: BreakGlassPolicy,
    registry: Registry,
    *,
    operator_id: str,
    at: datetime,
    until: datetime,
) -> UnderGlass:
    """
    Check every condition under which *approval*, which stands, may stand alone. Pure.

    Args:
        person: Who gave the approval.

        until: When the approval ends.

    Raises:
        ApprovalError: One does not hold; the sentence says which.
    """
    declared, ask = glass.declaration, f"Have {glass.declaration.missing.label} approve."
    if request.kind is not Kind.TRANSFER:
        raise ApprovalError("A reversal is never made under break-glass.", ask)
    if not policy.enabled:
        raise ApprovalError("The policy does not allow break-glass (break_glass.enabled).", ask)
    _check_declared(request, glass, approval, person)
    try:
        key = check_signed(declared.signed_text, declared.signature, person, registry, declared.declared_at, at)
    except SignatureError as error:
        raise unsigned(error, person.name) from error
    _check_people(request, declared, operator_id, registry)
    _check_owner(registry, declared.owner_id, at, ask)
    check_cap(request, policy, declared.limit_minor)
    _check_time(glass, policy, at, registry.name_of(declared.owner_id), ask)
    return UnderGlass(approval, person, declared, min([until, declared.expires_at, *keys_end(registry, [key])]))


def glass_of(request: Request, events: Sequence[Event]) -> Glass | None:
    """
    Return the newest declaration for *request* in its journal, or None.

    Raises:
        ApprovalError: There is one that cannot be read.
    """
    told = [e for e in events if e.kind == "break_glass_declared" and e.data.get("request_id") == request.request_id]
    return _glass(told[-1], request, events) if told else None


def glass_named(declaration_id: str, request: Request, events: Sequence[Event]) -> Glass | None:
    """Return the declaration of that id for *request*, however old it is, or None."""
    told = [e for e in events if e.kind == "break_glass_declared" and e.data.get("declaration_id") == declaration_id]
    return _glass(told[0], request, events) if told else None


def _glass(told: Event, request: Request, events: Sequence[Event]) -> Glass:
    declared = declaration_in(told.data, request)
    page = message_id(page_key(declared.declaration_id))
    paged = (e.at for e in events if e.kind == "message_delivered" and e.data.get("message_id") == page)
    stops = (
        e.at
        for e in events
        if e.kind == "break_glass_stopped" and e.data.get("declaration_id") == declared.declaration_id
    )
    return Glass(declared, told.at, next(paged, None), next(stops, None))


def describe(glass: Glass, registry: Registry) -> str:
    """Say in words what was declared, by whom, until when, and where it stands."""
    declared = glass.declaration
    opens = glass.opens_at(declared.hold_s)
    page = f"paged, held until {opens:%H:%M} UTC" if opens else "NOT PAGED yet"
    return (
        f"{registry.name_of(declared.declarer_id)} declared at {declared.declared_at:%Y-%m-%d %H:%M} UTC that "
        f"{declared.missing.label} cannot be reached: {declared.because}; owner {registry.name_of(declared.owner_id)} "
        f"{page}; {'STOPPED by the owner' if glass.stopped_at else f'ends {declared.expires_at:%H:%M} UTC'}"
    )


def check_cap(request: Request, policy: BreakGlassPolicy, stated: int | None = None) -> int:
    """
    Check the amount against the cap of the policy, and against the one that was *stated* when it was declared.

    Returns:
        The policy's cap in minor units.

    Raises:
        ApprovalError: It is above, or the currency has no cap.
    """
    amount = request.line.amount
    limit = policy.amount_minor_max.get(amount.currency)
    if limit is None:
        raise ApprovalError(
            f"Break-glass has no cap for {amount.currency.upper()}, so it is not allowed in it.",
            "Have the other team approve.",
        )
    least = limit if stated is None else min(limit, stated)
    if amount.amount_minor > least:
        raise ApprovalError(
            f"{amount.grouped} is above the cap of break-glass, {Money(least, amount.currency).grouped}.",
            "Have the other team approve.",
        )
    return limit


def _check_declared(request: Request, glass: Glass, approval: Approval, person: Person) -> None:
    declared = glass.declaration
    expected = statement_of(request, declared)
    if declared.signed_text != canonical_json(expected):
        raise ApprovalError(
            f"What was declared for break-glass is not about this request as filed: "
            f"{difference(declared.signed_text, expected)}.",
            _SECURITY,
        )
    if declared.missing is not approval.team.other:
        raise ApprovalError("Break-glass was declared for the team that has approved.", "Declare it again.")
    if (declared.declarer_id, declared.approval_id) != (person.person_id, approval.approval_id):
        raise ApprovalError(
            f"Break-glass was not declared by {person.name} for the approval that stands.",
            f"Have {person.name} declare it, or the other team approve.",
        )
    if not approval.approved_at <= declared.declared_at < declared.expires_at <= approval.expires_at:
        raise ApprovalError("The break-glass declaration stands at other times than its approval.", _SECURITY)


def _check_people(request: Request, declared: Declaration, operator_id: str, registry: Registry) -> None:
    if declared.declarer_id in (request.requested_by, operator_id):
        name = registry.name_of(declared.declarer_id)
        raise ApprovalError(
            f"{name} declared break-glass and cannot also have filed or run it.", "Another operator has to run it."
        )
    if declared.owner_id in (declared.declarer_id, request.requested_by, operator_id):
        name = registry.name_of(declared.owner_id)
        raise ApprovalError(
            f"{name} is paged as the owner of break-glass and cannot also have filed, declared or run it.",
            "Somebody else has to, or the policy names another owner (break_glass.owner).",
        )


def _check_owner(registry: Registry, owner_id: str, at: datetime, ask: str) -> None:
    owner = registry.find(owner_id)
    if owner is None or not owner.valid_at(at):
        raise ApprovalError(
            f"{registry.name_of(owner_id)}, who was paged as the owner of break-glass, is not in force, and could not stop it.",
            ask,
        )


def _check_time(glass: Glass, policy: BreakGlassPolicy, at: datetime, owner: str, ask: str) -> None:
    declared = glass.declaration
    if glass.stopped_at is not None:
        raise ApprovalError(f"{owner} stopped break-glass at {glass.stopped_at:%Y-%m-%d %H:%M} UTC.", ask)
    if not declared.declared_at <= at < declared.expires_at:
        raise ApprovalError(
            f"The break-glass declaration ended at {declared.expires_at:%Y-%m-%d %H:%M} UTC.",
            "Approve and declare it again, or have the other team approve.",
        )
    opens = glass.opens_at(policy.hold_s)
    if opens is None:
        raise ApprovalError(
            f"The page to {owner} is not on record as delivered, so break-glass does not count yet.",
            "Run `manual-payout deliver --now`, or `--refused` where PagerDuty refused it; the hold begins with the page.",
        )
    if at < opens:
        raise ApprovalError(
            f"Break-glass is held back until {opens:%Y-%m-%d %H:%M:%S} UTC, so that {owner} can stop it.",
            "Wait until then and run the same command again; or have the other team approve.",
        )


def _glass_at(desk: Desk, request: Request, at: datetime | None) -> Glass | None:
    events = desk.store.events_of(stream_of(request.incident_id, request.lines[0].ledger_payout_id))
    return glass_of(request, [event for event in events if at is None or event.at <= at])


def _as_declared(request: Request, glass: Glass) -> BreakGlassPolicy:
    declared = glass.declaration
    return BreakGlassPolicy(
        enabled=True,
        amount_minor_max={request.line.amount.currency: declared.limit_minor},
        hold_s=declared.hold_s,
        owner=declared.owner_id,
    )
