"""
How money gets onto the platform: test card payments, available at once or after some days.

Source: Stripe documentation, *Testing Stripe Connect* and *Testing* (the card that bypasses the pending balance).
"""

from __future__ import annotations

from local_stripe.books import Books
from local_stripe.clock import DAY_S
from local_stripe.records import Charge, PaymentIntent

# A platform's card charge stays pending for two days, except for the card that bypasses this.
CHARGE_PENDING_S = 2 * DAY_S
BYPASS_PENDING = frozenset({"pm_card_bypassPending", "pm_card_bypassPendingInternational"})


def confirm_payment(
    books: Books,
    account: str,
    amount: int,
    currency: str,
    payment_method: str,
    *,
    description: str | None,
    transfer_group: str | None,
    metadata: dict[str, str],
) -> PaymentIntent:
    """Take a test card payment into the balance of *account*, less Stripe's fee; pending unless the card bypasses."""
    now_s = books.now_s
    charge_id, intent_id = books.ids.take("ch"), books.ids.take("pi")
    line = books.enter(
        account,
        "charge",
        amount,
        currency,
        charge_id,
        created=now_s,
        available_on=now_s + (0 if payment_method in BYPASS_PENDING else CHARGE_PENDING_S),
        fee=card_fee(amount),
        description=description,
    )
    books.add(
        Charge(
            charge_id,
            account,
            amount,
            currency,
            now_s,
            line.id,
            description=description,
            payment_intent=intent_id,
            payment_method=payment_method,
            transfer_group=transfer_group,
            metadata=dict(metadata),
        )
    )
    return books.add(
        PaymentIntent(
            intent_id,
            account,
            amount,
            currency,
            now_s,
            payment_method,
            charge_id,
            description,
            transfer_group,
            dict(metadata),
        )
    )


def card_fee(amount: int) -> int:
    """Return the fee on a card payment in minor units: 2.9 % and 30, and never more than the payment."""
    return min(amount, (amount * 29 + 500) // 1000 + 30)
