"""
The digest of a sealed folder, told where the operator cannot edit it later: a post in Slack, a change event at PagerDuty.

A change event wakes nobody, and stays in the service's list of changes (PagerDuty documentation, *Send Change Events*).
What is told is compared by `manual-payout verify --anchor`. There is one message per digest and channel: sealing what is
sealed tells nothing new. Where nothing is configured nothing is prepared; the command prints the digest for the ticket.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime

from manual_payout.comms.messages import is_rehearsal, slack_text
from manual_payout.database.store import SEALED, channel_of, message_id, message_key
from manual_payout.desk.settings import MessagePolicy
from manual_payout.domain.models import Channel, Message, MessageState, PayoutRecord, stream_of
from truthful_papermill.plain_text import one_line

_SUMMARY_MAX = 1024


def anchor_messages(
    record: PayoutRecord, digest: str, policy: MessagePolicy, channels: frozenset[Channel], *, at: datetime
) -> list[Message]:
    """
    Render the messages that name the *digest* of the manifest of one payout's evidence folder.

    Args:
        digest: SHA-256 of ``manifest.json``, in hexadecimal.

        channels: Those that something is configured for.

        at: When the folder was sealed.
    """
    kinds = [kind for kind in SEALED if channel_of(kind) in channels]
    return [_message(record, digest, policy, kind, at) for kind in kinds]


def _message(record: PayoutRecord, digest: str, policy: MessagePolicy, kind: str, at: datetime) -> Message:
    paged, rehearsal = channel_of(kind) is Channel.PAGERDUTY, is_rehearsal(record.mode)
    slack = policy.rehearsal_slack_channel if rehearsal else policy.slack_channel
    reader = "rehearsal on-call" if rehearsal else "on-call"
    dedup_key = f"{message_key(record, kind)}/{digest}"
    return Message(
        message_id=message_id(dedup_key),
        stream=stream_of(record.incident_id, record.ledger_payout_id),
        payout_id=record.payout_id,
        kind=kind,
        audience=reader if paged else slack,
        dedup_key=dedup_key,
        subject="",
        body_text=_text(record, digest, said=one_line if paged else slack_text),
        body_html="",
        state=MessageState.WAITING,
        created_at=at,
        mode=record.mode,
        channel=channel_of(kind),
        body_json=_change(record, digest, policy) if paged else "",
    )


def _headline(record: PayoutRecord, said: Callable[[str], str]) -> str:
    mark = "REHEARSAL: " if is_rehearsal(record.mode) else ""
    return (
        f"{mark}Evidence of {record.incident_id} is sealed: manual payout of {record.amount.grouped} to "
        f"{said(record.studio_name)}"
    )


def _text(record: PayoutRecord, digest: str, said: Callable[[str], str]) -> str:
    return (
        f"{_headline(record, said)}\nLedger payout: {record.ledger_payout_id}\n"
        f"SHA-256 of manifest.json: {digest}\nTo check: manual-payout verify --anchor {digest} FOLDER"
    )


def _change(record: PayoutRecord, digest: str, policy: MessagePolicy) -> str:
    event = {
        "event_action": "change",
        "payload": {
            "summary": _headline(record, one_line)[:_SUMMARY_MAX],
            "source": "manual-payout",
            "custom_details": {"ledger_payout_id": record.ledger_payout_id, "manifest_sha256": digest},
        },
        "links": [{"href": policy.incident_url.format(incident_id=record.incident_id), "text": record.incident_id}],
    }
    return json.dumps(event, ensure_ascii=False, sort_keys=True)
