"""The monitor: follow the money, hold the facts against the rules, say what is firing and who was told."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from manual_payout import monitoring
from manual_payout.desk.people import Person
from manual_payout.desk.secret_settings import redactor_of, refuse_typed_secret
from manual_payout.desk.settings import load_settings
from manual_payout.desk.wiring import Desk, open_desk
from manual_payout.domain.alerts import Alert, monitoring_stream
from manual_payout.domain.display import Banner, Table, Text, facts_table
from manual_payout.domain.errors import ManualPayoutError, PolicyRefusedError
from manual_payout.domain.models import Record, Stage
from manual_payout.domain.parameters import MonitorParameters, validate
from manual_payout.steps.run import Bound, parameters_in, question
from truthful_papermill.redaction import Redactor

_COLUMNS = ("severity", "rule", "about", "found", "accepted until", "since", "what")


@dataclass(repr=False)
class MonitorRun(Bound):
    """
    One run of the monitor's notebook.

    Attributes:
        watched: What the round came to; None until it has run.
    """

    parameters: MonitorParameters
    desk: Desk
    operator: Person
    stage: Stage = Stage.MONITOR
    findings: dict[str, Any] = field(default_factory=dict)
    verdict: str = ""
    refusal: ManualPayoutError | None = None
    watched: monitoring.Watch | None = None

    @property
    def incident_id(self) -> str:
        """No incident: the first half of the name of monitoring's journal."""
        return monitoring_stream(self.desk.settings.mode).partition("/")[0]

    @property
    def ledger_payout_id(self) -> str:
        """No ledger payout: the second half of the name of monitoring's journal."""
        return self.desk.settings.mode.value

    @property
    def dry_run(self) -> bool:
        """Whether nothing but the journal is written and nobody is told."""
        return self.parameters.dry_run

    @cached_property
    def redactor(self) -> Redactor:
        """The monitor has no folder, and needs no key only to keep it out of the journal."""
        return redactor_of()

    def standing(self) -> Record | None:
        """The monitor moves no money."""
        return None

    def binding(self) -> Table:
        """Say what this run is bound to: the world, the people, who would be told."""
        desk = self.desk
        silent = monitoring.silent_channels(desk)
        return facts_table(
            f"This run: monitor, {'dry run' if self.dry_run else 'live'}, {desk.settings.mode} mode.",
            {
                "moves money": "no, this notebook never does",
                "tells people": "no, dry run" if self.dry_run else "yes, what is new and what is over",
                "not configured": ", ".join(silent) or "nothing: Slack and PagerDuty are both told",
                "operator": f"{self.operator.name} ({self.operator.person_id})",
                "Stripe": f"{desk.place}, {desk.watcher.identity}",
                "started": f"{desk.now():%Y-%m-%d %H:%M:%S} UTC",
            }
            | ({"WARNING, clocks": said} if (said := desk.clocks()) else {}),
        )

    def get_watched(self) -> monitoring.Watch:
        """
        Return what the round came to.

        Raises:
            PolicyRefusedError: It has not run yet.
        """
        if self.watched is None:
            raise PolicyRefusedError("The rules have not been evaluated yet.", "Run the cells in order.")
        return self.watched


def begin_monitor(namespace: Mapping[str, Any]) -> MonitorRun:
    """
    Validate the parameters and bind the run to databases, Stripe and people.

    Raises:
        ParameterError: A parameter is wrong, or there is one of an unknown name.

        SettingsError, DatabaseError, ApprovalError: The run cannot be bound.
    """
    given = parameters_in(namespace)
    refuse_typed_secret(given)
    parameters = validate(given, MonitorParameters)
    desk = open_desk(load_settings())
    operator = desk.registry.get_allowed(parameters.operator, "operate", desk.now(), field="operator")
    return MonitorRun(parameters, desk, operator)


@question
def alerts(run: MonitorRun) -> Table:
    """Do one round and show everything that is firing, the gravest first."""
    run.watched = monitoring.watch_round(run.desk, actor=run.operator.person_id, dry_run=run.dry_run)
    firing = run.watched.alerts.firing
    run.findings |= {"firing": [_told(alert) for alert in firing]}
    run.verdict = f"{len(firing)} firing" if firing else "Nothing is firing"
    rules = {rule.rule_id: rule for rule in (*monitoring.ALERT_RULES, monitoring.NO_DATA)}
    policy = run.desk.settings.policy.monitoring
    rows = tuple(
        (
            alert.severity.value, alert.rule, alert.subject, alert.value,
            rules[alert.rule].threshold(policy) if alert.rule in rules else "",
            f"{alert.raised_at:%Y-%m-%d %H:%M} UTC", alert.summary,
        )
        for alert in firing
    )  # fmt: skip
    count = len(firing)
    caption = f"{count} {'alert is' if count == 1 else 'alerts are'} firing." if count else "Nothing is firing."
    return Table(caption, _COLUMNS, rows)


@question
def changes(run: MonitorRun) -> Table:
    """Show what this round changed: what was raised, what is over, how far payouts came, what was told."""
    seen = run.get_watched()
    followed, delivered = seen.followed, seen.delivered
    return facts_table(
        "A dry run changes nothing." if run.dry_run else "What this round changed.",
        {
            "raised": _names(seen.alerts.raised),
            "resolved": _names(seen.alerts.resolved),
            "payouts looked at": str(followed.looked) if followed else "none, dry run",
            "of these changed": str(len(followed.changed)) if followed else "none, dry run",
            "messages delivered": str(delivered.delivered) if delivered else "none, dry run",
            "messages waiting": str(delivered.delayed + delivered.refused) if delivered else "none, dry run",
        },
    )


@question
def metrics(run: MonitorRun) -> Text | Banner:
    """Show the facts as Prometheus reads them; a live run saves them."""
    seen = run.get_watched()
    text = monitoring.metrics_text(seen.facts, seen.alerts.firing)
    if not run.dry_run:
        path = run.desk.settings.outputs_dir / "monitoring" / f"{run.desk.settings.mode}.prom"
        # Where it cannot be made, writing says so.
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
        monitoring.write_metrics(path, seen.facts, seen.alerts.firing)
    samples = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    return Text("The same facts as gauges; a fact that could not be gathered has no line.", samples)


def _names(alerts: tuple[Alert, ...]) -> str:
    return ", ".join(f"{alert.rule} ({alert.subject})" for alert in alerts) or "nothing"


def _told(alert: Alert) -> dict[str, str]:
    return {
        "rule": alert.rule,
        "subject": alert.subject,
        "severity": alert.severity.value,
        "value": alert.value,
        "summary": alert.summary,
    }
