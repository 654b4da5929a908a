"""From what the rules found to alerts that are raised once and resolve themselves, told through the outbox."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from manual_payout.comms.alarms import Alarm, alarm_messages
from manual_payout.comms.wiring import configured_channels
from manual_payout.database.store import AlertRound
from manual_payout.desk.wiring import Desk
from manual_payout.domain.alerts import Alert
from manual_payout.domain.models import Channel, Message
from manual_payout.monitoring.evaluation import Evaluation
from manual_payout.monitoring.rules import ALERT_RULES, NO_DATA

_RULES = {rule.rule_id: rule for rule in (*ALERT_RULES, NO_DATA)}

# Those that alerts go to; the studio is none of them.
TOLD = frozenset({Channel.SLACK, Channel.PAGERDUTY})


def alerts_of(desk: Desk, evaluation: Evaluation) -> list[Alert]:
    """Turn findings into alerts, as if each were new."""
    now, mode = desk.now(), desk.settings.mode
    return [
        Alert(mode, rule.rule_id, one.subject, rule.severity, one.summary, one.value, 1, now)
        for rule, one in evaluation.found
    ]


def raise_and_resolve(desk: Desk, evaluation: Evaluation, *, actor: str, as_of: datetime | None = None) -> AlertRound:
    """
    Raise what is new and resolve what is over, in one transaction with the messages that tell of it.

    Args:
        as_of: When the facts were gathered, so that a slow round takes back nothing that a later one has said; now where it
            is not given.

    Raises:
        DatabaseError: Ours does not answer; then nothing was raised, and the next round raises it.
    """
    # A rule that misses a fact cannot say that anything is over.
    return desk.store.record_alerts(
        desk.settings.mode,
        alerts_of(desk, evaluation),
        undecided=evaluation.undecided,
        write=lambda alert, known: _messages(desk, alert, known),
        actor=actor,
        as_of=as_of,
    )


def _messages(desk: Desk, alert: Alert, known: Collection[str]) -> list[Message]:
    rule = _RULES.get(alert.rule)
    policy = desk.settings.policy
    alarm = Alarm(
        alert=alert,
        # A rule of an earlier release that is still firing is resolved without its words.
        metric=rule.metric if rule else "",
        threshold=rule.threshold(policy.monitoring) if rule else "",
        link=f"{policy.monitoring.runbook_url}#{alert.rule}",
        policy=policy.messages,
        channels=configured_channels(desk.settings) & TOLD,
    )
    return alarm_messages(alarm, known)


def silent_channels(desk: Desk) -> list[str]:
    """Name the channels that alerts would go to and that nothing is configured for."""
    return sorted(channel.value for channel in TOLD - configured_channels(desk.settings))
