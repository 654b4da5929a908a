"""What the approver of a reversal is shown before typing a yes: facts fetched afresh, effects rather than inputs."""

from __future__ import annotations

from typing import Any

from manual_payout.approval.approvals import Shown
from manual_payout.approval.comparing import COMPARED_COLUMNS, counted
from manual_payout.approval.pinned import rules_digest
from manual_payout.approval.reversal.checks import compared_transfer
from manual_payout.desk.wiring import Desk
from manual_payout.domain.display import Table, facts_table
from manual_payout.domain.models import Line, Request
from manual_payout.domain.money import Money
from manual_payout.ledger import PayoutDue


def reversal_shown(desk: Desk, request: Request) -> Shown:
    """
    Show what this reversal would do: the request beside the ledger and the transfer as Stripe shows it. Reads only.

    Raises:
        StripeRefusedError, SettingsError: Stripe cannot be asked; nobody approves what they cannot see.
    """
    line = request.line_for()
    seen = desk.watcher.get_transfer(line.stripe_transfer_id)
    due = desk.ledger.find_payout_due(line.ledger_payout_id)
    return Shown(
        (_compared_table(request, line, due, seen), _more(desk, request, line, due, seen)),
        (compared_transfer(line, seen),),
        rules_digest(desk.settings.policy),
        desk.registry.digest,
    )


def _compared_table(request: Request, line: Line, due: PayoutDue | None, seen: dict[str, Any]) -> Table:
    currency = line.amount.currency
    made, back = (Money(int(seen[name]), seen["currency"]) for name in ("amount", "amount_reversed"))
    left, before = made - back, Money(line.reversed_before_minor, currency)
    found = (
        (f"{line.studio_name} ({line.studio_id})", "studio", f"{due.studio_name} ({due.studio_id})" if due else "no payout", ""),
        (line.amount.grouped, "amount to take back", "", f"{left.grouped} left of {made.grouped}"),
        (before.grouped, "reversed before", "", back.grouped),
        (line.destination_account, "taken from", "", seen["destination"]),
    )  # fmt: skip
    fine = (
        found[0][0] == found[0][2],
        left >= line.amount,
        before == back,
        line.destination_account == seen["destination"],
    )
    differing = [name for (_, name, _, _), same in zip(found, fine, strict=True) if not same]
    rows = tuple(
        ("same" if same else "differs", name, asked, ledger, stripe)
        for (asked, name, ledger, stripe), same in zip(found, fine, strict=True)
    )
    lead = f"{request.incident_id}: you are asked to approve taking {line.amount.grouped} back from {line.studio_name}."
    return Table(f"{lead} {counted(differing)}", COMPARED_COLUMNS, rows)


def _more(desk: Desk, request: Request, line: Line, due: PayoutDue | None, seen: dict[str, Any]) -> Table:
    left = Money(int(seen["amount"]) - int(seen["amount_reversed"]), line.amount.currency)
    facts = {
        "left of it → afterwards": f"{left.grouped} → {_after(left, line.amount)}",
        "transfer": line.stripe_transfer_id,
        "ledger payout": f"{line.ledger_payout_id}, {f'{due.status}, {due.amount.grouped}' if due else 'unknown to the ledger'}",
        "reason and notes": f"{request.reason.value}: {request.notes}",
        "requested by": f"{desk.registry.name_of(request.requested_by)}, {'signed' if request.signature else 'not signed'}",
        "mode and account": f"{request.mode}, {request.platform_account}",
        "request digest": request.digest,
    }
    return facts_table(f"{line.studio_name}: what it is about.", facts)


def _after(left: Money, amount: Money) -> str:
    return (left - amount).grouped if left >= amount else "more than is left: Stripe would refuse"
