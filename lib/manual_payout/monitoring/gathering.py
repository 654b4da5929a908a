"""Gather the facts: from our tables, from Stripe's list, from the inventory. What cannot be asked is missing, with why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from manual_payout.approval.books import account_at
from manual_payout.approval.others import explain
from manual_payout.comms.wiring import configured_channels
from manual_payout.desk.inventory import Inventory, Missing, find_inventory
from manual_payout.desk.reviewed import procedure_digest
from manual_payout.desk.wiring import Desk
from manual_payout.domain.account import Standing
from manual_payout.domain.errors import DatabaseError, EvidenceError, SettingsError, StripeRefusedError
from manual_payout.domain.intent import GROUP_PREFIX
from manual_payout.domain.models import Kind, Message, MessageState, Mode, Request, State
from manual_payout.domain.money import Money
from manual_payout.monitoring.facts import Comparison, OpenRequest, Pending, Recent, Studio, Undelivered, WatchedFacts
from manual_payout.monitoring.rules import rotations_of

# A payout that was made within it may be missing from a listing that began before it.
_EDGE = timedelta(days=1)

# Before it, a key that was never rotated is nothing that this monitor can date.
_EXPOSURE_MAX = timedelta(days=365)


def gather_watched(desk: Desk, blind: tuple[Missing, ...] = ()) -> WatchedFacts:
    """
    Gather everything that the rules are held against; reads only.

    Args:
        blind: What the following of settlement could not see.

    Raises:
        DatabaseError: Ours does not answer, so that nothing can be said at all.
    """
    store, mode, now = desk.store, desk.settings.mode, desk.now()
    policy = desk.settings.policy.monitoring
    since = now - timedelta(days=policy.window_days)
    comparison = compare(desk, since, now)
    inventory = find_inventory(desk.settings.inventory_path())
    return WatchedFacts(
        at=now,
        mode=mode,
        recent=Recent(
            store.count_recent(mode, since),
            tuple(Studio(*row) for row in store.repeated_studios(mode, since, above=policy.payouts_max)),
        ),
        comparison=comparison,
        requests=_requests(desk),
        pending=tuple(_pending(row, row.standing.replace("_", " ")) for row in store.unfinished(mode)),
        unsettled=tuple(_unsettled(desk)),
        exposed_since=_exposed_since(desk, inventory, now),
        inventory=inventory,
        approvers=tuple(sorted(p.handle for p in desk.registry.people if "approve" in p.may and p.valid_at(now))),
        procedure=procedure_digest(),
        clocks=desk.clocks(),
        disbelieved=tuple((one.message_id, _row_of(one)) for one in store.disbelieved_messages(mode)),
        undelivered=tuple(_undelivered(desk)),
        blind=blind,
    )


def _undelivered(desk: Desk) -> Iterator[Undelivered]:
    # What has no service to go by waits for a person who copies it, and is no failure of one.
    counts = [one for one in desk.store.unsent_counts(desk.settings.mode) if one[1] is not MessageState.TO_COPY]
    for channel in sorted(configured_channels(desk.settings)):
        mine = [(state, count, since) for found, state, count, since in counts if found is channel]
        if mine:
            refused = sum(count for state, count, _ in mine if state is MessageState.REFUSED)
            yield Undelivered(channel.value, sum(one[1] for one in mine), refused, min(one[2] for one in mine))


def compare(desk: Desk, since: datetime, until: datetime) -> Comparison | Missing:
    """Hold Stripe's list of transfers since an instant against our table; reads only."""
    try:
        # Stripe first: a payout that is made meanwhile is in our table by the time that it is looked at.
        listed = desk.read(lambda stripe: stripe.transfers_since(int(since.timestamp())))
        known, unexplained, unmarked = _sorted(desk, listed)
    except DatabaseError:
        raise
    except (StripeRefusedError, EvidenceError, SettingsError) as error:
        return Missing("Stripe's list", error.message)
    ids = {transfer["id"] for transfer in listed}
    ours = desk.store.transfers_between(desk.settings.mode, since + _EDGE, until)
    return Comparison(
        at_stripe=_counted([*known, *unexplained], desk.settings.policy.monitoring.payouts_max),
        outside=tuple((transfer["id"], _described(transfer)) for transfer in unexplained),
        vanished=tuple((transfer_id, f"made under {name}") for transfer_id, name in ours if transfer_id not in ids),
        unmarked=unmarked,
    )


