"""The ledger: read exactly, claimed once, and clear about what is wrong with it; on SQLite and on PostgreSQL."""

from __future__ import annotations

import subprocess
import sys
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

import manual_payout
from manual_payout.database import engines
from manual_payout.domain.errors import ClaimError, DatabaseError, ParameterError, SettingsError
from manual_payout.domain.money import Money
from manual_payout.ledger import BALANCE_COLUMNS, DUE_COLUMNS, Ledger, LedgerMapping, base, open_ledger
from payout_rehearsal.demo import incident
from payout_rehearsal.demo.automation import attempt, pay_next_failed
from payout_rehearsal.demo.ledger import create_demo_ledger, demo_ledger

NIGHT = datetime(2026, 3, 2, 3, 0, tzinfo=UTC)
PAYOUT = incident.LEDGER_PAYOUT_ID
ABSENT = "00000000-0000-4000-8000-000000000000"


@pytest.fixture(scope="session", name="three_studios")
def _three_studios():
    """The demo's first three studios: the SOP's example and two others."""
    whole = demo_ledger()
    ids = {studio.studio_id for studio in whole.studios[:3]}
    return replace(
        whole,
        studios=whole.studios[:3],
        payouts=tuple(one for one in whole.payouts if one.studio_id in ids),
        balances=tuple(one for one in whole.balances if one.studio_id in ids),
    )


@pytest.fixture(name="bare_engine")
def _bare_engine(database_url):
    """A ledger's database without a single relation."""
    engine = engines.connect(database_url, name="LEDGER_DATABASE_URL")
    yield engine
    engine.dispose()


@pytest.fixture(name="ledger_engine")
def _ledger_engine(bare_engine, three_studios):
    """A ledger of three studios."""
    create_demo_ledger(bare_engine, three_studios)
    return bare_engine


def run(engine, statement, **values):
    """Do to the ledger what its owner might."""
    with engine.execution_options(own_schema=True).begin() as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("PRAGMA ignore_check_constraints = ON")
        connection.execute(sa.text(statement), values)


def fail_all(engine):
    """Let every payout be failed; returns their ids."""
    run(engine, "UPDATE manual_payout_due SET status = 'failed', paid_at = NULL, claimed_by = NULL, claimed_at = NULL")
    with engine.connect() as connection:
        return sorted(connection.scalars(sa.text("SELECT ledger_payout_id FROM manual_payout_due")))


# Reading


def test_payout_is_read_with_every_column(ledger_engine):
    """What the ledger holds arrives typed: money as minor units, times aware and in UTC, dates as dates."""
    due = Ledger(ledger_engine).get_payout_due(PAYOUT)

    assert Money(125_075, "usd") == due.amount
    assert ("failed", "failed", "scheduler_outage") == (due.status, due.standing, due.failure_reason)
    assert datetime(2026, 3, 2, 1, 4, 11, tzinfo=UTC) == due.failed_at
    assert date(2026, 2, 16) == due.period_start
    assert (None, None, None) == (due.paid_at, due.claimed_by, due.claimed_at)
    assert UTC is due.due_at.tzinfo


def test_absent_payout_is_none_for_find_and_named_by_get(ledger_engine):
    """Find may answer None; get says which id is missing where."""
    reader = Ledger(ledger_engine)

    assert reader.find_payout_due(ABSENT) is None
    with pytest.raises(ParameterError, match=rf"{ABSENT}.*manual_payout_due"):
        reader.get_payout_due(ABSENT)


def test_a_hostile_id_is_of_no_payout(ledger_engine):
    """What is asked for is a value, and never a part of the question."""

    assert Ledger(ledger_engine).find_payout_due("x' OR '1'='1") is None


def test_reserve_after_is_the_example_of_the_sop(ledger_engine):
    """1,560.75 less 1,250.75 leaves 310.00, above the minimum of 300.00."""
    reader = Ledger(ledger_engine)
    balance = reader.find_balance(incident.STUDIO_ID, "usd")
    after = balance.reserve_after(reader.get_payout_due(PAYOUT).amount)

    assert incident.RESERVE_AFTER == after.text
    assert incident.RESERVE_MINIMUM == balance.reserve_minimum.text
    assert NIGHT == balance.as_of


