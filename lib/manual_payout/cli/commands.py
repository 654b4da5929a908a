"""The list of commands, each imported and built only when it is the one that was typed: ``--help`` needs their names alone."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, MutableMapping
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from manual_payout.cli.options import EXIT_CODES

# Name: where its function or its group is, and its line in the list.
COMMANDS = {
    "check": ("manual_payout.cli.checking:check", "Try everything that a night will need; reads only."),
    "due": ("manual_payout.cli.due:due", "List the payouts that the ledger says have failed."),
    "request": ("manual_payout.cli.filing:request", "File the fallback request form."),
    "approve": ("manual_payout.cli.filing:approve", "See the facts afresh and approve one exact request."),
    "withdraw": ("manual_payout.cli.withdrawing:withdraw", "Withdraw a request that nobody shall run."),
    "run": ("manual_payout.cli.running:run", "Run the stage notebooks: dry, then live with a code."),
    "reconcile": ("manual_payout.cli.reconciling:reconcile", "Settle an unknown outcome by asking Stripe."),
    "status": ("manual_payout.cli.standing:status", "Say where things stand; reads only."),
    "deliver": ("manual_payout.cli.delivering:deliver", "Send the messages that wait in the outbox."),
    "seal": ("manual_payout.cli.sealing:seal", "Sign an evidence folder as it is now."),
    "evidence": ("manual_payout.cli.bringing:evidence", "Bring in what another machine executed."),
    "attach": ("manual_payout.cli.attaching:attach", "Attach the sealed evidence to the ticket."),
    "monitor": ("manual_payout.cli.watching:monitor", "Follow payouts, evaluate the alert rules, raise and resolve."),
    "verify": ("manual_payout.cli.verifying:verify", "Re-check an evidence folder, offline."),
    "web": ("manual_payout.cli.serving:web", "The form and the approvals in a browser."),
    "rehearse": ("payout_rehearsal.commands:rehearse", "Play the demo incident and a drill of faults."),
    "sandbox": ("payout_rehearsal.commands:sandbox", "Run a local Stripe in the foreground."),
    "reversal": ("manual_payout.cli.reversing:reversal", "Take back money that was transferred by mistake."),
    "keys": ("manual_payout.cli.keys:keys", "Keys to sign with: make one, show whose are whose."),
    "db": ("manual_payout.cli.tables:tables", "Our own tables: create, migrate or move them."),
}

# What is run for its answer alone: where that is lost, nothing was done.
ANSWERING = frozenset({"check", "status", "due", "verify", "keys"})


class Commands(TyperGroup):
    """The program's group of commands."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.commands = _Built()

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002  # Click's signature
        """List the commands without building any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, short) for name, (_, short) in COMMANDS.items()])


class _Built(MutableMapping[str, Any]):
    """Each command by its name, built when it is first asked for."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            self._made[name] = _build(name, *COMMANDS[name])
        return self._made[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._made[name] = command

    def __delitem__(self, name: str) -> None:
        del self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


def _build(name: str, place: str, short: str) -> Any:
    module, _, attribute = place.partition(":")
    found = getattr(importlib.import_module(module), attribute)
    if isinstance(found, typer.Typer):
        made = get_command(found)
        made.name = name
        return made
    alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    alone.command(name=name, epilog=EXIT_CODES, short_help=short)(found)
    return get_command(alone)
