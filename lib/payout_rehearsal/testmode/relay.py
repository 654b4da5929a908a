"""
A relay on this machine between a rehearsal and Stripe's test mode, so that an answer can be lost on purpose.

It passes requests and answers on byte for byte, to the one address that it was made for. It holds no key, keeps and
writes nothing of what passes through, listens on loopback alone, and ends with its process. What the other side does not
answer, it does not answer either: an answer of its own would be taken for Stripe's.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from manual_payout.domain.addresses import LOOPBACK
from manual_payout.domain.errors import SettingsError

# As long as the SDK's own patience at most; whoever is waiting here gives up earlier.
TIMEOUT_S = 80.0
# Far above anything that this software sends.
BODY_BYTES_MAX = 1_000_000
_DIGITS_MAX = 9

# The call whose answer can be lost.
_METHOD, _PATH = "POST", "/v1/transfers"

# They belong to one connection and are not passed on (RFC 9110, 7.6.1); a body's length is given anew.
_OF_ONE_CONNECTION = frozenset(
    {
        *("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection"),
        *("te", "trailer", "transfer-encoding", "upgrade", "host", "content-length"),
    }
)


class Relay:
    """
    A running relay.

    Attributes:
        base_url: What ``STRIPE_API_BASE`` should be.

        upstream: Where everything goes.
    """

    def __init__(self, base_url: str, upstream: str) -> None:
        self.base_url = base_url
        self.upstream = upstream
        self._lock = threading.Lock()
        self._to_lose: list[int] = []
        self._to_hold: list[float] = []
        self._silent = 0
        self._lost = 0

    @property
    def lost(self) -> int:
        """How many answers were lost so far."""
        return self._lost

    def lose_next_transfer_answer(self, *, then_silent: int = 0) -> None:
        """
        Let the next *Create a transfer* be answered by the other side, and lose that answer.

        Args:
            then_silent: How many reads of the list of transfers after it are not answered either, nor asked.
        """
        with self._lock:
            self._to_lose.append(then_silent)

    def hold_next_transfer_answer(self, seconds: float) -> None:
        """Let the next *Create a transfer* be answered by the other side, and that answer come *seconds* late."""
        with self._lock:
            self._to_hold.append(seconds)

    def is_silent(self, method: str, target: str) -> bool:
        """Whether this request is to meet silence; it is counted then."""
        with self._lock:
            if not self._silent or (method, target.partition("?")[0]) != ("GET", _PATH):
                return False
            self._silent -= 1
            return True

    def loses(self, method: str, target: str) -> bool:
        """Whether the answer to this request is to be lost; it is counted as lost then. A held one is waited for here."""
        if (method, target.partition("?")[0]) != (_METHOD, _PATH):
            return False
        with self._lock:
            held_s = self._to_hold.pop(0) if self._to_hold else 0.0
            lost = bool(self._to_lose)
            if lost:
                self._silent += self._to_lose.pop(0)
                self._lost += 1
        time.sleep(held_s)
        return lost


@contextlib.contextmanager
def running(upstream: str, *, trust: ssl.SSLContext | None = None, timeout_s: float = TIMEOUT_S) -> Iterator[Relay]:
    """
    Run a relay on a free port of this machine until the block ends.

    Args:
        upstream: ``https://host``, with its certificate verified; or ``http://`` on this machine with a port.

        trust: Which certificates are trusted; what the machine trusts unless given.

        timeout_s: Of one step of an exchange with the other side.

    Raises:
        SettingsError: *upstream* is no such address.
    """
    _check(upstream)
    server = _Server(("127.0.0.1", 0), _Handler)
    relay = Relay(f"http://127.0.0.1:{server.server_address[1]}", upstream)
    context = trust or ssl.create_default_context()
    server.RequestHandlerClass = type(
        "Handler", (_Handler,), {"relay": relay, "context": context, "upstream_timeout_s": timeout_s}
    )
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, name="relay", daemon=True)
    thread.start()
    try:
        yield relay
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(ThreadingHTTPServer):
    """It forgets its connections when its process ends, and writes nothing about those that broke."""

    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Write nothing: a caller that hung up is what a rehearsal is about."""


class _Handler(BaseHTTPRequestHandler):
    """One connection of a caller."""

    protocol_version = "HTTP/1.1"
    # Headers and body leave in two writes; together with delayed acknowledgements that would cost 40 ms.
    disable_nagle_algorithm = True
    # A caller that says nothing for so long is gone.
    timeout = 3_600
    relay: Relay
    context: ssl.SSLContext
    upstream_timeout_s: float

    def do_GET(self) -> None:
        """Pass a read on."""
        self._pass_on()

    do_POST = do_DELETE = do_GET  # noqa: N815  # the names that http.server looks for

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # as http.server calls it
        """Write nothing: requests name accounts and hold keys."""

    def _pass_on(self) -> None:
        body = self._body()
        if body is None or not self._is_for_us():
            self._refuse()
            return
        answer = None if self.relay.is_silent(self.command, self.path) else self._ask(body)
        if answer is None or self.relay.loses(self.command, self.path):
            self._hang_up()
            return
        status, reason, headers, content = answer
        self.send_response_only(status, reason)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _body(self) -> bytes | None:
        """Read the body; None where it has no plain length, or is shorter than that: half an order is another order."""
        text = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers or not (text.isascii() and text.isdigit()) or len(text) > _DIGITS_MAX:
            return None
        length = int(text)
        body = self.rfile.read(length) if length <= BODY_BYTES_MAX else b""
        return body if len(body) == length else None

    def _is_for_us(self) -> bool:
        """Whether the request is for this relay: a path, and not another host's by its target or by name."""
        host = self.headers.get("Host", "")
        return (
            self.path.startswith("/")
            and not self.path.startswith("//")
            and host == urlsplit(self.relay.base_url).netloc
        )

    def _ask(self, body: bytes) -> tuple[int, str, list[tuple[str, str]], bytes] | None:
        """Ask the other side once, on a connection of its own; None where it did not answer wholly."""
        connection = self._connection()
        try:
            connection.putrequest(self.command, self.path, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in _OF_ONE_CONNECTION:
                    connection.putheader(name, value)
            if body or self.command == "POST":
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body or None)
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()
        kept = [(name, value) for name, value in answer.getheaders() if name.lower() not in _OF_ONE_CONNECTION]
        return answer.status, answer.reason, kept, content

    def _connection(self) -> http.client.HTTPConnection:
        parts = urlsplit(self.relay.upstream)
        host, port = parts.hostname or "", parts.port
        if parts.scheme == "https":
            return http.client.HTTPSConnection(host, port, timeout=self.upstream_timeout_s, context=self.context)
        return http.client.HTTPConnection(host, port, timeout=self.upstream_timeout_s)

    def _refuse(self) -> None:
        self.send_response_only(421)
        self.send_header("Content-Length", "0")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True

    def _hang_up(self) -> None:
        """End the connection without an answer, as a network does."""
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)


def _check(upstream: str) -> None:
    try:
        parts = urlsplit(upstream)
        bare = not (parts.path or parts.query or parts.fragment or parts.username)
        fine = bare and (
            (parts.scheme == "https" and bool(parts.hostname) and parts.port != 0)
            or (parts.scheme == "http" and parts.hostname in LOOPBACK and parts.port is not None)
        )
    except ValueError:
        fine = False
    if not fine:
        raise SettingsError(
            "A relay leads to https://api.stripe.com, or for tests to an address on this machine; it was given another.",
            "Rehearse without another address.",
        )
