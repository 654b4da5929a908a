"""The notebook on disk: whole at every moment, without secrets, and never in place of another run's."""

from __future__ import annotations

import errno
import json
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from truthful_papermill.durable import hold, sync_folder
from truthful_papermill.errors import EvidenceError
from truthful_papermill.redaction import Redactor, redact_notebook


class NameTakenError(EvidenceError):
    """Somebody else has saved a notebook under the name that this run was about to take; nothing ran."""


class OutputFile:
    """
    The notebook of one run on disk: created by this run, replaced by this run only, whole at every moment.

    Args:
        path: Absolute path of the notebook.

        redactor: What every text in it passes.
    """

    def __init__(self, path: Path, redactor: Redactor) -> None:
        self.path = path
        self._text = _CleanText(redactor)
        self._mine: tuple[int, int] | None = None

    def save(self, nb: NotebookNode) -> None:
        """
        Save *nb*, durably, in place of this run's earlier version.

        Raises:
            EvidenceError: Another file is there, or the disk did not take it; what was there before is unchanged.
        """
        content = self._text.of(nb).encode()
        # Named as what is no evidence (`is_by_product`): another run may seal the folder meanwhile.
        temporary = self.path.with_name(f".{self.path.name}.{uuid.uuid4().hex}.part")
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
            try:
                hold(descriptor)
                identity = _write_durably(descriptor, content)
                self._put_in_place(temporary)
                self._mine = identity
            finally:
                temporary.unlink(missing_ok=True)
                os.close(descriptor)
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
        kind = NameTakenError if self._mine is None else EvidenceError
        return kind(
            f"The notebook {self.path} {what}; it was not touched.",
            "Keep it as evidence and give this run a name of its own.",
        )


# How nbformat begins a notebook: its keys are sorted, and indented by one.
_HEAD = '{\n "cells": ['


class _CleanText:
    """
    A notebook as text without secrets, the same as nbformat would write it, made anew only where a cell has changed.

    A run saves its notebook for each cell, and all but two of the cells are then what they were before.
    """

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._cells: dict[str, str] = {}
        self._frames: dict[str, str] = {}

    def of(self, nb: NotebookNode) -> str:
        """Return the text of *nb*."""
        known, self._cells = self._cells, {}
        raws = [json.dumps(cell, default=repr) for cell in nb.cells]
        for raw, cell in zip(raws, nb.cells, strict=True):
            self._cells[raw] = known.get(raw) or self._cell(cell, nb)
        around = json.dumps(nb | {"cells": []}, default=repr)
        self._frames = {around: self._frames.get(around) or self._written(nb, [])}
        frame = self._frames[around]
        if not frame.startswith(_HEAD):
            raise AssertionError("Bug: nbformat does not begin a notebook with its cells")
        cells = ",\n".join(self._cells[raw] for raw in raws)
        return _HEAD + (f"\n{cells}\n " if cells else "") + frame.removeprefix(_HEAD)

    def _cell(self, cell: NotebookNode, nb: NotebookNode) -> str:
        frame = {"metadata": {}, "nbformat": nb.nbformat, "nbformat_minor": nb.nbformat_minor}
        return self._written(frame, [cell]).removeprefix(_HEAD + "\n").rpartition("\n ],\n")[0]

    def _written(self, frame: Mapping[str, Any], cells: list[NotebookNode]) -> str:
        clean = redact_notebook({**frame, "cells": cells}, self._redactor)
        text: str = nbformat.versions[clean.nbformat].writes_json(clean)
        return text


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


def _write_durably(descriptor: int, content: bytes) -> tuple[int, int]:
    while content:
        content = content[os.write(descriptor, content) :]
    os.fsync(descriptor)
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino
