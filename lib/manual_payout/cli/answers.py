"""How a command answers: sentences and tables for people, JSON for programs, progress for those who wait."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import textwrap
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from manual_payout.cli import money
from manual_payout.domain.errors import ManualPayoutError, PolicyRefusedError, SecretError, SettingsError, UsageError
from truthful_papermill.plain_text import shown, width
from truthful_papermill.terminal import Lines, safely, telling, unread

if TYPE_CHECKING:
    from manual_payout.domain.display import Table
    from manual_payout.domain.models import Stage
    from manual_payout.steps.runner import Progress


# What the last JSON answer said of its own end: a program reads one document, not two.
_answered: dict[str, int] = {}


def show_error(error: ManualPayoutError, *, as_json: bool) -> None:
    """Show one error on standard error: what, what to do, and last where the money is."""
    # A secret that is a word of ours would be missed in the sentence about it, and be told by that.
    clean = str if isinstance(error, SecretError) else without_secrets
    message, remedy = f"{clean(error.message)} {error.aside}".rstrip(), clean(error.remedy)
    if as_json:
        show_failure(error.title, message, remedy, error.exit_code)
        return
    colour = {3: "yellow", 6: "yellow"}.get(error.exit_code, "red")
    # A stream that is no terminal gets no colour from Click. Others ask for none, or show the codes instead of a colour.
    plain = "NO_COLOR" in os.environ or os.environ.get("TERM") in ("dumb", "unknown")
    typer.echo(
        f"{error.title}: " if plain else typer.style(f"{error.title}: ", fg=colour, bold=True), nl=False, err=True
    )
    typer.echo(f"{message}\nWhat to do: {remedy}", err=True)
    if where := money.last_line():
        typer.echo(where, err=True)


def show_failure(title: str, message: str, remedy: str, exit_code: int) -> None:
    """
    Show why a command failed as JSON on standard error, unless its answer on standard output said so already.

    Args:
        message: Like *remedy* without secrets.
    """
    if _answered.pop("exit_code", None) == exit_code:
        return
    told = {"error": title, "message": message, "remedy": remedy, "exit_code": exit_code}
    show_json(told | money.told(exit_code), err=True)


def show_table(table: Table, *, err: bool = False) -> None:
    """Show a table whole: on a terminal that is narrower than its lines, each row is a block of lines."""
    text, stream = repr(table) if table.rows else table.caption, sys.stderr if err else sys.stdout
    columns = shutil.get_terminal_size().columns if stream.isatty() else 0
    if columns and max(map(width, text.splitlines())) > columns:
        text = "\n\n".join([textwrap.fill(shown(table.caption), columns), *_blocks(table, columns)])
    typer.echo(text, err=err)


def _blocks(table: Table, columns: int) -> Iterator[str]:
    margin = min(max(map(width, table.columns)) + 2, columns // 2)
    for row in table.rows:
        cells = ((name, shown(cell)) for name, cell in zip(table.columns, row, strict=True) if cell)
        yield "\n".join(
            textwrap.fill(f"{name:<{margin}}{cell}", columns, subsequent_indent=" " * margin, break_on_hyphens=False)
            for name, cell in cells
        )


def without_secrets(text: str) -> str:
    """Return what an error says without any secret: it quotes what it found, and somebody may have pasted one there."""
    from manual_payout.desk.secret_settings import redactor_of
    from truthful_papermill.redaction import Redactor

    try:
        return redactor_of(os.environ).redact(text)
    except SettingsError:
        # One is so short that it cannot be told from a word; that is what this error, or the next one, is about.
        return Redactor().redact(text)


def show_json(value: Any, *, err: bool = False) -> None:
    """Show *value* as JSON, on standard output unless *err*."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str), err=err)


def require_shown() -> None:
    """
    Refuse to go on where what a person is about to sign could not be shown to them on standard error.

    Raises:
        PolicyRefusedError: Its reader is gone, or it did not take it.
    """
    if why := unread("stderr"):
        raise PolicyRefusedError(
            f"What there is to sign could not be shown on standard error ({why}); nothing was signed.",
            "Run the same command in a terminal, and read there what it shows.",
        )


