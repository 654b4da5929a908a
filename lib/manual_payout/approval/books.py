"""
Our books, asked before anything is said of the money: no error says that nothing moved once something has.
"""

from __future__ import annotations

from manual_payout.desk.people import Person
from manual_payout.desk.wiring import Desk
from manual_payout.domain.account import Account, Standing, account_of
from manual_payout.domain.errors import (
    AstrayError,
    DatabaseError,
    EvidenceError,
    ManualPayoutError,
    MovedBeforeError,
    RefusedError,
    UnknownOutcomeError,
    UsageError,
)
from manual_payout.domain.models import Mode, stream_of

# What a program may take for leave to give the same command again.
_NOT_AGAIN = frozenset({UnknownOutcomeError.exit_code, AstrayError.exit_code})

# They say all that there is to say, whatever the books hold.
_FINAL = (UnknownOutcomeError, AstrayError, MovedBeforeError)


def account_at(desk: Desk, ledger_payout_id: str, mode: Mode | None = None) -> Account:
    """
    Ask our tables where the money of a ledger payout is, whoever moved it by hand.

    Args:
        mode: In which world; the desk's own where None.

    Raises:
        DatabaseError: They cannot be asked.
    """
    mode = mode or desk.settings.mode
    payouts = desk.store.payouts_of(ledger_payout_id=ledger_payout_id, mode=mode.value)
    reversals = [one for one in desk.store.reversals_of(ledger_payout_id=ledger_payout_id) if one.mode is mode]
    streams = {stream_of(one.incident_id, one.ledger_payout_id) for one in (*payouts, *reversals)}
    events = [event for stream in sorted(streams) for event in desk.store.events_of(stream)]
    return account_of(payouts, reversals, events)


def as_it_is(error: ManualPayoutError, account: Account, *, reversal: str = "") -> ManualPayoutError:
    """
    Return *error*, or what must be said in its place once money has left.

    Args:
        account: Of the ledger payout that the error is about.

        reversal: The line of the reversal that the error is about; it is refused, or not, for itself, whatever became of
            the transfer. Empty where money was to be sent.
    """
    if isinstance(error, (*_FINAL, UsageError)):
        return error
    if account.standing is Standing.OPEN:
        return UnknownOutcomeError(f"{account.sentence} This run could not go on: {error.message}", account.remedy)
    if isinstance(error, RefusedError):
        return _refused(error, account, reversal)
    if account.standing is Standing.ASTRAY and not reversal:
        return AstrayError(f"{account.sentence} This run could not go on: {error.message}", account.remedy)
    if isinstance(error, EvidenceError) and account.standing is not Standing.NOTHING:
        # Whatever could not be kept: what was sent is named.
        kind = DatabaseError if isinstance(error, DatabaseError) else EvidenceError
        return kind(f"{error.message} {account.sentence}", error.remedy)
    return error


def _refused(error: RefusedError, account: Account, reversal: str) -> ManualPayoutError:
    if reversal and reversal not in account.moved:
        error.heading = "Refused, nothing was taken back"
        return error
    if account.standing is Standing.NOTHING:
        return error
    if account.standing is Standing.ASTRAY and not reversal:
        return AstrayError(f"{account.sentence} Nothing was moved now: {error.message}", account.remedy)
    return MovedBeforeError(f"{error.message.rstrip('.')}. {account.sentence} Nothing was moved now.", error.remedy)


def by_the_books(
    desk: Desk, error: ManualPayoutError, ledger_payout_id: str, *, mode: Mode | None = None, reversal: str = ""
) -> ManualPayoutError:
    """
    Ask the books, and return *error* as `as_it_is` says.

    Where they cannot be asked, nothing is claimed: a refusal becomes a `DatabaseError`, everything else stays.
    """
    try:
        account = account_at(desk, ledger_payout_id, mode)
    except DatabaseError as away:
        return unasked(error, away)
    return as_it_is(error, account, reversal=reversal)


def unasked(error: ManualPayoutError, away: DatabaseError) -> ManualPayoutError:
    """Return what is said of *error* where the books cannot be asked, because the database is *away*."""
    if not isinstance(error, RefusedError):
        return error
    return DatabaseError(
        f"{error.message} Whether money of this payout had moved before could not be asked: {away.message}", away.remedy
    )


def exit_code(code: int, account: Account, *, reversal: bool = False) -> int:
    """
    Return the code with which a command ends that came to *code*: the gravest of what it says and what the books say.

    Args:
        reversal: Whether money was to be taken back; what was approved here is never a reason to act.
    """
    if code and account.standing is Standing.OPEN:
        return UnknownOutcomeError.exit_code
    astray = account.standing is Standing.ASTRAY and not reversal
    if astray and code not in (UsageError.exit_code, UnknownOutcomeError.exit_code):
        return AstrayError.exit_code
    if code == RefusedError.exit_code and account.standing is not Standing.NOTHING and not reversal:
        return MovedBeforeError.exit_code
    return code


def safe_to_repeat(code: int, account: Account | None) -> bool:
    """Whether the same command may be given again without a person having looked first."""
    return code not in _NOT_AGAIN and (not code or account is None or account.standing is not Standing.OPEN)


def find_operator(desk: Desk, who: str, ledger_payout_id: str, *, reversal: str = "") -> Person:
    """
    Return the person who runs this.

    Raises:
        ManualPayoutError: They may not; in words that hold whatever has moved before.
    """
    try:
        return desk.registry.get_allowed(who, "operate", desk.now(), field="operator")
    except ManualPayoutError as error:
        told = by_the_books(desk, error, ledger_payout_id, reversal=reversal)
        if told is error:
            raise
        raise told from error
