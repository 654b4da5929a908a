"""
A message gets its text once, with the event that says what was written, to whom, by its digest.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from manual_payout.database import journal
from manual_payout.database.schema import messages
from manual_payout.database.store.rows import row_values
from manual_payout.domain.canonical import digest_of, instant_text
from manual_payout.domain.models import Channel, Message, MessageState, Mode

_row = messages.c

# Filled in when an announced message is written out; the rest of its row is as it was announced.
_WRITTEN = ("audience", "subject", "body_text", "body_html", "body_json", "state")

# All that a provider, or whoever copies it, is given, and what says what it is.
_SAID = (
    "message_id",
    "stream",
    "payout_id",
    "kind",
    "dedup_key",
    "audience",
    "subject",
    "body_text",
    "body_html",
    "body_json",
)

PREPARED = "message_prepared"


def content_digest(message: Message) -> str:
    """Return the digest of what is sent: text, recipient, and what the message is. How far it got is no part of it."""
    said = {name: getattr(message, name) or "" for name in _SAID}
    flat = {
        "mode": message.mode.value,
        "channel": message.channel.value,
        "created_at": instant_text(message.created_at),
    }
    return digest_of({"version": 1} | said | flat)


def write_out(connection: sa.Connection, message: Message, *, at: datetime, actor: str) -> bool:
    """
    Fill in an announced message, or put in one that nobody announced, with the event that tells of it.

    Args:
        at: The present, read under the lock of the message's journal, in which the caller writes.

    Returns:
        False where it is written already.
    """
    if not _put(connection, message):
        return False
    stored = connection.execute(sa.select(messages).where(_row.dedup_key == message.dedup_key)).one()
    data = {
        "message_id": message.message_id,
        "kind": message.kind,
        "audience": message.audience,
        "state": message.state.value,
        "digest": content_digest(message_of(stored)),
    }
    journal.append(connection, message.stream, PREPARED, at=at, actor=actor, data=data)
    return True


def _put(connection: sa.Connection, message: Message) -> bool:
    known = connection.execute(sa.select(messages).where(_row.dedup_key == message.dedup_key)).first()
    if known is None:
        connection.execute(messages.insert().values(_values(message)))
        return True
    if known.state != MessageState.ANNOUNCED.value:
        return False
    written = {name: getattr(message, name) for name in _WRITTEN}
    connection.execute(messages.update().where(_row.message_id == known.message_id).values(written))
    return True


def _values(message: Message) -> dict[str, Any]:
    flat = {"state": message.state.value, "mode": message.mode.value, "channel": message.channel.value}
    return {column.name: getattr(message, column.name) for column in messages.c} | flat


def message_of(row: sa.Row[Any]) -> Message:
    """Read one message."""
    values = row_values(row)
    return Message(
        state=MessageState(values.pop("state")),
        mode=Mode(values.pop("mode")),
        channel=Channel(values.pop("channel")),
        **values,
    )
