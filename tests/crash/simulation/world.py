"""
One world: the virtual clock, the operators who share it, and the plan of what goes wrong at which boundary.

Only one operator runs at a time. Where two meet, each has a thread and a baton passes between them at boundaries that
the seed chooses, so that the same seed is always the same night.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from manual_payout.domain.errors import DatabaseError

# Where the process can die: before and after everything that leaves a trace.
WRITES = ("claim", "record_intent", "take_over", "mark_sent", "record_outcome", "record_event", "post")
BOUNDARIES = tuple(f"{name}:{side}" for name in WRITES for side in ("before", "after"))
READS = ("find_request", "find_payout", "events_of", "approvals_of", "find_payout_due", "listing", "account")
# Of a reversal; it claims nothing.
REVERSAL_READS = (
    "get_request", "find_reversal", "find_open_reversal", "events_of", "approvals_of", "reversals", "get_transfer",
    "account",
)  # fmt: skip
REVERSAL_BOUNDARIES = tuple(boundary for boundary in BOUNDARIES if not boundary.startswith("claim"))
DATABASE_WRITES = tuple(name for name in WRITES if name != "post")


class Crash(BaseException):
    """The process is gone: nothing in the library may catch this."""


class Violation(BaseException):
    """An invariant does not hold; nothing in the library may catch this either."""


class _Aborted(BaseException):
    """Another operator's thread has ended the scenario."""


@dataclass(slots=True)
class Planned:
    """What happens at the *countdown*-th passing of a boundary: a kind, and for how long."""

    countdown: int
    kind: str
    seconds: float = 0.0


@dataclass
class Operator:
    """One person at one machine; *run* is what they are running right now."""

    name: str
    person: Any = None
    desk: Any = None
    wake_at: datetime | None = None
    run: Any = None
    baton: threading.Lock = field(default_factory=threading.Lock)


