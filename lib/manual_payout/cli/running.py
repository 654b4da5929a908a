"""The stage notebooks through papermill (SOP, live checklist)."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from manual_payout.cli import money
from manual_payout.cli.answers import ask_passphrase, progress
from manual_payout.cli.options import (
    Amount,
    DestinationAccount,
    IncidentId,
    Json,
    LedgerPayoutId,
    Notes,
    Operator,
    ParameterFile,
    PayoutReason,
    ReserveAfter,
    StudioId,
    StudioName,
)
from manual_payout.cli.run_results import show_results
from manual_payout.cli.values import (
    as_filed,
    check_given,
    flags_given,
    operator_from,
    parameters_from,
    stage_named,
    values_of,
)
from manual_payout.domain.errors import UsageError
from truthful_papermill.lean import importing, leave_out_unused

if TYPE_CHECKING:
    from manual_payout.desk.wiring import Desk
    from manual_payout.domain.models import Stage
    from manual_payout.domain.parameters import Parameters
    from truthful_papermill.warm.starting import ForkServer

# These two stages go live only with a confirm code; the others move nothing and go live by being named.
_BEFORE_THE_MONEY = frozenset({"verify", "execute"})


def run(
    incident: Annotated[
        str | None, typer.Argument(metavar="[INCIDENT]", help="Run what was filed for it; nothing else need be typed.")
    ] = None,
    file: ParameterFile = None,
    studio_id: StudioId = None,
    studio_name: StudioName = None,
    ledger_payout_id: LedgerPayoutId = None,
    incident_id: IncidentId = None,
    amount: Amount = None,
    reserve_after: ReserveAfter = None,
    reason: PayoutReason = None,
    destination_account: DestinationAccount = None,
    notes: Notes = None,
    operator: Operator = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Verify and show the payload; nothing moves.")] = False,
    confirm: Annotated[str, typer.Option(metavar="CODE", help="From your dry run; without it nothing moves.")] = "",
    stage: Annotated[
        str, typer.Option(metavar="STAGE", help="Only verify, execute, log, notify, settle or close.")
    ] = "",
    root_cause: Annotated[
        str | None, typer.Option(metavar="TEXT", help="For close: why the automation failed.")
    ] = None,
    follow_ups: Annotated[
        str | None, typer.Option(metavar="TEXT", help="For close: what, owner, due date; a ; between them.")
    ] = None,
    automation_restored: Annotated[
        bool | None, typer.Option("--automation-restored", help="For close: its next run skipped this payout.")
    ] = None,
    key_rotated_to: Annotated[
        str | None, typer.Option(metavar="LAST4", help="For close: last four characters of the new key.")
    ] = None,
    access_review_on: Annotated[
        str | None, typer.Option(metavar="DATE", help="For close: when access is reviewed next, YYYY-MM-DD.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Run the stage notebooks: a dry run first, then live with the code it printed.

    Without --confirm it is a dry run. It stops at the first refusal with reason and remedy, and running it again
    continues where things stand: what was sent is never sent again. Settlement and close have their own runs:
    --stage settle until the money has arrived, then --stage close. A live run that is given what close asks for goes
    on to close once the money has arrived.

    \b
    Examples:
      manual-payout run INC-123 --operator tomas
      manual-payout run INC-123 --operator tomas --confirm K7QM-3FWD
      manual-payout run -f incident.yaml --operator tomas --stage settle
    """
    flags = flags_given(
        studio_id=studio_id, studio_name=studio_name, ledger_payout_id=ledger_payout_id, incident_id=incident_id,
        amount=amount, reserve_after=reserve_after, reason=reason, destination_account=destination_account, notes=notes,
        root_cause=root_cause, follow_ups=follow_ups, automation_restored=automation_restored,
        key_rotated_to=key_rotated_to, access_review_on=access_review_on,
    )  # fmt: skip
    only = stage_named(stage) if stage else None
    _refuse_contradictions(flags, only, dry_run=dry_run, confirm=confirm)
    live = bool(confirm) or (only is not None and only.short not in _BEFORE_THE_MONEY and not dry_run)
    values = values_of(file, flags, incident)
    closes = only is None and live and bool(_closing(flags))
    from manual_payout.desk.kernels import fork_server, needed_by

    # Started now, it imports what the kernels need while this process imports what it needs itself.
    short = [only.short] if only is not None else ["settle"] * live + ["close"] * closes
    with fork_server(later=needed_by(short)) as kernels:
        _run(
            values,
            flags,
            (incident, file),
            operator,
            only,
            kernels,
            live=live,
            closes=closes,
            confirm=confirm,
            as_json=as_json,
        )


