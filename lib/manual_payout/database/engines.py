"""
Engines for the two databases, with the guarantees that money needs, and the migrations of ours.

SQLite: foreign keys on, every commit on disk before it returns, writers take the lock before they read, one machine only, since
file locks do not reach over a network or a synchronised folder. PostgreSQL: commits are synchronous; a server that says otherwise
is refused.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

from manual_payout.database.machine import machine_digest, machine_name
from manual_payout.database.schema import HEAD, database_machine
from manual_payout.domain.errors import DatabaseError, SettingsError, shorten

# How long a second writer waits for the first: one send's longest write is milliseconds, so this is generous, and the
# sentence comes within half a minute.
_SQLITE_BUSY_S = 15

# What a URI of SQLite can say (SQLite, *Uniform Resource Identifiers*); SQLAlchemy wants to be told that it is one.
_SQLITE_OPTIONS = frozenset({"uri", "mode", "cache", "immutable", "nolock", "psow", "vfs"})

# Alembic's own table.
_version = sa.Table("alembic_version", sa.MetaData(), sa.Column("version_num", sa.Text))


def connect(url: str, *, name: str) -> sa.Engine:
    """
    Make an engine; no connection is opened yet.

    Args:
        url: An SQLAlchemy URL of SQLite or PostgreSQL; ``postgresql://`` and ``postgres://`` mean psycopg 3.

        name: The environment variable it came from, for messages.

    Raises:
        SettingsError: The URL is malformed or of another kind of database.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        # The ValueError of a port that is no number would show what stands around it.
        raise SettingsError(
            f"{name} is not a database URL.", f"Set {name} to sqlite:///… or postgresql://… ."
        ) from None
    if "@" in (parsed.host or ""):
        # Half of the password would be taken, and shown, as the host's name.
        raise SettingsError(f"{name} has an @ in its user, password or host.", "Write an @ inside a password as %40.")
    if parsed.get_backend_name() == "sqlite":
        return _sqlite(_checked_options(parsed, url, name))
    if parsed.drivername.split("+")[0] in {"postgresql", "postgres"}:
        # The driver costs more to import than all of SQLite.
        from manual_payout.database.postgresql import make_engine

        return make_engine(parsed, ours=name == "DATABASE_URL")
    if parsed.get_backend_name() in {"mysql", "mariadb"} and name == "LEDGER_DATABASE_URL":
        from manual_payout.database import mariadb

        return mariadb.make_ledger_engine(parsed)
    also = ", mariadb" if name == "LEDGER_DATABASE_URL" else ""
    raise SettingsError(
        f"{name}: found a {parsed.get_backend_name()} database, expected sqlite{also} or postgresql.",
        f"Correct {name}.",
    )


def sqlite_url(file: Path) -> str:
    """Return the URL of an SQLite file, whatever letters are in its path: a ``?`` would begin options, a ``%`` a code."""
    return sa.URL.create("sqlite", database=str(file)).render_as_string(hide_password=False)


def sqlite_file(url: sa.URL) -> Path | None:
    """Return the file of an SQLite database, also of one that is named as a URI; None of one that is in memory."""
    path = url.database or ""
    if path.startswith("file:"):
        path = unquote(urlsplit(path).path)
    return None if path in {"", ":memory:"} or url.query.get("mode") == "memory" else Path(path)


