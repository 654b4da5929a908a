"""
The command line: parse, call the room that does it, show the answer, exit with the documented code.

Rooms are imported inside the commands, so that ``--help`` answers at once.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import click
import typer

from manual_payout.errors import ManualPayoutError, NotFinishedError, ParameterError, UsageError

if TYPE_CHECKING:
    from manual_payout.desk import Desk
    from manual_payout.display import Table
    from manual_payout.models import PayoutRecord, Stage
    from manual_payout.parameters import Parameters
    from manual_payout.runner import StageResult

EXIT_CODES = (
    "Exit codes: 0 done; 2 usage; 3 refused, nothing moved; 4 unknown outcome, reconcile; "
    "5 evidence or database failure; 6 not finished yet."
)

app = typer.Typer(
    name="manual-payout",
    help="Move a failed studio payout by hand through Stripe: once, with two approvals, with evidence.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
database = typer.Typer(help="Our own tables.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(database, name="db")

Json = Annotated[bool, typer.Option("--json", help="Answer as JSON on standard output.")]
File = Annotated[
    Path | None, typer.Option("--file", "-f", help="A YAML file with the parameters, as papermill takes it; flags win.")
]
StudioId = Annotated[str | None, typer.Option(help="The studio's UUID in the ledger.")]
StudioName = Annotated[str | None, typer.Option(help="The studio's name exactly as in the ledger.")]
LedgerPayoutId = Annotated[str | None, typer.Option(help="UUID of the failed payout in the ledger.")]
IncidentId = Annotated[str | None, typer.Option(help="Ticket of the open incident, such as INC-123.")]
Amount = Annotated[str | None, typer.Option(help="Amount in major units, such as 1250.75.")]
ReserveAfter = Annotated[str | None, typer.Option(help="What stays with the studio afterwards, such as 310.00.")]
Reason = Annotated[str | None, typer.Option(help="Why the automation failed, such as scheduler_outage.")]
DestinationAccount = Annotated[str | None, typer.Option(help="The studio's connected account, such as acct_123.")]
Notes = Annotated[str | None, typer.Option(help="One line for the record; no secrets.")]


def main() -> None:
    """Run the command line; a person's mistake is one sentence and an exit code, never a traceback."""
    as_json = "--json" in sys.argv
    try:
        app(standalone_mode=False)
    except ManualPayoutError as error:
        _show_error(error, as_json=as_json)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        typer.echo("Stopped. Run `manual-payout status` to see where things stand.", err=True)
        sys.exit(130)


@app.command(epilog=EXIT_CODES)
def request(
    file: File = None,
    studio_id: StudioId = None,
    studio_name: StudioName = None,
    ledger_payout_id: LedgerPayoutId = None,
    incident_id: IncidentId = None,
    amount: Amount = None,
    reserve_after: ReserveAfter = None,
    reason: Reason = None,
    destination_account: DestinationAccount = None,
    notes: Notes = None,
    requester: Annotated[str, typer.Option("--as", help="Who files it: id, handle or email in the registry.")] = "",
    replace: Annotated[
        bool, typer.Option("--replace", help="Withdraw an open request that says something else.")
    ] = False,
    as_json: Json = False,
) -> None:
    """File the fallback request form; prints the request id, its digest, and the ticket text.

    Filing the same content again returns the request on record. Nothing moves, and nothing is approved by it.

    \b
    Example: manual-payout request --as maya \\
      --studio-id 7c1d9a52-3e84-4f0b-9b6e-2f5a8c40d713 --studio-name "Harbor Light Pottery" \\
      --ledger-payout-id b8e4f6a0-52c9-4d3e-8f17-6a90d2c3e541 --incident-id INC-123 \\
      --amount 1250.75 --reserve-after 310.00 --reason scheduler_outage \\
      --destination-account acct_123 --notes "Primary job timed out on PSP"
    """
    from manual_payout.requesting import file_request, ticket_text

    desk = _desk()
    who = requester or desk.settings.operator
    flags = _given(locals())
    parameters = _parameters(file, flags, operator=who or "nobody", dry_run=True, confirm="")
    person = desk.registry.get_allowed(_required("as", who), "request", desk.now(), field="as")
    filed, new = file_request(desk, parameters, person, replace=replace)
    ticket = ticket_text(desk, filed)
    if as_json:
        _print_json({"request_id": filed.request_id, "digest": filed.digest, "new": new, "ticket": ticket})
        return
    typer.echo(f"Request {filed.request_id} {'filed' if new else 'was on record already, unchanged'}.")
    typer.echo(f"Digest  {filed.digest}\n\nFor the ticket:\n\n{ticket}")
    typer.echo(
        f"\nNext: one of Payments Ops and one of Finance run `manual-payout approve {filed.incident_id} --as …`."
    )


