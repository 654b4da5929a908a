"""What the ledger says has failed, and what has been asked for already."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer

from manual_payout.cli.answers import show_json, show_table
from manual_payout.cli.options import Json
from manual_payout.cli.values import open_operators_desk

if TYPE_CHECKING:
    from manual_payout.desk.wiring import Desk
    from manual_payout.domain.models import Request
    from manual_payout.ledger import PayoutDue

_COLUMNS = ("ledger payout", "studio", "amount", "failed", "asked for")


def due(as_json: Json = False) -> None:
    """List the payouts that the ledger says have failed, the latest first. Reads only.

    \b
    Example: manual-payout due
    """
    from manual_payout.domain.display import Table

    desk = open_operators_desk()
    waiting = desk.open_requests()
    told = [_told(desk, one, waiting) for one in desk.ledger.failed_payouts()]
    if as_json:
        show_json(told)
        return
    caption = f"{len(told)} failed {'payout' if len(told) == 1 else 'payouts'} in the ledger."
    rows = tuple(
        (one["ledger_payout_id"], one["studio_name"], one["amount"], one["failed_at"], one["asked_for"] or "not yet")
        for one in told
    )
    show_table(Table(caption, _COLUMNS, rows, frozenset({"amount"})))
    if any(not one["asked_for"] for one in told):
        typer.echo(
            "\nNext: manual-payout request --incident-id INCIDENT --ledger-payout-id PAYOUT --reason REASON --as WHO"
        )


def _told(desk: Desk, failed: PayoutDue, waiting: Sequence[Request]) -> dict[str, Any]:
    """Return what is said of one payout; amounts for programs in minor units."""
    asked = [
        request.incident_id
        for request in waiting
        if failed.ledger_payout_id in {line.ledger_payout_id for line in request.lines}
    ]
    begun = [row.incident_id for row in desk.store.payouts_of(ledger_payout_id=failed.ledger_payout_id)]
    return {
        "ledger_payout_id": failed.ledger_payout_id,
        "studio_id": failed.studio_id,
        "studio_name": failed.studio_name,
        "amount": failed.amount.grouped,
        "amount_minor": failed.amount.amount_minor,
        "currency": failed.amount.currency,
        "failed_at": f"{failed.failed_at:%Y-%m-%d %H:%M} UTC" if failed.failed_at else "",
        "asked_for": ", ".join(dict.fromkeys([*asked, *begun])),
    }
