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
