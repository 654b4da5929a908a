"""What the ledger tells, once it is checked: payouts, balances, and what was paid before."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import date, datetime

from manual_payout.domain.money import Money


@dataclass(frozen=True, slots=True)
class PayoutDue:
    """
    One payout as the ledger shows it; times are UTC.

    Attributes:
        amount_minor: Minor units of *currency*, as Stripe counts them.

        status: The ledger's own word.

        standing: The same in this software's words: ``failed``, ``claimed``, ``paid`` or ``other``.
    """

    ledger_payout_id: str
    studio_id: str
    studio_name: str
    studio_email: str | None
    studio_locale: str | None
    amount_minor: int
    currency: str
    destination_account: str
    destination_changed_at: datetime | None
    period_start: date
    period_end: date
    due_at: datetime
    status: str
    failure_reason: str | None
    failed_at: datetime | None
    paid_at: datetime | None
    claimed_by: str | None
    claimed_at: datetime | None
    standing: str = "other"

    @property
    def amount(self) -> Money:
        """What is owed."""
        return Money(self.amount_minor, self.currency)

    def is_claimed_by(self, claim_id: str) -> bool:
        """Say whether *claim_id* holds the claim now."""
        return self.standing == "claimed" and self.claimed_by == claim_id


@dataclass(frozen=True, slots=True)
class StudioBalance:
    """
    What one studio has in one currency, and must keep; both in minor units, the balance possibly negative.

    Attributes:
        as_of: When the ledger computed the balance, in UTC.
    """

    studio_id: str
    currency: str
    balance_minor: int
    reserve_minimum_minor: int
    as_of: datetime

    @property
    def balance(self) -> Money:
        """The balance before the payout."""
        return Money(self.balance_minor, self.currency)

    @property
    def reserve_minimum(self) -> Money:
        """What must remain after the payout."""
        return Money(self.reserve_minimum_minor, self.currency)

    def reserve_after(self, amount: Money) -> Money:
        """Say what remains once *amount* has left; negative when it does not suffice."""
        return self.balance - amount


@dataclass(frozen=True, slots=True)
class PastPayout:
    """One payout that was paid before; the amount in minor units."""

    ledger_payout_id: str
    amount_minor: int
    currency: str
    paid_at: datetime | None

    @property
    def amount(self) -> Money:
        """What was paid."""
        return Money(self.amount_minor, self.currency)


# The documented columns, in order: the fields as the ledger has them.
DUE_COLUMNS = tuple(one.name for one in fields(PayoutDue) if one.name != "standing")
# Beside them, where the view has it: the transfer that paid the payout, by whatever way.
TRANSFER_COLUMN = "stripe_transfer_id"
BALANCE_COLUMNS = tuple(one.name for one in fields(StudioBalance))
CLAIM_COLUMNS = ("ledger_payout_id", "status", "claimed_by", "claimed_at")
