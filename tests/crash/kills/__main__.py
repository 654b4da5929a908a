"""``python -m tests.crash.kills``: kill what sends, and look whether money moved twice."""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from .campaign import campaign, measure_send
from .crew import DEFECTS
from .notebooks import nights
from .postmaster import Server, shooting
from .races import KINDS, races
from .world import PostgresDatabases, SqliteFiles, World


def main(arguments: list[str] | None = None) -> int:
    """Return 1 where something happened that must never happen."""
    options = _parser().parse_args(arguments)
    if options.papermill:
        return _papermill(options)
    if options.races:
        return _races(options)
    kind = "postgresql" if options.postmaster_kills else options.database
    with _world(kind) as (world, server), contextlib.ExitStack() as stack:
        measure_send(world)
        shots = stack.enter_context(shooting(server, options.seed)) if options.postmaster_kills else Counter()
        tally = campaign(
            world, options.runs, seed=options.seed, defect=options.defect, stop_at_violation=options.stop, say=_say
        )
        stack.close()
        tally.events += shots
    _say(str(tally))
    return 1 if tally.violated else 0


def _races(options: argparse.Namespace) -> int:
    violated = 0
    with _world("postgresql") as (world, _):
        for kind in KINDS:
            tally = races(world, kind, options.races, seed=options.seed, defect=options.defect)
            violated += len(tally.violations)
            _say(str(tally))
    return 1 if violated else 0


def _papermill(options: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory(prefix="kills") as folder:
        found = nights(Path(folder), options.runs, seed=options.seed, say=_say)
    violated = sum(bool(night.violations) for night in found)
    _say(f"{len(found)} incidents, {sum(len(night.kills) for night in found)} kills, {violated} violated")
    return 1 if violated else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.crash.kills", description=__doc__)
    parser.add_argument("--runs", type=int, default=100, help="how many scenarios")
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--seed", default="0", help="what every random choice derives from")
    parser.add_argument("--postmaster-kills", action="store_true", help="shoot the PostgreSQL server meanwhile")
    parser.add_argument("--papermill", action="store_true", help="whole papermill runs instead, about 20 s each")
    parser.add_argument("--races", type=int, default=0, help="this many races of each kind instead, on PostgreSQL")
    parser.add_argument("--defect", choices=sorted(DEFECTS), default="", help="plant a defect, to see it found")
    parser.add_argument("--stop", action="store_true", help="stop at the first violation")
    return parser


@contextlib.contextmanager
def _world(kind: str) -> Iterator[tuple[World, Server | None]]:
    with contextlib.ExitStack() as stack:
        # Short: the path of PostgreSQL's socket is limited to 107 bytes.
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kills")))
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


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
