"""Write what was measured into docs/performance.md: ``python -m tests.bench.page FILE.json``."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from tests.bench.report import Pair, table

PAGE = Path(__file__).parents[2] / "docs" / "performance.md"
_PLACE = re.compile(r"<!-- table -->\n.*?<!-- /table -->", re.DOTALL)


def pairs_in(text: str) -> tuple[str, list[Pair]]:
    """Read what ``--json`` wrote: the machine and the pairs."""
    measured = json.loads(text)
    fields = ("letter", "what", "beside", "goal", "unit")
    pairs = [
        Pair(*(one[name] for name in fields), tuple(one["values"]), tuple(one["others"])) for one in measured["pairs"]
    ]
    return measured["machine"], pairs


def page_with(page: str, measured: str) -> str:
    """Return the page with the table of what was measured."""
    machine, pairs = pairs_in(measured)
    found = f"<!-- table -->\n{machine}:\n\n{table(sorted(pairs, key=lambda pair: pair.letter))}\n<!-- /table -->"
    return _PLACE.sub(lambda _: found, page)


if __name__ == "__main__":
    PAGE.write_text(page_with(PAGE.read_text("utf-8"), Path(sys.argv[1]).read_text("utf-8")), "utf-8")
