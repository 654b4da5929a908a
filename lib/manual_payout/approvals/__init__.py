"""
Approvals of one exact request: given and signed, and judged.

Two people of two teams, neither of them the requester or the operator, each with a key of their own, each within the
lifetime of the approval, each over the request as filed. Whoever judges asks again at the moment of sending (design,
rule 1).
"""

from __future__ import annotations

from manual_payout.approvals.giving import approve, check_open, check_typed
from manual_payout.approvals.standing import (
    Approved,
    check_approval_of,
    check_approvals,
    given_approvals,
    keys_end,
    teams_approved,
)
from manual_payout.approvals.statement import PREDICATE_TYPE, STATEMENT_TYPE, difference, statement_of

__all__ = [
    "PREDICATE_TYPE",
    "STATEMENT_TYPE",
    "Approved",
    "approve",
    "check_approval_of",
    "check_approvals",
    "check_open",
    "check_typed",
    "difference",
    "given_approvals",
    "keys_end",
    "statement_of",
    "teams_approved",
]
