"""Stage 1: is everything as it must be before money may move? Reads only."""

from __future__ import annotations

import csv
import io
from dataclasses import asdict
from typing import Any

from manual_payout.approval.approvals import teams_approved
from manual_payout.approval.books import account_at
from manual_payout.approval.policy import AS_FILED, Facts, balance_at
from manual_payout.approval.verification import Verification
from manual_payout.approval.verification import verify as verify_afresh
from manual_payout.domain.account import Standing
from manual_payout.domain.canonical import instant_text
from manual_payout.domain.display import Table, check_table, facts_table, go_or_no_go, warnings_of
from manual_payout.domain.errors import OtherValuesError, PolicyRefusedError
from manual_payout.domain.models import Check, PayoutRecord, Stage, State
from manual_payout.evidence.folder import json_text
from manual_payout.gateway.privileges import clocks_differ, least_privilege, try_key
from manual_payout.steps.papers import approvals_table, keep_approvals
from manual_payout.steps.run import Run, question
from manual_payout.transfer.gate import try_claim

# What a spreadsheet would run as a formula (OWASP, *CSV Injection*), full-width forms included.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # the full-width forms are meant
_PASSED_OVER = "\ufeff\u200b\u200e\u200f\u2060"


@question
def request(run: Run) -> Table:
    """Show the fallback request as it was filed."""
    found = run.find_request()
    if found is None:
        return facts_table(f"{run.parameters.incident_id} has no fallback request for this ledger payout.", {})
    run.folder.keep("request.json", json_text({"statement": found.statement(), "digest": found.digest}))
    line, names = found.line_for(run.ledger_payout_id), run.desk.registry
    return facts_table(
        f"Request {found.request_id[:8]}: {line.amount.grouped} for {line.studio_name}, filed by {names.name_of(found.requested_by)}.",
        {
            "request": found.request_id,
            "digest": found.digest,
            "filed": f"{found.filed_at:%Y-%m-%d %H:%M} UTC by {names.name_of(found.requested_by)}",
            "valid until": f"{run.desk.settings.policy.request.request_ends(found):%Y-%m-%d %H:%M} UTC",
            "reason": found.reason.value,
            "notes": found.notes,
            "mode and account": f"{found.mode}, {found.platform_account}",
        }
        | ({"other transfers, not this payout": ", ".join(line.acknowledged)} if line.acknowledged else {}),
    )


@question
def approvals(run: Run) -> Table:
    """Show who approved it."""
    found = run.find_request()
    given = run.desk.store.approvals_of(found.request_id) if found else []
    keep_approvals(run.folder, "approvals.json", given)
    rules = run.desk.settings.policy.request
    teams = len(teams_approved(given, found, rules, run.desk.now())) if found else 0
    return approvals_table(f"{teams} of 2 teams have a valid approval now.", given, found, run.desk)


@question
def ledger_payout(run: Run) -> Table:
    """Show the ledger payout and export it as CSV into the folder (SOP step 1, second line)."""
    due = run.desk.ledger.find_payout_due(run.parameters.ledger_payout_id)
    if due is None:
        return facts_table(f"The ledger has no payout {run.parameters.ledger_payout_id}.", {})
    row = run.desk.ledger.export_row(due.ledger_payout_id)
    path = run.folder.keep("ledger-payout.csv", csv_text([row]))
    balance = run.desk.ledger.find_balance(due.studio_id, due.currency)
    before = balance.balance.grouped if balance else "no balance in the ledger"
    after = (balance.balance - due.amount).grouped if balance else ""
    return facts_table(
        f"The ledger owes {due.studio_name} {due.amount.grouped}; exported to {path.name}.",
        {
            "owed": due.amount.grouped,
            "for the period": f"{due.period_start:%Y-%m-%d} to {due.period_end:%Y-%m-%d}",
            "status": f"{due.status}{f', {due.failure_reason}' if due.failure_reason else ''}",
            "destination on file": due.destination_account,
            "balance before → after": f"{before} → {after}" if after else before,
            "balance computed": balance_at(balance, run.desk.now(), run.desk.settings.policy)[1] if balance else "",
            "minimum reserve": balance.reserve_minimum.grouped if balance else "",
        },
    )


