"""Between rows and the nouns of `models`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from manual_payout.domain.errors import EvidenceError
from manual_payout.domain.models import (
    Approval,
    Kind,
    Line,
    Mode,
    PayoutRecord,
    R,
    Reason,
    Record,
    Request,
    ReversalReason,
    State,
    Team,
    stream_of,
)
from manual_payout.domain.money import Money

# Written from the approvals and read back for the audit only; a record names the people instead.
_APPROVAL_COLUMNS = ("approval_payments_ops", "approval_finance")

# Kept in minor units, beside the one currency of the row.
_MONEY = frozenset({"amount_minor", "reserve_after_minor"})


def row_values(row: sa.Row[Any]) -> dict[str, Any]:
    """Return a row's values by column name."""
    return row._asdict()


def record_stream(record: Record) -> str:
    """Name the journal of a payout record or of a reversal."""
    return stream_of(record.incident_id, record.ledger_payout_id)


def request_of(row: sa.Row[Any], lines: Iterable[sa.Row[Any]]) -> Request:
    """
    Read one request with its lines.

    Raises:
        ValueError, ParameterError: A value is none that was ever written.
    """
    kind = Kind(row.kind)
    return Request(
        request_id=row.request_id,
        incident_id=row.incident_id,
        kind=kind,
        mode=Mode(row.mode),
        platform_account=row.platform_account,
        requested_by=row.requested_by,
        reason=ReversalReason(row.reason) if kind is Kind.REVERSAL else Reason(row.reason),
        notes=row.notes,
        nonce=row.nonce,
        filed_at=row.filed_at,
        expires_at=row.expires_at,
        lines=tuple(_line(line) for line in lines),
        replaces=row.replaces,
        signature=row.signature,
    )


def _line(row: sa.Row[Any]) -> Line:
    return Line(
        line_id=row.line_id,
        line_no=row.line_no,
        studio_id=row.studio_id,
        studio_name=row.studio_name,
        ledger_payout_id=row.ledger_payout_id,
        amount=Money(row.amount_minor, row.currency),
        reserve_after=Money(row.reserve_after_minor, row.currency),
        destination_account=row.destination_account,
        stripe_transfer_id=row.stripe_transfer_id,
        reversed_before_minor=row.reversed_before_minor,
        acknowledged=tuple(row.acknowledged_transfers.split()),
    )


def line_values(line: Line) -> dict[str, Any]:
    """Return the columns of a line, that of its request excepted."""
    defaults = {"stripe_transfer_id": "", "reversed_before_minor": 0}
    return defaults | line.statement() | {"acknowledged_transfers": " ".join(line.acknowledged)}


def approval_of(row: sa.Row[Any]) -> Approval:
    """
    Read one approval.

    Raises:
        EvidenceError: It names a team or mode that no approval was ever given for, or what was signed is no JSON.
    """
    values = row_values(row)
    try:
        for name in ("signed_text", "facts"):
            json.loads(values[name] or "{}")
        return Approval(team=Team(values.pop("team")), mode=Mode(values.pop("mode")), **values)
    except ValueError:
        raise EvidenceError(
            f"Approval {row.approval_id} was altered after it was given.",
            "Stop, keep the database as it is and call Security.",
        ) from None


def approval_values(approval: Approval) -> dict[str, Any]:
    """Return the columns of an approval."""
    return asdict(approval) | {"team": approval.team.value, "mode": approval.mode.value}


def record_of(kind: type[R], row: sa.Row[Any]) -> R:
    """Read one row of either direction."""
    values = row_values(row)
    currency = values.pop("currency")
    for name in _APPROVAL_COLUMNS:
        del values[name]
    for name in _MONEY & values.keys():
        values[name.removesuffix("_minor")] = Money(values.pop(name), currency)
    reason = Reason if kind is PayoutRecord else ReversalReason
    values |= {"mode": Mode(row.mode), "reason": reason(row.reason), "state": State(row.state)}
    return kind(**values)


def record_values(table: sa.Table, record: Record) -> dict[str, Any]:
    """Return the columns of the row of *record*, those of its approvals excepted."""
    return {name: _value(record, name) for name in table.c.keys() if name not in _APPROVAL_COLUMNS}  # noqa: SIM118


def _value(record: Record, column: str) -> Any:
    if column == "currency":
        return record.amount.currency
    value = getattr(record, column.removesuffix("_minor") if column in _MONEY else column)
    if isinstance(value, Money):
        return value.amount_minor
    return value.value if isinstance(value, StrEnum) else value
