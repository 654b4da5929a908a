"""The sandbox's own time: frozen, or ticking with real time from a chosen instant, and moved forward on demand."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

from local_stripe.mistakes import InvalidValueError

DAY_S = 86_400
HOUR_S = 3_600
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class SandboxClock:
    """
    A clock that only this sandbox obeys.

    Args:
        start: RFC 3339 instant with a UTC offset; None is the real present.

        ticking: Whether time passes by itself; otherwise it stands still between calls of `advance`.
    """

    def __init__(self, start: str | None, *, ticking: bool) -> None:
        self._start = _instant(start)
        self.ticking = ticking
        self._advanced_us = 0
        self._started_s = time.monotonic()

    def __str__(self) -> str:
        instant = _EPOCH + timedelta(microseconds=self.now_us)
        return instant.isoformat(timespec="microseconds").replace("+00:00", "Z")

    @property
    def now_us(self) -> int:
        """Microseconds since the Unix epoch."""
        start_us = (self._start - _EPOCH) // timedelta(microseconds=1)
        ticked_us = int((time.monotonic() - self._started_s) * 1_000_000) if self.ticking else 0
        return start_us + self._advanced_us + ticked_us

    @property
    def now_s(self) -> int:
        """Seconds since the Unix epoch, the resolution of every instant in Stripe's v1 API."""
        return self.now_us // 1_000_000

    def advance(self, seconds: float) -> None:
        """
        Move forward by *seconds*; what falls due meanwhile is the settlement's business.

        Raises:
            InvalidValueError: The clock would go backwards.
        """
        if not 0 <= seconds < float("inf"):
            raise InvalidValueError("seconds", seconds, "a number of seconds, zero or more")
        self._advanced_us += round(seconds * 1_000_000)

    def restart(self) -> None:
        """Go back to the start."""
        self._advanced_us = 0
        self._started_s = time.monotonic()


def _instant(start: str | None) -> datetime:
    if start is None:
        return datetime.now(UTC)
    try:
        instant = datetime.fromisoformat(start)
    except ValueError:
        raise InvalidValueError("start", start, "an instant such as 2026-03-02T03:00:00Z") from None
    if instant.tzinfo is None:
        raise InvalidValueError("start", start, "an instant with its offset, such as 2026-03-02T03:00:00Z")
    return instant.astimezone(UTC)
