"""The open connections, so that one can be closed in the middle of a request."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

Peer = tuple[str, int]


class Connections:
    """Which transport serves which caller."""

    def __init__(self) -> None:
        self._open: dict[Peer, asyncio.Transport] = {}

    def abort(self, peer: Peer | list[Any] | None) -> None:
        """Close the connection of *peer* at once, without an answer."""
        transport = self._open.pop(_peer(peer), None)
        if transport is not None:
            transport.abort()

    def abort_all(self) -> None:
        """Close every connection at once."""
        for peer in list(self._open):
            self.abort(peer)

    def protocol(self) -> type[asyncio.Protocol]:
        """Build the protocol class that uvicorn should use in order that connections are known here."""
        connections = self._open

        class KnownConnection(H11Protocol):
            def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
                super().connection_made(transport)
                connections[_peer(transport.get_extra_info("peername"))] = transport

            def connection_lost(self, exc: Exception | None) -> None:
                connections.pop(_peer(self.transport.get_extra_info("peername")), None)
                super().connection_lost(exc)

        return KnownConnection


def _peer(address: Any) -> Peer:
    return (str(address[0]), int(address[1])) if address else ("", 0)
