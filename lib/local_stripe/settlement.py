"""
What the passing of the clock does: money becomes usable, is paid out daily, arrives at a bank or comes back.

Sources: Stripe documentation, *Receive payouts*, and the SDK's own text on `Payout`. Simplified: no weekends, no
countries' delays, and a payout is made the moment that a payment becomes available.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from local_stripe.books import Books
from local_stripe.clock import DAY_S, HOUR_S
from local_stripe.payouts import create_payout, return_payout
from local_stripe.records import Account, BalanceTransaction, Payout

# How long a payout waits before it is submitted to the bank.
SUBMITTED_AFTER_S = HOUR_S
# How long after arrival a bank that first accepted the money sends it back; documented as within five business days.
FLIPS_AFTER_S = 2 * DAY_S

# Arriving money starts a payout; whatever else is available then, such as a seeded opening balance, goes along.
_PAYABLE = frozenset({"payment", "payout_failure", "payout_cancel"})

FAILURES = {
    "no_account": "The bank account could not be located.",
    "account_closed": "The bank account has been closed.",
    "insufficient_funds": "Your Stripe account has insufficient funds to cover the payout.",
    "debit_not_authorized": "Debit transactions are not approved on your bank account.",
    "invalid_currency": "The bank was unable to process this payout because of its currency.",
}


@dataclass(frozen=True, slots=True)
class _Due:
    at: int
    act: Callable[[], None]


def catch_up(books: Books) -> None:
    """Do, in order of time, everything that has fallen due by the books' clock."""
    while (due := _next(books)) is not None and due.at <= books.now_s:
        due.act()


def _next(books: Books) -> _Due | None:
    steps = [step for payout in books.payouts if (step := _payout_step(books, payout)) is not None]
    steps += _sweeps(books)
    steps += [_Due(one.verified_from, partial(_verify, one)) for one in books.accounts if _unverified(one)]
    return min(steps, key=lambda step: step.at, default=None)


def _payout_step(books: Books, payout: Payout) -> _Due | None:
    behaviour = payout.bank.behaviour
    if payout.status == "pending":
        return _Due(payout.created + SUBMITTED_AFTER_S, partial(_set_status, payout, "in_transit"))
    if payout.status == "in_transit" and behaviour == "fails":
        return _Due(payout.arrival_date, partial(_fail, books, payout, at=payout.arrival_date))
    if payout.status == "in_transit":
        return _Due(payout.arrival_date, partial(_set_status, payout, "paid"))
    if payout.status == "paid" and behaviour == "paid_then_fails":
        flips_at = payout.arrival_date + FLIPS_AFTER_S
        return _Due(flips_at, partial(_fail, books, payout, at=flips_at))
    return None


def _unverified(account: Account) -> list[str]:
    return [
        name for name in ("transfers", "card_payments") if account.verified_from and getattr(account, name) == "pending"
    ]


def _verify(account: Account) -> None:
    for name in _unverified(account):
        setattr(account, name, "active")


def _set_status(payout: Payout, status: str) -> None:
    payout.status = status


def _fail(books: Books, payout: Payout, *, at: int) -> None:
    """Return the money and disable the bank account, which stays so until it is replaced."""
    payout.status = "failed"
    payout.failure_code = payout.bank.failure_code
    payout.failure_message = FAILURES[payout.bank.failure_code]
    return_payout(books, payout, "payout_failure", at=at)
    payout.bank.status = "errored"


def _sweeps(books: Books) -> list[_Due]:
    """Return the automatic payouts to come: for each account and currency, when its next money becomes available."""
    lines: dict[tuple[str, str], list[BalanceTransaction]] = {}
    for line in books.balance_transactions:
        if line.payout is None:
            lines.setdefault((line.account, line.currency), []).append(line)
    return [due for key, owned in lines.items() if (due := _sweep(books, books.account(key[0]), owned)) is not None]


def _sweep(books: Books, account: Account, lines: list[BalanceTransaction]) -> _Due | None:
    bank = account.bank
    if account.payout_schedule != "daily" or bank is None or bank.status == "errored":
        return None
    for instant in sorted({max(line.available_on, bank.usable_from) for line in lines if line.type in _PAYABLE}):
        ready = [line for line in lines if line.available_on <= instant]
        if sum(line.net for line in ready) > 0:
            return _Due(instant, partial(_pay_out, books, account, ready, at=instant))
    return None


def _pay_out(books: Books, account: Account, ready: list[BalanceTransaction], *, at: int) -> None:
    total = sum(line.net for line in ready)
    payout = create_payout(books, account, total, ready[0].currency, at=at, automatic=True)
    for line in ready:
        line.payout = payout.id
