"""The SQL in docs/ledger.md is run here as it stands, and the ledger it makes is claimed."""

from __future__ import annotations

import re
import threading
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from manual_payout.database import engines
from manual_payout.desk.settings import LedgerPolicy
from manual_payout.domain.errors import ClaimError, DatabaseError
from manual_payout.ledger import BALANCE_COLUMNS, CLAIM_COLUMNS, DUE_COLUMNS, Ledger, LedgerMapping

DOC = (Path(__file__).parents[2] / "docs" / "ledger.md").read_text("utf-8")
NIGHT = datetime(2026, 3, 2, 3, 0, tzinfo=UTC)
STUDIO = "4e1a7c90-2d5b-4f38-a6e9-7b0c3d8f1a25"
PAYOUT = "9d2f41c6-7b0e-4a58-b3c1-5e6a80f7d214"
BEFORE = "1c7e5b20-93d4-4a6f-8b12-f0e4d7a9c633"

ROWS = {
    "postgresql": f"""
        INSERT INTO marketplace.studios VALUES
            ('{STUDIO}', 'O''Hara''s Pottery', 'payouts@oharas.example', 'en_US', 'acct_123', '2025-11-03 12:00+02');
        INSERT INTO marketplace.payouts VALUES
            ('{PAYOUT}', '{STUDIO}', 125075, 'USD', '[2026-02-16,2026-03-01]', '2026-03-02 01:00Z', 'failed',
             'scheduler_outage', '2026-03-02 01:04:11Z', NULL, NULL, NULL),
            ('{BEFORE}', '{STUDIO}', 118000, 'USD', '[2026-02-02,2026-02-15]', '2026-02-16 01:00Z', 'paid',
             NULL, NULL, '2026-02-16 01:00:30Z', NULL, NULL);
        INSERT INTO marketplace.entries VALUES ('{STUDIO}', 'USD', 200000), ('{STUDIO}', 'USD', -43925);
        INSERT INTO marketplace.reserves VALUES ('{STUDIO}', 'USD', 30000);
    """,
    "sqlite": f"""
        INSERT INTO studios VALUES
            ('{STUDIO}', 'O''Hara''s Pottery', 'payouts@oharas.example', 'en_US', 'acct_123', 156075, 30000,
             '2026-03-02T02:59:00Z');
        INSERT INTO payouts VALUES
            ('{PAYOUT}', '{STUDIO}', 125075, '2026-02-16', '2026-03-01', '2026-03-02 01:00:00', 'failed',
             'scheduler_outage', '2026-03-02 01:04:11', NULL, NULL, NULL),
            ('{BEFORE}', '{STUDIO}', 118000, '2026-02-02', '2026-02-15', '2026-02-16 01:00:00', 'paid',
             NULL, NULL, '2026-02-16 01:00:30', NULL, NULL);
    """,
}
ROWS["mysql"] = ROWS["sqlite"].replace("2026-03-02T02:59:00Z", "2026-03-02 02:59:00")
THROUGH_VIEW = LedgerMapping(claim_relation="manual_payout_claim")
THROUGH_TRIGGER = LedgerMapping()


def blocks(*words):
    """The SQL blocks of the page that carry exactly these words after ``sql``."""
    found = re.findall(r"^```sql ([^\n]*)\n(.*?)^```", DOC, flags=re.MULTILINE | re.DOTALL)
    return [sql for info, sql in found if tuple(info.split()) == words]


@pytest.fixture(name="documented")
def _documented(database_url):
    """A database made by the page's own SQL, with one failed and one paid payout."""
    engine = engines.connect(database_url, name="LEDGER_DATABASE_URL")
    kind = engine.dialect.name
    connection = engine.raw_connection()
    for sql in [*blocks(kind), ROWS[kind]]:
        if kind == "sqlite":
            connection.executescript(sql)
        else:
            connection.cursor().execute(sql)
    connection.commit()
    connection.close()
    yield engine
    engine.dispose()
    if kind == "postgresql":
        # A role belongs to the whole server, which other tests share.
        with engine.begin() as cleaner:
            cleaner.exec_driver_sql("DROP OWNED BY manual_payout_runbook")
            cleaner.exec_driver_sql("DROP ROLE manual_payout_runbook")
        engine.dispose()


def mappings(engine):
    """The ways to claim that the page offers for this kind of database."""
    return [THROUGH_TRIGGER] if engine.dialect.name == "sqlite" else [THROUGH_VIEW, THROUGH_TRIGGER]


def test_every_sql_block_says_where_it_runs():
    """No SQL on the page escapes this file."""
    kinds = [("postgresql",), ("postgresql", "automation"), ("sqlite",), ("mariadb",)]

    assert DOC.count("```sql") == sum(len(blocks(*kind)) for kind in kinds)


def test_page_lists_every_column():
    """The tables of columns are those that the software reads and writes."""
    documented = set(re.findall(r"`(\w+)`", "\n".join(line for line in DOC.splitlines() if line.startswith("| `"))))

    assert {*DUE_COLUMNS, *BALANCE_COLUMNS, *CLAIM_COLUMNS} == documented & {
        *DUE_COLUMNS,
        *BALANCE_COLUMNS,
        *CLAIM_COLUMNS,
    }


