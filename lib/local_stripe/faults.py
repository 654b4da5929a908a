"""
Faults on demand: what can happen to a request between a caller and Stripe, each told beforehand.

A fault is spent by the requests that match it, in the order in which faults were planted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from local_stripe.errors import RefusalError, key_in_use, lock_timeout, rate_limited, server_error
from local_stripe.mistakes import InvalidValueError

Kind = Literal[
    "drop_before",
    "rate_limit",
    "lock_timeout",
    "conflict",
    "status_403",
    "refuse",
    "error_500",
    "drop_after",
    "garbage",
    "slow",
]


@dataclass(slots=True)
class Fault:
    """
    One fault and the requests it waits for.

    Attributes:
        kind: ``drop_before``: the connection closes, nothing happened. ``rate_limit``, ``lock_timeout`` (429),
            ``conflict`` (409), ``status_403``: refused before anything is executed or kept. ``refuse``: 400, kept
            under the key, nothing moved. ``error_500``: 500, kept under the key; *effect* says whether the request
            took effect. ``drop_after``: it took effect and the connection closes. ``garbage``: it took effect and
            200 comes with a body that is not JSON. ``slow``: the answer comes *seconds* late.

        method: HTTP method to wait for.

        path: What the path must begin with.

        times: How many matching requests it spoils.

        skip: How many matching requests it lets pass first.

        effect: For ``error_500``: whether the request took effect all the same.

        seconds: For ``slow``: real seconds to wait.

        sleep_first: For ``slow``: whether the wait comes before the effect instead of after it.

        code: For ``refuse``: Stripe's error code.

        message: For ``refuse``: Stripe's message.

        param: For ``refuse``: the parameter blamed.

        reason: For ``rate_limit``: the header Stripe-Rate-Limited-Reason.

        then_silent: For ``drop_after``: how many reads of the same path after it meet a closed connection too.

        retry_after: For ``rate_limit`` and ``lock_timeout``: the header Retry-After, which Stripe does not document but
            anything in front of it may send; empty where it sends none.
    """

    kind: Kind
    method: str = "POST"
    path: str = "/v1/transfers"
    times: int = 1
    skip: int = 0
    effect: bool = True
    seconds: float = 0.0
    sleep_first: bool = False
    code: str = ""
    message: str = "The requested transfer cannot be created. Contact us at https://support.stripe.com/contact."
    param: str = ""
    reason: str = "global-rate"
    then_silent: int = 0
    retry_after: str = ""

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise InvalidValueError("kind", self.kind, f"one of {', '.join(get_args(Kind))}")
        if self.times < 1 or self.skip < 0 or self.seconds < 0 or self.then_silent < 0:
            raise InvalidValueError(
                "times", self.times, "at least one time, and neither skip, seconds nor then_silent below zero"
            )

    def early(self, idempotency_key: str) -> RefusalError | None:
        """Return the refusal that comes before execution, or None if this fault strikes later."""
        if self.kind == "rate_limit":
            return rate_limited(self.reason, retry_after=self.retry_after)
        if self.kind == "lock_timeout":
            return lock_timeout(retry_after=self.retry_after)
        if self.kind == "conflict":
            return key_in_use(idempotency_key)
        return None

    def instead(self) -> RefusalError | None:
        """Return what is answered, and kept under the key, instead of the true answer, or None."""
        if self.kind == "error_500":
            return server_error()
        if self.kind == "refuse":
            return RefusalError(self.message, code=self.code, param=self.param)
        return None

    @property
    def moves(self) -> bool:
        """Whether a request that meets this fault is carried out."""
        return self.kind != "refuse" and (self.kind != "error_500" or self.effect)


class FaultPlan:
    """The faults still to come."""

    def __init__(self) -> None:
        self._waiting: list[Fault] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def plant(self, fault: Fault) -> None:
        """Add *fault* behind the others."""
        self._waiting.append(fault)

    def clear(self) -> None:
        """Take all faults back."""
        self._waiting.clear()

    def take(self, method: str, path: str) -> Fault | None:
        """Return the fault that this request meets and count it as met, or None."""
        for fault in self._waiting:
            if fault.method != method or not path.startswith(fault.path):
                continue
            if fault.skip:
                fault.skip -= 1
                continue
            fault.times -= 1
            if not fault.times:
                self._waiting.remove(fault)
            if fault.then_silent:
                self._waiting.insert(0, Fault("drop_before", method="GET", path=fault.path, times=fault.then_silent))
            return fault
        return None
