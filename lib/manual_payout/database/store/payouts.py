"""Payout records as they are read, and what becomes of them after the money has moved."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from manual_payout.database import journal
from manual_payout.database.schema import OPEN, UNSETTLED, manual_payouts, request_lines, requests
from manual_payout.database.store.announcing import NEWS, announce
from manual_payout.database.store.base import StorePart
from manual_payout.database.store.rows import record_of, record_stream, row_values
from manual_payout.database.store.shapes import shape_of
from manual_payout.domain.models import LIVE_STATES, OPEN_STATES, Event, Kind, Mode, PayoutRecord, Record, State

_OBSERVED = "settlement_observed"

# Two looks at the ladder that agree in these are one observation.
_DIFFERS = ("rung", "done", "failed")

# On the rungs below, the money is still on its way to the studio, whatever the policy calls settled.
_WITH_THE_STUDIO = frozenset({"usable_by_studio", "paid_to_bank"})


class PayoutRecords(StorePart):
    """The rows of ``manual_payouts``."""

    def find_payout(self, payout_id: str) -> PayoutRecord | None:
        """Return the payout record of that line, or None while its sending has not begun."""
        return self._payout(manual_payouts.c.payout_id == payout_id)

    def find_live_payout(self, ledger_payout_id: str, mode: Mode) -> PayoutRecord | None:
        """Return the one live record of the ledger payout, or None."""
        return self._payout(
            (manual_payouts.c.ledger_payout_id == ledger_payout_id)
            & (manual_payouts.c.mode == mode.value)
            & manual_payouts.c.state.in_([state.value for state in LIVE_STATES])
        )

    def payouts_of(self, **wanted: str) -> list[PayoutRecord]:
        """Return payout records, newest first, with the wanted incident_id, ledger_payout_id, studio_id or mode."""
        query = sa.select(manual_payouts).order_by(manual_payouts.c.created_at.desc(), manual_payouts.c.payout_id)
        for name, value in wanted.items():
            query = query.where(manual_payouts.c[name] == value)
        with self._read() as connection:
            return [record_of(PayoutRecord, row) for row in connection.execute(query)]

    def current_payouts(self, since: datetime) -> list[PayoutRecord]:
        """Return the payout records begun since an instant, and the unfinished and unsettled ones before it, newest first."""
        of_any_mode = manual_payouts.c.mode.in_([mode.value for mode in Mode])
        wanted = sa.union(
            *(
                sa.select(manual_payouts.c.payout_id).where(of_any_mode, condition)
                for condition in (manual_payouts.c.created_at >= since, sa.text(OPEN), sa.text(UNSETTLED))
            )
        )
        query = sa.select(manual_payouts).where(manual_payouts.c.payout_id.in_(wanted))
        with self._read() as connection:
            found = [record_of(PayoutRecord, row) for row in connection.execute(query)]
        return sorted(found, key=lambda record: (-record.created_at.timestamp(), record.payout_id))

    def audit_values(self, payout_id: str) -> dict[str, Any]:
        """Return every column of one payout record as it is stored."""
        with self._read() as connection:
            row = connection.execute(sa.select(manual_payouts).where(manual_payouts.c.payout_id == payout_id)).one()
        return row_values(row)

    def began_at(self, record: Record) -> datetime:
        """Return when the present attempt of *record* began, which is when its approvals had to stand."""
        attempts = shape_of(record).attempts
        query = sa.select(attempts.c.created_at).where(attempts.c.idempotency_key == record.idempotency_key)
        with self._read() as connection:
            began: datetime = connection.execute(query).scalar_one()
        return began

    def dead_claims(self, ledger_payout_id: str) -> list[str]:
        """
        Return the lines whose claim on the ledger payout can no longer stand for any money.

        Those are the refused ones, those whose money has come back whole, and those that never began and never will: `record_intent` refuses a request that is
        withdrawn or expired, in the very transaction that would begin it.
        """
        query = (
            sa.select(request_lines.c.line_id, requests, manual_payouts.c.state)
            .join(requests, requests.c.request_id == request_lines.c.request_id)
            .outerjoin(manual_payouts, manual_payouts.c.payout_id == request_lines.c.line_id)
            .where(request_lines.c.ledger_payout_id == ledger_payout_id, requests.c.kind == Kind.TRANSFER.value)
            .order_by(requests.c.filed_at, request_lines.c.line_id)
        )
        now = self.clock.now()
        with self._read() as connection:
            rows = connection.execute(query).all()
            gone = {row.request_id for row in rows if row.expires_at <= now} | {
                event.data["request_id"]
                for stream in {f"{row.incident_id}/{ledger_payout_id}" for row in rows}
                for event in journal.read(connection, stream)
                if event.kind == "request_withdrawn"
            }
        return [
            row.line_id
            for row in rows
            if row.state in (State.REFUSED.value, State.REVERSED.value)
            or (row.state is None and row.request_id in gone)
        ]

    def mark_logged(self, record: PayoutRecord, actor: str, data: dict[str, Any]) -> PayoutRecord:
        """Record once that the row was read back, compared and put into the evidence (SOP step 4)."""
        if record.logged_at is not None:
            return record
        with self._write() as connection:
            now = self._hold(connection, record_stream(record))
            changed = connection.execute(
                manual_payouts.update()
                .where(manual_payouts.c.payout_id == record.payout_id, manual_payouts.c.logged_at.is_(None))
                .values(logged_at=now)
            )
            if changed.rowcount == 1:
                self._append(connection, now, record_stream(record), "payout_logged", actor, data)
            return shape_of(record).present(connection, record)

    def record_settlement(
        self, record: PayoutRecord, rung: str, *, done: bool, actor: str, data: dict[str, Any]
    ) -> PayoutRecord:
        """
        Record what was seen of the settlement when it differs from what was seen last.

        That the money has reached the studio, and that it failed on the way, is announced with it.

        Args:
            data: What shows it; ``failed`` says that a rung was lost, ``came_back_minor`` how much came back unapproved,
                and ``partly`` that it was not all.
        """
        with self._write() as connection:
            now = self._hold(connection, record_stream(record))
            earlier = [e.data for e in journal.read(connection, record_stream(record)) if e.kind == _OBSERVED]
            seen = {"rung": rung, "done": done} | data
            if earlier and all(earlier[-1].get(name) == seen.get(name) for name in _DIFFERS):
                return shape_of(record).present(connection, record)
            connection.execute(
                manual_payouts.update()
                .where(manual_payouts.c.payout_id == record.payout_id)
                .values(settlement_rung=rung, settled_at=_settled_since(now) if done else None)
            )
            told = next((e["told"] for e in reversed(earlier) if e.get("told")), "")
            news = "came back" if data.get("partly") else _news(rung, done=done, failed=bool(data.get("failed")))
            if news and news != told:
                announce(connection, now, record, NEWS[news], payout_id=record.payout_id)
                seen["told"] = news
            self._append(connection, now, record_stream(record), _OBSERVED, actor, seen)
            return shape_of(record).present(connection, record)

    def record_reversed(self, record: PayoutRecord, reversed_minor: int, *, actor: str) -> PayoutRecord:
        """
        Record that money of a transfer on record has come back, by whatever way; the same amount only once.

        Args:
            reversed_minor: How much of it in all, in minor units, as Stripe shows it.
        """
        with self._write() as connection:
            now = self._hold(connection, record_stream(record))
            chain = journal.read(connection, record_stream(record))
            told = next((e.data for e in reversed(chain) if e.kind == "payout_reversed"), None)
            known = shape_of(record).present(connection, record)
            same = {
                "state": known.state.value,
                "stripe_transfer_id": known.stripe_transfer_id,
                "reversed_minor": reversed_minor,
            }
            if told is not None and same.items() <= told.items():
                return known
            self._mark_reversed(connection, now, record, reversed_minor, actor)
            return shape_of(record).present(connection, record)

    def record_close(self, stream: str, payout: PayoutRecord | None, *, actor: str, data: dict[str, Any]) -> Event:
        """Record that an incident was closed; a page about the *payout* is over then."""
        with self._write() as connection:
            now = self._hold(connection, stream)
            if payout is not None:
                announce(connection, now, payout, NEWS["closed"], payout_id=payout.payout_id)
            return self._append(connection, now, stream, "incident_closed", actor, data | {"told": "closed"})

    def _payout_of(self, connection: sa.Connection, record: Record) -> PayoutRecord | None:
        """Return the row whose transfer is the one that *record* is about, or None where it is none of ours."""
        query = sa.select(manual_payouts).where(manual_payouts.c.stripe_transfer_id == record.stripe_transfer_id)
        row = connection.execute(query).first()
        return record_of(PayoutRecord, row) if row is not None else None

    def _mark_reversed(
        self,
        connection: sa.Connection,
        now: datetime,
        record: PayoutRecord,
        reversed_minor: int,
        actor: str,
        *,
        approved: bool = False,
    ) -> None:
        """
        Change a transfer's row, under its journal's lock; what has come back whole never goes back to partly.

        Args:
            approved: By a reversal that was approved here; where nothing is left of it, what a page told of is over.
        """
        # The transfer's own amount: where it is not the one that was meant, that is why it comes back.
        made_minor = json.loads(record.transfer)["amount"] if record.transfer else record.amount.amount_minor
        state = State.REVERSED if reversed_minor >= made_minor else State.PARTLY_REVERSED
        reversible = (*OPEN_STATES, State.PAID, State.PARTLY_REVERSED)
        changed = connection.execute(
            manual_payouts.update()
            .where(manual_payouts.c.payout_id == record.payout_id)
            .where(manual_payouts.c.stripe_transfer_id == record.stripe_transfer_id)
            .where(manual_payouts.c.state.in_([one.value for one in reversible]))
            .values(state=state.value)
        )
        if changed.rowcount == 1:
            data = {
                "state": state.value,
                "stripe_transfer_id": record.stripe_transfer_id,
                "reversed_minor": reversed_minor,
            }
            if approved and state is State.REVERSED:
                data["told"] = "taken back"
                announce(connection, now, record, NEWS["taken back"], payout_id=record.payout_id)
            self._append(connection, now, record_stream(record), "payout_reversed", actor, data)

    def _payout(self, condition: sa.ColumnElement[bool]) -> PayoutRecord | None:
        with self._read() as connection:
            row = connection.execute(sa.select(manual_payouts).where(condition)).first()
        return record_of(PayoutRecord, row) if row is not None else None


def _settled_since(now: datetime) -> sa.ColumnElement[datetime]:
    column = manual_payouts.c.settled_at
    return sa.func.coalesce(column, sa.literal(now, column.type))


def _news(rung: str, *, done: bool, failed: bool) -> str:
    """Say what the studio has to hear of: that the money reached it, or that it did not."""
    if failed:
        return "failed"
    return "arrived" if done and rung in _WITH_THE_STUDIO else ""
