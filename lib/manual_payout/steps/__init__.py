"""
What a notebook imports: one call per cell, each answering one question with something that shows itself.

The calls hold no rules of their own; they ask the rooms above and put the answers into tables and the evidence folder.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from manual_payout.steps.closing import checklist, close, postmortem, seal, summary
    from manual_payout.steps.execution import payload, send, transfer_as_stripe_shows_it
    from manual_payout.steps.logging import audit_row, audit_sql, compare_audit_row, log, operation_note
    from manual_payout.steps.notification import deliveries, prepare, slack_message, studio_email
    from manual_payout.steps.reversing import (
        ReversalRun,
        begin_reversal,
        reversal_approvals,
        reversal_as_stripe_shows_it,
        reversal_payload,
        reversal_request,
        reverse,
        verify_reversal,
    )
    from manual_payout.steps.run import Run, begin, conclude
    from manual_payout.steps.settling import ladder, tell_settlement, timeline, watch
    from manual_payout.steps.verification import approvals, ledger_payout, request, verify
    from manual_payout.steps.watching import MonitorRun, alerts, begin_monitor, changes, metrics

__all__ = [
    "MonitorRun",
    "ReversalRun",
    "Run",
    "alerts",
    "approvals",
    "audit_row",
    "audit_sql",
    "begin",
    "begin_monitor",
    "begin_reversal",
    "changes",
    "checklist",
    "close",
    "compare_audit_row",
    "conclude",
    "deliveries",
    "ladder",
    "ledger_payout",
    "log",
    "metrics",
    "operation_note",
    "payload",
    "postmortem",
    "prepare",
    "request",
    "reversal_approvals",
    "reversal_as_stripe_shows_it",
    "reversal_payload",
    "reversal_request",
    "reverse",
    "seal",
    "send",
    "slack_message",
    "studio_email",
    "summary",
    "tell_settlement",
    "timeline",
    "transfer_as_stripe_shows_it",
    "verify",
    "verify_reversal",
    "watch",
]

# Each call and the module that holds it. The runner stands in this room too, and needs none of what the cells bring with
# them: pandas, scrapbook, Stripe's library. So each is imported when it is first asked for (PEP 562).
_PLACES = {
    "closing": ("checklist", "close", "postmortem", "seal", "summary"),
    "execution": ("payload", "send", "transfer_as_stripe_shows_it"),
    "logging": ("audit_row", "audit_sql", "compare_audit_row", "log", "operation_note"),
    "notification": ("deliveries", "prepare", "slack_message", "studio_email"),
    "reversing": (
        "ReversalRun",
        "begin_reversal",
        "reversal_approvals",
        "reversal_as_stripe_shows_it",
        "reversal_payload",
        "reversal_request",
        "reverse",
        "verify_reversal",
    ),
    "run": ("Run", "begin", "conclude"),
    "settling": ("ladder", "tell_settlement", "timeline", "watch"),
    "verification": ("approvals", "ledger_payout", "request", "verify"),
    "watching": ("MonitorRun", "alerts", "begin_monitor", "changes", "metrics"),
}
_MODULES = {name: module for module, names in _PLACES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"There is no step {name!r}.")
    found = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = found
    return found
