"""
Follow the money: one payout until its run's patience ends, or every unfinished payout a look at a time.

Both write what they see into the journal in one way. Stripe allots reads by the number of payments, so pauses double
between two looks at one payout, and one round of looks has an end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from manual_payout.database.waiting import pass_time
from manual_payout.desk.wiring import Desk
from manual_payout.domain.account import unexplained_minor
from manual_payout.domain.errors import (
    DatabaseError,
    EvidenceError,
    ManualPayoutError,
    SettingsError,
    StripeRefusedError,
)
from manual_payout.domain.models import PayoutRecord
from manual_payout.domain.money import Money
from manual_payout.transfer.settlement.ladder import FINAL_AFTER, Ladder, RungName, look

# One look is some six reads; a round of them stays far below a second's allotment of Stripe's, spread over minutes.
LOOKS_MAX = 50

# After one of these the next payout's look would fail in the same way.
_EVERYBODY = frozenset({"unreachable", "rate_limit", "lock_timeout"})


@dataclass(frozen=True, slots=True)
class Round:
    """
    One round of looks.

    Attributes:
        looked: How many payouts were looked at.

        changed: Those whose row is another one now: a rung reached or lost, or money that came back.

        blind: What could not be looked at, and why: a payout's settlement, or Stripe where that concerns everybody.

        left: How many are due and were left for the next round.
    """

    looked: int
    changed: tuple[PayoutRecord, ...]
    blind: tuple[tuple[str, str], ...]
    left: int


def watch(desk: Desk, record: PayoutRecord, *, seen: Callable[[Ladder], object]) -> Ladder:
    """
    Follow the money until the policy's rung is reached, it fails, nothing more can be seen, or the patience ends.

    Pauses double from `poll_first_s` to `poll_pause_max_s`.

    Args:
        seen: Called with every ladder, so that what was seen is recorded even if the watch is interrupted.

    Returns:
        The last ladder.
    """
    rules = desk.settings.policy.settlement
    goal, pause_s, waited_s = RungName(rules.done_rung), rules.poll_first_s, 0.0
    while True:
        ladder = look(desk, record)
        seen(ladder)
        over = ladder.done(goal) or ladder.failed is not None or ladder.whole or ladder.blocked(goal) is not None
        if over or waited_s + pause_s > rules.poll_limit_s:
            return ladder
        pass_time(desk.clock, pause_s, f"Not {goal.value.replace('_', ' ')} yet; Stripe is asked again.")
        waited_s += pause_s
        pause_s = min(2 * pause_s, rules.poll_pause_max_s)


def note(desk: Desk, record: PayoutRecord, seen: Ladder, *, actor: str) -> PayoutRecord:
    """
    Write into the journal what was seen, where it differs from what was seen last; announce what people must hear.

    Money that came back is recorded with it, so that a reversal made in the Dashboard shows here too.

    Returns:
        The record as it is now.
    """
    if seen.reversed_minor:
        record = desk.store.record_reversed(record, seen.reversed_minor, actor=actor)
    told = observation(desk, record, seen)
    return record if told is None else desk.store.record_settlement(record, **told, actor=actor)


def observation(desk: Desk, record: PayoutRecord, seen: Ladder) -> dict[str, Any] | None:
    """
    Return what the journal is told of a ladder; None where all of the money was taken back here, and nothing is left to follow.

    What came back by no reversal that was approved here counts as failed, at the lowest rung.
    """
    top = seen.top or RungName.ACCEPTED
    shown = next(rung for rung in seen.rungs if rung.name is top)
    reversals = desk.store.reversals_of(stripe_transfer_id=str(record.stripe_transfer_id))
    extra = unexplained_minor(record.stripe_transfer_id, seen.reversed_minor, reversals)
    data = {"shown_by": shown.shown_by, "note": shown.note, "failed": bool(extra) or seen.failed is not None}
    if extra:
        back = Money(extra, record.amount.currency).grouped
        note = f"{back} of it came back without a reversal that was approved here."
        data |= {
            "failed_rung": RungName.ACCEPTED.value,
            "note": note,
            "came_back_minor": extra,
            "partly": not seen.whole,
        }
    elif seen.whole:
        return None
    elif seen.failed is not None:
        data |= {"failed_rung": seen.failed.name.value, "note": seen.failed.note}
    done = seen.done(RungName(desk.settings.policy.settlement.done_rung))
    return {"rung": top.value, "done": done, "data": data}


def follow_due(desk: Desk, *, actor: str, limit: int = LOOKS_MAX) -> Round:
    """
    Look once at every payout whose next look is due: unsettled ones, and settled ones that can still flip to failed.

    Args:
        actor: In whose name the journal is written.

        limit: How many payouts one round looks at, the longest waiting first.

    Raises:
        DatabaseError: Ours does not answer. A failing Stripe raises nothing; it is in the round's `blind`.
    """
    mode = desk.settings.mode
    due = desk.store.due_looks(mode, settled_within=FINAL_AFTER, limit=limit + 1)
    changed: list[PayoutRecord] = []
    blind: list[tuple[str, str]] = []
    looked = 0
    for record, looks in due[:limit]:
        looked += 1
        desk.store.record_look(record, next_look_after=_pause(desk, record, looks))
        try:
            seen = look(desk, record)
            present = note(desk, record, seen, actor=actor)
        except (StripeRefusedError, EvidenceError, SettingsError) as error:
            if isinstance(error, DatabaseError):
                raise
            # Due again at once: a round that does not look could not say that it is still not seen.
            desk.store.record_blind_look(record)
            everybody = _concerns_everybody(error)
            blind.append(("Stripe" if everybody else _settlement_of(record), error.message))
            if everybody:
                break
            continue
        if hidden := _hidden(desk, seen):
            desk.store.record_blind_look(record)
            blind.append((_settlement_of(record), hidden))
        if (present.state, present.settlement_rung, present.settled_at) != (
            record.state, record.settlement_rung, record.settled_at,
        ):  # fmt: skip
            changed.append(present)
    return Round(looked, tuple(changed), tuple(blind), len(due) - looked)


def _hidden(desk: Desk, seen: Ladder) -> str:
    """Say what keeps the policy's rung from ever being seen with this key; empty where nothing does."""
    goal = RungName(desk.settings.policy.settlement.done_rung)
    blocked = None if seen.done(goal) or seen.whole or seen.failed is not None else seen.blocked(goal)
    return f"{blocked.name.value.replace('_', ' ')} is not visible to this key. {blocked.note}" if blocked else ""


def _settlement_of(record: PayoutRecord) -> str:
    return f"settlement of {record.incident_id}"


def _pause(desk: Desk, record: PayoutRecord, looks: int) -> timedelta:
    rules = desk.settings.policy.settlement
    if record.settled_at is not None:
        return timedelta(seconds=rules.poll_pause_max_s)
    return timedelta(seconds=min(rules.poll_first_s * 2.0 ** min(looks, 30), rules.poll_pause_max_s))


def _concerns_everybody(error: ManualPayoutError) -> bool:
    return isinstance(error, SettingsError) or getattr(error, "code", "") in _EVERYBODY
