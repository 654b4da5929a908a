"""Reversals in the store of the simulation are held to the real one: same calls, same answers, same refusals."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import IntegrityError

from crash.simulation.memory_store import Hooks, MemoryStore
from instants import NOW
from manual_payout.database import engines
from manual_payout.database.clock import FixedClock
from manual_payout.database.schema import metadata
from manual_payout.database.store import Store
from manual_payout.domain.errors import DatabaseError, ManualPayoutError
from manual_payout.domain.models import (
    Kind,
    Line,
    Mode,
    PayoutRecord,
    Reason,
    Request,
    ReversalReason,
    ReversalRecord,
    State,
)
from manual_payout.domain.money import Money

LEDGER = "b8e4f6a0-52c9-4d3e-8f17-6a90d2c3e541"
STREAMS = (f"INC-1/{LEDGER}", f"INC-2/{LEDGER}")
TRANSFER = '{"id": "tr_1", "amount": 100}'

# Of the first transfer twice and of another one, which is none of ours.
REVERSED = ("tr_1", "tr_1", "tr_2")


def request_of(number, kind=Kind.REVERSAL):
    paying = kind is Kind.TRANSFER
    line = Line(
        f"line-{number}", 1, "studio", "Harbor", LEDGER, Money(100 if paying else 40, "usd"), Money(0, "usd"), "acct_123",
        "" if paying else REVERSED[number], 0,
    )  # fmt: skip
    return Request(
        request_id=f"request-{number}", incident_id=f"INC-{1 + number % 2}", kind=kind, mode=Mode.SANDBOX,
        platform_account="acct_1", requested_by="maya", notes="", nonce=f"nonce-{number}",
        reason=Reason.OTHER if paying else ReversalReason.OTHER, filed_at=NOW + timedelta(minutes=number),
        expires_at=NOW + timedelta(hours=9), lines=(line,),
    )  # fmt: skip


PAYING = request_of(4, Kind.TRANSFER)


def common(request, attempt, fence):
    line = request.line_for()
    return {
        "request_id": request.request_id, "incident_id": request.incident_id, "ledger_payout_id": LEDGER,
        "studio_id": "studio", "studio_name": "Harbor", "amount": line.amount, "destination_account": "acct_123",
        "mode": Mode.SANDBOX, "notes": "", "requested_by": "maya", "approved_by_payments_ops": "person-0",
        "approved_by_finance": "person-1", "operator_id": "tomas", "state": State.SUBMITTING, "attempt_no": attempt,
        "idempotency_key": f"key-{line.line_id}-{attempt}", "payload": "{}", "owner": "me", "fence": fence,
        "lease_until": None, "sent": False, "created_at": NOW, "reason": request.reason,
    }  # fmt: skip


def reversal_of(number, attempt=1, fence=1):
    request = request_of(number)
    return ReversalRecord(
        reversal_id=request.line_for().line_id, stripe_transfer_id=REVERSED[number], reversed_before_minor=0,
        **common(request, attempt, fence),
    )  # fmt: skip


class Both:
    """The same calls on a real store and on one in memory, compared after each."""

    def __init__(self, engine):
        self.clock = FixedClock(NOW)
        self.real, self.memory = Store(engine, self.clock), MemoryStore(self.clock, Hooks())
        self.seen, self.met = [], set()
        self.call("record_request", PAYING)
        payout = PayoutRecord(
            payout_id="line-4", reserve_after=Money(0, "usd"), transfer_group="group", **common(PAYING, 1, 1)
        )
        later = NOW + timedelta(hours=1)
        self.call("record_intent", payout, ("ops", "finance"), lease_s=100, not_after=later)
        self.call("record_outcome", payout, State.PAID, "sent", actor="tomas", made={"id": "tr_1"}, made_text=TRANSFER)
        for number in range(3):
            self.call("record_request", request_of(number))

    def call(self, name, *args, **kwargs):
        real, memory = (self.answer(store, name, args, kwargs) for store in (self.real, self.memory))

        assert real == memory, name
        self.met.add((name, real[0]))
        if isinstance(real[1], ReversalRecord):
            self.seen.append(real[1])

    def answer(self, store, name, args, kwargs):
        try:
            found = getattr(store, name)(*args, **kwargs)
        except (DatabaseError, IntegrityError) as error:
            return type(error).__name__, ""
        except ManualPayoutError as error:
            return type(error).__name__, error.message
        plain = [replace(e, digest="", previous="") for e in found] if name == "events_of" else found
        return "done", plain

    def record(self, back):
        return self.seen[-1 - back] if back < len(self.seen) else reversal_of(0)

    def wait(self, seconds):
        self.clock.wait(seconds)

    def begin(self, number, again):
        held = [one for one in self.seen if one.reversal_id == f"line-{number}"]
        attempt, fence = (held[-1].attempt_no + 1, held[-1].fence + 1) if again and held else (1, 1)
        ids, later = (f"ops-{number}", f"finance-{number}"), self.clock.now() + timedelta(seconds=60)
        self.call("record_intent", reversal_of(number, attempt, fence), ids, lease_s=100, not_after=later)

    def take(self, back):
        self.call("take_over", self.record(back), owner=f"owner-{back}", operator_id="noor", lease_s=100)

    def mark(self, back):
        self.call("mark_sent", self.record(back), lease_s=100, window=timedelta(hours=1))

    def end(self, back, state, made, reversed_minor):
        self.call(
            "record_outcome", self.record(back), state, "why", actor="tomas", made={"id": made} if made else None,
            made_text=made and "{}", reversed_minor=reversed_minor, code="c", request_id="r",
        )  # fmt: skip

    def dashboard(self, minor):
        self.call("record_reversed", self.real.find_payout("line-4"), minor, actor="tomas")

    def replace(self, number):
        request = replace(request_of(number), request_id="request-9", nonce="nonce-9")
        line = replace(request.line_for(), line_id="line-9")
        self.call("record_request", replace(request, lines=(line,), replaces=f"request-{number}"))

    def read(self):
        """Everything that can be read, on both."""
        for number in range(3):
            self.call("find_reversal", f"line-{number}")
            self.call("find_open_reversal", REVERSED[number])
        for incident in ("INC-1", "INC-2"):
            for kind in Kind:
                self.call("find_request", incident, LEDGER, kind=kind)
        self.call("find_payout", "line-4")
        self.call("dead_claims", LEDGER)
        self.call("began_at", self.record(0))
        for stream in STREAMS:
            self.call("events_of", stream)


numbers, backs = st.integers(0, 2), st.sampled_from((0, 0, 0, 1, 2, 3))
ended = st.sampled_from(
    [
        (State.REVERSED, "trr_1", 40), (State.REVERSED, "trr_2", 100), (State.REVERSED, "", None),
        (State.REFUSED, "", None), (State.UNKNOWN, "", None), (State.NEEDS_HUMAN, "trr_1", None),
    ]
)  # fmt: skip
calls = st.one_of(
    st.tuples(st.just("wait"), st.sampled_from((1, 101, 3600))),
    st.tuples(st.just("begin"), numbers, st.booleans()),
    st.tuples(st.just("take"), backs),
    st.tuples(st.just("mark"), backs),
    st.builds(lambda back, end: ("end", back, *end), backs, ended),
    st.tuples(st.just("dashboard"), st.sampled_from((40, 100))),
    st.tuples(st.just("replace"), numbers),
)


@pytest.fixture(scope="module", name="memory_engine")
def _memory_engine():
    engine = engines.connect("sqlite://", name="DATABASE_URL")
    metadata.create_all(engine)
    yield engine
    engine.dispose()


@pytest.fixture(name="both")
def _both(memory_engine):
    return begun(memory_engine)


def begun(engine):
    with engine.connect().execution_options(write=True) as connection, connection.begin():
        for table in reversed(metadata.sorted_tables):
            connection.execute(table.delete())
        # What the record of a payout announces is not the simulation's.
        assert connection.execute(sa.text("SELECT count(*) FROM requests")).scalar() == 0
    return Both(engine)


@settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(sequence=st.lists(calls, min_size=5, max_size=25))
def test_reversals_in_memory_answer_as_the_real_ones(memory_engine, sequence):
    """Whatever is called in whatever order, both answer, refuse and remember alike."""
    both = begun(memory_engine)
    for name, *args in sequence:
        getattr(both, name)(*args)
    both.read()


def test_second_open_reversal_is_refused_by_both(both):
    """One at a time, by the index; the next one may begin when the first is known."""
    both.begin(0, again=False)
    both.begin(1, again=False)
    both.end(0, State.REVERSED, "trr_1", 40)
    both.begin(1, again=False)
    both.read()

    assert {("record_intent", "ClaimError"), ("record_intent", "done")} <= both.met
    assert both.memory.rows["line-4"].state is State.PARTLY_REVERSED


def test_replaced_reversal_had_not_begun_for_both(both):
    """What has taken money back cannot be withdrawn."""
    both.begin(0, again=False)
    both.replace(0)
    both.end(0, State.REVERSED, "trr_1", 100)
    both.replace(0)
    both.read()

    assert ("record_request", "ClaimError") in both.met
    assert both.memory.rows["line-4"].state is State.REVERSED
