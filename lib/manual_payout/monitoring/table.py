"""The rules as a Markdown table, for docs/monitoring.md: severities and thresholds are written once, in the code."""

from __future__ import annotations

from manual_payout.desk.settings import MonitoringPolicy
from manual_payout.monitoring.rules import ALERT_RULES, NO_DATA


def rules_table(policy: MonitoringPolicy) -> str:
    """Return one row per rule, the gravest first, with the thresholds of *policy*."""
    head = "| rule | severity | fires at | gauge |\n|---|---|---|---|\n"
    rules = sorted((*ALERT_RULES, NO_DATA), key=lambda rule: -rule.severity.rank)
    return head + "".join(
        f"| [{rule.rule_id}](#{rule.rule_id}) | {rule.severity} | {rule.threshold(policy)} | `{rule.metric}` |\n"
        for rule in rules
    )
