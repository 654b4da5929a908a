"""What reading and claiming share: the mapped relations, transactions, and the read of one payout."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, TableClause, text

from manual_payout.database.engines import driver_errors
from manual_payout.domain.errors import ParameterError
from manual_payout.ledger.faults import explain_fault
from manual_payout.ledger.mapping import LedgerMapping
from manual_payout.ledger.relations import is_same, one_row, relation_named, select_all
from manual_payout.ledger.rows import payout_due
from manual_payout.ledger.values import BALANCE_COLUMNS, CLAIM_COLUMNS, DUE_COLUMNS, PayoutDue

# A claim waits this long for a row that the automation holds; longer, and the operator should know instead.
LOCK_TIMEOUT_S = 10


class AnyLedger:
    """
    One ledger, and how it names things.

    Args:
        engine: SQLAlchemy engine of the ledger's database: SQLite, PostgreSQL or MariaDB.

        mapping: How that ledger names things.
    """

    def __init__(self, engine: Engine, mapping: LedgerMapping | None = None) -> None:
        self.mapping = mapping or LedgerMapping()
        self._is_postgresql = engine.dialect.name == "postgresql"
        # A claim that waited for another must then see what the other did: READ COMMITTED, whatever the role's default.
        self._engine = engine.execution_options(isolation_level="READ COMMITTED") if self._is_postgresql else engine

    @cached_property
    def _due(self) -> TableClause:
        return self._relation(self.mapping.due_relation, DUE_COLUMNS)

    @cached_property
    def _balance(self) -> TableClause:
        return self._relation(self.mapping.balance_relation, BALANCE_COLUMNS)

    @cached_property
    def _claim(self) -> TableClause:
        return self._relation(self.mapping.claim_relation or self.mapping.due_relation, CLAIM_COLUMNS)

    def _relation(self, name: str, columns: Sequence[str]) -> TableClause:
        """Look up once which schema has a relation that is named without one: a temporary table is none of them."""
        schema = None
        if self._is_postgresql and "." not in name:
            from manual_payout.database.postgresql import find_schema

            with self._connection() as connection:
                schema = find_schema(connection, name)
        return relation_named(name, columns, schema or "")

    def _is(self, column: ColumnElement[Any], value: str) -> ColumnElement[bool]:
        return is_same(column, value, dialect=self._engine.dialect.name)

    def _newest_first(self, column: ColumnElement[Any]) -> ColumnElement[Any]:
        # Elsewhere what has no time comes last by itself, and MariaDB has no word for it.
        return column.desc().nulls_last() if self._is_postgresql else column.desc()

    def _read_due(self, connection: Connection, key: str) -> PayoutDue | None:
        query = select_all(self._due).where(self._is(self._due.c.ledger_payout_id, key))
        row = one_row(connection, query, self.mapping.due_relation, f"payout {key}")
        due = None if row is None else payout_due(row, self.mapping)
        if due is not None and due.ledger_payout_id != key:
            # A number or a UUID can be written in several ways; everything that is recorded of it uses one.
            raise ParameterError("ledger_payout_id", key, f"{due.ledger_payout_id}, as the ledger writes it")
        return due

    @contextmanager
    def _transaction(self, *, writes: bool = False, lock_s: int = LOCK_TIMEOUT_S) -> Iterator[Connection]:
        # Looked up before, since what is looked up in between takes a second connection, and a pooler may have none.
        _ = self._due
        with self._connection(writes=writes, lock_s=lock_s) as connection:
            yield connection

    @contextmanager
    def _connection(self, *, writes: bool = False, lock_s: int = LOCK_TIMEOUT_S) -> Iterator[Connection]:
        try:
            # `write` asks our SQLite engines for the lock at once (see database.py); others ignore it.
            with self._engine.connect().execution_options(write=writes) as connection, connection.begin():
                if writes and self._is_postgresql:
                    connection.execute(text(f"SET LOCAL lock_timeout = '{lock_s}s'"))
                if writes and self._engine.dialect.name == "mysql":
                    from manual_payout.database.mariadb import require_transactions

                    # For the session, which the pool keeps: each that writes says its own.
                    connection.execute(text(f"SET SESSION innodb_lock_wait_timeout = {lock_s}"))
                    require_transactions(connection)
                yield connection
        except driver_errors(self._engine) as error:
            # No chain: a driver's error may quote the connection string, and with it the password.
            raise explain_fault(error, self._engine, writes=writes) from None
