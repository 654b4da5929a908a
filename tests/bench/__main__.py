"""
Measure what docs/performance.md states. ``python -m tests.bench``

Every figure is a ratio of two things that are measured in turn, in one run: a machine that is slower today, or for a moment, is
slower for both. One turn of each goes first and is not counted.
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from tests.bench.ledgers import ledgers
from tests.bench.ledgers import seconds as verification_s
from tests.bench.nights import IMPORTS, Night, as_json, bare
from tests.bench.programs import BIN, peak_mb, plain_environment, seconds
from tests.bench.report import Pair, draw, table

SMALL, LARGE = 10_000, 10_000_000
LETTERS = "abcdef"

Measure = Callable[[Path], float]


def in_turn(turns: int, measures: list[Measure], root: Path) -> list[tuple[float, ...]]:
    """Measure each in turn, *turns* times and once before; each gets a new folder."""
    found = []
    for turn in range(turns + 1):
        found.append([measure(root / f"{turn}-{number}") for number, measure in enumerate(measures)])
        say(f"    {' : '.join(f'{value:.3g}' for value in found[-1])}{'' if turn else '  (not counted)'}")
    return list(zip(*found[1:], strict=True))


def whole(root: Path) -> float:
    """All six notebooks by one command, without the wait for the settlement."""
    return _of_a_night(root, lambda night: seconds(night.whole(), night.environment) - night.waited_s())


def one_stage(root: Path) -> float:
    """The verification alone, by its command."""
    return _of_a_night(root, lambda night: seconds(night.verify(), night.environment))


def six_papermills(root: Path) -> float:
    """The same six notebooks by papermill alone, without that wait."""

    def alone(night: Night) -> float:
        return sum(seconds(command, night.environment) for command in night.papermill()) - night.waited_s()

    return _of_a_night(root, alone)


def empty(root: Path) -> float:
    """An empty notebook by papermill alone."""
    return seconds(bare(root), plain_environment())


def help_(_root: Path) -> float:
    """The list of commands."""
    return seconds([str(BIN / "manual-payout"), "--help"], plain_environment())


def nothing(_root: Path) -> float:
    """Python's own start."""
    return seconds([str(BIN / "python"), "-c", "pass"], plain_environment())


def whole_mb(root: Path) -> float:
    """The memory of all six notebooks by one command."""
    return _of_a_night(root, lambda night: peak_mb(night.whole(), night.environment))


def imports_mb(root: Path) -> float:
    """The memory of one papermill run of a notebook that imports what the stages import."""
    return peak_mb(bare(root, IMPORTS), plain_environment())


def _of_a_night(root: Path, measure: Callable[[Night], float]) -> float:
    night = Night(root)
    try:
        return measure(night)
    finally:
        night.close()


def _pairs(chosen: argparse.Namespace, root: Path) -> list[Pair]:
    pairs: list[Pair] = []

    def add(letter: str, what: str, beside: str, goal: float | None, unit: str, found: list[tuple[float, ...]]) -> None:
        pairs.append(Pair(letter, what, beside, goal, unit, *found))
        say(f"  ({letter}) {what}: {pairs[-1].ratio:.2f}")

    def run(letter: str, what: str, beside: str, goal: float | None, *measures: Measure, unit: str = "s") -> None:
        if letter in chosen.only:
            say(f"({letter}) {what} : {beside}, {unit}")
            add(letter, what, beside, goal, unit, in_turn(chosen.turns, list(measures), root / letter))

    run("a", "six notebooks live by `manual-payout run`", "papermill, one empty notebook", 1.5, whole, empty)
    run("b", "six notebooks live by `manual-payout run`", "papermill, the same six", 0.2, whole, six_papermills)
    run("c", "one stage by `manual-payout run`", "papermill, one empty notebook", None, one_stage, empty)
    run("d", "`manual-payout --help`", "`python -c pass`", 6, help_, nothing)
    if "e" in chosen.only:
        say(f"(e) filling ledgers of {SMALL:,} and {chosen.large:,} payouts …")
        with ledgers((SMALL, chosen.large)) as desks:
            measures: list[Measure] = [
                lambda _root, size=size: verification_s(desks[size]) for size in (chosen.large, SMALL)
            ]
            found = in_turn(3 * chosen.turns, measures, root)
        add("e", f"verification, ledger of {chosen.large:,}", f"ledger of {SMALL:,}", 1.3, "s", found)
    run("f", "peak memory of six notebooks live", "papermill, a notebook with the same imports", 1.5, whole_mb,
        imports_mb, unit="MB")  # fmt: skip
    return pairs


def main() -> None:
    """Measure, print, and write where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=7, help="how often each is measured (default: 7)")
    parser.add_argument("--only", default=LETTERS, help=f"some of {LETTERS} (default: all)")
    parser.add_argument("--large", type=int, default=LARGE, help=f"payouts of the large ledger (default: {LARGE})")
    parser.add_argument("--json", type=Path, help="write everything that was measured to this file")
    parser.add_argument("--plot", type=Path, help="draw the ratios into this PNG file")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as root:
        pairs = _pairs(chosen, Path(root))
    machine = f"{datetime.now(UTC):%Y-%m-%d}, {_processor()}, {platform.system()}, Python {platform.python_version()}"
    say(f"\n{machine}\n\n{table(pairs)}")
    if chosen.json is not None:
        chosen.json.write_text(as_json({"machine": machine, "pairs": [pair.as_json() for pair in pairs]}) + "\n")
    if chosen.plot is not None:
        draw(pairs, chosen.plot)


def _processor() -> str:
    import os

    return f"{len(os.sched_getaffinity(0))} cores, {platform.machine()}"


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
