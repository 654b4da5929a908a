"""Signals, which stop a run only at a moment at which it can be stopped in good order."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from typing import TYPE_CHECKING, Any

from truthful_papermill.engine.statuses import Execution

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

STOPPING_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StoppedBySignal(SystemExit):
    """
    The run was stopped in good order by a signal; uncaught, the process exits with 128 + n.

    Attributes:
        signum: The signal.

        execution: How the notebook that was running ended, or None between notebooks.
    """

    def __init__(self, signum: int, execution: Execution | None = None) -> None:
        super().__init__(128 + signum)
        self.signum = signum
        self.execution = execution


class Stop:
    """A wish to stop that waits for a safe moment: a notebook half saved, or a kernel half started, is none."""

    def __init__(self) -> None:
        self.signum: int | None = None
        self._task: asyncio.Task[Any] | None = None

    def request(self, signum: int, _frame: FrameType | None) -> None:
        """Note the first signal, and wake the run if it waits for a cell; later signals change nothing."""
        self.signum = self.signum or signum
        if self._task is not None:
            self._task.get_loop().call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        # The loop calls this later than the signal came: by then the block may be left, and its end must not be cut.
        if self._task is not None:
            self._task.cancel()

    @contextlib.contextmanager
    def cancelling_me(self) -> Iterator[None]:
        """Let a signal cancel the asyncio task that is inside this block, and nothing after it."""
        self._task = asyncio.current_task()
        try:
            yield
        finally:
            self._task = None


@contextlib.contextmanager
def orderly_signals() -> Iterator[None]:
    """
    Turn SIGINT and SIGTERM into :class:`StoppedBySignal` for the whole of a runner, and let SIGHUP pass.

    While a notebook runs, the engine takes the signals over: it kills the kernel, saves the notebook, and only then
    raises. A terminal that is closed (SIGHUP) takes a reader away, and ends no run. Signals reach the main thread
    only; in another one this does nothing.
    """

    def stop(signum: int, _frame: FrameType | None) -> None:
        raise StoppedBySignal(signum)

    with _handling(stop):
        yield


@contextlib.contextmanager
def deferred_signals() -> Iterator[Stop]:
    """Turn the signals into a wish, which the run inside this block grants when it is safe."""
    stop = Stop()
    with _handling(stop.request):
        yield stop


@contextlib.contextmanager
def _handling(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    before: dict[signal.Signals, Any] = {}
    try:
        if threading.current_thread() is threading.main_thread():
            handlers = dict.fromkeys(STOPPING_SIGNALS, handler) | {signal.SIGHUP: signal.SIG_IGN}
            for signum, ours in handlers.items():
                # What the process was started to ignore stays ignored. None is a handler that some C library installed:
                # it is not ours to replace, since it cannot be put back.
                if signal.getsignal(signum) not in (signal.SIG_IGN, None):
                    before[signum] = signal.signal(signum, ours)
        yield
    finally:
        for signum, old in before.items():
            signal.signal(signum, old)