@app.command(epilog=EXIT_CODES)
def approve(
    incident: Annotated[str, typer.Argument(help="The incident, such as INC-123.")],
    approver: Annotated[str, typer.Option("--as", help="Who approves: id, handle or email in the registry.")],
    ledger_payout_id: LedgerPayoutId = None,
    amount: Annotated[
        str | None, typer.Option(help="The amount, typed by the approver; asked for when not given.")
    ] = None,
    destination_last4: Annotated[
        str | None, typer.Option(help="The last four characters of the destination; asked for when not given.")
    ] = None,
    as_json: Json = False,
) -> None:
    """See the facts afresh, type amount and destination, and approve this exact request.

    Two people approve, one of Payments Ops and one of Finance; neither filed it, neither runs it. An approval stands for
    a limited time and for one request only. It does not move money.

    \b
    Example: manual-payout approve INC-123 --as priya
    """
    from manual_payout.approvals import approve as record_approval
    from manual_payout.errors import PolicyRefusedError

    desk = _desk()
    person = desk.registry.get_allowed(approver, "approve", desk.now(), field="as")
    found = desk.store.find_request(incident, ledger_payout_id)
    if found is None:
        raise PolicyRefusedError(
            f"{incident} has no open request.", "Check the incident id, or have the request filed."
        )
    if amount is None or destination_last4 is None:
        _require_terminal("amount and destination-last4")
        typer.echo(repr(_approval_facts(desk, incident, found.line.ledger_payout_id)), err=as_json)
        amount = amount or typer.prompt(f"\n{person.name}, type the amount in {found.line.amount.currency.upper()}")
        destination_last4 = destination_last4 or typer.prompt("Type the last four characters of the destination")
    given = record_approval(
        desk.store, desk.registry, found, approver=approver, amount=amount or "", destination_last4=destination_last4 or "",
        lifetime_s=desk.settings.policy.request.approval_lifetime_s,
    )  # fmt: skip
    if as_json:
        _print_json(
            {"approval_id": given.approval_id, "request_digest": given.request_digest, "team": given.team.value}
        )
        return
    typer.echo(f"Approved by {person.name} for {given.team.value} until {given.expires_at:%Y-%m-%d %H:%M} UTC.")
    typer.echo(f"Request digest {given.request_digest}")


