"""
What somebody has to be told of, put into the outbox in the very transaction of the event that it tells of.

An announced message has no text yet: the text needs the ledger, which is another database. It is written out later
(`Outbox.record_messages`), by this run or, after a crash, by whoever looks at the outbox next.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from datetime import datetime

import sqlalchemy as sa

from manual_payout.database.schema import messages
from manual_payout.database.store.rows import record_stream
from manual_payout.domain.models import Channel, Event, Message, MessageState, Record

SENT = ("slack_alert", "studio_email")
ARRIVED = ("slack_arrived", "studio_arrived", "page_resolved")
FAILED = ("slack_failed", "studio_failed", "page_failed")
# Of a part that came back unapproved: the studio's email must not say that the whole amount failed.
CAME_BACK = ("slack_failed", "studio_came_back", "page_failed")
REVERSED = ("slack_reversed", "studio_reversed")
SEALED = ("slack_sealed", "page_sealed")

# What an event announces that says so; a page is over once what it told of is taken back, or closed.
NEWS = {
    "arrived": ARRIVED, "failed": FAILED, "came back": CAME_BACK, "taken back": ("page_resolved",),
    "closed": ("page_resolved",),
}  # fmt: skip

_CHANNELS = {"slack": Channel.SLACK, "studio": Channel.EMAIL, "page": Channel.PAGERDUTY}


def announce(
    connection: sa.Connection, at: datetime, record: Record, kinds: Iterable[str], *, payout_id: str | None
) -> None:
    """
    Put one message of each kind into the outbox, inside the caller's transaction.

    A page is resolved only where one was raised and not resolved since. What was made is told once an attempt; how it went
    on is told each time it changes.

    Args:
        payout_id: The payout of ours that it concerns; None where money of another transfer was taken back.
    """
    told = _told(connection, record, payout_id)
    for kind in kinds:
        number = sum(earlier == kind for earlier in told) + 1
        raised = sum(earlier == "page_failed" for earlier in told)
        if (kind in (*SENT, *REVERSED) and number > 1) or (kind == "page_resolved" and number > raised):
            continue
        dedup_key = message_key(record, kind, number)
        row = {
            "message_id": message_id(dedup_key),
            "stream": record_stream(record),
            "payout_id": payout_id,
            "kind": kind,
            "audience": "",
            "dedup_key": dedup_key,
            "subject": "",
            "body_text": "",
            "body_html": "",
            "state": MessageState.ANNOUNCED.value,
            "created_at": at,
            "mode": record.mode.value,
            "channel": channel_of(kind).value,
        }
        connection.execute(messages.insert().values(row))


def is_announced(record: Record, message: Message, chain: Sequence[Event]) -> bool:
    """Whether the journal of the payout tells of what *message* announces: a row alone announces nothing."""
    if message.kind in (*SENT, *REVERSED):
        made = {"outcome_paid": None, "outcome_reversed": record.stripe_id}
        times = int(
            any(event.kind in made and made[event.kind] == event.data.get("stripe_reversal_id") for event in chain)
        )
    else:
        times = sum(message.kind in NEWS.get(str(event.data.get("told")), ()) for event in chain)
    keys = [message_key(record, message.kind, number + 1) for number in range(times)]
    is_its_own = (record_stream(record), record.mode) == (message.stream, message.mode)
    return is_its_own and message.dedup_key in keys and message.message_id == message_id(message.dedup_key)


def message_key(record: Record, kind: str, number: int = 1) -> str:
    """Name the *number*-th message of a kind about one attempt: the same event gives the same key, whoever tells it."""
    key = f"{record.line_id}/{record.attempt_no}/{kind}"
    return key if number == 1 else f"{key}/{number}"


def message_id(dedup_key: str) -> str:
    """Derive a message's id from its key, so that every retelling of the event names the same message."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, dedup_key))


def channel_of(kind: str) -> Channel:
    """Say by which service a kind of message goes out."""
    return _CHANNELS[kind.partition("_")[0]]


def _told(connection: sa.Connection, record: Record, payout_id: str | None) -> list[str]:
    prefix = f"{record.line_id}/{record.attempt_no}/"
    query = sa.select(messages.c.kind).where(
        messages.c.payout_id == payout_id if payout_id else messages.c.stream == record_stream(record),
        messages.c.dedup_key.startswith(prefix, autoescape=True),
    )
    return list(connection.scalars(query))
