"""The server process: patient with nobody who does not finish a request."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from manual_payout.desk.wiring import Desk
from manual_payout.domain.errors import SettingsError
from manual_payout.web.app import web_app

# From the connection to the end of the first request's headers.
_HEADERS_S = 10.0


class Impatient(H11Protocol):
    """HTTP, with an end to a connection on which no whole request arrives."""

    def connection_made(self, transport: Any) -> None:
        """Begin the wait."""
        super().connection_made(transport)
        self.loop.call_later(_HEADERS_S, self._require_request)

    def _require_request(self) -> None:
        if self.cycle is None and not self.transport.is_closing():
            self.transport.close()


def server_of(desk: Desk, origin: str, host: str, port: int, *, proxies: list[str]) -> uvicorn.Server:
    """Wire the server; arguments as of `serve_pages`."""
    config = uvicorn.Config(
        web_app(desk, origin), host=host, port=port, http=Impatient, ws="none", access_log=False, server_header=False,
        proxy_headers=bool(proxies), forwarded_allow_ips=",".join(proxies) or None, timeout_keep_alive=10,
        h11_max_incomplete_event_size=16 * 1024, log_level="warning", timeout_graceful_shutdown=3,
    )  # fmt: skip
    return uvicorn.Server(config)


def serve_pages(desk: Desk, origin: str, host: str, port: int, *, proxies: list[str]) -> None:
    """
    Serve until Ctrl-C.

    Args:
        proxies: Whose word counts of where a request came from; nobody's else does.

    Raises:
        SettingsError: The port cannot be had.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    try:
        asyncio.run(server_of(desk, origin, host, port, proxies=proxies).serve())
    except SystemExit:
        # uvicorn's own way of saying that the port is taken.
        raise SettingsError(f"{host}:{port} cannot be listened at.", "Choose another with --port.") from None
