"""Keep watch: gather the facts, hold them against the rules, raise what they find and resolve what is over."""

from __future__ import annotations

from manual_payout.monitoring.evaluation import Evaluation, evaluate
from manual_payout.monitoring.filing import tell_request
from manual_payout.monitoring.gathering import gather_watched
from manual_payout.monitoring.metrics import metrics_text, write_metrics
from manual_payout.monitoring.raising import raise_and_resolve, silent_channels
from manual_payout.monitoring.rounds import Watch, watch_round
from manual_payout.monitoring.rules import ALERT_RULES, NO_DATA, Rule

__all__ = [
    "ALERT_RULES",
    "NO_DATA",
    "Evaluation",
    "Rule",
    "Watch",
    "evaluate",
    "gather_watched",
    "metrics_text",
    "raise_and_resolve",
    "silent_channels",
    "tell_request",
    "watch_round",
    "write_metrics",
]
