"""
One way to write a value as bytes, and its digest.

Digests are taken over canonical JSON: keys sorted, no white space, UTF-8, no floats. The version inside each
statement says which rules made it, so that old evidence stays checkable when they change.
"""

from __future__ import annotations

import hashlib
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


def canonical_json(value: Any) -> str:
    """
    Write *value* in the one form that digests are taken over.

    Args:
        value: Built from dict (text keys), list, str, int, bool and None. Floats are refused: their text differs
            between writers.

    Raises:
        TypeError: The value holds something else.
    """
    _check(value)
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest_of(value: Any) -> str:
    """Return the SHA-256 of the canonical JSON of *value*, in hexadecimal."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def digest_bytes(data: bytes) -> str:
    """Return the SHA-256 of *data*, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def digest_file(file: Path) -> str:
    """
    Return the SHA-256 of a file, in hexadecimal; it is read in pieces, and no link is followed.

    Raises:
        OSError: It cannot be read.
    """
    with os.fdopen(os.open(file, os.O_RDONLY | os.O_NOFOLLOW), "rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()


def instant_text(at: datetime) -> str:
    """Write an aware instant as UTC text with microseconds: ``2026-03-02T03:00:00.000000Z``."""
    if at.utcoffset() is None:
        raise TypeError("Bug: an instant without a time zone")
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _check(value: Any) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            if type(key) is not str:
                raise TypeError(f"Bug: key {key!r} in a canonical value is not text")
            _check(item)
    elif isinstance(value, list):
        for item in value:
            _check(item)
    elif value is not None and type(value) not in (str, int, bool):
        raise TypeError(f"Bug: {type(value).__name__} in a canonical value")
