"""
Our tables. The same on SQLite and PostgreSQL; made and changed only by the migrations beside this file.

``requests``, ``request_lines``, ``approvals`` and ``events`` are append-only: triggers refuse to change or delete a row.
``manual_payouts`` holds the one live row per ledger payout, by a partial unique index.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from manual_payout.domain.models import LIVE_STATES, OPEN_STATES, MessageState, State

# The newest migration; a database that is at another one is not used.
HEAD = "0009"

APPEND_ONLY = ("requests", "request_lines", "approvals", "events")


class UtcInstant(sa.TypeDecorator[datetime]):
    """An aware instant in UTC on every database; SQLite has no time zones and stores what it is given."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:  # noqa: ARG002
        """Refuse an instant without a zone."""
        if value is None:
            return None
        if value.utcoffset() is None:
            raise TypeError("Bug: an instant without a time zone")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:  # noqa: ARG002
        """Give it back aware."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


metadata = sa.MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    }
)


def _text(name: str, *, nullable: bool = False, **options: Any) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=nullable, **options)


def _instant(name: str, *, nullable: bool = False) -> sa.Column[datetime]:
    return sa.Column(name, UtcInstant, nullable=nullable)


def _minor(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False)


requests = sa.Table(
    "requests",
    metadata,
    _text("request_id", primary_key=True),
    _text("incident_id", index=True),
    _text("kind"),
    _text("mode"),
    _text("platform_account"),
    _text("requested_by"),
    _text("reason"),
    _text("notes"),
    _text("nonce", unique=True),
    _instant("filed_at"),
    _instant("expires_at"),
    _text("digest", unique=True),
    _text("replaces", server_default=""),
    _text("signature", server_default=""),
)

request_lines = sa.Table(
    "request_lines",
    metadata,
    _text("line_id", primary_key=True),
    sa.Column("request_id", sa.Text, sa.ForeignKey("requests.request_id"), nullable=False),
    sa.Column("line_no", sa.Integer, nullable=False),
    _text("studio_id"),
    _text("studio_name"),
    _text("ledger_payout_id", index=True),
    _minor("amount_minor"),
    _text("currency"),
    _minor("reserve_after_minor"),
    _text("destination_account"),
    _text("stripe_transfer_id", server_default=""),
    sa.Column("reversed_before_minor", sa.BigInteger, nullable=False, server_default="0"),
    # Ids with a space between them: none holds one.
    _text("acknowledged_transfers", server_default=""),
    sa.UniqueConstraint("request_id", "line_no"),
    sa.CheckConstraint("amount_minor > 0", name="amount_is_positive"),
    sa.CheckConstraint("reserve_after_minor >= 0", name="reserve_is_not_negative"),
)

approvals = sa.Table(
    "approvals",
    metadata,
    _text("approval_id", primary_key=True),
    sa.Column("request_id", sa.Text, sa.ForeignKey("requests.request_id"), nullable=False, index=True),
    _text("request_digest"),
    _text("approver_id"),
    _text("team"),
    _text("mode"),
    _text("platform_account"),
    _text("nonce", unique=True),
    _instant("approved_at"),
    _instant("expires_at"),
    _text("statement_digest"),
    _text("signature"),
    _text("signed_text", server_default=""),
    _text("facts", server_default=""),
    _text("rules_digest", server_default=""),
    _text("registry_digest", server_default=""),
)

_states = ", ".join(f"'{state}'" for state in State if state is not State.APPROVED)
_live = ", ".join(f"'{state}'" for state in LIVE_STATES)

manual_payouts = sa.Table(
    "manual_payouts",
    metadata,
    sa.Column("payout_id", sa.Text, sa.ForeignKey("request_lines.line_id"), primary_key=True),
    sa.Column("request_id", sa.Text, sa.ForeignKey("requests.request_id"), nullable=False),
    _text("incident_id", index=True),
    _text("ledger_payout_id", index=True),
    _text("studio_id", index=True),
    _text("studio_name"),
    _minor("amount_minor"),
    _text("currency"),
    _minor("reserve_after_minor"),
    _text("destination_account"),
    _text("mode"),
    _text("reason"),
    _text("notes"),
    _text("requested_by"),
    _text("approved_by_payments_ops"),
    _text("approved_by_finance"),
    _text("approval_payments_ops", unique=True),
    _text("approval_finance", unique=True),
    _text("operator_id"),
    _text("state"),
    sa.Column("attempt_no", sa.Integer, nullable=False),
    _text("idempotency_key", unique=True),
    _text("transfer_group"),
    _text("payload"),
    _text("owner", server_default=""),
    sa.Column("fence", sa.Integer, nullable=False, server_default="0"),
    _instant("lease_until", nullable=True),
    sa.Column("sent", sa.Boolean, nullable=False, server_default=sa.true()),
    _instant("created_at"),
    _instant("first_sent_at", nullable=True),
    _text("stripe_transfer_id", nullable=True, unique=True),
    _text("transfer", nullable=True),
    _text("outcome_reason", nullable=True),
    _instant("outcome_at", nullable=True),
    _instant("logged_at", nullable=True),
    _text("settlement_rung", nullable=True),
    _instant("settled_at", nullable=True),
    sa.CheckConstraint("amount_minor > 0", name="amount_is_positive"),
    sa.CheckConstraint(f"state IN ({_states})", name="state_is_known"),
    sa.CheckConstraint("state <> 'paid' OR stripe_transfer_id IS NOT NULL", name="paid_names_its_transfer"),
)

sa.Index(
    "uq_manual_payouts_live",
    manual_payouts.c.mode,
    manual_payouts.c.ledger_payout_id,
    unique=True,
    sqlite_where=sa.text(f"state IN ({_live})"),
    postgresql_where=sa.text(f"state IN ({_live})"),
)

_open = ", ".join(f"'{state}'" for state in OPEN_STATES)

# What is still to be found out, followed or sent, among a million rows that are done with. Each is written out in the
# queries as in its index: a database proves neither from bound values that a partial index will do.
OPEN = f"state IN ({_open})"
UNSETTLED = f"state IN ('{State.PAID}', '{State.PARTLY_REVERSED}') AND settled_at IS NULL"
UNSENT = f"state NOT IN ('{MessageState.DELIVERED}', '{MessageState.COPIED}')"


def _partial_index(name: str, condition: str, *columns: sa.Column[Any]) -> None:
    sa.Index(name, *columns, sqlite_where=sa.text(condition), postgresql_where=sa.text(condition))


_partial_index("ix_manual_payouts_unfinished", OPEN, manual_payouts.c.mode, manual_payouts.c.created_at)
_partial_index("ix_manual_payouts_unsettled", UNSETTLED, manual_payouts.c.mode, manual_payouts.c.outcome_at)
# With the two columns that are counted by, so that a count reads the index alone.
sa.Index("ix_manual_payouts_recent", *(manual_payouts.c[name] for name in ("mode", "created_at", "state", "studio_id")))
sa.Index("ix_manual_payouts_mode_settled_at", manual_payouts.c.mode, manual_payouts.c.settled_at)
sa.Index("ix_manual_payouts_request_id", manual_payouts.c.request_id)
sa.Index("ix_requests_expires_at", requests.c.expires_at)

manual_reversals = sa.Table(
    "manual_reversals",
    metadata,
    sa.Column("reversal_id", sa.Text, sa.ForeignKey("request_lines.line_id"), primary_key=True),
    sa.Column("request_id", sa.Text, sa.ForeignKey("requests.request_id"), nullable=False),
    _text("incident_id", index=True),
    _text("ledger_payout_id", index=True),
    _text("studio_id"),
    _text("studio_name"),
    _text("stripe_transfer_id", index=True),
    _minor("amount_minor"),
    _text("currency"),
    _text("destination_account"),
    _minor("reversed_before_minor"),
    _text("mode"),
    _text("reason"),
    _text("notes"),
    _text("requested_by"),
    _text("approved_by_payments_ops"),
    _text("approved_by_finance"),
    _text("approval_payments_ops", unique=True),
    _text("approval_finance", unique=True),
    _text("operator_id"),
    _text("state"),
    sa.Column("attempt_no", sa.Integer, nullable=False),
    _text("idempotency_key", unique=True),
    _text("payload"),
    _text("owner"),
    sa.Column("fence", sa.Integer, nullable=False),
    _instant("lease_until", nullable=True),
    sa.Column("sent", sa.Boolean, nullable=False),
    _instant("created_at"),
    _instant("first_sent_at", nullable=True),
    _text("stripe_reversal_id", nullable=True, unique=True),
    _text("reversal", nullable=True),
    _text("outcome_reason", nullable=True),
    _instant("outcome_at", nullable=True),
    sa.CheckConstraint("amount_minor > 0", name="amount_is_positive"),
    sa.CheckConstraint(
        "state IN ('submitting', 'reversed', 'refused', 'unknown', 'needs_human')", name="state_is_known"
    ),
    sa.CheckConstraint("state <> 'reversed' OR stripe_reversal_id IS NOT NULL", name="reversed_names_its_reversal"),
)

# One open reversal per transfer: of two that both take a third back, the second waits until the first is known.
sa.Index(
    "uq_manual_reversals_open",
    manual_reversals.c.stripe_transfer_id,
    unique=True,
    sqlite_where=sa.text(f"state IN ({_open})"),
    postgresql_where=sa.text(f"state IN ({_open})"),
)


_partial_index("ix_manual_reversals_unfinished", OPEN, manual_reversals.c.mode, manual_reversals.c.created_at)
sa.Index("ix_manual_reversals_recent", manual_reversals.c.mode, manual_reversals.c.created_at)
sa.Index("ix_manual_reversals_request_id", manual_reversals.c.request_id)

settlement_watch = sa.Table(
    "settlement_watch",
    metadata,
    sa.Column("payout_id", sa.Text, sa.ForeignKey("manual_payouts.payout_id"), primary_key=True),
    sa.Column("looks", sa.Integer, nullable=False),
    _instant("looked_at"),
    _instant("next_look_at"),
)


def _attempts(name: str, owner: sa.Column[str]) -> sa.Table:
    return sa.Table(
        name,
        metadata,
        _text("idempotency_key", primary_key=True),
        sa.Column(owner.name, sa.Text, sa.ForeignKey(owner), nullable=False),
        sa.Column("attempt_no", sa.Integer, nullable=False),
        _text("operator_id"),
        _text("payload"),
        _instant("created_at"),
        _text("outcome", nullable=True),
        _text("outcome_code", nullable=True),
        _text("outcome_message", nullable=True),
        _text("stripe_request_id", nullable=True),
        _instant("outcome_at", nullable=True),
        sa.UniqueConstraint(owner.name, "attempt_no"),
    )


attempts = _attempts("attempts", manual_payouts.c.payout_id)
reversal_attempts = _attempts("reversal_attempts", manual_reversals.c.reversal_id)

events = sa.Table(
    "events",
    metadata,
    _text("stream", primary_key=True),
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
    _text("kind"),
    _instant("at"),
    _text("actor"),
    _text("data"),
    _text("previous"),
    _text("digest"),
    sa.Index("ix_events_kind_at", "kind", "at"),
)

messages = sa.Table(
    "messages",
    metadata,
    _text("message_id", primary_key=True),
    _text("stream"),
    sa.Column("payout_id", sa.Text, sa.ForeignKey("manual_payouts.payout_id"), nullable=True, index=True),
    _text("kind"),
    _text("audience"),
    _text("dedup_key", unique=True),
    _text("subject"),
    _text("body_text"),
    _text("body_html"),
    _text("state", index=True),
    _instant("created_at"),
    _text("mode"),
    _text("channel"),
    _text("body_json", server_default=""),
    sa.Column("tries", sa.Integer, nullable=False, server_default="0"),
    _instant("handed_over_at", nullable=True),
    sa.Column("repeats", sa.Integer, nullable=False, server_default="0"),
    _text("owner", server_default=""),
    sa.Column("fence", sa.Integer, nullable=False, server_default="0"),
    _instant("lease_until", nullable=True),
    _instant("not_before", nullable=True),
    _text("last_error", server_default=""),
    _text("receipt", server_default=""),
    _instant("delivered_at", nullable=True),
)

_partial_index("ix_messages_unsent", UNSENT, messages.c.created_at)

alerts = sa.Table(
    "alerts",
    metadata,
    _text("mode", primary_key=True),
    _text("rule", primary_key=True),
    _text("subject", primary_key=True),
    _text("severity"),
    _text("summary"),
    _text("value"),
    sa.Column("episode", sa.Integer, nullable=False),
    _instant("raised_at"),
    _instant("resolved_at", nullable=True),
)

sa.Index("ix_alerts_mode_resolved_at", alerts.c.mode, alerts.c.resolved_at)


# Of an SQLite database: the machine whose file it is. A PostgreSQL server is many machines' own, and has no row.
database_machine = sa.Table(
    "database_machine",
    metadata,
    sa.Column("only_row", sa.Integer, primary_key=True, autoincrement=False),
    _text("digest"),
    _text("name"),
    sa.CheckConstraint("only_row = 1", name="only_row"),
)


def append_only_triggers(dialect: str) -> list[str]:
    """Return the statements that make the append-only tables refuse UPDATE and DELETE on *dialect*."""
    if dialect == "sqlite":
        return [
            f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
            f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
            for table in APPEND_ONLY
            for verb in ("UPDATE", "DELETE")
        ]
    function = (
        "CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME; END $$"
    )
    return [
        function,
        *(
            f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
            for table in APPEND_ONLY
        ),
    ]
