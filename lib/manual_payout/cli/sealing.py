"""Sign an evidence folder as it is now."""

from __future__ import annotations

from typing import Annotated

import typer

from manual_payout.cli import money
from manual_payout.cli.answers import ask_passphrase, show_json
from manual_payout.cli.options import Incident, Json, LedgerPayoutId, Operator
from manual_payout.cli.values import folder_of, open_operators_desk, required

_BECAUSE_MAX = 500


def seal(
    incident: Incident,
    ledger_payout_id: LedgerPayoutId = None,
    lost: Annotated[
        list[str] | None, typer.Option(metavar="FILE", help="Never comes back; may be given more than once.")
    ] = None,
    because: Annotated[str, typer.Option(metavar="TEXT", help="Why it is lost, for the record.")] = "",
    operator: Operator = "",
    as_json: Json = False,
) -> None:
    """Sign an evidence folder as it is now, with the operator's key.

    `run` and `reversal run` do so by themselves. This is for a folder whose notebooks plain papermill ran, and for one
    whose run was killed before it could. What was sealed before is kept. Where the operator's own dry run lies in it,
    it prints the confirm code: after plain papermill it comes between dry and live run.
    What a machine executed that never returns is given up with --lost and the reason.

    \b
    Examples:
      manual-payout seal INC-123 --operator tomas
      manual-payout seal INC-123 --lost 2-execute-02.ipynb --because "the laptop was stolen" --operator tomas
    """
    from manual_payout.domain.parameters import check, check_text
    from manual_payout.evidence.bringing import give_up
    from manual_payout.evidence.manifest import head_digest
    from manual_payout.steps.runner import seal_again

    incident = check("incident_id", incident)
    desk = open_operators_desk()
    money.about(desk, incident, ledger_payout_id)
    who = check("operator", required("operator", operator or desk.settings.operator))
    person = desk.registry.get_allowed(who, "operate", desk.now(), field="operator")
    there = folder_of(desk, incident, ledger_payout_id)
    payout = desk.payout_in(there.stream)
    if lost or because:
        give_up(
            desk, there, incident, payout, lost or [], check_text("because", because, _BECAUSE_MAX), person.person_id
        )
    folder, code = seal_again(desk, incident, payout, who, ask_passphrase=ask_passphrase)
    head = head_digest(folder)
    if as_json:
        show_json({"folder": str(folder.path), "manifest_sha256": head, "confirm": code})
        return
    typer.echo(f"Sealed {folder.path}\nSHA-256 of its manifest, for the ticket: {head}")
    if code:
        typer.echo(f"Your dry run is in it. The confirm code for the live run:\n{code}")
