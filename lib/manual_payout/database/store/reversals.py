"""Reversals as they are read."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from manual_payout.database.schema import OPEN, manual_reversals
from manual_payout.database.store.payouts import PayoutRecords
from manual_payout.database.store.rows import record_of
from manual_payout.domain.models import OPEN_STATES, Mode, ReversalRecord

_row = manual_reversals.c


class ReversalRecords(PayoutRecords):
    """The rows of ``manual_reversals``."""

    def find_reversal(self, reversal_id: str) -> ReversalRecord | None:
        """Return the reversal of that line, or None while its sending has not begun."""
        found = self.reversals_of(reversal_id=reversal_id)
        return found[0] if found else None

    def find_open_reversal(self, stripe_transfer_id: str) -> ReversalRecord | None:
        """Return the reversal of that transfer whose outcome is not known yet, or None."""
        found = self.reversals_of(stripe_transfer_id=stripe_transfer_id)
        return next((record for record in found if record.state in OPEN_STATES), None)

    def reversals_of(self, **wanted: str) -> list[ReversalRecord]:
        """Return reversals, newest first, with the wanted incident_id, ledger_payout_id or stripe_transfer_id."""
        query = sa.select(manual_reversals).order_by(_row.created_at.desc(), _row.reversal_id)
        for name, value in wanted.items():
            query = query.where(_row[name] == value)
        with self._read() as connection:
            return [record_of(ReversalRecord, row) for row in connection.execute(query)]

    def current_reversals(self, since: datetime) -> list[ReversalRecord]:
        """Return the reversals begun since an instant, and the unfinished ones before it, newest first."""
        of_any_mode = _row.mode.in_([mode.value for mode in Mode])
        wanted = sa.union(
            *(
                sa.select(_row.reversal_id).where(of_any_mode, condition)
                for condition in (_row.created_at >= since, sa.text(OPEN))
            )
        )
        with self._read() as connection:
            found = [
                record_of(ReversalRecord, row)
                for row in connection.execute(sa.select(manual_reversals).where(_row.reversal_id.in_(wanted)))
            ]
        return sorted(found, key=lambda record: (-record.created_at.timestamp(), record.reversal_id))
