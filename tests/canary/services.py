"""
The services as a canary meets them: they keep every byte that they were sent, and some of them quote it.

A quoting service is the worst that one can do to a caller's log: an error whose text holds the token that was sent, whole or
so far into a long text that it is cut off in the middle.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.jira_server import JiraServer
from tests.outbox.servers import HOOK, Answer, PagerDuty, Slack

from local_stripe import FALLBACK_KEY, READ_KEY

# Longer than any text of a service's that we keep; somewhere in it a cut goes through the secret.
_LONG = 60


def quoting(text: str) -> str:
    """Repeat what was sent, whole and then again and again, so that whoever cuts it off cuts through it somewhere."""
    return " ".join(f"{'.' * number}{text}" for number in range(_LONG))


class QuotingSlack(Slack):
    """A Slack whose fault ``quote`` tells what it was sent, and ``quote_ok`` tells it in an answer that says yes."""

    def answer(self, path: str, body: dict, fault: str) -> Answer | None:
        """As Slack does, or with a quotation."""
        if fault not in {"quote", "quote_word", "quote_ok"}:
            return super().answer(HOOK if path.startswith("/services/") else path, body, fault)
        sent, headers, _ = self.requests[-1]
        secret = headers.get("Authorization", sent).removeprefix("Bearer ")
        if fault == "quote_ok":
            return 200, {}, json.dumps({"ok": True, "channel": secret, "ts": secret})
        if fault == "quote_word":
            return 200, {}, json.dumps({"ok": False, "error": f"invalid_auth {quoting(secret)}"})
        return 400, {}, quoting(secret)


class QuotingPagerDuty(PagerDuty):
    """A PagerDuty whose fault ``quote`` blames the routing key by its value."""

    def answer(self, path: str, body: dict, fault: str) -> Answer | None:
        """As PagerDuty does, or with a quotation."""
        if fault not in {"quote", "quote_ok"}:
            return super().answer(path, body, fault)
        key = str(body.get("routing_key") or self.requests[-1][1])
        if fault == "quote_ok":
            return 202, {}, json.dumps({"status": "success", "message": key, "dedup_key": key})
        return 400, {}, json.dumps({"status": "invalid event", "errors": [quoting(key)]})


class Tap:
    """
    A wire to a port of this machine that keeps what the client says.

    Args:
        upstream: The port behind it.

    Attributes:
        received: Every byte that came from a client.

        quote_login: If it is not empty, a login is refused with a text that repeats it.
    """

    def __init__(self, upstream: int) -> None:
        self.upstream = upstream
        self.received: list[bytes] = []
        self.quote_login = ""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no more calls."""
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client, socket.create_connection(("127.0.0.1", self.upstream)) as server:
            threading.Thread(target=_pump, args=(server, client), daemon=True).start()
            while data := client.recv(65536):
                self.received.append(data)
                if self.quote_login and data.startswith(b"AUTH "):
                    client.sendall(f"535 5.7.8 {quoting(self.quote_login)}"[:900].encode() + b"\r\n")
                    continue
                server.sendall(data)


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


class QuotingJira(JiraServer):
    """A Jira whose fault ``quote`` tells what it was sent, with any status."""

    quote = 0

    def answer(self, method: str, path: str, body: bytes, headers: Any) -> tuple[int, Any]:
        """As Jira does, or with a quotation."""
        if self.quote:
            return self.quote, {"errorMessages": [quoting(str(headers["Authorization"]))]}
        return super().answer(method, path, body, headers)


JSON_ERROR = '{{"error": {{"type": "{kind}", "message": "{message}"{more}}}}}'


def error(kind: str, message: str, more: str = "") -> str:
    """Write Stripe's error envelope."""
    return JSON_ERROR.format(kind=kind, message=message, more=more)


class StripeFront:
    """
    Stands before the sandbox: it knows the canaries as the keys, keeps what was sent, and answers as it was told.

    Args:
        sandbox_url: Where the sandbox is.

        keys: The canaries of the fallback key and of the read key.

    Attributes:
        plan: (method, beginning of the path, what to do), each once: answer a (status, text), in which {key}, {keys} and
            {masked} are filled in; ``reset`` before Stripe has it or ``lose`` after; or something to call before it is
            passed on.
    """

    def __init__(self, sandbox_url: str, keys: tuple[str, str]) -> None:
        self.plan: list[tuple[str, str, Any]] = []
        self.received: list[bytes] = []
        self._upstream = sandbox_url.removeprefix("http://")
        self._known = dict(zip(keys, (FALLBACK_KEY, READ_KEY), strict=True))
        self._server = _Quiet(("127.0.0.1", 0), self._handler())
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        """Stop it."""
        self._server.shutdown()
        self._server.server_close()

    def _next(self, method: str, path: str) -> Any:
        for step in self.plan:
            if step[0] == method and path.startswith(step[1]):
                self.plan.remove(step)
                return step[2]
        return None

    def _pass_on(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, Any, bytes]:
        key = headers.get("Authorization", "").removeprefix("Bearer ")
        if key in self._known:
            headers["Authorization"] = f"Bearer {self._known[key]}"
        connection = http.client.HTTPConnection(self._upstream, timeout=90)
        try:
            connection.request(method, path, body or None, headers)
            answer = connection.getresponse()
            data = answer.read()
        finally:
            connection.close()
        # The sandbox masks its own keys; the caller is shown the end of the one that it sent.
        ours, theirs = key.encode()[-4:], self._known.get(key, "")[-4:].encode()
        return answer.status, answer.getheaders(), data.replace(b"*" + theirs, b"*" + ours) if theirs else data

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        front = self

        class Handler(_FrontHandler):
            service = front

        return Handler


class _FrontHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    service: StripeFront

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_DELETE(self) -> None:
        self._serve()

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.service.received.append(f"{self.requestline}\n{self.headers}".encode() + body)
        step = self.service._next(self.command, self.path)
        if callable(step):
            step = step()
        if step == "reset":
            self._reset()
        elif isinstance(step, tuple):
            self._say(step[0], [("Content-Type", "application/json")], self._filled(step[1]))
        else:
            self._ask(body, lost=step == "lose")

    def _ask(self, body: bytes, *, lost: bool) -> None:
        kept = ("authorization", "content-type", "idempotency-key", "stripe-account", "stripe-version")
        headers = {name: value for name, value in self.headers.items() if name.lower() in kept}
        status, told, data = self.service._pass_on(self.command, self.path, body, headers)
        if lost:
            self._reset()
            return
        dropped = {"content-length", "transfer-encoding", "connection", "date", "server"}
        self._say(status, [pair for pair in told if pair[0].lower() not in dropped], data)

    def _filled(self, text: str) -> bytes:
        key = self.headers.get("Authorization", "").removeprefix("Bearer ")
        fill = {"{key}": key, "{masked}": f"{key[:8]}{'*' * 80}{key[-4:]}", "{keys}": quoting(key)}
        return re.sub(r"\{(?:keys?|masked)\}", lambda found: fill[found[0]], text).encode()

    def _say(self, status: int, headers: list[tuple[str, str]], data: bytes) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients that are killed break off."""
