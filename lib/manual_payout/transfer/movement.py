"""What differs between sending money and taking it back; all else of the way to a known outcome is the same."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from manual_payout.approval.others import equal_to
from manual_payout.approval.policy import acknowledge_remedy
from manual_payout.database.store.shapes import R
from manual_payout.desk.wiring import Desk
from manual_payout.domain.intent import is_own
from manual_payout.domain.models import PayoutRecord, ReversalRecord, State
from manual_payout.gateway import Answer


def post(desk: Desk, record: PayoutRecord | ReversalRecord) -> Answer:
    """Make the one HTTP attempt that moves money: out for a payout, back for a reversal."""
    payload, key = json.loads(record.payload), record.idempotency_key
    if isinstance(record, ReversalRecord):
        return desk.gateway.create_reversal(record.stripe_transfer_id, payload, idempotency_key=key)
    return desk.gateway.create_transfer(payload, idempotency_key=key)


def listed(desk: Desk, record: PayoutRecord | ReversalRecord) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """
    Ask Stripe what it has: this line's own, and foreign ones that stand in the way. Reads only.

    Of a payout these are the transfers of the ledger payout's group, reversed ones excepted; one whose id is on record
    is this line's own, wherever Stripe has filed it. Of a reversal they are the transfer's reversals, none of which
    stands in the way: Stripe itself never takes back more than the transfer.
    """
    if isinstance(record, ReversalRecord):
        return [one for one in desk.gateway.reversals_of(record.stripe_transfer_id) if is_own(one, record.line_id)], []
    transfers = desk.gateway.transfers_in_group(record.transfer_group)
    known = record.stripe_transfer_id
    # What this machine noted while the database was away is asked for by name, and judged like any other.
    for name in {known, desk.spool.find(record)} - {None, *(transfer["id"] for transfer in transfers)}:
        transfers.append(desk.gateway.get_transfer(str(name)))
    own = [t for t in transfers if t["id"] == known or is_own(t, record.payout_id)]
    foreign = [t for t in transfers if t not in own and not t["reversed"]]
    return own, foreign


@dataclass(frozen=True, slots=True)
class Change:
    """What has changed since the approvals, so that nothing may be sent: a code for the record, a sentence, a remedy."""

    code: str
    message: str
    remedy: str


def changed_since(desk: Desk, record: PayoutRecord | ReversalRecord) -> Change | None:
    """
    Say what makes a sending another one than was approved. Reads only.

    Of a payout: a colleague has made a transfer of the same amount since, in the Dashboard. Of a reversal: something else
    of the transfer came back; two reversals of one transfer wait for each other only while one of them is open, and another
    can begin and end between this one's verification and its intent. Called where Stripe lists nothing of this line's own.
    """
    if isinstance(record, ReversalRecord):
        return _came_back(desk, record)
    equal = equal_to(desk, record)
    if not equal:
        return None
    message = f"Stripe shows {', '.join(map(str, equal))} to the same account, which nobody explains and which may be this payout"
    return Change("paid_by_hand", message, acknowledge_remedy(equal, begun=record.sent))


def _came_back(desk: Desk, record: ReversalRecord) -> Change | None:
    back = desk.gateway.get_transfer(record.stripe_transfer_id)["amount_reversed"]
    if back == record.reversed_before_minor:
        return None
    message = (
        f"{back} minor units of {record.stripe_transfer_id} are reversed by now, {record.reversed_before_minor} were when "
        "this was requested"
    )
    return Change("came_back_since", message, "Look at the transfer in the Dashboard, then file another request.")


def present(desk: Desk, record: R) -> R | None:
    """Read the row of *record* as it is now."""
    if isinstance(record, ReversalRecord):
        return desk.store.find_reversal(record.reversal_id)
    return desk.store.find_payout(record.payout_id)


def noun(record: PayoutRecord | ReversalRecord) -> str:
    """Name what is made."""
    return "reversal" if isinstance(record, ReversalRecord) else "transfer"


def subject(record: PayoutRecord | ReversalRecord) -> str:
    """Name what it is made for."""
    return record.stripe_transfer_id if isinstance(record, ReversalRecord) else record.ledger_payout_id


def end_state(record: PayoutRecord | ReversalRecord, made: dict[str, Any]) -> State:
    """Say how the row ends where Stripe made what was meant; a transfer may have come back meanwhile."""
    if isinstance(record, ReversalRecord) or made["reversed"]:
        return State.REVERSED
    return State.PARTLY_REVERSED if made["amount_reversed"] else State.PAID
