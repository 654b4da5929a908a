"""``python -m tests.crash.kills``: kill what sends, and look whether money moved twice."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from ..record import Record  # noqa: TID252  # as `crash` in pytest, as `tests.crash` on the command line
from . import shares
from .crew import DEFECTS


def main(arguments: list[str] | None = None) -> int:
    """Return 1 where something happened that must never happen."""
    options = _parser().parse_args(arguments)
    record = Record(options.record)
    if options.papermill:
        return _papermill(options, record)
    if options.races:
        return _races(options, record)
    plan = shares.Plan(
        "postgresql" if options.postmaster_kills else options.database,
        options.runs,
        first=options.first,
        seed=options.seed,
        defect=options.defect,
        stop=options.stop,
        shot=options.postmaster_kills,
        minutes=options.minutes,
    )
    tally = shares.play(plan, options.processes, record, _say)
    _say(str(tally))
    return 1 if tally.violated else 0


def _races(options: argparse.Namespace, record: Record) -> int:
    from .races import KINDS, races

    violated = 0
    with shares.open_world("postgresql") as (world, _):
        for kind in KINDS:
            tally = races(world, kind, options.races, seed=options.seed, defect=options.defect)
            violated += len(tally.violations)
            record.add(f"races: {kind}", options.seed, 0, tally.as_json())
            _say(str(tally))
    return 1 if violated else 0


def _papermill(options: argparse.Namespace, record: Record) -> int:
    from .notebooks import nights

    numbers = range(options.first, options.first + options.runs)
    left = [number for number in numbers if not record.has("papermill", options.seed, number)]
    violated = 0
    with tempfile.TemporaryDirectory(prefix="kills") as folder:
        for number, night in nights(Path(folder), left, seed=options.seed, minutes=options.minutes):
            record.add("papermill", options.seed, number, night.as_json())
            violated += bool(night.violations)
            _say(str(night))
    return 1 if violated else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.crash.kills", description=__doc__)
    parser.add_argument("--runs", type=int, default=100, help="how many scenarios")
    parser.add_argument("--first", type=int, default=0, help="the number of the first scenario")
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--processes", type=int, default=1, help="how many play, each with a database of its own")
    parser.add_argument("--seed", default="0", help="what every random choice derives from")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin nothing new after that long")
    parser.add_argument("--record", type=Path, help="a file of partial sums; what it has is not played again")
    parser.add_argument("--postmaster-kills", action="store_true", help="shoot the PostgreSQL server meanwhile")
    parser.add_argument("--papermill", action="store_true", help="whole papermill runs instead, about 20 s each")
    parser.add_argument("--races", type=int, default=0, help="this many races of each kind instead, on PostgreSQL")
    parser.add_argument("--defect", choices=sorted(DEFECTS), default="", help="plant a defect, to see it found")
    parser.add_argument("--stop", action="store_true", help="stop at the first violation")
    return parser


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
