"""
The reviewer's first question, answered from the record alone: what became of the money, and what is to be done now.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from manual_payout.domain.account import Account, Standing
from manual_payout.domain.models import Event, Kind


class Tone(StrEnum):
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

    kind: Tone
    word: str
    sentence: str
    next_step: str = ""


# How the journal tells that a stage said no.
_NO = "NO-GO"

_KINDS = {
    Standing.OPEN: Tone.UNKNOWN,
    Standing.ASTRAY: Tone.FAILED,
    Standing.OUT: Tone.MOVING,
    Standing.RETURNED: Tone.REVERSED,
    Standing.ARRIVED: Tone.ARRIVED,
    Standing.TAKEN_BACK: Tone.REVERSED,
    Standing.NOTHING: Tone.REFUSED,
}


def verdict_of(
    account: Account, events: Sequence[Event], *, incident_id: str, begun: bool, broken: Sequence[str] = ()
) -> Verdict:
    """
    Judge where the money stands, by the account alone; what was not begun is told by the journal.

    Args:
        account: Of what is on record under this incident.

        events: The journal of this payout, in order.

        begun: Whether any sending was.

        broken: Names of executed notebooks that ended in another way than they should, in order.
    """
    if account.standing is Standing.NOTHING and not begun:
        return _nothing_begun(events, incident_id, broken)
    return Verdict(_KINDS[account.standing], account.word, account.sentence, account.next_step)


def _nothing_begun(events: Sequence[Event], incident_id: str, broken: Sequence[str]) -> Verdict:
    ended = [event for event in events if event.kind in ("stage_finished", "stage_refused")]
    last = ended[-1] if ended else None
    if last is not None and (last.kind == "stage_refused" or last.data.get("verdict") == _NO):
        told = _sentence(str(last.data.get("message", "")))
        return Verdict(
            Tone.REFUSED,
            "Refused: nothing was sent",
            f"{last.data.get('stage', 'A stage')} said no. {told or 'The checks below say why.'}",
            "Do what the refusal names, then run the same command again; or withdraw the request.",
        )
    if broken:
        return Verdict(
            Tone.FAILED,
            "Stopped: nothing was sent",
            f"{broken[-1]} did not come to its end, and no sending was begun.",
            "Open that notebook to see where it stopped, then run the same command again.",
        )
    read = {event.data.get("request_id") for event in events if event.kind == "dry_run"}
    filed = [event.data for event in events if event.kind == "request_filed"]
    back = {data.get("request_id") for data in filed if data.get("statement", {}).get("kind") == Kind.REVERSAL}
    if read & back:
        return Verdict(
            Tone.DRY_RUN,
            "Dry run: nothing was taken back",
            "The reversal was verified and its exact payload shown. No money has moved.",
            f"If the payload is right: manual-payout reversal run {incident_id}, with the confirm code that it shows.",
        )
    if read:
        return Verdict(
            Tone.DRY_RUN,
            "Dry run: nothing was sent",
            "The payout was verified and its exact payload shown. No money has moved.",
            "If the payload is right, run live with the confirm code that the end of the dry run printed.",
        )
    return Verdict(
        Tone.NOTHING,
        "Nothing was sent",
        "No sending was begun for this ledger payout under this incident.",
        f"manual-payout status {incident_id} says what is missing.",
    )


def _sentence(text: str | None) -> str:
    return f"{text[0].upper()}{text[1:].rstrip('.')}." if text else ""
