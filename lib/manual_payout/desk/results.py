"""The machine-readable result that a notebook glues, once; it is for summaries, and no gate ever reads one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

_SCRAP = "application/scrapbook.scrap.json+json"


def the_result(cells: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """
    Return the result among the outputs of *cells*: what scrapbook reads, without the pandas that it imports to read it.

    Of two results scrapbook takes the last. Whoever could add one would have the last word, so two are none here.

    Returns:
        Empty where there is none, or more than one.
    """
    outputs = (output for cell in cells for output in cell.get("outputs", []))
    scraps = (output.get("data", {}).get(_SCRAP, {}) for output in outputs)
    found = [scrap["data"] for scrap in scraps if scrap.get("name") == "result"]
    return dict(found[0]) if len(found) == 1 else {}


def ending_of(cells: Iterable[Mapping[str, Any]]) -> str:
    """
    Say in the banner of an executed notebook what its result came to: the verdict, dry or live, where the money stands.

    Returns:
        Empty where there is no result.
    """
    result = the_result(cells)
    if "verdict" not in result:
        return ""
    kind = {"True": " (dry run)", "False": " (live)"}.get(str(result.get("dry_run")), "")
    # A round of the monitor, and a rehearsal, are about no payout.
    money = f"; the money: {result.get('state')}" if result.get("ledger_payout_id") else ""
    return f"{result['verdict']}{kind}{money}"
