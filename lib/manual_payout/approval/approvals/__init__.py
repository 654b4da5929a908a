"""
Approvals of one exact request: given and signed, and judged.

Two people of two teams, neither of them the requester or the operator, each with a key of their own, each within the
lifetime of the approval, each over the request as filed. Whoever judges asks again at the moment of sending (design,
rule 1).
"""

from __future__ import annotations

from manual_payout.approval.approvals.filed import check_filed, check_own
from manual_payout.approval.approvals.giving import approve, check_amount, draft_approval, record_signed
from manual_payout.approval.approvals.shown import Compared, Shown, changed_facts
from manual_payout.approval.approvals.standing import (
    Approved,
    by_passkey,
    check_approvals,
    given_approvals,
    in_browser,
    teams_approved,
)
from manual_payout.approval.approvals.statement import PREDICATE_TYPE, STATEMENT_TYPE, statement_of

__all__ = [
    "PREDICATE_TYPE",
    "STATEMENT_TYPE",
    "Approved",
    "Compared",
    "Shown",
    "approve",
    "by_passkey",
    "changed_facts",
    "check_amount",
    "check_approvals",
    "check_filed",
    "check_own",
    "draft_approval",
    "given_approvals",
    "in_browser",
    "record_signed",
    "statement_of",
    "teams_approved",
]