def absolute_url(url: str) -> str:
    """Return *url* as it means the same file in every folder; what is no URL is returned as it is."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        return url  # refused, with a sentence, by whoever connects
    file = sqlite_file(parsed) if parsed.get_backend_name() == "sqlite" else None
    if file is None:
        return url
    is_uri = str(parsed.database).startswith("file:")
    path = file.resolve()
    return parsed.set(database=f"file:{quote(str(path))}" if is_uri else str(path)).render_as_string(
        hide_password=False
    )


def upgrade_database(engine: sa.Engine) -> str:
    """
    Create our tables where they are not there yet.

    An SQLite database becomes this machine's, unless it is another's already.

    Returns:
        The revision the database is at afterwards.

    Raises:
        DatabaseError: The database is unreachable, refused, made by another version, or another machine's.
    """
    # Alembic costs a quarter of a second to import and only this needs it.
    from alembic import command
    from alembic.config import Config

    if engine.dialect.name == "sqlite" and (file := sqlite_file(engine.url)) is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
    config = Config()
    # It is a line of an INI file, where a % begins a name.
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    options = {"write": True, "own_schema": True}
    with database_errors(engine), engine.connect().execution_options(**options) as connection:
        inspector = sa.inspect(connection)
        if inspector.has_table(_version.name):
            _require_known_revision(connection)
        if inspector.has_table(database_machine.name):
            _require_this_machine(connection)
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        if engine.dialect.name == "sqlite" and _machine_of(connection) is None:
            connection.execute(database_machine.insert().values(only_row=1, **_this_machine()))
        connection.commit()
    return HEAD


def adopt_database(engine: sa.Engine, left: str) -> None:
    """
    Make an SQLite database, whose file was moved here for good, this machine's.

    Args:
        left: The name of the machine that it was used on, and is used on no more.

    Raises:
        DatabaseError: The database is unreachable, no SQLite database, or another machine's than *left*.
    """
    if engine.dialect.name != "sqlite":
        raise DatabaseError("The database is on a server, which every machine may use.", "There is nothing to adopt.")
    _require_tables(engine)
    with database_errors(engine), engine.connect().execution_options(write=True) as connection:
        owner = _machine_of(connection)
        if owner is not None and owner.name != left:
            raise DatabaseError(
                f"--from: found {left}, expected {owner.name}, the machine that this database is used on.",
                f"Make sure that {owner.name} no longer uses it, then name it.",
            )
        connection.execute(database_machine.delete())
        connection.execute(database_machine.insert().values(only_row=1, **_this_machine()))
        connection.commit()


def require_current(engine: sa.Engine) -> None:
    """
    Refuse a database that is unreachable, not at the migration this code was written for, or another machine's.

    Raises:
        DatabaseError: With the command that mends it.
    """
    _require_tables(engine)
    with database_errors(engine), engine.connect() as connection:
        _require_this_machine(connection)


def _require_tables(engine: sa.Engine) -> None:
    file = sqlite_file(engine.url) if engine.dialect.name == "sqlite" else None
    if file is not None and not file.is_file():
        raise DatabaseError("The database file does not exist yet.", "Run `manual-payout db upgrade`, then try again.")
    with database_errors(engine), engine.connect() as connection:
        # On PostgreSQL the schema that our tables are in, which is not searched.
        if not sa.inspect(connection).has_table(_version.name, schema=connection.dialect.default_schema_name):
            raise DatabaseError(
                "The database has none of our tables.", "Run `manual-payout db upgrade`, then try again."
            )
        _require_known_revision(connection)


def _require_known_revision(connection: sa.Connection) -> None:
    found = connection.execute(sa.select(_version.c.version_num)).scalar()
    if found != HEAD:
        raise DatabaseError(
            f"The database was made by another version of this program: it is at migration {found}, expected {HEAD}.",
            "Use that version for what it holds. For this one, set DATABASE_URL to a new database and run `manual-payout db upgrade`.",
        )


def _require_this_machine(connection: sa.Connection) -> None:
    """Two machines on one file, each with a copy or with locks of its own, would each claim the same payout."""
    owner = _machine_of(connection)
    if owner is not None and owner.digest != machine_digest():
        raise DatabaseError(
            f"The SQLite database is used on the machine {owner.name}, and this is {machine_name()}.",
            "Use PostgreSQL where several machines work. If its file was moved here for good, and is no longer used there, "
            f"run `manual-payout db adopt --from {shlex.quote(owner.name)}`.",
        )


def _machine_of(connection: sa.Connection) -> Any:
    return connection.execute(sa.select(database_machine.c.digest, database_machine.c.name)).one_or_none()


def _this_machine() -> dict[str, str]:
    return {"digest": machine_digest(), "name": machine_name()}


def driver_errors(engine: sa.Engine) -> tuple[type[Exception], ...]:
    """
    Return every class in which a database can fail: SQLAlchemy's, its driver's own, and what a value raises on its way.

    Text that is not in the encoding that the database says, or a number that is too large for it, comes as Python's own error.
    """
    return SQLAlchemyError, engine.dialect.loaded_dbapi.Error, UnicodeError, OverflowError


@contextmanager
def database_errors(engine: sa.Engine) -> Iterator[None]:
    """
    Turn a failing database into one sentence without the URL's password.

    Raises:
        DatabaseError: In place of any error of SQLAlchemy or of the driver.
    """
    where = f"{engine.dialect.name} database {engine.url.database or ''} at {engine.url.host or 'this machine'}"
    try:
        yield
    except OperationalError as error:
        raise DatabaseError(
            f"The {where} did not answer as it should: {_first_line(error)}.",
            "Check that it runs, that its disk is not full and that DATABASE_URL is right; then run the same command again.",
        ) from None
    except driver_errors(engine) as error:
        raise DatabaseError(
            f"The {where} refused: {_first_line(error)}.", "Nothing was half written; see docs/troubleshooting.md."
        ) from None


def _checked_options(parsed: sa.URL, url: str, name: str) -> sa.URL:
    """Refuse options that SQLite would not be given: they are the rest of a path."""
    _, mark, rest = url.partition("?")
    if mark and (not parsed.query or not set(parsed.query) <= _SQLITE_OPTIONS):
        raise SettingsError(
            f"{name}: found the options {shorten(rest)} after the ?, expected {', '.join(sorted(_SQLITE_OPTIONS))}.",
            "Write a ? that belongs to the path as %3F; read-only is sqlite:///file:/path?mode=ro&uri=true.",
        )
    if parsed.query and not str(parsed.database).startswith("file:"):
        raise SettingsError(
            f"{name}: found options after the path {shorten(str(parsed.database))}, expected them after a file: path.",
            "Write it as sqlite:///file:/path?mode=ro&uri=true.",
        )
    is_uri = str(parsed.database or "").startswith("file:")
    return parsed.update_query_dict({"uri": "true"}) if is_uri else parsed


def _sqlite(url: sa.URL) -> sa.Engine:
    engine = sa.create_engine(url, hide_parameters=True, connect_args={"timeout": _SQLITE_BUSY_S})
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: ConnectionPoolEntry) -> None:
    # The driver's own transaction handling begins too late and commits too early; ours is explicit (see `_begin_sqlite`).
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA foreign_keys = ON")
    # A commit is the removal of the rollback journal. FULL does not wait for that removal to be on disk: after a power loss
    # the journal is there again and takes the commit back, an intent whose transfer was made (SQLite, *PRAGMA synchronous*).
    cursor.execute("PRAGMA synchronous = EXTRA")
    cursor.close()


def _begin_sqlite(connection: sa.Connection) -> None:
    # A writer that first reads and then asks for the lock can lose it in between; IMMEDIATE asks at once.
    write = connection.get_execution_options().get("write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _first_line(error: Exception) -> str:
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    return (str(cause).strip().splitlines() or [type(cause).__name__])[0].rstrip(".")
