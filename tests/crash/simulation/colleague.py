"""
The colleague: somebody who pays in the Dashboard, at any moment of the night, with nothing of ours on the transfer.

In some nights an earlier equal transfer is known to be another payment: the request acknowledges it, and it hinders nobody.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from payout_rehearsal.demo import incident

from .world import BOUNDARIES, Planned, span

if TYPE_CHECKING:
    from .scenario import Night


def has_colleague(seed: int) -> bool:
    """Whether somebody pays in the Dashboard in this night; drawn apart, so that all other nights are as they were."""
    return random.Random(f"colleague {seed}").random() < 0.15


class Colleague:
    """
    What the colleague does in one night.

    Attributes:
        acknowledged: What the requests of tonight name as another payment.
    """

    def __init__(self, night: Night, seed: int) -> None:
        self.night = night
        self.rng = random.Random(f"in the Dashboard {seed}")
        self.acknowledged: tuple[str, ...] = ()
        self.decided = 0
        night.world.events["colleague"] = self.pay

    def begin(self) -> None:
        """Draw when the colleague pays, and pay what is paid before the night begins."""
        night, rng = self.night, self.rng
        if rng.random() < 0.4:
            self.acknowledged = (self.pay(),)
            night.refile_all()
        dice = rng.random()
        if dice < 0.25:
            # Before the first command: the lease of any sending begins when it has long been there to see.
            self.pay()
            night.world.pass_time(300)
        elif dice < 0.5:
            self._at("claim:before", 1)
            self._at("claim:before", 1, "freeze", span(rng, 170, 500))
        elif dice < 0.8:
            # Nothing arrives, whatever is tried; then the colleague pays, and then somebody reconciles.
            night.books.post_faults |= dict.fromkeys((1, 2, 3), "lost_before")
            self._at("post:after", 3)
        else:
            self._at(rng.choice(BOUNDARIES), rng.randint(1, 4))

    def pay(self) -> str:
        """Make an equal transfer to the studio's account; its id is returned."""
        night = self.night
        night.world.say("*** the colleague pays in the Dashboard")
        night.result.hits["colleague paid"] += 1
        due = night.ledger.due
        order: dict[str, Any] = {"amount": due.amount_minor, "currency": due.currency}
        return night.books.pay_in_dashboard(order | {"destination": incident.DESTINATION_ACCOUNT})

    def named(self) -> tuple[str, ...]:
        """Say which transfers a person names who decides that nothing was sent: none at first, all when told of them."""
        self.decided += 1
        if self.decided % 2:
            return ()
        return tuple(one.shown["id"] for one in self.night.books.transfers if not one.by_hand)

    def _at(self, boundary: str, countdown: int, kind: str = "colleague", seconds: float = 0.0) -> None:
        self.night.world.plan.setdefault(boundary, []).append(Planned(countdown, kind, seconds))
