"""
The provider: its own books, idempotency as documented, and every way in which an answer can be worse than none.

The real `Gateway` talks to these books through `Connection`, which stands where the SDK's client stands and raises the
SDK's own exceptions; so the judgement of answers under test is the real one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import stripe

from manual_payout.gateway import Answer, Gateway, identify_key
from manual_payout.sandbox import FALLBACK_KEY, PLATFORM_ACCOUNT

# What can befall one POST. Before the idempotency layer: nothing is stored, nothing moves.
EARLY_FAULTS = ("lost_before", "rate_limit", "lock_timeout", "unauthorized", "forbidden", "unavailable", "invalid")
# With the request executed, stored and answered in some way.
LATE_FAULTS = (
    "lost_after", "outage", "delayed", "stored_500", "stored_500_paid", "balance_insufficient", "no_capability", "garbage",
    "garbage_paid", "foreign_json", "foreign_json_paid",
)  # fmt: skip
POST_FAULTS = EARLY_FAULTS + LATE_FAULTS
READ_FAULTS = ("read_lost", "read_rate_limit", "read_500")

# Stripe may forget a key once it is 24 hours old; how much later it does is not documented.
KEY_AGE_MIN = timedelta(hours=24)

_EVER = datetime(2000, 1, 1, tzinfo=UTC)
_IDENTITY = identify_key(FALLBACK_KEY)


@dataclass(slots=True)
class Stored:
    """What is kept under one idempotency key."""

    payload: dict[str, Any]
    forgotten_at: datetime
    answer: Callable[[], Any] | None = None


@dataclass(slots=True)
class Post:
    """One POST that reached the provider."""

    at: datetime
    key: str
    run: Any


@dataclass(slots=True)
class Transfer:
    """One transfer in the books, with what the provider alone knows."""

    shown: dict[str, Any]
    key: str
    at: datetime
    run: Any


@dataclass
class Books:
    """
    The provider's side of one scenario.

    Attributes:
        available: The platform's balance in minor units.

        key_age: How old a key gets before it is forgotten.

        lag: For how long a new transfer is missing from listings.

        delay: How long an effect takes that comes after its answer was given up; an outage lasts five times that.

        post_faults, read_faults: By the ordinal of the call that they befall.
    """

    now: Callable[[], datetime]
    available: int
    key_age: timedelta = KEY_AGE_MIN
    lag: timedelta = timedelta(0)
    delay: timedelta = timedelta(seconds=30)
    unreachable_until: datetime = _EVER
    post_faults: dict[int, str] = field(default_factory=dict)
    read_faults: dict[int, str] = field(default_factory=dict)
    transfers: list[Transfer] = field(default_factory=list)
    posts: list[Post] = field(default_factory=list)
    reads: int = 0
    keys: dict[str, Stored] = field(default_factory=dict)
    pending: list[tuple[datetime, Callable[[], None]]] = field(default_factory=list)
    hits: Counter[str] = field(default_factory=Counter)
    run: Callable[[], Any] = lambda: None
    watch_post: Callable[[Post, dict[str, Any]], None] = lambda _post, _payload: None

    def create(self, payload: dict[str, Any], key: str) -> Any:
        """Take one POST; return what the SDK would, or raise what it would."""
        now = self.catch_up()
        post = Post(now, key, self.run())
        self.posts.append(post)
        self.watch_post(post, payload)
        fault = "" if now < self.unreachable_until else self.post_faults.pop(len(self.posts), "")
        if fault:
            self.hits[fault] += 1
        if now < self.unreachable_until:
            _raise(_lost())
        if fault in EARLY_FAULTS:
            _raise(_EARLY[fault]())
        answer = self._answer(payload, key, now, fault, post)
        if fault == "outage":
            self.unreachable_until = now + 5 * self.delay
        if fault in ("lost_after", "outage"):
            raise stripe.APIConnectionError("Connection reset by peer")
        return answer()

    def list(self, group: str) -> list[dict[str, Any]]:
        """Return the group's transfers as they show by now, newest first."""
        now = self.read()
        return [
            _copy(one.shown)
            for one in reversed(self.transfers)
            if one.shown["transfer_group"] == group and one.at + self.lag <= now
        ]

    def read(self) -> datetime:
        """Answer a read, or fail as planned."""
        self.reads += 1
        if self.now() < self.unreachable_until:
            _raise(_lost())
        fault = self.read_faults.pop(self.reads, "")
        if fault:
            self.hits[fault] += 1
            _raise(_READ[fault]())
        return self.catch_up()

    def catch_up(self) -> datetime:
        """Carry out what was delayed and is due."""
        now = self.now()
        if self.pending:
            due = [effect for at, effect in self.pending if at <= now]
            self.pending = [entry for entry in self.pending if entry[0] > now]
            for effect in due:
                effect()
        return now

    def _answer(self, payload: dict[str, Any], key: str, now: datetime, fault: str, post: Post) -> Callable[[], Any]:
        stored = self.keys.get(key)
        if stored is not None and now >= stored.forgotten_at and stored.answer is not None:
            self.hits["key forgotten"] += 1
            stored = None
        if stored is None:
            return self._execute(payload, key, now, fault, post)
        if stored.payload != payload:
            return lambda: _raise(_mismatch(key))
        if stored.answer is None:
            self.hits["key in use"] += 1
            return lambda: _raise(_error(stripe.APIError, 409, "idempotency_key_in_use", "Key in use."))
        self.hits["replayed"] += 1
        return stored.answer

    def _execute(self, payload: dict[str, Any], key: str, now: datetime, fault: str, post: Post) -> Callable[[], Any]:
        stored = self.keys[key] = Stored(payload, now + self.key_age)
        if fault == "delayed":

            def later() -> None:
                stored.answer = self._effect(payload, key, "", post)

            self.pending.append((now + self.delay, later))
            return lambda: _raise(stripe.APIConnectionError("Read timed out"))
        stored.answer = self._effect(payload, key, fault, post)
        if fault.startswith("garbage"):
            return lambda: _raise(stripe.APIError("Invalid response body from API", "<html>", 200))
        if fault.startswith("foreign_json"):
            return lambda: _Answer({"object": "list", "data": []})
        return stored.answer

    def _effect(self, payload: dict[str, Any], key: str, fault: str, post: Post) -> Callable[[], Any]:
        if fault == "no_capability":
            return lambda: _raise(_refusal(400, "insufficient_capabilities_for_transfer", "No transfers capability."))
        if fault == "balance_insufficient" or payload["amount"] > self.available:
            self.hits["refused for balance"] += 1
            return lambda: _raise(_refusal(400, "balance_insufficient", "You have insufficient available funds."))
        if fault in ("stored_500", "garbage", "foreign_json"):
            return lambda: _raise(_error(stripe.APIError, 500, "api_error", "An unknown error occurred."))
        shown = self._transfer(payload, key, post)
        if fault == "stored_500_paid":
            return lambda: _raise(_error(stripe.APIError, 500, "api_error", "An unknown error occurred."))
        return lambda: _Answer(_copy(shown))

    def _transfer(self, payload: dict[str, Any], key: str, post: Post) -> dict[str, Any]:
        self.available -= payload["amount"]
        shown = {
            "id": f"tr_{len(self.transfers) + 1}",
            "object": "transfer",
            "amount_reversed": 0,
            "reversed": False,
            "livemode": False,
            **payload,
        }
        self.transfers.append(Transfer(shown, key, self.now(), post.run))
        return shown


