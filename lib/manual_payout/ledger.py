"""
The only reader of the marketplace's ledger, which is somebody else's database.

Two relations are read, and one claim is written (``docs/ledger.md`` says how they are mapped with two views). What
the ledger holds is checked on the way in: a row that cannot be true stops here, by name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BindParameter,
    Connection,
    DateTime,
    Dialect,
    Engine,
    Select,
    String,
    TableClause,
    Update,
    and_,
    bindparam,
    case,
    column,
    null,
    or_,
    quoted_name,
    select,
    table,
    text,
    update,
)
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.types import NULLTYPE, TypeDecorator, TypeEngine

from manual_payout.database import connect
from manual_payout.errors import ClaimError, DatabaseError, ParameterError, SettingsError, shorten
from manual_payout.money import Money, exponent

# A claim waits this long for a row that the automation holds; longer, and the operator should know instead.
LOCK_TIMEOUT_S = 10

# One PostgreSQL identifier, optionally behind a schema. Quoting would allow more; nobody's view needs more.
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}", re.ASCII)
_ACCOUNT = re.compile(r"acct_[A-Za-z0-9]{1,64}", re.ASCII)
_CURRENCY = re.compile(r"[a-z]{3}", re.ASCII)

_SEE = "docs/ledger.md shows the relation as it must be."


@dataclass(frozen=True, slots=True)
class LedgerMapping:
    """
    How one marketplace's ledger names what is read and written here.

    Attributes:
        due_relation: Relation of payouts, in every status; optionally ``schema.name``.

        balance_relation: Relation of balances and reserves.

        claim_relation: Where the claim is written, with the columns of `CLAIM_COLUMNS`; the due relation when empty.

        failed, claimed, paid: The ledger's own words for the three statuses that matter here.
    """

    due_relation: str = "manual_payout_due"
    balance_relation: str = "manual_payout_balance"
    claim_relation: str = ""
    failed: str = "failed"
    claimed: str = "claimed_by_fallback"
    paid: str = "paid"

    def __post_init__(self) -> None:
        for name in ("due_relation", "balance_relation", "claim_relation"):
            _check_relation(name, getattr(self, name) or self.due_relation)
        words = (self.failed, self.claimed, self.paid)
        if not all(words) or len(set(words)) < len(words):
            raise SettingsError(
                f"The ledger mapping's statuses are not three different words: failed {self.failed!r}, "
                f"claimed {self.claimed!r}, paid {self.paid!r}.",
                "Correct the statuses of the ledger mapping (see docs/ledger.md, Statuses).",
            )

    def standing(self, status: str) -> str:
        """Translate the ledger's word to ``failed``, ``claimed``, ``paid`` or, for any other, ``other``."""
        return {self.failed: "failed", self.claimed: "claimed", self.paid: "paid"}.get(status, "other")


@dataclass(frozen=True, slots=True)
class PayoutDue:
    """
    One payout as the ledger shows it; times are UTC.

    Attributes:
        amount_minor: Minor units of *currency*, as Stripe counts them.

        status: The ledger's own word.

        standing: The same in this software's words: ``failed``, ``claimed``, ``paid`` or ``other``.
    """

    ledger_payout_id: str
    studio_id: str
    studio_name: str
    studio_email: str | None
    studio_locale: str | None
    amount_minor: int
    currency: str
    destination_account: str
    destination_changed_at: datetime | None
    period_start: date
    period_end: date
    due_at: datetime
    status: str
    failure_reason: str | None
    failed_at: datetime | None
    paid_at: datetime | None
    claimed_by: str | None
    claimed_at: datetime | None
    standing: str = "other"

    @property
    def amount(self) -> Money:
        """What is owed."""
        return Money(self.amount_minor, self.currency)

    def is_claimed_by(self, claim_id: str) -> bool:
        """Say whether *claim_id* holds the claim now."""
        return self.standing == "claimed" and self.claimed_by == claim_id


