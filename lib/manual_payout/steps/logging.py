"""Stage 3: the audit row of ``manual_payouts``, its SQL for the ticket, and the comparison of both with Stripe."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from manual_payout.database.schema import manual_payouts
from manual_payout.domain.display import Banner, Table, Text, facts_table
from manual_payout.domain.errors import EvidenceError, UnknownOutcomeError
from manual_payout.domain.models import PayoutRecord, State
from manual_payout.steps.run import Run, question

# How the row was sent is in the journal; the ticket's SQL is about what moved, for whom, and by whose leave.
_RUNTIME = frozenset({"owner", "fence", "lease_until", "sent"})


@question
def operation_note(run: Run) -> Text:
    """Say why this is done by hand: the reason and the notes of the request."""
    request = run.find_request()
    if request is None:
        return Text("Operation Note: no request is filed.", "")
    name = run.desk.registry.name_of(request.requested_by)
    reason = request.reason.value.replace("_", " ").capitalize()
    return Text(f"Operation Note, as {name} filed it.", f"{reason}: {request.notes}" if request.notes else f"{reason}.")


@question
def audit_row(run: Run) -> Table:
    """Read the row back from the database, with the approvers' ids from the approvals."""
    record = _paid(run)
    if record is None:
        return facts_table("Nothing was sent, so there is no row yet.", {})
    names = run.desk.registry
    return facts_table(
        f"The row in manual_payouts: {record.amount.grouped} for {record.studio_name}, {record.state}.",
        {
            "payout_id": record.payout_id,
            "incident_id": record.incident_id,
            "ledger_payout_id": record.ledger_payout_id,
            "studio": f"{record.studio_name} ({record.studio_id})",
            "amount": record.amount.grouped,
            "reserve_after": record.reserve_after.grouped,
            "destination_account": record.destination_account,
            "stripe_transfer_id": record.stripe_transfer_id or "",
            "reason": record.reason.value,
            "notes": record.notes,
            "requested_by": f"{names.name_of(record.requested_by)} ({record.requested_by})",
            "approved_by_payments_ops": f"{names.name_of(record.approved_by_payments_ops)} ({record.approved_by_payments_ops})",
            "approved_by_finance": f"{names.name_of(record.approved_by_finance)} ({record.approved_by_finance})",
            "operator": f"{names.name_of(record.operator_id)} ({record.operator_id})",
            "sent": f"{record.outcome_at:%Y-%m-%d %H:%M:%S} UTC" if record.outcome_at else "",
        },
    )


@question
def audit_sql(run: Run) -> Text:
    """Show the row as the SQL that would record it, for the ticket (SOP step 4, first line)."""
    if _paid(run) is None:
        return Text("Nothing was sent, so there is nothing to insert.", "")
    sql = insert_statement(run.desk.store.audit_values(run.get_record().payout_id))
    path = run.folder.keep("manual_payouts.sql", sql + "\n")
    return Text(f"The same row as SQL, saved as {path.name}. It is recorded already: do not run it again here.", sql)


@question
def compare_audit_row(run: Run) -> Table:
    """Compare the row with Stripe's transfer and with the approvals, field by field."""
    record = _paid(run)
    if record is None:
        return Table(
            "Nothing was sent, so there is nothing to compare.", ("field", "row", "source", "found there", "result"), ()
        )
    rows = _comparison(run, record)
    wrong = [row[0] for row in rows if row[4] != "same"]
    run.findings["compared"] = {row[0]: row[4] for row in rows}
    if wrong:
        run.refusal = EvidenceError(
            f"The row in manual_payouts differs in {', '.join(wrong)}.",
            "Keep the database as it is, attach this notebook, call Security.",
        )
    caption = f"{len(rows) - len(wrong)} of {len(rows)} fields of the row agree with Stripe and with the approvals."
    return Table(caption, ("field", "row", "source", "found there", "result"), rows)


@question
def log(run: Run) -> Banner:
    """Record that the row was read back and agrees; once."""
    shown = _log(run)
    run.verdict = shown.word
    return shown


def insert_statement(values: dict[str, Any]) -> str:
    """Write a row as one INSERT in standard SQL, every literal quoted."""
    names = [column.name for column in manual_payouts.c if column.name not in _RUNTIME]
    last = len(names) - 1
    lines = [
        f"  {_literal(values[name])}{'' if number == last else ','}  -- {name}" for number, name in enumerate(names)
    ]
    return "\n".join([f"INSERT INTO manual_payouts ({', '.join(names)})", "VALUES (", *lines, ");"])


def _literal(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, int):
        return str(value)
    text = f"{value:%Y-%m-%d %H:%M:%S.%f+00:00}" if isinstance(value, datetime) else str(value)
    return "'" + text.replace("'", "''") + "'"


def _paid(run: Run) -> PayoutRecord | None:
    record = run.find_record() if run.dry_run else run.get_record()
    if record is None or (run.dry_run and record.state is State.REFUSED):
        return None
    if record.state in (State.SUBMITTING, State.UNKNOWN, State.NEEDS_HUMAN):
        raise UnknownOutcomeError(
            f"The outcome of the sending is {record.state}; there is nothing final to log.",
            f"Run `manual-payout reconcile {record.incident_id}`.",
        )
    return record


def _comparison(run: Run, record: PayoutRecord) -> tuple[tuple[str, ...], ...]:
    shown = run.desk.gateway.get_transfer(record.stripe_transfer_id or "")
    given = {
        a.team.value: a.approver_id
        for a in run.desk.store.approvals_of(record.request_id)
        if a.approved_at <= record.created_at
    }
    request = run.desk.store.get_request(record.request_id)
    metadata = json.loads(record.payload)["metadata"]
    found = [
        ("amount", str(record.amount.amount_minor), "Stripe", str(shown["amount"])),
        ("currency", record.amount.currency, "Stripe", shown["currency"]),
        ("destination_account", record.destination_account, "Stripe", shown["destination"]),
        ("stripe_transfer_id", record.stripe_transfer_id or "", "Stripe", shown["id"]),
        ("ledger_payout_id", record.ledger_payout_id, "Stripe", shown["metadata"].get("ledger_payout_id", "")),
        ("request_digest", metadata["request_digest"], "request", request.digest),
        ("approved_by_payments_ops", record.approved_by_payments_ops, "approval", given.get("payments_ops", "")),
        ("approved_by_finance", record.approved_by_finance, "approval", given.get("finance", "")),
    ]
    return tuple((*row, "same" if row[1] == row[3] else "differs") for row in found)


def _log(run: Run) -> Banner:
    record = _paid(run)
    if record is None:
        return Banner("Nothing to log", "Nothing was sent.", good=False)
    if run.dry_run:
        return Banner(
            "Dry run: not logged",
            "The row above is as the database has it; run live to record that it was read back.",
            good=True,
        )
    if run.refusal is not None:
        return Banner("Not logged", "The row does not agree; see the table above.", good=False)
    run.desk.store.mark_logged(record, run.operator.person_id, {"compared": run.findings["compared"]})
    return Banner(
        "Logged",
        f"The row of {record.stripe_transfer_id} was read back and agrees with Stripe and the approvals.",
        good=True,
    )
