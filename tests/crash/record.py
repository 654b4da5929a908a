"""
A file of partial sums, a line of JSON each: it survives a kill, and somebody else can continue it.

`python -m tests.crash.record FILE…` adds up what files hold.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


class Record:
    """
    The partial sums of campaigns.

    Args:
        path: Where they are kept; None keeps nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._done = {(one["campaign"], one["seed"], one["first"]) for one in read(path)} if path else set()
        self._commit = _commit() if path else ""

    def has(self, campaign: str, seed: str, first: int) -> bool:
        """Whether the part of *campaign* that begins with *first* is done."""
        return (campaign, seed, first) in self._done

    def add(self, campaign: str, seed: str, first: int, tally: dict[str, Any]) -> None:
        """Keep the sums of one part."""
        if self._path is None:
            return
        told = {"campaign": campaign, "seed": seed, "first": first, "commit": self._commit}
        told |= {"at": datetime.now(UTC).isoformat(timespec="seconds"), "tally": tally}
        with self._path.open("a", encoding="utf-8") as file:
            # On a line of its own, also after one that was cut off.
            file.write(f"\n{json.dumps(told)}\n")


def read(path: Path) -> list[dict[str, Any]]:
    """Read the lines of a file; what a kill has left half written is no line."""
    if not path.exists():
        return []
    return [told for line in path.read_text("utf-8").splitlines() if (told := _parsed(line))]


def add_up(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Add numbers and counters, and join lists, under the same names."""
    total: dict[str, Any] = {}
    for part in parts:
        for name, value in part.items():
            if isinstance(value, dict):
                total.setdefault(name, Counter()).update(value)
            elif isinstance(value, (int, float, list)):
                total[name] = total[name] + value if name in total else value
            else:
                total[name] = value
    return total


def main(paths: list[str]) -> int:
    """Tell what the files hold, each campaign by itself."""
    lines = [line for path in paths for line in read(Path(path))]
    for campaign in dict.fromkeys(line["campaign"] for line in lines):
        # A part that two have played is counted once.
        parts = {(line["seed"], line["first"]): line for line in lines if line["campaign"] == campaign}
        firsts = sorted(first for _, first in parts)
        commits = ", ".join(sorted({line["commit"] for line in parts.values()}))
        total = add_up([line["tally"] for line in parts.values()])
        sys.stdout.write(f"{campaign}: {len(parts)} parts that begin with {firsts[0]} to {firsts[-1]}, at {commits}\n")
        for name, value in total.items():
            if isinstance(value, dict):
                told = ", ".join(f"{what} {count:,}" for what, count in sorted(value.items()))
            else:
                told = f"{value:,.0f}" if isinstance(value, (int, float)) else str(value)
            sys.stdout.write(f"  {name}: {told}\n")
    return 0


def _parsed(line: str) -> dict[str, Any]:
    with contextlib.suppress(json.JSONDecodeError):
        return dict(json.loads(line))
    return {}


def _commit() -> str:
    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=False
        ).stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", "lib", "tests/crash")
    return git("rev-parse", "--short=12", "HEAD") + (" with changes" if changed else "")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
