"""Many seeds: spread over processes, counted, and told in one table."""

from __future__ import annotations

import gc
import multiprocessing
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ..record import Record  # noqa: TID252  # as `crash` in pytest, as `tests.crash` on the command line
from . import defects
from .regret import ACT, regretted
from .scenario import Options, Result, play
from .stripe_books import POST_FAULTS, READ_FAULTS
from .world import BOUNDARIES, READS, REVERSAL_BOUNDARIES, REVERSAL_READS

# What differs between two violations of one kind.
_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f-]+|run \d+")

# Seeds are handed out in blocks, so that progress shows and the processes end together.
BLOCK = 250

CRASHES = tuple(f"crash at {boundary}" for boundary in (*BOUNDARIES, *READS))
FAULTS = (*POST_FAULTS, *READ_FAULTS)
OF_REVERSALS = (
    *(f"{ACT}crash at {boundary}" for boundary in (*REVERSAL_BOUNDARIES, *REVERSAL_READS)),
    *(f"{ACT}{fault}" for fault in FAULTS),
)


@dataclass
class Tally:
    """What many scenarios came to."""

    scenarios: int = 0
    hits: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    violations: list[Result] = field(default_factory=list)

    def add(self, result: Result) -> None:
        """Count one scenario."""
        self.scenarios += 1
        self.hits.update(result.hits)
        self.outcomes[result.outcome] += 1
        if result.violation:
            self.violations.append(result)

    def merge(self, other: Tally) -> None:
        """Count what another process has counted."""
        self.scenarios += other.scenarios
        self.hits.update(other.hits)
        self.outcomes.update(other.outcomes)
        self.violations += other.violations

    def as_json(self) -> dict[str, Any]:
        """Everything, for a line of a file."""
        violations = [(result.seed, result.violation) for result in self.violations]
        return {"scenarios": self.scenarios, "outcomes": self.outcomes, "hits": self.hits, "violations": violations}

    def missed(self) -> list[str]:
        """Return every boundary at which no crash, and every fault that never, happened."""
        return [name for name in (*CRASHES, *FAULTS, *OF_REVERSALS) if not self.hits[name]]


def run_block(seeds: Iterable[int], options: Options | None = None) -> Tally:
    """Play the scenarios of *seeds* in this process."""
    tally = Tally()
    for seed in seeds:
        tally.add(play(seed, options or Options()))
    return tally


def run(
    first: int,
    seeds: int,
    *,
    processes: int,
    defect: str,
    keep_going: bool,
    say: Callable[[str], None],
    record: Record | None = None,
    minutes: float = float("inf"),
    reversals: bool = False,
) -> Tally:
    """
    Play *seeds* scenarios from *first* on; unless told to keep going, end with the first violation's block.

    Args:
        record: Where the sums of each block are kept; the blocks that it has are not played again.

        minutes: After which no further block is waited for.

        reversals: Only those of the seeds whose night has a reversal; *seeds* is how far to look.
    """
    record = record or Record(None)
    name = "simulation of reversals" if reversals else "simulation"
    name = f"{name} with {defect}" if defect else name
    blocks = [range(at, min(at + BLOCK, first + seeds)) for at in range(first, first + seeds, BLOCK)]
    left = [block for block in blocks if not record.has(name, "", block.start)]
    total, began = Tally(), time.monotonic()
    for block, tally in _played(left, processes, defect, reversals=reversals):
        record.add(name, "", block.start, tally.as_json())
        total.merge(tally)
        spent = time.monotonic() - began
        if spent > 60 * minutes:
            break
        say(f"{total.scenarios:,} of {seeds:,}, {total.scenarios / spent:,.0f}/s, violations: {len(total.violations)}")
        if total.violations and not keep_going:
            break
    return total


def table(tally: Tally, first: int, seeds: int) -> str:
    """Write the table."""
    hits, rows = tally.hits, []
    crashes = sum(count for name, count in hits.items() if name.startswith("crash at "))
    freezes = sum(count for name, count in hits.items() if name.startswith("freeze at "))
    lost = sum(count for name, count in hits.items() if name.startswith(("lost at ", "down at ")))
    rows.append(("scenarios", f"{tally.scenarios:,}, seeds {first} to {first + seeds - 1}"))
    rows.append(
        ("commands", f"{hits['commands']:,}, POSTs {hits['POSTs']:,}, crashes {crashes:,}, freezes {freezes:,}")
    )
    rows.append(("database faults", f"{lost:,}"))
    rows.append(("provider faults", f"{sum(hits[name] for name in FAULTS):,}"))
    rows.append(("violations", f"{len(tally.violations)}"))
    kinds = Counter(_ID.sub("…", result.violation) for result in tally.violations)
    rows += [(f"violation: {kind}", f"{count:,}") for kind, count in kinds.most_common()]
    rows += [(f"outcome: {name}", f"{count:,}") for name, count in tally.outcomes.most_common()]
    rows += [
        (name, f"{count:,}") for name, count in sorted(hits.items()) if name.removeprefix(ACT).startswith("answer: ")
    ]
    for act, boundaries in (("", (*BOUNDARIES, *READS)), (ACT, (*REVERSAL_BOUNDARIES, *REVERSAL_READS))):
        for boundary in boundaries:
            counts = ", ".join(f"{kind} {hits[f'{act}{kind} at {boundary}']:,}" for kind in ("crash", "freeze", "lost", "down")
                               if hits[f"{act}{kind} at {boundary}"])  # fmt: skip
            rows.append((f"{act}at {boundary}", counts or "never"))
        rows += [(f"{act}fault: {name}", f"{hits[act + name]:,}") for name in FAULTS]
    told = ("answer: ", "crash at ", "freeze at ", "lost at ", "down at ")
    counted = (*FAULTS, *OF_REVERSALS, "commands", "POSTs")
    rest = [name for name in hits if not name.removeprefix(ACT).startswith(told) and name not in counted]
    rows += [(name, f"{hits[name]:,}") for name in sorted(rest)]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {text}" for name, text in rows)


def _played(blocks: list[range], processes: int, defect: str, *, reversals: bool) -> Iterator[tuple[range, Tally]]:
    work = [(block, defect, reversals) for block in blocks]
    if processes <= 1:
        yield from map(_block, work)
        return
    numbers = multiprocessing.get_context("spawn").Queue()
    for number in range(processes):
        numbers.put(number)
    with multiprocessing.get_context("spawn").Pool(processes, initializer=_settle_in, initargs=(numbers,)) as pool:
        yield from pool.imap_unordered(_block, work)


def _block(work: tuple[range, str, bool]) -> tuple[range, Tally]:
    seeds, defect, reversals = work
    with defects.planted(defect) as options:
        tally = run_block(filter(regretted, seeds) if reversals else seeds, options)
    gc.collect()
    return seeds, tally


def _settle_in(numbers: object) -> None:
    """Keep a process on one core, since two threads that hand over a baton would wait for each other's; tidy by block."""
    gc.disable()
    if sys.platform == "linux":
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[numbers.get() % len(cores)]})  # type: ignore[attr-defined]
