"""A fallback is requested: people hear of it when it is filed, and not only at the monitor's next round."""

from __future__ import annotations

from manual_payout.comms.delivery import DeliveryRound as Delivery
from manual_payout.comms.delivery import Postroom
from manual_payout.desk.wiring import Desk
from manual_payout.domain.models import Request
from manual_payout.monitoring.evaluation import Evaluation
from manual_payout.monitoring.gathering import open_request
from manual_payout.monitoring.raising import raise_and_resolve
from manual_payout.monitoring.rules import ALERT_RULES, NO_DATA, REQUESTED, requested


def tell_request(desk: Desk, request: Request, *, actor: str) -> Delivery:
    """
    Raise the monitor's alert about one request, and deliver what tells of it; every other alert stays as it is.

    It is the alert that the next round would raise, under the same key: that round raises nothing twice, and resolves it
    once the money has moved. Where the money has moved already, or the alert is there, nothing is raised.

    Raises:
        DatabaseError: Ours does not answer; then the next round raises it. A messenger that fails raises nothing.
    """
    waiting = open_request(desk, request)
    if waiting is not None:
        # Nothing else was judged, so nothing else can be over: neither of our rules nor of an earlier release's.
        judged = {rule.rule_id for rule in (*ALERT_RULES, NO_DATA)}
        judged |= {alert.rule for alert in desk.store.firing_alerts(desk.settings.mode)}
        found = ((REQUESTED, requested(waiting, desk.now())),)
        raise_and_resolve(desk, Evaluation(found, frozenset(judged)), actor=actor)
    return Postroom(desk.settings, desk.store, actor).deliver()
