"""Every table of ours, as the first release makes them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from manual_payout.database.schema import append_only_triggers

revision = "0009"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
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
        sa.PrimaryKeyConstraint("mode", "rule", "subject", name="pk_alerts"),
    )
    op.create_index("ix_alerts_mode_resolved_at", "alerts", ["mode", "resolved_at"], unique=False)
    op.create_table(
        "database_machine",
        sa.Column("only_row", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.CheckConstraint("only_row = 1", name="only_row"),
        sa.PrimaryKeyConstraint("only_row", name="pk_database_machine"),
    )
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
        sa.PrimaryKeyConstraint("stream", "seq", name="pk_events"),
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
        sa.Column("replaces", sa.Text(), server_default="", nullable=False),
        sa.Column("signature", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("request_id", name="pk_requests"),
        sa.UniqueConstraint("digest", name="uq_requests_digest"),
        sa.UniqueConstraint("nonce", name="uq_requests_nonce"),
    )
    op.create_index("ix_requests_expires_at", "requests", ["expires_at"], unique=False)
    op.create_index("ix_requests_incident_id", "requests", ["incident_id"], unique=False)
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
        sa.Column("signed_text", sa.Text(), server_default="", nullable=False),
        sa.Column("facts", sa.Text(), server_default="", nullable=False),
        sa.Column("rules_digest", sa.Text(), server_default="", nullable=False),
        sa.Column("registry_digest", sa.Text(), server_default="", nullable=False),
        sa.ForeignKeyConstraint(["request_id"], ["requests.request_id"], name="fk_approvals_request_id"),
        sa.PrimaryKeyConstraint("approval_id", name="pk_approvals"),
        sa.UniqueConstraint("nonce", name="uq_approvals_nonce"),
    )
    op.create_index("ix_approvals_request_id", "approvals", ["request_id"], unique=False)
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
        sa.Column("stripe_transfer_id", sa.Text(), server_default="", nullable=False),
        sa.Column("reversed_before_minor", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("acknowledged_transfers", sa.Text(), server_default="", nullable=False),
        sa.CheckConstraint("amount_minor > 0", name="amount_is_positive"),
        sa.CheckConstraint("reserve_after_minor >= 0", name="reserve_is_not_negative"),
        sa.ForeignKeyConstraint(["request_id"], ["requests.request_id"], name="fk_request_lines_request_id"),
        sa.PrimaryKeyConstraint("line_id", name="pk_request_lines"),
        sa.UniqueConstraint("request_id", "line_no", name="uq_request_lines_request_id_line_no"),
    )
    op.create_index("ix_request_lines_ledger_payout_id", "request_lines", ["ledger_payout_id"], unique=False)
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
        sa.CheckConstraint("state <> 'paid' OR stripe_transfer_id IS NOT NULL", name="paid_names_its_transfer"),
        sa.CheckConstraint(
            "state IN ('submitting', 'paid', 'refused', 'unknown', 'needs_human', 'reversed', 'partly_reversed')",
            name="state_is_known",
        ),
        sa.CheckConstraint("amount_minor > 0", name="amount_is_positive"),
        sa.ForeignKeyConstraint(["payout_id"], ["request_lines.line_id"], name="fk_manual_payouts_payout_id"),
        sa.ForeignKeyConstraint(["request_id"], ["requests.request_id"], name="fk_manual_payouts_request_id"),
        sa.PrimaryKeyConstraint("payout_id", name="pk_manual_payouts"),
        sa.UniqueConstraint("approval_finance", name="uq_manual_payouts_approval_finance"),
        sa.UniqueConstraint("approval_payments_ops", name="uq_manual_payouts_approval_payments_ops"),
        sa.UniqueConstraint("idempotency_key", name="uq_manual_payouts_idempotency_key"),
        sa.UniqueConstraint("stripe_transfer_id", name="uq_manual_payouts_stripe_transfer_id"),
    )
    op.create_index("ix_manual_payouts_incident_id", "manual_payouts", ["incident_id"], unique=False)
    op.create_index("ix_manual_payouts_ledger_payout_id", "manual_payouts", ["ledger_payout_id"], unique=False)
    op.create_index("ix_manual_payouts_mode_settled_at", "manual_payouts", ["mode", "settled_at"], unique=False)
    op.create_index(
        "ix_manual_payouts_recent", "manual_payouts", ["mode", "created_at", "state", "studio_id"], unique=False
    )
    op.create_index("ix_manual_payouts_request_id", "manual_payouts", ["request_id"], unique=False)
    op.create_index("ix_manual_payouts_studio_id", "manual_payouts", ["studio_id"], unique=False)
    op.create_index(
        "ix_manual_payouts_unfinished",
        "manual_payouts",
        ["mode", "created_at"],
        unique=False,
        sqlite_where=sa.text("state IN ('submitting', 'unknown', 'needs_human')"),
        postgresql_where=sa.text("state IN ('submitting', 'unknown', 'needs_human')"),
    )
    op.create_index(
        "ix_manual_payouts_unsettled",
        "manual_payouts",
        ["mode", "outcome_at"],
        unique=False,
        sqlite_where=sa.text("state IN ('paid', 'partly_reversed') AND settled_at IS NULL"),
        postgresql_where=sa.text("state IN ('paid', 'partly_reversed') AND settled_at IS NULL"),
    )
    op.create_index(
        "uq_manual_payouts_live",
        "manual_payouts",
        ["mode", "ledger_payout_id"],
        unique=True,
        sqlite_where=sa.text("state IN ('submitting', 'paid', 'unknown', 'needs_human', 'partly_reversed')"),
        postgresql_where=sa.text("state IN ('submitting', 'paid', 'unknown', 'needs_human', 'partly_reversed')"),
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
        sa.CheckConstraint("state <> 'reversed' OR stripe_reversal_id IS NOT NULL", name="reversed_names_its_reversal"),
        sa.CheckConstraint(
            "state IN ('submitting', 'reversed', 'refused', 'unknown', 'needs_human')", name="state_is_known"
        ),
        sa.CheckConstraint("amount_minor > 0", name="amount_is_positive"),
        sa.ForeignKeyConstraint(["request_id"], ["requests.request_id"], name="fk_manual_reversals_request_id"),
        sa.ForeignKeyConstraint(["reversal_id"], ["request_lines.line_id"], name="fk_manual_reversals_reversal_id"),
        sa.PrimaryKeyConstraint("reversal_id", name="pk_manual_reversals"),
        sa.UniqueConstraint("approval_finance", name="uq_manual_reversals_approval_finance"),
        sa.UniqueConstraint("approval_payments_ops", name="uq_manual_reversals_approval_payments_ops"),
        sa.UniqueConstraint("idempotency_key", name="uq_manual_reversals_idempotency_key"),
        sa.UniqueConstraint("stripe_reversal_id", name="uq_manual_reversals_stripe_reversal_id"),
    )
    op.create_index("ix_manual_reversals_incident_id", "manual_reversals", ["incident_id"], unique=False)
    op.create_index("ix_manual_reversals_ledger_payout_id", "manual_reversals", ["ledger_payout_id"], unique=False)
    op.create_index("ix_manual_reversals_recent", "manual_reversals", ["mode", "created_at"], unique=False)
    op.create_index("ix_manual_reversals_request_id", "manual_reversals", ["request_id"], unique=False)
    op.create_index("ix_manual_reversals_stripe_transfer_id", "manual_reversals", ["stripe_transfer_id"], unique=False)
    op.create_index(
        "ix_manual_reversals_unfinished",
        "manual_reversals",
        ["mode", "created_at"],
        unique=False,
        sqlite_where=sa.text("state IN ('submitting', 'unknown', 'needs_human')"),
        postgresql_where=sa.text("state IN ('submitting', 'unknown', 'needs_human')"),
    )
    op.create_index(
        "uq_manual_reversals_open",
        "manual_reversals",
        ["stripe_transfer_id"],
        unique=True,
        sqlite_where=sa.text("state IN ('submitting', 'unknown', 'needs_human')"),
        postgresql_where=sa.text("state IN ('submitting', 'unknown', 'needs_human')"),
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
        sa.ForeignKeyConstraint(["payout_id"], ["manual_payouts.payout_id"], name="fk_attempts_payout_id"),
        sa.PrimaryKeyConstraint("idempotency_key", name="pk_attempts"),
        sa.UniqueConstraint("payout_id", "attempt_no", name="uq_attempts_payout_id_attempt_no"),
    )
    op.create_table(
        "messages",
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("stream", sa.Text(), nullable=False),
        sa.Column("payout_id", sa.Text(), nullable=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("audience", sa.Text(), nullable=False),
        sa.Column("dedup_key", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("body_text", sa.Text(), nullable=False),
        sa.Column("body_html", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("body_json", sa.Text(), server_default="", nullable=False),
        sa.Column("tries", sa.Integer(), server_default="0", nullable=False),
        sa.Column("handed_over_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("repeats", sa.Integer(), server_default="0", nullable=False),
        sa.Column("owner", sa.Text(), server_default="", nullable=False),
        sa.Column("fence", sa.Integer(), server_default="0", nullable=False),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_error", sa.Text(), server_default="", nullable=False),
        sa.Column("receipt", sa.Text(), server_default="", nullable=False),
        sa.Column("delivered_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["payout_id"], ["manual_payouts.payout_id"], name="fk_messages_payout_id"),
        sa.PrimaryKeyConstraint("message_id", name="pk_messages"),
        sa.UniqueConstraint("dedup_key", name="uq_messages_dedup_key"),
    )
    op.create_index("ix_messages_payout_id", "messages", ["payout_id"], unique=False)
    op.create_index("ix_messages_state", "messages", ["state"], unique=False)
    op.create_index(
        "ix_messages_unsent",
        "messages",
        ["created_at"],
        unique=False,
        sqlite_where=sa.text("state NOT IN ('delivered', 'copied')"),
        postgresql_where=sa.text("state NOT IN ('delivered', 'copied')"),
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
            ["reversal_id"], ["manual_reversals.reversal_id"], name="fk_reversal_attempts_reversal_id"
        ),
        sa.PrimaryKeyConstraint("idempotency_key", name="pk_reversal_attempts"),
        sa.UniqueConstraint("reversal_id", "attempt_no", name="uq_reversal_attempts_reversal_id_attempt_no"),
    )
    op.create_table(
        "settlement_watch",
        sa.Column("payout_id", sa.Text(), nullable=False),
        sa.Column("looks", sa.Integer(), nullable=False),
        sa.Column("looked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("next_look_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["payout_id"], ["manual_payouts.payout_id"], name="fk_settlement_watch_payout_id"),
        sa.PrimaryKeyConstraint("payout_id", name="pk_settlement_watch"),
    )
    for statement in append_only_triggers(op.get_bind().dialect.name):
        op.execute(sa.text(statement))


def downgrade() -> None:
    raise RuntimeError("Evidence is not migrated backwards: restore the backup instead.")
