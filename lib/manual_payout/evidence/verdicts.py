"""
The reviewer's first question, answered from the record alone: what became of the money, and what is to be done now.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from manual_payout.domain.models import OPEN_STATES, Event, PayoutRecord, State


class Kind(StrEnum):
    """What a page is about at a glance; each has its own sign, colour and border."""

    ARRIVED = "arrived"
    MOVING = "moving"
    UNKNOWN = "unknown"
    REFUSED = "refused"
    FAILED = "failed"
    DRY_RUN = "dry-run"
    REVERSED = "reversed"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Verdict:
    """
    What became of the money.

    Attributes:
        word: The finding in two to five words.

        sentence: What the record says about it.

        next_step: What a person does now; empty when nothing is left to do.
    """

    kind: Kind
    word: str
    sentence: str
    next_step: str = ""


# How the journal tells that a stage said no.
_NO = "NO-GO"


def verdict_of(
    record: PayoutRecord | None, events: Sequence[Event], *, incident_id: str, broken: Sequence[str] = ()
) -> Verdict:
    """
    Judge where the money stands.

    Args:
        record: The row of ``manual_payouts``, or None while nothing was begun.

        events: The journal of this payout, in order.

        broken: Names of executed notebooks that ended in another way than they should, in order.
    """
    if record is None:
        return _nothing_begun(events, incident_id, broken)
    if record.state in OPEN_STATES:
        return _open(record)
    if record.state is State.REFUSED:
        return Verdict(
            Kind.REFUSED,
            "Refused: nothing has moved",
            f"Attempt {record.attempt_no} ended without a transfer. {_sentence(record.outcome_reason)}",
            "Correct what is named, then run the same request again: that is a new attempt under the same approvals.",
        )
    if record.state in (State.REVERSED, State.PARTLY_REVERSED):
        return _came_back(record)
    return _paid(record, events)


def _open(record: PayoutRecord) -> Verdict:
    words = {
        State.SUBMITTING: ("Unknown: the end of the sending is not on record", "A request may have reached Stripe."),
        State.UNKNOWN: ("Unknown: the money may have moved", "Stripe's answer was lost or proves nothing."),
        State.NEEDS_HUMAN: ("Unknown: a person has to find out", "Neither Stripe nor the key can settle it."),
    }
    word, sentence = words[record.state]
    told = _sentence(record.outcome_reason)
    return Verdict(
        Kind.UNKNOWN,
        word,
        f"{sentence} {told}".strip(),
        f"Run manual-payout reconcile {record.incident_id}. Do not send again in any way before that, not from the "
        "Dashboard either.",
    )


def _came_back(record: PayoutRecord) -> Verdict:
    whole = record.state is State.REVERSED
    return Verdict(
        Kind.REVERSED,
        "Reversed: the money has come back" if whole else "Partly reversed: some of the money has come back",
        f"{record.stripe_transfer_id} was made and {'all' if whole else 'part'} of it taken back later.",
        "Compare the reversal with the ledger; another payout needs a new request.",
    )


def _paid(record: PayoutRecord, events: Sequence[Event]) -> Verdict:
    seen = [event for event in events if event.kind == "settlement_observed"]
    if seen and seen[-1].data.get("failed"):
        return Verdict(
            Kind.FAILED,
            "Failed on the way to the bank",
            f"{record.stripe_transfer_id} was made; then: {_sentence(str(seen[-1].data.get('note', '')))}",
            "See that the studio is told. The money was transferred: never send it again.",
        )
    settle = f"Follow it: manual-payout run … --stage settle ({record.incident_id})."
    if record.settled_at is None:
        return Verdict(
            Kind.MOVING,
            "Paid: the money is on its way",
            f"{record.stripe_transfer_id} was made. It has not been seen to arrive yet.",
            settle,
        )
    closed = any(event.kind == "incident_closed" for event in events)
    return Verdict(
        Kind.ARRIVED,
        "Paid, and arrived",
        f"{record.stripe_transfer_id} was made once and has reached the rung that counts as settled.",
        "" if closed else "Close the incident: manual-payout run … --stage close.",
    )


def _nothing_begun(events: Sequence[Event], incident_id: str, broken: Sequence[str]) -> Verdict:
    ended = [event for event in events if event.kind in ("stage_finished", "stage_refused")]
    last = ended[-1] if ended else None
    if last is not None and (last.kind == "stage_refused" or last.data.get("verdict") == _NO):
        told = _sentence(str(last.data.get("message", "")))
        return Verdict(
            Kind.REFUSED,
            "Refused: nothing was sent",
            f"{last.data.get('stage', 'A stage')} said no. {told or 'The checks below say why.'}",
            "Do what the refusal names, then run the same command again; or withdraw the request.",
        )
    if broken:
        return Verdict(
            Kind.FAILED,
            "Stopped: nothing was sent",
            f"{broken[-1]} did not come to its end, and no sending was begun.",
            "Open that notebook to see where it stopped, then run the same command again.",
        )
    if any(event.kind == "dry_run" for event in events):
        return Verdict(
            Kind.DRY_RUN,
            "Dry run: nothing was sent",
            "The payout was verified and its exact payload shown. No money has moved.",
            "If the payload is right, run live with the confirm code that 2-execute shows.",
        )
    return Verdict(
        Kind.NOTHING,
        "Nothing was sent",
        "No sending was begun for this ledger payout under this incident.",
        f"manual-payout status {incident_id} says what is missing.",
    )


def _sentence(text: str | None) -> str:
    return f"{text[0].upper()}{text[1:].rstrip('.')}." if text else ""
