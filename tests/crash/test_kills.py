"""Whatever kills the process that pays, and whenever: at most one transfer, and its row says so."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import pytest

from crash.kills.campaign import campaign
from crash.kills.notebooks import PATIENCE_S, Scene, play
from crash.kills.world import PostgresDatabases, SqliteFiles, World, memory_folder
from manual_payout.domain.models import Stage

# `make kills RUNS=1000` plays as many as one likes.
SCENARIOS = 8

# A design without a lookup and with a new key for each attempt pays twice in one of ten scenarios.
FOUND_WITHIN = 60


@pytest.fixture(scope="module", name="sqlite_world")
def _sqlite_world():
    with tempfile.TemporaryDirectory(prefix="kills", dir=memory_folder()) as folder:
        world = World(Path(folder), SqliteFiles(Path(folder)))
        yield world
        world.close()


@pytest.fixture(scope="module", name="postgresql_world")
def _postgresql_world(postgresql_server):
    with tempfile.TemporaryDirectory(prefix="kills", dir=memory_folder()) as folder:
        world = World(Path(folder), PostgresDatabases(postgresql_server))
        yield world
        world.close()


def test_killed_senders_pay_once_on_sqlite(sqlite_world):
    """Processes shot, frozen and doubled at random moments leave one transfer at most, and a row that tells of it."""
    tally = campaign(sqlite_world, range(SCENARIOS), seed="suite")

    assert [] == tally.violated, str(tally)
    assert tally.kills > 0


def test_killed_senders_pay_once_on_postgresql(postgresql_world):
    """The same on a real server."""
    tally = campaign(postgresql_world, range(SCENARIOS), seed="suite")

    assert [] == tally.violated, str(tally)
    assert tally.kills > 0


def test_a_planted_defect_is_found(sqlite_world):
    """The harness has teeth: senders with a new key each time, and without a lookup, are caught paying twice."""
    tally = campaign(sqlite_world, range(FOUND_WITHIN), seed="teeth", defect="random_key", stop_at_violation=True)

    found = " ".join(tally.violated[0].violations)
    assert 1 == len(tally.violated)
    # Whichever comes first: what is in the books, or what a run says of it.
    assert "paid 2 times by hand" in found or "no row tells of" in found


def test_a_refusal_that_denies_the_money_is_found(sqlite_world):
    """What a run said last is held against the books: one that says that nothing moved, after it has, is caught."""
    defect = "refused_after_the_money"
    tally = campaign(sqlite_world, range(FOUND_WITHIN), seed="words", defect=defect, stop_at_violation=True)

    assert 1 == len(tally.violated)
    assert "said that nothing of this payout moved" in " ".join(tally.violated[0].violations)


def test_a_killed_papermill_run_ends_well_when_run_again(tmp_path):
    """The command line shot while notebooks run: the same command again pays once, and every notebook tells the truth."""
    night = play(tmp_path, "suite", kills=1)

    assert ([], 1, 0) == (night.violations, len(night.kills), night.codes[-1]), str(night)


def test_forked_kernels_are_among_the_processes_that_can_be_shot(tmp_path):
    """The run, its fork server and the kernel: what is not seen is neither shot nor missed."""
    scene = Scene(tmp_path)
    try:
        process = scene.run()
        deadline = time.monotonic() + PATIENCE_S
        while not scene.made(Stage.EXECUTE):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        commands = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in scene.running()]
        process.kill()
        process.wait()
        while scene.running():
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        scene.sandbox.close()

    # A forked kernel shows the command of the server.
    assert 2 <= sum(b"truthful_papermill.warm.server" in command for command in commands)
    assert 1 == sum(b"manual_payout.__main__" in command for command in commands)