def test_balance_may_be_negative_and_absent(ledger_engine):
    """A studio can owe money; one without a balance in a currency has none, not zero."""
    run(ledger_engine, "UPDATE manual_payout_balance SET balance_minor = -5")
    reader = Ledger(ledger_engine)

    assert -5 == reader.find_balance(incident.STUDIO_ID, "usd").balance.amount_minor
    assert reader.find_balance(incident.STUDIO_ID, "eur") is None


def test_past_payouts_are_the_newest_paid_ones(ledger_engine):
    """The comparison is with what was paid, newest first, and never with what is still owed."""
    past = Ledger(ledger_engine).past_payouts(incident.STUDIO_ID, 5)

    assert 5 == len(past)
    assert sorted((one.paid_at for one in past), reverse=True) == [one.paid_at for one in past]
    assert PAYOUT not in [one.ledger_payout_id for one in past]
    assert 25 == len(Ledger(ledger_engine).past_payouts(incident.STUDIO_ID, 100))


def test_export_holds_the_documented_columns_as_text(ledger_engine):
    """The export is the ledger's row in the documented order, with times in UTC and nothing as empty text."""
    row = Ledger(ledger_engine).export_row(PAYOUT)

    assert DUE_COLUMNS == tuple(row)
    assert ("125075", "2026-03-02T01:04:11Z", "2026-03-01", "") == (
        row["amount_minor"],
        row["failed_at"],
        row["period_end"],
        row["paid_at"],
    )


def test_times_are_utc_whatever_the_servers_zone(ledger_engine):
    """A server in Tokyo and text without an offset on SQLite both mean the same instant."""
    if ledger_engine.dialect.name == "sqlite":
        run(ledger_engine, "UPDATE manual_payout_due SET failed_at = '2026-03-02 01:04:11' WHERE failed_at IS NOT NULL")
    else:
        name = ledger_engine.url.database
        run(ledger_engine, f"ALTER DATABASE {name} SET timezone = 'Asia/Tokyo'")
        ledger_engine.dispose()

    assert datetime(2026, 3, 2, 1, 4, 11, tzinfo=UTC) == Ledger(ledger_engine).get_payout_due(PAYOUT).failed_at


def test_timestamp_without_zone_is_refused_on_postgresql(ledger_engine):
    """Where the database could know the zone and does not, it is not guessed."""
    if ledger_engine.dialect.name == "sqlite":
        pytest.skip("SQLite has no types to be wrong about")
    run(ledger_engine, "ALTER TABLE manual_payout_due ALTER COLUMN due_at TYPE timestamp")

    with pytest.raises(DatabaseError, match=r"column due_at .*zone"):
        Ledger(ledger_engine).get_payout_due(PAYOUT)


def test_naive_time_of_a_claim_is_a_bug(ledger_engine):
    """The ledger never guesses what a naive datetime of ours means."""
    with pytest.raises(ValueError, match="Bug: naive"):
        Ledger(ledger_engine).claim(PAYOUT, "line-1", at=NIGHT.replace(tzinfo=None))


# Data that cannot be true


@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [
        ("currency", "zzz", "a currency that Stripe supports"),
        ("currency", "USD", "a currency that Stripe supports"),
        ("amount_minor", -1, "not negative"),
        ("amount_minor", 10**13, "at most 999999999999"),
        ("destination_account", "ba_123", "a connected account"),
        ("destination_account", "acct_١٢", "a connected account"),
        ("studio_id", "the seventh", "an id of 1 to 64 letters"),
        ("studio_name", "", "text"),
        ("status", "", "text"),
    ],
)
def test_row_that_cannot_be_true_is_named(ledger_engine, column, value, expected):
    """The error names the relation, the payout, the column, what was found and what was expected."""
    if ledger_engine.dialect.name == "postgresql":
        for name in ("amount_is_positive", "currency_is_iso", "status_is_known", "paid_has_a_time"):
            run(ledger_engine, f"ALTER TABLE manual_payout_due DROP CONSTRAINT {name}")
    run(
        ledger_engine,
        f"UPDATE manual_payout_due SET {column} = :value WHERE ledger_payout_id = '{PAYOUT}'",
        value=value,
    )

    with pytest.raises(DatabaseError, match=rf"manual_payout_due .*{PAYOUT} in column {column} .*{expected}"):
        Ledger(ledger_engine).get_payout_due(PAYOUT)


@pytest.mark.parametrize("value", [12.5, "12,50", "1250.75"])
def test_sqlite_amount_of_another_type_is_refused(sqlite_url, three_studios, value):
    """SQLite keeps whatever it is given; half a cent or text is not an amount."""
    engine = sa.create_engine(sqlite_url)
    create_demo_ledger(engine, three_studios)
    run(engine, "UPDATE manual_payout_due SET amount_minor = :value", value=value)

    with pytest.raises(DatabaseError, match="column amount_minor"):
        Ledger(engine).get_payout_due(PAYOUT)
    engine.dispose()


def test_two_rows_for_one_payout_are_refused(bare_engine):
    """A join that repeats a payout must not decide which of the two is paid."""
    columns = ", ".join(f"'x' AS {name}" for name in DUE_COLUMNS if name != "ledger_payout_id")
    one = f"SELECT '{PAYOUT}' AS ledger_payout_id, {columns}"
    run(bare_engine, f"CREATE VIEW manual_payout_due AS {one} UNION ALL {one}")

    with pytest.raises(DatabaseError, match=f"more than one row for payout {PAYOUT}"):
        Ledger(bare_engine).get_payout_due(PAYOUT)


def test_whole_numeric_is_an_amount_and_a_fraction_is_not(postgresql_engine, three_studios):
    """PostgreSQL's sum of bigints is numeric: exact where whole, refused where not."""
    create_demo_ledger(postgresql_engine, three_studios)
    run(postgresql_engine, "ALTER TABLE manual_payout_balance ALTER COLUMN balance_minor TYPE numeric")
    reader = Ledger(postgresql_engine)

    assert 156_075 == reader.find_balance(incident.STUDIO_ID, "usd").balance_minor
    run(postgresql_engine, "UPDATE manual_payout_balance SET balance_minor = 0.5")
    with pytest.raises(DatabaseError, match="column balance_minor"):
        reader.find_balance(incident.STUDIO_ID, "usd")


@pytest.mark.parametrize("kind", ["timestamp", "text", "date"])
def test_an_instant_without_a_zone_is_refused_where_the_database_has_types_for_it(
    postgresql_engine, three_studios, kind
):
    """On PostgreSQL the zone of such a balance is a guess, whatever the column's type; in a text with a zone it is not."""
    create_demo_ledger(postgresql_engine, three_studios)
    run(
        postgresql_engine,
        f"ALTER TABLE manual_payout_balance ALTER COLUMN as_of TYPE {kind} USING '2026-03-02 03:00:00'",
    )
    reader = Ledger(postgresql_engine)
    with pytest.raises(DatabaseError, match=r"column as_of .*a time with its zone"):
        reader.find_balance(incident.STUDIO_ID, "usd")
    run(
        postgresql_engine, "ALTER TABLE manual_payout_balance ALTER COLUMN as_of TYPE text USING '2026-03-02T03:00:00Z'"
    )

    assert NIGHT == reader.find_balance(incident.STUDIO_ID, "usd").as_of


# The claim


def test_claim_returns_the_row_as_it_then_stands(ledger_engine):
    """The sender compares amount and destination with what the claim's own transaction saw."""
    found = Ledger(ledger_engine).claim(PAYOUT, "line-1", at=NIGHT)

    assert ("claimed", "line-1", NIGHT, 125_075) == (
        found.standing,
        found.claimed_by,
        found.claimed_at,
        found.amount_minor,
    )
    assert found == Ledger(ledger_engine).get_payout_due(PAYOUT)


def test_second_claimant_is_told_who_holds_it(ledger_engine):
    """The other operator reads the holder and since when."""
    Ledger(ledger_engine).claim(PAYOUT, "line-1", at=NIGHT)

    with pytest.raises(ClaimError, match=r"claimed by 'line-1' since 2026-03-02 03:00:00 UTC"):
        Ledger(ledger_engine).claim(PAYOUT, "line-2", at=NIGHT)


