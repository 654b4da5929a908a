"""An unknown outcome: ask Stripe, record a decision, take up a transfer that was made by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from manual_payout.cli import money
from manual_payout.cli.answers import show_json
from manual_payout.cli.options import Because, Decide, Incident, Json, LedgerPayoutId, Operator
from manual_payout.cli.values import open_operators_desk, required
from manual_payout.domain.errors import ParameterError, UsageError

if TYPE_CHECKING:
    from manual_payout.desk.people import Person
    from manual_payout.desk.wiring import Desk
    from manual_payout.domain.models import (
        PayoutRecord,
        R,
    )
    from manual_payout.transfer import Reconciliation


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
    from manual_payout.comms.telling import tell
    from manual_payout.domain.models import State
    from manual_payout.transfer import decide_not_moved
    from manual_payout.transfer import reconcile as ask_stripe

    if decide:
        found = decide_not_moved(desk, record, person, because, acknowledged=acknowledge)
    else:
        found = ask_stripe(desk, record, person)
    if found.record.noun == "reversal" and found.record.state is State.REVERSED:
        tell(desk, found.record, actor=person.person_id)
    _show(desk, found, as_json=as_json)


def _adopt(
    desk: Desk, incident: str, wanted: str | None, named: str, person: Person, *, because: str, as_json: bool
) -> None:
    from manual_payout.cli.filing import request_to_approve
    from manual_payout.transfer import adopt

    request = request_to_approve(desk, incident, wanted)
    line = request.line_for(wanted or "")
    money.about(desk, incident, line.ledger_payout_id, mode=request.mode)
    _show(desk, adopt(desk, request, line, named, person, because), as_json=as_json)


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
    words = {name: _in_words(text) for name, text in facts.items()}
    finish(shown if as_json else repr(facts_table(f"{record.incident_id}: {record.ledger_payout_id}", words)))


def _in_words(text: str) -> str:
    """Write the names of states as people do."""
    from manual_payout.domain.models import State

    for state in State:
        text = text.replace(state.value, state.value.replace("_", " "))
    return text


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


def _one_record(desk: Desk, incident: str, ledger_payout_id: str | None) -> PayoutRecord:
    wanted = {"incident_id": incident} | ({"ledger_payout_id": ledger_payout_id} if ledger_payout_id else {})
    records = desk.store.payouts_of(**wanted)
    if not records:
        raise UsageError(f"Nothing was sent under {incident}; there is nothing to reconcile.", "Check the incident id.")
    if len({record.ledger_payout_id for record in records}) > 1:
        raise UsageError(f"{incident} has several payouts.", "Name one with --ledger-payout-id.")
    return records[0]
