"""
The command line: parse, call the room that does it, show the answer, exit with the documented code.

Rooms are imported inside the commands, so that ``--help`` answers at once.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from manual_payout.cli import money
from manual_payout.cli.answers import show_error, show_failure, waits_shown, without_secrets
from manual_payout.cli.commands import ANSWERING, Commands
from manual_payout.cli.options import EXIT_CODES
from manual_payout.domain.errors import EvidenceError, ManualPayoutError
from truthful_papermill.terminal import guard, not_taken

# Typer 0.29 brings its own copy of Click, earlier ones used Click itself; either is found through a public name.
_ClickError: type[Exception] = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")

# Set by a shell: to what is to be printed, the script that completes commands or the completions.
_COMPLETE = "_MANUAL_PAYOUT_COMPLETE"

_HELP = frozenset({"--help", "-h"})
_HELP_NAMES = {"help_option_names": sorted(_HELP), "max_content_width": 100}

app = typer.Typer(
    name="manual-payout",
    cls=Commands,
    help="Move a failed studio payout by hand through Stripe: once, with two approvals, with evidence.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    # A shell asks by a variable (`_COMPLETE`); two options of Typer's for it would need a paragraph each.
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings=_HELP_NAMES,
)


def _show_version(asked: bool) -> None:  # noqa: FBT001  # Typer's callback of a flag
    if asked:
        from importlib.metadata import version

        typer.echo(version("manual-payout"))
        raise typer.Exit


@app.callback()
def _program(
    version: Annotated[  # noqa: ARG001  # its callback answers
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Refuse, before any command, secrets that could not be kept out of what it writes; help is given to everybody."""
    if not _HELP.intersection(sys.argv):
        from manual_payout.desk.secret_settings import named_secrets, refuse_our_words

        refuse_our_words(named_secrets(os.environ))


def main() -> None:
    """Run the command line; a person's mistake is one sentence and an exit code, never a traceback."""
    guard()
    try:
        _run()
    except SystemExit as end:
        # 128 + n: stopped by Ctrl-C or SIGTERM, wherever that was.
        if isinstance(end.code, int) and end.code > 128:
            _show_stopped(end.code)
        raise
    finally:
        # The exit code says what was done, not who could read of it.
        if why := not_taken("stdout"):
            typer.echo(f"Standard output did not take the whole answer: {why}.", err=True)


def _run() -> None:
    if _COMPLETE in os.environ:
        from typer.completion import completion_init  # type: ignore[attr-defined]  # public by its name, and not listed

        completion_init()
    as_json = "--json" in sys.argv
    money.about(None)
    try:
        # Typer turns Ctrl-C into a returned exit code.
        with waits_shown(as_json=as_json):
            code = app(standalone_mode=False)
        _require_answered()
        if code:
            sys.exit(code)
    except ManualPayoutError as error:
        told = money.as_the_books_say(error)
        show_error(told, as_json=as_json)
        sys.exit(told.exit_code)
    except _ClickError as error:
        _show_usage(error, as_json=as_json)
        sys.exit(2)
    except (typer.Abort, KeyboardInterrupt):
        sys.exit(130)


def _show_stopped(code: int) -> None:
    """Say what whoever stopped a command must know: whether an attempt is open by now, and the command."""
    said = money.stopped()
    if "--json" in sys.argv:
        message, _, remedy = said.partition("\nWhat to do: ")
        show_failure("Stopped", message, remedy, code)
    else:
        typer.echo(said, err=True)


def _require_answered() -> None:
    """
    Fail a command that does nothing but answer where its answer did not arrive; a reader that went away had enough.

    Raises:
        EvidenceError: It did not.
    """
    asked = set(sys.argv[1:])
    why = not_taken("stdout") if asked & ANSWERING and not asked & set(_HELP) else ""
    if why:
        raise EvidenceError(
            f"The answer could not be written to standard output: {why}.",
            "Make room there, or write it elsewhere, and run the same command again.",
        )


def _show_usage(error: Exception, *, as_json: bool) -> None:
    error.message = without_secrets(str(error.message))  # type: ignore[attr-defined]  # every Click exception has it
    if as_json:
        message = without_secrets(str(error.format_message()))  # type: ignore[attr-defined]  # and this
        show_failure("Cannot start", message, "Try it with --help.", 2)
    else:
        error.show()  # type: ignore[attr-defined]  # every Click exception has it


__all__ = ["app", "main"]
