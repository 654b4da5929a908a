"""
One seed, one night: what goes wrong is drawn first, then people do what people do, then it is quiet and all is settled.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cache, lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from pydantic import SecretStr

import local_stripe
from manual_payout import transfer
from manual_payout.approval.approvals import Shown, approve, standing, statement_of
from manual_payout.approval.dry_runs import DRY_RUN_SEALED, code_of, sealed_data
from manual_payout.approval.pinned import rules_digest
from manual_payout.approval.policy import compared_facts
from manual_payout.approval.requesting import file_request
from manual_payout.approval.reversal.checks import compared_transfer
from manual_payout.database.clock import FixedClock
from manual_payout.desk.people import Person, Registry, load_registry
from manual_payout.desk.settings import Settings, load_settings
from manual_payout.desk.signatures import SEAL
from manual_payout.desk.signing import sandbox_key
from manual_payout.desk.wiring import Desk
from manual_payout.domain.canonical import canonical_json, digest_bytes, digest_of
from manual_payout.domain.errors import ManualPayoutError
from manual_payout.domain.models import Approval, PayoutRecord, Reason, Request, State, stream_of
from manual_payout.domain.parameters import Parameters
from manual_payout.ledger import PayoutDue, StudioBalance
from manual_payout.transfer import delivery
from payout_rehearsal.demo import incident
from payout_rehearsal.demo.ledger import demo_ledger

from .colleague import Colleague, has_colleague
from .invariants import GRACE, OPEN, WINDOW, Watch, filed_values
from .memory_ledger import MemoryLedger
from .memory_spool import MemorySpool
from .memory_store import Guards, Hooks, MemoryStore
from .regret import Regret, regretted
from .stripe_books import POST_FAULTS, READ_FAULTS, Books, BooksGateway
from .world import BOUNDARIES, DATABASE_WRITES, READS, Crash, Operator, Planned, Violation, World, small, span

START = datetime.fromisoformat(incident.NOW)
OPERATORS = ("tomas", "noor")
# The third is the first once more, on another machine.
MACHINES = {"tomas": "tomas", "noor": "noor", "tomas2": "tomas"}
APPROVERS = (("priya", "amara"), ("jonas", "lucia"))
INCIDENTS = (incident.INCIDENT_ID, "INC-124")
EVIL_ACCOUNT = "acct_evil"
AMPLE = 100_000_000

_QUIET = Hooks()


@dataclass(frozen=True)
class Stage:
    """What every scenario begins with: filed, approved, read by both operators; nothing sent."""

    settings: Settings
    registry: Registry
    store: MemoryStore
    due: PayoutDue
    balance: StudioBalance


@dataclass(frozen=True)
class Options:
    """What a planted defect changes besides the core: the guards of the database, and the classes around it."""

    guards: Guards = field(default_factory=Guards)
    ledger: type[MemoryLedger] = MemoryLedger
    gateway: type[BooksGateway] = BooksGateway


@dataclass
class Run:
    """
    One command of one operator.

    Attributes:
        line: The line that it is about.

        sends: Whether it is to move money, and not only to find out.

        back: Whether it takes money back.
    """

    number: int
    operator: str
    action: str
    line: str = ""
    sends: bool = False
    back: bool = False
    error: BaseException | None = None
    crashed: bool = False

    def __str__(self) -> str:
        return f"{self.number} ({self.action} by {self.operator})"


@dataclass
class Result:
    """What one scenario came to."""

    seed: int
    violation: str = ""
    outcome: str = ""
    hits: Counter[str] = field(default_factory=Counter)
    log: list[str] | None = None


def play(seed: int, options: Options = Options(), *, trace: bool = False) -> Result:
    """Play the night of *seed*."""
    night = Night(seed, options, trace=trace)
    tokens = iter(range(1_000_000))
    # A run's name needs to be unique, not unguessable.
    secrets, delivery.secrets = delivery.secrets, SimpleNamespace(token_hex=lambda _: f"{next(tokens):06x}")
    digest, Request.digest = Request.digest, property(_digest)
    check, standing.check_statement = standing.check_statement, _check_statement
    try:
        night.play()
    except Violation as violation:
        night.result.violation = str(violation)
    finally:
        delivery.secrets, Request.digest, standing.check_statement = secrets, digest, check
    return night.finished()


class Night:
    """One scenario from its plan to its settlement."""

    def __init__(self, seed: int, options: Options, *, trace: bool) -> None:
        self.rng = rng = random.Random(seed)
        self.result = Result(seed)
        self.competing = rng.random() < 0.18
        stage = _stage(long=rng.random() < 0.4, competing=self.competing)
        self.world = world = World(rng, _beginning(rng, stage))
        world.log = [] if trace else None
        self.settings, self.registry = stage.settings, stage.registry
        self.store = stage.store.clone(world, world, options.guards)
        self.ledger = options.ledger(stage.due, stage.balance, world, world)
        self.books = Books(world.now, AMPLE)
        self.desk = Desk(stage.settings, world, self.store, self.ledger, stage.registry)
        self.desk.__dict__["gateway"] = options.gateway(self.books, world)
        self.desk.__dict__["spool"] = MemorySpool()
        self.watch = Watch(world, self.store, self.ledger, self.books)
        self.destination, self.notes = incident.DESTINATION_ACCOUNT, incident.NOTES
        self.commands = 0
        self.act_began = self.world.now()
        self.operators = [Operator(name, stage.registry.find(handle)) for name, handle in MACHINES.items()]
        self.books.run = lambda: world.current.run
        world.latest_post = self._latest_post
        for request, _, _ in self.store.requests.values():
            self.filed(request)
        self._draw()
        self.colleague: Colleague | None = None
        if has_colleague(seed):
            self.colleague = Colleague(self, seed)
            self.colleague.begin()

    # ---------------------------------------------------------------------------------- the plan

    def _draw(self) -> None:
        rng = self.rng
        self.crew = 1 + (rng.random() < (0.8 if self.competing else 0.25)) + (rng.random() < 0.03)
        self.racing = rng.random() < 0.2
        self.fraud = rng.random() < 0.02
        self.renews = rng.random() < 0.6
        self.world.events |= {"automation": self.automation, "refiled": self._refiled}
        self._draw_crashes()
        self._draw_provider()
        if rng.random() < (0.4 if self.competing else 0.1):
            self._draw_refusal()
        elif rng.random() < 0.12:
            self._draw_doubt()

    def _draw_crashes(self) -> None:
        rng = self.rng
        for _ in range(rng.choice((0, 0, 1, 1, 2, 3, 4))):
            self._plan("crash", _boundary(rng))
        if rng.random() < 0.25:
            self._plan("freeze", _boundary(rng), span(rng, 1, 36 * 3600))
        if rng.random() < 0.15:
            self._plan("freeze", _boundary(rng), span(rng, 20 * 3600, 72 * 3600))
        if rng.random() < 0.15:
            self._plan("lost", f"{rng.choice(DATABASE_WRITES)}:after")
        if rng.random() < 0.08:
            self._plan("down", _boundary(rng), span(rng, 1, 3600))
        if rng.random() < 0.04:
            self._plan("refiled", _boundary(rng))
        for _ in range(rng.randint(1, 3) if self.racing else 0):
            self._plan("automation", _boundary(rng))

    def _draw_provider(self) -> None:
        rng, books = self.rng, self.books
        for _ in range(rng.choice((0, 0, 1, 1, 2, 2, 3))):
            books.post_faults[small(rng, 4)] = rng.choice(POST_FAULTS)
        if rng.random() < 0.2:
            books.read_faults[rng.randint(1, 24)] = rng.choice(READ_FAULTS)
        if rng.random() < 0.5:
            books.key_age = timedelta(hours=rng.uniform(24, 30))
        if rng.random() < 0.2:
            books.lag = timedelta(seconds=rng.uniform(1, 10))
        books.delay = timedelta(seconds=rng.uniform(1, 120))
        if rng.random() < 0.08:
            books.available = 1000

    def _draw_refusal(self) -> None:
        """A refusal is rare, and what follows one is where two attempts of one payout meet: seek it out."""
        rng = self.rng
        self.books.post_faults[1] = rng.choice(("balance_insufficient", "no_capability", "invalid"))
        self.crew = max(self.crew, rng.randint(1, 2))
        self.renews = True
        if self.competing and rng.random() < 0.75:
            # Between its claim and its intent one line can lose the claim to the other, for which a refused one is dead.
            self.world.plan.setdefault("claim:after", []).append(Planned(2, "freeze", span(rng, 30, 500)))
            return
        boundary = rng.choice(("record_outcome:before", "record_outcome:after"))
        kind = rng.choice(("crash", "freeze", "freeze", "lost"))
        self.world.plan.setdefault(boundary, []).append(Planned(1, kind, span(rng, 10, 3600)))

    def _draw_doubt(self) -> None:
        """The other place to seek out: something was sent, and what is seen next says no, or nothing at all."""
        rng, books = self.rng, self.books
        if rng.random() < 0.5:
            books.post_faults[1] = rng.choice(("lost_after", "delayed", "stored_500_paid", "garbage_paid"))
            books.post_faults[2] = rng.choice(("forbidden", "unauthorized", "invalid", "rate_limit", "lock_timeout"))
        else:
            self.world.plan.setdefault("post:after", []).append(Planned(1, "crash"))
            # The eighteenth read is the look at Stripe of a second `send`, after it has verified all anew, twice.
            ordinal = 18 if rng.random() < 0.7 else rng.randint(8, 21)
            books.read_faults = {ordinal: rng.choice(READ_FAULTS)}

    def _plan(self, kind: str, boundary: str, seconds: float = 0.0) -> None:
        countdown = small(self.rng, 3 if ":" in boundary else 8)
        self.world.plan.setdefault(boundary, []).append(Planned(countdown, kind, seconds))

    # ---------------------------------------------------------------------------------- the night

    def play(self) -> None:
        """Disturbed, then calm, then compared."""
        if self.fraud:
            self._defraud()
        programs = [(one, self._disturbed) for one in self.operators[: self.crew]]
        self.world.play(programs, switching=self.rng.choice((0.02, 0.1, 0.3)))
        self.world.calm()
        self.books.post_faults.clear()
        self.books.read_faults.clear()
        self.world.pass_time(300)
        self.books.catch_up()
        self.watch.check_books()
        if not self.fraud:
            self._settle()
        if self.rng.random() < 0.5:
            self.automation()
        self.watch.check_books()
        if not self.fraud:
            self.watch.check_settled(self.stuck)
            if regretted(self.result.seed):
                Regret(self).play()

    def finished(self) -> Result:
        """Say what it came to."""
        hits = self.result.hits
        hits.update(self.world.hits)
        hits.update(self.books.hits)
        hits["commands"] += self.commands
        hits["POSTs"] += len(self.books.posts)
        hits["POSTs after an approval's end, within the lease"] += self.watch.late_posts
        hits["two operators"] += self.crew == 2
        hits["three operators"] += self.crew == 3
        hits["competing request"] += self.competing
        by_hand, by_machine = sum(one.by_hand for one in self.books.transfers), self.ledger.paid_by_automation
        self.result.outcome = "paid by hand" if by_hand else "paid by the automation" if by_machine else "not paid"
        self.result.log = self.world.log
        return self.result

    def _disturbed(self, operator: Operator) -> None:
        rng = self.rng
        for _ in range(rng.choice((1, 2, 2, 3, 3, 4, 5))):
            home = INCIDENTS[self.competing and operator is self.operators[1]]
            name = home if rng.random() < 0.9 or not self.competing else rng.choice(INCIDENTS)
            self._command(operator, self._choose(name), name)
            if self.racing and rng.random() < 0.3:
                self.automation()
            self.rest()
            self.mend(name, chance=0.6)

    def rest(self) -> None:
        dice = self.rng.random()
        if dice < 0.2:
            # At the next full ten minutes, as the other one does: nothing makes people meet like a clock on the wall.
            self.world.wait(600 - (self.world.now() - START).total_seconds() % 600)
        elif dice < 0.5:
            self.world.wait(self.rng.uniform(1, 60))
        elif dice < 0.85:
            self.world.wait(self.rng.uniform(60, 900))
        elif dice < 0.88 and self.watch.fenced:
            # Around the end of a key's window, where what may be sent and what may be decided touch.
            first = max(first for first, _ in self.watch.fenced.values())
            edge = first + WINDOW + timedelta(seconds=self.rng.uniform(-300, 60))
            self.world.wait(max(1.0, (edge - self.world.now()).total_seconds()))
        elif dice < 0.95:
            self.world.wait(span(self.rng, 900, 36 * 3600))
        else:
            self.world.wait(span(self.rng, 20 * 3600, 72 * 3600))

    def _choose(self, name: str) -> str:
        row = self._row(name)
        if self.rng.random() < 0.12:
            return self.rng.choice(("send", "reconcile", "decide"))
        if row is None or row.state in (State.REFUSED, State.SUBMITTING, State.PAID):
            return "send"
        if row.state is State.NEEDS_HUMAN and self.rng.random() < 0.4:
            return "decide"
        return "reconcile"

    # ---------------------------------------------------------------------------------- commands

    def _command(self, operator: Operator, action: str, name: str) -> None:
        self.command(
            operator, action, name, lambda: getattr(self, f"_{action}")(operator, name), sends=action == "send"
        )

    def command(
        self,
        operator: Operator,
        action: str,
        name: str,
        does: Callable[[], object],
        *,
        line: str = "",
        sends: bool = False,
    ) -> None:
        """Run one command as the command line would, whatever becomes of it; *line* is that of a reversal."""
        self.commands += 1
        run = Run(self.commands, operator.name, action, line, sends, back=bool(line))
        self.world.current.run = run
        before = self.watch.run_begins()
        self.world.say(f"=== {action} {name}")
        error: BaseException | None = None
        try:
            does()
        except Crash as crash:
            run.crashed, error = True, crash
        except ManualPayoutError as refused:
            error = refused
        except Exception as bug:
            raise Violation(f"{action} ended with a {type(bug).__name__}: {bug}") from bug
        self.world.say(f"=== {type(error).__name__ if error else 'done'} {getattr(error, 'message', '')}")
        self.result.hits[f"{self.world.act}answer: {type(error).__name__ if error else 'done'}"] += 1
        self.world.current.run = None
        self.watch.run_ended(run, error, before)

    def _send(self, operator: Operator, name: str) -> None:
        request = self._request(name)
        # As it was printed for them; what was altered since, they do not know.
        with self.quietly():
            code = code_of(self.desk, request, request.line_for(), operator.person.person_id) if request else ""
        transfer.send(self.desk, replace(self._typed(name), dry_run=False, confirm=code), operator.person)

    def _reconcile(self, operator: Operator, name: str) -> None:
        if row := self._row(name):
            transfer.reconcile(self.desk, row, operator.person)

    def _decide(self, operator: Operator, name: str) -> None:
        if row := self._row(name):
            known = self.colleague.named() if self.colleague is not None else ()
            transfer.decide_not_moved(self.desk, row, operator.person, "Nothing of ours.", acknowledged=known)

    def _typed(self, name: str) -> Parameters:
        notes = self.notes if name == INCIDENTS[0] else incident.NOTES
        return replace(_typed(), incident_id=name, destination_account=self.destination, notes=notes)

    def _row(self, name: str) -> PayoutRecord | None:
        """The row that `status` shows first: one that is open, else the newest."""
        rows = [row for row in self.store.rows.values() if row.incident_id == name]
        rows.sort(key=lambda row: (row.state in OPEN, row.created_at))
        return rows[-1] if rows else None

    def _request(self, name: str) -> Request | None:
        with self.quietly():
            try:
                return self.store.find_request(name, incident.LEDGER_PAYOUT_ID)
            except ManualPayoutError:
                return None

    @contextmanager
    def quietly(self) -> Iterator[None]:
        """What other people do, on machines that do not fail tonight."""
        hooks = self.store.hooks, self.ledger.hooks
        self.store.hooks = self.ledger.hooks = _QUIET
        try:
            yield
        finally:
            self.store.hooks, self.ledger.hooks = hooks

    # ---------------------------------------------------------------------------------- what others do

    def automation(self) -> None:
        self.world.say("*** the automation tries")
        self.result.hits["automation tried"] += 1
        if self.ledger.attempt(self.world.now()):
            self.result.hits["automation paid"] += 1
            self.world.say("*** the automation paid")

    def mend(self, name: str, *, chance: float) -> None:
        """Fund the balance, renew approvals, file again: whatever is needed for the next command, perhaps."""
        rng, now = self.rng, self.world.now()
        if self.books.available < AMPLE // 2 and rng.random() < chance:
            self.books.available = AMPLE
        request = self._request(name)
        if request is None or rng.random() >= chance or not self.renews:
            return
        if now >= request.expires_at:
            self._file(name)
        elif any(approval.expires_at <= now + GRACE for approval in self.latest_approvals(request)):
            with self.quietly():
                self.approve(request)

    def latest_approvals(self, request: Request) -> list[Any]:
        given = self.store.approvals.get(request.request_id, [])
        return [max(one, key=lambda a: a.expires_at) for team in ("payments_ops", "finance")
                if (one := [a for a in given if a.team.value == team])]  # fmt: skip

    def _file(self, name: str, **changes: str) -> bool:
        """File again where that is possible, with both approvals and dry runs."""
        with self.quietly():
            requester = self.registry.find(incident.REQUESTER)
            try:
                request, new = file_unseen(
                    self.desk, replace(self._typed(name), **changes), requester, replace=True,
                    acknowledge=self.colleague.acknowledged if self.colleague is not None else (),
                )  # fmt: skip
            except ManualPayoutError:
                # Money is under way; that is for the operators to settle.
                return False
            if new:
                self.world.say("*** filed again")
                self.result.hits["filed again"] += 1
                self.filed(request)
                self.approve(request)
                self.dry_runs(request)
        return new

    def refile_all(self) -> None:
        """File every request once more, with what is acknowledged by now."""
        for name in INCIDENTS[: 2 if self.competing else 1]:
            self._file(name)

    def dry_runs(self, request: Request) -> None:
        """Have both operators read the dry run of *request*."""
        _dry_runs(self.store, self.registry, request)

    def approve(self, request: Request) -> None:
        """Have two approvers approve *request*, once more where they did before."""
        self.result.hits[f"{self.world.act}approved again"] += 1
        line = request.line_for()
        seen = next((one.shown for one in self.books.transfers if one.shown["id"] == line.stripe_transfer_id), None)
        _approve(self.desk, request, self.rng.choice(APPROVERS), seen)

    def _refiled(self) -> None:
        # With other notes: what the operator is running right now no longer fits.
        if self._file(INCIDENTS[0], notes="Filed once more"):
            self.notes = "Filed once more"

    def _defraud(self) -> None:
        """Somebody with the database's own client alters the request, and the ledger's row with it."""
        self.result.hits["request altered"] += 1
        self.destination = EVIL_ACCOUNT
        self.ledger.due = replace(self.ledger.due, destination_account=EVIL_ACCOUNT)
        for request_id, (request, digest, _) in list(self.store.requests.items()):
            altered = replace(request, lines=(replace(request.line_for(), destination_account=EVIL_ACCOUNT),))
            self.store.requests[request_id] = (altered, digest, False)
        if self.rng.random() < 0.5:
            self._rebuild()

    def _rebuild(self) -> None:
        """The careful one makes digests, approvals and journal fit as well; only nobody's key is at hand."""
        self.result.hits["approvals rebuilt"] += 1
        # Whoever approved again would sign what was altered, having been shown it.
        self.renews = False
        told: dict[tuple[str, str], dict[str, Any]] = {}
        for request_id, (request, _, _) in list(self.store.requests.items()):
            self.store.requests[request_id] = (request, request.digest, False)
            given = [_rebuilt(one, request) for one in self.store.approvals.get(request_id, ())]
            self.store.approvals[request_id] = given
            told |= {("approved", one.signature): one.told() for one in given}
        for stream, chain in self.store.events.items():
            self.store.events[stream] = [
                replace(event, data=told.get((event.kind, event.data.get("signature", "")), event.data))
                for event in chain
            ]

    def filed(self, request: Request) -> None:
        self.watch.filed[request.request_id] = filed_values(request)

    def _latest_post(self) -> datetime | None:
        """Until when a pause between fence and socket may last: while the key is surely remembered."""
        firsts = [first for first, _ in self.watch.fenced.values() if first >= self.act_began]
        ends = [first + timedelta(hours=22, minutes=50) for first in firsts]
        return min(ends, default=None)

    # ---------------------------------------------------------------------------------- the calm

    def _settle(self) -> None:
        """One operator brings every payout to its end, as the runbook says."""
        operator = self.operators[0]
        self.world.operators, self.world.current = [operator], operator
        for turn in range(14):
            row = next((row for row in self.store.rows.values() if row.state in OPEN), None)
            if row is not None:
                self.settle_row(operator, row, turn)
            elif self._is_paid():
                return
            else:
                name = INCIDENTS[turn % 2 if self.competing else 0]
                self.renews = True
                self.mend(name, chance=1.1)
                self._command(operator, "send", name)
            self.world.wait(200)
        if not self._is_paid():
            raise Violation(f"nobody could be paid: {self.stuck()}")

    def settle_row(self, operator: Operator, row: PayoutRecord, turn: int) -> None:
        if self.renews:
            self.mend(row.incident_id, chance=1.1)
        if row.state is State.SUBMITTING and not turn:
            self._command(operator, "send", row.incident_id)
            return
        if turn > 2 and row.first_sent_at is not None:
            # An answer that Stripe has stored stays the same until the key is gone.
            remaining = row.first_sent_at + timedelta(hours=23, seconds=1) - self.world.now()
            self.world.wait(max(0.0, remaining.total_seconds()))
        decide = turn > 2 and row.state is State.NEEDS_HUMAN
        self._command(operator, "decide" if decide else "reconcile", row.incident_id)

    def _is_paid(self) -> bool:
        return bool(self.books.transfers or self.ledger.paid_by_automation)

    def stuck(self) -> str:
        return f"last command: {self.watch.runs[-1].error}" if self.watch.runs else "no command"


