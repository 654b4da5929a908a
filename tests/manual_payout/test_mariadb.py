"""The ledger in a real MariaDB, made by the page's own SQL, with the page's own grants."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime

import pytest
import sqlalchemy as sa
from tests.manual_payout import test_ledger_docs as page

from manual_payout.database import engines
from manual_payout.domain.errors import ClaimError, DatabaseError, ParameterError, SettingsError
from manual_payout.ledger import Ledger
from openssh import required
from processes import wait_until

pytestmark = required("mariadbd")
SECRET = "from-your-secret-manager"


@pytest.fixture(scope="module", name="server")
def _server(tmp_path_factory):
    """A MariaDB of this file's own, in another time zone and as lax as it can be: an administrator's engine, and the socket."""
    root = tmp_path_factory.mktemp("m")
    made = ["mariadb-install-db", "--no-defaults", f"--datadir={root / 'd'}", "--user=root", "--skip-test-db"]
    subprocess.run([*made, "--auth-root-authentication-method=normal"], check=True, capture_output=True)
    command = [
        shutil.which("mariadbd"),
        "--no-defaults",
        f"--datadir={root / 'd'}",
        f"--socket={root / 's'}",
        "--user=root",
    ]
    lax = ["--skip-networking", "--default-time-zone=+13:00", "--sql-mode=", "--transaction-isolation=SERIALIZABLE"]
    process = subprocess.Popen([*command, *lax], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until((root / "s").exists)
    admin = sa.create_engine(
        f"mysql+pymysql://root@localhost/mysql?unix_socket={root / 's'}", isolation_level="AUTOCOMMIT"
    )
    yield admin, root / "s"
    admin.dispose()
    process.terminate()
    process.wait()


@pytest.fixture(name="books")
def _books(server):
    """The page's ledger, seen as the runbook's role sees it; and what an administrator does to it."""
    admin, socket = server
    with admin.connect() as connection:
        first = [
            "DROP DATABASE IF EXISTS books",
            "DROP USER IF EXISTS manual_payout_runbook",
            "CREATE DATABASE books",
            "USE books",
        ]
        for statement in [
            *first,
            "SET time_zone = '+00:00'",
            *";".join([*page.blocks("mariadb"), page.ROWS["mysql"]]).split(";"),
        ]:
            if statement.strip():
                connection.exec_driver_sql(statement)
        connection.invalidate()
    url = f"mariadb://manual_payout_runbook:{SECRET}@localhost/books?unix_socket={socket}"
    engine = engines.connect(url, name="LEDGER_DATABASE_URL")

    def act(statement):
        with admin.connect() as connection:
            connection.exec_driver_sql(statement)

    yield Ledger(engine, page.THROUGH_VIEW), act
    engine.dispose()


def test_documented_views_read_and_claim_as_the_contract_says(books):
    """Types, times in UTC, the claim, its refusal to a second, and its release, with no more than the page's grants."""
    ledger, _ = books
    due, balance = ledger.get_payout_due(page.PAYOUT), ledger.find_balance(page.STUDIO, "usd")

    assert ("O'Hara's Pottery", 125_075, date(2026, 2, 16)) == (due.studio_name, due.amount_minor, due.period_start)
    assert datetime(2026, 3, 2, 1, 4, 11, tzinfo=UTC) == due.failed_at
    assert (156_075, 30_000) == (balance.balance_minor, balance.reserve_minimum_minor)
    assert [page.BEFORE] == [one.ledger_payout_id for one in ledger.past_payouts(page.STUDIO)]
    assert [page.PAYOUT] == [one.ledger_payout_id for one in ledger.failed_payouts()]
    assert page.NIGHT == ledger.claim(page.PAYOUT, "line-1", at=page.NIGHT).claimed_at
    assert page.NIGHT == ledger.claim(page.PAYOUT, "line-1", at=datetime.now(UTC)).claimed_at
    for other in ("line-2", "LINE-1", "line-1 "):
        with pytest.raises(ClaimError, match="'line-1'"):
            ledger.claim(page.PAYOUT, other, at=page.NIGHT)
        assert not ledger.release(page.PAYOUT, other)
    assert ledger.release(page.PAYOUT, "line-1")
    assert "failed" == ledger.get_payout_due(page.PAYOUT).status


