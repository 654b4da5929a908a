"""How a run ended, cell by cell, and how much of that a saved notebook proves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from truthful_papermill.templates import is_banner

if TYPE_CHECKING:
    from nbformat import NotebookNode

CellStatus = Literal["completed", "failed", "unknown", "not_run"]


@dataclass(frozen=True)
class NotebookStatus:
    """
    How one run of one notebook ended, cell by cell.

    Attributes:
        status: ``unknown`` if any code cell is, else ``failed`` if any is, else ``not_run`` if any is (the kernel did
            not start, or the run was stopped between two cells), else ``completed``.

        failing_cell: Index into *cells* of the failed or unknown cell, or None.

        cells: The status of every cell of the notebook, the injected parameters among them, banners not.
    """

    status: CellStatus
    failing_cell: int | None
    cells: tuple[CellStatus, ...]


@dataclass(frozen=True)
class Execution(NotebookStatus):
    """
    How a run that this process made has ended.

    Attributes:
        path: The saved notebook.

        error_name: The class of what stopped it, or the name of the signal, or an empty string.

        error_message: Its message, without secrets, or an empty string.
    """

    path: Path
    error_name: str
    error_message: str


def read_status(nb: NotebookNode) -> NotebookStatus:
    """
    Read from a saved notebook how its run ended, on the understanding that the run is over.

    Bad news is believed. Good news needs proof: a cell is completed only if the kernel's reply to it is on record. So
    a cell left ``running`` by a killed process is unknown, and the false ``completed`` of stock papermill after a
    dead kernel, a timeout or Ctrl-C is seen through.
    """
    cells = [cell for cell in nb.cells if not is_banner(cell)]
    return summarize(cells, [_read_cell(cell) for cell in cells])


def _read_cell(cell: NotebookNode) -> CellStatus:
    record = cell.metadata.get("papermill", {})
    status = record.get("status")
    errors = [output.get("ename") for output in cell.get("outputs", []) if output.output_type == "error"]
    if status == "unknown" or "KeyboardInterrupt" in errors:
        return "unknown"
    if status == "failed" or errors:
        return "failed"
    if cell.cell_type != "code" or not cell.source.strip():
        return "completed" if status == "completed" and record.get("start_time") else "not_run"
    timing = cell.metadata.get("execution")  # the client sets it when it sends the cell, and adds the reply
    if status == "completed" and "shell.execute_reply" in (timing or {}):
        return "completed"
    sent = timing is not None or cell.execution_count is not None or status == "running"
    return "unknown" if sent else "not_run"


def summarize(cells: list[NotebookNode], statuses: list[CellStatus]) -> NotebookStatus:
    """Derive from the status of each cell that of the whole notebook; an empty cell decides nothing."""
    ran = [statuses[index] for index in cell_numbers(cells)]
    worst: tuple[CellStatus, ...] = ("unknown", "failed", "not_run")
    bad = [index for index, status in enumerate(statuses) if status in ("failed", "unknown")]
    return NotebookStatus(
        status=next((status for status in worst if status in ran), "completed"),
        failing_cell=bad[0] if bad else None,
        cells=tuple(statuses),
    )


def cell_numbers(cells: list[NotebookNode]) -> dict[int, int]:
    """Map the index of each cell that runs to the number that Jupyter shows beside it."""
    runs = [index for index, cell in enumerate(cells) if cell.cell_type == "code" and cell.source.strip()]
    return {index: number for number, index in enumerate(runs, 1)}
