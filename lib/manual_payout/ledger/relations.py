"""The relations as statements name them: quoted, qualified, and their values without a type."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    CHAR,
    BindParameter,
    ColumnElement,
    Connection,
    LargeBinary,
    Select,
    TableClause,
    and_,
    bindparam,
    cast,
    column,
    or_,
    quoted_name,
    select,
    table,
)
from sqlalchemy.types import NULLTYPE

from manual_payout.domain.errors import DatabaseError
from manual_payout.ledger.faults import SEE
from manual_payout.ledger.rows import Row

# More than SQLite's whole numbers have.
_DIGITS_MAX = 19


def relation_named(name: str, columns: Sequence[str], schema: str = "") -> TableClause:
    """Return the relation of that *name*, in *schema* or as ``schema.name`` says, with its *columns*."""
    named, _, bare = name.rpartition(".")
    schema = named or schema
    return table(
        quoted_name(bare, quote=True),
        *(column(quoted_name(one, quote=True)) for one in columns),
        schema=quoted_name(schema, quote=True) if schema else None,
    )


def select_all(relation: TableClause) -> Select[Any]:
    """Select every column."""
    # Columns come qualified by their relation, always: SQLite takes a lone quoted name that is no column for text.
    return select(*relation.c)


def plain(value: str) -> BindParameter[Any]:
    """Bind *value*, and let the database decide on its type."""
    # Without a type, so that PostgreSQL compares it to a uuid or enum column as readily as to text.
    return bindparam(None, value, NULLTYPE)


def is_same(column: ColumnElement[Any], value: str, *, dialect: str) -> ColumnElement[bool]:
    """Compare *column* to *value*, by PostgreSQL's own operator and not by one that fits the column's type better."""
    if dialect == "mysql":
        # A collation takes an A for an a and drops blanks; bytes do not. The first comparison is there for the index.
        exactly = cast(cast(column, CHAR()), LargeBinary()) == cast(cast(plain(value), CHAR()), LargeBinary())
        return and_(column == plain(value), exactly)
    # In a schema of the ledger somebody may have made one.
    if dialect == "postgresql":
        return column.op("OPERATOR(pg_catalog.=)", is_comparison=True)(plain(value))
    # SQLite compares a number to text only where the column says its type, which one of a view need not do.
    number = int(value) if value.isdecimal() and len(value) < _DIGITS_MAX else None
    return column == plain(value) if number is None else or_(column == plain(value), column == number)


def one_row(connection: Connection, query: Select[Any], relation: str, name: str) -> Row | None:
    """Return the one row that *query* finds, or None; *name* says of whom, should there be two."""
    rows = connection.execute(query.limit(2)).mappings().all()
    if len(rows) > 1:
        raise DatabaseError(
            f"The ledger's {relation} holds more than one row for {name}.",
            f"Have the ledger's owner correct the view, in which a join may repeat rows; {SEE}",
        )
    utc_text = connection.dialect.name in ("sqlite", "mysql")
    return Row(relation, name, dict(rows[0]), utc_text=utc_text) if rows else None
