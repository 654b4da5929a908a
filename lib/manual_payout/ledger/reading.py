"""Payouts and balances as they are read."""

from __future__ import annotations

from collections.abc import Collection
from datetime import date, datetime

from sqlalchemy import or_, select
from sqlalchemy.exc import SQLAlchemyError

from manual_payout.domain.errors import DatabaseError, ParameterError
from manual_payout.domain.money import exponent
from manual_payout.ledger.base import AnyLedger
from manual_payout.ledger.faults import is_no_value, lacks_column
from manual_payout.ledger.mapping import LedgerMapping
from manual_payout.ledger.relations import one_row, select_all
from manual_payout.ledger.rows import Row, past_payout, payout_due, studio_balance
from manual_payout.ledger.values import DUE_COLUMNS, TRANSFER_COLUMN, PastPayout, PayoutDue, StudioBalance

# A long list of ids is asked for in parts of this size.
_IDS_MAX = 100


class Reading(AnyLedger):
    """What the ledger is asked; nothing is written."""

    def get_payout_due(self, ledger_payout_id: str) -> PayoutDue:
        """
        Return the payout.

        Raises:
            ParameterError: The ledger has no such payout, or writes its id in another way.

            DatabaseError: The ledger cannot be read, or the row cannot be true.
        """
        found = self.find_payout_due(ledger_payout_id)
        if found is None:
            raise _no_such_payout(ledger_payout_id, self.mapping)
        return found

    def find_payout_due(self, ledger_payout_id: str) -> PayoutDue | None:
        """Return the payout, or None where the ledger has none of that id; raises as `get_payout_due` otherwise."""
        try:
            with self._transaction() as connection:
                return self._read_due(connection, ledger_payout_id)
        except DatabaseError as error:
            if isinstance(error.__context__, SQLAlchemyError) and is_no_value(error.__context__):
                return None
            raise

    def failed_payouts(self, limit: int = 200) -> list[PayoutDue]:
        """
        Return the payouts that the ledger calls failed, the latest first, at most *limit*.

        Raises:
            DatabaseError: The ledger cannot be read, or a row cannot be true.
        """
        columns = self._due.c
        query = (
            select_all(self._due)
            .where(self._is(columns.status, self.mapping.failed))
            .order_by(self._newest_first(columns.failed_at), columns.ledger_payout_id)
            .limit(limit)
        )
        with self._transaction() as connection:
            rows = connection.execute(query).mappings().all()
        utc_text = self._engine.dialect.name in ("sqlite", "mysql")
        relation = self.mapping.due_relation
        return [
            payout_due(Row(relation, "a failed payout", dict(row), utc_text=utc_text), self.mapping) for row in rows
        ]

    def find_balance(self, studio_id: str, currency: str) -> StudioBalance | None:
        """
        Return the studio's balance in *currency*, or None where the ledger has none.

        Raises:
            ParameterError: The currency is unknown.

            DatabaseError: The ledger cannot be read, or the row cannot be true.
        """
        exponent(currency)
        relation = self._balance
        query = select_all(relation).where(
            self._is(relation.c.studio_id, studio_id), self._is(relation.c.currency, currency)
        )
        with self._transaction() as connection:
            row = one_row(connection, query, self.mapping.balance_relation, f"studio {studio_id} in {currency}")
        return None if row is None else studio_balance(row)

    def past_payouts(self, studio_id: str, limit: int = 26) -> list[PastPayout]:
        """
        Return the studio's latest paid payouts, newest first, at most *limit* (26: a year of biweekly ones).

        Raises:
            ParameterError: The limit is below one.

            DatabaseError: The ledger cannot be read, or a row cannot be true.
        """
        if limit < 1:
            raise ParameterError("limit", limit, "at least 1")
        relation = self._due
        query = (
            select(*(relation.c[name] for name in ("ledger_payout_id", "amount_minor", "currency", "paid_at")))
            .where(self._is(relation.c.studio_id, studio_id), self._is(relation.c.status, self.mapping.paid))
            .order_by(self._newest_first(relation.c.paid_at), relation.c.ledger_payout_id)
            .limit(limit)
        )
        with self._transaction() as connection:
            rows = connection.execute(query).mappings().all()
        utc_text = self._engine.dialect.name in ("sqlite", "mysql")
        named = (Row(self.mapping.due_relation, f"studio {studio_id}", dict(row), utc_text=utc_text) for row in rows)
        return [past_payout(row) for row in named]

    def payouts_by_transfer(self, transfer_ids: Collection[str]) -> dict[str, str]:
        """
        Return the ledger payout of each of these transfers that the ledger's own books name.

        Nothing where the due relation has no column for them, which is optional (docs/ledger.md).

        Raises:
            DatabaseError: The ledger cannot be read.
        """
        columns = self._relation(self.mapping.due_relation, ("ledger_payout_id", TRANSFER_COLUMN)).c
        named = columns[TRANSFER_COLUMN]
        ids = sorted(transfer_ids)
        found: dict[str, str] = {}
        try:
            for start in range(0, len(ids), _IDS_MAX):
                part = or_(*(self._is(named, one) for one in ids[start : start + _IDS_MAX]))
                with self._transaction() as connection:
                    rows = connection.execute(select(named, columns.ledger_payout_id).where(part)).all()
                found |= {str(transfer_id): str(payout_id) for transfer_id, payout_id in rows}
        except DatabaseError as error:
            if isinstance(error.__context__, SQLAlchemyError) and lacks_column(error.__context__):
                return {}
            raise
        return found

    def export_row(self, ledger_payout_id: str) -> dict[str, str]:
        """
        Return the payout as column → text, in the documented order: times in UTC, nothing as empty text.

        The text is the ledger's own and is not made safe for spreadsheets: whoever writes the file does that.

        Raises:
            As `get_payout_due`.
        """
        due = self.get_payout_due(ledger_payout_id)
        return {name: _export_text(getattr(due, name)) for name in DUE_COLUMNS}


def _no_such_payout(ledger_payout_id: str, mapping: LedgerMapping) -> ParameterError:
    return ParameterError(
        "ledger_payout_id",
        ledger_payout_id,
        f"a payout that the ledger shows in {mapping.due_relation}",
        "Check the id against the incident, and that LEDGER_DATABASE_URL is the right ledger.",
    )


def _export_text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    return value.isoformat() if isinstance(value, date) else str(value)
