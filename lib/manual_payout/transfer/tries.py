"""One run's tries with one key: how many, what is in doubt, and how long it waits between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic

from manual_payout.domain.models import R
from manual_payout.domain.pauses import jittered_s
from manual_payout.gateway import Refused, Unknown

# HTTP attempts with one key in one run. Three bridge a dropped connection; more would outlast the lease.
TRIES_MAX = 3

# Pauses between them, in seconds, before jitter; Stripe recommends exponential back-off with jitter (*Rate limits*,
# *Advanced error handling*).
PAUSES_S = (1.0, 4.0)

# The longest pause that is waited out while the right to send is held. Whoever asks for a longer one is not asked again
# by this run: neither too early, nor with everybody else kept waiting.
PAUSE_MAX_S = 20.0


@dataclass(slots=True)
class Sending(Generic[R]):
    """
    One run's sending of one attempt.

    Attributes:
        in_doubt: Whether a request of this attempt may have taken effect without our knowing. Once an answer was lost, a
            later refusal says nothing about the earlier request: it can have paid.

        tries: How many HTTP attempts were made.

        waited_s: How long was waited between them.
    """

    record: R
    in_doubt: bool
    tries: int = 0
    waited_s: float = 0.0

    def pause_s(self, answer: Refused | Unknown) -> float | None:
        """
        Return how long to wait before the next try: never less than *answer* asks for.

        The jitter is drawn from the key, since only its holder sends it.

        Returns:
            None where there is no next try, or it is asked for later than this run waits.
        """
        if self.tries >= TRIES_MAX:
            return None
        own_s = jittered_s(PAUSES_S[self.tries - 1], seed=f"{self.record.idempotency_key} {self.tries}")
        pause_s = max(own_s, answer.retry_after_s or 0.0)
        return pause_s if pause_s <= PAUSE_MAX_S else None

    @property
    def told(self) -> str:
        """Say what it took, to be put behind what came of it; empty where the first try was the last."""
        return f", after {self.tries} tries and {self.waited_s:.0f} s of waiting" if self.tries > 1 else ""


def asked_for(answer: Refused | Unknown) -> str:
    """Say how long Stripe asks to be left alone, in a sentence of its own; empty where it does not."""
    return f"Wait {answer.retry_after_s:.0f} s, as Stripe asks. " if answer.retry_after_s else ""
