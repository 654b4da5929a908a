"""
The account of the money of one ledger payout: what left, what came back, where the rest is, what is open, what to do. Pure.

Whoever says where money is, or that none has moved, asks it; nothing is claimed from how a command ended.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from manual_payout.domain.models import MOVED_STATES, OPEN_STATES, Event, PayoutRecord, Record, ReversalRecord, State
from manual_payout.domain.money import Money


class Standing(StrEnum):
    """Where all the money of one ledger payout stands, the gravest that holds."""

    OPEN = "open"
    ASTRAY = "astray"
    OUT = "out"
    RETURNED = "returned"
    ARRIVED = "arrived"
    TAKEN_BACK = "taken back"
    NOTHING = "nothing moved"


_ORDER = list(Standing)

# How a payment is closed that did not arrive, by its label.
CLOSED_AS = {
    "failed at the bank, returned": "returned to the studio's balance",
    "came back unapproved": "came back without a reversal that was approved here",
}


@dataclass(frozen=True, slots=True)
class Account:
    """
    What the books say of one ledger payout.

    Attributes:
        standing: *Astray* is what moved and did not arrive, or came back by no reversal of ours, until it is closed, and
            *returned* from then on where it lies in the studio's balance; *taken back* is what came back whole by
            reversals that were approved here.

        state: For a program: the state of the row that it is about; ``returned`` where it went astray.

        sentence: Where the money is, for people.

        remedy: What a person must do before anything else; empty where nobody must.

        moved: The lines, of either direction, whose money has moved.

        word: The finding in two to six words.

        label: The same for a column.

        next_step: What is left to do; empty where nothing is.

        closed: Whether every payment of it that moved was closed since.

        open: The rows, of either direction, of which nobody knows what became.
    """

    standing: Standing
    state: str
    sentence: str
    remedy: str = ""
    moved: frozenset[str] = frozenset()
    word: str = ""
    label: str = ""
    next_step: str = ""
    closed: bool = False
    open: tuple[Record, ...] = ()

    @property
    def left_to_do(self) -> str:
        """What is to be done where a payout of ours is looked for and none was begun: it may be another's that came back."""
        if self.standing is Standing.NOTHING:
            return "Run 2-execute live first."
        return self.remedy or self.next_step or "Nothing is left to do."


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
    opened = tuple(one for one in records if one.state in OPEN_STATES)
    ours = {one.stripe_transfer_id for one in payouts if one.state in MOVED_STATES}
    found = [_open(one) for one in opened]
    found += [_moved(one, reversals, told) for one in payouts if one.state in MOVED_STATES]
    # Of a transfer that is none of ours, such as the automation's.
    foreign = [one for one in reversals if one.state in MOVED_STATES and one.stripe_transfer_id not in ours]
    found += [_taken_back(one, told) for one in foreign]
    if not found:
        return _nothing(payouts)
    found.sort(key=lambda one: _ORDER.index(one.standing))
    return replace(
        found[0],
        sentence=" ".join(one.sentence for one in found),
        moved=frozenset(one.line_id for one in records if one.state in MOVED_STATES),
        closed=all(one.closed for one in found),
        open=opened,
    )


def account_of_row(record: PayoutRecord, reversals: Sequence[ReversalRecord], events: Sequence[Event]) -> Account:
    """Say how one payment stands by itself, whatever else of its ledger payout is open."""
    if record.state in OPEN_STATES:
        return _open(record)
    return _moved(record, reversals, events) if record.state in MOVED_STATES else _nothing([record])


def reconcile_command(record: Record) -> str:
    """Name the only command that leads out of an unknown outcome."""
    where = "reversal reconcile" if isinstance(record, ReversalRecord) else "reconcile"
    return f"manual-payout {where} {record.incident_id}"


def reversal_line(record: Record) -> str:
    """Name the line of a reversal; empty for a payout."""
    return record.line_id if isinstance(record, ReversalRecord) else ""


