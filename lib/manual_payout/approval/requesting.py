"""
The fallback request form (SOP, pre-conditions): frozen when filed, and named by its digest.
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Collection, Mapping
from dataclasses import replace as named
from datetime import timedelta
from typing import Any

from manual_payout.approval.comparing import require_as_in_ledger
from manual_payout.approval.policy import Facts, StripeFacts, differences
from manual_payout.approval.signed_forms import record_filed, with_signature
from manual_payout.desk.people import Person
from manual_payout.desk.signatures import SigningKey
from manual_payout.desk.wiring import Desk
from manual_payout.domain.canonical import digest_of, instant_text
from manual_payout.domain.errors import (
    ClaimError,
    IntentConflictError,
    ParameterError,
    PolicyRefusedError,
    SettingsError,
)
from manual_payout.domain.models import Kind, Line, Mode, Reason, Request, ReversalReason, State
from manual_payout.domain.money import Money
from manual_payout.domain.parameters import Parameters, check
from manual_payout.domain.rendering import environment
from manual_payout.ledger import PayoutDue

# Markdown, not HTML: every value is checked plain text, and Markdown's own characters are escaped below.
_TICKETS = environment("comms/templates")

_MARKDOWN = str.maketrans({character: f"\\{character}" for character in "\\`*_{}[]<>()#+!|~"})


def filled_from_ledger(desk: Desk, typed: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return the values of a request: as typed, and what was not typed as the ledger has it now.

    Args:
        typed: By the names of the form's fields, each checked by itself; at least the ledger payout's id.

    Returns:
        What was typed with studio, amount, destination and reserve; notes are empty where there are none.

    Raises:
        PolicyRefusedError: The ledger does not know the payout.

        DatabaseError: The ledger cannot be read.
    """
    due = _payout_due(desk, typed["ledger_payout_id"])
    known = {
        "studio_id": due.studio_id, "studio_name": due.studio_name, "amount": due.amount.text,
        "destination_account": due.destination_account, "notes": "",
    }  # fmt: skip
    if "reserve_after" not in typed:
        known["reserve_after"] = _reserve_after(desk, due)
    return known | dict(typed)


def _payout_due(desk: Desk, ledger_payout_id: str) -> PayoutDue:
    due = desk.ledger.find_payout_due(ledger_payout_id)
    if due is None:
        raise PolicyRefusedError(
            f"The ledger has no payout {ledger_payout_id}.", "Check the ledger payout id against the ledger."
        )
    return due


def _reserve_after(desk: Desk, due: PayoutDue) -> str:
    balance = desk.ledger.find_balance(due.studio_id, due.currency)
    nothing = Money(0, due.currency)
    # Without a balance that covers it no reserve would be right; the comparison with the ledger says so, and all else.
    return max(balance.reserve_after(due.amount), nothing).text if balance is not None else nothing.text


def file_request(
    desk: Desk, parameters: Parameters, requester: Person, *, replace: bool, acknowledge: Collection[str] = (),
    key: SigningKey | None = None,
) -> tuple[Request, bool]:  # fmt: skip
    """
    File a request, or return the one on record with the same content.

    Args:
        replace: Withdraw an open request for the same ledger payout that says something else.

        acknowledge: Ids of other transfers to the same account that are not this payout, as the requester knows.

        key: The requester's own; only in the sandbox a request may be unsigned.

    Returns:
        The request, and whether it is new.

    Raises:
        PolicyRefusedError: The ledger does not know this payout, or says otherwise; every field that differs is named.

        ParameterError: What is acknowledged is no transfer, or is one of ours.

        IntentConflictError: The same ledger payout has an open request with other content, and *replace* is not set.

        ClaimError: Money for this ledger payout is under way or was moved, under this incident or another.

        SecretError: A secret of this machine is one of the request's own values.
    """
    request, new = draft_request(desk, parameters, requester, replace=replace, acknowledge=acknowledge)
    if new:
        request = with_signature(request, key)
        record_filed(desk, request)
    return request, new


