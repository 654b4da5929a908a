"""
The rehearsals before this one, read with scrapbook from their executed notebooks into one frame.

scrapbook's own reading of a folder ends at the first notebook that it cannot read. Each is read by itself here, and one
that is damaged is named.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import nbformat

from manual_payout.domain.models import Stage

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("at", "folder", "target", "green", "drill", "response_s")


@dataclass(frozen=True)
class Trend:
    """
    What past rehearsals came to.

    Attributes:
        frame: One row each, the oldest first, with `COLUMNS`; *response_s* is missing where no money was accepted.

        damaged: Folder and reason of each notebook that could not be read.
    """

    frame: pd.DataFrame
    damaged: tuple[tuple[str, str], ...]

    def timed(self) -> list[Any]:
        """Return the rows that have a response time, the oldest first."""
        return list(self.frame[self.frame["response_s"].notna()].itertuples(index=False))


def past_rehearsals(folder: Path, *, but: Path, target: str = "") -> Trend:
    """
    Read every executed rehearsal that lies in a folder of its own below *folder*.

    Args:
        but: The folder of the rehearsal that is being played, whose notebook is not finished.

        target: Where those were played that are wanted, because response times of two targets do not compare; empty for all.
    """
    rows, damaged = [], []
    for notebook in sorted(folder.glob(f"*/{Stage.REHEARSE}*.ipynb")):
        if notebook.parent.resolve() == but.resolve():
            continue
        try:
            rows.append(_row(notebook))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, nbformat.ValidationError) as error:
            damaged.append((notebook.parent.name, _why(error)))
    return Trend(frame_of([row for row in rows if target in ("", row["target"])]), tuple(damaged))


def with_this(trend: Trend, result: dict[str, Any], folder: str) -> Trend:
    """Add the rehearsal that is being played, whose notebook cannot be read yet."""
    row = {name: result[name] for name in COLUMNS if name in result}
    row |= {"at": datetime.fromisoformat(result["at"]), "folder": folder}
    before = cast("list[dict[str, Any]]", trend.frame.to_dict("records"))
    return Trend(frame_of([*before, row]), trend.damaged)


def frame_of(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Put rows of `COLUMNS` into a frame, the oldest first."""
    import pandas as pd

    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    return frame.sort_values("at", kind="stable", ignore_index=True)


def _row(notebook: Path) -> dict[str, Any]:
    import scrapbook

    result = scrapbook.read_notebook(str(notebook)).scraps["result"].data
    at, response = datetime.fromisoformat(result["at"]), result["response_s"]
    numeric = isinstance(response, int | float) and not isinstance(response, bool) and isfinite(response)
    if result["stage"] != Stage.REHEARSE or at.tzinfo is None or not (response is None or numeric):
        raise ValueError("its result is none of a rehearsal")
    return {
        "at": at,
        "folder": notebook.parent.name,
        "target": str(result["target"]),
        "green": result["green"] is True,
        "drill": result["drill"] is True,
        "response_s": response,
    }


def _why(error: Exception) -> str:
    if isinstance(error, KeyError):
        return "no result; it was not finished"
    return f"damaged ({type(error).__name__})"
