"""The proof of a dry run as sealing leaves it on record, for tests that need no folder."""

from __future__ import annotations

from manual_payout.approval.dry_runs import DRY_RUN, code_of, record_sealed
from manual_payout.desk.signatures import SEAL
from manual_payout.desk.signing import sandbox_key
from manual_payout.domain.models import stream_of
from payout_rehearsal.demo import incident


def leave_dry_run(desk, request, handle=incident.OPERATOR, *, key=None):
    """Leave what a sealed dry run leaves, signed with *key*, else with the operator's sandbox key; return its code."""
    person, line = desk.registry.find(handle), request.line_for()
    data = {"request_id": request.request_id, "operator_id": person.person_id}
    desk.store.record_event(stream_of(request.incident_id, line.ledger_payout_id), DRY_RUN, person.person_id, data)
    signing = key or sandbox_key(handle)
    return record_sealed(desk, request, line, person.person_id, "0" * 64, lambda text: signing.sign(SEAL, text))


def code(desk, request, handle=incident.OPERATOR):
    """Return the code of somebody's sealed dry run, else one that is nobody's."""
    person = desk.registry.find(handle)
    return (code_of(desk, request, request.line_for(), person.person_id) if person else "") or "AAAA-2222"
