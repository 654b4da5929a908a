"""
How long a server is left alone before it is asked again: for what it asks, and by a back-off of our own with jitter.
"""

from __future__ import annotations

import hashlib
from email.utils import parsedate_to_datetime


def asked_s(headers: object) -> float | None:
    """
    Read for how many seconds a ``Retry-After`` header asks to be left alone (RFC 9110, 10.2.3).

    A date is measured against the answer's own ``Date``: no clock of this machine is asked.

    Returns:
        Never below zero; None where there is no such header, or it says nothing that can be read.
    """
    items = headers.items() if hasattr(headers, "items") else ()
    found = {str(name).lower(): str(value).strip() for name, value in items}
    text = found.get("retry-after", "")
    if text.isascii() and text.isdigit():
        # Longer than anybody waits is one number, whatever stands there.
        return int(text[:9])
    try:
        return max(0.0, (parsedate_to_datetime(text) - parsedate_to_datetime(found.get("date", ""))).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return None


def jittered_s(base_s: float, *, seed: str) -> float:
    """
    Spread a pause over half to one and a half of *base_s*, so that those who failed together do not return together.

    Args:
        seed: What it is drawn from. The same seed gives the same pause, so that what happened can be played again.
    """
    drawn = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:4], "big") / 2**32
    return base_s * (0.5 + drawn)
