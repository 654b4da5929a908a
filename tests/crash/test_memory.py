"""The store and the ledger of the simulation are held to the real ones: same calls, same answers, same refusals."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import IntegrityError

from crash.simulation.memory_ledger import MemoryLedger
from crash.simulation.memory_store import Hooks, MemoryStore
from crash.simulation.scenario import _fixtures
from crash.simulation.world import World
from instants import NOW
from manual_payout.database import engines
from manual_payout.database.clock import FixedClock
from manual_payout.database.schema import metadata
from manual_payout.database.store import Store
from manual_payout.domain.errors import ClaimError, DatabaseError, ManualPayoutError
from manual_payout.domain.models import Approval, Kind, Line, Mode, PayoutRecord, Reason, Request, State, Team
from manual_payout.domain.money import Money
from manual_payout.ledger import BALANCE_COLUMNS, DUE_COLUMNS, Ledger
from payout_rehearsal.demo import automation
from payout_rehearsal.demo.ledger import balances_table, payouts_table, tables

LEDGER = "b8e4f6a0-52c9-4d3e-8f17-6a90d2c3e541"

# Filed under two incidents for one ledger payout, and once more for another.
FILED = (("INC-1", LEDGER), ("INC-2", LEDGER), ("INC-1", LEDGER), ("INC-1", "7c1d9a52-3e84-4f0b-9b6e-2f5a8c40d713"))
STREAMS = sorted({f"{incident}/{ledger}" for incident, ledger in FILED})


def request_of(number):
    incident, ledger = FILED[number]
    line = Line(f"line-{number}", 1, "studio", "Harbor", ledger, Money(100, "usd"), Money(0, "usd"), "acct_123")
    return Request(
        request_id=f"request-{number}", incident_id=incident, kind=Kind.TRANSFER, mode=Mode.SANDBOX,
        platform_account="acct_1", requested_by="maya", reason=Reason.OTHER, notes="", nonce=f"nonce-{number}",
        filed_at=NOW + timedelta(minutes=number % 2), expires_at=NOW + timedelta(hours=1 + number), lines=(line,),
    )  # fmt: skip


def approval_of(number, person, at):
    team = Team.FINANCE if person % 2 else Team.PAYMENTS_OPS
    return Approval(
        approval_id=f"approval-{number}-{person}", request_id=f"request-{number}", request_digest="d",
        approver_id=f"person-{person}", team=team, mode=Mode.SANDBOX, platform_account="acct_1",
        nonce=f"nonce-{number}-{person}", approved_at=at, expires_at=at + timedelta(hours=4), statement_digest="s",
    )  # fmt: skip


def intent_of(number, attempt, fence):
    request = request_of(number)
    line = request.line_for()
    return PayoutRecord(
        payout_id=line.line_id, request_id=request.request_id, incident_id=request.incident_id,
        ledger_payout_id=line.ledger_payout_id, studio_id="studio", studio_name="Harbor", amount=line.amount,
        reserve_after=line.reserve_after, destination_account="acct_123", mode=Mode.SANDBOX, reason=Reason.OTHER,
        notes="", requested_by="maya", approved_by_payments_ops="person-0", approved_by_finance="person-1",
        operator_id="tomas", state=State.SUBMITTING, attempt_no=attempt, idempotency_key=f"key-{number}-{attempt}",
        transfer_group="group", payload="{}", owner="me", fence=fence, lease_until=None, sent=False, created_at=NOW,
    )  # fmt: skip


class Both:
    """The same calls on a real store and on one in memory, compared after each."""

    def __init__(self, engine):
        self.clock = FixedClock(NOW)
        self.engine = engine
        self.real = Store(engine, self.clock)
        self.memory = MemoryStore(self.clock, Hooks())
        self.seen = []
        self.met = set()

    def call(self, name, *args, **kwargs):
        real, memory = (self.answer(store, name, args, kwargs) for store in (self.real, self.memory))

        assert real == memory, name
        self.met.add((name, real[0]))
        if isinstance(real[1], PayoutRecord):
            self.seen.append(real[1])

    def answer(self, store, name, args, kwargs):
        try:
            found = getattr(store, name)(*args, **kwargs)
        except (DatabaseError, IntegrityError) as error:
            return type(error).__name__, ""
        except ManualPayoutError as error:
            return type(error).__name__, error.message
        return "done", plain_of(found)

    def record(self, back):
        """One that a call has returned, the newest first: what a run still holds may be long out of date."""
        return self.seen[-1 - back] if back < len(self.seen) else intent_of(0, 1, 1)

    # ------------------------------------------------------------------------------ the calls

    def wait(self, seconds):
        self.clock.wait(seconds)

    def file(self, number, replaces):
        self.call("record_request", replace(request_of(number), replaces=f"request-{number ^ 2}" if replaces else ""))

    def approve(self, number, person):
        if number in (0, 1):
            self.call("record_approval", approval_of(number, person, self.clock.now()), request_of(number))

    def note(self, number):
        self.call("record_event", STREAMS[number % len(STREAMS)], "noted", "tomas", {"number": number})

    def begin(self, number, back, people):
        held = self.record(back)
        again = held.payout_id == f"line-{number}" and back % 2 == 0
        attempt, fence = (held.attempt_no + 1, held.fence + 1) if again else (1, 1)
        not_after = self.clock.now() + timedelta(seconds=0 if people == (4, 5) else 60)
        ids = tuple(f"approval-{number}-{person}" for person in people)
        # Half of them are sent in spite of a warning.
        override = {"reason": "none is on record", "approved_by": list(ids)} if sum(people) % 2 else None
        record = intent_of(number, attempt, fence)
        self.call("record_intent", record, ids, lease_s=100, not_after=not_after, override=override)

    def again(self, back):
        """A new attempt of whatever the record says that it is."""
        held = self.record(back)
        number = int(held.payout_id.removeprefix("line-"))
        ids = (f"approval-{number}-0", f"approval-{number}-1")
        later = self.clock.now() + timedelta(seconds=60)
        self.call(
            "record_intent", intent_of(number, held.attempt_no + 1, held.fence + 1), ids, lease_s=100, not_after=later
        )

    def take(self, back):
        self.call("take_over", self.record(back), owner=f"owner-{back}", operator_id="noor", lease_s=100)

    def mark(self, back, hours):
        self.call("mark_sent", self.record(back), lease_s=100, window=timedelta(hours=hours))

    def end(self, back, state, transfer):
        shown = {"id": transfer} if transfer else None
        self.call("record_outcome", self.record(back), state, "why", actor="tomas", made=shown,
                  made_text=transfer and "{}", code="c", request_id="r")  # fmt: skip

    def read(self):
        """Everything that can be read, on both."""
        for number, (incident, ledger) in enumerate(FILED):
            self.call("find_request", incident, ledger)
            self.call("find_request", incident)
            self.call("get_request", f"request-{number}")
            self.call("is_withdrawn", request_of(number))
            self.call("approvals_of", f"request-{number}")
            self.call("find_payout", f"line-{number}")
            self.call("find_live_payout", ledger, Mode.SANDBOX)
            self.call("dead_claims", ledger)
            self.call("payouts_of", ledger_payout_id=ledger, mode=Mode.SANDBOX)
        self.call("open_requests")
        self.call("known_transfers", {"tr_1", "tr_2", "tr_3"})
        self.call("open_lines", {"line-0", "line-1", "line-9"})
        self.call("paid_by_hand", Mode.SANDBOX, {LEDGER, FILED[3][1]})
        self.call("payouts_of", incident_id="INC-1")
        self.call("began_at", self.record(0))
        for stream in STREAMS:
            self.call("events_of", stream)
            self.call("find_event", stream, "sending", lambda data: data["attempt_no"] == 1)
        self.attempts()

    def attempts(self):
        """The keys with their outcomes, which no method of the store returns."""
        with self.engine.connect() as connection:
            rows = connection.execute(sa.text("SELECT idempotency_key, attempt_no, outcome FROM attempts"))
            stored = {row[0]: (row[1], row[2]) for row in rows}
            query = "SELECT payout_id, approval_payments_ops, approval_finance FROM manual_payouts"
            used = {row[0]: (row[1], row[2]) for row in connection.execute(sa.text(query))}
        kept = {key: (one.attempt_no, one.outcome and one.outcome.value) for key, one in self.memory.attempts.items()}

        assert stored == kept
        assert used == self.memory.approval_ids


def plain_of(found):
    """What two stores can agree on: all but the digests of events, which the fake takes cheaply."""
    if isinstance(found, list):
        return [plain_of(one) for one in found]
    return replace(found, digest="", previous="") if type(found).__name__ == "Event" else found


numbers, backs = st.integers(0, 3), st.sampled_from((0, 0, 0, 0, 1, 2, 3, 5))
people = st.sampled_from(((0, 1), (0, 1), (2, 3), (2, 1), (4, 5)))
ended = st.sampled_from(
    [
        (State.PAID, "tr_1"), (State.PAID, "tr_2"), (State.PAID, ""), (State.REFUSED, ""), (State.REFUSED, ""),
        (State.UNKNOWN, ""), (State.NEEDS_HUMAN, ""), (State.NEEDS_HUMAN, "tr_1"),
    ]
)  # fmt: skip
calls = st.one_of(
    st.tuples(st.just("wait"), st.sampled_from((1, 50, 101, 3600, 24 * 3600))),
    st.tuples(st.just("file"), numbers, st.booleans()),
    st.tuples(st.just("approve"), numbers, st.integers(0, 3)),
    st.tuples(st.just("note"), numbers),
    st.tuples(st.just("begin"), numbers, backs, people),
    st.tuples(st.just("again"), backs),
    st.tuples(st.just("take"), backs),
    st.tuples(st.just("mark"), backs, st.sampled_from((1, 23))),
    st.builds(lambda back, end: ("end", back, *end), backs, ended),
    st.builds(lambda back, end: ("end", back, *end), st.just(0), ended),
)


@pytest.fixture(scope="module", name="memory_engine")
def _memory_engine():
    engine = engines.connect("sqlite://", name="DATABASE_URL")
    metadata.create_all(engine)
    tables.create_all(engine)
    yield engine
    engine.dispose()


def empty(engine):
    with engine.connect().execution_options(write=True) as connection, connection.begin():
        for table in reversed([*metadata.sorted_tables, *tables.sorted_tables]):
            connection.execute(table.delete())


@settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(sequence=st.lists(calls, min_size=5, max_size=40))
def test_store_in_memory_answers_as_the_real_one(memory_engine, sequence):
    """Whatever is called in whatever order, both answer, refuse and remember alike."""
    empty(memory_engine)
    both = Both(memory_engine)
    for number in (0, 1):
        both.file(number, replaces=False)
        both.begin(number, 0, (2 * number, 2 * number + 1))
        both.end(0, State.REFUSED, "")
    for name, *args in sequence:
        getattr(both, name)(*args)
    both.read()


@pytest.fixture(name="both")
def _both(memory_engine):
    empty(memory_engine)
    both = Both(memory_engine)
    for number in (0, 1):
        both.file(number, replaces=False)
    return both


def test_correction_beside_a_live_row_is_refused_by_both(both):
    """A transfer that shows for a refused line cannot make it the second live one."""
    both.begin(0, 9, (0, 1))
    both.end(0, State.REFUSED, "")
    refused = both.seen[-1]
    both.begin(1, 9, (2, 3))
    both.seen.append(refused)
    both.end(0, State.PAID, "tr_1")
    both.read()

    assert ("record_outcome", "IntegrityError") in both.met


def test_lease_is_the_same_to_the_second(both):
    """A sending is taken over when its lease is over, not before, and then the old holder may neither send nor refuse."""
    both.begin(0, 9, (0, 1))
    held = both.seen[-1]
    for seconds in (99, 1):
        both.wait(seconds)
        both.take(0)
    both.seen.append(held)
    both.mark(0, 23)
    both.end(0, State.REFUSED, "")
    both.read()

    assert {"done", "ClaimError"} == {answer for name, answer in both.met if name == "take_over"}
    assert {("mark_sent", "ClaimError"), ("record_outcome", "ClaimError")} <= both.met


def test_known_transfer_ends_sending_and_refusing(both):
    """Where a transfer is on record, neither store sends again, refuses, or takes another one for it."""
    both.begin(0, 9, (0, 1))
    both.mark(0, 23)
    both.end(0, State.NEEDS_HUMAN, "tr_1")
    both.wait(1)
    both.take(0)
    taken = both.seen[-1]
    both.mark(0, 23)
    both.end(0, State.REFUSED, "")
    both.end(0, State.PAID, "tr_2")
    both.seen.append(taken)
    both.end(0, State.PAID, "tr_1")
    both.read()

    assert {("mark_sent", "ClaimError"), ("record_outcome", "ClaimError"), ("record_outcome", "done")} <= both.met


def test_override_is_written_with_its_intent_or_not_at_all(both):
    """The same on SQLite, on PostgreSQL and in memory: the event comes before the intent; a refused intent has none."""
    both.file(0, None)
    both.begin(0, 9, (0, 1))
    both.begin(0, 9, (0, 1))
    kinds = [event.kind for event in both.real.events_of("/".join(FILED[0]))]

    assert {("record_intent", "done"), ("record_intent", "ClaimError")} <= both.met
    assert 1 == kinds.count("rehearsal_overridden") == kinds.count("intent_recorded")
    assert kinds.index("rehearsal_overridden") + 1 == kinds.index("intent_recorded")


@pytest.mark.parametrize(("attempt", "fence", "expected"), [(2, 2, "done"), (2, 5, "ClaimError"), (3, 2, "ClaimError")])
def test_next_attempt_follows_the_last(both, attempt, fence, expected):
    """A new attempt begins where the refused one ended, by number and by fence."""
    both.begin(0, 9, (0, 1))
    both.end(0, State.REFUSED, "")
    both.met.clear()
    later = NOW + timedelta(hours=1)
    both.call("record_intent", intent_of(0, attempt, fence), ("a", "b"), lease_s=100, not_after=later)
    both.read()

    assert ("record_intent", expected) in both.met


# ---------------------------------------------------------------------------------------------- the ledger

claimants = st.sampled_from(("line-1", "line-2", "line-3"))
ledger_calls = st.one_of(
    st.tuples(st.just("claim"), claimants, st.lists(claimants, max_size=2)),
    st.tuples(st.just("release"), claimants),
    st.tuples(st.just("attempt")),
    st.tuples(st.just("absent"), claimants),
    st.tuples(st.just("wait")),
)


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(sequence=st.lists(ledger_calls, max_size=14))
def test_ledger_in_memory_answers_as_the_real_one(memory_engine, sequence):
    """Claims, releases and the automation's payments come out alike in whatever order."""
    empty(memory_engine)
    _, _, due, balance = _fixtures()
    with memory_engine.begin() as connection:
        connection.execute(payouts_table.insert().values({name: getattr(due, name) for name in DUE_COLUMNS}))
        connection.execute(balances_table.insert().values({name: getattr(balance, name) for name in BALANCE_COLUMNS}))
    real, memory, clock = Ledger(memory_engine), MemoryLedger(due, balance, Hooks()), FixedClock(NOW)
    for name, *args in sequence:
        clock.wait(60)
        answers = [ledger_answer(ledger, memory_engine, clock, name, *args) for ledger in (real, memory)]

        assert answers[0] == answers[1], name
    studio = (due.studio_id, due.currency)

    assert real.find_payout_due(LEDGER) == memory.find_payout_due(LEDGER)
    assert real.find_balance(*studio) == memory.find_balance(*studio)
    assert real.find_balance(due.studio_id, "eur") == memory.find_balance(due.studio_id, "eur")
    assert real.find_payout_due(due.studio_id) == memory.find_payout_due(due.studio_id)
    assert real.get_payout_due(LEDGER) == memory.get_payout_due(LEDGER)
    assert real.payouts_by_transfer(["tr_1"]) == memory.payouts_by_transfer(["tr_1"])


