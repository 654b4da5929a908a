"""The things that the books hold. Amounts are minor units; instants are whole seconds since the Unix epoch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from local_stripe.mistakes import InvalidValueError

TransfersStatus = Literal["active", "inactive", "pending"]
PayoutSchedule = Literal["daily", "manual"]
BankBehaviour = Literal["ok", "fails", "paid_then_fails"]
ServiceAgreement = Literal["full", "recipient"]
_CHOICES = {
    "transfers": TransfersStatus,
    "payout_schedule": PayoutSchedule,
    "bank": BankBehaviour,
    "service_agreement": ServiceAgreement,
}


@dataclass(frozen=True, slots=True)
class SandboxAccount:
    """
    A connected account to seed.

    Attributes:
        id: ``acct_`` and anything.

        country: Two upper-case letters.

        currency: Default currency, three lower-case letters.

        display_name: What Stripe would show as the business name.

        transfers: State of the transfers capability.

        payout_schedule: ``daily`` pays out by itself; ``manual`` waits for someone.

        bank: ``ok``; ``fails`` on arrival; or ``paid_then_fails``, two days after having been shown as paid.

        bank_last4: Last four characters of the bank account.

        service_agreement: ``full`` or ``recipient``; the latter may lie outside the platform's region.

        available: Available minor units to begin with, for each currency.
    """

    id: str
    country: str = "US"
    currency: str = "usd"
    display_name: str = "Sandbox Studio"
    transfers: TransfersStatus = "active"
    payout_schedule: PayoutSchedule = "daily"
    bank: BankBehaviour = "ok"
    bank_last4: str = "6789"
    service_agreement: ServiceAgreement = "full"
    available: tuple[tuple[str, int], ...] = ()

    def __post_init__(self) -> None:
        if not self.id.startswith("acct_"):
            raise InvalidValueError("id", self.id, "an account id such as acct_123")
        for name, kind in _CHOICES.items():
            if getattr(self, name) not in get_args(kind):
                raise InvalidValueError(name, getattr(self, name), f"one of {', '.join(get_args(kind))}")


@dataclass(slots=True)
class Bank:
    """The one bank account of an account; ``errored`` after a failed payout, until it is replaced."""

    id: str
    country: str
    currency: str
    last4: str
    behaviour: BankBehaviour
    failure_code: str
    status: str = "new"
    usable_from: int = 0


@dataclass(slots=True)
class Account:
    """
    A connected account, or the platform itself.

    Attributes:
        version: Of the API that made it, 1 or 2.

        verified_from: When its pending capabilities become active.
    """

    id: str
    country: str
    currency: str
    display_name: str
    created: int
    transfers: str = "unrequested"
    payout_schedule: str = "daily"
    service_agreement: str = "full"
    bank: Bank | None = None
    email: str | None = None
    business_type: str | None = None
    url: str | None = None
    tos_date: int | None = None
    tos_ip: str | None = None
    card_payments: str = "unrequested"
    controller: bool = False
    metadata: dict[str, str] = field(default_factory=dict)
    version: int = 1
    verified_from: int = 0


@dataclass(slots=True)
class BalanceTransaction:
    """One line of an account's balance; *payout* names the automatic payout that carried it away."""

    id: str
    account: str
    type: str
    amount: int
    currency: str
    created: int
    available_on: int
    source: str | None
    fee: int = 0
    description: str | None = None
    payout: str | None = None

    @property
    def net(self) -> int:
        """What the line does to the balance."""
        return self.amount - self.fee


@dataclass(slots=True)
class Transfer:
    """Money moved from the platform to a connected account."""

    id: str
    account: str
    amount: int
    currency: str
    destination: str
    created: int
    balance_transaction: str
    destination_payment: str
    description: str | None = None
    transfer_group: str | None = None
    source_transaction: str | None = None
    source_type: str = "card"
    metadata: dict[str, str] = field(default_factory=dict)
    amount_reversed: int = 0
    idempotency_key: str | None = None

    @property
    def reversed(self) -> bool:
        """Whether all of it was taken back."""
        return self.amount_reversed == self.amount


@dataclass(slots=True)
class Reversal:
    """Money taken back from a connected account."""

    id: str
    account: str
    amount: int
    currency: str
    transfer: str
    created: int
    balance_transaction: str
    destination_payment_refund: str
    metadata: dict[str, str] = field(default_factory=dict)
    idempotency_key: str | None = None


@dataclass(slots=True)
class Refund:
    """A reversal as the connected account sees it: the refund of its destination payment."""

    id: str
    account: str
    amount: int
    currency: str
    charge: str
    created: int
    balance_transaction: str
    transfer_reversal: str


@dataclass(slots=True)
class Charge:
    """A payment received: a card charge of the platform (``ch_``) or a destination payment (``py_``)."""

    id: str
    account: str
    amount: int
    currency: str
    created: int
    balance_transaction: str
    description: str | None = None
    source_transfer: str | None = None
    payment_intent: str | None = None
    payment_method: str | None = None
    transfer_group: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    amount_refunded: int = 0


@dataclass(slots=True)
class PaymentIntent:
    """A card payment that was confirmed at once."""

    id: str
    account: str
    amount: int
    currency: str
    created: int
    payment_method: str
    latest_charge: str
    description: str | None = None
    transfer_group: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Payout:
    """Money on its way from an account's balance to its bank."""

    id: str
    account: str
    amount: int
    currency: str
    created: int
    arrival_date: int
    automatic: bool
    bank: Bank
    balance_transaction: str
    description: str | None
    statement_descriptor: str | None = None
    status: str = "pending"
    metadata: dict[str, str] = field(default_factory=dict)
    failure_code: str | None = None
    failure_message: str | None = None
    failure_balance_transaction: str | None = None
    idempotency_key: str | None = None


@dataclass(slots=True)
class RequestRecord:
    """
    One request as it was received; never the key itself.

    Attributes:
        account: The Stripe-Account header.

        status: HTTP status of the answer; None where the connection was closed without one.

        fault: Kind of the fault that it met.

        key: Name of the key (fallback, read, full), empty before it was recognised.

        params: Its parameters as sent.
    """

    method: str
    path: str
    idempotency_key: str | None
    account: str | None
    request_id: str
    at: str
    status: int | None = None
    fault: str | None = None
    replayed: bool = False
    key: str = ""
    params: dict[str, Any] = field(default_factory=dict)


Record = Account | BalanceTransaction | Transfer | Reversal | Refund | Charge | PaymentIntent | Payout
