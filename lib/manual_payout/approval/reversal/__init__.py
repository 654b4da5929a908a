"""
Taking back money that was transferred by mistake: asked for, shown to its approvers, and verified.

A reversal is a request of its own with two approvals of its own. It is sent where everything is sent: `transfer.reverse`.
"""

from __future__ import annotations

from manual_payout.approval.reversal.checks import ReversalFacts, verify_reversal
from manual_payout.approval.reversal.requesting import ReversalAsked, file_reversal, reversal_ticket

__all__ = [
    "ReversalAsked",
    "ReversalFacts",
    "file_reversal",
    "reversal_ticket",
    "verify_reversal",
]
