"""
The program's streams, made so that no write to them can fail: who reads a run may go away, and the run goes on.

A pipe whose reader has gone, a full disk, a terminal that was hung up, a letter that an encoding does not know: none of
them is a reason to end otherwise than without. What could not be written is remembered, for the few who must know that
it was read: whoever signs what was shown, and whoever asked for nothing but the answer.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import select
import signal
import sys
import time
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

STREAMS = ("stdout", "stderr")

# Whoever read has gone, and nobody will read again: by choice (`| head`), or because the terminal was closed.
_GONE = frozenset({errno.EPIPE, errno.EIO, errno.EBADF, errno.ENXIO, errno.ECONNRESET, errno.ENOTCONN})


class Outlet(io.RawIOBase):
    """
    One descriptor that takes every byte: what it cannot write is lost, and the reason is kept.

    Args:
        descriptor: It stays open when this is closed.

    Attributes:
        failure: Why something could not be written; None as long as everything could.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self.failure: OSError | None = None

    def writable(self) -> bool:
        """Whether it can be written to: always."""
        return True

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._descriptor

    def isatty(self) -> bool:
        """Whether a terminal is behind it."""
        return os.isatty(self._descriptor)

    def write(self, data: object, /) -> int:
        """Write *data*, and say that all of it is written that never will be."""
        view = memoryview(data).cast("B")  # type: ignore[arg-type]  # a buffer, as of every raw stream
        while self.failure is None or self.failure.errno not in _GONE:
            try:
                return os.write(self._descriptor, view)
            except BlockingIOError:
                # Whoever shares the descriptor made it so; a full pipe is waited for as ever.
                with contextlib.suppress(OSError):
                    select.select([], [self._descriptor], [])
            except OSError as error:
                self.failure = error
                break
        return len(view)


def guard() -> None:
    """
    Put outlets under standard output and standard error, once; what is no stream of the operating system is left alone.

    A letter that the encoding does not know is written as its escape.
    """
    for name in STREAMS:
        stream = getattr(sys, name)
        if type(stream) is not io.TextIOWrapper or _outlet(stream) is not None:
            continue
        # A stream that cannot take what is in it has nothing to lose.
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
        try:
            descriptor = stream.fileno()
        except (OSError, ValueError):
            continue
        guarded = io.TextIOWrapper(
            io.BufferedWriter(Outlet(descriptor)),
            encoding=stream.encoding,
            errors="backslashreplace",
            line_buffering=stream.line_buffering,
            write_through=stream.write_through,
        )
        setattr(sys, name, guarded)
        setattr(sys, f"__{name}__", guarded)


def outlive_the_terminal() -> None:
    """Ignore SIGHUP in this process and in those that it starts: a run whose terminal was closed goes on to its end."""
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)


def unread(name: str) -> str:
    """
    Say why something that was written to a stream did not arrive; empty where all did.

    Args:
        name: ``stdout`` or ``stderr``.
    """
    outlet = _flushed(name)
    return (outlet.failure.strerror or type(outlet.failure).__name__) if outlet and outlet.failure else ""


def not_taken(name: str) -> str:
    """Say why a stream that is still there did not take what was written, as a full disk; empty also if its reader has gone."""
    outlet = _flushed(name)
    return unread(name) if outlet and outlet.failure and outlet.failure.errno not in _GONE else ""


class Lines:
    """
    What is told while somebody waits, as lines now and then: in a log, and in a notebook's cell.

    Args:
        every_s: What comes sooner after the last line is not shown.

        stream: Where it goes.
    """

    def __init__(self, *, every_s: float = 10.0, stream: str = "stdout") -> None:
        self._every_s = every_s
        self._stream = stream
        self._last_s = -every_s

    def show(self, text: str, begins: bool) -> None:  # noqa: FBT001  # one shape for all that show
        """Show *text* where a wait begins, or nothing was shown a moment ago."""
        now_s = time.monotonic()
        if begins or now_s - self._last_s >= self._every_s:
            self._last_s = now_s
            getattr(sys, self._stream).write(f"{text}\n")
            getattr(sys, self._stream).flush()


_shown_by: list[Callable[[str, bool], object]] = [Lines().show]


def tell(text: str, *, begins: bool) -> None:
    """
    Tell whoever waits what for; it never fails.

    Args:
        begins: Whether they have just begun to wait.
    """
    safely(lambda: _shown_by[-1](text, begins))


@contextlib.contextmanager
def telling(show: Callable[[str, bool], object]) -> Iterator[None]:
    """Have *show* show what is told within this block."""
    _shown_by.append(show)
    try:
        yield
    finally:
        _shown_by.remove(show)


def safely(show: Callable[[], object]) -> None:
    """Show something on the way, whatever becomes of it: neither a terminal nor what draws on it ends a run."""
    # Whatever it is, nothing of it is about the run; Ctrl-C and its like are no errors and pass.
    with contextlib.suppress(Exception):
        show()


def _flushed(name: str) -> Outlet | None:
    stream = getattr(sys, name)
    safely(stream.flush)
    return _outlet(stream)


def _outlet(stream: TextIO) -> Outlet | None:
    raw = getattr(getattr(stream, "buffer", None), "raw", None)
    return raw if isinstance(raw, Outlet) else None
