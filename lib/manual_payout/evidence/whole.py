"""
What was executed for a payout and does not lie in this folder: another machine has it, or nobody any more.

The journal holds the name of every notebook as it begins, and name, digest and machine of every notebook and page that was
sealed. So a folder that lacks the notebook which sent the money says so, whoever went on without it and wherever.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from manual_payout.database.machine import machine_name
from manual_payout.desk.wiring import Desk, papermill_output
from manual_payout.domain.canonical import digest_file
from manual_payout.domain.models import Event
from manual_payout.evidence.folder import Folder

BEGUN, KEPT, LOST = "notebook_begun", "evidence_kept", "evidence_lost"


@dataclass(frozen=True, slots=True)
class MissingFile:
    """
    One notebook or page that was executed and is not here.

    Attributes:
        machine: The name of the one that executed it.

        digest: SHA-256; empty of what was never sealed, since its run was killed.
    """

    name: str
    machine: str
    digest: str

    def __str__(self) -> str:
        return f"{self.name} (on {self.machine})"


def absent_of(events: Iterable[Event], present: Mapping[str, str], *, given_up: bool = True) -> list[MissingFile]:
    """
    Return what the journal knows of and a folder lacks, in the order of names.

    Args:
        present: The digest of each file of the folder by its name.

        given_up: Whether to leave out what was given up as lost.
    """
    begun, kept, lost = defaultdict[str, list[str]](list), defaultdict[str, dict[str, str]](dict), set()
    for event in events:
        if event.kind == BEGUN:
            begun[event.data["notebook"]].append(event.data["machine"])
        elif event.kind == KEPT:
            for name, digest in event.data["files"].items():
                kept[name].setdefault(digest, event.data["machine"])
        elif event.kind == LOST and given_up:
            lost.add((event.data["name"], event.data["digest"]))
    here, found = set(present.values()), []
    for name in sorted({*begun, *kept}):
        digests = kept[name]
        found += [MissingFile(name, machine, digest) for digest, machine in digests.items() if digest not in here]
        unsealed_here = name in present and present[name] not in digests
        count = len(begun[name]) - len(digests) - unsealed_here
        machines = (Counter(begun[name]) - Counter(digests.values())).elements()
        found += [MissingFile(name, machine, "") for machine, _ in zip(machines, range(count), strict=False)]
    return [one for one in found if (one.name, one.digest) not in lost]


def executed_in(folder: Folder) -> dict[str, str]:
    """Return the digest of each executed notebook of a folder, and of each of their pages, by its name."""
    books = [path for _, _, path in folder.notebooks()]
    files = [file for path in books for file in (path, path.with_suffix(".html")) if file.is_file()]
    # A link is no evidence, whatever it points at; the seal says so.
    files = [file for file in files if not file.is_symlink()]
    return {file.name: digest_file(file) for file in files}


def missing_in(folder: Folder, events: Iterable[Event]) -> list[MissingFile]:
    """Return what *folder* lacks of what its journal knows."""
    return absent_of(events, executed_in(folder))


def unrecorded(events: Iterable[Event], executed: Mapping[str, str]) -> dict[str, str]:
    """Return those of the *executed* files whose digest is not on record under their name."""
    known = {item for event in events if event.kind == KEPT for item in event.data["files"].items()}
    return {name: digest for name, digest in executed.items() if (name, digest) not in known}


def names_on_record(events: Iterable[Event]) -> set[str]:
    """Return the names of all notebooks and pages that the journal knows, wherever they lie."""
    begun = {event.data["notebook"] for event in events if event.kind == BEGUN}
    return begun.union(*(event.data["files"] for event in events if event.kind == KEPT))


def record_begun(desk: Desk, stream: str, stage: str, notebook: Path, actor: str) -> None:
    """Put on record that a notebook begins, before its first cell runs: one that is killed is missed all the same."""
    data = {"stage": stage, "notebook": notebook.name, "machine": machine_name()}
    desk.store.record_event(stream, BEGUN, actor, data)


def record_plain(desk: Desk, folder: Folder, stream: str, stage: str, actor: str) -> None:
    """Put on record that papermill alone runs a notebook in the evidence folder; the runner does so for its own."""
    path = papermill_output()
    if path is not None and path.parent.resolve() == folder.path.resolve():
        record_begun(desk, stream, stage, path, actor)


def sentence_of(missing: Sequence[MissingFile]) -> str:
    """Say that a folder is incomplete, by name and machine; empty where it is whole."""
    return f"Incomplete here: {', '.join(map(str, missing))}." if missing else ""
