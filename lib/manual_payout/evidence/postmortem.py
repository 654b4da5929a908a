"""The postmortem's draft: what the record knows, so that people write only what it cannot know."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, datetime

from manual_payout.approval.requesting import markdown_safe
from manual_payout.desk.inventory import override_sentence
from manual_payout.domain.models import Event, ReversalRecord
from manual_payout.evidence.checklist import read_follow_ups
from manual_payout.evidence.story import Story
from manual_payout.evidence.timeline import draw

POSTMORTEM_NAME = "postmortem.md"

_OPEN = "*Not written yet.*"
_PEOPLES = ("What went well", "What went wrong", "Where we were lucky")


def postmortem_text(
    story: Story, closed: Event, *, incident_id: str, name_of: Callable[[str], str], today: date
) -> str:
    """
    Write the draft in Markdown, from what is on record alone.

    Args:
        closed: The event of the close, which holds root cause and follow-ups.

        name_of: Names a person by id.
    """
    sections = [
        f"# Postmortem of {incident_id} (draft)",
        "Filled in from the journal when the incident was closed. What stands in italics is for people to write.",
        "## What happened\n\n" + _facts(story, closed, name_of),
        "## How long it took\n\n" + _durations(story),
        "## Timeline\n\n" + _timeline(story.events, name_of),
        f"## Root cause\n\n{markdown_safe(str(closed.data.get('root_cause') or '')) or _OPEN}",
        "## Follow-ups\n\n" + _follow_ups(str(closed.data.get("follow_ups") or ""), today),
        *(f"## {title}\n\n{_OPEN}" for title in _PEOPLES),
    ]
    return "\n\n".join(sections) + "\n"


def _facts(story: Story, closed: Event, name_of: Callable[[str], str]) -> str:
    """Tell what the account of the money says, then every movement, the payments first."""
    paid = [row for row in (story.record, *story.earlier) if row is not None]
    told = [markdown_safe(story.account.sentence)]
    if owner := closed.data.get("owner"):
        told.append(f"Closed as {closed.data['outcome']}; {markdown_safe(owner)} looks after it.")
    for row in (*paid, *story.reversals):
        rows = {
            row.noun: row.stripe_id or "none",
            "amount": row.amount.grouped,
            "studio": markdown_safe(row.studio_name),
            "account": row.destination_account,
            "reason": row.reason.value.replace("_", " "),
            "operator": markdown_safe(name_of(row.operator_id)),
            "attempts": str(row.attempt_no),
            "mode": row.mode.value,
        }
        if isinstance(row, ReversalRecord):
            rows |= {"taken back of": row.stripe_transfer_id or "none"}
        elif override := override_sentence(story.events, row.request_id, name_of):
            rows["rehearsal"] = markdown_safe(override)
        told.append(_table(("fact", "value"), list(rows.items())))
    return "\n\n".join(told)


def _durations(story: Story) -> str:
    """Say how long the payment took that counts; of reversals the timeline tells."""
    if story.request is None or story.record is None:
        return "No payout of ours was begun."
    first: dict[str, datetime] = {}
    begun = 0
    for number, event in enumerate(story.events):
        if event.kind == "intent_recorded" and event.data.get("payout_id") == story.record.payout_id:
            begun = begun or number
    for event in story.events[begun:]:
        if event.kind == "outcome_paid" and event.data.get("stripe_transfer_id") == story.record.stripe_transfer_id:
            first.setdefault("transfer made", event.at)
        if event.kind == "settlement_observed" and event.data.get("done"):
            first.setdefault("money arrived", event.at)
    read = [e.at for e in story.events if e.kind == "dry_run" and e.data.get("request_id") == story.request.request_id]
    marks = {
        "request filed": story.request.filed_at,
        "first approval": min((one.approved_at for one in story.approvals), default=None),
        "dry run": read[0] if read else None,
        **first,
    }
    reached = [(name, at) for name, at in marks.items() if at is not None]
    rows = [(name, f"{at:%Y-%m-%d %H:%M:%S}", _span(at, reached[0][1])) for name, at in reached]
    return _table(("reached", "at (UTC)", "after the request"), rows)


def _timeline(events: Sequence[Event], name_of: Callable[[str], str]) -> str:
    drawn = draw(events, name_of)
    rows = [(point.at, point.label, markdown_safe(point.by)) for point in drawn.points]
    left_out = f"\n\n{drawn.left_out} events between are in journal.json." if drawn.left_out else ""
    return _table(("at (UTC)", "what", "by"), rows) + left_out


def _follow_ups(text: str, today: date) -> str:
    try:
        planned = read_follow_ups(text, today)
    except ValueError:
        planned = ()
    if not planned:
        return markdown_safe(text) or _OPEN
    rows = [(markdown_safe(one.what), markdown_safe(one.owner), one.due.isoformat()) for one in planned]
    return _table(("what", "owner", "due"), rows)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _span(at: datetime, since: datetime) -> str:
    minutes = int((at - since).total_seconds()) // 60
    days, hours = divmod(minutes // 60, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min"
