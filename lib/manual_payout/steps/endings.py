"""How a stage and a run ended: by the executed notebook first, and last by the books."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from manual_payout.approval.books import account_at, exit_code
from manual_payout.desk.results import the_result
from manual_payout.desk.wiring import Desk
from manual_payout.domain.account import Standing
from manual_payout.domain.errors import (
    DatabaseError,
    EvidenceError,
    RefusedError,
    SettingsError,
    UnknownOutcomeError,
    kind_of,
)
from manual_payout.domain.models import Stage
from manual_payout.evidence.folder import Folder
from truthful_papermill.engine import Execution


@dataclass(frozen=True, slots=True)
class StageResult:
    """
    How one stage ended.

    Attributes:
        exit_code: As the command line documents them.

        verdict: The stage's own word.

        message: Why it stopped; empty when it did not.

        remedy: What to do next; empty when it did not stop.

        notebook: The executed notebook.

        result: What the notebook glued; empty when it came to nothing.

        confirm: After a dry run that was sealed, the code that the live run must be given.

        title: What a tired operator reads first of why it stopped; empty where the exit code's own words do.
    """

    stage: Stage
    exit_code: int
    verdict: str
    message: str
    remedy: str
    notebook: Path
    result: Mapping[str, Any] = field(default_factory=dict)
    title: str = ""
    confirm: str = ""


def judge_ending(stage: Stage, execution: Execution) -> StageResult:
    """Read how a stage ended from its executed notebook."""
    result = _result_of(execution.path)
    refusal = result.get("findings", {}).get("refusal", {})
    verdict = str(result.get("verdict", execution.status))
    if execution.status == "completed":
        return StageResult(stage, 0, verdict, "", "", execution.path, result)
    message = str(refusal.get("message") or execution.error_message or f"{stage} ended as {execution.status}.")
    remedy = str(
        refusal.get("remedy") or f"Open {execution.path.name} to see where it stopped, then run the same stage again."
    )
    kind = kind_of(str(refusal.get("error") or execution.error_name))
    title = str(refusal.get("title") or kind.heading)
    return StageResult(stage, kind.exit_code, verdict, message, remedy, execution.path, result, title)


def unsaved(stage: Stage, folder: Folder, error: EvidenceError) -> StageResult:
    """How a stage ended whose notebook the disk did not take."""
    notebook = folder.path / f"{stage}.ipynb"
    return StageResult(stage, error.exit_code, "not saved", error.message, error.remedy, notebook)


def unkept(last: StageResult, error: EvidenceError) -> StageResult:
    """Add to how a stage ended that its evidence could not be kept."""
    return replace(
        last,
        exit_code=last.exit_code or error.exit_code,
        message=f"{last.message} {error.message}".strip(),
        remedy=last.remedy or error.remedy,
    )


def result_as_it_is(
    desk: Desk, last: StageResult, incident_id: str, ledger_payout_id: str, *, live: bool, reversal: str = ""
) -> StageResult:
    """Hold how a run ended against the books, of which no notebook has the last word."""
    try:
        account = account_at(desk, ledger_payout_id)
    except DatabaseError:
        return _unasked(last, incident_id, live=live, reversal=bool(reversal))
    code = exit_code(last.exit_code, account, reversal=bool(reversal))
    if code == last.exit_code:
        moved = code == EvidenceError.exit_code and account.standing is not Standing.NOTHING
        if moved and account.sentence not in last.message:
            last = replace(last, message=f"{last.message} {account.sentence}")
        return last
    return replace(
        last,
        exit_code=code,
        title="",
        message=f"{account.sentence} {last.message}".strip(),
        remedy=account.remedy or last.remedy,
    )


def _unasked(last: StageResult, incident_id: str, *, live: bool, reversal: bool) -> StageResult:
    """Claim nothing where the books cannot be asked: what may have sent, and did not say what became of it, is unknown."""
    sends = live and last.stage in (Stage.EXECUTE, Stage.REVERSAL) and last.exit_code != SettingsError.exit_code
    if last.exit_code == UnknownOutcomeError.exit_code or (last.exit_code and sends):
        command = f"manual-payout {'reversal ' if reversal else ''}reconcile {incident_id}"
        remedy = (
            last.remedy
            if command in last.remedy
            else f"Mend the database, then run `{command}`; never send again before."
        )
        return replace(last, exit_code=UnknownOutcomeError.exit_code, title="", remedy=remedy)
    if last.exit_code == RefusedError.exit_code:
        return replace(last, exit_code=DatabaseError.exit_code, title="")
    return last


def _result_of(notebook: Path) -> dict[str, Any]:
    return the_result(json.loads(notebook.read_text("utf-8"))["cells"])