def ledger_answer(ledger, engine, clock, name, claimant="", releasable=()):
    try:
        if name == "claim":
            return ledger.claim(LEDGER, claimant, at=clock.now(), releasable=releasable)
        if name == "release":
            return ledger.release(LEDGER, claimant)
        if name == "absent":
            return ledger.claim(FILED[3][1], claimant, at=clock.now())
        if name == "attempt" and isinstance(ledger, Ledger):
            return automation.attempt(engine, LEDGER, clock.now())
        return ledger.attempt(clock.now()) if name == "attempt" else None
    except ClaimError:
        return ClaimError


# ---------------------------------------------------------------------------------------------- their failures


class Broken(Hooks):
    """Hooks that fail at one boundary."""

    def __init__(self, boundary):
        self.boundary = boundary

    def step(self, boundary):
        if boundary == self.boundary:
            raise DatabaseError("down", "")


@pytest.mark.parametrize(("side", "begun"), [("before", False), ("after", True)])
def test_failure_falls_before_or_after_the_whole(side, begun):
    """A write that fails before its commit leaves nothing of itself, and one whose answer is lost leaves all."""
    store = MemoryStore(FixedClock(NOW), Hooks())
    store.record_request(request_of(0))
    store.hooks = Broken(f"record_intent:{side}")
    with pytest.raises(DatabaseError):
        store.record_intent(
            intent_of(0, 1, 1), ("a", "b"), lease_s=100, not_after=NOW + timedelta(hours=1), override={"reason": "red"}
        )
    kinds = [event.kind for event in store.events["/".join(FILED[0])]]

    assert begun == bool(store.rows) == bool(store.attempts) == ("intent_recorded" in kinds)
    assert begun == ("rehearsal_overridden" in kinds)


def test_broken_chain_of_the_fake_shows():
    """Its digest is cheap, and still tells an event that was changed or taken out."""
    store = MemoryStore(FixedClock(NOW), Hooks())
    for number in range(3):
        store.record_event("s", "noted", "tomas", {"number": number})
    assert "" == store.check_chains()
    del store.events["s"][1]

    assert "s" == store.check_chains()


def test_world_is_told_of_each_change():
    """The invariants see every row as it is committed."""
    changes = []
    world = World(None, NOW)
    world.watch_commit = lambda before, after: changes.append((before and before.state, after.state))
    store = MemoryStore(world, world)
    store.record_request(request_of(0))
    ids, later = ("a", "b"), NOW + timedelta(hours=1)
    record = store.record_intent(intent_of(0, 1, 1), ids, lease_s=100, not_after=later)
    store.record_outcome(store.mark_sent(record, lease_s=100, window=timedelta(hours=23)), State.REFUSED, "", actor="a")

    assert [
        (None, State.SUBMITTING),
        (State.SUBMITTING, State.SUBMITTING),
        (State.SUBMITTING, State.REFUSED),
    ] == changes
