"""
The nights with one approval: the policy allows break-glass, the other team is not reached, and somebody declares it.

Who declares, pages, stops, approves late and reviews does so on machines that do not fail; the operators' nights are as
bad as any other. All of it is drawn from a random stream of its own, so that every other night is what it was without.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from copy import copy
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from manual_payout import breakglass
from manual_payout.canonical import canonical_json
from manual_payout.closing import Standing, checklist_of
from manual_payout.demo import incident
from manual_payout.errors import ManualPayoutError
from manual_payout.models import Approval, Declaration, PayoutRecord, Request, State, Team, stream_of
from manual_payout.people import Person
from manual_payout.settings import BreakGlassPolicy
from manual_payout.signatures import APPROVAL
from manual_payout.signing import sandbox_key
from manual_payout.steps import closing as stage
from manual_payout.store import message_id

from .glass_watch import GlassWatch
from .world import BOUNDARIES, READS, Planned, Violation, small

if TYPE_CHECKING:
    from .scenario import Night

ACT = "break-glass: "
SHARE = 0.15
TEAMS = {"priya": Team.PAYMENTS_OPS, "jonas": Team.PAYMENTS_OPS, "amara": Team.FINANCE, "lucia": Team.FINANCE}
AMOUNT_MINOR = 125_075
HOLDS_S = (900, 1800, 3600)

# What the policy may turn into while people rely on it.
CHANGES: tuple[dict[str, Any], ...] = (
    {"enabled": False},
    {"amount_minor_max": {"usd": AMOUNT_MINOR - 1}},
    {"amount_minor_max": {"eur": AMOUNT_MINOR}},
    {"hold_s": 7200},
)

# Where the owner's no is sought out: beside what a send commits last before the request leaves.
BRINKS = (
    "record_intent:before",
    "record_intent:after",
    "mark_sent:before",
    "mark_sent:before",
    "mark_sent:after",
    "listing",
    "post:after",
)
# Where somebody looks who cannot know yet what was sent.
LOOKS = ("record_intent:after", "post:before", "post:after", "take_over:after")

# Where the no fell, for the figures.
FELL = ("before an intent", "between intent and fence", "after a request had left")


def under_glass(seed: int) -> bool:
    """Whether the night of *seed* begins with one approval."""
    return random.Random(f"under glass {seed}").random() < SHARE


class Glass:
    """
    What the people around one night with one approval do, and what has to hold of it.

    Attributes:
        approvers: By incident: who alone has approved.

        reached: Whether the other team is reached by now.

        forged: The requests for which somebody put a declaration into the journal past the command.
    """

    def __init__(self, seed: int) -> None:
        self.rng = rng = random.Random(f"glass of {seed}")
        self.owner = rng.choice(tuple(TEAMS))
        others = [name for name in TEAMS if name != self.owner]
        self.approvers = ((rng.choice(others),), (rng.choice(others),))
        cap = AMOUNT_MINOR - 1 if rng.random() < 0.05 else AMOUNT_MINOR + rng.choice((0, 1, 100_000))
        self.policy = BreakGlassPolicy(
            enabled=rng.random() > 0.03, amount_minor_max={"usd": cap}, hold_s=rng.choice(HOLDS_S), owner=self.owner
        )
        self.reached = self.calm = False
        self.forged: set[str] = set()
        self.night: Night

    def join(self, night: Night) -> None:
        """Take part in *night*: its desk gets the policy, its plan the owner's no and what else others do."""
        self.night, self.world, self.store = night, night.world, night.store
        self.hits = night.result.hits
        self.hits[f"{ACT}nights"] += 1
        self.watch = GlassWatch(night.store)
        night.watch.forbids_alone = self.watch.forbids
        self._set_policy(self.policy)
        self.world.events |= {
            "stop": self.stop, "policy": self._change_policy, "reached": self._reach, "early review": self._review_early,
            "colleague": self._colleague,
        }  # fmt: skip
        self._begin()
        self._draw()

    # ---------------------------------------------------------------------------------- the plan

    def _begin(self) -> None:
        """Mostly it is declared by now; often the hold, sometimes the approval, is nearly over when the operators begin."""
        rng = self.rng
        if rng.random() < 0.05:
            return
        for request, _, _ in list(self.store.requests.values()):
            if rng.random() < 0.1:
                self._forge(request)
            else:
                self._declare(request)
            if rng.random() < 0.92:
                self._page(request)
        dice = rng.random()
        if dice < 0.75:
            self.world.pass_time(self.policy.hold_s + rng.choice((-60.0, -1.0, 0.0, 1.0, 60.0, 600.0, 600.0)))
        elif dice < 0.83 and self.watch.declared:
            left = self.watch.declared[0].expires_at - self.world.now()
            self.world.pass_time(max(0.0, left.total_seconds() - rng.uniform(1, 400)))
        if rng.random() < 0.08:
            self._change_policy()

    def _draw(self) -> None:
        rng, dice = self.rng, self.rng.random()
        if not self.forged:
            if dice < 0.15:
                # Two of one team, each with a declaration, and a no that is said to the later of them.
                self._seek("colleague", rng.choice(("claim:before", "claim:after")))
                self._seek("stop", rng.choice(("claim:after", "mark_sent:before")))
            elif dice < 0.45:
                self._seek("stop", rng.choice(BRINKS))
            elif dice < 0.6:
                self._plan("stop", self._boundary())
        if rng.random() < 0.1:
            self._plan("policy", self._boundary())
        if rng.random() < 0.15:
            self._plan("reached", self._boundary())
        if rng.random() < 0.15:
            self._seek("early review", rng.choice(LOOKS))

    def _plan(self, kind: str, boundary: str) -> None:
        countdown = small(self.rng, 3 if ":" in boundary else 8)
        self.world.plan.setdefault(boundary, []).append(Planned(countdown, kind))

    def _seek(self, kind: str, boundary: str) -> None:
        countdown = 1 if ":" in boundary else self.rng.randint(1, 4)
        self.world.plan.setdefault(boundary, []).append(Planned(countdown, kind))

    def _boundary(self) -> str:
        return self.rng.choice(BOUNDARIES if self.rng.random() < 0.8 else READS)

    def _set_policy(self, policy: BreakGlassPolicy) -> None:
        """Have every command that begins from now on read this policy; one that runs has read its own."""
        self.policy = policy
        night, settings = self.night, self.night.settings
        whole = settings.policy.model_copy(update={"break_glass": policy})
        night.desk = copy(night.desk)
        night.desk.settings = settings.model_copy(update={"policy": whole})

    # ---------------------------------------------------------------------------------- what people do

    def who_approves(self, request: Request) -> tuple[str, ...]:
        """Name who approves *request* when it is approved again: the one, and the other team where it is reached."""
        (alone,) = self.approvers[request.incident_id != incident.INCIDENT_ID]
        colleague = _colleague_of(alone)
        if colleague != self.owner and self.rng.random() < 0.15:
            alone = colleague
        second = self.rng.choice([name for name, team in TEAMS.items() if team is TEAMS[alone].other])
        return (alone, second) if self.reached else (alone,)

    def mend(self, name: str) -> None:
        """Do what the last refusal asked for, perhaps: reach the other team, or declare, page, and wait for the hold's end."""
        request = self.night.request(name)
        if request is None:
            return
        dice = self.rng.random()
        if self.calm:
            self._settle(request)
        elif dice < 0.08:
            self._reach()
        elif dice < 0.12:
            self.stop()
        elif dice < 0.16:
            self._change_policy()
        elif not self.reached:
            self._declare(request)
            self._page(request)
            self._sit_out(request)

    def stop(self) -> None:
        """The owner says no, and somebody who is not asked says it first."""
        request = self._any_request()
        if request is None:
            return
        row = self.store.rows.get(request.line.line_id)
        with self.night.quietly():
            if self._refused(lambda: breakglass.stop(self.night.desk, request, owner="tomas", because="")) is None:
                raise Violation("somebody who is not its owner stopped break-glass")
            if self._refused(lambda: breakglass.stop(self.night.desk, request, owner=self.owner, because="")):
                return
        if request.request_id not in self.watch.stopped:
            self.world.say("*** the owner says no")
            self.watch.stopped[request.request_id] = len(self.store.events[_stream(request)])
            fell = 0 if row is None or row.state is State.REFUSED else 1 + row.sent
            self.hits[f"{ACT}stopped {FELL[fell]}"] += 1

    def _change_policy(self) -> None:
        self.hits[f"{ACT}policy changed"] += 1
        self._set_policy(self.policy.model_copy(update=self.rng.choice(CHANGES)))
        self.world.say(f"*** the policy is now {self.policy}")

    def _reach(self) -> None:
        """Somebody of the other team is reached after all, and approves."""
        if self.night.fraud:
            return
        self.hits[f"{ACT}other team reached"] += not self.reached
        self.reached = True
        self.world.say("*** the other team is reached")
        for request in self._requests():
            with self.night.quietly():
                self.night.approve(request)

    def _colleague(self) -> None:
        """Another one of the same team approves and declares as well."""
        request = self._any_request()
        if request is None or self.reached or self.night.fraud:
            return
        name = _colleague_of(self._declarer(request))
        if name == self.owner:
            return
        with self.night.quietly():
            self.night.approve_as(request, (name,))
        self.hits[f"{ACT}declared by two"] += self._declare(request)
        self._page(request)

    def _declare(self, request: Request) -> bool:
        """Whoever approved last declares; say whether a declaration stands."""
        name, line = self._declarer(request), request.line
        made: list[tuple[breakglass.Glass, bool]] = []
        with self.night.quietly():
            error = self._refused(
                lambda: made.append(
                    breakglass.declare(
                        self.night.desk, request, declarer=name, amount=line.amount.text,
                        destination_last4=line.destination_account[-4:], because="nobody answers",
                        key=sandbox_key(name), page=lambda _: [],
                    )
                )
            )  # fmt: skip
        self.world.say(f"*** {name} declares break-glass: {error or 'done'}")
        if error is None and made[0][1]:
            self.hits[f"{ACT}declared"] += 1
            self.watch.declared.append(made[0][0].declaration)
        return error is None

    def _page(self, request: Request) -> None:
        """PagerDuty takes the page to the owner; the post in Slack, which wakes nobody, went out before."""
        glass = self._newest(request)
        if glass is None or glass.paged_at is not None or self.rng.random() < (0.0 if self.calm else 0.1):
            return
        name = glass.declaration.declaration_id
        for kind in ("slack_break_glass", "page_break_glass"):
            data = {"message_id": message_id(breakglass.page_key(name, kind)), "kind": kind}
            with self.night.quietly():
                self.store.record_event(_stream(request), "message_delivered", glass.declaration.declarer_id, data)
            if kind == "slack_break_glass" and self.rng.random() < (0.0 if self.calm else 0.1):
                return
        self.watch.paged[name] = self.world.now()

    def _sit_out(self, request: Request) -> None:
        """Wait until the hold is over, or nearly; some do not wait."""
        glass, dice = self._newest(request), self.rng.random()
        opens = glass.opens_at(self.policy.hold_s) if glass is not None else None
        if opens is None or (dice < 0.1 and not self.calm):
            return
        early = self.rng.choice((0.001, 1.0, 5.0, 300.0)) if dice < 0.3 and not self.calm else 0.0
        self.world.wait(max(0.0, (opens - self.world.now()).total_seconds() - early))

    def _forge(self, request: Request) -> None:
        """Somebody with the database's own client writes a declaration; only nobody's key is at hand but their own."""
        self.hits[f"{ACT}declaration forged"] += 1
        self.forged.add(request.request_id)
        approval, now = self._newest_approval(request), self.world.now()
        made = Declaration(
            declaration_id=f"forged for {request.request_id}", request_id=request.request_id, request_digest=request.digest,
            declarer_id=approval.approver_id, approval_id=approval.approval_id, missing=approval.team.other,
            because="nobody answers", owner_id=self._person(self.owner).person_id, limit_minor=AMOUNT_MINOR,
            hold_s=HOLDS_S[0], nonce="0" * 32, declared_at=now, expires_at=approval.expires_at,
        )  # fmt: skip
        text = canonical_json(breakglass.statement_of(request, made))
        key = sandbox_key(_colleague_of(self._declarer(request)))
        with self.night.quietly():
            signed = replace(made, signed_text=text, signature=key.sign(APPROVAL, text.encode()))
            self.store.record_declaration(signed, request, [])

    # ---------------------------------------------------------------------------------- the calm

    def begin_calm(self) -> None:
        """From here on everybody does what the documents say; in some nights nobody of the other team is ever reached."""
        self.calm = True
        self.reached = self.reached or self.rng.random() < 0.4

    def _settle(self, request: Request) -> None:
        row = self.store.rows.get(request.line.line_id)
        if self.reached or not self._may_do(request):
            self._reach()
        elif row is None or row.state is State.REFUSED:
            if not self._declare(request):
                # Too late for the approval that stands: they approve again once it has ended, as the refusal says.
                ends = self._newest_approval(request).expires_at
                self.world.wait(max(0.0, (ends - self.world.now()).total_seconds()))
                with self.night.quietly():
                    self.night.approve(request)
                self._declare(request)
            self._page(request)
            self._sit_out(request)

    def _may_do(self, request: Request) -> bool:
        cap = self.policy.amount_minor_max.get("usd", 0)
        over = request.request_id in self.watch.stopped or request.request_id in self.forged
        return self.policy.enabled and cap >= AMOUNT_MINOR and not over

    # ---------------------------------------------------------------------------------- the review

    def _review_early(self) -> None:
        """Somebody of the missing team looks while nobody knows yet what was sent."""
        for row in list(self.store.rows.values()):
            if row.unapproved_by is not None and self._review(row, _of(row.unapproved_by)[0]) is None:
                self.hits[f"{ACT}reviewed early"] += 1

    def close(self) -> None:
        """Compare the marks, and try to close every payout before, during and after its review."""
        self.watch.check_marks()
        for row in list(self.store.rows.values()):
            if row.stripe_transfer_id is not None:
                self._close(row)
        self.hits[f"{ACT}POSTs with one approval"] += self.watch.sent_alone
        alone = [row.unapproved_by is not None for row in self.store.rows.values() if row.stripe_transfer_id]
        self.hits[f"{ACT}paid with one approval"] += any(alone)
        self.hits[f"{ACT}paid with two after all"] += bool(alone) and not any(alone)

    def _close(self, row: PayoutRecord) -> None:
        claim, missing = self.watch.claim, row.unapproved_by
        if missing is None:
            claim(not self._waits_for_review(row), "an ordinary payout waits for a review")
            claim(self._review(row, "amara") is not None, "an ordinary payout was reviewed")
            return
        seen = row.stripe_transfer_id in self.watch.reviewed
        claim(self._waits_for_review(row) is not seen, "the closing took a review of something else")
        if not seen:
            self._review_at_last(row, missing)
        self.hits[f"{ACT}reviewed"] += 1

    def _review_at_last(self, row: PayoutRecord, missing: Team) -> None:
        """First by everybody who may not, then by the missing team."""
        claim = self.watch.claim
        for name in (*_of(missing.other), "tomas", "maya"):
            claim(self._review(row, name) is not None, f"{name}, who is not of the missing team, reviewed it")
        claim(self._waits_for_review(row), "the closing did not wait for the missing team")
        error = self._review(row, _of(missing)[1])
        claim(error is None, f"the missing team may not review: {error}")
        claim(not self._waits_for_review(row), "the closing does not take the review")

    def _review(self, row: PayoutRecord, name: str) -> ManualPayoutError | None:
        with self.night.quietly():
            error = self._refused(
                lambda: breakglass.review(
                    self.night.desk, row, reviewer=name, because="owed, right amount", key=sandbox_key(name)
                )
            )
        if error is None and row.stripe_transfer_id is not None:
            self.watch.reviewed.add(row.stripe_transfer_id)
        return error

    def _waits_for_review(self, row: PayoutRecord) -> bool:
        """Whether the list of the close has the review, and has it open."""
        desk = self.night.desk
        with self.night.quietly():
            run: Any = SimpleNamespace(desk=desk, stream=stream_of(row.incident_id, row.ledger_payout_id))
            found = stage._glass_review(run, row)
        standing = Standing(
            record=row, messages=(), due=self.night.ledger.due, mode=row.mode, key_used="", key_at_hand=desk.gateway.identity,
            today=self.world.now().date(), access_review_every_days=92, typed={}, glass_review=found,
        )  # fmt: skip
        return any(item.name == "break-glass is reviewed" and not item.done for item in checklist_of(standing))

    # ---------------------------------------------------------------------------------- reading

    def _requests(self) -> list[Request]:
        found = (self.night.request(name) for name in self.night.incidents)
        return [request for request in found if request is not None]

    def _any_request(self) -> Request | None:
        requests = self._requests()
        return self.rng.choice(requests) if requests else None

    def _newest(self, request: Request) -> breakglass.Glass | None:
        return breakglass.glass_of(request, self.store.events[_stream(request)])

    def _newest_approval(self, request: Request) -> Approval:
        (alone,) = self.approvers[request.incident_id != incident.INCIDENT_ID]
        given = [one for one in self.store.approvals[request.request_id] if one.team is TEAMS[alone]]
        return max(given, key=lambda one: one.approved_at)

    def _declarer(self, request: Request) -> str:
        return self._person(self._newest_approval(request).approver_id).handle

    def _person(self, name: str) -> Person:
        person = self.night.registry.find(name)
        assert person is not None, "Bug: nobody of the demo"
        return person

    def _refused(self, does: Callable[[], object]) -> ManualPayoutError | None:
        try:
            does()
        except ManualPayoutError as error:
            return error
        return None


def _colleague_of(name: str) -> str:
    return next(other for other, team in TEAMS.items() if team is TEAMS[name] and other != name)


def _of(team: Team) -> tuple[str, ...]:
    return tuple(name for name, theirs in TEAMS.items() if theirs is team)


def _stream(request: Request) -> str:
    return stream_of(request.incident_id, request.line.ledger_payout_id)