def test_policy_table_on_the_page_is_one_that_the_settings_read():
    """Every documented key exists, and the documented words are the defaults."""
    (toml,) = re.findall(r"^```toml\n(.*?)^```", DOC, flags=re.MULTILINE | re.DOTALL)
    policy = LedgerPolicy(**tomllib.loads(toml)["ledger"])
    defaults = LedgerMapping()

    assert (defaults.due_relation, defaults.balance_relation) == (policy.payouts_relation, policy.balances_relation)
    assert (defaults.failed, defaults.claimed, defaults.paid) == (
        policy.failed_status,
        policy.claimed_status,
        policy.paid_status,
    )
    assert LedgerPolicy() == policy.model_copy(update={"claim_relation": ""})
    assert len(fields(LedgerMapping)) == len(set(LedgerPolicy.model_fields) - {"balance_age_max_s"})


def test_documented_views_read_as_the_contract_says(documented):
    """Every column arrives through the views, in its type."""
    reader = Ledger(documented)
    due = reader.get_payout_due(PAYOUT)
    balance = reader.find_balance(STUDIO, "usd")

    assert ("O'Hara's Pottery", 125_075, "usd", "acct_123") == (
        due.studio_name,
        due.amount_minor,
        due.currency,
        due.destination_account,
    )
    assert (date(2026, 2, 16), date(2026, 3, 1)) == (due.period_start, due.period_end)
    assert datetime(2026, 3, 2, 1, 4, 11, tzinfo=UTC) == due.failed_at
    assert (156_075, 30_000) == (balance.balance_minor, balance.reserve_minimum_minor)
    assert [BEFORE] == [one.ledger_payout_id for one in reader.past_payouts(STUDIO)]


def test_documented_claims_are_made_kept_and_released(documented):
    """Each documented way takes the claim, refuses the second, and gives it back."""
    for mapping in mappings(documented):
        holder = Ledger(documented, mapping)
        assert NIGHT == holder.claim(PAYOUT, "line-1", at=NIGHT).claimed_at
        with pytest.raises(ClaimError, match="'line-1'"):
            holder.claim(PAYOUT, "line-2", at=NIGHT)
        assert not holder.release(PAYOUT, "line-2")
        assert holder.release(PAYOUT, "line-1")
        assert "failed" == holder.get_payout_due(PAYOUT).status


def test_documented_claims_have_one_winner(documented):
    """Twenty rounds of six at once through each documented way: one wins, and the ledger names that one."""
    names = [f"line-{number}" for number in range(6)]
    for mapping in mappings(documented):
        holder = Ledger(documented, mapping)

        def won(name, start, holder=holder):
            start.wait()
            try:
                holder.claim(PAYOUT, name, at=NIGHT)
            except ClaimError:
                return False
            return True

        with ThreadPoolExecutor(len(names)) as pool:
            for _ in range(20):
                start = threading.Barrier(len(names))
                answers = list(pool.map(lambda name: won(name, start), names))  # noqa: B023
                winners = [name for name, answer in zip(names, answers, strict=True) if answer]

                assert [holder.get_payout_due(PAYOUT).claimed_by] == winners
                assert holder.release(PAYOUT, winners[0])


def test_documented_automation_leaves_a_claimed_payout_alone(documented):
    """The automation's own update takes a failed payout once, and a claimed one never."""
    if documented.dialect.name == "sqlite":
        pytest.skip("the automation's statement is written for PostgreSQL")
    (take,) = blocks("postgresql", "automation")
    holder = Ledger(documented, THROUGH_VIEW)
    holder.claim(PAYOUT, "line-1", at=NIGHT)

    def taken():
        with documented.begin() as connection:
            return connection.execute(sa.text(take)).scalars().all()

    assert [] == taken()
    holder.release(PAYOUT, "line-1")
    assert [PAYOUT] == [str(one) for one in taken()]
    assert [] == taken()
    with pytest.raises(ClaimError, match="status 'paying'"):
        holder.claim(PAYOUT, "line-1", at=NIGHT)


def test_documented_grants_are_enough_and_no_more(documented, database_url):
    """As the runbook's own role: reading and claiming work; amounts, other statuses and tables are out of reach."""
    if documented.dialect.name == "sqlite":
        pytest.skip("SQLite knows no roles")
    engine = engines.connect(database_url.replace("postgres:@", "manual_payout_runbook:@"), name="LEDGER_DATABASE_URL")
    for mapping in mappings(documented):
        holder = Ledger(engine, mapping)
        holder.claim(PAYOUT, "line-1", at=NIGHT)
        assert holder.find_balance(STUDIO, "usd") is not None
        assert holder.release(PAYOUT, "line-1")
    for forbidden in (
        "UPDATE manual_payout_due SET amount_minor = 1",
        "UPDATE marketplace.payouts SET state = 'paid'",
        "SELECT * FROM marketplace.entries",
        "DELETE FROM manual_payout_claim",
        "UPDATE manual_payout_claim SET status = 'paid'",
    ):
        with pytest.raises(sa.exc.DBAPIError, match=r"permission denied|check option"), engine.begin() as connection:
            connection.exec_driver_sql(forbidden)
    with engine.begin() as connection:
        assert 0 == connection.exec_driver_sql("UPDATE manual_payout_due SET status = 'paid'").rowcount
    engine.dispose()


def test_role_without_the_grants_is_told_which(documented, database_url):
    """A forgotten grant is named with its remedy."""
    if documented.dialect.name == "sqlite":
        pytest.skip("SQLite knows no roles")
    with documented.begin() as connection:
        connection.exec_driver_sql("REVOKE ALL ON manual_payout_claim FROM manual_payout_runbook")
    engine = engines.connect(database_url.replace("postgres:@", "manual_payout_runbook:@"), name="LEDGER_DATABASE_URL")

    with pytest.raises(DatabaseError, match=r"does not permit this .*manual_payout_claim.*Grant"):
        Ledger(engine, THROUGH_VIEW).claim(PAYOUT, "line-1", at=NIGHT)
    engine.dispose()
