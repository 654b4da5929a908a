"""
The facts as gauges in Prometheus's text format, for whoever scrapes or for the node exporter's textfile collector.

A fact that is missing has no sample: absence is what `absent()` finds, and a zero would be a lie.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from manual_payout.desk.inventory import Inventory, Missing, last_green
from manual_payout.domain.alerts import Alert
from manual_payout.domain.errors import EvidenceError
from manual_payout.monitoring.facts import WatchedFacts
from manual_payout.monitoring.rules import ALERT_RULES, NO_DATA

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Gauge


def metrics_text(facts: WatchedFacts, firing: Sequence[Alert]) -> str:
    """Return the gauges as text."""
    from prometheus_client import generate_latest

    return generate_latest(_registry(facts, firing)).decode()


def write_metrics(path: Path, facts: WatchedFacts, firing: Sequence[Alert]) -> None:
    """
    Write the gauges to a file, whole or not at all: a collector may read at any moment.

    Raises:
        EvidenceError: It cannot be written.
    """
    from prometheus_client import write_to_textfile

    try:
        write_to_textfile(str(path), _registry(facts, firing))
    except OSError as error:
        raise EvidenceError(
            f"The round is done; its metrics {path} cannot be written: {error.strerror}.",
            "Name a file in a folder that may be written and has room.",
        ) from None


def _registry(facts: WatchedFacts, firing: Sequence[Alert]) -> CollectorRegistry:
    from prometheus_client import CollectorRegistry, Gauge

    registry = CollectorRegistry()

    def gauge(name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, labels, registry=registry)

    _alerts(gauge("manual_payout_alerts_firing", "Alerts that are firing, by rule.", "rule", "severity"), firing)
    # By this machine's clock, as the collector's `time()` is: a sandbox's clock stands still and would call the monitor gone.
    gauge("manual_payout_monitor_timestamp_seconds", "When the rules were last evaluated.").set_to_current_time()
    gauge("manual_payout_no_data", "Facts that could not be gathered.").set(
        sum(alert.rule == NO_DATA.rule_id for alert in firing)
    )
    recent = gauge("manual_payout_recent_payouts", "Manual payouts within the window.", "source")
    recent.labels("table").set(facts.recent.count)
    if not isinstance(facts.requests, Missing):
        gauge("manual_payout_open_requests", "Fallback requests that are open.").set(len(facts.requests))
    gauge("manual_payout_unknown_outcomes", "Payouts and reversals whose outcome is not known.").set(len(facts.pending))
    gauge("manual_payout_disbelieved_messages", "Messages that are not what the journal says was written.").set(
        len(facts.disbelieved)
    )
    gauge("manual_payout_undelivered_messages", "Messages that have not gone out by a channel that is configured.").set(
        sum(one.count for one in facts.undelivered)
    )
    gauge("manual_payout_clock_skew", "Whether this machine's clock is over a minute from the database's.").set(
        bool(facts.clocks)
    )
    gauge("manual_payout_unsettled", "Paid payouts that have not arrived.").set(len(facts.unsettled))
    exposed = facts.at - facts.exposed_since if facts.exposed_since else timedelta()
    gauge("manual_payout_key_exposed_seconds", "Time since money was first moved after the last rotation.").set(
        exposed.total_seconds()
    )
    repeated = gauge("manual_payout_repeated_studios", "Studios with repeated manual payouts within the window.")
    repeated.set(len(facts.recent.studios))
    if not isinstance(facts.comparison, Missing):
        recent.labels("stripe").set(facts.comparison.at_stripe.count)
        gauge("manual_payout_outside_runbook", "Transfers that nobody explains.").set(len(facts.comparison.outside))
        gauge("manual_payout_not_at_stripe", "Transfers of ours that Stripe does not list.").set(
            len(facts.comparison.vanished)
        )
    if not isinstance(facts.inventory, Missing):
        _inventory(registry, facts, facts.inventory)
        gauge("manual_payout_unrehearsed_approvers", "Approvers without a rehearsal in time.").set(
            sum(alert.rule == "approver-unrehearsed" for alert in firing)
        )
    return registry


def _alerts(gauge: Gauge, firing: Sequence[Alert]) -> None:
    counts = Counter(alert.rule for alert in firing)
    for rule in (*ALERT_RULES, NO_DATA):
        gauge.labels(rule.rule_id, rule.severity.value).set(counts[rule.rule_id])


def _inventory(registry: CollectorRegistry, facts: WatchedFacts, inventory: Inventory) -> None:
    from prometheus_client import Gauge

    left = Gauge(
        "manual_payout_credential_left_seconds", "Time until a credential is due.", ("credential",), registry=registry
    )
    for credential in inventory.credentials:
        if not isinstance(credential.due, Missing):
            left.labels(credential.name).set((credential.due - facts.at).total_seconds())
    green = last_green(inventory, facts.procedure, facts.at)
    for name, last in (("rehearsal", green), ("access_review", inventory.access_reviewed_on)):
        if last is not None:
            _age(registry, f"manual_payout_{name}_age_seconds", facts.at, last)


def _age(registry: CollectorRegistry, name: str, at: datetime, last: datetime) -> None:
    from prometheus_client import Gauge

    Gauge(name, "Time since it was last done.", registry=registry).set((at - last).total_seconds())
