"""What is on record is on disk: a database that could lose a commit is refused, and a full disk moves no money."""

from __future__ import annotations

import contextlib
import resource
import sqlite3
from pathlib import Path

import psycopg
import pytest

from manual_payout import database
from manual_payout.errors import DatabaseError, UnknownOutcomeError
from manual_payout.gateway import Gateway
from manual_payout.models import State
from manual_payout.store import Store


@pytest.fixture(name="full_disk")
def _full_disk(monkeypatch):
    """Have a method meet a disk that takes no byte more, for as long as it runs."""

    def fill(owner, name):
        method = getattr(owner, name)

        def on_a_full_disk(*args, **kwargs):
            with _no_room():
                return method(*args, **kwargs)

        monkeypatch.setattr(owner, name, on_a_full_disk)

    return fill


@contextlib.contextmanager
def _no_room():
    # Every write past the first byte of any file fails in the kernel, as on a full disk.
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def intact(scene):
    """Whether SQLite finds its file in order, as a process that knows nothing of ours would."""
    path = Path(scene.url.removeprefix("sqlite:///"))
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_disk_that_is_full_at_the_intent_sends_nothing(scene, full_disk, monkeypatch):
    """Without a committed intent there is no call; with room again, the same command pays once."""
    full_disk(Store, "record_intent")
    with pytest.raises(DatabaseError, match="did not answer as it should"):
        scene.send()
    monkeypatch.undo()

    assert ([], [], None) == (scene.posts, scene.transfers, scene.record)
    assert intact(scene)
    assert State.PAID is scene.send(scene.new_desk()).state
    assert 1 == len(scene.transfers)


def test_disk_that_is_full_at_the_fence_sends_nothing(scene, full_disk, monkeypatch):
    """What cannot be announced is not sent."""
    full_disk(Store, "mark_sent")
    with pytest.raises(DatabaseError, match="did not answer as it should"):
        scene.send()
    monkeypatch.undo()

    assert [] == scene.posts
    assert intact(scene)


def test_disk_that_fills_up_after_the_call_names_the_transfer(scene, full_disk, monkeypatch):
    """The money has moved and cannot be recorded: unknown, with the transfer's name; found again when there is room."""
    full_disk(Store, "record_outcome")
    with pytest.raises(UnknownOutcomeError) as raised:
        scene.send()
    monkeypatch.undo()

    assert scene.transfers[0].id in raised.value.message
    assert intact(scene)
    assert State.PAID is scene.send(scene.new_desk()).state
    assert 1 == len(scene.transfers)


def test_disk_that_is_full_during_the_call_only_costs_nothing(scene, full_disk):
    """The call itself writes nothing on this machine."""
    full_disk(Gateway, "create_transfer")

    assert State.PAID is scene.send().state


def test_sqlite_syncs_every_commit_and_keeps_foreign_keys(sqlite_url):
    """Asked of every connection, not of the first one only."""
    engine = database.connect(sqlite_url, name="DATABASE_URL")
    for _ in range(2):
        with engine.connect() as connection:
            found = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("synchronous", "foreign_keys")]
        engine.dispose()

        assert [2, 1] == found


@pytest.mark.parametrize(
    ("setting", "refused"),
    [("off", True), ("on", False), ("local", False), ("remote_write", False), ("remote_apply", False)],
)
def test_postgresql_that_may_lose_a_commit_is_refused(postgresql_server, setting, refused):
    """A role or a database with synchronous_commit off answers before anything is on disk."""
    name = f"durability_{setting}"
    with psycopg.connect(postgresql_server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        connection.execute(f"ALTER DATABASE {name} SET synchronous_commit = '{setting}'")
    engine = database.connect(postgresql_server.replace("/postgres?", f"/{name}?"), name="DATABASE_URL")
    expected = pytest.raises(DatabaseError, match="a commit could be lost") if refused else contextlib.nullcontext()

    with expected, engine.connect() as connection:
        assert 1 == connection.exec_driver_sql("SELECT 1").scalar()
    engine.dispose()
