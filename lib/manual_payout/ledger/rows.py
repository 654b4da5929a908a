"""Rows on their way in: each column is checked, and what cannot be true is named."""

from __future__ import annotations

import re
import unicodedata
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from manual_payout.domain.errors import DatabaseError, ParameterError, shorten
from manual_payout.domain.money import Money, exponent
from manual_payout.domain.parameters import LEDGER_ID, LEDGER_ID_EXPECTED
from manual_payout.ledger.faults import SEE
from manual_payout.ledger.instants import parse_instant
from manual_payout.ledger.mapping import LedgerMapping
from manual_payout.ledger.values import PastPayout, PayoutDue, StudioBalance

_ACCOUNT = re.compile(r"acct_[A-Za-z0-9]{1,64}", re.ASCII)
_CURRENCY = re.compile(r"[a-z]{3}", re.ASCII)


class Row:
    """
    One row on its way in; every reader says which row and column cannot be true.

    Args:
        utc_text: Whether a time that is text without a zone is UTC, as SQLite's own functions write it.
    """

    def __init__(self, relation: str, name: str, values: dict[str, Any], *, utc_text: bool = False) -> None:
        self.utc_text = utc_text
        self.relation = relation
        self.name = name
        self.values = values

    def wrong(self, name: str, expected: str) -> DatabaseError:
        """Say that column *name* holds what cannot be true."""
        return DatabaseError(
            f"The ledger's {self.relation} holds for {self.name} in column {name} {shorten(self.values[name])}, "
            f"expected {expected}.",
            f"Have the ledger's owner correct the row or the view; {SEE}",
        )

    def text(self, name: str) -> str:
        """Return text that is there."""
        found = self.optional_text(name)
        if not found:
            raise self.wrong(name, "text")
        return found

    def optional_text(self, name: str) -> str | None:
        """Return text, or None; a UUID as its text."""
        value = self.values[name]
        if isinstance(value, UUID):
            return str(value)
        if value is not None and not isinstance(value, str):
            raise self.wrong(name, "text")
        return value

    def name_of(self, name: str) -> str:
        """Return a name as it is compared: composed as Unicode's form C has it, without the blanks around it, which are the ledger's own affair."""
        found = unicodedata.normalize("NFC", self.text(name)).strip()
        if not found:
            raise self.wrong(name, "text")
        return found

    def matching(self, name: str, pattern: re.Pattern[str], expected: str) -> str:
        """Return text of that *pattern*."""
        found = self.text(name)
        if not pattern.fullmatch(found):
            raise self.wrong(name, expected)
        return found

    def identifier(self, name: str) -> str:
        """Return an id as its text, unchanged, of whatever type it is."""
        value = self.values[name]
        if isinstance(value, Decimal) and value == value.to_integral_value():
            value = int(value)
        found = str(value) if isinstance(value, UUID) or type(value) is int else self.text(name)
        if not LEDGER_ID.fullmatch(found):
            raise self.wrong(name, LEDGER_ID_EXPECTED)
        return found

    def currency(self, name: str) -> str:
        """Return a currency that Stripe supports."""
        expected = "a currency that Stripe supports, in lower case, such as usd"
        found = self.matching(name, _CURRENCY, expected)
        try:
            exponent(found)
        except ParameterError:
            raise self.wrong(name, expected) from None
        return found

    def minor(self, name: str, currency: str, *, negative: bool = False) -> int:
        """Return an amount in minor units of *currency*."""
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
        """Return an instant in UTC."""
        found = self.optional_instant(name)
        if found is None:
            raise self.wrong(name, "a time")
        return found

    def optional_instant(self, name: str) -> datetime | None:
        """Return an instant in UTC, or None."""
        value = self.values[name]
        try:
            return None if value is None else parse_instant(value, utc_text=self.utc_text)
        except (ValueError, OverflowError):
            raise self.wrong(name, "a time with its zone (timestamptz; on SQLite ISO 8601 text in UTC)") from None

    def day(self, name: str) -> date:
        """Return a date."""
        value = self.values[name]
        if isinstance(value, date) and not isinstance(value, datetime):
            return value
        try:
            return date.fromisoformat(self.text(name))
        except ValueError:
            raise self.wrong(name, "a date such as 2026-03-02") from None


def payout_due(row: Row, mapping: LedgerMapping) -> PayoutDue:
    """Read one row of the due relation."""
    currency = row.currency("currency")
    status = row.text("status")
    return PayoutDue(
        ledger_payout_id=row.identifier("ledger_payout_id"),
        studio_id=row.identifier("studio_id"),
        studio_name=row.name_of("studio_name"),
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


def studio_balance(row: Row) -> StudioBalance:
    """Read one row of the balance relation."""
    currency = row.currency("currency")
    return StudioBalance(
        studio_id=row.identifier("studio_id"),
        currency=currency,
        balance_minor=row.minor("balance_minor", currency, negative=True),
        reserve_minimum_minor=row.minor("reserve_minimum_minor", currency),
        as_of=row.instant("as_of"),
    )


def past_payout(row: Row) -> PastPayout:
    """Read one paid row of the due relation, of which only these columns were asked."""
    currency = row.currency("currency")
    return PastPayout(
        ledger_payout_id=row.identifier("ledger_payout_id"),
        amount_minor=row.minor("amount_minor", currency),
        currency=currency,
        paid_at=row.optional_instant("paid_at"),
    )
