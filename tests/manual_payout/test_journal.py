"""The journal: whatever is changed, removed or re-ordered afterwards shows."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from manual_payout.database.journal import check_chain, statement
from manual_payout.domain.canonical import digest_of
from manual_payout.domain.errors import EvidenceError
from manual_payout.domain.models import Event

AT = datetime(2026, 3, 2, 3, 0, tzinfo=UTC)
LENGTH = 6


def chain_of(length, stream="INC-1/x"):
    chain, previous = [], ""
    for seq in range(1, length + 1):
        event = Event(stream, seq, "noted", AT + timedelta(seconds=seq), "tester", {"n": seq, "of": ["x"]}, previous)
        previous = digest_of(statement(event))
        chain.append(replace(event, digest=previous))
    return chain


CHANGES = {
    "stream": "INC-2/x", "seq": 99, "kind": "approved", "at": AT, "actor": "somebody", "data": {"n": 0},
    "previous": "0" * 64, "digest": "0" * 64,
}  # fmt: skip


@given(st.integers(min_value=0, max_value=12))
def test_chain_as_written_is_whole(length):
    """Every prefix of a journal is a journal, the empty one too."""
    for end in range(length + 1):
        check_chain(chain_of(length)[:end])


@given(st.integers(min_value=0, max_value=LENGTH - 1), st.sampled_from(sorted(CHANGES)))
def test_changed_field_is_found(place, name):
    """Any field of any event."""
    chain = chain_of(LENGTH)
    chain[place] = replace(chain[place], **{name: CHANGES[name]})

    with pytest.raises(EvidenceError, match="is broken at event"):
        check_chain(chain)


@given(
    st.integers(min_value=0, max_value=LENGTH - 1), st.sampled_from(["stream", "seq", "kind", "at", "actor", "data"])
)
def test_changed_field_with_its_digest_made_anew_is_found(place, name):
    """A forger who computes the digest of the one event breaks the next link; only the last could be replaced so."""
    chain = chain_of(LENGTH + 1)
    forged = replace(chain[place], **{name: CHANGES[name]})
    chain[place] = replace(forged, digest=digest_of(statement(forged)))

    with pytest.raises(EvidenceError):
        check_chain(chain)


@given(st.permutations(range(LENGTH)).filter(lambda order: order != list(range(LENGTH))))
def test_other_order_is_found(order):
    """No re-ordering passes."""
    chain = chain_of(LENGTH)

    with pytest.raises(EvidenceError):
        check_chain([chain[place] for place in order])


@given(st.sets(st.integers(min_value=0, max_value=LENGTH - 1), min_size=1, max_size=LENGTH - 1))
def test_missing_event_is_found_unless_the_tail_was_cut(gone):
    """Only a cut tail passes here; the seal and the ticket name the head and the length for that."""
    left = [event for place, event in enumerate(chain_of(LENGTH)) if place not in gone]
    is_tail = gone == set(range(LENGTH - len(gone), LENGTH))

    if is_tail:
        check_chain(left)
    else:
        with pytest.raises(EvidenceError):
            check_chain(left)


def test_repeated_event_is_found():
    """Nor does one that stands twice."""
    chain = chain_of(3)

    with pytest.raises(EvidenceError, match="at event 2"):
        check_chain([chain[0], *chain])


def test_chain_of_two_streams_is_found():
    """Events of another folder do not complete this one's journal."""
    ours, theirs = chain_of(1), replace(chain_of(2, "INC-2/x")[1], previous=chain_of(1)[0].digest)
    theirs = replace(theirs, digest=digest_of(statement(theirs)))

    with pytest.raises(EvidenceError):
        check_chain([*ours, theirs])


@pytest.mark.parametrize("data", [{"n": 1.5}, {"n": {1}}, {"n": b"x"}, {"n": "\ud800"}])
def test_event_that_cannot_have_been_written_is_found(data):
    """Values that no journal holds are a broken journal, not a traceback."""
    with pytest.raises(EvidenceError):
        check_chain([replace(chain_of(1)[0], data=data)])


# ---------------------------------------------------------------------------------------------- in the database


@pytest.mark.parametrize(
    "change",
    [
        "kind = 'approved'", "actor = 'x'", "data = '{\"n\":2}'", "data = '{\"n\": 1}'", "data = 'no json'",
        "data = '[]'", "data = '{\"n\":1.0}'", "digest = 'x'", "previous = 'x'",
    ],
)  # fmt: skip
def test_row_changed_by_the_databases_owner_is_found(store, engine, change):
    """With the triggers gone anybody can write; reading shows it."""
    for number in (1, 2, 3):
        store.record_event("INC-1/x", "noted", "tester", {"n": number})
    drop_triggers(engine)
    with engine.execution_options(own_schema=True).begin() as connection:
        connection.exec_driver_sql(f"UPDATE events SET {change} WHERE seq = 1")

    with pytest.raises(EvidenceError, match="broken at event 1"):
        store.events_of("INC-1/x")


def drop_triggers(engine):
    with engine.execution_options(own_schema=True).begin() as connection:
        if engine.dialect.name == "sqlite":
            connection.execute(sa.text("DROP TRIGGER events_no_update"))
        else:
            connection.execute(sa.text("DROP TRIGGER events_append_only ON events"))


def test_streams_are_counted_apart(store):
    """Each folder's journal begins at one."""
    for stream in ("INC-1/x", "INC-1/y", "INC-1/x"):
        store.record_event(stream, "noted", "tester", {})

    assert [[1, 2], [1]] == [[e.seq for e in store.events_of(stream)] for stream in ("INC-1/x", "INC-1/y")]


def test_text_of_every_kind_comes_back_as_written(store):
    """Other scripts, quotes, escapes and NUL survive both databases, and so does the digest."""
    data = {"text": "Ærø “x” \\ \" ' \u0000 \u2028 😀", "list": [1, True, None, {"a": []}], "big": 2**70}
    store.record_event("INC-1/x", "noted", "tester", data)

    assert [data] == [event.data for event in store.events_of("INC-1/x")]


def test_many_writers_make_one_chain(store):
    """Whoever writes at the same time, every event has its own place."""
    errors = []

    def write(name):
        try:
            for number in range(10):
                store.record_event("INC-1/x", "noted", name, {"n": number})
        except Exception as error:  # noqa: BLE001  # told below
            errors.append(error)

    threads = [threading.Thread(target=write, args=(f"writer-{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [] == errors
    assert 40 == len(store.events_of("INC-1/x"))