def draft_request(
    desk: Desk, parameters: Parameters, requester: Person, *, replace: bool, acknowledge: Collection[str] = ()
) -> tuple[Request, bool]:
    """
    Build a request as it would be filed, having compared it with the ledger; nothing is written.

    Arguments and what is raised are those of `file_request`.

    Returns:
        The request, and whether it is new: otherwise it is the one on record, which says the same.
    """
    acknowledged = _acknowledged(desk, acknowledge)
    due = _payout_due(desk, parameters.ledger_payout_id)
    line = _line(parameters, due, acknowledged)
    earlier = desk.store.find_request(parameters.incident_id, parameters.ledger_payout_id)
    if (
        earlier is not None
        and desk.now() < desk.settings.policy.request.request_ends(earlier)
        and not _has_come_back(desk, earlier)
    ):
        found = _differences(desk, parameters, earlier, acknowledged)
        if not found:
            return earlier, False
        if not replace:
            raise IntentConflictError(
                found, remedy="Use the recorded value, or file again with --replace to withdraw it."
            )
    _require_nothing_under_way(desk, parameters.ledger_payout_id)
    _require_no_other(desk, parameters)
    # What is replaced never begins from now on: a claim that a run of it left behind stands for nothing.
    given_up = (earlier.line_for(parameters.ledger_payout_id).line_id,) if earlier is not None else ()
    require_as_in_ledger(_facts(desk, parameters, due, given_up), desk.settings.policy)
    said = parameters.as_dict() | ({"acknowledged": list(acknowledged)} if acknowledged else {})
    request = freeze(desk, Kind.TRANSFER, line, said, requester, earlier, reason=parameters.reason)
    desk.require_keepable(request.statement())
    return request, True


def ticket_text(desk: Desk, request: Request) -> str:
    """Write the text for the incident ticket, in Markdown (docs/incident-template.md)."""
    line, policy = request.line_for(), desk.settings.policy
    values = {
        "incident_id": request.incident_id,
        "incident_url": policy.messages.incident_url.format(incident_id=request.incident_id),
        "request_id": request.request_id,
        "digest": request.digest,
        "studio_name": line.studio_name,
        "studio_id": line.studio_id,
        "ledger_payout_id": line.ledger_payout_id,
        "amount": line.amount.grouped,
        "amount_text": line.amount.text,
        "reserve_after": line.reserve_after.grouped,
        "destination": line.destination_account,
        "reason": request.reason.value.replace("_", " "),
        "notes": request.notes or "none",
        "mode": request.mode.value,
        "platform_account": request.platform_account,
        "requested_by": desk.registry.name_of(request.requested_by),
        "filed_at": f"{request.filed_at:%Y-%m-%d %H:%M} UTC",
        "expires_at": f"{policy.request.request_ends(request):%Y-%m-%d %H:%M} UTC",
        "acknowledged": ", ".join(line.acknowledged),
    }
    free = {name: markdown_safe(values[name]) for name in ("studio_name", "notes", "requested_by")}
    return ticket("ticket.md.j2", values | free)


def ticket(template: str, values: dict[str, str]) -> str:
    """Fill in a text for the ticket; free text among *values* is made safe by the caller."""
    return _TICKETS.get_template(template).render(values)


def markdown_safe(text: str) -> str:
    """Escape what Markdown would take for its own."""
    return text.translate(_MARKDOWN)


def _acknowledged(desk: Desk, named: Collection[str]) -> tuple[str, ...]:
    found = tuple(sorted({check("acknowledge", one) for one in named}))
    for ours in sorted(desk.store.known_transfers(found)):
        raise ParameterError(
            "acknowledge", ours, "a transfer that is not one of our own",
            "Leave it out: a transfer of ours needs no acknowledgement.",
        )  # fmt: skip
    return found


def _differences(
    desk: Desk, parameters: Parameters, earlier: Request, acknowledged: tuple[str, ...]
) -> list[tuple[str, str, str]]:
    line = earlier.line_for(parameters.ledger_payout_id)
    others = {
        "mode": (earlier.mode.value, desk.settings.mode.value),
        "platform_account": (earlier.platform_account, desk.settings.policy.stripe.platform_account),
        "acknowledge": tuple(" ".join(one) or "nothing" for one in (line.acknowledged, acknowledged)),
    }
    found = [(name, was, now) for name, (was, now) in others.items() if was != now]
    return differences(parameters, earlier) + found


