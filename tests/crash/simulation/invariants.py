"""
What must hold, seen from the provider's books and from every row as it is committed; never from what the code says.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from manual_payout.domain.errors import RefusedError, UnknownOutcomeError
from manual_payout.domain.models import (
    LIVE_STATES,
    Kind,
    PayoutRecord,
    Record,
    Request,
    ReversalRecord,
    State,
    Team,
    stream_of,
)
from manual_payout.transfer.tries import TRIES_MAX

from .last_words import Before, contradiction, look
from .memory_ledger import MemoryLedger
from .memory_store import MemoryStore
from .stripe_books import Books, Post, Reversal, Transfer
from .world import Violation, World

# The design's own number, written out here: a core that stretches its window must not stretch this one.
WINDOW = timedelta(hours=23)

# A sender judges the approvals before each right to send, and holds that right for one lease per try.
LEASE = timedelta(seconds=160)
GRACE = TRIES_MAX * LEASE

OPEN = (State.SUBMITTING, State.UNKNOWN, State.NEEDS_HUMAN)

# The documented edges. Needs_human leads back to unknown where a person reconciles and the answer is lost once more.
EDGES = {
    None: {State.SUBMITTING},
    State.SUBMITTING: {State.SUBMITTING, State.PAID, State.REFUSED, State.UNKNOWN, State.NEEDS_HUMAN},
    State.UNKNOWN: {State.UNKNOWN, State.PAID, State.REFUSED, State.NEEDS_HUMAN},
    State.NEEDS_HUMAN: {State.NEEDS_HUMAN, State.PAID, State.REFUSED, State.UNKNOWN},
    State.REFUSED: {State.SUBMITTING},
    State.PAID: set(),
    State.PARTLY_REVERSED: {State.PARTLY_REVERSED, State.REVERSED},
    State.REVERSED: set(),
}


def filed_values(request: Request) -> tuple[Any, ...]:
    """What the approvers of *request* were shown, of which nothing may be changed: how much, and to or from where."""
    line = request.line_for()
    if request.kind is Kind.REVERSAL:
        return (line.amount.amount_minor, line.stripe_transfer_id, line.reversed_before_minor, line.line_id)
    return (line.amount.amount_minor, line.amount.currency, line.destination_account)


class Watch:
    """
    The invariants of one scenario.

    Attributes:
        fenced: By key: the first and the latest instant at which the right to send was confirmed.

        refused: The keys whose attempts were recorded as having moved nothing.
    """

    def __init__(self, world: World, store: MemoryStore, ledger: MemoryLedger, books: Books) -> None:
        self.world, self.store, self.ledger, self.books = world, store, ledger, books
        self.fenced: dict[str, tuple[datetime, datetime]] = {}
        self.refused: dict[str, datetime] = {}
        self.runs: list[Any] = []
        self.filed: dict[str, tuple[Any, ...]] = {}
        self.late_posts = 0
        world.watch_commit = self.commit
        books.watch_post = self.post

    # ---------------------------------------------------------------------------------- at every commit

    def commit(self, before: Record | None, after: Record) -> None:
        """See one row change."""
        was = before.state if before is not None else None
        fine = after.state in EDGES[was] or (self._may_come_back(after) and was in (*OPEN, State.PAID))
        self._claim(fine, f"a row went from {was} to {after.state}")
        live = [row for row in self.store.rows.values() if row.state in LIVE_STATES]
        self._claim(len(live) <= 1, "two rows of one ledger payout are live")
        for row in self.store.reversals.values():
            same = [x for x in self.store.reversals.values() if x.stripe_transfer_id == row.stripe_transfer_id]
            self._claim(sum(x.state in OPEN for x in same) <= 1, "two reversals of one transfer are under way")
        if before is None:
            return
        if after.attempt_no != before.attempt_no:
            self._claim(was is State.REFUSED, f"a new attempt was begun while the row was {was}")
        else:
            same = after.idempotency_key == before.idempotency_key
            self._claim(same, "the key of an attempt was changed")
        self._claim(after.fence >= before.fence, "the fence went back")
        if after.fence > before.fence and before.lease_until is not None and was in OPEN:
            self._claim(before.lease_until <= self.world.now(), "a sending was taken over during its lease")
        for name in ("stripe_transfer_id", "stripe_id"):
            kept = getattr(before, name) in (None, getattr(after, name))
            self._claim(kept, "a transfer or a reversal on record was replaced")
        now, key = self.world.now(), after.idempotency_key
        event = self.store.events[stream_of(after.incident_id, after.ledger_payout_id)][-1]
        if event.kind == "sending":
            first, _ = self.fenced.get(key, (now, None))
            self.fenced[key] = (first, now)
        if after.state is State.REFUSED:
            self.refused[key] = now
            decided = event.data["code"] == "decided_not_moved"
            blind = decided and any(one not in event.data["reason"] for one in self._unnamed(after, now))
            self._claim(not blind, "a person decided past a colleague's transfer without naming it")
            early = decided and (key not in self.fenced or now < self.fenced[key][0] + WINDOW)
            self._claim(not early, "a person decided while the key was inside its window")

    # ---------------------------------------------------------------------------------- at every POST

    def post(self, post: Post, payload: dict[str, Any]) -> None:
        """See one POST reach the provider."""
        rows: list[Record] = [*self.store.rows.values(), *self.store.reversals.values()]
        row = next((row for row in rows if row.idempotency_key == post.key), None)
        self._claim(post.key in self.store.attempts, "a POST left without a committed intent")
        self._claim(row is not None, "a POST left for an attempt that is over")
        assert row is not None
        self._claim(post.key in self.fenced, "a POST left without having been announced")
        first, latest = self.fenced[post.key]
        self._claim(row.sent, "a POST left from a row that does not say so")
        self._claim(latest < first + WINDOW, "a POST left after the key's window")
        self._claim(json.loads(row.payload) == payload, "a POST carried something else than the intent")
        filed, sent = self.filed[row.request_id], (payload["amount"], post.transfer_id)
        if isinstance(row, PayoutRecord):
            sent = (payload["amount"], payload["currency"], payload["destination"])
        self._claim(sent == filed[: len(sent)], "a POST carried something else than was approved")
        self._approved(row, latest)
        beside = self._unnamed(row, latest)
        self._claim(not beside, "a POST left beside a colleague's transfer that had long been visible")

    def _unnamed(self, row: Record, at: datetime) -> list[str]:
        """
        The colleague's transfers that the request does not acknowledge, and that every look saw which counts at an instant.

        A look counts no longer than a lease: who has not sent by then has lost the right to.
        """
        if isinstance(row, ReversalRecord):
            return []
        named = self.store.requests[row.request_id][0].line_for().acknowledged
        theirs = (one for one in self.books.transfers if not one.by_hand)
        seen = (one.shown["id"] for one in theirs if one.at + self.books.lag + LEASE <= at)
        return [one for one in seen if one not in named]

    def _may_come_back(self, row: Record) -> bool:
        """Whether this row may say that money has come back: it is a reversal's, or the books show one."""
        if isinstance(row, ReversalRecord):
            return row.state is State.REVERSED
        return row.state in (State.PARTLY_REVERSED, State.REVERSED) and bool(self.books.reversals)

    def _approved(self, row: Record, at: datetime) -> None:
        request = self.store.requests[row.request_id][0]
        given = self.store.approvals.get(row.request_id, ())
        for grace in (timedelta(0), GRACE):
            standing = {
                one.team: one.approver_id
                for one in given
                if one.approved_at <= at < one.expires_at + grace
                and one.approver_id not in (request.requested_by, row.operator_id)
            }
            if len(set(standing.values())) == len(Team):
                return
            self.late_posts += not grace
        self._claim(False, "a POST left without two approvals that stood")

    # ---------------------------------------------------------------------------------- after every run and at the end

    def run_begins(self) -> Before:
        """See one command begin."""
        return look(self.store, self.books)

    def run_ended(self, run: Any, error: BaseException | None, before: Before) -> None:
        """See how one command ended, and hold what it said against the books."""
        run.error = error
        self.runs.append(run)
        wrong = contradiction(run, error, before, self.store, self.books)
        self._claim(not wrong, f"run {run}: {wrong}; it said: {error}")

    def check_books(self) -> None:
        """Compare everything with the provider's books."""
        paid_by_automation = self.ledger.paid_by_automation
        by_hand = [one for one in self.books.transfers if one.by_hand]
        standing = [one for one in by_hand if not one.shown["reversed"]]
        total = len(standing) + paid_by_automation
        by = f"{len(standing)} by hand, {paid_by_automation} by the automation"
        self._claim(total <= 1, f"the payout was paid {total} times: {by}")
        ours: list[Transfer | Reversal] = [*by_hand, *(one for one in self.books.reversals if one.key)]
        for one in ours:
            self._claim(one.key not in self.refused, f"money moved under {one.key}, which was recorded as refused")
            fine = one.run is None or one.run.error is None or not isinstance(one.run.error, RefusedError)
            self._claim(fine, f"run {one.run} moved money and said: {one.run.error}")
            told = one.run.error is None or isinstance(one.run.error, UnknownOutcomeError) or one.run.crashed
            self._claim(told, f"run {one.run} moved money and said: {one.run.error}")
        self._check_reversals()
        for row in self.store.rows.values():
            if row.state is State.PAID:
                exists = any(one.shown["id"] == row.stripe_transfer_id for one in self.books.transfers)
                self._claim(exists, "a row says paid, and the books have no such transfer")
        self._claim(not self.store.check_chains(), "a journal's chain is broken")
        self._attempts_are_told()

    def check_settled(self, stuck: Callable[[], str]) -> None:
        """After the calm phase, every row has an outcome and every transfer its row."""
        for row in self.store.rows.values():
            self._claim(row.state not in OPEN, f"a row stays {row.state} ({row.outcome_reason}): {stuck()}")
        for one in self.books.transfers:
            owner = next((row for row in self.store.rows.values() if row.stripe_transfer_id == one.shown["id"]), None)
            state = State.PARTLY_REVERSED if one.shown["amount_reversed"] else State.PAID
            state = State.REVERSED if one.shown["reversed"] else state
            fine = owner is None if not one.by_hand else owner is not None and owner.state is state
            self._claim(fine, f"{one.shown['id']} has no row that says {state}, but {owner and owner.state}")

    def check_reversals_settled(self, stuck: Callable[[], str]) -> None:
        """After the calm phase, every reversal's row has an outcome, and every reversal of ours its row and its event."""
        for row in self.store.reversals.values():
            self._claim(row.state not in OPEN, f"a reversal stays {row.state} ({row.outcome_reason}): {stuck()}")
        for one in self.books.reversals:
            if not one.key:
                continue
            owner = self.store.reversals.get(one.shown["metadata"]["line_id"])
            fine = owner is not None and owner.state is State.REVERSED and owner.stripe_id == one.shown["id"]
            self._claim(fine, f"{one.shown['id']} has no row that says reversed")
            assert owner is not None
            chain = self.store.events[stream_of(owner.incident_id, owner.ledger_payout_id)]
            told = [
                e for e in chain if e.kind == "outcome_reversed" and e.data["stripe_reversal_id"] == one.shown["id"]
            ]
            self._claim(len(told) == 1, f"{one.shown['id']} has {len(told)} events")

    def _check_reversals(self) -> None:
        """A request takes back once what its approvers saw, on top of what they saw had come back."""
        seen = set()
        for one in self.books.reversals:
            if not one.key:
                continue
            amount, transfer_id, before, line_id = self.filed[one.shown["metadata"]["request_id"]]
            self._claim(line_id not in seen, "one approved request was reversed twice")
            seen.add(line_id)
            found = (one.shown["amount"], one.shown["transfer"], one.shown["metadata"]["line_id"])
            self._claim(found == (amount, transfer_id, line_id), "something else was reversed than was approved")
            in_dashboard = any(not other.key for other in self.books.reversals)
            self._claim(in_dashboard or one.before == before, "more had come back than the approvers saw")
        for transfer in self.books.transfers:
            back = sum(x.shown["amount"] for x in self.books.reversals if x.shown["transfer"] == transfer.shown["id"])
            self._claim(back <= transfer.shown["amount"], "more came back than was sent")
        for row in self.store.reversals.values():
            if row.state is State.REVERSED:
                exists = any(one.shown["id"] == row.stripe_id for one in self.books.reversals)
                self._claim(exists, "a row says reversed, and the books have no such reversal")

    def _attempts_are_told(self) -> None:
        told = {
            event.data["idempotency_key"]
            for chain in self.store.events.values()
            for event in chain
            if event.kind == "intent_recorded"
        }
        self._claim(told == set(self.store.attempts), "an attempt has no event")
        posted = {post.key for post in self.books.posts}
        sending = {
            event.data["idempotency_key"]
            for chain in self.store.events.values()
            for event in chain
            if event.kind == "sending"
        }
        self._claim(posted <= sending, "a POST has no event")

    def _claim(self, holds: bool, otherwise: str) -> None:  # noqa: FBT001  # the verdict
        if not holds:
            raise Violation(otherwise)
