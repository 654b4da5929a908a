"""Nothing of the role's, and nobody's function, operator or table, stands in for PostgreSQL's own or for ours."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import psycopg
import pytest
import sqlalchemy as sa

from manual_payout.database import engines
from manual_payout.database.clock import DatabaseClock
from manual_payout.database.store import Store
from manual_payout.domain.errors import DatabaseError
from manual_payout.ledger import Ledger, LedgerMapping
from payout_rehearsal.demo import incident
from payout_rehearsal.demo.ledger import create_demo_ledger

pytestmark = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)

LONG_AGO = "2020-01-01 00:00:00+00"

# Each says something else than PostgreSQL's own, or fits what we give it better.
PLANTED = {
    "function": [
        f"CREATE FUNCTION {{schema}}.{name}() RETURNS timestamptz LANGUAGE sql AS $$ SELECT timestamptz '{LONG_AGO}' $$"
        for name in ("now", "clock_timestamp", "transaction_timestamp", "statement_timestamp")
    ]
    + [
        "CREATE FUNCTION {schema}.to_char(timestamp, text) RETURNS text LANGUAGE sql AS $$ SELECT '2020-01-01T00:00:00.0' $$",
        "CREATE FUNCTION {schema}.timezone(text, timestamptz) RETURNS timestamp LANGUAGE sql AS $$ SELECT timestamp '2020-01-01' $$",
        "CREATE FUNCTION {schema}.pg_advisory_xact_lock(bigint) RETURNS void LANGUAGE sql AS $$ SELECT NULL::void $$",
        "CREATE FUNCTION {schema}.hashtextextended(varchar, int) RETURNS bigint LANGUAGE sql AS $$ SELECT 1/0::bigint $$",
        "CREATE FUNCTION {schema}.set_config(text, text, bool) RETURNS text LANGUAGE sql AS $$ SELECT 'x' $$",
    ],
    "operator": [
        "CREATE FUNCTION {schema}.never(text, varchar) RETURNS bool LANGUAGE sql AS $$ SELECT false $$",
        "CREATE FUNCTION {schema}.never(varchar, varchar) RETURNS bool LANGUAGE sql AS $$ SELECT false $$",
        "CREATE FUNCTION {schema}.never(varchar, text) RETURNS bool LANGUAGE sql AS $$ SELECT false $$",
    ]
    + [
        f"CREATE OPERATOR {{schema}}.= (LEFTARG = {left}, RIGHTARG = {right}, FUNCTION = {{schema}}.never)"
        for left, right in (("text", "varchar"), ("varchar", "varchar"), ("varchar", "text"))
    ],
    "type": ["CREATE DOMAIN {schema}.text AS pg_catalog.int4", "CREATE DOMAIN {schema}.timestamptz AS pg_catalog.int4"],
}


def admin(url, *statements):
    """Do what somebody with rights in the database can."""
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


def search(url, path):
    """Set the role's search_path in this database."""
    name = sa.engine.make_url(url).database
    admin(url, f"ALTER DATABASE {name} SET search_path = {path}")


@pytest.fixture(name="connected")
def _connected():
    """Make engines that are closed in the end."""
    opened = []

    def connect(url, name="DATABASE_URL"):
        opened.append(engines.connect(url, name=name))
        return opened[-1]

    yield connect
    for engine in opened:
        engine.dispose()


@pytest.fixture(name="filled")
def _filled(database_url, connected):
    """A database with our tables and a ledger."""
    engine = connected(database_url)
    engines.upgrade_database(engine)
    create_demo_ledger(engine)
    engine.dispose()
    return database_url


@pytest.mark.parametrize("kind", PLANTED)
@pytest.mark.parametrize("path", ["public, pg_catalog", "evil, public", "evil, pg_catalog, public"])
def test_nobodys_function_operator_or_type_is_asked(filled, connected, kind, path):
    """The clock, the journal's lock and every comparison are PostgreSQL's own, whatever stands in the role's schemas."""
    schema = path.partition(",")[0]
    statements = ["CREATE SCHEMA IF NOT EXISTS evil", *(one.format(schema=schema) for one in PLANTED[kind])]
    admin(filled, *statements)
    search(filled, path)
    engine = connected(filled)
    engines.require_current(engine)
    store = Store(engine, DatabaseClock(engine))
    event = store.record_event("INC-1/x", "noted", "tester", {"n": 1})
    ledger = Ledger(connected(filled, "LEDGER_DATABASE_URL"))

    assert abs(datetime.now(UTC) - event.at) < timedelta(minutes=5)
    assert [event] == store.events_of("INC-1/x")
    assert incident.STUDIO_ID == ledger.get_payout_due(incident.LEDGER_PAYOUT_ID).studio_id
    assert ledger.claim(incident.LEDGER_PAYOUT_ID, "line-1", at=event.at).is_claimed_by("line-1")


