"""
What the reviewer's page tells, gathered from the database and the folder as plain text.

Everything comes from what is on record; nobody types a word for the page. Reads only, and never from Stripe: the page
says what is known when the folder is sealed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manual_payout.desk.wiring import Desk
from manual_payout.domain.account import Account, account_of
from manual_payout.domain.canonical import digest_file
from manual_payout.domain.errors import EvidenceError
from manual_payout.domain.models import (
    LIVE_STATES,
    Approval,
    Event,
    Kind,
    Message,
    PayoutRecord,
    Request,
    ReversalRecord,
    stream_of,
)
from manual_payout.evidence.folder import Folder
from manual_payout.evidence.whole import LOST, missing_in, sentence_of

_SCRAP = "application/scrapbook.scrap.json+json"

_CHECK = ("name", "question", "status", "expected", "found", "remedy")

_BALANCES = ("balance_before", "balance_after", "reserve_minimum")
_UNVERIFIED = {"at": "", "operator": "", "key": "", "verdict": "", "dry_run": True, "ledger": {}, "checks": []}

# The engine's words for a cell, the worst first; a cell that still runs has no end on record.
_WORST = ("unknown", "failed", "not_run")


@dataclass(frozen=True, slots=True)
class Notebook:
    """
    One executed notebook as its file shows it.

    Attributes:
        status: ``completed``, ``failed``, ``unknown``, ``not_run``, or ``damaged`` where it cannot be read.

        verdict: What the stage came to, in its own words; empty where it came to nothing.

        refused: Whether it ended by saying no, which is an orderly end.

        page: The name of its page, or empty.
    """

    name: str
    status: str
    verdict: str
    run: str
    refused: bool
    page: str


@dataclass(frozen=True, slots=True)
class File:
    """One file of the folder with its SHA-256."""

    name: str
    size: int
    digest: str


@dataclass(frozen=True, slots=True)
class Story:
    """
    One payout, as it is on record.

    Attributes:
        request: The request that counts, or None.

        record: Its row, or the row that must not be overlooked, or None.

        earlier: Other rows for the same ledger payout under this incident.

        verification: What the newest ``verification.json`` holds; no checks where there is none.

        waiting: What is requested under this incident and not begun, in sentences.

        damage: What of the record could not be read, in sentences.

        incomplete: What was executed and is not in this folder, in a sentence; empty where it is whole.

        lost: What was given up, with the reason.
    """

    request: Request | None
    record: PayoutRecord | None
    approvals: tuple[Approval, ...]
    reversals: tuple[ReversalRecord, ...]
    earlier: tuple[PayoutRecord, ...]
    events: tuple[Event, ...]
    messages: tuple[Message, ...]
    verification: dict[str, Any]
    notebooks: tuple[Notebook, ...]
    files: tuple[File, ...]
    waiting: tuple[str, ...]
    damage: tuple[str, ...]
    incomplete: str
    lost: tuple[str, ...]

    @property
    def account(self) -> Account:
        """What became of the money under this incident."""
        rows = (self.record, *self.earlier) if self.record else self.earlier
        return account_of(rows, self.reversals, self.events)

    @property
    def broken(self) -> tuple[str, ...]:
        """The notebooks that came neither to their end nor to a refusal."""
        return tuple(book.name for book in self.notebooks if book.status != "completed" and not book.refused)


def read_story(
    desk: Desk, folder: Folder, incident_id: str, ledger_payout_id: str, *, without: frozenset[str]
) -> Story:
    """
    Read everything that the page tells.

    Args:
        without: Names of files and folders that are written after the page, and are therefore not listed in it.

    Raises:
        EvidenceError: The journal's chain is broken.
    """
    damage: list[str] = []
    request = _request(desk, incident_id, ledger_payout_id, damage)
    rows = desk.store.payouts_of(
        incident_id=incident_id, ledger_payout_id=ledger_payout_id, mode=desk.settings.mode.value
    )
    record = _telling(rows, request)
    if record is not None and (request is None or record.request_id != request.request_id):
        request = _stored(desk, record.request_id, damage)
    events = tuple(desk.store.events_of(stream_of(incident_id, ledger_payout_id)))
    return Story(
        request=request,
        record=record,
        approvals=tuple(desk.store.approvals_of(request.request_id)) if request else (),
        reversals=_reversals(desk, incident_id, ledger_payout_id, rows),
        earlier=tuple(row for row in rows if row is not record),
        events=events,
        messages=tuple(messages_of(desk, incident_id, ledger_payout_id, record)),
        verification=_verification(folder.path, damage),
        notebooks=tuple(_notebook(path) for _, _, path in folder.notebooks()),
        files=tuple(_file(path, folder.path) for path in folder.files() if _top(path, folder) not in without),
        waiting=_waiting(desk, incident_id, ledger_payout_id),
        damage=tuple(damage),
        incomplete=sentence_of(missing_in(folder, events)),
        lost=tuple(f"{e.data['name']} (on {e.data['machine']}): {e.data['because']}" for e in events if e.kind == LOST),
    )


def requests_waiting(desk: Desk, incident_id: str, ledger_payout_id: str) -> tuple[str, ...]:
    """
    Say which requests, of either direction, are open and not begun, and what becomes of each.

    Raises:
        EvidenceError: One was altered.
    """
    found = []
    for request in desk.open_requests(incident_id):
        back = request.kind is Kind.REVERSAL
        begun = desk.store.find_reversal if back else desk.store.find_payout
        what, run = ("A reversal", "reversal run") if back else ("A payout", "run")
        ends = desk.settings.policy.request.request_ends(request)
        found += [
            f"{what} of {line.amount.grouped} is requested and not begun: `manual-payout {run}` runs it, or it expires at "
            f"{ends:%Y-%m-%d %H:%M} UTC."
            for line in request.lines
            if line.ledger_payout_id == ledger_payout_id and begun(line.line_id) is None
        ]
    return tuple(found)


def _waiting(desk: Desk, incident_id: str, ledger_payout_id: str) -> tuple[str, ...]:
    try:
        return requests_waiting(desk, incident_id, ledger_payout_id)
    except EvidenceError:
        # The page says elsewhere that a request was altered.
        return ()


def messages_of(desk: Desk, incident_id: str, ledger_payout_id: str, record: PayoutRecord | None) -> list[Message]:
    """Return what was told of a payout of ours, and of another's transfer that was taken back under this incident."""
    own = desk.store.messages_of(record.payout_id) if record else []
    return own + desk.store.messages_in(stream_of(incident_id, ledger_payout_id))


