"""The cells of one notebook, sent to one kernel, and what became of each."""

from __future__ import annotations

import asyncio
import re
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from papermill.clientwrap import PapermillNotebookClient

from manual_payout.engine.kernel import KernelManager, kernel_environment
from manual_payout.engine.recording import Run
from manual_payout.engine.signals import Stop
from manual_payout.redaction import redact_notebook

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nbformat import NotebookNode

# nbclient looks once a second whether the kernel lives; an operator should not wait for that.
ALIVE_POLL_S = 0.1

_NO_NAME = re.compile(r"[^\w.]")


class Client(PapermillNotebookClient):  # type: ignore[misc]  # papermill is untyped
    """
    Runs the cells of one notebook in one kernel, and tells the run what became of each.

    Args:
        run: The run.

        stop: Where a signal leaves its wish.

        environment: The kernel's environment, before it is cleaned.

        private: The kernel's private folder.
    """

    def __init__(self, run: Run, stop: Stop, environment: Mapping[str, str], private: Path, **options: Any) -> None:
        # Even if a tag got past the check: no cell is skipped, and no error is excused.
        super().__init__(run, force_raise_errors=True, skip_cells_with_tag="\0", kernel_name="python3", **options)
        self._stop = stop
        self._environment = kernel_environment(environment, private)
        self._private = private

    def execute(self, **_: Any) -> None:
        """Run every cell. The kernel is gone when this returns or raises."""
        self.reset_execution_trackers()
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            asyncio.run(self._run_notebook())
            return
        # Called from a notebook: its thread has a loop of its own, which cannot run a second task to its end.
        with ThreadPoolExecutor(1) as pool:
            pool.submit(asyncio.run, self._run_notebook()).result()

    async def _run_notebook(self) -> None:
        self.shutdown_kernel = "immediate"
        try:
            with self._stop.cancelling_me():
                await self._start_kernel()
                await self._run_cells()
        except asyncio.CancelledError:
            if self._stop.signum is None:
                raise
        finally:
            if self.km is not None:
                await self._async_cleanup_kernel()

    async def _start_kernel(self) -> None:
        self.km = KernelManager(
            transport="ipc", ip=str(self._private / "k"), connection_file=str(self._private / "kernel.json")
        )
        try:
            await self.async_start_new_kernel(env=self._environment, cwd=str(self._private / "work"))
            await self.async_start_new_kernel_client()
            info = await self.async_wait_for_reply(self.kc.kernel_info())
        except (RuntimeError, OSError) as error:
            self.nb_man.ended_badly(error, "the kernel did not start")
            raise DeadKernelError(f"The kernel did not start: {error}") from error
        if info is not None:
            self.nb.metadata["language_info"] = info["content"]["language_info"]

    async def _run_cells(self) -> None:
        for index, cell in enumerate(self.nb.cells):
            if self._stop.signum is not None and cell.cell_type == "code":
                self.nb_man.ended_badly(
                    _stopped(self._stop.signum), f"the run was stopped by {_name(self._stop.signum)}"
                )
                return
            self.nb_man.cell_start(cell, index)
            try:
                await self._run_cell(cell, index)
            finally:
                self.nb_man.cell_complete(cell, index)
            if self.nb_man.failing_cell is not None:
                self.shutdown_kernel = "graceful" if cell.metadata.papermill["status"] == "failed" else "immediate"
                return
        self.set_widgets_metadata()
        self.shutdown_kernel = "graceful"

    async def _run_cell(self, cell: NotebookNode, index: int) -> None:
        run = self.nb_man
        try:
            await self.async_execute_cell(cell, index)
        except CellExecutionError as error:
            interrupted = error.ename == "KeyboardInterrupt"
            because = "the kernel was interrupted" if interrupted else f"it raised {_NO_NAME.sub('', error.ename)[:80]}"
            run.cell_ended_badly(index, run.UNKNOWN if interrupted else run.FAILED, error, because)
        except CellTimeoutError as error:
            run.cell_ended_badly(index, run.UNKNOWN, error, f"it did not end within its {self.timeout} s")
            raise CellTimeoutError(run.redactor.redact(str(error))) from None
        except BaseException as error:
            # A cancelled wait looks to nbclient like a dead kernel, which is what it is about to become.
            signum = self._stop.signum
            because = "the kernel died" if signum is None else f"the run was stopped by {_name(signum)}"
            run.cell_ended_badly(index, run.UNKNOWN, error if signum is None else _stopped(signum), because)
            if signum is None:
                raise

    async def _async_poll_kernel_alive(self) -> None:
        while True:
            await asyncio.sleep(ALIVE_POLL_S)
            try:
                await self._async_check_alive()
            except DeadKernelError:
                self.task_poll_for_reply.cancel()
                return
            if self.nb_man.unsaved_output:
                self.nb_man.autosave_cell()

    def process_message(self, *args: Any, **kwargs: Any) -> NotebookNode | None:
        """Take a message of the kernel's, and remember that the file does not hold it yet."""
        self.nb_man.unsaved_output = True
        output: NotebookNode | None = super().process_message(*args, **kwargs)
        return output

    def output(self, outs: list[NotebookNode], *args: Any) -> NotebookNode | None:
        """Join what a cell prints in pieces, as Jupyter does: a secret cut in two would pass the redactor."""
        out: NotebookNode | None = super().output(outs, *args)
        if out is not None and len(outs) > 1 and _same_stream(outs[-2], out):
            outs[-2]["text"] += outs.pop()["text"]
        return out

    def log_output_message(self, output: NotebookNode) -> None:
        """Log an output without secrets."""
        super().log_output_message(redact_notebook(output, self.nb_man.redactor))


def _same_stream(first: NotebookNode, second: NotebookNode) -> bool:
    return bool(first.output_type == second.output_type == "stream" and first.name == second.name)


def _name(signum: int) -> str:
    return signal.Signals(signum).name


def _stopped(signum: int) -> CellExecutionError:
    return CellExecutionError("", ename=_name(signum), evalue="The run was stopped from outside.")
