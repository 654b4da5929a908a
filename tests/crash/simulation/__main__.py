"""``python -m tests.crash.simulation --seeds 20000``: many nights, one table; ``--seed 17 --trace`` replays one."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..record import Record  # noqa: TID252  # as `crash` in pytest, as `tests.crash` on the command line
from . import defects, report
from .scenario import play


def main() -> int:
    """Run what the command line asks for; exit code 1 where an invariant does not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=20_000, help="how many scenarios")
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--defect", choices=sorted(defects.DEFECTS), default="", help="plant this defect first")
    parser.add_argument("--keep-going", action="store_true", help="count every violation instead of ending at one")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="end after that long")
    parser.add_argument("--record", type=Path, help="a file of partial sums; what it has is not played again")
    parser.add_argument("--seed", type=int, help="play this one alone")
    parser.add_argument("--reversals", action="store_true", help="only those of the seeds that have a reversal")
    parser.add_argument("--trace", action="store_true", help="with --seed: show every step")
    asked = parser.parse_args()
    if asked.seed is not None:
        return _replay(asked.seed, asked.defect, trace=asked.trace)
    tally = report.run(
        asked.first, asked.seeds, processes=asked.processes, defect=asked.defect, keep_going=asked.keep_going,
        say=_progress, record=Record(asked.record), minutes=asked.minutes,
        reversals=asked.reversals,
    )  # fmt: skip
    sys.stderr.write("\n")
    sys.stdout.write(report.table(tally, asked.first, asked.seeds) + "\n")
    for result in tally.violations[:20]:
        sys.stdout.write(f"seed {result.seed}: {result.violation}\n")
    if tally.violations:
        _replay(min(tally.violations, key=lambda result: result.seed).seed, asked.defect, trace=True)
    return 1 if tally.violations else 0


def _replay(seed: int, defect: str, *, trace: bool) -> int:
    with defects.planted(defect) as options:
        result = play(seed, options, trace=trace)
    for line in result.log or ():
        sys.stdout.write(line + "\n")
    sys.stdout.write(f"seed {seed}: {result.violation or 'all invariants hold'}; {result.outcome}\n")
    return 1 if result.violation else 0


def _progress(text: str) -> None:
    sys.stderr.write(f"\r{text}    ")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
