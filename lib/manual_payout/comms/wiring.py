"""
Which courier carries which channel's messages, decided by the mode: in a rehearsal only by the rehearsal's own.

The second guard stands at the door: whatever the outbox holds, a message of another mode, or one that a rehearsal
would send to anybody but its own readers, is not handed to a courier.
"""

from __future__ import annotations

from manual_payout.comms.courier import Courier
from manual_payout.comms.mail import Mailbox
from manual_payout.comms.messages import is_rehearsal
from manual_payout.desk.settings import Settings
from manual_payout.domain.models import Channel, Message, Mode


def configured_channels(settings: Settings) -> frozenset[Channel]:
    """Say for which channels something is configured that can send in this mode."""
    token, webhook = settings.slack_secrets(settings.mode)
    rehearsal = is_rehearsal(settings.mode)
    found = {
        Channel.SLACK: bool(token or webhook),
        Channel.EMAIL: bool(settings.smtp_host and (settings.policy.messages.rehearsal_email or not rehearsal)),
        Channel.PAGERDUTY: bool(settings.routing_key(settings.mode)),
    }
    return frozenset(channel for channel, there in found.items() if there)


def open_courier(settings: Settings, channel: Channel) -> Courier | None:
    """Return the courier of *channel* for the settings' mode, or None where nothing is configured."""
    if channel not in configured_channels(settings):
        return None
    if channel is Channel.EMAIL:
        return _mailbox(settings)
    return _slack(settings) if channel is Channel.SLACK else _pager(settings)


def objection(settings: Settings, message: Message) -> str:
    """Say why *message* may not go out under these settings; nothing where it may."""
    policy = settings.policy.messages
    if message.mode is not settings.mode:
        return f"It belongs to {message.mode} mode, and this is {settings.mode}."
    own = {
        Channel.SLACK: policy.rehearsal_slack_channel,
        Channel.EMAIL: policy.rehearsal_email,
        Channel.PAGERDUTY: message.audience,
    }[message.channel]
    if is_rehearsal(message.mode) and message.audience != own:
        return f"A rehearsal may write to {own or 'nobody'} only."
    return ""


def _slack(settings: Settings) -> Courier:
    # The SDK costs a third of a second to import, and most runs need one channel or none.
    from manual_payout.comms.slack import SlackBot, SlackWebhook

    policy, rehearsal = settings.policy.messages, is_rehearsal(settings.mode)
    token, webhook = settings.slack_secrets(settings.mode)
    if token is None:
        return SlackWebhook(webhook or "", timeout_s=policy.timeout_s)
    return SlackBot(
        token,
        base_url=settings.slack_api_base,
        channel=policy.rehearsal_slack_channel if rehearsal else policy.slack_channel,
        channel_id=policy.rehearsal_slack_channel_id if rehearsal else policy.slack_channel_id,
        timeout_s=policy.timeout_s,
        dates=settings.mode is not Mode.SANDBOX,
    )


def _mailbox(settings: Settings) -> Courier:
    password = settings.smtp_password
    return Mailbox(
        settings.policy.messages.support_from,
        host=settings.smtp_host,
        port=settings.mail_port(),
        security=settings.smtp_security,
        username=settings.smtp_username,
        password=password.get_secret_value() if password is not None else "",
        timeout_s=settings.policy.messages.timeout_s,
    )


def _pager(settings: Settings) -> Courier:
    from manual_payout.comms.paging import Pager

    return Pager(
        settings.routing_key(settings.mode) or "",
        base_url=settings.pagerduty_events_base,
        timeout_s=settings.policy.messages.timeout_s,
    )