@dataclass(frozen=True, slots=True)
class StudioBalance:
    """
    What one studio has in one currency, and must keep; both in minor units, the balance possibly negative.

    Attributes:
        as_of: When the ledger computed the balance, in UTC.
    """

    studio_id: str
    currency: str
    balance_minor: int
    reserve_minimum_minor: int
    as_of: datetime

    @property
    def balance(self) -> Money:
        """The balance before the payout."""
        return Money(self.balance_minor, self.currency)

    @property
    def reserve_minimum(self) -> Money:
        """What must remain after the payout."""
        return Money(self.reserve_minimum_minor, self.currency)

    def reserve_after(self, amount: Money) -> Money:
        """Say what remains once *amount* has left; negative when it does not suffice."""
        return self.balance - amount


@dataclass(frozen=True, slots=True)
class PastPayout:
    """One payout that was paid before; the amount in minor units."""

    ledger_payout_id: str
    amount_minor: int
    currency: str
    paid_at: datetime | None

    @property
    def amount(self) -> Money:
        """What was paid."""
        return Money(self.amount_minor, self.currency)


# The documented columns, in order: the fields as the ledger has them.
DUE_COLUMNS = tuple(one.name for one in fields(PayoutDue) if one.name != "standing")
BALANCE_COLUMNS = tuple(one.name for one in fields(StudioBalance))
CLAIM_COLUMNS = ("ledger_payout_id", "status", "claimed_by", "claimed_at")


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
        utc = _aware(value).astimezone(UTC)
        return utc.isoformat() if dialect.name == "sqlite" else utc

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:  # noqa: ARG002  # SQLAlchemy's name
        """Return UTC, always aware."""
        return None if value is None else parse_instant(value)


