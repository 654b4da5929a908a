"""Starting and stopping: in a thread of this process for tests, or in the foreground for people."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import signal
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, cast

import uvicorn

from local_stripe.admin import Desk, admin_routes
from local_stripe.books import Books
from local_stripe.clock import SandboxClock
from local_stripe.connections import Connections
from local_stripe.faults import Fault, Kind
from local_stripe.mistakes import InvalidValueError
from local_stripe.records import RequestRecord, SandboxAccount
from local_stripe.server import Front, application

DEFAULT_START = "2026-03-02T03:00:00Z"
# How long a stopping server waits for requests that a planted fault holds up.
STOP_TIMEOUT_S = 2
# An idle connection stays open far longer than any run, so that a caller never meets one that was closed for idleness.
KEEP_ALIVE_S = 3_600
START_TIMEOUT_S = 20
# How often a server in a thread looks whether it should stop.
STOP_POLL_S = 0.01


class Sandbox:
    """
    A running sandbox in this process.

    Attributes:
        base_url: What ``STRIPE_API_BASE`` should be.

        books: The live books.
    """

    def __init__(self, base_url: str, desk: Desk) -> None:
        self.base_url = base_url
        self.books: Books = desk.front.books
        self._desk = desk

    @property
    def requests(self) -> list[RequestRecord]:
        """Every request received at Stripe's endpoints, in order."""
        return list(self._desk.front.requests)

    def advance(self, seconds: float) -> None:
        """Let *seconds* pass on the sandbox's clock, with all that falls due meanwhile."""
        self._desk.advance(seconds)

    def on_advance(self, told: Callable[[str], None]) -> None:
        """Have *told* called with the new time, RFC 3339, whenever the clock was moved."""
        self._desk.on_advance = told

    def fault(self, kind: Kind, **options: Any) -> None:
        """Plant one fault; *options* are the attributes of `Fault`."""
        self._desk.plant(Fault(kind, **options))

    def seed(self, accounts: Iterable[SandboxAccount] = (), available: Mapping[str, int] | None = None) -> None:
        """Make accounts and balances what is said here."""
        self._desk.seed(accounts, available)

    def switch(self, **switches: Any) -> None:
        """Set some of `Switches`."""
        self._desk.switch(**switches)

    def reset(self) -> None:
        """Go back to how it all started."""
        self._desk.reset()


@contextlib.contextmanager
def running(
    *,
    start: str | None = DEFAULT_START,
    ticking: bool = False,
    accounts: Iterable[SandboxAccount] = (),
    available: Mapping[str, int] | None = None,
) -> Iterator[Sandbox]:
    """
    Run a sandbox on a free port of this machine until the block ends.

    Args:
        start: The instant at which its clock starts; None is the real present.

        ticking: Whether its clock goes by itself.

        accounts: Connected accounts to begin with.

        available: The platform's available minor units to begin with, for each currency.
    """
    desk = _open_desk(start, accounts, available, ticking=ticking)
    listener = _listen("127.0.0.1", 0)
    ready = threading.Event()
    server = _BriefServer(_config(desk), ready.set, desk.front.connections)
    # The address is asked for now: a stopping server closes its listener.
    base_url = _base_url(listener)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="stripe-sandbox", daemon=True)
    thread.start()
    try:
        if not ready.wait(START_TIMEOUT_S):
            raise RuntimeError(f"The sandbox did not start within {START_TIMEOUT_S} s")
        yield Sandbox(base_url, desk)
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def serve(
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    start: str | None = DEFAULT_START,
    ticking: bool = False,
    accounts: Iterable[SandboxAccount] = (),
    available: Mapping[str, int] | None = None,
    on_ready: Callable[[str], None] | None = None,
    on_advance: Callable[[str], None] | None = None,
) -> None:
    """
    Run a sandbox in the foreground until SIGINT or SIGTERM. Call it from the main thread.

    Args:
        host: A loopback address.

        port: A port; 0 takes a free one.

        on_ready: Called once with the base URL, when requests are being accepted.

        on_advance: Called with the new time, RFC 3339, whenever the clock was moved.

    Raises:
        InvalidValueError: The host is not a loopback address, or the port cannot be had.
    """
    desk = _open_desk(start, accounts, available, ticking=ticking)
    desk.on_advance = on_advance
    listener = _listen(host, port)
    announce = on_ready or (lambda _base_url: None)
    server = _AnnouncingServer(_config(desk), lambda: announce(_base_url(listener)))
    with contextlib.closing(listener), _signals_end_quietly():
        server.run(sockets=[listener])


class _AnnouncingServer(uvicorn.Server):
    """A server that says when it is ready."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()


class _BriefServer(_AnnouncingServer):
    """A server that stops at once, since a test suite starts and stops hundreds of them."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None], connections: Connections) -> None:
        super().__init__(config, on_ready)
        self._connections = connections

    async def main_loop(self) -> None:
        await self.on_tick(0)
        while not self.should_exit:  # noqa: ASYNC110  # The flag is set from another thread.
            await asyncio.sleep(STOP_POLL_S)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for listener in sockets or []:
            listener.close()
        for task in self.server_state.tasks:
            task.cancel()
        self._connections.abort_all()
        # One turn of the loop lets every connection learn that it is lost.
        await asyncio.sleep(0)


def _open_desk(
    start: str | None, accounts: Iterable[SandboxAccount], available: Mapping[str, int] | None, *, ticking: bool
) -> Desk:
    return Desk(Front(Books(SandboxClock(start, ticking=ticking))), accounts, available)


def _config(desk: Desk) -> uvicorn.Config:
    return uvicorn.Config(
        application(desk.front, admin_routes(desk)),
        http=desk.front.connections.protocol(),
        loop="asyncio",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        # The date of an answer is that of the sandbox's clock, and is set with the other headers.
        date_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=STOP_TIMEOUT_S,
    )


def _listen(host: str, port: int) -> socket.socket:
    if not _is_loopback(host):
        raise InvalidValueError("host", host, "a loopback address: the sandbox has no locks on its doors")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named, asyncio turns off Nagle's algorithm, which would cost 40 ms for every answer.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except (OSError, OverflowError) as error:
        listener.close()
        raise InvalidValueError("port", port, f"a port that is free on {host} ({error})") from error
    listener.listen()
    return listener


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _base_url(listener: socket.socket) -> str:
    host, port = cast("tuple[str, int]", listener.getsockname()[:2])
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@contextlib.contextmanager
def _signals_end_quietly() -> Iterator[None]:
    """Swallow the signal that uvicorn raises once more at its end; being asked to stop is a normal end here."""
    handled = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda *_: None) for number in handled}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
