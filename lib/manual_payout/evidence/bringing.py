"""Bring in what another machine executed, or say that it never comes back."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from manual_payout.desk.reviewed import reviewed_digests
from manual_payout.desk.wiring import Desk
from manual_payout.domain.canonical import digest_file
from manual_payout.domain.errors import EvidenceError, ParameterError
from manual_payout.domain.models import stream_of
from manual_payout.evidence.folder import Folder
from manual_payout.evidence.verifier import read_executed, read_file
from manual_payout.evidence.whole import KEPT, LOST, MissingFile, absent_of, executed_in, missing_in

_ANOTHER = "is not what {machine} executed, by the digest on record"


def bring_in(
    desk: Desk, folder: Folder, source: Path, incident_id: str, ledger_payout_id: str, actor: str
) -> list[str]:
    """
    Copy what *folder* lacks from *source*, each file held against its digest on record; nothing is ever overwritten.

    A notebook whose run was killed has no digest on record: it has to be one of ours, as it was reviewed, and gets its digest
    on record now.

    Returns:
        The names under which the files lie here now.

    Raises:
        EvidenceError: A file is another one than was executed; nothing was copied.
    """
    stream = stream_of(incident_id, ledger_payout_id)
    # Also what was given up: it has come back after all.
    wanted = absent_of(desk.store.events_of(stream), executed_in(folder), given_up=False)
    found = [(one, file) for one in wanted if (file := _of(one, source)) is not None]
    wrong = [f"{file.name} {why}" for one, file in found if (why := _unlike(one, file, incident_id))]
    if wrong:
        raise EvidenceError(
            f"Nothing was brought in from {source}: {'; '.join(wrong)}.",
            "Get the folder from that machine again, from the ticket or from a backup; if it is the same there, keep it and call "
            "Security.",
        )
    unknown: dict[str, dict[str, str]] = defaultdict(dict)
    names = []
    for one, file in found:
        names.append(folder.keep_bytes(one.name, read_file(file)).name)
        if not one.digest:
            unknown[one.machine][one.name] = digest_file(file)
    for machine, files in unknown.items():
        desk.store.record_event(stream, KEPT, actor, {"machine": machine, "files": files})
    return names


def give_up(
    desk: Desk, folder: Folder, incident_id: str, ledger_payout_id: str, names: Sequence[str], because: str, actor: str
) -> None:
    """
    Put on record that files of a machine which never returns are lost, a notebook together with its page.

    Raises:
        ParameterError: One of *names* is not missing here.
    """
    stream = stream_of(incident_id, ledger_payout_id)
    missing = missing_in(folder, desk.store.events_of(stream))
    for name in names:
        page = str(Path(name).with_suffix(".html"))
        lost = [one for one in missing if one.name in (name, page)]
        if name not in {one.name for one in lost}:
            lacks = ", ".join(sorted({one.name for one in missing})) or "nothing, since the folder lacks none"
            raise ParameterError("lost", name, f"a file that this folder lacks: {lacks}")
        for one in lost:
            data = {"name": one.name, "digest": one.digest, "machine": one.machine, "because": because}
            desk.store.record_event(stream, LOST, actor, data)


def payout_of(source: Path) -> tuple[str, str]:
    """
    Return the incident and the ledger payout that a folder is about, by its manifest or, never sealed, by its journal or name.

    Raises:
        EvidenceError: None of them says so.
    """
    try:
        facts = json.loads(read_file(source / "manifest.json"))["predicate"]["facts"]
        return str(facts["incident_id"]), str(facts["ledger_payout_id"])
    except FileNotFoundError:
        whole = source.resolve()
        return whole.parent.name, whole.name
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise EvidenceError(
            f"{source} has no manifest that can be read ({type(error).__name__}).",
            "Get the folder from that machine again.",
        ) from None


def _of(one: MissingFile, source: Path) -> Path | None:
    """Return the file that *one* is in *source*: under its name, or any other that has its digest."""
    others = sorted(source.glob(f"*{Path(one.name).suffix}")) if one.digest else []
    regular = [file for file in (source / one.name, *others) if file.is_file() and not file.is_symlink()]
    same = [file for file in regular if one.digest and digest_file(file) == one.digest]
    return next(iter([*same, *(file for file in regular if file.name == one.name)]), None)


def _unlike(one: MissingFile, file: Path, incident_id: str) -> str:
    if one.digest:
        return "" if digest_file(file) == one.digest else _ANOTHER.format(machine=one.machine)
    try:
        book = read_executed(file)
    except (KeyError, TypeError, ValueError, AttributeError, OSError, RecursionError) as error:
        return f"cannot be read ({type(error).__name__})"
    ours = reviewed_digests().get(book.stage) == book.digest and not book.blemishes
    about = book.parameters.get("incident_id", incident_id)
    return "" if ours and about == incident_id else "is no notebook of ours about this incident, as it was reviewed"