def _run(
    values: dict[str, Any],
    flags: dict[str, Any],
    source: tuple[str | None, Path | None],
    operator: str,
    only: Stage | None,
    kernels: ForkServer,
    *,
    live: bool,
    closes: bool,
    confirm: str,
    as_json: bool,
) -> None:
    with importing():
        from manual_payout.desk.settings import load_settings
        from manual_payout.desk.wiring import kernel_environment, open_desk
        from manual_payout.domain.parameters import check, validate_closing
        from truthful_papermill.warm.ahead import prepare_kernels
        from truthful_papermill.warm.starting import KERNELS_AHEAD

        settings = load_settings()
        prepare_kernels(kernels, kernel_environment(settings), 1 if only is not None else KERNELS_AHEAD)
        leave_out_unused()
        from manual_payout import gateway  # noqa: F401  # the desk asks it for the key at once
        from manual_payout.desk.signatures.key_files import import_asyncssh
        from manual_payout.domain.models import Stage
        from manual_payout.steps.runner import DRY_RUN, LIVE_RUN, run_stages

        # The sealer's key is the first thing that the run looks for.
        import_asyncssh()
    who = check("operator", operator_from(operator, values, settings.operator))
    given = {"operator": who, "dry_run": not live, "confirm": confirm}
    whole = parameters_from(values, **given) if check_given(values) else None
    closing = validate_closing(values)
    desk = open_desk(settings)
    parameters = whole or parameters_from(as_filed(desk, values), **given)
    money.about(desk, parameters.incident_id, parameters.ledger_payout_id)
    # Asked now, since each of them would only be a refused notebook later.
    person = desk.registry.get_allowed(who, "operate", desk.now(), field="operator")
    key = desk.gateway.identity
    desk.require_record_keepable(parameters.incident_id, parameters.ledger_payout_id)
    _check_decimals(desk, parameters)
    what = "live" if live else "dry run"
    typer.echo(f"{parameters.incident_id}: {what} by {person.name}, {desk.settings.mode} mode, {key}", err=True)
    stages: tuple[Stage, ...] = (only,) if only is not None else LIVE_RUN if live else DRY_RUN
    if closes:
        stages += (Stage.CLOSE,)
    with progress(as_json=as_json) as shown:
        results = run_stages(
            desk, stages, parameters, extra=closing, progress=shown, kernels=kernels, ask_passphrase=ask_passphrase
        )
    show_results(
        results,
        folder=str(desk.folder_path(parameters.incident_id, parameters.ledger_payout_id)),
        next_command=_again(source, flags, who),
        as_json=as_json,
    )


def _refuse_contradictions(flags: dict[str, Any], only: Stage | None, *, dry_run: bool, confirm: str) -> None:
    if dry_run and confirm:
        raise UsageError("--dry-run and --confirm contradict each other.", "Give one of them.")
    if only is not None and confirm and only.short == "verify":
        raise UsageError(
            "--stage verify moves nothing, so --confirm has no meaning for it.", "Run it without --confirm."
        )
    closes = only.short == "close" if only is not None else bool(confirm)
    for stray in _closing(flags):
        if not closes:
            raise UsageError(
                f"--{stray.replace('_', '-')} is for a run that closes.",
                "Give it with --confirm, or with --stage close.",
            )


def _closing(flags: dict[str, Any]) -> list[str]:
    from manual_payout.domain.parameters import CLOSE_PARAMETERS

    return [name for name in CLOSE_PARAMETERS if name in flags]


def _check_decimals(desk: Desk, parameters: Parameters) -> None:
    """Read the amounts in the ledger's currency; a payout that the ledger does not know is the notebook's to refuse."""
    due = desk.ledger.find_payout_due(parameters.ledger_payout_id)
    if due is not None:
        parameters.amount_in(due.currency)
        parameters.reserve_after_in(due.currency)


def _again(source: tuple[str | None, Path | None], flags: dict[str, Any], who: str) -> str:
    incident, file = source
    words = ["manual-payout", "run", *([incident] if incident else []), *(["-f", str(file)] if file else [])]
    for name, value in flags.items():
        words += [f"--{name.replace('_', '-')}", str(value)]
    return shlex.join([*words, "--operator", who])
