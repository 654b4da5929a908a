"""Our state keeps its promises on both databases."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from instants import NOW
from manual_payout.database import engines, journal
from manual_payout.database.clock import DatabaseClock
from manual_payout.database.schema import metadata
from manual_payout.database.store import Store
from manual_payout.domain.errors import ApprovalError, ClaimError, DatabaseError, EvidenceError
from manual_payout.domain.models import Kind, Line, Message, MessageState, Mode, PayoutRecord, Reason, Request, State
from manual_payout.domain.money import Money
from manual_payout.transfer import KEY_WINDOW as WINDOW


def test_migrations_and_tables_agree(engine):
    """What the migrations make is what the code expects."""
    with engine.execution_options(own_schema=True).connect() as connection:
        found = compare_metadata(MigrationContext.configure(connection), metadata)

    assert [] == found


@pytest.mark.parametrize("use", [engines.require_current, engines.upgrade_database])
@pytest.mark.parametrize("revision", ["0001", "0007", "9999"])
def test_database_of_another_version_is_refused_in_one_sentence(engine, use, revision):
    """It is neither read nor changed, and the sentence says what to do."""
    with engine.execution_options(own_schema=True).begin() as connection:
        connection.exec_driver_sql(f"UPDATE alembic_version SET version_num = '{revision}'")
    with pytest.raises(DatabaseError, match=f"made by another version of this program: it is at migration {revision}"):
        use(engine)


def test_journal_refuses_to_change(store, raw):
    """Not even the database's own client changes or deletes a line of the journal."""
    store.record_event("INC-1/x", "noted", "tester", {"n": 1})
    for statement in ("UPDATE events SET stream = 'y'", "DELETE FROM events"):
        with pytest.raises(sa.exc.DBAPIError, match="append-only"):
            raw(statement)


def test_journal_is_chained(store):
    """Events are numbered from one without gaps and each names the one before."""
    for number in range(3):
        store.record_event("INC-1/x", "noted", "tester", {"n": number})
    chain = store.events_of("INC-1/x")

    assert [1, 2, 3] == [e.seq for e in chain]
    assert [""] + [e.digest for e in chain[:2]] == [e.previous for e in chain]


# ---------------------------------------------------------------------------------------------- the sending, by itself

REQUEST_TABLES = ("requests", "request_lines", "approvals")


def filed(number=1, **changes):
    """A request of one line."""
    line = Line(f"line-{number}", 1, "studio-1", "Harbor", "ledger-1", Money(100, "usd"), Money(0, "usd"), "acct_123")
    request = Request(
        f"request-{number}", "INC-1", Kind.TRANSFER, Mode.SANDBOX, "acct_p", "maya", Reason.OTHER, "", f"nonce-{number}",
        NOW, NOW + timedelta(hours=24), (line,),
    )  # fmt: skip
    return replace(request, **changes)


def intent(number=1, **changes):
    """A payout record of its line, about to be sent."""
    record = PayoutRecord(
        payout_id=f"line-{number}", request_id=f"request-{number}", incident_id="INC-1", ledger_payout_id="ledger-1",
        studio_id="studio-1", studio_name="Harbor", amount=Money(100, "usd"), reserve_after=Money(0, "usd"),
        destination_account="acct_123", mode=Mode.SANDBOX, reason=Reason.OTHER, notes="", requested_by="maya",
        approved_by_payments_ops="priya", approved_by_finance="amara", operator_id="tomas", state=State.SUBMITTING, attempt_no=1,
        idempotency_key=f"key-{number}-1", transfer_group="group", payload="{}", owner="owner-1", fence=1, lease_until=None,
        sent=False, created_at=NOW,
    )  # fmt: skip
    return replace(record, **changes)


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 2, 1), (2, 3, 1)])
def test_of_requests_of_one_instant_the_journal_says_which_is_the_last(store, order):
    """The sandbox's clock stands still: the newest is the one that was filed last, whatever its id."""
    for number in order:
        store.record_request(filed(number))
    newest_first = [f"request-{number}" for number in reversed(order)]

    assert newest_first[0] == store.find_request("INC-1").request_id
    assert newest_first == [request.request_id for request in store.open_requests("INC-1")]


def begin(store, record=None, *, approvals=("a1", "a2"), lease_s=60.0, later=timedelta(hours=1)):
    return store.record_intent(record or intent(), approvals, lease_s=lease_s, not_after=store.clock.now() + later)


