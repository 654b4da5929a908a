"""Instants as the ledger keeps them, and as they are here: in UTC, always aware."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import DateTime, Dialect, String
from sqlalchemy.types import TypeDecorator, TypeEngine


class UtcDateTime(TypeDecorator[datetime]):
    """An instant in UTC: timestamptz where the database has it, ISO 8601 text with ``+00:00`` on SQLite."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Store text on SQLite, whose own date type would drop the offset."""
        return dialect.type_descriptor(String() if dialect.name == "sqlite" else DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        """Convert to UTC; a naive datetime is a bug of the caller, never a guess."""
        if value is None:
            return None
        utc = aware(value).astimezone(UTC)
        if dialect.name == "mysql":
            # It has no type with a zone; the session's is UTC.
            return utc.replace(tzinfo=None)
        return utc.isoformat() if dialect.name == "sqlite" else utc

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:  # noqa: ARG002  # SQLAlchemy's name
        """Return UTC, always aware."""
        return None if value is None else parse_instant(value, utc_text=True)


def parse_instant(value: object, *, utc_text: bool) -> datetime:
    """
    Read an instant as UTC: an aware datetime, or ISO 8601 text with its offset.

    Args:
        utc_text: Whether text without an offset is UTC: on SQLite, which has no type for instants, and whose functions
            write it so. Anywhere else its zone is a guess.

    Raises:
        ValueError: It is neither; a naive datetime from a typed column is refused, since its zone is a guess.
    """
    if isinstance(value, str):
        parsed = datetime.fromisoformat(value)
        if parsed.tzinfo is None and not utc_text:
            raise ValueError("not an instant: it has no zone")
        return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)
    if isinstance(value, datetime) and value.tzinfo is None and utc_text:
        return value.replace(tzinfo=UTC)
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC)
    raise ValueError("not an instant")


def aware(value: datetime) -> datetime:
    """Return *value*, whose zone is known."""
    if value.tzinfo is None:
        raise ValueError(f"Bug: naive datetime {value!r} given to the ledger")
    return value
