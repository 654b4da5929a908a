"""Play the scenes on one kind of database, then search everything that was written or sent."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .scenes import PLAYED, SCENES, unmount
from .search import Finding, Search
from .stage import World, written

# How a file is counted, by its name's end or the folder it lies in.
_KINDS = {
    ".ipynb": "notebooks", ".html": "pages", ".sqlite": "database files", ".json": "JSON files", ".zip": "archives",
    ".out": "standard output", ".err": "standard error", ".sig": "signatures",
}  # fmt: skip


@dataclass
class Tally:
    """
    What a campaign came to.

    Attributes:
        faults: What was met, by scene.

        artefacts, sizes: How many things were searched, and their bytes, by kind.

        unused: Secrets of a rehearsal that its own service was never sent: their absence elsewhere would show nothing.
    """

    kind: str
    secrets: int = 0
    commands: int = 0
    seconds: float = 0.0
    faults: dict[str, list[str]] = field(default_factory=dict)
    artefacts: Counter[str] = field(default_factory=Counter)
    sizes: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)

    @property
    def violated(self) -> bool:
        """Whether a canary was told, or never tried."""
        return bool(self.findings or self.unused)

    def as_json(self) -> dict[str, Any]:
        """The sums, for a line of a file."""
        return {
            "database": self.kind, "secrets": self.secrets, "commands": self.commands, "seconds": round(self.seconds),
            "faults": self.faults, "artefacts": self.artefacts, "bytes": self.sizes,
            "findings": [str(finding) for finding in self.findings], "unused": self.unused,
        }  # fmt: skip

    def __str__(self) -> str:
        met = sum(map(len, self.faults.values()))
        lines = [
            f"{self.kind}: {len(self.faults)} scenes, {met} faults and habits, {self.secrets} secrets, {self.commands} commands",
            *(f"  {name:<18} {len(met):>5} faults and habits" for name, met in self.faults.items()),
            *(
                f"  {kind:<24} {count:>6} {self.sizes[kind]:>14,} bytes"
                for kind, count in sorted(self.artefacts.items())
            ),
            f"  searched: {self.artefacts.total()} artefacts, {self.sizes.total():,} bytes; canaries found: {len(self.findings)}",
            *(f"  ! {finding}" for finding in self.findings),
            *(f"  ! {name} was never used" for name in self.unused),
        ]
        return "\n".join(lines)


def campaign(
    root: Path,
    kind: str,
    *,
    names: Iterable[str],
    few: bool = False,
    defect: str = "",
    say: Any = lambda _: None,
) -> Tally:
    """
    Play and search.

    Args:
        root: An empty folder with a short name.

        kind: ``sqlite`` or ``postgresql``.

        few: Only a part of each scene.

        defect: A planted mistake, as of `World`.

        say: Told what is played.
    """
    begun, tally, world = time.monotonic(), Tally(kind), World(root, kind, defect=defect)
    try:
        tally.secrets = len(world.canaries)
        for name in names:
            say(f"{kind}: {name}")
            tally.faults[name] = list(SCENES[name](world, few))
            tally.seconds = time.monotonic() - begun
        if set(tally.faults) == set(PLAYED[kind]) and not few:
            tally.unused = [name for name, used in world.used().items() if not used]
        search_all(world, tally)
        tally.commands = sum(1 for path in world.root.glob("*/said/*.out"))
    finally:
        unmount(world)
        world.close()
    tally.seconds = time.monotonic() - begun
    return tally


def search_all(world: World, tally: Tally) -> None:
    """Search every byte, and count."""
    search = Search(world.canaries.values())
    for kind, name, data in everything(world):
        tally.artefacts[kind] += 1
        tally.sizes[kind] += len(data)
        tally.findings += search.find(name, data)


def everything(world: World) -> Iterator[tuple[str, str, bytes]]:
    """Everything that was written or sent, with what kind of thing it is and its name."""
    for name, data in written(world.root):
        yield _kind(Path(name)), name, data
    for name, data in world.databases.dumps():
        yield "database tables", name, data
    for name, data in world.sent():
        yield "requests", name, data
    yield "command lines", "command lines of all processes", b"\n".join(world.watch.seen)


def _kind(path: Path) -> str:
    if "said" in path.parts:
        return _KINDS.get(path.suffix, "other files")
    return "temporary files" if "tmp" in path.parts or "home" in path.parts else _KINDS.get(path.suffix, "other files")
