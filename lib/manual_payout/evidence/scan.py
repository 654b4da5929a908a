"""
The last look before a folder is sealed: can every file be sealed, and is there a secret in one?

Whatever we write went through the redactor. What came in by another door did not: a file that somebody put beside the
evidence, a notebook that plain papermill ran with another engine, a secret that was configured only afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from manual_payout.domain.errors import EvidenceError, where_secret
from manual_payout.evidence.verifier import kind_of
from truthful_papermill.plain_text import shown
from truthful_papermill.redaction import Redactor

_PIECE_BYTES, _OVERLAP_BYTES = 1 << 18, 1 << 14


def refuse_unfit(root: Path, files: Iterable[Path], redactor: Redactor) -> None:
    """
    Refuse *files* if one of them is no regular file, cannot be read, or has a name that no manifest can hold.

    Raises:
        EvidenceError: Naming the first such file, without what its name holds of a secret.
    """
    for path in files:
        name = path.relative_to(root).as_posix()
        if why := _unfit(name, path):
            raise EvidenceError(
                f"{shown(redactor.redact(name))} in the evidence folder {why}; nothing was sealed.",
                "Move it out of the folder, rename it or correct its permissions, then run `manual-payout seal`; where "
                "the money is, `manual-payout status` says.",
            )


def refuse_secrets(root: Path, files: Iterable[Path], redactor: Redactor) -> None:
    """
    Refuse *files* if one of them, or the name of one, holds a secret.

    Args:
        root: What the names are told relative to.

        redactor: It knows the secrets by value, in every encoding, and what a key looks like.

    Raises:
        EvidenceError: Naming the first such file and the kinds of secret in it, never their values.
    """
    for path in files:
        name = path.relative_to(root).as_posix()
        for content in _pieces(path, name.encode(errors="surrogateescape") + b"\n"):
            # In UTF-16, as some programs export text, a zero stands beside each byte of a key.
            if kinds := redactor.find(content) or (b"\0" in content and redactor.find(content.replace(b"\0", b""))):
                error = EvidenceError(
                    f"{redactor.redact(name)} in the evidence folder holds {' and '.join(kinds)}; nothing was sealed.",
                    "Rotate that secret, move the file out of the folder, then run `manual-payout seal`; where the money "
                    "is, `manual-payout status` says.",
                )
                error.aside = where_secret(*redactor.variables_in(content))
                raise error


def _pieces(path: Path, before: bytes) -> Iterator[bytes]:
    """Read a file in pieces that overlap by more than any writing of a secret is long: memory does not grow with the file."""
    with path.open("rb") as data:
        while piece := data.read(_PIECE_BYTES):
            yield before + piece
            before = (before + piece)[-_OVERLAP_BYTES:]
        if not data.tell():
            yield before


def _unfit(name: str, path: Path) -> str:
    try:
        name.encode()
        if kind := kind_of(path):
            return f"is {kind}, and evidence is regular files"
        path.open("rb").close()
    except UnicodeEncodeError:
        return "has a name that is not UTF-8"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return ""