class World:
    """
    The clock and the scheduler of one scenario.

    Args:
        rng: The seed's.

        start: The first instant.
    """

    def __init__(self, rng: random.Random, start: datetime) -> None:
        self.rng = rng
        self.instant = start
        self.plan: dict[str, list[Planned]] = {}
        self.hits: Counter[str] = Counter()
        self.log: list[str] | None = None
        self.down_until: datetime | None = None
        self.events: dict[str, Callable[[], None]] = {}
        self.watch_commit: Callable[[Any, Any], None] = lambda _before, _after: None
        self.latest_post: Callable[[], datetime | None] = lambda: None
        self.operators: list[Operator] = []
        self.current = Operator("nobody")
        self.switching = 0.0
        self.act = ""
        self._end: BaseException | None = None
        self._main = threading.Lock()

    # ---------------------------------------------------------------------------------- the clock

    def now(self) -> datetime:
        """The instant that judges."""
        return self.instant

    def wait(self, seconds: float) -> None:
        """Let *seconds* pass for the current operator; the others go on meanwhile."""
        self._pause(self.instant + timedelta(seconds=seconds))

    def pass_time(self, seconds: float) -> None:
        """Let *seconds* pass for everybody."""
        self.instant += timedelta(seconds=seconds)

    # ---------------------------------------------------------------------------------- boundaries

    def step(self, boundary: str) -> None:
        """Pass a boundary, with whatever is planned for it."""
        if self.log is not None:
            self.say(boundary)
        if self._end is not None and self.switching:
            raise _Aborted
        planned = self.plan.get(boundary)
        if planned is not None:
            self._carry_out(boundary, planned)
        if self.down_until is not None and self.instant < self.down_until and self._is_database(boundary):
            self.hits[f"{self.act}database down"] += 1
            raise DatabaseError("The database did not answer as it should: it is down.", "Try again.")
        if self.switching and self.rng.random() < self.switching:
            self._pause(self.instant)

    def committed(self, before: Any, after: Any) -> None:
        """See a payout record change."""
        self.watch_commit(before, after)

    def say(self, text: str) -> None:
        """Write a line of the step log, where one is kept."""
        if self.log is not None:
            self.log.append(f"{self.instant:%d %H:%M:%S.%f} {self.current.name:6} {text}")

    def calm(self) -> None:
        """End every disturbance."""
        self.plan, self.down_until, self.switching = {}, None, 0.0

    def _carry_out(self, boundary: str, planned: list[Planned]) -> None:
        for entry in list(planned):
            entry.countdown -= 1
            # Once only, also where another operator passes the same boundary during this one's pause.
            if entry.countdown == 0:
                self._happen(boundary, entry)

    def _happen(self, boundary: str, entry: Planned) -> None:
        kind = entry.kind
        if kind in self.events:
            self.events[kind]()
            return
        self.hits[f"{self.act}{kind} at {boundary}"] += 1
        self.say(f"*** {kind} at {boundary} {entry.seconds or ''}")
        if kind == "crash":
            raise Crash(boundary)
        if kind == "lost":
            raise DatabaseError("The database did not answer as it should: connection lost.", "Try again.")
        if kind == "down":
            self.down_until = self.instant + timedelta(seconds=entry.seconds)
            return
        seconds = entry.seconds
        if boundary in ("mark_sent:after", "post:before"):
            # Between the fence and the socket nothing can be fenced any more: a pause that outlasts the key there is
            # the one that no software on this side can survive. What ends while the key is surely remembered, must.
            latest = self.latest_post()
            if latest is not None:
                seconds = max(0.0, min(seconds, (latest - self.instant).total_seconds()))
        self._pause(self.instant + timedelta(seconds=seconds))

    def _is_database(self, boundary: str) -> bool:
        stripes = ("post", "listing", "account", "reversals", "get_transfer")
        return not boundary.startswith(stripes) and not boundary.endswith(":after")

    # ---------------------------------------------------------------------------------- the baton

    def play(self, programs: list[tuple[Operator, Callable[[Operator], None]]], switching: float) -> None:
        """Run each operator's program, one at a time, handing over at boundaries; return when all have ended."""
        self.operators = [operator for operator, _ in programs]
        self.switching = switching if len(programs) > 1 else 0.0
        for operator in self.operators:
            operator.wake_at = self.instant
        threads = [
            threading.Thread(target=self._thread, args=(operator, program), daemon=True)
            for operator, program in programs[1:]
        ]
        self._main.acquire()
        for operator in self.operators:
            operator.baton.acquire()
        for thread in threads:
            thread.start()
        first, program = programs[0]
        self.current = first
        try:
            program(first)
        except _Aborted:
            pass
        except BaseException as error:  # noqa: BLE001  # raised again below, once the other thread has ended
            self._end = self._end or error
        if threads:
            self._leave(first)
            self._main.acquire()
            for thread in threads:
                thread.join()
        self._main.release()
        if self._end is not None:
            raise self._end

    def _thread(self, operator: Operator, program: Callable[[Operator], None]) -> None:
        operator.baton.acquire()
        try:
            if self._end is None:
                program(operator)
        except _Aborted:
            pass
        except BaseException as error:  # noqa: BLE001  # handed to the main thread
            self._end = self._end or error
        self._leave(operator)

    def _leave(self, operator: Operator) -> None:
        self.operators.remove(operator)
        if not self.operators:
            self._main.release()
            return
        self._hand_to(self._next())

    def _next(self) -> Operator:
        if self._end is not None:
            return self.operators[0]
        awake = [one for one in self.operators if one.wake_at is None or one.wake_at <= self.instant]
        if awake:
            return awake[int(self.rng.random() * len(awake))] if len(awake) > 1 else awake[0]
        first = min(self.operators, key=lambda one: one.wake_at or self.instant)
        self.instant = first.wake_at or self.instant
        return first

    def _hand_to(self, operator: Operator) -> None:
        self.current = operator
        operator.baton.release()

    def _pause(self, until: datetime) -> None:
        me = self.current
        if len(self.operators) <= 1:
            self.instant = max(self.instant, until)
            return
        me.wake_at = until
        chosen = self._next()
        if chosen is me:
            return
        self._hand_to(chosen)
        me.baton.acquire()
        if self._end is not None:
            raise _Aborted


def small(rng: random.Random, most: int) -> int:
    """A number from 1 on, small ones oftener."""
    return 1 + min(int(rng.expovariate(1.0)), most - 1)


def span(rng: random.Random, least: float, most: float) -> float:
    """Seconds, long spans as often as short ones."""
    return float(least * (most / least) ** rng.random())
