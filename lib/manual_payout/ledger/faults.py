"""What the database says when it refuses, as a sentence with a remedy."""

from __future__ import annotations

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from manual_payout.domain.errors import DatabaseError

SEE = "docs/ledger.md shows the relation as it must be."


def explain_fault(error: Exception, engine: Engine, *, writes: bool = False) -> DatabaseError:
    """
    Turn what the driver raised into a sentence with a remedy.

    The server's own words are quoted only where they cannot hold the connection string.
    """
    cause = getattr(error, "orig", None) or error
    words = _server_words(cause)
    kind = "encoding" if isinstance(error, UnicodeError) else _kind(_state_of(cause), str(cause).lower())
    if kind == "constraint" and not writes:
        kind = "read"
    message, remedy = _EXPLANATIONS[kind]
    quoted = f" ({words})" if words else ""
    return DatabaseError(f"{message.format(place=_place(engine))}{quoted}.", remedy)


def lacks_column(error: SQLAlchemyError) -> bool:
    """Whether the database says that a column is not there."""
    cause = getattr(error, "orig", None)
    return _kind(_state_of(cause), str(cause or error).lower()) == "column"


def is_no_value(error: SQLAlchemyError) -> bool:
    """Whether PostgreSQL says that what it was given is no value of the column's type, so that no row can have it."""
    return getattr(error.__cause__, "sqlstate", None) in ("22P02", "22003") or (
        getattr(getattr(error, "orig", None), "sqlstate", None) in ("22P02", "22003")
    )


_EXPLANATIONS = {
    "relation": (
        "The ledger at {place} lacks a relation that the runbook reads",
        f"Create the view, or name it in the ledger mapping; {SEE}",
    ),
    "column": (
        "The ledger at {place} lacks a column that the runbook reads",
        f"Add the column to the view; {SEE}",
    ),
    "permission": (
        "The ledger at {place} does not permit this",
        "Grant the runbook's role SELECT on the relations and UPDATE on the three claim columns; see docs/ledger.md.",
    ),
    "busy": (
        "The ledger at {place} is busy: somebody else holds the row",
        "The automation may be paying it right now: wait a minute, look at the payout's status, then run again.",
    ),
    "slow": (
        "The ledger at {place} took too long to answer",
        "Look with whoever runs it for what it waits for, and at the view's plan; then run the same command again.",
    ),
    "constraint": (
        "The ledger at {place} refuses the claim's values",
        "Let its constraints and types allow the claimed status and claimant; see docs/ledger.md, Statuses.",
    ),
    "read": (
        "The ledger at {place} refuses the read",
        "Nothing was written. Let the view's columns have the types of docs/ledger.md; show this sentence to whoever owns it.",
    ),
    "unreachable": (
        "The ledger cannot be reached at {place}",
        "Check LEDGER_DATABASE_URL, the network and the database server, then run the same command again.",
    ),
    "encoding": (
        "The ledger at {place} has a text that is not UTF-8",
        "Have its owner convert the text, or its database's encoding, to UTF-8; the row cannot be read until then.",
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
    "57014": "slow",
    "40001": "busy",
    "40P01": "busy",
    "22P02": "constraint",
    "42804": "constraint",
    "22001": "constraint",
    "44000": "constraint",
    "P0001": "constraint",
    "22021": "encoding",
    "22P05": "encoding",
}
# MariaDB's and MySQL's numbers (MariaDB, *Error Codes*).
_NUMBERS = {
    "relation": (1146, 1356),
    "column": (1054,),
    "permission": (1044, 1142, 1143, 1227, 1290, 1370, 1792),
    "busy": (1205, 1213),
    "slow": (1969, 3024),
    "constraint": (1048, 1062, 1264, 1265, 1288, 1292, 1366, 1369, 1406, 1644, 3819, 4025),
    "unreachable": (1040, 1045, 1049, 1129, 1130, 2002, 2003, 2005, 2006, 2013),
    "encoding": (1300, 3854),
}
_KIND_BY_STATE |= {str(number): kind for kind, numbers in _NUMBERS.items() for number in numbers}
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


def _state_of(cause: object) -> str:
    """Return PostgreSQL's SQLSTATE, or MariaDB's own number, which says more than its SQLSTATE."""
    numbered = getattr(cause, "args", ())[:1]
    number = str(numbered[0]) if numbered and type(numbered[0]) is int else ""
    return number or str(getattr(cause, "sqlstate", None) or "")


def _server_words(cause: object) -> str:
    primary = getattr(getattr(cause, "diag", None), "message_primary", None)
    if primary:
        return str(primary)
    match getattr(cause, "args", ()):
        case (int(), str(said)):
            return said
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
