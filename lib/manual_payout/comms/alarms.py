"""
Render what people are told of an alert: a post in Slack, and a page that resolves itself.

PagerDuty makes one alert of all events with one key, so a resolve closes what the trigger opened. What is only
information wakes nobody. Outside live mode everything is marked as a rehearsal, and goes to the rehearsal's readers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass

from manual_payout.comms.messages import is_rehearsal, slack_text
from manual_payout.database.store import channel_of, message_id
from manual_payout.desk.settings import MessagePolicy
from manual_payout.domain.alerts import TELLING, Alert, Severity, monitoring_stream
from manual_payout.domain.canonical import canonical_json
from manual_payout.domain.models import Channel, Message, MessageState
from truthful_papermill.plain_text import one_line

# PagerDuty's limit for a summary, Slack's for a header and for a field.
_SUMMARY_MAX = 1024
_HEADER_MAX = 150
_FIELD_MAX = 2000


@dataclass(frozen=True, slots=True)
class Alarm:
    """
    An alert and what is said with it.

    Attributes:
        metric: The name of the gauge that its value is published in.

        threshold: What the rule does not accept.

        link: The heading of the runbook that says what to do.

        channels: Those that something is configured for.
    """

    alert: Alert
    metric: str
    threshold: str
    link: str
    policy: MessagePolicy
    channels: frozenset[Channel]

    @property
    def rehearsal(self) -> bool:
        """Whether nothing real is at stake."""
        return is_rehearsal(self.alert.mode)


def alarm_messages(alarm: Alarm, known: Collection[str]) -> list[Message]:
    """
    Render the messages about one alert: that it was raised, or that it is over.

    Args:
        known: Deduplication keys of what has arrived. That something is over is told only to those who heard that it
            began.
    """
    kinds = [kind for kind in TELLING if _wanted(alarm, kind)]
    if alarm.alert.resolved_at is None:
        return [_message(alarm, kind) for kind in kinds]
    return [_message(alarm, TELLING[kind]) for kind in kinds if alarm.alert.message_key(kind) in known]


def _wanted(alarm: Alarm, kind: str) -> bool:
    wakes = alarm.alert.severity is not Severity.INFO
    return channel_of(kind) in alarm.channels and (wakes or channel_of(kind) is not Channel.PAGERDUTY)


def _message(alarm: Alarm, kind: str) -> Message:
    alert, channel = alarm.alert, channel_of(kind)
    over, paged = alert.resolved_at is not None, channel is Channel.PAGERDUTY
    reader = "rehearsal on-call" if alarm.rehearsal else "on-call"
    slack = alarm.policy.rehearsal_slack_channel if alarm.rehearsal else alarm.policy.slack_channel
    dedup_key = alert.message_key(kind)
    return Message(
        message_id=message_id(dedup_key),
        stream=monitoring_stream(alert.mode),
        payout_id=None,
        kind=kind,
        audience=reader if paged else slack,
        dedup_key=dedup_key,
        subject="",
        body_text=_text(alarm, over=over, said=one_line if paged else slack_text),
        body_html="",
        state=MessageState.WAITING,
        created_at=alert.resolved_at or alert.raised_at,
        mode=alert.mode,
        channel=channel,
        body_json=_event(alarm, over=over) if paged else json.dumps(_blocks(alarm, over=over), ensure_ascii=False),
    )


def _headline(alarm: Alarm, *, over: bool, said: Callable[[str], str]) -> str:
    mark = "REHEARSAL: " if alarm.rehearsal else ""
    word = "resolved" if over else alarm.alert.severity.value
    return f"{mark}[{word}] {said(alarm.alert.summary)}"


def _facts(alarm: Alarm, said: Callable[[str], str]) -> dict[str, str]:
    # Subject and value can hold what people called things; the rest is ours.
    return {
        "severity": alarm.alert.severity.value,
        "rule": alarm.alert.rule,
        "subject": said(alarm.alert.subject),
        "value": said(alarm.alert.value),
        "threshold": alarm.threshold,
        "metric": alarm.metric,
        "since": f"{alarm.alert.raised_at:%Y-%m-%d %H:%M} UTC",
    }


def _text(alarm: Alarm, *, over: bool, said: Callable[[str], str]) -> str:
    facts = [f"{name}: {value}" for name, value in _facts(alarm, said).items()]
    return "\n".join([_headline(alarm, over=over, said=said), *facts, f"What to do: {alarm.link}"])


def _event(alarm: Alarm, *, over: bool) -> str:
    alert = alarm.alert
    if over:
        return canonical_json({"event_action": "resolve", "dedup_key": alert.key})
    event = {
        "event_action": "trigger",
        "dedup_key": alert.key,
        "payload": {
            "summary": _headline(alarm, over=False, said=one_line)[:_SUMMARY_MAX],
            "source": "manual-payout",
            "severity": "info" if alarm.rehearsal else alert.severity.value,
            "component": "monitoring",
            "group": "payments",
            "class": alert.rule,
            "custom_details": _facts(alarm, one_line),
        },
        "links": [{"href": alarm.link, "text": f"What to do: {alert.rule}"}],
    }
    return json.dumps(event, ensure_ascii=False, sort_keys=True)


def _blocks(alarm: Alarm, *, over: bool) -> list[dict[str, object]]:
    fields = [_plain(f"{name}\n{value}", _FIELD_MAX) for name, value in _facts(alarm, slack_text).items()]
    # The address is the reviewed policy's, the rule's id is ours: nobody's free text.
    link = {"type": "mrkdwn", "text": f"<{alarm.link}|What to do: {alarm.alert.rule}>"}
    return [
        {"type": "header", "text": _plain(_headline(alarm, over=over, said=slack_text), _HEADER_MAX)},
        {"type": "section", "fields": fields},
        {"type": "context", "elements": [link]},
    ]


def _plain(text: str, limit: int) -> dict[str, object]:
    cut = text if len(text) <= limit else f"{text[: limit - 1]}…"
    return {"type": "plain_text", "text": cut, "emoji": False}