@pytest.fixture(name="begun")
def _begun(store):
    """A store in which a sending has begun."""
    store.record_request(filed())
    begin(store)
    return store


@pytest.mark.parametrize("table", REQUEST_TABLES)
def test_written_rows_refuse_to_change(any_scene, table):
    """A request, its line and an approval that are there can be neither changed nor deleted, on either database."""
    column = metadata.tables[table].primary_key.columns.values()[0].name
    for statement in (f"UPDATE {table} SET {column} = 'y'", f"DELETE FROM {table}"):
        with pytest.raises(sa.exc.DBAPIError, match="append-only"), any_scene.engine.begin() as connection:
            connection.exec_driver_sql(statement)


def test_intent_is_one_transaction(store, monkeypatch):
    """If the last part of it fails, nothing of it is there: neither row nor attempt nor event."""
    store.record_request(filed())

    def fails(*_args, **_kwargs):
        raise RuntimeError("the journal")

    with monkeypatch.context() as patch:
        patch.setattr(journal, "append", fails)
        with pytest.raises(RuntimeError):
            begin(store)

    assert store.find_payout("line-1") is None
    assert "intent_recorded" not in [event.kind for event in store.events_of("INC-1/ledger-1")]
    assert State.SUBMITTING is begin(store).state


@pytest.mark.parametrize("write", ["mark_sent", "record_outcome", "take_over"])
def test_every_write_of_a_sending_is_one_transaction(begun, monkeypatch, write):
    """A row never changes without its event."""
    record = begun.find_payout("line-1")
    calls = {
        "mark_sent": lambda: begun.mark_sent(record, lease_s=60, window=WINDOW),
        "record_outcome": lambda: begun.record_outcome(record, State.UNKNOWN, "lost", actor="tomas"),
        "take_over": lambda: begun.take_over(record, owner="o", operator_id="p", lease_s=60),
    }
    begun.clock.wait(0 if write != "take_over" else 61)

    def fails(*_args, **_kwargs):
        raise RuntimeError("the journal")

    with monkeypatch.context() as patch:
        patch.setattr(journal, "append", fails)
        with pytest.raises(RuntimeError):
            calls[write]()

    assert record == begun.find_payout("line-1")


def test_one_live_row_for_a_ledger_payout(begun):
    """A second request for the same ledger payout cannot begin while the first is live; it is told who holds it."""
    begun.record_request(filed(2))
    with pytest.raises(ClaimError, match=r"INC-1, submitting since .* by owner-1"):
        begin(begun, intent(2), approvals=("a3", "a4"))


@pytest.mark.parametrize("state", [state for state in State if state is not State.APPROVED])
def test_live_states_are_those_in_which_money_may_have_moved(begun, raw, state):
    """Only after a refusal or a full reversal may another row for the same ledger payout live."""
    begun.record_request(filed(2))
    raw(f"UPDATE manual_payouts SET state = '{state}', stripe_transfer_id = 'tr_1'")

    if state in (State.REFUSED, State.REVERSED):
        assert State.SUBMITTING is begin(begun, intent(2), approvals=("a3", "a4")).state
    else:
        with pytest.raises(ClaimError):
            begin(begun, intent(2), approvals=("a3", "a4"))


@pytest.mark.parametrize("approvals", [("a1", "a4"), ("a3", "a2")])
def test_approval_stands_under_one_row_only(begun, raw, approvals):
    """Single use is the database's: an approval used for one line cannot carry another."""
    begun.record_request(filed(2))
    raw("UPDATE manual_payouts SET state = 'refused'")
    with pytest.raises(ClaimError, match="its approvals stand"):
        begin(begun, intent(2), approvals=approvals)


def test_paid_needs_a_transfer(begun):
    """The database itself refuses a paid row without one."""
    with pytest.raises(sa.exc.IntegrityError):
        begun.record_outcome(begun.find_payout("line-1"), State.PAID, "x", actor="tomas")


def test_transfer_stands_under_one_row_only(begun, raw):
    """One transfer cannot settle two payouts."""
    begun.record_request(filed(2))
    begun.record_outcome(begun.find_payout("line-1"), State.PAID, "x", actor="tomas", made={"id": "tr_1"})
    raw("UPDATE manual_payouts SET state = 'reversed'")
    second = begin(begun, intent(2), approvals=("a3", "a4"))

    with pytest.raises(sa.exc.IntegrityError):
        begun.record_outcome(second, State.PAID, "x", actor="tomas", made={"id": "tr_1"})


