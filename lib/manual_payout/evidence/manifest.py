"""
The manifest: the SHA-256 of every file of a folder, and the check of it. Offline; needs only this package.
"""

from __future__ import annotations

import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

from manual_payout.canonical import digest_bytes, digest_of
from manual_payout.errors import EvidenceError
from manual_payout.evidence.folder import Folder, is_by_product, json_text
from manual_payout.models import Check, CheckStatus

NAME = "manifest.json"
_PACKAGES = ("manual-payout", "papermill", "stripe", "sqlalchemy", "pandas", "scrapbook", "nbformat")


def seal(folder: Folder, facts: dict[str, Any]) -> Path:
    """
    Write the manifest of everything in the folder now.

    Args:
        facts: What the folder is about: incident, mode, stages, journal head; JSON without floats.
    """
    files = {
        path.relative_to(folder.path).as_posix(): _digest(path) for path in folder.files() if path != folder.path / NAME
    }
    content = {
        "version": 1,
        "facts": facts,
        "files": files,
        "python": platform.python_version(),
        "packages": {name: version(name) for name in _PACKAGES},
    }
    return folder.replace(NAME, json_text(content | {"digest": digest_of(content)}))


def verify_folder(path: Path) -> list[Check]:
    """
    Check a folder against its manifest.

    Returns:
        One check per claim: the manifest is whole, every file is as sealed, nothing is missing, nothing is extra.

    Raises:
        EvidenceError: There is no readable manifest at all.
    """
    manifest, files, claimed = _read(path)
    present = {
        file.relative_to(path).as_posix(): _digest(file)
        for file in path.rglob("*")
        if (file.is_file() or file.is_symlink()) and file != path / NAME and not is_by_product(file.relative_to(path))
    }
    changed = sorted(name for name in files if name in present and present[name] != files[name])
    missing = sorted(name for name in files if name not in present)
    extra = sorted(name for name in present if name not in files)
    return [
        _check(
            "manifest",
            "Is the manifest whole?",
            [] if _digest_fits(manifest, claimed) else [NAME],
            "its own digest fits",
        ),
        _check("files_as_sealed", "Is every file as it was sealed?", changed, f"{len(files)} files unchanged"),
        _check("nothing_missing", "Is nothing missing?", missing, "no file missing"),
        _check("nothing_extra", "Is nothing added?", extra, "no file added"),
    ]


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Any], Any]:
    try:
        manifest = json.loads((path / NAME).read_text("utf-8"))
        return manifest, dict(manifest["files"]), manifest.pop("digest")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        why = "it is missing" if isinstance(error, FileNotFoundError) else f"it is damaged ({type(error).__name__})"
        raise EvidenceError(
            f"{path} has no readable {NAME}: {why}.", "Get the folder again from the ticket; change nothing."
        ) from None


def _digest_fits(manifest: dict[str, Any], claimed: Any) -> bool:
    try:
        return bool(digest_of(manifest) == claimed)
    except (TypeError, ValueError):
        # A float or a lone surrogate, which no manifest of ours holds.
        return False


def _digest(file: Path) -> str:
    if file.is_symlink():
        # What it points at is not in the folder.
        return f"symbolic link to {file.readlink()}"
    try:
        return digest_bytes(file.read_bytes())
    except OSError as error:
        return f"unreadable: {error.strerror}"


def _check(name: str, question: str, wrong: list[str], expected: str) -> Check:
    status = CheckStatus.FAIL if wrong else CheckStatus.OK
    found = ", ".join(wrong) if wrong else expected
    return Check(
        name,
        question,
        status,
        expected,
        found,
        "Get the folder again from the ticket; do not use this one." if wrong else "",
    )
