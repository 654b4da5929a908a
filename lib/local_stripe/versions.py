"""
The version of Stripe's interface that a request asks for.

Source: Stripe documentation, *API versioning*; the refusal as in public reports. Which days had a version is not known
here: a date that has come, with a name since September 2024 and without one before, is taken for one.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime

from local_stripe.errors import RefusalError, invalid

API_VERSION = "2026-10-28.endive"

_VERSION = re.compile(r"(\d{4}-\d{2}-\d{2})(\.[a-z]+)?(; ?[\w=; ]+)?", re.ASCII)
_FIRST, _NAMED_SINCE = date(2011, 1, 1), date(2024, 9, 30)


def check_version(given: str | None) -> None:
    """
    Let the request pass if it names no version, or one that there can be.

    Raises:
        RefusalError: 400; nothing was executed.
    """
    if given is not None and not _may_be(given):
        raise _no_version(given)


def _may_be(given: str) -> bool:
    match = _VERSION.fullmatch(given)
    try:
        day = date.fromisoformat(match[1]) if match else date.min
    except ValueError:
        return False
    named = match is not None and match[2] is not None
    latest = max(datetime.now(UTC).date(), date.fromisoformat(API_VERSION.partition(".")[0]))
    return _FIRST <= day <= latest and named == (day >= _NAMED_SINCE)


def _no_version(given: str) -> RefusalError:
    return invalid(f"Invalid Stripe API version: {given}", code="", param="")
