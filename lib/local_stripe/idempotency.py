"""
Idempotency as Stripe documents it for its v1 API.

Source: Stripe documentation, *Idempotent requests* and *Advanced error handling*. The scope of a key (account and
mode) is not documented; account is what this sandbox assumes, and its mode is always test.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from local_stripe.clock import DAY_S
from local_stripe.errors import Json, RefusalError, key_in_use

KEY_LENGTH_MAX = 255
# "Removed once at least 24 hours old": the sandbox forgets as early as Stripe may, the worst case for a caller.
KEPT_S = DAY_S


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer, which can be given again byte for byte."""

    status: int
    body: bytes
    request_id: str
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class _Entry:
    endpoint: str
    params: Json
    created_s: int
    answer: Answer | None = None


class IdempotencyKeys:
    """The keys in use, each with its first request and, once there is one, the answer to it."""

    def __init__(self) -> None:
        self._entries: dict[tuple[str, str], _Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def claim(self, account: str, key: str, endpoint: str, params: Json, now_s: int) -> Answer | None:
        """
        Reserve *key* for this request, or return the answer that its first request got.

        Raises:
            RefusalError: The key is too long, belongs to another request, or its first request is still running.
        """
        if len(key) > KEY_LENGTH_MAX:
            raise RefusalError(f"Idempotency keys must be at most {KEY_LENGTH_MAX} characters long.", saved=False)
        entry = self._entries.get((account, key))
        if entry is None or (entry.answer is not None and now_s - entry.created_s >= KEPT_S):
            self._entries[account, key] = _Entry(endpoint, params, now_s)
            return None
        if entry.endpoint != endpoint or entry.params != params:
            raise _used_otherwise(key, entry, endpoint)
        if entry.answer is None:
            raise key_in_use(key)
        return entry.answer

    def finish(self, account: str, key: str, answer: Answer) -> None:
        """Keep the answer to the request that claimed *key*."""
        self._entries[account, key].answer = answer

    def release(self, account: str, key: str) -> None:
        """Forget a claim whose request was never executed."""
        del self._entries[account, key]


def _used_otherwise(key: str, entry: _Entry, endpoint: str) -> RefusalError:
    if entry.endpoint != endpoint:
        only = f"for the same endpoint they were first used for ('{entry.endpoint.partition(' ')[2]}')"
    else:
        only = "with the same parameters they were first used with"
    return RefusalError(
        f"Keys for idempotent requests can only be used {only}. Try using a key other than '{key}' if you meant to "
        "execute a different request.",
        kind="idempotency_error",
        saved=False,
    )
