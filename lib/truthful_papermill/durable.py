"""
What outlives a power loss: a file is on disk when its bytes are, and its name in every folder above it (fsync(2), *Notes*).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import tempfile
from pathlib import Path

# Between the making of something and its being held lie microseconds; what is younger is left for the next run.
_YOUNG_S = 2
# Where the file system knows no locks, only age tells: no save takes that long.
_OLD_S = 3600


def make_folder(path: Path) -> None:
    """
    Make *path* and the folders above it that are missing, each with its name on disk.

    Raises:
        OSError: It cannot be made, or something else has its name.
    """
    missing = []
    above = path
    while not above.is_dir():
        missing.append(above)
        above = above.parent
    for folder in reversed(missing):
        # Somebody else may make it at the same moment.
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def sync_folder(path: Path) -> None:
    """
    Wait until the names in *path* are on disk: those that were added, changed or taken away.

    Raises:
        OSError: The disk did not take it.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def hold(descriptor: int) -> None:
    """
    Mark what *descriptor* has open as in use until it is closed, by whatever end of this process.

    The lock is the system's own, so that a kill leaves none behind; where a file system has none, nothing is marked.
    """
    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def is_left_behind(descriptor: int, now_s: float) -> bool:
    """
    Tell whether nobody uses any longer what *descriptor* has open, as of `hold`.

    Args:
        now_s: The time of the file system that it is on, in seconds.
    """
    age_s = now_s - os.fstat(descriptor).st_mtime
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return age_s > _OLD_S
    return age_s > _YOUNG_S


def file_system_time(folder: Path) -> float:
    """
    Return the time, in seconds, by the clock of whatever keeps *folder*, which may be another machine's.

    Raises:
        OSError: Nothing can be written there.
    """
    with tempfile.TemporaryFile(dir=folder) as file:
        return os.fstat(file.fileno()).st_mtime


def remove_left_parts(folder: Path) -> None:
    """
    Remove what saves that were cut short have left in *folder*: hidden ``.part`` files that nobody writes any longer.

    What cannot be looked at or removed stays.
    """
    with contextlib.suppress(OSError):
        names = [entry.path for entry in os.scandir(folder) if entry.name[0] == "." and entry.name.endswith(".part")]
        now_s = file_system_time(folder) if names else 0
        for name in names:
            _remove_if_left(name, now_s)


def _remove_if_left(name: str, now_s: float) -> None:
    try:
        # For writing, since a lock on a server's file asks for it. What is no file is not ours.
        descriptor = os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ELOOP, errno.EACCES, errno.EPERM, errno.ENXIO, errno.EISDIR):
            raise
        return
    try:
        if stat.S_ISREG(os.fstat(descriptor).st_mode) and is_left_behind(descriptor, now_s):
            Path(name).unlink()
    finally:
        os.close(descriptor)