def test_id_is_compared_to_the_letter(books):
    """Its collation takes an A for an a, and a blank at the end for nothing."""
    ledger, _ = books

    assert None is ledger.find_payout_due(page.PAYOUT.upper())
    with pytest.raises((ClaimError, ParameterError)):
        ledger.claim(page.PAYOUT.upper(), "line-1", at=page.NIGHT)


def test_claims_at_once_have_one_winner(books):
    """Ten rounds of six at once: one wins, and the ledger names that one."""
    ledger, _ = books
    names = [f"line-{number}" for number in range(6)]

    def won(name, start):
        start.wait()
        try:
            ledger.claim(page.PAYOUT, name, at=page.NIGHT)
        except ClaimError:
            return False
        return True

    with ThreadPoolExecutor(len(names)) as pool:
        for _ in range(10):
            start = threading.Barrier(len(names))
            answers = list(pool.map(won, names, [start] * len(names)))
            winners = [name for name, answer in zip(names, answers, strict=True) if answer]

            assert [ledger.get_payout_due(page.PAYOUT).claimed_by] == winners
            assert ledger.release(page.PAYOUT, winners[0])


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("ALTER TABLE books.payouts ENGINE = MyISAM", r"not all of the engine InnoDB: found books\.payouts \(MyISAM\)"),
        (
            "REVOKE SELECT (id) ON books.payouts FROM manual_payout_runbook",
            r"does not show the runbook's role which engine",
        ),
        (
            "REVOKE UPDATE (status, claimed_by, claimed_at) ON books.manual_payout_claim FROM manual_payout_runbook",
            r"not permit",
        ),
        ("DROP VIEW books.manual_payout_claim", r"lacks a relation|does not permit this"),
        ("ALTER TABLE books.payouts MODIFY claimed_by VARCHAR(2)", r"refuses the claim's values"),
    ],
)
def test_ledger_that_cannot_take_a_claim_says_why(books, statement, said):
    """And nothing is written."""
    ledger, act = books
    act(statement)
    with pytest.raises(DatabaseError, match=said):
        ledger.try_claim(page.PAYOUT, "line-1", at=page.NIGHT)
    with pytest.raises(DatabaseError, match=said) as caught:
        ledger.claim(page.PAYOUT, "line-1", at=page.NIGHT)

    assert "failed" == ledger.get_payout_due(page.PAYOUT).status
    assert SECRET not in str(caught.value)


def test_tried_claim_waits_a_second_for_a_row_that_somebody_holds(books, server):
    """A claim that is meant waits longer, and afterwards does so again on the same connection."""
    ledger, (admin, _) = books[0], server
    waited = []
    with admin.connect().execution_options(isolation_level="READ COMMITTED") as holder, holder.begin():
        holder.exec_driver_sql("SELECT * FROM books.payouts FOR UPDATE")
        began = time.monotonic()
        with pytest.raises(DatabaseError, match="busy"):
            ledger.try_claim(page.PAYOUT, "line-1", at=page.NIGHT)
        waited.append(time.monotonic() - began)
    ledger.try_claim(page.PAYOUT, "line-1", at=page.NIGHT)

    assert waited[0] < 5
    assert "failed" == ledger.get_payout_due(page.PAYOUT).status
    assert page.NIGHT == ledger.claim(page.PAYOUT, "line-1", at=page.NIGHT).claimed_at


def test_our_own_tables_are_not_kept_there():
    """They need indexes that it does not have."""
    with pytest.raises(SettingsError, match="found a mysql database, expected sqlite or postgresql"):
        engines.connect("mysql://u:p@h/d", name="DATABASE_URL")
