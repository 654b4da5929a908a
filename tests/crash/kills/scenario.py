"""
One payout's night: processes that die, a Stripe that lies, operators that come twice, an automation that wakes up.

After each round of processes somebody looks at the row and does what a person would do next; the last rounds are calm,
so that everything that can be settled is. Then the sandbox's books are compared with the rows.
"""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from manual_payout.database.store.announcing import SENT
from manual_payout.database.store.sending import OPEN_STATES
from manual_payout.desk.wiring import Desk
from manual_payout.domain.errors import AstrayError, DatabaseError, ManualPayoutError, RefusedError
from manual_payout.domain.models import PayoutRecord, State, stream_of

from .crew import Order, Run, Strike, end_all, newest, start, thaw, watch
from .filing import OPERATORS, make_ready
from .world import HOUR_S, LIFETIMES_S, World, at, patiently

KILLS_MAX = 3

# Rounds in which anything may happen, and calm ones after them.
WILD_ROUNDS = 7
CALM_ROUNDS = 9

# Rounds that may fail because the database is down, before that counts as an answer.
DOWNS_MAX = 40

# Where a process may die by its own hand.
DEATHS = [
    *((name, when) for name in ("claim", "intent", "takeover", "look", "fence", "post", "outcome")
      for when in ("before", "after")),
    # Around the money more often than elsewhere.
    *3 * (("fence", "after"), ("bytes", "before"), ("post", "after"), ("commit", "before")),
]  # fmt: skip

# Where a process may freeze for days. Not between the fence and the socket: no design survives that for longer than a
# key is remembered. And not inside a transaction, whose locks would hold up everybody else.
# Most often right before the fence, which is there for them.
FREEZES = [place for place in DEATHS if place not in {("fence", "after"), ("post", "before"), ("commit", "before")}]
FREEZES += 12 * [("fence", "before")]

# (kind, options): what Stripe and the network may do to a request.
FAULTS: list[tuple[str, dict[str, Any]]] = [
    ("drop_after", {}),
    ("drop_after", {"times": 3}),
    ("drop_before", {}),
    ("drop_before", {"times": 3}),
    ("error_500", {"effect": True}),
    ("error_500", {"effect": False}),
    ("slow", {"seconds": 0.12}),
    ("slow", {"seconds": 0.12, "sleep_first": True}),
    ("rate_limit", {}),
    ("rate_limit", {"times": 4}),
    ("lock_timeout", {"times": 2}),
    ("conflict", {}),
    ("conflict", {"times": 3}),
    ("status_403", {}),
    ("refuse", {"code": "balance_insufficient"}),
    ("garbage", {}),
]
# A read may fail in any of these ways, among them the listing that decides.
READ_FAULTS = ("drop_before", "drop_after", "rate_limit", "status_403", "garbage", "slow")

# How long a request that a dead process has sent may still be under way at the sandbox.
DRAIN_S = 0.2


@dataclass
class Outcome:
    """
    What one scenario came to.

    Attributes:
        hits: The state of the row right after each kill.

        deaths: Where the killed ones were, as ``after fence``.

        books: What the sandbox's own books hold for this payout in the end.

        story: What happened, round by round.

        violations: What must never be; empty when all is well.
    """

    seed: str
    end: str = ""
    kills: int = 0
    hits: Counter[str] = field(default_factory=Counter)
    deaths: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    books: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    story: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)


