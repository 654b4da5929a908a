"""
Our state: requests, approvals, payout records, attempts, the journal and the outbox.

Every method that writes is one transaction, and the event that tells of the change is in it. No transaction is ever
open while Stripe is called. Whoever writes about a payout first takes the lock of its journal and only then looks at
the clock, so that a process that was frozen judges by the present and not by the instant at which it fell asleep.
"""

from __future__ import annotations

from manual_payout.database.store.adopting import Adoptions
from manual_payout.database.store.alerting import AlertRound, Alerts
from manual_payout.database.store.announcing import (
    NEWS,
    REVERSED,
    SEALED,
    SENT,
    channel_of,
    is_announced,
    message_id,
    message_key,
)
from manual_payout.database.store.events import Journal
from manual_payout.database.store.looking import Watching
from manual_payout.database.store.outbox import Outbox
from manual_payout.database.store.payouts import PayoutRecords
from manual_payout.database.store.requests import RequestsAndApprovals
from manual_payout.database.store.watched import Watched

__all__ = [
    "NEWS",
    "REVERSED",
    "SEALED",
    "SENT",
    "AlertRound",
    "Store",
    "channel_of",
    "is_announced",
    "message_id",
    "message_key",
]


class Store(RequestsAndApprovals, Adoptions, PayoutRecords, Watching, Watched, Alerts, Outbox, Journal):
    """
    Our database.

    Args:
        engine: Of our own tables, migrated.

        clock: Whose instants are recorded.
    """
