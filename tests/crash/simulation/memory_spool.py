"""The notes of a machine in memory; held to the real ones by the tests of the spool."""

from __future__ import annotations

from manual_payout.domain.models import Record


class MemorySpool:
    """What was noted while the database was away, by key."""

    def __init__(self) -> None:
        self._notes: dict[str, str] = {}

    def note(self, record: Record, stripe_id: str) -> str:
        """Keep that Stripe has made *stripe_id* under the key of *record*."""
        self._notes[record.idempotency_key] = stripe_id
        return "memory"

    def find(self, record: Record) -> str | None:
        """Return what is noted under the key of *record*."""
        return self._notes.get(record.idempotency_key)

    def close(self, record: Record) -> None:
        """Set the note aside, if there is one."""
        self._notes.pop(record.idempotency_key, None)
