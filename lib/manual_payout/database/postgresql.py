"""
Connections to PostgreSQL that take nothing from the role's settings, and wait for nothing without an end.

Whoever may create a function, an operator or a type in a schema of the role's ``search_path`` would otherwise be asked in the
place of PostgreSQL's own: a ``now()`` of theirs is a clock of theirs. So our transactions look names up in ``pg_catalog``
alone, and our tables are named with their schema. In a ledger the role's schemas follow, for the triggers of its owner; there
our statements name relations and operators in full. What is set is set for one transaction, as a pooler between demands.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, TypeVar

import psycopg
import sqlalchemy as sa
from psycopg import IsolationLevel, OperationalError
from sqlalchemy import event
from sqlalchemy.pool import ConnectionPoolEntry

from manual_payout.domain.errors import DatabaseError

T = TypeVar("T")

# Ours take milliseconds. A row that somebody holds is waited for less long than a statement, and a statement less long than
# an answer of any kind, so that the most telling sentence comes first; the last of them comes within half a minute.
LOCK_S = 10
STATEMENT_S = 15
ANSWER_S = 20.0

# An unreachable host is told within the patience of a person, not of the network stack.
CONNECT_S = 5

# A server that let one wait pass is not given as long again before it has answered: a run asks several times as it ends.
_AGAIN_S = 3.0

# How long a transaction may stand still: an operator whose laptop froze in it must not block everybody else for ever.
_IDLE_S = 60

# A migration rewrites tables.
_MIGRATION_S = 600

# What is read, and how, whatever role, database and server have as their defaults.
_SETTINGS = {
    # Of relations the temporary ones come first, unless they are named last.
    "search_path": "pg_catalog, pg_temp",
    "statement_timeout": f"{STATEMENT_S}s",
    "lock_timeout": f"{LOCK_S}s",
    "idle_in_transaction_session_timeout": f"{_IDLE_S}s",
    "TimeZone": "UTC",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
}

# The one table that no other software calls so: the schema that has it is ours.
_MARK = "manual_payouts"

_ASK = (
    "SELECT pg_catalog.current_schemas(false), pg_catalog.current_setting('fsync'), "
    "pg_catalog.current_setting('synchronous_commit')"
)
_HOLDERS = (
    "SELECT n.nspname FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n "
    "ON n.oid OPERATOR(pg_catalog.=) c.relnamespace "
    "WHERE c.relname OPERATOR(pg_catalog.=) %s AND c.relkind OPERATOR(pg_catalog.=) ANY ('{r,p,v,m,f}'::pg_catalog.\"char\"[])"
)


@dataclass
class _Patience:
    """How long an answer of one server is waited for."""

    tired: bool = False


class _Connection(psycopg.Connection[Any]):
    """A connection on which every wait has an end, also where the server's own time-outs are not kept: it was stopped."""

    patience = _Patience()
    answer_s = ANSWER_S

    def wait(self, gen: Generator[Any, Any, T], *args: Any, **kwargs: Any) -> T:
        """Wait for an answer, and give the connection up where none comes."""
        return super().wait(self._bounded(gen), *args, **kwargs)

    def _bounded(self, gen: Generator[Any, Any, T]) -> Generator[Any, Any, T]:
        limit_s = _AGAIN_S if self.patience.tired else self.answer_s
        end = time.monotonic() + limit_s
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if not ready and time.monotonic() > end:
                    self.patience.tired = True
                    self.pgconn.finish()
                    raise OperationalError(f"the connection gave no answer for {limit_s:.0f} s")
                wanted = gen.send(ready)
        except StopIteration as done:
            self.patience.tired = False
            answer: T = done.value
            return answer


def make_engine(url: sa.URL, *, ours: bool) -> sa.Engine:
    """
    Make an engine whose every transaction begins with our settings; no connection is opened yet.

    Args:
        ours: Our own tables are there, and nowhere else in the role's ``search_path``.
    """
    patience = _Patience()
    engine = sa.create_engine(
        url.set(drivername="postgresql+psycopg"),
        hide_parameters=True,
        pool_pre_ping=True,
        # It would be looked up by its name.
        use_native_hstore=False,
        connect_args={
            "client_encoding": "utf8",
            # A pooler hands each transaction to another server connection, which knows none of the statements prepared before.
            "prepare_threshold": None,
            "keepalives": 1,
            "keepalives_idle": CONNECT_S,
            "keepalives_interval": CONNECT_S,
            "keepalives_count": 2,
            "tcp_user_timeout": int(ANSWER_S * 1000),
        },
    )

    def _open(_dialect: Any, record: ConnectionPoolEntry, arguments: Any, options: dict[str, Any]) -> _Connection:
        options["connect_timeout"] = 2 if patience.tired else CONNECT_S
        try:
            connection = _Connection.connect(*arguments, **options)
        except OperationalError:
            patience.tired = True
            raise
        connection.patience = patience
        try:
            _greet(connection, record, ours=ours)
        except BaseException:
            connection.close()
            raise
        return connection

    event.listen(engine, "do_connect", _open)
    event.listen(engine, "connect", _end_greeting)
    event.listen(engine, "engine_connect", _name_our_schema)
    event.listen(engine, "begin", _begin_ours if ours else _begin_ledgers)
    return engine