class Ledger:
    """
    Reads payouts and balances, and claims one payout.

    Args:
        engine: SQLAlchemy engine of the ledger's database, SQLite or PostgreSQL.

        mapping: How that ledger names things.
    """

    def __init__(self, engine: Engine, mapping: LedgerMapping | None = None) -> None:
        self.mapping = mapping or LedgerMapping()
        self._is_postgresql = engine.dialect.name == "postgresql"
        # A claim that waited for another must then see what the other did: READ COMMITTED, whatever the role's default.
        self._engine = engine.execution_options(isolation_level="READ COMMITTED") if self._is_postgresql else engine
        self._due = _relation(self.mapping.due_relation, DUE_COLUMNS)
        self._balance = _relation(self.mapping.balance_relation, BALANCE_COLUMNS)
        self._claim = _relation(self.mapping.claim_relation or self.mapping.due_relation, CLAIM_COLUMNS)

    def get_payout_due(self, ledger_payout_id: str) -> PayoutDue:
        """
        Return the payout.

        Raises:
            ParameterError: The id is not a UUID, or the ledger has no such payout.

            DatabaseError: The ledger cannot be read, or the row cannot be true.
        """
        found = self.find_payout_due(ledger_payout_id)
        if found is None:
            raise _no_such_payout(ledger_payout_id, self.mapping)
        return found

    def find_payout_due(self, ledger_payout_id: str) -> PayoutDue | None:
        """Return the payout, or None where the ledger has none of that id; raises as `get_payout_due` otherwise."""
        key = _uuid_text("ledger_payout_id", ledger_payout_id)
        with self._transaction() as connection:
            return self._read_due(connection, key)

    def find_balance(self, studio_id: str, currency: str) -> StudioBalance | None:
        """
        Return the studio's balance in *currency*, or None where the ledger has none.

        Raises:
            ParameterError: The id is not a UUID, or the currency is unknown.

            DatabaseError: The ledger cannot be read, or the row cannot be true.
        """
        key = _uuid_text("studio_id", studio_id)
        exponent(currency)
        relation = self._balance
        query = _select(relation).where(relation.c.studio_id == _plain(key), relation.c.currency == _plain(currency))
        with self._transaction() as connection:
            row = _one_row(connection, query, self.mapping.balance_relation, f"studio {key} in {currency}")
        return None if row is None else _studio_balance(row)

    def past_payouts(self, studio_id: str, limit: int = 26) -> list[PastPayout]:
        """
        Return the studio's latest paid payouts, newest first, at most *limit* (26: a year of biweekly ones).

        Raises:
            ParameterError: The id is not a UUID, or the limit is below one.

            DatabaseError: The ledger cannot be read, or a row cannot be true.
        """
        key = _uuid_text("studio_id", studio_id)
        if limit < 1:
            raise ParameterError("limit", limit, "at least 1")
        relation = self._due
        query = (
            select(*(relation.c[name] for name in ("ledger_payout_id", "amount_minor", "currency", "paid_at")))
            .where(relation.c.studio_id == _plain(key), relation.c.status == _plain(self.mapping.paid))
            .order_by(relation.c.paid_at.desc().nulls_last(), relation.c.ledger_payout_id)
            .limit(limit)
        )
        with self._transaction() as connection:
            rows = connection.execute(query).mappings().all()
        return [_past_payout(_Row(self.mapping.due_relation, f"studio {key}", dict(row))) for row in rows]

    def export_row(self, ledger_payout_id: str) -> dict[str, str]:
        """
        Return the payout as column → text, in the documented order: times in UTC, nothing as empty text.

        The text is the ledger's own and is not made safe for spreadsheets: whoever writes the file does that.

        Raises:
            As `get_payout_due`.
        """
        due = self.get_payout_due(ledger_payout_id)
        return {name: _export_text(getattr(due, name)) for name in DUE_COLUMNS}

    def claim(self, ledger_payout_id: str, claim_id: str, *, at: datetime, releasable: Sequence[str] = ()) -> PayoutDue:
        """
        Take the payout from the automation, in one atomic update, and return it as it then stands.

        Claiming what *claim_id* already holds succeeds again and keeps the time of the first claim.

        Args:
            claim_id: Who claims; shown to whoever comes second.

            at: The time of the claim, aware.

            releasable: Claims known to be dead, that may be taken over.

        Raises:
            ClaimError: It is paid, claimed by another, absent, or in another status; the message says which.

            DatabaseError: The ledger cannot be read or written, or the row cannot be true.
        """
        key = _uuid_text("ledger_payout_id", ledger_payout_id)
        if not claim_id:
            raise ParameterError("claim_id", claim_id, "the name under which the payout is claimed")
        statement = self._claim_statement(key, claim_id, _aware(at), releasable)
        with self._transaction(writes=True) as connection:
            changed = connection.execute(statement).rowcount
            # Read back in the same transaction: a view's trigger may say that it wrote, and not have written.
            found = self._read_due(connection, key)
            if found is not None and found.is_claimed_by(claim_id):
                return found
            if changed > 0:
                raise self._not_kept(key)
            raise _claim_error(key, found, self.mapping)

    def release(self, ledger_payout_id: str, claim_id: str) -> bool:
        """
        Give the payout back to the automation; say whether *claim_id* held it.

        Raises:
            DatabaseError: The ledger cannot be written.
        """
        key = _uuid_text("ledger_payout_id", ledger_payout_id)
        row = self._claim.c
        statement = (
            update(self._claim)
            .where(row.ledger_payout_id == _plain(key))
            .where(row.status == _plain(self.mapping.claimed), row.claimed_by == _plain(claim_id))
            .values(status=_plain(self.mapping.failed), claimed_by=null(), claimed_at=null())
        )
        with self._transaction(writes=True) as connection:
            before = self._read_due(connection, key)
            connection.execute(statement)
            # Looked at, not counted: SQLite counts no rows that a view's trigger changed.
            after = self._read_due(connection, key)
        return _is_held(before, claim_id) and not _is_held(after, claim_id)

    def _claim_statement(self, key: str, claim_id: str, at: datetime, releasable: Iterable[str]) -> Update:
        row = self._claim.c
        is_claimed = row.status == _plain(self.mapping.claimed)
        takeable = or_(*(row.claimed_by == _plain(one) for one in (claim_id, *releasable)))
        # The time of a claim is when it was first made, however often its holder asks again.
        since = case(
            (and_(is_claimed, row.claimed_by == _plain(claim_id)), row.claimed_at),
            else_=bindparam(None, at, UtcDateTime()),
        )
        return (
            update(self._claim)
            .where(row.ledger_payout_id == _plain(key))
            .where(or_(row.status == _plain(self.mapping.failed), and_(is_claimed, takeable)))
            .values(status=_plain(self.mapping.claimed), claimed_by=_plain(claim_id), claimed_at=since)
        )

    def _read_due(self, connection: Connection, key: str) -> PayoutDue | None:
        query = _select(self._due).where(self._due.c.ledger_payout_id == _plain(key))
        row = _one_row(connection, query, self.mapping.due_relation, f"payout {key}")
        return None if row is None else _payout_due(row, self.mapping)

    def _not_kept(self, key: str) -> DatabaseError:
        target = self.mapping.claim_relation or self.mapping.due_relation
        return DatabaseError(
            f"The claim on payout {key} was written to {target}, but {self.mapping.due_relation} does not show it; "
            "it was rolled back.",
            "Make the view show payouts in every status, and its trigger write what it is given; see docs/ledger.md.",
        )

    @contextmanager
    def _transaction(self, *, writes: bool = False) -> Iterator[Connection]:
        try:
            # `write` asks our SQLite engines for the lock at once (see database.py); others ignore it.
            with self._engine.connect().execution_options(write=writes) as connection, connection.begin():
                if writes and self._is_postgresql:
                    connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT_S}s'"))
                yield connection
        except SQLAlchemyError as error:
            # No chain: a driver's error may quote the connection string, and with it the password.
            raise explain(error, self._engine) from None


