"""Programs that are measured from outside, as a person starts them: seconds by the clock, and memory of the whole tree."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

BIN = Path(sys.executable).parent
SAMPLE_S = 0.05


class FailedError(Exception):
    """A measured program did not do what it was measured for."""


def seconds(command: Sequence[str], environment: Mapping[str, str]) -> float:
    """
    Run *command* once; returns seconds by the clock.

    Raises:
        FailedError: It ended with another exit code than 0; what it took then says nothing.
    """
    began = time.perf_counter()
    with started(command, environment):
        pass
    return time.perf_counter() - began


def peak_mb(command: Sequence[str], environment: Mapping[str, str]) -> float:
    """
    Run *command* once; returns the largest sum seen, in MB, of what its processes and all they started have in memory.

    A page that several processes share counts once: each is given its part of it (``Pss``; proc(5), *smaps_rollup*).
    """
    peak = 0
    with started(command, environment) as process:
        while process.poll() is None:
            peak = max(peak, sum(map(_proportional_kb, _tree(process.pid))))
            time.sleep(SAMPLE_S)
    return peak / 1024


@contextlib.contextmanager
def started(command: Sequence[str], environment: Mapping[str, str]):
    """Run *command* for the time of this block, and wait for its end."""
    process = subprocess.Popen(
        command, env=dict(environment), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace"
    )
    said: list[str] = []
    reader = threading.Thread(target=lambda: said.append(process.stderr.read()))
    reader.start()
    try:
        yield process
    finally:
        code = process.wait()
        reader.join()
        process.stderr.close()
    if code:
        raise FailedError(f"{' '.join(map(str, command))} ended with {code}: {said[0][-2000:]}")


def _tree(root: int) -> list[int]:
    """The process *root* and everything that it, or what it started, has started and that still runs."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def _proportional_kb(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    return 0


def plain_environment() -> dict[str, str]:
    """The environment without anybody's settings."""
    return {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "LC_ALL") if name in os.environ}
