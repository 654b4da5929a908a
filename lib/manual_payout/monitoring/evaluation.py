"""Hold the facts against every rule. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from manual_payout.desk.inventory import Missing
from manual_payout.desk.settings import MonitoringPolicy
from manual_payout.domain.alerts import Finding
from manual_payout.monitoring.facts import WatchedFacts
from manual_payout.monitoring.rules import ALERT_RULES, NO_DATA, Rule


@dataclass(frozen=True, slots=True)
class Evaluation:
    """
    What all rules found.

    Attributes:
        found: Each finding with its rule, the gravest first.

        undecided: The ids of the rules that missed a fact: what they raised before stays as it is.
    """

    found: tuple[tuple[Rule, Finding], ...]
    undecided: frozenset[str]


def evaluate(facts: WatchedFacts, policy: MonitoringPolicy) -> Evaluation:
    """Ask every rule; a fact that is missing becomes a finding of its own, once, however many rules miss it."""
    found: list[tuple[Rule, Finding]] = []
    missing = {one.source: one for one in facts.unwritten}
    undecided = set()
    for rule in ALERT_RULES:
        for one in rule.find(facts, policy):
            if isinstance(one, Missing):
                missing.setdefault(one.source, one)
                undecided.add(rule.rule_id)
            else:
                found.append((rule, one))
    found += [(NO_DATA, Finding(one.source, f"{one.source}: {one.reason}", "no data")) for one in missing.values()]
    found.sort(key=lambda pair: -pair[0].severity.rank)
    return Evaluation(tuple(found), frozenset(undecided))
