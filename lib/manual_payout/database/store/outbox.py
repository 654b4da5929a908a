"""
The outbox: messages are written out once, and handed to a provider by one process at a time.

A row is not believed: what may go out is what an event in the journal says was written, to whom, by its digest. For the rest it
is the sending of money on a small scale. A lease and a fence say who may deliver; *handed over* is committed before
the provider can have the message, and its receipt after. What lies between the two is in doubt, and the row says so.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from manual_payout.database import journal
from manual_payout.database.schema import UNSENT, messages
from manual_payout.database.store.base import StorePart
from manual_payout.database.store.writing import PREPARED, content_digest, message_of, write_out
from manual_payout.domain.canonical import canonical_json
from manual_payout.domain.errors import ClaimError, DatabaseError, EvidenceError
from manual_payout.domain.models import Channel, Message, MessageState, Mode

_row = messages.c

# What a person may still take over: nobody is about to send it by machine, or the provider said no.
_BY_HAND = (MessageState.TO_COPY, MessageState.WAITING, MessageState.REFUSED)


# So many are asked for in one statement.
_IDS_MAX = 500


class Outbox(StorePart):
    """Messages that somebody, or something, sends."""

    def record_messages(self, rendered: Sequence[Message], actor: str) -> int:
        """
        Write messages out, each at most once, whether they were announced before or not.

        Returns:
            How many were new.
        """
        with self._write() as connection:
            # Held before the look at what is known, so that two runs that prepare the same message make one.
            at = self._hold(connection, *(message.stream for message in rendered))
            return sum(write_out(connection, message, at=at, actor=actor) for message in rendered)

    def prepared_in(self, stream: str) -> set[tuple[str, str]]:
        """
        Return what the journal of *stream* says was written: the id of each message, with the digest of what it says to whom.

        Raises:
            EvidenceError: Its chain is broken.
        """
        with self._read() as connection:
            chain = journal.read(connection, stream)
        journal.check_chain(chain)
        told = [event.data for event in chain if event.kind == PREPARED]
        return {(str(data.get("message_id")), str(data.get("digest"))) for data in told}

    def disbelieved_messages(self, mode: Mode) -> list[Message]:
        """Return what waits to be sent, was refused or is to be copied, and is not what the journal says was written."""
        # What is announced has no text yet: whoever writes it out asks the journal whether it was.
        written = (_row.state != MessageState.ANNOUNCED.value) | _row.payout_id.is_(None)
        waiting = sa.text(UNSENT) & _of(mode, None) & written
        prepared: dict[str, set[tuple[str, str]]] = {}
        return [message for message in self._messages(waiting) if not self.is_as_written(message, prepared)]

    def is_as_written(self, message: Message, prepared: dict[str, set[tuple[str, str]]]) -> bool:
        """
        Whether *message* is, in all that anybody is shown of it, what the journal says was written.

        Args:
            prepared: What is known of each journal so far; looked up, and filled, here.
        """
        wanted = (message.message_id, content_digest(message))
        if wanted not in prepared.get(message.stream, ()):
            try:
                prepared[message.stream] = self.prepared_in(message.stream)
            except DatabaseError:
                raise
            except EvidenceError:
                # A journal that is broken vouches for nothing.
                prepared[message.stream] = set()
        return wanted in prepared[message.stream]

    def messages_of(self, payout_id: str) -> list[Message]:
        """Return the messages of one payout in the order they were announced or prepared."""
        return self._messages(_row.payout_id == payout_id)

    def messages_in(self, stream: str) -> list[Message]:
        """Return the messages of one journal that concern no payout of ours: another's transfer was taken back."""
        return self._messages((_row.stream == stream) & _row.payout_id.is_(None))

    def get_message(self, message_id: str) -> Message | None:
        """Return one message, or None."""
        return next(iter(self._messages(_row.message_id == message_id)), None)

    def announced_messages(self, mode: Mode, payout_id: str | None = None) -> list[Message]:
        """Return what is announced and not written out yet."""
        return self._messages(_of(mode, payout_id) & (_row.state == MessageState.ANNOUNCED.value))

    def undelivered_messages(self, incident_id: str = "") -> list[Message]:
        """Return what still has to reach somebody, of one incident or of all: neither delivered nor sent by hand."""
        return self._messages(_of_incident(incident_id) & sa.text(UNSENT))

    def count_messages(self, payout_ids: Sequence[str]) -> dict[str, Counter[MessageState]]:
        """Count the messages of each of these payouts by state."""
        counts: defaultdict[str, Counter[MessageState]] = defaultdict(Counter)
        with self._read() as connection:
            for start in range(0, len(payout_ids), _IDS_MAX):
                query = (
                    sa.select(_row.payout_id, _row.state, sa.func.count())
                    .where(_row.payout_id.in_(payout_ids[start : start + _IDS_MAX]))
                    .group_by(_row.payout_id, _row.state)
                )
                for payout_id, state, count in connection.execute(query):
                    counts[payout_id][MessageState(state)] = count
        return counts

    def unsent_counts(self, mode: Mode) -> list[tuple[Channel, MessageState, int, datetime]]:
        """Count what was neither delivered nor sent by hand, by channel and state, each with the instant of the oldest."""
        query = (
            sa.select(_row.channel, _row.state, sa.func.count(), sa.func.min(_row.created_at))
            .where(_of(mode, None) & sa.text(UNSENT))
            .group_by(_row.channel, _row.state)
            .order_by(_row.channel, _row.state)
        )
        with self._read() as connection:
            rows = connection.execute(query).all()
        return [(Channel(channel), MessageState(state), count, since) for channel, state, count, since in rows]

    def due_messages(
        self, mode: Mode, channel: Channel, payout_id: str | None = None, *, at_once: bool = False, limit: int = 100
    ) -> list[Message]:
        """
        Return what may be tried now, the longest waiting first; of one payout only the oldest, so that its last word is last.

        Args:
            mode: Only of this world.

            at_once: Do not wait out the pause after a failed try.
        """
        now = self.clock.now()
        pause_over = sa.true() if at_once else _row.not_before.is_(None) | (_row.not_before <= now)
        waiting = (_row.state == MessageState.WAITING.value) & pause_over
        query = _of(mode, payout_id) & (_row.channel == channel.value) & (waiting | _abandoned(now)) & ~_overtakes()
        return self._messages(query, order=(_row.not_before, _row.created_at, _row.kind, _row.message_id), limit=limit)

    def claim_message(self, message: Message, *, owner: str, lease_s: float) -> Message | None:
        """
        Take the right to deliver *message*, unless somebody else has it or was faster.

        Returns:
            The message with its new fence, or None.
        """
        with self._write() as connection:
            now = self._hold(connection, message.stream)
            taken = connection.execute(
                messages.update()
                .where(_row.message_id == message.message_id)
                .where(_row.fence == message.fence)
                .where((_row.state == MessageState.WAITING.value) | _abandoned(now))
                .values(
                    state=MessageState.SENDING.value,
                    owner=owner,
                    fence=message.fence + 1,
                    tries=_row.tries + 1,
                    lease_until=now + timedelta(seconds=lease_s),
                )
            )
            return _present(connection, message) if taken.rowcount == 1 else None

    def record_handing_over(self, message: Message, *, lease_s: float, actor: str) -> None:
        """
        Record that the provider is about to have the message, if the right to deliver it is still ours.

        Raises:
            ClaimError: The lease ran out or another process took over; nothing may be handed over.
        """
        with self._write() as connection:
            now = self._hold(connection, message.stream)
            held = connection.execute(
                messages.update()
                .where(_row.message_id == message.message_id)
                .where(_row.fence == message.fence)
                .where(_row.state == MessageState.SENDING.value)
                .where(_row.lease_until > now)
                .values(
                    handed_over_at=sa.func.coalesce(
                        _row.handed_over_at, sa.literal(now, messages.c.handed_over_at.type)
                    ),
                    repeats=_row.repeats + sa.case((_row.handed_over_at.is_(None), 0), else_=1),
                    lease_until=now + timedelta(seconds=lease_s),
                )
            )
            if held.rowcount == 1:
                if message.handed_over_at is not None:
                    data = {"message_id": message.message_id, "handed_over": message.tries}
                    self._append(connection, now, message.stream, "message_repeated", actor, data)
                return
        raise ClaimError(
            f"This run lost the right to deliver message {message.message_id}: it paused too long.",
            "Nothing was handed over by it; run `manual-payout status`.",
        )

    def record_absence(self, message: Message) -> Message:
        """Record that the provider was asked and does not have the message: it is in doubt no longer."""
        return self._settle(message, {"handed_over_at": None})

    def record_delay(
        self, message: Message, reason: str, *, not_before: datetime, in_doubt: bool, refused: bool = False
    ) -> Message:
        """
        Record that a try did not deliver it.

        Args:
            in_doubt: Nobody can say whether the provider has it.

            refused: The provider will never take it as it is; a person has to act.
        """
        state = MessageState.REFUSED if refused else MessageState.WAITING
        values: dict[str, Any] = {"state": state.value, "last_error": reason, "not_before": not_before}
        return self._settle(message, values if in_doubt else values | {"handed_over_at": None})

    def record_delivered(self, message: Message, receipt: dict[str, str], *, actor: str) -> Message:
        """
        Record that the provider has it, with what it answered.

        Anybody may say so, whoever holds the right to deliver: it is a fact. If it was delivered before, that is one
        more, and the journal says so.
        """
        with self._write() as connection:
            now = self._hold(connection, message.stream)
            first = connection.execute(
                messages.update()
                .where(_row.message_id == message.message_id, _row.delivered_at.is_(None))
                .values(
                    state=MessageState.DELIVERED.value,
                    delivered_at=now,
                    receipt=canonical_json(receipt),
                    handed_over_at=None,
                    lease_until=None,
                    not_before=None,
                    last_error="",
                )
            )
            kind = "message_delivered" if first.rowcount == 1 else "message_delivered_again"
            data = {"message_id": message.message_id, "kind": message.kind, "audience": message.audience}
            self._append(connection, now, message.stream, kind, actor, data | {"receipt": receipt})
            return _present(connection, message)

    def record_copied(self, message: Message, *, actor: str) -> bool:
        """
        Record that a person has sent it by hand; nothing sends it after that.

        Returns:
            Whether it was still to be sent.
        """
        with self._write() as connection:
            now = self._hold(connection, message.stream)
            changed = connection.execute(
                messages.update()
                .where(_row.message_id == message.message_id, _row.state.in_([state.value for state in _BY_HAND]))
                .values(state=MessageState.COPIED.value, fence=_row.fence + 1, last_error="", not_before=None)
            )
            if changed.rowcount == 1:
                data = {"message_id": message.message_id, "kind": message.kind, "audience": message.audience}
                self._append(connection, now, message.stream, "message_copied", actor, data)
            return changed.rowcount == 1

    def refuse_announced(self, message: Message, reason: str) -> None:
        """Record that nothing has announced *message*: it gets no text, and a person has to look."""
        with self._write() as connection:
            self._hold(connection, message.stream)
            connection.execute(
                messages.update()
                .where(_row.message_id == message.message_id, _row.state == MessageState.ANNOUNCED.value)
                .values(state=MessageState.REFUSED.value, last_error=reason)
            )

    def retry_refused(self, mode: Mode) -> int:
        """Let what was refused be tried again; return how many messages that are."""
        with self._write() as connection:
            changed = connection.execute(
                messages.update()
                .where(_of(mode, None) & (_row.state == MessageState.REFUSED.value))
                .values(state=MessageState.WAITING.value, not_before=None)
            )
            return int(changed.rowcount)

    def _settle(self, message: Message, values: dict[str, Any]) -> Message:
        """Write what one try came to, if the right to deliver was still ours; else leave it to whoever has it."""
        with self._write() as connection:
            self._hold(connection, message.stream)
            connection.execute(
                messages.update()
                .where(_row.message_id == message.message_id)
                .where(_row.fence == message.fence)
                .where(_row.state == MessageState.SENDING.value)
                .values(values)
            )
            return _present(connection, message)

    def _messages(
        self, condition: sa.ColumnElement[bool], order: Sequence[Any] = (), limit: int | None = None
    ) -> list[Message]:
        order = order or (_row.created_at, _row.dedup_key)
        query = sa.select(messages).where(condition).order_by(*order).limit(limit)
        with self._read() as connection:
            return [message_of(row) for row in connection.execute(query)]


def _of(mode: Mode, payout_id: str | None) -> sa.ColumnElement[bool]:
    of_mode = _row.mode == mode.value
    return of_mode if payout_id is None else of_mode & (_row.payout_id == payout_id)


def _of_incident(incident_id: str) -> sa.ColumnElement[bool]:
    return _row.stream.startswith(f"{incident_id}/", autoescape=True) if incident_id else sa.true()


def _overtakes() -> sa.ColumnElement[bool]:
    """An older message about the same payout has not gone out by the same channel: the last word must arrive last."""
    older = messages.alias()
    unsent = older.c.state.in_([MessageState.WAITING.value, MessageState.SENDING.value])
    same = (older.c.payout_id == _row.payout_id) & (older.c.channel == _row.channel) & (older.c.mode == _row.mode)
    return sa.exists().where(same & unsent & (older.c.created_at < _row.created_at))


def _abandoned(now: datetime) -> sa.ColumnElement[bool]:
    """Whoever was sending it has been silent for longer than their lease."""
    return (_row.state == MessageState.SENDING.value) & (_row.lease_until <= now)


def _present(connection: sa.Connection, message: Message) -> Message:
    query = sa.select(messages).where(_row.message_id == message.message_id)
    return message_of(connection.execute(query).one())
