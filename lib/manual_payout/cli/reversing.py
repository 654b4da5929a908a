"""Taking back money that was transferred by mistake: a request of its own, two approvals of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from manual_payout.cli import money
from manual_payout.cli.answers import ask_passphrase, progress, show_json
from manual_payout.cli.filing import ask_for_approval, signing_key
from manual_payout.cli.options import (
    EXIT_CODES,
    Approver,
    Because,
    Decide,
    Incident,
    Json,
    Key,
    LedgerPayoutId,
    Notes,
    Operator,
    RequestId,
    TypedAmount,
    TypedLast4,
)
from manual_payout.cli.reconciling import show_reconciliation
from manual_payout.cli.run_results import show_results
from manual_payout.cli.values import open_operators_desk, required
from manual_payout.domain.errors import ParameterError, PolicyRefusedError, UsageError
from truthful_papermill.lean import leave_out_unused

if TYPE_CHECKING:
    from manual_payout.desk.wiring import Desk
    from manual_payout.domain.models import Request, ReversalReason
    from truthful_papermill.warm.starting import ForkServer

# A refusal of what has no line yet says of itself alone that nothing was taken back.
_NOT_FILED = "not filed yet"


reversal = typer.Typer(
    help="Take back money that was transferred by mistake: request, approve, run, reconcile.\n\n\b\n"
    "Example: manual-payout reversal request INC-123 --as maya --all --reason paid_twice",
    short_help="Take back money that was transferred by mistake.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)


def request(
    incident: Incident,
    ledger_payout_id: LedgerPayoutId = None,
    transfer: Annotated[
        str, typer.Option(metavar="TR", help="The mistaken transfer; else the one this runbook made.")
    ] = "",
    amount: Annotated[str, typer.Option(metavar="AMOUNT", help="In major units, such as 100.00.")] = "",
    whole: Annotated[bool, typer.Option("--all", help="All that is left of the transfer.")] = False,
    reason: Annotated[str, typer.Option(metavar="REASON", help="Such as paid_twice or wrong_amount.")] = "",
    notes: Notes = None,
    requester: Annotated[
        str, typer.Option("--as", metavar="WHO", help="Who files it; else MANUAL_PAYOUT_OPERATOR.")
    ] = "",
    replace: Annotated[bool, typer.Option("--replace", help="Withdraw an open request that differs.")] = False,
    key: Key = None,
    as_json: Json = False,
) -> None:
    """File the request to take money back: which transfer, how much, and why.

    Stripe takes it from the studio's balance there and refuses once that has been paid to the bank: be quick. Filing the
    same again returns the request on record. Nothing moves, and nothing is approved by it.

    \b
    Examples:
      manual-payout reversal request INC-123 --as maya --all --reason wrong_destination
      manual-payout reversal request INC-123 --as maya --amount 100.00 --reason wrong_amount
    """
    from manual_payout.desk.secret_settings import refuse_typed_secret
    from manual_payout.domain.parameters import NOTES_LENGTH_MAX, check, check_text

    if bool(amount) == whole:
        raise UsageError("Say how much comes back.", "Give either --amount or --all.")
    incident = check("incident_id", incident)
    wanted = check("ledger_payout_id", ledger_payout_id) if ledger_payout_id is not None else None
    why = _reason(reason)
    text = check_text("notes", notes or "", NOTES_LENGTH_MAX, empty=True)
    refuse_typed_secret({"notes": text})
    from manual_payout.approval.reversal import ReversalAsked, file_reversal, reversal_ticket
    from manual_payout.desk.signatures import REQUEST

    desk = open_operators_desk()
    money.about(desk, incident, wanted, reversal=_NOT_FILED)
    who = required("as", requester or desk.settings.operator)
    person = desk.registry.get_allowed(who, "request", desk.now(), field="as")
    asked = ReversalAsked(
        incident, wanted or _only_payout(desk, incident), why, text, check("amount", amount) if amount else "",
        check("stripe_transfer_id", transfer) if transfer else "",
    )  # fmt: skip
    signing = signing_key(desk, person, REQUEST, key)
    filed, new = file_reversal(desk, asked, person, replace=replace, key=signing)
    ticket = reversal_ticket(desk, filed)
    if as_json:
        show_json(
            {"request_id": filed.request_id, "digest": filed.digest, "new": new, "ticket": ticket} | money.told(0)
        )
        return
    typer.echo(f"Request {filed.request_id} {'filed' if new else 'was on record already, unchanged'}.")
    typer.echo(f"Digest  {filed.digest}\n\nFor the ticket:\n\n{ticket}\n\n{_next(filed)}")


def approve(
    incident: Incident,
    approver: Approver,
    request_id: RequestId = None,
    amount: TypedAmount = None,
    destination_last4: TypedLast4 = None,
    key: Key = None,
    as_json: Json = False,
) -> None:
    """See the transfer as Stripe shows it, type amount and account, and sign a yes to taking this much back.

    Two people approve, one of Payments Ops and one of Finance; neither filed it, neither runs it. It does not move money.

    \b
    Example: manual-payout reversal approve INC-123 --as priya
    """
    desk = open_operators_desk()
    money.about(desk, incident, reversal=_NOT_FILED)
    person = desk.registry.get_allowed(approver, "approve", desk.now(), field="as")
    found = _one_request(desk, incident, request_id)
    line = found.line_for()
    money.about(desk, incident, line.ledger_payout_id, reversal=line.line_id)
    ask_for_approval(
        desk, found, person, amount=amount, destination_last4=destination_last4, key_file=key, as_json=as_json
    )


def run(
    incident: Incident,
    request_id: RequestId = None,
    operator: Operator = "",
    confirm: Annotated[str, typer.Option(metavar="CODE", help="From your dry run; without it nothing moves.")] = "",
    as_json: Json = False,
) -> None:
    """Run the reversal notebook: a dry run first, then live with the code it printed.

    Without --confirm it is a dry run. Running it again continues where things stand: nothing is taken back twice.

    \b
    Examples:
      manual-payout reversal run INC-123 --operator tomas
      manual-payout reversal run INC-123 --operator tomas --confirm K7QM-3FWD
    """
    from manual_payout.desk.kernels import fork_server

    # Started now, it imports what the kernel needs while this process imports what it needs itself.
    with fork_server() as kernels:
        _run(incident, request_id, operator, kernels, confirm=confirm, as_json=as_json)


def reconcile(
    incident: Incident,
    request_id: RequestId = None,
    operator: Operator = "",
    decide: Decide = "",
    because: Because = "",
    as_json: Json = False,
) -> None:
    """Settle the unknown outcome of a reversal by asking Stripe.

    \b
    Example: manual-payout reversal reconcile INC-123 --operator tomas
    """
    desk = open_operators_desk()
    money.about(desk, incident, reversal=_NOT_FILED)
    who = required("operator", operator or desk.settings.operator)
    person = desk.registry.get_allowed(who, "operate", desk.now(), field="operator")
    line = _one_request(desk, incident, request_id).line_for()
    money.about(desk, incident, line.ledger_payout_id, reversal=line.line_id)
    record = desk.store.find_reversal(line.line_id)
    if record is None:
        raise UsageError(
            f"Nothing was sent for this reversal under {incident}; there is nothing to reconcile.",
            "Check the incident id.",
        )
    show_reconciliation(desk, record, person, decide=decide, because=because, as_json=as_json)


for _command, _short in (
    (request, "File the request to take money back."),
    (approve, "See the transfer and approve one exact reversal."),
    (run, "Run the reversal notebook: dry, then live with a code."),
    (reconcile, "Settle an unknown outcome by asking Stripe."),
):
    reversal.command(epilog=EXIT_CODES, short_help=_short)(_command)


def _run(
    incident: str, request_id: str | None, operator: str, kernels: ForkServer, *, confirm: str, as_json: bool
) -> None:
    leave_out_unused()
    from manual_payout.domain.parameters import ReversalParameters, check, validate
    from manual_payout.steps.runner import run_reversal

    desk = open_operators_desk()
    money.about(desk, incident, reversal=_NOT_FILED)
    who = check("operator", required("operator", operator or desk.settings.operator))
    person = desk.registry.get_allowed(who, "operate", desk.now(), field="operator")
    found = _one_request(desk, incident, request_id)
    line = found.line_for()
    money.about(desk, incident, line.ledger_payout_id, reversal=line.line_id)
    desk.require_record_keepable(found.incident_id, line.ledger_payout_id)
    values = {
        "incident_id": found.incident_id, "request_id": found.request_id, "operator": who, "dry_run": not confirm,
        "confirm": confirm,
    }  # fmt: skip
    parameters = validate(values, ReversalParameters)
    what, key = "live" if confirm else "dry run", desk.gateway.identity
    typer.echo(f"{found.incident_id}: reversal, {what} by {person.name}, {desk.settings.mode} mode, {key}", err=True)
    with progress(as_json=as_json) as shown:
        result = run_reversal(desk, found, parameters, progress=shown, kernels=kernels, ask_passphrase=ask_passphrase)
    show_results(
        [result],
        folder=str(desk.folder_path(found.incident_id, line.ledger_payout_id)),
        next_command=f"manual-payout reversal run {found.incident_id} --request {found.request_id} --operator {who}",
        as_json=as_json,
    )


def _reason(value: str) -> ReversalReason:
    from manual_payout.domain.models import ReversalReason

    try:
        return ReversalReason(value)
    except ValueError:
        raise ParameterError("reason", value or "nothing", f"one of {', '.join(ReversalReason)}") from None


def _only_payout(desk: Desk, incident: str) -> str:
    payouts = {record.ledger_payout_id for record in desk.store.payouts_of(incident_id=incident)}
    if len(payouts) != 1:
        raise UsageError(
            f"{incident} has {len(payouts) or 'no'} manual payouts.", "Name the ledger payout with --ledger-payout-id."
        )
    return payouts.pop()


def _one_request(desk: Desk, incident: str, request_id: str | None) -> Request:
    from manual_payout.domain.models import Kind
    from manual_payout.domain.parameters import check

    incident = check("incident_id", incident)
    if request_id is not None:
        found = desk.store.get_request(check("request_id", request_id))
        if found.kind is Kind.REVERSAL and found.incident_id == incident:
            return found
        raise PolicyRefusedError(
            f"Request {found.request_id} is for a {found.kind.value} under {found.incident_id}.",
            "Use the request id that `manual-payout reversal request` printed.",
        )
    standing = desk.store.find_request(incident, kind=Kind.REVERSAL)
    if standing is None:
        raise PolicyRefusedError(
            f"{incident} has no request for a reversal.", "File it with `manual-payout reversal request`."
        )
    several = desk.open_payouts(incident, Kind.REVERSAL)
    if len(several) > 1:
        raise UsageError(
            f"{incident} has open requests for reversals of {len(several)} ledger payouts.", "Name one with --request."
        )
    return standing


def _next(filed: Request) -> str:
    return f"""Next, one of Payments Ops and one of Finance:

  manual-payout reversal approve {filed.incident_id} --as WHO

Then whoever operates:

  manual-payout reversal run {filed.incident_id} --operator WHO"""
