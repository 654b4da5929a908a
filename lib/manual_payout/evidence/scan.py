"""
The last look before a folder is sealed: is there a secret in it?

Whatever we write went through the redactor. What came in by another door did not: a file that somebody put beside the
evidence, a notebook that plain papermill ran with another engine, a secret that was configured only afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from manual_payout.errors import EvidenceError
from manual_payout.redaction import Redactor


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
        if kinds := redactor.find(name.encode(errors="surrogateescape") + b"\n" + _content(path)):
            raise EvidenceError(
                f"{redactor.redact(name)} in the evidence folder holds {' and '.join(kinds)}; nothing was sealed.",
                "Rotate that secret, move the file out of the folder, then run `manual-payout seal`; where the money "
                "is, `manual-payout status` says.",
            )


def _content(path: Path) -> bytes:
    # What a link points at is not in the folder, the name that it holds is.
    return str(path.readlink()).encode(errors="surrogateescape") if path.is_symlink() else path.read_bytes()
