"""
The store in memory, with a place to fail before and after every commit.

It keeps the promises of `manual_payout.database.store.Store`: each writing method happens whole or not at all, rows are written
by compare-and-set, and the constraints of the tables are the database's. A property test compares the two.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Collection
from copy import copy
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.exc import IntegrityError

from manual_payout.domain.errors import ApprovalError, ClaimError, DatabaseError, EvidenceError
from manual_payout.domain.models import (
    LIVE_STATES,
    OPEN_STATES,
    Approval,
    Event,
    Kind,
    Mode,
    PayoutRecord,
    R,
    Record,
    Request,
    ReversalRecord,
    State,
    stream_of,
)


@dataclass(slots=True)
class Attempt:
    """One key, as the tables of attempts have it."""

    line_id: str
    attempt_no: int
    created_at: datetime
    outcome: State | None = None


class Hooks:
    """What happens around the store's work; the world of a scenario overrides it."""

    def step(self, boundary: str) -> None:
        """Pass a boundary: the place to crash, to pause, or to fail with a DatabaseError."""

    def committed(self, before: Record | None, after: Record) -> None:
        """See the row of a payout or of a reversal change."""


@dataclass(frozen=True, slots=True)
class Guards:
    """What the database itself ensures; a planted defect switches one off."""

    unique_live: bool = True
    unique_open_reversal: bool = True
    fence: bool = True
    fences_reversals: bool = True
    lease: bool = True
    keeps_sent: bool = True


