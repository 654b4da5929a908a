"""
Seal a folder: write out its journal and a manifest of every file, refused and failed runs included.
"""

from __future__ import annotations

from pathlib import Path

from manual_payout.canonical import instant_text
from manual_payout.desk import Desk
from manual_payout.evidence import manifest
from manual_payout.evidence.folder import Folder, json_text
from manual_payout.models import stream_of


def seal_folder(desk: Desk, folder: Folder, incident_id: str, ledger_payout_id: str) -> Path:
    """
    Write ``journal.json`` and ``manifest.json``.

    Returns:
        The manifest.

    Raises:
        EvidenceError: The journal's chain is broken, or the folder cannot be written.
    """
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
    facts = {
        "incident_id": incident_id,
        "ledger_payout_id": ledger_payout_id,
        "mode": desk.settings.mode.value,
        "journal_head": chain[-1].digest if chain else "",
        "journal_length": len(chain),
        "sealed_at": instant_text(desk.now()),
    }
    return manifest.seal(folder, facts)
