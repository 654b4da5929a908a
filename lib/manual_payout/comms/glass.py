"""
Page the owner of break-glass: an event at PagerDuty that wakes somebody, and a post in Slack beside it.

PagerDuty pages whoever is on call for the service behind the routing key, and is told the owner's name; that the service's
escalation reaches the owner is configured there. Without PagerDuty nobody would be woken, so nothing can be declared.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from manual_payout.breakglass import Glass, declare, glass_named, page_key
from manual_payout.comms.delivery import Postroom
from manual_payout.comms.messages import is_rehearsal, slack_text
from manual_payout.comms.wiring import configured_channels
from manual_payout.desk import Desk
from manual_payout.errors import PolicyRefusedError
from manual_payout.models import Channel, Declaration, Message, MessageState, Request, stream_of
from manual_payout.plain_text import one_line
from manual_payout.signatures import SigningKey
from manual_payout.store import channel_of, message_id

_SUMMARY_MAX = 1024
_KINDS = ("page_break_glass", "slack_break_glass")


def declare_and_page(
    desk: Desk,
    request: Request,
    *,
    declarer: str,
    amount: str,
    destination_last4: str,
    because: str,
    key: SigningKey,
) -> tuple[Glass, bool]:
    """
    Declare break-glass, and page its owner at once; declared again, the page that has not arrived is tried again.

    The arguments are those of `breakglass.declare`.

    Returns:
        The declaration as it stands afterwards, and whether it is new.

    Raises:
        PolicyRefusedError: Nothing is configured to page the owner; and as `breakglass.declare`.

        DatabaseError: Ours does not answer. A failing messenger raises nothing: the page waits in the outbox.
    """
    require_pager(desk)
    glass, new = declare(
        desk, request, declarer=declarer, amount=amount, destination_last4=destination_last4, because=because, key=key,
        page=lambda declaration: glass_messages(desk, request, declaration),
    )  # fmt: skip
    declared = glass.declaration
    keys = [page_key(declared.declaration_id, kind) for kind in _KINDS]
    told = [desk.store.get_message(message_id(key)) for key in keys]
    # Those that have gone out are not claimed again.
    Postroom(desk.settings, desk.store, declared.declarer_id).hand_out(one for one in told if one is not None)
    events = desk.store.events_of(stream_of(request.incident_id, request.line.ledger_payout_id))
    return glass_named(declared.declaration_id, request, events) or glass, new


def require_pager(desk: Desk) -> None:
    """
    Check that somebody can be woken in this mode, where the policy allows break-glass.

    Raises:
        PolicyRefusedError: Nothing is configured for PagerDuty.
    """
    settings = desk.settings
    if settings.policy.break_glass.enabled and Channel.PAGERDUTY not in configured_channels(settings):
        name = "PAGERDUTY_REHEARSAL_ROUTING_KEY" if is_rehearsal(settings.mode) else "PAGERDUTY_ROUTING_KEY"
        raise PolicyRefusedError(
            f"Nothing is configured to page the owner of break-glass in {settings.mode} mode.",
            f"Set {name}, or have the other team approve.",
        )


def glass_messages(desk: Desk, request: Request, declaration: Declaration) -> list[Message]:
    """Render the page, and the post where Slack is configured."""
    channels = configured_channels(desk.settings)
    return [_message(desk, request, declaration, kind) for kind in _KINDS if channel_of(kind) in channels]


def _message(desk: Desk, request: Request, declaration: Declaration, kind: str) -> Message:
    paged, rehearsal = channel_of(kind) is Channel.PAGERDUTY, is_rehearsal(request.mode)
    policy, names = desk.settings.policy.messages, desk.registry
    slack = policy.rehearsal_slack_channel if rehearsal else policy.slack_channel
    reader = f"{'rehearsal on-call' if rehearsal else 'on-call'}, for {one_line(names.name_of(declaration.owner_id))}"
    key = page_key(declaration.declaration_id, kind)
    return Message(
        message_id=message_id(key),
        stream=stream_of(request.incident_id, request.line.ledger_payout_id),
        payout_id=None,
        kind=kind,
        audience=reader if paged else slack,
        dedup_key=key,
        subject="",
        body_text=_text(desk, request, declaration, said=one_line if paged else slack_text),
        body_html="",
        state=MessageState.WAITING,
        created_at=declaration.declared_at,
        mode=request.mode,
        channel=channel_of(kind),
        body_json=_event(desk, request, declaration) if paged else json.dumps(_blocks(desk, request, declaration)),
    )


def _headline(desk: Desk, request: Request, declaration: Declaration, said: Callable[[str], str]) -> str:
    mark = "REHEARSAL: " if is_rehearsal(request.mode) else ""
    return (
        f"{mark}BREAK-GLASS in {request.incident_id}: {request.line.amount.grouped} to {said(request.line.studio_name)} "
        f"with ONE approval, {said(desk.registry.name_of(declaration.owner_id))} can stop it"
    )


def _facts(desk: Desk, request: Request, declaration: Declaration, said: Callable[[str], str]) -> dict[str, str]:
    names, missing = desk.registry, declaration.missing
    return {
        "declared by": f"{said(names.name_of(declaration.declarer_id))} ({missing.other.label})",
        "not approved by": missing.label,
        "because": said(declaration.because),
        "owner": said(names.name_of(declaration.owner_id)),
        "to": request.line.destination_account,
        "held for": f"{declaration.hold_s // 60} minutes from this page on",
        "ends": f"{declaration.expires_at:%Y-%m-%d %H:%M} UTC",
        # Named, since an incident can have several: whoever is woken copies this once.
        "to stop it": f"manual-payout break-glass {request.incident_id} --ledger-payout-id {request.line.ledger_payout_id} "
        "--stop --as WHO",
    }


def _text(desk: Desk, request: Request, declaration: Declaration, *, said: Callable[[str], str]) -> str:
    facts = [f"{name}: {value}" for name, value in _facts(desk, request, declaration, said).items()]
    return "\n".join([_headline(desk, request, declaration, said), *facts])


def _event(desk: Desk, request: Request, declaration: Declaration) -> str:
    link = desk.settings.policy.messages.incident_url.format(incident_id=request.incident_id)
    event = {
        "event_action": "trigger",
        "dedup_key": f"manual-payout/break-glass/{declaration.declaration_id}",
        "payload": {
            "summary": _headline(desk, request, declaration, one_line)[:_SUMMARY_MAX],
            "source": "manual-payout",
            "severity": "info" if is_rehearsal(request.mode) else "critical",
            "component": "approvals",
            "group": "payments",
            "class": "break_glass",
            "custom_details": _facts(desk, request, declaration, one_line),
        },
        "links": [{"href": link, "text": request.incident_id}],
    }
    return json.dumps(event, ensure_ascii=False, sort_keys=True)


def _blocks(desk: Desk, request: Request, declaration: Declaration) -> list[dict[str, object]]:
    # Slack's own limits for a header and for a field (*Block Kit reference*).
    headline = _headline(desk, request, declaration, slack_text)
    facts = _facts(desk, request, declaration, slack_text)
    fields = [_plain(f"{name}\n{value}"[:2000]) for name, value in facts.items()]
    return [{"type": "header", "text": _plain(headline[:150])}, {"type": "section", "fields": fields}]


def _plain(text: str) -> dict[str, object]:
    return {"type": "plain_text", "text": text, "emoji": False}
