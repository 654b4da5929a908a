"""The ledger in memory: one payout of one studio, its claim by compare-and-set, and the automation beside it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from manual_payout.domain.errors import ClaimError, ParameterError
from manual_payout.ledger import LedgerMapping, PayoutDue, StudioBalance


class MemoryLedger:
    """
    What the core needs of `manual_payout.ledger.Ledger`, and what the demo's automation does.

    Args:
        due: The payout.

        balance: Of its studio.

        hooks: Told of every boundary.

        clock: Where there is one, the balance is computed when it is asked for, as the view of docs/ledger.md does.

    Attributes:
        paid_by_automation: How often the automation has paid, whatever became of the row afterwards.

        books: The ledger payout by the transfer that paid it: the optional column.
    """

    def __init__(self, due: PayoutDue, balance: StudioBalance, hooks: Any, clock: Any = None) -> None:
        self.mapping = LedgerMapping()
        self.due = due
        self.balance = balance
        self.hooks = hooks
        self.clock = clock
        self.paid_by_automation = 0
        self.books: dict[str, str] = {}

    def find_payout_due(self, ledger_payout_id: str) -> PayoutDue | None:
        self.hooks.step("find_payout_due")
        return self.due if _uuid(ledger_payout_id) == self.due.ledger_payout_id else None

    def get_payout_due(self, ledger_payout_id: str) -> PayoutDue:
        found = self.find_payout_due(ledger_payout_id)
        if found is None:
            raise ParameterError("ledger_payout_id", ledger_payout_id, "a payout that the ledger shows")
        return found

    def payouts_by_transfer(self, transfer_ids: Collection[str]) -> dict[str, str]:
        self.hooks.step("payouts_by_transfer")
        return {one: self.books[one] for one in transfer_ids if one in self.books}

    def find_balance(self, studio_id: str, currency: str) -> StudioBalance | None:
        self.hooks.step("find_balance")
        fits = (_uuid(studio_id), currency) == (self.balance.studio_id, self.balance.currency)
        if not fits:
            return None
        return self.balance if self.clock is None else replace(self.balance, as_of=self.clock.now())

    def claim(self, ledger_payout_id: str, claim_id: str, *, at: datetime, releasable: Sequence[str] = ()) -> PayoutDue:
        self.hooks.step("claim:before")
        found = self.due if _uuid(ledger_payout_id) == self.due.ledger_payout_id else None
        if found is not None and self.may_claim(found, claim_id, releasable):
            self.take(claim_id, at)
            self.hooks.step("claim:after")
            return self.due
        held = f", by {found.claimed_by}" if found is not None and found.claimed_by else ""
        raise ClaimError(f"Ledger payout {ledger_payout_id} is {found.standing if found else 'absent'}{held}.", "")

    def release(self, ledger_payout_id: str, claim_id: str) -> bool:
        self.hooks.step("release:before")
        held = _uuid(ledger_payout_id) == self.due.ledger_payout_id and self.due.is_claimed_by(claim_id)
        if held:
            self.due = replace(
                self.due, status=self.mapping.failed, standing="failed", claimed_by=None, claimed_at=None
            )
        self.hooks.step("release:after")
        return held

    def attempt(self, at: datetime) -> bool:
        """Pay as the automation does, unless it is claimed or paid; say whether this call paid it."""
        if self.due.status not in ("failed", "scheduled"):
            return False
        self.due = replace(self.due, status=self.mapping.paid, standing="paid", paid_at=at)
        self.paid_by_automation += 1
        return True

    def may_claim(self, found: PayoutDue, claim_id: str, releasable: Sequence[str]) -> bool:
        """Whether the condition of the update holds."""
        if found.status == self.mapping.failed:
            return True
        return found.status == self.mapping.claimed and found.claimed_by in (claim_id, *releasable)

    def take(self, claim_id: str, at: datetime) -> None:
        """Write the claim."""
        since = self.due.claimed_at if self.due.is_claimed_by(claim_id) else at
        self.due = replace(
            self.due, status=self.mapping.claimed, standing="claimed", claimed_by=claim_id, claimed_at=since
        )


def _uuid(value: str) -> str:
    try:
        return str(UUID(value))
    except (ValueError, AttributeError, TypeError):
        raise ParameterError("ledger_payout_id", value, "a UUID") from None
