"""
What must hold, seen from the provider's books and from every row as it is committed; never from what the code says.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from manual_payout.errors import RefusedError, UnknownOutcomeError
from manual_payout.models import LIVE_STATES, PayoutRecord, State, Team, stream_of
from manual_payout.transfer.delivery import TRIES_MAX

from .memory_ledger import MemoryLedger
from .memory_store import MemoryStore
from .stripe_books import Books, Post
from .world import Violation, World

# The design's own number, written out here: a core that stretches its window must not stretch this one.
WINDOW = timedelta(hours=23)

# A sender judges the approvals before each right to send, and holds that right for one lease per try.
LEASE = timedelta(seconds=128)
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
}


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
        self.filed: dict[str, tuple[int, str, str]] = {}
        self.late_posts = 0
        world.watch_commit = self.commit
        books.watch_post = self.post

    # ---------------------------------------------------------------------------------- at every commit

    def commit(self, before: PayoutRecord | None, after: PayoutRecord) -> None:
        """See one row change."""
        was = before.state if before is not None else None
        self._claim(after.state in EDGES[was], f"a row went from {was} to {after.state}")
        live = [row for row in self.store.rows.values() if row.state in LIVE_STATES]
        self._claim(len(live) <= 1, "two rows of one ledger payout are live")
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
        if before.stripe_transfer_id is not None:
            self._claim(after.stripe_transfer_id == before.stripe_transfer_id, "a transfer on record was replaced")
        now, key = self.world.now(), after.idempotency_key
        event = self.store.events[stream_of(after.incident_id, after.ledger_payout_id)][-1]
        if event.kind == "sending":
            first, _ = self.fenced.get(key, (now, None))
            self.fenced[key] = (first, now)
        if after.state is State.REFUSED:
            self.refused[key] = now
            decided = event.data["code"] == "decided_not_moved"
            early = decided and (key not in self.fenced or now < self.fenced[key][0] + WINDOW)
            self._claim(not early, "a person decided while the key was inside its window")

    # ---------------------------------------------------------------------------------- at every POST

    def post(self, post: Post, payload: dict[str, Any]) -> None:
        """See one POST reach the provider."""
        row = next((row for row in self.store.rows.values() if row.idempotency_key == post.key), None)
        self._claim(post.key in self.store.attempts, "a POST left without a committed intent")
        self._claim(row is not None, "a POST left for an attempt that is over")
        assert row is not None
        self._claim(post.key in self.fenced, "a POST left without having been announced")
        first, latest = self.fenced[post.key]
        self._claim(row.sent, "a POST left from a row that does not say so")
        self._claim(latest < first + WINDOW, "a POST left after the key's window")
        self._claim(json.loads(row.payload) == payload, "a POST carried something else than the intent")
        amount, currency, destination = self.filed[row.request_id]
        sent = (payload["amount"], payload["currency"], payload["destination"])
        self._claim(sent == (amount, currency, destination), "a POST carried something else than was approved")
        self._approved(row, latest)

    def _approved(self, row: PayoutRecord, at: datetime) -> None:
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

    def run_ended(self, run: Any, error: BaseException | None) -> None:
        """See how one command ended."""
        run.error = error
        self.runs.append(run)

    def check_books(self) -> None:
        """Compare everything with the provider's books."""
        paid_by_automation = self.ledger.paid_by_automation
        standing = [one for one in self.books.transfers if not one.shown["reversed"]]
        total = len(standing) + paid_by_automation
        by = f"{len(standing)} by hand, {paid_by_automation} by the automation"
        self._claim(total <= 1, f"the payout was paid {total} times: {by}")
        for one in self.books.transfers:
            self._claim(
                one.key not in self.refused, f"a transfer exists under {one.key}, which was recorded as refused"
            )
            fine = one.run is None or one.run.error is None or not isinstance(one.run.error, RefusedError)
            self._claim(fine, f"run {one.run} moved money and said: {one.run.error}")
            told = one.run.error is None or isinstance(one.run.error, UnknownOutcomeError) or one.run.crashed
            self._claim(told, f"run {one.run} moved money and said: {one.run.error}")
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
            self._claim(owner is not None and owner.state is State.PAID, f"{one.shown['id']} has no row that says paid")

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
