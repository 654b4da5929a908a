"""The notebook on disk: whole at every moment, without secrets, and never in place of another run's."""

from __future__ import annotations

import errno
import os
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat

from manual_payout.durable import sync_folder
from manual_payout.errors import EvidenceError
from manual_payout.redaction import Redactor, redact_notebook

if TYPE_CHECKING:
    from nbformat import NotebookNode


class OutputFile:
    """
    The notebook of one run on disk: created by this run, replaced by this run only, whole at every moment.

    Args:
        path: Absolute path of the notebook.

        redactor: What every text in it passes.
    """

    def __init__(self, path: Path, redactor: Redactor) -> None:
        self.path = path
        self._redactor = redactor
        self._mine: tuple[int, int] | None = None

    def save(self, nb: NotebookNode) -> None:
        """
        Save *nb*, durably, in place of this run's earlier version.

        Raises:
            EvidenceError: Another file is there, or the disk did not take it; what was there before is unchanged.
        """
        text: str = nbformat.writes(redact_notebook(nb, self._redactor))  # type: ignore[no-untyped-call]  # untyped upstream
        content = text.encode()
        temporary = self.path.with_name(f".{self.path.name}.{uuid.uuid4().hex}.tmp")
        try:
            try:
                identity = _write_durably(temporary, content)
                self._put_in_place(temporary)
                self._mine = identity
            finally:
                temporary.unlink(missing_ok=True)
            sync_folder(self.path.parent)
        except FileExistsError as error:
            raise self._occupied() from error
        except OSError as error:
            raise EvidenceError(
                f"The notebook {self.path} could not be saved: {error.strerror}.",
                ("Its last saved version is unchanged. " if self._mine else "Nothing was saved. ")
                + "Make room or repair the folder, then look with status.",
            ) from error

    def _put_in_place(self, temporary: Path) -> None:
        if self._mine is None:
            # A hard link is exclusive and shows the whole file at once; O_EXCL on the name would show an empty one.
            _link(temporary, self.path)
        elif self._mine == _identity(self.path):
            temporary.replace(self.path)
        else:
            raise FileExistsError

    def _occupied(self) -> EvidenceError:
        what = "already exists" if self._mine is None else "was replaced or removed by somebody else during this run"
        return EvidenceError(
            f"The notebook {self.path} {what}; it was not touched.",
            "Keep it as evidence and give this run a name of its own.",
        )


def _link(temporary: Path, path: Path) -> None:
    try:
        os.link(temporary, path)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS):
            raise
        # A file system without hard links, such as that of a USB stick: exclusive, but empty for a moment.
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        temporary.replace(path)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _write_durably(path: Path, content: bytes) -> tuple[int, int]:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        while content:
            content = content[os.write(descriptor, content) :]
        os.fsync(descriptor)
        found = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    return found.st_dev, found.st_ino
