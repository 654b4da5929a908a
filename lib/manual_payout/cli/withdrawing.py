"""A request that is taken back: nobody can approve or run it from then on."""

from __future__ import annotations

import secrets
from typing import Annotated

import typer

from manual_payout.cli import money
from manual_payout.cli.answers import show_json
from manual_payout.cli.filing import request_to_approve, signing_key
from manual_payout.cli.options import Incident, Json, Key, LedgerPayoutId, RequestId
from manual_payout.cli.values import open_operators_desk, required
from manual_payout.domain.errors import UsageError


def withdraw(
    incident: Incident,
    who: Annotated[str, typer.Option("--as", metavar="WHO", help="Its requester, or an approver.")] = "",
    ledger_payout_id: LedgerPayoutId = None,
    request_id: RequestId = None,
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Withdraw a request, signed with your key: nobody can approve or run it any more. Nothing moves.

    What has begun cannot be withdrawn. A request for a reversal is named by --request.

    \b
    Examples:
      manual-payout withdraw INC-123 --as maya
      manual-payout withdraw INC-123 --as priya --request 7f9a2c4e-51d3-4b60-9a8e-0c1d2e3f4a5b
    """
    from manual_payout.approval.signed_forms import record_withdrawn, withdrawal_of
    from manual_payout.desk.signatures import WITHDRAWAL
    from manual_payout.domain.canonical import canonical_json
    from manual_payout.domain.parameters import check

    desk = open_operators_desk()
    money.about(desk, incident, ledger_payout_id)
    name = required("as", who or desk.settings.operator)
    person = desk.registry.get_allowed(name, None, desk.now(), field="as")
    if request_id is not None:
        found = desk.store.get_request(check("request_id", request_id))
        if found.incident_id != incident:
            raise UsageError(f"Request {found.request_id} is of {found.incident_id}.", "Name its own incident.")
    else:
        found = request_to_approve(desk, incident, ledger_payout_id)
    statement = withdrawal_of(desk, found, person, secrets.token_hex(16))
    signing = signing_key(desk, person, WITHDRAWAL, key)
    signature = signing.sign(WITHDRAWAL, canonical_json(statement).encode()) if signing else ""
    record_withdrawn(desk, found, person, statement, signature)
    if as_json:
        show_json({"request_id": found.request_id, "withdrawn_by": person.person_id} | money.told(0))
        return
    typer.echo(f"Request {found.request_id} for {found.total.grouped} was withdrawn by {person.name}. Nothing moved.")
