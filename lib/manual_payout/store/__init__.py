"""
Our state: requests, approvals, payout records, attempts, the journal and the outbox.

Every method that writes is one transaction, and the event that tells of the change is in it. No transaction is ever
open while Stripe is called. Whoever writes about a payout first takes the lock of its journal and only then looks at
the clock, so that a process that was frozen judges by the present and not by the instant at which it fell asleep.
"""

from __future__ import annotations

from manual_payout.store.messages import JournalAndOutbox
from manual_payout.store.payouts import PayoutRecords
from manual_payout.store.requests import RequestsAndApprovals
from manual_payout.store.sending import Sendings

__all__ = ["Store"]


class Store(RequestsAndApprovals, Sendings, PayoutRecords, JournalAndOutbox):
    """
    Our database.

    Args:
        engine: Of our own tables, migrated.

        clock: Whose instants are recorded.
    """
