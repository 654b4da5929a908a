"""
The only reader of the marketplace's ledger, which is somebody else's database.

Two relations are read, and one claim is written (``docs/ledger.md`` says how they are mapped with two views). What
the ledger holds is checked on the way in: a row that cannot be true stops here, by name.
"""

from __future__ import annotations

from manual_payout.database.engines import connect, sqlite_file
from manual_payout.domain.errors import DatabaseError
from manual_payout.ledger.claiming import Claiming
from manual_payout.ledger.faults import explain_fault
from manual_payout.ledger.instants import UtcDateTime, parse_instant
from manual_payout.ledger.mapping import LedgerMapping
from manual_payout.ledger.reading import Reading
from manual_payout.ledger.values import (
    BALANCE_COLUMNS,
    CLAIM_COLUMNS,
    DUE_COLUMNS,
    TRANSFER_COLUMN,
    PastPayout,
    PayoutDue,
    StudioBalance,
)

__all__ = [
    "BALANCE_COLUMNS",
    "CLAIM_COLUMNS",
    "DUE_COLUMNS",
    "TRANSFER_COLUMN",
    "Ledger",
    "LedgerMapping",
    "PastPayout",
    "PayoutDue",
    "StudioBalance",
    "UtcDateTime",
    "explain_fault",
    "open_ledger",
    "parse_instant",
]


class Ledger(Reading, Claiming):
    """
    Reads payouts and balances, and claims one payout.

    Args:
        engine: SQLAlchemy engine of the ledger's database: SQLite, PostgreSQL or MariaDB.

        mapping: How that ledger names things.
    """


def open_ledger(url: str, mapping: LedgerMapping | None = None) -> Ledger:
    """
    Open the ledger at *url*; nothing is connected yet, and nothing is ever created.

    Args:
        url: An SQLAlchemy URL of SQLite, PostgreSQL or MariaDB.

    Raises:
        SettingsError: The URL is malformed or of another kind of database.

        DatabaseError: A SQLite file is not there (SQLite itself would make an empty one).
    """
    engine = connect(url, name="LEDGER_DATABASE_URL")
    path = sqlite_file(engine.url) if engine.dialect.name == "sqlite" else None
    if path is not None and not path.is_file():
        raise DatabaseError(
            f"The ledger cannot be reached: there is no SQLite file {path}.",
            "Check LEDGER_DATABASE_URL; a relative path counts from the folder in which the command runs.",
        )
    return Ledger(engine, mapping)
