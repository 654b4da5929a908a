"""How a run ended; and after a dry run what it found, on the terminal and not behind a link, for whoever decides."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from manual_payout.cli import money
from manual_payout.cli.answers import show_json, show_table
from manual_payout.domain.display import Table
from manual_payout.domain.errors import ManualPayoutError
from manual_payout.domain.models import Stage
from truthful_papermill.plain_text import shown

if TYPE_CHECKING:
    from collections.abc import Collection

    from manual_payout.steps.endings import StageResult

# What each stage of a dry run keeps of what is read before its code is typed.
_KEPT = {Stage.VERIFY: "verification", Stage.EXECUTE: "payload", Stage.REVERSAL: "reversal-payload"}

# The questions that hold the request against the ledger, in the order in which they are read aloud.
_COMPARED = {
    "ledger_payout_of_studio": "studio",
    "amount_as_on_file": "amount",
    "destination_as_on_file": "destination",
    "reserve_arithmetic": "reserve after",
    "ledger_payout_unpaid": "ledger payout",
}


def show_results(results: list[StageResult], *, folder: str, next_command: str, as_json: bool) -> None:
    """
    Show how each stage ended, where the evidence and where the money is, and after a dry run the command that goes live.

    Args:
        next_command: The same run without a confirm code.

    Raises:
        ManualPayoutError: The last stage did not end well; with its message, remedy and exit code.
    """
    from manual_payout.domain.canonical import digest_bytes
    from manual_payout.evidence.verifier import MANIFEST, check_complete, read_folder

    last = results[-1]
    manifest = Path(folder) / MANIFEST
    head = digest_bytes(manifest.read_bytes()) if manifest.is_file() else ""
    # Each stage verifies afresh and may say the same.
    warnings = list(dict.fromkeys(said for r in results for said in r.result.get("findings", {}).get("warnings", [])))
    sealed = read_folder(Path(folder))
    if not isinstance(sealed, str) and (lacks := check_complete(sealed).wrong):
        warnings.append(f"Incomplete here: {', '.join(lacks)}. Bring it in with `manual-payout evidence add FOLDER`.")
    if as_json:
        stages = [
            {"stage": r.stage.value, "exit_code": r.exit_code, "verdict": r.verdict, "notebook": r.notebook.name}
            for r in results
        ]
        show_json(
            {"folder": folder, "manifest_sha256": head, "stages": stages, "confirm": last.confirm, "warnings": warnings}
            | {"message": last.message, "remedy": last.remedy, "exit_code": last.exit_code}
            | money.told(last.exit_code)
        )
    else:
        for result in results:
            typer.echo(f"{result.stage.value:<10} {result.verdict}")
        typer.echo(f"Evidence: {folder}")
        if head:
            typer.echo(f"SHA-256 of its manifest, for the ticket: {head}")
        for sentence in warnings:
            typer.echo(f"Warning: {sentence}")
    if last.exit_code:
        error = ManualPayoutError(last.message, last.remedy)
        error.exit_code, error.heading = last.exit_code, last.title
        raise error
    if as_json:
        return
    typer.echo(money.last_line())
    if last.confirm:
        show_dry_run(Path(folder), {result.stage for result in results})
        typer.echo(
            "\nDry run: nothing has moved. Read what stands above; if it is right, go live with the code below:\n"
        )
        typer.echo(f"  {next_command} --confirm CODE\n\n{last.confirm}")


def show_dry_run(folder: Path, stages: Collection[Stage]) -> None:
    """
    Show what a dry run verified, and the exact payload: what is not fine first, the rest counted.

    A folder holds a payout's files beside its reversals', and those of earlier runs: only what *stages* keep is read.

    Args:
        folder: The evidence folder, as it was sealed after the dry run.

        stages: Those that the dry run consisted of.
    """
    kept = {_KEPT[stage]: _newest(folder, _KEPT[stage]) for stage in stages if stage in _KEPT}
    if checks := kept.pop("verification", {}).get("checks", []):
        _show_checks(checks)
    for payload in kept.values():
        typer.echo(
            f"\nThe exact request to Stripe:\n\n{shown(json.dumps(payload, indent=2, ensure_ascii=False), keep=chr(10))}"
        )


def _show_checks(checks: list[dict[str, str]]) -> None:
    counts = Counter(check["status"] for check in checks)
    typer.echo(f"\nChecks: {', '.join(f'{count} {status}' for status, count in counts.most_common())}.")
    wrong = [check for check in checks if check["status"] != "ok"]
    if wrong:
        bad = tuple((one["status"], one["question"], one["found"], one["remedy"]) for one in wrong)
        show_table(Table("What is not fine:", ("status", "question", "found", "what to do"), bad))
    by_name = {check["name"]: check for check in checks}
    rows = tuple(
        (label, by_name[name]["expected"], by_name[name]["found"])
        for name, label in _COMPARED.items()
        if name in by_name
    )
    if rows:
        typer.echo()
        show_table(Table("The request beside the ledger:", ("field", "request", "ledger"), rows))


def _newest(folder: Path, stem: str) -> dict[str, Any]:
    """Return the content of the file that was kept last under a name; nothing where there is none."""
    found = [*folder.glob(f"{stem}.json"), *folder.glob(f"{stem}-[0-9]*.json")]
    if not found:
        return {}
    newest = max(found, key=lambda file: (len(file.stem), file.stem))
    content = json.loads(newest.read_text("utf-8"))
    return content if isinstance(content, dict) else {}
