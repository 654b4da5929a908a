"""The outbox learns to deliver: who is sending a message, how often it was tried, and what the provider answered."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# What the first release could have put into the outbox, and the service each kind goes to.
_MODE = (
    "UPDATE messages SET mode = "
    "(SELECT manual_payouts.mode FROM manual_payouts WHERE manual_payouts.payout_id = messages.payout_id)"
)
_CHANNEL = "UPDATE messages SET channel = CASE kind WHEN 'studio_email' THEN 'email' ELSE 'slack' END"


def upgrade() -> None:
    with op.batch_alter_table("messages") as table:
        table.alter_column("payout_id", existing_type=sa.Text(), nullable=True)
        table.add_column(sa.Column("mode", sa.Text(), nullable=False, server_default=""))
        table.add_column(sa.Column("channel", sa.Text(), nullable=False, server_default=""))
        table.add_column(sa.Column("body_json", sa.Text(), nullable=False, server_default=""))
        table.add_column(sa.Column("tries", sa.Integer(), nullable=False, server_default="0"))
        table.add_column(sa.Column("handed_over_at", sa.DateTime(timezone=True), nullable=True))
        table.add_column(sa.Column("repeats", sa.Integer(), nullable=False, server_default="0"))
        table.add_column(sa.Column("owner", sa.Text(), nullable=False, server_default=""))
        table.add_column(sa.Column("fence", sa.Integer(), nullable=False, server_default="0"))
        table.add_column(sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True))
        table.add_column(sa.Column("not_before", sa.DateTime(timezone=True), nullable=True))
        table.add_column(sa.Column("last_error", sa.Text(), nullable=False, server_default=""))
        table.add_column(sa.Column("receipt", sa.Text(), nullable=False, server_default=""))
        table.add_column(sa.Column("delivered_at", sa.DateTime(timezone=True), nullable=True))
    op.execute(sa.text(_MODE))
    op.execute(sa.text(_CHANNEL))
    with op.batch_alter_table("messages") as table:
        # Whoever puts a message into the outbox says which world it belongs to.
        table.alter_column("mode", existing_type=sa.Text(), server_default=None)
        table.alter_column("channel", existing_type=sa.Text(), server_default=None)


def downgrade() -> None:
    raise RuntimeError("Evidence is not migrated backwards: restore the backup instead.")
