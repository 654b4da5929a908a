"""Many scenarios, one after another in one world."""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Callable, Iterable

from manual_payout import transfer
from manual_payout.domain.errors import UnknownOutcomeError

from .crew import Order, live, newest, start, watch
from .filing import OPERATORS
from .scenario import Scenario
from .tally import Tally
from .world import World, at

MEASURED = 5


def warm(world: World) -> None:
    """Send in this process, with and without an answer, so that what is forked from it need not prepare anything."""
    for fault in ("", "drop_after"):
        studio, desk = world.begin()
        if fault:
            world.sandbox.fault(kind=fault, times=3)
        with at(desk):
            operator = desk.registry.find(OPERATORS[0])
            typed = live(desk, studio.parameters(), OPERATORS[0])
            with contextlib.suppress(UnknownOutcomeError):
                transfer.send(desk, typed, operator)
            transfer.reconcile(desk, newest(desk, studio.ledger_payout_id), operator)
    gc.collect()
    # A collection in a forked process would copy every page that it looks at.
    gc.freeze()


def measure_send(world: World) -> float:
    """How long a process takes from its fork to its end when nothing befalls it; measured once."""
    if world.send_s is None:
        warm(world)
        taken = sorted(_time_a_send(world) for _ in range(MEASURED))
        world.send_s = taken[MEASURED // 2]
    return world.send_s


def campaign(
    world: World,
    numbers: Iterable[int],
    *,
    seed: str = "0",
    defect: str = "",
    stop_at_violation: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> Tally:
    """Play the scenarios of *numbers* one after another."""
    send_s = measure_send(world)
    tally, began = Tally(world.kind), time.monotonic()
    for number in numbers:
        outcome = Scenario(world, f"{seed}/{number}", send_s=send_s, defect=defect).play()
        tally.add(outcome)
        tally.seconds = time.monotonic() - began
        if outcome.violations:
            say(f"{number}: {outcome.violations[0]}")
            if stop_at_violation:
                break
    return tally


def _time_a_send(world: World) -> float:
    studio, desk = world.begin()
    order = Order("send", desk, studio.parameters(), operator=OPERATORS[0])
    began = time.monotonic()
    runs = start([order])
    watch(runs)
    assert "paid" == runs[0].how, runs[0]
    return time.monotonic() - began
