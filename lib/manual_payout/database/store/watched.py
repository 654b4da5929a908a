"""What monitoring asks of our tables: every question is bounded by a window of time, a limit, or what is unfinished."""

from __future__ import annotations

import json
from collections.abc import Collection
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from manual_payout.database.schema import OPEN, UNSETTLED, events, manual_payouts, manual_reversals
from manual_payout.database.store.base import StorePart
from manual_payout.domain.models import MOVED_STATES, Mode, State, stream_of

_payout = manual_payouts.c
_reversal = manual_reversals.c

# Whoever has more than this many open cases is not helped by a longer list.
_ROWS_MAX = 100

# A statement of the listing of one window; it is asked in parts of this size.
_IDS_MAX = 500


class Watched(StorePart):
    """The rows that somebody should look at."""

    def count_recent(self, mode: Mode, since: datetime) -> int:
        """Count the manual payouts begun since an instant; those that Stripe refused are none."""
        query = sa.select(sa.func.count()).where(*_recent(mode, since))
        with self._read() as connection:
            return int(connection.execute(query).scalar_one())

    def repeated_studios(self, mode: Mode, since: datetime, *, above: int) -> list[tuple[str, str, int]]:
        """Return id, name and count of the studios with more than *above* manual payouts since an instant."""
        count = sa.func.count()
        query = (
            sa.select(_payout.studio_id, count)
            .where(*_recent(mode, since))
            .group_by(_payout.studio_id)
            .having(count > above)
            .order_by(count.desc(), _payout.studio_id)
            .limit(_ROWS_MAX)
        )
        with self._read() as connection:
            counts = connection.execute(query).all()
            return [(studio_id, _name_of(connection, studio_id), int(number)) for studio_id, number in counts]

    def transfers_between(self, mode: Mode, since: datetime, until: datetime) -> list[tuple[str, str]]:
        """Return the transfer and the incident of every payout begun in a span of time and known to have been made."""
        query = sa.select(_payout.stripe_transfer_id, _payout.incident_id).where(
            *_recent(mode, since), _payout.outcome_at <= until, _payout.stripe_transfer_id.is_not(None)
        )
        with self._read() as connection:
            return [(str(row[0]), str(row[1])) for row in connection.execute(query)]

    def known_transfers(self, transfer_ids: Collection[str]) -> set[str]:
        """Return which of these transfers a row of ours names as its own."""
        with self._read() as connection:
            return _known(connection, _payout.stripe_transfer_id, transfer_ids)

    def open_lines(self, line_ids: Collection[str]) -> set[str]:
        """Return which of these lines have a row whose transfer is still to be found out."""
        open_ = sa.text(OPEN) & _payout.stripe_transfer_id.is_(None)
        with self._read() as connection:
            return _known(connection, _payout.payout_id, line_ids, open_)

    def paid_by_hand(self, mode: Mode, ledger_payout_ids: Collection[str]) -> set[str]:
        """Return which of these ledger payouts a row of ours has paid, and whose money has not come back whole."""
        with_them = _payout.state.in_([State.PAID.value, State.PARTLY_REVERSED.value])
        with self._read() as connection:
            return _known(
                connection, _payout.ledger_payout_id, ledger_payout_ids, with_them, _payout.mode == mode.value
            )

    def unfinished(self, mode: Mode) -> list[sa.Row[Any]]:
        """Return the payouts and reversals whose outcome is not known, the oldest first."""
        rows: list[sa.Row[Any]] = []
        with self._read() as connection:
            for table, key in ((_payout, _payout.payout_id), (_reversal, _reversal.reversal_id)):
                query = _standing(table, key, sa.func.coalesce(table.first_sent_at, table.created_at), table.state)
                query = query.where(table.mode == mode.value, sa.text(OPEN)).order_by(table.created_at)
                rows += connection.execute(query.limit(_ROWS_MAX)).all()
        return rows

    def unsettled(self, mode: Mode) -> list[sa.Row[Any]]:
        """Return the paid payouts that have not reached the rung that counts as settled, the oldest first."""
        query = _standing(_payout, _payout.payout_id, _payout.outcome_at, sa.func.coalesce(_payout.settlement_rung, ""))
        query = query.where(_payout.mode == mode.value, sa.text(UNSETTLED)).order_by(_payout.outcome_at)
        with self._read() as connection:
            return list(connection.execute(query.limit(_ROWS_MAX)).all())

    def first_payment_after(self, mode: Mode, instant: datetime) -> datetime | None:
        """Return when the first payout or reversal after an instant was begun that moved money, or None."""
        found: list[datetime] = []
        with self._read() as connection:
            for table in (_payout, _reversal):
                moved = table.mode == mode.value, table.created_at > instant, table.state.in_(MOVED_STATES)
                query = sa.select(table.created_at).where(*moved).order_by(table.created_at).limit(1)
                found += connection.scalars(query).all()
        return min(found, default=None)

    def last_key_rotation(self, mode: Mode) -> datetime | None:
        """Return when the close of an incident of this mode last named a new key, among the last hundred that were closed."""
        query = (
            sa.select(events.c.at, events.c.data, events.c.stream)
            .where(events.c.kind == "incident_closed")
            .order_by(events.c.at.desc())
            .limit(_ROWS_MAX)
        )
        with self._read() as connection:
            rows = [one for one in connection.execute(query) if json.loads(one.data).get("key_rotated_to")]
            incidents = sorted({one.stream.partition("/")[0] for one in rows})
            # The new key of a rehearsal is no key of this mode.
            of_mode = {
                stream_of(*pair)
                for table in (_payout, _reversal)
                for pair in connection.execute(
                    sa.select(table.incident_id, table.ledger_payout_id).where(
                        table.mode == mode.value, table.incident_id.in_(incidents)
                    )
                )
            }
        return next((one.at for one in rows if one.stream in of_mode), None)


def _recent(mode: Mode, since: datetime) -> tuple[sa.ColumnElement[bool], ...]:
    return _payout.mode == mode.value, _payout.created_at >= since, _payout.state != State.REFUSED.value


def _standing(table: Any, key: sa.Column[str], since: Any, state: Any) -> sa.Select[Any]:
    return sa.select(
        key.label("row_id"), table.incident_id, table.ledger_payout_id, table.studio_name, table.amount_minor, table.currency,
        state.label("standing"), since.label("since"), sa.literal(table is _reversal).label("reversal"),
    )  # fmt: skip


def _name_of(connection: sa.Connection, studio_id: str) -> str:
    query = sa.select(_payout.studio_name).where(_payout.studio_id == studio_id).limit(1)
    return str(connection.execute(query).scalar_one())


def _known(
    connection: sa.Connection, column: Any, wanted: Collection[str], *conditions: sa.ColumnElement[bool]
) -> set[str]:
    found: set[str] = set()
    ordered = sorted(wanted)
    for start in range(0, len(ordered), _IDS_MAX):
        part = ordered[start : start + _IDS_MAX]
        found |= set(connection.scalars(sa.select(column).where(column.in_(part), *conditions)))
    return found
