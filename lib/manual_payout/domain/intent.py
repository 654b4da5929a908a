"""
What will be sent to Stripe, computed before anything is sent. Pure.

The key and the transfer group derive from ids that were made when the request was filed, so that every run on every
machine computes the same ones; the group names the ledger payout, so that one listing at Stripe shows every transfer
that was ever made for it.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from manual_payout.domain.models import Kind, Line, Mode, Record, Request
from manual_payout.domain.money import Money

_PREFIX = "manual-payout"

# By what a transfer's group is known as the runbook's.
GROUP_PREFIX = f"{_PREFIX}-"


@dataclass(frozen=True, slots=True)
class OtherTransfer:
    """
    A transfer to the same account that is not known to be another payout's.

    Attributes:
        amount: What has stayed there: reversals are taken off.

        created: When Stripe made it, in UTC.
    """

    transfer_id: str
    amount: Money
    created: datetime

    def __str__(self) -> str:
        return f"{self.transfer_id} ({self.amount.grouped} on {self.created:%Y-%m-%d %H:%M:%S} UTC)"


def other_transfer(shown: dict[str, Any]) -> OtherTransfer:
    """Read a transfer as Stripe lists it."""
    left = Money(shown["amount"] - shown["amount_reversed"], shown["currency"])
    return OtherTransfer(shown["id"], left, datetime.fromtimestamp(shown["created"], UTC))


def in_the_way(others: Iterable[OtherTransfer], line: Line | None, *amounts: Money) -> list[OtherTransfer]:
    """Return those of one of *amounts* that the request does not acknowledge: each may be this payout, made already."""
    return [one for one in unacknowledged(others, line) if one.amount in amounts]


def unacknowledged(others: Iterable[OtherTransfer], line: Line | None) -> list[OtherTransfer]:
    """Return those that the request does not name, by id, as not being this payout."""
    named = line.acknowledged if line is not None else ()
    return [one for one in others if one.transfer_id not in named]


def transfer_group(ledger_payout_id: str) -> str:
    """Name the group under which every transfer for this ledger payout is made."""
    return f"{_PREFIX}-{ledger_payout_id}"


def idempotency_key(line_id: str, attempt_no: int) -> str:
    """Name the one key of an attempt; another attempt is another key, recorded as such."""
    return f"{_PREFIX}-{line_id}-{attempt_no}"


def build_payload(request: Request, line: Line, attempt_no: int) -> dict[str, Any]:
    """
    Build the parameters of *Create a transfer*, or of *Create a transfer reversal* (Stripe API reference).

    Returns:
        Of a transfer: amount (minor units), currency, destination, transfer_group, description and metadata; of a
        reversal: amount, description and metadata. No free text of a person is among them.
    """
    if request.kind is Kind.REVERSAL:
        return {
            "amount": line.amount.amount_minor,
            "description": f"Reversal under {request.incident_id}",
            "metadata": _origin(request, line, attempt_no) | {"stripe_transfer_id": line.stripe_transfer_id},
        }
    return {
        "amount": line.amount.amount_minor,
        "currency": line.amount.currency,
        "destination": line.destination_account,
        "transfer_group": transfer_group(line.ledger_payout_id),
        "description": f"Manual payout fallback {request.incident_id}",
        "metadata": _origin(request, line, attempt_no),
    }


def stripe_command(payload: dict[str, Any], key: str, mode: Mode) -> str:
    """
    Write the transfer as a command of Stripe's CLI, for whoever has to make it by hand (SOP step 3).

    It carries the same idempotency key as the run, so that both together make one transfer; Stripe's own login gives it
    the API key.
    """
    words = ["stripe", "transfers", "create", *(["--live"] if mode is Mode.LIVE else []), "--idempotency", key]
    flat = {name: value for name, value in payload.items() if name != "metadata"}
    flat |= {f"metadata[{name}]": value for name, value in payload["metadata"].items()}
    for name, value in flat.items():
        words += ["-d", f"{name}={value}"]
    return shlex.join(words)


def is_own(made: dict[str, Any], line_id: str) -> bool:
    """Whether a transfer or a reversal says that it was made for this line."""
    return bool(_metadata(made).get("line_id") == line_id)


def difference(made: dict[str, Any], record: Record) -> str:
    """
    Compare a transfer or a reversal that Stripe shows with what was meant.

    How much of a transfer has come back since is not compared: it says nothing about what was made.

    Returns:
        The first field that differs with both values, as text; empty when nothing does.
    """
    payload = json.loads(record.payload)
    back = record.noun == "reversal"
    of_reversal = {"currency": record.amount.currency, "transfer": record.stripe_transfer_id}
    expected = {"amount": payload["amount"]} | of_reversal if back else _transfer_fields(payload, record.mode)
    for name, value, found in _differing(made, expected | _marks(payload)):
        return f"{name}: sent {value!r}, Stripe shows {found!r}"
    return "" if back else _unclear(made)


def payload_differences(made: dict[str, Any], payload: dict[str, Any], mode: Mode) -> list[str]:
    """
    Compare a transfer that somebody made by hand with the payload that was approved.

    Returns:
        Every field that differs with both values; the attempt's number and the description say nothing about the money.
    """
    expected = _transfer_fields(payload, mode) | _marks(payload)
    found = [f"{name}: approved {value!r}, Stripe shows {shown!r}" for name, value, shown in _differing(made, expected)]
    unclear = "" if found else _unclear(made)
    return [*found, unclear] if unclear else found


def _transfer_fields(payload: dict[str, Any], mode: Mode) -> dict[str, Any]:
    named = {name: payload[name] for name in ("amount", "currency", "destination", "transfer_group")}
    return named | {"livemode": mode is Mode.LIVE}


def _marks(payload: dict[str, Any]) -> dict[str, Any]:
    return {f"metadata.{name}": value for name, value in payload["metadata"].items() if name != "attempt"}


def _differing(made: dict[str, Any], expected: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for name, value in expected.items():
        found = _metadata(made).get(name[9:]) if name.startswith("metadata.") else made.get(name)
        # 1 equals True in Python; an amount that Stripe does not show as a number of its kind is not that amount.
        if found != value or type(found) is not type(value):
            yield name, value, found


def _unclear(transfer: dict[str, Any]) -> str:
    """Say that a transfer does not tell what of it has come back; empty where it does."""
    back, whole, amount = transfer.get("amount_reversed"), transfer.get("reversed"), transfer["amount"]
    if type(back) is int and type(whole) is bool and 0 <= back <= amount and whole == (back == amount):
        return ""
    return f"amount_reversed: expected a number of minor units, Stripe shows {back!r}"


def _origin(request: Request, line: Line, attempt_no: int) -> dict[str, str]:
    """By what a transfer or a reversal is known as ours; Stripe lists it with the object."""
    return {
        "incident_id": request.incident_id,
        "request_id": request.request_id,
        "request_digest": request.digest,
        "line_id": line.line_id,
        "ledger_payout_id": line.ledger_payout_id,
        "studio_id": line.studio_id,
        "reason": request.reason.value,
        "attempt": str(attempt_no),
    }


def _metadata(made: dict[str, Any]) -> dict[str, Any]:
    return made.get("metadata") or {}
