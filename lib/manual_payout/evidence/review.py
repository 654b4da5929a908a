"""
The reviewer's page of one payout: ``index.html``, one file that loads nothing, runs nothing and prints well.

All text is hostile until escaped: Jinja2 does that for every value, and `shown` makes visible what could act unseen. The
style sheet is allowed by its digest alone, so that nothing that was slipped in could style, load or run.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
from dataclasses import replace
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from manual_payout.approval.approvals import by_passkey
from manual_payout.desk.inventory import override_sentence
from manual_payout.desk.wiring import Desk
from manual_payout.domain.canonical import instant_text
from manual_payout.domain.models import Event, Line, MessageState, Mode, PayoutRecord, Record, State
from manual_payout.domain.rendering import environment
from manual_payout.evidence.folder import Folder
from manual_payout.evidence.story import Story, read_story
from manual_payout.evidence.timeline import draw
from manual_payout.evidence.verdicts import Tone, Verdict, verdict_of
from truthful_papermill.plain_text import shown

if TYPE_CHECKING:
    from jinja2 import Environment

INDEX_NAME = "index.html"

_TEMPLATE = "review.html.j2"

_WORLDS = {
    Mode.SANDBOX: ("SANDBOX", "A local Stripe on one machine. No real money, no real studio."),
    Mode.TEST: ("STRIPE TEST MODE", "Stripe's test mode. No real money."),
    Mode.LIVE: ("LIVE", "Real money."),
}
_SIGNS = {
    "arrived": "✔",
    "moving": "→",
    "unknown": "?",
    "refused": "✖",
    "failed": "!",
    "dry-run": "∅",
    "reversed": "↩",
    "nothing": "–",
}
_RUNGS = {
    "accepted": "Accepted: the transfer exists",
    "settled_on_platform": "Settled on the platform",
    "usable_by_studio": "Usable by the studio",
    "paid_to_bank": "Paid to the bank",
}
# Where the money is on the rung that counts as arrived.
_REACHED = {"usable_by_studio": "'s Stripe balance", "paid_to_bank": "'s bank"}
_SENT = {
    MessageState.ANNOUNCED: "not sent yet",
    MessageState.TO_COPY: "not sent by us: to be copied by hand",
    MessageState.WAITING: "not sent yet",
    MessageState.SENDING: "not known to be delivered yet",
    MessageState.DELIVERED: "delivered",
    MessageState.REFUSED: "refused by the provider",
    MessageState.COPIED: "sent by hand",
}


def write_page(
    desk: Desk, folder: Folder, incident_id: str, ledger_payout_id: str, *, later: frozenset[str] = frozenset()
) -> Path:
    """
    Write the page of everything on record and in the folder now.

    Args:
        later: Names of files and folders that are written after the page, such as the manifest that holds the page's own digest.

    Raises:
        EvidenceError: The journal's chain is broken, or the folder cannot be written.
    """
    without = later | {INDEX_NAME}
    story = read_story(desk, folder, incident_id, ledger_payout_id, without=without)
    return folder.replace_redacted(INDEX_NAME, review_page(desk, story, incident_id, ledger_payout_id, sorted(later)))


def compile_review() -> None:
    """Compile the page's template, which takes longer than to render it, so that a seal need not."""
    _environment().get_template(_TEMPLATE)


def review_page(desk: Desk, story: Story, incident_id: str, ledger_payout_id: str, later: list[str]) -> str:
    """Render the page."""
    account, record = story.account, story.record
    begun = bool(record or story.earlier)
    verdict = verdict_of(account, story.events, incident_id=incident_id, begun=begun, broken=story.broken)
    if account.moved and not account.remedy:
        # What is asked for on top of what has moved comes before the close, which waits for it.
        verdict = replace(verdict, next_step=" ".join([*story.waiting, verdict.next_step]).strip())
    world, world_means = _WORLDS[desk.settings.mode]
    css = _style(f"{world} · {verdict.word}")
    line = story.record or (story.request.line_for(ledger_payout_id) if story.request else None)
    return (
        _environment()
        .get_template(_TEMPLATE)
        .render(
            incident_id=incident_id,
            ledger_payout_id=ledger_payout_id,
            mode=desk.settings.mode.value,
            world=world,
            world_means=world_means,
            verdict=verdict,
            sign=_SIGNS[verdict.kind],
            css=css,
            csp=_policy(css),
            story=story,
            line=line,
            lead=_lead(line, story.record, verdict),
            given=[approval for approval in story.approvals if approval.approver_id],
            passkeys={one.approval_id for one in by_passkey(story.approvals)},
            shown={one.approval_id: json.loads(one.facts)["tables"] for one in story.approvals if one.facts},
            operators=_operators(story),
            rungs=_rungs(story),
            timeline=draw(story.events, desk.registry.name_of),
            name_of=desk.registry.name_of,
            sealed_at=instant_text(desk.now()),
            later=later,
            message_states=_SENT,
            override=_override(desk, story),
            moved=record is not None and record.line_id in account.moved,
            came_back=bool(account.moved),
        )
    )


