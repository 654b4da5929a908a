"""
Our state: requests, approvals, payout records, attempts, the journal and the outbox.

Every method that writes is one transaction, and the event that tells of the change is in it. No transaction is ever
open while Stripe is called.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from manual_payout import journal
from manual_payout.clock import Clock
from manual_payout.database import database_errors
from manual_payout.errors import ClaimError, DatabaseError, EvidenceError
from manual_payout.models import (
    LIVE_STATES,
    Approval,
    Event,
    Line,
    Message,
    Mode,
    PayoutRecord,
    Reason,
    Request,
    State,
    Team,
    stream_of,
)
from manual_payout.money import Money
from manual_payout.schema import approvals, attempts, manual_payouts, messages, request_lines, requests


class Store:
    """
    Our database.

    Args:
        engine: Of our own tables, migrated.

        clock: Whose instants are recorded.
    """

    def __init__(self, engine: sa.Engine, clock: Clock) -> None:
        self._engine = engine
        self.clock = clock

    # ------------------------------------------------------------------ requests and approvals

    def record_request(self, request: Request, *, replaces: str | None = None) -> None:
        """Write *request* and its lines; with *replaces*, withdraw that request in the same transaction."""
        with self._write() as connection:
            connection.execute(
                requests.insert().values(
                    request_id=request.request_id,
                    incident_id=request.incident_id,
                    kind=request.kind,
                    mode=request.mode.value,
                    platform_account=request.platform_account,
                    requested_by=request.requested_by,
                    reason=request.reason.value,
                    notes=request.notes,
                    nonce=request.nonce,
                    filed_at=request.filed_at,
                    expires_at=request.expires_at,
                    digest=request.digest,
                )
            )
            connection.execute(
                request_lines.insert(),
                [line.statement() | {"request_id": request.request_id} for line in request.lines],
            )
            for line in request.lines:
                stream = stream_of(request.incident_id, line.ledger_payout_id)
                if replaces is not None:
                    self._append(
                        connection, stream, "request_withdrawn", request.requested_by, {"request_id": replaces}
                    )
                self._append(
                    connection,
                    stream,
                    "request_filed",
                    request.requested_by,
                    {"request_id": request.request_id, "digest": request.digest, "statement": request.statement()},
                )

    def find_request(self, incident_id: str, ledger_payout_id: str | None = None) -> Request | None:
        """
        Return the newest request of the incident that has not been withdrawn, or None.

        Args:
            ledger_payout_id: Only a request with this line.

        Raises:
            EvidenceError: What is stored does not have the digest it was filed under.
        """
        query = (
            sa.select(requests)
            .join(request_lines, request_lines.c.request_id == requests.c.request_id)
            .where(requests.c.incident_id == incident_id)
            .order_by(requests.c.filed_at.desc(), requests.c.request_id)
        )
        if ledger_payout_id is not None:
            query = query.where(request_lines.c.ledger_payout_id == ledger_payout_id)
        with self._read() as connection:
            for row in connection.execute(query):
                request = self._request(connection, row)
                if not self._withdrawn(connection, request):
                    return request
        return None

    def open_requests(self, incident_id: str | None = None) -> list[Request]:
        """Return the requests that are neither withdrawn nor expired, newest first."""
        query = sa.select(requests).where(requests.c.expires_at > self.clock.now()).order_by(requests.c.filed_at.desc())
        if incident_id is not None:
            query = query.where(requests.c.incident_id == incident_id)
        with self._read() as connection:
            found = [self._request(connection, row) for row in connection.execute(query).all()]
            return [request for request in found if not self._withdrawn(connection, request)]

    def get_request(self, request_id: str) -> Request:
        """
        Return the request as it was filed.

        Raises:
            EvidenceError: There is none, or what is stored does not have the digest it was filed under.
        """
        with self._read() as connection:
            row = connection.execute(sa.select(requests).where(requests.c.request_id == request_id)).first()
            if row is None:
                raise EvidenceError(
                    f"There is no request {request_id}.", "Use the request id that `manual-payout request` printed."
                )
            return self._request(connection, row)

    def is_withdrawn(self, request: Request) -> bool:
        """Whether *request* has been replaced or withdrawn."""
        with self._read() as connection:
            return self._withdrawn(connection, request)

    def record_approval(self, approval: Approval, request: Request) -> None:
        """Write *approval* and tell the journal of every line of *request*."""
        with self._write() as connection:
            connection.execute(
                approvals.insert().values(
                    approval_id=approval.approval_id,
                    request_id=approval.request_id,
                    request_digest=approval.request_digest,
                    approver_id=approval.approver_id,
                    team=approval.team.value,
                    mode=approval.mode.value,
                    platform_account=approval.platform_account,
                    nonce=approval.nonce,
                    approved_at=approval.approved_at,
                    expires_at=approval.expires_at,
                    statement_digest=approval.statement_digest,
                    signature=approval.signature,
                )
            )
            for line in request.lines:
                self._append(
                    connection,
                    stream_of(request.incident_id, line.ledger_payout_id),
                    "approved",
                    approval.approver_id,
                    {"statement": approval.statement(), "digest": approval.statement_digest},
                )

    def approvals_of(self, request_id: str) -> list[Approval]:
        """Return every approval of the request, oldest first, valid or not."""
        query = sa.select(approvals).where(approvals.c.request_id == request_id).order_by(approvals.c.approved_at)
        with self._read() as connection:
            return [_approval(row) for row in connection.execute(query)]

    # ------------------------------------------------------------------ payout records

    def find_payout(self, payout_id: str) -> PayoutRecord | None:
        """Return the payout record of that line, or None while its sending has not begun."""
        return self._payout(manual_payouts.c.payout_id == payout_id)

    def find_live_payout(self, ledger_payout_id: str, mode: Mode) -> PayoutRecord | None:
        """Return the one live record of the ledger payout, or None."""
        return self._payout(
            (manual_payouts.c.ledger_payout_id == ledger_payout_id)
            & (manual_payouts.c.mode == mode.value)
            & manual_payouts.c.state.in_([state.value for state in LIVE_STATES])
        )

    def payouts_of(self, **wanted: str) -> list[PayoutRecord]:
        """Return payout records, newest first, with the wanted incident_id, ledger_payout_id, studio_id or mode."""
        query = sa.select(manual_payouts).order_by(manual_payouts.c.created_at.desc())
        for name, value in wanted.items():
            query = query.where(manual_payouts.c[name] == value)
        with self._read() as connection:
            return [_payout(row) for row in connection.execute(query)]

    def audit_values(self, payout_id: str) -> dict[str, Any]:
        """Return every column of one payout record as it is stored."""
        with self._read() as connection:
            row = connection.execute(sa.select(manual_payouts).where(manual_payouts.c.payout_id == payout_id)).one()
        return row_values(row)

    def dead_claims(self, ledger_payout_id: str) -> list[str]:
        """Return the line ids whose claim on the ledger payout no longer stands for any money: refused ones."""
        records = self.payouts_of(ledger_payout_id=ledger_payout_id, state=State.REFUSED.value)
        return [record.payout_id for record in records]

    def record_intent(self, record: PayoutRecord, approval_ids: tuple[str, str], *, lease_s: float) -> PayoutRecord:
        """
        Commit the intent to send, before anything is sent: the row, its attempt and its event.

        A row that Stripe refused takes a new attempt with a new key; the database decides between two senders.

        Args:
            approval_ids: Of Payments Ops and of Finance; each can stand under one row only.

            lease_s: For how long nobody else may take over the sending.

        Raises:
            ClaimError: Somebody else's row for the same ledger payout is live, or was faster.
        """
        now = self.clock.now()
        record = replace(record, created_at=now, lease_until=now + timedelta(seconds=lease_s))
        values = _payout_values(record) | {
            "approval_payments_ops": approval_ids[0],
            "approval_finance": approval_ids[1],
        }
        try:
            with self._write() as connection:
                if record.attempt_no == 1:
                    connection.execute(manual_payouts.insert().values(values))
                else:
                    del values["created_at"]
                    self._take_refused(connection, record, values)
                connection.execute(
                    attempts.insert().values(
                        idempotency_key=record.idempotency_key,
                        payout_id=record.payout_id,
                        attempt_no=record.attempt_no,
                        operator_id=record.operator_id,
                        payload=record.payload,
                        created_at=now,
                    )
                )
                self._append(connection, _stream(record), "intent_recorded", record.operator_id, _intent_data(record))
        except IntegrityError:
            raise self._lost_to(record) from None
        return record

    def take_over(self, record: PayoutRecord, *, owner: str, operator_id: str, lease_s: float) -> PayoutRecord:
        """
        Take over an interrupted sending, once its lease is over.

        Returns:
            The record with the new owner, lease and fence.

        Raises:
            ClaimError: Somebody still holds it, or took it a moment ago.
        """
        now = self.clock.now()
        until = now + timedelta(seconds=lease_s)
        with self._write() as connection:
            taken = connection.execute(
                manual_payouts.update()
                .where(manual_payouts.c.payout_id == record.payout_id)
                .where(manual_payouts.c.fence == record.fence)
                .where(manual_payouts.c.state == record.state.value)
                .where((manual_payouts.c.lease_until <= now) | (manual_payouts.c.owner == owner))
                .values(owner=owner, operator_id=operator_id, lease_until=until, fence=record.fence + 1)
            )
            if taken.rowcount == 1:
                self._append(
                    connection, _stream(record), "sending_taken_over", operator_id,
                    {"from": record.owner, "to": owner, "fence": record.fence + 1},
                )  # fmt: skip
        if taken.rowcount != 1:
            raise ClaimError(
                f"The sending of {record.ledger_payout_id} is in the hands of {record.owner} "
                f"until {record.lease_until:%H:%M:%S} UTC.",
                "Wait until then and run the same command again; if it is your own interrupted run, it continues.",
            )
        return replace(record, owner=owner, operator_id=operator_id, lease_until=until, fence=record.fence + 1)

    def mark_sent(self, record: PayoutRecord, *, lease_s: float) -> PayoutRecord:
        """
        Record that a request is about to leave, if the right to send is still ours: the fence before the call.

        Raises:
            ClaimError: The lease ran out or somebody took over; nothing may be sent.
        """
        now = self.clock.now()
        first = record.first_sent_at or now
        until = now + timedelta(seconds=lease_s)
        with self._write() as connection:
            held = connection.execute(
                manual_payouts.update()
                .where(manual_payouts.c.payout_id == record.payout_id)
                .where(manual_payouts.c.owner == record.owner)
                .where(manual_payouts.c.fence == record.fence)
                .where(manual_payouts.c.lease_until > now)
                .where(manual_payouts.c.state.in_([State.SUBMITTING.value, State.UNKNOWN.value]))
                .values(sent=True, first_sent_at=first, lease_until=until)
            )
            if held.rowcount == 1:
                self._append(
                    connection, _stream(record), "sending", record.operator_id,
                    {"idempotency_key": record.idempotency_key, "attempt_no": record.attempt_no, "owner": record.owner},
                )  # fmt: skip
        if held.rowcount != 1:
            raise ClaimError(
                f"The right to send {record.ledger_payout_id} was lost: this run paused too long or another took over.",
                "Run `manual-payout status`, then the same command again.",
            )
        return replace(record, sent=True, first_sent_at=first, lease_until=until)

    def record_outcome(
        self,
        record: PayoutRecord,
        state: State,
        reason: str,
        *,
        actor: str,
        transfer: dict[str, Any] | None = None,
        transfer_text: str | None = None,
        code: str = "",
        request_id: str = "",
    ) -> PayoutRecord:
        """
        Commit what is known about the sending: the row, the attempt and the event together.

        Args:
            transfer: Stripe's transfer, where one exists; required for ``paid``.

            transfer_text: The same as JSON text, as it will be kept.

            code: Stripe's error code, if it gave one.

            request_id: Stripe's request id, if known.

        Raises:
            ClaimError: The record was settled by somebody else in the meantime, in another way.
        """
        now = self.clock.now()
        transfer_id = transfer["id"] if transfer else None
        ends = [State.SUBMITTING.value, State.UNKNOWN.value, State.NEEDS_HUMAN.value]
        with self._write() as connection:
            changed = connection.execute(
                manual_payouts.update()
                .where(manual_payouts.c.payout_id == record.payout_id)
                .where(manual_payouts.c.attempt_no == record.attempt_no)
                .where(manual_payouts.c.state.in_(ends))
                .values(
                    state=state.value, stripe_transfer_id=transfer_id, transfer=transfer_text,
                    outcome_reason=reason, outcome_at=now,
                )
            )  # fmt: skip
            if changed.rowcount == 1:
                connection.execute(
                    attempts.update()
                    .where(attempts.c.idempotency_key == record.idempotency_key)
                    .values(
                        outcome=state.value, outcome_code=code, outcome_message=reason,
                        stripe_request_id=request_id, outcome_at=now,
                    )
                )  # fmt: skip
                data = {"state": state.value, "reason": reason, "code": code, "stripe_request_id": request_id}
                if transfer_id is not None:
                    data |= {"stripe_transfer_id": transfer_id}
                self._append(connection, _stream(record), f"outcome_{state.value}", actor, data)
        if changed.rowcount == 1:
            return replace(
                record, state=state, stripe_transfer_id=transfer_id, transfer=transfer_text, outcome_reason=reason,
                outcome_at=now,
            )  # fmt: skip
        present = self.find_payout(record.payout_id)
        if present is not None and present.state is state and present.stripe_transfer_id == transfer_id:
            return present
        raise ClaimError(
            f"The payout {record.ledger_payout_id} was settled by another run in the meantime.",
            "Run `manual-payout status` to see how.",
        )

    def mark_logged(self, record: PayoutRecord, actor: str, data: dict[str, Any]) -> PayoutRecord:
        """Record once that the row was read back, compared and put into the evidence (SOP step 4)."""
        if record.logged_at is not None:
            return record
        now = self.clock.now()
        with self._write() as connection:
            changed = connection.execute(
                manual_payouts.update()
                .where(manual_payouts.c.payout_id == record.payout_id, manual_payouts.c.logged_at.is_(None))
                .values(logged_at=now)
            )
            if changed.rowcount == 1:
                self._append(connection, _stream(record), "payout_logged", actor, data)
        return replace(record, logged_at=now)

    def record_settlement(
        self, record: PayoutRecord, rung: str, *, done: bool, actor: str, data: dict[str, Any]
    ) -> PayoutRecord:
        """Record a rung of the settlement ladder when it differs from the last one seen."""
        if record.settlement_rung == rung and (record.settled_at is not None) == done:
            return record
        settled_at = self.clock.now() if done else None
        with self._write() as connection:
            connection.execute(
                manual_payouts.update()
                .where(manual_payouts.c.payout_id == record.payout_id)
                .values(settlement_rung=rung, settled_at=settled_at)
            )
            self._append(connection, _stream(record), "settlement_observed", actor, {"rung": rung, "done": done} | data)
        return replace(record, settlement_rung=rung, settled_at=settled_at)

    # ------------------------------------------------------------------ journal and outbox

    def record_event(self, stream: str, kind: str, actor: str, data: dict[str, Any]) -> Event:
        """Write one event that changes nothing else."""
        with self._write() as connection:
            return self._append(connection, stream, kind, actor, data)

    def events_of(self, stream: str) -> list[Event]:
        """
        Return the journal of *stream*.

        Raises:
            EvidenceError: Its chain is broken.
        """
        with self._read() as connection:
            chain = journal.read(connection, stream)
        journal.check_chain(chain)
        return chain

    def find_event(
        self, stream: str, kind: str, matches: Callable[[dict[str, Any]], bool] = lambda _: True
    ) -> Event | None:
        """Return the newest event of that kind whose data fits, or None."""
        return next((e for e in reversed(self.events_of(stream)) if e.kind == kind and matches(e.data)), None)

    def record_messages(self, rendered: Sequence[Message], actor: str) -> int:
        """
        Put messages into the outbox, each at most once.

        Returns:
            How many were new.
        """
        with self._write() as connection:
            known = set(
                connection.scalars(
                    sa.select(messages.c.dedup_key).where(messages.c.dedup_key.in_([m.dedup_key for m in rendered]))
                )
            )
            new = [message for message in rendered if message.dedup_key not in known]
            for message in new:
                values = {name: getattr(message, name) for name in messages.c.keys()}  # noqa: SIM118  # a column collection is no dict
                connection.execute(messages.insert().values(values))
                data = {
                    "message_id": message.message_id,
                    "kind": message.kind,
                    "audience": message.audience,
                    "state": message.state,
                }
                self._append(connection, message.stream, "message_prepared", actor, data)
        return len(new)

    def messages_of(self, payout_id: str) -> list[Message]:
        """Return the messages of one payout in the order they were prepared."""
        query = (
            sa.select(messages)
            .where(messages.c.payout_id == payout_id)
            .order_by(messages.c.created_at, messages.c.kind)
        )
        with self._read() as connection:
            return [Message(**row_values(row)) for row in connection.execute(query)]

    # ------------------------------------------------------------------ strictly private

    @contextmanager
    def _write(self) -> Iterator[sa.Connection]:
        with self._errors(), self._engine.connect().execution_options(write=True) as connection, connection.begin():
            yield connection

    @contextmanager
    def _read(self) -> Iterator[sa.Connection]:
        with self._errors(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            with database_errors(self._engine):
                yield
        except DatabaseError as error:
            # A constraint is not a failing database: the caller says what it means. `from None` keeps the cause out of
            # sight, not out of the context.
            if isinstance(error.__context__, IntegrityError):
                raise error.__context__ from None
            raise

    def _append(self, connection: sa.Connection, stream: str, kind: str, actor: str, data: dict[str, Any]) -> Event:
        return journal.append(connection, stream, kind, at=self.clock.now(), actor=actor, data=data)

    def _request(self, connection: sa.Connection, row: sa.Row[Any]) -> Request:
        query = sa.select(request_lines).where(request_lines.c.request_id == row.request_id)
        lines = connection.execute(query.order_by(request_lines.c.line_no))
        request = Request(
            request_id=row.request_id,
            incident_id=row.incident_id,
            kind=row.kind,
            mode=Mode(row.mode),
            platform_account=row.platform_account,
            requested_by=row.requested_by,
            reason=Reason(row.reason),
            notes=row.notes,
            nonce=row.nonce,
            filed_at=row.filed_at,
            expires_at=row.expires_at,
            lines=tuple(_line(line) for line in lines),
        )
        if request.digest != row.digest:
            raise EvidenceError(
                f"Request {row.request_id} was altered after it was filed: its digest no longer fits.",
                "Stop, keep the database as it is and call Security; file a new request.",
            )
        return request

    def _withdrawn(self, connection: sa.Connection, request: Request) -> bool:
        stream = stream_of(request.incident_id, request.lines[0].ledger_payout_id)
        chain = journal.read(connection, stream)
        return any(e.kind == "request_withdrawn" and e.data["request_id"] == request.request_id for e in chain)

    def _payout(self, condition: sa.ColumnElement[bool]) -> PayoutRecord | None:
        with self._read() as connection:
            row = connection.execute(sa.select(manual_payouts).where(condition)).first()
        return _payout(row) if row is not None else None

    def _take_refused(self, connection: sa.Connection, record: PayoutRecord, values: dict[str, Any]) -> None:
        taken = connection.execute(
            manual_payouts.update()
            .where(manual_payouts.c.payout_id == record.payout_id)
            .where(manual_payouts.c.state == State.REFUSED.value)
            .where(manual_payouts.c.attempt_no == record.attempt_no - 1)
            .values(values)
        )
        if taken.rowcount != 1:
            raise ClaimError(
                f"Another run has begun attempt {record.attempt_no} of {record.ledger_payout_id}.",
                "Run `manual-payout status` to see who.",
            )

    def _lost_to(self, record: PayoutRecord) -> ClaimError:
        other = self.find_live_payout(record.ledger_payout_id, record.mode)
        who = (
            f"{other.incident_id}, {other.state} since {other.created_at:%Y-%m-%d %H:%M:%S} UTC by {other.owner}"
            if other is not None
            else "another run"
        )
        return ClaimError(
            f"Ledger payout {record.ledger_payout_id} already has a manual payout: {who}.",
            "Run `manual-payout status` and leave it to them.",
        )


def _stream(record: PayoutRecord) -> str:
    return stream_of(record.incident_id, record.ledger_payout_id)


def _intent_data(record: PayoutRecord) -> dict[str, Any]:
    return {
        "payout_id": record.payout_id,
        "attempt_no": record.attempt_no,
        "idempotency_key": record.idempotency_key,
        "transfer_group": record.transfer_group,
        "payload": record.payload,
        "owner": record.owner,
    }


def _payout_values(record: PayoutRecord) -> dict[str, Any]:
    names = [c.name for c in manual_payouts.c if c.name not in {"approval_payments_ops", "approval_finance"}]
    flat = {
        "amount_minor": record.amount.amount_minor,
        "currency": record.amount.currency,
        "reserve_after_minor": record.reserve_after.amount_minor,
        "mode": record.mode.value,
        "reason": record.reason.value,
        "state": record.state.value,
    }
    return {name: flat[name] if name in flat else getattr(record, name) for name in names}


def _payout(row: sa.Row[Any]) -> PayoutRecord:
    values = row_values(row)
    currency = values.pop("currency")
    for name in ("approval_payments_ops", "approval_finance"):
        del values[name]
    return PayoutRecord(
        amount=Money(values.pop("amount_minor"), currency),
        reserve_after=Money(values.pop("reserve_after_minor"), currency),
        mode=Mode(values.pop("mode")),
        reason=Reason(values.pop("reason")),
        state=State(values.pop("state")),
        **values,
    )


def _line(row: sa.Row[Any]) -> Line:
    return Line(
        line_id=row.line_id,
        line_no=row.line_no,
        studio_id=row.studio_id,
        studio_name=row.studio_name,
        ledger_payout_id=row.ledger_payout_id,
        amount=Money(row.amount_minor, row.currency),
        reserve_after=Money(row.reserve_after_minor, row.currency),
        destination_account=row.destination_account,
    )


def _approval(row: sa.Row[Any]) -> Approval:
    values = row_values(row)
    return Approval(team=Team(values.pop("team")), mode=Mode(values.pop("mode")), **values)


def row_values(row: sa.Row[Any]) -> dict[str, Any]:
    """Return a row's values by column name."""
    return row._asdict()