def show_answer(value: dict[str, Any], error: ManualPayoutError | None) -> None:
    """Show *value* as JSON, in one document with why the command ends in an *error*, where it does."""
    failed: dict[str, Any] = {"exit_code": 0}
    if error is not None:
        said = {"message": without_secrets(error.message), "remedy": without_secrets(error.remedy)}
        failed = {"error": error.title, **said, "exit_code": error.exit_code}
    show_json(value | failed)
    _answered["exit_code"] = failed["exit_code"]


def ask_passphrase(path: Path) -> str:
    """
    Ask for the passphrase of a key.

    Raises:
        UsageError: There is no terminal to ask at.
    """
    if not sys.stdin.isatty():
        raise UsageError(
            f"There is no terminal on which to ask for the passphrase of {path}.",
            "Load it with `ssh-add`, and name its .pub file.",
        )
    return str(typer.prompt(f"Passphrase of {path}", default="", hide_input=True, show_default=False, err=True))


@contextlib.contextmanager
def progress(*, as_json: bool) -> Iterator[Progress]:
    """Show which stage and cell is running: one live line on a terminal, one line a stage elsewhere."""
    from truthful_papermill.engine import SAID

    with live_line(as_json=as_json) as live:

        def shown(stage: Stage, event: str, cell: int, total: int, title: str) -> None:
            live.update(f"{stage.value}  {cell}/{total}  {title}")
            if event == SAID:
                # On a line that moves it is seen as it is; elsewhere nobody would know why nothing goes on.
                if not live.moves:
                    live.keep(f"    {title}")
                return
            if live.moves and cell == total and event != "running":
                live.keep(f"  {stage.value}: {event}")
            elif not live.moves and cell == 1 and event == "running":
                live.keep(f"  {stage.value} …")

        yield shown


class LiveLine:
    """
    One line on standard error that moves, where a terminal can show one; whatever becomes of the terminal, nothing fails.

    Attributes:
        moves: Whether there is such a line; otherwise only what is kept is shown.
    """

    def __init__(self, *, as_json: bool) -> None:
        from rich.console import Console

        self._silent = as_json
        self._console = Console(stderr=True, highlight=False)
        self.moves = self._console.is_terminal and not self._console.is_dumb_terminal and not as_json
        # What draws the line in an encoding that knows no dots would draw their escapes.
        spinner = "dots" if self._console.encoding.startswith("utf") else "line"
        self._status = self._console.status("starting", spinner=spinner) if self.moves else None

    def start(self) -> None:
        """Begin to show the line."""
        if self._status is not None:
            safely(self._status.start)

    def stop(self) -> None:
        """Take the line away."""
        if self._status is not None:
            safely(self._status.stop)

    def update(self, text: str) -> None:
        """Show another text on the line that moves."""
        if self._status is not None:
            safely(partial(self._status.update, text))

    def keep(self, text: str) -> None:
        """Show a line that stays."""
        if not self._silent:
            safely(partial(self._console.print, text, markup=False))


@contextlib.contextmanager
def waits_shown(*, as_json: bool) -> Iterator[None]:
    """Show what is waited for: on a line that moves where there is a terminal, else as a line now and then."""
    lines, live = Lines(stream="stderr"), contextlib.ExitStack()
    shown: list[LiveLine] = []

    def show(text: str, begins: bool) -> None:  # noqa: FBT001  # one shape for all that show
        # Most commands wait for nothing, and need nothing that draws.
        if not shown:
            shown.append(live.enter_context(live_line(as_json=as_json)))
        if shown[0].moves:
            shown[0].update(text)
        elif not as_json:
            lines.show(text, begins)

    with telling(show), live:
        yield


@contextlib.contextmanager
def live_line(*, as_json: bool) -> Iterator[LiveLine]:
    """Show a line that moves, for the time of this block; nothing at all where the answer is JSON."""
    live = LiveLine(as_json=as_json)
    live.start()
    try:
        yield live
    finally:
        live.stop()
