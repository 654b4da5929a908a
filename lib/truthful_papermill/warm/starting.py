"""The runner's side of the fork server: starting it early, asking it for kernels, ending it."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from truthful_papermill.warm.environment import importing_environment
from truthful_papermill.warm.protocol import KERNEL, LATER

if TYPE_CHECKING:
    from truthful_papermill.warm.ahead import Ahead

# How many kernels a run starts before their notebooks; see `ForkServer.prepare`.
KERNELS_AHEAD = 2


@dataclass(frozen=True, slots=True)
class KernelNeeds:
    """
    What the kernels of a fork server are made of besides what every kernel needs.

    Attributes:
        first: Modules, or functions as ``module:function``, that the cells of every notebook need.

        later: The same, for what is imported while nobody waits.

        settings: A pattern of the variables that are read when code runs, never while something is imported: kernels may
            be given others than the server has, and the server is given none.
    """

    first: tuple[str, ...] = ()
    later: tuple[str, ...] = ()
    settings: str = ""


PLAIN_KERNELS = KernelNeeds()

# -P keeps the working directory off sys.path, -s the user's own site-packages, as for every kernel of ours. What
# becomes a kernel leaves `serve` and goes on as a kernel of the ordinary start would.
_CODE = """\
import os, sys
from truthful_papermill.warm.server import serve
serve(int(sys.argv[1]), dies_with=int(sys.argv[2]), needs=sys.argv[3])
from ipykernel.kernelapp import launch_new_instance
launch_new_instance(parent_handle=os.getppid())
"""

_END_TIMEOUT_S = 5

# What `begin` has started and nobody has used.
_begun: list[ForkServer] = []


class ForkServer:
    """
    A fork server that belongs to this process.

    Args:
        environment: What kernels will be given, as far as it is known; the settings of a run may still change.

        needs: What its kernels are made of.

    Attributes:
        why_not: Why it forks no kernels; empty as long as it may.

        ahead: The kernels of the notebooks to come (`prepare_kernels`).

        last_kernel: The process of the kernel that a notebook was given last, forked or, in its place, started ordinarily; 0
            before the first.
    """

    def __init__(self, environment: Mapping[str, str], needs: KernelNeeds = PLAIN_KERNELS) -> None:
        self.why_not = "" if hasattr(os, "fork") and hasattr(socket, "send_fds") else "this system cannot fork"
        self._process: subprocess.Popen[bytes] | None = None
        self._asked = False
        self.ahead: deque[Ahead] = deque()
        self.last_kernel = 0
        self._control, theirs = socket.socketpair()
        with theirs:
            if not self.why_not:
                self._start(theirs, environment, needs)

    def _start(self, theirs: socket.socket, environment: Mapping[str, str], needs: KernelNeeds) -> None:
        # Linux ties the death to the thread that started it; only the main thread lives as long as the process.
        parent = os.getpid() if threading.current_thread() is threading.main_thread() else 0
        try:
            self._process = subprocess.Popen(  # noqa: S603  # this Python
                [sys.executable, "-P", "-s", "-c", _CODE, str(theirs.fileno()), str(parent), json.dumps(asdict(needs))],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                # No file that lies where the operator stands is read by an import.
                cwd="/",
                env=importing_environment(environment, needs.settings),
                # Ctrl-C is the runner's to judge.
                start_new_session=True,
            )
        except OSError as error:
            self.why_not = f"the fork server did not start: {error.strerror}"

    def send(self, channel: socket.socket) -> None:
        """
        Ask for a kernel at the other end of *channel*.

        Raises:
            OSError: The server is gone.
        """
        self._asked = True
        socket.send_fds(self._control, [KERNEL], [channel.fileno()])

    def import_later(self, modules: Sequence[str]) -> None:
        """Have *modules*, which only some of the kernels need, imported while nobody waits."""
        if self.why_not:
            return
        ours, theirs = socket.socketpair()
        # That the server is gone is told to whoever asks for a kernel.
        with ours, theirs, contextlib.suppress(OSError):
            ours.sendall(json.dumps({"modules": modules}).encode() + b"\n")
            socket.send_fds(self._control, [LATER], [theirs.fileno()])

    def silent(self, timeout_s: float) -> str:
        """Say that the server has not answered for *timeout_s*, and remember it: nobody waits that long again."""
        self.why_not = f"the fork server did not answer within {timeout_s:g} s"
        return self.why_not

    def gone(self) -> str:
        """Say why the server is gone, and remember it."""
        # Nothing is said through a socket that was closed from here.
        with contextlib.suppress(OSError):
            self._control.setblocking(False)
            self.why_not = self._control.recv(4096).decode(errors="replace")
        self.why_not = self.why_not or "the fork server has ended" + self._how()
        return self.why_not

    def _how(self) -> str:
        """Say how the process ended, or where it is if it has not."""
        if self._process is None:
            return ""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return f" (exit code {self._process.wait(_END_TIMEOUT_S)})"
        return " its connection, and runs on"

    def close(self) -> None:
        """End the server, and every kernel that it forked and that is still there."""
        self._control.close()
        if self._process is None:
            return
        if not self._asked or self.why_not or any(ahead.pending for ahead in self.ahead):
            self._process.kill()  # it may still be importing, or stand still, and would not look up
        while self.ahead:
            self.ahead.popleft().close()
        try:
            self._process.wait(_END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def pid(self) -> int | None:
        """The server's process, or None where there is none."""
        return self._process.pid if self._process else None


def begin(needs: KernelNeeds = PLAIN_KERNELS) -> None:
    """Start the server that the next `fork_server` of this process will be, as the first thing that the process does."""
    _begun.append(ForkServer(os.environ, needs))


@contextlib.contextmanager
def fork_server(
    environment: Mapping[str, str] | None = None, later: Sequence[str] = (), needs: KernelNeeds = PLAIN_KERNELS
) -> Iterator[ForkServer]:
    """
    Start a fork server for the time of this block; it imports while the block goes on.

    Args:
        environment: As for `ForkServer`; this process's own where none is given.

        later: As for `ForkServer.import_later`.

        needs: As for `ForkServer`; a server that was begun has its own.
    """
    begun = _begun.pop() if _begun and environment is None else None
    server = begun or ForkServer(os.environ if environment is None else environment, needs)
    try:
        server.import_later(later)
        yield server
    finally:
        server.close()
