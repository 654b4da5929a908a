"""What the approver of a reversal is shown before typing a yes: facts fetched afresh, effects rather than inputs."""

from __future__ import annotations

from manual_payout.desk.wiring import Desk
from manual_payout.domain.display import Table, facts_table
from manual_payout.domain.models import Request
from manual_payout.domain.money import Money


def reversal_facts_for_approver(desk: Desk, request: Request) -> Table:
    """
    Show what this reversal would do: the transfer as Stripe shows it, and what is left of it afterwards. Reads only.

    Raises:
        StripeRefusedError, SettingsError: Stripe cannot be asked; nobody approves what they cannot see.
    """
    line = request.line_for()
    shown = desk.watcher.get_transfer(line.stripe_transfer_id)
    due = desk.ledger.find_payout_due(line.ledger_payout_id)
    left = Money(int(shown["amount"]) - int(shown["amount_reversed"]), line.amount.currency)
    facts = {
        "transfer": line.stripe_transfer_id,
        "made for": f"{line.studio_name} ({line.studio_id}), ledger payout {line.ledger_payout_id}",
        "ledger status": f"{due.status}, {due.amount.grouped}" if due else "unknown to the ledger",
        "amount transferred": Money(int(shown["amount"]), shown["currency"]).grouped,
        "reversed when this was filed": Money(line.reversed_before_minor, line.amount.currency).grouped,
        "reversed now": Money(int(shown["amount_reversed"]), shown["currency"]).grouped,
        "left of it → afterwards": f"{left.grouped} → {_after(left, line.amount)}",
        "taken from": shown["destination"],
        "reason and notes": f"{request.reason.value}: {request.notes}",
        "requested by": desk.registry.name_of(request.requested_by),
        "mode and account": f"{request.mode}, {request.platform_account}",
        "request digest": request.digest,
    }
    caption = (
        f"{request.incident_id}: you are asked to approve taking {line.amount.grouped} back from {line.studio_name}."
    )
    return facts_table(caption, facts)


def _after(left: Money, amount: Money) -> str:
    return (left - amount).grouped if left >= amount else "more than is left: Stripe would refuse"
