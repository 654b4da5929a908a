"""Declaring break-glass, and stopping it."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from manual_payout.approvals import check_approval_of, check_open, check_typed, given_approvals
from manual_payout.breakglass.standing import Glass, check_cap, check_glass, glass_of
from manual_payout.breakglass.statement import statement_of
from manual_payout.canonical import canonical_json, digest_of
from manual_payout.desk import Desk
from manual_payout.errors import ApprovalError, PolicyRefusedError, SettingsError
from manual_payout.models import Approval, Declaration, Kind, Message, Mode, Request, State, stream_of
from manual_payout.parameters import NOTES_LENGTH_MAX, check_text
from manual_payout.people import Person
from manual_payout.signatures import APPROVAL, SigningKey

_MOVED = (State.PAID, State.PARTLY_REVERSED, State.REVERSED)


def require_enabled(desk: Desk) -> None:
    """
    Check that the policy allows break-glass at all.

    Raises:
        PolicyRefusedError: It does not.
    """
    if not desk.settings.policy.break_glass.enabled:
        raise PolicyRefusedError(
            "The policy does not allow break-glass (break_glass.enabled).",
            "Have the other team approve; docs/approvals.md says what turning it on takes.",
        )


def owner_of(desk: Desk) -> Person:
    """
    Return the person whom the policy names as the owner of break-glass.

    Raises:
        SettingsError: The registry does not know them.

        ApprovalError: Their time in the registry is not now.
    """
    name = desk.settings.policy.break_glass.owner
    person = desk.registry.find(name)
    if person is None:
        raise SettingsError(
            f"break_glass.owner in the policy file is {name!r}, who is nobody in {desk.registry.source}.",
            "Name a person of the registry, by handle.",
        )
    if not person.valid_at(desk.now()):
        raise ApprovalError(
            f"{person.name}, the owner of break-glass, is not in force now.", "Have the policy name another owner."
        )
    return person


def declare(
    desk: Desk,
    request: Request,
    *,
    declarer: str,
    amount: str,
    destination_last4: str,
    because: str,
    key: SigningKey,
    page: Callable[[Declaration], list[Message]],
) -> tuple[Glass, bool]:
    """
    Sign and record one approver's word that nobody of the other team can be reached.

    Args:
        declarer: Id, handle or email of who has approved *request*.

        amount: As typed, in major units.

        destination_last4: The last four characters of the destination, as typed.

        because: Why nobody of the other team can be reached: one line.

        key: The declarer's own.

        page: Writes what the owner is told; recorded in the same transaction.

    Returns:
        The declaration, and whether it is new: one that stands is not made twice.

    Raises:
        ParameterError: What was typed is not what the request says.

        RefusedError: The policy does not allow it, or not for this amount; or this person may not declare it, or need not.

        SettingsError: The policy names an owner whom nobody knows.
    """
    require_enabled(desk)
    because = check_text("because", because, NOTES_LENGTH_MAX)
    now, owner = desk.now(), owner_of(desk)
    person = desk.registry.get_allowed(declarer, "approve", now, field="as")
    if request.kind is not Kind.TRANSFER:
        raise ApprovalError("A reversal is never made under break-glass.", "Have the other team approve it.")
    desk.require_same_world(request)
    check_open(desk.store, request, now)
    check_typed(request, amount, destination_last4)
    _require_nothing_sent(desk, request)
    approval = _own_approval(desk, request, person, now)
    limit = check_cap(request, desk.settings.policy.break_glass)
    glass = _present(desk, request)
    if glass is not None and glass.declaration.approval_id == approval.approval_id:
        return glass, False
    declaration = _signed(request, _build(desk, request, approval, owner, because, limit, now), key)
    _check_made(desk, request, declaration, approval, person, now)
    desk.store.record_declaration(declaration, request, page(declaration))
    made = _present(desk, request)
    assert made is not None, "Bug: a declaration was recorded and is not there"
    return made, True


def stop(desk: Desk, request: Request, *, owner: str, because: str) -> Glass:
    """
    Record the owner's no. It is final for the declaration, and no other is made for the same request.

    Args:
        owner: Id, handle or email of the owner who was paged.

        because: One line for the record; may be empty.

    Raises:
        ApprovalError: There is no declaration, or this person is not the owner who was paged.

        PolicyRefusedError: The money has moved.
    """
    because = check_text("because", because, NOTES_LENGTH_MAX, empty=True)
    stream = stream_of(request.incident_id, request.line.ledger_payout_id)
    glass, person = glass_of(request, desk.store.events_of(stream)), desk.registry.find(owner)
    if glass is None:
        raise ApprovalError(
            f"Break-glass was not declared for request {request.request_id}.", "Run `manual-payout status`."
        )
    declared = glass.declaration
    if person is None or person.person_id != declared.owner_id or not person.valid_at(desk.now()):
        raise ApprovalError(
            f"Only {desk.registry.name_of(declared.owner_id)}, who was paged as its owner, may stop it.",
            "Reach them; or withdraw the request with `manual-payout request --replace`.",
        )
    if glass.stopped_at is not None:
        return glass
    record = desk.store.find_payout(request.line.line_id)
    if record is not None and record.state in _MOVED:
        raise PolicyRefusedError(
            f"The money has moved, {record.stripe_transfer_id}; there is nothing left to stop.",
            "What was a mistake is taken back by `manual-payout reversal request`.",
        )
    data = {"request_id": request.request_id, "declaration_id": declared.declaration_id, "because": because}
    event = desk.store.record_event(stream, "break_glass_stopped", person.person_id, data)
    return replace(glass, stopped_at=event.at)


def _present(desk: Desk, request: Request) -> Glass | None:
    """Return the declaration that is there and not over by itself; one that was stopped allows no other."""
    stream = stream_of(request.incident_id, request.line.ledger_payout_id)
    glass = glass_of(request, desk.store.events_of(stream))
    if glass is not None and glass.stopped_at is not None:
        raise ApprovalError(
            f"{desk.registry.name_of(glass.declaration.owner_id)} stopped break-glass for this request at "
            f"{glass.stopped_at:%Y-%m-%d %H:%M} UTC.",
            f"Have {glass.declaration.missing.label} approve; or file a new request.",
        )
    return glass if glass is not None and desk.now() < glass.declaration.expires_at else None


def _require_nothing_sent(desk: Desk, request: Request) -> None:
    record = desk.store.find_payout(request.line.line_id)
    if record is not None and record.state is not State.REFUSED:
        raise PolicyRefusedError(f"This request is {record.state} already.", "Run `manual-payout status`.")


def _own_approval(desk: Desk, request: Request, person: Person, now: datetime) -> Approval:
    """Return the declarer's own approval, where it stands and the other team has none."""
    team = person.approving_team()
    if team is None:
        raise ApprovalError(f"{person.name} is in neither Payments Ops nor Finance.", "Ask somebody who is.")
    given = given_approvals(desk.store, request)
    approval, approver, _ = check_approval_of(team, request, given, desk.registry, operator_id="", at=now)
    if approver.person_id != person.person_id:
        raise ApprovalError(
            f"{approver.name} approved this request for {team.label}, not {person.name}.",
            f"Have {approver.name} declare it.",
        )
    try:
        _, other, _ = check_approval_of(team.other, request, given, desk.registry, operator_id="", at=now)
    except ApprovalError as error:
        if error.absent:
            return approval
        raise
    raise ApprovalError(f"{other.name} has approved for {team.other.label}.", "Nothing is missing: run it.")


