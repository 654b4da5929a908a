"""The cells of one notebook, sent to one kernel, and what became of each."""

from __future__ import annotations

import asyncio
import re
import signal
from concurrent.futures import ThreadPoolExecutor
from queue import Empty
from typing import TYPE_CHECKING, Any

from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from papermill.clientwrap import PapermillNotebookClient

from truthful_papermill.engine.recording import Run
from truthful_papermill.engine.signals import Stop
from truthful_papermill.redaction import redact_notebook

if TYPE_CHECKING:
    from collections.abc import Callable

    from nbformat import NotebookNode

    from truthful_papermill.warm.ahead import Place

# nbclient looks once a second whether the kernel lives; an operator should not wait for that.
ALIVE_POLL_S = 0.1
ASK_AGAIN_S = 1

_NO_NAME = re.compile(r"[^\w.]")


class Client(PapermillNotebookClient):  # type: ignore[misc]  # papermill is untyped
    """
    Runs the cells of one notebook in one kernel, and tells the run what became of each.

    Args:
        run: The run.

        stop: Where a signal leaves its wish.

        place: Where the kernel runs.

        started: Called once the kernel answers.

        folder: Where the kernel stands; None for a folder of its own, which is empty.
    """

    def __init__(
        self,
        run: Run,
        stop: Stop,
        place: Place,
        started: Callable[[], None],
        folder: str | None = None,
        **options: Any,
    ) -> None:
        # Even if a tag got past the check: no cell is skipped, and no error is excused.
        super().__init__(run, force_raise_errors=True, skip_cells_with_tag="\0", kernel_name="python3", **options)
        self._stop = stop
        self._place = place
        self._started = started
        self._folder = folder or place.work
        self._looking: asyncio.Future[None] | None = None

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
                self._started()
                await self._run_cells()
        except asyncio.CancelledError:
            if self._stop.signum is None:
                raise
            if not self.nb_man.stopped_because:
                signum = self._stop.signum
                self.nb_man.ended_badly(_stopped(signum), f"the run was stopped by {_name(signum)}")
        finally:
            if self.km is not None:
                await self._async_cleanup_kernel()

    async def _start_kernel(self) -> None:
        self.km = self._place.manager
        try:
            await self.async_start_new_kernel(env=self._place.environment, cwd=self._folder)
            self.nb_man.kernel_started(warm=self.km.fork_server is not None, why_ordinary=self.km.why_ordinary)
            async with asyncio.timeout(self.startup_timeout):
                await self.km.listening()
                self.kc = self.km.client()
                # Nobody is there to answer: with a channel for questions, a cell that asks one would wait for ever.
                self.kc.start_channels(hb=False, stdin=False)
                info = await self._ready()
        except (RuntimeError, OSError) as error:
            self.nb_man.ended_badly(error, "the kernel did not start")
            raise DeadKernelError(f"The kernel did not start: {error}") from error
        self.nb.metadata["language_info"] = info["content"]["language_info"]

    async def _ready(self) -> dict[str, Any]:
        """Wait until the kernel answers and its output arrives; returns what it says of itself."""
        while True:
            asked = self.kc.kernel_info()
            try:
                reply: dict[str, Any] = await self.kc.shell_channel.get_msg(timeout=ASK_AGAIN_S)
                # Its output is heard only once it knows of our subscription; what it said before that is lost.
                while not _is_idle_after(asked, await self.kc.iopub_channel.get_msg(timeout=ASK_AGAIN_S)):
                    pass
            except Empty:
                if not await self.km._async_is_alive():  # noqa: SLF001  # the public name is not for subclasses
                    raise RuntimeError("Kernel died before replying to kernel_info") from None
            else:
                return reply

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
                self.shutdown_kernel = self._end() if cell.metadata.papermill["status"] == "failed" else "immediate"
                return
        self.set_widgets_metadata()
        self.shutdown_kernel = self._end()

    def _end(self) -> str:
        # A forked kernel has been heard out on every cell, and its exit would put nothing in order that matters; an
        # ordinary one, which may be of any notebook, is asked to end.
        return "immediate" if self.km.forked else "graceful"

    async def _run_cell(self, cell: NotebookNode, index: int) -> None:
        run = self.nb_man
        try:
            await self.async_execute_cell(cell, index)
        except CellExecutionError as error:
            interrupted = error.ename == "KeyboardInterrupt"
            # Before it is cut: half of a secret is none that the redactor knows.
            name = _NO_NAME.sub("", run.redactor.redact(error.ename))[:80]
            because = "the kernel was interrupted" if interrupted else f"it raised {name}"
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
        finally:
            # nbclient leaves it looking when the cell was cancelled, until it finds neither kernel nor client.
            if self._looking is not None:
                self._looking.cancel()

    def _async_poll_kernel_alive(self) -> asyncio.Future[None]:
        self._looking = asyncio.ensure_future(self._look_whether_it_lives())
        return self._looking

    async def _look_whether_it_lives(self) -> None:
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
        message = args[0] if args else {}
        if message.get("msg_type") == "stream" and message["content"]["name"] == "stdout":
            self.nb_man.said(message["content"]["text"])
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


def _is_idle_after(asked: str, message: dict[str, Any]) -> bool:
    return bool(message["parent_header"].get("msg_id") == asked and message["content"].get("execution_state") == "idle")


def _name(signum: int) -> str:
    return signal.Signals(signum).name


def _stopped(signum: int) -> CellExecutionError:
    return CellExecutionError("", ename=_name(signum), evalue="The run was stopped from outside.")