def open_ledger(url: str, mapping: LedgerMapping | None = None) -> Ledger:
    """
    Open the ledger at *url*; nothing is connected yet, and nothing is ever created.

    Args:
        url: An SQLAlchemy URL of SQLite or PostgreSQL.

    Raises:
        SettingsError: The URL is malformed or of another kind of database.

        DatabaseError: A SQLite file is not there (SQLite itself would make an empty one).
    """
    engine = connect(url, name="LEDGER_DATABASE_URL")
    path = engine.url.database
    if engine.dialect.name == "sqlite" and path and path != ":memory:" and not Path(path).is_file():
        raise DatabaseError(
            f"The ledger cannot be reached: there is no SQLite file {path}.",
            "Check LEDGER_DATABASE_URL; a relative path counts from the folder in which the command runs.",
        )
    return Ledger(engine, mapping)


def parse_instant(value: object) -> datetime:
    """
    Read an instant as UTC: an aware datetime, or ISO 8601 text (SQLite), where text without an offset is UTC.

    Raises:
        ValueError: It is neither; a naive datetime from a typed column is refused, since its zone is a guess.
    """
    if isinstance(value, str):
        parsed = datetime.fromisoformat(value)
        return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC)
    raise ValueError("not an instant")


def explain(error: SQLAlchemyError, engine: Engine) -> DatabaseError:
    """
    Turn what the driver raised into a sentence with a remedy.

    The server's own words are quoted only where they cannot hold the connection string.
    """
    cause = getattr(error, "orig", None)
    words = _server_words(cause)
    kind = _kind(str(getattr(cause, "sqlstate", None) or ""), str(cause or error).lower())
    message, remedy = _EXPLANATIONS[kind]
    quoted = f" ({words})" if words else ""
    return DatabaseError(f"{message.format(place=_place(engine))}{quoted}.", remedy)