class Scenario:
    """
    One failed payout, from its request to the comparison of the books.

    Args:
        send_s: How long a send takes on this machine, measured: kills fall uniformly into it.

        defect: A defect planted into every process that sends.
    """

    def __init__(self, world: World, seed: str, *, send_s: float, defect: str = "") -> None:
        self.rng = random.Random(seed)
        self.world, self.send_s, self.defect = world, send_s, defect
        self.studio, self.desk = world.begin(self.rng.choice(LIFETIMES_S))
        self.outcome = Outcome(seed)
        self.kills_left = self.rng.choice([0, 1, 1, 2, 2, 3, KILLS_MAX])
        self.faults_left = self.rng.choice([0, 0, 1, 1, 2, 3])
        self.automation_left = self.rng.random() < 0.3
        self.freeze_left = self.rng.random() < 0.2
        # Some stop at a refusal, others have it mended and try again.
        self.persistent = self.rng.random() < 0.6
        self.checks_left = self.rng.choice([0, 0, 1])
        self.frozen: list[Run] = []
        self.in_flight = False
        self.automation_paid: int | None = 0
        self.last_runs: list[Run] = []
        self.downs_left = DOWNS_MAX

    def play(self) -> Outcome:
        """Live through it, and compare."""
        try:
            number = 0
            while number < WILD_ROUNDS + CALM_ROUNDS and self._round(number, calm=number >= WILD_ROUNDS):
                # A round in which the database was down for everybody says nothing about what leads where.
                number += not self._was_down()
            self._thaw_all()
            self._check()
        finally:
            end_all(self.frozen)
            self.world.sandbox.clear_faults()
        return self.outcome

    def prepare(self) -> None:
        """Request, two approvals, two dry runs; again where what stood has expired."""
        patiently(self._prepare)

    def row(self) -> PayoutRecord | None:
        """The row that counts, as it is now."""

        def look() -> PayoutRecord | None:
            with at(self.desk) as desk:
                return newest(desk, self.studio.ledger_payout_id)

        return patiently(look)

    def _prepare(self) -> None:
        with at(self.desk) as desk:
            if refused := make_ready(desk, self.studio.parameters()):
                self._tell(f"not filed: {refused}")

    def _round(self, number: int, *, calm: bool) -> bool:
        row = self.row()
        if calm:
            self.world.sandbox.clear_faults()
            self._thaw_all()
        if not self.frozen and self._is_settled(row):
            if not self.checks_left:
                return False
            self.checks_left -= 1
        is_open = row is None or row.state is State.REFUSED
        if is_open and number and (calm or self.rng.random() < 0.6):
            self.prepare()
        if not calm:
            self._plant()
        self._run(self._orders(row, calm=calm))
        self._pass_time(calm=calm)
        if self.frozen and self.rng.random() < 0.4:
            self._thaw_all()
        return True

    def _is_settled(self, row: PayoutRecord | None) -> bool:
        if row is None:
            return self._ledger_is_paid()
        if row.state is State.REFUSED:
            return not self.persistent or self._ledger_is_paid()
        return row.state is State.PAID

    def _ledger_is_paid(self) -> bool:
        def look() -> bool:
            with at(self.desk) as desk:
                return desk.ledger.get_payout_due(self.studio.ledger_payout_id).standing == "paid"

        return patiently(look)

    def _plant(self) -> None:
        while self.faults_left and self.rng.random() < 0.7:
            self.faults_left -= 1
            if self.rng.random() < 0.25:
                kind = self.rng.choice(READ_FAULTS)
                options = {"method": "GET", "path": "/v1/transfers", "skip": self.rng.randrange(3)}
                options |= {"seconds": 0.1} if kind == "slow" else {}
                name = f"{kind} on a read"
            else:
                kind, options = self.rng.choice(FAULTS)
                options = options | {"skip": self.rng.choice([0, 0, 1])}
                name = kind + (" without effect" if options.get("effect") is False else "")
            self.outcome.faults[name] += 1
            self._tell(f"planted {kind} {options}")
            self.world.sandbox.fault(kind=kind, **options)

    def _orders(self, row: PayoutRecord | None, *, calm: bool) -> list[Order]:
        orders = [self._order(row, self.rng.choice(OPERATORS), calm=calm)]
        if calm:
            return orders
        if self.rng.random() < 0.3:
            other = next(name for name in OPERATORS if name != orders[0].operator)
            orders.append(self._order(row, other, calm=calm, start_s=self._moment() * self.rng.choice([0, 0.3, 1])))
            self.outcome.events["second operator"] += 1
        if self.automation_left and self.rng.random() < 0.5:
            self.automation_left = False
            self.outcome.events["automation"] += 1
            orders.append(Order("automation", self.desk, self.studio.parameters(), start_s=self._moment()))
        return orders

    def _order(self, row: PayoutRecord | None, operator: str, *, calm: bool, start_s: float = 0.0) -> Order:
        kill_s, strike = (None, None) if calm else self._fate(start_s)
        return Order(
            self._action(row, calm=calm), self.desk, self.studio.parameters(), operator=operator, start_s=start_s,
            kill_s=kill_s, strike=strike, defect=self.defect,
        )  # fmt: skip

    def _action(self, row: PayoutRecord | None, *, calm: bool) -> str:
        dice = self.rng.random()
        if row is None or row.state is State.REFUSED:
            return "send"
        if row.state is State.SUBMITTING:
            # Whoever is told *unknown* is told to reconcile; in calm nobody ignores that night after night.
            told = calm and any(run.how == "unknown" for run in self.last_runs)
            return "send" if dice < 0.6 and not told else "reconcile"
        if row.state is State.UNKNOWN:
            return "reconcile" if dice < 0.9 else "send"
        if row.state is State.NEEDS_HUMAN:
            return "decide" if dice < 0.6 else "reconcile"
        return self.rng.choice(["send", "reconcile", "decide"])

    def _fate(self, start_s: float) -> tuple[float | None, Strike | None]:
        if self.freeze_left and self.rng.random() < 0.4:
            self.freeze_left = False
            return None, Strike(*self.rng.choice(FREEZES), nth=self.rng.choice([1, 1, 2]), signum=signal.SIGSTOP)
        if not self.kills_left or self.rng.random() > 0.75:
            return None, None
        self.kills_left -= 1
        if self.rng.random() < 0.4:
            return start_s + self._moment(), None
        boundary, when = self.rng.choice(DEATHS)
        nth = self.rng.randrange(1, 5) if boundary == "commit" else self.rng.choice([1, 1, 1, 2])
        return None, Strike(boundary, when, nth=nth)

    def _moment(self) -> float:
        return self.rng.uniform(0.0, 1.05 * self.send_s)

    def _was_down(self) -> bool:
        down = self.downs_left > 0 and all(run.how == "database" for run in self.last_runs)
        self.downs_left -= down
        return down

    def _run(self, orders: list[Order]) -> None:
        before = self._made()
        self.last_runs = runs = start(orders)
        for run in runs:
            run.made_before = before
        watch(runs)
        self.world.clock.sync()
        self.in_flight |= any(run.killed or run.frozen for run in runs)
        for run in runs:
            self._tell(str(run))
            self._judge_run(run)
            if run.frozen:
                self.frozen.append(run)
                self.outcome.events["frozen"] += 1

    def _judge_run(self, run: Run) -> None:
        if run.order.action == "automation":
            if run.how == "database":
                # Its commit may have been taken all the same.
                self.automation_paid = None
            elif self.automation_paid is not None:
                self.automation_paid += run.how == "paid"
            return
        self.outcome.ends[f"{run.order.action}: {run.how}"] += 1
        if run.killed and not run.late:
            self.outcome.kills += 1
            self.outcome.hits[_hit(self.row())] += 1
            strike = run.order.strike
            self.outcome.deaths[f"{strike.when} {strike.boundary}" if strike else "at a random moment"] += 1
        if run.late or run.how in {"bug", "vanished"}:
            self._violated(f"a run ended without a documented end: {run}")
        if run.how in {"refused", "database"} and any(not answer.startswith("Refused") for answer in run.answers):
            self._violated(f"a run said {run.how}, though an answer of its own was {run.answers}: {run}")
        if run.how == "paid":
            made = self._made()
            if run.end["transfer"] not in made:
                self._violated(f"a run said paid with {run.end['transfer']}, the books have {made or 'none'}")
        self._judge_words(run)

    def _judge_words(self, run: Run) -> None:
        """Hold what a run said last against the books: what it found there, what it sent, and what is open."""
        code = run.end.get("code", 0) if run.end is not None else None
        if code == RefusedError.exit_code and run.made_before:
            self._violated(f"a run said that nothing of this payout moved, the books had {set(run.made_before)}: {run}")
        if code == AstrayError.exit_code:
            self._violated(f"a run said that the money went astray, and it did not: {run}")

    def _made(self) -> frozenset[str]:
        return frozenset(one["id"] for one in self.world.sandbox.transfers(self.studio.ledger_payout_id))

    def _thaw_all(self) -> None:
        for run in self.frozen:
            thaw(run)
            self._tell(f"thawed: {run}")
            self._judge_run(run)
        self.frozen = []

    def _pass_time(self, *, calm: bool) -> None:
        if calm:
            row = self.row()
            seconds = 24 * HOUR_S if row and row.state in {State.UNKNOWN, State.NEEDS_HUMAN} else 0
        else:
            spans = (0, 5, 60, 130, HOUR_S, 23 * HOUR_S, 25 * HOUR_S, 36 * HOUR_S)
            (seconds,) = self.rng.choices(spans, weights=(45, 8, 8, 15, 8, 4, 8, 4))
            if self.frozen and self.rng.random() < 0.6:
                seconds = 36 * HOUR_S
        if not seconds:
            return
        if seconds >= HOUR_S:
            self._drain()
            self.outcome.events["a day passed" if seconds > 20 * HOUR_S else "an hour passed"] += 1
        self._tell(f"{seconds} s passed")
        self.world.clock.wait(seconds)

    def _drain(self) -> None:
        # What a dead process has sent arrives within moments; a day does not pass, and nobody compares, meanwhile.
        if self.in_flight:
            time.sleep(DRAIN_S)
            self.in_flight = False

    def _check(self) -> None:
        self._drain()
        transfers = self.world.sandbox.books()["transfers"]
        strays = [one["id"] for one in transfers if one["metadata"]["ledger_payout_id"] != self.studio.ledger_payout_id]
        if strays:
            self._violated(f"{strays} came after an earlier scenario was compared")
        transfers = [one for one in transfers if one["id"] not in strays]
        patiently(lambda: self._compare(transfers))

    def _compare(self, transfers: list[dict[str, Any]]) -> None:
        with at(self.desk) as desk:
            rows = desk.store.payouts_of(ledger_payout_id=self.studio.ledger_payout_id)
            due = desk.ledger.get_payout_due(self.studio.ledger_payout_id)
            found = problems(rows, transfers, due, automation_paid=self.automation_paid)
            found += [problem for row in rows for problem in untold(row, desk)]
            try:
                desk.store.events_of(stream_of(self.studio.incident_id, self.studio.ledger_payout_id))
            except DatabaseError:
                raise
            except ManualPayoutError as error:
                self._violated(f"the journal is broken: {error.message}")
        for problem in found:
            self._violated(problem)
        live = next((row for row in rows if row.state is not State.REFUSED), None)
        self.outcome.end = str(live.state) if live else ("refused" if rows else "never sent")
        if due.standing == "paid":
            self.outcome.end = "paid by the automation"
        self.outcome.books[f"{len(transfers)} transfers" if len(transfers) != 1 else "1 transfer"] += 1
        self._tell(
            f"end: rows {[str(row.state) for row in rows]}, transfers {[one['id'] for one in transfers]}, ledger {due.status}"
        )

    def _violated(self, what: str) -> None:
        self.outcome.violations.append(what)

    def _tell(self, what: str) -> None:
        self.outcome.story.append(what)