@app.command(epilog=EXIT_CODES)
def run(
    file: File = None,
    studio_id: StudioId = None,
    studio_name: StudioName = None,
    ledger_payout_id: LedgerPayoutId = None,
    incident_id: IncidentId = None,
    amount: Amount = None,
    reserve_after: ReserveAfter = None,
    reason: Reason = None,
    destination_account: DestinationAccount = None,
    notes: Notes = None,
    operator: Annotated[str, typer.Option(help="Who runs this; MANUAL_PAYOUT_OPERATOR when not given.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Verify and show the payload; nothing moves.")] = False,
    confirm: Annotated[str, typer.Option(help="The code that your dry run printed; without it nothing moves.")] = "",
    stage: Annotated[str, typer.Option(help="One stage again: verify, execute, log, notify, settle or close.")] = "",
    root_cause: Annotated[str | None, typer.Option(help="For close: why the automation failed.")] = None,
    follow_ups: Annotated[
        str | None, typer.Option(help="For close: what, owner, due date; separated by semicolons.")
    ] = None,
    automation_restored: Annotated[
        bool | None, typer.Option("--automation-restored", help="For close: its next run was seen to skip this payout.")
    ] = None,
    key_rotated_to: Annotated[str | None, typer.Option(help="For close: last four characters of the new key.")] = None,
    as_json: Json = False,
) -> None:
    """Run the stage notebooks: a dry run first, then live with the code it printed.

    Without --confirm it is a dry run. It stops at the first refusal with reason and remedy, and running it again
    continues where things stand: what was sent is never sent again. Settlement and close have their own runs:
    --stage settle until the money has arrived, then --stage close.

    \b
    Examples:
      manual-payout run -f incident.yaml --operator tomas --dry-run
      manual-payout run -f incident.yaml --operator tomas --confirm K7QM-3FWD
      manual-payout run -f incident.yaml --operator tomas --stage settle
    """
    from manual_payout.runner import DRY_RUN, LIVE_RUN, run_stages

    if dry_run and confirm:
        raise UsageError("--dry-run and --confirm contradict each other.", "Give one of them.")
    only = _stage(stage) if stage else None
    desk = _desk()
    live = bool(confirm) or (only is not None and only.short not in {"verify", "execute"} and not dry_run)
    flags = _given(locals())
    who = operator or desk.settings.operator
    parameters = _parameters(file, flags, operator=_required("operator", who), dry_run=not live, confirm=confirm)
    extra = _closing(file, flags)
    stages = (only,) if only is not None else (LIVE_RUN if live else DRY_RUN)
    with _progress(as_json=as_json) as progress:
        results = run_stages(desk, stages, parameters, extra=extra, progress=progress)
    _show_results(desk, results, parameters, as_json=as_json)


@app.command(epilog=EXIT_CODES)
def reconcile(
    incident: Annotated[str, typer.Argument(help="The incident, such as INC-123.")],
    ledger_payout_id: LedgerPayoutId = None,
    operator: Annotated[str, typer.Option(help="Who runs this; MANUAL_PAYOUT_OPERATOR when not given.")] = "",
    decide: Annotated[
        str, typer.Option(help="Record a person's decision: not-moved. Only when Stripe cannot tell.")
    ] = "",
    because: Annotated[str, typer.Option(help="The reason for the decision.")] = "",
    as_json: Json = False,
) -> None:
    """Settle an unknown outcome by asking Stripe.

    Stripe's own listing comes first. The same key is sent again only inside its safe window and under standing
    approvals; otherwise a person decides.

    \b
    Example: manual-payout reconcile INC-123
    """
    from manual_payout.display import facts_table
    from manual_payout.transfer import decide_not_moved
    from manual_payout.transfer import reconcile as ask_stripe

    if decide not in {"", "not-moved"}:
        raise ParameterError("decide", decide, "not-moved")
    if decide and not because:
        raise ParameterError("because", "nothing", "the reason for the decision")
    desk = _desk()
    who = _required("operator", operator or desk.settings.operator)
    person = desk.registry.get_allowed(who, "operate", desk.now(), field="operator")
    record = _one_record(desk, incident, ledger_payout_id)
    found = decide_not_moved(desk, record, person, because) if decide else ask_stripe(desk, record, person)
    facts = {
        "believed": found.believed,
        "Stripe says": found.stripe_says,
        "difference": found.difference or "none",
        "done": found.action,
        "now": found.record.state.value,
    }
    if as_json:
        _print_json(facts | {"stripe_transfer_id": found.record.stripe_transfer_id})
    else:
        typer.echo(repr(facts_table(f"{incident}: {record.ledger_payout_id}", facts)))


@app.command(epilog=EXIT_CODES)
def status(
    incident: Annotated[str, typer.Argument(help="Only this incident; all when not given.")] = "",
    as_json: Json = False,
) -> None:
    """Say where things stand. Reads only, and never calls Stripe.

    \b
    Example: manual-payout status INC-123
    """
    table = _standing(_desk(), incident)
    if as_json:
        _print_json(table.as_dicts())
    else:
        typer.echo(repr(table))


