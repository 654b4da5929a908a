"""
Whether the procedure at hand was rehearsed lately: one judgement for the live run and for the monitor. Pure.

Source: the procedure's *Rehearsal Procedure* (quarterly). What was rehearsed is the procedure as it was; notebooks that
were changed since have not been rehearsed, whatever the calendar says.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from manual_payout.desk.inventory.entries import Inventory, Missing, Rehearsed
from manual_payout.desk.settings import MonitoringPolicy

_REHEARSE = "Run `manual-payout rehearse` and have its result written into the inventory."

_MEND_INVENTORY = "Name the reviewed inventory in MANUAL_PAYOUT_INVENTORY, and correct what cannot be read."

# An entry is a calendar day of whoever wrote it; east of Greenwich that day begins earlier than ours.
AHEAD_MAX = timedelta(days=1)

_DIGITS = 8


@dataclass(frozen=True, slots=True)
class RehearsalStanding:
    """
    How the last rehearsal stands.

    Attributes:
        good: Whether it was green, of these notebooks, and not too long ago.

        found: The reason in a clause, without a full stop.

        remedy: What to do about it; empty when it is good.

        last: The rehearsal that the clause is about, or None.
    """

    good: bool
    found: str
    remedy: str
    last: Rehearsed | None


def standing_of(
    inventory: Inventory | Missing, procedure: str, policy: MonitoringPolicy, at: datetime
) -> RehearsalStanding:
    """
    Judge the rehearsals on record.

    The newest rehearsal of these notebooks decides, so that a red one takes back what an earlier green one said; of two on
    one day the green one counts, since that is how a day ends on which a rehearsal was repeated. What is dated in the
    future counts for nothing.

    Args:
        procedure: The digest of the notebooks at hand (`reviewed.procedure_digest`).

        policy: ``rehearsal_every_days``, and whether only those against Stripe's test mode count.
    """
    if isinstance(inventory, Missing):
        return RehearsalStanding(False, f"not known: {inventory.reason.rstrip('.')}", _MEND_INVENTORY, None)
    known = dated_until(inventory, at)
    if not known:
        return RehearsalStanding(False, "none is on record", _REHEARSE, None)
    of_these = [one for one in known if one.procedure == procedure]
    if not of_these:
        return _of_others(known[-1], procedure)
    counting = [one for one in of_these if one.target == "stripe" or not policy.rehearsal_at_stripe]
    if not counting:
        found = f"the last one, on {of_these[-1].on:%Y-%m-%d}, did not run against Stripe's test mode"
        return RehearsalStanding(
            False, found, _REHEARSE.replace("rehearse`", "rehearse --target stripe`"), of_these[-1]
        )
    return _of_these(counting[-1], policy.rehearsal_every_days, at)


def last_green(inventory: Inventory, procedure: str, at: datetime) -> datetime | None:
    """Return the day of the last green rehearsal of these notebooks, however long ago and wherever it ran."""
    return max((one.on for one in dated_until(inventory, at) if one.green and one.procedure == procedure), default=None)


def other_notebooks(one: Rehearsed, procedure: str) -> str:
    """Say in a clause that a rehearsal was of other notebooks than these; empty where it was not."""
    if one.procedure == procedure:
        return ""
    if not one.procedure:
        return "which does not say of which notebooks"
    return f"of other notebooks ({one.procedure[:_DIGITS]}…; these are {procedure[:_DIGITS]}…)"


def dated_until(inventory: Inventory, at: datetime) -> list[Rehearsed]:
    """Return the rehearsals that are not dated in the future, in their order."""
    return sorted((one for one in inventory.rehearsals if one.on - at < AHEAD_MAX), key=lambda one: (one.on, one.green))


def _of_others(last: Rehearsed, procedure: str) -> RehearsalStanding:
    if not last.procedure:
        found = f"the last one, on {last.on:%Y-%m-%d}, does not say of which notebooks"
        return RehearsalStanding(
            False, found, f"Add `procedure` to its entry if it was of these notebooks. {_REHEARSE}", last
        )
    found = f"the last one, on {last.on:%Y-%m-%d}, was {other_notebooks(last, procedure)}"
    return RehearsalStanding(False, found, _REHEARSE, last)


def _of_these(last: Rehearsed, every_days: int, at: datetime) -> RehearsalStanding:
    if not last.green:
        return RehearsalStanding(
            False, f"the last one, on {last.on:%Y-%m-%d}, was red", f"Mend what it found. {_REHEARSE}", last
        )
    age = at - last.on
    if age > timedelta(days=every_days):
        found = f"the last green one was on {last.on:%Y-%m-%d}, {age.days} days ago"
        return RehearsalStanding(False, found, _REHEARSE, last)
    days = {0: "today", 1: "yesterday"}.get(max(age.days, 0), f"{age.days} days ago")
    return RehearsalStanding(True, f"green on {last.on:%Y-%m-%d}, {days}", "", last)
