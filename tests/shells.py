"""The command line as a test calls it: in this process, with an environment of its own, and what it answered."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

from manual_payout.cli import main
from payout_rehearsal.demo import incident

FLAGS = {
    "--incident-id": incident.INCIDENT_ID,
    "--studio-id": incident.STUDIO_ID,
    "--studio-name": incident.STUDIO_NAME,
    "--ledger-payout-id": incident.LEDGER_PAYOUT_ID,
    "--amount": incident.AMOUNT,
    "--reserve-after": incident.RESERVE_AFTER,
    "--reason": incident.REASON,
    "--destination-account": incident.DESTINATION_ACCOUNT,
    "--notes": incident.NOTES,
}


def approve_both(shell: Shell) -> None:
    """Have both teams approve the demo's request."""
    for who in ("priya", "amara"):
        given = ("--amount", incident.AMOUNT, "--destination-last4", incident.DESTINATION_ACCOUNT[-4:])
        assert 0 == shell("approve", incident.INCIDENT_ID, "--as", who, *given).code


@dataclass(frozen=True)
class Answer:
    """What one command line came to."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """Both streams, as a person sees them."""
        return self.out + self.err


@dataclass
class Shell:
    """The real command line in this process, on a real sandbox and a real database, with its own environment."""

    root: Path
    stripe: object
    desk: object
    environment: dict[str, str] = field(default_factory=dict)

    def __call__(self, *arguments: str, **environment: str | None) -> Answer:
        """Run ``manual-payout`` with *arguments*; a variable that is None is unset."""
        variables = {name: value for name, value in (self.environment | environment).items() if value is not None}
        out, err, code = io.StringIO(), io.StringIO(), 0
        with (
            mock.patch.dict(os.environ, variables, clear=True),
            mock.patch.object(sys, "argv", ["manual-payout", *map(str, arguments)]),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            try:
                main()
            except SystemExit as end:
                code = end.code
        return Answer(code, out.getvalue(), err.getvalue())

    def request(self, environment: dict[str, str] | None = None, **changed: str) -> Answer:
        """File the demo's request, with some flags *changed*."""
        flags = FLAGS | {f"--{name.replace('_', '-')}": value for name, value in changed.items()}
        return self("request", "--as", "maya", *itertools.chain(*flags.items()), **(environment or {}))

    def state(self) -> dict[str, object]:
        """Everything that is stored: each file's bytes, the database's among them, and each transfer at Stripe."""
        files = {str(path): path.read_bytes() for path in self.root.rglob("*") if path.is_file()}
        return files | {"transfers": len(self.stripe.books.transfers)}


def live_command(dry: Answer) -> list[str]:
    """Return the command that a dry run suggested, with the code of its last line in the code's place."""
    lines = dry.out.splitlines()
    command = next(line for line in lines if line.endswith("--confirm CODE"))
    return shlex.split(command.removesuffix("CODE") + lines[-1])[1:]
