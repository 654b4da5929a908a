"""
What is firing: raised once, resolved once, and announced in the same transaction.

One round at a time holds the lock of monitoring's journal, so that two monitors raise one alert.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from manual_payout.database import journal
from manual_payout.database.schema import alerts, messages
from manual_payout.database.store.base import StorePart
from manual_payout.database.store.rows import row_values
from manual_payout.database.store.writing import write_out
from manual_payout.domain.alerts import TELLING, Alert, Severity, monitoring_stream
from manual_payout.domain.models import Message, MessageState, Mode

_row = alerts.c

# Longer than any messenger is down.
_ANNOUNCED_WITHIN = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class AlertRound:
    """
    What one round changed.

    Attributes:
        firing: Everything that is firing afterwards, the gravest first.

        raised: What of that was not firing before.

        resolved: What was firing and is over.
    """

    firing: tuple[Alert, ...]
    raised: tuple[Alert, ...]
    resolved: tuple[Alert, ...]

    def followed_by(self, later: AlertRound) -> AlertRound:
        """Return what this one and a later one changed together."""
        return AlertRound(later.firing, (*self.raised, *later.raised), (*self.resolved, *later.resolved))


class Alerts(StorePart):
    """The rows of ``alerts``."""

    def firing_alerts(self, mode: Mode) -> list[Alert]:
        """Return what is firing, the gravest first, then the oldest."""
        with self._read() as connection:
            return _firing(connection, mode, _told_of(connection, mode))

    def record_alerts(
        self,
        mode: Mode,
        found: Sequence[Alert],
        *,
        undecided: Collection[str],
        write: Callable[[Alert, Collection[str]], list[Message]],
        actor: str,
        as_of: datetime | None = None,
    ) -> AlertRound:
        """
        Raise what is new, resolve what is over, and put the messages that tell of it into the outbox.

        Args:
            found: What the rules do not accept now; episode and instants are filled in here.

            undecided: The rules that could not be judged: what is firing of theirs stays.

            write: Renders the messages about one alert, given the keys of those that have reached people; pure. What the
                outbox has is not put in again, so a service that was configured later hears of what is still firing.

            as_of: When the facts were gathered; now where it is not given. What was raised or resolved since, by another
                round, was judged by newer ones and stays.
        """
        stream = monitoring_stream(mode)
        with self._write() as connection:
            now = self._hold(connection, stream)
            as_of = as_of or now
            told = _told_of(connection, mode)
            _silence(connection, mode, told, now)
            before = {(alert.rule, alert.subject): alert for alert in _firing(connection, mode, told)}
            present = {(alert.rule, alert.subject): alert for alert in found}
            settled = {(a.rule, a.subject) for a in _over(connection, mode, as_of, told)}
            raised = [
                _raise(connection, present[key], now, told) for key in present if key not in before.keys() | settled
            ]
            judged = [a for key, a in before.items() if key not in present and a.rule not in undecided]
            over = [a for a in judged if a.raised_at <= as_of]
            resolved = [_resolve(connection, alert, now) for alert in over]
            for key in present.keys() & before.keys():
                _renew(connection, before[key], present[key])
            for kind, changed in (("alert_raised", raised), ("alert_resolved", resolved)):
                for alert in changed:
                    self._append(connection, now, stream, kind, actor, _told(alert))
                    told[_episode(alert)] = kind
            firing = _firing(connection, mode, told)
            for alert in (*firing, *_over(connection, mode, now - _ANNOUNCED_WITHIN, told)):
                for message in write(alert, _heard(connection, alert)):
                    write_out(connection, message, at=now, actor=actor)
            return AlertRound(tuple(firing), tuple(raised), tuple(resolved))


# Of every episode of an alert that the journal tells of, the kind of the last event. A row alone fires nothing, hides nothing and
# tells nobody anything: whoever can write into the table could otherwise page people, or see to it that nobody is paged.
_Told = dict[tuple[str, str, int], str]


def _told_of(connection: sa.Connection, mode: Mode) -> _Told:
    chain = journal.read(connection, monitoring_stream(mode))
    journal.check_chain(chain)
    kinds = {"alert_raised", "alert_resolved"}
    return {(e.data["rule"], e.data["subject"], e.data["episode"]): e.kind for e in chain if e.kind in kinds}


def _episode(alert: Alert) -> tuple[str, str, int]:
    return alert.rule, alert.subject, alert.episode


def _silence(connection: sa.Connection, mode: Mode, told: _Told, now: datetime) -> None:
    """End what fires by its row alone, so that it is raised by the journal where it is true."""
    rows = connection.execute(sa.select(alerts).where(_row.mode == mode.value, _row.resolved_at.is_(None)))
    for alert in [_alert_of(row) for row in rows]:
        if told.get(_episode(alert)) != "alert_raised":
            _resolve(connection, alert, now)


def _firing(connection: sa.Connection, mode: Mode, told: _Told) -> list[Alert]:
    rows = connection.execute(sa.select(alerts).where(_row.mode == mode.value, _row.resolved_at.is_(None)))
    found = [alert for row in rows if told.get(_episode(alert := _alert_of(row))) == "alert_raised"]
    return sorted(found, key=lambda a: (-a.severity.rank, a.raised_at, a.rule, a.subject))


def _raise(connection: sa.Connection, alert: Alert, now: datetime, told: _Told) -> Alert:
    key = _key_of(alert)
    last = connection.execute(sa.select(_row.episode).where(*key)).scalar_one_or_none()
    # A row that was deleted takes no episode with it: its messages would be those that were told before.
    earlier = [episode for rule, subject, episode in told if (rule, subject) == (alert.rule, alert.subject)]
    alert = replace(alert, episode=max(last or 0, *earlier, 0) + 1, raised_at=now, resolved_at=None)
    values = {name: getattr(alert, name) for name in ("episode", "raised_at", "resolved_at", "summary", "value")}
    values |= {"severity": alert.severity.value}
    if last is None:
        connection.execute(
            alerts.insert().values(mode=alert.mode.value, rule=alert.rule, subject=alert.subject, **values)
        )
    else:
        # That it was over has not been told yet; told after this, it would close what is raised here.
        stale = [replace(alert, episode=last).message_key(kind) for kind in TELLING.values()]
        waits = messages.c.state == MessageState.WAITING.value
        connection.execute(messages.delete().where(messages.c.dedup_key.in_(stale), waits))
        connection.execute(alerts.update().where(*key).values(values))
    return alert


def _resolve(connection: sa.Connection, alert: Alert, now: datetime) -> Alert:
    connection.execute(alerts.update().where(*_key_of(alert)).values(resolved_at=now))
    return replace(alert, resolved_at=now)


def _renew(connection: sa.Connection, before: Alert, now: Alert) -> None:
    """Keep the words up to date; nobody is told again for that."""
    if (before.summary, before.value) != (now.summary, now.value):
        connection.execute(alerts.update().where(*_key_of(now)).values(summary=now.summary, value=now.value))


def _over(connection: sa.Connection, mode: Mode, since: datetime, told: _Told) -> list[Alert]:
    """
    Return what was resolved since an instant, and is not firing again.

    Its end is announced once its beginning has arrived: a resolve that overtook its trigger would leave a page open.
    """
    rows = connection.execute(sa.select(alerts).where(_row.mode == mode.value, _row.resolved_at > since))
    return [alert for row in rows if told.get(_episode(alert := _alert_of(row))) == "alert_resolved"]


def _heard(connection: sa.Connection, alert: Alert) -> set[str]:
    keys = [alert.message_key(kind) for kind in TELLING]
    arrived = messages.c.state.in_([MessageState.DELIVERED.value, MessageState.COPIED.value])
    return set(connection.scalars(sa.select(messages.c.dedup_key).where(messages.c.dedup_key.in_(keys), arrived)))


def _key_of(alert: Alert) -> tuple[sa.ColumnElement[bool], ...]:
    return _row.mode == alert.mode.value, _row.rule == alert.rule, _row.subject == alert.subject


def _alert_of(row: sa.Row[Any]) -> Alert:
    values = row_values(row)
    return Alert(mode=Mode(values.pop("mode")), severity=Severity(values.pop("severity")), **values)


def _told(alert: Alert) -> dict[str, Any]:
    return {
        "rule": alert.rule,
        "subject": alert.subject,
        "severity": alert.severity.value,
        "value": alert.value,
        "episode": alert.episode,
    }