@app.command(epilog=EXIT_CODES)
def verify(
    folder: Annotated[Path, typer.Argument(help="An evidence folder.", exists=True, file_okay=False)],
    as_json: Json = False,
) -> None:
    """Re-check an evidence folder against its manifest, offline.

    \b
    Example: manual-payout verify outputs/INC-123/b8e4f6a0-52c9-4d3e-8f17-6a90d2c3e541
    """
    from manual_payout.errors import EvidenceError
    from manual_payout.evidence.manifest import verify_folder

    checks = verify_folder(folder)
    if as_json:
        _print_json([{"name": c.name, "status": c.status.value, "found": c.found} for c in checks])
    else:
        for check in checks:
            typer.echo(f"{check.status.value:<5} {check.question} {check.found}")
    if failing := [check.name for check in checks if check.stops]:
        raise EvidenceError(
            f"{folder} is not as it was sealed: {', '.join(failing)}.", "Get the folder again from the ticket."
        )


@app.command(epilog=EXIT_CODES)
def rehearse(
    target: Annotated[str, typer.Option(help="Where: sandbox, the local Stripe that comes with this.")] = "sandbox",
    folder: Annotated[Path | None, typer.Option(help="A new folder; outputs/rehearsals/<time> when not given.")] = None,
    as_json: Json = False,
) -> None:
    """Run the demo incident from request to sealed folder; nothing real is touched.

    It starts and stops the local sandbox by itself, uses a database of its own, and ignores every key in the environment.

    \b
    Example: manual-payout rehearse
    """
    from manual_payout.rehearsal import failed_stage
    from manual_payout.rehearsal import rehearse as play
    from manual_payout.steps.closing import read_results

    if target != "sandbox":
        raise ParameterError("target", target, "sandbox, the only target of this release")
    root = _new_folder(folder)
    with _progress(as_json=as_json) as progress:
        played = play(root, say=lambda sentence: typer.echo(sentence, err=True), progress=progress)
    if as_json:
        _print_json({"folder": str(played.folder), "green": played.green, "transfers": played.transfers})
    else:
        typer.echo(f"\n{read_results(played.folder).to_string(index=False)}\n")
        typer.echo(f"Transfers in the sandbox's own books: {played.transfers}")
        typer.echo(f"Evidence: {played.folder}")
    if error := failed_stage(played):
        raise error
    if not played.green:
        raise NotFinishedError("The rehearsal did not end as it should.", f"Open {played.folder} to see where.")


@app.command(epilog=EXIT_CODES)
def sandbox(
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0 takes a free one.")] = 12111,
    folder: Annotated[Path, typer.Option(help="Where the demo's database is made.")] = Path("outputs/sandbox"),
) -> None:
    """Run a local Stripe in the foreground, with the demo's accounts and ledger; prints what to export.

    It keeps everything in memory and forgets it when it stops. Its clock stands at the demo's night and moves on only
    when a run waits.

    \b
    Example: manual-payout sandbox
    """
    from manual_payout.demo import incident
    from manual_payout.rehearsal import sandbox_books, set_up_database
    from manual_payout.sandbox import serve

    accounts, available = sandbox_books()
    url = set_up_database(folder)
    serve(
        "127.0.0.1", port, start=incident.NOW, accounts=accounts, available=available,
        on_ready=lambda base: typer.echo(_exports(base, url)),
    )  # fmt: skip


@database.command("upgrade", epilog=EXIT_CODES)
def upgrade_database() -> None:
    """Create or migrate our tables in DATABASE_URL.

    \b
    Example: manual-payout db upgrade
    """
    from manual_payout import database as rooms
    from manual_payout.settings import load_settings

    engine = rooms.connect(load_settings().database_text(), name="DATABASE_URL")
    typer.echo(f"The database is at migration {rooms.upgrade(engine)}.")


def _desk() -> Desk:
    from manual_payout.desk import open_desk
    from manual_payout.settings import load_settings

    return open_desk(load_settings())


