"""
The manifest: an in-toto statement of the SHA-256 of every file of a folder, and of how each of its notebooks ended.

It is signed with the operator's key, in a file beside it. The manifests that it builds on are kept under ``seals``, and
each names the digest of the one before it. `verifier` checks all of it.
"""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from manual_payout.domain.canonical import digest_bytes, digest_file
from manual_payout.evidence.folder import Folder, json_text
from manual_payout.evidence.verifier import MANIFEST as NAME
from manual_payout.evidence.verifier import (
    PREDICATE_TYPE,
    SEALS,
    SIGNATURE,
    STATEMENT_TYPE,
    earlier_seals,
    notebook_facts,
)

_PACKAGES = (
    "manual-payout", "papermill", "stripe", "sqlalchemy", "pandas", "scrapbook", "nbformat", "asyncssh",
)  # fmt: skip
_GIT_S = 5.0


@dataclass(frozen=True, slots=True)
class Sealer:
    """
    Who signs a manifest.

    Attributes:
        sign: Returns the armored signature over the bytes of the manifest.
    """

    person_id: str
    email: str
    fingerprint: str
    sign: Callable[[bytes], str]

    def facts(self) -> dict[str, str]:
        """What the manifest says of them."""
        return {"person_id": self.person_id, "email": self.email, "key": self.fingerprint}


def seal(
    folder: Folder,
    facts: dict[str, Any],
    sealer: Sealer | None = None,
    look: Callable[[bytes, str], None] = lambda _data, _signature: None,
) -> Path:
    """
    Write the manifest of everything in the folder now, after keeping the one before it.

    Args:
        facts: What the folder is about: incident, mode, journal head; JSON without floats. How each notebook ended is
            read from the notebooks.

        sealer: Without one the manifest is not signed, and `verifier` says so until the folder is sealed again.

        look: Called with manifest and signature before either is written; refuses by an error.
    """
    predicate = _predicate(folder, facts, sealer)
    if _says_already(folder, predicate):
        return folder.path / NAME
    predicate["previous"] = _keep_previous(folder)
    # Refused here, if at all, while the seal before it still stands.
    data = folder.exact(NAME, json_text(_statement(folder, predicate)))
    signature = sealer.sign(data) if sealer else ""
    if sealer:
        look(data, signature)
    # In this order, so that a crash between the two leaves a manifest without a signature, never under a wrong one.
    (folder.path / SIGNATURE).unlink(missing_ok=True)
    written = folder.replace_bytes(NAME, data)
    if sealer:
        folder.replace(SIGNATURE, signature)
    return written


def draft(folder: Folder, facts: dict[str, Any], sealer: Sealer) -> bytes:
    """Return what `seal` would write now but for the seals before it, of which nothing is kept."""
    return json_text(_statement(folder, _predicate(folder, facts, sealer) | {"previous": ""})).encode()


def _predicate(folder: Folder, facts: dict[str, Any], sealer: Sealer | None) -> dict[str, Any]:
    notebooks = {path.name: notebook_facts(path) for _, _, path in folder.notebooks()}
    return {
        "facts": facts | {"notebooks": notebooks},
        "git_commit": _git_commit(Path(__file__).parent),
        "packages": {name: version(name) for name in _PACKAGES},
        "python": platform.python_version(),
        "sealed_by": sealer.facts() if sealer else {},
    }


def _statement(folder: Folder, predicate: dict[str, Any]) -> dict[str, Any]:
    own = {folder.path / NAME, folder.path / SIGNATURE}
    files = ((path.relative_to(folder.path).as_posix(), path) for path in folder.files() if path not in own)
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": digest_file(path)}} for name, path in files],
        "predicateType": PREDICATE_TYPE,
        "predicate": predicate,
    }


def _says_already(folder: Folder, predicate: dict[str, Any]) -> bool:
    """Whether the folder is sealed as it is, at this very instant, so that another seal would say nothing new."""
    path = folder.path / NAME
    if not path.is_file() or (folder.path / SIGNATURE).is_file() != bool(predicate["sealed_by"]):
        return False
    try:
        previous = json.loads(path.read_bytes())["predicate"]["previous"]
    except (ValueError, KeyError, TypeError):
        # Damaged: it is kept as it is among the earlier seals, and found there.
        return False
    return json_text(_statement(folder, predicate | {"previous": previous})).encode() == path.read_bytes()


def head_digest(folder: Folder) -> str:
    """Return the SHA-256 of the manifest, which is to be kept where nobody can change it; empty without one."""
    path = folder.path / NAME
    return digest_bytes(path.read_bytes()) if path.is_file() else ""


def _keep_previous(folder: Folder) -> str:
    """Move nothing and lose nothing: copy manifest and signature under the next number, unless a crash left them so."""
    if not (folder.path / NAME).is_file():
        return ""
    data = (folder.path / NAME).read_bytes()
    names = (path.relative_to(folder.path).as_posix() for path in (folder.path / SEALS).glob("*.json"))
    kept = [folder.path / name for name in earlier_seals(names)]
    if not kept or kept[-1].read_bytes() != data:
        kept.append(folder.replace_bytes(f"{SEALS}/{len(kept) + 1:03}.json", data))
    signature = folder.path / SIGNATURE
    if signature.is_file():
        folder.replace_bytes(f"{SEALS}/{kept[-1].name}.sig", signature.read_bytes())
    return digest_bytes(data)


def _git_commit(path: Path) -> str:
    """Name the commit that runs, ``-dirty`` where files differ from it; empty outside of a checkout."""
    command = ["git", "-C", str(path), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_GIT_S)  # noqa: S603  # no shell, and no word of it comes from outside
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return told.stdout.strip() if told.returncode == 0 else ""