def _boundary(rng: random.Random) -> str:
    return rng.choice(BOUNDARIES) if rng.random() < 0.85 else rng.choice(READS)


def _beginning(rng: random.Random, stage: Stage) -> datetime:
    """Mostly the demo's night; sometimes the minutes before an approval ends."""
    if rng.random() < 0.92:
        return START
    ends = min(approval.expires_at for given in stage.store.approvals.values() for approval in given)
    return ends - timedelta(seconds=rng.uniform(1, 400))


def _rebuilt(approval: Approval, request: Request) -> Approval:
    """Make *approval* say that it is of *request*, under the signature that it has."""
    line, facts = request.line_for(), json.loads(approval.facts)
    compared = facts["compared"][0] | {"destination_account": line.destination_account}
    facts |= {"request_digest": request.digest, "compared": [compared]}
    moved = replace(approval, request_digest=request.digest, facts=canonical_json(facts))
    text = canonical_json(statement_of(request, moved))
    return replace(moved, signed_text=text, statement_digest=digest_bytes(text.encode()))


@lru_cache(maxsize=256)
def _digest(request: Request) -> str:
    # Taken once for equal requests: half of the time would go into taking it again.
    return digest_of(request.statement())


# What an approval says is checked once for an equal pair, for the same reason; a refusal is never remembered.
_check_statement = lru_cache(maxsize=256)(standing.check_statement)