def test_temporary_table_stands_in_for_nothing(filled, connected):
    """A pooler hands on a connection on which somebody else has made tables of our names."""
    engine, ledgers = connected(filled), connected(filled, "LEDGER_DATABASE_URL")
    store = Store(engine, DatabaseClock(engine))
    event = store.record_event("INC-1/x", "noted", "tester", {"n": 1})
    for one, names in ((engine, ("events", "alembic_version")), (ledgers, ("manual_payout_due",))):
        with one.connect() as connection:
            for name in names:
                # Left in the pool, it is the connection that the next transaction gets.
                connection.exec_driver_sql(f"CREATE TEMPORARY TABLE {name} (LIKE public.{name})")
            connection.commit()
    engines.require_current(engine)

    assert [event] == store.events_of("INC-1/x")
    assert incident.STUDIO_ID == Ledger(ledgers).get_payout_due(incident.LEDGER_PAYOUT_ID).studio_id


def test_tables_of_ours_in_two_schemas_are_refused(filled, connected):
    """Nobody guesses which of two journals is the true one."""
    admin(filled, "CREATE SCHEMA evil", "CREATE TABLE evil.manual_payouts (LIKE public.manual_payouts)")
    search(filled, "evil, public")
    with pytest.raises(
        DatabaseError, match="are in 2 schemas of the database: found evil and public, expected one"
    ) as caught:
        engines.require_current(connected(filled))

    assert "search_path" in caught.value.remedy


@pytest.mark.parametrize("schema", ["application", 'odd%s "name'])
def test_tables_are_in_the_applications_own_schema(database_url, connected, schema):
    """Where the role's search_path names a schema first, our tables are made there and found there."""
    quoted = '"' + schema.replace('"', '""') + '"'
    admin(database_url, f"CREATE SCHEMA {quoted}")
    search(database_url, f"{quoted}, public")
    engine = connected(database_url)
    engines.upgrade_database(engine)
    create_demo_ledger(engine)
    engines.require_current(engine)
    store = Store(engine, DatabaseClock(engine))
    store.record_event("INC-1/x", "noted", "tester", {"n": 1})
    ledgers = connected(database_url, "LEDGER_DATABASE_URL")
    with psycopg.connect(database_url) as connection:
        found = connection.execute(
            "SELECT schemaname FROM pg_tables WHERE tablename IN ('events', 'manual_payout_due')"
        ).fetchall()

    assert [(schema,), (schema,)] == found
    assert 1 == len(store.events_of("INC-1/x"))
    assert Ledger(ledgers).get_payout_due(incident.LEDGER_PAYOUT_ID)
    named = LedgerMapping(due_relation="application.manual_payout_due") if schema == "application" else LedgerMapping()
    assert Ledger(ledgers, named).get_payout_due(incident.LEDGER_PAYOUT_ID)


def test_triggers_of_the_ledgers_owner_still_find_their_tables(filled, connected):
    """A view's trigger that names its tables without a schema works as it does for everybody else."""
    admin(
        filled,
        "CREATE SCHEMA books", "CREATE TABLE books.seen (id text)",
        "CREATE FUNCTION books.note() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN INSERT INTO seen VALUES (NEW.ledger_payout_id); RETURN NEW; END $$",
        "CREATE TRIGGER note AFTER UPDATE ON public.manual_payout_due FOR EACH ROW EXECUTE FUNCTION books.note()",
    )  # fmt: skip
    search(filled, "books, public")
    Ledger(connected(filled, "LEDGER_DATABASE_URL")).claim(incident.LEDGER_PAYOUT_ID, "line-1", at=datetime.now(UTC))
    with psycopg.connect(filled) as connection:
        assert [(incident.LEDGER_PAYOUT_ID,)] == connection.execute("SELECT id FROM books.seen").fetchall()


def test_role_does_not_decide_how_an_instant_is_written(filled, connected):
    """A German server in another zone, with serializable transactions and dates the other way round, changes nothing."""
    name = sa.engine.make_url(filled).database
    for setting in (
        "DateStyle = 'German'",
        "TimeZone = 'Pacific/Auckland'",
        "default_transaction_isolation = 'serializable'",
    ):
        admin(filled, f"ALTER DATABASE {name} SET {setting}")
    engine = connected(filled)
    store = Store(engine, DatabaseClock(engine))
    event = store.record_event("INC-1/x", "noted", "tester", {"n": 1})
    with engine.connect() as connection:
        level = connection.exec_driver_sql("SHOW transaction_isolation").scalar()

    assert [event] == store.events_of("INC-1/x")
    assert abs(datetime.now(UTC) - event.at) < timedelta(minutes=5)
    assert "read committed" == level