@pytest.mark.parametrize("changes", [{"fence": 2}, {"attempt_no": 3}])
def test_second_attempt_needs_the_first_as_it_was_left(begun, changes):
    """Attempt 2 follows attempt 1, by whoever saw it refused."""
    begun.record_outcome(begun.find_payout("line-1"), State.REFUSED, "no", actor="tomas")
    second = replace(intent(attempt_no=2, fence=2, idempotency_key="key-1-2"), **changes)

    if changes == {"fence": 2}:
        assert 2 == begin(begun, second).attempt_no
    with pytest.raises((ClaimError, sa.exc.IntegrityError)):
        begin(begun, second)


def test_second_attempt_starts_clean(begun):
    """Nothing of the first attempt's sending is left in the row, and its beginning is on record."""
    sent = begun.mark_sent(begun.find_payout("line-1"), lease_s=60, window=WINDOW)
    begun.record_outcome(sent, State.REFUSED, "no", actor="tomas", code="balance_insufficient")
    begun.clock.wait(600)
    second = begin(begun, intent(attempt_no=2, fence=2, idempotency_key="key-1-2"), approvals=("a3", "a4"))

    assert (False, None, None, None) == (second.sent, second.first_sent_at, second.outcome_reason, second.outcome_at)
    assert (NOW, NOW + timedelta(seconds=600)) == (second.created_at, begun.began_at(second))


def test_intent_after_its_judgement_expired_is_refused(store):
    """What was judged too long ago begins nothing."""
    store.record_request(filed())
    with pytest.raises(ApprovalError, match="verifies afresh"):
        begin(store, later=timedelta(0))

    assert store.find_payout("line-1") is None


@pytest.mark.parametrize("wait_s", [0, 59.9])
def test_held_sending_is_not_taken_over(begun, wait_s):
    """Not even by the same operator: a lease belongs to one run."""
    begun.clock.wait(wait_s)
    with pytest.raises(ClaimError, match="in the hands of owner-1 until 03:01:00 UTC"):
        begun.take_over(begun.find_payout("line-1"), owner="owner-2", operator_id="p", lease_s=60)


def test_sending_is_taken_over_once(begun):
    """Of two that saw the same lease end, one wins."""
    begun.clock.wait(60)
    seen = begun.find_payout("line-1")
    begun.take_over(seen, owner="owner-2", operator_id="p", lease_s=60)

    with pytest.raises(ClaimError, match="owner-2"):
        begun.take_over(seen, owner="owner-3", operator_id="p", lease_s=60)


@pytest.mark.parametrize("state", [State.PAID, State.REFUSED])
def test_ended_sending_is_not_taken_over(begun, state):
    """There is nothing left to send."""
    transfer = {"id": "tr_1"} if state is State.PAID else None
    ended = begun.record_outcome(begun.find_payout("line-1"), state, "x", actor="tomas", made=transfer)
    begun.clock.wait(600)

    with pytest.raises(ClaimError, match=f"is {state}"):
        begun.take_over(ended, owner="owner-2", operator_id="p", lease_s=60)


STALE = {
    "other owner": {"owner": "owner-9"},
    "old fence": {"fence": 0},
    "other attempt": {"attempt_no": 2},
    "other payout": {"payout_id": "line-9"},
}


@pytest.mark.parametrize("name", STALE)
def test_fence_lets_only_the_holder_through(begun, name):
    """Whoever differs in one of them may not send; the row stays unsent."""
    stale = replace(begun.find_payout("line-1"), **STALE[name])
    with pytest.raises(ClaimError):
        begun.mark_sent(stale, lease_s=60, window=WINDOW)

    assert not begun.find_payout("line-1").sent


def test_fence_closes_with_the_lease(begun):
    """At its very end the lease is over."""
    begun.clock.wait(60)
    with pytest.raises(ClaimError, match="lost the right to send"):
        begun.mark_sent(begun.find_payout("line-1"), lease_s=60, window=WINDOW)


