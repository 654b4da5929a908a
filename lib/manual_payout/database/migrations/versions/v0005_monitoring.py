"""Monitoring: what is firing, who is looked at when, and an index for every question that is asked again and again."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_OPEN = "state IN ('submitting', 'unknown', 'needs_human')"
_UNSETTLED = "state = 'paid' AND settled_at IS NULL"
_UNSENT = "state NOT IN ('delivered', 'copied')"


def upgrade() -> None:
    op.create_table(
        "settlement_watch",
        sa.Column("payout_id", sa.Text(), nullable=False),
        sa.Column("looks", sa.Integer(), nullable=False),
        sa.Column("looked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("next_look_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["payout_id"], ["manual_payouts.payout_id"], name=op.f("fk_settlement_watch_payout_id")
        ),
        sa.PrimaryKeyConstraint("payout_id", name=op.f("pk_settlement_watch")),
    )
    op.create_table(
        "alerts",
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("severity", sa.Text(), nullable=False),
        sa.Column("summary", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("episode", sa.Integer(), nullable=False),
        sa.Column("raised_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("resolved_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("mode", "rule", "subject", name=op.f("pk_alerts")),
    )
    _index("ix_alerts_mode_resolved_at", "alerts", ["mode", "resolved_at"])
    _index("ix_manual_payouts_unfinished", "manual_payouts", ["mode", "created_at"], _OPEN)
    _index("ix_manual_payouts_unsettled", "manual_payouts", ["mode", "outcome_at"], _UNSETTLED)
    _index("ix_manual_payouts_recent", "manual_payouts", ["mode", "created_at", "state", "studio_id"])
    _index("ix_manual_payouts_mode_settled_at", "manual_payouts", ["mode", "settled_at"])
    _index("ix_manual_payouts_request_id", "manual_payouts", ["request_id"])
    _index("ix_manual_reversals_unfinished", "manual_reversals", ["mode", "created_at"], _OPEN)
    _index("ix_manual_reversals_recent", "manual_reversals", ["mode", "created_at"])
    _index("ix_manual_reversals_request_id", "manual_reversals", ["request_id"])
    _index("ix_messages_unsent", "messages", ["created_at"], _UNSENT)
    _index("ix_requests_expires_at", "requests", ["expires_at"])


def downgrade() -> None:
    raise RuntimeError("Evidence is not migrated backwards: restore the backup instead.")


def _index(name: str, table: str, columns: list[str], where: str = "") -> None:
    condition: dict[str, Any] = {"sqlite_where": sa.text(where), "postgresql_where": sa.text(where)} if where else {}
    op.create_index(name, table, columns, unique=False, **condition)
