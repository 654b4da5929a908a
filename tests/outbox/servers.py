"""
Slack, a mail server and PagerDuty as real servers on loopback: they keep what reached a person, and fail on demand.

A *fault* is a word that a server is given for its next request: ``refuse`` says no without taking anything, ``limit``
asks for a pause, ``drop`` breaks off before anything is taken, ``lose`` takes the message and breaks off before the answer.
"""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult

CHANNEL_ID = "C0REHEARSAL"
HOOK = "/services/T0/B0/hookhookhook"

Answer = tuple[int, dict[str, str], str]
DROPPED = None


class Faults:
    """
    What goes wrong next.

    Args:
        draw: Asked once the planned faults are used up.
    """

    def __init__(self, draw: Callable[[], str] = lambda: "") -> None:
        self.planned: deque[str] = deque()
        self.draw = draw

    def next(self) -> str:
        """The fault of this request, or nothing."""
        return self.planned.popleft() if self.planned else self.draw()


class _Quiet(ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        """Say nothing: clients that are killed break off."""


class WebService:
    """
    An HTTP server whose answers a subclass decides.

    Attributes:
        received: Every byte of every request.
    """

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.faults = Faults()
        self.requests: list[tuple[str, dict[str, str], dict]] = []
        self.received: list[bytes] = []
        self._server = _Quiet(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        if context is not None:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()
        self.port = self._server.server_address[1]
        self._scheme = "https" if context else "http"
        self.hold = threading.Event()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"{self._scheme}://127.0.0.1:{self.port}"

    def close(self) -> None:
        """Stop listening."""
        self.hold.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, path: str, body: dict, fault: str) -> Answer | None:  # noqa: ARG002  # for subclasses
        """Decide; None breaks the connection."""
        raise AssertionError

    def _handler(self):
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                raw = self.rfile.read(int(self.headers["Content-Length"] or 0))
                body = _parsed(raw, self.headers.get("Content-Type", ""))
                service.requests.append((self.path, dict(self.headers.items()), body))
                service.received.append(f"{self.requestline}\n{self.headers}".encode() + raw)
                fault = service.faults.next()
                if fault == "slow":
                    service.hold.wait(30)
                    answer = DROPPED
                else:
                    answer = service.answer(self.path, body, fault)
                self.close_connection = True
                if answer is DROPPED:
                    self.connection.close()
                    return
                status, headers, text = answer
                data = text.encode()
                self.send_response(status)
                for name, value in (
                    {"Content-Type": "application/json", "Content-Length": str(len(data))} | headers
                ).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                """Stay quiet."""

        return Handler


class Slack(WebService):
    """
    chat.postMessage, conversations.history and one incoming webhook.

    Attributes:
        posted: What people read, in order: text, blocks, ts and the id in the metadata.

        history: Whether the token may read the channel.
    """

    def __init__(self, now: Callable[[], float] = lambda: 1_772_420_000.0) -> None:
        super().__init__()
        self.posted: list[dict] = []
        self.history = True
        self._now = now
        self._numbers = count(1)

    def times(self, message_id: str) -> int:
        """How often people read that message."""
        return sum(post["message_id"] == message_id for post in self.posted)

    def answer(self, path: str, body: dict, fault: str) -> Answer | None:
        """As the Web API does."""
        early = {
            "limit": (429, {"Retry-After": "90"}, json.dumps({"ok": False, "error": "ratelimited"})),
            "refuse": (200, {}, json.dumps({"ok": False, "error": "invalid_auth"})),
            "invalid": (200, {}, json.dumps({"ok": False, "error": "msg_too_long"})),
            "rubbish": (200, {}, "<html>maintenance</html>"),
        }
        if fault in early:
            return early[fault] if path != HOOK or fault in {"limit", "rubbish"} else (400, {}, "invalid_payload")
        if fault == "drop":
            return DROPPED
        if path.endswith("conversations.history"):
            return self._history(body)
        posted = self._post(body)
        if fault == "lose":
            return DROPPED
        if fault == "lose500":
            return (500, {}, json.dumps({"ok": False, "error": "internal_error"}))
        return (
            (200, {}, "ok")
            if path == HOOK
            else (200, {}, json.dumps({"ok": True, "channel": CHANNEL_ID, "ts": posted["ts"]}))
        )

    def _post(self, body: dict) -> dict:
        metadata = body.get("metadata") or {}
        post = {
            "text": body["text"],
            "blocks": body.get("blocks"),
            "ts": f"{self._now():.0f}.{next(self._numbers):06d}",
            "message_id": (metadata.get("event_payload") or {}).get("message_id", ""),
            "channel": body.get("channel"),
            "metadata": metadata,
        }
        self.posted.append(post)
        return post

    def _history(self, body: dict) -> Answer:
        if not self.history:
            return (200, {}, json.dumps({"ok": False, "error": "missing_scope"}))
        oldest, latest = float(body.get("oldest") or 0), float(body.get("latest") or "inf")
        found = [post for post in reversed(self.posted) if oldest <= float(post["ts"]) <= latest]
        start, limit = int(body.get("cursor") or 0), int(body["limit"])
        page = [
            {"text": post["text"], "ts": post["ts"], "metadata": post["metadata"]}
            for post in found[start : start + limit]
        ]
        cursor = str(start + limit) if start + limit < len(found) else ""
        return (200, {}, json.dumps({"ok": True, "messages": page, "response_metadata": {"next_cursor": cursor}}))


class PagerDuty(WebService):
    """
    The Events API: one alert per key.

    Attributes:
        alerts: By key, whether it is open.

        notified: Keys for which somebody was woken, in order.

        changes: Change events, in order; they wake nobody.
    """

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__(context)
        self.alerts: dict[str, bool] = {}
        self.notified: list[str] = []
        self.changes: list[dict] = []

    def answer(self, path: str, body: dict, fault: str) -> Answer | None:
        """As the Events API does, and the Change Events API beside it."""
        if fault == "limit":
            return (429, {"Retry-After": "75"}, "{}")
        if fault == "drop":
            return DROPPED
        if fault == "invalid":
            return (400, {}, json.dumps({"status": "invalid event", "errors": ["'payload.summary' is missing"]}))
        if fault == "refuse":
            return (503, {}, "{}")
        if path == "/v2/change/enqueue":
            self.changes.append(body)
            answer = {"status": "success", "message": "Change event processed"}
        else:
            answer = self._event(body)
        return DROPPED if fault == "lose" else (202, {}, json.dumps(answer))

    def _event(self, body: dict) -> dict:
        key, opens = body["dedup_key"], body["event_action"] == "trigger"
        if opens and not self.alerts.get(key):
            self.notified.append(key)
        self.alerts[key] = opens
        return {"status": "success", "message": "Event processed", "dedup_key": key}


class Mail:
    """
    A mail server.

    Args:
        context: For STARTTLS, or for TLS from the first byte where *at_once*.

        login: The user and password it wants.

        said: What it answers to a command of the session.
    """

    def __init__(
        self,
        context: ssl.SSLContext | None = None,
        *,
        at_once: bool = False,
        login: tuple[str, str] | None = None,
        said: dict[str, str] | None = None,
    ) -> None:
        self.said = said or {}
        self.faults = Faults()
        self.taken: list[tuple[str, list[str], bytes]] = []
        self.sessions = 0
        self.hold = threading.Event()
        mail = self

        def factory(handler):
            def authenticate(_server, _session, _envelope, _mechanism, data):
                given = (data.login.decode(), data.password.decode())
                return AuthResult(success=given == login, handled=False)

            with warnings.catch_warnings():
                # With TLS from the first byte it cannot see that there is TLS, and warns.
                warnings.simplefilter("ignore")
                return SMTP(
                    handler,
                    tls_context=None if at_once else context,
                    require_starttls=context is not None and not at_once,
                    authenticator=authenticate,
                    auth_required=login is not None,
                    auth_require_tls=context is not None and not at_once,
                    ident="test",
                )

        class Listening(Controller):
            def factory(self):
                return factory(self.handler)

        self._controller = Listening(
            _Handler(mail), hostname="127.0.0.1", port=_free_port(), ssl_context=context if at_once else None
        )
        self._controller.start()
        self.port = self._controller.port

    def times(self, message_id: str) -> int:
        """How often people got that message."""
        return sum(f"<{message_id}@".encode() in text for _, _, text in self.taken)

    def close(self) -> None:
        """Stop listening."""
        self.hold.set()
        self._controller.stop()


class _Handler:
    def __init__(self, mail: Mail) -> None:
        self._mail = mail

    async def handle_MAIL(self, _server, _session, envelope, address, _options):  # noqa: N802  # aiosmtpd's name
        envelope.mail_from = address
        return self._mail.said.get("MAIL", "250 OK")

    async def handle_RCPT(self, server, session, envelope, address, _options):  # noqa: N802  # aiosmtpd's name
        self._mail.sessions += 1
        session.fault = self._mail.faults.next()
        if session.fault == "drop":
            server.transport.abort()
            return "421 4.3.2 closing"
        if session.fault == "refuse":
            return "451 4.7.1 Greylisted, try again later"
        if session.fault == "invalid":
            return "550 5.1.1 No such user"
        envelope.rcpt_tos.append(address)
        return self._mail.said.get("RCPT", "250 OK")

    async def handle_DATA(self, server, session, envelope):  # noqa: N802  # aiosmtpd's name
        if session.fault == "reject":
            return "554 5.7.1 Looks like spam"
        if "DATA" in self._mail.said:
            return self._mail.said["DATA"]
        self._mail.taken.append((envelope.mail_from, list(envelope.rcpt_tos), envelope.content))
        if session.fault == "lose":
            server.transport.abort()
        return f"250 2.0.0 Ok: queued as {len(self._mail.taken):06d}"


@contextlib.contextmanager
def running(server) -> Iterator:
    """Close *server* at the end."""
    try:
        yield server
    finally:
        server.close()


def _parsed(raw: bytes, kind: str) -> dict:
    from urllib.parse import parse_qsl

    if "json" in kind:
        return json.loads(raw or b"{}")
    return dict(parse_qsl(raw.decode()))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
