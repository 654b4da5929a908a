"""
How far the money has come: the ladder behind the SOP's word *paid*.

A transfer has no status. The ladder names what can be shown: *accepted* (the transfer exists and is not reversed) →
*settled on the platform* (its balance transaction) → *usable by the studio* (the destination payment's balance
transaction) → *paid to the bank* (a payout that contains it). A rung that the key cannot see is said to be invisible,
with what to grant. Sources: Stripe API reference, *Transfers*, *Balance transactions*, *Payouts*; documentation,
*Receive payouts*.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from manual_payout.desk.wiring import Desk
from manual_payout.domain.errors import StripeRefusedError
from manual_payout.domain.models import PayoutRecord
from manual_payout.domain.money import Money
from manual_payout.gateway import NOT_PERMITTED, Gateway

# A payout that shows `paid` can still flip to `failed` for up to five business days (*Receive payouts*); a week holds
# five business days.
FINAL_AFTER = timedelta(days=7)

# In the metadata of a payout that is made by hand for one transfer; what it contains, Stripe shows to nobody otherwise.
PAYOUT_METADATA_KEY = "manual_payout_transfer"


class RungName(StrEnum):
    """The rungs, lowest first."""

    ACCEPTED = "accepted"
    SETTLED_ON_PLATFORM = "settled_on_platform"
    USABLE_BY_STUDIO = "usable_by_studio"
    PAID_TO_BANK = "paid_to_bank"


# What a key needs in order to see each rung, as the Dashboard names it; for the last two on connected accounts.
# Source: Stripe documentation, *Restricted API keys* and *Permissions reference*.
RUNG_NEEDS: Mapping[RungName, str] = MappingProxyType(
    {
        RungName.ACCEPTED: "Transfers: Read, which Transfers: Write includes",
        RungName.SETTLED_ON_PLATFORM: "Balance transactions: Read",
        RungName.USABLE_BY_STUDIO: "Connect → Balance transactions: Read",
        RungName.PAID_TO_BANK: "Connect → Payouts and Balance transactions: Read",
    }
)


class Reached(StrEnum):
    """What is known of a rung."""

    YES = "reached"
    NOT_YET = "not yet"
    FAILED = "failed"
    INVISIBLE = "not visible to this key"


@dataclass(frozen=True, slots=True)
class Rung:
    """
    One rung and what shows it.

    Attributes:
        at: When it was or will be reached, where Stripe says so.

        shown_by: The id of Stripe's object that shows it.

        note: What a person should know or do.
    """

    name: RungName
    reached: Reached
    at: datetime | None
    shown_by: str
    note: str


@dataclass(frozen=True, slots=True)
class Ladder:
    """
    The four rungs as seen at one instant.

    What came back of the transfer is no rung: the rest of it climbs on.

    Attributes:
        reversed_minor: How much of the transfer has come back, in minor units.

        whole: Whether all of it has.
    """

    seen_at: datetime
    rungs: tuple[Rung, ...]
    reversed_minor: int = 0
    whole: bool = False

    @property
    def top(self) -> RungName | None:
        """The highest rung reached."""
        reached = [rung.name for rung in self.rungs if rung.reached is Reached.YES]
        return reached[-1] if reached else None

    @property
    def failed(self) -> Rung | None:
        """The highest rung that failed, if any: the money went back a rung, and nothing is ever sent again for it."""
        return next((rung for rung in reversed(self.rungs) if rung.reached is Reached.FAILED), None)

    def done(self, rung: RungName) -> bool:
        """Whether *rung* is reached by what did not come back, and nothing failed."""
        order = list(RungName)
        reached = self.top is not None and order.index(self.top) >= order.index(rung)
        return reached and self.failed is None and not self.whole

    def blocked(self, rung: RungName) -> Rung | None:
        """The invisible rung at or below *rung* that keeps it from ever being shown with this key."""
        order = list(RungName)
        below = [r for r in self.rungs if order.index(r.name) <= order.index(rung)]
        return next((r for r in below if r.reached is Reached.INVISIBLE), None)


def look(desk: Desk, record: PayoutRecord) -> Ladder:
    """
    Ask Stripe how far the money has come, once. Reads only.

    Raises:
        StripeRefusedError: The transfer itself cannot be read.
    """
    assert record.stripe_transfer_id is not None, "Bug: settlement is watched for paid records only"
    transfer_id = record.stripe_transfer_id
    transfer = desk.read(lambda stripe: stripe.get_transfer(transfer_id))
    rungs = [
        _accepted(transfer),
        _visible(RungName.SETTLED_ON_PLATFORM, lambda: _platform(desk.watcher, transfer)),
    ]
    rungs.append(_visible(RungName.USABLE_BY_STUDIO, lambda: _usable(desk.watcher, transfer)))
    rungs.append(_visible(RungName.PAID_TO_BANK, lambda: _bank(desk.watcher, transfer)))
    return Ladder(desk.now(), tuple(rungs), transfer["amount_reversed"], bool(transfer["reversed"]))


def _accepted(transfer: dict[str, Any]) -> Rung:
    note = "The transfer exists and is not reversed."
    if transfer["amount_reversed"]:
        back, whole = (Money(transfer[name], transfer["currency"]) for name in ("amount_reversed", "amount"))
        note = f"The transfer exists; {back.grouped} of {whole.grouped} have come back."
    return Rung(RungName.ACCEPTED, Reached.YES, _instant(transfer["created"]), transfer["id"], note)


def _platform(gateway: Gateway, transfer: dict[str, Any]) -> Rung:
    name = RungName.SETTLED_ON_PLATFORM
    entry = gateway.get_transfer(transfer["id"], expand=("balance_transaction",))["balance_transaction"]
    if entry["status"] == "available":
        return Rung(
            name, Reached.YES, _instant(entry["available_on"]), entry["id"], "It has left the platform's balance."
        )
    return Rung(
        name, Reached.NOT_YET, _instant(entry["available_on"]), entry["id"], "It leaves the platform's balance then."
    )


def _usable(gateway: Gateway, transfer: dict[str, Any]) -> Rung:
    name = RungName.USABLE_BY_STUDIO
    entry = gateway.payments_balance(transfer["destination"], transfer["destination_payment"])
    if entry is None:
        return Rung(name, Reached.NOT_YET, None, "", "The studio's account shows no balance transaction of it yet.")
    if entry["status"] == "available":
        return Rung(name, Reached.YES, _instant(entry["available_on"]), entry["id"], "The studio's balance has it.")
    return Rung(
        name, Reached.NOT_YET, _instant(entry["available_on"]), entry["id"], "It becomes available to the studio then."
    )


def _bank(gateway: Gateway, transfer: dict[str, Any]) -> Rung:
    name, account = RungName.PAID_TO_BANK, transfer["destination"]
    note = "No payout that contains it yet; on a manual schedule there may never be one."
    for payout in gateway.payouts_since(account, transfer["created"]):
        if not payout["automatic"] and _says_it_holds(payout, transfer):
            return _payout_rung(payout)
        # Only automatic payouts can be itemised, and only once Stripe has reconciled them.
        itemised = payout["automatic"] and payout["reconciliation_status"] == "completed"
        if itemised and gateway.payout_holds(account, payout["id"], transfer["destination_payment"]):
            return _payout_rung(payout)
        if not payout["automatic"] and payout["status"] == "failed":
            note = _failed_by_hand(payout)
    return Rung(name, Reached.NOT_YET, None, "", note)


def _says_it_holds(payout: dict[str, Any], transfer: dict[str, Any]) -> bool:
    """Whether a payout made by hand names the transfer in its metadata, and is large enough to hold it."""
    named = (payout["metadata"] or {}).get(PAYOUT_METADATA_KEY) == transfer["id"]
    return bool(
        named
        and payout["currency"] == transfer["currency"]
        and payout["amount"] >= transfer["amount"] - transfer["amount_reversed"]
    )


def _failed_by_hand(payout: dict[str, Any]) -> str:
    # Told, and not taken for this transfer's: what a payout made by hand contains, Stripe shows to nobody.
    return (
        f"A payout made by hand since, {payout['id']}, failed ({payout['failure_code'] or 'no reason given'}); whether it held "
        "this transfer cannot be shown. If it did, the money is back in the studio's Stripe balance: the studio corrects its "
        "bank details; never send again."
    )


def _payout_rung(payout: dict[str, Any]) -> Rung:
    name, arrival = RungName.PAID_TO_BANK, _instant(payout["arrival_date"])
    if payout["status"] == "paid":
        note = f"Stripe can still take it back until {arrival + FINAL_AFTER:%Y-%m-%d}; keep watching, never send again."
        return Rung(name, Reached.YES, arrival, payout["id"], note)
    if payout["status"] in {"failed", "canceled"}:
        why = payout["failure_message"] or payout["status"]
        note = f"{why} The money is back in the studio's Stripe balance: the studio corrects its bank details; never send again."
        return Rung(name, Reached.FAILED, arrival, payout["id"], note)
    return Rung(name, Reached.NOT_YET, arrival, payout["id"], f"The payout is {payout['status'].replace('_', ' ')}.")


def _visible(name: RungName, read: Callable[[], Rung]) -> Rung:
    try:
        return read()
    except StripeRefusedError as error:
        # Only a permission that is not granted makes a rung invisible. A busy or failing Stripe shows it a minute later.
        if error.code != NOT_PERMITTED:
            raise
        note = f"Set STRIPE_READ_SECRET_KEY to a read-only key (grant {RUNG_NEEDS[name]}), or look in the Dashboard."
        return Rung(name, Reached.INVISIBLE, None, "", note)


def _instant(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
