"""
The rules: each one small object that looks at the facts and says what it does not accept. Pure.

Sources: the procedure's *Monitoring Hooks* (repeated payouts, automation failures, certificates at 30, 14 and 7 days),
its *Rehearsal Procedure* (quarterly) and its *Security Controls* (key rotation, quarterly access review). The link of
an alert is the heading of its id in docs/monitoring.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from manual_payout.desk.inventory import AHEAD_MAX, Inventory, Missing, dated_until, other_notebooks, standing_of
from manual_payout.desk.settings import MonitoringPolicy
from manual_payout.domain.alerts import Finding, Severity
from manual_payout.domain.models import Mode
from manual_payout.monitoring.facts import OpenRequest, Pending, Recent, Studio, WatchedFacts

Found = list[Finding | Missing]

_SUBJECT_MAX = 120

# A message that waits for its first retries is no news; after an hour the pauses between them are an hour as well.
_UNDELIVERED_AFTER = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Rule:
    """
    One rule.

    Attributes:
        rule_id: Its name, and the heading that its alerts link to.

        threshold: What it does not accept, in words, under a policy.

        metric: The gauge in which the value is published.

        find: Everything that it does not accept, and every fact that it misses.
    """

    rule_id: str
    severity: Severity
    threshold: Callable[[MonitoringPolicy], str]
    metric: str
    find: Callable[[WatchedFacts, MonitoringPolicy], Found]


def _repeated(facts: WatchedFacts, policy: MonitoringPolicy) -> Found:
    here, there = facts.recent.count, _at_stripe(facts)
    if max(here, there.count if there else 0) <= policy.payouts_max:
        return _unseen(facts)
    value = f"{here} in our table, {there.count if there else 'unknown'} at Stripe"
    return [*_unseen(facts), Finding("platform", f"{value} within {policy.window_days} days.", value)]


def _repeated_studio(facts: WatchedFacts, policy: MonitoringPolicy) -> Found:
    there = _at_stripe(facts)
    counts: dict[str, list[Studio]] = {}
    for studio in (*facts.recent.studios, *(there.studios if there else ())):
        counts.setdefault(studio.studio_id, []).append(studio)
    return _unseen(facts) + [
        Finding(studio_id, f"{most.count} manual payouts to {most.name} within {policy.window_days} days.", str(most.count))
        for studio_id, seen in sorted(counts.items())
        if (most := max(seen, key=lambda studio: studio.count)).count > policy.payouts_max
    ]  # fmt: skip


def _unseen(facts: WatchedFacts) -> Found:
    """What only Stripe's list had shown is not over because the list is not there."""
    return [facts.comparison] if isinstance(facts.comparison, Missing) else []


def _outside(facts: WatchedFacts, _policy: MonitoringPolicy) -> Found:
    if isinstance(facts.comparison, Missing):
        return [facts.comparison]
    found: Found = [
        Finding(transfer_id, f"Somebody paid outside the runbook: {what}.", what)
        for transfer_id, what in facts.comparison.outside
    ]
    if facts.comparison.unmarked:
        found.append(
            Missing(
                "automation mark",
                f"{facts.comparison.unmarked} transfers at Stripe are not the runbook's, and the policy does not say by which "
                "metadata the automation's are known (monitoring.automation_metadata_key).",
            )
        )
    return found


def _vanished(facts: WatchedFacts, _policy: MonitoringPolicy) -> Found:
    if isinstance(facts.comparison, Missing):
        return [facts.comparison]
    return [
        Finding(transfer_id, f"Our table has a transfer that Stripe does not list: {what}.", what)
        for transfer_id, what in facts.comparison.vanished
    ]


def _unwritten_by_us(facts: WatchedFacts, _policy: MonitoringPolicy) -> Found:
    return [
        Finding(
            message_id[:_SUBJECT_MAX],
            f"A message in the outbox is not what the journal says was written: {what}.",
            what,
        )
        for message_id, what in facts.disbelieved
    ]


def _undelivered(facts: WatchedFacts, _policy: MonitoringPolicy) -> Found:
    # One alert a channel: an alert that cannot be told by one is told by the other, and raises no further one.
    return [
        Finding(
            one.channel,
            f"Not gone out by {one.channel}: {one.count}, of which {one.refused} refused, the oldest since "
            f"{one.since:%Y-%m-%d %H:%M} UTC; `manual-payout status` names them and says why.",
            f"{one.count} undelivered",
        )
        for one in facts.undelivered
        if one.refused or facts.at - one.since > _UNDELIVERED_AFTER
    ]


def _skewed(facts: WatchedFacts, _policy: MonitoringPolicy) -> Found:
    return [Finding("clock", facts.clocks, "over 60 s")] if facts.clocks else []


