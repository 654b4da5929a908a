"""
What outlives a power loss: a file is on disk when its bytes are, and its name in every folder above it (fsync(2), *Notes*).
"""

from __future__ import annotations

import os
from pathlib import Path


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
