"""The tables of the first release."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from manual_payout.database.schema import append_only_triggers

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "events",
        sa.Column("stream", sa.Text(), nullable=False),
        sa.Column("seq", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.Column("previous", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("stream", "seq", name=op.f("pk_events")),
    )
    op.create_index("ix_events_kind_at", "events", ["kind", "at"], unique=False)
    op.create_table(
        "requests",
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("incident_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("platform_account", sa.Text(), nullable=False),
        sa.Column("requested_by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("notes", sa.Text(), nullable=False),
        sa.Column("nonce", sa.Text(), nullable=False),
        sa.Column("filed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("request_id", name=op.f("pk_requests")),
        sa.UniqueConstraint("digest", name=op.f("uq_requests_digest")),
        sa.UniqueConstraint("nonce", name=op.f("uq_requests_nonce")),
    )
    op.create_index(op.f("ix_requests_incident_id"), "requests", ["incident_id"], unique=False)
    op.create_table(
        "approvals",
        sa.Column("approval_id", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("request_digest", sa.Text(), nullable=False),
        sa.Column("approver_id", sa.Text(), nullable=False),
        sa.Column("team", sa.Text(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("platform_account", sa.Text(), nullable=False),
        sa.Column("nonce", sa.Text(), nullable=False),
        sa.Column("approved_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("statement_digest", sa.Text(), nullable=False),
        sa.Column("signature", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["request_id"], ["requests.request_id"], name=op.f("fk_approvals_request_id")),
        sa.PrimaryKeyConstraint("approval_id", name=op.f("pk_approvals")),
        sa.UniqueConstraint("nonce", name=op.f("uq_approvals_nonce")),
    )
    op.create_index(op.f("ix_approvals_request_id"), "approvals", ["request_id"], unique=False)
    op.create_table(
        "request_lines",
        sa.Column("line_id", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("line_no", sa.Integer(), nullable=False),
        sa.Column("studio_id", sa.Text(), nullable=False),
        sa.Column("studio_name", sa.Text(), nullable=False),
        sa.Column("ledger_payout_id", sa.Text(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("reserve_after_minor", sa.BigInteger(), nullable=False),
        sa.Column("destination_account", sa.Text(), nullable=False),
        sa.CheckConstraint("amount_minor > 0", name=op.f("ck_request_lines_amount_is_positive")),
        sa.CheckConstraint("reserve_after_minor >= 0", name=op.f("ck_request_lines_reserve_is_not_negative")),
        sa.ForeignKeyConstraint(["request_id"], ["requests.request_id"], name=op.f("fk_request_lines_request_id")),
        sa.PrimaryKeyConstraint("line_id", name=op.f("pk_request_lines")),
        sa.UniqueConstraint("request_id", "line_no", name=op.f("uq_request_lines_request_id_line_no")),
    )
    op.create_index(op.f("ix_request_lines_ledger_payout_id"), "request_lines", ["ledger_payout_id"], unique=False)
    op.create_table(
        "manual_payouts",
        sa.Column("payout_id", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("incident_id", sa.Text(), nullable=False),
        sa.Column("ledger_payout_id", sa.Text(), nullable=False),
        sa.Column("studio_id", sa.Text(), nullable=False),
        sa.Column("studio_name", sa.Text(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("reserve_after_minor", sa.BigInteger(), nullable=False),
        sa.Column("destination_account", sa.Text(), nullable=False),
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
        sa.Column("transfer_group", sa.Text(), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), server_default="", nullable=False),
        sa.Column("fence", sa.Integer(), server_default="0", nullable=False),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("sent", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("first_sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("stripe_transfer_id", sa.Text(), nullable=True),
        sa.Column("transfer", sa.Text(), nullable=True),
        sa.Column("outcome_reason", sa.Text(), nullable=True),
        sa.Column("outcome_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("logged_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("settlement_rung", sa.Text(), nullable=True),
        sa.Column("settled_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state <> 'paid' OR stripe_transfer_id IS NOT NULL", name=op.f("ck_manual_payouts_paid_names_its_transfer")
        ),
        sa.CheckConstraint(
            "state IN ('submitting', 'paid', 'refused', 'unknown', 'needs_human', 'reversed', 'partly_reversed')",
            name=op.f("ck_manual_payouts_state_is_known"),
        ),
        sa.CheckConstraint("amount_minor > 0", name=op.f("ck_manual_payouts_amount_is_positive")),
        sa.ForeignKeyConstraint(["payout_id"], ["request_lines.line_id"], name=op.f("fk_manual_payouts_payout_id")),
        sa.ForeignKeyConstraint(["request_id"], ["requests.request_id"], name=op.f("fk_manual_payouts_request_id")),
        sa.PrimaryKeyConstraint("payout_id", name=op.f("pk_manual_payouts")),
        sa.UniqueConstraint("approval_finance", name=op.f("uq_manual_payouts_approval_finance")),
        sa.UniqueConstraint("approval_payments_ops", name=op.f("uq_manual_payouts_approval_payments_ops")),
        sa.UniqueConstraint("idempotency_key", name=op.f("uq_manual_payouts_idempotency_key")),
        sa.UniqueConstraint("stripe_transfer_id", name=op.f("uq_manual_payouts_stripe_transfer_id")),
    )
    op.create_index(op.f("ix_manual_payouts_incident_id"), "manual_payouts", ["incident_id"], unique=False)
    op.create_index(op.f("ix_manual_payouts_ledger_payout_id"), "manual_payouts", ["ledger_payout_id"], unique=False)
    op.create_index(op.f("ix_manual_payouts_studio_id"), "manual_payouts", ["studio_id"], unique=False)
    op.create_index(
        "uq_manual_payouts_live",
        "manual_payouts",
        ["mode", "ledger_payout_id"],
        unique=True,
        sqlite_where=sa.text("state IN ('submitting', 'paid', 'unknown', 'needs_human', 'partly_reversed')"),
        postgresql_where=sa.text("state IN ('submitting', 'paid', 'unknown', 'needs_human', 'partly_reversed')"),
    )
    op.create_table(
        "attempts",
        sa.Column("idempotency_key", sa.Text(), nullable=False),
        sa.Column("payout_id", sa.Text(), nullable=False),
        sa.Column("attempt_no", sa.Integer(), nullable=False),
        sa.Column("operator_id", sa.Text(), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("outcome_code", sa.Text(), nullable=True),
        sa.Column("outcome_message", sa.Text(), nullable=True),
        sa.Column("stripe_request_id", sa.Text(), nullable=True),
        sa.Column("outcome_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["payout_id"], ["manual_payouts.payout_id"], name=op.f("fk_attempts_payout_id")),
        sa.PrimaryKeyConstraint("idempotency_key", name=op.f("pk_attempts")),
        sa.UniqueConstraint("payout_id", "attempt_no", name=op.f("uq_attempts_payout_id_attempt_no")),
    )
    op.create_table(
        "messages",
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("stream", sa.Text(), nullable=False),
        sa.Column("payout_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("audience", sa.Text(), nullable=False),
        sa.Column("dedup_key", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("body_text", sa.Text(), nullable=False),
        sa.Column("body_html", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["payout_id"], ["manual_payouts.payout_id"], name=op.f("fk_messages_payout_id")),
        sa.PrimaryKeyConstraint("message_id", name=op.f("pk_messages")),
        sa.UniqueConstraint("dedup_key", name=op.f("uq_messages_dedup_key")),
    )
    op.create_index(op.f("ix_messages_payout_id"), "messages", ["payout_id"], unique=False)
    op.create_index(op.f("ix_messages_state"), "messages", ["state"], unique=False)
    for statement in append_only_triggers(op.get_bind().dialect.name):
        op.execute(sa.text(statement))


def downgrade() -> None:
    raise RuntimeError("Evidence is not migrated backwards: restore the backup instead.")
