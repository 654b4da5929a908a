"""What stands before every page: the host it was asked for, where it was asked from, how much was sent, and what a page may do."""

from __future__ import annotations

import asyncio
import logging
from http import HTTPStatus

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_log = logging.getLogger(__package__)

BODY_BYTES_MAX = 64 * 1024
_BODY_S_MAX = 10.0

# Nothing but our own style sheet and our one script; no frame around us, and no form that leads elsewhere.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "publickey-credentials-get=(self), publickey-credentials-create=(self), camera=(), geolocation=()",
}


class Guard:
    """
    The outermost layer; a request that it refuses reaches nothing else.

    Args:
        app: What is behind it; it finds the whole body as ``scope["body"]``.

        origin: Scheme, host and port at which people open the pages.
    """

    def __init__(self, app: ASGIApp, origin: str) -> None:
        self._app = app
        self._origin = origin
        secure = {"strict-transport-security": "max-age=31536000"} if origin.startswith("https:") else {}
        self._headers = [(name.encode(), value.encode()) for name, value in (_HEADERS | secure).items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request through, or refuse it."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(one for one in self._headers if one[0] not in own)]
            await send(message)

        answer: ASGIApp = self._app
        refused = self._objection(scope)
        if refused is None and scope["method"] == "POST":
            try:
                scope["body"] = await asyncio.wait_for(_body(receive), _BODY_S_MAX)
            except TimeoutError:
                refused = HTTPStatus.REQUEST_TIMEOUT, "The request took too long to arrive."
            except OverflowError:
                refused = HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "A request here has at most 64 kB."
        if refused is not None:
            status, why = refused
            _log.warning("refused with %s: %s", status.value, why)
            answer = PlainTextResponse(f"{why}\n", status, headers={"connection": "close"})
        await answer(scope, receive, with_headers)

    def _objection(self, scope: Scope) -> tuple[HTTPStatus, str] | None:
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
        found = dict(headers)
        hosts = [value for name, value in headers if name == "host"]
        if hosts != [self._origin.partition("://")[2]]:
            return HTTPStatus.MISDIRECTED_REQUEST, "These pages are not served under that name."
        if scope["method"] not in ("GET", "HEAD", "POST"):
            return HTTPStatus.METHOD_NOT_ALLOWED, "Pages are read, and forms are sent."
        if scope["method"] == "POST" and (
            found.get("origin") != self._origin or found.get("sec-fetch-site", "same-origin") != "same-origin"
        ):
            return HTTPStatus.FORBIDDEN, "This was sent from another page than ours."
        length = found.get("content-length", "0")
        if not (length.isascii() and length.isdigit()) or int(length) > BODY_BYTES_MAX:
            return HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "A request here has at most 64 kB."
        return None


async def _body(receive: Receive) -> bytes:
    """
    Read the whole body.

    Raises:
        OverflowError: It is too large.
    """
    parts: bytes = b""
    while True:
        message = await receive()
        parts += message.get("body", b"")
        if len(parts) > BODY_BYTES_MAX:
            raise OverflowError
        if message["type"] != "http.request" or not message.get("more_body"):
            return parts
