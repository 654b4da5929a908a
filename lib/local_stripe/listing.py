"""
One page of a list, newest first.

Source: Stripe documentation, *Pagination*.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from local_stripe.books import NOUNS
from local_stripe.errors import Json, invalid, missing
from local_stripe.params import LIMIT_DEFAULT
from local_stripe.records import Record

R = TypeVar("R", bound=Record)

_COMPARE: dict[str, Callable[[int, int], bool]] = {
    "gt": lambda value, bound: value > bound,
    "gte": lambda value, bound: value >= bound,
    "lt": lambda value, bound: value < bound,
    "lte": lambda value, bound: value <= bound,
}


def within(value: int, bounds: object) -> bool:
    """Say whether *value* meets an exact number or a ``{"gte": …}`` range; None is no condition."""
    if bounds is None:
        return True
    if isinstance(bounds, dict):
        return all(_COMPARE[name](value, bound) for name, bound in bounds.items())
    return value == bounds


def matching(records: Sequence[R], wanted: Json) -> list[R]:
    """Return the records whose attributes are as *wanted*; instants may be ranges, None is no condition."""
    return [
        record
        for record in records
        if all(
            within(getattr(record, name), value)
            if name in {"created", "arrival_date"}
            else value is None or getattr(record, name) == value
            for name, value in wanted.items()
        )
    ]


def page(records: Sequence[R], params: Json) -> tuple[list[R], bool]:
    """
    Cut one page from *records*, which are newest first, and say whether more follow in the same direction.

    Raises:
        RefusalError: Both cursors are given, or one names nothing in this list.
    """
    limit = params.get("limit", LIMIT_DEFAULT)
    after, before = params.get("starting_after"), params.get("ending_before")
    if after is not None and before is not None:
        raise invalid("You may only specify one of these parameters: starting_after, ending_before.", code="", param="")
    if before is not None:
        end = _position(records, before, "ending_before")
        start = max(end - limit, 0)
        return list(records[start:end]), start > 0
    start = 0 if after is None else _position(records, after, "starting_after") + 1
    return list(records[start : start + limit]), len(records) > start + limit


def envelope(items: Sequence[Any], *, has_more: bool, url: str) -> Json:
    """Wrap one page of a list."""
    return {"object": "list", "data": list(items), "has_more": has_more, "url": url}


def _position(records: Sequence[Record], record_id: str, param: str) -> int:
    for position, record in enumerate(records):
        if record.id == record_id:
            return position
    noun = NOUNS[type(records[0])] if records else "object"
    raise missing(noun, record_id, param=param, status=400)