def _reversals(
    desk: Desk, incident_id: str, ledger_payout_id: str, rows: Sequence[PayoutRecord]
) -> tuple[ReversalRecord, ...]:
    """Return those of this incident, and those of its transfers that were asked for under another."""
    made = {row.stripe_transfer_id for row in rows} - {None}
    found = desk.store.reversals_of(ledger_payout_id=ledger_payout_id, mode=desk.settings.mode.value)
    return tuple(one for one in found if one.incident_id == incident_id or one.stripe_transfer_id in made)


def _telling(rows: Sequence[PayoutRecord], request: Request | None) -> PayoutRecord | None:
    """Choose the row of the request; without one, a row whose money may have moved comes before any other."""
    own = [row for row in rows if request is not None and row.payout_id in {line.line_id for line in request.lines}]
    live = [row for row in rows if row.state in LIVE_STATES]
    return next(iter([*own, *live, *([] if request else rows)]), None)


def _request(desk: Desk, incident_id: str, ledger_payout_id: str, damage: list[str]) -> Request | None:
    try:
        return desk.store.find_request(incident_id, ledger_payout_id)
    except EvidenceError as error:
        # The page is made of refused and tampered evidence too; it says so instead of not being there.
        damage.append(error.message)
        return None


def _stored(desk: Desk, request_id: str, damage: list[str]) -> Request | None:
    try:
        return desk.store.get_request(request_id)
    except EvidenceError as error:
        damage.append(error.message)
        return None


def _verification(folder: Path, damage: list[str]) -> dict[str, Any]:
    found = []
    for path in sorted(folder.glob("verification*.json")):
        try:
            content = json.loads(path.read_text("utf-8"))
            # Asked for here, so that a damaged file is named instead of breaking the page.
            wanted = {name: content[name] for name in ("at", "operator", "key", "verdict", "dry_run")}
            checks = [{name: str(check[name]) for name in _CHECK} for check in content["checks"]]
            found.append(
                (str(content["at"]), path.name, wanted | {"checks": checks, "ledger": _balances(content["ledger"])})
            )
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            damage.append(f"{path.name} cannot be read ({type(error).__name__}).")
    return max(found, key=lambda item: item[:2])[2] if found else dict(_UNVERIFIED)


def _balances(ledger: dict[str, Any]) -> dict[str, str]:
    return {name: str(ledger[name]) for name in _BALANCES} if ledger else {}


def _notebook(path: Path) -> Notebook:
    page = path.with_suffix(".html")
    shown = page.name if page.is_file() else ""
    try:
        cells = json.loads(path.read_text("utf-8"))["cells"]
        result = _result(cells)
        words = [cell["metadata"].get("papermill", {}).get("status") for cell in cells if cell["cell_type"] == "code"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Notebook(path.name, "damaged", "", "", False, shown)
    found = ["unknown" if word in (None, "running") else "not_run" if word == "pending" else word for word in words]
    status = next((word for word in _WORST if word in found), "completed")
    run = {True: "dry run", False: "live"}.get(result.get("dry_run"), "") if result else ""  # type: ignore[arg-type]
    refused = status == "failed" and "refusal" in result.get("findings", {})
    return Notebook(path.name, status, str(result.get("verdict", "")), run, refused, shown)


def _result(cells: list[dict[str, Any]]) -> dict[str, Any]:
    scraps = [output.get("data", {}).get(_SCRAP, {}) for cell in cells for output in cell.get("outputs", [])]
    found = [scrap["data"] for scrap in scraps if scrap.get("name") == "result"]
    return dict(found[-1]) if found else {}


def _top(path: Path, folder: Folder) -> str:
    """Return the name of the file, or of the outermost folder that it is in."""
    return path.relative_to(folder.path).parts[0]


def _file(path: Path, folder: Path) -> File:
    name = path.relative_to(folder).as_posix()
    if path.is_symlink():
        return File(name, 0, f"symbolic link to {path.readlink()}")
    try:
        return File(name, path.stat().st_size, digest_file(path))
    except OSError as error:
        return File(name, 0, f"unreadable: {error.strerror}")