class MemoryStore:
    """
    Our database.

    Args:
        clock: Whose instants are recorded.

        hooks: Told of every boundary.
    """

    def __init__(self, clock: Any, hooks: Hooks, guards: Guards = Guards()) -> None:  # frozen
        self.clock = clock
        self.hooks = hooks
        self.guards = guards
        self.requests: dict[str, tuple[Request, str, bool]] = {}
        self.approvals: dict[str, list[Approval]] = {}
        self.rows: dict[str, PayoutRecord] = {}
        self.reversals: dict[str, ReversalRecord] = {}
        self.approval_ids: dict[str, tuple[str, str]] = {}
        self.attempts: dict[str, Attempt] = {}
        self.events: dict[str, list[Event]] = {}

    def clone(self, clock: Any, hooks: Hooks, guards: Guards) -> MemoryStore:
        """Return a copy that goes its own way."""
        other = MemoryStore(clock, hooks, guards)
        other.requests = dict(self.requests)
        other.approvals = {name: list(given) for name, given in self.approvals.items()}
        other.rows, other.approval_ids = dict(self.rows), dict(self.approval_ids)
        other.reversals = dict(self.reversals)
        other.attempts = {key: copy(attempt) for key, attempt in self.attempts.items()}
        other.events = {name: list(chain) for name, chain in self.events.items()}
        return other

    # ---------------------------------------------------------------------------------- requests and approvals

    def record_request(self, request: Request) -> None:
        streams = [stream_of(request.incident_id, line.ledger_payout_id) for line in request.lines]
        self.hooks.step("record_request:before")
        if request.replaces:
            self._require_nothing_under_way(request.replaces)
        if self._request_conflicts(request):
            raise ClaimError(
                f"The same request for {request.incident_id} was filed a moment ago.",
                "Run the same command again; it returns the request on record.",
            )
        self.requests[request.request_id] = (request, request.digest, True)
        for stream in streams:
            if request.replaces:
                self._append(stream, "request_withdrawn", request.requested_by, {"request_id": request.replaces})
            told = {
                "request_id": request.request_id, "digest": request.digest, "statement": request.statement(),
                "signature": request.signature,
            }  # fmt: skip
            self._append(stream, "request_filed", request.requested_by, told)
        self.hooks.step("record_request:after")

    def find_request(
        self, incident_id: str, ledger_payout_id: str | None = None, *, kind: Kind = Kind.TRANSFER
    ) -> Request | None:
        self.hooks.step("find_request")
        now = self.clock.now()
        found = [
            self._checked(request_id)
            for request_id, (request, _, _) in self.requests.items()
            if (request.incident_id, request.kind) == (incident_id, kind)
            and (ledger_payout_id is None or any(x.ledger_payout_id == ledger_payout_id for x in request.lines))
        ]
        standing = [request for request in self._newest_first(found) if not self._withdrawn(request)]
        return min(standing, key=lambda request: now >= request.expires_at, default=None)

    def open_requests(self, incident_id: str | None = None) -> list[Request]:
        self.hooks.step("find_request")
        now = self.clock.now()
        found = [
            self._checked(request_id)
            for request_id, (request, _, _) in self.requests.items()
            if request.expires_at > now and incident_id in (None, request.incident_id)
        ]
        return [request for request in self._newest_first(found) if not self._withdrawn(request)]

    def get_request(self, request_id: str) -> Request:
        self.hooks.step("get_request")
        if request_id not in self.requests:
            raise EvidenceError(
                f"There is no request {request_id}.", "Use the request id that `manual-payout request` printed."
            )
        return self._checked(request_id)

    def is_withdrawn(self, request: Request) -> bool:
        self.hooks.step("is_withdrawn")
        return self._withdrawn(request)

    def record_approval(self, approval: Approval, request: Request) -> None:
        self.hooks.step("record_approval:before")
        given = [one for several in self.approvals.values() for one in several]
        if any(approval.approval_id == one.approval_id or approval.nonce == one.nonce for one in given) or (
            approval.request_id not in self.requests
        ):
            raise ApprovalError(
                "This approval was given a moment ago.", "Run `manual-payout status`; one person counts once."
            )
        self.approvals.setdefault(approval.request_id, []).append(approval)
        for line in request.lines:
            stream = stream_of(request.incident_id, line.ledger_payout_id)
            self._append(stream, "approved", approval.approver_id, approval.told())
        self.hooks.step("record_approval:after")

    def approvals_of(self, request_id: str) -> list[Approval]:
        self.hooks.step("approvals_of")
        given = sorted(self.approvals.get(request_id, ()), key=lambda a: a.approval_id)
        given.sort(key=lambda a: a.team.value, reverse=True)
        given.sort(key=lambda a: a.approved_at)
        return given

    # ---------------------------------------------------------------------------------- journal

    def record_event(self, stream: str, kind: str, actor: str, data: dict[str, Any]) -> Event:
        self.hooks.step("record_event:before")
        event = self._append(stream, kind, actor, data)
        self.hooks.step("record_event:after")
        return event

    def events_of(self, stream: str) -> list[Event]:
        self.hooks.step("events_of")
        return list(self.events.get(stream, ()))

    def find_event(
        self, stream: str, kind: str, matches: Callable[[dict[str, Any]], bool] = lambda _: True
    ) -> Event | None:
        self.hooks.step("events_of")
        chain = self.events.get(stream, ())
        return next((e for e in reversed(chain) if e.kind == kind and matches(e.data)), None)

    # ---------------------------------------------------------------------------------- payout records

    def find_payout(self, payout_id: str) -> PayoutRecord | None:
        self.hooks.step("find_payout")
        return self.rows.get(payout_id)

    def find_live_payout(self, ledger_payout_id: str, mode: Mode) -> PayoutRecord | None:
        self.hooks.step("find_live_payout")
        return next(
            (
                row
                for row in self.rows.values()
                if row.ledger_payout_id == ledger_payout_id and row.mode is mode and row.state in LIVE_STATES
            ),
            None,
        )

    def payouts_of(self, **wanted: str) -> list[PayoutRecord]:
        self.hooks.step("payouts_of")
        found = [
            row for row in self.rows.values() if all(getattr(row, name) == value for name, value in wanted.items())
        ]
        found.sort(key=lambda row: row.payout_id)
        found.sort(key=lambda row: row.created_at, reverse=True)
        return found

    def known_transfers(self, transfer_ids: Collection[str]) -> set[str]:
        self.hooks.step("known_transfers")
        return {row.stripe_transfer_id for row in self.rows.values() if row.stripe_transfer_id in transfer_ids}

    def open_lines(self, line_ids: Collection[str]) -> set[str]:
        self.hooks.step("open_lines")
        return {
            row.payout_id
            for row in self.rows.values()
            if row.payout_id in line_ids and row.state in OPEN_STATES and row.stripe_transfer_id is None
        }

    def paid_by_hand(self, mode: Mode, ledger_payout_ids: Collection[str]) -> set[str]:
        self.hooks.step("paid_by_hand")
        return {
            row.ledger_payout_id
            for row in self.rows.values()
            if row.ledger_payout_id in ledger_payout_ids
            and row.mode is mode
            and row.state in (State.PAID, State.PARTLY_REVERSED)
        }

    def find_reversal(self, reversal_id: str) -> ReversalRecord | None:
        self.hooks.step("find_reversal")
        return self.reversals.get(reversal_id)

    def find_open_reversal(self, stripe_transfer_id: str) -> ReversalRecord | None:
        self.hooks.step("find_open_reversal")
        return next((row for row in self._reversals_of(stripe_transfer_id) if row.state in OPEN_STATES), None)

    def reversals_of(self, **wanted: str) -> list[ReversalRecord]:
        self.hooks.step("reversals_of")
        found = [
            row for row in self.reversals.values() if all(getattr(row, name) == value for name, value in wanted.items())
        ]
        found.sort(key=lambda row: row.reversal_id)
        found.sort(key=lambda row: row.created_at, reverse=True)
        return found

    def record_reversed(self, record: PayoutRecord, reversed_minor: int, *, actor: str) -> PayoutRecord:
        self.hooks.step("record_reversed:before")
        present = self._present(record)
        told = next(
            (e.data for e in reversed(self.events.get(_stream(present), ())) if e.kind == "payout_reversed"), None
        )
        known = {
            "state": present.state.value,
            "stripe_transfer_id": present.stripe_transfer_id,
            "reversed_minor": reversed_minor,
        }
        if told is None or not known.items() <= told.items():
            self._mark_reversed(record, reversed_minor, actor)
        self.hooks.step("record_reversed:after")
        return self._present(record)

    def began_at(self, record: Record) -> datetime:
        self.hooks.step("began_at")
        if record.idempotency_key not in self.attempts:
            raise _no_row()
        return self.attempts[record.idempotency_key].created_at

    def dead_claims(self, ledger_payout_id: str) -> list[str]:
        self.hooks.step("dead_claims")
        now = self.clock.now()
        found = sorted(
            (request.filed_at, line.line_id, request)
            for request, _, _ in self.requests.values()
            for line in request.lines
            if line.ledger_payout_id == ledger_payout_id and request.kind is Kind.TRANSFER
        )
        dead = []
        for _, line_id, request in found:
            row = self.rows.get(line_id)
            if (row is not None and row.state in (State.REFUSED, State.REVERSED)) or (
                row is None and (request.expires_at <= now or self._withdrawn(request, ledger_payout_id))
            ):
                dead.append(line_id)
        return dead

    # ---------------------------------------------------------------------------------- sendings

    def record_intent(
        self,
        record: R,
        approval_ids: tuple[str, str],
        *,
        lease_s: float,
        not_after: datetime,
        override: dict[str, Any] | None = None,
        rules: dict[str, Any] | None = None,
    ) -> R:
        self.hooks.step("record_intent:before")
        now, stream = self.clock.now(), _stream(record)
        events = self.events.get(stream, ())
        if any(e.kind == "request_withdrawn" and e.data["request_id"] == record.request_id for e in events):
            raise ApprovalError(f"Request {record.request_id} was withdrawn.", "Run the one that replaced it.")
        if now >= not_after:
            raise ApprovalError(
                "This run paused for so long that what it verified and the approvals no longer count.",
                "Run the same command again; it verifies afresh.",
            )
        record = replace(record, created_at=now, lease_until=now + timedelta(seconds=lease_s))
        before = self._find(record)
        if record.attempt_no != 1 and not (
            before is not None
            and before.state is State.REFUSED
            and before.attempt_no == record.attempt_no - 1
            and before.fence == record.fence - 1
        ):
            raise ClaimError(
                f"Another run has begun attempt {record.attempt_no} of {record.ledger_payout_id}.",
                "Run `manual-payout status` to see who.",
            )
        if (record.attempt_no == 1 and before is not None) or self._row_conflicts(record, approval_ids):
            raise self._lost_to(record)
        if before is not None:
            record = replace(record, created_at=before.created_at)
        self._put(record)
        self.approval_ids[record.line_id] = approval_ids
        self.attempts[record.idempotency_key] = Attempt(record.line_id, record.attempt_no, now)
        if override is not None:
            told = override | {"attempt_no": record.attempt_no}
            self._append(stream, "rehearsal_overridden", record.operator_id, told)
        data = _named(record) | {
            "attempt_no": record.attempt_no,
            "idempotency_key": record.idempotency_key,
            "payload": record.payload,
            "owner": record.owner,
            "fence": record.fence,
            "approval_ids": list(approval_ids),
            "rules": rules,
        }
        self._append(stream, "intent_recorded", record.operator_id, data)
        self.hooks.committed(before, record)
        self.hooks.step("record_intent:after")
        return record

    def take_over(self, record: R, *, owner: str, operator_id: str, lease_s: float) -> R:
        self.hooks.step("take_over:before")
        now, present = self.clock.now(), self._present(record)
        if (
            present.fence == record.fence
            and present.state is record.state
            and present.state in OPEN_STATES
            and (present.lease_until is None or present.lease_until <= now or not self.guards.lease)
        ):
            after = replace(
                present,
                owner=owner,
                operator_id=operator_id,
                lease_until=now + timedelta(seconds=lease_s),
                fence=record.fence + 1,
            )
            data = {"from": record.owner, "to": owner, "fence": after.fence}
            return self._change("take_over", present, after, ("sending_taken_over", operator_id, data))
        until = f" until {present.lease_until:%H:%M:%S} UTC" if present.lease_until else ""
        raise ClaimError(
            f"The sending of {record.ledger_payout_id} is {present.state}, in the hands of {present.owner}{until}.",
            "Wait until then and run the same command again; if it is your own interrupted run, it continues.",
        )

    def mark_sent(self, record: R, *, lease_s: float, window: timedelta) -> R:
        self.hooks.step("mark_sent:before")
        now = self.clock.now()
        present = self._find(record)
        if present is not None and (not self._fences(record) or self._holds(present, record, now, window)):
            after = replace(
                present,
                sent=self.guards.keeps_sent,
                first_sent_at=present.first_sent_at or now,
                lease_until=now + timedelta(seconds=lease_s),
            )
            data = {
                "idempotency_key": record.idempotency_key,
                "attempt_no": record.attempt_no,
                "owner": record.owner,
                "fence": record.fence,
            }
            return self._change("mark_sent", present, after, ("sending", record.operator_id, data))
        raise ClaimError(
            f"This run lost the right to send {record.ledger_payout_id}: it paused too long, or another run took over.",
            "Run `manual-payout status`, then the same command again.",
        )

    def record_outcome(
        self,
        record: R,
        state: State,
        reason: str,
        *,
        actor: str,
        made: dict[str, Any] | None = None,
        made_text: str | None = None,
        reversed_minor: int | None = None,
        code: str = "",
        request_id: str = "",
    ) -> R:
        self.hooks.step("record_outcome:before")
        now, present = self.clock.now(), self._present(record)
        if present.attempt_no == record.attempt_no and _may_end(present, record, state, made):
            known = _known(record, made, made_text) if made is not None else {}
            after = replace(present, state=state, outcome_reason=reason, outcome_at=now, lease_until=now, **known)
            self._check_constraints(after)
            if record.idempotency_key in self.attempts:
                self.attempts[record.idempotency_key].outcome = state
            data = {"state": state.value, "reason": reason, "code": code, "stripe_request_id": request_id}
            if after.stripe_id is not None:
                data[f"stripe_{record.noun}_id"] = after.stripe_id
            told = (f"outcome_{state.value}", actor, data)
            theirs = self._payout_of(record) if reversed_minor is not None else None
            if theirs is None or reversed_minor is None:
                return self._change("record_outcome", present, after, told)
            back = (theirs, reversed_minor, actor)
            return self._change(
                "record_outcome", present, after, told, lambda: self._mark_reversed(*back, approved=True)
            )
        if made is not None and present.stripe_id == made["id"] and present.state is state:
            return present
        raise ClaimError(
            f"The payout {record.ledger_payout_id} was settled or taken over by another run in the meantime: "
            f"it is {present.state}, by {present.owner}.",
            "Run `manual-payout status` to see how.",
        )

    # ---------------------------------------------------------------------------------- inside

    def check_chains(self) -> str:
        """Return the name of a journal whose chain is broken, or nothing."""
        for stream, chain in self.events.items():
            previous = ""
            for number, event in enumerate(chain, start=1):
                if (event.seq, event.previous) != (number, previous) or event.digest != _digest(event):
                    return stream
                previous = event.digest
        return ""

    def _change(
        self, name: str, before: R, after: R, event: tuple[str, str, dict[str, Any]],
        beside: Callable[[], None] = lambda: None,
    ) -> R:  # fmt: skip
        self._put(after)
        self._append(_stream(after), *event)
        self.hooks.committed(before, after)
        beside()
        self.hooks.step(f"{name}:after")
        return after

    def _find(self, record: R) -> R | None:
        return self._table(record).get(record.line_id)

    def _put(self, record: Record) -> None:
        self._table(record)[record.line_id] = record

    def _table(self, record: Record) -> dict[str, Any]:
        return self.reversals if isinstance(record, ReversalRecord) else self.rows

    def _fences(self, record: Record) -> bool:
        return self.guards.fence and (self.guards.fences_reversals or isinstance(record, PayoutRecord))

    def _mark_reversed(self, record: PayoutRecord, reversed_minor: int, actor: str, *, approved: bool = False) -> None:
        present = self._present(record)
        made_minor = json.loads(record.transfer)["amount"] if record.transfer else record.amount.amount_minor
        state = State.REVERSED if reversed_minor >= made_minor else State.PARTLY_REVERSED
        reversible = (*OPEN_STATES, State.PAID, State.PARTLY_REVERSED)
        if present.state not in reversible or present.stripe_transfer_id != record.stripe_transfer_id:
            return
        after = replace(present, state=state)
        if after.state in LIVE_STATES and self._other_is_live(after):
            raise _constraint("uq_manual_payouts_live")
        self._put(after)
        data = {
            "state": state.value,
            "stripe_transfer_id": record.stripe_transfer_id,
            "reversed_minor": reversed_minor,
        }
        if approved and state is State.REVERSED:
            data["told"] = "taken back"
        self._append(_stream(after), "payout_reversed", actor, data)
        self.hooks.committed(present, after)

    def _payout_of(self, record: Record) -> PayoutRecord | None:
        return next((row for row in self.rows.values() if row.stripe_transfer_id == record.stripe_transfer_id), None)

    def _reversals_of(self, stripe_transfer_id: str) -> list[ReversalRecord]:
        return [row for row in self.reversals.values() if row.stripe_transfer_id == stripe_transfer_id]

    def _require_nothing_under_way(self, request_id: str) -> None:
        for what, table, states in (
            ("payout", self.rows, LIVE_STATES), ("reversal", self.reversals, (*OPEN_STATES, State.REVERSED)),
        ):  # fmt: skip
            begun = next((r for r in table.values() if r.request_id == request_id and r.state in states), None)
            if begun is not None:
                raise ClaimError(
                    f"Request {request_id} cannot be replaced: its {what} is {begun.state}, by {begun.owner}.",
                    "Run `manual-payout status`.",
                )

    def _check_constraints(self, after: Record) -> None:
        if after.stripe_id is None and after.state is (
            State.REVERSED if isinstance(after, ReversalRecord) else State.PAID
        ):
            raise _constraint("paid_names_its_transfer or reversed_names_its_reversal")
        if self._excluded(after):
            raise _constraint("uq_manual_payouts_live or uq_manual_reversals_open")
        if after.stripe_id is not None and any(
            row.stripe_id == after.stripe_id and row.line_id != after.line_id for row in self._table(after).values()
        ):
            raise _constraint("stripe_transfer_id or stripe_reversal_id")

    def _excluded(self, record: Record) -> bool:
        """Whether a partial unique index has the place of this row taken by another one."""
        if isinstance(record, PayoutRecord):
            return record.state in LIVE_STATES and self._other_is_live(record)
        return (
            self.guards.unique_open_reversal
            and record.state in OPEN_STATES
            and any(
                other.state in OPEN_STATES and other.line_id != record.line_id
                for other in self._reversals_of(record.stripe_transfer_id)
            )
        )

    def _append(self, stream: str, kind: str, actor: str, data: dict[str, Any]) -> Event:
        chain = self.events.setdefault(stream, [])
        previous = chain[-1].digest if chain else ""
        event = Event(stream, len(chain) + 1, kind, self.clock.now(), actor, data, previous)
        event = Event(stream, event.seq, kind, event.at, actor, data, previous, _digest(event))
        chain.append(event)
        return event

    def _checked(self, request_id: str) -> Request:
        request, digest, as_filed = self.requests[request_id]
        # Taking a digest costs more than all the rest of a read; only what somebody has altered needs it.
        if not as_filed and request.digest != digest:
            raise EvidenceError(
                f"Request {request_id} was altered after it was filed: its digest no longer fits.",
                "Stop, keep the database as it is and call Security; file a new request.",
            )
        return request

    def _newest_first(self, found: list[Request]) -> list[Request]:
        if len(found) > 1:
            found.sort(key=lambda request: request.request_id)
            found.sort(key=lambda request: (request.filed_at, self._filed_as(request)), reverse=True)
        return found

    def _filed_as(self, request: Request) -> int:
        chain = self.events.get(stream_of(request.incident_id, request.lines[0].ledger_payout_id), ())
        told = (e.seq for e in chain if e.kind == "request_filed" and e.data["request_id"] == request.request_id)
        return next(told, 0)

    def _withdrawn(self, request: Request, ledger_payout_id: str = "") -> bool:
        stream = stream_of(request.incident_id, ledger_payout_id or request.lines[0].ledger_payout_id)
        chain = self.events.get(stream, ())
        return any(e.kind == "request_withdrawn" and e.data["request_id"] == request.request_id for e in chain)

    def _request_conflicts(self, request: Request) -> bool:
        lines = {line.line_id for line in request.lines}
        return any(
            other.request_id == request.request_id
            or other.nonce == request.nonce
            or digest == request.digest
            or not lines.isdisjoint(line.line_id for line in other.lines)
            for other, digest, _ in self.requests.values()
        )

    def _row_conflicts(self, record: Record, approval_ids: tuple[str, str]) -> bool:
        if not any(
            record.line_id == line.line_id for request, _, _ in self.requests.values() for line in request.lines
        ):
            return True
        if record.idempotency_key in self.attempts or self._excluded(record):
            return True
        for line_id in self._table(record):
            if line_id == record.line_id:
                continue
            theirs = self.approval_ids[line_id]
            if theirs[0] == approval_ids[0] or theirs[1] == approval_ids[1]:
                return True
        return False

    def _other_is_live(self, record: PayoutRecord) -> bool:
        return self.guards.unique_live and any(
            other.payout_id != record.payout_id
            and other.state in LIVE_STATES
            and (other.mode, other.ledger_payout_id) == (record.mode, record.ledger_payout_id)
            for other in self.rows.values()
        )

    def _holds(self, present: Record, record: Record, now: datetime, window: timedelta) -> bool:
        return (
            present.owner == record.owner
            and present.fence == record.fence
            and present.attempt_no == record.attempt_no
            and present.lease_until is not None
            and present.lease_until > now
            and present.state in OPEN_STATES
            and present.stripe_id is None
            and (present.first_sent_at is None or present.first_sent_at > now - window)
        )

    def _present(self, record: R) -> R:
        found = self._find(record)
        if found is None:
            raise _no_row()
        return found

    def _lost_to(self, record: Record) -> ClaimError:
        if isinstance(record, ReversalRecord):
            return self._reversal_lost_to(record)
        other = self.find_live_payout(record.ledger_payout_id, record.mode)
        if other is None:
            return ClaimError(
                f"The database refuses a payout record for {record.ledger_payout_id}: its key or its approvals stand "
                "under another one.",
                "Run `manual-payout status`; have the request filed and approved again.",
            )
        return ClaimError(
            f"Ledger payout {record.ledger_payout_id} already has a manual payout: {other.incident_id}, {other.state} "
            f"since {other.created_at:%Y-%m-%d %H:%M:%S} UTC by {other.owner}.",
            "Run `manual-payout status` and leave it to them.",
        )

    def _reversal_lost_to(self, record: ReversalRecord) -> ClaimError:
        other = self.find_open_reversal(record.stripe_transfer_id)
        if other is None:
            return ClaimError(
                f"The database refuses a reversal of {record.stripe_transfer_id}: its key or its approvals stand under "
                "another one.",
                "Run `manual-payout status`; have the reversal requested and approved again.",
            )
        return ClaimError(
            f"{record.stripe_transfer_id} already has a reversal under way: {other.incident_id}, {other.state} since "
            f"{other.created_at:%Y-%m-%d %H:%M:%S} UTC by {other.owner}.",
            "Run `manual-payout status` and leave it to them.",
        )


