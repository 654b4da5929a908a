"""
What Stripe has made and the database could not take, noted on this machine until the database has it.

A note is a hint and no more: whoever reads one asks Stripe about what it names, and compares.
"""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from pathlib import Path

from manual_payout.domain.errors import EvidenceError
from manual_payout.domain.models import Record
from truthful_papermill.durable import make_folder, sync_folder

_VERSION = 1


class Spool:
    """
    The notes of one machine, a file for each key.

    Args:
        folder: Made with the first note.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def note(self, record: Record, stripe_id: str) -> Path:
        """
        Put on disk that Stripe has made *stripe_id* under the key of *record*.

        Returns:
            Where it is noted.

        Raises:
            OSError: The disk did not take it.
        """
        path = self._path(record)
        text = json.dumps(
            {
                "version": _VERSION,
                "incident_id": record.incident_id,
                "ledger_payout_id": record.ledger_payout_id,
                "idempotency_key": record.idempotency_key,
                "stripe_id": stripe_id,
            },
            indent=2,
        )
        make_folder(self._folder)
        temporary = path.with_name(f".{uuid.uuid4().hex}.part")
        try:
            with temporary.open("x") as file:
                file.write(text + "\n")
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(self._folder)
        return path

    def find(self, record: Record) -> str | None:
        """
        Return what Stripe has made under the key of *record*, as far as it is noted here.

        Raises:
            EvidenceError: There is a note that cannot be read.
        """
        path = self._path(record)
        try:
            noted = json.loads(path.read_bytes())
            key, stripe_id = noted["idempotency_key"], noted["stripe_id"]
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, KeyError, TypeError):
            key, stripe_id = "", ""
        if key != record.idempotency_key or not isinstance(stripe_id, str):
            raise EvidenceError(
                f"The note {path} cannot be read; it should name what Stripe made under {record.idempotency_key}.",
                "Attach it to the ticket and move it away, then run the same command again.",
            )
        return stripe_id

    def close(self, record: Record) -> None:
        """Set the note aside, if there is one: the database has what it says."""
        path = self._path(record)
        # Where it has to stay it does no harm: what it names is on record.
        with contextlib.suppress(OSError):
            path.replace(path.with_suffix(".recorded"))
            sync_folder(self._folder)

    def _path(self, record: Record) -> Path:
        return self._folder / f"{record.idempotency_key}.json"
