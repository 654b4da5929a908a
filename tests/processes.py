"""Processes as a test looks after them: whether one runs, what it waits for, what it inherits."""

from __future__ import annotations

import os
import time
from pathlib import Path

# However slow the machine is.
PATIENCE_S = 120


def around():
    """The environment without the name of the running test, which pytest changes all the time."""
    return {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}


def is_running(pid):
    """Whether the process exists; one that waits to be reaped has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def wait_until(condition):
    """Wait for something that must happen, however slow the machine is."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
