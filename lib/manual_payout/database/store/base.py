"""What every part of the store shares: transactions, the journal's lock, and the clock that is read under it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from manual_payout.database import journal
from manual_payout.database.clock import Clock, DatabaseClock
from manual_payout.database.engines import database_errors
from manual_payout.domain.errors import DatabaseError
from manual_payout.domain.models import Event


class StorePart:
    """
    One database and the clock that judges.

    Args:
        engine: Of our own tables, migrated.

        clock: Whose instants are recorded.
    """

    def __init__(self, engine: sa.Engine, clock: Clock) -> None:
        self._engine = engine
        self.clock = clock

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

    def _hold(self, connection: sa.Connection, *streams: str) -> datetime:
        """
        Take the lock of each journal, and return the present as it is once they are held.

        The clock is read after the wait, never before it: an instant from before a wait, or from before the laptop was
        closed, would let a sender believe in a lease that is long over.
        """
        for stream in sorted(set(streams)):
            journal.hold_stream(connection, stream)
        return self.clock.now_within(connection) if isinstance(self.clock, DatabaseClock) else self.clock.now()

    def _append(
        self, connection: sa.Connection, at: datetime, stream: str, kind: str, actor: str, data: dict[str, Any]
    ) -> Event:
        return journal.append(connection, stream, kind, at=at, actor=actor, data=data)
