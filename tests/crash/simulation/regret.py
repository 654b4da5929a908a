"""
The second act of some nights: what was paid was a mistake and is taken back, whole or in part, while all goes wrong again.

It draws from a random stream of its own, so that the first act of a seed is what it was without a second.
"""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import timedelta
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from manual_payout import transfer
from manual_payout.approval.dry_runs import code_of
from manual_payout.approval.reversal import ReversalAsked, file_reversal
from manual_payout.desk.wiring import Desk
from manual_payout.domain.errors import ManualPayoutError
from manual_payout.domain.models import Request, ReversalReason, ReversalRecord, State
from manual_payout.domain.money import Money
from manual_payout.domain.parameters import ReversalParameters
from payout_rehearsal.demo import incident

from .invariants import GRACE, OPEN
from .stripe_books import POST_FAULTS, READ_FAULTS, Transfer
from .world import (
    DATABASE_WRITES,
    REVERSAL_BOUNDARIES,
    REVERSAL_READS,
    Operator,
    Planned,
    Violation,
    small,
    span,
)

if TYPE_CHECKING:
    from .scenario import Night

ACT = "reversal: "
SHARE = 0.2
INCIDENTS = (incident.INCIDENT_ID, "INC-124")
STUDIO_HAS = 100_000_000


def regretted(seed: int) -> bool:
    """Whether the night of *seed* has a second act."""
    return random.Random(f"regret {seed}").random() < SHARE


