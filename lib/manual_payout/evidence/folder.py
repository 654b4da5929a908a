"""
The folder ``outputs/<incident>/<ledger payout>/`` and the rule that nothing in it is ever overwritten.

Files that the notebooks save are kept once: the same content is the same file, other content is the next number. Only
what is derived anew from the database (journal, manifest, pages) is replaced, atomically.
"""

from __future__ import annotations

import errno
import json
import os
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from manual_payout.domain.errors import EvidenceError, where_secret
from manual_payout.domain.models import Stage
from manual_payout.evidence.verifier import files_below
from truthful_papermill.durable import hold, make_folder, remove_left_parts, sync_folder
from truthful_papermill.redaction import Redactor

# What papermill alone wrote may have no number.
_NAMED = re.compile(r"(?P<stem>.+?)(-(?P<number>\d{2,}))?")


# How the kinds of file system that know no links say so.
_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})


class Folder:
    """
    One evidence folder.

    Args:
        path: Made when the first file is saved.

        redactor: It knows the secrets. What others digested or signed is saved byte by byte or, where it holds a secret, not at
            all; only what nobody has seen yet is saved without its secrets, by the methods that say so in their names.
    """

    def __init__(self, path: Path, redactor: Redactor) -> None:
        self.path = path
        self.redactor = redactor

    @property
    def stream(self) -> str:
        """The journal of what lies here; its name is that of the folder below that of its incident."""
        return f"{self.path.parent.name}/{self.path.name}"

    def keep(self, name: str, content: str) -> Path:
        """
        Save *content*, byte by byte, under *name*, or under the next number if *name* holds other content.

        Returns:
            The file that now holds the content.

        Raises:
            EvidenceError: It cannot be written, or holds a secret.
        """
        return self._keep(name, self.exact(name, content))

    def keep_bytes(self, name: str, data: bytes) -> Path:
        """
        Save as `keep` does what was evidence elsewhere, byte by byte.

        Raises:
            EvidenceError: It cannot be written.
        """
        return self._keep(name, data)

    def keep_redacted(self, name: str, content: str) -> Path:
        """
        Save as `keep` does what comes from outside, such as the text of a refusal, without the secrets in it.

        Raises:
            EvidenceError: It cannot be written.
        """
        return self._keep(name, self.redactor.redact(content).encode())

    def replace(self, name: str, content: str) -> Path:
        """
        Save, byte by byte, what is derived anew each time, in place of the earlier version.

        Raises:
            EvidenceError: It cannot be written, or holds a secret.
        """
        return self.replace_bytes(name, self.exact(name, content))

    def replace_redacted(self, name: str, content: str) -> Path:
        """Save a page or a text for people, derived anew each time, without the secrets in it."""
        return self.replace_bytes(name, self.redactor.redact(content).encode())

    def replace_bytes(self, name: str, data: bytes) -> Path:
        """Save bytes that hold no text, such as a picture, in place of the earlier version."""
        path = self.path / name
        _write(path, data, exclusive=False)
        return path

    def exact(self, name: str, content: str) -> bytes:
        """
        Return what `keep` and `replace` would write of *content* under *name*: all of it.

        Raises:
            EvidenceError: It holds a secret.
        """
        if kinds := self.redactor.find(content):
            error = EvidenceError(
                f"{name} would hold {' and '.join(kinds)}, and was not saved: without it, it would not be what was signed or "
                "digested.",
                "Change that secret, then run the same stage again or `manual-payout seal`, which names its variable on a "
                "terminal; where the money is, `manual-payout status` says.",
            )
            error.aside = where_secret(*self.redactor.variables_in(content))
            raise error
        return content.encode()

    def _keep(self, name: str, data: bytes) -> Path:
        stem, suffix = Path(name).stem, Path(name).suffix
        number = 1
        while True:
            path = self.path / (name if number == 1 else f"{stem}-{number:02}{suffix}")
            if path.is_file():
                if path.read_bytes() == data:
                    return path
            elif _write(path, data, exclusive=True):
                return path
            number += 1

    def next_notebook(self, stage: Stage | str, taken: Iterable[str] = ()) -> Path:
        """
        Name the next, not yet existing, executed notebook of *stage*: ``2-execute-03.ipynb``.

        Args:
            taken: Names that are on record elsewhere, such as those of another machine, which are to come in here one day.
        """
        named = [_NAMED.fullmatch(Path(name).stem) for name in taken if name.endswith(".ipynb")]
        numbers = [number for name, number, _ in self.notebooks() if name == str(stage)]
        numbers += [int(match["number"] or 0) for match in named if match and match["stem"] == str(stage)]
        return self.path / f"{stage}-{max(numbers, default=0) + 1:02}.ipynb"

    def notebooks(self) -> list[tuple[str, int, Path]]:
        """Return stage, number and path of every executed notebook, in the order of stage and number."""
        return executed_notebooks(self.path)

    def tidy(self) -> None:
        """Remove what saves of killed runs have left; what somebody still writes stays, on whatever machine."""
        for folder in sorted({self.path, *(path.parent for path in self._below())}):
            remove_left_parts(folder)

    def files(self) -> list[Path]:
        """
        Return everything but folders, sorted, what is no evidence left out (see `is_by_product`).

        Raises:
            EvidenceError: A folder in it cannot be looked into.
        """
        return [path for path in self._below() if not is_by_product(path.relative_to(self.path))]

    def _below(self) -> list[Path]:
        try:
            return files_below(self.path)
        except OSError as error:
            raise EvidenceError(
                f"The evidence folder {self.path} cannot be read: {error.strerror}.",
                "Correct the permissions of the folders in it, then run `manual-payout seal`.",
            ) from None


