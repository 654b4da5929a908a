"""Reversals: asked for like payouts, sent like payouts, kept in tables of their own."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_OPEN = sa.text("state IN ('submitting', 'unknown', 'needs_human')")


def upgrade() -> None:
    op.add_column("request_lines", sa.Column("stripe_transfer_id", sa.Text(), server_default="", nullable=False))
    op.add_column(
        "request_lines", sa.Column("reversed_before_minor", sa.BigInteger(), server_default="0", nullable=False)
    )
    op.create_table(
        "manual_reversals",
        sa.Column("reversal_id", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("incident_id", sa.Text(), nullable=False),
        sa.Column("ledger_payout_id", sa.Text(), nullable=False),
        sa.Column("studio_id", sa.Text(), nullable=False),
        sa.Column("studio_name", sa.Text(), nullable=False),
        sa.Column("stripe_transfer_id", sa.Text(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("destination_account", sa.Text(), nullable=False),
        sa.Column("reversed_before_minor", sa.BigInteger(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("notes", sa.Text(), nullable=False),
        sa.Column("requested_by", sa.Text(), nullable=False),
        sa.Column("approved_by_payments_ops", sa.Text(), nullable=False),
        sa.Column("approved_by_finance", sa.Text(), nullable=False),
        sa.Column("approval_payments_ops", sa.Text(), nullable=False),
        sa.Column("approval_finance", sa.Text(), nullable=False),
        sa.Column("operator_id", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempt_no", sa.Integer(), nullable=False),
        sa.Column("idempotency_key", sa.Text(), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("sent", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("first_sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("stripe_reversal_id", sa.Text(), nullable=True),
        sa.Column("reversal", sa.Text(), nullable=True),
        sa.Column("outcome_reason", sa.Text(), nullable=True),
        sa.Column("outcome_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("amount_minor > 0", name=op.f("ck_manual_reversals_amount_is_positive")),
        sa.CheckConstraint(
            "state IN ('submitting', 'reversed', 'refused', 'unknown', 'needs_human')",
            name=op.f("ck_manual_reversals_state_is_known"),
        ),
        sa.CheckConstraint(
            "state <> 'reversed' OR stripe_reversal_id IS NOT NULL",
            name=op.f("ck_manual_reversals_reversed_names_its_reversal"),
        ),
        sa.ForeignKeyConstraint(
            ["reversal_id"], ["request_lines.line_id"], name=op.f("fk_manual_reversals_reversal_id")
        ),
        sa.ForeignKeyConstraint(["request_id"], ["requests.request_id"], name=op.f("fk_manual_reversals_request_id")),
        sa.PrimaryKeyConstraint("reversal_id", name=op.f("pk_manual_reversals")),
        sa.UniqueConstraint("approval_finance", name=op.f("uq_manual_reversals_approval_finance")),
        sa.UniqueConstraint("approval_payments_ops", name=op.f("uq_manual_reversals_approval_payments_ops")),
        sa.UniqueConstraint("idempotency_key", name=op.f("uq_manual_reversals_idempotency_key")),
        sa.UniqueConstraint("stripe_reversal_id", name=op.f("uq_manual_reversals_stripe_reversal_id")),
    )
    for column in ("incident_id", "ledger_payout_id", "stripe_transfer_id"):
        op.create_index(op.f(f"ix_manual_reversals_{column}"), "manual_reversals", [column], unique=False)
    op.create_index(
        "uq_manual_reversals_open",
        "manual_reversals",
        ["stripe_transfer_id"],
        unique=True,
        sqlite_where=_OPEN,
        postgresql_where=_OPEN,
    )
    op.create_table(
        "reversal_attempts",
        sa.Column("idempotency_key", sa.Text(), nullable=False),
        sa.Column("reversal_id", sa.Text(), nullable=False),
        sa.Column("attempt_no", sa.Integer(), nullable=False),
        sa.Column("operator_id", sa.Text(), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("outcome_code", sa.Text(), nullable=True),
        sa.Column("outcome_message", sa.Text(), nullable=True),
        sa.Column("stripe_request_id", sa.Text(), nullable=True),
        sa.Column("outcome_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["reversal_id"], ["manual_reversals.reversal_id"], name=op.f("fk_reversal_attempts_reversal_id")
        ),
        sa.PrimaryKeyConstraint("idempotency_key", name=op.f("pk_reversal_attempts")),
        sa.UniqueConstraint("reversal_id", "attempt_no", name=op.f("uq_reversal_attempts_reversal_id_attempt_no")),
    )


def downgrade() -> None:
    raise RuntimeError("Evidence is not migrated backwards: restore the backup instead.")
