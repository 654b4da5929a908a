"""
Other transfers to the same account: which of them are explained, and which may be this very payout.

The likeliest real double is a transfer that a colleague has just made in the Dashboard: it carries nothing of ours. So
every transfer to the account counts that nobody can explain, and `explain` alone says what an explanation is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from manual_payout.desk.wiring import Desk
from manual_payout.domain.intent import GROUP_PREFIX, OtherTransfer, in_the_way, other_transfer, transfer_group
from manual_payout.domain.models import PayoutRecord
from manual_payout.ledger import PayoutDue

# How long before a payout was due a transfer may already be it. A ledger that keeps a day where an instant belongs is
# wrong by a time zone, at most 14 hours; people who see an outage coming pay ahead of it; clocks disagree.
MARGIN = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Explanation:
    """
    Why a transfer is not a stranger.

    Attributes:
        by: ``row`` of ours that names it, ``waiting`` row of ours that may have made it, ``automation``, or ``ledger``.

        of: What it is said to have paid: a line of ours, or a ledger payout; empty where a row of ours names it, since
            that row is judged by itself.
    """

    by: str
    of: str = ""


def explain(
    desk: Desk, listed: list[dict[str, Any]], *, recorded: Callable[[Collection[str]], dict[str, str]] | None = None
) -> dict[str, Explanation]:
    """
    Say which of these transfers are explained: the one definition, for the send as for the monitor.

    A row of ours names it; a row of ours that is still open may have made it; it carries the automation's mark
    (`monitoring.automation_metadata_key`); or the ledger's own books name it (docs/ledger.md). What stands in the group of
    a payout that a row of ours has paid with another transfer is explained by none of the last two: it is paid twice.

    Args:
        listed: As Stripe lists them.

        recorded: Asks the ledger for the payouts of transfers; `Ledger.payouts_by_transfer` unless given.

    Raises:
        DatabaseError: Ours or the ledger cannot be read.
    """
    known = desk.store.known_transfers({str(one["id"]) for one in listed})
    found = {str(one["id"]): Explanation("row") for one in listed if one["id"] in known}
    # A line is no explanation once its row has its own transfer, or was refused: anybody can copy metadata.
    waiting = desk.store.open_lines({line for one in listed if (line := _metadata(one).get("line_id"))})
    twice = _paid_groups(desk, listed)
    mark = desk.settings.policy.monitoring.automation_metadata_key
    strangers = []
    for one in listed:
        name, metadata = str(one["id"]), _metadata(one)
        if name in found:
            continue
        if metadata.get("line_id") in waiting:
            found[name] = Explanation("waiting", str(metadata["line_id"]))
        elif one.get("transfer_group") in twice:
            continue
        elif mark and mark in metadata:
            found[name] = Explanation("automation", str(metadata[mark]))
        else:
            strangers.append(name)
    if strangers:
        in_books = (recorded or desk.ledger.payouts_by_transfer)(strangers)
        found |= {name: Explanation("ledger", payout_id) for name, payout_id in in_books.items()}
    return found


def since(due: PayoutDue, asked_at: datetime) -> int:
    """
    Return from when on a transfer may already be this payout, as Unix time.

    Args:
        asked_at: When it was asked for; some are before they are due.
    """
    return int((min(due.due_at, asked_at) - MARGIN).timestamp())


def unexplained(
    desk: Desk, listed: list[dict[str, Any]], ledger_payout_id: str, line_id: str = ""
) -> tuple[OtherTransfer, ...]:
    """
    Return those of the transfers to an account that may be this payout, newest first; what came back whole is none.

    An explanation that names this very payout is none: its books or the automation's mark say that it was paid, or its
    line's metadata was copied. The group of this payout is left out: there, any transfer but its own stands in the way.

    Raises:
        DatabaseError: Ours or the ledger cannot be read.
    """
    group, own = transfer_group(ledger_payout_id), {line_id, ledger_payout_id} - {""}
    standing = [one for one in listed if not one["reversed"] and one.get("transfer_group") != group]
    explained = explain(desk, standing)
    return tuple(
        other_transfer(one) for one in standing if (why := explained.get(str(one["id"]))) is None or why.of in own
    )


def equal_to(desk: Desk, record: PayoutRecord) -> list[OtherTransfer]:
    """
    Ask Stripe afresh what may be the payout of *record*, made by hand, that its request does not acknowledge. Reads only.

    Raises:
        StripeRefusedError, SettingsError, EvidenceError: Stripe cannot be asked.

        ParameterError: The ledger has lost the payout.
    """
    due, request = desk.ledger.get_payout_due(record.ledger_payout_id), desk.store.get_request(record.request_id)
    listed = desk.gateway.transfers_to(record.destination_account, since(due, request.filed_at))
    others = unexplained(desk, listed, record.ledger_payout_id, record.line_id)
    line = next((one for one in request.lines if one.line_id == record.line_id), None)
    return in_the_way(others, line, record.amount)


def _paid_groups(desk: Desk, listed: list[dict[str, Any]]) -> set[str]:
    groups = {str(one.get("transfer_group") or "") for one in listed}
    named = {group.removeprefix(GROUP_PREFIX) for group in groups if group.startswith(GROUP_PREFIX)}
    return {transfer_group(name) for name in desk.store.paid_by_hand(desk.settings.mode, named)}


def _metadata(shown: dict[str, Any]) -> dict[str, Any]:
    return shown.get("metadata") or {}