@lru_cache(maxsize=256)
def _sealed(request: Request, person: Person) -> dict[str, Any]:
    long, key = request.expires_at - request.filed_at > timedelta(days=1), sandbox_key(person.handle)
    return sealed_data(
        _settings(long=long).policy, request, person.person_id, "0" * 64, lambda text: key.sign(SEAL, text)
    )


@cache
def _typed() -> Parameters:
    return Parameters(
        incident_id=incident.INCIDENT_ID,
        studio_id=incident.STUDIO_ID,
        studio_name=incident.STUDIO_NAME,
        ledger_payout_id=incident.LEDGER_PAYOUT_ID,
        amount=incident.AMOUNT,
        reserve_after=incident.RESERVE_AFTER,
        reason=Reason(incident.REASON),
        destination_account=incident.DESTINATION_ACCOUNT,
        notes=incident.NOTES,
        operator=incident.OPERATOR,
        dry_run=True,
        confirm="",
    )


@cache
def _fixtures() -> tuple[Settings, Registry, PayoutDue, StudioBalance]:
    settings = load_settings(
        fallback_key=SecretStr(local_stripe.FALLBACK_KEY),
        fallback_key_command="",
        read_key=None,
        read_key_command="",
        stripe_api_base="http://127.0.0.1:1",
        database_url=SecretStr("sqlite://"),
        ledger_database_url=None,
        outputs=Path("outputs"),
        policy_file=None,
        approvers_file=None,
        allowed_signers_file=None,
        signing_key=None,
        operator=incident.OPERATOR,
    )
    ledger = demo_ledger()
    due = next(one for one in ledger.payouts if one.ledger_payout_id == incident.LEDGER_PAYOUT_ID)
    balance = next(one for one in ledger.balances if (one.studio_id, one.currency) == (due.studio_id, due.currency))
    # The dataclass of the demo leaves what the ledger's reader fills in.
    return settings, load_registry(settings.approvers_path()), replace(due, standing="failed"), balance


