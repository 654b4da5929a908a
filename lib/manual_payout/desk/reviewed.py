"""
Which notebooks are the reviewed ones: the digest of each, as it was when it was last reviewed.

A changed template is refused until ``reviewed.json`` is changed too, in the same reviewed commit (``make notebooks``).
"""

from __future__ import annotations

import json
from pathlib import Path

from manual_payout.domain.canonical import digest_of
from manual_payout.domain.errors import EvidenceError

FILE = Path(__file__).parent / "reviewed.json"


def reviewed_digest(stage: str) -> str:
    """
    Return the digest of the reviewed template of *stage*.

    Raises:
        EvidenceError: No template of that name was ever reviewed.
    """
    digests = reviewed_digests()
    if stage not in digests:
        raise EvidenceError(
            f"There is no reviewed notebook {stage}.", f"The reviewed ones are {', '.join(sorted(digests))}."
        )
    return digests[stage]


def reviewed_digests() -> dict[str, str]:
    """Return the digest of every reviewed template, by its name."""
    digests: dict[str, str] = json.loads(FILE.read_text("utf-8"))
    return digests


def procedure_digest() -> str:
    """Return one digest of the numbered notebooks, the procedure that a rehearsal rehearses; it changes with any of them."""
    return digest_of({name: digest for name, digest in reviewed_digests().items() if name[0].isdigit()})