class Regret:
    """The reversal of what one night has paid, from its plan to its settlement."""

    def __init__(self, night: Night) -> None:
        self.night, self.world, self.books, self.store = night, night.world, night.books, night.store
        self.rng = night.rng = night.world.rng = random.Random(f"reversal {night.result.seed}")
        self.world.act = self.books.act = ACT
        night.act_began = self.world.now()
        self.books.studio_available = STUDIO_HAS
        self.mistaken = self._mistaken()
        self.requests: dict[str, Request] = {}
        self.operators = [Operator(one.name, one.person) for one in night.operators[:2]]
        # Whoever files or approves does so on a machine that does not fail tonight.
        self.others = Desk(night.settings, self.world, self.store, night.ledger, night.registry)
        self.others.__dict__["watcher"] = SimpleNamespace(get_transfer=self._shown)

    def play(self) -> None:
        """Disturbed, then calm, then compared."""
        if self.mistaken is None:
            return
        self.night.result.hits["nights with a reversal"] += 1
        self._draw()
        programs = [(one, self._disturbed) for one in self.operators[: self.crew]]
        self.world.play(programs, switching=self.rng.choice((0.02, 0.1, 0.3)))
        self.world.calm()
        self.books.post_faults.clear()
        self.books.read_faults.clear()
        self.world.pass_time(300)
        self.books.catch_up()
        self.night.watch.check_books()
        if not self.fraud:
            self._settle()
        self._count()

    # ---------------------------------------------------------------------------------- the plan

    def _mistaken(self) -> Transfer | None:
        """The transfer that is regretted: ours, or the automation's, which has a key and a name of its own."""
        standing = [one for one in self.books.transfers if not one.shown["reversed"]]
        if standing or not self.night.ledger.paid_by_automation:
            return standing[0] if standing else None
        due = self.night.ledger.due
        shown = {
            "id": "tr_automation", "object": "transfer", "amount": due.amount.amount_minor, "currency": due.currency,
            "destination": incident.DESTINATION_ACCOUNT, "transfer_group": None, "amount_reversed": 0,
            "reversed": False, "livemode": False, "metadata": {}, "created": int(self.world.now().timestamp()),
        }  # fmt: skip
        made = Transfer(shown, "", self.world.now(), None, by_hand=False)
        self.books.transfers.append(made)
        return made

    def _draw(self) -> None:
        rng = self.rng
        self.crew = 1 + (rng.random() < 0.5)
        self.fraud = rng.random() < 0.06
        self.renews = rng.random() < 0.6
        self.world.events |= {"dashboard": self._in_dashboard, "refiled": self._refiled}
        self._draw_disturbances()
        self._draw_provider()
        self._begin()
        dice = rng.random()
        if dice < 0.08:
            self._draw_doubt()
        elif dice < 0.16:
            self._draw_sleeper()
        elif dice < 0.24:
            self._draw_resend()

    def _draw_disturbances(self) -> None:
        rng, plan = self.rng, self._plan
        for _ in range(rng.choice((0, 0, 1, 1, 2, 3))):
            plan("crash", self._boundary())
        if rng.random() < 0.25:
            plan("freeze", self._boundary(), span(rng, 1, 36 * 3600))
        if rng.random() < 0.15:
            plan("freeze", self._boundary(), span(rng, 20 * 3600, 72 * 3600))
        if rng.random() < 0.15:
            plan("lost", f"{rng.choice(DATABASE_WRITES[1:])}:after")
        if rng.random() < 0.08:
            plan("down", self._boundary(), span(rng, 1, 3600))
        if rng.random() < 0.06:
            plan("dashboard", self._boundary())
        if rng.random() < 0.06:
            plan("refiled", self._boundary())
        if rng.random() < 0.1:
            plan("automation", self._boundary())

    def _draw_provider(self) -> None:
        rng, books = self.rng, self.books
        posted, read = len(books.posts), books.reads
        for _ in range(rng.choice((0, 0, 1, 1, 2, 3))):
            books.post_faults[posted + small(rng, 4)] = rng.choice(POST_FAULTS)
        if rng.random() < 0.15:
            # Something was taken back, and what is seen next says no.
            books.post_faults[posted + 1] = rng.choice(("lost_after", "delayed", "stored_500_paid", "garbage_paid"))
            books.post_faults[posted + 2] = rng.choice(("forbidden", "unauthorized", "invalid", "rate_limit"))
        if rng.random() < 0.25:
            books.read_faults[read + rng.randint(1, 24)] = rng.choice(READ_FAULTS)
        books.lag = timedelta(seconds=rng.uniform(1, 10)) if rng.random() < 0.15 else timedelta(0)
        books.delay = timedelta(seconds=rng.uniform(1, 120 if rng.random() < 0.7 else 600))
        if rng.random() < 0.08:
            books.studio_available = 1000

    def _draw_doubt(self) -> None:
        """Seek out the place where something was sent, and the run that takes over cannot see what became of it."""
        self.world.plan.setdefault("post:after", []).append(Planned(1, "crash"))
        # The eighteenth read is the look at Stripe of a second `reverse`, after it has judged all anew, twice.
        ordinal = 18 if self.rng.random() < 0.7 else self.rng.randint(8, 20)
        self.books.read_faults = {self.books.reads + ordinal: self.rng.choice(READ_FAULTS)}

    def _draw_sleeper(self) -> None:
        """Seek out the operator who falls asleep before the fence, while another one goes on."""
        self.crew = 2
        self.world.plan["mark_sent:before"] = [Planned(1, "freeze", span(self.rng, 300, 72 * 3600))]

    def _draw_resend(self) -> None:
        """Seek out the run that sends the same key again: nothing has arrived, as far as Stripe lists it."""
        posted = len(self.books.posts)
        kind = self.rng.choice(("lost_before", "unavailable"))
        self.books.post_faults = {posted + ordinal: kind for ordinal in (1, 2, 3)}
        boundary = self.rng.choice(("record_event:before", "record_event:after"))
        self.world.plan.setdefault(boundary, []).append(
            Planned(1, self.rng.choice(("crash", "crash", "freeze")), 400.0)
        )

    def _begin(self) -> None:
        """File and approve; in some nights two requests of two incidents, both on what has come back by now."""
        for name in INCIDENTS[: 1 + (self.rng.random() < 0.4)]:
            self._file(name, self._amount())
        if self.fraud and self.requests:
            self._defraud()

    def _plan(self, kind: str, boundary: str, seconds: float = 0.0) -> None:
        countdown = small(self.rng, 3 if ":" in boundary else 6)
        self.world.plan.setdefault(boundary, []).append(Planned(countdown, kind, seconds))

    def _boundary(self) -> str:
        return self.rng.choice(REVERSAL_BOUNDARIES if self.rng.random() < 0.85 else REVERSAL_READS)

    # ---------------------------------------------------------------------------------- what people do

    def _disturbed(self, operator: Operator) -> None:
        rng = self.rng
        for _ in range(rng.choice((1, 2, 2, 3, 4))):
            names = sorted(self.requests)
            if not names:
                return
            name = names[-1] if operator is self.operators[1] and rng.random() < 0.9 else rng.choice(names)
            self._command(operator, self._choose(name), name)
            self.night.rest()
            self._mend(name, chance=0.6)

    def _choose(self, name: str) -> str:
        dice, row = self.rng.random(), self._row(name)
        if dice < 0.12:
            return self.rng.choice(("reverse", "reconcile", "decide", "reconcile_payout"))
        if row is None or row.state in (State.REFUSED, State.SUBMITTING, State.REVERSED):
            return "reverse"
        return "decide" if row.state is State.NEEDS_HUMAN and dice < 0.5 else "reconcile"

    def _command(self, operator: Operator, action: str, name: str) -> None:
        does = getattr(self, f"_{action}")
        line = "" if action == "reconcile_payout" else self.requests[name].line_for().line_id
        self.night.command(
            operator, f"{action} (reversal)", name, partial(does, operator, name), line=line, sends=action == "reverse"
        )

    def _reverse(self, operator: Operator, name: str) -> None:
        request = self.store.requests[self.requests[name].request_id][0]
        code = code_of(self.night.desk, request, request.line_for(), operator.person.person_id)
        asked = ReversalParameters(name, request.request_id, operator.person.handle, dry_run=False, confirm=code)
        transfer.reverse(self.night.desk, asked, operator.person)

    def _reconcile(self, operator: Operator, name: str) -> None:
        if row := self._row(name):
            transfer.reconcile(self.night.desk, row, operator.person)

    def _decide(self, operator: Operator, name: str) -> None:
        if row := self._row(name):
            transfer.decide_not_moved(self.night.desk, row, operator.person, "Nothing in the Dashboard.")

    def _reconcile_payout(self, operator: Operator, _name: str) -> None:
        for row in list(self.store.rows.values()):
            if row.stripe_transfer_id is not None:
                transfer.reconcile(self.night.desk, row, operator.person)

    # ---------------------------------------------------------------------------------- what others do

    def _file(self, name: str, amount: str, *, notes: str = "") -> None:
        assert self.mistaken is not None
        asked = ReversalAsked(
            name, incident.LEDGER_PAYOUT_ID, ReversalReason.NOT_OWED, notes, amount, self.mistaken.shown["id"]
        )
        with self.night.quietly():
            try:
                person = self.night.registry.find(incident.REQUESTER)
                request, new = file_reversal(self.others, asked, person, replace=True)
            except ManualPayoutError:
                # One is under way, or nothing is left; that is for the operators to settle.
                return
            self.requests[name] = request
            if new:
                self.night.filed(request)
                self.night.approve(request)
                self.night.dry_runs(request)

    def _refiled(self) -> None:
        # Somebody thinks better of it: what the operator is running right now is withdrawn.
        self.night.result.hits[f"{ACT}filed again"] += 1
        self._file(INCIDENTS[0], self._amount(), notes="Filed once more")

    def _in_dashboard(self) -> None:
        assert self.mistaken is not None
        left = self._left()
        if left:
            self.night.result.hits[f"{ACT}somebody took some back in the Dashboard"] += 1
            payload = {"amount": self.rng.randint(1, left), "metadata": {}}
            self.books.take_back(self.mistaken.shown["id"], payload)

    def _defraud(self) -> None:
        """Somebody with the database's own client has more taken back than was approved."""
        self.night.result.hits[f"{ACT}request altered"] += 1
        for name, filed in self.requests.items():
            more = Money(filed.line_for().amount.amount_minor // 2, filed.line_for().amount.currency)
            altered = replace(filed, lines=(replace(filed.line_for(), amount=more),))
            self.store.requests[filed.request_id] = (altered, filed.digest, False)
            self.requests[name] = altered

    def _mend(self, name: str, *, chance: float) -> None:
        """Fund the studio, renew approvals, file on top of what has come back: what the next command needs, perhaps."""
        request, row = self.requests[name], self._row(name)
        if self.fraud or self.rng.random() >= chance:
            return
        self.books.studio_available = max(self.books.studio_available, STUDIO_HAS)
        if row is not None and row.state is State.REVERSED:
            if self.rng.random() < 0.3:
                self._file(name, self._amount())
        elif not self.renews:
            return
        elif self.world.now() >= request.expires_at:
            self._file(name, request.line_for().amount.text)
        elif any(one.expires_at <= self.world.now() + GRACE for one in self.night.latest_approvals(request)):
            with self.night.quietly():
                self.night.approve(request)

    # ---------------------------------------------------------------------------------- the calm

    def _settle(self) -> None:
        """One operator brings every reversal to its end, as the runbook says."""
        operator = self.operators[0]
        self.world.operators, self.world.current = [operator], operator
        self.renews = True
        for turn in range(16):
            row = next((row for row in self.store.reversals.values() if row.state in OPEN), None)
            if row is not None:
                self._settle_row(operator, row, turn)
            elif self._is_done():
                break
            else:
                self._try_again(operator)
            self.world.wait(200)
        self._try_every_request(operator)
        watch, stuck = self.night.watch, self.night.stuck
        watch.check_books()
        watch.check_reversals_settled(stuck)
        if any(not one.key for one in self.books.reversals):
            self._command(operator, "reconcile_payout", INCIDENTS[0])
        watch.check_settled(stuck)
        if not self._is_done():
            raise Violation(f"nothing could be taken back: {stuck()}")

    def _settle_row(self, operator: Operator, row: ReversalRecord, turn: int) -> None:
        name = row.incident_id
        self._renew(row)
        if row.state is State.SUBMITTING and not turn and self.requests[name].request_id == row.request_id:
            self._command(operator, "reverse", name)
            return
        if turn > 2 and row.first_sent_at is not None:
            # An answer that Stripe has stored stays the same until the key is gone.
            remaining = row.first_sent_at + timedelta(hours=23, seconds=1) - self.world.now()
            self.world.wait(max(0.0, remaining.total_seconds()))
        decide = turn > 2 and row.state is State.NEEDS_HUMAN
        does: Any = transfer.reconcile
        if decide:
            does = partial(transfer.decide_not_moved, because="Nothing in the Dashboard.")
        action = "decide" if decide else "reconcile"
        call = partial(does, self.night.desk, row, operator.person)
        self.night.command(operator, f"{action} (reversal)", name, call)

    def _renew(self, row: ReversalRecord) -> None:
        request = self.store.requests[row.request_id][0]
        if any(one.expires_at <= self.world.now() + GRACE for one in self.night.latest_approvals(request)):
            with self.night.quietly():
                self.night.approve(request)

    def _try_again(self, operator: Operator) -> None:
        self.books.studio_available = STUDIO_HAS
        # Where something came back meanwhile, it is asked for anew, of what is left.
        self._file(INCIDENTS[0], "" if self.rng.random() < 0.5 else self._amount())
        if INCIDENTS[0] in self.requests:
            self._mend(INCIDENTS[0], chance=1.1)
            self._command(operator, "reverse", INCIDENTS[0])

    def _try_every_request(self, operator: Operator) -> None:
        """Whoever was waiting has a turn; what was approved on top of less than has come back by now is refused."""
        for name in sorted(self.requests):
            with self.night.quietly():
                self.night.approve(self.requests[name])
            self._command(operator, "reverse", name)

    def _is_done(self) -> bool:
        return any(one.key for one in self.books.reversals) or not self._left()

    def _count(self) -> None:
        hits = self.night.result.hits
        ours = [one for one in self.books.reversals if one.key]
        hits[f"{ACT}reversals"] += len(ours)
        hits[f"{ACT}two operators"] += self.crew == 2
        hits[f"{ACT}two requests"] += len(self.requests) > 1
        hits[f"{ACT}of the automation's transfer"] += not self.mistaken.by_hand if self.mistaken else 0
        hits[f"{ACT}came back whole" if not self._left() else f"{ACT}came back in part"] += bool(ours)

    # ---------------------------------------------------------------------------------- reading

    def _row(self, name: str) -> ReversalRecord | None:
        return self.store.reversals.get(self.requests[name].line_for().line_id)

    def _left(self) -> int:
        assert self.mistaken is not None
        return int(self.mistaken.shown["amount"] - self.mistaken.shown["amount_reversed"])

    def _amount(self) -> str:
        """All that is left, or a part of it; major units as text, as it is typed."""
        left = self._left()
        if left < 3 or self.rng.random() < 0.4:
            return ""
        return Money(self.rng.choice((left // 3, self.rng.randint(1, left))), self.night.ledger.due.currency).text

    def _shown(self, _transfer_id: str) -> dict[str, Any]:
        assert self.mistaken is not None
        return dict(self.mistaken.shown)
