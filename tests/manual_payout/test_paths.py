"""Paths with letters that mean something to a URL, an INI file or a shell reach the database's file unharmed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from manual_payout.database import engines
from manual_payout.domain.errors import DatabaseError, SettingsError
from manual_payout.ledger import open_ledger
from payout_rehearsal.demo import incident
from payout_rehearsal.demo.ledger import create_demo_ledger
from processes import around

LIB = Path(__file__).parents[2] / "lib"
ODD = "why?now 50% off #1 ä"


@pytest.mark.parametrize("folder", ["why?now", "50% off", "50%25", "a#b", "Zürich 東京", "file:x", ODD])
def test_outputs_folder_of_any_name_holds_its_own_database(shell, tmp_path, folder):
    """The default database is in the folder itself, and a kernel is told the same file."""
    outputs = tmp_path / folder
    answer = shell("db", "upgrade", MANUAL_PAYOUT_OUTPUTS=str(outputs), DATABASE_URL="", LEDGER_DATABASE_URL="")
    url = engines.sqlite_url(outputs / "manual_payout.sqlite")

    assert (0, ["manual_payout.sqlite"]) == (answer.code, [file.name for file in outputs.iterdir()]), answer.err
    assert url == engines.absolute_url(url)


def test_checkout_of_any_name_makes_its_tables(tmp_path):
    """Alembic is given the folder of the migrations as a line of an INI file."""
    shutil.copytree(LIB, tmp_path / ODD / "lib", ignore=shutil.ignore_patterns("__pycache__"))
    environment = {**around(), "PYTHONPATH": str(tmp_path / ODD / "lib")}
    environment["DATABASE_URL"] = environment["LEDGER_DATABASE_URL"] = engines.sqlite_url(tmp_path / "state.sqlite")
    command = [sys.executable, "-m", "manual_payout", "db", "upgrade"]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert (0, "") == (done.returncode, done.stderr)


@pytest.mark.parametrize("options", ["mode=ro", "mode=ro&uri=true", "immutable=1"])
def test_ledger_that_is_read_only_by_its_uri_is_read_and_not_claimed(tmp_path, options, clock, monkeypatch):
    """The same file is meant in every folder, and what a claim needs is said."""
    monkeypatch.chdir(tmp_path)
    made = engines.connect(engines.sqlite_url(tmp_path / "ledger.sqlite"), name="LEDGER_DATABASE_URL")
    create_demo_ledger(made)
    made.dispose()
    url = engines.absolute_url(f"sqlite:///file:ledger.sqlite?{options}")
    monkeypatch.chdir("/")
    ledger = open_ledger(url)

    assert incident.STUDIO_ID == ledger.get_payout_due(incident.LEDGER_PAYOUT_ID).studio_id
    with pytest.raises(DatabaseError, match="does not permit this"):
        ledger.claim(incident.LEDGER_PAYOUT_ID, "line-1", at=clock.now())
    ledger._engine.dispose()


@pytest.mark.parametrize("rest", ["why?now/x.sqlite", "x.sqlite?mode=ro", "x.sqlite?timeout=3", "file:x?mood=ro"])
def test_rest_of_a_path_is_not_dropped_as_an_option(tmp_path, rest):
    """What stands after a question mark is an option of SQLite's, or the URL is refused."""
    with pytest.raises(SettingsError, match=r"DATABASE_URL: found .*options") as caught:
        engines.connect(f"sqlite:///{tmp_path}/{rest}", name="DATABASE_URL")

    assert "file:/path?mode=ro&uri=true" in caught.value.remedy
    assert [] == list(tmp_path.iterdir())
