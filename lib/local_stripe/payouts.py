"""
The rules by which money leaves an account's balance for its bank, and comes back.

Source: Stripe documentation, *Receive payouts*, and the SDK's own text on `Payout`.
"""

from __future__ import annotations

from local_stripe.books import Books
from local_stripe.clock import DAY_S
from local_stripe.errors import RefusalError, balance_insufficient
from local_stripe.records import Account, Payout

# A day from the payout's making to its arrival; a simplification of one to four business days.
PAYOUT_ARRIVES_S = DAY_S


def create_payout(
    books: Books,
    account: Account,
    amount: int,
    currency: str,
    *,
    at: int,
    automatic: bool,
    description: str | None = None,
    statement_descriptor: str | None = None,
    metadata: dict[str, str] | None = None,
    idempotency_key: str | None = None,
) -> Payout:
    """
    Send *amount* minor units from the account's available balance to its bank; it arrives a day after *at*.

    Raises:
        RefusalError: No bank account is usable, or the available balance does not suffice.
    """
    if account.bank is None or account.bank.status == "errored":
        raise RefusalError(
            f"Sorry, you don't have any external accounts in that currency ({currency}).", code="payouts_not_allowed"
        )
    if not automatic and books.available(account.id, currency) < amount:
        raise balance_insufficient()
    payout_id = books.ids.take("po")
    carried_by = payout_id if automatic else None
    line = books.enter(
        account.id, "payout", -amount, currency, payout_id, created=at, description="STRIPE PAYOUT", payout=carried_by
    )
    return books.add(
        Payout(
            payout_id,
            account.id,
            amount,
            currency,
            created=at,
            arrival_date=at + PAYOUT_ARRIVES_S,
            automatic=automatic,
            bank=account.bank,
            balance_transaction=line.id,
            description="STRIPE PAYOUT" if automatic else description,
            statement_descriptor=statement_descriptor,
            metadata=dict(metadata or {}),
            idempotency_key=idempotency_key,
        )
    )


def cancel_payout(books: Books, payout: Payout) -> Payout:
    """
    Take a payout back before it leaves.

    Raises:
        RefusalError: It is automatic, or no longer pending.
    """
    if payout.automatic:
        raise RefusalError("Automatic payouts can't be canceled.")
    if payout.status != "pending":
        raise RefusalError(f"You can only cancel payouts with status pending; this payout's status is {payout.status}.")
    payout.status = "canceled"
    return_payout(books, payout, "payout_cancel", at=books.now_s)
    return payout


def return_payout(books: Books, payout: Payout, kind: str, *, at: int) -> None:
    """Put the money of a canceled or failed payout back into the balance that it came from."""
    line = books.enter(payout.account, kind, payout.amount, payout.currency, payout.id, created=at)
    payout.failure_balance_transaction = line.id