_EXPLANATIONS = {
    "relation": (
        "The ledger at {place} lacks a relation that the runbook reads",
        f"Create the view, or name it in the ledger mapping; {_SEE}",
    ),
    "column": (
        "The ledger at {place} lacks a column that the runbook reads",
        f"Add the column to the view; {_SEE}",
    ),
    "permission": (
        "The ledger at {place} does not permit this",
        "Grant the runbook's role SELECT on the relations and UPDATE on the three claim columns; see docs/ledger.md.",
    ),
    "busy": (
        "The ledger at {place} is busy: somebody else holds the row",
        "The automation may be paying it right now: wait a minute, look at the payout's status, then run again.",
    ),
    "constraint": (
        "The ledger at {place} refuses the claim's values",
        "Let its constraints and types allow the claimed status and claimant; see docs/ledger.md, Statuses.",
    ),
    "unreachable": (
        "The ledger cannot be reached at {place}",
        "Check LEDGER_DATABASE_URL, the network and the database server, then run the same command again.",
    ),
    "other": (
        "The ledger at {place} failed",
        "Nothing was claimed unless a later look says so; show this sentence to whoever runs the ledger's database.",
    ),
}

_KIND_BY_STATE = {
    "42P01": "relation",
    "3F000": "relation",
    "42703": "column",
    "42501": "permission",
    "25006": "permission",
    "55P03": "busy",
    "57014": "busy",
    "40001": "busy",
    "40P01": "busy",
    "22P02": "constraint",
    "42804": "constraint",
    "22001": "constraint",
    "44000": "constraint",
    "P0001": "constraint",
}
_KIND_BY_CLASS = {
    "08": "unreachable",
    "28": "unreachable",
    "3D": "unreachable",
    "57": "unreachable",
    "23": "constraint",
}
_KIND_BY_WORDS = {
    "no such table": "relation",
    "no such column": "column",
    "readonly database": "permission",
    "database is locked": "busy",
    "constraint failed": "constraint",
    "unable to open database file": "unreachable",
    "connection": "unreachable",
    "resolve host": "unreachable",
}


def _kind(state: str, words: str) -> str:
    if state:
        return _KIND_BY_STATE.get(state) or _KIND_BY_CLASS.get(state[:2], "other")
    return next((kind for sign, kind in _KIND_BY_WORDS.items() if sign in words), "other")


def _server_words(cause: object) -> str:
    primary = getattr(getattr(cause, "diag", None), "message_primary", None)
    if primary:
        return str(primary)
    words = str(cause or "").splitlines()
    if type(cause).__module__ == "sqlite3":
        return words[0] if words else ""
    # libpq: connection to server at "host", port 5432 failed: FATAL: password authentication failed for user "x"
    reasons = [line.split(" failed: ", 1)[1] for line in words if line.startswith("connection") and " failed: " in line]
    return reasons[-1].rpartition(" failed: ")[2] if reasons else ""


def _place(engine: Engine) -> str:
    url = engine.url
    if url.get_backend_name() == "sqlite":
        return f"SQLite file {url.database or ':memory:'}"
    port = f":{url.port}" if url.port else ""
    return f"{url.get_backend_name()} {url.host or '(local socket)'}{port}, database {url.database or '(default)'}"


