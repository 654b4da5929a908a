"""The postmortem's draft: what the record knows, so that people write only what it cannot know."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime

from manual_payout.approval.requesting import markdown_safe
from manual_payout.desk.inventory import override_sentence
from manual_payout.domain.models import Event, PayoutRecord
from manual_payout.evidence.checklist import read_follow_ups
from manual_payout.evidence.timeline import draw

POSTMORTEM_NAME = "postmortem.md"

_OPEN = "*Not written yet.*"
_PEOPLES = ("What went well", "What went wrong", "Where we were lucky")


def postmortem_text(
    record: PayoutRecord | None,
    events: Sequence[Event],
    typed: Mapping[str, object],
    *,
    incident_id: str,
    name_of: Callable[[str], str],
    today: date,
) -> str:
    """
    Write the draft in Markdown.

    Args:
        typed: The parameters of the close, ``root_cause`` and ``follow_ups`` among them.

        name_of: Names a person by id.
    """
    sections = [
        f"# Postmortem of {incident_id} (draft)",
        "Filled in from the journal when the incident was closed. What stands in italics is for people to write.",
        "## What happened\n\n" + _facts(record, events, name_of),
        "## How long it took\n\n" + _durations(events),
        "## Timeline\n\n" + _timeline(events, name_of),
        f"## Root cause\n\n{markdown_safe(str(typed.get('root_cause') or '')) or _OPEN}",
        "## Follow-ups\n\n" + _follow_ups(str(typed.get("follow_ups") or ""), today),
        *(f"## {title}\n\n{_OPEN}" for title in _PEOPLES),
    ]
    return "\n\n".join(sections) + "\n"


def _facts(record: PayoutRecord | None, events: Sequence[Event], name_of: Callable[[str], str]) -> str:
    if record is None:
        return "No sending was begun; nothing has moved."
    rows = {
        "amount": record.amount.grouped,
        "studio": markdown_safe(record.studio_name),
        "destination": record.destination_account,
        "reason": record.reason.value.replace("_", " "),
        "transfer": record.stripe_transfer_id or "none",
        "state": record.state.value.replace("_", " "),
        "settlement": (record.settlement_rung or "not watched").replace("_", " "),
        "operator": markdown_safe(name_of(record.operator_id)),
        "attempts": str(record.attempt_no),
        "mode": record.mode.value,
    }
    if override := override_sentence(events, record.request_id, name_of):
        rows["rehearsal"] = markdown_safe(override)
    return _table(("fact", "value"), list(rows.items()))


def _durations(events: Sequence[Event]) -> str:
    first: dict[str, datetime] = {}
    for event in events:
        first.setdefault(event.kind, event.at)
    settled = next((e.at for e in events if e.kind == "settlement_observed" and e.data.get("done")), None)
    marks = {
        "request filed": first.get("request_filed"),
        "first approval": first.get("approved"),
        "dry run": first.get("dry_run"),
        "transfer made": first.get("outcome_paid"),
        "money arrived": settled,
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
