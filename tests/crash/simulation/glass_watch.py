"""
What must hold of a night with one approval; from what people did, from the rows and from the provider's books.

That a request leaves is one moment: the commit of the fence before it. Between that and the socket nothing can be asked
any more, and `breakglass.stop` does not claim it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from manual_payout.models import Declaration, Event, PayoutRecord, Record, Request, Team, stream_of

from .memory_store import MemoryStore
from .world import Violation


@dataclass
class GlassWatch:
    """
    The invariants of one night with one approval, and what people did in it.

    Attributes:
        declared: Every declaration that its declarer made.

        paged: By declaration: when the page to its owner arrived.

        stopped: By request: how many events its journal had when the owner's no was on record.

        reviewed: The transfers, by id at Stripe, that somebody of the missing team has looked at.

        sent_alone: How many POSTs left with one approval.
    """

    store: MemoryStore
    declared: list[Declaration] = field(default_factory=list)
    paged: dict[str, datetime] = field(default_factory=dict)
    stopped: dict[str, int] = field(default_factory=dict)
    reviewed: set[str] = field(default_factory=set)
    sent_alone: int = 0

    def forbids(self, row: Record, run: Any, at: datetime, grace: timedelta) -> str:
        """Say why one approval was not enough for what *run* sent, having last confirmed its right at *at*; else nothing."""
        if not isinstance(row, PayoutRecord):
            return "money was taken back"
        policy, amount = run.policy, row.amount
        if not policy.enabled:
            return "the policy had it off"
        if amount.amount_minor > policy.amount_minor_max.get(amount.currency, 0):
            return "it was above the policy's cap"
        if self._stopped_before(row):
            return "the owner had stopped it"
        if not _marked(row, self._intent(row)):
            return "row or journal do not say so"
        request = self.store.requests[row.request_id][0]
        ours = [one for one in self.declared if one.request_id == row.request_id]
        reasons = [self._fault(one, request, row, policy.hold_s, at, grace) for one in ours]
        self.sent_alone += "" in reasons
        return min(reasons, default="nobody had declared it")

    def check_marks(self) -> None:
        """Whatever was begun is marked where it was begun with one approval, and whoever a row names did approve it."""
        for row in self.store.rows.values():
            named = ((Team.PAYMENTS_OPS, row.approved_by_payments_ops), (Team.FINANCE, row.approved_by_finance))
            given = {(one.team, one.approver_id) for one in self.store.approvals.get(row.request_id, ())}
            self.claim(any(who for _, who in named), "a row names nobody who approved it")
            self.claim(all(one in given for one in named if one[1]), "a row names somebody who did not approve it")
            intent = self._intent(row)
            alone = row.unapproved_by is not None
            fine = alone is ("break_glass" in intent.data) is (len(intent.data["approval_ids"]) == 1)
            self.claim(fine, "row and journal differ on how many approved")

    def claim(self, holds: bool, otherwise: str) -> None:  # noqa: FBT001  # the verdict
        """End the night where something does not hold."""
        if not holds:
            raise Violation(otherwise)

    def _fault(
        self, declared: Declaration, request: Request, row: PayoutRecord, hold_s: int, at: datetime, grace: timedelta
    ) -> str:
        """Say what one declaration lacks."""
        given = self.store.approvals.get(row.request_id, ())
        own = next((one for one in given if one.approval_id == declared.approval_id), None)
        paged = self.paged.get(declared.declaration_id)
        people = Counter((declared.declarer_id, declared.owner_id, request.requested_by, row.operator_id))
        if own is None or (own.approver_id, own.team) != (declared.declarer_id, declared.missing.other):
            return "the declarer had not approved"
        if not own.approved_at <= declared.declared_at <= at < min(own.expires_at, declared.expires_at) + grace:
            return "declaration or approval had ended"
        if max(people.values()) > 1:
            return "one person had two parts in it"
        if paged is None or at < paged + timedelta(seconds=max(hold_s, declared.hold_s)):
            return "the owner had not had the time of the hold"
        return "it was above the declared cap" if row.amount.amount_minor > declared.limit_minor else ""

    def _stopped_before(self, row: PayoutRecord) -> bool:
        """Whether the owner's no was on record when the right to send was last confirmed."""
        stopped, chain = self.stopped.get(row.request_id), self._chain(row)
        fences = [
            n
            for n, event in enumerate(chain)
            if event.kind == "sending" and event.data["idempotency_key"] == row.idempotency_key
        ]
        return stopped is not None and bool(fences) and fences[-1] >= stopped

    def _intent(self, row: PayoutRecord) -> Event:
        return next(
            event
            for event in reversed(self._chain(row))
            if event.kind == "intent_recorded" and event.data["idempotency_key"] == row.idempotency_key
        )

    def _chain(self, row: PayoutRecord) -> list[Event]:
        return self.store.events[stream_of(row.incident_id, row.ledger_payout_id)]


def _marked(row: PayoutRecord, intent: Event) -> bool:
    names_one = bool(row.approved_by_payments_ops) != bool(row.approved_by_finance)
    return names_one and bool(intent.data.get("break_glass")) and len(intent.data["approval_ids"]) == 1
