"""
The report of one rehearsal: ``report.html``, one file that loads nothing, runs nothing and prints on one sheet of A4.

All text is escaped by Jinja2, what cannot be seen is made visible, and what is long is cut, so that a rehearsal in which
everything went wrong still has one page. The notebook and the evidence folders hold all of it.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from importlib.resources import files
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from manual_payout.domain.rendering import environment
from payout_rehearsal.folders import NOTEBOOK
from payout_rehearsal.plot import draw
from payout_rehearsal.result import inventory_block
from truthful_papermill.plain_text import one_line

if TYPE_CHECKING:
    from jinja2 import Environment

    from payout_rehearsal.trend import Trend

LONGEST = 90
# The table beside the picture; the picture shows all.
PASTS_SHOWN = 5
WRONG_SHOWN = 2
DAMAGED_SHOWN = 2


def page_of(result: dict[str, Any], trend: Trend) -> str:
    """
    Render the report.

    Args:
        result: As `result.result_of` makes it.

        trend: The past rehearsals, this one among them.
    """
    css = _style()
    rows = trend.timed()
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            result=result,
            css=css,
            csp=_policy(css),
            world=f"REHEARSAL · target {result['target']}, {result['mode']} mode",
            wrong=result["wrong"][:WRONG_SHOWN],
            wrong_left=max(0, len(result["wrong"]) - WRONG_SHOWN),
            fine_scenes=sum(scene["as_expected"] for scene in result["scenes"]),
            fine_checks=sum(check["status"] == "ok" for check in result["checks"]),
            light=_data(draw(trend.frame)),
            dark=_data(draw(trend.frame, dark=True)),
            pasts=rows[::-1][:PASTS_SHOWN],
            pasts_left=max(0, len(rows) - PASTS_SHOWN),
            damaged=trend.damaged[:DAMAGED_SHOWN],
            damaged_left=max(0, len(trend.damaged) - DAMAGED_SHOWN),
            block=inventory_block(result),
            notebook=NOTEBOOK,
        )
    )


def _policy(css: str) -> str:
    """Return the content security policy: this style sheet, and pictures that are part of the page."""
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"


def _style() -> str:
    return "\n" + files("payout_rehearsal").joinpath("templates", "report.css").read_text("utf-8")


def _data(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()


@functools.cache
def _environment() -> Environment:
    made = environment("templates", package="payout_rehearsal", keep_trailing_newline=True)
    made.filters["cut"] = _cut
    made.filters["link"] = lambda name: quote(f"./{name}", safe="/.")
    made.filters["s"] = lambda seconds: "not reached" if seconds is None else f"{seconds:.2f} s"
    made.filters["expected"] = lambda scene: "; ".join(f"{f['what']}: {f['expected']}" for f in scene["findings"])
    made.filters["differing"] = _differing
    made.filters["clock"] = lambda instant: instant[11:22]
    return made


def _differing(scene: dict[str, Any]) -> str:
    """Say what of a scene was not as expected, what cut it short first."""
    wrong = [f"{f['what']}: {f['found']}" for f in scene["findings"] if f["found"] != f["expected"]]
    return "; ".join([*([scene["trouble"]] if scene["trouble"] else []), *wrong])


def _cut(text: Any, longest: int = LONGEST) -> str:
    line = one_line(str(text))
    return line if len(line) <= longest else f"{line[:longest]}…"
