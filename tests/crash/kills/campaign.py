"""Many scenarios, counted, and the table at the end."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from manual_payout import transfer

from .crew import Order, live, start, watch
from .scenario import OPERATORS, Outcome, Scenario
from .world import World, at

MEASURED = 3


@dataclass
class Tally:
    """What many scenarios came to."""

    database: str
    scenarios: int = 0
    kills: int = 0
    seconds: float = 0.0
    hits: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    runs: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    violated: list[Outcome] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        """Count one scenario."""
        self.scenarios += 1
        self.kills += outcome.kills
        self.hits += outcome.hits
        self.faults += outcome.faults
        self.runs += outcome.ends
        self.events += outcome.events
        self.ends[outcome.end] += 1
        if outcome.violations:
            self.violated.append(outcome)

    def __str__(self) -> str:
        rate = self.scenarios / self.seconds if self.seconds else 0.0
        speed = f"{self.seconds:.0f} s ({rate:.1f}/s)"
        lines = [
            f"{self.scenarios} scenarios on {self.database} in {speed}: {self.kills} SIGKILLs, {len(self.violated)} violated",
            _row("row after the kill", self.hits),
            _row("faults planted", self.faults),
            _row("also", self.events),
            _row("runs", self.runs),
            _row("ends", self.ends),
        ]
        for outcome in self.violated:
            lines += ["", f"VIOLATION, seed {outcome.seed}:", *(f"  ! {what}" for what in outcome.violations)]
            lines += [f"    {step}" for step in outcome.story]
        return "\n".join(lines)


def warm(scenario: Scenario) -> None:
    """Send once in this process, so that what is forked from it finds every module imported."""
    with at(scenario.desk) as desk:
        typed = scenario.studio.parameters()
        transfer.send(desk, live(desk, typed, OPERATORS[0]), desk.registry.find(OPERATORS[0]))


def measure_send(world: World) -> float:
    """How long a process takes from its fork to its end when nothing befalls it; measured once."""
    if world.send_s is not None:
        return world.send_s
    taken = []
    for number in range(1 + MEASURED):
        scenario = Scenario(world, f"measuring {number}", send_s=1.0)
        scenario.prepare()
        if not number:
            warm(scenario)
            continue
        order = Order("send", scenario.desk, scenario.studio.parameters(), operator=OPERATORS[0])
        began = time.monotonic()
        runs = start([order])
        watch(runs)
        taken.append(time.monotonic() - began)
        assert "paid" == runs[0].how, runs[0]
    world.send_s = sorted(taken)[MEASURED // 2]
    return world.send_s


def campaign(
    world: World,
    runs: int,
    *,
    seed: str = "0",
    defect: str = "",
    stop_at_violation: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> Tally:
    """Play *runs* scenarios one after another."""
    tally, began = Tally(world.kind), time.monotonic()
    send_s = measure_send(world)
    say(f"A send takes {send_s * 1000:.0f} ms here")
    for number in range(runs):
        outcome = Scenario(world, f"{seed}/{number}", send_s=send_s, defect=defect).play()
        tally.add(outcome)
        tally.seconds = time.monotonic() - began
        if outcome.violations:
            say(f"{number}: {outcome.violations[0]}")
            if stop_at_violation:
                break
        if (number + 1) % 100 == 0:
            say(f"{number + 1}: {tally.kills} kills, {len(tally.violated)} violations, {tally.seconds:.0f} s")
    return tally


def _row(name: str, counted: Counter[str]) -> str:
    told = ", ".join(f"{what} {count}" for what, count in sorted(counted.items(), key=lambda one: (-one[1], one[0])))
    return f"  {name + ':':<20} {told or 'none'}"
