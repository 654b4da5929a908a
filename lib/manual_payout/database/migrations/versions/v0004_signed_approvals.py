"""Approvals are signed: beside the signature stands exactly what was signed. Those given before have neither."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("approvals", sa.Column("signed_text", sa.Text(), server_default="", nullable=False))


def downgrade() -> None:
    raise RuntimeError("Evidence is not migrated backwards: restore the backup instead.")
