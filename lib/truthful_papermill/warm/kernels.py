"""A forked kernel, as the runner sees it: like a process that it started itself."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import signal
import socket
from collections.abc import Mapping, Sequence
from typing import Any

from truthful_papermill.warm.starting import ForkServer

START_TIMEOUT_S = 60
# The exit code of a kernel that has ended while its server is busy or gone and cannot tell how.
UNTOLD = 255


class NoKernelError(Exception):
    """The fork server gave no kernel; the message says why, and an ordinary start may follow."""


class WarmKernel:
    """
    One forked kernel, with what jupyter_client asks of a ``subprocess.Popen``.

    Attributes:
        pid: Its process, which leads a session and a process group of its own.

        returncode: How it has ended: negative for a signal, `UNTOLD` if nobody can say, None while it runs.
    """

    stdin = stdout = stderr = None

    def __init__(self, pid: int, channel: socket.socket) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._channel = channel
        self._text = b""
        # Tells of its death even where the server is stopped; not every system has it.
        self._death = _death_of(pid)

    def poll(self) -> int | None:
        """Return how it has ended, or None while it runs; after `UNTOLD`, asking again may bring the answer."""
        if self.returncode in (None, UNTOLD):
            dead = self._death >= 0 and _is_readable(self._death, 0)
            self._hear()
            if dead and self.returncode is None:
                # Nobody waits for a server that is in the middle of an import.
                self.returncode = UNTOLD
        return self.returncode

    def _hear(self) -> None:
        if not _is_readable(self._channel.fileno(), 0):
            return
        try:
            part = self._channel.recv(4096)
        except ConnectionError:
            part = b""
        if part:
            self._text += part
            if self._text.endswith(b"\n"):
                self.returncode = int(json.loads(self._text)["ended"])
        elif self._death < 0 and not _exists(self.pid):
            self.returncode = UNTOLD

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it has ended, and let go of it."""
        del timeout  # only asked for what has ended
        while self.poll() is None:
            _is_readable(self._death if self._death >= 0 else self._channel.fileno(), 0.1)
        self.close()
        return self.returncode if self.returncode is not None else 0

    def send_signal(self, signum: int) -> None:
        """Send a signal to it, unless it has ended."""
        if self.poll() is None:
            # It may end this very moment, and its server with it, so that nobody keeps its number.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signum)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def close(self) -> None:
        """Let go of it; if it still runs, the server kills it."""
        self._channel.close()
        if self._death >= 0:
            os.close(self._death)
            self._death = -1


def kernel_arguments(command: Sequence[str]) -> list[str]:
    """Return of the ordinary start's *command* what a kernel finds in its ``sys.argv`` behind ``-c``."""
    return list(command[command.index("-c") + 2 :])


async def fork_kernel(
    server: ForkServer, *, environment: Mapping[str, str], folder: str, arguments: list[str]
) -> WarmKernel:
    """
    Have *server* fork a kernel.

    Args:
        environment: The kernel's whole environment.

        folder: Where it runs.

        arguments: What follows ``-c`` in its ``sys.argv``.

    Raises:
        NoKernelError: It is started ordinarily instead.
    """
    if server.why_not:
        raise NoKernelError(server.why_not)
    ours, theirs = socket.socketpair()
    try:
        with theirs:
            server.send(theirs)
        async with asyncio.timeout(START_TIMEOUT_S):
            return await _ordered(ours, {"environment": dict(environment), "folder": folder, "arguments": arguments})
    except (OSError, EOFError) as error:
        ours.close()
        why = server.silent(START_TIMEOUT_S) if isinstance(error, TimeoutError) else server.gone()
        raise NoKernelError(why) from error
    except BaseException:
        ours.close()
        raise


async def _ordered(channel: socket.socket, order: Mapping[str, Any]) -> WarmKernel:
    channel.setblocking(False)
    pid = (await _hear(channel))["pid"]
    # Nothing has run in it yet, and it cannot go on before the order: the descriptor is of this very process.
    kernel = WarmKernel(pid, channel)
    try:
        await asyncio.get_running_loop().sock_sendall(channel, json.dumps(order).encode() + b"\n")
        await _hear(channel)
    except BaseException:
        kernel.close()
        raise
    channel.setblocking(True)
    return kernel


async def _hear(channel: socket.socket) -> dict[str, Any]:
    """Read one line of the channel; a refusal is an error."""
    text = b""
    while not text.endswith(b"\n"):
        # Byte by byte: what follows the line belongs to the next reader.
        part = await asyncio.get_running_loop().sock_recv(channel, 1)
        if not part:
            raise EOFError
        text += part
    said: dict[str, Any] = json.loads(text)
    if "ended" in said:
        raise NoKernelError(f"the forked process ended with {said['ended']} before it was a kernel")
    if "refused" in said:
        raise NoKernelError(said["refused"])
    return said


def _death_of(pid: int) -> int:
    # Python may know the call where an old kernel, or what a container allows, does not.
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return -1


def _is_readable(descriptor: int, timeout_s: float) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(timeout_s * 1000))


def _exists(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False
