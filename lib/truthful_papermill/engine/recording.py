"""The record of one run, kept while it runs: in the notebook's metadata, at its top, and on the operator's screen."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from papermill.engines import NotebookExecutionManager
from papermill.log import logger

from truthful_papermill.engine.banner import CONTROLS, Ending, no_ending, with_banner
from truthful_papermill.engine.saving import OutputFile
from truthful_papermill.engine.statuses import NotebookStatus, cell_numbers, summarize
from truthful_papermill.errors import EvidenceError
from truthful_papermill.redaction import Redactor, redact_notebook
from truthful_papermill.templates import RECORD_KEY, heading_above, is_banner
from truthful_papermill.terminal import safely

if TYPE_CHECKING:
    from nbformat import NotebookNode

# Output is on disk at most this long after it was printed, should the machine die. papermill's own 30 s lose it all.
AUTOSAVE_S = 1

# The event of a cell that prints while it runs, such as what it waits for.
SAID = "said"
_SAID_CHARACTERS = 300


class Progress(Protocol):
    """What :func:`execute` calls when a code cell starts or ends."""

    def __call__(self, event: str, cell_index: int, total: int, title: str, /) -> None:
        """
        Show one step.

        Args:
            event: ``running``, the cell's final status, or `SAID` while it runs.

            cell_index: The number of the code cell from 1, which is the ``[n]`` that Jupyter shows beside it.

            total: How many code cells there are.

            title: The nearest Markdown heading above the cell, or an empty string; with `SAID` what the cell printed.
        """


class Run(NotebookExecutionManager):  # type: ignore[misc]  # papermill is untyped
    """
    The state of one run: what each cell may be called, and how the run ended.

    Args:
        output: Where it is saved; None where papermill's caller asked for no file.

        ending: Says in the banner what the outputs came to.

        options: What papermill's own manager takes.
    """

    UNKNOWN = "unknown"
    NOT_RUN = "not_run"

    def __init__(
        self,
        nb: NotebookNode,
        output: OutputFile | None,
        redactor: Redactor,
        progress: Progress | None = None,
        *,
        ending: Ending = no_ending,
        **options: Any,
    ) -> None:
        super().__init__(nb, **options)
        self.autosave_cell_every = min(options.get("autosave_cell_every") or AUTOSAVE_S, AUTOSAVE_S)
        self.output = output
        self.redactor = redactor
        self.progress = progress
        self.ending = ending
        self.error_name = self.error_message = self.stopped_because = ""
        self.failing_cell: int | None = None
        self.unsaved_output = False
        self._only_text = False
        self._running = -1
        self._unshown: list[tuple[str, int | None]] = []

    def kernel_started(self, *, warm: bool, why_ordinary: str) -> None:
        """Record how the kernel was started, and say so where a warm one was wanted and not to be had."""
        if why_ordinary:
            logger.warning("The kernel is started the ordinary way, which takes longer: %s.", why_ordinary)
        if RECORD_KEY in self.nb.metadata:
            start = f"ordinary, since {why_ordinary}" if why_ordinary else "forked" if warm else "ordinary"
            self.nb.metadata[RECORD_KEY]["kernel_start"] = start

    def save(self, **_: Any) -> None:
        """Save the notebook as it stands, where this run has a file, and show then what has not been shown yet."""
        if self._only_text:
            return
        if self.output is not None:
            self.output.save(self._with_banner(self.nb))
        self.last_save_time = self.now()
        self.unsaved_output = False
        # A terminal that takes nothing more (Ctrl-S) holds up the run, but not what is on disk.
        while self._unshown:
            self._show(*self._unshown.pop(0))

    def autosave_cell(self, **_: Any) -> None:
        """Save in the middle of a cell; that this fails is only logged."""
        # A full disk must not kill a cell that may be paying. The save at the end of the cell is the one that judges.
        try:
            super().autosave_cell()
        except EvidenceError as error:
            logger.warning(str(error))
            self.last_save_time = self.now()

    def cell_start(self, cell: NotebookNode, cell_index: int | None = None, **kwargs: Any) -> None:
        """Save and show that the cell begins; text, which nothing can happen to, is saved with the next code."""
        self._unshown.append(("running", cell_index))
        self._running = -1 if cell_index is None else cell_index
        self._only_text = not cell_numbers([cell])
        try:
            super().cell_start(cell, cell_index, **kwargs)
        except BaseException:
            # The code is sent only after this save, so that a cell that could not be announced did not run.
            cell.metadata.papermill.update(status=self.NOT_RUN, start_time=None)
            self._unshown = [shown for shown in self._unshown if shown != ("running", cell_index)]
            raise

    def said(self, text: str) -> None:
        """Show what the cell that runs has just printed: its last line, in one line and without secrets."""
        lines = CONTROLS.sub(" ", self.redactor.redact(text.strip().rpartition("\n")[2])).strip()
        numbers = cell_numbers(self.nb.cells)
        if self.progress is not None and lines and self._running in numbers:
            step = (SAID, numbers[self._running], len(numbers), lines[:_SAID_CHARACTERS])
            safely(partial(self.progress, *step))

    def cell_ended_badly(self, index: int, status: str, error: BaseException, because: str) -> None:
        """Mark the cell at *index* as failed or unknown, with what an operator should read about it."""
        self.cell_exception(self.nb.cells[index], index)
        self.nb.cells[index].metadata.papermill["status"] = status
        self.failing_cell = index
        self.ended_badly(error, because)

    def ended_badly(self, error: BaseException, because: str) -> None:
        """Record what stopped the run."""
        self.error_name = self.redactor.redact(str(getattr(error, "ename", type(error).__name__)))
        self.error_message = self.redactor.redact(str(getattr(error, "evalue", error)))
        self.stopped_because = because

    def cell_complete(self, cell: NotebookNode, cell_index: int | None = None, **_: Any) -> None:
        """Record that the cell has ended, completed unless it was found to have ended badly; save it, if need be, at once."""
        record = cell.metadata.papermill
        if record["status"] == self.RUNNING:
            record["status"] = self.COMPLETED
        ended = self.now()
        record["end_time"] = ended.isoformat()
        record["duration"] = (ended - datetime.fromisoformat(record["start_time"])).total_seconds()
        self._unshown.append((record["status"], cell_index))
        # Between two cells nothing happens; the save that announces the next one holds this one's end as well.
        if record["status"] != self.COMPLETED or not self._code_follows(cell_index):
            self.save()
        self._only_text = False
        if self.pbar:
            safely(partial(self.pbar.update, 1))

    def notebook_complete(self, **_: Any) -> None:
        """Say how the run ended, in the metadata and at the top of the notebook, and save it a last time."""
        safely(self.cleanup_pbar)
        self._only_text = False
        for cell in self.nb.cells:
            if cell.metadata.papermill["status"] == self.PENDING:
                cell.metadata.papermill["status"] = self.NOT_RUN
        self.end_time = self.now()
        self.nb.metadata.papermill.update(
            end_time=self.end_time.isoformat(),
            duration=(self.end_time - self.start_time).total_seconds(),
            exception=True if self.statuses().status != self.COMPLETED else None,
        )
        # papermill builds its error for the terminal from this object, so that it must not hold a secret either.
        clean = redact_notebook(self.nb, self.redactor)
        self.nb.metadata, self.nb.cells = clean.metadata, self._with_banner(clean).cells
        # Every cell stands one place further down by now.
        self._unshown = [(event, index + 1) for event, index in self._unshown if index is not None]
        self.save()

    def statuses(self) -> NotebookStatus:
        """Return the statuses as this run knows them; the file may know less."""
        cells = [cell for cell in self.nb.cells if not is_banner(cell)]
        return summarize(cells, [cell.metadata.papermill["status"] for cell in cells])

    def _with_banner(self, nb: NotebookNode) -> NotebookNode:
        return with_banner(nb, self.ending, self.stopped_because, self.error_message)

    def _code_follows(self, index: int | None) -> bool:
        return index is not None and any(number > index for number in cell_numbers(self.nb.cells))

    def _show(self, event: str, index: int | None) -> None:
        if self.progress is None or index is None:
            return
        numbers = cell_numbers(self.nb.cells)
        if index in numbers:
            step = (event, numbers[index], len(numbers), heading_above(self.nb, index))
            safely(partial(self.progress, *step))
