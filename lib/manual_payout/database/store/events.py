"""The journal, read and written by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from manual_payout.database import journal
from manual_payout.database.store.base import StorePart
from manual_payout.domain.models import Event


class Journal(StorePart):
    """Events that change nothing else."""

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
