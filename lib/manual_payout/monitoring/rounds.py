"""One round of monitoring: follow the money, gather, judge, raise, deliver. The command and the notebook both call it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from manual_payout.comms.delivery import DeliveryRound as Delivery
from manual_payout.comms.delivery import Postroom
from manual_payout.comms.telling import write_all_announced
from manual_payout.comms.wiring import configured_channels
from manual_payout.database.store import AlertRound
from manual_payout.desk.inventory import Missing
from manual_payout.desk.wiring import Desk
from manual_payout.domain.alerts import Alert
from manual_payout.monitoring.evaluation import Evaluation, evaluate
from manual_payout.monitoring.facts import WatchedFacts
from manual_payout.monitoring.gathering import gather_watched
from manual_payout.monitoring.raising import alerts_of, raise_and_resolve
from manual_payout.monitoring.rules import ALERT_RULES, NO_DATA
from manual_payout.transfer import settlement
from manual_payout.transfer.resolving import resolve_by_looking

# Who writes into the journal when nobody sits there.
ACTOR = "monitor"


@dataclass(frozen=True, slots=True)
class Watch:
    """
    What one round came to.

    Attributes:
        followed: The looks at unfinished payouts; None in a dry run.

        alerts: What is firing, what is new and what is over. In a dry run nothing of it is recorded.

        delivered: What became of the messages that were due; None in a dry run.
    """

    facts: WatchedFacts
    evaluation: Evaluation
    alerts: AlertRound
    followed: settlement.Round | None = None
    delivered: Delivery | None = field(default=None)


def watch_round(desk: Desk, *, actor: str = ACTOR, dry_run: bool = False) -> Watch:
    """
    Do one round; moves no money.

    Args:
        dry_run: Only look: follow nothing, record nothing, tell nobody.

    Raises:
        DatabaseError: Ours does not answer. A failing Stripe, ledger or messenger raises nothing; it is an alert, or waits.
    """
    policy = desk.settings.policy.monitoring
    if dry_run:
        facts = gather_watched(desk)
        evaluation = evaluate(facts, policy)
        return Watch(facts, evaluation, _as_it_would_be(desk, evaluation))
    # Before what is unknown is judged: most of it only takes a look.
    resolve_by_looking(desk, actor=actor)
    followed = settlement.follow_due(desk, actor=actor)
    blind = tuple(Missing(subject, reason) for subject, reason in followed.blind)
    facts = gather_watched(desk, blind)
    known = evaluate(facts, policy)
    # Told before the ledger is asked for texts, which may be away or slow: a page needs none of it. What no data there is
    # can be said only after that.
    first = replace(known, undecided=known.undecided | {NO_DATA.rule_id})
    raised = raise_and_resolve(desk, first, actor=actor, as_of=facts.at)
    postroom = Postroom(desk.settings, desk.store, actor)
    told = postroom.deliver()
    # A text that somebody would have to copy is written at a desk, which may have a service for it.
    written = write_all_announced(desk, actor=actor, channels=configured_channels(desk.settings))
    facts = replace(facts, unwritten=written.missing)
    evaluation = evaluate(facts, policy)
    missing = raise_and_resolve(desk, _of_no_data(evaluation, raised), actor=actor, as_of=facts.at)
    alerts = raised.followed_by(missing)
    return Watch(facts, evaluation, alerts, followed, told.followed_by(postroom.deliver()))


def _of_no_data(evaluation: Evaluation, raised: AlertRound) -> Evaluation:
    """Leave to a second pass nothing but what could not be gathered: the rest was told by the first."""
    told = {rule.rule_id for rule in ALERT_RULES} | {alert.rule for alert in raised.firing}
    found = tuple((rule, one) for rule, one in evaluation.found if rule is NO_DATA)
    return Evaluation(found, frozenset(told - {NO_DATA.rule_id}))


def _as_it_would_be(desk: Desk, evaluation: Evaluation) -> AlertRound:
    found = alerts_of(desk, evaluation)
    before = desk.store.firing_alerts(desk.settings.mode)
    keys, known = {_key(alert) for alert in found}, {_key(alert): alert for alert in before}
    staying = [a for a in before if _key(a) not in keys and a.rule in evaluation.undecided]
    firing = [known.get(_key(alert), alert) for alert in found] + staying
    over = [a for a in before if _key(a) not in keys and a.rule not in evaluation.undecided]
    new = [alert for alert in found if _key(alert) not in known]
    return AlertRound(tuple(firing), tuple(new), tuple(over))


def _key(alert: Alert) -> tuple[str, str]:
    return alert.rule, alert.subject
