"""Ids that look like Stripe's and come out the same for the same sequence of calls."""

from __future__ import annotations

import hashlib
import string
from collections import Counter

_BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase
ID_LENGTH = 24
REQUEST_ID_LENGTH = 14


class Ids:
    """A counter for each prefix; the counter is hashed, so that ids do not sort by age, as Stripe's do not."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def take(self, prefix: str, length: int = ID_LENGTH) -> str:
        """Return the next id of *prefix*, for example ``tr_`` and 24 characters."""
        self._counts[prefix] += 1
        digest = hashlib.sha256(f"{prefix}:{self._counts[prefix]}".encode()).digest()
        return f"{prefix}_{_base62(int.from_bytes(digest, 'big'), length)}"


def _base62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, rest = divmod(number, 62)
        digits.append(_BASE62[rest])
    return "".join(digits)
