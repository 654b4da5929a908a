"""The whole sandbox as one document, for a test in another process or a curious person."""

from __future__ import annotations

from dataclasses import asdict

from local_stripe.errors import Json
from local_stripe.permissions import PLATFORM_ACCOUNT
from local_stripe.records import Charge
from local_stripe.server import Front
from local_stripe.settlement import catch_up


def dump(front: Front) -> Json:
    """Show everything that the sandbox holds, as one JSON document."""
    books = front.books
    with books.lock:
        catch_up(books)
        return {
            "now": str(books.clock),
            "accounts": [asdict(account) for account in books.accounts],
            "balances": {
                account: dict(zip(("available", "pending"), books.balance(account), strict=True))
                for account in [PLATFORM_ACCOUNT, *(account.id for account in books.accounts)]
            },
            "transfers": [{**asdict(item), "reversed": item.reversed} for item in books.transfers],
            "reversals": [asdict(item) for item in books.reversals],
            "payouts": [asdict(item) for item in books.payouts],
            "balance_transactions": [asdict(item) for item in books.balance_transactions],
            "charges": [asdict(item) for item in books.all(Charge)],
            "idempotency_keys": len(front.keys),
            "faults_waiting": len(front.faults),
            "requests": [asdict(item) for item in front.requests],
        }
