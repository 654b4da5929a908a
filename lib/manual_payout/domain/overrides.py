"""How it is kept and told that somebody sent in spite of the warning about the rehearsal. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from manual_payout.domain.models import Event

# What the journal calls it: the warning was shown to an approver; an operator went on in spite of it.
SHOWN = "rehearsal_warning_shown"
OVERRIDDEN = "rehearsal_overridden"


def override_sentence(events: Iterable[Event], request_id: str, name_of: Callable[[str], str]) -> str:
    """
    Say who sent *request_id* in spite of the warning, why it was one, and which approvers knew; the latest such event.

    Args:
        events: The journal of the payout.

        name_of: Names a person by id.

    Returns:
        One or two sentences, or nothing where nobody had to override anything.
    """
    found = [event for event in events if event.kind == OVERRIDDEN and event.data.get("request_id") == request_id]
    if not found:
        return ""
    event = found[-1]
    approvers, warned = list(event.data["approved_by"]), list(event.data["approvers_warned"])
    if warned == approvers:
        knew = "Both approvers had been warned"
    else:
        names = ", ".join(name_of(one) for one in approvers if one not in warned)
        knew = f"Approved before, or without, the warning by {names}"
    return f"{name_of(event.actor)} sent it in spite of the rehearsal's warning: {event.data['reason']}. {knew}."
