"""Who seals the folder that holds their dry run leaves the proof of it on record, and is told the confirm code."""

from __future__ import annotations

import json

from manual_payout.approval.dry_runs import DRY_RUN, confirm_code, find_sealed, record_sealed
from manual_payout.desk.wiring import Desk
from manual_payout.domain.models import Kind, Line, Request, State, stream_of
from manual_payout.evidence.folder import Folder
from manual_payout.evidence.manifest import Sealer, head_digest
from manual_payout.evidence.verifier import MANIFEST


def prove_dry_run(desk: Desk, folder: Folder, incident_id: str, ledger_payout_id: str, sealer: Sealer | None) -> str:
    """
    Record that the newest dry run of who sealed *folder* is in its journal, under their signature; once for each dry run.

    Returns:
        The confirm code; empty where no dry run of theirs is on record, or what it was for has been sent.

    Raises:
        DatabaseError: It could not be recorded; the dry run is not lost, and sealing again records it.
    """
    if sealer is None:
        return ""
    stream = stream_of(incident_id, ledger_payout_id)
    made = desk.store.find_event(stream, DRY_RUN, lambda data: data["operator_id"] == sealer.person_id)
    if made is None:
        return ""
    request = desk.store.get_request(made.data["request_id"])
    line = request.line_for(ledger_payout_id)
    if _has_left(desk, request, line) or _journal_length(folder) < made.seq:
        return ""
    sealed = find_sealed(desk, request, line, sealer.person_id)
    if sealed is not None and sealed.seq > made.seq:
        return confirm_code(sealed.data)
    return record_sealed(desk, request, line, sealer.person_id, head_digest(folder), sealer.sign)


def _has_left(desk: Desk, request: Request, line: Line) -> bool:
    find = desk.store.find_reversal if request.kind is Kind.REVERSAL else desk.store.find_payout
    record = find(line.line_id)
    return record is not None and record.state not in (State.REFUSED, State.SUBMITTING)


def _journal_length(folder: Folder) -> int:
    return int(json.loads((folder.path / MANIFEST).read_text("utf-8"))["predicate"]["facts"]["journal_length"])