def test_fence_renews_the_lease_and_keeps_the_first_sending(begun):
    """The key's window counts from the first time it was used, however often it is used."""
    record = begun.mark_sent(begun.find_payout("line-1"), lease_s=60, window=WINDOW)
    begun.clock.wait(30)
    record = begun.mark_sent(record, lease_s=60, window=WINDOW)

    assert (NOW, NOW + timedelta(seconds=90)) == (record.first_sent_at, record.lease_until)


def test_outcome_needs_the_fence_unless_it_is_a_transfer(begun):
    """An overtaken run cannot say that nothing moved or that it does not know; that Stripe has it, it can."""
    stale = begun.find_payout("line-1")
    begun.clock.wait(60)
    begun.take_over(stale, owner="owner-2", operator_id="p", lease_s=60)
    for state in (State.REFUSED, State.UNKNOWN, State.NEEDS_HUMAN):
        with pytest.raises(ClaimError, match="submitting, by owner-2"):
            begun.record_outcome(stale, state, "x", actor="tomas")

    assert State.PAID is begun.record_outcome(stale, State.PAID, "x", actor="tomas", made={"id": "tr_1"}).state


def test_transfer_on_record_is_never_erased_or_replaced(begun):
    """A later outcome without a transfer keeps the one that is known; another one, or a refusal, is refused."""
    record = begun.find_payout("line-1")
    known = begun.record_outcome(record, State.NEEDS_HUMAN, "differs", actor="tomas", made={"id": "tr_1"})
    again = begun.record_outcome(known, State.NEEDS_HUMAN, "still", actor="tomas")
    with pytest.raises(ClaimError):
        begun.record_outcome(again, State.REFUSED, "no", actor="tomas")
    with pytest.raises(ClaimError):
        begun.record_outcome(again, State.PAID, "yes", actor="tomas", made={"id": "tr_2"})
    with pytest.raises(ClaimError):
        begun.mark_sent(again, lease_s=60, window=WINDOW)

    assert "tr_1" == again.stripe_transfer_id == begun.find_payout("line-1").stripe_transfer_id


def test_paid_is_final(begun):
    """The same outcome again is the same; any other is refused."""
    paid = begun.record_outcome(begun.find_payout("line-1"), State.PAID, "x", actor="tomas", made={"id": "tr_1"})
    again = begun.record_outcome(paid, State.PAID, "x", actor="noor", made={"id": "tr_1"})
    for state in (State.REFUSED, State.UNKNOWN, State.NEEDS_HUMAN):
        with pytest.raises(ClaimError):
            begun.record_outcome(paid, state, "x", actor="tomas")

    assert paid == again
    assert 1 == len([event for event in begun.events_of("INC-1/ledger-1") if event.kind == "outcome_paid"])


def test_clock_of_a_database_that_is_away_says_so_as_every_question_does():
    """A loop that waits for the database to come back knows its errors by their kind, the clock's too."""
    gone = engines.connect("postgresql://nobody@127.0.0.1:1/none", name="DATABASE_URL")
    store = Store(gone, DatabaseClock(gone))
    for ask in (store.clock.now, store.open_requests):
        with pytest.raises(DatabaseError, match="did not answer"):
            ask()


def test_fence_judges_by_the_databases_clock_after_a_real_wait(engine, tmp_path):
    """Held up by another writer for longer than the lease, by real time, the fence stays shut."""
    store = Store(engine, DatabaseClock(engine))
    store.record_request(filed())
    record = begin(store, lease_s=0.3)
    locked, results = threading.Event(), []

    def hold():
        with engine.connect().execution_options(write=True) as connection, connection.begin():
            journal.hold_stream(connection, "INC-1/ledger-1")
            locked.set()
            time.sleep(0.6)

    def send():
        try:
            results.append(store.mark_sent(record, lease_s=60, window=WINDOW))
        except ClaimError as error:
            results.append(error)

    holder, sender = threading.Thread(target=hold), threading.Thread(target=send)
    holder.start()
    locked.wait()
    sender.start()
    sender.join()
    holder.join()

    assert [ClaimError] == [type(result) for result in results]


# ---------------------------------------------------------------------------------------------- requests and messages


def test_request_in_force_counts_before_an_expired_newer_one(store):
    """Where several were filed, the one that can still be sent counts; then the newest."""
    store.record_request(filed(1))
    store.record_request(filed(2, filed_at=NOW + timedelta(hours=1), expires_at=NOW + timedelta(hours=2)))
    before = store.find_request("INC-1", "ledger-1")
    store.clock.wait(2 * 3600)
    between = store.find_request("INC-1", "ledger-1")
    store.clock.wait(24 * 3600)

    assert ["request-2", "request-1", "request-2"] == [
        one.request_id for one in (before, between, store.find_request("INC-1", "ledger-1"))
    ]


