"""
Connections to MariaDB, and by the same code to MySQL 8, that take nothing from the server's settings, and wait for nothing without an end.

A ledger only: our own tables need partial unique indexes, which neither has.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.pool import ConnectionPoolEntry

from manual_payout.domain.errors import DatabaseError

# As on PostgreSQL: a row is waited for less long than a statement, and a statement less long than an answer.
_LOCK_S = 10
_STATEMENT_S = 15
_ANSWER_S = 20
_CONNECT_S = 5

# Times without a zone are UTC; what does not fit a column is refused and not cut; a claim that waited sees what the other did.
_SETTINGS = (
    "SET SESSION time_zone = '+00:00'",
    "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION'",
    f"SET SESSION innodb_lock_wait_timeout = {_LOCK_S}",
    "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
)

# A role sees the tables that it has some right on.
_ENGINES = sa.text(
    "SELECT table_schema, table_name, engine FROM information_schema.tables WHERE table_type = 'BASE TABLE' "
    "AND table_schema NOT IN ('information_schema', 'mysql', 'performance_schema', 'sys')"
)


def make_ledger_engine(url: sa.URL) -> sa.Engine:
    """Make an engine whose every connection begins with our settings; no connection is opened yet."""
    engine = sa.create_engine(
        url.set(drivername="mysql+pymysql"),
        hide_parameters=True,
        pool_pre_ping=True,
        connect_args={
            "charset": "utf8mb4",
            "connect_timeout": _CONNECT_S,
            "read_timeout": _ANSWER_S,
            "write_timeout": _ANSWER_S,
        },
    )
    event.listen(engine, "connect", _prepare)
    return engine


def require_transactions(connection: sa.Connection) -> None:
    """
    Refuse a ledger in which a claim would not be taken back, or would not be seen by a second one: InnoDB alone does both.

    Raises:
        DatabaseError: A table is of another engine, or none is shown to this role.
    """
    found = connection.execute(_ENGINES).all()
    others = sorted({f"{schema}.{table} ({engine})" for schema, table, engine in found if engine != "InnoDB"})
    if others:
        raise DatabaseError(
            f"The ledger's tables are not all of the engine InnoDB: found {', '.join(others[:3])}.",
            "Convert them (ALTER TABLE … ENGINE = InnoDB), or show the runbook's role no other tables; see docs/ledger.md.",
        )
    if not found:
        raise DatabaseError(
            "The ledger does not show the runbook's role which engine its tables have.",
            "Grant it SELECT (id) on the table behind the claim; see docs/ledger.md, MariaDB.",
        )


def _prepare(connection: Any, _record: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    for setting in _SETTINGS:
        cursor.execute(setting)
    # Each has its own name for it, and its own unit.
    limit = (
        f"max_statement_time = {_STATEMENT_S}"
        if "mariadb" in connection.get_server_info().lower()
        else f"max_execution_time = {_STATEMENT_S * 1000}"
    )
    cursor.execute(f"SET SESSION {limit}")
    cursor.close()
