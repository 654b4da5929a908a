"""What another machine executed, brought into the evidence folder of this one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from manual_payout.cli import money
from manual_payout.cli.answers import show_json
from manual_payout.cli.options import EXIT_CODES, Json, Operator
from manual_payout.cli.values import open_operators_desk, required
from manual_payout.domain.errors import NotFinishedError, UsageError

evidence = typer.Typer(
    help="Bring in what another machine executed.\n\n\b\nExample: manual-payout evidence add /mnt/ops-1/INC-123/PAYOUT",
    short_help="Bring in what another machine executed.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)


@evidence.callback()
def _group() -> None:
    pass


@evidence.command(epilog=EXIT_CODES)
def add(
    folder: Annotated[
        Path, typer.Argument(help="The payout's evidence folder of that machine.", exists=True, file_okay=False)
    ],
    operator: Operator = "",
    as_json: Json = False,
) -> None:
    """Copy executed notebooks and pages that this machine's folder lacks, each held against its digest on record.

    Nothing is overwritten, and that folder is only read. Seal afterwards. Exit code 6 says what is still missing.

    \b
    Example: manual-payout evidence add /mnt/ops-1/outputs/INC-123/b8e4f6a0-52c9-4d3e-8f17-6a90d2c3e541 --operator tomas
    """
    from manual_payout.domain.models import stream_of
    from manual_payout.domain.parameters import check
    from manual_payout.evidence.bringing import bring_in, payout_of
    from manual_payout.evidence.folder import Folder
    from manual_payout.evidence.holding import MOMENT_S, holding
    from manual_payout.evidence.whole import missing_in, sentence_of

    desk = open_operators_desk()
    who = check("operator", required("operator", operator or desk.settings.operator))
    person = desk.registry.get_allowed(who, "operate", desk.now(), field="operator")
    incident, payout = payout_of(folder)
    money.about(desk, incident, payout)
    stream = stream_of(incident, payout)
    if not desk.store.events_of(stream):
        raise UsageError(
            f"{folder} is about {incident} and ledger payout {payout}, of which nothing is on record here.",
            "Name the folder of one payout, such as outputs/INC-123/PAYOUT, and check DATABASE_URL.",
        )
    here = Folder(desk.folder_path(incident, payout), desk.redactor_at_hand)
    if folder.resolve() == here.path.resolve():
        raise UsageError(f"{folder} is this machine's own folder.", "Name the folder that another machine has filled.")
    with holding(here.path, who=who, what="bringing in evidence", wait_s=MOMENT_S):
        names = bring_in(desk, here, folder, incident, payout, person.person_id)
    missing = missing_in(here, desk.store.events_of(stream))
    if as_json:
        show_json({"folder": str(here.path), "added": names, "missing": [str(one) for one in missing]})
    else:
        typer.echo(f"Brought into {here.path}: {', '.join(names) or 'nothing'}.")
        typer.echo(f"Next: manual-payout seal {incident} --operator {who}")
    if missing:
        raise NotFinishedError(sentence_of(missing), "Bring in the rest from the machines that are named.")
