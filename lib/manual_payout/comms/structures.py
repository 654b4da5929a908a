"""
Slack's blocks and PagerDuty's event: the same facts as in the text, in the shape that each service shows best.

Names stand in ``plain_text`` objects without emoji, where nothing is formatted, linked or mentioned (Slack reference,
*Composition objects*); they are escaped all the same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from manual_payout.domain.canonical import canonical_json
from manual_payout.domain.models import Record

# Slack's own limits for a header and for a field (*Block Kit reference*); PagerDuty's for a summary.
_HEADER_MAX = 150
_FIELD_MAX = 2000
_SUMMARY_MAX = 1024

_HEADERS = {
    "slack_alert": "Manual payout made for {incident_id}",
    "slack_arrived": "Manual payout of {incident_id} has arrived",
    "slack_failed": "Manual payout of {incident_id} failed on the way",
    "slack_came_back": "Money of {incident_id} came back unapproved",
    "slack_reversed": "Money taken back under {incident_id}",
}

_FACTS = {
    "slack_alert": {
        "Studio": "{studio_name}",
        "Amount": "{amount}",
        "Reserve after": "{reserve_after}",
        "Reason": "{reason}",
        "Stripe transfer": "{transfer_id}",
        "Destination": "{destination}",
        "Payments Ops": "{payments_ops_approver}",
        "Finance": "{finance_approver}",
        "Run by": "{operator}",
        "Rehearsal": "{override}",
    },
    "slack_arrived": {
        "Studio": "{studio_name}",
        "Amount": "{amount}",
        "Reached": "{where}",
        "Stripe transfer": "{transfer_id}",
    },
    "slack_failed": {
        "Studio": "{studio_name}",
        "Amount": "{amount}",
        "Failed at": "{where}",
        "Stripe transfer": "{transfer_id}",
        "What Stripe shows": "{note}",
        "Rule": "The money was transferred. Never send it again.",
    },
    "slack_came_back": {
        "Studio": "{studio_name}",
        "Came back": "{amount}",
        "Stripe transfer": "{transfer_id}",
        "What Stripe shows": "{note}",
        "Rule": "Find out who reversed it. Never send it again.",
    },
    "slack_reversed": {
        "Studio": "{studio_name}",
        "Taken back": "{amount}",
        "Reason": "{reason}",
        "Stripe transfer": "{transfer_id}",
        "Stripe reversal": "{reversal_id}",
        "Payments Ops": "{payments_ops_approver}",
        "Finance": "{finance_approver}",
        "Run by": "{operator}",
    },
}


def slack_blocks(kind: str, values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """
    Build the blocks of a Slack message.

    Args:
        values: Those of the text, free text already escaped for Slack.
    """
    kind = "slack_came_back" if kind == "slack_failed" and values["came_back"] else kind
    header = _HEADERS[kind].format_map(values)
    blocks: list[dict[str, Any]] = [
        {"type": "header", "text": _plain(header, _HEADER_MAX)},
        {
            "type": "section",
            "fields": [
                _plain(f"{name}\n{text}", _FIELD_MAX)
                for name, value in _FACTS[kind].items()
                # What there was no occasion for is no field.
                if (text := value.format_map(values))
            ],
        },
        {
            "type": "context",
            # The address is the reviewed policy's, the id is validated: nobody's free text.
            "elements": [{"type": "mrkdwn", "text": f"<{values['incident_url']}|{values['incident_id']}>"}],
        },
    ]
    if values["rehearsal"]:
        mark = _plain(f"REHEARSAL, no real money moved ({values['mode']})", _HEADER_MAX)
        blocks.insert(0, {"type": "section", "text": mark})
    return blocks


def page_json(kind: str, record: Record, values: Mapping[str, Any]) -> str:
    """Build the event that raises or resolves the alert about one payout's settlement."""
    key = f"manual-payout/{record.line_id}/{record.attempt_no}/settlement"
    if kind == "page_resolved":
        return canonical_json({"event_action": "resolve", "dedup_key": key})
    mark = "REHEARSAL: " if values["rehearsal"] else ""
    what = f"manual payout of {values['amount']} failed on its way to {values['studio_name']}"
    if values["came_back"]:
        what = f"{values['amount']} of the manual payout to {values['studio_name']} came back unapproved"
    summary = f"{mark}{values['incident_id']}: {what}"
    details = {
        name: str(values[name]) for name in ("studio_name", "amount", "transfer_id", "destination", "where", "note")
    }
    event = {
        "event_action": "trigger",
        "dedup_key": key,
        "payload": {
            "summary": summary[:_SUMMARY_MAX],
            "source": "manual-payout",
            "severity": "info" if values["rehearsal"] else "error",
            "component": "settlement",
            "group": "payments",
            "class": "settlement_failed",
            "custom_details": details | {"rule": "The money was transferred. Never send it again."},
        },
        "links": [{"href": values["incident_url"], "text": values["incident_id"]}],
    }
    return json.dumps(event, ensure_ascii=False, sort_keys=True)


def _plain(text: str, limit: int) -> dict[str, Any]:
    return {"type": "plain_text", "text": _cut(text, limit), "emoji": False}


def _cut(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    # Not inside an entity: half of one would show as rubbish.
    short = text[: limit - 1]
    begun = short.rfind("&")
    return (short[:begun] if begun > short.rfind(";") else short) + "…"
