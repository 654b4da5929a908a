"""
The search endpoints, which are not the address of an object called *search*.

Source: Stripe documentation, *Search*. The sandbox finds at once what Stripe finds within about a minute; of the query
language it knows all operators, and the fields that its own objects have.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from local_stripe.errors import Json, RefusalError, invalid
from local_stripe.params import LIMIT_DEFAULT, Spec, read_integer

SEARCH_PARAMS: Spec = {"query": "text!", "limit": "limit", "page": "text", "expand": "list"}

_FIELDS = {"amount", "created", "currency", "customer", "status"}
_NUMBERS = {"amount", "created"}
_WORD = r"""(?:"(?P<double>[^"]*)"|'(?P<single>[^']*)'|(?P<number>\d+)|(?P<null>null))"""
_CLAUSE = re.compile(
    rf"""(?P<no>-?)(?:(?P<field>\w+)|metadata\[["'](?P<key>[^"']*)["']\])\s*(?P<sign>[:~]|[<>]=?)\s*{_WORD}"""
)
_JOIN = re.compile(r"\s+(AND|OR)\s+|\s+", re.IGNORECASE)


def result(items: Sequence[Json], params: Json, url: str) -> Json:
    """
    Return one page of what was found.

    Raises:
        RefusalError: The page is none of ours.
    """
    start = read_integer("page", params.get("page", "0"))
    end = start + params.get("limit", LIMIT_DEFAULT)
    more = len(items) > end
    return {
        "object": "search_result",
        "data": list(items[start:end]),
        "has_more": more,
        "next_page": str(end) if more else None,
        "url": url,
    }


def found_by(query: str, shapes: Sequence[Json]) -> list[Json]:
    """
    Return those of *shapes* that *query* describes.

    Raises:
        RefusalError: It is no query, joins with AND and OR at once, or asks for a field that cannot be searched.
    """
    clauses, joins, at = [], set(), 0
    while match := _CLAUSE.match(query, at):
        clauses.append(match)
        join = _JOIN.match(query, match.end())
        at = join.end() if join else match.end()
        if not join:
            break
        joins.add((join[1] or "AND").upper())
    if not clauses or at != len(query) or len(joins) > 1:
        raise _unread()
    how = any if joins == {"OR"} else all
    return [shape for shape in shapes if how([_meets(shape, clause) for clause in clauses])]


def _meets(shape: Json, clause: re.Match[str]) -> bool:
    field, sign = clause["field"], clause["sign"]
    if field is not None and field not in _FIELDS:
        raise invalid(f"Field `{field}` is an unsupported search field.", code="", param="query")
    if sign not in {":", "~"} and field not in _NUMBERS:
        raise _unread()
    value = shape.get("metadata", {}).get(clause["key"]) if field is None else shape.get(field)
    return _holds(value, clause) != bool(clause["no"])


def _holds(value: object, clause: re.Match[str]) -> bool:
    wanted = next((clause[name] for name in ("double", "single", "number") if clause[name] is not None), None)
    if value is None or wanted is None:
        return value is None and wanted is None
    if clause["sign"] in {":", "~"}:
        said, asked = str(value).lower(), wanted.lower()
        return said == asked if clause["sign"] == ":" else asked in said
    if not wanted.isdecimal():
        raise _unread()
    below, above = int(str(value)) < int(wanted), int(str(value)) > int(wanted)
    return {"<": below, ">": above, "<=": not above, ">=": not below}[clause["sign"]]


def _unread() -> RefusalError:
    return invalid(
        'We were unable to parse your search query. Try using the format `metadata["key"]:"value"` to query for metadata '
        'or key:"value" to query for other fields.',
        code="",
        param="query",
    )
