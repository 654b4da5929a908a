"""A kernel killed at a chosen moment, as by a machine that loses its power; what moved is what has to be found out."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from manual_payout.domain.errors import DatabaseError
from truthful_papermill.warm.starting import ForkServer

# How often is looked whether the moment has come.
LOOK_EVERY_S = 0.005


@dataclass(slots=True)
class Shot:
    """
    A kill that was prepared.

    Attributes:
        fired: Whether it came to that.
    """

    fired: bool = False


@contextmanager
def killed_when(kernels: ForkServer, ready: Callable[[], bool]) -> Iterator[Shot]:
    """
    Send SIGKILL to the kernel that runs when *ready* says so, once; the moment may come at any time inside the block.

    Without a kernel that was started for *kernels* nothing is killed.
    """
    shot, over = Shot(), threading.Event()

    def watch() -> None:
        while not over.wait(LOOK_EVERY_S):
            # A database that is busy for a moment is asked again; a kernel that has ended by itself is looked for no more.
            with suppress(DatabaseError, ProcessLookupError):
                if ready() and kernels.last_kernel:
                    os.kill(kernels.last_kernel, signal.SIGKILL)
                    shot.fired = True
                    return

    thread = threading.Thread(target=watch, name="killer", daemon=True)
    thread.start()
    try:
        yield shot
    finally:
        over.set()
        thread.join()