def _requested(facts: WatchedFacts, _policy: MonitoringPolicy) -> Found:
    if isinstance(facts.requests, Missing):
        return [facts.requests]
    return [requested(one, facts.at) for one in facts.requests]


def requested(one: OpenRequest, at: datetime) -> Finding:
    """Say that a fallback is requested."""
    summary = f"{one.incident_id}: the automation failed; a fallback of {one.amount} to {one.studio_name} is requested."
    return Finding(one.request_id, summary, f"open for {_span(at - one.filed_at)}")


def _unknown(facts: WatchedFacts, policy: MonitoringPolicy) -> Found:
    said = "{one.incident_id}: {one.question}"
    return _waiting(facts, facts.pending, timedelta(seconds=policy.unknown_after_s), said)


def _unsettled(facts: WatchedFacts, policy: MonitoringPolicy) -> Found:
    said = "{one.incident_id}: {one.amount} to {one.studio_name} has not been seen to arrive ({one.state})"
    return [*facts.blind, *_waiting(facts, facts.unsettled, timedelta(days=policy.unsettled_after_days), said)]


def _exposed(facts: WatchedFacts, policy: MonitoringPolicy) -> Found:
    # Outside live mode no key moves real money, and a rehearsal exposes none.
    if facts.mode is not Mode.LIVE or facts.exposed_since is None:
        return []
    waited = facts.at - facts.exposed_since
    if waited <= timedelta(days=policy.rotation_after_days):
        return []
    sentence = f"The fallback key moved money on {facts.exposed_since:%Y-%m-%d} and was not rotated since."
    return [Finding("fallback key", sentence, _span(waited))]


def _rehearsal(facts: WatchedFacts, policy: MonitoringPolicy) -> Found:
    if isinstance(facts.inventory, Missing):
        return [facts.inventory]
    # The same judgement that a live run makes, so that nobody hears of it for the first time at night.
    standing = standing_of(facts.inventory, facts.procedure, policy, facts.at)
    if standing.good:
        return []
    value = _span(facts.at - standing.last.on) if standing.last else "never"
    return [Finding("rehearsal", f"These notebooks have no green rehearsal that counts now: {standing.found}.", value)]


def _access_review(facts: WatchedFacts, policy: MonitoringPolicy) -> Found:
    if isinstance(facts.inventory, Missing):
        return [facts.inventory]
    last = facts.inventory.access_reviewed_on
    return _overdue(facts, "access review", "access review", last, policy.access_review_every_days)


def _unrehearsed(facts: WatchedFacts, policy: MonitoringPolicy) -> Found:
    if isinstance(facts.inventory, Missing):
        return [facts.inventory]
    found: Found = []
    for handle in facts.approvers:
        took_part = [one for one in dated_until(facts.inventory, facts.at) if handle in one.approvers]
        last = max(took_part, key=lambda one: one.on, default=None)
        what = f"rehearsal with {handle} as approver"
        other = other_notebooks(last, facts.procedure) if last else ""
        found += _overdue(facts, handle, what, last.on if last else None, policy.approver_rehearsal_days, other)
    return found


def _due(above: int | None, within: int) -> Callable[[WatchedFacts, MonitoringPolicy], Found]:
    """Find the credentials that are due within so many days, and not sooner than the next graver rule begins."""

    def find(facts: WatchedFacts, _policy: MonitoringPolicy) -> Found:
        if isinstance(facts.inventory, Missing):
            return [facts.inventory]
        return [
            one
            for credential in facts.inventory.credentials
            for one in judge(facts.at, credential.name, credential.due)
        ]

    def judge(at: datetime, name: str, due: datetime | Missing) -> Found:
        if isinstance(due, Missing):
            return [due]
        left = due - at
        if left > timedelta(days=within) or (above is not None and left <= timedelta(days=above)):
            return []
        sentence = f"{name} is due on {due:%Y-%m-%d}." if above is not None else f"{name} expired on {due:%Y-%m-%d}."
        return [Finding(name[:_SUBJECT_MAX], sentence, f"{left / timedelta(days=1):.1f} days left")]

    return find


def _waiting(facts: WatchedFacts, rows: tuple[Pending, ...], patience: timedelta, said: str) -> Found:
    return [
        Finding(
            one.row_id, f"{said.format(one=one)}, since {one.since:%Y-%m-%d %H:%M} UTC.", _span(facts.at - one.since)
        )
        for one in rows
        if facts.at - one.since > patience
    ]


