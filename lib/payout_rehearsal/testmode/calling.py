"""How the seeding calls Stripe: each write under one key of its own, tried again where that is safe, awaited with an end."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from manual_payout.database.clock import Clock
from manual_payout.domain.errors import ManualPayoutError, NotFinishedError, SettingsError, StripeRefusedError
from manual_payout.domain.pauses import asked_s, jittered_s
from manual_payout.gateway.answers import NOT_PERMITTED, one_line
from manual_payout.gateway.key_identity import identify_key, mask_keys
from manual_payout.gateway.sdk import new_client, notices_are_not_errors, stripe

# Before the second, third, … try of one call: half a minute in all.
PAUSES_S = (1.0, 2.0, 4.0, 8.0, 16.0)
# What asks for a longer pause is left to a person.
PAUSE_MAX_S = 60.0

# Stripe's words to a platform that may not use Accounts v1 name the way out; it documents no code for it.
USE_V2 = "/v2/core/accounts"


@dataclass(frozen=True, slots=True)
class Patience:
    """
    How long is waited for what Stripe does in its own time, in seconds.

    Attributes:
        active_s: For a new account's owner to be checked.

        available_s: For money to become available.

        payout_s: For a payout to end.

        look_s: Between two looks.
    """

    active_s: float = 180.0
    available_s: float = 120.0
    payout_s: float = 900.0
    look_s: float = 3.0


class Caller:
    """
    One test key's way to Stripe, for writes that move no real money.

    Args:
        key: A test key; it is looked at before a client exists that could send it anywhere.

        base_url, timeout_s: As of `Gateway`.

        clock: Waits, and says when the terms were accepted.

    Raises:
        SettingsError: It is a live key, or none.
    """

    def __init__(
        self, key: str, *, base_url: str, timeout_s: float, clock: Clock, patience: Patience | None = None
    ) -> None:
        self.identity = identify_key(key)
        if self.identity.livemode:
            raise SettingsError(f"The {self.identity} cannot seed.", "Use a key of Stripe's test mode.")
        self.clock = clock
        self.patience = patience or Patience()
        self.client = new_client(key, base_url=base_url, timeout_s=timeout_s)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.identity}>"

    def write(
        self, what: str, create: Callable[..., Any], body: dict[str, Any], *, account: str = ""
    ) -> dict[str, Any]:
        """Make one thing, on behalf of *account* where one is given; *what* says it in words, for the error."""
        options = {"idempotency_key": new_key()} | ({"stripe_account": account} if account else {})
        return self.call(what, lambda: create(body, options))

    def raw(self, what: str, method: str, path: str, **params: Any) -> dict[str, Any]:
        """Make one call past the SDK's types, and return the JSON."""
        return self._tried(what, lambda: cast("dict[str, Any]", self.client.raw_request(method, path, **params).data))

    def call(self, what: str, ask: Callable[[], Any]) -> dict[str, Any]:
        """Make one call of the SDK, and return the object as a dict."""
        return self._tried(what, lambda: cast("dict[str, Any]", ask().to_dict()))

    def _tried(self, what: str, call: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Make one call; again with the same key after what says nothing about it: 429, a conflict, a lost answer."""
        for tries in range(len(PAUSES_S) + 1):
            try:
                with notices_are_not_errors():
                    return call()
            except stripe.StripeError as error:
                pause_s = _pause_s(error, tries, what)
                if pause_s is None:
                    raise seeding_error(error, what) from None
            self.clock.wait(pause_s)
        raise AssertionError("Bug: the last try returns or raises")

    def wait_for(self, what: str, remedy: str, limit_s: float, over: Callable[[], bool]) -> None:
        """
        Ask *over* until it says yes.

        Raises:
            NotFinishedError: It has not within *limit_s*; the sentence is *what* and how long was waited.
        """
        waited_s, pause_s = 0.0, self.patience.look_s
        while not over():
            if waited_s + pause_s > limit_s:
                raise NotFinishedError(f"{what} after {waited_s:.0f} s.", remedy)
            self.clock.wait(pause_s)
            waited_s += pause_s
            # Stripe allots reads by the number of payments, of which a test account has few.
            pause_s = min(2 * pause_s, 10 * self.patience.look_s)


def new_key() -> str:
    """Return an idempotency key for one write, in this rehearsal alone."""
    return f"manual-payout-seed-{secrets.token_hex(16)}"


def _pause_s(error: stripe.StripeError, tries: int, what: str) -> float | None:
    """Return how long to wait before the next try, or None where there is none."""
    passing = isinstance(error, stripe.RateLimitError | stripe.APIConnectionError) or error.http_status == 409
    if not passing or tries >= len(PAUSES_S):
        return None
    pause_s = max(jittered_s(PAUSES_S[tries], seed=f"{what} {tries}"), asked_s(error.headers) or 0.0)
    return pause_s if pause_s <= PAUSE_MAX_S else None


def seeding_error(error: stripe.StripeError, what: str) -> ManualPayoutError:
    """Put a failing call of the seeding into one sentence."""
    message = one_line(mask_keys(str(error.user_message or type(error).__name__))).rstrip(".")
    code = one_line(str(getattr(error.error, "code", None) or ""))
    if isinstance(error, stripe.AuthenticationError):
        return SettingsError(
            f"Stripe does not accept the key in STRIPE_REHEARSAL_SECRET_KEY: {message}.",
            "Copy the current test key from the Dashboard, in test mode or in your sandbox, and export it again.",
        )
    if isinstance(error, stripe.APIConnectionError):
        return StripeRefusedError(
            f"Stripe could not be reached to {what}.", "Check the network, then rehearse again.", code="unreachable"
        )
    if isinstance(error, stripe.PermissionError):
        code = NOT_PERMITTED
    return StripeRefusedError(
        f"Stripe refused to {what}: {message}.",
        _remedy(message, code),
        code=code,
        request_id=one_line(error.request_id or ""),
    )


def _remedy(message: str, code: str) -> str:
    if code == NOT_PERMITTED:
        return "Give the rehearsal's key the permission that Stripe names, or use the secret test key."
    if "signed up for Connect" in message or code == "connect_profile_not_submitted":
        return "Enable Connect and complete the platform profile in the Dashboard (docs/test-mode.md)."
    return "Correct what it names, then rehearse again (docs/test-mode.md)."