def test_claiming_again_keeps_the_first_time(ledger_engine):
    """A run that continues after a crash still holds its claim, since when it first made it."""
    holder = Ledger(ledger_engine)
    holder.claim(PAYOUT, "line-1", at=NIGHT)
    again = holder.claim(PAYOUT, "line-1", at=NIGHT + timedelta(hours=1))

    assert NIGHT == again.claimed_at


def test_dead_claim_is_taken_over_only_when_named(ledger_engine):
    """A claim known to be dead gives way; its time is the new holder's."""
    later = NIGHT + timedelta(hours=1)
    claimant = Ledger(ledger_engine)
    claimant.claim(PAYOUT, "line-1", at=NIGHT)
    with pytest.raises(ClaimError, match="'line-1'"):
        claimant.claim(PAYOUT, "line-2", at=later, releasable=("line-0",))
    found = claimant.claim(PAYOUT, "line-2", at=later, releasable=("line-0", "line-1"))

    assert ("line-2", later) == (found.claimed_by, found.claimed_at)


def test_payout_paid_by_the_automation_cannot_be_claimed(ledger_engine):
    """What the automation has since paid is not paid by hand; the message says when."""
    assert attempt(ledger_engine, PAYOUT, NIGHT)

    with pytest.raises(ClaimError, match=r"already paid by the automation at 2026-03-02 03:00:00 UTC"):
        Ledger(ledger_engine).claim(PAYOUT, "line-1", at=NIGHT)


def test_payout_paid_under_a_claim_says_so(ledger_engine):
    """Closing a claimed payout as paid is the owner's act; the message does not blame the automation."""
    Ledger(ledger_engine).claim(PAYOUT, "line-1", at=NIGHT)
    run(ledger_engine, "UPDATE manual_payout_due SET status = 'paid', paid_at = failed_at WHERE claimed_by = 'line-1'")

    with pytest.raises(ClaimError, match="already paid under the claim 'line-1'"):
        Ledger(ledger_engine).claim(PAYOUT, "line-1", at=NIGHT)


def test_payout_in_another_status_cannot_be_claimed(ledger_engine):
    """Scheduled means that the automation may still pay it."""
    run(ledger_engine, f"UPDATE manual_payout_due SET status = 'scheduled' WHERE ledger_payout_id = '{PAYOUT}'")

    with pytest.raises(ClaimError, match="status 'scheduled', and only 'failed'"):
        Ledger(ledger_engine).claim(PAYOUT, "line-1", at=NIGHT)


def test_absent_payout_cannot_be_claimed(ledger_engine):
    """Nothing is claimed by a wrong id."""
    with pytest.raises(ClaimError, match=f"no payout {ABSENT}"):
        Ledger(ledger_engine).claim(ABSENT, "line-1", at=NIGHT)


def test_claim_without_a_name_is_refused(ledger_engine):
    """The second claimant must be told somebody's name."""
    with pytest.raises(ParameterError, match="claim_id"):
        Ledger(ledger_engine).claim(PAYOUT, "", at=NIGHT)


def test_refused_claim_changes_nothing(ledger_engine):
    """A row that cannot be true is not claimed on the way to its error."""
    run(ledger_engine, f"UPDATE manual_payout_due SET currency = 'zzz' WHERE ledger_payout_id = '{PAYOUT}'")
    with pytest.raises(DatabaseError, match="currency"):
        Ledger(ledger_engine).claim(PAYOUT, "line-1", at=NIGHT)
    run(ledger_engine, f"UPDATE manual_payout_due SET currency = 'usd' WHERE ledger_payout_id = '{PAYOUT}'")

    assert "failed" == Ledger(ledger_engine).get_payout_due(PAYOUT).status


def test_release_gives_back_only_ones_own_claim(ledger_engine):
    """Released, the payout is failed again and claimed by nobody; another's claim stays."""
    holder = Ledger(ledger_engine)
    holder.claim(PAYOUT, "line-1", at=NIGHT)

    assert not holder.release(PAYOUT, "line-2")
    assert holder.release(PAYOUT, "line-1")
    assert not holder.release(PAYOUT, "line-1")
    found = holder.get_payout_due(PAYOUT)
    assert ("failed", None, None) == (found.status, found.claimed_by, found.claimed_at)