def _overdue(facts: WatchedFacts, subject: str, what: str, last: datetime | None, days: int, other: str = "") -> Found:
    if last is None:
        return [Finding(subject, f"No {what} is on record.", "never")]
    if last - facts.at >= AHEAD_MAX:
        return [Finding(subject, f"The last {what} is dated {last:%Y-%m-%d}, which is still to come.", "in the future")]
    if facts.at - last <= timedelta(days=days):
        return []
    return [
        Finding(
            subject, f"The last {what} was on {last:%Y-%m-%d}{f', {other}' if other else ''}.", _span(facts.at - last)
        )
    ]


def _at_stripe(facts: WatchedFacts) -> Recent | None:
    return None if isinstance(facts.comparison, Missing) else facts.comparison.at_stripe


def _span(waited: timedelta) -> str:
    minutes = int(waited.total_seconds() // 60)
    if minutes < 120:
        return f"{minutes} minutes"
    return f"{minutes // 60} hours" if minutes < 72 * 60 else f"{minutes // 1440} days"


def rotations_of(inventory: Inventory | Missing) -> tuple[datetime, ...]:
    """Return the key rotations that the inventory knows of."""
    return () if isinstance(inventory, Missing) else inventory.rotations


# What could not be gathered, whatever rule missed it.
NO_DATA = Rule(
    "no-data", Severity.ERROR, lambda _: "a fact that a rule needs cannot be gathered",
    "manual_payout_no_data", lambda _facts, _policy: [],
)  # fmt: skip

# Raised at once when a request is filed, too: see `filing`.
REQUESTED = Rule(
    "fallback-requested", Severity.ERROR, lambda _: "any fallback request that is open",
    "manual_payout_open_requests", _requested,
)  # fmt: skip

ALERT_RULES: tuple[Rule, ...] = (
    Rule("payout-outside-runbook", Severity.CRITICAL,
         lambda p: f"any transfer in {p.window_days} days that is neither ours nor the automation's",
         "manual_payout_outside_runbook", _outside),
    Rule("transfer-not-at-stripe", Severity.CRITICAL,
         lambda p: f"any transfer of our table in {p.window_days} days that Stripe does not list",
         "manual_payout_not_at_stripe", _vanished),
    Rule("message-not-written", Severity.CRITICAL,
         lambda _: "any message of the outbox that is not what the journal says was written",
         "manual_payout_disbelieved_messages", _unwritten_by_us),
    Rule("outcome-unknown", Severity.CRITICAL,
         lambda p: f"not known for over {p.unknown_after_s // 60} minutes", "manual_payout_unknown_outcomes", _unknown),
    Rule("credential-expired", Severity.CRITICAL, lambda _: "expired", "manual_payout_credential_left_seconds", _due(None, 0)),
    Rule("credential-due-7", Severity.ERROR, lambda _: "due within 7 days", "manual_payout_credential_left_seconds", _due(0, 7)),
    REQUESTED,
    Rule("message-undelivered", Severity.ERROR, lambda _: "any message that a provider refused, or that waits for over an hour",
         "manual_payout_undelivered_messages", _undelivered),
    Rule("settlement-overdue", Severity.ERROR, lambda p: f"not settled {p.unsettled_after_days} days after the transfer",
         "manual_payout_unsettled", _unsettled),
    Rule("key-not-rotated", Severity.ERROR,
         lambda p: f"not rotated {p.rotation_after_days} days after a real payout or reversal", "manual_payout_key_exposed_seconds", _exposed),
    Rule("repeated-payouts", Severity.WARNING, lambda p: f"more than {p.payouts_max} within {p.window_days} days",
         "manual_payout_recent_payouts", _repeated),
    Rule("repeated-payouts-studio", Severity.WARNING,
         lambda p: f"more than {p.payouts_max} to one studio within {p.window_days} days",
         "manual_payout_repeated_studios", _repeated_studio),
    Rule("credential-due-14", Severity.WARNING, lambda _: "due within 14 days", "manual_payout_credential_left_seconds", _due(7, 14)),
    Rule("clock-skew", Severity.WARNING, lambda _: "this machine's clock is over a minute from the database's",
         "manual_payout_clock_skew", _skewed),
    Rule("rehearsal-overdue", Severity.WARNING, lambda p: f"no green rehearsal of these notebooks within {p.rehearsal_every_days} days",
         "manual_payout_rehearsal_age_seconds", _rehearsal),
    Rule("access-review-overdue", Severity.WARNING, lambda p: f"no access review within {p.access_review_every_days} days",
         "manual_payout_access_review_age_seconds", _access_review),
    Rule("approver-unrehearsed", Severity.WARNING,
         lambda p: f"an approver without a rehearsal within {p.approver_rehearsal_days} days",
         "manual_payout_unrehearsed_approvers", _unrehearsed),
    Rule("credential-due-30", Severity.INFO, lambda _: "due within 30 days", "manual_payout_credential_left_seconds", _due(14, 30)),
)  # fmt: skip
