"""What was done when: every step of a rehearsal with its beginning, its end and how long it really took."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from manual_payout.database.clock import Stopwatch
from manual_payout.domain.models import Stage
from manual_payout.steps.runner import Progress


@dataclass(frozen=True, slots=True)
class Step:
    """
    One step.

    Attributes:
        started_at, ended_at: By the clock of this machine, since that of the sandbox stands still.

        seconds: Real seconds between the two, by a clock that no correction moves.
    """

    name: str
    started_at: datetime
    ended_at: datetime
    seconds: float


class Record:
    """
    The steps of one rehearsal, in order.

    Args:
        watch: What measures.
    """

    def __init__(self, watch: Stopwatch | None = None) -> None:
        self.watch = watch or Stopwatch()
        self.steps: list[Step] = []

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Note what happens inside this block as one step, however it ends."""
        began = self._mark()
        try:
            yield
        finally:
            self._note(name, began)

    @contextmanager
    def notebooks(self, run: str, also: Progress = lambda *_: None) -> Iterator[Progress]:
        """
        Note each notebook of one run as a step: from the end of the one before, its kernel's start included, to its last cell.

        Args:
            run: What goes before the notebook's name.

            also: Told what the runner tells.
        """
        last: dict[str, tuple[datetime, float]] = {"": self._mark()}
        began: dict[str, tuple[datetime, float]] = {}

        def told(stage: Stage, event: str, cell: int, total: int, title: str) -> None:
            began.setdefault(stage.value, list(last.values())[-1])
            last.pop(stage.value, None)
            last[stage.value] = self._mark()
            also(stage, event, cell, total, title)

        try:
            yield told
        finally:
            for name, start in began.items():
                self._note(f"{run}: {name}", start, last[name])

    def seconds_until(self, first: str, last: str) -> float | None:
        """Return how many real seconds the steps from *first* to *last* took; None if one of them was not reached."""
        names = [step.name for step in self.steps]
        if first not in names or last not in names:
            return None
        return sum(step.seconds for step in self.steps[names.index(first) : names.index(last) + 1])

    def _mark(self) -> tuple[datetime, float]:
        return self.watch.now(), self.watch.seconds()

    def _note(self, name: str, began: tuple[datetime, float], ended: tuple[datetime, float] | None = None) -> None:
        until = ended or self._mark()
        self.steps.append(Step(name, began[0], until[0], round(until[1] - began[1], 3)))
