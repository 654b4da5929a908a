"""Two at the same moment: one moves the money, the other is told who and why."""

from __future__ import annotations

import random
import re
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

from manual_payout.domain.models import State
from manual_payout.domain.money import Money

from .campaign import measure_send
from .crew import Order, Run, Strike, end_all, start, thaw, watch
from .filing import OPERATORS, make_ready
from .scenario import problems, untold
from .world import HOUR_S, MONTH_S, Studio, World, at

# Longer than Stripe remembers a key, and longer than a lid is closed on a weekend's first evening.
ASLEEP_S = 36 * HOUR_S

# What differs from one race to the next in what the second is told.
_VARIES = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}|tr_\w+|@\S+|\d[\d,.:-]*")


@dataclass
class Races:
    """
    What many races of one kind came to.

    Attributes:
        ends: How the runs ended, as ``paid + refused``.

        told: What those who came second were told.
    """

    kind: str
    ends: Counter[str] = field(default_factory=Counter)
    told: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Everything, for a line of a file."""
        told = {"races": sum(self.ends.values()), "ends": self.ends, "told": self.told}
        return told | {"kind": self.kind, "violations": self.violations}

    def __str__(self) -> str:
        ends = ", ".join(f"{how} {count}" for how, count in self.ends.most_common())
        lines = [f"{self.kind}: {ends}; {len(self.violations)} violations"]
        lines += [f"    {count} times: {what}" for what, count in self.told.most_common(4)]
        return "\n".join([*lines, *(f"  ! {what}" for what in self.violations)])


class Race:
    """
    One ledger payout for which two run.

    Args:
        send_s: How long a send takes on this machine; two start less than that apart, so that any step of one can meet
            any step of the other.

        defect: A defect planted into every sender.
    """

    def __init__(self, world: World, rng: random.Random, send_s: float, defect: str = "") -> None:
        self.world, self.rng, self.send_s, self.defect = world, rng, send_s, defect
        self.studio: Studio
        self.studio, self.desk = world.begin((MONTH_S, MONTH_S))
        self.problems: list[str] = []

    def ready(self, **changes: Any) -> None:
        """Have a request filed, approved and read, some of its values changed."""
        with at(self.desk) as desk:
            refused = make_ready(desk, self.studio.parameters(**changes))
        assert not refused, refused

    def sender(self, operator: str, *, strike: Strike | None = None, **changes: Any) -> Order:
        """An operator's process, which starts a random moment late."""
        typed = self.studio.parameters(**changes)
        start_s = self.rng.uniform(0, self.send_s / 3)
        return Order(
            "send", self.desk, typed, operator=operator, start_s=start_s, strike=strike, defect=self.defect
        )  # fmt: skip

    def run(self, *orders: Order) -> list[Run]:
        """Let them run, and wait for their ends."""
        runs = start(orders)
        watch(runs)
        return runs

    def compare(self, runs: list[Run], *, paid: int = 1, unsure: Run | None = None) -> None:
        """Hold the ends of the runs and the rows against the books; *unsure* may not know what became of the other's sending."""
        time.sleep(0.02)
        transfers = self.world.sandbox.transfers(self.studio.ledger_payout_id)
        with at(self.desk) as desk:
            rows = desk.store.payouts_of(ledger_payout_id=self.studio.ledger_payout_id)
            due = desk.ledger.get_payout_due(self.studio.ledger_payout_id)
            self.problems += [problem for row in rows for problem in untold(row, desk)]
        by_automation = sum(run.how == "paid" for run in runs if run.order.action == "automation")
        self.problems += problems(rows, transfers, due, automation_paid=by_automation)
        if len(transfers) + by_automation != paid:
            self.problems.append(f"paid {len(transfers)} times by hand, {by_automation} by the automation, not {paid}")
        live = [row for row in rows if row.state is not State.REFUSED]
        for run in runs:
            if run is not unsure or run.how != "unknown":
                self._judge(run, {row.stripe_transfer_id for row in live})

    def _judge(self, run: Run, known: set[str | None]) -> None:
        if run.how == "refused":
            if any(not answer.startswith("Refused") for answer in run.answers):
                self.problems.append(f"said refused after {run.answers}: {run}")
            if run.end["code"] not in {2, 3, 5} or not run.end["message"] or not run.end["remedy"]:
                self.problems.append(f"was refused without a word: {run.end}")
        elif run.how == "paid" and run.order.action == "send" and run.end["transfer"] not in known:
            self.problems.append(f"said paid with a transfer that no row has: {run}")
        elif run.how == "unknown" and not run.answers and " is open " in run.end["message"]:
            # It sent nothing, and came while the other's attempt was under way.
            pass
        elif run.how not in {"paid", "skipped"}:
            self.problems.append(f"ended as {run}")


