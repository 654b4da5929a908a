"""
The demo's automation: what recovers while somebody pays by hand.

It honours the claim as a real one must: it takes a payout in one update whose condition excludes a claimed one.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Engine, select, update

from payout_rehearsal.demo import incident
from payout_rehearsal.demo.ledger import balances_table, payouts_table

_PAYABLE = ("failed", "scheduled")


def attempt(engine: Engine, ledger_payout_id: str, at: datetime) -> bool:
    """Pay one payout in the ledger unless it is claimed or paid; say whether this call paid it."""
    due = payouts_table.c
    statement = (
        update(payouts_table)
        .where(due.ledger_payout_id == ledger_payout_id, due.status.in_(_PAYABLE))
        .values(status="paid", paid_at=at)
    )
    with engine.begin() as connection:
        return connection.execute(statement).rowcount == 1


def pay_next_failed(engine: Engine, at: datetime) -> str | None:
    """Pay the failed payout that is due longest; return its id, or None where nothing is left to pay."""
    due = payouts_table.c
    oldest = (
        select(due.ledger_payout_id).where(due.status == "failed").order_by(due.due_at, due.ledger_payout_id).limit(1)
    )
    # Another may be faster each time; then the next oldest is tried.
    while True:
        with engine.connect() as connection:
            candidate = connection.scalar(oldest)
        if candidate is None or attempt(engine, candidate, at):
            return candidate


class NightlyJob:
    """
    What computes the demo's balances once a day, as a marketplace's does, by the sandbox's clock.

    A balance whose time somebody has set by hand is theirs and stays.

    Args:
        engine: The ledger's.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._ran_at = datetime.fromisoformat(incident.NOW)
        # Left by an earlier sandbox, whose clock had gone further than this one's has.
        self._compute(balances_table.c.as_of > self._ran_at, self._ran_at)

    def __call__(self, now: str) -> None:
        """Be told that it is *now*, RFC 3339; a day after the last run, run again."""
        at = datetime.fromisoformat(now)
        if at >= self._ran_at + timedelta(days=1):
            self._compute(balances_table.c.as_of == self._ran_at, at)
            self._ran_at = at

    def _compute(self, which: ColumnElement[bool], at: datetime) -> None:
        with self._engine.execution_options(write=True).begin() as connection:
            connection.execute(update(balances_table).where(which).values(as_of=at))
