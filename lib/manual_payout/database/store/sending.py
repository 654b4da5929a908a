"""
The record of one sending, of a transfer or of a reversal: intent, right to send, and outcome.

Each of the four is one compare-and-set under the lock of the journal, judged by the clock as it is once that lock is
held. The *fence* counts how often the right to send changed hands; whoever holds an old number can neither send nor say
that nothing moved. What anybody may say, whatever they hold, is that Stripe shows what was made: that is a fact.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from manual_payout.database import journal
from manual_payout.database.store.announcing import REVERSED, SENT, announce
from manual_payout.database.store.reversals import ReversalRecords
from manual_payout.database.store.rows import record_stream, record_values
from manual_payout.database.store.shapes import Shape, shape_of
from manual_payout.domain.errors import ApprovalError, ClaimError
from manual_payout.domain.models import OPEN_STATES, R, Record, State
from manual_payout.domain.overrides import OVERRIDDEN


class Sendings(ReversalRecords):
    """Who may send, and what came of it."""

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
        """
        Commit the intent to send, before anything is sent: the row, its attempt and its event.

        A row that Stripe refused takes a new attempt with a new key; the database decides between two senders.

        Args:
            approval_ids: Of Payments Ops and of Finance; each can stand under one row only.

            lease_s: For how long nobody else may take over the sending.

            not_after: Until when what was judged may be relied on: the facts, the approvals, the request.

            override: The warning about the rehearsal that the operator sends in spite of; its event comes first.

            rules: What the policy said when it was judged; the verifier takes no intent without.

        Raises:
            ClaimError: Somebody else's row for the same ledger payout, or the same transfer, is live, or was faster.

            ApprovalError: The judgement is too old by now, or the request was withdrawn after it.
        """
        stream, shape = record_stream(record), shape_of(record)
        try:
            with self._write() as connection:
                now = self._hold(connection, stream)
                self._require_current(connection, record, now, not_after)
                record = replace(record, created_at=now, lease_until=now + timedelta(seconds=lease_s))
                values = record_values(shape.table, record) | {
                    "approval_payments_ops": approval_ids[0],
                    "approval_finance": approval_ids[1],
                }
                self._begin(connection, record, values)
                self._begin_attempt(connection, record, now)
                if override is not None:
                    told = override | {"attempt_no": record.attempt_no}
                    self._append(connection, now, stream, OVERRIDDEN, record.operator_id, told)
                data = intent_data(record) | {"approval_ids": list(approval_ids), "rules": rules}
                self._append(connection, now, stream, "intent_recorded", record.operator_id, data)
                return shape.present(connection, record)
        except IntegrityError:
            raise self._lost_to(record) from None

    def take_over(self, record: R, *, owner: str, operator_id: str, lease_s: float) -> R:
        """
        Take over an interrupted or unknown sending, once its lease is over.

        Returns:
            The record with the new owner, lease and fence.

        Raises:
            ClaimError: Somebody still holds it, took it a moment ago, or it has an outcome by now.
        """
        shape = shape_of(record)
        row = shape.table.c
        with self._write() as connection:
            now = self._hold(connection, record_stream(record))
            taken = connection.execute(
                shape.table.update()
                .where(shape.key_of(record))
                .where(row.fence == record.fence)
                .where(row.state == record.state.value)
                .where(row.state.in_(_values(OPEN_STATES)))
                .where(row.lease_until.is_(None) | (row.lease_until <= now))
                .values(
                    owner=owner,
                    operator_id=operator_id,
                    lease_until=now + timedelta(seconds=lease_s),
                    fence=record.fence + 1,
                )
            )
            present = shape.present(connection, record)
            if taken.rowcount == 1:
                data = {"from": record.owner, "to": owner, "fence": present.fence}
                self._append(connection, now, record_stream(record), "sending_taken_over", operator_id, data)
                return present
        until = f" until {present.lease_until:%H:%M:%S} UTC" if present.lease_until else ""
        raise ClaimError(
            f"The sending of {record.ledger_payout_id} is {present.state}, in the hands of {present.owner}{until}.",
            "Wait until then and run the same command again; if it is your own interrupted run, it continues.",
        )

    def mark_sent(self, record: R, *, lease_s: float, window: timedelta) -> R:
        """
        Record that a request is about to leave, if the right to send is still ours: the fence before the call.

        Args:
            lease_s: The lease is renewed for this long.

            window: For how long after its first use the key may be used again.

        Raises:
            ClaimError: The lease ran out, somebody took over, or the key left its window; nothing may be sent.
        """
        shape = shape_of(record)
        row = shape.table.c
        with self._write() as connection:
            now = self._hold(connection, record_stream(record))
            held = connection.execute(
                shape.table.update()
                .where(shape.key_of(record))
                .where(row.owner == record.owner)
                .where(row.fence == record.fence)
                .where(row.attempt_no == record.attempt_no)
                .where(row.lease_until > now)
                .where(row.state.in_(_values(OPEN_STATES)))
                # Where it is known what Stripe made, there is nothing left to send, whatever else is unclear about it.
                .where(shape.made.is_(None))
                .where(row.first_sent_at.is_(None) | (row.first_sent_at > now - window))
                .values(
                    sent=True,
                    first_sent_at=sa.func.coalesce(row.first_sent_at, sa.literal(now, row.first_sent_at.type)),
                    lease_until=now + timedelta(seconds=lease_s),
                )
            )
            if held.rowcount == 1:
                data = {
                    "idempotency_key": record.idempotency_key,
                    "attempt_no": record.attempt_no,
                    "owner": record.owner,
                    "fence": record.fence,
                }
                self._append(connection, now, record_stream(record), "sending", record.operator_id, data)
                return shape.present(connection, record)
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
        """
        Commit what is known about the sending: the row, the attempt and the event together. It ends the lease.

        Without what Stripe made, only whoever holds the right to send may say what happened. That it exists may be said
        by anybody, even of an attempt that was taken for refused.

        Args:
            made: Stripe's transfer or reversal, where one exists; required for ``paid`` and ``reversed``. One that is
                on record is never erased.

            made_text: The same as JSON text, as it will be kept.

            reversed_minor: Of a reversal: how much of its transfer is reversed by now, in minor units. The transfer's
                own row is changed in the same transaction.

            code: Stripe's error code, if it gave one.

            request_id: Stripe's request id, if known.

        Raises:
            ClaimError: The record was settled or taken over by somebody else in the meantime.
        """
        shape = shape_of(record)
        values: dict[str, Any] = {"state": state.value, "outcome_reason": reason}
        known = {shape.made.name: made["id"], shape.text.name: made_text} if made is not None else {}
        with self._write() as connection:
            reversed_payout = self._payout_of(connection, record) if reversed_minor is not None else None
            streams = [record_stream(one) for one in (record, reversed_payout) if one is not None]
            now = self._hold(connection, *streams)
            changed = connection.execute(
                shape.table.update()
                .where(shape.key_of(record))
                .where(shape.table.c.attempt_no == record.attempt_no)
                .where(_may_end(shape, record, state, made))
                .values(**values, **known, outcome_at=now, lease_until=now)
            )
            present = shape.present(connection, record)
            if changed.rowcount == 1:
                self._end_attempt(connection, record, now, (state, code, reason, request_id))
                data = {"state": state.value, "reason": reason, "code": code, "stripe_request_id": request_id}
                if present.stripe_id is not None:
                    data |= {str(shape.made.name): present.stripe_id}
                self._append(connection, now, record_stream(record), f"outcome_{state.value}", actor, data)
                announce_made(connection, now, present, reversed_payout)
                if reversed_payout is not None and reversed_minor is not None:
                    self._mark_reversed(connection, now, reversed_payout, reversed_minor, actor, approved=True)
                return present
        if made is not None and present.stripe_id == made["id"] and present.state is state:
            return present
        raise ClaimError(
            f"The payout {record.ledger_payout_id} was settled or taken over by another run in the meantime: "
            f"it is {present.state}, by {present.owner}.",
            "Run `manual-payout status` to see how.",
        )

    def _require_current(self, connection: sa.Connection, record: Record, now: datetime, not_after: datetime) -> None:
        withdrawn = any(
            event.kind == "request_withdrawn" and event.data["request_id"] == record.request_id
            for event in journal.read(connection, record_stream(record))
        )
        if withdrawn:
            raise ApprovalError(f"Request {record.request_id} was withdrawn.", "Run the one that replaced it.")
        if now >= not_after:
            raise ApprovalError(
                "This run paused for so long that what it verified and the approvals no longer count.",
                "Run the same command again; it verifies afresh.",
            )

    def _begin(self, connection: sa.Connection, record: Record, values: dict[str, Any]) -> None:
        shape = shape_of(record)
        row = shape.table.c
        if record.attempt_no == 1:
            connection.execute(shape.table.insert().values(values))
            return
        del values["created_at"]
        taken = connection.execute(
            shape.table.update()
            .where(shape.key_of(record))
            .where(row.state == State.REFUSED.value)
            .where(row.attempt_no == record.attempt_no - 1)
            .where(row.fence == record.fence - 1)
            .values(values)
        )
        if taken.rowcount != 1:
            raise ClaimError(
                f"Another run has begun attempt {record.attempt_no} of {record.ledger_payout_id}.",
                "Run `manual-payout status` to see who.",
            )

    def _begin_attempt(self, connection: sa.Connection, record: Record, now: datetime) -> None:
        shape = shape_of(record)
        connection.execute(
            shape.attempts.insert().values(
                **{shape.key.name: record.line_id},
                idempotency_key=record.idempotency_key,
                attempt_no=record.attempt_no,
                operator_id=record.operator_id,
                payload=record.payload,
                created_at=now,
            )
        )

    def _end_attempt(
        self, connection: sa.Connection, record: Record, now: datetime, outcome: tuple[State, str, str, str]
    ) -> None:
        state, code, reason, request_id = outcome
        attempts = shape_of(record).attempts
        connection.execute(
            attempts.update()
            .where(attempts.c.idempotency_key == record.idempotency_key)
            .values(
                outcome=state.value,
                outcome_code=code,
                outcome_message=reason,
                stripe_request_id=request_id,
                outcome_at=now,
            )
        )

    def _lost_to(self, record: Record) -> ClaimError:
        find, kept, asked, taken = _IN_THE_WAY[record.noun]
        other = find(self, record)
        if other is None:
            return ClaimError(
                f"The database refuses a {kept} {record.subject}: its key or its approvals stand under another one.",
                f"Run `manual-payout status`; have the {asked} and approved again.",
            )
        return ClaimError(
            f"{taken.format(record.subject)}: {other.incident_id}, {other.state} since "
            f"{other.created_at:%Y-%m-%d %H:%M:%S} UTC by {other.owner}.",
            "Run `manual-payout status` and leave it to them.",
        )


# By what is made: which row is in the way of another, and how whoever lost to it is told.
_IN_THE_WAY: dict[str, tuple[Callable[[Sendings, Any], Record | None], str, str, str]] = {
    "transfer": (
        lambda store, record: store.find_live_payout(record.ledger_payout_id, record.mode),
        "payout record for", "request filed", "Ledger payout {} already has a manual payout",
    ),
    "reversal": (
        lambda store, record: store.find_open_reversal(record.stripe_transfer_id),
        "reversal of", "reversal requested", "{} already has a reversal under way",
    ),
}  # fmt: skip


def announce_made(
    connection: sa.Connection, now: datetime, record: Record, reversed_payout: Record | None = None
) -> None:
    """Announce with the outcome what people are told of a payout that was made, or of a reversal, *reversed_payout* ours or not."""
    if record.state is State.PAID:
        announce(connection, now, record, SENT, payout_id=record.line_id)
    elif record.noun == "reversal" and record.state is State.REVERSED:
        announce(connection, now, record, REVERSED, payout_id=reversed_payout.line_id if reversed_payout else None)


def _may_end(shape: Shape, record: Record, state: State, made: dict[str, Any] | None) -> sa.ColumnElement[bool]:
    row = shape.table.c
    is_open = row.state.in_(_values(OPEN_STATES))
    if made is not None:
        # An attempt taken for refused whose transfer shows after all is corrected; one never replaces another.
        correctable = row.state.in_(_values((*OPEN_STATES, State.REFUSED)))
        return sa.and_(correctable, sa.or_(shape.made.is_(None), shape.made == made["id"]))
    holds = sa.and_(is_open, row.fence == record.fence)
    return sa.and_(holds, shape.made.is_(None)) if state is State.REFUSED else holds


def _values(states: tuple[State, ...]) -> list[str]:
    return [state.value for state in states]


def intent_data(record: Record) -> dict[str, Any]:
    """Return what the journal is told of an intent."""
    shape = shape_of(record)
    return {
        str(shape.key.name): record.line_id,
        str(shape.told.name): getattr(record, shape.told.name),
        "attempt_no": record.attempt_no,
        "idempotency_key": record.idempotency_key,
        "payload": record.payload,
        "owner": record.owner,
        "fence": record.fence,
    }