@cache
def _settings(*, long: bool) -> Settings:
    settings, *_ = _fixtures()
    if not long:
        return settings
    week = 7 * 24 * 3600
    lives = settings.policy.request.model_copy(update={"request_lifetime_s": week, "approval_lifetime_s": week})
    return settings.model_copy(update={"policy": settings.policy.model_copy(update={"request": lives})})


def file_unseen(*arguments: Any, **options: Any) -> tuple[Request, bool]:
    """File as those do who file at the same moment under two incidents, and neither sees the other's request yet."""
    with mock.patch("manual_payout.approval.requesting._require_no_other"):
        return file_request(*arguments, **options)


@cache
def _stage(*, long: bool, competing: bool) -> Stage:
    _, registry, due, balance = _fixtures()
    settings = _settings(long=long)
    clock = FixedClock(START - timedelta(minutes=10))
    store = MemoryStore(clock, _QUIET)
    desk = Desk(settings, clock, store, MemoryLedger(due, balance, _QUIET, clock), registry)
    requester = registry.find(incident.REQUESTER)
    for name, approvers in zip(INCIDENTS[: 2 if competing else 1], APPROVERS, strict=False):
        request, _ = file_unseen(desk, replace(_typed(), incident_id=name), requester, replace=False)
        _approve(desk, request, approvers)
        _dry_runs(store, registry, request)
        clock.wait(60)
    return Stage(settings, registry, store, due, balance)


