"""
One file for a whole evidence folder: the same folder gives the same bytes, and its name ends in the seal's digest.
"""

from __future__ import annotations

import hashlib
import io
import os
from dataclasses import dataclass
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from manual_payout.domain.errors import EvidenceError
from manual_payout.domain.models import Mode
from manual_payout.evidence.folder import Folder
from manual_payout.evidence.manifest import head_digest
from manual_payout.evidence.scan import refuse_secrets
from manual_payout.evidence.verifier import check_files, read_folder
from truthful_papermill.durable import hold
from truthful_papermill.plain_text import shown

# The earliest that a zip can say; the times of the files are not evidence, the journal's are.
_LONG_AGO = (1980, 1, 1, 0, 0, 0)
_NAMED = 12


@dataclass(frozen=True, slots=True)
class Archive:
    """
    A sealed folder in one file.

    Attributes:
        name: ``INC-123-po_…-81331c8112cf.zip``, with ``REHEARSAL-`` before it where nothing real moved.

        head: SHA-256 of the folder's manifest.

        sha256: Of *data*.
    """

    name: str
    data: bytes
    head: str
    sha256: str


def archive_of(folder: Folder, mode: Mode) -> Archive:
    """
    Pack a folder that is as it was sealed.

    Raises:
        EvidenceError: It is not as it was sealed, or is of another mode; a file holds a secret, or is a link.
    """
    _refuse_unsealed(folder, mode)
    files = folder.files()
    refuse_secrets(folder.path, files, folder.redactor)
    below = f"{folder.path.parent.name}-{folder.path.name}"
    buffer = io.BytesIO()
    with ZipFile(buffer, "w") as packed:
        for path in files:
            if path.is_symlink():
                raise EvidenceError(
                    f"{path.name} is a link; it leads out of the folder.", "Remove it, then seal again."
                )
            entry = ZipInfo(f"{below}/{path.relative_to(folder.path).as_posix()}", _LONG_AGO)
            entry.compress_type, entry.external_attr = ZIP_DEFLATED, 0o644 << 16
            packed.writestr(entry, path.read_bytes())
    head, data = head_digest(folder), buffer.getvalue()
    mark = "" if mode is Mode.LIVE else "REHEARSAL-"
    return Archive(f"{mark}{below}-{head[:_NAMED]}.zip", data, head, hashlib.sha256(data).hexdigest())


def write_archive(archive: Archive, place: Path) -> tuple[Path, bool]:
    """
    Put the archive and its SHA-256 into the folder *place*, which is there already; nothing is ever overwritten.

    Returns:
        The archive's path, and whether it was written now; False where the same file was there.

    Raises:
        EvidenceError: Another file has its name, or it cannot be written.
    """
    path = place / archive.name
    try:
        new = _create(path, archive.data)
        _create(path.with_name(f"{path.name}.sha256"), f"{archive.sha256}  {path.name}\n".encode())
    except OSError as error:
        raise EvidenceError(
            f"{path} cannot be written: {error.strerror}.", "Make room or correct the permissions, and attach again."
        ) from None
    return path, new


def _create(path: Path, data: bytes) -> bool:
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            hold(file.fileno())
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            if path.exists():
                return _same(path, data)
            part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return True


def _same(path: Path, data: bytes) -> bool:
    if path.read_bytes() != data:
        raise EvidenceError(
            f"{path} holds something else.",
            "See who put it there; evidence is not written over it. Or name another folder.",
        )
    return False


def _refuse_unsealed(folder: Folder, mode: Mode) -> None:
    sealed = read_folder(folder.path)
    wrong = (
        [f"manifest.json: {sealed}"]
        if isinstance(sealed, str)
        else [f"{finding.name}: {', '.join(finding.wrong)}" for finding in check_files(sealed) if finding.wrong]
    )
    if wrong:
        raise EvidenceError(
            f"{folder.path} is not as it was sealed ({shown('; '.join(wrong))}).",
            "Find out why with `manual-payout verify`; after the next run, or `manual-payout seal`, attach it.",
        )
    assert not isinstance(sealed, str), "Bug: a folder without a manifest is not as it was sealed"
    if sealed.facts.get("mode") != mode:
        raise EvidenceError(
            f"{folder.path} is {shown(str(sealed.facts.get('mode')))} evidence, and these are the settings of {mode} mode.",
            "Attach it with the settings of its own mode.",
        )
