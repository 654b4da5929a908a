"""
Change the code of the money in one place at a time, and see whether its tests notice: ``python -m tests.mutants``.

The places are drawn by a seed. Every mutant is written into a copy of the tree, which is thrown away; the tree itself is never
touched. Prints those that survived, and the share of those that were killed.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue

from tests.mutants.places import Mutant, mutants_of

TREE = Path(__file__).parents[2]
CODE, TESTS = "lib/manual_payout", "tests/manual_payout"
_SENDS = ("transfer", "both_ways", "reversal")
# Rooms of the money, and the tests of each; the quick ones first. Kinds of databases do not matter to them.
ROOMS = {
    "domain/money.py": ("money", "transfer", "ledger"),
    "approval/policy.py": ("policy", "transfer", "overriding", "people"),
    "approval/reversal": ("reversal", "both_ways"),
    "approval/approvals": ("approvals", "transfer", "signatures"),
    "gateway/answers.py": ("gateway", *_SENDS),
    "ledger/claiming.py": ("ledger", "transfer"),
    "database/store": ("store", "intent", "delivery", *_SENDS),
    "transfer/gate.py": ("gate", *_SENDS),
    "transfer/settlement": ("settlement", "waiting"),
    "transfer": (*_SENDS, "adopting", "overriding", "gate"),
}
_IGNORED = shutil.ignore_patterns(".git", ".venv", ".*_cache", "__pycache__", ".hypothesis")
SEEDS, LIMIT_S = 300, 900


def drawn(count: int, seed: int) -> list[tuple[str, Mutant]]:
    """Draw *count* places from all of the rooms, each with the room that it is in."""
    places, seen = [], set()
    for room in ROOMS:
        root = TREE / CODE / room
        for path in sorted([root] if root.suffix else root.rglob("*.py")):
            if path not in seen:
                seen.add(path)
                places += [(room, mutant) for mutant in mutants_of(path.relative_to(TREE), path.read_text("utf-8"))]
    return random.Random(seed).sample(places, min(count, len(places)))


def survives(copy: Path, room: str, mutant: Mutant) -> bool:
    """Try *mutant* in *copy*, and put the copy right again; one that runs for too long is killed."""
    path = copy / mutant.path
    path.write_text(mutant.text, "utf-8")
    files = [f"{TESTS}/test_{name}.py" for name in ROOMS[room]]
    asked = [["pytest", "-x", "-q", "-p", "no:cacheprovider", "-k", "not postgresql", *files]]
    asked += [["tests.crash.simulation", "--seeds", str(SEEDS), "--processes", "1"]]
    try:
        return all(_passes(copy, words) for words in asked)
    finally:
        shutil.copyfile(TREE / mutant.path, path)


def _passes(copy: Path, words: list[str]) -> bool:
    # Its own library stands before the one that is installed.
    given = os.environ | {"PYTHONPATH": f"{copy / 'lib'}:{copy}", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", *words]
    try:
        return not subprocess.run(
            command, cwd=copy, env=given, capture_output=True, timeout=LIMIT_S, check=False
        ).returncode
    except subprocess.TimeoutExpired:
        return False


def main() -> None:
    """Draw, try, and say how many were killed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200, help="how many mutants (default: 200)")
    parser.add_argument("--seed", type=int, default=1, help="of the drawing (default: 1)")
    parser.add_argument("--processes", type=int, default=2, help="how many at a time (default: 2)")
    chosen = parser.parse_args()
    mutants = drawn(chosen.count, chosen.seed)
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder, ThreadPoolExecutor(chosen.processes) as pool:
        copies: Queue[Path] = Queue()
        for number in range(chosen.processes):
            copies.put(Path(shutil.copytree(TREE, Path(folder) / str(number), ignore=_IGNORED)))

        def tried(one: tuple[str, Mutant]) -> bool:
            copy = copies.get()
            try:
                survived = survives(copy, *one)
            finally:
                copies.put(copy)
            say(f"{'survived' if survived else 'killed'}  {one[1]}")
            return survived

        survivors = sum(pool.map(tried, mutants))
    killed = len(mutants) - survivors
    say(f"{killed} of {len(mutants)} killed ({killed / len(mutants):.0%}), seed {chosen.seed}")


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
