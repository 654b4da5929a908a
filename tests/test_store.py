"""Our state keeps its promises on both databases."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from manual_payout.schema import APPEND_ONLY, metadata


def test_migrations_and_tables_agree(engine):
    """What the migrations make is what the code expects."""
    with engine.connect() as connection:
        found = compare_metadata(MigrationContext.configure(connection), metadata)

    assert [] == found


@pytest.mark.parametrize("table", APPEND_ONLY)
def test_append_only_tables_refuse_to_change(store, raw, table):
    """Not even the database's own client changes or deletes a line of the journal, a request or an approval."""
    store.record_event("INC-1/x", "noted", "tester", {"n": 1})
    column = metadata.tables[table].primary_key.columns.values()[0].name
    if table != "events" and raw.__closure__[0].cell_contents.dialect.name == "sqlite":
        pytest.skip("SQLite has row triggers only; the journal's row shows it")
    for statement in (f"UPDATE {table} SET {column} = 'y'", f"DELETE FROM {table}"):
        with pytest.raises(sa.exc.DBAPIError, match="append-only"):
            raw(statement)


def test_journal_is_chained(store):
    """Events are numbered from one without gaps and each names the one before."""
    for number in range(3):
        store.record_event("INC-1/x", "noted", "tester", {"n": number})
    chain = store.events_of("INC-1/x")

    assert [1, 2, 3] == [e.seq for e in chain]
    assert [""] + [e.digest for e in chain[:2]] == [e.previous for e in chain]