def is_by_product(path: Path) -> bool:
    """
    Whether looking at a folder, or a crash while writing to it, left *path* behind: no evidence, and no tampering.

    Args:
        path: Relative to the folder.
    """
    name = path.name
    return ".ipynb_checkpoints" in path.parts or name == ".DS_Store" or (name[0] == "." and path.suffix == ".part")


def executed_notebooks(folder: Path) -> list[tuple[str, int, Path]]:
    """Return stage, number and path of every executed notebook of *folder*, in the order of stage and number."""
    named = [(_NAMED.fullmatch(path.stem), path) for path in folder.glob("*.ipynb")]
    # Nothing else is opened under such a name: a pipe would wait for its writer.
    regular = ((match, path) for match, path in named if match and path.is_file() and not path.is_symlink())
    return sorted((match["stem"], int(match["number"] or 0), path) for match, path in regular)


def json_text(value: Any) -> str:
    """Write JSON for people and programs: sorted, indented, ending in a line break."""
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _write(path: Path, data: bytes, *, exclusive: bool) -> bool:
    """Write the whole file or nothing; return False where *exclusive* and somebody else was first."""
    temporary = ""
    try:
        make_folder(path.parent)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
        with os.fdopen(handle, "wb") as file:
            hold(file.fileno())
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            # mkstemp makes files for the owner alone; evidence is read by reviewers.
            Path(temporary).chmod(0o644)
            return _place(Path(temporary), path, exclusive=exclusive)
    except OSError as error:
        raise EvidenceError(
            f"{path.name} cannot be saved in the evidence folder: {error.strerror}.",
            "Make room or correct the permissions, then run the same stage again; what moved is in the database.",
        ) from None
    finally:
        if temporary:
            Path(temporary).unlink(missing_ok=True)


def _place(temporary: Path, path: Path, *, exclusive: bool) -> bool:
    if not exclusive:
        temporary.replace(path)
    elif not _take_name(temporary, path):
        return False
    sync_folder(path.parent)
    return True


def _take_name(temporary: Path, path: Path) -> bool:
    try:
        # Unlike a renaming, a link never takes the place of a file that is there.
        path.hardlink_to(temporary)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # A disk without links, such as a USB stick: the name is taken first, then filled.
        path.touch(exist_ok=False)
        temporary.replace(path)
    return True
