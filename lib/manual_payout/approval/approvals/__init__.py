"""
Approvals of one exact request: given and signed, and judged.

Two people of two teams, neither of them the requester or the operator, each with a key of their own, each within the
lifetime of the approval, each over the request as filed. Whoever judges asks again at the moment of sending (design,
rule 1).
"""

from __future__ import annotations

from manual_payout.approval.approvals.giving import approve, check_amount, draft_approval, record_signed
from manual_payout.approval.approvals.standing import (
    Approved,
    by_passkey,
    check_approvals,
    given_approvals,
    teams_approved,
)
from manual_payout.approval.approvals.statement import PREDICATE_TYPE, STATEMENT_TYPE, statement_of

__all__ = [
    "PREDICATE_TYPE",
    "STATEMENT_TYPE",
    "Approved",
    "approve",
    "by_passkey",
    "check_amount",
    "check_approvals",
    "draft_approval",
    "given_approvals",
    "record_signed",
    "statement_of",
    "teams_approved",
]