def schemas_of(connection: sa.Connection) -> list[str]:
    """Return the schemas in which the role's own ``search_path`` looks names up, PostgreSQL's own ones excepted."""
    known = connection.connection.info.get("schemas")
    return known if known is not None else _searched(connection.exec_driver_sql(_ASK).one()[0])


def find_schema(connection: sa.Connection, relation: str) -> str | None:
    """Return the first of these schemas that has *relation*; None where none has."""
    holders = set(connection.exec_driver_sql(_HOLDERS, (relation,)).scalars())
    return next((name for name in schemas_of(connection) if name in holders), None)


def _greet(connection: _Connection, record: ConnectionPoolEntry, *, ours: bool) -> None:
    """Look once at what the role has, in a transaction that the driver's own questions to a new server are then asked in."""
    # A claim that waited for another must then see what the other did, whatever the role's default.
    connection.isolation_level = IsolationLevel.READ_COMMITTED
    with connection.cursor() as cursor:
        schemas, fsync, synchronous = cursor.execute(_ASK).fetchone() or ([], "", "")
        cursor.execute(_setting(_SETTINGS))
        holders = {row[0] for row in cursor.execute(_HOLDERS, (_MARK,))}
    if fsync != "on" or synchronous == "off":
        raise DatabaseError(
            f"PostgreSQL runs with fsync={fsync} and synchronous_commit={synchronous}: a commit could be lost.",
            "Set both to on for this database; a payout's intent must survive a power loss.",
        )
    searched = _searched(schemas)
    homes = [name for name in searched if name in holders]
    if ours and len(homes) > 1:
        raise DatabaseError(
            f"The tables of manual payouts are in {len(homes)} schemas of the database: found {' and '.join(homes)}, expected one.",
            "Find out who made the others. Leave one in the role's search_path (ALTER ROLE … SET search_path = …).",
        )
    record.info["schemas"] = searched
    record.info["home"] = homes[0] if homes else next(iter(searched), "public")


def _searched(schemas: list[str]) -> list[str]:
    # The names that begin so are PostgreSQL's own: its catalogue, and the temporary tables of a session.
    return [name for name in schemas if not name.startswith("pg_")]


def _end_greeting(connection: _Connection, _record: ConnectionPoolEntry) -> None:
    connection.rollback()


def _name_our_schema(connection: sa.Connection) -> None:
    home = connection.connection.info["home"]
    connection.dialect.default_schema_name = home
    connection.execution_options(schema_translate_map={None: home})


def _begin_ours(connection: sa.Connection) -> None:
    _begin(connection, [])


def _begin_ledgers(connection: sa.Connection) -> None:
    _begin(connection, schemas_of(connection))


def _begin(connection: sa.Connection, schemas: list[str]) -> None:
    path, statement_s = ", ".join(["pg_catalog", *_quoted(connection, schemas), "pg_temp"]), STATEMENT_S
    if connection.get_execution_options().get("own_schema", False):
        # Whoever makes tables names them alone. That the catalogue comes first is what PostgreSQL adds.
        path, statement_s = (
            ", ".join([*_quoted(connection, [connection.connection.info["home"]]), "pg_temp"]),
            _MIGRATION_S,
        )
    driver = connection.connection.driver_connection
    assert isinstance(driver, _Connection), "Bug: a connection that somebody else opened"
    driver.answer_s = ANSWER_S - STATEMENT_S + statement_s
    connection.exec_driver_sql(_setting(_SETTINGS | {"search_path": path, "statement_timeout": f"{statement_s}s"}))


def _quoted(connection: sa.Connection, names: list[str]) -> list[str]:
    # A % comes out doubled, as the driver wants it, which takes a lone one for a value's place.
    return [connection.dialect.identifier_preparer.quote_identifier(name) for name in names]


def _setting(settings: dict[str, str]) -> str:
    quoted = {name: value.replace("'", "''") for name, value in settings.items()}
    each = (f"pg_catalog.set_config('{name}', '{value}', true)" for name, value in quoted.items())
    return f"SELECT {', '.join(each)}"
