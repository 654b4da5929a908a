"""Several processes, each with a world of its own, that share the scenarios of a campaign among them."""

from __future__ import annotations

import contextlib
import multiprocessing
import queue
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..record import Record  # noqa: TID252  # as `crash` in pytest, as `tests.crash` on the command line
from .campaign import campaign, measure_send
from .postmaster import Server, shooting
from .tally import Tally
from .world import PostgresDatabases, SqliteFiles, World, die_with_parent, memory_folder

# Scenarios are played and recorded in parts.
PART = 50


@dataclass(frozen=True)
class Plan:
    """
    What is to be played.

    Attributes:
        kind: ``sqlite`` or ``postgresql``.

        first: The number of the first scenario; with the seed, it says what happens in it.

        shot: Whether the database server is shot meanwhile.

        minutes: After which no further part is begun.
    """

    kind: str
    runs: int
    first: int = 0
    seed: str = "0"
    defect: str = ""
    stop: bool = False
    shot: bool = False
    minutes: float = float("inf")

    @property
    def name(self) -> str:
        """By which the parts of a record are found again."""
        return self.kind + (" under fire" if self.shot else "") + (f" with {self.defect}" if self.defect else "")

    def parts(self) -> list[range]:
        """Its scenarios, a part at a time."""
        end = self.first + self.runs
        return [range(at, min(at + PART, end)) for at in range(self.first, end, PART)]


def play(plan: Plan, processes: int, record: Record, say: Callable[[str], None]) -> Tally:
    """
    Play all parts that the record does not have.

    Raises:
        RuntimeError: A process ended before its time, which says nothing of the money.
    """
    context = multiprocessing.get_context("spawn")
    left = [part for part in plan.parts() if not record.has(plan.name, plan.seed, part.start)]
    told, stop, total = context.Queue(), context.Event(), Tally(plan.kind)
    workers = [
        context.Process(target=_work, args=(plan, left[share::processes], told, stop)) for share in range(processes)
    ]
    for worker in workers:
        worker.start()
    for part, tally in _told(told, workers):
        record.add(plan.name, plan.seed, part.start, tally.as_json())
        total.merge(tally)
        say(f"{total.scenarios}: {total.kills} kills, {len(total.violated)} violated")
        if total.violated and plan.stop:
            stop.set()
    for worker in workers:
        worker.join()
    if any(worker.exitcode for worker in workers):
        raise RuntimeError(f"A process ended with {[worker.exitcode for worker in workers]}.")
    return total


@contextlib.contextmanager
def open_world(kind: str) -> Iterator[tuple[World, Server | None]]:
    """Open a world, with a server of its own where it needs one, and leave nothing behind."""
    with contextlib.ExitStack() as stack:
        # Short: the path of PostgreSQL's socket is limited to 107 bytes.
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kills", dir=memory_folder())))
        server = None
        if kind == "sqlite":
            databases: SqliteFiles | PostgresDatabases = SqliteFiles(root)
        else:
            server = Server(root / "pg")
            stack.callback(server.close)
            databases = PostgresDatabases(server.uri)
        world = World(root, databases)
        stack.callback(world.close)
        yield world, server


def _told(told: Any, workers: list[Any]) -> Iterator[tuple[range, Tally]]:
    while True:
        alive = any(worker.is_alive() for worker in workers)
        try:
            yield told.get(timeout=0.5)
        except queue.Empty:
            if not alive:
                return


def _work(plan: Plan, parts: list[range], told: Any, stop: Any) -> None:
    die_with_parent()
    until_s = time.monotonic() + 60 * plan.minutes
    with open_world(plan.kind) as (world, server):
        measure_send(world)
        for part in parts:
            if stop.is_set() or time.monotonic() > until_s:
                break
            told.put((part, _play_part(plan, part, world, server)))


def _play_part(plan: Plan, part: range, world: World, server: Server | None) -> Tally:
    with contextlib.ExitStack() as stack:
        shots: Counter[str] = Counter()
        if plan.shot and server is not None:
            shots = stack.enter_context(shooting(server, f"{plan.seed}/{part.start}"))
        tally = campaign(world, part, seed=plan.seed, defect=plan.defect, stop_at_violation=plan.stop)
    tally.events += shots
    return tally
