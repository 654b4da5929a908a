"""What many scenarios came to: counted, added up, kept in a file, and told."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, fields
from typing import Any

from .scenario import Outcome

# What is counted by name, and how the table calls it.
COUNTED = {
    "hits": "row after the kill",
    "deaths": "killed",
    "faults": "faults planted",
    "events": "also",
    "runs": "runs",
    "ends": "ends",
    "books": "sandbox's books",
}


@dataclass
class Tally:
    """The sums of many scenarios on one kind of database."""

    database: str
    scenarios: int = 0
    kills: int = 0
    seconds: float = 0.0
    hits: Counter[str] = field(default_factory=Counter)
    deaths: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    runs: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    books: Counter[str] = field(default_factory=Counter)
    violated: list[Outcome] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        """Count one scenario."""
        self.scenarios += 1
        self.kills += outcome.kills
        self.hits += outcome.hits
        self.deaths += outcome.deaths
        self.faults += outcome.faults
        self.runs += outcome.ends
        self.events += outcome.events
        self.books += outcome.books
        self.ends[outcome.end] += 1
        if outcome.violations:
            self.violated.append(outcome)

    def merge(self, other: Tally) -> None:
        """Count what was counted elsewhere."""
        self.scenarios += other.scenarios
        self.kills += other.kills
        self.seconds += other.seconds
        for name in COUNTED:
            getattr(self, name).update(getattr(other, name))
        self.violated += other.violated

    def as_json(self) -> dict[str, Any]:
        """Everything, for a line of a file."""
        told = {one.name: getattr(self, one.name) for one in fields(self)}
        return told | {
            "violated": [{"seed": one.seed, "violations": one.violations, "story": one.story} for one in self.violated]
        }

    @classmethod
    def from_json(cls, told: dict[str, Any]) -> Tally:
        """Read what `as_json` wrote."""
        tally = cls(told["database"], told["scenarios"], told["kills"], told["seconds"])
        for name in COUNTED:
            getattr(tally, name).update(told[name])
        tally.violated = [Outcome(**one) for one in told["violated"]]
        return tally

    def __str__(self) -> str:
        rate = self.scenarios / self.seconds if self.seconds else 0.0
        speed = f"{self.seconds:.0f} s of work ({rate:.1f}/s)"
        lines = [
            f"{self.scenarios} scenarios on {self.database} in {speed}: {self.kills} SIGKILLs, {len(self.violated)} violated",
            *(_row(told, getattr(self, name)) for name, told in COUNTED.items()),
        ]
        for outcome in self.violated:
            lines += ["", f"VIOLATION, seed {outcome.seed}:", *(f"  ! {what}" for what in outcome.violations)]
            lines += [f"    {step}" for step in outcome.story]
        return "\n".join(lines)


def _row(name: str, counted: Counter[str]) -> str:
    told = ", ".join(f"{what} {count}" for what, count in sorted(counted.items(), key=lambda one: (-one[1], one[0])))
    return f"  {name + ':':<20} {told or 'none'}"
