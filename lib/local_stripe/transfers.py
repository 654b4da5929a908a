"""
The rules by which money moves between the platform and its connected accounts: transfers and their reversals.

Sources: Stripe documentation, *Create separate charges and transfers* and *Cross-border payouts*; the refusals as in
*Error codes* or, where it is silent, as publicly reported.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from local_stripe.books import Books
from local_stripe.clock import DAY_S
from local_stripe.errors import RefusalError, balance_insufficient, missing
from local_stripe.permissions import PLATFORM_ACCOUNT
from local_stripe.records import (
    Account,
    BalanceTransaction,
    Charge,
    Refund,
    Reversal,
    Transfer,
)

# A day until a destination payment is usable: the sandbox knows no weekends and no countries' delays.
PAYMENT_PENDING_S = DAY_S
# Regions between which a United States platform may transfer under the full service agreement.
_REGION = frozenset(
    "AT BE BG CA CH CY CZ DE DK EE ES FI FR GB GR HR HU IE IS IT LI LT LU LV MT NL NO PL PT RO SE SI SK US".split()
)


@dataclass(frozen=True, slots=True)
class TransferOrder:
    """What a caller asks to be transferred; *amount* in minor units."""

    amount: int
    currency: str
    destination: str
    description: str | None = None
    transfer_group: str | None = None
    source_transaction: str | None = None
    source_type: str = "card"
    metadata: dict[str, str] = field(default_factory=dict)
    idempotency_key: str | None = None


def create_transfer(books: Books, account: str, order: TransferOrder) -> Transfer:
    """
    Move money from the platform's balance to a connected account; it has happened when this returns.

    Raises:
        RefusalError: The destination cannot receive it, or the funds do not suffice.
    """
    _check_destination(books, account, order.destination)
    charge = _source(books, account, order)
    if charge is None:
        funds = books.available(account, order.currency) if order.source_type == "card" else 0
        if funds < order.amount:
            raise balance_insufficient()
    return _enter_transfer(books, account, order, charge)


def reverse_transfer(
    books: Books, transfer: Transfer, amount: int | None, metadata: dict[str, str], idempotency_key: str | None
) -> Reversal:
    """
    Take back *amount* minor units of *transfer*, or all that is left of it.

    Raises:
        RefusalError: Nothing is left, less is left than asked for, or the connected account does not have it available.
            The last refusal's code is not documented; this one uses balance_insufficient.
    """
    left = transfer.amount - transfer.amount_reversed
    if left == 0:
        raise RefusalError(f"Transfer {transfer.id} has already been fully reversed.")
    amount = left if amount is None else amount
    if amount > left:
        raise RefusalError(
            f"The amount of the reversal ({amount}) is greater than the unreversed amount of the transfer ({left}).",
            param="amount",
        )
    if books.available(transfer.destination, transfer.currency) < amount and not books.switches.connected_reserves:
        raise RefusalError(
            f"The connected account {transfer.destination} has insufficient available funds to reverse this transfer.",
            code="balance_insufficient",
        )
    return _enter_reversal(books, transfer, amount, metadata, idempotency_key)


def _check_destination(books: Books, account: str, destination: str) -> None:
    if not books.switches.connect:
        raise RefusalError(
            "Only Stripe Connect platforms can work with other accounts. If you need to setup a Stripe Connect "
            "platform, you can do so at https://dashboard.stripe.com/account/applications/settings.",
            code="platform_account_required",
        )
    found = books.find(destination)
    # Only the platform has connected accounts; on behalf of any other there is no such destination either.
    if not isinstance(found, Account) or destination == PLATFORM_ACCOUNT or account != PLATFORM_ACCOUNT:
        raise missing("destination", destination, param="destination", status=400)
    if found.country not in _REGION and found.service_agreement == "full":
        raise RefusalError(
            f"Funds can't be sent to accounts located in {found.country} when the account is under the `full` service "
            "agreement."
        )
    if found.transfers != "active":
        raise RefusalError(
            "Your destination account needs to have at least one of the following capabilities enabled: transfers, "
            "crypto_transfers, legacy_payments",
            code="insufficient_capabilities_for_transfer",
        )


def _source(books: Books, account: str, order: TransferOrder) -> Charge | None:
    """Return the charge that funds the transfer, which must have enough left; None when the balance does."""
    if order.source_transaction is None:
        return None
    charge = books.find(order.source_transaction)
    if not isinstance(charge, Charge) or charge.account != account:
        raise missing("charge", order.source_transaction, param="source_transaction", status=400)
    if charge.currency != order.currency:
        raise RefusalError(
            f"The currency of source_transaction's balance transaction ({charge.currency}) must be the same as the "
            f"transfer currency ({order.currency})",
            param="currency",
        )
    taken = sum(
        transfer.amount - transfer.amount_reversed
        for transfer in books.transfers
        if transfer.source_transaction == charge.id
    )
    if taken + order.amount > charge.amount:
        raise RefusalError(
            f"The transfer amount exceeds what is left of the source_transaction ({charge.amount - taken}).",
            param="amount",
        )
    return charge


def _enter_transfer(books: Books, account: str, order: TransferOrder, charge: Charge | None) -> Transfer:
    now_s = books.now_s
    transfer_id, payment_id = books.ids.take("tr"), books.ids.take("py")
    ready = _available_on(books, charge)
    paid = books.enter(
        account,
        "transfer",
        -order.amount,
        order.currency,
        transfer_id,
        created=now_s,
        available_on=max(now_s, ready),
        description=order.description,
    )
    received = books.enter(
        order.destination,
        "payment",
        order.amount,
        order.currency,
        payment_id,
        created=now_s,
        available_on=max(ready, now_s + (PAYMENT_PENDING_S if charge is None else 0)),
    )
    books.add(
        Charge(
            payment_id,
            order.destination,
            order.amount,
            order.currency,
            now_s,
            received.id,
            source_transfer=transfer_id,
        )
    )
    return books.add(
        Transfer(
            transfer_id,
            account,
            order.amount,
            order.currency,
            order.destination,
            now_s,
            paid.id,
            payment_id,
            description=order.description,
            transfer_group=_group(order, charge),
            source_transaction=order.source_transaction,
            source_type=order.source_type,
            metadata=dict(order.metadata),
            idempotency_key=order.idempotency_key,
        )
    )


def _available_on(books: Books, charge: Charge | None) -> int:
    if charge is None:
        return 0
    line = books.get(BalanceTransaction, charge.balance_transaction, charge.account)
    return line.available_on


def _group(order: TransferOrder, charge: Charge | None) -> str | None:
    if order.transfer_group is not None or charge is None:
        return order.transfer_group
    return charge.transfer_group or f"group_{charge.payment_intent or charge.id}"


def _enter_reversal(
    books: Books, transfer: Transfer, amount: int, metadata: dict[str, str], idempotency_key: str | None
) -> Reversal:
    now_s, currency = books.now_s, transfer.currency
    reversal_id, refund_id = books.ids.take("trr"), books.ids.take("pyr")
    back = books.enter(transfer.account, "transfer_refund", amount, currency, reversal_id, created=now_s)
    gone = books.enter(transfer.destination, "payment_refund", -amount, currency, refund_id, created=now_s)
    charge = books.get(Charge, transfer.destination_payment, transfer.destination)
    charge.amount_refunded += amount
    transfer.amount_reversed += amount
    books.add(Refund(refund_id, transfer.destination, amount, currency, charge.id, now_s, gone.id, reversal_id))
    return books.add(
        Reversal(
            reversal_id,
            transfer.account,
            amount,
            currency,
            transfer.id,
            now_s,
            back.id,
            refund_id,
            dict(metadata),
            idempotency_key,
        )
    )
