"""An SQLite database knows the one machine that it is used on."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "database_machine",
        sa.Column("only_row", sa.Integer(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.CheckConstraint("only_row = 1", name=op.f("ck_database_machine_only_row")),
        sa.PrimaryKeyConstraint("only_row", name=op.f("pk_database_machine")),
    )


def downgrade() -> None:
    raise RuntimeError("Evidence is not migrated backwards: restore the backup instead.")