def taken_back_minor(transfer_id: str | None, reversals: Sequence[ReversalRecord]) -> int:
    """Add up what reversals that were approved here have taken back of one transfer, in minor units."""
    return _sum(transfer_id, reversals, (State.REVERSED,))


def unexplained_minor(transfer_id: str | None, came_back_minor: int, reversals: Sequence[ReversalRecord]) -> int:
    """Return how much of what came back of a transfer no reversal explains that was approved here, in minor units."""
    # One whose outcome is still open may be what came back.
    return max(0, came_back_minor - _sum(transfer_id, reversals, (State.REVERSED, *OPEN_STATES)))


_OPEN_WORDS = {
    State.SUBMITTING: ("Unknown: the end of the sending is not on record", "being sent"),
    State.UNKNOWN: ("Unknown: the money may have moved", "outcome unknown"),
    State.NEEDS_HUMAN: ("Unknown: a person has to find out", "a person has to find out"),
}
_OPEN_BACK = {
    State.SUBMITTING: "Unknown: the end of the reversal is not on record",
    State.UNKNOWN: "Unknown: the reversal may have taken money back",
    State.NEEDS_HUMAN: "Unknown: a person has to find out about the reversal",
}


def _open(record: Record) -> Account:
    back = isinstance(record, ReversalRecord)
    # The right to send is committed before the request leaves.
    moved = "the money may have moved" if record.sent else "nothing has been sent so far"
    what = f"take back {record.amount.grouped} of {record.subject}" if back else f"send {record.amount.grouped}"
    word, label = _OPEN_WORDS[record.state]
    remedy = f"Run `{reconcile_command(record)}`; never send again before, not from the Dashboard either."
    return Account(
        Standing.OPEN,
        record.state.value,
        f"Attempt {record.attempt_no} to {what} is open ({label}), under the key {record.idempotency_key}: {moved}.",
        remedy,
        word=_OPEN_BACK[record.state] if back else word,
        label=label,
        next_step=remedy,
    )


def _nothing(payouts: Sequence[PayoutRecord]) -> Account:
    nothing = "Nothing of this payout has moved."
    if not payouts:
        return Account(Standing.NOTHING, "nothing begun", nothing, word="Nothing was sent", label="nothing begun")
    record = payouts[0]
    why = f" Attempt {record.attempt_no} ended without a transfer. {_sentence(record.outcome_reason)}"
    again = "Correct what is named, then run the same request again: that is a new attempt under the same approvals."
    return Account(
        Standing.NOTHING, record.state.value, nothing + why.rstrip(), word="Refused: nothing has moved",
        label="refused, nothing moved", next_step=again,
    )  # fmt: skip


def _taken_back(record: ReversalRecord, events: Sequence[Event]) -> Account:
    sentence = f"{record.amount.grouped} of {record.stripe_transfer_id} were taken back here, as approved."
    closed = any(event.kind == "incident_closed" for event in _since(record, events))
    return Account(
        Standing.TAKEN_BACK, record.state.value, sentence, word="Reversed: the money has come back", label="taken back",
        next_step=_close(closed=closed), closed=closed,
    )  # fmt: skip


