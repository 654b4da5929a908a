"""
Time, from the one clock that judges.

Expiry, leases and idempotency key windows are judged by the database's clock, so that two operators whose laptops
disagree cannot disagree about a payout. Against the sandbox the test clock is the sandbox's, and waiting advances it; how
long a rehearsal really takes is measured by a stopwatch. No other module asks for the time.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, cast

import sqlalchemy as sa

from manual_payout.database.engines import database_errors
from manual_payout.domain.errors import SettingsError


class Clock(Protocol):
    """What the rest of the library knows of time."""

    def now(self) -> datetime:
        """The present instant, aware, in UTC."""
        ...

    def wait(self, seconds: float) -> None:
        """Let *seconds* pass."""
        ...


class DatabaseClock:
    """
    The clock of the database server.

    Args:
        engine: Our database. SQLite has the clock of this machine; it is a single-host database for that reason too.

    Attributes:
        takes_time: Whether somebody sits through a wait; at a test clock nobody does.
    """

    takes_time = True

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._query = (
            "SELECT strftime('%Y-%m-%dT%H:%M:%f', 'now')"
            if engine.dialect.name == "sqlite"
            else "SELECT pg_catalog.to_char(pg_catalog.timezone('UTC', pg_catalog.clock_timestamp()), 'YYYY-MM-DD\"T\"HH24:MI:SS.US')"
        )

    def now(self) -> datetime:
        """
        Ask the database.

        Raises:
            DatabaseError: It does not answer.
        """
        with database_errors(self._engine), self._engine.connect() as connection:
            return self.now_within(connection)

    def now_within(self, connection: sa.Connection) -> datetime:
        """Ask on the connection that is held already: behind a pooler there may be no second one."""
        return datetime.fromisoformat(connection.exec_driver_sql(self._query).scalar_one()).replace(tzinfo=UTC)

    def wait(self, seconds: float) -> None:
        """Sleep."""
        time.sleep(seconds)


# A person who reads two times that are further apart than this may take the wrong one for now.
SKEW_MAX = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Skew:
    """
    Two clocks that disagree.

    Attributes:
        machine: What this machine took for now.

        database: What the database took for now, which alone judges.
    """

    machine: datetime
    database: datetime

    @property
    def sentence(self) -> str:
        """Both times, how far they are apart, and which of them counts."""
        late = self.machine < self.database
        apart = round(abs(self.database - self.machine).total_seconds())
        return (
            f"This machine's clock says {self.machine:%Y-%m-%d %H:%M:%S} UTC, the database's {self.database:%Y-%m-%d %H:%M:%S} UTC: "
            f"this machine is {apart} s {'behind' if late else 'ahead'}. Only the database's decides"
        )


def find_skew(clock: Clock) -> Skew | None:
    """
    Compare this machine's clock with the database's; None where they agree, or where the sandbox's clock judges.

    Raises:
        DatabaseError: The database does not answer.
    """
    if not isinstance(clock, DatabaseClock):
        return None
    before, found, after = Stopwatch().now(), clock.now(), Stopwatch().now()
    # Between the two it was asked: a slow answer is no disagreement.
    if before - SKEW_MAX <= found <= after + SKEW_MAX:
        return None
    return Skew(after, found)


class SandboxClock:
    """
    The test clock of the local sandbox; waiting advances it instead of sleeping.

    Args:
        base_url: Where the sandbox listens, such as ``http://127.0.0.1:12111``.
    """

    def __init__(self, base_url: str) -> None:
        # Only the sandbox is asked over HTTP.
        from urllib3 import PoolManager

        self._base_url = base_url.rstrip("/")
        self._connections = PoolManager(timeout=10)

    def now(self) -> datetime:
        """
        Ask the sandbox.

        Raises:
            SettingsError: It does not answer.
        """
        return datetime.fromisoformat(self._ask("clock")["now"])

    def wait(self, seconds: float) -> None:
        """Advance the sandbox's clock."""
        self._ask("clock/advance", {"seconds": seconds})

    def _ask(self, path: str, body: dict[str, float] | None = None) -> dict[str, Any]:
        from urllib3.exceptions import HTTPError

        url = f"{self._base_url}/_sandbox/{path}"
        try:
            # Asked often, over a connection that stays open. Nothing is asked twice: to advance twice is no repetition.
            answer = self._connections.request("GET" if body is None else "POST", url, json=body, retries=False)
            return cast("dict[str, Any]", answer.json())
        except (OSError, HTTPError) as error:
            raise SettingsError(
                f"The local sandbox at {self._base_url} does not answer ({type(error).__name__}).",
                "Start it with `manual-payout sandbox` and export what it prints.",
            ) from None


class Stopwatch:
    """
    The time of this machine, for what is measured and dated: a rehearsal's steps. It judges nothing.
    """

    def now(self) -> datetime:
        """The present instant as this machine has it."""
        return datetime.now(UTC)

    def seconds(self) -> float:
        """Seconds since some moment in the past; no correction of the clock moves it."""
        return time.monotonic()


class FixedClock:
    """
    A clock that moves only when told: for tests.

    Args:
        start: The first instant, aware.
    """

    def __init__(self, start: datetime) -> None:
        self._now = start

    def now(self) -> datetime:
        """The instant it was last moved to."""
        return self._now

    def wait(self, seconds: float) -> None:
        """Move on by *seconds*."""
        self._now += timedelta(seconds=seconds)
