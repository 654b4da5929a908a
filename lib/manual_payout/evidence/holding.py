"""
Who works in an evidence folder: one run, one seal or one notebook at a time, and everybody else is told who it is.

The system's own lock on a file beside the folder says it (flock(2)): it is free at once when its holder ends, however
that was, on this machine and on every other one that mounts the same disk, as far as that disk passes locks on. Where it
knows none, nobody is kept out; names are still taken by one alone, and money is guarded by the database. What stands in
the file is for people.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from manual_payout.database.clock import Stopwatch
from manual_payout.database.machine import machine_name
from manual_payout.domain.errors import EvidenceError, NotFinishedError
from truthful_papermill.durable import make_folder

# How kinds of disk say that they know no locks, and that whoever only reads there may not make a file.
_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})
_LOOK_AGAIN_S = 0.2

# How long whoever comes for a moment waits for somebody else who came for a moment.
MOMENT_S = 5.0

# What this process holds: descriptor, and how many times over. Notebooks and sealing of one run are one holder.
_held: dict[Path, tuple[int, int]] = {}


@dataclass(frozen=True, slots=True)
class Holder:
    """
    Who works in a folder.

    Attributes:
        who: The operator, as they named themselves.

        what: What they run.

        machine: Its name.

        process: The number of the process there; 0 where the file could not be read.

        since: By that machine's clock, in UTC.
    """

    who: str = "somebody"
    what: str = "a run"
    machine: str = "a machine"
    process: int = 0
    since: str = "a moment ago"

    def __str__(self) -> str:
        return f"{self.what} by {self.who} on {self.machine}, process {self.process or 'unknown'}, since {self.since}"


class HeldError(NotFinishedError):
    """
    Somebody else works in the evidence folder: nothing is wrong, and nothing was begun.

    Args:
        holder: Who.
    """

    def __init__(self, folder: Path, holder: Holder) -> None:
        self.holder = holder
        super().__init__(
            f"Somebody else works in {folder}: {holder}.",
            "Wait until that has ended, then run the same command again. If that process hangs, end it by its number on its "
            "machine: what it holds is free at once.",
        )


@contextlib.contextmanager
def holding(folder: Path, *, who: str, what: str, wait_s: float = 0.0) -> Iterator[None]:
    """
    Work in *folder* alone for the time of this block.

    Args:
        wait_s: For how long to wait for whoever is there; those that take long are not worth waiting for in silence.

    Raises:
        HeldError: Somebody else works there.

        EvidenceError: The folder above it cannot be made or written to.
    """
    hold(folder, who=who, what=what, wait_s=wait_s)
    try:
        yield
    finally:
        let_go(folder)


@contextlib.contextmanager
def reading(folder: Path, *, who: str, what: str) -> Iterator[None]:
    """
    Keep others from changing *folder* for the time of this block; whoever may only read there reads without.

    Raises:
        HeldError: Somebody else works there, and takes longer than a moment.
    """
    with contextlib.ExitStack() as held:
        with contextlib.suppress(EvidenceError):
            held.enter_context(holding(folder, who=who, what=what, wait_s=MOMENT_S))
        yield


def hold(folder: Path, *, who: str, what: str, wait_s: float = 0.0) -> None:
    """Begin to work in *folder* alone, until `let_go` or the end of this process; as of `holding`."""
    path = _lock_of(folder)
    descriptor, times = _held.get(path, (-1, 0))
    if not times:
        descriptor = _take(folder, path, time.monotonic() + wait_s)
        _sign(descriptor, Holder(who, what, machine_name(), os.getpid(), f"{Stopwatch().now():%Y-%m-%d %H:%M:%S} UTC"))
    _held[path] = (descriptor, times + 1)


def holds(folder: Path) -> bool:
    """Whether this process works in *folder*."""
    return _lock_of(folder) in _held


def let_go(folder: Path) -> None:
    """Let others work in *folder* again, as many times as it was held; nothing where it is not."""
    path = _lock_of(folder)
    descriptor, times = _held.pop(path, (-1, 0))
    if times > 1:
        _held[path] = (descriptor, times - 1)
    elif times:
        # Taken away while it is held, so that it is nobody else's; whoever has it open already looks again.
        with contextlib.suppress(OSError):
            path.unlink()
        os.close(descriptor)


def holder_of(folder: Path) -> Holder:
    """Return who says that they work in *folder*; it may be read while it is written, or not at all."""
    with contextlib.suppress(OSError, ValueError, TypeError):
        return Holder(**json.loads(_lock_of(folder).read_text("utf-8")))
    return Holder()


def _lock_of(folder: Path) -> Path:
    path = folder.absolute()
    return path.with_name(f".{path.name}.lock")


def _take(folder: Path, path: Path, until_s: float) -> int:
    try:
        make_folder(path.parent)
        return _take_in(folder, path, until_s)
    except OSError as error:
        raise EvidenceError(
            f"The evidence folder {folder} cannot be made: {error.strerror}; nothing ran.",
            "Correct MANUAL_PAYOUT_OUTPUTS, or who may write there.",
        ) from None


def _take_in(folder: Path, path: Path, until_s: float) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _NO_LOCKS:
                logging.getLogger(__name__).warning("%s knows no locks; see that nobody else works there.", folder)
                return descriptor
            os.close(descriptor)
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise
            if time.monotonic() >= until_s:
                raise HeldError(folder, holder_of(folder)) from None
            time.sleep(_LOOK_AGAIN_S)
            continue
        if _is_still(descriptor, path):
            return descriptor
        # Its last holder took it away between our opening and our locking.
        os.close(descriptor)


def _is_still(descriptor: int, path: Path) -> bool:
    ours = os.fstat(descriptor)
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    return (ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino)


def _sign(descriptor: int, holder: Holder) -> None:
    # The lock is what counts; a full disk keeps nobody out of what they were about to do.
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(asdict(holder)).encode(), 0)