class _Row:
    """One row on its way in; every reader says which row and column cannot be true."""

    def __init__(self, relation: str, name: str, values: dict[str, Any]) -> None:
        self.relation = relation
        self.name = name
        self.values = values

    def wrong(self, name: str, expected: str) -> DatabaseError:
        return DatabaseError(
            f"The ledger's {self.relation} holds for {self.name} in column {name} {shorten(self.values[name])}, "
            f"expected {expected}.",
            f"Have the ledger's owner correct the row or the view; {_SEE}",
        )

    def text(self, name: str) -> str:
        found = self.optional_text(name)
        if not found:
            raise self.wrong(name, "text")
        return found

    def optional_text(self, name: str) -> str | None:
        value = self.values[name]
        if isinstance(value, UUID):
            return str(value)
        if value is not None and not isinstance(value, str):
            raise self.wrong(name, "text")
        return value

    def matching(self, name: str, pattern: re.Pattern[str], expected: str) -> str:
        found = self.text(name)
        if not pattern.fullmatch(found):
            raise self.wrong(name, expected)
        return found

    def uuid(self, name: str) -> str:
        try:
            return str(UUID(self.text(name)))
        except ValueError:
            raise self.wrong(name, "a UUID") from None

    def currency(self, name: str) -> str:
        expected = "a currency that Stripe supports, in lower case, such as usd"
        found = self.matching(name, _CURRENCY, expected)
        try:
            exponent(found)
        except ParameterError:
            raise self.wrong(name, expected) from None
        return found

    def minor(self, name: str, currency: str, *, negative: bool = False) -> int:
        expected = f"a whole number of minor units of {currency}{'' if negative else ', not negative'}"
        value = self.values[name]
        # PostgreSQL's sum(bigint) is numeric: exact, so taken where it is whole.
        if isinstance(value, Decimal) and value.is_finite() and value == value.to_integral_value():
            value = int(value)
        if type(value) is not int or (value < 0 and not negative):
            raise self.wrong(name, expected)
        try:
            return Money(value, currency).amount_minor
        except ParameterError as error:
            raise self.wrong(name, error.expected) from None

    def instant(self, name: str) -> datetime:
        found = self.optional_instant(name)
        if found is None:
            raise self.wrong(name, "a time")
        return found

    def optional_instant(self, name: str) -> datetime | None:
        value = self.values[name]
        try:
            return None if value is None else parse_instant(value)
        except (ValueError, OverflowError):
            raise self.wrong(name, "a time with its zone (timestamptz; on SQLite ISO 8601 text in UTC)") from None

    def day(self, name: str) -> date:
        value = self.values[name]
        if isinstance(value, date) and not isinstance(value, datetime):
            return value
        try:
            return date.fromisoformat(self.text(name))
        except ValueError:
            raise self.wrong(name, "a date such as 2026-03-02") from None


def _payout_due(row: _Row, mapping: LedgerMapping) -> PayoutDue:
    currency = row.currency("currency")
    status = row.text("status")
    return PayoutDue(
        ledger_payout_id=row.uuid("ledger_payout_id"),
        studio_id=row.uuid("studio_id"),
        studio_name=row.text("studio_name"),
        studio_email=row.optional_text("studio_email"),
        studio_locale=row.optional_text("studio_locale"),
        amount_minor=row.minor("amount_minor", currency),
        currency=currency,
        destination_account=row.matching("destination_account", _ACCOUNT, "a connected account such as acct_123"),
        destination_changed_at=row.optional_instant("destination_changed_at"),
        period_start=row.day("period_start"),
        period_end=row.day("period_end"),
        due_at=row.instant("due_at"),
        status=status,
        failure_reason=row.optional_text("failure_reason"),
        failed_at=row.optional_instant("failed_at"),
        paid_at=row.optional_instant("paid_at"),
        claimed_by=row.optional_text("claimed_by"),
        claimed_at=row.optional_instant("claimed_at"),
        standing=mapping.standing(status),
    )


def _studio_balance(row: _Row) -> StudioBalance:
    currency = row.currency("currency")
    return StudioBalance(
        studio_id=row.uuid("studio_id"),
        currency=currency,
        balance_minor=row.minor("balance_minor", currency, negative=True),
        reserve_minimum_minor=row.minor("reserve_minimum_minor", currency),
        as_of=row.instant("as_of"),
    )


def _past_payout(row: _Row) -> PastPayout:
    currency = row.currency("currency")
    return PastPayout(
        ledger_payout_id=row.uuid("ledger_payout_id"),
        amount_minor=row.minor("amount_minor", currency),
        currency=currency,
        paid_at=row.optional_instant("paid_at"),
    )


