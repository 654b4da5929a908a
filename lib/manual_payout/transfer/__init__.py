"""
The send, and the only way back from an unknown outcome.

`send` holds the gate: it trusts no cell before it. The order is always: judge afresh → claim the ledger payout → commit
the intent → look at Stripe → fence → one HTTP attempt → commit the outcome. A crash between any two leaves a state from
which the next run continues; no database transaction spans a call to Stripe.
"""

from __future__ import annotations

from manual_payout.transfer.adopting import adopt
from manual_payout.transfer.delivery import KEY_WINDOW, unknown_outcome
from manual_payout.transfer.gate import admit, claim, find_request, get_reversal_request
from manual_payout.transfer.reconciling import Reconciliation, decide_not_moved, reconcile
from manual_payout.transfer.sending import reverse, send
from manual_payout.transfer.tries import TRIES_MAX

__all__ = [
    "KEY_WINDOW",
    "TRIES_MAX",
    "Reconciliation",
    "admit",
    "adopt",
    "claim",
    "decide_not_moved",
    "find_request",
    "get_reversal_request",
    "reconcile",
    "reverse",
    "send",
    "unknown_outcome",
]
