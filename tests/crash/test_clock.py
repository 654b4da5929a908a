"""The clock that killed processes share."""

from __future__ import annotations

import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from .kills.clock import SharedClock

NOW = b'{"now": "2026-10-09T02:58:00+00:00"}'


@pytest.fixture(name="callers")
def _callers():
    """A server that tells the time, and the ports from which it was asked."""
    ports = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            ports.append(self.client_address[1])
            self.send_response(200)
            self.send_header("Content-Length", str(len(NOW)))
            self.end_headers()
            self.wfile.write(NOW)

        def log_message(self, *_):
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", ports
        server.shutdown()


def test_a_forked_process_asks_over_a_connection_of_its_own(callers):
    """Killed in the middle of a question, it would leave half of it in its parent's."""
    url, ports = callers
    clock = SharedClock(url)
    pid = os.fork()
    if not pid:
        try:
            clock.sync()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    clock.sync()
    clock.close()
    parent, child, parent_again = ports

    assert parent == parent_again
    assert parent != child
