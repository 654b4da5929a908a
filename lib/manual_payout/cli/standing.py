"""Where things stand: an unknown outcome, all payouts, an evidence folder."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from manual_payout.cli import money
from manual_payout.cli.answers import show_json
from manual_payout.cli.delivering import waiting_table
from manual_payout.cli.options import Because, Decide, Incident, Json, LedgerPayoutId, Operator
from manual_payout.cli.values import open_operators_desk, required
from manual_payout.domain.errors import ParameterError, UsageError

if TYPE_CHECKING:
    from manual_payout.desk.people import Person
    from manual_payout.desk.wiring import Desk
    from manual_payout.domain.account import Account
    from manual_payout.domain.display import Table
    from manual_payout.domain.models import Message, MessageState, PayoutRecord, R, Request, ReversalRecord
    from manual_payout.evidence.verifier import Judge
    from manual_payout.evidence.verifier import Registry as Reviewed
    from manual_payout.transfer import Reconciliation

# What is shown when no incident is named; what is unfinished is shown however old it is.
RECENT = timedelta(days=30)

# The states of which a person must do something before any command is given again.
_NOT_AGAIN = frozenset({"submitting", "unknown", "needs_human", "returned"})

_COLUMNS = ("incident", "studio", "amount", "state", "settlement", "messages", "transfer", "since", "by")


def reconcile(
    incident: Incident,
    ledger_payout_id: LedgerPayoutId = None,
    operator: Operator = "",
    decide: Decide = "",
    because: Because = "",
    acknowledge: Annotated[
        list[str] | None,
        typer.Option("--acknowledge", metavar="TR", help="Decide knowing of this transfer; may be repeated."),
    ] = None,
    adopt: Annotated[
        str, typer.Option("--adopt", metavar="TR", help="Take up this transfer, made by hand from the payload.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Settle an unknown outcome by asking Stripe.

    Stripe's own listing comes first. The same key is sent again only inside its safe window and under standing
    approvals; otherwise a person decides.

    \b
    Examples:
      manual-payout reconcile INC-123 --operator tomas
      manual-payout reconcile INC-123 --operator tomas --decide not-moved --because "Stripe support case 4711 says so"
      manual-payout reconcile INC-123 --operator tomas --adopt tr_1NwVxQ
    """
    from manual_payout.domain.parameters import check

    named = tuple(acknowledge or ())
    _check_decision(decide, because, named, adopt)
    incident = check("incident_id", incident)
    wanted = check("ledger_payout_id", ledger_payout_id) if ledger_payout_id is not None else None
    desk = open_operators_desk()
    money.about(desk, incident, wanted)
    who = required("operator", operator or desk.settings.operator)
    person = desk.registry.get_allowed(who, "operate", desk.now(), field="operator")
    if adopt:
        _adopt(desk, incident, wanted, adopt, person, because=because, as_json=as_json)
        return
    record = _one_record(desk, incident, wanted)
    money.about(desk, incident, record.ledger_payout_id, mode=record.mode)
    show_reconciliation(desk, record, person, decide=decide, because=because, acknowledge=named, as_json=as_json)


def show_reconciliation(
    desk: Desk,
    record: R,
    person: Person,
    *,
    decide: str,
    because: str,
    as_json: bool,
    acknowledge: tuple[str, ...] = (),
) -> None:
    """Ask Stripe, or record a decision, and show what came of it."""
    _check_decision(decide, because, acknowledge)
    from manual_payout.transfer import decide_not_moved
    from manual_payout.transfer import reconcile as ask_stripe

    if decide:
        found = decide_not_moved(desk, record, person, because, acknowledged=acknowledge)
    else:
        found = ask_stripe(desk, record, person)
    _show(desk, found, as_json=as_json)


def _adopt(
    desk: Desk, incident: str, wanted: str | None, named: str, person: Person, *, because: str, as_json: bool
) -> None:
    from manual_payout.cli.filing import open_request
    from manual_payout.transfer import adopt

    request = open_request(desk, incident, wanted)
    money.about(desk, incident, request.line.ledger_payout_id, mode=request.mode)
    _show(desk, adopt(desk, request, request.line, named, person, because), as_json=as_json)


