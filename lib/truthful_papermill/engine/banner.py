"""The cell at the top of a saved notebook that says how its run ended, for whoever reads nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import nbformat
from nbformat import NotebookNode

from truthful_papermill.engine.statuses import CellStatus, NotebookStatus, cell_numbers, read_status
from truthful_papermill.templates import BANNER_TAG, PAPERMILL_BANNER_TAG, heading_above, is_banner

Ending = Callable[[list[NotebookNode]], str]
"""Says in a few words what the outputs of cells came to; an empty text where they came to nothing."""

# Controls and the characters that reverse the direction of a line: they change what a reader sees.
CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")

# What a file proves whose run was killed, or is running still, and so could not say more.
_NO_REASON = "no end of it is on record"
_NO_RESULT: Mapping[CellStatus, str] = {"completed": "every cell ran", "failed": "an error", "not_run": "not finished"}


def no_ending(_: list[NotebookNode]) -> str:
    """Say nothing of outputs: they are somebody else's."""
    return ""


def with_banner(nb: NotebookNode, ending: Ending, because: str = "", message: str = "") -> NotebookNode:
    """
    Return a copy of *nb* that begins with the banner; its cells are not copied.

    The banner says what the cells themselves prove, so that it never tells more than they do, and stands there from the first
    save on: a run that is killed cannot write it any more.

    Args:
        because: What stopped the run; empty where that is not known.

        message: The error's own text; empty where there is none to show.
    """
    cells = [cell for cell in nb.cells if not is_banner(cell)]
    bare: NotebookNode = nbformat.from_dict({**nb, "cells": []})  # type: ignore[no-untyped-call]
    bare.cells = cells
    found = read_status(bare)
    # What a cell did that nobody saw to its end is not known, whatever it has printed by then.
    said = "unknown" if found.status == "unknown" else ending(cells) or _NO_RESULT[found.status]
    parts = [f"**How it ended: {said}.**"]
    if found.status != "completed":
        parts.append(_where(bare, found, because or _NO_REASON))
    if message and found.status == "failed":
        # An error's text is not ours: as an indented block it is shown as it is, and is neither HTML nor Markdown.
        parts.append(f"    {CONTROLS.sub(' ', message)[:300]}")
    banner: NotebookNode = nbformat.v4.new_markdown_cell("\n\n".join(parts), id="how-it-ended")  # type: ignore[no-untyped-call]
    banner.metadata.update(tags=[BANNER_TAG, PAPERMILL_BANNER_TAG], papermill={"status": "completed"})
    bare.cells = [banner, *cells]
    return bare


def _where(nb: NotebookNode, found: NotebookStatus, because: str) -> str:
    numbers: Mapping[int, Any] = cell_numbers(nb.cells)
    left = [numbers[index] for index, status in enumerate(found.cells) if status == "not_run" and index in numbers]
    if found.failing_cell is None:
        words = [f"Stopped before cell {left[0]}: {because}."]
    else:
        title = heading_above(nb, found.failing_cell)
        where = f"cell {numbers[found.failing_cell]}" + (f" ({title})" if title else "")
        words = [f"Stopped in {where}: {because}."]
    if found.status == "unknown":
        words.append("What that cell did is unknown.")
    if left:
        words.append(f"Cells {left[0]} to {left[-1]} did not run." if len(left) > 1 else f"Cell {left[0]} did not run.")
    return " ".join(words)