def _may_end(present: Record, record: Record, state: State, made: dict[str, Any] | None) -> bool:
    if made is not None:
        correctable = present.state in (*OPEN_STATES, State.REFUSED)
        return correctable and present.stripe_id in (None, made["id"])
    holds = present.state in OPEN_STATES and present.fence == record.fence
    return holds and present.stripe_id is None if state is State.REFUSED else holds


def _known(record: Record, made: dict[str, Any], text: str | None) -> dict[str, Any]:
    if isinstance(record, ReversalRecord):
        return {"stripe_reversal_id": made["id"], "reversal": text}
    return {"stripe_transfer_id": made["id"], "transfer": text}


def _named(record: Record) -> dict[str, Any]:
    if isinstance(record, ReversalRecord):
        return {"reversal_id": record.line_id, "stripe_transfer_id": record.stripe_transfer_id}
    return {"payout_id": record.line_id, "transfer_group": record.transfer_group}


def _stream(record: Record) -> str:
    return stream_of(record.incident_id, record.ledger_payout_id)


def _digest(event: Event) -> str:
    # Cheap on purpose: it shows that the chain is kept, not that it cannot be forged.
    return f"{zlib.crc32(f'{event.previous}{event.seq}{event.kind}{event.at.timestamp()}{event.actor}'.encode()):08x}"


def _no_row() -> DatabaseError:
    return DatabaseError("The database refused: No row was found when one was required.", "")


def _constraint(name: str) -> IntegrityError:
    return IntegrityError(f"memory: {name}", None, Exception(name))
