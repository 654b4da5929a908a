"""The sandbox's own endpoints, under ``/_sandbox``: time, seeds, faults, switches, and a look at the books."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, replace
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from local_stripe.dump import dump
from local_stripe.errors import Json
from local_stripe.faults import Fault
from local_stripe.mistakes import InvalidValueError
from local_stripe.permissions import KEYS
from local_stripe.records import SandboxAccount
from local_stripe.server import Front
from local_stripe.settlement import catch_up


class Desk:
    """
    What a person or a test does to the sandbox from outside of Stripe's API.

    Args:
        accounts: Connected accounts to begin with.

        available: The platform's available minor units to begin with, for each currency.
    """

    def __init__(self, front: Front, accounts: Iterable[SandboxAccount], available: Mapping[str, int] | None) -> None:
        self.front = front
        # Told the new time as RFC 3339 text whenever it was moved: for what a demo does by the same clock.
        self.on_advance: Callable[[str], None] | None = None
        self._accounts = tuple(accounts)
        self._available = dict(available or {})
        self.seed(self._accounts, self._available)

    def seed(self, accounts: Iterable[SandboxAccount], available: Mapping[str, int] | None = None) -> None:
        """Make accounts and balances what is said here; doing it twice changes nothing."""
        with self.front.books.lock:
            catch_up(self.front.books)
            self.front.books.seed(accounts, available)

    def advance(self, seconds: float) -> None:
        """Let *seconds* pass on the sandbox's clock, with all that falls due meanwhile."""
        with self.front.books.lock:
            self.front.books.clock.advance(seconds)
            catch_up(self.front.books)
        if self.on_advance is not None:
            self.on_advance(str(self.front.books.clock))

    def plant(self, fault: Fault) -> None:
        """Let *fault* happen to the requests it describes."""
        with self.front.books.lock:
            self.front.faults.plant(fault)

    def switch(self, **switches: Any) -> None:
        """Set some of `Switches`."""
        with self.front.books.lock:
            books = self.front.books
            known = {field.name for field in fields(books.switches)}
            for name, value in switches.items():
                if name not in known:
                    raise InvalidValueError("settings", name, f"one of {', '.join(sorted(known))}")
                if name != "expired_keys" and not isinstance(value, bool):
                    raise InvalidValueError(name, value, "true or false")
            expired = frozenset(switches.get("expired_keys", books.switches.expired_keys))
            if unknown := expired - {key.name for key in KEYS}:
                raise InvalidValueError(
                    "expired_keys", sorted(unknown), f"some of {', '.join(key.name for key in KEYS)}"
                )
            switches["expired_keys"] = expired
            books.switches = replace(books.switches, **switches)

    def reset(self) -> None:
        """Go back to how it all started: clock, seeds, no requests, no faults."""
        self.front.clear()
        self.seed(self._accounts, self._available)


def admin_routes(desk: Desk) -> list[Route]:
    """Build the routes under ``/_sandbox``."""
    front = desk.front
    clock = front.books.clock

    def show_clock(_given: Json) -> Json:
        return {"now": str(clock), "ticking": clock.ticking}

    def advance(given: Json) -> Json:
        desk.advance(float(given["seconds"]))
        return show_clock({})

    def plant(given: Json) -> Json:
        desk.plant(Fault(**given))
        return {"waiting": len(front.faults)}

    def clear_faults(_given: Json) -> Json:
        front.faults.clear()
        return {"waiting": 0}

    def seed(given: Json) -> Json:
        desk.seed(read_accounts(given.get("accounts", [])), given.get("available"))
        return {"accounts": len(front.books.accounts)}

    def switch(given: Json) -> Json:
        desk.switch(**given)
        return {"settings": sorted(given)}

    def reset(_given: Json) -> Json:
        desk.reset()
        return show_clock({})

    return [
        _route("GET", "/_sandbox/health", lambda _given: {"status": "ok", **show_clock({})}),
        _route("GET", "/_sandbox/clock", show_clock),
        _route("POST", "/_sandbox/clock/advance", advance),
        _route("GET", "/_sandbox/books", lambda _given: dump(front)),
        _route("POST", "/_sandbox/faults", plant),
        _route("DELETE", "/_sandbox/faults", clear_faults),
        _route("POST", "/_sandbox/seed", seed),
        _route("POST", "/_sandbox/settings", switch),
        _route("POST", "/_sandbox/reset", reset),
    ]


def read_accounts(given: Iterable[Json]) -> list[SandboxAccount]:
    """
    Read accounts from JSON objects whose keys are the fields of `SandboxAccount`.

    Raises:
        InvalidValueError: A key is unknown, the id is missing, or a value is not one of the choices.
    """
    known = {field.name for field in fields(SandboxAccount)}
    accounts = []
    for entry in given:
        for name in entry:
            if name not in known:
                raise InvalidValueError("accounts", name, f"one of {', '.join(sorted(known))}")
        if "id" not in entry:
            raise InvalidValueError("accounts", sorted(entry), "an id in each account")
        available = tuple(dict(entry.get("available", {})).items())
        accounts.append(SandboxAccount(**{**entry, "available": available}))
    return accounts


def _route(method: str, path: str, act: Callable[[Json], Json]) -> Route:
    async def endpoint(request: Request) -> JSONResponse:
        try:
            body = await request.body()
            return JSONResponse(act(await request.json() if body else {}))
        except (InvalidValueError, KeyError, TypeError, ValueError) as error:
            return JSONResponse({"error": str(error) or type(error).__name__}, 400)

    return Route(path, endpoint, methods=[method])
