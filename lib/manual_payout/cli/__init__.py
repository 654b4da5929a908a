"""
The command line: parse, call the room that does it, show the answer, exit with the documented code.

Rooms are imported inside the commands, so that ``--help`` answers at once.
"""

from __future__ import annotations

import os
import sys

import typer

from manual_payout.cli.answers import show_error, show_failure, without_secrets
from manual_payout.cli.commands import Commands
from manual_payout.cli.options import EXIT_CODES
from manual_payout.errors import ManualPayoutError

# Typer 0.29 brings its own copy of Click, earlier ones used Click itself; either is found through a public name.
_ClickError: type[Exception] = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")

_HELP_NAMES = {"help_option_names": ["--help", "-h"], "max_content_width": 100}

app = typer.Typer(
    name="manual-payout",
    cls=Commands,
    help="Move a failed studio payout by hand through Stripe: once, with two approvals, with evidence.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings=_HELP_NAMES,
)


@app.callback()
def _program() -> None:
    """Hold the commands; there is nothing to say before them."""


def main() -> None:
    """Run the command line; a person's mistake is one sentence and an exit code, never a traceback."""
    try:
        _run()
    except SystemExit as end:
        # 128 + n: stopped by Ctrl-C, SIGTERM or SIGHUP, wherever that was.
        if isinstance(end.code, int) and end.code > 128:
            typer.echo("Stopped. Run `manual-payout status` to see where things stand.", err=True)
        raise


def _run() -> None:
    as_json = "--json" in sys.argv
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # A terminal that cannot show a studio's name shows its escapes instead of a traceback.
            stream.reconfigure(errors="backslashreplace")
    try:
        # Typer turns Ctrl-C into a returned exit code.
        code = app(standalone_mode=False)
        sys.stdout.flush()
        if code:
            sys.exit(code)
    except ManualPayoutError as error:
        show_error(error, as_json=as_json)
        sys.exit(error.exit_code)
    except _ClickError as error:
        _show_usage(error, as_json=as_json)
        sys.exit(2)
    except (typer.Abort, KeyboardInterrupt):
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read our answer has gone (`| head`); Python would complain once more while it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _show_usage(error: Exception, *, as_json: bool) -> None:
    error.message = without_secrets(str(error.message))  # type: ignore[attr-defined]  # every Click exception has it
    if as_json:
        message = str(error.format_message())  # type: ignore[attr-defined]  # and this
        show_failure("Cannot start", message, "Try it with --help.", 2)
    else:
        error.show()  # type: ignore[attr-defined]  # every Click exception has it


__all__ = ["app", "main"]