def test_automation_leaves_a_claimed_payout_alone(ledger_engine):
    """The claim is what stops the automation."""
    Ledger(ledger_engine).claim(PAYOUT, "line-1", at=NIGHT)

    assert not attempt(ledger_engine, PAYOUT, NIGHT)
    assert "claimed" == Ledger(ledger_engine).get_payout_due(PAYOUT).standing


# The race


def won(engine, payout, name, start, mapping=None):
    """Claim at the signal; say whether it succeeded."""
    start.wait()
    try:
        Ledger(engine, mapping).claim(payout, name, at=NIGHT)
    except ClaimError:
        return False
    return True


def test_of_many_threads_exactly_one_claims(ledger_engine):
    """Twenty rounds of eight claimants at once: one winner each, and the ledger names that one."""
    payouts = fail_all(ledger_engine)[:20]
    names = [f"line-{number}" for number in range(8)]
    with ThreadPoolExecutor(len(names)) as pool:
        for payout in payouts:
            start = threading.Barrier(len(names))
            answers = list(pool.map(lambda name: won(ledger_engine, payout, name, start), names))  # noqa: B023
            winners = [name for name, answer in zip(names, answers, strict=True) if answer]

            assert [Ledger(ledger_engine).get_payout_due(payout).claimed_by] == winners


def test_either_the_automation_pays_or_one_operator_claims(ledger_engine):
    """The recovered automation at the same moment: every payout has exactly one taker."""
    payouts = fail_all(ledger_engine)[:20]
    with ThreadPoolExecutor(3) as pool:
        for payout in payouts:
            start = threading.Barrier(3)
            claims = [pool.submit(won, ledger_engine, payout, name, start) for name in ("line-1", "line-2")]
            start.wait()
            paid = attempt(ledger_engine, payout, NIGHT)

            assert 1 == paid + sum(claim.result() for claim in claims)


CLAIMANT = """
import sys
from datetime import UTC, datetime
from manual_payout.domain.errors import ClaimError
from manual_payout.ledger import open_ledger
url, name, *payouts = sys.argv[1:]
ledger = open_ledger(url)
ledger.find_payout_due(payouts[0])
print("ready", flush=True)
sys.stdin.readline()
for payout in payouts:
    try:
        ledger.claim(payout, name, at=datetime(2026, 3, 2, 3, tzinfo=UTC))
    except ClaimError:
        continue
    print(payout, flush=True)
"""


def test_of_several_processes_exactly_one_claims(ledger_engine, database_url):
    """Operators on separate machines are separate processes: each payout goes to one of them, none to nobody."""
    payouts = fail_all(ledger_engine)
    source = str(Path(manual_payout.__file__).parents[1])
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", CLAIMANT, database_url, f"line-{number}", *payouts],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={"PYTHONPATH": source},
        )
        for number in range(3)
    ]
    for process in processes:
        assert "ready\n" == process.stdout.readline()
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    won_by_each = [process.communicate(timeout=60)[0].split() for process in processes]

    assert payouts == sorted(payout for won_by_one in won_by_each for payout in won_by_one)


def test_stricter_isolation_of_the_role_does_not_turn_a_lost_race_into_a_failure(ledger_engine, database_url):
    """Under SERIALIZABLE by default the second claimant is still told who holds it."""
    if ledger_engine.dialect.name == "sqlite":
        pytest.skip("SQLite has one isolation level")
    run(
        ledger_engine, f"ALTER DATABASE {ledger_engine.url.database} SET default_transaction_isolation = 'serializable'"
    )
    engine = engines.connect(database_url, name="LEDGER_DATABASE_URL")
    start = threading.Barrier(4)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda name: won(engine, PAYOUT, name, start), "abcd"))
    engine.dispose()

    assert 1 == sum(answers)


def test_automation_pays_each_failed_payout_once(ledger_engine):
    """Several workers of the automation empty the list together, and no payout twice."""
    payouts = fail_all(ledger_engine)

    def work(_):
        return list(iter(lambda: pay_next_failed(ledger_engine, NIGHT), None))

    with ThreadPoolExecutor(3) as pool:
        paid = [payout for one in pool.map(work, range(3)) for payout in one]

    assert payouts == sorted(paid)


