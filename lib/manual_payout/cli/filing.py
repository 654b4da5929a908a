"""The fallback request and its two approvals (SOP, pre-conditions)."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace as changed
from typing import TYPE_CHECKING, Annotated

import typer

from manual_payout.cli import money
from manual_payout.cli.answers import ask_passphrase, require_shown, show_json, show_table
from manual_payout.cli.options import (
    Amount,
    Approver,
    DestinationAccount,
    Incident,
    IncidentId,
    Json,
    Key,
    LedgerPayoutId,
    Notes,
    ParameterFile,
    PayoutReason,
    ReserveAfter,
    StudioId,
    StudioName,
    TypedAmount,
    TypedLast4,
)
from manual_payout.cli.values import flags_given, form_of, open_operators_desk, parameters_from, required, values_of
from manual_payout.domain.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from manual_payout.desk.people import Person
    from manual_payout.desk.signatures import SigningKey
    from manual_payout.desk.wiring import Desk
    from manual_payout.domain.models import Request
    from manual_payout.domain.parameters import Parameters


def request(
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
    requester: Annotated[
        str, typer.Option("--as", metavar="WHO", help="Who files it; else MANUAL_PAYOUT_OPERATOR.")
    ] = "",
    acknowledge: Annotated[
        list[str] | None,
        typer.Option("--acknowledge", metavar="TR", help="Another transfer, not this payout; may be repeated."),
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Withdraw an open request that differs.")] = False,
    key: Key = None,
    as_json: Json = False,
) -> None:
    """File the fallback request form: prints the request id, its digest, and the ticket text.

    Incident, ledger payout and reason are enough: studio, amount, destination and reserve are the ledger's own. What is
    given besides has to agree with it. It also writes the parameter file for the runs that follow. Filing the same
    content again returns the request on record. Nothing moves, and nothing is approved by it.

    \b
    Examples:
      manual-payout request --as maya --incident-id INC-123 --reason scheduler_outage \\
        --ledger-payout-id b8e4f6a0-52c9-4d3e-8f17-6a90d2c3e541
      manual-payout request --as maya \\
        --studio-id 7c1d9a52-3e84-4f0b-9b6e-2f5a8c40d713 --studio-name "Harbor Light Pottery" \\
        --ledger-payout-id b8e4f6a0-52c9-4d3e-8f17-6a90d2c3e541 --incident-id INC-123 \\
        --amount 1250.75 --reserve-after 310.00 --reason scheduler_outage \\
        --destination-account acct_123 --notes "Primary job timed out on PSP"
    """
    flags = flags_given(
        studio_id=studio_id, studio_name=studio_name, ledger_payout_id=ledger_payout_id, incident_id=incident_id,
        amount=amount, reserve_after=reserve_after, reason=reason, destination_account=destination_account, notes=notes,
    )  # fmt: skip
    typed = form_of(values_of(file, flags))
    from manual_payout.approval.requesting import file_request, filled_from_ledger, ticket_text
    from manual_payout.desk.signatures import REQUEST

    desk = open_operators_desk()
    money.about(desk, typed["incident_id"], typed["ledger_payout_id"])
    # Who will operate is not known yet; the name only has to be there.
    parameters = parameters_from(filled_from_ledger(desk, typed), operator="later", dry_run=True, confirm="")
    who = required("as", requester or desk.settings.operator)
    person = desk.registry.get_allowed(who, "request", desk.now(), field="as")
    filed, new = file_request(
        desk, parameters, person, replace=replace, acknowledge=acknowledge or (),
        key=signing_key(desk, person, REQUEST, key),
    )  # fmt: skip
    path = _keep_parameters(desk, filed, parameters)
    ticket = ticket_text(desk, filed)
    told = _tell(desk, filed, person)
    if as_json:
        show_json(
            {
                "request_id": filed.request_id,
                "digest": filed.digest,
                "new": new,
                "parameters": str(path),
                "ticket": ticket,
                "told": told,
            }
            | money.told(0)
        )
        return
    typer.echo(f"Request {filed.request_id} {'filed' if new else 'was on record already, unchanged'}.")
    typer.echo(f"Digest  {filed.digest}\n\nFor the ticket:\n\n{ticket}\n\n{_next(filed, path)}")
    typer.echo(told, err=True)


def _tell(desk: Desk, filed: Request, person: Person) -> str:
    """Page whoever is on call, and say in a sentence who was told; the request is filed whatever becomes of that."""
    from manual_payout.domain.errors import DatabaseError, SettingsError
    from manual_payout.monitoring import silent_channels, tell_request

    try:
        delivered = tell_request(desk, filed, actor=person.person_id)
    except (DatabaseError, SettingsError) as error:
        return f"Nobody was told of the request yet: {error.message} The monitor tells of it at its next round."
    silent = silent_channels(desk)
    waiting = delivered.delayed + delivered.refused
    said = [f"{waiting} messages wait: `manual-payout deliver` and the monitor try again."] if waiting else []
    said += [f"Not configured, so not told: {', '.join(silent)}."] if silent else []
    return " ".join(said) or "Slack and PagerDuty were told of the request."


def approve(
    incident: Incident,
    approver: Approver,
    ledger_payout_id: LedgerPayoutId = None,
    amount: TypedAmount = None,
    destination_last4: TypedLast4 = None,
    key: Key = None,
    as_json: Json = False,
) -> None:
    """See the facts afresh, type amount and destination, and sign a yes to this exact request.

    Two people approve, one of Payments Ops and one of Finance; neither filed it, neither runs it. An approval stands for
    a limited time and for one request only. It does not move money.

    \b
    Examples:
      manual-payout approve INC-123 --as priya --key ~/.ssh/manual_payout
      manual-payout approve INC-123 --as amara --amount 1250.75 --destination-last4 _123
    """
    desk = open_operators_desk()
    money.about(desk, incident, ledger_payout_id)
    person = desk.registry.get_allowed(approver, "approve", desk.now(), field="as")
    found = request_to_approve(desk, incident, ledger_payout_id)

    ask_for_approval(
        desk, found, person, amount=amount, destination_last4=destination_last4, key_file=key, as_json=as_json
    )


def ask_for_approval(
    desk: Desk,
    found: Request,
    person: Person,
    *,
    amount: str | None,
    destination_last4: str | None,
    key_file: Path | None,
    as_json: bool,
) -> None:
    """Show the facts, ask for amount and destination where they were not given, sign and record the yes."""
    from manual_payout.approval.approvals import approve as record_approval
    from manual_payout.approval.approvals import check_amount
    from manual_payout.approval.approving import note_warning, shown_to_approver
    from manual_payout.desk.signatures import APPROVAL

    # What is signed under other settings counts nowhere; it is said before anybody types.
    desk.require_same_world(found)
    for line in found.lines:
        desk.require_record_keepable(found.incident_id, line.ledger_payout_id)
    if amount is None or destination_last4 is None:
        _require_terminal("amount and destination")
    # Shown even where both are given: nobody approves what they were not shown.
    note_warning(desk, found, person)
    shown = shown_to_approver(desk, found)
    for table in shown.tables:
        show_table(table, err=True)
        typer.echo(err=True)
    require_shown()
    if amount is None:
        amount = str(typer.prompt(f"\n{person.name}, type the amount in {found.total.currency.upper()}", err=True))
    # A wrong amount is said before anything else is asked.
    check_amount(found, amount)
    if destination_last4 is None:
        destination_last4 = str(typer.prompt("Type the last four characters of the destination", err=True))
    key = signing_key(desk, person, APPROVAL, key_file)
    assert key is not None, "Bug: an approval is signed in every mode"
    given = record_approval(
        desk.store, desk.registry, found, approver=person.person_id, amount=amount, destination_last4=destination_last4,
        shown=shown, rules=desk.settings.policy.request, key=key,
    )  # fmt: skip
    if as_json:
        told = {"approval_id": given.approval_id, "request_digest": given.request_digest, "team": given.team.value}
        show_json(
            told
            | {"key": key.fingerprint, "signed_text": given.signed_text, "signature": given.signature}
            | money.told(0)
        )
        return
    ends = desk.settings.policy.request.approval_ends(given, found)
    typer.echo(f"Approved by {person.name} for {given.team.label} until {ends:%Y-%m-%d %H:%M} UTC.")
    typer.echo(f"Signed with    {key.fingerprint} ({key.source})")
    typer.echo(f"Request digest {given.request_digest}")


def signing_key(desk: Desk, person: Person, namespace: str, file: Path | None) -> SigningKey | None:
    """
    Return the key with which *person* signs for *namespace*; None where in the sandbox a requester has none.

    Raises:
        SignatureError, SettingsError: There is none, or the one that was named cannot be used.
    """
    from manual_payout.desk.signatures import REQUEST, WITHDRAWAL
    from manual_payout.desk.signing import find_signing_key
    from manual_payout.domain.models import Mode

    named, now = file or desk.settings.signing_key, desk.now()
    keyless = not desk.registry.signers.keys_for(person.email, namespace, now)
    if named is None and keyless and namespace in (REQUEST, WITHDRAWAL) and desk.settings.mode is Mode.SANDBOX:
        return None
    return find_signing_key(
        desk.registry, person, namespace, now, mode=desk.settings.mode,
        file=named.expanduser() if named is not None else None, ask_passphrase=ask_passphrase,
    )  # fmt: skip


def request_to_approve(desk: Desk, incident: str, ledger_payout_id: str | None) -> Request:
    """Return the request of an incident that counts, or the one for the payout that is named."""
    from manual_payout.domain.errors import PolicyRefusedError
    from manual_payout.domain.models import Kind
    from manual_payout.domain.parameters import check

    incident = check("incident_id", incident)
    wanted = check("ledger_payout_id", ledger_payout_id) if ledger_payout_id is not None else None
    found = desk.store.find_request(incident, wanted)
    if found is None:
        raise PolicyRefusedError(
            f"{incident} has no open request{f' for ledger payout {wanted}' if wanted else ''}.",
            "Check the incident id, or have the request filed.",
        )
    payouts = desk.open_payouts(incident, Kind.TRANSFER)
    if wanted is None and len(payouts) > 1:
        raise UsageError(
            f"{incident} has open requests for {len(payouts)} ledger payouts: {', '.join(sorted(payouts))}.",
            "Say which one you approve with --ledger-payout-id.",
        )
    return found


def _require_terminal(what: str) -> None:
    if not sys.stdin.isatty():
        raise UsageError(f"There is no terminal on which to ask for {what}.", "Give --amount and --destination-last4.")


def _keep_parameters(desk: Desk, filed: Request, parameters: Parameters) -> Path:
    from manual_payout.cli.parameter_file import parameter_file_text
    from manual_payout.evidence.folder import Folder
    from manual_payout.evidence.holding import MOMENT_S, HeldError, holding
    from manual_payout.evidence.sealing import seal_folder

    line = filed.line_for(parameters.ledger_payout_id)
    folder = Folder(desk.folder_path(filed.incident_id, line.ledger_payout_id), desk.redactor_at_hand)
    exact = changed(parameters, amount=line.amount.text, reserve_after=line.reserve_after.text)
    try:
        with holding(folder.path, who=filed.requested_by, what="filing a request", wait_s=MOMENT_S):
            before = folder.files()
            path = folder.keep("incident.yaml", parameter_file_text(exact))
            if path not in before:
                # A folder that was sealed by an earlier run would otherwise seem to have been added to.
                seal_folder(desk, folder, filed.incident_id, line.ledger_payout_id)
    except HeldError:
        # The request is filed, whoever works there; they seal the folder at their end.
        return folder.keep("incident.yaml", parameter_file_text(exact))
    return path


def _next(filed: Request, path: Path) -> str:
    run = shlex.join(["manual-payout", "run", "-f", str(path), "--operator"])
    return f"""Parameters for papermill and `run`: {path}

Next, one of Payments Ops and one of Finance:

  manual-payout approve {filed.incident_id} --as WHO

Then whoever operates:

  {run} WHO --dry-run"""
