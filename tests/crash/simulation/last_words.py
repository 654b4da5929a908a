"""
What a command said when it ended, held against the provider's books: the exit code is a claim like any other.

Only what stood in the books when the command began, or what it moved itself, is held against it: what somebody else does
between a command's last look and its last word, it cannot say.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from manual_payout.domain.errors import ClaimError, DatabaseError, ManualPayoutError, RefusedError
from manual_payout.domain.models import Record, State

if TYPE_CHECKING:
    from .memory_store import MemoryStore
    from .stripe_books import Books

OPEN = (State.SUBMITTING, State.UNKNOWN, State.NEEDS_HUMAN)
DONE = (State.PAID, State.PARTLY_REVERSED, State.REVERSED)


@dataclass
class Before:
    """What stood in the books and in our rows when a command began."""

    moved: set[str] = field(default_factory=set)
    open: bool = False
    attempts: int = 0


def look(store: MemoryStore, books: Books) -> Before:
    """Note what a command finds that begins now."""
    return Before(
        {_line(one) for one in (*books.transfers, *books.reversals) if one.key}, _any_open(store), len(store.attempts)
    )


def contradiction(run: Any, error: BaseException | None, before: Before, store: MemoryStore, books: Books) -> str:
    """Say how the end of *run* contradicts the books; nothing where it does not."""
    made = [one for one in (*books.transfers, *books.reversals) if one.key]
    lines = before.moved | {_line(one) for one in made if one.run is run}
    # A reversal is refused, or done, for itself; a payout for whatever was sent for it by hand.
    own = lines & {run.line} if run.back else lines - set(store.reversals)
    code = error.exit_code if isinstance(error, ManualPayoutError) else 0 if error is None else -1
    if code == 3 and own:
        return f"exit code 3, and {sorted(own)} had moved"
    foreign = any(not one.key for one in books.transfers)
    # Refused while another run was at it, which has come to its end since.
    met = len(store.attempts) > before.attempts and _has_cause(error, RefusedError)
    if code == 4 and not (before.open or _any_open(store) or foreign or met or _was_cut_off(error)):
        return "exit code 4, and no attempt is open"
    if code == 7 and (run.back or all(one.key for one in books.reversals)):
        return "exit code 7, and everything arrived or was taken back as approved"
    if code == 0 and run.sends and not _is_done(run, store, made):
        return "exit code 0, and the books do not have what was to be made"
    return ""


def _was_cut_off(error: BaseException | None) -> bool:
    """Whether the run could not find out by itself: the database's answer was lost, or another run settled it meanwhile."""
    return _has_cause(error, DatabaseError, ClaimError)


def _has_cause(error: BaseException | None, *kinds: type[BaseException]) -> bool:
    while error is not None:
        if isinstance(error, kinds):
            return True
        error = error.__cause__
    return False


def _line(one: Any) -> str:
    return str(one.shown["metadata"].get("line_id", one.shown["id"]))


def _any_open(store: MemoryStore) -> bool:
    rows: list[Record] = [*store.rows.values(), *store.reversals.values()]
    return any(row.state in OPEN for row in rows)


def _is_done(run: Any, store: MemoryStore, made: list[Any]) -> bool:
    rows: list[Record] = [store.reversals[run.line]] if run.line in store.reversals else [*store.rows.values()]
    ids = {one.shown["id"] for one in made}
    return any(
        row.state in DONE and row.stripe_id in ids for row in rows if bool(run.line) == (row.line_id == run.line)
    )
