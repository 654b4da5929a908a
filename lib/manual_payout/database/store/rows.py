"""Between rows and the nouns of `models`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa

from manual_payout.database.schema import manual_payouts, manual_reversals
from manual_payout.domain.errors import EvidenceError
from manual_payout.domain.models import (
    Approval,
    Kind,
    Line,
    Mode,
    PayoutRecord,
    Reason,
    Record,
    Request,
    ReversalReason,
    ReversalRecord,
    State,
    Team,
    stream_of,
)
from manual_payout.domain.money import Money

# Written from the approvals and read back for the audit only; a record names the people instead.
_APPROVAL_COLUMNS = ("approval_payments_ops", "approval_finance")


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
        if values["signed_text"]:
            json.loads(values["signed_text"])
        return Approval(team=Team(values.pop("team")), mode=Mode(values.pop("mode")), **values)
    except ValueError:
        raise EvidenceError(
            f"Approval {row.approval_id} was altered after it was given.",
            "Stop, keep the database as it is and call Security.",
        ) from None


def approval_values(approval: Approval) -> dict[str, Any]:
    """Return the columns of an approval."""
    return asdict(approval) | {"team": approval.team.value, "mode": approval.mode.value}


def payout_of(row: sa.Row[Any]) -> PayoutRecord:
    """Read one payout record."""
    values = row_values(row)
    currency = values.pop("currency")
    for name in _APPROVAL_COLUMNS:
        del values[name]
    return PayoutRecord(
        amount=Money(values.pop("amount_minor"), currency),
        reserve_after=Money(values.pop("reserve_after_minor"), currency),
        mode=Mode(values.pop("mode")),
        reason=Reason(values.pop("reason")),
        state=State(values.pop("state")),
        **values,
    )


def reversal_of(row: sa.Row[Any]) -> ReversalRecord:
    """Read one reversal."""
    values = row_values(row)
    for name in _APPROVAL_COLUMNS:
        del values[name]
    return ReversalRecord(
        amount=Money(values.pop("amount_minor"), values.pop("currency")),
        mode=Mode(values.pop("mode")),
        reason=ReversalReason(values.pop("reason")),
        state=State(values.pop("state")),
        **values,
    )


def record_values(record: Record) -> dict[str, Any]:
    """Return the columns of a payout record or a reversal, those of its approvals excepted."""
    flat: dict[str, Any] = {
        "amount_minor": record.amount.amount_minor,
        "currency": record.amount.currency,
        "mode": record.mode.value,
        "reason": record.reason.value,
        "state": record.state.value,
    }
    if isinstance(record, PayoutRecord):
        flat["reserve_after_minor"] = record.reserve_after.amount_minor
    table = manual_payouts if isinstance(record, PayoutRecord) else manual_reversals
    names = [column.name for column in table.c if column.name not in _APPROVAL_COLUMNS]
    return {name: flat[name] if name in flat else getattr(record, name) for name in names}
