"""
What an operator sends in spite of: nothing goes out after a warning about the rehearsal unless that is on record.

The event is in the same transaction as the intent. A sending that was begun without it, when the rehearsal was still good
or by somebody else, gets it before it is continued.
"""

from __future__ import annotations

from typing import Any

from manual_payout.approval.approvals import Approved
from manual_payout.approval.policy import REHEARSAL, Facts
from manual_payout.approval.verification import Verification
from manual_payout.desk.inventory import OVERRIDDEN, SHOWN, Rehearsed
from manual_payout.desk.people import Person
from manual_payout.desk.reviewed import procedure_digest
from manual_payout.desk.wiring import Desk
from manual_payout.domain.models import CheckStatus, Line, Record, Request, stream_of


def override_of(
    desk: Desk, request: Request, line: Line, verification: Verification[Facts], approved: Approved
) -> dict[str, Any] | None:
    """
    Return what is recorded of a warning that this send goes on in spite of, or None where there is none.

    Who of the two approvers was warned is read from the journal, where `approve` notes it: a rehearsal can have grown old
    between an approval and the send.
    """
    warning = next(
        (one for one in verification.checks if one.name == REHEARSAL and one.status is CheckStatus.WARN), None
    )
    if warning is None:
        return None
    standing = verification.facts.rehearsal
    approvers = [approved.payments_ops_person.person_id, approved.finance_person.person_id]
    events = desk.store.events_of(stream_of(request.incident_id, line.ledger_payout_id))
    warned = {e.actor for e in events if e.kind == SHOWN and e.data["request_id"] == request.request_id}
    return {
        "request_id": request.request_id,
        "expected": warning.expected,
        "reason": warning.found,
        "last": _told(standing.last) if standing and standing.last else {},
        "procedure": procedure_digest(),
        "approved_by": approvers,
        "approvers_warned": [approver for approver in approvers if approver in warned],
    }


def record_override(desk: Desk, record: Record, override: dict[str, Any] | None, operator: Person) -> None:
    """Record, before a sending is continued, what this operator continues it in spite of; once for each of them."""
    stream = stream_of(record.incident_id, record.ledger_payout_id)
    told = (override or {}) | {"attempt_no": record.attempt_no}
    if override is None or any(
        event.kind == OVERRIDDEN and event.actor == operator.person_id and event.data == told
        for event in desk.store.events_of(stream)
    ):
        return
    desk.store.record_event(stream, OVERRIDDEN, operator.person_id, told)


def _told(last: Rehearsed) -> dict[str, Any]:
    return {
        "on": f"{last.on:%Y-%m-%d}",
        "green": last.green,
        "target": last.target,
        "procedure": last.procedure,
    }