def _facts(desk: Desk, parameters: Parameters, due: PayoutDue, given_up: tuple[str, ...]) -> Facts:
    """Gather what the ledger says of a form that is not filed yet, which replaces the lines *given_up*; Stripe is not asked."""
    return Facts(
        parameters=parameters,
        mode=desk.settings.mode,
        at=desk.now(),
        request=None,
        request_withdrawn=False,
        approval_error=None,
        approved_by="",
        due=due,
        balance=desk.ledger.find_balance(due.studio_id, due.currency),
        record=None,
        earlier=(),
        dead_claims=(*desk.store.dead_claims(parameters.ledger_payout_id), *given_up),
        stripe=StripeFacts(),
    )


def _has_come_back(desk: Desk, request: Request) -> bool:
    """Whether all that *request* moved was reversed: it has done its work, and paying again is another decision."""
    records = [desk.store.find_payout(line.line_id) for line in request.lines]
    return all(record is not None and record.state is State.REVERSED for record in records)


def _require_nothing_under_way(desk: Desk, ledger_payout_id: str) -> None:
    live = desk.store.find_live_payout(ledger_payout_id, desk.settings.mode)
    if live is not None:
        raise ClaimError(
            f"Ledger payout {ledger_payout_id} is {live.state} under {live.incident_id}, by {live.owner}.",
            "It cannot be requested again; run `manual-payout status`.",
        )


def _require_no_other(desk: Desk, parameters: Parameters) -> None:
    for other in desk.open_requests():
        lines = [line for line in other.lines if line.ledger_payout_id == parameters.ledger_payout_id]
        elsewhere = other.kind is Kind.TRANSFER and other.incident_id != parameters.incident_id
        if lines and elsewhere and not _has_come_back(desk, other):
            raise ClaimError(
                f"Ledger payout {parameters.ledger_payout_id} is already requested under {other.incident_id}.",
                f"Go on under {other.incident_id}; a second request can be filed once that one has expired or was withdrawn.",
            )


def freeze(
    desk: Desk,
    kind: Kind,
    line: Line,
    said: dict[str, Any],
    requester: Person,
    earlier: Request | None,
    *,
    reason: Reason | ReversalReason,
) -> Request:
    """
    Return a request for *line* as it will be filed; nothing is written.

    Args:
        line: Without its id, which derives from the request's.

        said: Everything that was asked; in the sandbox the request's id derives from it.

        earlier: The request that stood until now, if any; it is withdrawn by the new one.

    Raises:
        SettingsError: The policy does not name the platform's account.
    """
    policy, now = desk.settings.policy, desk.now()
    if not policy.stripe.platform_account:
        raise SettingsError(
            "stripe.platform_account is not set.", "Name the platform's own account in the policy file."
        )
    values = said | {"at": instant_text(now), "earlier": earlier.digest if earlier else ""}
    # In the sandbox the same story gives the same ids, so that notebooks can be compared; elsewhere nobody can guess.
    nonce = digest_of(values)[:32] if desk.settings.mode is Mode.SANDBOX else secrets.token_hex(16)
    request_id = str(uuid.uuid5(uuid.NAMESPACE_OID, f"request {nonce}"))
    return Request(
        request_id=request_id,
        incident_id=said["incident_id"],
        kind=kind,
        mode=desk.settings.mode,
        platform_account=policy.stripe.platform_account,
        requested_by=requester.person_id,
        reason=reason,
        notes=said["notes"],
        nonce=nonce,
        filed_at=now,
        expires_at=now + timedelta(seconds=policy.request.request_lifetime_s),
        lines=(named(line, line_id=str(uuid.uuid5(uuid.NAMESPACE_OID, f"line {line.line_no} of {request_id}"))),),
        replaces=earlier.request_id if earlier is not None else "",
    )


def _line(parameters: Parameters, due: PayoutDue, acknowledged: tuple[str, ...]) -> Line:
    return Line(
        # The line is named when the request is.
        line_id="",
        line_no=1,
        studio_id=parameters.studio_id,
        studio_name=parameters.studio_name,
        ledger_payout_id=parameters.ledger_payout_id,
        amount=parameters.amount_in(due.currency),
        reserve_after=parameters.reserve_after_in(due.currency),
        destination_account=parameters.destination_account,
        acknowledged=acknowledged,
    )
