"""Stage 6: the list of step 7, what is still open, the summary of all stages, and the seal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from manual_payout.approval.books import account_at
from manual_payout.desk.results import the_result
from manual_payout.domain.account import CLOSED_AS, Standing
from manual_payout.domain.display import Banner, Table, Text
from manual_payout.domain.errors import NotFinishedError
from manual_payout.domain.models import PayoutRecord
from manual_payout.domain.parameters import check_text
from manual_payout.evidence import sealing
from manual_payout.evidence.checklist import ItemStanding, checklist_of, owner_of
from manual_payout.evidence.folder import executed_notebooks
from manual_payout.evidence.postmortem import POSTMORTEM_NAME as POSTMORTEM
from manual_payout.evidence.postmortem import postmortem_text
from manual_payout.evidence.story import messages_of, read_story, requests_waiting
from manual_payout.evidence.whole import missing_in, sentence_of
from manual_payout.steps.run import Run, question

_TEXT_MAX = 4000


@question
def checklist(run: Run) -> Table:
    """Go through step 7 of the SOP: what is done, what is open, and how to do it."""
    items = checklist_of(_standing(run))
    run.findings["open"] = [item.name for item in items if not item.done]
    rows = tuple(
        ("done" if item.done else "open", item.name, item.found, "" if item.done else item.remedy) for item in items
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
def postmortem(run: Run) -> Text:
    """Fill in the postmortem's draft from the journal, and save it beside the notebooks, once the incident is closed."""
    incident_id, payout = run.parameters.incident_id, run.parameters.ledger_payout_id
    closed = run.desk.store.find_event(run.stream, "incident_closed")
    if closed is None or not account_at(run.desk, payout).closed:
        return Text("Not written: the incident is not closed.", "")
    story = read_story(run.desk, run.folder, incident_id, payout, without=frozenset())
    text = postmortem_text(
        story, closed, incident_id=incident_id, name_of=run.desk.registry.name_of, today=run.desk.now().date()
    )
    path = run.folder.replace_redacted(POSTMORTEM, text)
    return Text(f"Saved as {path.name}; what is not written yet is for people to write.", text)


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


def _standing(run: Run) -> ItemStanding:
    desk, record = run.desk, run.find_record()
    return ItemStanding(
        account=account_at(desk, run.parameters.ledger_payout_id),
        waiting=requests_waiting(desk, run.parameters.incident_id, run.parameters.ledger_payout_id),
        record=record,
        messages=messages_of(desk, run.parameters.incident_id, run.parameters.ledger_payout_id, record),
        due=desk.ledger.find_payout_due(run.parameters.ledger_payout_id),
        mode=desk.settings.mode,
        key_used=_key_used(run, record) if record else "",
        key_at_hand=desk.gateway.identity,
        today=desk.now().date(),
        access_review_every_days=desk.settings.policy.monitoring.access_review_every_days,
        typed=run.extra,
        incomplete=sentence_of(missing_in(run.folder, desk.store.events_of(run.stream))),
    )


def _key_used(run: Run, record: PayoutRecord) -> str:
    """
    Return the digest prefix of the key that verified last before the intent was recorded.

    Not of the last one at all: the run that closes verifies too, with the new key.
    """
    verified = used = ""
    for event in run.desk.store.events_of(run.stream):
        if event.kind == "verified":
            verified = str(event.data.get("stripe_key") or "")
        elif event.kind == "intent_recorded" and event.data.get("payout_id") == record.payout_id:
            used = verified
    return used


def _text(run: Run, name: str) -> str:
    return check_text(name, run.extra.get(name, ""), _TEXT_MAX, empty=True)


def _result_row(path: Path) -> list[str]:
    import nbformat
    import scrapbook

    damage = (KeyError, ValueError, TypeError, AttributeError, OSError, RecursionError, nbformat.ValidationError)
    try:
        read = scrapbook.read_notebook(str(path))
        result = read.scraps["result"].data
        wanted = [result[name] for name in ("verdict", "dry_run", "state", "stripe_transfer_id", "at")]
    except damage as error:
        # A damaged notebook must not hide the others; its name and the kind of damage are shown.
        return [path.name, f"no result ({type(error).__name__})", "", "", "", ""]
    if result != the_result(read.node.cells):
        return [path.name, "two results", "", "", "", ""]
    verdict, dry_run, state, transfer, at = wanted
    return [path.name, verdict, "dry run" if dry_run else "live", state, transfer or "", str(at)[:19].replace("T", " ")]


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _close(run: Run) -> Banner:
    # Asked again: the list may not have been shown, or shown long ago.
    standing = _standing(run)
    left = [item for item in checklist_of(standing) if not item.done]
    if left:
        told = "; ".join(f"{item.name}: {item.found.rstrip('.')}" for item in left)
        if not run.dry_run:
            run.refusal = NotFinishedError(
                f"{run.parameters.incident_id} is not closed, {len(left)} of its items are open. {_capital(told)}.",
                f"{' '.join(item.remedy for item in left)} Then run 6-close again.",
            )
        return Banner("Not closed", f"Still open: {told}.", good=False)
    if run.dry_run:
        return Banner("Dry run: not closed", "Nothing is open; run live to record the close.", good=True)
    typed = {name: _text(run, name) for name in ("root_cause", "follow_ups", "key_rotated_to", "access_review_on")}
    closed = run.desk.store.find_event(run.stream, "incident_closed")
    # A payment that began after the last close is closed for itself.
    if closed is None or not standing.account.closed:
        if standing.account.standing is Standing.ASTRAY:
            typed |= {"outcome": CLOSED_AS[standing.account.label], "owner": owner_of(standing)}
        closed = run.desk.store.record_close(run.stream, run.find_record(), actor=run.operator.person_id, data=typed)
    # What the journal keeps, which is the first close's: a second one of the same payment adds nothing to it.
    data = closed.data
    how = (
        f"{_capital(data['outcome'])}: the studio is told, {data['owner']} looks after it. "
        if data.get("outcome")
        else ""
    )
    return Banner("Closed", f"{how}Root cause: {data['root_cause']} Follow-ups: {data['follow_ups']}", good=True)
