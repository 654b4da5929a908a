"""Where things stand: all payouts, reversals and requests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from manual_payout.cli.answers import show_json, show_table
from manual_payout.cli.delivering import waiting_table
from manual_payout.cli.options import Json
from manual_payout.cli.values import open_operators_desk

if TYPE_CHECKING:
    from manual_payout.desk.wiring import Desk
    from manual_payout.domain.account import Account
    from manual_payout.domain.display import Table
    from manual_payout.domain.models import (
        Line,
        Message,
        MessageState,
        PayoutRecord,
        Record,
        Request,
        ReversalRecord,
    )

# What is shown when no incident is named; what is unfinished is shown however old it is.
RECENT = timedelta(days=30)

_COLUMNS = ("incident", "studio", "amount", "state", "settlement", "messages", "transfer", "since", "by")


def status(
    incident: Annotated[
        str, typer.Argument(help="Only this incident, whole; else what is recent or unfinished.", show_default=False)
    ] = "",
    as_json: Json = False,
) -> None:
    """Say where things stand. Reads only, and never calls Stripe.

    \b
    Example: manual-payout status INC-123
    """
    from manual_payout.domain.parameters import check

    desk = open_operators_desk()
    if apart := desk.clocks():
        typer.echo(f"Warning: {apart}", err=True)
    table, told, waiting, astray = _standing(desk, check("incident_id", incident) if incident else "")
    if as_json:
        show_json([row | more for row, more in zip(table.as_dicts(), told, strict=True)])
        return
    show_table(table)
    for sentence in astray:
        typer.echo(f"\n{sentence}")
    if waiting:
        typer.echo()
        show_table(waiting_table(waiting))


def _standing(desk: Desk, incident: str) -> tuple[Table, Sequence[dict[str, Any]], list[Message], list[str]]:
    """Gather all rows, what a program is told of each, what waits to be told, and what is open or went astray."""
    from manual_payout.domain.display import Table
    from manual_payout.domain.models import MessageState

    store, since = desk.store, desk.now() - RECENT
    records = store.payouts_of(incident_id=incident) if incident else store.current_payouts(since)
    reversals = store.reversals_of(incident_id=incident) if incident else store.current_reversals(since)
    begun = {record.request_id for record in records} | {reversal.request_id for reversal in reversals}
    waiting = [found for found in desk.open_requests(incident or None) if found.request_id not in begun]
    counts = store.count_messages([record.payout_id for record in records])
    accounts = {record.payout_id: _account(desk, record) for record in records}
    alone = {record.payout_id: _account(desk, record, alone=True) for record in records}
    rows = (
        *(_begun(desk, record, counts[record.payout_id], alone[record.payout_id]) for record in records),
        *(_reversing(desk, record) for record in reversals),
        *(_waiting(desk, found, line) for found in waiting for line in found.lines),
    )
    told = (
        *(_told(record, accounts[record.payout_id]) | {"state": alone[record.payout_id].state} for record in records),
        *(_told(record, _account_of_reversal(record)) for record in reversals),
        *(_asked(desk, found, line) for found in waiting for line in found.lines),
    )
    # What is to be copied has a text and a person; what waits without either is shown by itself.
    unsent = [m for m in desk.store.undelivered_messages(incident) if m.state is not MessageState.TO_COPY]
    caption = _caption(incident, len(records), len(reversals), len(waiting))
    # A reversal of a payout that is shown stands in its account as well.
    shown = {record.ledger_payout_id for record in records}
    found = [(record.incident_id, accounts[record.payout_id]) for record in records]
    found += [(one.incident_id, _account_of_reversal(one)) for one in reversals if one.ledger_payout_id not in shown]
    astray = [f"{incident_id}: {one.sentence} {one.remedy}" for incident_id, one in found if one.remedy]
    return Table(caption, _COLUMNS, rows, frozenset({"amount"})), told, unsent, astray


def _told(record: Record, found: Account) -> dict[str, Any]:
    """Say for a program where the money of a row is, and whether a command may be given again without looking first."""
    from manual_payout.domain.account import Standing

    safe = found.standing not in (Standing.OPEN, Standing.ASTRAY)
    told = {"state": found.state, "money": found.sentence, "closed": found.closed, "safe_to_repeat": safe}
    return _ids(record, record.request_id) | told


def _awaited(desk: Desk, found: Request) -> tuple[list[str], datetime]:
    """Return the teams whose approval is missing, and when the next of what stands ends: an approval, or the request."""
    from manual_payout.approval.approvals import teams_approved
    from manual_payout.domain.models import Team

    rules, now = desk.settings.policy.request, desk.now()
    given = desk.store.approvals_of(found.request_id)
    approved = teams_approved(given, found, rules, now)
    ends = [
        max(rules.approval_ends(one, found) for one in given if one.team is team and one.signature) for team in approved
    ]
    return [team.label for team in Team if team not in approved], min([*ends, rules.request_ends(found)])


def _asked(desk: Desk, found: Request, line: Line) -> dict[str, Any]:
    """Say for a program what an open request waits for."""
    missing, until = _awaited(desk, found)
    return _ids(line, found.request_id) | {
        "state": "requested" if missing else "approved",
        "missing_teams": missing,
        "until": until.isoformat(),
        "closed": False,
        "safe_to_repeat": True,
    }


def _ids(line: Line | Record, request_id: str) -> dict[str, Any]:
    return {
        "ledger_payout_id": line.ledger_payout_id,
        "request_id": request_id,
        "amount_minor": line.amount.amount_minor,
        "currency": line.amount.currency,
    }


def _account_of_reversal(record: ReversalRecord) -> Account:
    """Add up a reversal alone; what was paid before is another row."""
    from manual_payout.domain.account import account_of

    return account_of([], [record], [])


def _account(desk: Desk, record: PayoutRecord, *, alone: bool = False) -> Account:
    """Add up this row; another row of its ledger payout is a line of its own, and *alone* leaves out what else is open."""
    from manual_payout.domain.account import account_of, account_of_row
    from manual_payout.domain.models import stream_of

    reversals = desk.store.reversals_of(ledger_payout_id=record.ledger_payout_id)
    events = desk.store.events_of(stream_of(record.incident_id, record.ledger_payout_id))
    return account_of_row(record, reversals, events) if alone else account_of([record], reversals, events)


def _caption(incident: str, begun: int, reversals: int, waiting: int) -> str:
    where = f" under {incident}" if incident else f" within {RECENT.days} days or left open"
    if not begun and not reversals and not waiting:
        return f"No manual payout was requested or begun{where}."
    back = f"{reversals} {'reversal' if reversals == 1 else 'reversals'} begun, " if reversals else ""
    return f"{begun} manual {'payout' if begun == 1 else 'payouts'} begun, {back}{waiting} requested{where}."


def _begun(desk: Desk, record: PayoutRecord, messages: Counter[MessageState], found: Account) -> tuple[str, ...]:
    return (
        record.incident_id,
        record.studio_name,
        record.amount.grouped,
        f"{found.label}, closed" if found.closed and "closed" not in found.label else found.label,
        (record.settlement_rung or "").replace("_", " "),
        ", ".join(f"{count} {state.replace('_', ' ')}" for state, count in sorted(messages.items())),
        record.stripe_transfer_id or "",
        f"{record.outcome_at or record.created_at:%Y-%m-%d %H:%M} UTC",
        desk.registry.name_of(record.operator_id),
    )


def _reversing(desk: Desk, record: ReversalRecord) -> tuple[str, ...]:
    return (
        record.incident_id,
        record.studio_name,
        f"−{record.amount.grouped}",
        f"reversal {record.state.value}".replace("_", " ") if record.state.value != "reversed" else "reversed",
        "",
        "",
        record.stripe_transfer_id,
        f"{record.outcome_at or record.created_at:%Y-%m-%d %H:%M} UTC",
        desk.registry.name_of(record.operator_id),
    )


def _waiting(desk: Desk, found: Request, line: Line) -> tuple[str, ...]:
    missing, until = _awaited(desk, found)
    who = " and ".join(missing) or "the operator"
    said = f"requested, {2 - len(missing)} of 2 approved, waits for {who} until {until:%Y-%m-%d %H:%M} UTC"
    return (
        found.incident_id,
        line.studio_name,
        f"−{line.amount.grouped}" if line.stripe_transfer_id else line.amount.grouped,
        f"{'reversal ' if line.stripe_transfer_id else ''}{said}",
        "",
        "",
        line.stripe_transfer_id,
        f"{found.filed_at:%Y-%m-%d %H:%M} UTC",
        desk.registry.name_of(found.requested_by),
    )