def _is_held(found: PayoutDue | None, claim_id: str) -> bool:
    return found is not None and found.is_claimed_by(claim_id)


def _claim_error(key: str, found: PayoutDue | None, mapping: LedgerMapping) -> ClaimError:
    if found is None:
        return ClaimError(
            f"The ledger has no payout {key} in {mapping.due_relation}.",
            "Check --ledger-payout-id against the incident, and that LEDGER_DATABASE_URL is the right ledger.",
        )
    if found.standing == "paid":
        by = f"under the claim {_holder(found)}" if found.claimed_by else "by the automation"
        return ClaimError(
            f"Ledger payout {key} was already paid {by} at {_time_text(found.paid_at)}.",
            "Do not pay it by hand. Confirm in Stripe that the money left once, then close the request.",
        )
    if found.standing == "claimed":
        return ClaimError(
            f"Ledger payout {key} is claimed by {_holder(found)} since {_time_text(found.claimed_at)}.",
            "Speak with whoever holds it; only one of you may pay. `manual-payout status` shows their request.",
        )
    return ClaimError(
        f"Ledger payout {key} has status {shorten(found.status)}, and only {mapping.failed!r} can be claimed.",
        "Let the automation finish or fail first, then run the same command again.",
    )


def _holder(found: PayoutDue) -> str:
    return shorten(found.claimed_by) if found.claimed_by else "somebody unrecorded"


def _no_such_payout(ledger_payout_id: str, mapping: LedgerMapping) -> ParameterError:
    return ParameterError(
        "ledger_payout_id",
        ledger_payout_id,
        f"a payout that the ledger shows in {mapping.due_relation}",
        "Check the id against the incident, and that LEDGER_DATABASE_URL is the right ledger.",
    )


def _one_row(connection: Connection, query: Select[Any], relation: str, name: str) -> _Row | None:
    rows = connection.execute(query.limit(2)).mappings().all()
    if len(rows) > 1:
        raise DatabaseError(
            f"The ledger's {relation} holds more than one row for {name}.",
            f"Have the ledger's owner correct the view, in which a join may repeat rows; {_SEE}",
        )
    return _Row(relation, name, dict(rows[0])) if rows else None


def _relation(name: str, columns: Sequence[str]) -> TableClause:
    schema, _, bare = name.rpartition(".")
    return table(
        quoted_name(bare, quote=True),
        *(column(quoted_name(one, quote=True)) for one in columns),
        schema=quoted_name(schema, quote=True) if schema else None,
    )


def _select(relation: TableClause) -> Select[Any]:
    # Columns come qualified by their relation, always: SQLite takes a lone quoted name that is no column for text.
    return select(*relation.c)


def _plain(value: str) -> BindParameter[Any]:
    # Without a type, so that PostgreSQL compares it to a uuid or enum column as readily as to text.
    return bindparam(None, value, NULLTYPE)


def _check_relation(field: str, name: str) -> None:
    parts = name.split(".")
    if len(parts) > 2 or not all(_IDENTIFIER.fullmatch(part) for part in parts):
        raise SettingsError(
            f"The ledger mapping's {field} is {shorten(name)}, expected a plain SQL name, optionally schema.name.",
            "Name a view or table of letters, digits and underscores; see docs/ledger.md.",
        )


def _uuid_text(field: str, value: str) -> str:
    try:
        return str(UUID(value))
    except (ValueError, AttributeError, TypeError):
        raise ParameterError(field, value, "a UUID such as 3f0c2e6a-8d1b-4c57-9a3e-5b7d90c1e2f4") from None


def _aware(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise ValueError(f"Bug: naive datetime {value!r} given to the ledger")
    return value


def _time_text(value: datetime | None) -> str:
    return f"{value:%Y-%m-%d %H:%M:%S} UTC" if value else "an unrecorded time"


def _export_text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    return value.isoformat() if isinstance(value, date) else str(value)
