"""The one write: the claim by which a payout is taken from the automation, and its release."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import datetime

from sqlalchemy import Connection, Update, and_, bindparam, case, null, or_, update

from manual_payout.domain.errors import ClaimError, DatabaseError, ParameterError, shorten
from manual_payout.ledger.base import AnyLedger
from manual_payout.ledger.instants import UtcDateTime, aware
from manual_payout.ledger.mapping import LedgerMapping
from manual_payout.ledger.relations import plain
from manual_payout.ledger.values import PayoutDue


class _TakenBackError(Exception):
    """Ends a transaction that was only a try."""


class Claiming(AnyLedger):
    """Who holds a payout: the automation, or one claim."""

    def claim(self, ledger_payout_id: str, claim_id: str, *, at: datetime, releasable: Sequence[str] = ()) -> PayoutDue:
        """
        Take the payout from the automation, in one atomic update, and return it as it then stands.

        Claiming what *claim_id* already holds succeeds again and keeps the time of the first claim.

        Args:
            claim_id: Who claims; shown to whoever comes second.

            at: The time of the claim, aware.

            releasable: Claims known to be dead, that may be taken over.

        Raises:
            ClaimError: It is paid, claimed by another, absent, or in another status; the message says which.

            DatabaseError: The ledger cannot be read or written, or the row cannot be true.
        """
        key = ledger_payout_id
        if not claim_id:
            raise ParameterError("claim_id", claim_id, "the name under which the payout is claimed")
        # Built before: it may look a relation up, which takes a connection of its own.
        statement = self._claim_statement(key, claim_id, aware(at), releasable)
        with self._transaction(writes=True) as connection:
            return self._write_claim(connection, statement, key, claim_id)

    def try_claim(self, ledger_payout_id: str, claim_id: str, *, at: datetime, releasable: Sequence[str] = ()) -> None:
        """
        Find out whether `claim` would succeed now: it is written, read back and rolled back, before anybody can see it.

        Whoever holds the row is waited for at most a second. Arguments and what is raised are those of `claim`.
        """
        statement = self._claim_statement(ledger_payout_id, claim_id, aware(at), releasable)
        with suppress(_TakenBackError), self._transaction(writes=True, lock_s=1) as connection:
            self._write_claim(connection, statement, ledger_payout_id, claim_id)
            raise _TakenBackError

    def _write_claim(self, connection: Connection, statement: Update, key: str, claim_id: str) -> PayoutDue:
        changed = connection.execute(statement).rowcount
        # Read back in the same transaction: a view's trigger may say that it wrote, and not have written.
        found = self._read_due(connection, key)
        if found is not None and found.is_claimed_by(claim_id):
            return found
        if changed > 0:
            raise self._not_kept(key)
        raise _claim_error(key, found, self.mapping)

    def release(self, ledger_payout_id: str, claim_id: str) -> bool:
        """
        Give the payout back to the automation; say whether *claim_id* held it.

        Raises:
            DatabaseError: The ledger cannot be written.
        """
        key = ledger_payout_id
        row = self._claim.c
        statement = (
            update(self._claim)
            .where(self._is(row.ledger_payout_id, key))
            .where(self._is(row.status, self.mapping.claimed), self._is(row.claimed_by, claim_id))
            .values(status=plain(self.mapping.failed), claimed_by=null(), claimed_at=null())
        )
        with self._transaction(writes=True) as connection:
            before = self._read_due(connection, key)
            connection.execute(statement)
            # Looked at, not counted: SQLite counts no rows that a view's trigger changed.
            after = self._read_due(connection, key)
        return _is_held(before, claim_id) and not _is_held(after, claim_id)

    def _claim_statement(self, key: str, claim_id: str, at: datetime, releasable: Iterable[str]) -> Update:
        row = self._claim.c
        is_claimed = self._is(row.status, self.mapping.claimed)
        takeable = or_(*(self._is(row.claimed_by, one) for one in (claim_id, *releasable)))
        # The time of a claim is when it was first made, however often its holder asks again.
        since = case(
            (and_(is_claimed, self._is(row.claimed_by, claim_id)), row.claimed_at),
            else_=bindparam(None, at, UtcDateTime()),
        )
        return (
            update(self._claim)
            .where(self._is(row.ledger_payout_id, key))
            .where(or_(self._is(row.status, self.mapping.failed), and_(is_claimed, takeable)))
            # The time first: MariaDB assigns from left to right, and would take the new claim for one that stood.
            .ordered_values(
                (row.claimed_at, since), (row.status, plain(self.mapping.claimed)), (row.claimed_by, plain(claim_id))
            )
        )

    def _not_kept(self, key: str) -> DatabaseError:
        target = self.mapping.claim_relation or self.mapping.due_relation
        return DatabaseError(
            f"The claim on payout {key} was written to {target}, but {self.mapping.due_relation} does not show it; "
            "it was rolled back.",
            "Make the view show payouts in every status, and its trigger write what it is given; see docs/ledger.md.",
        )


def _is_held(found: PayoutDue | None, claim_id: str) -> bool:
    return found is not None and found.is_claimed_by(claim_id)


def _claim_error(key: str, found: PayoutDue | None, mapping: LedgerMapping) -> ClaimError:
    if found is None:
        return ClaimError(
            f"The ledger has no payout {key} in {mapping.due_relation}.",
            "Check --ledger-payout-id against the incident, and that LEDGER_DATABASE_URL is the right ledger.",
        )
    if found.standing == "paid":
        by = f"under the claim {_holder(found)}" if found.claimed_by else "by the automation"
        return ClaimError(
            f"Ledger payout {key} was already paid {by} at {_time_text(found.paid_at)}.",
            "Do not pay it by hand. Confirm in Stripe that the money left once, then close the request.",
        )
    if found.standing == "claimed":
        return ClaimError(
            f"Ledger payout {key} is claimed by {_holder(found)} since {_time_text(found.claimed_at)}.",
            "Speak with whoever holds it; only one of you may pay. `manual-payout status` shows their request.",
        )
    return ClaimError(
        f"Ledger payout {key} has status {shorten(found.status)}, and only {mapping.failed!r} can be claimed.",
        "Let the automation finish or fail first, then run the same command again.",
    )


def _holder(found: PayoutDue) -> str:
    return shorten(found.claimed_by) if found.claimed_by else "somebody unrecorded"


def _time_text(value: datetime | None) -> str:
    return f"{value:%Y-%m-%d %H:%M:%S} UTC" if value else "an unrecorded time"
