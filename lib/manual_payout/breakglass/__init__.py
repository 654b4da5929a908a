"""
Break-glass: one approval where nobody of the other team can be reached. Off unless the policy turns it on.

It is worse than the ordinary way on purpose: capped, held back, paged to an owner who can stop it, marked wherever the
payout is told of, and to be reviewed by the missing team within one business day. The approver declares it with a
signed statement of its own; `standing` is what the gate inside the send asks. Never for a reversal.
"""

from __future__ import annotations

from manual_payout.breakglass.declaring import declare, owner_of, require_enabled, stop
from manual_payout.breakglass.reviewing import Review, find_review, review, review_due, used_glass
from manual_payout.breakglass.standing import (
    Glass,
    Standing,
    UnderGlass,
    check_glass,
    describe,
    glass_named,
    glass_of,
    standing,
)
from manual_payout.breakglass.statement import DECLARATION_TYPE, REVIEW_TYPE, page_key, statement_of

__all__ = [
    "DECLARATION_TYPE",
    "REVIEW_TYPE",
    "Glass",
    "Review",
    "Standing",
    "UnderGlass",
    "check_glass",
    "declare",
    "describe",
    "find_review",
    "glass_named",
    "glass_of",
    "owner_of",
    "page_key",
    "require_enabled",
    "review",
    "review_due",
    "standing",
    "statement_of",
    "stop",
    "used_glass",
]