def two_operators(race: Race) -> list[Run]:
    """Two operators on two machines run the same request."""
    runs = race.run(*(race.sender(operator) for operator in OPERATORS))
    race.compare(runs)
    return runs


def two_incidents(race: Race) -> list[Run]:
    """Two incidents hold an approved request for the same ledger payout."""
    # Filed in the same moment, when neither saw the other.
    with patch("manual_payout.approval.requesting._require_no_other"):
        race.ready(incident_id="INC-999")
    runs = race.run(race.sender(OPERATORS[0]), race.sender(OPERATORS[1], incident_id="INC-999"))
    race.compare(runs)
    _expect_a_loser(race, runs)
    return runs


def another_amount(race: Race) -> list[Run]:
    """One of two operators types another amount than was approved."""
    amount = Money(race.studio.amount_minor + 1, "usd").text
    runs = race.run(race.sender(OPERATORS[0]), race.sender(OPERATORS[1], amount=amount))
    # Who comes while the other's request is under way cannot say that nothing moved.
    race.compare(runs, unsure=runs[1])
    told = runs[1].end or {}
    if (runs[1].how, told.get("code")) not in {("refused", 2), ("unknown", 4)} or "amount" not in told["message"]:
        race.problems.append(f"another amount was not refused by name: {runs[1]}")
    return runs


def the_automation(race: Race) -> list[Run]:
    """The automation recovers at the same moment."""
    start_s = race.rng.uniform(0, 1.2 * race.send_s)
    automation = Order("automation", race.desk, race.studio.parameters(), start_s=start_s)
    runs = race.run(race.sender(OPERATORS[0]), automation)
    race.compare(runs)
    _expect_a_loser(race, runs)
    return runs


def a_sleeper(race: Race) -> list[Run]:
    """An operator's lid closes between the look at Stripe and the call, for a day and a half; another one continues."""
    # The first look is the verification's, the second that of the sending.
    place = race.rng.choice([("look", "after", 2), ("fence", "before", 1)])
    (sleeper,) = race.run(race.sender(OPERATORS[0], strike=Strike(*place, signum=signal.SIGSTOP)))
    try:
        if not sleeper.frozen:
            race.problems.append(f"did not fall asleep: {sleeper}")
            return [sleeper]
        # Another one comes soon, so that Stripe has forgotten the key when the sleeper wakes, or late, or not at all.
        soon, late = race.rng.choice([(HOUR_S, ASLEEP_S), (HOUR_S, ASLEEP_S), (ASLEEP_S, 0), (0, 0)])
        race.world.clock.wait(soon)
        others = race.run(race.sender(OPERATORS[1])) if soon else []
        race.world.clock.wait(late or (0 if soon else ASLEEP_S))
        thaw(sleeper)
    finally:
        end_all([sleeper])
    # Where nobody else came, the sleeper may not go on either; whoever comes next can.
    others = others or race.run(race.sender(OPERATORS[1]))
    race.compare([sleeper, *others])
    return [sleeper, *others]


KINDS: dict[str, Callable[[Race], list[Run]]] = {
    "two operators": two_operators,
    "two incidents": two_incidents,
    "another amount": another_amount,
    "the automation": the_automation,
    "a sleeper": a_sleeper,
}


def races(world: World, kind: str, count: int, *, seed: str = "0", defect: str = "") -> Races:
    """Run *count* races of one kind."""
    tally, send_s = Races(kind), measure_send(world)
    for number in range(count):
        name = f"{seed}/{kind}/{number}"
        race = Race(world, random.Random(name), send_s, defect)
        runs = KINDS[kind](race)
        tally.ends[" + ".join(run.how for run in runs)] += 1
        for run in runs:
            if run.how == "refused":
                tally.told[_shape(run.end["message"])] += 1
        tally.violations += [f"{name}: {what}" for what in race.problems]
    return tally


def _expect_a_loser(race: Race, runs: list[Run]) -> None:
    ways = sorted(run.how for run in runs)
    if ways not in (["paid", "refused"], ["paid", "skipped"], ["paid", "unknown"]):
        race.problems.append(f"not one winner and one who was told: {[str(run) for run in runs]}")


def _shape(message: str) -> str:
    return _VARIES.sub("…", message)
