"""
The account of the money of one ledger payout: what left, what came back, what is open. Pure.

Whoever says where money is, or that none has moved, asks it; nothing is claimed from how a command ended.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from manual_payout.domain.models import MOVED_STATES, OPEN_STATES, Event, PayoutRecord, Record, ReversalRecord, State
from manual_payout.domain.money import Money


class Standing(StrEnum):
    """Where all the money of one ledger payout stands, the gravest that holds."""

    OPEN = "open"
    ASTRAY = "astray"
    OUT = "out"
    TAKEN_BACK = "taken back"
    NOTHING = "nothing moved"


@dataclass(frozen=True, slots=True)
class Account:
    """
    What the books say of one ledger payout.

    Attributes:
        standing: *Astray* is what moved and did not arrive, or came back by no reversal of ours, until its incident is
            closed; *taken back* is what came back whole by reversals that were approved here.

        state: The state of the row that it is about; ``returned`` where it went astray.

        sentence: Where the money is, for people.

        remedy: What a person does now; empty where nothing is left to do.

        moved: The lines, of either direction, whose money has moved.
    """

    standing: Standing
    state: str
    sentence: str
    remedy: str = ""
    moved: frozenset[str] = frozenset()


def account_of(
    payouts: Sequence[PayoutRecord], reversals: Sequence[ReversalRecord], events: Iterable[Event]
) -> Account:
    """
    Add up one ledger payout.

    Args:
        payouts: Its rows in one mode, newest first.

        reversals: Those of its transfers.

        events: The journals of all of them, each in its order.
    """
    told = list(events)
    records: list[Record] = [*payouts, *reversals]
    moved = frozenset(one.line_id for one in records if one.state in MOVED_STATES)
    found = [_open(one) for one in records if one.state in OPEN_STATES]
    found += [_moved(one, reversals, told) for one in payouts if one.state in MOVED_STATES]
    if not any(one.state in MOVED_STATES for one in payouts):
        # Of a transfer that is none of ours, such as the automation's.
        found += [_taken_back(one) for one in reversals if one.state in MOVED_STATES]
    if not found:
        state = payouts[0].state.value if payouts else "nothing begun"
        return Account(Standing.NOTHING, state, "Nothing of this payout has moved.")
    order = list(Standing)
    first = min(found, key=lambda one: order.index(one.standing))
    return Account(first.standing, first.state, first.sentence, first.remedy, moved)


def reconcile_command(record: Record) -> str:
    """Name the only command that leads out of an unknown outcome."""
    where = "reversal reconcile" if isinstance(record, ReversalRecord) else "reconcile"
    return f"manual-payout {where} {record.incident_id}"


def reversal_line(record: Record) -> str:
    """Name the line of a reversal; empty for a payout."""
    return record.line_id if isinstance(record, ReversalRecord) else ""


def taken_back_minor(transfer_id: str | None, reversals: Sequence[ReversalRecord]) -> int:
    """Add up what reversals that were approved here have taken back of one transfer, in minor units."""
    return sum(
        one.amount.amount_minor
        for one in reversals
        if one.stripe_transfer_id == transfer_id and one.state is State.REVERSED
    )


def _open(record: Record) -> Account:
    what = "take back" if isinstance(record, ReversalRecord) else "send"
    # The right to send is committed before the request leaves.
    moved = "the money may have moved" if record.sent else "nothing has been sent so far"
    return Account(
        Standing.OPEN,
        record.state.value,
        f"Attempt {record.attempt_no} to {what} {record.amount.grouped} is open ({record.state.value}), under the key "
        f"{record.idempotency_key}: {moved}.",
        f"Run `{reconcile_command(record)}`; never send again before.",
    )


def _taken_back(record: ReversalRecord) -> Account:
    sentence = f"{record.amount.grouped} of {record.stripe_transfer_id} were taken back here, as approved."
    return Account(Standing.TAKEN_BACK, record.state.value, sentence)


def _moved(record: PayoutRecord, reversals: Sequence[ReversalRecord], events: Sequence[Event]) -> Account:
    sent = f"{record.amount.grouped} moved to {record.destination_account} as {record.stripe_transfer_id}"
    approved = taken_back_minor(record.stripe_transfer_id, reversals)
    astray = _astray(record, approved, events)
    if astray:
        act = (
            "A person must act, and never send it again: see that the studio is told, and settle with it what is owed."
        )
        return Account(Standing.ASTRAY, "returned", f"{sent}, and {astray}", act)
    back = Money(approved, record.amount.currency).grouped
    if record.state is State.REVERSED:
        told = f"{sent}, and came back" if not approved else f"{sent}, and was taken back here, as approved"
        return Account(Standing.TAKEN_BACK, record.state.value, f"{told}.")
    part = f"; {back} of it were taken back here, as approved" if approved else ""
    rung = f", {record.settlement_rung.replace('_', ' ')}" if record.settlement_rung else ""
    return Account(Standing.OUT, record.state.value, f"{sent}{rung}{part}.")


def _astray(record: PayoutRecord, approved_minor: int, events: Sequence[Event]) -> str:
    """Say how the money of a transfer did not arrive or came back; nothing where it did not, or its incident was closed since."""
    came_back = json.loads(record.transfer).get("amount_reversed", 0) if record.transfer else 0
    failed, unexplained, closed = "", came_back > approved_minor, False
    for event in events:
        if not event.stream.startswith(f"{record.incident_id}/"):
            continue
        if event.kind == "incident_closed":
            closed = True
        elif event.kind == "payout_reversed" and event.data["stripe_transfer_id"] == record.stripe_transfer_id:
            came_back = max(came_back, event.data["reversed_minor"])
            unexplained, closed = came_back > approved_minor, closed and came_back <= approved_minor
        elif event.kind == "settlement_observed":
            failed = str(event.data.get("note", "")) if _lost(event) else ""
            closed = closed and not failed
    if closed:
        return ""
    if unexplained:
        extra = Money(came_back - approved_minor, record.amount.currency).grouped
        return f"{extra} of it came back without a reversal that was approved here."
    if failed and record.state is not State.REVERSED:
        return f"did not arrive: {failed}"
    return ""


def _lost(event: Event) -> bool:
    """Whether an observation says that the money was lost on its way; what came back of a transfer is added up by itself."""
    return bool(event.data.get("failed")) and event.data.get("failed_rung") != "accepted"
