"""When each unfinished payout is looked at next: what keeps the following of settlement slow, whoever follows."""

from __future__ import annotations

from datetime import timedelta

import sqlalchemy as sa

from manual_payout.database.schema import UNSETTLED, UtcInstant, manual_payouts, settlement_watch
from manual_payout.database.store.base import StorePart
from manual_payout.database.store.rows import record_of, record_stream
from manual_payout.domain.models import Mode, PayoutRecord, State

_payout = manual_payouts.c
_watch = settlement_watch.c


class Watching(StorePart):
    """The rows of ``settlement_watch``."""

    def due_looks(self, mode: Mode, *, settled_within: timedelta, limit: int) -> list[tuple[PayoutRecord, int]]:
        """
        Return the paid records that are due for a look, the longest waiting first, with the number of looks so far.

        Args:
            settled_within: How long a settled payout is still looked at: it can flip to failed.
        """
        now = self.clock.now()
        of_mode = _payout.mode == mode.value
        recently = (_payout.settled_at > now - settled_within) & _payout.state.in_(
            [State.PAID.value, State.PARTLY_REVERSED.value]
        )
        # Two ranges of two indexes; an OR of both would be a scan of the table.
        unfinished = sa.union_all(
            sa.select(_payout.payout_id).where(of_mode, sa.text(UNSETTLED)),
            sa.select(_payout.payout_id).where(of_mode, recently),
        ).subquery()
        waiting_since = sa.func.coalesce(_watch.next_look_at, sa.literal(now - settled_within, UtcInstant))
        query = (
            sa.select(unfinished.c.payout_id, sa.func.coalesce(_watch.looks, 0))
            .outerjoin(settlement_watch, _watch.payout_id == unfinished.c.payout_id)
            .where(_watch.next_look_at.is_(None) | (_watch.next_look_at <= now))
            .order_by(waiting_since, unfinished.c.payout_id)
            .limit(limit)
        )
        with self._read() as connection:
            looks = {str(row[0]): int(row[1]) for row in connection.execute(query)}
            rows = connection.execute(sa.select(manual_payouts).where(_payout.payout_id.in_(looks))).all()
        records = {row.payout_id: record_of(PayoutRecord, row) for row in rows}
        return [(records[payout_id], count) for payout_id, count in looks.items()]

    def record_blind_look(self, record: PayoutRecord) -> None:
        """Record that the look that was just begun saw nothing: it is due again now, and counts for no pause."""
        with self._write() as connection:
            now = self._hold(connection, record_stream(record))
            connection.execute(
                settlement_watch.update()
                .where(_watch.payout_id == record.payout_id)
                .values(looks=_watch.looks - 1, next_look_at=now)
            )

    def record_look(self, record: PayoutRecord, *, next_look_after: timedelta) -> None:
        """Record that *record* is being looked at now, and that nobody need look again before *next_look_after*."""
        with self._write() as connection:
            now = self._hold(connection, record_stream(record))
            changed = connection.execute(
                settlement_watch.update()
                .where(_watch.payout_id == record.payout_id)
                .values(looks=_watch.looks + 1, looked_at=now, next_look_at=now + next_look_after)
            )
            if changed.rowcount == 0:
                connection.execute(
                    settlement_watch.insert().values(
                        payout_id=record.payout_id, looks=1, looked_at=now, next_look_at=now + next_look_after
                    )
                )
