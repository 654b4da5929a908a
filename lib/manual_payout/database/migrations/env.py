"""Alembic's entry: run the migrations on the connection that `database.upgrade` hands over."""

from __future__ import annotations

from alembic import context

from manual_payout.database.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
    # SQLite cannot alter a table in place.
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
