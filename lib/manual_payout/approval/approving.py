"""
What an approver is shown before typing a yes: facts fetched afresh, effects rather than inputs.
"""

from __future__ import annotations

from datetime import UTC, datetime
from statistics import median

from manual_payout.approval.others import since, unexplained
from manual_payout.approval.policy import LEDGER_SKEW_MAX, balance_at
from manual_payout.approval.verification import rehearsal_at
from manual_payout.desk.inventory import SHOWN
from manual_payout.desk.people import Person
from manual_payout.desk.wiring import Desk
from manual_payout.domain.display import Table, facts_table
from manual_payout.domain.errors import (
    DatabaseError,
    EvidenceError,
    PolicyRefusedError,
    SettingsError,
    StripeRefusedError,
)
from manual_payout.domain.intent import in_the_way, other_transfer, transfer_group, unacknowledged
from manual_payout.domain.models import PayoutRecord, Request, stream_of
from manual_payout.domain.money import Money
from manual_payout.ledger import PayoutDue, StudioBalance

# Of the earlier payouts; the number of all is always said.
_SHOWN = 3


def facts_for_approver(desk: Desk, incident_id: str, ledger_payout_id: str) -> Table:
    """
    Show what this payout would do: before and after, the destination, how unusual it is, and what else was sent there.

    Reads only. Without a key for Stripe on this machine that last row says so; the send looks again in any case.

    Raises:
        PolicyRefusedError: There is no such request, or the ledger does not know the payout.
    """
    request = desk.store.find_request(incident_id, ledger_payout_id)
    due = desk.ledger.find_payout_due(ledger_payout_id)
    if request is None or due is None:
        raise PolicyRefusedError(
            f"{incident_id} has no request for a payout that the ledger knows.", "Check the ticket."
        )
    line = request.line_for(ledger_payout_id)
    balance = desk.ledger.find_balance(due.studio_id, due.currency)
    earlier = desk.store.payouts_of(studio_id=line.studio_id, mode=request.mode.value)
    facts = {
        "studio": f"{due.studio_name} ({due.studio_id})",
        "amount requested": line.amount.grouped,
        "amount the ledger owes": due.amount.grouped,
        "balance before → after": _effect(balance.balance, line.amount) if balance else "no balance in the ledger",
        "balance computed": _computed(desk, balance),
        "minimum reserve": balance.reserve_minimum.grouped if balance else "unknown",
        "destination requested": line.destination_account,
        "destination on file": due.destination_account,
        "destination last changed": _since(due.destination_changed_at, desk.now()),
        "ledger status": f"{due.status}{f', {due.failure_reason}' if due.failure_reason else ''}",
        "other transfers to this account": _others(desk, request, due),
        "how unusual": _unusual(desk, due, line.amount),
        "earlier manual payouts to this studio": _listed(earlier),
        "reason and notes": f"{request.reason.value}: {request.notes}",
        "requested by": desk.registry.name_of(request.requested_by),
        "rehearsal": _rehearsal(desk),
        "mode and account": f"{request.mode}, {request.platform_account}",
        "request digest": request.digest,
    }
    return facts_table(f"{incident_id}: you are asked to approve {line.amount.grouped} for {due.studio_name}.", facts)


def _others(desk: Desk, request: Request, due: PayoutDue) -> str:
    """Say what else went to this account since the payout was due: it may be this payout, made by a colleague."""
    line = request.line_for(due.ledger_payout_id)
    begin = since(due, request.filed_at)
    try:
        account, listed = desk.read(lambda key: (key.account_id(), key.transfers_to(due.destination_account, begin)))
    except DatabaseError:
        raise
    except (StripeRefusedError, SettingsError, EvidenceError) as error:
        return f"NOT CHECKED from here; the send checks it. {error.message}"
    if account not in (None, request.platform_account):
        return f"NOT CHECKED from here; the send checks it. The key is of {account}, not of {request.platform_account}."
    found = unexplained(desk, listed, line.ledger_payout_id, line.line_id)
    left = unacknowledged(found, line)
    equal = in_the_way(left, line, line.amount, due.amount)
    said = [f"WARNING: {one}, unexplained: it may be this payout" for one in equal]
    said += [f"unexplained: {one}" for one in left if one not in equal]
    group = transfer_group(line.ledger_payout_id)
    same = [other_transfer(one) for one in listed if one.get("transfer_group") == group and not one["reversed"]]
    said += [f"WARNING: {one} was made for this very payout" for one in same]
    seen = {one.transfer_id: str(one) for one in found}
    said += [f"acknowledged as not this payout: {seen.get(name, f'{name}, not seen')}" for name in line.acknowledged]
    return "; ".join(said) or f"none unexplained since {datetime.fromtimestamp(begin, UTC):%Y-%m-%d %H:%M} UTC"


def note_warning(desk: Desk, request: Request, person: Person) -> None:
    """
    Note in the journal that *person* is shown the warning about the rehearsal, where there is one.

    Before they approve, and whether they do or not: an override says which of the two approvers had been warned.
    """
    standing = rehearsal_at(desk)
    if standing is None or standing.good:
        return
    for line in request.lines:
        data = {"request_id": request.request_id, "reason": standing.found}
        stream = stream_of(request.incident_id, line.ledger_payout_id)
        desk.store.record_event(stream, SHOWN, person.person_id, data)


def _rehearsal(desk: Desk) -> str:
    standing = rehearsal_at(desk)
    if standing is None:
        return f"not asked: no real money moves in {desk.settings.mode} mode"
    if standing.good:
        return f"of these notebooks, {standing.found}"
    return f"WARNING: {standing.found}. If it is sent anyway, that is recorded, with your name among those who were warned."


def _effect(before: Money, amount: Money) -> str:
    return f"{before.grouped} → {(before - amount).grouped}"


def _computed(desk: Desk, balance: StudioBalance | None) -> str:
    if balance is None:
        return "no balance in the ledger"
    fine, found = balance_at(balance, desk.now(), desk.settings.policy)
    return found if fine else f"WARNING: {found}. Nothing is sent while this is so."


def _since(changed_at: datetime | None, now: datetime) -> str:
    if changed_at is None:
        return "never"
    days = (now - changed_at).days
    if changed_at > now + LEDGER_SKEW_MAX:
        return f"{changed_at:%Y-%m-%d}, WARNING: in the future"
    return f"{changed_at:%Y-%m-%d}, {'today' if days < 1 else f'{days} days ago'}"


def _listed(earlier: list[PayoutRecord]) -> str:
    shown = [f"{one.amount.grouped} on {one.created_at:%Y-%m-%d}, {one.state}" for one in earlier[:_SHOWN]]
    return f"{len(earlier)}{': ' if shown else ''}{'; '.join(shown)}{'; …' if len(earlier) > _SHOWN else ''}"


def _unusual(desk: Desk, due: PayoutDue, amount: Money) -> str:
    past = [p.amount_minor for p in desk.ledger.past_payouts(due.studio_id) if p.amount.currency == amount.currency]
    if not past:
        return "no earlier payout in this currency to compare with"
    middle = Money(int(median(past)), amount.currency)
    if not middle.amount_minor:
        return f"the last {len(past)} payouts were mostly zero"
    return f"{amount.decimal / middle.decimal:.1f} times the median of the last {len(past)} payouts ({middle.grouped})"
