"""A request names the transfers of which its people say that they are not this payout."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("request_lines", sa.Column("acknowledged_transfers", sa.Text(), server_default="", nullable=False))


def downgrade() -> None:
    raise RuntimeError("Evidence is not migrated backwards: restore the backup instead.")
