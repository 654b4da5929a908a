"""What is on record is on disk: a database that could lose a commit is refused, and a full disk moves no money."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import shutil
import signal
import sqlite3
import subprocess
import threading
from pathlib import Path

import nbformat
import psycopg
import pytest

from manual_payout.database import engines
from manual_payout.database.store import Store
from manual_payout.domain.errors import DatabaseError, UnknownOutcomeError
from manual_payout.domain.models import State
from manual_payout.evidence.folder import Folder
from manual_payout.gateway import Gateway
from truthful_papermill import durable
from truthful_papermill.engine.saving import OutputFile
from truthful_papermill.redaction import Redactor


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
    with pytest.raises(UnknownOutcomeError, match="did not answer as it should"):
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
    """Asked of every connection, not of the first one only; 3 is EXTRA, which syncs the journal's removal too."""
    engine = engines.connect(sqlite_url, name="DATABASE_URL")
    for _ in range(2):
        with engine.connect() as connection:
            found = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("synchronous", "foreign_keys")]
        engine.dispose()

        assert [3, 1] == found


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
    engine = engines.connect(postgresql_server.replace("/postgres?", f"/{name}?"), name="DATABASE_URL")
    expected = pytest.raises(DatabaseError, match="a commit could be lost") if refused else contextlib.nullcontext()

    with expected, engine.connect() as connection:
        assert 1 == connection.exec_driver_sql("SELECT 1").scalar()
    engine.dispose()


# ---------------------------------------------------------------------------------------------- the order of the writes

_SEEN = re.compile(r"(?P<call>\w+)\((?:(?P<fd>\d+)<(?P<path>[^>]*)>|\"(?P<name>[^\"]*)\")(?P<rest>.*)")


@pytest.fixture(name="traced")
def _traced(tmp_path):
    """Have the kernel tell what a call of this thread asked of it: syncs, removals and bytes to a socket, in order."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")

    def trace(call):
        log = tmp_path / "trace"
        calls = "trace=fsync,fdatasync,unlink,sendto,pwrite64,write"
        command = ["strace", "-yy", "-s", "40", "-e", calls, "-o", log, "-p", str(threading.get_native_id())]
        tracer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        if "attached" not in tracer.stderr.readline():
            pytest.skip("strace may not attach to this process")
        try:
            call()
        finally:
            tracer.send_signal(signal.SIGINT)
            tracer.communicate()
        found = (_SEEN.match(line) for line in log.read_text().splitlines())
        return [(one["call"], one["path"] or one["name"], one["rest"]) for one in found if one]

    return trace


def told(calls, scene):
    """What was asked of the disk and the network, in words."""
    path = scene.url.removeprefix("sqlite:///")
    files = {path: "database", f"{path}-journal": "journal", str(Path(path).parent): "folder"}
    for call, what, rest in calls:
        if call == "sendto" and "POST /v1/transfers" in rest:
            yield "POST"
        elif what in files:
            yield f"{'sync' if 'sync' in call else call} {files[what]}"


COMMITTED = ["sync journal", "sync database", "unlink journal", "sync folder"]


def test_intent_is_on_disk_before_stripe_is_called_and_the_outcome_before_it_is_told(scene, traced):
    """
    The kernel is asked: bytes of the journal, bytes of the database, the journal's removal, the folder that no longer
    names it; and nothing is written between that and the call.
    """
    calls = list(told(traced(scene.send), scene))
    before, after = calls[: calls.index("POST")], calls[calls.index("POST") + 1 :]
    steps = [[one for one in part if not one.startswith(("pwrite64", "write"))][-4:] for part in (before, after)]

    assert [COMMITTED, COMMITTED] == steps
    assert ["sync folder", "sync folder"] == [before[-1], after[-1]]
    assert State.PAID is scene.record.state


@pytest.fixture(name="order")
def _order(monkeypatch):
    """Note what is synced, linked and renamed, while it is."""
    noted = []

    def note(name, tell):
        real = getattr(os, name)

        def told(*args, **kwargs):
            noted.append(tell(*args))
            return real(*args, **kwargs)

        monkeypatch.setattr(os, name, told)

    note("fsync", lambda descriptor: f"sync {named(Path(f'/proc/self/fd/{descriptor}').readlink())}")
    note("link", lambda _source, target: f"name {named(target)}")
    note("replace", lambda _source, target: f"name {named(target)}")
    note("mkdir", lambda path, *_: f"make {named(path)}")
    return noted


def named(path):
    name = Path(path).name
    return "bytes" if name.startswith(".") else name


def test_file_of_the_evidence_is_on_disk_before_its_name_and_its_name_before_it_is_done(tmp_path, order):
    """New folders too, each with its name in the one above; for what is kept and for what is replaced."""
    folder = Folder(tmp_path / "INC-123" / "payout", Redactor(()))
    folder.keep("ledger.json", "{}")
    folder.replace("journal.json", "{}")
    above = tmp_path.name

    assert [
        "make INC-123", f"sync {above}", "make payout", "sync INC-123",
        "sync bytes", "name ledger.json", "sync payout",
        "sync bytes", "name journal.json", "sync payout",
    ] == order  # fmt: skip


def test_notebook_is_on_disk_before_its_name_and_its_name_before_it_is_done(tmp_path, order):
    """At its first saving and at each one after."""
    output = OutputFile(tmp_path / "1-verify-01.ipynb", Redactor(()))
    for _ in range(2):
        output.save(nbformat.v4.new_notebook())

    assert 2 * ["sync bytes", "name 1-verify-01.ipynb", f"sync {tmp_path.name}"] == order


def test_folder_that_several_make_at_once_is_made(tmp_path):
    """Two runs of one incident begin in the same moment."""
    path = tmp_path / "INC-123" / "payout" / "deeper"
    makers = [threading.Thread(target=durable.make_folder, args=(path,)) for _ in range(8)]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join()
    durable.make_folder(path)

    assert path.is_dir()
    (path / "file").touch()
    with pytest.raises(OSError, match="file"):
        durable.make_folder(path / "file")