# The mapping


@pytest.mark.parametrize("name", ["a b", 'x"; DROP TABLE y; --', "a.b.c", "1st", "due.", ".due", "naïve", "x" * 64])
@pytest.mark.parametrize("field", ["due_relation", "balance_relation", "claim_relation"])
def test_relation_that_is_no_plain_name_is_refused(field, name):
    """Names from the policy file never become SQL unchecked."""
    with pytest.raises(SettingsError, match=f"{field} is "):
        LedgerMapping(**{field: name})


@pytest.mark.parametrize("words", [{"failed": "paid"}, {"claimed": ""}, {"claimed": "failed"}])
def test_statuses_must_be_three_words(words):
    """A claim that reads as paid or failed would not stop anybody."""
    with pytest.raises(SettingsError, match="three different words"):
        LedgerMapping(**words)


def test_other_names_words_and_types_are_mapped(postgresql_engine, three_studios):
    """Own relation names in a schema, an enum for the status and real uuids work as the defaults do."""
    create_demo_ledger(postgresql_engine, three_studios)
    for statement in (
        "CREATE SCHEMA books",
        "CREATE TYPE books.state AS ENUM ('BROKEN', 'BY_HAND', 'DONE', 'scheduled')",
        'CREATE TABLE books."Due" AS SELECT * FROM manual_payout_due',
        "CREATE TABLE books.funds AS SELECT * FROM manual_payout_balance",
        'ALTER TABLE books."Due" ALTER ledger_payout_id TYPE uuid USING ledger_payout_id::uuid',
        'ALTER TABLE books."Due" ALTER studio_id TYPE uuid USING studio_id::uuid',
        """ALTER TABLE books."Due" ALTER status TYPE books.state USING
           (CASE status WHEN 'failed' THEN 'BROKEN' WHEN 'paid' THEN 'DONE' ELSE 'scheduled' END)::books.state""",
        "ALTER TABLE books.funds ALTER studio_id TYPE uuid USING studio_id::uuid",
        "DROP TABLE manual_payout_due",
        "DROP TABLE manual_payout_balance",
    ):
        run(postgresql_engine, statement.replace(":", "\\:"))
    mapping = LedgerMapping("books.Due", "books.funds", "books.Due", failed="BROKEN", claimed="BY_HAND", paid="DONE")
    reader = Ledger(postgresql_engine, mapping)
    found = reader.claim(PAYOUT, "line-1", at=NIGHT)

    assert ("BY_HAND", "claimed", PAYOUT) == (found.status, found.standing, found.ledger_payout_id)
    assert 156_075 == reader.find_balance(incident.STUDIO_ID, "usd").balance_minor
    assert 25 == len(reader.past_payouts(incident.STUDIO_ID))
    assert reader.release(PAYOUT, "line-1")
    assert "BROKEN" == reader.get_payout_due(PAYOUT).status


def test_claim_that_the_due_view_hides_is_rolled_back(ledger_engine):
    """A view of failed payouts alone would lose sight of the claim; it is refused, and nothing stays claimed."""
    run(ledger_engine, "ALTER TABLE manual_payout_due RENAME TO payouts")
    run(ledger_engine, "CREATE VIEW manual_payout_due AS SELECT * FROM payouts WHERE status = 'failed'")
    claimant = Ledger(ledger_engine, LedgerMapping(claim_relation="payouts"))
    with pytest.raises(DatabaseError, match="does not show it; it was rolled back"):
        claimant.claim(PAYOUT, "line-1", at=NIGHT)

    assert "failed" == claimant.get_payout_due(PAYOUT).status


# A ledger that cannot be used


def test_missing_relation_is_named(bare_engine):
    """Which relation is missing, and where it is described."""
    with pytest.raises(DatabaseError, match=r"manual_payout_due.*docs/ledger\.md"):
        Ledger(bare_engine).find_payout_due(PAYOUT)


@pytest.mark.parametrize("column", DUE_COLUMNS)
def test_missing_column_is_named(ledger_engine, column):
    """Every documented column is missed by name; SQLite must not take its quoted name for text."""
    run(ledger_engine, f"ALTER TABLE manual_payout_due RENAME COLUMN {column} TO elsewhere")

    with pytest.raises(DatabaseError, match=rf"lacks a column .*{column}.*docs/ledger\.md"):
        Ledger(ledger_engine).find_payout_due(PAYOUT)


