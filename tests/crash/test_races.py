"""Two at the same moment, on a real PostgreSQL: one moves the money, the other is told who and why."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest

from crash.kills.races import races
from crash.kills.world import PostgresDatabases, World, memory_folder

# `python -m tests.crash.kills --races 200` runs as many as one likes.
MANY, FEW = 8, 4


@pytest.fixture(scope="module", name="world")
def _world(postgresql_server):
    with tempfile.TemporaryDirectory(prefix="races", dir=memory_folder()) as folder:
        world = World(Path(folder), PostgresDatabases(postgresql_server))
        yield world
        world.close()


@pytest.mark.parametrize(
    ("kind", "count"),
    [
        ("two operators", MANY),
        ("the automation", MANY),
        ("two incidents", FEW),
        ("another amount", FEW),
        ("a sleeper", FEW),
    ],
)
def test_exactly_one_payment_and_the_other_is_told(world, kind, count):
    """One payment, however close the two come to each other; whoever is refused moved nothing and is told why."""
    found = races(world, kind, count, seed="suite")

    assert [] == found.violations
    assert count == json.loads(json.dumps(found.as_json()))["races"] == sum(found.ends.values())


def test_a_sender_without_a_fence_is_found(world):
    """The harness has teeth: where nothing stops a sender that slept, it pays a second time."""
    found = races(world, "a sleeper", FEW, seed="suite", defect="no_fence")

    assert "paid 2 times by hand" in " ".join(found.violations)
