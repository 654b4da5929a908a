"""What a command is about, and what our books say of that money before its last word."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from manual_payout.domain.errors import DatabaseError, ManualPayoutError

if TYPE_CHECKING:
    from manual_payout.desk.wiring import Desk
    from manual_payout.domain.account import Account
    from manual_payout.domain.models import Mode


@dataclass
class _Subject:
    desk: Desk | None = None
    incident_id: str = ""
    ledger_payout_id: str = ""
    reversal: str = ""
    mode: Mode | None = None


_subject = _Subject()


def about(
    desk: Desk | None,
    incident_id: str = "",
    ledger_payout_id: str | None = None,
    *,
    reversal: str = "",
    mode: Mode | None = None,
) -> None:
    """
    Note whose money this command is about; with nothing, that it is about nobody's.

    Args:
        ledger_payout_id: None for whatever the incident has.

        reversal: The line of the reversal, where money is taken back.

        mode: The world that the money is in; the desk's own where None.
    """
    _subject.desk, _subject.incident_id = desk, incident_id
    _subject.ledger_payout_id, _subject.reversal = ledger_payout_id or "", reversal
    _subject.mode = mode


def is_reversal() -> bool:
    """Whether this command is about money that is taken back."""
    return bool(_subject.reversal)


def account() -> Account | None:
    """
    Ask the books about the money that this command is about; None where it is about none.

    Of several payouts of an incident it is the gravest.

    Raises:
        DatabaseError: They cannot be asked.
    """
    desk = _subject.desk
    if desk is None:
        return None
    from manual_payout.approval.books import account_at
    from manual_payout.domain.account import Standing

    order = list(Standing)
    found = [account_at(desk, payout, _subject.mode) for payout in sorted(_payouts(desk))]
    return min(found, key=lambda one: order.index(one.standing), default=None)


def as_the_books_say(error: ManualPayoutError) -> ManualPayoutError:
    """Return *error*, or what must be said in its place once money has left (`books.as_it_is`); a run has asked already."""
    if type(error) is ManualPayoutError:
        return error
    from manual_payout.approval.books import as_it_is as by_account
    from manual_payout.approval.books import unasked

    try:
        found = account()
    except DatabaseError as away:
        return unasked(error, away)
    return error if found is None else by_account(error, found, reversal=_subject.reversal)


def told(code: int) -> dict[str, Any]:
    """Say for a program where the money is, and whether a command that ended with *code* may be given again."""
    from manual_payout.approval.books import safe_to_repeat

    try:
        found = account()
    except DatabaseError:
        return {"state": "not known: the database cannot be asked", "safe_to_repeat": safe_to_repeat(code, None)}
    state = found.state if found is not None else "not asked"
    return {"state": state, "safe_to_repeat": safe_to_repeat(code, found)} | (
        {"money": found.sentence} if found is not None else {}
    )


def last_line() -> str:
    """Say for people where the money is; empty where this command is about none."""
    try:
        found = account()
    except DatabaseError:
        return "Where the money is: not known; the database cannot be asked."
    return f"Where the money is: {found.sentence}" if found is not None else ""


def stopped() -> str:
    """Say what somebody who stopped a command must know."""
    from manual_payout.domain.account import Standing

    try:
        found = account()
    except DatabaseError:
        found = None
    if found is not None and found.standing is Standing.OPEN:
        return f"Stopped. The outcome is open. {found.sentence}\nWhat to do: {found.remedy}"
    where = f"\nWhere the money is: {found.sentence}" if found is not None else ""
    return f"Stopped. Run `manual-payout status` to see where things stand.{where}"


def _payouts(desk: Desk) -> set[str]:
    if _subject.ledger_payout_id or not _subject.incident_id:
        return {_subject.ledger_payout_id} - {""}
    incident_id = _subject.incident_id
    payouts, reversals = (
        desk.store.payouts_of(incident_id=incident_id),
        desk.store.reversals_of(incident_id=incident_id),
    )
    return {record.ledger_payout_id for record in (*payouts, *reversals)} | desk.open_payouts(incident_id)