def _given(values: dict[str, Any]) -> dict[str, Any]:
    from manual_payout.parameters import CLOSE_PARAMETERS, STAGE_PARAMETERS

    names = set(STAGE_PARAMETERS + CLOSE_PARAMETERS) - {"operator", "dry_run", "confirm"}
    return {name: value for name, value in values.items() if name in names and value is not None}


def _parameters(file: Path | None, flags: dict[str, Any], **fixed: Any) -> Parameters:
    from manual_payout.parameters import CLOSE_PARAMETERS, STAGE_PARAMETERS, refuse_unknown, validate

    values = _read_parameters(file) | flags | fixed
    refuse_unknown(values)
    for name in STAGE_PARAMETERS:
        if name not in values and name != "notes":
            raise ParameterError(
                f"--{name.replace('_', '-')}", "nothing", "a value", "Give the flag, or a parameter file with --file."
            )
    return validate({"notes": ""} | {name: value for name, value in values.items() if name not in CLOSE_PARAMETERS})


def _closing(file: Path | None, flags: dict[str, Any]) -> dict[str, Any]:
    from manual_payout.parameters import CLOSE_PARAMETERS

    return {name: value for name, value in (_read_parameters(file) | flags).items() if name in CLOSE_PARAMETERS}


def _read_parameters(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    import yaml

    try:
        values = yaml.safe_load(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(
            f"The parameter file {file} cannot be read: {type(error).__name__}.", "Correct --file or the file."
        ) from None
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        raise UsageError(
            f"The parameter file {file} is not a list of names and values.", "Write one `name: value` a line."
        )
    return values


def _required(name: str, value: str) -> str:
    if not value:
        raise ParameterError(
            f"--{name}", "nothing", "a registered person", "Give the flag, or set MANUAL_PAYOUT_OPERATOR."
        )
    return value


def _stage(name: str) -> Stage:
    from manual_payout.models import Stage

    for stage in Stage:
        if name in {stage.short, stage.value}:
            return stage
    raise ParameterError("stage", name, f"one of {', '.join(stage.short for stage in Stage)}")


def _require_terminal(what: str) -> None:
    if not sys.stdin.isatty():
        raise UsageError(f"There is no terminal to ask for {what}.", "Give --amount and --destination-last4.")


def _approval_facts(desk: Desk, incident: str, ledger_payout_id: str) -> Table:
    from manual_payout.approving import facts_for_approver

    return facts_for_approver(desk, incident, ledger_payout_id)


def _one_record(desk: Desk, incident: str, ledger_payout_id: str | None) -> PayoutRecord:
    wanted = {"incident_id": incident} | ({"ledger_payout_id": ledger_payout_id} if ledger_payout_id else {})
    records = desk.store.payouts_of(**wanted)
    if not records:
        raise UsageError(f"Nothing was sent under {incident}; there is nothing to reconcile.", "Check the incident id.")
    if len({record.ledger_payout_id for record in records}) > 1:
        raise UsageError(f"{incident} has several payouts.", "Name one with --ledger-payout-id.")
    return records[0]


def _standing(desk: Desk, incident: str) -> Table:
    from manual_payout.display import Table

    records = desk.store.payouts_of(**({"incident_id": incident} if incident else {}))
    rows = [
        (
            record.incident_id, record.studio_name, record.amount.grouped, record.state.value,
            (record.settlement_rung or "").replace("_", " "), record.stripe_transfer_id or "",
            f"{record.outcome_at or record.created_at:%Y-%m-%d %H:%M} UTC", desk.registry.name_of(record.operator_id),
        )
        for record in records
    ]  # fmt: skip
    begun = {record.request_id for record in records}
    for open_request in desk.store.open_requests(incident or None):
        if open_request.request_id not in begun:
            count = len({a.approver_id for a in desk.store.approvals_of(open_request.request_id)})
            line = open_request.line
            filed = f"{open_request.filed_at:%Y-%m-%d %H:%M} UTC"
            who = desk.registry.name_of(open_request.requested_by)
            rows.append(
                (
                    open_request.incident_id,
                    line.studio_name,
                    line.amount.grouped,
                    f"requested, {count} of 2 approved",
                    "",
                    "",
                    filed,
                    who,
                )
            )
    columns = ("incident", "studio", "amount", "state", "settlement", "transfer", "since", "by")
    return Table(f"{len(rows)} manual payouts.", columns, tuple(rows), frozenset({"amount"}))


def _new_folder(folder: Path | None) -> Path:
    from datetime import UTC, datetime

    from manual_payout.settings import load_settings

    root = folder or load_settings(stripe_api_base="https://api.stripe.com").outputs_dir / "rehearsals" / datetime.now(
        UTC
    ).strftime("%Y-%m-%dT%H-%M-%S")
    if root.exists() and any(root.iterdir()):
        raise ParameterError("folder", str(root), "a new or empty folder; evidence is never overwritten")
    return root


def _exports(base_url: str, database_url: str) -> str:
    from manual_payout.sandbox import FALLBACK_KEY, READ_KEY

    return f"""The local Stripe is ready; Ctrl-C stops it. In another shell:

export STRIPE_API_BASE={base_url}
export STRIPE_FALLBACK_SECRET_KEY={FALLBACK_KEY}
export STRIPE_READ_SECRET_KEY={READ_KEY}
export DATABASE_URL={database_url}
export LEDGER_DATABASE_URL={database_url}
export MANUAL_PAYOUT_OPERATOR=tomas"""


@contextlib.contextmanager
def _progress(*, as_json: bool) -> Iterator[Any]:
    """Show which stage and cell is running: one live line on a terminal, one line a stage elsewhere."""
    from rich.console import Console

    console = Console(stderr=True, highlight=False)

    def lines(stage: Stage, event: str, cell: int, total: int, title: str) -> None:
        del total, title
        if event == "running" and cell == 1 and not as_json:
            console.print(f"  {stage.value} …")

    if not console.is_terminal or as_json:
        yield lines
        return
    with console.status("starting") as live:

        def shown(stage: Stage, event: str, cell: int, total: int, title: str) -> None:
            live.update(f"{stage.value}  {cell}/{total}  {title}")
            if cell == total and event != "running":
                console.print(f"  {stage.value}: {event}")

        yield shown


def _show_results(desk: Desk, results: list[StageResult], parameters: Parameters, *, as_json: bool) -> None:
    folder = desk.settings.outputs_dir / parameters.incident_id / parameters.ledger_payout_id
    last = results[-1]
    code = last.result.get("findings", {}).get("confirm_code", "")
    if as_json:
        stages = [
            {"stage": r.stage.value, "exit_code": r.exit_code, "verdict": r.verdict, "notebook": r.notebook.name}
            for r in results
        ]
        _print_json(
            {"folder": str(folder), "stages": stages, "confirm": code, "message": last.message, "remedy": last.remedy}
        )
    else:
        for result in results:
            typer.echo(f"{result.stage.value:<10} {result.verdict}")
        typer.echo(f"Evidence: {folder}")
    if last.exit_code:
        error = ManualPayoutError(last.message, last.remedy)
        error.exit_code = last.exit_code
        raise error
    if not as_json and code:
        typer.echo(
            f"\nDry run: nothing has moved. Read the payload in {last.notebook.with_suffix('.html').name}; if it is right:\n"
        )
        typer.echo(f"  manual-payout run … --confirm {code}")


def _show_error(error: ManualPayoutError, *, as_json: bool) -> None:
    if as_json:
        _print_json(
            {"error": error.title, "message": error.message, "remedy": error.remedy, "exit_code": error.exit_code},
            err=True,
        )
        return
    colour = {3: "yellow", 6: "yellow"}.get(error.exit_code, "red")
    typer.secho(f"{error.title}: ", fg=colour, bold=True, nl=False, err=True)
    typer.echo(f"{error.message}\nWhat to do: {error.remedy}", err=True)


def _print_json(value: Any, *, err: bool = False) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str), err=err)
