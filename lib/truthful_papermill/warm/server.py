"""
The fork server: it imports, then forks a kernel whenever the runner asks for one. This runs in its own process.

It has one thread, opens no database and no connection, and reads no setting. The runner holds the other end of its
control socket; when that closes, for whatever reason, every kernel is killed and the server ends. On Linux a kernel
also dies with the server, and the server with the runner whose main thread started it, even where a process is stopped.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import importlib
import json
import os
import select
import signal
import socket
import sys
import threading
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from truthful_papermill.lean import importing, leave_out_unused, put_off, without
from truthful_papermill.terminal import outlive_the_terminal
from truthful_papermill.warm.environment import differences, say_nothing_outside
from truthful_papermill.warm.protocol import LATER

# What every kernel needs before its first cell.
IMPORTS = (
    "ipykernel.kernelapp",
    "IPython.core.completerlib",
    "IPython.core.debugger",
    "IPython.extensions.storemagic",
    "ipykernel.debugger",
    "sqlite3",
    "tornado.platform.asyncio",
)
# Imported while nobody waits, and called where a function is named.
LATER_IMPORTS = ("psutil",)

# As ipykernel sets it before anything can import matplotlib, which reads it only then.
_INLINE_BACKEND = "module://matplotlib_inline.backend_inline"

# Threads do not survive a fork. numpy and pyarrow's allocator would start some when they are imported, unless told
# otherwise by the environment; kernels are given their own afterwards.
# The last one spares the operator a warning of the debugger, which nobody uses here.
_WHILE_IMPORTING = {
    "OPENBLAS_NUM_THREADS": "1",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",
}

# What the runner reads of the reason why there is no server.
_WHY_BYTES = 2000

_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG


@dataclass(slots=True)
class _Kernel:
    """One kernel and the server's end of its channel; *ended* when the runner was told."""

    pid: int
    channel: socket.socket
    ended: bool = False


def serve(control: int, *, dies_with: int, needs: str) -> None:
    """
    Serve until the runner goes away, which ends the process. Returns in a forked kernel, once it has become one.

    Args:
        control: Descriptor of the server's end of the control socket.

        dies_with: The process whose death ends this one at once, or 0 to rely on the control socket alone.

        needs: What its kernels are made of, as JSON of `starting.KernelNeeds`.
    """
    if dies_with:
        die_with_parent(dies_with)
    # As whatever the runner starts: its terminal may be closed, and the run goes on to its end.
    outlive_the_terminal()
    # The first to be registered is the last to be called.
    atexit.register(_leave_at_once)
    environment, wanted = dict(os.environ), json.loads(needs)
    with socket.socket(fileno=control) as runner:
        try:
            _import([*IMPORTS, *wanted["first"]])
        except Exception as error:  # noqa: BLE001  # whatever it is, kernels are started the ordinary way then, and it is said
            why = f"the fork server could not import what kernels need: {type(error).__name__}: {error}"
            runner.sendall(why.encode(errors="replace")[:_WHY_BYTES])
            os._exit(1)
        _Server(runner, environment, wanted).serve()


def _leave_at_once() -> None:
    """End a kernel whose exit handlers have run, without taking apart what it shares with the server: that would copy it."""
    for stream in (sys.__stdout__, sys.__stderr__):
        if stream is not None:
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
    os._exit(0)