def _show(desk: Desk, found: Reconciliation[R], *, as_json: bool) -> None:
    from manual_payout.domain.account import reversal_line
    from manual_payout.domain.display import facts_table

    record = found.record
    facts = {
        "believed": found.believed,
        "Stripe says": found.stripe_says,
        "difference": found.difference or "none",
        "done": found.action,
        "now": found.record.state.value,
    }
    shown = facts | {f"stripe_{record.noun}_id": found.record.stripe_id}
    money.about(desk, record.incident_id, record.ledger_payout_id, reversal=reversal_line(record), mode=record.mode)
    finish(shown if as_json else repr(facts_table(f"{record.incident_id}: {record.ledger_payout_id}", facts)))


def finish(shown: dict[str, Any] | str) -> None:
    """
    Show what came of asking Stripe, and last where the money is.

    Raises:
        AstrayError: The books say that the money went astray.
    """
    from manual_payout.approval.books import exit_code
    from manual_payout.domain.errors import AstrayError

    found = money.account()
    code = exit_code(0, found, reversal=money.is_reversal()) if found is not None else 0
    if isinstance(shown, dict):
        show_json(shown | {"exit_code": code} | money.told(code))
    else:
        typer.echo(shown)
    if found is not None and code:
        raise AstrayError(found.sentence, found.remedy)
    if found is not None and isinstance(shown, str):
        typer.echo(money.last_line())


def _check_decision(decide: str, because: str, acknowledge: tuple[str, ...], adopt: str = "") -> None:
    from manual_payout.desk.secret_settings import refuse_typed_secret
    from manual_payout.domain.parameters import NOTES_LENGTH_MAX, check, check_text

    if decide not in {"", "not-moved"}:
        raise ParameterError("decide", decide, "not-moved")
    if decide and not because:
        raise ParameterError("because", "nothing", "the reason for the decision")
    if adopt and decide:
        raise UsageError("--adopt says what was made, --decide that nothing was.", "Give one of them.")
    if adopt:
        check("adopt", adopt)
    if because and not (decide or adopt):
        raise UsageError(
            "--because gives the reason for a decision, and no decision was given.", "Give --decide not-moved too."
        )
    if acknowledge and not decide:
        raise UsageError(
            "--acknowledge belongs to a decision, and no decision was given.", "Give --decide not-moved too."
        )
    for transfer_id in acknowledge:
        check("acknowledge", transfer_id)
    check_text("because", because, NOTES_LENGTH_MAX, empty=True)
    refuse_typed_secret({"because": because})


def status(
    incident: Annotated[
        str, typer.Argument(help="Only this incident, whole; else what is recent or unfinished.", show_default=False)
    ] = "",
    as_json: Json = False,
) -> None:
    """Say where things stand. Reads only, and never calls Stripe.

    \b
    Example: manual-payout status INC-123
    """
    from manual_payout.domain.parameters import check

    desk = open_operators_desk()
    if apart := desk.clocks():
        typer.echo(f"Warning: {apart}", err=True)
    table, waiting, astray = _standing(desk, check("incident_id", incident) if incident else "")
    if as_json:
        show_json([row | {"safe_to_repeat": not _NOT_AGAIN & set(row["state"].split())} for row in table.as_dicts()])
        return
    typer.echo(repr(table) if table.rows else table.caption)
    for sentence in astray:
        typer.echo(f"\n{sentence}")
    if waiting:
        typer.echo(f"\n{waiting_table(waiting)!r}")