class Connection:
    """What the gateway uses of the SDK's client, on these books."""

    def __init__(self, books: Books) -> None:
        self._books = books
        self.v1 = SimpleNamespace(
            transfers=SimpleNamespace(create=self._create, list=self._list, retrieve=self._retrieve),
            balance=SimpleNamespace(retrieve=self._balance),
            accounts=SimpleNamespace(retrieve_current=self._account),
        )

    def _create(self, payload: dict[str, Any], options: dict[str, Any]) -> Any:
        return self._books.create(payload, options["idempotency_key"])

    def _list(self, params: dict[str, Any]) -> Any:
        return _Answer({"data": self._books.list(params["transfer_group"]), "has_more": False})

    def _retrieve(self, transfer_id: str, _params: dict[str, Any]) -> Any:
        self._books.read()
        return _Answer(next(_copy(one.shown) for one in self._books.transfers if one.shown["id"] == transfer_id))

    def _balance(self) -> Any:
        self._books.read()
        return _Answer({"livemode": False, "available": [{"amount": max(self._books.available, 0), "currency": "usd"}]})

    def _account(self) -> Any:
        self._books.read()
        return SimpleNamespace(id=PLATFORM_ACCOUNT)


class BooksGateway(Gateway):
    """The real gateway, on a connection to the books instead of the network; with boundaries around every call."""

    def __init__(self, books: Books, world: Any) -> None:
        self.identity = _IDENTITY
        self.base_url = "memory"
        self._client = Connection(books)
        self._world = world

    def create_transfer(self, payload: dict[str, Any], *, idempotency_key: str) -> Answer:
        self._world.step("post:before")
        answer = super().create_transfer(payload, idempotency_key=idempotency_key)
        self._world.wait(30.0 if getattr(answer, "code", "") == "APIConnectionError" else 0.4)
        self._world.step("post:after")
        return answer

    def transfers_in_group(self, transfer_group: str) -> list[dict[str, Any]]:
        self._world.step("listing")
        self._world.pass_time(0.2)
        return super().transfers_in_group(transfer_group)

    def account_id(self) -> str | None:
        self._world.step("account")
        self._world.pass_time(0.1)
        return super().account_id()