def problems(
    rows: list[PayoutRecord], transfers: list[dict[str, Any]], due: Any, *, automation_paid: int | None
) -> list[str]:
    """
    Compare the rows and the ledger with the books, once everything has come to its end.

    Returns:
        What must never be, in sentences; empty when all is well.
    """
    found = []
    made, on_record = {one["id"] for one in transfers}, {row.stripe_transfer_id for row in rows} - {None}
    if len(transfers) + (due.standing == "paid") > 1:
        found.append(f"paid {len(transfers)} times by hand and {int(due.standing == 'paid')} times by the automation")
    if automation_paid is not None and automation_paid != (due.standing == "paid"):
        found.append(f"the automation said {automation_paid}, its ledger says {due.standing}")
    if lost := made - on_record:
        found.append(f"no row tells of {lost}")
    if phantoms := on_record - made:
        found.append(f"rows tell of {phantoms}, which the books do not have")
    for row in rows:
        if (row.state is State.PAID) != (row.stripe_transfer_id is not None):
            found.append(f"a row is {row.state} with transfer {row.stripe_transfer_id}")
        if row.state is State.PAID and not due.is_claimed_by(row.payout_id):
            found.append(f"a row is paid, the ledger's payout is {due.status} by {due.claimed_by}")
        if row.state in OPEN_STATES:
            found.append(f"nothing leads out of {row.state}: {row.outcome_reason}")
    return found


def untold(row: PayoutRecord, desk: Desk) -> list[str]:
    """Say where the outbox differs from the row: what is paid is announced in the same transaction, nothing else is."""
    kinds = sorted(message.kind for message in desk.store.messages_of(row.payout_id))
    expected = sorted(SENT) if row.state is State.PAID else []
    return [] if kinds == expected else [f"a row is {row.state}, and the outbox tells {kinds or 'nothing'}"]


def _hit(row: PayoutRecord | None) -> str:
    if row is None:
        return "no row"
    if row.state is State.SUBMITTING:
        return "submitting, sent" if row.sent else "submitting, unsent"
    return str(row.state)