@pytest.mark.parametrize("column", BALANCE_COLUMNS)
def test_missing_balance_column_is_named(ledger_engine, column):
    """The same for the second relation."""
    run(ledger_engine, f"ALTER TABLE manual_payout_balance RENAME COLUMN {column} TO elsewhere")

    with pytest.raises(DatabaseError, match=rf"lacks a column .*{column}"):
        Ledger(ledger_engine).find_balance(incident.STUDIO_ID, "usd")


def test_unreachable_server_is_named_without_its_password():
    """Host and database appear; the password does not, not even in the traceback."""
    reader = open_ledger("postgresql://operator:s3cret-Pass@127.0.0.1:1/books")
    with pytest.raises(
        DatabaseError, match=r"cannot be reached at postgresql 127\.0\.0\.1:1, database books"
    ) as caught:
        reader.find_payout_due(PAYOUT)

    assert "s3cret" not in "".join(traceback.format_exception(caught.value))
    assert "Connection refused" in caught.value.message


def test_unreadable_url_is_refused_without_being_quoted():
    """A URL with a slip of the pen still holds a password."""
    # Not written inline: a traceback quotes the line that called.
    url = "postgres:/operator:s3cret-Pass@host/books"
    with pytest.raises(SettingsError, match="LEDGER_DATABASE_URL") as caught:
        open_ledger(url)

    assert "s3cret" not in "".join(traceback.format_exception(caught.value))


def test_sqlite_file_that_is_not_there_is_not_made(tmp_path):
    """A slip in the path must not become an empty ledger."""
    path = tmp_path / "ledger.sqlite"
    with pytest.raises(DatabaseError, match="there is no SQLite file"):
        open_ledger(f"sqlite:///{path}")

    assert not path.exists()


def test_file_that_is_no_database_is_said_to_be_none(tmp_path):
    """A damaged or foreign file is an error with its name."""
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(b"amount,currency\n" * 200)
    reader = open_ledger(f"sqlite:///{path}")

    with pytest.raises(DatabaseError, match=r"ledger\.sqlite failed \(file is not a database\)"):
        reader.find_payout_due(PAYOUT)


def test_row_held_by_the_automation_is_busy_not_hung(ledger_engine, database_url, monkeypatch):
    """A transaction that the automation left open makes the claim wait a while, then say so."""
    monkeypatch.setattr(base, "LOCK_TIMEOUT_S", 0.2)
    options = {"timeout": 0.2} if ledger_engine.dialect.name == "sqlite" else {}
    engine = sa.create_engine(database_url.replace("postgresql://", "postgresql+psycopg://"), connect_args=options)
    with ledger_engine.begin() as automation:
        automation.execute(sa.text("UPDATE manual_payout_due SET failure_reason = 'trying again'"))
        with pytest.raises(DatabaseError, match="busy: somebody else holds the row"):
            Ledger(engine).claim(PAYOUT, "line-1", at=NIGHT)
    engine.dispose()


def test_constraint_that_forbids_the_claimed_word_is_explained(ledger_engine):
    """Their own constraint does not know our word: say so, and where to read on."""
    mapping = LedgerMapping(claimed="claimed_by_hand")

    with pytest.raises(DatabaseError, match=r"refuses the claim's values .*status_is_known"):
        Ledger(ledger_engine, mapping).claim(PAYOUT, "line-1", at=NIGHT)


@pytest.fixture(name="postgresql_engine")
def _postgresql_engine(request):
    """An empty PostgreSQL database, where only PostgreSQL is meant."""
    server = request.getfixturevalue("postgresql_server")
    name = "only_" + "".join(c for c in request.node.name.lower() if c.isalnum())[:50]
    admin = sa.create_engine(server.replace("postgresql://", "postgresql+psycopg://"), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE IF EXISTS {name}")
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    admin.dispose()
    engine = engines.connect(server.replace("/postgres?", f"/{name}?"), name="LEDGER_DATABASE_URL")
    yield engine
    engine.dispose()