def test_request_comes_back_as_filed(store):
    """Equal in every field and digest; unknown ones are refused."""
    request = filed(notes="“quotes” ' \" \\ 😀")
    store.record_request(request)

    assert request == store.get_request("request-1") == store.find_request("INC-1")
    assert [request] == store.open_requests("INC-1") == store.open_requests()
    assert store.find_request("INC-2") is store.find_request("INC-1", "ledger-2") is None
    with pytest.raises(EvidenceError, match="no request"):
        store.get_request("request-9")


def test_same_request_twice_is_refused_in_a_sentence(store):
    """The database's constraint, told to a person."""
    store.record_request(filed())
    with pytest.raises(ClaimError, match="a moment ago"):
        store.record_request(filed())


def test_dead_claims_are_those_that_no_money_can_follow(begun, raw):
    """Refused lines, and lines that never began of requests that are withdrawn or expired."""
    for number in (2, 3, 4):
        expires_at = NOW + timedelta(hours=1 if number == 2 else 24)
        begun.record_request(filed(number, expires_at=expires_at, replaces="request-3" if number == 4 else ""))
    first = begun.dead_claims("ledger-1")
    begun.clock.wait(3600)
    second = begun.dead_claims("ledger-1")
    raw("UPDATE manual_payouts SET state = 'refused'")

    assert (["line-3"], {"line-2", "line-3"}) == (first, set(second))
    assert {"line-1", "line-2", "line-3"} == set(begun.dead_claims("ledger-1"))
    assert [] == begun.dead_claims("ledger-2")


def message(number=1, **changes):
    made = Message(
        f"m{number}", "INC-1/ledger-1", "line-1", "paid", "finance", f"dedup-{number}", "subject", "text", "html", MessageState.TO_COPY,
        NOW,
    )  # fmt: skip
    return replace(made, **changes)


def test_message_is_put_into_the_outbox_once(begun):
    """The same message prepared twice, or twice in one go, is one message and one event."""
    news = [
        begun.record_messages(made, "tomas")
        for made in ([message(1), message(1, message_id="m9"), message(2)], [message(1)], [])
    ]

    assert [2, 0, 0] == news
    assert ["m1", "m2"] == [one.message_id for one in begun.messages_of("line-1")]
    assert 2 == len([event for event in begun.events_of("INC-1/ledger-1") if event.kind == "message_prepared"])


def test_message_prepared_by_two_runs_at_once_is_one(begun):
    """Both end well, one of them with nothing new."""
    results, gate = [], threading.Barrier(2)

    def prepare(number):
        gate.wait()
        results.append(begun.record_messages([message(number, dedup_key="same")], "tomas"))

    threads = [threading.Thread(target=prepare, args=(number,)) for number in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [0, 1] == sorted(results)


def test_payout_is_logged_once(begun):
    """A second time changes nothing and tells nothing."""
    first = begun.mark_logged(begun.find_payout("line-1"), "tomas", {"compared": 7})
    begun.clock.wait(60)
    for seen in (first, replace(first, logged_at=None)):
        assert first == begun.mark_logged(seen, "tomas", {})
    assert 1 == len([event for event in begun.events_of("INC-1/ledger-1") if event.kind == "payout_logged"])


def test_rung_is_recorded_when_it_differs(begun):
    """The same rung again is no event; a rung that falls takes the settlement back."""
    record = begun.find_payout("line-1")
    for rung, done in (("accepted", False), ("accepted", False), ("paid_to_bank", True), ("usable_by_studio", False)):
        record = begun.record_settlement(record, rung, done=done, actor="tomas", data={})

    assert ("usable_by_studio", None) == (record.settlement_rung, record.settled_at)
    assert 3 == len([event for event in begun.events_of("INC-1/ledger-1") if event.kind == "settlement_observed"])


def test_audit_values_are_every_column(begun):
    """What the audit shows is the row, approvals included."""
    values = begun.audit_values("line-1")

    assert set(metadata.tables["manual_payouts"].c.keys()) == set(values)
    assert ("a1", "a2", 100) == (values["approval_payments_ops"], values["approval_finance"], values["amount_minor"])