def die_with_parent(parent: int) -> None:
    """Have the kernel of the operating system kill this process when *parent*, which started it, has ended."""
    getattr(ctypes.CDLL(None), "prctl", lambda *_: 0)(_DIE_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


class _Server:
    def __init__(self, runner: socket.socket, environment: dict[str, str], needs: dict[str, Any]) -> None:
        self._runner = runner
        self._environment = environment
        self._kernels: list[_Kernel] = []
        self._settings = needs["settings"]
        self._later = [*LATER_IMPORTS, *needs["later"]]
        self._forked = False
        self._woken, self._waker = socket.socketpair()
        self._waker.setblocking(False)
        self._woken.setblocking(False)
        # A signal with a handler in Python is what writes to the descriptor.
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)

    def serve(self) -> None:
        """Do what is asked until the runner has gone; returns in a kernel only."""
        while not self._forked:
            asked = self._wait()
            if self._runner in asked:
                self._take_order()
            elif self._woken in asked:
                self._tell_of_the_dead()
            elif asked:
                self._let_go([kernel for kernel in self._kernels if kernel.channel in asked])
            elif self._later:
                self._import_later()

    def _wait(self) -> list[socket.socket]:
        """Wait for the next thing to do; an empty list when there is time for an import."""
        poll = select.poll()
        sockets = {found.fileno(): found for found in (self._runner, self._woken)}
        for found in sockets.values():
            poll.register(found, select.POLLIN)
        for kernel in self._kernels:
            # Its text is the kernel's to read; here it only matters whether the other end was closed.
            sockets[kernel.channel.fileno()] = kernel.channel
            poll.register(kernel.channel, select.POLLHUP)
        return [sockets[descriptor] for descriptor, _ in poll.poll(0 if self._later else None)]

    def _take_order(self) -> None:
        try:
            mark, descriptors, _, _ = socket.recv_fds(self._runner, 1, 1)
        except ConnectionError:
            mark, descriptors = b"", []
        if not mark:
            self._end()
        channel = socket.socket(fileno=descriptors[0])
        if mark == LATER:
            with channel:
                self._later += _read_line(channel)["modules"]
            return
        why_not = _why_not_fork()
        if why_not:
            _say(channel, refused=why_not)
            channel.close()
            return
        try:
            pid = os.fork()
        except OSError as error:
            _say(channel, refused=f"the system would not fork: {error.strerror}")
            channel.close()
            return
        if pid == 0:
            self._forked = True
            self._leave()
            _become(channel, self._environment, self._settings)
            return
        self._kernels.append(_Kernel(pid, channel))
        _say(channel, pid=pid)

    def _leave(self) -> None:
        """In the new kernel: take nothing along that is the server's."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for mine in (self._runner, self._woken, self._waker, *(kernel.channel for kernel in self._kernels)):
            mine.close()
        self._kernels.clear()

    def _tell_of_the_dead(self) -> None:
        self._woken.recv(4096)
        for kernel in [kernel for kernel in self._kernels if not kernel.ended]:
            code = _exit_code(kernel.pid)
            if code is not None:
                kernel.ended = True
                _say(kernel.channel, ended=code)

    def _let_go(self, kernels: list[_Kernel]) -> None:
        for kernel in kernels:
            self._kernels.remove(kernel)
            kernel.channel.close()
            _kill(kernel)

    def _import_later(self) -> None:
        # What cannot be imported is missed, and named, by the notebook that needs it. The server goes on whatever it was: a
        # kernel that is paying would die with it.
        with contextlib.suppress(Exception):
            _import([self._later.pop(0)])

    def _end(self) -> None:
        for kernel in self._kernels:
            _kill(kernel)
        os._exit(0)


def _import(names: list[str]) -> None:
    os.environ.update(_WHILE_IMPORTING)
    if not os.environ.get("MPLBACKEND"):
        os.environ["MPLBACKEND"] = _INLINE_BACKEND
    put_off("pandas")
    # Nobody steps through a kernel that nobody can reach.
    with importing(), without("debugpy"):
        leave_out_unused()
        for name in names:
            module, _, function = name.partition(":")
            if not function:
                importlib.import_module(module)
                continue
            # What is there for errands sets no filter for kernels.
            with warnings.catch_warnings():
                getattr(importlib.import_module(module), function)()


def _why_not_fork() -> str:
    tasks = Path("/proc/self/task")
    count = len(list(tasks.iterdir())) if tasks.is_dir() else threading.active_count()
    return f"an import has started threads, there are {count}" if count > 1 else ""


def _become(channel: socket.socket, imported_under: dict[str, str], settings: str) -> None:
    """Turn this fork into the process that the runner asked for."""
    server = os.getppid()
    os.setsid()
    die_with_parent(server)
    order = _read_line(channel)
    if "function" in order:
        _run_errand(channel, order)
    environment: dict[str, str] = order["environment"] | {"JPY_PARENT_PID": str(server)}
    if names := differences(imported_under, environment, settings):
        _say(channel, refused=f"its environment differs from the fork server's in {', '.join(names)}")
        os._exit(1)
    os.chdir(order["folder"])
    os.environ.clear()
    os.environ.update(environment)
    say_nothing_outside()
    sys.argv[:] = ["-c", *order["arguments"]]
    _forget_chance()
    _say(channel, accepted=True)
    channel.close()


def _run_errand(channel: socket.socket, order: dict[str, str]) -> NoReturn:
    """Call the function that the runner named, answer, and end; of a failure the runner hears by the silence."""
    code = 1
    try:
        module, name = order["function"].split(":")
        _say(channel, answer=getattr(importlib.import_module(module), name)(order["argument"]))
        code = 0
    finally:
        os._exit(code)


def _forget_chance() -> None:
    """Give this process randomness of its own; Python itself sees to the module ``random``."""
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()


def _exit_code(pid: int) -> int | None:
    """Return how the child has ended, negative for a signal, or None while it runs; it stays a zombie where possible."""
    if not hasattr(os, "waitid"):
        found, status = os.waitpid(pid, os.WNOHANG)
        return os.waitstatus_to_exitcode(status) if found else None
    ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    if ended is None:
        return None
    return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status


def _kill(kernel: _Kernel) -> None:
    if kernel.ended and not hasattr(os, "waitid"):
        return  # reaped already; its number may be somebody else's
    for kill in (os.killpg, os.kill):
        # It has no group of its own yet if it was forked this very moment.
        try:
            kill(kernel.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    os.waitpid(kernel.pid, 0)


def _say(channel: socket.socket, **words: Any) -> None:
    try:
        channel.sendall(json.dumps(words).encode() + b"\n")
    except ConnectionError:
        # The runner has let go of this kernel; the closed channel is what the server acts upon.
        return


def _read_line(channel: socket.socket) -> Any:
    text = b""
    while not text.endswith(b"\n"):
        part = channel.recv(65536)
        if not part:
            os._exit(1)
        text += part
    return json.loads(text)
