"""The journal and the outbox."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa

from manual_payout import journal
from manual_payout.models import Event, Message
from manual_payout.schema import messages
from manual_payout.store.base import Base
from manual_payout.store.rows import row_values


class JournalAndOutbox(Base):
    """Events that change nothing else, and messages that somebody sends."""

    def record_event(self, stream: str, kind: str, actor: str, data: dict[str, Any]) -> Event:
        """Write one event that changes nothing else."""
        with self._write() as connection:
            return self._append(connection, self._hold(connection, stream), stream, kind, actor, data)

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
            # Held before the look at what is known, so that two runs that prepare the same message make one.
            at = self._hold(connection, *(message.stream for message in rendered))
            known = set(
                connection.scalars(
                    sa.select(messages.c.dedup_key).where(messages.c.dedup_key.in_([m.dedup_key for m in rendered]))
                )
            )
            new: dict[str, Message] = {}
            for message in rendered:
                if message.dedup_key not in known:
                    new.setdefault(message.dedup_key, message)
            for message in new.values():
                values = {name: getattr(message, name) for name in messages.c.keys()}  # noqa: SIM118  # a column collection is no dict
                connection.execute(messages.insert().values(values))
                data = {
                    "message_id": message.message_id,
                    "kind": message.kind,
                    "audience": message.audience,
                    "state": message.state,
                }
                self._append(connection, at, message.stream, "message_prepared", actor, data)
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
