"""
Seal a folder: write out its journal and a signed manifest of every file, refused and failed runs included.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from manual_payout.database.machine import machine_name
from manual_payout.desk.reviewed import reviewed_digests
from manual_payout.desk.wiring import Desk
from manual_payout.domain.canonical import instant_text
from manual_payout.domain.errors import EvidenceError, UsageError
from manual_payout.domain.models import Event, stream_of
from manual_payout.evidence import manifest, whole
from manual_payout.evidence.folder import Folder, json_text
from manual_payout.evidence.review import write_page
from manual_payout.evidence.scan import refuse_secrets, refuse_unfit
from manual_payout.evidence.verifier import MANIFEST, SEALS, SIGNATURE, Finding, Registry, check_all
from manual_payout.evidence.verifier import Folder as Sealed
from truthful_papermill.plain_text import shown

# What can be made right by taking away what somebody put there; of everything else only Security can say how it came about.
_OF_FILES = frozenset({"templates", "statuses", "stages", "mode"})


def ask_nobody(file: Path) -> str:
    """
    Refuse to ask for a passphrase.

    Raises:
        UsageError: Always.
    """
    raise UsageError(f"{file} needs a passphrase, and there is nobody to ask.", "Load it with `ssh-add`.")


def find_sealer(
    desk: Desk, operator: str, ask_passphrase: Callable[[Path], str] = ask_nobody
) -> manifest.Sealer | None:
    """
    Return how *operator*, an id, handle or email, signs seals; None for somebody who may not operate, whose run will be refused.

    Called before a run begins: who finds out afterwards that the key is at home has evidence that nobody signed.

    Raises:
        SignatureError: They have no key that may sign seals now, or it is not at hand.

        SettingsError, UsageError: The key that was named cannot be used.
    """
    from manual_payout.desk.signatures import SEAL
    from manual_payout.desk.signing import find_signing_key

    person = desk.registry.find(operator)
    if person is None or "operate" not in person.may or not person.valid_at(desk.now()):
        return None
    file = desk.settings.signing_key
    key = find_signing_key(
        desk.registry, person, SEAL, desk.now(), mode=desk.settings.mode,
        file=file.expanduser() if file is not None else None, ask_passphrase=ask_passphrase,
    )  # fmt: skip
    return manifest.Sealer(person.person_id, person.email, key.fingerprint, lambda data: key.sign(SEAL, data))


def seal_folder(
    desk: Desk, folder: Folder, incident_id: str, ledger_payout_id: str, sealer: manifest.Sealer | None = None
) -> Path:
    """
    Write ``journal.json``, the reviewer's page and ``manifest.json``, signed where there is a *sealer*.

    Returns:
        The manifest.

    Raises:
        EvidenceError: The journal's chain is broken, a file cannot be read or holds a secret, the folder cannot be written, or
            `verifier` would not pass what is about to be signed.
    """
    folder.tidy()
    chain = _written_journal(desk, folder, incident_id, ledger_payout_id)
    refuse_unfit(folder.path, folder.files(), folder.redactor)
    about = {"incident_id": incident_id, "ledger_payout_id": ledger_payout_id, "mode": desk.settings.mode.value}
    if sealer and (new := whole.unrecorded(chain, whole.executed_in(folder))):
        # What could not be signed is not put on record either: whoever moved it out would miss it for ever.
        draft = manifest.draft(folder, about | _facts(desk, chain), sealer)
        _refuse_unsound(desk, folder, incident_id, draft, "", left_out=("seal", "seals"))
        data = {"machine": machine_name(), "files": new}
        desk.store.record_event(stream_of(incident_id, ledger_payout_id), whole.KEPT, sealer.person_id, data)
        chain = _written_journal(desk, folder, incident_id, ledger_payout_id)
    later = frozenset({MANIFEST, SIGNATURE, SEALS})
    write_page(desk, folder, incident_id, ledger_payout_id, later=later)
    refuse_secrets(folder.path, folder.files(), folder.redactor)
    return manifest.seal(
        folder, about | _facts(desk, chain), sealer, partial(_refuse_unsound, desk, folder, incident_id)
    )


def _facts(desk: Desk, chain: Sequence[Event]) -> dict[str, Any]:
    return {
        "journal_head": chain[-1].digest if chain else "",
        "journal_length": len(chain),
        "sealed_at": instant_text(desk.now()),
    }


def _written_journal(desk: Desk, folder: Folder, incident_id: str, ledger_payout_id: str) -> list[Event]:
    """Write the journal out as the database has it now."""
    stream = stream_of(incident_id, ledger_payout_id)
    chain = desk.store.events_of(stream)
    lines = [
        {
            "seq": event.seq,
            "kind": event.kind,
            "at": instant_text(event.at),
            "actor": event.actor,
            "data": event.data,
            "previous": event.previous,
            "digest": event.digest,
        }
        for event in chain
    ]
    folder.replace("journal.json", json_text({"stream": stream, "events": lines}))
    return chain


def _refuse_unsound(
    desk: Desk, folder: Folder, incident_id: str, data: bytes, signature: str, left_out: Sequence[str] = ()
) -> None:
    """
    Judge what is about to be signed as an auditor will, with the same code; what is incomplete here can be whole elsewhere.

    Args:
        left_out: Checks that cannot be made yet.

    Raises:
        EvidenceError: Naming every check that fails, and why.
    """
    from manual_payout.desk.signing import judge_of

    sealed = Sealed(folder.path, (data, signature))
    people, judge = Registry(desk.settings.approvers_path()), judge_of(desk.registry.signers)
    findings = check_all(sealed, people, judge, reviewed_digests())
    failing = [found for found in findings if found.wrong and found.grave and found.name not in left_out]
    if failing:
        told = "; ".join(f"{found.name}: {', '.join(found.wrong)}" for found in failing)
        raise EvidenceError(
            f"{folder.path} would not pass `manual-payout verify`, and was not sealed. {shown(desk.redactor.redact(told))}.",
            _remedy(failing, incident_id),
        )


def _remedy(failing: list[Finding], incident_id: str) -> str:
    if {found.name for found in failing} <= _OF_FILES:
        return (
            "Move what is named out of the folder with its page, and keep it; run its stage again where it never ran, then run "
            f"`manual-payout seal {incident_id}`; where the money is, `manual-payout status {incident_id}` says."
        )
    return (
        "Keep folder and database as they are and call Security; where the money is, "
        f"`manual-payout status {incident_id}` says."
    )
