"""
Stripe, and the judgement of its answers. The only room that imports ``stripe``.

Every call is one HTTP attempt: the SDK's own retries are off, because an exception after retries describes only the
last attempt although an earlier one may have paid. Retrying is the business of `transfer`, which knows what is at stake.
`gateway.seeding` is not imported here: only a rehearsal in test mode needs it, and with a key that no payout has.
"""

from __future__ import annotations

from manual_payout.gateway.answers import (
    NOT_PERMITTED,
    Accepted,
    Answer,
    Refused,
    Unknown,
    judge_answer,
    one_line,
    read_error,
)
from manual_payout.gateway.client import Gateway
from manual_payout.gateway.key_identity import KeyIdentity, identify_key, key_fits, mask_keys

__all__ = [
    "NOT_PERMITTED",
    "Accepted",
    "Answer",
    "Gateway",
    "KeyIdentity",
    "Refused",
    "Unknown",
    "identify_key",
    "judge_answer",
    "key_fits",
    "mask_keys",
    "one_line",
    "read_error",
]
