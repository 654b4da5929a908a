"""Break-glass: declared by the one approver, stopped by its owner, reviewed by the missing team."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from manual_payout.cli.answers import show_json
from manual_payout.cli.filing import ask_typed, open_request, signing_key
from manual_payout.cli.options import Incident, Json, Key, LedgerPayoutId
from manual_payout.cli.standing import one_record
from manual_payout.cli.values import open_operators_desk
from manual_payout.errors import NotFinishedError, ParameterError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from manual_payout.breakglass import Glass
    from manual_payout.desk import Desk


def break_glass(
    incident: Incident,
    who: Annotated[str, typer.Option("--as", metavar="WHO", help="Who you are: id, handle or email.")],
    because: Annotated[
        str, typer.Option(metavar="TEXT", help="One line: why nobody is reached, or what you found.")
    ] = "",
    stop: Annotated[bool, typer.Option("--stop", help="As its owner: say no, for good.")] = False,
    review: Annotated[
        bool, typer.Option("--review", help="As the missing team: afterwards, say what you found.")
    ] = False,
    ledger_payout_id: LedgerPayoutId = None,
    amount: Annotated[str | None, typer.Option(metavar="AMOUNT", help="As you read it; else asked for.")] = None,
    destination_last4: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Of the destination; else asked for.")
    ] = None,
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Declare that nobody of the other team can be reached, so that your one approval may do.

    Only where the policy allows it (docs/approvals.md): it is capped, the owner is paged at once and can stop it, nothing
    is sent until the hold is over, and the missing team reviews it within one business day. It does not move money.

    \b
    Examples:
      manual-payout break-glass INC-123 --as priya --because "both of Finance are on one flight"
      manual-payout break-glass INC-123 --as jonas --stop
      manual-payout break-glass INC-123 --as amara --review --because "owed, right amount; second phone bought"
    """
    from manual_payout.parameters import NOTES_LENGTH_MAX, check_text
    from manual_payout.redaction import refuse_typed_secret

    if stop and review:
        raise UsageError("--stop and --review are two things.", "Give one of them, or neither to declare.")
    if not because and not stop:
        raise ParameterError("because", "nothing", "one line of text")
    check_text("because", because, NOTES_LENGTH_MAX, empty=True)
    refuse_typed_secret({"because": because})
    desk = open_operators_desk()
    if stop:
        _stop(desk, incident, who, because, ledger_payout_id, as_json=as_json)
    elif review:
        _review(desk, incident, who, because, ledger_payout_id, key, as_json=as_json)
    else:
        _declare(
            desk, incident, who, because, ledger_payout_id, key, amount=amount, destination_last4=destination_last4,
            as_json=as_json,
        )  # fmt: skip


def _declare(
    desk: Desk,
    incident: str,
    who: str,
    because: str,
    ledger_payout_id: str | None,
    key_file: Path | None,
    *,
    amount: str | None,
    destination_last4: str | None,
    as_json: bool,
) -> None:
    from manual_payout.approving import facts_for_approver
    from manual_payout.breakglass import require_enabled
    from manual_payout.comms.glass import declare_and_page, require_pager

    # Before anybody looks, types and signs for nothing.
    require_enabled(desk)
    require_pager(desk)
    person = desk.registry.get_allowed(who, "approve", desk.now(), field="as")
    found = open_request(desk, incident, ledger_payout_id)
    desk.require_same_world(found)
    amount, destination_last4 = ask_typed(
        found, person, lambda: facts_for_approver(desk, found.incident_id, found.line.ledger_payout_id),
        amount=amount, destination_last4=destination_last4,
    )  # fmt: skip
    glass, new = declare_and_page(
        desk, found, declarer=person.person_id, amount=amount, destination_last4=destination_last4, because=because,
        key=signing_key(desk, person, key_file),
    )  # fmt: skip
    _show(desk, glass, f"Break-glass {'declared' if new else 'was declared already'} by {person.name}", as_json=as_json)
    if glass.paged_at is None:
        raise _not_paged(desk, glass)


def _not_paged(desk: Desk, glass: Glass) -> NotFinishedError:
    """Say what brings the page to its owner: what PagerDuty refused is tried again only by name."""
    from manual_payout.breakglass import page_key
    from manual_payout.models import MessageState
    from manual_payout.store import message_id

    owner = desk.registry.name_of(glass.declaration.owner_id)
    page = desk.store.get_message(message_id(page_key(glass.declaration.declaration_id)))
    if page is not None and page.state is MessageState.REFUSED:
        return NotFinishedError(
            f"The page to {owner} was refused: {page.last_error}",
            "Mend what it names, then have the operator run `manual-payout deliver --refused`; the hold begins with the page.",
        )
    return NotFinishedError(
        f"The page to {owner} has not been delivered yet.",
        "Run this command again, or have the operator run `manual-payout deliver --now`; the hold begins with the page.",
    )


def _stop(desk: Desk, incident: str, who: str, because: str, ledger_payout_id: str | None, *, as_json: bool) -> None:
    from manual_payout.breakglass import stop
    from manual_payout.models import State

    found = open_request(desk, incident, ledger_payout_id)
    glass = stop(desk, found, owner=who, because=because)
    record = desk.store.find_payout(found.line.line_id)
    # What had left before the stop cannot be called back by it.
    late = record is not None and record.sent and record.state is not State.REFUSED
    said = ", but a request had left before: run `manual-payout reconcile`" if late else ", for good"
    _show(desk, glass, f"Break-glass is stopped{said}", as_json=as_json)


def _review(
    desk: Desk, incident: str, who: str, because: str, ledger_payout_id: str | None, key_file: Path | None, *, as_json: bool
) -> None:  # fmt: skip
    from manual_payout.breakglass import review
    from manual_payout.parameters import check

    person = desk.registry.get_allowed(who, "approve", desk.now(), field="as")
    wanted = check("ledger_payout_id", ledger_payout_id) if ledger_payout_id is not None else None
    record = one_record(desk, check("incident_id", incident), wanted)
    made = review(desk, record, reviewer=person.person_id, because=because, key=signing_key(desk, person, key_file))
    if as_json:
        show_json({"reviewed_by": made.person.person_id, "reviewed_at": made.at.isoformat(), "because": made.because})
        return
    typer.echo(f"Reviewed by {made.person.name} at {made.at:%Y-%m-%d %H:%M} UTC: {made.because}")


def _show(desk: Desk, glass: Glass, headline: str, *, as_json: bool) -> None:
    from manual_payout.breakglass import describe

    declared, opens = glass.declaration, glass.opens_at(glass.declaration.hold_s)
    if as_json:
        show_json(
            {
                "declaration_id": declared.declaration_id,
                "declared_by": declared.declarer_id,
                "missing_team": declared.missing.value,
                "owner": declared.owner_id,
                "paged_at": glass.paged_at.isoformat() if glass.paged_at else None,
                "opens_at": opens.isoformat() if opens else None,
                "expires_at": declared.expires_at.isoformat(),
                "stopped_at": glass.stopped_at.isoformat() if glass.stopped_at else None,
                "signed_text": declared.signed_text,
                "signature": declared.signature,
            }
        )
        return
    typer.echo(f"{headline}.\n{describe(glass, desk.registry)}.")
