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

from local_stripe import FALLBACK_KEY, PLATFORM_ACCOUNT
from manual_payout.gateway import Answer, Gateway, identify_key

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

    payload: tuple[str, dict[str, Any]]
    forgotten_at: datetime
    answer: Callable[[], Any] | None = None


@dataclass(slots=True)
class Post:
    """One POST that reached the provider; of a reversal with the transfer that it is about."""

    at: datetime
    key: str
    run: Any
    transfer_id: str = ""


@dataclass(slots=True)
class Transfer:
    """One transfer in the books, with what the provider alone knows."""

    shown: dict[str, Any]
    key: str
    at: datetime
    run: Any
    by_hand: bool = True


@dataclass(slots=True)
class Reversal:
    """One reversal in the books; *before* is how much of its transfer had come back until then, in minor units."""

    shown: dict[str, Any]
    key: str
    at: datetime
    run: Any
    before: int


@dataclass
class Books:
    """
    The provider's side of one scenario.

    Attributes:
        available: The platform's balance in minor units.

        studio_available: What the connected account has, from which a reversal takes; minor units.

        act: Before what is counted here, so that the second act's figures stand by themselves.

        key_age: How old a key gets before it is forgotten.

        lag: For how long a new transfer is missing from listings.

        delay: How long an effect takes that comes after its answer was given up; an outage lasts five times that.

        post_faults, read_faults: By the ordinal of the call that they befall.
    """

    now: Callable[[], datetime]
    available: int
    studio_available: int = 0
    act: str = ""
    key_age: timedelta = KEY_AGE_MIN
    lag: timedelta = timedelta(0)
    delay: timedelta = timedelta(seconds=30)
    unreachable_until: datetime = _EVER
    post_faults: dict[int, str] = field(default_factory=dict)
    read_faults: dict[int, str] = field(default_factory=dict)
    transfers: list[Transfer] = field(default_factory=list)
    reversals: list[Reversal] = field(default_factory=list)
    posts: list[Post] = field(default_factory=list)
    reads: int = 0
    keys: dict[str, Stored] = field(default_factory=dict)
    pending: list[tuple[datetime, Callable[[], None]]] = field(default_factory=list)
    hits: Counter[str] = field(default_factory=Counter)
    run: Callable[[], Any] = lambda: None
    watch_post: Callable[[Post, dict[str, Any]], None] = lambda _post, _payload: None

    def create(self, payload: dict[str, Any], key: str, transfer_id: str = "") -> Any:
        """Take one POST, with a transfer to reverse part of it; return what the SDK would, or raise what it would."""
        now = self.catch_up()
        post = Post(now, key, self.run(), transfer_id)
        self.posts.append(post)
        self.watch_post(post, payload)
        fault = "" if now < self.unreachable_until else self.post_faults.pop(len(self.posts), "")
        if fault:
            self.hits[self.act + fault] += 1
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

    def list(self, created_min: int = 0, **wanted: str) -> list[dict[str, Any]]:
        """Return the transfers with these fields, created since then, as they show by now, newest first."""
        now = self.read()
        return [
            _copy(one.shown)
            for one in reversed(self.transfers)
            if one.at + self.lag <= now
            and one.shown["created"] >= created_min
            and all(one.shown[name] == value for name, value in wanted.items())
        ]

    def reversals_of(self, transfer_id: str) -> list[dict[str, Any]]:
        """Return the reversals of one transfer as they show by now, newest first."""
        now = self.read()
        return [
            _copy(one.shown)
            for one in reversed(self.reversals)
            if one.shown["transfer"] == transfer_id and one.at + self.lag <= now
        ]

    def take_back(self, transfer_id: str, payload: dict[str, Any], key: str = "", run: Any = None) -> Reversal:
        """Make a reversal, by a request or, without a key, by somebody in the Dashboard; there is enough left of it."""
        transfer = self.find(transfer_id)
        assert transfer is not None
        before = transfer.shown["amount_reversed"]
        transfer.shown["amount_reversed"] = before + payload["amount"]
        transfer.shown["reversed"] = transfer.shown["amount_reversed"] == transfer.shown["amount"]
        self.studio_available -= payload["amount"]
        self.available += payload["amount"]
        shown = {
            "id": f"trr_{len(self.reversals) + 1}",
            "object": "transfer_reversal",
            "transfer": transfer_id,
            "currency": transfer.shown["currency"],
            **payload,
        }
        made = Reversal(shown, key, self.now(), run, before)
        self.reversals.append(made)
        return made

    def find(self, transfer_id: str) -> Transfer | None:
        """Return the transfer of that id, or None."""
        return next((one for one in self.transfers if one.shown["id"] == transfer_id), None)

    def read(self) -> datetime:
        """Answer a read, or fail as planned."""
        self.reads += 1
        if self.now() < self.unreachable_until:
            _raise(_lost())
        fault = self.read_faults.pop(self.reads, "")
        if fault:
            self.hits[self.act + fault] += 1
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
            self.hits[f"{self.act}key forgotten"] += 1
            stored = None
        if stored is None:
            return self._execute(payload, key, now, fault, post)
        if stored.payload != (post.transfer_id, payload):
            return lambda: _raise(_mismatch(key))
        if stored.answer is None:
            self.hits[f"{self.act}key in use"] += 1
            return lambda: _raise(_error(stripe.APIError, 409, "idempotency_key_in_use", "Key in use."))
        self.hits[f"{self.act}replayed"] += 1
        return stored.answer

    def _execute(self, payload: dict[str, Any], key: str, now: datetime, fault: str, post: Post) -> Callable[[], Any]:
        stored = self.keys[key] = Stored((post.transfer_id, payload), now + self.key_age)
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
        held = self.studio_available if post.transfer_id else self.available
        if fault == "balance_insufficient" or payload["amount"] > held:
            self.hits[f"{self.act}refused for balance"] += 1
            return lambda: _raise(_refusal(400, "balance_insufficient", "You have insufficient available funds."))
        if fault in ("stored_500", "garbage", "foreign_json"):
            return lambda: _raise(_error(stripe.APIError, 500, "api_error", "An unknown error occurred."))
        if post.transfer_id and payload["amount"] > self._left(post.transfer_id):
            self.hits[f"{self.act}refused for what is left"] += 1
            return lambda: _raise(_refusal(400, "parameter_invalid_integer", "More than what is left."))
        if post.transfer_id:
            shown = self.take_back(post.transfer_id, payload, key, post.run).shown
        else:
            shown = self._transfer(payload, key, post)
        if fault == "stored_500_paid":
            return lambda: _raise(_error(stripe.APIError, 500, "api_error", "An unknown error occurred."))
        return lambda: _Answer(_copy(shown))

    def _left(self, transfer_id: str) -> int:
        transfer = self.find(transfer_id)
        return transfer.shown["amount"] - transfer.shown["amount_reversed"] if transfer is not None else 0

    def pay_in_dashboard(self, order: dict[str, Any]) -> str:
        """Make a transfer that no run of ours has sent, and return its id."""
        made = self._transfer(order, "", None)
        self.transfers[-1].by_hand = False
        return str(made["id"])

    def _transfer(self, payload: dict[str, Any], key: str, post: Post | None) -> dict[str, Any]:
        self.available -= payload["amount"]
        shown = {
            "id": f"tr_{len(self.transfers) + 1}",
            "object": "transfer",
            "amount_reversed": 0,
            "reversed": False,
            "livemode": False,
            "created": int(self.now().timestamp()),
            "transfer_group": None,
            "metadata": {},
            **payload,
        }
        self.transfers.append(Transfer(shown, key, self.now(), post.run if post is not None else None))
        return shown