def _moved(record: PayoutRecord, reversals: Sequence[ReversalRecord], events: Sequence[Event]) -> Account:
    sent = f"{record.amount.grouped} moved to {record.destination_account} as {record.stripe_transfer_id}"
    approved = taken_back_minor(record.stripe_transfer_id, reversals)
    unexplained, failed, closed = _seen(record, reversals, events)
    currency = record.amount.currency
    if unexplained:
        extra = Money(unexplained, currency).grouped
        word = "Came back without a reversal that was approved here"
        return _astray(
            f"{sent}, and {extra} of it came back without a reversal that was approved here.",
            word,
            "came back unapproved",
        )
    if record.state is State.REVERSED:
        came = "was taken back here, as approved" if approved else "came back"
        return Account(
            Standing.TAKEN_BACK, record.state.value, f"{sent}, and {came}.", word="Reversed: the money has come back",
            label="taken back", next_step=_close(closed=closed), closed=closed,
        )  # fmt: skip
    part = f"; {Money(approved, currency).grouped} of it were taken back here, as approved" if approved else ""
    if failed and not closed:
        return _astray(
            f"{sent}{part}, and did not arrive: {failed}",
            "Failed on the way to the bank",
            "failed at the bank, returned",
        )
    back = record.state is State.PARTLY_REVERSED
    if failed:
        return Account(
            Standing.RETURNED, "returned", f"{sent}{part}. It is back in the studio's Stripe balance: {failed}",
            word="Returned to the studio's balance", label="back in the studio's balance", closed=True,
        )  # fmt: skip
    rung = f", {record.settlement_rung.replace('_', ' ')}" if record.settlement_rung else ""
    partly, some = ("Partly reversed: the rest ", "partly taken back, the rest ") if back else ("", "")
    if record.settled_at is None:
        return Account(
            Standing.OUT, record.state.value, f"{sent}{rung}{part}.",
            word=f"{partly}is on its way" if back else "Paid: the money is on its way", label=f"{some}on its way" if back else "paid",
            next_step=f"Follow it: manual-payout run … --stage settle ({record.incident_id}).", closed=closed,
        )  # fmt: skip
    return Account(
        Standing.ARRIVED, record.state.value, f"{sent}{rung}{part}.",
        word=f"{partly}has arrived" if back else "Paid, and arrived", label=f"{some}arrived" if back else "arrived",
        next_step=_close(closed=closed), closed=closed,
    )  # fmt: skip


def _astray(sentence: str, word: str, label: str) -> Account:
    act = (
        "A person must act, and never send it again: see that the studio is told, settle with it what is owed, then close "
        "the incident."
    )
    return Account(Standing.ASTRAY, "returned", sentence, act, word=word, label=label, next_step=act)


def _close(*, closed: bool) -> str:
    return "" if closed else "Close the incident: manual-payout run … --stage close."


def _seen(record: PayoutRecord, reversals: Sequence[ReversalRecord], events: Sequence[Event]) -> tuple[int, str, bool]:
    """Return what came back unexplained in minor units, how it failed on its way, and whether it was closed since."""
    came_back = json.loads(record.transfer).get("amount_reversed", 0) if record.transfer else 0
    unexplained = unexplained_minor(record.stripe_transfer_id, came_back, reversals)
    failed, closed = "", False
    for event in _since(record, events):
        if event.kind == "incident_closed":
            closed, unexplained = True, 0
        elif event.kind == "payout_reversed" and event.data["stripe_transfer_id"] == record.stripe_transfer_id:
            more = event.data["reversed_minor"] > came_back
            came_back = max(came_back, event.data["reversed_minor"])
            if more:
                unexplained = unexplained_minor(record.stripe_transfer_id, came_back, reversals)
                closed = closed and not unexplained
        elif event.kind == "settlement_observed":
            failed = str(event.data.get("note", "")) if _lost(event) else ""
            closed = closed and not failed
    return unexplained, failed, closed


def _since(record: Record, events: Iterable[Event]) -> list[Event]:
    """Return the journal of its incident since its sending began: a close of an earlier payment is none of this one's."""
    own = [event for event in events if event.stream.startswith(f"{record.incident_id}/")]
    begun = [
        at for at, event in enumerate(own)
        if event.kind == "intent_recorded" and record.line_id in (event.data.get("payout_id"), event.data.get("reversal_id"))
    ]  # fmt: skip
    return own[begun[-1] :] if begun else own


def _lost(event: Event) -> bool:
    """Whether an observation says that the money was lost on its way; what came back of a transfer is added up by itself."""
    return bool(event.data.get("failed")) and event.data.get("failed_rung") != "accepted"


def _sum(transfer_id: str | None, reversals: Sequence[ReversalRecord], states: Sequence[State]) -> int:
    return sum(
        one.amount.amount_minor for one in reversals if one.stripe_transfer_id == transfer_id and one.state in states
    )


def _sentence(text: str | None) -> str:
    return f"{text[0].upper()}{text[1:].rstrip('.')}." if text else ""
