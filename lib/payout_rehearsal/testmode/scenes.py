"""The scenes of a rehearsal: for each a studio, what is owed to it, and the parameters of its incident."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from manual_payout.domain.models import Reason
from manual_payout.domain.money import Money, parse
from manual_payout.domain.parameters import Parameters, validate
from manual_payout.ledger import PayoutDue, StudioBalance
from payout_rehearsal.demo import incident
from payout_rehearsal.demo.ledger import DemoLedger
from payout_rehearsal.testmode.seeding import CURRENCY, Studio

_REASON = Reason.SCHEDULER_OUTAGE.value
# By how much a scene asks for more than there is.
BEYOND = Money(100_000, CURRENCY)


@dataclass(frozen=True, slots=True)
class TestModeScene:
    """
    One scene.

    Attributes:
        amount: In major units; of `insufficient_balance` it is found out when the balance is known.

        sends: Whether money is to be moved in it.

        connected: Whether its studio has an account of this platform; else it is nobody's.
    """

    studio: Studio
    amount: str
    sends: bool = True
    connected: bool = True


_SCENES = (
    TestModeScene(Studio("incident", "Harbor Light Pottery"), "1250.75"),
    TestModeScene(Studio("answer_lost", "Driftwood Clay Studio"), "842.10"),
    TestModeScene(Studio("killed_kernel", "Copper Kettle Glassworks"), "613.40"),
    TestModeScene(Studio("stale_approval", "Foxglove Letterpress"), "478.00"),
    TestModeScene(Studio("wrong_account", "Cedar Hollow Woodshop"), "955.25"),
    TestModeScene(Studio("not_connected", "Tide & Timber Print Shop"), "287.30", connected=False),
    TestModeScene(Studio("insufficient_balance", "Blue Heron Weavers"), "0", sends=False),
    TestModeScene(Studio("payout_fails", "Alder Lane Ceramics", bank="no_account"), "320.60"),
)
# An account id that Stripe never gave to anybody, in its own form.
NOBODYS_ACCOUNT = "acct_1RehearsalNobody"

# What a scene is called elsewhere.
_ALSO = {"failing_later": "payout_fails"}

SCENES = tuple(scene.studio.role for scene in _SCENES)


# By less than this many cents the amounts of two rehearsals differ.
APART_MINOR = 1000


def scene_name(name: str) -> str:
    """Return the name of a scene as it stands here: with underscores, and by one name each."""
    plain = str(name).replace("-", "_")
    return _ALSO.get(plain, plain)


def scenes_of(names: Sequence[str]) -> list[TestModeScene]:
    """Return the scenes of these names, in the order in which they are told."""
    wanted = {scene_name(name) for name in names}
    return [scene for scene in _SCENES if scene.studio.role in wanted]


def needed(scenes: Sequence[TestModeScene]) -> Money:
    """Return what the platform must have available for all of *scenes* that move money."""
    return Money(sum(parse(one.amount, CURRENCY).amount_minor + APART_MINOR for one in scenes if one.sends), CURRENCY)


def due(scene: TestModeScene, account: str, available: Money, now: datetime) -> PayoutDue:
    """
    Return the ledger's row of a payout that the automation failed at two hours before *now*.

    Its id is new every time: Stripe lists transfers by it, and must not show those of an earlier rehearsal. So is its
    amount, by some cents: the studio's account is used again, and an equal transfer of an hour ago would pass for this payout.

    Args:
        account: The studio's connected account.

        available: What the platform has.
    """
    owed_minor = parse(scene.amount, CURRENCY).amount_minor + int(now.timestamp()) % APART_MINOR
    amount = Money(owed_minor if scene.sends else available.amount_minor + BEYOND.amount_minor, CURRENCY)
    failed_at = now - timedelta(hours=2)
    end = failed_at.date() - timedelta(days=1)
    return PayoutDue(
        ledger_payout_id=str(uuid.uuid4()),
        studio_id=str(uuid.uuid5(uuid.NAMESPACE_OID, f"manual-payout rehearsal {scene.studio.role}")),
        studio_name=scene.studio.name,
        studio_email=scene.studio.email,
        studio_locale="en_US",
        amount_minor=amount.amount_minor,
        currency=CURRENCY,
        destination_account=account,
        destination_changed_at=None,
        period_start=end - timedelta(days=13),
        period_end=end,
        due_at=failed_at,
        status="failed",
        failure_reason=_REASON,
        failed_at=failed_at,
        paid_at=None,
        claimed_by=None,
        claimed_at=None,
        standing="failed",
    )


def ledger_of(rows: Sequence[PayoutDue], now: datetime) -> DemoLedger:
    """Return the ledger that owes *rows*; each studio's reserve stays as in the demo's incident."""
    after = parse(incident.RESERVE_AFTER, CURRENCY).amount_minor
    minimum = parse(incident.RESERVE_MINIMUM, CURRENCY).amount_minor
    balances = [StudioBalance(row.studio_id, CURRENCY, row.amount_minor + after, minimum, now) for row in rows]
    return DemoLedger(0, (), tuple(rows), tuple(balances))


def closing_of(now: datetime, review_days_max: int) -> dict[str, str | bool]:
    """
    Return the parameters of 6-close that a rehearsal's incident is closed with; its dates are to come, from *now*.

    Args:
        review_days_max: In how many days the next access review has to be at the latest.
    """
    due_on, review_on = (now + timedelta(days=14)).date(), (now + timedelta(days=review_days_max)).date()
    return {
        "root_cause": "A rehearsal: nothing had failed.",
        "follow_ups": f"Look at the figures of this rehearsal, Tomas Lindqvist, {due_on}",
        "automation_restored": True,
        "key_rotated_to": "",
        "access_review_on": f"{review_on}",
    }


def cases_of(rows: Mapping[str, PayoutDue], now: datetime) -> dict[str, Parameters]:
    """Return the parameters of each scene's incident, as its request would be typed."""
    return {
        name: validate(
            {
                "incident_id": f"REH-{now:%Y%m%d%H%M}N{number}",
                "studio_id": row.studio_id,
                "studio_name": row.studio_name,
                "ledger_payout_id": row.ledger_payout_id,
                "amount": row.amount.text,
                "reserve_after": incident.RESERVE_AFTER,
                "reason": _REASON,
                "destination_account": row.destination_account,
                "notes": f"Rehearsal in Stripe's test mode: {name.replace('_', ' ')}",
                "operator": incident.OPERATOR,
                "dry_run": True,
                "confirm": "",
            }
        )
        for number, (name, row) in enumerate(rows.items(), start=1)
    }
