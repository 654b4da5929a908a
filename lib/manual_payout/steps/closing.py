"""Stage 6: the list of step 7, what is still open, the summary of all stages, and the seal."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from manual_payout.display import Banner, Table
from manual_payout.errors import NotFinishedError
from manual_payout.evidence import sealing
from manual_payout.evidence.folder import executed_notebooks
from manual_payout.evidence.results import the_result
from manual_payout.models import Message, MessageState, Mode, PayoutRecord
from manual_payout.parameters import check_text
from manual_payout.steps.run import Run, question

_TEXT_MAX = 4000

# What still has to go out; a text that a person copies is theirs.
_MISSING = frozenset({MessageState.ANNOUNCED, MessageState.WAITING, MessageState.SENDING, MessageState.REFUSED})


@question
def checklist(run: Run) -> Table:
    """Go through step 7 of the SOP: what is done, what is open, and how to do it."""
    record = run.find_record()
    items = _items(run, record)
    run.findings["open"] = [name for name, done, _, _ in items if not done]
    rows = tuple(
        ("done" if done else "open", name, shown, "" if done else remedy) for name, done, shown, remedy in items
    )
    count = len(run.findings["open"])
    caption = f"{count} of {len(items)} items are open." if count else f"All {len(items)} items are done."
    return Table(caption, ("status", "item", "found", "what to do"), rows)


@question
def close(run: Run) -> Banner:
    """Record the close, with root cause and follow-ups, when nothing is open."""
    shown = _close(run)
    run.verdict = shown.word
    return shown


@question
def summary(run: Run) -> Table:
    """Read the result of every executed notebook of this folder back with scrapbook."""
    frame = read_results(run.folder.path)
    rows = tuple(tuple(str(value) for value in row) for row in frame.itertuples(index=False))
    return Table(f"{len(rows)} executed notebooks are in the folder.", tuple(str(name) for name in frame.columns), rows)


def read_results(folder: Path) -> Any:
    """
    Read what the executed notebooks glued.

    Returns:
        A pandas DataFrame, one row per notebook in order: notebook, verdict, run (dry run or live), state, transfer,
        at (UTC). A notebook without a readable result is listed as such, never left out.
    """
    import pandas as pd

    rows = [_result_row(path) for _, _, path in executed_notebooks(folder)]
    return pd.DataFrame(rows, columns=["notebook", "verdict", "run", "state", "transfer", "at"])


@question
def seal(run: Run) -> Banner:
    """Write journal and manifest of everything in the folder so far."""
    manifest = sealing.seal_folder(run.desk, run.folder, run.parameters.incident_id, run.parameters.ledger_payout_id)
    return Banner(
        "Sealed", f"{len(run.folder.files())} files are listed with their digests in {manifest.name}.", good=True
    )


def _items(run: Run, record: PayoutRecord | None) -> list[tuple[str, bool, str, str]]:
    prepared = run.desk.store.messages_of(record.payout_id) if record else []
    rotated = _text(run, "key_rotated_to")
    live = run.desk.settings.mode is Mode.LIVE
    return [
        (
            "the money has arrived", bool(record and record.settled_at),
            record.settlement_rung.replace("_", " ") if record and record.settlement_rung else "not watched yet",
            "Run 5-settle until it says so.",
        ),
        (
            "the row is logged", bool(record and record.logged_at),
            f"{record.logged_at:%Y-%m-%d %H:%M} UTC" if record and record.logged_at else "no", "Run 3-log.",
        ),
        _told(prepared),
        (
            "automation is restored", run.extra.get("automation_restored") is True,
            "confirmed by the operator" if run.extra.get("automation_restored") is True else "not confirmed",
            "Restore it, see its next run skip this payout, then set automation_restored.",
        ),
        ("root cause is written", bool(_text(run, "root_cause")), _text(run, "root_cause") or "none", "Give root_cause."),
        (
            "follow-ups have owners and dates", bool(_text(run, "follow_ups")), _text(run, "follow_ups") or "none",
            "Give follow_ups: what, owner, due date; separated by semicolons.",
        ),
        (
            "the key is rotated", bool(rotated) or not live, rotated or ("not needed: no live key was used" if not live else "no"),
            "Rotate the restricted key and give key_rotated_to: the last four characters of the new key.",
        ),
    ]  # fmt: skip


def _told(messages: list[Message]) -> tuple[str, bool, str, str]:
    states = Counter(message.state for message in messages)
    copy, missing = states[MessageState.TO_COPY], [m for m in messages if m.state in _MISSING]
    gone = len(messages) - copy - len(missing)
    found = ", ".join(
        f"{count} {what}"
        for count, what in ((gone, "sent"), (copy, "ready to copy"), (len(missing), "not sent"))
        if count
    )
    remedy = "Run 4-notify and send the messages."
    if missing and messages:
        remedy = "Run `manual-payout deliver`; what a provider refuses is sent by hand (docs/messages.md)."
    return ("stakeholders are told", len(messages) >= 2 and not missing, found or "no message is prepared", remedy)


def _text(run: Run, name: str) -> str:
    return check_text(name, run.extra.get(name, ""), _TEXT_MAX, empty=True)


def _result_row(path: Path) -> list[str]:
    import scrapbook

    try:
        read = scrapbook.read_notebook(str(path))
        result = read.scraps["result"].data
    except (KeyError, ValueError, OSError) as error:
        # A damaged notebook must not hide the others; its name and the kind of damage are shown.
        return [path.name, f"no result ({type(error).__name__})", "", "", "", ""]
    if result != the_result(read.node.cells):
        return [path.name, "two results", "", "", "", ""]
    return [
        path.name,
        result["verdict"],
        "dry run" if result["dry_run"] else "live",
        result["state"],
        result["stripe_transfer_id"] or "",
        result["at"][:19].replace("T", " "),
    ]


def _close(run: Run) -> Banner:
    if run.findings["open"]:
        if not run.dry_run:
            run.refusal = NotFinishedError(
                f"{run.parameters.incident_id} cannot be closed: {', '.join(run.findings['open'])}.",
                "Do what the list says, then run 6-close again.",
            )
        return Banner("Not closed", f"Still open: {', '.join(run.findings['open'])}.", good=False)
    if run.dry_run:
        return Banner("Dry run: not closed", "Nothing is open; run live to record the close.", good=True)
    data = {name: _text(run, name) for name in ("root_cause", "follow_ups", "key_rotated_to")}
    if run.desk.store.find_event(run.stream, "incident_closed") is None:
        run.desk.store.record_event(run.stream, "incident_closed", run.operator.person_id, data)
    return Banner("Closed", f"Root cause: {data['root_cause']} Follow-ups: {data['follow_ups']}", good=True)
