"""
The append-only journal: one hash chain per evidence folder.

Each event's digest covers its content and the digest before it, so that a changed, missing or re-ordered event shows.
What the chain cannot show by itself is a cut tail; the seal of the folder and the ticket name its head and its length.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from manual_payout.database.schema import events
from manual_payout.domain.canonical import canonical_json, digest_of, instant_text
from manual_payout.domain.errors import EvidenceError
from manual_payout.domain.models import Event


def append(
    connection: sa.Connection, stream: str, kind: str, *, at: datetime, actor: str, data: dict[str, Any]
) -> Event:
    """
    Write the next event of *stream* inside the caller's transaction.

    Args:
        connection: In a writing transaction; the event becomes true together with what it tells of.

        data: JSON of text, whole numbers, booleans, lists and objects; no secrets.

    Returns:
        The event with its place and digest.
    """
    hold_stream(connection, stream)
    last = connection.execute(
        sa.select(events.c.seq, events.c.digest).where(events.c.stream == stream).order_by(events.c.seq.desc()).limit(1)
    ).first()
    seq, previous = (last.seq + 1, last.digest) if last else (1, "")
    event = Event(stream, seq, kind, at, actor, data, previous)
    event = Event(stream, seq, kind, at, actor, data, previous, digest_of(statement(event)))
    connection.execute(
        events.insert().values(
            stream=stream,
            seq=seq,
            kind=kind,
            at=at,
            actor=actor,
            data=canonical_json(data),
            previous=previous,
            digest=event.digest,
        )
    )
    return event


def read(connection: sa.Connection, stream: str) -> list[Event]:
    """Return the events of *stream* in order."""
    rows = connection.execute(sa.select(events).where(events.c.stream == stream).order_by(events.c.seq))
    return [_event(row) for row in rows]


def statement(event: Event) -> dict[str, Any]:
    """What an event's digest is taken over."""
    return {
        "version": 1,
        "stream": event.stream,
        "seq": event.seq,
        "kind": event.kind,
        "at": instant_text(event.at),
        "actor": event.actor,
        "data": event.data,
        "previous": event.previous,
    }


def check_chain(chain: Iterable[Event]) -> None:
    """
    Check that *chain* is unbroken from its first event on.

    Raises:
        EvidenceError: Naming the first event that does not fit.
    """
    previous, stream = "", None
    for number, event in enumerate(chain, start=1):
        stream = stream or event.stream
        fits = (event.seq, event.previous, event.stream) == (number, previous, stream)
        if not fits or not _has_its_digest(event):
            raise _broken(event.stream, number, event.kind)
        previous = event.digest


def _has_its_digest(event: Event) -> bool:
    try:
        return event.digest == digest_of(statement(event))
    except (TypeError, ValueError):
        # What cannot be written canonically was never written by `append`.
        return False


def hold_stream(connection: sa.Connection, stream: str) -> None:
    """
    Wait for the lock of *stream* and keep it until the transaction ends; holding it twice is holding it.

    SQLite's writers already hold the only lock; on PostgreSQL two writers of one stream would compute the same place.
    """
    if connection.dialect.name == "postgresql":
        lock = sa.text("SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended(:stream, 0))")
        connection.execute(lock, {"stream": stream})


def _event(row: sa.Row[Any]) -> Event:
    try:
        data = json.loads(row.data)
        unchanged = isinstance(data, dict) and canonical_json(data) == row.data
    except (ValueError, TypeError):
        unchanged = False
    if not unchanged:
        raise _broken(row.stream, row.seq, row.kind)
    return Event(row.stream, row.seq, row.kind, row.at, row.actor, data, row.previous, row.digest)


def _broken(stream: str, number: int, kind: str) -> EvidenceError:
    return EvidenceError(
        f"The journal {stream} is broken at event {number} ({kind}).",
        "Compare the database with the sealed folder and its head digest in the ticket; change nothing.",
    )
