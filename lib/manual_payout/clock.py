"""
Time, from the one clock that judges.

Expiry, leases and idempotency key windows are judged by the database's clock, so that two operators whose laptops
disagree cannot disagree about a payout. Against the sandbox the test clock is the sandbox's, and waiting advances it.
No other module asks for the time.
"""

from __future__ import annotations

import json
import time
import urllib.request
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, cast

import sqlalchemy as sa

from manual_payout.errors import SettingsError


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
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._query = (
            "SELECT strftime('%Y-%m-%dT%H:%M:%f', 'now')"
            if engine.dialect.name == "sqlite"
            else "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US')"
        )

    def now(self) -> datetime:
        """Ask the database."""
        with self._engine.connect() as connection:
            text = connection.exec_driver_sql(self._query).scalar_one()
        return datetime.fromisoformat(text).replace(tzinfo=UTC)

    def wait(self, seconds: float) -> None:
        """Sleep."""
        time.sleep(seconds)


class SandboxClock:
    """
    The test clock of the local sandbox; waiting advances it instead of sleeping.

    Args:
        base_url: Where the sandbox listens, such as ``http://127.0.0.1:12111``.
    """

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url.rstrip("/")

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
        request = urllib.request.Request(  # noqa: S310  # loopback only, checked by the settings
            f"{self._base_url}/_sandbox/{path}",
            data=json.dumps(body).encode() if body is not None else None,
            headers={"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310  # as above
                return cast("dict[str, Any]", json.load(answer))
        except OSError as error:
            raise SettingsError(
                f"The local sandbox at {self._base_url} does not answer ({type(error).__name__}).",
                "Start it with `manual-payout sandbox` and export what it prints.",
            ) from None


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