def _lead(line: Record | Line | None, record: Record | None, verdict: Verdict) -> tuple[str, str] | None:
    """Say in one sentence what became of the money, before and after the studio's name; None where the verdict's own has to."""
    if line is None:
        return None
    amount = line.amount.grouped
    if verdict.kind is Tone.UNKNOWN:
        return f"Nobody knows yet whether {amount} left for ", "."
    if verdict.kind in (Tone.REFUSED, Tone.DRY_RUN, Tone.NOTHING):
        return f"{amount} for ", " has not left."
    if isinstance(record, PayoutRecord) and record.state is State.PAID and record.outcome_at is not None:
        where = _REACHED.get(record.settlement_rung or "")
        if verdict.kind is Tone.ARRIVED and record.settled_at is not None and where:
            return f"{amount} reached ", f"{where} on {_day(record.settled_at)}."
        if verdict.kind is Tone.MOVING:
            return f"{amount} left for ", f" on {_day(record.outcome_at)}, and has not arrived yet."
    return None


def _day(at: datetime) -> str:
    return f"{at.day} {at:%B %Y}"


def _operators(story: Story) -> list[tuple[str, Event]]:
    """Return who read the dry run of this payment, ran it and took it over; an earlier payment's operator ran another."""
    done: dict[tuple[str, str], Event] = {}
    owners: set[str] = set()
    for event in story.events:
        data, did = event.data, ""
        if event.kind == "dry_run" and story.request and data.get("request_id") == story.request.request_id:
            did = "read the dry run"
        elif story.record and event.kind == "intent_recorded" and data.get("payout_id") == story.record.payout_id:
            did = "ran it"
            owners.add(str(data.get("owner")))
        elif event.kind == "sending_taken_over" and data.get("from") in owners:
            did = "took it over"
            owners.add(str(data.get("to")))
        if did:
            done.setdefault((did, event.actor), event)
    return [(did, event) for (did, _), event in done.items()]


def _override(desk: Desk, story: Story) -> str:
    return override_sentence(story.events, story.request.request_id, desk.registry.name_of) if story.request else ""


def _rungs(story: Story) -> list[dict[str, str]]:
    """Say of each rung what was observed, the lowest first; nothing is concluded for a rung that was passed over."""
    seen: dict[str, dict[str, str]] = {}
    for event in story.events:
        if event.kind != "settlement_observed":
            continue
        data = event.data
        rung = str(data.get("failed_rung") or data.get("rung"))
        seen[rung] = {
            "status": "failed" if data.get("failed") else "reached",
            "at": f"{event.at:%Y-%m-%d %H:%M} UTC",
            "shown_by": str(data.get("shown_by", "")),
            "note": str(data.get("note", "")),
        }
    top = max((list(_RUNGS).index(name) for name in seen if name in _RUNGS), default=-1)
    passed = {"status": "passed", "at": "", "shown_by": "", "note": "Not recorded by itself: a higher rung was."}
    unseen = {"status": "not seen", "at": "", "shown_by": "", "note": ""}
    return [
        {"title": title, **seen.get(name, passed if number < top else unseen)}
        for number, (name, title) in enumerate(_RUNGS.items())
    ]


def _policy(css: str) -> str:
    """Return the content security policy: nothing from anywhere, and exactly this style sheet."""
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def _style(heading: str) -> str:
    """Return the style sheet, with what stands at the head of every printed sheet."""
    text = files("manual_payout").joinpath("evidence", "templates", "review.css").read_text("utf-8")
    # Both words are ours; neither quote nor backslash is in them.
    return "\n" + text.replace("HEADING", heading)


@functools.cache
def _environment() -> Environment:
    made = environment("evidence/templates", keep_trailing_newline=True, finalize=_visible)
    made.filters["link"] = lambda name: quote(f"./{name}".encode(errors="surrogatepass"), safe="/.")
    made.filters["text"] = lambda text: shown(text, keep="\n")
    made.filters["kb"] = lambda size: f"{size / 1000:,.1f} kB"
    made.filters["at"] = lambda instant: f"{instant:%Y-%m-%d %H:%M:%S} UTC" if instant else ""
    return made


def _visible(value: Any) -> Any:
    """Make what cannot be seen visible in every value that the page shows; line breaks stay where they are kept."""
    return shown(value, keep="\n") if type(value) is str else value
