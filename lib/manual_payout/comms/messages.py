"""
Render the two messages of step 5 from the payout record, never from what somebody typed later.

Free text is hostile: it is put on one line and its invisible characters are made visible; Slack text is escaped as
Slack demands (Slack documentation, *Formatting text for app surfaces*), the email's HTML by Jinja2's autoescape, and
its headers hold no free text.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from datetime import datetime

from babel import Locale, UnknownLocaleError
from babel.dates import format_date
from babel.numbers import format_currency, get_currency_precision
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from manual_payout.ledger import PayoutDue
from manual_payout.models import Message, Mode, PayoutRecord, stream_of
from manual_payout.people import Registry
from manual_payout.plain_text import one_line
from manual_payout.settings import MessagePolicy

_TEMPLATES = Environment(
    loader=PackageLoader("manual_payout", "comms/templates"),
    autoescape=select_autoescape(["html.j2"]),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=False,
)

# What Slack reads as formatting or as a mention cannot be escaped; look-alikes stand for it in free text. Ids keep
# theirs, so that they can be searched for: inside a word an underscore formats nothing.
_SLACK_FORMATTING = str.maketrans({"*": "∗", "_": "＿", "~": "～", "`": "ˋ", "@": "＠", "#": "＃"})

# A colon that begins an emoji's name or an address; Slack makes a picture or a link of it.
_SLACK_COLON = re.compile(r":(?=[\w+-]*:|//)|(?<=\w):(?=\S)")

_EMAIL = re.compile(r"[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+", re.ASCII)

# Free text: names that people gave. Everything else is validated, or formatted by us.
_FREE = ("studio_name", "payments_ops_approver", "finance_approver", "operator")


@dataclass(frozen=True, slots=True)
class Occasion:
    """
    What the messages tell of.

    Attributes:
        due: The ledger's payout: the studio's address and language come from there.

        rehearsal: Whether nothing real moved; then the messages say so first of all.
    """

    record: PayoutRecord
    due: PayoutDue
    registry: Registry
    policy: MessagePolicy
    rehearsal: bool


def compose(occasion: Occasion, *, at: datetime) -> list[Message]:
    """
    Render the Slack message and the studio email for a payout that was made.

    Args:
        at: When they are prepared.

    Returns:
        Both messages; the same occasion gives the same deduplication keys.
    """
    values = _values(occasion)
    slack = _TEMPLATES.get_template("slack.txt.j2").render(values | {n: slack_text(str(values[n])) for n in _FREE})
    text = _TEMPLATES.get_template("studio_email.txt.j2").render(values)
    html = _TEMPLATES.get_template("studio_email.html.j2").render(values)
    mark = "REHEARSAL: " if occasion.rehearsal else ""
    subject = f"{mark}Your payout of {values['amount_local']} is on its way"
    to = _recipient(occasion.due)
    return [
        _message(occasion, "slack_alert", occasion.policy.slack_channel, "", slack, "", at),
        _message(occasion, "studio_email", to, subject, text, html, at),
    ]


def slack_text(text: str) -> str:
    """Make *text* harmless in Slack's mrkdwn and in its composer: no mention, link, emoji or formatting survives."""
    plain = _SLACK_COLON.sub("∶", one_line(text)).translate(_SLACK_FORMATTING)
    return plain.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def amount_for(locale_name: str | None, record: PayoutRecord) -> str:
    """Format the amount as the studio reads it, with every decimal it has."""
    locale, currency, exact = _locale(locale_name), record.amount.currency.upper(), record.amount.decimal
    # The locale's data write some currencies with fewer decimals than Stripe counts; cents are never rounded away.
    whole = exact == round(exact, get_currency_precision(currency))
    return str(format_currency(exact, currency, locale=locale, decimal_quantization=whole))


def _recipient(due: PayoutDue) -> str:
    address = due.studio_email or ""
    if not address:
        return "no address in the ledger"
    return address if _EMAIL.fullmatch(address) else "no usable address in the ledger"


def _values(occasion: Occasion) -> dict[str, str | bool]:
    record, names = occasion.record, occasion.registry
    return {
        "rehearsal": occasion.rehearsal,
        "incident_id": record.incident_id,
        "incident_url": occasion.policy.incident_url.format(incident_id=record.incident_id),
        "studio_name": one_line(record.studio_name),
        "amount": record.amount.grouped,
        "amount_local": amount_for(occasion.due.studio_locale, record),
        "reserve_after": record.reserve_after.grouped,
        "reason": record.reason.value.replace("_", " "),
        "transfer_id": record.stripe_transfer_id or "",
        "destination": record.destination_account,
        "period_start": format_date(occasion.due.period_start, locale=_locale(occasion.due.studio_locale)),
        "period_end": format_date(occasion.due.period_end, locale=_locale(occasion.due.studio_locale)),
        "payments_ops_approver": one_line(names.name_of(record.approved_by_payments_ops)),
        "finance_approver": one_line(names.name_of(record.approved_by_finance)),
        "operator": one_line(names.name_of(record.operator_id)),
        "mode": record.mode.value,
        "reference": record.payout_id[:8],
    }


def _message(occasion: Occasion, kind: str, audience: str, subject: str, text: str, html: str, at: datetime) -> Message:
    dedup_key = f"{occasion.record.payout_id}/{occasion.record.attempt_no}/{kind}"
    return Message(
        message_id=str(uuid.uuid5(uuid.NAMESPACE_OID, dedup_key)),
        stream=stream_of(occasion.record.incident_id, occasion.record.ledger_payout_id),
        payout_id=occasion.record.payout_id,
        kind=kind,
        audience=audience,
        dedup_key=dedup_key,
        subject=subject,
        body_text=text,
        body_html=html,
        state="to_copy",
        created_at=at,
    )


def _locale(name: str | None) -> Locale:
    try:
        # Ledgers write de-DE or de_DE.
        return Locale.parse((name or "en_US").replace("-", "_"))
    except (ValueError, UnknownLocaleError):
        return Locale.parse("en_US")


def is_rehearsal(mode: Mode) -> bool:
    """Whether nothing real moves in *mode*."""
    return mode is not Mode.LIVE