def _build(
    desk: Desk, request: Request, approval: Approval, owner: Person, because: str, limit: int, now: datetime
) -> Declaration:
    hold_s = desk.settings.policy.break_glass.hold_s
    if now + timedelta(seconds=hold_s) >= approval.expires_at:
        raise ApprovalError(
            f"The approval ends at {approval.expires_at:%Y-%m-%d %H:%M} UTC, before the hold of {hold_s // 60} minutes would.",
            "Approve again once it has ended, and declare then.",
        )
    # As for an approval: in the sandbox the same story gives the same ids, elsewhere nobody can guess them.
    sandbox = digest_of({"request": request.digest, "approval": approval.approval_id, "break_glass": True})[:32]
    nonce = sandbox if request.mode is Mode.SANDBOX else secrets.token_hex(16)
    return Declaration(
        declaration_id=str(uuid.uuid5(uuid.NAMESPACE_OID, f"break-glass {request.digest} {nonce}")),
        request_id=request.request_id,
        request_digest=request.digest,
        declarer_id=approval.approver_id,
        approval_id=approval.approval_id,
        missing=approval.team.other,
        because=because,
        owner_id=owner.person_id,
        limit_minor=limit,
        hold_s=hold_s,
        nonce=nonce,
        declared_at=now,
        expires_at=approval.expires_at,
    )


def _signed(request: Request, declaration: Declaration, key: SigningKey) -> Declaration:
    text = canonical_json(statement_of(request, declaration))
    return replace(declaration, signed_text=text, signature=key.sign(APPROVAL, text.encode()))


def _check_made(
    desk: Desk, request: Request, declaration: Declaration, approval: Approval, person: Person, now: datetime
) -> None:
    """Ask now what will be asked inside the send, as if the page had arrived and the hold were over."""
    policy = desk.settings.policy.break_glass
    opened = Glass(declaration, now, now, None)
    later = now + timedelta(seconds=declaration.hold_s)
    check_glass(
        request, opened, approval, person, policy, desk.registry,
        operator_id="", at=later, until=declaration.expires_at,
    )  # fmt: skip
