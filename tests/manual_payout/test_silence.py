"""A database that stops to answer is a sentence within half a minute, wherever it stops."""

from __future__ import annotations

import os
import signal
import time

import psycopg
import pytest
import sqlalchemy as sa

from blackhole import network
from desks import Scene
from instants import NOW
from manual_payout.database import engines, postgresql
from manual_payout.database.clock import DatabaseClock, FixedClock
from manual_payout.database.store import Store
from manual_payout.domain.errors import DatabaseError, ManualPayoutError
from manual_payout.domain.models import State
from manual_payout.ledger import Ledger, base
from payout_rehearsal.demo import incident

on_postgresql = pytest.mark.parametrize("any_demo_url", ["postgresql"], indirect=True)


@pytest.fixture(name="hasty")
def _hasty(monkeypatch):
    """The same time-outs, a tenth as long or less."""
    for name, seconds in {"ANSWER_S": 1.5, "STATEMENT_S": 1, "LOCK_S": 1, "CONNECT_S": 2, "_AGAIN_S": 0.5}.items():
        monkeypatch.setattr(postgresql, name, seconds)
    settings = {"statement_timeout": "1s", "lock_timeout": "500ms"}
    monkeypatch.setattr(postgresql, "_SETTINGS", postgresql._SETTINGS | settings)
    monkeypatch.setattr(base, "LOCK_TIMEOUT_S", 1)


@pytest.fixture(name="between")
def _between(any_demo_url):
    with network(any_demo_url) as between:
        yield between


@pytest.fixture(name="engine")
def _engine(between, hasty):
    engine = engines.connect(between.url, name="DATABASE_URL")
    yield engine
    engine.dispose()


def test_sentence_comes_within_half_a_minute():
    """The most telling time-out comes first, and all waits of one question, with a new connection by two addresses, are 30 s."""
    assert postgresql.LOCK_S < postgresql.STATEMENT_S < postgresql.ANSWER_S
    assert postgresql.ANSWER_S + 2 * 2 <= 30
    assert engines._SQLITE_BUSY_S < 30
    assert base.LOCK_TIMEOUT_S <= postgresql.LOCK_S


@on_postgresql
def test_silent_server_ends_a_read_a_commit_and_a_connect(between, engine):
    """Each is the database's failure, in time; and once it answers again all goes on with what was written before."""
    store = Store(engine, FixedClock(NOW))
    first = store.record_event("INC-1/x", "noted", "tester", {"n": 1})
    ours = sa.event.listens_for(engine, "commit")

    def silent(act, said):
        began = time.monotonic()
        with pytest.raises(DatabaseError, match=said):
            act()
        assert time.monotonic() - began < 6

    @ours
    def _cut(_connection):
        between.carries = False

    silent(lambda: store.record_event("INC-1/x", "noted", "tester", {"n": 2}), "gave no answer for 2 s")
    silent(lambda: store.events_of("INC-1/x"), "timeout expired")
    sa.event.remove(engine, "commit", _cut)
    between.carries = True
    assert first in store.events_of("INC-1/x")
    between.carries = False
    silent(lambda: store.events_of("INC-1/x"), "did not answer as it should")
    silent(lambda: DatabaseClock(engine).now(), "did not answer as it should")
    between.carries = True

    assert store.record_event("INC-1/x", "noted", "tester", {"n": 3})


@on_postgresql
def test_silent_ledger_is_said_to_be_out_of_reach(between, hasty):
    """By the ledger's own sentence, for a read and for the claim."""
    engine = engines.connect(between.url, name="LEDGER_DATABASE_URL")
    ledger = Ledger(engine)
    ledger.get_payout_due(incident.LEDGER_PAYOUT_ID)
    between.carries = False
    began = time.monotonic()
    for act in (
        lambda: ledger.get_payout_due(incident.LEDGER_PAYOUT_ID),
        lambda: ledger.claim(incident.LEDGER_PAYOUT_ID, "line-1", at=NOW),
    ):
        with pytest.raises(DatabaseError, match=r"The ledger cannot be reached at postgresql 127\.0\.0\.1"):
            act()

    assert time.monotonic() - began < 10
    engine.dispose()


@on_postgresql
def test_stopped_server_process_is_no_wait_without_end(between, engine):
    """The network is well and the process stands still: no time-out of the server's own can end that."""
    store = Store(engine, FixedClock(NOW))
    with engine.connect() as connection:
        process = connection.exec_driver_sql("SELECT pg_catalog.pg_backend_pid()").scalar()
        os.kill(process, signal.SIGSTOP)
        try:
            with pytest.raises(DatabaseError, match="gave no answer"), engines.database_errors(engine):
                connection.exec_driver_sql("SELECT 1")
        finally:
            os.kill(process, signal.SIGCONT)

    assert store.record_event("INC-1/x", "noted", "tester", {"n": 1})


@on_postgresql
def test_slow_and_locked_are_told_by_the_server(any_demo_url, between, engine):
    """A lock that somebody holds and a view that never ends are named as what they are."""
    store = Store(engine, FixedClock(NOW))
    ledgers = engines.connect(between.url, name="LEDGER_DATABASE_URL")
    with psycopg.connect(any_demo_url) as other:
        other.execute("LOCK TABLE events")
        with pytest.raises(DatabaseError, match="lock timeout"):
            store.events_of("INC-1/x")
    with psycopg.connect(any_demo_url, autocommit=True) as other:
        other.execute("ALTER TABLE manual_payout_due RENAME TO payouts")
        other.execute("CREATE VIEW manual_payout_due AS SELECT payouts.* FROM payouts, pg_sleep(20)")
    with pytest.raises(
        DatabaseError, match=r"took too long to answer \(canceling statement due to statement timeout\)"
    ):
        Ledger(ledgers).get_payout_due(incident.LEDGER_PAYOUT_ID)
    ledgers.dispose()


@on_postgresql
def test_database_that_goes_silent_when_stripe_answers_ends_the_send_in_time(
    any_demo_url, between, hasty, tmp_path, shared_stripe, monkeypatch
):
    """One transfer is made; the run says so within the time-outs, and finds it when the database is back."""
    shared_stripe.reset()
    scene = Scene(tmp_path, between.url, shared_stripe).prepare()
    gateway, create = scene.desk.gateway, scene.desk.gateway.create_transfer

    def cut(*arguments, **options):
        answer = create(*arguments, **options)
        between.carries = False
        return answer

    monkeypatch.setattr(gateway, "create_transfer", cut)
    began = time.monotonic()
    with pytest.raises(ManualPayoutError) as caught:
        scene.send()
    took = time.monotonic() - began
    between.carries = True

    assert caught.value.exit_code in {4, 5}
    assert took < 20
    assert 1 == len(scene.transfers)
    scene.pass_time(hours=1)
    scene.reconcile()
    assert State.PAID is scene.record.state
    assert 1 == len(scene.transfers)
    scene.close()


@on_postgresql
def test_command_line_says_it_in_one_sentence(between, hasty, open_shell, tmp_path):
    """Exit code 5, the database and what to do; no trace of the driver."""
    with open_shell(tmp_path) as shell:
        between.carries = False
        began = time.monotonic()
        answer = shell("status", DATABASE_URL=between.url)

    assert 5 == answer.code
    assert "did not answer as it should" in answer.err
    assert "Traceback" not in answer.err
    assert time.monotonic() - began < 10
