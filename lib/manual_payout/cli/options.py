"""The flags that several commands share, each with its one line of help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EXIT_CODES = (
    "Exit codes: 0 done, or was paid before; 1 a fault of this software; 2 usage, or other values than were filed; "
    "3 refused, nothing of this payout has moved; 4 unknown outcome, reconcile; 5 evidence or database failure, money "
    "untouched or on record; 6 not finished yet; 7 moved, and did not arrive or came back: a person must act, never send "
    "again; 130 stopped by Ctrl-C."
)

# Texts are short enough that every option is one line of --help on a terminal of 100 columns.
Json = Annotated[bool, typer.Option("--json", help="Answer as JSON.")]
ParameterFile = Annotated[
    Path | None, typer.Option("--file", "-f", metavar="YAML", help="File with the parameters; flags win over it.")
]
StudioId = Annotated[str | None, typer.Option(metavar="UUID", help="The studio in the ledger.")]
StudioName = Annotated[str | None, typer.Option(metavar="TEXT", help="The studio's name exactly as in the ledger.")]
LedgerPayoutId = Annotated[str | None, typer.Option(metavar="UUID", help="The failed payout in the ledger.")]
IncidentId = Annotated[str | None, typer.Option(metavar="ID", help="Ticket of the open incident, such as INC-123.")]
Amount = Annotated[str | None, typer.Option(metavar="AMOUNT", help="In major units, such as 1250.75.")]
ReserveAfter = Annotated[str | None, typer.Option(metavar="AMOUNT", help="What stays afterwards, such as 310.00.")]
PayoutReason = Annotated[str | None, typer.Option(metavar="REASON", help="Such as scheduler_outage or psp_rejection.")]
DestinationAccount = Annotated[str | None, typer.Option(metavar="ACCT", help="Connected account, such as acct_123.")]
Notes = Annotated[str | None, typer.Option(metavar="TEXT", help="One line for the record; no secrets.")]
Key = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Sign with it; else MANUAL_PAYOUT_SIGNING_KEY, or the ssh-agent.")
]
Incident = Annotated[str, typer.Argument(help="The incident, such as INC-123.")]
Operator = Annotated[str, typer.Option(metavar="WHO", help="Who runs this; else MANUAL_PAYOUT_OPERATOR.")]
Approver = Annotated[str, typer.Option("--as", metavar="WHO", help="Who approves: id, handle or email.")]
TypedAmount = Annotated[str | None, typer.Option(metavar="AMOUNT", help="As you read it; asked for when not given.")]
TypedLast4 = Annotated[str | None, typer.Option(metavar="TEXT", help="Of the destination; asked for when not given.")]
Decide = Annotated[str, typer.Option(metavar="not-moved", help="A person's decision, where Stripe cannot tell.")]
Because = Annotated[str, typer.Option(metavar="TEXT", help="The reason for the decision.")]
RequestId = Annotated[str | None, typer.Option("--request", metavar="UUID", help="Where the incident has several.")]