def forget_stages() -> None:
    """Have the stages built anew: what made them was changed by a planted defect."""
    for one in (_stage, _digest, _check_statement, _sealed):
        one.cache_clear()


def _approve(desk: Desk, request: Request, approvers: tuple[str, str], seen: dict[str, Any] | None = None) -> None:
    """Approve as people do who look at the ledger, or at the transfer that was *seen* at Stripe."""
    line, policy = request.line_for(), desk.settings.policy
    due = desk.ledger.find_payout_due(line.ledger_payout_id)
    balance = desk.ledger.find_balance(due.studio_id, due.currency)
    compared = compared_transfer(line, seen) if seen is not None else compared_facts(line, due, balance)
    shown = Shown((), (compared,), rules_digest(policy), desk.registry.digest)
    for approver in approvers:
        try:
            approve(
                desk.store, desk.registry, request, approver=approver, amount=line.amount.text, shown=shown,
                destination_last4=line.destination_account[-4:], rules=policy.request, key=sandbox_key(approver),
            )  # fmt: skip
        except ManualPayoutError:
            # Approved already, or no longer in force: both are ordinary, and the send says so.
            continue


def _dry_runs(store: MemoryStore, registry: Registry, request: Request) -> None:
    stream = stream_of(request.incident_id, request.line_for().ledger_payout_id)
    for handle in OPERATORS:
        person = registry.find(handle)
        store.record_event(stream, DRY_RUN_SEALED, person.person_id, _sealed(request, person))