class Connection:
    """What the gateway uses of the SDK's client, on these books."""

    def __init__(self, books: Books) -> None:
        self._books = books
        self.v1 = SimpleNamespace(
            transfers=SimpleNamespace(
                create=self._create,
                list=self._list,
                retrieve=self._retrieve,
                reversals=SimpleNamespace(create=self._reverse, list=self._reversals),
            ),
            balance=SimpleNamespace(retrieve=self._balance),
            accounts=SimpleNamespace(retrieve_current=self._account),
        )

    def _create(self, payload: dict[str, Any], options: dict[str, Any]) -> Any:
        return self._books.create(payload, options["idempotency_key"])

    def _reverse(self, transfer_id: str, payload: dict[str, Any], options: dict[str, Any]) -> Any:
        return self._books.create(payload, options["idempotency_key"], transfer_id)

    def _reversals(self, transfer_id: str, _params: dict[str, Any]) -> Any:
        return _Answer({"data": self._books.reversals_of(transfer_id), "has_more": False})

    def _list(self, params: dict[str, Any]) -> Any:
        wanted = {name: params[name] for name in ("transfer_group", "destination") if name in params}
        found = self._books.list(params.get("created", {}).get("gte", 0), **wanted)
        names = [one["id"] for one in found]
        start = names.index(params["starting_after"]) + 1 if "starting_after" in params else 0
        page = found[start : start + params["limit"]]
        return _Answer({"data": page, "has_more": len(found) > start + len(page)})

    def _retrieve(self, transfer_id: str, _params: dict[str, Any]) -> Any:
        self._books.read()
        found = self._books.find(transfer_id)
        if found is None:
            _raise(_refusal(404, "resource_missing", f"No such transfer: {transfer_id}"))
        return _Answer(_copy(found.shown))

    def _balance(self, _params: Any = None, options: dict[str, Any] | None = None) -> Any:
        self._books.read()
        if options and "stripe_account" in options:
            # The fallback key may not look into connected accounts: the usual case.
            _raise(_error(stripe.PermissionError, 403, "more_permissions_required", "Not permitted."))
        minor = max(self._books.available, 0)
        available = {"amount": minor, "currency": "usd", "source_types": {"card": minor}}
        return _Answer({"livemode": False, "available": [available]})

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
        return self._between(
            lambda: super(BooksGateway, self).create_transfer(payload, idempotency_key=idempotency_key)
        )

    def create_reversal(self, transfer_id: str, payload: dict[str, Any], *, idempotency_key: str) -> Answer:
        return self._between(
            lambda: super(BooksGateway, self).create_reversal(transfer_id, payload, idempotency_key=idempotency_key)
        )

    def _between(self, call: Callable[[], Answer]) -> Answer:
        self._world.step("post:before")
        answer = call()
        self._world.wait(30.0 if getattr(answer, "code", "") == "APIConnectionError" else 0.4)
        self._world.step("post:after")
        return answer

    def reversals_of(self, transfer_id: str) -> list[dict[str, Any]]:
        self._world.step("reversals")
        self._world.pass_time(0.2)
        return super().reversals_of(transfer_id)

    def get_transfer(self, transfer_id: str, *, expand: tuple[str, ...] = ()) -> dict[str, Any]:
        self._world.step("get_transfer")
        self._world.pass_time(0.1)
        return super().get_transfer(transfer_id, expand=expand)

    def transfers_in_group(self, transfer_group: str) -> list[dict[str, Any]]:
        self._world.step("listing")
        self._world.pass_time(0.2)
        return super().transfers_in_group(transfer_group)

    def transfers_to(self, destination: str, created_s: int) -> list[dict[str, Any]]:
        self._world.step("listing_to")
        self._world.pass_time(0.2)
        return super().transfers_to(destination, created_s)

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