class _Answer:
    """What the SDK returns."""

    last_response = SimpleNamespace(headers={"Request-Id": "req_1"})

    def __init__(self, values: dict[str, Any]) -> None:
        self._values = values

    def to_dict(self) -> dict[str, Any]:
        return self._values


def _copy(shown: dict[str, Any]) -> dict[str, Any]:
    return shown | {"metadata": dict(shown["metadata"])}


def _raise(error: Exception) -> Any:
    raise error


def _error(kind: Any, status: int, code: str, message: str) -> stripe.StripeError:
    body = {"error": {"code": code, "message": message, "type": "api_error"}}
    return kind(message, None, status, body, {"request-id": "req_1"}, code)


def _refusal(status: int, code: str, message: str) -> stripe.StripeError:
    body = {"error": {"code": code, "message": message, "type": "invalid_request_error"}}
    return stripe.InvalidRequestError(message, None, code, None, status, body, {"request-id": "req_1"})


def _mismatch(key: str) -> stripe.StripeError:
    message = f"Keys for idempotent requests can only be used with the same parameters they were first used with: {key}"
    body = {"error": {"message": message, "type": "idempotency_error"}}
    return stripe.IdempotencyError(message, None, 400, body, {"request-id": "req_1"})


def _lost() -> stripe.StripeError:
    return stripe.APIConnectionError("Connection reset by peer")


def _rate_limit() -> stripe.StripeError:
    return _error(stripe.RateLimitError, 429, "rate_limit", "Too many requests.")


def _server_error() -> stripe.StripeError:
    return _error(stripe.APIError, 503, "api_error", "Service unavailable.")


_EARLY: dict[str, Callable[[], stripe.StripeError]] = {
    "lost_before": _lost,
    "rate_limit": _rate_limit,
    "lock_timeout": lambda: _error(stripe.RateLimitError, 429, "lock_timeout", "This object is locked."),
    "unauthorized": lambda: _error(stripe.AuthenticationError, 401, "api_key_expired", "Expired API Key."),
    "forbidden": lambda: _error(stripe.PermissionError, 403, "more_permissions_required", "Not permitted."),
    "unavailable": _server_error,
    "invalid": lambda: _refusal(400, "parameter_invalid_integer", "Invalid integer."),
}
_READ: dict[str, Callable[[], stripe.StripeError]] = {
    "read_lost": _lost,
    "read_rate_limit": _rate_limit,
    "read_500": _server_error,
}
