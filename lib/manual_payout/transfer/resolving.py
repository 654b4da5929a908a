"""
Unknown outcomes that looking alone settles: Stripe's list is read, with growing pauses, and what it shows is recorded.

Nothing is ever sent from here, and nothing is taken for "not moved": where the list shows nothing, it only says so.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from manual_payout.desk.wiring import Desk
from manual_payout.domain.errors import (
    ApprovalError,
    ClaimError,
    DatabaseError,
    EvidenceError,
    SettingsError,
    StripeRefusedError,
    UnknownOutcomeError,
)
from manual_payout.domain.intent import difference
from manual_payout.domain.models import OPEN_STATES, Record, stream_of
from manual_payout.transfer.delivery import lease_s, settle
from manual_payout.transfer.gate import require_same_account
from manual_payout.transfer.movement import listed, way_of

# After the first sending, and after each look that showed nothing; the last goes on for ever.
PAUSES = (timedelta(minutes=5), timedelta(hours=1), timedelta(hours=6), timedelta(days=1))

# How far back open rows are sought; what is open is found however old it is.
_RECENT = timedelta(0)

LOOKED = "looked_up"


def resolve_by_looking(desk: Desk, *, actor: str) -> list[Record]:
    """
    Look once for each open movement of this mode that is due for a look, and record what Stripe shows.

    Args:
        actor: In whose name the journal is written.

    Returns:
        What has an outcome now.

    Raises:
        DatabaseError: Ours does not answer. A failing Stripe raises nothing: the next round looks again.
    """
    now = desk.now()
    rows: list[Record] = [*desk.store.current_payouts(now - _RECENT), *desk.store.current_reversals(now - _RECENT)]
    waiting = [row for row in rows if row.mode is desk.settings.mode and row.state in OPEN_STATES and row.sent]
    due = (record for record in waiting if not _held(record, now) and _is_due(desk, record, now))
    return [settled for record in due if (settled := _look(desk, record, actor)) is not None]


def _held(record: Record, now: datetime) -> bool:
    """Whether a run has it in hand: its own answer may be on the way."""
    return record.lease_until is not None and record.lease_until > now


def _is_due(desk: Desk, record: Record, now: datetime) -> bool:
    stream = stream_of(record.incident_id, record.ledger_payout_id)
    looks = [
        event.at
        for event in desk.store.events_of(stream)
        if event.kind == LOOKED and event.data["idempotency_key"] == record.idempotency_key
    ]
    last = looks[-1] if looks else record.first_sent_at or record.created_at
    return now >= last + PAUSES[min(len(looks), len(PAUSES) - 1)]


def _look(desk: Desk, record: Record, actor: str) -> Record | None:
    try:
        reading = desk.that_reads()
        require_same_account(reading, desk.store.get_request(record.request_id))
        own, foreign = listed(reading, record)
    except DatabaseError:
        raise
    except (StripeRefusedError, SettingsError, EvidenceError, ApprovalError):
        # It says nothing about the money; the alert of the unknown outcome stays.
        return None
    if len(own) == 1 and not foreign and not difference(own[0], record):
        try:
            taken = desk.store.take_over(record, owner=actor, operator_id=record.operator_id, lease_s=lease_s(desk))
            return settle(reading, taken, own[0], took="; found by looking", actor=actor)
        except (ClaimError, UnknownOutcomeError):
            # Somebody took it up meanwhile, or it is not what it was a moment ago: theirs to say.
            return None
    shown = "; ".join(way_of(record).told(one) for one in (*own, *foreign)) or way_of(record).nothing(record)
    data = {"idempotency_key": record.idempotency_key, "found": shown}
    desk.store.record_event(stream_of(record.incident_id, record.ledger_payout_id), LOOKED, actor, data)
    return None
