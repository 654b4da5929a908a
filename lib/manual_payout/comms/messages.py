"""
Render what people are told from the payout record, never from what somebody typed later.

Four things are told: that money was sent by hand, that it has reached the studio, that it failed on the way, and that it
was taken back. Free text is hostile: it is put on one line and its invisible characters are made visible; Slack text is escaped as Slack
demands (Slack documentation, *Formatting text for app surfaces*), the email's HTML by Jinja2's autoescape, and its
headers hold no free text. Outside live mode everything is addressed to the rehearsal's own readers.
"""

from __future__ import annotations

import json
import re
import unicodedata
from dataclasses import dataclass, replace
from datetime import datetime

from babel import Locale, UnknownLocaleError
from babel.dates import format_date
from babel.numbers import format_currency, get_currency_precision

from manual_payout.comms.structures import page_json, slack_blocks
from manual_payout.database.store import SENT, channel_of, message_id, message_key
from manual_payout.desk.people import Registry
from manual_payout.desk.settings import MessagePolicy
from manual_payout.domain.addresses import is_address
from manual_payout.domain.models import Channel, Message, MessageState, Mode, PayoutRecord, Record, stream_of
from manual_payout.domain.money import Money
from manual_payout.domain.rendering import environment
from manual_payout.ledger import PayoutDue
from truthful_papermill.plain_text import one_line

_TEMPLATES = environment("comms/templates")

# What Slack reads as formatting or as a mention cannot be escaped; look-alikes stand for it in free text.
_SLACK_FORMATTING = str.maketrans({"*": "∗", "~": "～", "`": "ˋ", "@": "＠", "#": "＃"})

