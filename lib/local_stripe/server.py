"""
The HTTP surface: every request is authenticated, checked, executed once and answered as Stripe answers.

The order of the checks is the documented one where there is one: the rate limiter stands before the idempotency
layer, and what fails validation is not kept under the key (Stripe documentation, *Idempotent requests*, *Rate
limits*). Permission before validation, and validation before execution, are assumptions.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from local_stripe.books import Books
from local_stripe.connections import Connections
from local_stripe.errors import Json, RefusalError
from local_stripe.expand import check_paths, expand
from local_stripe.faults import Fault, FaultPlan
from local_stripe.handlers import Call
from local_stripe.idempotency import Answer, IdempotencyKeys
from local_stripe.ids import REQUEST_ID_LENGTH
from local_stripe.operations import OPERATIONS, Operation
from local_stripe.params import check, parse_form, parse_json
from local_stripe.permissions import (
    PLATFORM_ACCOUNT,
    ApiKey,
    authenticate,
    lacks_permission,
    no_access,
    require,
)
from local_stripe.records import Account, RequestRecord
from local_stripe.settlement import catch_up
from local_stripe.versions import API_VERSION, check_version


@dataclass(slots=True)
class _Exchange:
    """A request on its way through the checks."""

    operation: Operation
    request: Request
    encoded: str
    record: RequestRecord
    key: ApiKey | None = None
    account: str = PLATFORM_ACCOUNT
    params: Json = field(default_factory=dict)
    claimed: bool = False

    @property
    def idempotency_key(self) -> str | None:
        """The key that counts: GET has none, whatever was sent."""
        return self.record.idempotency_key if self.operation.method == "POST" else None


class Front:
    """Everything behind the endpoints: the books, the kept answers, the planted faults and the request log."""

    def __init__(self, books: Books) -> None:
        self.books = books
        self.keys = IdempotencyKeys()
        self.faults = FaultPlan()
        self.requests: list[RequestRecord] = []
        self.connections = Connections()

    def clear(self) -> None:
        """Forget everything, as after a start without seeds."""
        with self.books.lock:
            self.books.clear()
            self.keys = IdempotencyKeys()
            self.faults.clear()
            self.requests.clear()

    async def handle(self, operation: Operation, request: Request) -> Response:
        """Answer one request."""
        encoded = (await request.body()).decode("utf-8", "replace") if operation.method == "POST" else request.url.query
        exchange = _Exchange(operation, request, encoded, self._log(request))
        fault: Fault | None = None
        try:
            with self.books.lock:
                catch_up(self.books)
                self._identify(exchange)
                fault = self._meet_fault(exchange)
                kept = None if fault is not None and fault.kind == "drop_before" else self._admit(exchange)
            if fault is not None and fault.kind == "drop_before":
                return self._drop(exchange)
            if fault is not None and fault.kind == "slow" and fault.sleep_first:
                await asyncio.sleep(fault.seconds)
            with self.books.lock:
                answer = kept or self._execute(exchange, fault)
            if fault is not None and fault.kind == "slow" and not fault.sleep_first:
                await asyncio.sleep(fault.seconds)
        except RefusalError as refusal:
            answer = self._refused(exchange, refusal)
            kept = None
        finally:
            self._release(exchange)
        return self._respond(exchange, answer, fault, replayed=kept is not None)

    def unknown_url(self, request: Request) -> Response:
        """Answer a request for something that is not there."""
        record = self._log(request)
        refusal = RefusalError(
            f"Unrecognized request URL ({request.method}: {request.url.path}). {_hint(request.url.path)}Please see https://stripe.com/docs or "
            "we can help at https://support.stripe.com/.",
            status=404,
        )
        record.status = refusal.status
        body = refusal.body(record.request_id, self.books.now_s)
        headers = {"Date": formatdate(self.books.now_s, usegmt=True), "Request-Id": record.request_id}
        return _json(Answer(refusal.status, _encode(body), record.request_id), headers)

    def _log(self, request: Request) -> RequestRecord:
        with self.books.lock:
            record = RequestRecord(
                request.method,
                request.url.path,
                request.headers.get("idempotency-key"),
                request.headers.get("stripe-account"),
                self.books.ids.take("req", REQUEST_ID_LENGTH),
                str(self.books.clock),
            )
            self.requests.append(record)
        return record

    def _identify(self, exchange: _Exchange) -> None:
        """Find the key and the account and read the form, or refuse with 401, 403 or 400."""
        headers = exchange.request.headers
        exchange.key = authenticate(headers.get("authorization"), self.books.switches.expired_keys)
        exchange.record.key = exchange.key.name
        check_version(headers.get("stripe-version"))
        account = headers.get("stripe-account") or PLATFORM_ACCOUNT
        if not isinstance(self.books.find(account), Account):
            raise no_access(exchange.key, account)
        exchange.account = account
        as_json = exchange.record.method == "POST" and exchange.record.path.startswith("/v2/")
        exchange.record.params = (parse_json if as_json else parse_form)(exchange.encoded)

    def _meet_fault(self, exchange: _Exchange) -> Fault | None:
        fault = self.faults.take(exchange.record.method, exchange.record.path)
        if fault is None:
            return None
        exchange.record.fault = fault.kind
        if fault.kind == "status_403":
            raise lacks_permission(_known(exchange.key), exchange.operation.permission, exchange.account)
        early = fault.early(exchange.record.idempotency_key or "")
        if early is not None:
            raise early
        return fault

    def _admit(self, exchange: _Exchange) -> Answer | None:
        """Let the request through to execution; or return the answer that its idempotency key already has."""
        operation, key = exchange.operation, _known(exchange.key)
        connected = operation.connect_column or exchange.account != PLATFORM_ACCOUNT
        require(key, operation.permission, exchange.account, connected=connected)
        form = exchange.record.params
        kept = self._claim(exchange, form)
        if kept is not None:
            return kept
        exchange.params = check(form, operation.spec)
        check_paths(
            key, exchange.account, operation.returns, exchange.params.get("expand", []), listed=operation.listed
        )
        return None

    def _claim(self, exchange: _Exchange, form: Json) -> Answer | None:
        if exchange.idempotency_key is None:
            return None
        endpoint = f"{exchange.record.method} {exchange.record.path}"
        kept = self.keys.claim(exchange.account, exchange.idempotency_key, endpoint, form, self.books.now_s)
        exchange.claimed = kept is None
        return kept

    def _execute(self, exchange: _Exchange, fault: Fault | None) -> Answer:
        """Carry the request out, and keep the answer under its key, be it good or bad."""
        # Time may have passed in a planted wait.
        catch_up(self.books)
        try:
            body = self._act(exchange) if fault is None or fault.moves else {}
            instead = None if fault is None else fault.instead()
            if instead is not None:
                raise instead
            answer = Answer(200, _encode(body), exchange.record.request_id)
        except RefusalError as refusal:
            if not refusal.saved:
                raise
            answer = self._refused(exchange, refusal)
        if exchange.claimed:
            self.keys.finish(exchange.account, exchange.idempotency_key or "", answer)
            exchange.claimed = False
        return answer

    def _act(self, exchange: _Exchange) -> Json:
        call = Call(
            self.books,
            exchange.account,
            exchange.record.path,
            dict(exchange.request.path_params),
            exchange.params,
            exchange.idempotency_key,
        )
        return expand(self.books, exchange.operation.act(call), exchange.params.get("expand", []))

    def _refused(self, exchange: _Exchange, refusal: RefusalError) -> Answer:
        request_id = exchange.record.request_id
        body = refusal.body(request_id, self.books.now_s)
        return Answer(refusal.status, _encode(body), request_id, dict(refusal.headers))

    def _release(self, exchange: _Exchange) -> None:
        """Give back the key of a request that was not executed."""
        if exchange.claimed:
            with self.books.lock:
                self.keys.release(exchange.account, exchange.idempotency_key or "")
            exchange.claimed = False

    def _respond(self, exchange: _Exchange, answer: Answer, fault: Fault | None, *, replayed: bool) -> Response:
        if fault is not None and fault.kind == "drop_after":
            return self._drop(exchange)
        record = exchange.record
        record.status, record.replayed = answer.status, replayed
        headers = {
            "Date": formatdate(self.books.now_s, usegmt=True),
            "Request-Id": record.request_id,
            "Stripe-Version": exchange.request.headers.get("stripe-version", API_VERSION),
        }
        if record.idempotency_key is not None:
            headers["Idempotency-Key"] = record.idempotency_key
        if record.account is not None:
            headers["Stripe-Account"] = record.account
        if replayed:
            headers |= {"Idempotent-Replayed": "true", "Original-Request": answer.request_id}
        if fault is not None and fault.kind == "garbage":
            record.status = 200
            return Response(b"<html>upstream said: 200</html>", 200, headers, "text/html")
        return _json(answer, headers)

    def _drop(self, exchange: _Exchange) -> Response:
        exchange.record.status = None
        return _Dropped(self.connections)


class _Dropped(Response):
    """No answer at all: the connection is closed under the caller."""

    def __init__(self, connections: Connections) -> None:
        super().__init__()
        self._connections = connections

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  # The ASGI signature.
        self._connections.abort(scope["client"])
        while (await receive())["type"] != "http.disconnect":
            continue


def stripe_routes(front: Front) -> list[Route]:
    """Build one route for each operation."""
    return [_route(front, operation) for operation in OPERATIONS]


def application(front: Front, admin: list[Route]) -> Starlette:
    """Build the web application: Stripe's endpoints, the sandbox's own, and Stripe's 404 for the rest."""

    async def unknown(request: Request, _error: Exception) -> Response:
        return front.unknown_url(request)

    app = Starlette(routes=[*stripe_routes(front), *admin], exception_handlers={404: unknown, 405: unknown})
    # A redirect to the address without the slash would be followed, and a transfer made that Stripe does not make.
    app.router.redirect_slashes = False
    return app


def _hint(path: str) -> str:
    if not path.endswith("/") and "//" not in path:
        return ""
    return (
        "If you are trying to list objects, remove the trailing slash. If you are trying to retrieve an object, make sure "
        "you passed a valid (non-empty) identifier in your code. "
    )


def _route(front: Front, operation: Operation) -> Route:
    async def endpoint(request: Request) -> Response:
        return await front.handle(operation, request)

    # HEAD would come along with GET; Stripe has none.
    route = Route(operation.path, endpoint, methods=[operation.method], name=f"{operation.method} {operation.path}")
    route.methods = {operation.method}
    return route


def _json(answer: Answer, headers: dict[str, str]) -> Response:
    return Response(answer.body, answer.status, {**headers, **answer.headers}, "application/json")


def _encode(body: Any) -> bytes:
    return json.dumps(body, indent=2).encode()


def _known(key: ApiKey | None) -> ApiKey:
    if key is None:
        raise RuntimeError("Bug: the request was not identified")
    return key