def verify(
    folder: Annotated[Path, typer.Argument(help="An evidence folder.", exists=True, file_okay=False)],
    anchor: Annotated[
        str, typer.Option(metavar="DIGEST", help="A digest kept elsewhere: of the manifest or of an event.")
    ] = "",
    mode: Annotated[
        str, typer.Option(metavar="MODE", help="Refuse evidence of another mode: live, test, sandbox.")
    ] = "",
    registry: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="The reviewed people, keys beside it; else the settings'.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Re-check an evidence folder, offline.

    Signatures by the reviewed keys, files against the manifest, code against the reviewed notebooks, and journal,
    notebooks, request and Stripe's answer against each other.

    \b
    Examples:
      manual-payout verify outputs/INC-123/b8e4f6a0-52c9-4d3e-8f17-6a90d2c3e541
      manual-payout verify --mode live --anchor 81331c8112cf2e84 FOLDER
    """
    from manual_payout.desk.reviewed import reviewed_digests
    from manual_payout.domain.errors import EvidenceError
    from manual_payout.evidence.verifier import (
        MANIFEST,
        MODES,
        check_contents,
        check_files,
        check_signatures,
        read_folder,
        verdict_line,
    )

    if mode and mode not in MODES:
        raise ParameterError("mode", mode, f"one of {', '.join(MODES)}")
    sealed = read_folder(folder)
    if isinstance(sealed, str):
        raise EvidenceError(
            f"{folder} has no readable {MANIFEST}: {sealed}.", "Get the folder again from the ticket; change nothing."
        )
    people, judge = _who_signs(registry, sealed.facts.get("mode"))
    findings = check_files(sealed) + check_signatures(sealed, people, judge)
    findings += check_contents(sealed, reviewed_digests(), mode, anchor)
    if as_json:
        show_json([found.as_dict() for found in findings])
    else:
        typer.echo("\n".join([*(found.line() for found in findings), verdict_line(sealed, findings)]))
    if failing := [found.name for found in findings if found.wrong]:
        raise EvidenceError(
            f"{folder} does not pass: {', '.join(failing)}.",
            "Get the folder again from the ticket; if it fails there too, keep it as it is and call Security.",
        )


def _who_signs(file: Path | None, mode: object) -> tuple[Reviewed, Judge]:
    """
    Read people and keys; for the sandbox those of the demo, which anybody can use, as the verdict says.

    Args:
        mode: What the evidence says it is, whatever stands there.

    Raises:
        UsageError, SettingsError: It is not of the sandbox, and the people or keys at hand are.
    """
    from manual_payout.desk.people import load_registry
    from manual_payout.desk.settings import SANDBOX_APPROVERS, load_settings
    from manual_payout.desk.signing import judge_of, refuse_sandbox_keys
    from manual_payout.domain.models import Mode
    from manual_payout.evidence.verifier import Registry

    settings = load_settings() if file is None and mode != Mode.SANDBOX else None
    path = settings.approvers_path() if settings else file or SANDBOX_APPROVERS
    real = mode in (Mode.TEST, Mode.LIVE)
    if real and path.resolve() == SANDBOX_APPROVERS:
        raise UsageError(
            f"This is {mode} evidence, and the only people known here are the sandbox's, whose keys anybody can make.",
            "Name the reviewed people with --registry, their keys beside them, or set MANUAL_PAYOUT_APPROVERS.",
        )
    reviewed = load_registry(path, settings.allowed_signers_path() if settings else None)
    if real:
        refuse_sandbox_keys(reviewed.signers, Mode(str(mode)))
    return Registry(path), judge_of(reviewed.signers)


def _one_record(desk: Desk, incident: str, ledger_payout_id: str | None) -> PayoutRecord:
    wanted = {"incident_id": incident} | ({"ledger_payout_id": ledger_payout_id} if ledger_payout_id else {})
    records = desk.store.payouts_of(**wanted)
    if not records:
        raise UsageError(f"Nothing was sent under {incident}; there is nothing to reconcile.", "Check the incident id.")
    if len({record.ledger_payout_id for record in records}) > 1:
        raise UsageError(f"{incident} has several payouts.", "Name one with --ledger-payout-id.")
    return records[0]


def _standing(desk: Desk, incident: str) -> tuple[Table, list[Message], list[str]]:
    from manual_payout.domain.account import Standing
    from manual_payout.domain.display import Table
    from manual_payout.domain.models import MessageState

    store, since = desk.store, desk.now() - RECENT
    records = store.payouts_of(incident_id=incident) if incident else store.current_payouts(since)
    reversals = store.reversals_of(incident_id=incident) if incident else store.current_reversals(since)
    begun = {record.request_id for record in records} | {reversal.request_id for reversal in reversals}
    waiting = [found for found in desk.open_requests(incident or None) if found.request_id not in begun]
    counts = store.count_messages([record.payout_id for record in records])
    accounts = {record.payout_id: _account(desk, record) for record in records}
    rows = (
        *(_begun(desk, record, counts[record.payout_id], accounts[record.payout_id]) for record in records),
        *(_reversing(desk, record) for record in reversals),
        *(_waiting(desk, found) for found in waiting),
    )
    # What is to be copied has a text and a person; what waits without either is shown by itself.
    unsent = [m for m in desk.store.undelivered_messages(incident) if m.state is not MessageState.TO_COPY]
    caption = _caption(incident, len(records), len(reversals), len(waiting))
    astray = [
        f"{record.incident_id}: {found.sentence} {found.remedy}"
        for record in records
        if (found := accounts[record.payout_id]).standing is Standing.ASTRAY
    ]
    return Table(caption, _COLUMNS, rows, frozenset({"amount"})), unsent, astray


def _account(desk: Desk, record: PayoutRecord) -> Account:
    """Add up this row alone; another row of its ledger payout is a line of its own."""
    from manual_payout.domain.account import account_of
    from manual_payout.domain.models import stream_of

    reversals = desk.store.reversals_of(ledger_payout_id=record.ledger_payout_id)
    events = desk.store.events_of(stream_of(record.incident_id, record.ledger_payout_id))
    return account_of([record], reversals, events)


def _caption(incident: str, begun: int, reversals: int, waiting: int) -> str:
    where = f" under {incident}" if incident else f" within {RECENT.days} days or left open"
    if not begun and not reversals and not waiting:
        return f"No manual payout was requested or begun{where}."
    back = f"{reversals} {'reversal' if reversals == 1 else 'reversals'} begun, " if reversals else ""
    return f"{begun} manual {'payout' if begun == 1 else 'payouts'} begun, {back}{waiting} requested{where}."


def _begun(desk: Desk, record: PayoutRecord, messages: Counter[MessageState], found: Account) -> tuple[str, ...]:
    return (
        record.incident_id,
        record.studio_name,
        record.amount.grouped,
        found.state,
        (record.settlement_rung or "").replace("_", " "),
        ", ".join(f"{count} {state.replace('_', ' ')}" for state, count in sorted(messages.items())),
        record.stripe_transfer_id or "",
        f"{record.outcome_at or record.created_at:%Y-%m-%d %H:%M} UTC",
        desk.registry.name_of(record.operator_id),
    )


def _reversing(desk: Desk, record: ReversalRecord) -> tuple[str, ...]:
    return (
        record.incident_id,
        record.studio_name,
        f"−{record.amount.grouped}",
        f"reversal {record.state.value}" if record.state.value != "reversed" else "reversed",
        "",
        "",
        record.stripe_transfer_id,
        f"{record.outcome_at or record.created_at:%Y-%m-%d %H:%M} UTC",
        desk.registry.name_of(record.operator_id),
    )


def _waiting(desk: Desk, found: Request) -> tuple[str, ...]:
    from manual_payout.approval.approvals import teams_approved

    rules, given = desk.settings.policy.request, desk.store.approvals_of(found.request_id)
    count = len(teams_approved(given, found, rules, desk.now()))
    return (
        found.incident_id,
        found.line.studio_name,
        f"−{found.line.amount.grouped}" if found.line.stripe_transfer_id else found.line.amount.grouped,
        f"{'reversal ' if found.line.stripe_transfer_id else ''}requested, {count} of 2 approved",
        "",
        "",
        found.line.stripe_transfer_id,
        f"{found.filed_at:%Y-%m-%d %H:%M} UTC",
        desk.registry.name_of(found.requested_by),
    )