# Inside a word an underscore formats nothing: ids keep theirs, wherever they stand, so that they can be copied.
_SLACK_UNDERSCORE = re.compile(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")

# A colon that begins an emoji's name or an address; Slack makes a picture or a link of it.
_SLACK_COLON = re.compile(r":(?=[\w+-]*:|//)|(?<=\w):(?=\S)")


# In the place of a reader, before the reason.
NOBODY = "nobody"

# Free text: names that people gave, and what Stripe said. Everything else is validated, or formatted by us.
_FREE = ("studio_name", "payments_ops_approver", "finance_approver", "operator", "note", "override")

# What may be written from right to left within our English sentence; in HTML it stands in <bdi>.
_APART = (*_FREE, "amount_local")
_FIRST_STRONG, _POP = "\u2068", "\u2069"

_SUBJECTS = {
    "studio_email": "Your payout of {amount_local} is on its way",
    "studio_arrived": "Your payout of {amount_local} has arrived",
    "studio_failed": "Your payout of {amount_local} is delayed again",
    "studio_came_back": "{amount_local} of your payout went back to us",
    "studio_reversed": "We have taken back {amount_local}",
}

_RUNGS = {
    "accepted": "the transfer",
    "settled_on_platform": "the platform's balance",
    "usable_by_studio": "the studio's Stripe balance",
    "paid_to_bank": "the studio's bank account",
}


@dataclass(frozen=True, slots=True)
class Occasion:
    """
    What the messages tell of.

    Attributes:
        due: The ledger's payout: the studio's address and language come from there.

        rehearsal: Whether nothing real moved; then the messages say so first of all, and go to the rehearsal's readers.

        automatic: The channels that something is configured for; for the others a person copies the text.

        rung: How far the money has come, or where it failed.

        note: What Stripe showed there.

        amount: What is told of: what was sent or taken back; of what goes on or comes back later, how much it is.

        override: Who sent it in spite of the rehearsal's warning, in a sentence; empty where there was none.
    """

    record: Record
    due: PayoutDue
    registry: Registry
    policy: MessagePolicy
    rehearsal: bool
    automatic: frozenset[Channel] = frozenset()
    rung: str = ""
    note: str = ""
    override: str = ""
    amount: Money | None = None


def compose(occasion: Occasion, *, at: datetime) -> list[Message]:
    """
    Render the Slack message and the studio email for a payout that was made.

    Args:
        at: When they are prepared.

    Returns:
        Both messages; the same occasion gives the same deduplication keys.
    """
    return [fill_in(occasion, _empty(occasion.record, kind, at)) for kind in SENT]


def fill_in(occasion: Occasion, announced: Message) -> Message:
    """Give an announced message its reader and its text, and say whether it is sent or copied."""
    values = _values(occasion)
    kind, channel = announced.kind, announced.channel
    audience = audience_of(occasion, channel)
    slack = channel is Channel.SLACK
    told = {name: isolated(slack_text(str(values[name])) if slack else str(values[name])) for name in _APART}
    plain = values | told
    subject = _SUBJECTS.get("studio_came_back" if kind == "studio_failed" and values["came_back"] else kind, "").format(
        amount_local=plain["amount_local"]
    )
    marked = f"REHEARSAL: {subject}" if subject and occasion.rehearsal else subject
    page = values | {"heading": subject, "subject": marked}
    sends = channel in occasion.automatic and (channel is not Channel.EMAIL or is_address(audience))
    return replace(
        announced,
        audience=audience,
        subject=marked,
        body_text=_TEMPLATES.get_template(f"{kind}.txt.j2").render(plain),
        body_html=_TEMPLATES.get_template(f"{kind}.html.j2").render(page) if channel is Channel.EMAIL else "",
        body_json=_structure(occasion, announced, plain),
        state=MessageState.WAITING if sends else MessageState.TO_COPY,
    )


def audience_of(occasion: Occasion, channel: Channel) -> str:
    """Say who reads a channel's messages: in a rehearsal never a studio and never the live channel."""
    policy = occasion.policy
    if channel is Channel.PAGERDUTY:
        return "rehearsal on-call" if occasion.rehearsal else "on-call"
    if channel is Channel.SLACK:
        return policy.rehearsal_slack_channel if occasion.rehearsal else policy.slack_channel
    if occasion.rehearsal:
        if policy.rehearsal_email.casefold() == (occasion.due.studio_email or "").strip().casefold() != "":
            return f"{NOBODY}: messages.rehearsal_email is the studio's own address"
        return policy.rehearsal_email or f"{NOBODY}: messages.rehearsal_email is empty"
    return _recipient(occasion.due)


def slack_text(text: str) -> str:
    """Make *text* harmless in Slack's mrkdwn and in its composer: no mention, link, emoji or formatting survives."""
    plain = _SLACK_UNDERSCORE.sub("＿", _SLACK_COLON.sub("∶", one_line(text))).translate(_SLACK_FORMATTING)
    return plain.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def isolated(text: str) -> str:
    """Keep what is written from right to left from turning the sentence around it; any other text stays as it is."""
    turns = any(unicodedata.bidirectional(character) in ("R", "AL", "AN") for character in text)
    return f"{_FIRST_STRONG}{text}{_POP}" if turns else text


def amount_for(locale_name: str | None, amount: Money) -> str:
    """Format the amount as the studio reads it, with every decimal it has."""
    locale, currency, exact = _locale(locale_name), amount.currency.upper(), amount.decimal
    # The locale's data write some currencies with fewer decimals than Stripe counts; cents are never rounded away.
    whole = exact == round(exact, get_currency_precision(currency))
    return str(format_currency(exact, currency, locale=locale, decimal_quantization=whole))


def is_rehearsal(mode: Mode) -> bool:
    """Whether nothing real moves in *mode*."""
    return mode is not Mode.LIVE


def _recipient(due: PayoutDue) -> str:
    address = due.studio_email or ""
    if not address:
        return "no address in the ledger"
    return address if is_address(address) else "no usable address in the ledger"


def _values(occasion: Occasion) -> dict[str, str | bool]:
    record, names = occasion.record, occasion.registry
    amount = occasion.amount or record.amount
    return {
        "rehearsal": occasion.rehearsal,
        "incident_id": record.incident_id,
        "incident_url": occasion.policy.incident_url.format(incident_id=record.incident_id),
        "studio_name": one_line(record.studio_name),
        "amount": amount.grouped,
        "amount_local": amount_for(occasion.due.studio_locale, amount),
        "reserve_after": record.reserve_after.grouped if isinstance(record, PayoutRecord) else "",
        "reason": record.reason.value.replace("_", " "),
        "transfer_id": record.stripe_transfer_id or "",
        "destination": record.destination_account,
        # A date is part of the sentence, and in its language.
        "period_start": format_date(occasion.due.period_start, locale="en_US"),
        "period_end": format_date(occasion.due.period_end, locale="en_US"),
        "payments_ops_approver": one_line(names.name_of(record.approved_by_payments_ops)),
        "finance_approver": one_line(names.name_of(record.approved_by_finance)),
        "operator": one_line(names.name_of(record.operator_id)),
        "mode": record.mode.value,
        "reference": record.line_id[:8],
        "reversal_id": record.stripe_id or "",
        "rung": occasion.rung,
        "where": _RUNGS.get(occasion.rung, ""),
        # Of the lowest rung nothing fails: what is lost there came back by a reversal that nobody approved here.
        "came_back": occasion.rung == "accepted",
        "note": one_line(occasion.note),
        "override": one_line(occasion.override),
    }


def _structure(occasion: Occasion, message: Message, values: dict[str, str | bool]) -> str:
    if message.channel is Channel.SLACK:
        return json.dumps(slack_blocks(message.kind, values), ensure_ascii=False)
    if message.channel is Channel.PAGERDUTY:
        return page_json(message.kind, occasion.record, values)
    return ""


def _empty(record: Record, kind: str, at: datetime) -> Message:
    dedup_key = message_key(record, kind)
    return Message(
        message_id=message_id(dedup_key),
        stream=stream_of(record.incident_id, record.ledger_payout_id),
        payout_id=record.line_id,
        kind=kind,
        audience="",
        dedup_key=dedup_key,
        subject="",
        body_text="",
        body_html="",
        state=MessageState.ANNOUNCED,
        created_at=at,
        mode=record.mode,
        channel=channel_of(kind),
    )


def _locale(name: str | None) -> Locale:
    try:
        # Ledgers write de-DE or de_DE.
        return Locale.parse((name or "en_US").replace("-", "_"))
    except (ValueError, UnknownLocaleError):
        return Locale.parse("en_US")
