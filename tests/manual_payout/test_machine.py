"""An SQLite database is one machine's; two that shared it, or had a copy each, could both pay."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid

import pytest
import sqlalchemy as sa

from manual_payout.database import engines, machine
from manual_payout.database.schema import database_machine
from manual_payout.domain.errors import DatabaseError


@pytest.fixture(name="engine")
def _engine(tmp_path):
    """An SQLite database that this machine has made."""
    engine = engines.connect(f"sqlite:///{tmp_path / 'ours.sqlite'}", name="DATABASE_URL")
    engines.upgrade_database(engine)
    yield engine
    engine.dispose()


def go_elsewhere(monkeypatch):
    """What follows happens on another machine, which has the same file."""
    monkeypatch.setattr(engines, "machine_digest", lambda: "e" * 64)
    monkeypatch.setattr(engines, "machine_name", lambda: "ops-2")


@pytest.mark.parametrize("use", [engines.require_current, engines.upgrade_database])
def test_another_machine_is_refused_and_told_what_to_do(engine, use, tmp_path, monkeypatch):
    """It neither reads nor migrates what may be somebody else's copy by now."""
    before = (tmp_path / "ours.sqlite").read_bytes()
    go_elsewhere(monkeypatch)

    with pytest.raises(DatabaseError) as refused:
        use(engine)

    assert f"is used on the machine {machine.machine_name()}, and this is ops-2." in refused.value.message
    assert f"`manual-payout db adopt --from {machine.machine_name()}`" in refused.value.remedy
    assert "PostgreSQL" in refused.value.remedy
    assert before == (tmp_path / "ours.sqlite").read_bytes()


def test_who_moved_the_file_names_the_old_machine_and_goes_on(engine, monkeypatch):
    """From then on it is the old machine that is refused."""
    here = machine.machine_name()
    with monkeypatch.context() as elsewhere:
        go_elsewhere(elsewhere)
        with pytest.raises(DatabaseError, match=f"found ops-3, expected {here}"):
            engines.adopt_database(engine, "ops-3")
        engines.adopt_database(engine, here)
        engines.require_current(engine)
    with pytest.raises(DatabaseError, match="used on the machine ops-2"):
        engines.require_current(engine)


def test_database_of_before_becomes_the_machines_that_migrates_it(engine):
    """Nobody has to adopt what never was another's; and twice is as once."""
    with engine.begin() as connection:
        connection.execute(database_machine.delete())
    engines.require_current(engine)
    for _ in range(2):
        engines.upgrade_database(engine)
    with engine.connect() as connection:
        rows = connection.execute(sa.select(database_machine.c.digest)).scalars().all()

    assert [machine.machine_digest()] == rows


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_postgresql_is_every_machines(database_url, monkeypatch):
    """A server locks for all of them; there is nothing to adopt."""
    go_elsewhere(monkeypatch)
    engine = engines.connect(database_url, name="DATABASE_URL")
    engines.upgrade_database(engine)
    engines.require_current(engine)
    with engine.connect() as connection:
        rows = connection.execute(sa.select(database_machine)).all()

    assert [] == rows
    with pytest.raises(DatabaseError, match="on a server"):
        engines.adopt_database(engine, "ops-1")
    engine.dispose()


def test_command_line_refuses_and_adopts(quiet_shell, tmp_path, monkeypatch):
    """Exit code 5 with the command; with it, work goes on."""
    url = f"sqlite:///{tmp_path / 'moved.sqlite'}"
    assert 0 == quiet_shell("db", "upgrade", DATABASE_URL=url).code
    go_elsewhere(monkeypatch)
    refused = quiet_shell("status", DATABASE_URL=url)
    wrong = quiet_shell("db", "adopt", "--from", "nowhere", DATABASE_URL=url)
    adopted = quiet_shell("db", "adopt", "--from", machine.machine_name(), "--json", DATABASE_URL=url)
    after = quiet_shell("status", DATABASE_URL=url)

    assert (5, 5, 0, 0) == (refused.code, wrong.code, adopted.code, after.code)
    assert "db adopt --from" in refused.err
    assert {"adopted_from": machine.machine_name()} == json.loads(adopted.out)


def test_machine_is_the_same_in_every_process_and_keeps_its_id_to_itself():
    """A digest, and no part of what the system calls itself."""
    code = "from manual_payout.database.machine import machine_digest; print(machine_digest())"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()

    assert machine.machine_digest() == other
    assert machine._identity() not in other


@pytest.mark.parametrize(
    ("content", "node", "identity"),
    [
        ("0123456789abcdef0123456789abcdef\n", 0x1, "0123456789abcdef0123456789abcdef"),
        ("uninitialized\n", 0x0242AC110002, "0242ac110002"),
        ("", 0x010000000000, "ops-1"),
        (None, 0x0242AC110002, "0242ac110002"),
    ],
)
def test_machine_without_an_id_has_its_card_or_its_name(tmp_path, monkeypatch, content, node, identity):
    """The number that Python makes up where there is no network card would be another in each process."""
    if content is not None:
        (tmp_path / "machine-id").write_text(content)
    monkeypatch.setattr(machine, "_FILES", (str(tmp_path / "machine-id"),))
    monkeypatch.setattr(uuid, "getnode", lambda: node)
    monkeypatch.setattr(machine.platform, "node", lambda: "ops-1")

    assert identity == machine._identity()
