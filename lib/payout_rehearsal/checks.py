"""
What is looked at after the incident and the drill: the audit rows, and what people would have read.

The messages are judged by what stands in them, not by the code that wrote them: the amount by its digits, the HTML by
what a parser makes of it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from html.parser import HTMLParser
from typing import Any

from manual_payout.approval.requesting import markdown_safe, ticket_text
from manual_payout.comms.messages import NOBODY
from manual_payout.desk.wiring import Desk
from manual_payout.domain.display import status_of
from manual_payout.domain.models import Channel, Check, Message, PayoutRecord, Request
from manual_payout.domain.money import exponent

MARK = "REHEARSAL"

# What a template leaves behind that was not filled in.
_UNFILLED = re.compile(r"\{\{|\{%|\bNone\b|\bUndefined\b")
# What our emails are made of; everything else would be somebody's name.
_TAGS = frozenset("html head meta title body main h1 p strong bdi table tr td tbody".split())
_ATTRIBUTES = frozenset({"style", "lang", "dir", "charset", "name", "content"})
# Slack's control characters, and an ampersand that is none of its three escapes.
_SLACK_CONTROL = re.compile(r"[<>]|&(?!(?:amp|lt|gt);)")
_HTML_AMPERSAND = re.compile(r"&(?!(?:[a-z]+|#\d+|#x[0-9a-f]+);)", re.IGNORECASE)
_NUMBER = re.compile(r"\d[\d.,'\u00a0\u202f ]*")


def check_rehearsal(desk: Desk, payouts: Iterable[tuple[str, str]]) -> list[Check]:
    """
    Check row and messages of everything that was paid.

    Args:
        payouts: Incident and ledger payout of what should have been paid.

    Returns:
        One check for each question, over all payouts.
    """
    found = [(desk.store.find_request(*payout), payout) for payout in payouts]
    paid = [(request, record) for request, _ in found if request and (record := _record(desk, request))]
    missing = [incident for request, (incident, _) in found if request is None or _record(desk, request) is None]
    messages = [
        (record, message)
        for _, record in paid
        for message in desk.store.messages_of(record.payout_id)
        if message.body_text and message.channel is not Channel.PAGERDUTY
    ]
    tickets = [(record, ticket_text(desk, request)) for request, record in paid]
    return [
        _check("one_row", "Has every paid ledger payout exactly one row?", "one row each",
               missing + [r.incident_id for _, r in paid if len(_rows(desk, r)) != 1]),
        _check("row_as_requested", "Does each row say what was requested and approved?", "every field alike",
               [name for request, record in paid for name in _differs(_requested(desk, request, record))]),
        _check("row_as_at_stripe", "Does each row say what Stripe shows?", "every field alike",
               [name for _, record in paid for name in _differs(_at_stripe(desk, record))]),
        _check("tickets", "Is every ticket filled in, marked, right in amount?", "filled in and marked",
               [record.incident_id for record, text in tickets if not _is_good_ticket(record, text)]),
        _check("messages", "Was the channel and the studio written to each time?", "Slack and email each",
               _silent(paid, messages)),
        *_of_messages(desk, messages),
    ]  # fmt: skip


def _of_messages(desk: Desk, messages: list[tuple[PayoutRecord, Message]]) -> list[Check]:
    policy = desk.settings.policy.messages
    readers = {policy.rehearsal_slack_channel, policy.rehearsal_email}
    questions: tuple[tuple[str, str, str, Callable[[PayoutRecord, Message], bool]], ...] = (
        ("rendered", "Is every message filled in?", "no gap", _is_rendered),
        ("marked", f"Does every message begin with {MARK}?", "first word of subject and text",
         lambda _, m: m.body_text.startswith(MARK) and (m.channel is not Channel.EMAIL or m.subject.startswith(MARK))),
        ("amount", "Does every message name the right amount?", "the row's digits",
         lambda r, m: _names_amount(r, m.body_text) and (not m.body_html or _names_amount(r, text_of(m.body_html)))),
        ("escaped", "Is everything that people typed harmless?", "no live markup",
         _is_harmless),
        ("readers", "Is every message for the rehearsal's readers alone?", ", ".join(sorted(readers - {""})),
         lambda _, m: m.audience in readers or (m.channel is Channel.EMAIL and m.audience.startswith(f"{NOBODY}:"))),
    )  # fmt: skip
    return [
        _check(name, question, expected, [f"{r.incident_id} {m.kind}" for r, m in messages if not fine(r, m)])
        for name, question, expected, fine in questions
    ]


def _check(name: str, question: str, expected: str, wrong: list[str]) -> Check:
    remedy = "Open that incident's folder; mend it before the next night needs it." if wrong else ""
    return Check(
        name, question, status_of(not wrong), expected, f"not: {', '.join(wrong)}" if wrong else expected, remedy
    )


def _record(desk: Desk, request: Request) -> PayoutRecord | None:
    record = desk.store.find_payout(request.line_for().line_id)
    return record if record is not None and record.stripe_transfer_id else None


def _rows(desk: Desk, record: PayoutRecord) -> list[PayoutRecord]:
    return desk.store.payouts_of(ledger_payout_id=record.ledger_payout_id)


def _requested(desk: Desk, request: Request, record: PayoutRecord) -> dict[str, tuple[Any, Any]]:
    """Each column beside what the request and the approvals say."""
    row, line = desk.store.audit_values(record.payout_id), request.line_for(record.ledger_payout_id)
    given = {approval.team.value: approval.approver_id for approval in desk.store.approvals_of(request.request_id)}
    wanted = {
        "request_id": request.request_id,
        "incident_id": request.incident_id,
        "studio_id": line.studio_id,
        "studio_name": line.studio_name,
        "ledger_payout_id": line.ledger_payout_id,
        "amount_minor": line.amount.amount_minor,
        "currency": line.amount.currency,
        "reserve_after_minor": line.reserve_after.amount_minor,
        "destination_account": line.destination_account,
        "reason": request.reason.value,
        "notes": request.notes,
        "mode": request.mode.value,
        "requested_by": request.requested_by,
        "approved_by_payments_ops": given.get("payments_ops"),
        "approved_by_finance": given.get("finance"),
    }
    return {f"{request.incident_id} {name}": (row[name], value) for name, value in wanted.items()}


def _at_stripe(desk: Desk, record: PayoutRecord) -> dict[str, tuple[Any, Any]]:
    """Each column beside what Stripe shows."""
    row = desk.store.audit_values(record.payout_id)
    shown = desk.watcher.get_transfer(record.stripe_transfer_id or "")
    wanted = {
        "stripe_transfer_id": shown["id"],
        "amount_minor": shown["amount"],
        "currency": shown["currency"],
        "destination_account": shown["destination"],
        "transfer_group": shown["transfer_group"],
        "ledger_payout_id": shown["metadata"].get("ledger_payout_id"),
    }
    compared = {f"{record.incident_id} {name}": (row[name], value) for name, value in wanted.items()}
    digest = json.loads(row["payload"])["metadata"]["request_digest"]
    return compared | {f"{record.incident_id} request digest": (digest, shown["metadata"].get("request_digest"))}


def _differs(pairs: dict[str, tuple[Any, Any]]) -> list[str]:
    return [name for name, (was, now) in pairs.items() if was != now]


def _silent(paid: list[tuple[Request, PayoutRecord]], messages: list[tuple[PayoutRecord, Message]]) -> list[str]:
    """Name the payouts of which not everybody was told that has to be."""
    told = {(record.payout_id, message.kind) for record, message in messages}
    wanted = ("slack_alert", "studio_email")
    return [
        f"{r.incident_id} {kind}" for _, r in paid if r.logged_at for kind in wanted if (r.payout_id, kind) not in told
    ]


def _is_good_ticket(record: PayoutRecord, text: str) -> bool:
    named = all(
        word in text for word in (record.incident_id, record.ledger_payout_id, markdown_safe(record.studio_name))
    )
    return named and MARK in text and not _UNFILLED.search(text) and _names_amount(record, text)


def _is_rendered(record: PayoutRecord, message: Message) -> bool:
    texts = (message.body_text, message.body_html, message.subject)
    return record.incident_id in message.body_text and not any(_UNFILLED.search(text) for text in texts)


def _names_amount(record: PayoutRecord, text: str) -> bool:
    """Whether some number in *text* has the digits of the amount, however it is grouped."""
    decimals = exponent(record.amount.currency)
    minor = record.amount.amount_minor
    wanted = {str(minor), str(minor // 10**decimals) if minor % 10**decimals == 0 else str(minor)}
    return bool(wanted & {re.sub(r"\D", "", number) for number in _NUMBER.findall(text)})


def _is_harmless(record: PayoutRecord, message: Message) -> bool:
    if message.channel is Channel.SLACK:
        return not _SLACK_CONTROL.search(message.body_text)
    if not message.body_html:
        return True
    page = _Page()
    page.feed(message.body_html)
    return (
        page.tags <= _TAGS
        and page.attributes <= _ATTRIBUTES
        and not _HTML_AMPERSAND.search(message.body_html)
        and record.studio_name in page.text
    )


def text_of(html: str) -> str:
    """Return what a reader of *html* sees."""
    page = _Page()
    page.feed(html)
    return page.text


class _Page(HTMLParser):
    """The tags, attributes and text of a message."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag."""
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        """Note text."""
        self.text += data
