"""Characters that cannot be seen but act: terminals obey them, readers are misled by them."""

from __future__ import annotations

import unicodedata

# Control, format (bidirectional marks among them), surrogate, private and unassigned characters, and line and
# paragraph separators.
INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def find_invisible(text: str) -> str | None:
    """Return the first character of *text* that cannot be seen, or None."""
    return next((character for character in text if unicodedata.category(character) in INVISIBLE), None)


def shown(text: str, *, keep: str = "") -> str:
    r"""
    Make every invisible character of *text* visible as its escape, such as ``\x1b``, so that it cannot act.

    Args:
        keep: Characters that stay, such as a line break.
    """
    return "".join(_escape(c) if c not in keep and unicodedata.category(c) in INVISIBLE else c for c in text)


def one_line(text: str) -> str:
    """Put *text* on one line: white space becomes one space, other invisible characters their escapes."""
    return shown(" ".join(text.split()))


def width(text: str) -> int:
    """Say how many columns of a terminal *text* takes: East Asian wide characters two, combining marks none."""
    return sum(_columns(character) for character in text)


def _columns(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) in {"Mn", "Me"}:
        return 0
    return 2 if unicodedata.east_asian_width(character) in {"W", "F"} else 1


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()
