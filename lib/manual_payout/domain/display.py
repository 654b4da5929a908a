"""
Tables that show themselves: the same rows as HTML in a notebook, as text in a terminal, and as data for programs.

All text in them is hostile until escaped; that happens here and nowhere else.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import Any

from manual_payout.domain.models import Check, CheckStatus
from truthful_papermill.plain_text import shown, width

# Colour only repeats what the word says.
_COLOURS = {
    "ok": "#1a7f37", "GO": "#1a7f37", "reached": "#1a7f37", "completed": "#1a7f37", "same": "#1a7f37", "done": "#1a7f37",
    "warn": "#9a6700", "not yet": "#9a6700", "open": "#9a6700", "unknown": "#9a6700",
    "fail": "#cf222e", "NO-GO": "#cf222e", "failed": "#cf222e", "differs": "#cf222e",
}  # fmt: skip

# White on a ground of its own: no single colour can be read on JupyterLab's white page and on its #111111 as well.
_WORD = "white-space:nowrap;font-weight:600;padding:0 6px;border-radius:3px;color:#ffffff"

# Only in these columns is a word a finding; elsewhere it is somebody else's word, such as the ledger's own "failed".
_FINDINGS = frozenset({"status", "result", "verdict"})

_BREAKS = "\n\t"

_CELL = "text-align:left;vertical-align:top;padding:3px 10px;border-bottom:1px solid #8884;white-space:normal;overflow-wrap:anywhere"


@dataclass(frozen=True, slots=True)
class Table:
    """
    A table with a caption that states the finding.

    Attributes:
        caption: One sentence: what the rows show.

        columns: Names, in order.

        rows: Text by column, in the same order.

        numbers: Names of the columns that are aligned to the right.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: frozenset[str] = field(default=frozenset())

    def _repr_html_(self) -> str:
        head = "".join(
            f'<th style="{_CELL};white-space:nowrap;font-weight:600">{_html(name)}</th>' for name in self.columns
        )
        body = "".join(f"<tr>{self._html_row(row)}</tr>" for row in self.rows)
        caption = f'<caption style="text-align:left;font-weight:600;padding:6px 10px;caption-side:top">{_html(self.caption)}</caption>'
        return (
            f'<table style="border-collapse:collapse;margin:0;font-size:13px">{caption}'
            f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        )

    def __repr__(self) -> str:
        cells = [tuple(shown(cell) for cell in row) for row in (self.columns, *self.rows)]
        widths = [max(map(width, column)) for column in zip(*cells, strict=True)]
        lines = ["  ".join(map(self._padded, self.columns, row, widths)).rstrip() for row in cells]
        return "\n".join([shown(self.caption), *lines])

    def as_dicts(self) -> list[dict[str, str]]:
        """The rows for programs."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]

    def _padded(self, name: str, cell: str, columns: int) -> str:
        pad = " " * (columns - width(cell))
        return pad + cell if name in self.numbers else cell + pad

    def _html_row(self, row: tuple[str, ...]) -> str:
        return "".join(self._html_cell(name, cell) for name, cell in zip(self.columns, row, strict=True))

    def _html_cell(self, name: str, cell: str) -> str:
        style = _CELL
        if name in self.numbers:
            style += ";text-align:right;font-variant-numeric:tabular-nums"
        text = _html(cell)
        if name in _FINDINGS and cell in _COLOURS:
            text = f'<span style="{_WORD};background-color:{_COLOURS[cell]}">{text}</span>'
        return f'<td style="{style}">{text}</td>'


@dataclass(frozen=True, slots=True)
class Text:
    """
    Text to be read or copied exactly, under a caption that says what it is.

    Attributes:
        caption: One sentence.

        body: Shown in a fixed-width font, line breaks kept.
    """

    caption: str
    body: str

    def _repr_html_(self) -> str:
        return (
            f'<div style="font-weight:600;padding:6px 10px">{_html(self.caption)}</div>'
            f'<pre style="white-space:pre-wrap;overflow-wrap:anywhere;font-family:monospace;border:1px solid #8884;padding:8px 10px;margin:0">'
            f"{_html(self.body, keep=_BREAKS)}</pre>"
        )

    def __repr__(self) -> str:
        return f"{shown(self.caption)}\n\n{shown(self.body, keep=_BREAKS)}"


@dataclass(frozen=True, slots=True)
class Banner:
    """
    One sentence that must not be missed.

    Attributes:
        word: The finding in a word or two, such as ``GO`` or ``Nothing was sent``.

        sentence: What it means and what comes next.

        good: Whether the border is green rather than amber.
    """

    word: str
    sentence: str
    good: bool

    def _repr_html_(self) -> str:
        colour = _COLOURS["ok"] if self.good else _COLOURS["warn"]
        return (
            f'<div style="border-left:6px solid {colour};padding:8px 14px;font-size:15px">'
            f"<strong>{_html(self.word)}</strong><br>{_html(self.sentence)}</div>"
        )

    def __repr__(self) -> str:
        return f"{shown(self.word)}\n{shown(self.sentence)}"


@dataclass(frozen=True, slots=True)
class Picture:
    """
    A PNG with the same content in words.

    Attributes:
        png: The image's bytes.

        words: What it shows, for those who cannot see it.
    """

    png: bytes
    words: str

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        return {"image/png": self.png, "text/plain": repr(self)}

    def __repr__(self) -> str:
        return shown(self.words, keep=_BREAKS)


def facts_table(caption: str, facts: dict[str, str]) -> Table:
    """Show named facts, one a row."""
    return Table(caption, ("what", "value"), tuple(facts.items()))


def check_table(checks: Sequence[Check], *, of: str = "payout", done: str = "") -> Table:
    """
    Show a verification, with the verdict in the caption.

    Args:
        of: What the checks allow, in a word.

        done: What was done before, so that nothing is left to be allowed; empty where nothing was.
    """
    stopping = [check for check in checks if check.stops]
    warning = sum(check.status is CheckStatus.WARN for check in checks)
    caption = (
        f"{done}. Nothing more will be sent; the checks below are as of now."
        if done
        else f"NO-GO: {len(stopping)} of {len(checks)} checks say no. Nothing may be sent."
        if stopping
        else f"GO: all {len(checks)} checks allow this {of}{f', {warning} with a warning' if warning else ''}."
    )
    columns = ("status", "question", "expected", "found", "what to do")
    rows = [(check.status.value, check.question, check.expected, check.found, check.remedy) for check in checks]
    shown = len(columns) if any(check.remedy for check in checks) else len(columns) - 1
    return Table(caption, columns[:shown], tuple(row[:shown] for row in rows))


def warnings_of(checks: Sequence[Check]) -> list[str]:
    """Say every warning of a verification in a sentence or two, with what to do."""
    warned = [check for check in checks if check.status is CheckStatus.WARN]
    return [f"{check.question} {check.found.rstrip('.')}. {check.remedy}" for check in warned]


def go_or_no_go(checks: Sequence[Check]) -> str:
    """Say GO or NO-GO."""
    return "NO-GO" if any(check.stops for check in checks) else "GO"


def status_of(fine: bool) -> CheckStatus:  # noqa: FBT001  # the verdict itself
    """Turn a comparison into a status."""
    return CheckStatus.OK if fine else CheckStatus.FAIL


def told_apart(one: str, other: str) -> tuple[str, str]:
    """Write two texts so that the eye can tell that they differ: by code point what is no plain letter there, blanks if nothing else differs."""
    marked: tuple[list[str], list[str]] = ([], [])
    blanks = "".join(one.split()) == "".join(other.split())
    for kind, i, j, k, m in SequenceMatcher(None, one, other, autojunk=False).get_opcodes():
        for into, part in zip(marked, (one[i:j], other[k:m]), strict=True):
            into.append(part if kind == "equal" else "".join(_with_code(c, blank=blanks) for c in part))
    return "".join(marked[0]), "".join(marked[1])


def _with_code(character: str, *, blank: bool) -> str:
    plain = character.isascii() and character.isprintable() and not (blank and character == " ")
    return character if plain else f"{character}[U+{ord(character):04X}]"


def _html(text: str, *, keep: str = "") -> str:
    return html.escape(shown(text, keep=keep))
