"""
The manifest: the SHA-256 of every file of a folder, and how each of its notebooks ended. `verifier` checks it.
"""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

from manual_payout.canonical import digest_bytes, digest_of
from manual_payout.evidence.folder import Folder, json_text
from manual_payout.verifier import notebook_facts

NAME = "manifest.json"
_PACKAGES = ("manual-payout", "papermill", "stripe", "sqlalchemy", "pandas", "scrapbook", "nbformat")


def seal(folder: Folder, facts: dict[str, Any]) -> Path:
    """
    Write the manifest of everything in the folder now.

    Args:
        facts: What the folder is about: incident, mode, journal head; JSON without floats. How each notebook ended is
            read from the notebooks.
    """
    notebooks = {path.name: notebook_facts(path) for _, _, path in folder.notebooks()}
    files = {
        path.relative_to(folder.path).as_posix(): _digest(path) for path in folder.files() if path != folder.path / NAME
    }
    content = {
        "version": 1,
        "facts": facts | {"notebooks": notebooks},
        "files": files,
        "python": platform.python_version(),
        "packages": {name: version(name) for name in _PACKAGES},
    }
    return folder.replace(NAME, json_text(content | {"digest": digest_of(content)}))


def _digest(file: Path) -> str:
    return f"symbolic link to {file.readlink()}" if file.is_symlink() else digest_bytes(file.read_bytes())
