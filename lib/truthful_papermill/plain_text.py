"""Characters that cannot be seen but act: terminals obey them, readers are misled by them."""

from __future__ import annotations

import unicodedata

# Control, format (bidirectional marks among them), surrogate, private and unassigned characters, and line and
# paragraph separators.
INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


# Letters and marks that show nothing: the fillers of Hangul, a blank of Braille, a joiner of graphemes, two vowels of Khmer.
_FILLERS = frozenset("\u115f\u1160\u3164\uffa0\u2800\u034f\u17b4\u17b5")

_NON_JOINER, _JOINER = "\u200c", "\u200d"
_VIRAMA = 9  # the combining class of the marks that take a consonant's vowel away


def find_invisible(text: str) -> str | None:
    """
    Return the first character of *text* that cannot be seen, or None.

    A joiner or non-joiner that its neighbours need is seen by its effect: Persian, Sinhala, Malayalam, Hindi and emoji are written with
    them. Anywhere else it hides something (Unicode Technical Standard 39, section 3.1.1; RFC 5892, appendix A).
    """
    return next((character for place, character in enumerate(text) if _is_hidden(text, place)), None)


def _is_hidden(text: str, place: int) -> bool:
    character = text[place]
    if character in (_NON_JOINER, _JOINER):
        return not _is_needed(text, place)
    return character in _FILLERS or unicodedata.category(character) in INVISIBLE


def _is_needed(text: str, place: int) -> bool:
    before, after = text[:place], text[place + 1 :]
    if not before:
        return False
    if unicodedata.combining(before[-1]) == _VIRAMA:
        base = next((one for one in reversed(before) if unicodedata.category(one) == "Lo"), "")
        # Of one script, whose name both names begin with. A non-joiner keeps two letters apart; a joiner may end a word.
        same_script = base != "" and _script(base) == _script(before[-1])
        return same_script and (text[place] == _JOINER or unicodedata.category(after[:1] or " ") == "Lo")
    if text[place] == _JOINER:
        drawn = before.rstrip("\ufe0f\U0001f3fb\U0001f3fc\U0001f3fd\U0001f3fe\U0001f3ff")
        return bool(drawn and after) and unicodedata.category(drawn[-1]) == unicodedata.category(after[0]) == "So"
    # Few names need it, and its tables take a while to import.
    from idna.core import valid_contextj

    return valid_contextj(text, place)


def _script(character: str) -> str:
    return unicodedata.name(character, "").partition(" ")[0]


def shown(text: str, *, keep: str = "") -> str:
    r"""
    Make every invisible character of *text* visible as its escape, such as ``\x1b``, so that it cannot act.

    Args:
        keep: Characters that stay, such as a line break.
    """
    return "".join(_escape(c) if c not in keep and _is_hidden(text, place) else c for place, c in enumerate(text))


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
