"""
The state of the sandbox: who exists, what moved, and what every balance therefore is.

A balance is nothing but the sum of its balance transactions, as Stripe's documentation (*Balance
transaction types*) describes them. Rules that move money live in `transfers`, `payouts`, `funding` and `settlement`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar, cast

from local_stripe.clock import SandboxClock
from local_stripe.errors import missing
from local_stripe.ids import Ids
from local_stripe.permissions import PLATFORM_ACCOUNT
from local_stripe.records import (
    Account,
    BalanceTransaction,
    Bank,
    BankBehaviour,
    Charge,
    PaymentIntent,
    Payout,
    Record,
    Refund,
    Reversal,
    SandboxAccount,
    Transfer,
)

R = TypeVar("R", bound=Record)

# What Stripe calls each in "No such transfer: 'tr_x'".
NOUNS: dict[type[object], str] = {
    Account: "account",
    BalanceTransaction: "balance transaction",
    Charge: "charge",
    PaymentIntent: "payment_intent",
    Payout: "payout",
    Refund: "refund",
    Reversal: "transfer_reversal",
    Transfer: "transfer",
}


@dataclass(slots=True)
class Switches:
    """
    What a rehearsal may switch.

    Attributes:
        accounts_v1: Whether ``POST /v1/accounts`` is allowed; new platforms find it refused.

        accounts_v2: Whether ``POST /v2/core/accounts`` is.

        recipient_needs_cards: Whether an account of v2 must request card payments to receive transfers.

        slow_verification: Whether capabilities of new accounts are pending for a while.

        connect: Whether the platform is signed up for Connect.

        connected_reserves: Whether a reversal may take a connected account below zero.

        bank_funds: Whether the platform has money from bank debits besides, which no transfer from card payments draws.

        source_types: Whether a balance says what it is made of.

        expired_keys: Names of keys (fallback, read, full) that have been rotated away.
    """

    accounts_v1: bool = True
    accounts_v2: bool = True
    recipient_needs_cards: bool = False
    slow_verification: bool = False
    connect: bool = True
    connected_reserves: bool = False
    bank_funds: bool = False
    source_types: bool = True
    expired_keys: frozenset[str] = frozenset()


@dataclass(slots=True)
class Books:
    """Everything that the sandbox knows, in order of creation. Hold `lock` to read more than one thing of it."""

    clock: SandboxClock
    ids: Ids = field(default_factory=Ids)
    switches: Switches = field(default_factory=Switches)
    lock: threading.RLock = field(default_factory=threading.RLock)
    records: dict[str, Record] = field(default_factory=dict)
    _kinds: dict[type[object], list[Record]] = field(default_factory=dict)
    _available: dict[str, dict[str, int]] = field(default_factory=dict)
    _coming: list[BalanceTransaction] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._open_platform()

    def clear(self) -> None:
        """Forget everything and go back to the clock's start."""
        for held in (self.records, self._kinds, self._available, self._coming):
            held.clear()
        self.ids = Ids()
        self.switches = Switches()
        self.clock.restart()
        self._open_platform()

    def _open_platform(self) -> None:
        self.add(
            Account(
                PLATFORM_ACCOUNT,
                country="US",
                currency="usd",
                display_name="Sandbox Platform",
                created=self.now_s,
                transfers="active",
                payout_schedule="manual",
                service_agreement="full",
                bank=self.new_bank("US", "usd", "0000"),
            )
        )

    @property
    def now_s(self) -> int:
        """The sandbox's present, in seconds since the Unix epoch."""
        return self.clock.now_s

    @property
    def accounts(self) -> list[Account]:
        """The connected accounts; the platform is not one of them."""
        return [account for account in self.all(Account) if account.id != PLATFORM_ACCOUNT]

    @property
    def transfers(self) -> list[Transfer]:
        """Every transfer ever made."""
        return self.all(Transfer)

    @property
    def reversals(self) -> list[Reversal]:
        """Every reversal ever made."""
        return self.all(Reversal)

    @property
    def payouts(self) -> list[Payout]:
        """Every payout of every account."""
        return self.all(Payout)

    @property
    def balance_transactions(self) -> list[BalanceTransaction]:
        """Every balance transaction of every account."""
        return self.all(BalanceTransaction)

    def all(self, kind: type[R]) -> list[R]:
        """Return the records of one kind in order of creation."""
        return cast("list[R]", list(self._kinds.get(kind, [])))

    def owned(self, kind: type[R], account: str) -> list[R]:
        """Return the records of one kind that belong to *account*, newest first."""
        return [record for record in self.all(kind) if owner(record) == account][::-1]

    def add(self, record: R) -> R:
        """Enter a new record."""
        if record.id in self.records:
            raise ValueError(f"Bug: {record.id} is in the books already")
        self.records[record.id] = record
        self._kinds.setdefault(type(record), []).append(record)
        return record

    def find(self, record_id: str) -> Record | None:
        """Return the record of that id, whoever owns it, or None."""
        return self.records.get(record_id)

    def get(self, kind: type[R], record_id: str, account: str) -> R:
        """
        Return the record of that id that belongs to *account*.

        Raises:
            RefusalError: 404, in Stripe's words.
        """
        record = self.records.get(record_id)
        if not isinstance(record, kind) or owner(record) != account:
            raise missing(NOUNS[kind], record_id)
        return record

    def account(self, account_id: str) -> Account:
        """Return an account that is known to exist."""
        record = self.records[account_id]
        if not isinstance(record, Account):
            raise TypeError(f"Bug: {account_id} is not an account")
        return record

    def enter(
        self,
        account: str,
        kind: str,
        amount: int,
        currency: str,
        source: str | None,
        *,
        created: int,
        available_on: int | None = None,
        fee: int = 0,
        description: str | None = None,
        payout: str | None = None,
    ) -> BalanceTransaction:
        """Enter one line into the balance of *account*; available at once unless *available_on* is later."""
        line = BalanceTransaction(
            self.ids.take("txn"),
            account,
            kind,
            amount,
            currency,
            created,
            created if available_on is None else available_on,
            source,
            fee,
            description,
            payout,
        )
        self._coming.append(line)
        return self.add(line)

    def new_bank(
        self,
        country: str,
        currency: str,
        last4: str,
        behaviour: BankBehaviour = "ok",
        failure_code: str = "account_closed",
    ) -> Bank:
        """Open a bank account that behaves as told."""
        return Bank(self.ids.take("ba"), country, currency, last4, behaviour, failure_code, usable_from=self.now_s)

    def balance(self, account: str) -> tuple[dict[str, int], dict[str, int]]:
        """Return (available, pending) of *account*: minor units for each currency that it ever had."""
        self._release()
        available = dict(self._available.get(account, {}))
        pending = dict.fromkeys(available, 0)
        for line in self._coming:
            if line.account == account:
                pending[line.currency] = pending.get(line.currency, 0) + line.net
                available.setdefault(line.currency, 0)
        if account == PLATFORM_ACCOUNT:
            for currency, held in self.reserved().items():
                available[currency] = available.get(currency, 0) - held
        return available, pending

    def _release(self) -> None:
        """Add up the lines that have become available; time never goes back, so each is added once."""
        coming, now_s = self._coming, self.now_s
        self._coming = [line for line in coming if line.available_on > now_s]
        for line in coming:
            if line.available_on <= now_s:
                sums = self._available.setdefault(line.account, {})
                sums[line.currency] = sums.get(line.currency, 0) + line.net

    def available(self, account: str, currency: str) -> int:
        """Return the available minor units of one currency."""
        return self.balance(account)[0].get(currency, 0)

    def reserved(self) -> dict[str, int]:
        """Return what the platform must hold back for connected accounts below zero, for each currency."""
        held: dict[str, int] = {}
        self._release()
        for account, sums in self._available.items():
            for currency, amount in sums.items():
                if amount < 0 and account != PLATFORM_ACCOUNT:
                    held[currency] = held.get(currency, 0) - amount
        return held

    def seed(self, accounts: Iterable[SandboxAccount], available: Mapping[str, int] | None) -> None:
        """
        Make accounts and balances what is said here; doing it twice changes nothing.

        Args:
            accounts: New accounts; or known ones, whose settings are replaced and whose money stays.

            available: The platform's available minor units for each currency named.
        """
        for account in accounts:
            self._seed_account(account)
            self._set_available(account.id, dict(account.available))
        self._set_available(PLATFORM_ACCOUNT, available or {})

    def _seed_account(self, wanted: SandboxAccount) -> None:
        known = self.records.get(wanted.id)
        if not isinstance(known, Account):
            known = self.add(
                Account(wanted.id, wanted.country, wanted.currency, wanted.display_name, self.now_s, controller=True)
            )
            known.tos_date, known.tos_ip, known.business_type = self.now_s, "127.0.0.1", "company"
        known.country, known.currency, known.display_name = wanted.country, wanted.currency, wanted.display_name
        known.transfers, known.payout_schedule = wanted.transfers, wanted.payout_schedule
        known.service_agreement = wanted.service_agreement
        if not _is_bank(known.bank, wanted):
            known.bank = self.new_bank(wanted.country, wanted.currency, wanted.bank_last4, wanted.bank)

    def _set_available(self, account: str, wanted: Mapping[str, int]) -> None:
        for currency, amount in wanted.items():
            difference = amount - self.available(account, currency)
            if difference:
                self.enter(
                    account, "adjustment", difference, currency, None, created=self.now_s, description="Sandbox seed"
                )


def owner(record: Record) -> str:
    """Return the account that a record belongs to; an account belongs to itself."""
    return record.id if isinstance(record, Account) else record.account


def _is_bank(known: Bank | None, wanted: SandboxAccount) -> bool:
    """Say whether the bank account on file is the wanted one; one that has failed never is."""
    return (
        known is not None
        and known.status != "errored"
        and (known.country, known.currency, known.last4, known.behaviour)
        == (wanted.country, wanted.currency, wanted.bank_last4, wanted.bank)
    )
