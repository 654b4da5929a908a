"""The timeline of one payout as a picture: which points, where they stand, and how long lay between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from manual_payout.domain.models import Event, Kind
from truthful_papermill.plain_text import one_line

# What of the journal a reviewer wants to see; the rest is in journal.json. The second word is the shape of the point.
_SHOWN = {
    "request_filed": ("Request filed", "person"),
    "request_withdrawn": ("Request withdrawn", "person"),
    "approved": ("Approved", "person"),
    "rehearsal_warning_shown": ("Warned: no recent rehearsal", "person"),
    "dry_run": ("Dry run read", "person"),
    "stage_refused": ("Refused", "bad"),
    "rehearsal_overridden": ("Went on without rehearsal", "bad"),
    "intent_recorded": ("Intent recorded", "money"),
    "transfer_adopted": ("Transfer made by hand taken up", "person"),
    "sending_taken_over": ("Sending taken over", "person"),
    "sending": ("Sending begun", "money"),
    "resend_allowed": ("Sending allowed again", "money"),
    "outcome_paid": ("Stripe made the transfer", "good"),
    "outcome_refused": ("Stripe refused", "bad"),
    "outcome_unknown": ("Answer lost: unknown", "bad"),
    "outcome_needs_human": ("A person has to find out", "bad"),
    "outcome_reversed": ("Stripe made the reversal", "good"),
    "looked_up": ("Looked up at Stripe", "seen"),
    "late_answer": ("A late answer came", "bad"),
    "payout_logged": ("Row compared with Stripe", "seen"),
    "payout_reversed": ("Money came back", "bad"),
    "message_delivered": ("Message delivered", "seen"),
    "message_copied": ("Message sent by hand", "person"),
    "settlement_observed": ("", "seen"),
    "incident_closed": ("Incident closed", "person"),
}
_RUNGS = {
    "accepted": "Transfer exists",
    "settled_on_platform": "Settled on the platform",
    "usable_by_studio": "Usable by the studio",
    "paid_to_bank": "Paid to the bank",
}

# A night with more is told by its beginning and its end.
_POINTS_MAX = 40
_FIRST = 15

_ROW = 60
_TOP = 16
_NAME_MAX = 26


@dataclass(frozen=True, slots=True)
class Point:
    """
    One point of the picture.

    Attributes:
        y: From the top, in the picture's own units.

        gap: How long after the point above, in words; empty at the first.
    """

    y: int
    at: str
    label: str
    by: str
    shape: str
    gap: str


@dataclass(frozen=True, slots=True)
class Timeline:
    """
    The picture.

    Attributes:
        height: In the picture's own units.

        left_out: How many points between beginning and end are not drawn.
    """

    points: tuple[Point, ...]
    height: int
    left_out: int


def draw(events: Sequence[Event], name_of: Callable[[str], str]) -> Timeline:
    """
    Place the telling events of a journal under each other.

    Args:
        name_of: Names a person by id.
    """
    told, back = [event for event in events if event.kind in _SHOWN], _backwards(events)
    kept = told if len(told) <= _POINTS_MAX else [*told[:_FIRST], *told[_FIRST - _POINTS_MAX :]]
    points = []
    for number, event in enumerate(kept):
        label, shape = _words(event)
        if event.seq in back:
            # What was asked, approved and run for a reversal is nothing that the payout had.
            label = f"Reversal: {label[0].lower()}{label[1:]}"
        gap = _span(event.at - kept[number - 1].at) if number else ""
        by = _clipped(one_line(name_of(event.actor)))
        points.append(Point(_TOP + number * _ROW, f"{event.at:%Y-%m-%d %H:%M:%S}", label, by, shape, gap))
    return Timeline(tuple(points), _TOP + max(len(points) - 1, 0) * _ROW + 40, len(told) - len(kept))


def _backwards(events: Sequence[Event]) -> frozenset[int]:
    """Return the numbers of the events that are about money that is taken back: each names its request, intent or key."""
    names: set[str] = set()
    found, sends_back = set(), False
    for event in events:
        data = event.data
        statement = data.get("statement", {})
        if event.kind == "request_filed" and statement.get("kind") == Kind.REVERSAL:
            names |= {str(data.get("request_id")), str(data.get("digest"))}
        if event.kind == "intent_recorded":
            sends_back = "reversal_id" in data
            names |= {str(data.get("idempotency_key"))} if sends_back else set()
        said = {data.get(name) for name in ("request_id", "idempotency_key")}
        said |= {digest for one in statement.get("subject", ()) for digest in one["digest"].values()}
        unnamed = event.kind.startswith("outcome_") and not event.kind.endswith("reversed")
        if said & names or "reversal_id" in data or (unnamed and sends_back):
            found.add(event.seq)
    return frozenset(found)


def _words(event: Event) -> tuple[str, str]:
    label, shape = _SHOWN[event.kind]
    if event.kind == "stage_refused":
        return f"{event.data.get('stage', '')} refused", shape
    if event.kind != "settlement_observed":
        return label, shape
    if event.data.get("failed"):
        return f"Failed: {_rung(event.data.get('failed_rung'))}", "bad"
    return _rung(event.data.get("rung")), "good" if event.data.get("done") else shape


def _rung(name: object) -> str:
    return _RUNGS.get(str(name), "Settlement looked at")


def _clipped(name: str) -> str:
    return name if len(name) <= _NAME_MAX else f"{name[: _NAME_MAX - 1]}…"


def _span(between: timedelta) -> str:
    seconds = int(between.total_seconds())
    if seconds < 60:
        return f"{max(seconds, 0)} s later" if seconds > 0 else "at once"
    if seconds < 3600:
        return f"{seconds // 60} min later"
    if seconds < 86400:
        return f"{seconds // 3600} h {seconds % 3600 // 60} min later"
    return f"{seconds // 86400} d {seconds % 86400 // 3600} h later"