@question
def verify(run: Run) -> Table:
    """Fetch every fact afresh and judge it; the verdict is in the caption."""
    found = verify_afresh(run.desk, run.parameters, run.operator.person_id)
    done = _done(run, found.facts.record)
    if found.go and found.facts.record is None and found.facts.line is not None:
        # What else says no is told alone: a claim that nobody may write yet proves nothing.
        found = Verification(found.facts, (*found.checks, try_claim(run.desk, found.facts.line)))
    answers = found.checks
    said = done or go_or_no_go(answers)
    if run.stage is Stage.VERIFY:
        # Here only: what the key may do besides neither allows nor forbids a payout, and asking takes a while.
        answers = (*answers, least_privilege(try_key(run.desk.gateway, run.parameters.destination_account)))
        if apart := run.desk.clocks():
            answers = (*answers, clocks_differ(apart))
        said = run.verdict = done or go_or_no_go(answers)
        run.folder.keep("verification.json", json_text(_record(run, found.facts, answers, said)))
    checks = {check.name: check.status.value for check in answers}
    run.findings |= {"checks": checks, "verdict": said}
    if warnings := warnings_of(answers):
        # For whoever reads the terminal and not the notebook.
        run.findings["warnings"] = warnings
    data = {"verdict": said, "checks": checks, "registry_digest": run.desk.registry.digest}
    # By which the close tells the new key from this one.
    data["stripe_key"] = run.desk.gateway.identity.digest_prefix
    run.desk.store.record_event(run.stream, "verified", run.operator.person_id, data)
    try:
        # What has moved is not judged again; but whoever types something else is told so (design, rule 5).
        found.require_go(but=frozenset(checks) - {AS_FILED} if done else frozenset())
    except (PolicyRefusedError, OtherValuesError) as error:
        run.refusal = error
    return check_table(answers, done=done)


def _done(run: Run, record: PayoutRecord | None) -> str:
    """Say what became of a payout that was made; a send would not be admitted, so GO and NO-GO are no answers."""
    words = {State.PAID: "Paid", State.PARTLY_REVERSED: "Paid, and partly come back", State.REVERSED: "Come back whole"}
    if record is None or record.state not in words:
        return ""
    astray = account_at(run.desk, record.ledger_payout_id, record.mode).standing is Standing.ASTRAY
    return f"{'Moved, and did not arrive' if astray else words[record.state]}: {record.stripe_transfer_id}"


def _record(run: Run, facts: Facts, answers: tuple[Check, ...], said: str) -> dict[str, Any]:
    """Build what a reviewer and a program read of one verification: every check, and the studio's balance at that time."""
    due, balance = facts.due, facts.balance
    ledger = {}
    if due is not None and balance is not None:
        ledger = {
            "balance_before": balance.balance.grouped,
            "balance_after": (balance.balance - due.amount).grouped,
            "reserve_minimum": balance.reserve_minimum.grouped,
            "balance_as_of": instant_text(balance.as_of),
        }
    return {
        "at": instant_text(facts.at),
        "operator": run.operator.person_id,
        "dry_run": run.dry_run,
        "mode": facts.mode.value,
        "key": facts.stripe.key,
        "verdict": said,
        "ledger": ledger,
        "checks": [asdict(check) for check in answers],
    }


def csv_text(rows: list[dict[str, str]]) -> str:
    """Write rows as CSV in which no cell is a formula to a spreadsheet."""
    file = io.StringIO()
    writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\r\n")
    writer.writeheader()
    writer.writerows({name: defused(value) for name, value in row.items()} for row in rows)
    return file.getvalue()


def defused(cell: str) -> str:
    """Quote a cell that a spreadsheet would take for a formula."""
    # A spreadsheet passes over what it does not show, so a formula may hide behind it.
    seen = cell.lstrip().lstrip(_PASSED_OVER).lstrip()
    return f"'{cell}" if cell.startswith(_FORMULA) or seen.startswith(_FORMULA) else cell