def _in_books(desk: Desk, transfer_ids: Collection[str]) -> dict[str, str]:
    try:
        return desk.ledger.payouts_by_transfer(transfer_ids)
    except DatabaseError as error:
        # Ours answers; without the ledger only this comparison is blind, not the whole round.
        raise EvidenceError(error.message, error.remedy) from error


def _sorted(desk: Desk, listed: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]], int]:
    """Part a listing: what our table knows, what nobody explains, and how many might be the automation's."""
    mark = desk.settings.policy.monitoring.automation_metadata_key
    explained = explain(desk, listed, recorded=lambda ids: _in_books(desk, ids))
    known: list[dict[str, Any]] = []
    unexplained: list[dict[str, Any]] = []
    unmarked = 0
    for transfer in listed:
        why = explained.get(str(transfer["id"]))
        if why is not None and why.by in ("row", "waiting"):
            known.append(transfer)
        elif why is not None:
            continue
        elif mark or _metadata(transfer).get("line_id") or _group(transfer).startswith(GROUP_PREFIX):
            unexplained.append(transfer)
        else:
            unmarked += 1
    return known, unexplained, unmarked


def _counted(transfers: list[dict[str, Any]], above: int) -> Recent:
    studios = Counter(str(_metadata(t).get("studio_id") or t["destination"]) for t in transfers)
    return Recent(len(transfers), tuple(Studio(name, name, n) for name, n in sorted(studios.items()) if n > above))


def _requests(desk: Desk) -> tuple[OpenRequest, ...] | Missing:
    try:
        filed = desk.open_requests()
    except EvidenceError as error:
        # One that was altered hides the others; the rest of the round goes on without them.
        return Missing("fallback requests", error.message)
    of_ours = [one for one in filed if one.kind is Kind.TRANSFER and one.mode is desk.settings.mode]
    return tuple(found for one in of_ours if (found := open_request(desk, one)) is not None)


def open_request(desk: Desk, request: Request) -> OpenRequest | None:
    """Return a request whose money has not moved; None where it has, or may have: other rules watch that."""
    records = [desk.store.find_payout(line.line_id) for line in request.lines]
    if not any(record is None or record.state is State.REFUSED for record in records):
        return None
    line = request.lines[0]
    return OpenRequest(request.request_id, request.incident_id, line.studio_name, line.amount.grouped, request.filed_at)


def _exposed_since(desk: Desk, inventory: Inventory | Missing, now: datetime) -> datetime | None:
    if desk.settings.mode is not Mode.LIVE:
        return None
    rotations = [*rotations_of(inventory), desk.store.last_key_rotation(desk.settings.mode)]
    last = max((at for at in rotations if at is not None and at <= now), default=now - _EXPOSURE_MAX)
    return desk.store.first_payment_after(desk.settings.mode, last)


def _pending(row: Any, state: str) -> Pending:
    amount = Money(row.amount_minor, row.currency).grouped
    return Pending(row.row_id, row.incident_id, row.studio_name, amount, state, row.since, bool(row.reversal))


def _unsettled(desk: Desk) -> Iterator[Pending]:
    for row in desk.store.unsettled(desk.settings.mode):
        found = account_at(desk, row.ledger_payout_id)
        # What was closed as returned to the studio's balance waits for nothing any more.
        if found.standing in (Standing.OUT, Standing.ASTRAY):
            seen = row.standing.replace("_", " ")
            yield _pending(row, f"{found.label}, last seen {seen}" if seen else found.label)


def _row_of(message: Message) -> str:
    return f"{message.kind} to {message.audience or 'nobody'}, {message.state}"


def _described(transfer: dict[str, Any]) -> str:
    amount = Money(transfer["amount"], transfer["currency"]).grouped
    made = datetime.fromtimestamp(transfer["created"], UTC)
    return f"{amount} to {transfer['destination']} on {made:%Y-%m-%d %H:%M} UTC"


def _group(transfer: dict[str, Any]) -> str:
    return str(transfer.get("transfer_group") or "")


def _metadata(transfer: dict[str, Any]) -> dict[str, Any]:
    return transfer.get("metadata") or {}
