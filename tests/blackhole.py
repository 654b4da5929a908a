"""A network between us and PostgreSQL that can stop to carry anything, without a word to either side."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from pathlib import Path

import sqlalchemy as sa


class Network:
    """
    A listener on loopback that forwards to the server's socket.

    Attributes:
        carries: Whether anything is forwarded. While it is not, connections are still taken, and nothing is ever said.
    """

    def __init__(self, url: str) -> None:
        parsed = sa.engine.make_url(url)
        self._server = str(Path(str(parsed.query["host"])) / f".s.PGSQL.{parsed.port or 5432}")
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._open = True
        self.carries = True
        self.url = parsed.set(host="127.0.0.1", port=self._listener.getsockname()[1], query={}).render_as_string(
            hide_password=False
        )
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self):
        """Hang up."""
        self._open = False
        self._thread.join()
        self._listener.close()
        for pair in self._pairs:
            for end in pair:
                end.close()

    def _run(self):
        while self._open:
            ends = {end: other for pair in self._pairs for end, other in (pair, pair[::-1])}
            watched = [self._listener, *(ends if self.carries else ())]
            for ready in select.select(watched, [], [], 0.05)[0]:
                if ready is self._listener:
                    self._accept()
                elif self.carries:
                    self._carry(ready, ends[ready])

    def _accept(self):
        ours, server = self._listener.accept()[0], socket.socket(socket.AF_UNIX)
        server.connect(self._server)
        self._pairs.append((ours, server))

    def _carry(self, source, target):
        with contextlib.suppress(OSError):
            if data := source.recv(65536):
                target.sendall(data)
                return
        self._pairs = [pair for pair in self._pairs if source not in pair]
        source.close()
        target.close()


@contextlib.contextmanager
def network(url):
    """Open one before the server that *url* names."""
    between = Network(url)
    try:
        yield between
    finally:
        between.close()
