"""
Stripe's test mode as the place where a rehearsal is played: real HTTP, real permissions, no real money.

::

    with ground(root, load_settings(), say=print) as stripe:
        parameters = stripe.case("answer_lost")     # a studio, a ledger payout and a connected account of its own
        stripe.lose_answer()                        # the next transfer is made, and its answer is lost
        run_stages(stripe.desk, DRY_RUN, parameters)
"""

from __future__ import annotations

from payout_rehearsal.testmode.keys import RehearsalKeys, rehearsal_keys
from payout_rehearsal.testmode.scenes import SCENES
from payout_rehearsal.testmode.stripe_ground import StripeGround, forget, ground

__all__ = ["SCENES", "RehearsalKeys", "StripeGround", "forget", "ground", "rehearsal_keys"]
