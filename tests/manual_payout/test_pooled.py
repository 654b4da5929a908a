"""PostgreSQL as other people run it: behind PgBouncer in transaction mode, and in encodings of their own."""

from __future__ import annotations

import shutil
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from manual_payout.database import engines
from manual_payout.database.clock import DatabaseClock
from manual_payout.database.store import Store
from manual_payout.domain.errors import DatabaseError
from manual_payout.ledger import Ledger
from openssh import required
from payout_rehearsal.demo import incident
from payout_rehearsal.demo.ledger import create_demo_ledger
from processes import wait_until

CONFIGURATION = """
[databases]
pooled = host={folder} dbname={name} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 1
query_wait_timeout = 5
user = {owner}
"""


@pytest.fixture(name="pooled_url")
def _pooled_url(new_database, tmp_path):
    """A database behind a real PgBouncer that has one connection for everybody."""
    with new_database() as url, socket.socket() as free:
        folder, name = url.partition("host=")[2], url.partition("?")[0].rpartition("/")[2]
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        file = tmp_path / "pgbouncer.ini"
        owner = Path(folder).owner()
        file.write_text(CONFIGURATION.format(folder=folder, name=name, port=port, owner=owner))
        command = [shutil.which("pgbouncer") or "pgbouncer", "-q", str(file)]
        pooler = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        def _is_there():
            assert pooler.poll() is None
            with socket.socket() as caller:
                return caller.connect_ex(("127.0.0.1", port)) == 0

        wait_until(_is_there)
        yield f"postgresql://postgres@127.0.0.1:{port}/pooled"
        pooler.terminate()
        pooler.wait()


@required("pgbouncer")
def test_behind_a_pooler_every_transaction_is_whole_and_nobody_elses_is_changed(pooled_url):
    """Four clients share one connection of the server: nothing fails, nothing waits for itself, no setting is left behind."""
    first = engines.connect(pooled_url, name="DATABASE_URL")
    engines.upgrade_database(first)
    create_demo_ledger(first)
    first.dispose()

    def work(number):
        engine = engines.connect(pooled_url, name="DATABASE_URL")
        ledgers = engines.connect(pooled_url, name="LEDGER_DATABASE_URL")
        store = Store(engine, DatabaseClock(engine))
        for n in range(12):
            store.record_event(f"INC-{number % 2}/x", "noted", "tester", {"n": n})
            ledger = Ledger(ledgers)
            assert incident.STUDIO_ID == ledger.get_payout_due(incident.LEDGER_PAYOUT_ID).studio_id
        if number == 0:
            Ledger(ledgers).claim(incident.LEDGER_PAYOUT_ID, "line-1", at=datetime.now(UTC))
        engine.dispose()
        ledgers.dispose()

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(work, range(4)))
    with psycopg.connect(pooled_url) as other:
        left = [other.execute(f"SHOW {name}").fetchone()[0] for name in ("statement_timeout", "lock_timeout")]
        (path,) = other.execute("SHOW search_path").fetchone()

    assert (["0", "0"], '"$user", public') == (left, path)
    engine = engines.connect(pooled_url, name="DATABASE_URL")
    assert [24, 24] == [len(Store(engine, DatabaseClock(engine)).events_of(f"INC-{n}/x")) for n in (0, 1)]
    engine.dispose()


def test_text_that_is_not_in_utf8_ends_in_a_sentence(postgresql_server):
    """A database of the encoding SQL_ASCII keeps whatever bytes it was given."""
    with psycopg.connect(postgresql_server, autocommit=True) as connection:
        connection.execute("CREATE DATABASE ascii_ledger ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
    url = postgresql_server.replace("/postgres?", "/ascii_ledger?")
    engine = engines.connect(url, name="LEDGER_DATABASE_URL")
    create_demo_ledger(engine)
    with psycopg.connect(url, client_encoding="sql_ascii") as connection:
        connection.execute(rb"UPDATE manual_payout_due SET studio_name = E'Caf\xe9 Poterie'")
    with pytest.raises(DatabaseError, match="has a text that is not UTF-8") as caught:
        Ledger(engine).get_payout_due(incident.LEDGER_PAYOUT_ID)
    engine.dispose()
    with psycopg.connect(postgresql_server, autocommit=True) as connection:
        connection.execute("DROP DATABASE ascii_ledger WITH (FORCE)")

    assert "to UTF-8" in caught.value.remedy


def test_failure_of_every_class_ends_in_a_sentence(engine):
    """What the driver raises itself, and what a value raises on its way to it, is told like everything else."""
    for error in (
        engine.dialect.loaded_dbapi.InterfaceError("gone"),
        UnicodeEncodeError("utf-8", "\udc80", 0, 1, "no"),
    ):
        with pytest.raises(DatabaseError, match=r"database .* refused: "), engines.database_errors(engine):
            raise error
    for value in ("\udc80", 2**70 if engine.dialect.name == "sqlite" else "\0"):
        failing = pytest.raises(DatabaseError, match=r"database .* refused: ")
        with failing, engines.database_errors(engine), engine.connect() as connection:
            connection.execute(sa.text("SELECT :value"), {"value": value})
