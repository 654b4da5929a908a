"""
Ids replaced by what they name, on request.

Source: Stripe documentation, *Expanding responses* (at most four levels) and *Permissions reference* (every expanded
object needs its own permission). That permissions are judged before anything is executed is an assumption.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from local_stripe.books import Books
from local_stripe.errors import Json, RefusalError
from local_stripe.permissions import PLATFORM_ACCOUNT, ApiKey, lacks_permission
from local_stripe.shapes import shape

DEPTH_MAX = 4


class _Target(NamedTuple):
    """What a field leads to, the permission that it needs, and whether it belongs to a connected account."""

    kind: str
    permission: str
    connected: bool = False


_LINE = _Target("balance_transaction", "balance_read")
_ANY = "any"

EXPANDABLE: dict[str, dict[str, _Target]] = {
    "balance_transaction": {"source": _Target(_ANY, "balance_transaction_source_read")},
    "charge": {
        "balance_transaction": _LINE,
        "payment_intent": _Target("payment_intent", "payment_intent_read"),
        "source_transfer": _Target("transfer", "transfer_read"),
    },
    "payment_intent": {"latest_charge": _Target("charge", "charge_read")},
    "payout": {"balance_transaction": _LINE, "failure_balance_transaction": _LINE},
    "refund": {
        "balance_transaction": _LINE,
        "charge": _Target("charge", "charge_read"),
        "transfer_reversal": _Target("transfer_reversal", "transfer_read"),
    },
    "transfer": {
        "balance_transaction": _LINE,
        "destination": _Target("account", "accounts_kyc_basic_read", connected=True),
        "destination_payment": _Target("charge", "charge_read", connected=True),
        "source_transaction": _Target("charge", "charge_read"),
    },
    "transfer_reversal": {
        "balance_transaction": _LINE,
        "destination_payment_refund": _Target("refund", "charge_read", connected=True),
        "transfer": _Target("transfer", "transfer_read"),
    },
}


def check_paths(key: ApiKey, account: str, kind: str, paths: Iterable[str], *, listed: bool) -> None:
    """
    Let *paths* pass if they lead from an object of *kind* to objects that *key* may read.

    Raises:
        RefusalError: A path cannot be expanded, or a permission is missing for what it leads to.
    """
    for path in paths:
        parts = path.split(".")
        if len(parts) > DEPTH_MAX:
            raise RefusalError(
                f"You cannot expand more than {DEPTH_MAX} levels of a property. Property: {path}", saved=False
            )
        if listed and (parts.pop(0) != "data" or not parts):
            raise _not_expandable(path)
        _check(key, account, kind, parts, path)


def expand(books: Books, answer: Json, paths: Iterable[str]) -> Json:
    """Expand *paths*, which `check_paths` let pass, in *answer*, such as ``destination_payment.balance_transaction``."""
    for path in paths:
        _follow(books, answer, path.split("."), path)
    return answer


def _check(key: ApiKey, account: str, kind: str, parts: list[str], path: str) -> None:
    connected = account != PLATFORM_ACCOUNT
    for name in parts:
        if kind == _ANY:
            return
        target = EXPANDABLE.get(kind, {}).get(name)
        if target is None:
            raise _not_expandable(path)
        connected = connected or target.connected
        if not key.may(target.permission, connected=connected):
            raise lacks_permission(key, target.permission, account)
        kind = target.kind


def _follow(books: Books, here: Json, parts: list[str], path: str) -> None:
    name, rest = parts[0], parts[1:]
    if here["object"] == "list":
        for item in here["data"]:
            _follow(books, item, rest, path)
        return
    if name not in EXPANDABLE.get(here["object"], {}):
        raise _not_expandable(path)
    inner = here[name]
    if isinstance(inner, str):
        record = books.find(inner)
        # What the sandbox does not keep, such as a payment method, stays an id.
        here[name] = inner = inner if record is None else shape(books, record)
    if rest and isinstance(inner, dict):
        _follow(books, inner, rest, path)


def _not_expandable(path: str) -> RefusalError:
    return RefusalError(f"This property cannot be expanded ({path}).", saved=False)
