"""The two directions of money and their tables: a payout makes a transfer, a reversal takes money of one back."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from manual_payout.database.schema import attempts, manual_payouts, manual_reversals, reversal_attempts
from manual_payout.database.store.rows import record_of
from manual_payout.domain.models import PayoutRecord, R, Record, ReversalRecord


@dataclass(frozen=True, slots=True)
class Shape:
    """
    Where one direction is kept.

    Attributes:
        key: Names the row: the id of its line.

        made: The id of what Stripe made of it.

        text: What Stripe made of it, as JSON text.

        told: The column that an intent tells of besides: where the money goes, or comes from.
    """

    table: sa.Table
    attempts: sa.Table
    key: sa.Column[str]
    made: sa.Column[str | None]
    text: sa.Column[str | None]
    told: sa.Column[str]

    def key_of(self, record: Record) -> sa.ColumnElement[bool]:
        """The condition that finds the row of *record*."""
        return self.key == record.line_id

    def present(self, connection: sa.Connection, record: R) -> R:
        """Read the row of *record* as it is now."""
        return record_of(type(record), connection.execute(sa.select(self.table).where(self.key_of(record))).one())


_SHAPES: dict[type[Record], Shape] = {
    PayoutRecord: Shape(
        manual_payouts, attempts, manual_payouts.c.payout_id, manual_payouts.c.stripe_transfer_id,
        manual_payouts.c.transfer, manual_payouts.c.transfer_group,
    ),
    ReversalRecord: Shape(
        manual_reversals, reversal_attempts, manual_reversals.c.reversal_id, manual_reversals.c.stripe_reversal_id,
        manual_reversals.c.reversal, manual_reversals.c.stripe_transfer_id,
    ),
}  # fmt: skip


def shape_of(record: Record) -> Shape:
    """Say where *record* is kept."""
    return _SHAPES[type(record)]
