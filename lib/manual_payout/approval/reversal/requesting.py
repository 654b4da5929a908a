"""The request for a reversal: which transfer, how much of it, and why; frozen when filed, named by its digest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from manual_payout.approval.requesting import freeze, markdown_safe, ticket
from manual_payout.approval.signed_forms import record_filed, with_signature
from manual_payout.desk.people import Person
from manual_payout.desk.signatures import SigningKey
from manual_payout.desk.wiring import Desk
from manual_payout.domain.errors import (
    ClaimError,
    ParameterError,
    PolicyRefusedError,
    StripeRefusedError,
)
from manual_payout.domain.intent import transfer_group
from manual_payout.domain.models import Kind, Line, Request, ReversalReason, State
from manual_payout.domain.money import Money, check_payable, parse
from manual_payout.ledger import PayoutDue


@dataclass(frozen=True, slots=True)
class ReversalAsked:
    """
    What a person asks to have back.

    Attributes:
        amount: In major units as decimal text; empty for all that is left of the transfer.

        stripe_transfer_id: Empty for the transfer that this runbook made for the ledger payout.
    """

    incident_id: str
    ledger_payout_id: str
    reason: ReversalReason
    notes: str
    amount: str = ""
    stripe_transfer_id: str = ""


def file_reversal(
    desk: Desk, asked: ReversalAsked, requester: Person, *, replace: bool, key: SigningKey | None = None
) -> tuple[Request, bool]:
    """
    File the request for a reversal, or return the open one on record with the same content.

    Args:
        replace: Withdraw an open one for the same ledger payout that says something else.

        key: The requester's own; only in the sandbox a request may be unsigned.

    Returns:
        The request, and whether it is new.

    Raises:
        PolicyRefusedError: Ledger or Stripe do not know what it is about, or there is nothing to take back.

        ParameterError: The amount is wrong, or more than what is left.

        ClaimError: A reversal of the transfer is under way, or an open request says something else.
    """
    due = desk.ledger.find_payout_due(asked.ledger_payout_id)
    if due is None:
        raise PolicyRefusedError(
            f"The ledger has no payout {asked.ledger_payout_id}.", "Check the ledger payout id against the ledger."
        )
    shown = _transfer(desk, asked)
    _require_related(desk, shown, due)
    if shown["amount_reversed"] == shown["amount"]:
        # It may have come back by the very reversal whose answer was lost; that is then what has to be settled.
        _require_none_under_way(desk, shown["id"])
    amount = _amount(asked, shown)
    earlier = _open_request(desk, asked)
    line = _line(shown, due, amount)
    if earlier is not None and _content(earlier) == _content_of(line, asked):
        return earlier, False
    _require_none_under_way(desk, shown["id"])
    if earlier is not None and not replace:
        raise ClaimError(
            f"{asked.incident_id} has an open request to reverse {earlier.line_for().amount.grouped} of "
            f"{earlier.line_for().stripe_transfer_id}.",
            "Have that one approved and run it, or file again with --replace to withdraw it.",
        )
    said = {
        "line": line.statement(), "incident_id": asked.incident_id, "reason": asked.reason.value, "notes": asked.notes,
    }  # fmt: skip
    request = freeze(desk, Kind.REVERSAL, line, said, requester, earlier, reason=asked.reason)
    desk.require_keepable(request.statement())
    request = with_signature(request, key)
    record_filed(desk, request)
    return request, True


def reversal_ticket(desk: Desk, request: Request) -> str:
    """Write the text for the incident ticket, in Markdown."""
    line = request.line_for()
    return ticket(
        "reversal-ticket.md.j2",
        {
            "incident_id": request.incident_id,
            "request_id": request.request_id,
            "digest": request.digest,
            "studio_name": markdown_safe(line.studio_name),
            "studio_id": line.studio_id,
            "ledger_payout_id": line.ledger_payout_id,
            "transfer": line.stripe_transfer_id,
            "amount": line.amount.grouped,
            "before": Money(line.reversed_before_minor, line.amount.currency).grouped,
            "account": line.destination_account,
            "reason": request.reason.value.replace("_", " "),
            "notes": markdown_safe(request.notes or "none"),
            "mode": request.mode.value,
            "platform_account": request.platform_account,
            "requested_by": markdown_safe(desk.registry.name_of(request.requested_by)),
            "filed_at": f"{request.filed_at:%Y-%m-%d %H:%M} UTC",
            "expires_at": f"{desk.settings.policy.request.request_ends(request):%Y-%m-%d %H:%M} UTC",
        },
    )


def _transfer(desk: Desk, asked: ReversalAsked) -> dict[str, Any]:
    try:
        return desk.watcher.get_transfer(asked.stripe_transfer_id or _own_transfer(desk, asked))
    except StripeRefusedError as error:
        if error.code != "resource_missing":
            raise
        raise PolicyRefusedError(
            error.message, "Compare the transfer's id with the Dashboard, in this mode."
        ) from error


def _own_transfer(desk: Desk, asked: ReversalAsked) -> str:
    made = [
        record
        for record in desk.store.payouts_of(ledger_payout_id=asked.ledger_payout_id, mode=desk.settings.mode.value)
        if record.stripe_transfer_id is not None
    ]
    if not made:
        raise PolicyRefusedError(
            f"This runbook has made no transfer for ledger payout {asked.ledger_payout_id}.",
            "Name the mistaken transfer with --transfer, as the Dashboard shows it.",
        )
    return str(made[0].stripe_transfer_id)


def _require_related(desk: Desk, shown: dict[str, Any], due: PayoutDue) -> None:
    """Refuse a transfer that has nothing to do with this payout: it is neither ours, nor of its group, nor to its studio."""
    ours = any(
        one.stripe_transfer_id == shown["id"] for one in desk.store.payouts_of(ledger_payout_id=due.ledger_payout_id)
    )
    if not (
        ours
        or shown["transfer_group"] == transfer_group(due.ledger_payout_id)
        or shown["destination"] == due.destination_account
    ):
        raise PolicyRefusedError(
            f"{shown['id']} went to {shown['destination']}, and nothing connects it with ledger payout {due.ledger_payout_id}.",
            "Check the transfer id; a transfer is reversed under the ledger payout that it was made for.",
        )


def _amount(asked: ReversalAsked, shown: dict[str, Any]) -> Money:
    left = Money(int(shown["amount"]) - int(shown["amount_reversed"]), shown["currency"])
    if not left.amount_minor:
        raise PolicyRefusedError(
            f"{shown['id']} has already been reversed in full.", "There is nothing left to reverse."
        )
    if not asked.amount:
        return left
    amount = check_payable(parse(asked.amount, shown["currency"]))
    if not left >= amount:
        raise ParameterError("amount", asked.amount, f"at most {left.text}, which is what is left of {shown['id']}")
    return amount


def _open_request(desk: Desk, asked: ReversalAsked) -> Request | None:
    found = desk.store.find_request(asked.incident_id, asked.ledger_payout_id, kind=Kind.REVERSAL)
    if found is None or desk.now() >= desk.settings.policy.request.request_ends(found):
        return None
    record = desk.store.find_reversal(found.line_for().line_id)
    # One that has done its work is not open: what is asked now is asked on top of it.
    return None if record is not None and record.state is State.REVERSED else found


def _content(request: Request) -> tuple[Any, ...]:
    line = request.line_for()
    return (line.stripe_transfer_id, line.amount, line.reversed_before_minor, request.reason, request.notes)


def _content_of(line: Line, asked: ReversalAsked) -> tuple[Any, ...]:
    return (line.stripe_transfer_id, line.amount, line.reversed_before_minor, asked.reason, asked.notes)


def _require_none_under_way(desk: Desk, stripe_transfer_id: str) -> None:
    other = desk.store.find_open_reversal(stripe_transfer_id)
    if other is not None:
        raise ClaimError(
            f"A reversal of {stripe_transfer_id} is {other.state} under {other.incident_id}, by {other.owner}.",
            f"Nothing more can be requested until that is known: run `manual-payout reversal reconcile {other.incident_id}`.",
        )


def _line(shown: dict[str, Any], due: PayoutDue, amount: Money) -> Line:
    return Line(
        # The line is named when the request is.
        line_id="",
        line_no=1,
        studio_id=due.studio_id,
        studio_name=due.studio_name,
        ledger_payout_id=due.ledger_payout_id,
        amount=amount,
        reserve_after=Money(0, amount.currency),
        destination_account=shown["destination"],
        stripe_transfer_id=shown["id"],
        reversed_before_minor=int(shown["amount_reversed"]),
    )
