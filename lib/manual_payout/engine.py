"""
The papermill engine whose notebooks do not flatter themselves, and the start of its kernel.

Stock papermill calls every cell *completed* after a killed kernel, a timeout or Ctrl-C, rewrites its output in place
and overwrites what was there. Here a cell is ``completed``, ``failed``, ``unknown`` (it began, and what it did is not
known) or ``not_run``; the notebook on disk is always a whole one, and never replaces another run's.

Two doors lead in. :func:`execute` is the runner's: it reads, checks, parameterizes, runs and saves by itself. The other
is ``papermill --engine manual_payout in.ipynb out.ipynb``. There papermill still does what it does before an engine
begins: it reads parameters its own way (types guessed, unknown names only warned about, YAML tags obeyed), expands
``{name}`` in paths, and with ``--prepare-only`` writes without any engine. From then on the rules hold: existing
output is refused, every write (papermill's own last one too) is atomic and redacted, and a notebook is saved even with
``--no-request-save-on-cell-execute``. Output anywhere but in a local file is refused. Files of ``--stdout-file`` are
redacted message by message, and so can hold a secret that a cell printed in two pieces.

A dead run never proves that no money moved: only its kernel has stopped, and a request may have been on the wire.

This module is long because its parts, the file, the signals, the kernel and the statuses, must agree with each other
about one run, and papermill expects to find them behind one name.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
import shutil
import signal
import site
import sys
import tempfile
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import nbformat
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

from manual_payout.errors import EvidenceError, RefusedError, shorten
from manual_payout.redaction import Redactor, redact_notebook
from manual_payout.templates import (
    BANNER_TAG,
    PAPERMILL_BANNER_TAG,
    check_parameters,
    check_tags,
    check_template,
    declared_parameters,
    digest_of,
    heading_above,
    is_banner,
    read_notebook,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import FrameType

    from nbformat import NotebookNode
else:
    # papermill loads the engines of installed packages while it is itself being imported. If this module is what
    # imports it, papermill looks for the class now, before it exists; the last line of this module sets that right.
    TruthfulEngine = None

from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, NotebookExecutionManager, papermill_engines
from papermill.exceptions import PapermillExecutionError
from papermill.iorw import load_notebook_node, papermill_io
from papermill.log import logger
from papermill.parameterize import parameterize_notebook

CellStatus = Literal["completed", "failed", "unknown", "not_run"]

# Output is on disk at most this long after it was printed, should the machine die. papermill's own 30 s lose it all.
AUTOSAVE_S = 1
# nbclient looks once a second whether the kernel lives; an operator should not wait for that.
ALIVE_POLL_S = 0.1
START_TIMEOUT_S = 60
STOPPING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_NO_NAME = re.compile(r"[^\w.]")
# Controls and the characters that reverse the direction of a line: they change what a reader sees.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")

# The kernel is this very Python, whatever a kernel specification in somebody's home folder says; -P keeps the working
# directory off sys.path, -s the user's own site-packages. On Linux the kernel dies with the thread that started it:
# otherwise it would go on paying for up to a second, until it polls for its parent.
_KERNEL_CODE = """\
import ctypes, os, signal
getattr(ctypes.CDLL(None), "prctl", lambda *_: 0)(1, signal.SIGKILL)
if os.getppid() != int(os.environ["JPY_PARENT_PID"]):
    os._exit(1)
from ipykernel.kernelapp import launch_new_instance
launch_new_instance()
"""


class Progress(Protocol):
    """What :func:`execute` calls when a code cell starts or ends."""

    def __call__(self, event: str, cell_index: int, total: int, title: str, /) -> None:
        """
        Show one step.

        Args:
            event: ``running`` or the cell's final status.

            cell_index: The number of the code cell from 1, which is the ``[n]`` that Jupyter shows beside it.

            total: How many code cells there are.

            title: The nearest Markdown heading above the cell, or an empty string.
        """


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


class StoppedBySignal(SystemExit):
    """
    The run was stopped in good order by a signal; uncaught, the process exits with 128 + n.

    Attributes:
        signum: The signal.

        execution: How the notebook that was running ended, or None between notebooks.
    """

    def __init__(self, signum: int, execution: Execution | None = None) -> None:
        super().__init__(128 + signum)
        self.signum = signum
        self.execution = execution


# --- Signals -----------------------------------------------------------------------------------------------------


class _Stop:
    """A wish to stop that waits for a safe moment: a notebook half saved, or a kernel half started, is none."""

    def __init__(self) -> None:
        self.signum: int | None = None
        self._task: asyncio.Task[Any] | None = None

    def request(self, signum: int, _frame: FrameType | None) -> None:
        """Note the first signal, and wake the run if it waits for a cell; later signals change nothing."""
        self.signum = self.signum or signum
        if self._task is not None:
            self._task.get_loop().call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        # The loop calls this later than the signal came: by then the block may be left, and its end must not be cut.
        if self._task is not None:
            self._task.cancel()

    @contextlib.contextmanager
    def cancelling_me(self) -> Iterator[None]:
        """Let a signal cancel the asyncio task that is inside this block, and nothing after it."""
        self._task = asyncio.current_task()
        try:
            yield
        finally:
            self._task = None


@contextlib.contextmanager
def orderly_signals() -> Iterator[None]:
    """
    Turn SIGINT, SIGTERM and SIGHUP into :class:`StoppedBySignal` for the whole of a runner.

    While a notebook runs, the engine takes the signals over: it kills the kernel, saves the notebook, and only then
    raises. A signal that the process was started to ignore (``nohup``) stays ignored. Signals reach the main thread
    only; in another one this does nothing.
    """

    def stop(signum: int, _frame: FrameType | None) -> None:
        raise StoppedBySignal(signum)

    with _handling(stop):
        yield


@contextlib.contextmanager
def _deferred_signals() -> Iterator[_Stop]:
    stop = _Stop()
    with _handling(stop.request):
        yield stop


@contextlib.contextmanager
def _handling(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    before: dict[signal.Signals, Any] = {}
    try:
        if threading.current_thread() is threading.main_thread():
            for signum in STOPPING_SIGNALS:
                # None is a handler that some C library installed: it is not ours to replace, since it cannot be put back.
                if signal.getsignal(signum) not in (signal.SIG_IGN, None):
                    before[signum] = signal.signal(signum, handler)
        yield
    finally:
        for signum, old in before.items():
            signal.signal(signum, old)


# --- The file ----------------------------------------------------------------------------------------------------


class _OutputFile:
    """
    The notebook of one run on disk: created by this run, replaced by this run only, whole at every moment.

    Args:
        path: Absolute path of the notebook.

        redactor: What every text in it passes.
    """

    def __init__(self, path: Path, redactor: Redactor) -> None:
        self.path = path
        self._redactor = redactor
        self._mine: tuple[int, int] | None = None

    def save(self, nb: NotebookNode) -> None:
        """
        Save *nb*, durably, in place of this run's earlier version.

        Raises:
            EvidenceError: Another file is there, or the disk did not take it; what was there before is unchanged.
        """
        text: str = nbformat.writes(redact_notebook(nb, self._redactor))  # type: ignore[no-untyped-call]  # untyped upstream
        content = text.encode()
        temporary = self.path.with_name(f".{self.path.name}.{uuid.uuid4().hex}.tmp")
        try:
            try:
                identity = _write_durably(temporary, content)
                self._put_in_place(temporary)
                self._mine = identity
            finally:
                temporary.unlink(missing_ok=True)
            _sync_folder(self.path.parent)
        except FileExistsError as error:
            raise self._occupied() from error
        except OSError as error:
            raise EvidenceError(
                f"The notebook {self.path} could not be saved: {error.strerror}.",
                ("Its last saved version is unchanged. " if self._mine else "Nothing was saved. ")
                + "Make room or repair the folder, then look with status.",
            ) from error

    def _put_in_place(self, temporary: Path) -> None:
        if self._mine is None:
            # A hard link is exclusive and shows the whole file at once; O_EXCL on the name would show an empty one.
            _link(temporary, self.path)
        elif self._mine == _identity(self.path):
            temporary.replace(self.path)
        else:
            raise FileExistsError

    def _occupied(self) -> EvidenceError:
        what = "already exists" if self._mine is None else "was replaced or removed by somebody else during this run"
        return EvidenceError(
            f"The notebook {self.path} {what}; it was not touched.",
            "Keep it as evidence and give this run a name of its own.",
        )


def _link(temporary: Path, path: Path) -> None:
    try:
        os.link(temporary, path)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS):
            raise
        # A file system without hard links, such as that of a USB stick: exclusive, but empty for a moment.
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        temporary.replace(path)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _write_durably(path: Path, content: bytes) -> tuple[int, int]:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        while content:
            content = content[os.write(descriptor, content) :]
        os.fsync(descriptor)
        found = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    return found.st_dev, found.st_ino


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class _OutputHandler:
    """papermill's door to one output file: its own writes to it become this run's; all else stays as it was."""

    def __init__(self, name: str, output: _OutputFile) -> None:
        self._name = name
        self._output = output
        self._local = papermill_io.get_handler("local")

    def write(self, text: str, path: str) -> None:
        """Write the notebook *text*, which is whole, to *path*."""
        if path == self._name:
            self._output.save(nbformat.reads(text, as_version=4))  # type: ignore[no-untyped-call]
        else:
            self._local.write(text, path)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._local, name)


# --- The statuses ------------------------------------------------------------------------------------------------


class _Run(NotebookExecutionManager):  # type: ignore[misc]  # papermill is untyped
    """
    The state of one run: what each cell may be called, and how the run ended.

    Args:
        output: Where it is saved; None where papermill's caller asked for no file.

        options: What papermill's own manager takes.
    """

    UNKNOWN = "unknown"
    NOT_RUN = "not_run"

    def __init__(
        self,
        nb: NotebookNode,
        output: _OutputFile | None,
        redactor: Redactor,
        progress: Progress | None = None,
        **options: Any,
    ) -> None:
        super().__init__(nb, **options)
        self.autosave_cell_every = min(options.get("autosave_cell_every") or AUTOSAVE_S, AUTOSAVE_S)
        self.output = output
        self.redactor = redactor
        self.progress = progress
        self.error_name = self.error_message = self.stopped_because = ""
        self.failing_cell: int | None = None
        self.unsaved_output = False

    def save(self, **_: Any) -> None:
        if self.output is not None:
            self.output.save(self.nb)
        self.last_save_time = self.now()
        self.unsaved_output = False

    def autosave_cell(self, **_: Any) -> None:
        # A full disk must not kill a cell that may be paying. The save at the end of the cell is the one that judges.
        try:
            super().autosave_cell()
        except EvidenceError as error:
            logger.warning(str(error))
            self.last_save_time = self.now()

    def cell_start(self, cell: NotebookNode, cell_index: int | None = None, **kwargs: Any) -> None:
        self._show("running", cell_index)
        try:
            super().cell_start(cell, cell_index, **kwargs)
        except BaseException:
            # The code is sent only after this save, so that a cell that could not be announced did not run.
            cell.metadata.papermill.update(status=self.NOT_RUN, start_time=None)
            raise

    def cell_ended_badly(self, index: int, status: str, error: BaseException, because: str) -> None:
        """Mark the cell at *index* as failed or unknown, with what an operator should read about it."""
        self.cell_exception(self.nb.cells[index], index)
        self.nb.cells[index].metadata.papermill["status"] = status
        self.failing_cell = index
        self.ended_badly(error, because)

    def ended_badly(self, error: BaseException, because: str) -> None:
        """Record what stopped the run."""
        self.error_name = str(getattr(error, "ename", type(error).__name__))
        self.error_message = self.redactor.redact(str(getattr(error, "evalue", error)))
        self.stopped_because = because

    def cell_complete(self, cell: NotebookNode, cell_index: int | None = None, **_: Any) -> None:
        record = cell.metadata.papermill
        if record["status"] == self.RUNNING:
            record["status"] = self.COMPLETED
        ended = self.now()
        record["end_time"] = ended.isoformat()
        record["duration"] = (ended - datetime.fromisoformat(record["start_time"])).total_seconds()
        self.save()
        self._show(record["status"], cell_index)
        if self.pbar:
            self.pbar.update(1)

    def notebook_complete(self, **_: Any) -> None:
        """Say how the run ended, in the metadata and at the top of the notebook, and save it a last time."""
        self.cleanup_pbar()
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
        banner = [_banner(self)] if self.nb.metadata.papermill["exception"] else []
        self.nb.metadata, self.nb.cells = clean.metadata, banner + clean.cells
        self.save()

    def statuses(self) -> NotebookStatus:
        """Return the statuses as this run knows them; the file may know less."""
        cells = [cell for cell in self.nb.cells if not is_banner(cell)]
        return _summary(cells, [cell.metadata.papermill["status"] for cell in cells])

    def _show(self, event: str, index: int | None) -> None:
        if self.progress is None or index is None:
            return
        numbers = _numbers(self.nb.cells)
        if index in numbers:
            self.progress(event, numbers[index], len(numbers), heading_above(self.nb, index))


def _numbers(cells: list[NotebookNode]) -> dict[int, int]:
    """Map the index of each cell that runs to the number that Jupyter shows beside it."""
    runs = [index for index, cell in enumerate(cells) if cell.cell_type == "code" and cell.source.strip()]
    return {index: number for number, index in enumerate(runs, 1)}


def _summary(cells: list[NotebookNode], statuses: list[CellStatus]) -> NotebookStatus:
    ran = [statuses[index] for index in _numbers(cells)]
    worst: tuple[CellStatus, ...] = ("unknown", "failed", "not_run")
    bad = [index for index, status in enumerate(statuses) if status in ("failed", "unknown")]
    return NotebookStatus(
        status=next((status for status in worst if status in ran), "completed"),
        failing_cell=bad[0] if bad else None,
        cells=tuple(statuses),
    )


def _banner(run: _Run) -> NotebookNode:
    """Build the cell that tells a tired reader how the run ended."""
    found = run.statuses()
    numbers = _numbers(run.nb.cells)
    left = [numbers[index] for index, status in enumerate(found.cells) if status == "not_run" and index in numbers]
    if found.failing_cell is None:
        words = [f"Stopped before cell {left[0]}: {run.stopped_because}."]
    else:
        title = heading_above(run.nb, found.failing_cell)
        where = f"cell {numbers[found.failing_cell]}" + (f" ({title})" if title else "")
        words = [f"Stopped in {where}: {run.stopped_because}."]
    if found.status == "unknown":
        words.append("What that cell did is unknown.")
    if left:
        words.append(f"Cells {left[0]} to {left[-1]} did not run." if len(left) > 1 else f"Cell {left[0]} did not run.")
    # An error's text is not ours: as an indented block it is shown as it is, and is neither HTML nor Markdown.
    message = _CONTROLS.sub(" ", run.error_message)[:300] if found.status == "failed" else ""
    text = f"**{' '.join(words)}**" + (f"\n\n    {message}" if message else "")
    cell: NotebookNode = nbformat.v4.new_markdown_cell(text)  # type: ignore[no-untyped-call]
    cell.metadata.update(tags=[BANNER_TAG, PAPERMILL_BANNER_TAG], papermill={"status": "completed"})
    return cell


def read_status(nb: NotebookNode) -> NotebookStatus:
    """
    Read from a saved notebook how its run ended, on the understanding that the run is over.

    Bad news is believed. Good news needs proof: a cell is completed only if the kernel's reply to it is on record. So
    a cell left ``running`` by a killed process is unknown, and the false ``completed`` of stock papermill after a
    dead kernel, a timeout or Ctrl-C is seen through.
    """
    cells = [cell for cell in nb.cells if not is_banner(cell)]
    return _summary(cells, [_read_cell(cell) for cell in cells])


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


# --- The kernel --------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _private_folder() -> Iterator[Path]:
    """Make a folder that only this user can enter, for the kernel's sockets and settings; it starts empty."""
    # A socket's path has at most about 100 bytes.
    parent = tempfile.gettempdir() if len(tempfile.gettempdir()) < 70 else "/tmp"  # noqa: S108  # mkdtemp makes it 0700
    folder = Path(tempfile.mkdtemp(prefix="payout-", dir=parent))
    try:
        for name in ("work", "ipython", "jupyter"):
            (folder / name).mkdir()
        yield folder
    finally:
        # What a killed kernel leaves here is of no use to anybody; failing to remove it is no reason to fail.
        shutil.rmtree(folder, ignore_errors=True)


def _kernel_environment(given: Mapping[str, str], private: Path) -> dict[str, str]:
    """Take from *given* what does not decide which code Python, IPython or Jupyter load; they get empty folders."""
    kept = {name: value for name, value in given.items() if not re.match("I?PYTHON|JUPYTER|JPY_", name)}
    kept |= dict.fromkeys(("JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR"), str(private / "jupyter"))
    kept |= {"IPYTHONDIR": str(private / "ipython"), "PYTHONSAFEPATH": "1"}
    ours = str(Path(__file__).parents[1])
    # In a source tree the kernel must import this copy of the library, even where it is not installed.
    return kept if ours in site.getsitepackages() else kept | {"PYTHONPATH": ours}


class _KernelManager(AsyncKernelManager):
    """Starts this Python, and talks to it through sockets in a private folder, which no other user can read."""

    @property
    def kernel_spec(self) -> KernelSpec:
        arguments = [sys.executable, "-P", "-s", "-c", _KERNEL_CODE, "-f", "{connection_file}"]
        return KernelSpec(argv=arguments, display_name="Python 3 (ipykernel)", language="python")


class _Client(PapermillNotebookClient):  # type: ignore[misc]  # papermill is untyped
    """
    Runs the cells of one notebook in one kernel, and tells the run what became of each.

    Args:
        run: The run.

        stop: Where a signal leaves its wish.

        environment: The kernel's environment, before it is cleaned.

        private: The kernel's private folder.
    """

    def __init__(self, run: _Run, stop: _Stop, environment: Mapping[str, str], private: Path, **options: Any) -> None:
        # Even if a tag got past the check: no cell is skipped, and no error is excused.
        super().__init__(run, force_raise_errors=True, skip_cells_with_tag="\0", kernel_name="python3", **options)
        self._stop = stop
        self._environment = _kernel_environment(environment, private)
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
        self.km = _KernelManager(
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
        super().log_output_message(redact_notebook(output, self.nb_man.redactor))


def _same_stream(first: NotebookNode, second: NotebookNode) -> bool:
    return bool(first.output_type == second.output_type == "stream" and first.name == second.name)


def _name(signum: int) -> str:
    return signal.Signals(signum).name


def _stopped(signum: int) -> CellExecutionError:
    return CellExecutionError("", ename=_name(signum), evalue="The run was stopped from outside.")


# --- The doors ---------------------------------------------------------------------------------------------------


def execute(
    template_path: Path,
    output_path: Path,
    parameters: Mapping[str, Any],
    *,
    redactor: Redactor,
    kernel_env: Mapping[str, str] | None = None,
    timeout_s: int | None = None,
    progress: Progress | None = None,
    expected_digest: str | None = None,
) -> Execution:
    """
    Run the template with *parameters* and save it as a new notebook.

    A cell that fails, a kernel that dies and a cell that takes too long are answers, not exceptions.

    Args:
        output_path: A new file in an existing folder. Nothing is expanded in it.

        parameters: Names that the template declares; plain values only.

        redactor: What everything saved passes.

        kernel_env: The kernel's environment instead of this process's; cleaned of what decides which code is loaded.

        timeout_s: How many seconds one cell may take; None for as long as it needs.

        progress: Called when a code cell starts and ends.

        expected_digest: The digest of the reviewed template; the very notebook that is run is compared with it.

    Raises:
        RefusedError: The template is not the reviewed one, or a cell of it escapes its execution; nothing ran.

        ParameterError: A parameter is unknown or not a plain value; nothing ran.

        EvidenceError: The template cannot be read, the output exists, or it could not be saved.

        StoppedBySignal: A signal stopped the run; the notebook is saved and the kernel is gone.
    """
    nb = read_notebook(template_path)
    digest = digest_of(nb)
    if expected_digest not in (None, digest):
        _refuse(template_path, [f"Its digest is {digest}, the reviewed one is {expected_digest}."])
    _refuse(template_path, check_template(nb))
    check_parameters(parameters, dict.fromkeys(declared_parameters(nb), (str, int, float, bool, type(None))))
    output = _OutputFile(output_path.absolute(), redactor)
    run = _Run(_parameterized(nb, parameters, template_path, digest), output, redactor, progress, progress_bar=False)
    # The run has recorded these two, with all that is known about them.
    with _deferred_signals() as stop, contextlib.suppress(DeadKernelError, CellTimeoutError):
        _carry_out(run, stop, os.environ if kernel_env is None else kernel_env, timeout=timeout_s)
    found = run.statuses()
    execution = Execution(found.status, found.failing_cell, found.cells, output.path, run.error_name, run.error_message)
    if stop.signum is not None:
        raise StoppedBySignal(stop.signum, execution)
    return execution


def _parameterized(nb: NotebookNode, parameters: Mapping[str, Any], template: Path, digest: str) -> NotebookNode:
    prepared: NotebookNode = load_notebook_node(nb)  # a copy, with the fields that papermill expects
    prepared = parameterize_notebook(prepared, dict(parameters), kernel_name="python3", language="python")
    # Names, not paths: a path tells who ran it where, and is wrong as soon as the evidence is moved.
    prepared.metadata.papermill["input_path"] = template.name
    prepared.metadata["manual_payout"] = {"template": template.stem, "template_sha256": digest}
    return prepared


def _refuse(template: Path | str, findings: list[str]) -> None:
    if findings:
        raise RefusedError(
            f"{template} may not run: {' '.join(findings)}",
            "Run the reviewed template that came with this release.",
        )


def _carry_out(run: _Run, stop: _Stop, environment: Mapping[str, str], **options: Any) -> None:
    """Run the notebook from its first save to its last one."""
    for cell in run.nb.cells:
        cell.metadata.pop("execution", None)  # another run's timing would pass as the proof of this one
    run.notebook_start()
    try:
        with _private_folder() as private:
            _Client(run, stop, environment, private, log=logger, **options).execute()
    except BaseException as error:
        if not run.stopped_because:
            run.ended_badly(error, f"the program that ran it failed with {type(error).__name__}")
        raise
    finally:
        run.notebook_complete()


class TruthfulEngine(NBClientEngine):  # type: ignore[misc]  # papermill is untyped
    """The engine behind ``papermill --engine manual_payout``; see the top of this module for what that covers."""

    @classmethod
    def execute_notebook(  # papermill's signature
        cls,
        nb: NotebookNode,
        kernel_name: str,  # noqa: ARG003  # the kernel is this Python
        output_path: str | None = None,
        progress_bar: bool | dict[str, Any] = True,  # noqa: FBT001, FBT002  # papermill's signature
        log_output: bool = False,  # noqa: FBT001, FBT002
        autosave_cell_every: int = AUTOSAVE_S,
        **options: Any,
    ) -> NotebookNode:
        """
        Run *nb* as papermill asks, with the secrets of this environment removed from what is saved.

        Raises:
            RefusedError: A cell carries a tag that excuses or skips it; nothing ran.

            EvidenceError: The output exists, is no local file, or could not be saved.

            PapermillExecutionError: A cell raised ``SystemExit(0)``, which papermill itself takes for success.

            DeadKernelError: The kernel died; papermill exits with 138.

            CellTimeoutError: A cell took longer than ``--execution-timeout``.

            StoppedBySignal: A signal stopped the run; the process exits with 128 + n.
        """
        _refuse(str(nb.metadata.papermill.get("input_path", "The notebook")), check_tags(nb, injected=True))
        redactor = Redactor.from_environment(os.environ)
        # papermill names no output to its engine under --no-request-save-on-cell-execute, but writes it all the same.
        output = _registered(output_path or nb.metadata.papermill.get("output_path"), redactor)
        run = _Run(
            nb,
            output,
            redactor,
            progress_bar=progress_bar,
            log_output=log_output,
            autosave_cell_every=autosave_cell_every,
        )
        with _deferred_signals() as stop:
            _carry_out(
                run,
                stop,
                os.environ,
                log_output=log_output,
                stdout_file=options.get("stdout_file"),
                stderr_file=options.get("stderr_file"),
                startup_timeout=options.get("start_timeout") or START_TIMEOUT_S,
                timeout=options.get("execution_timeout") or options.get("timeout"),
            )
        if stop.signum is not None:
            raise StoppedBySignal(stop.signum)
        _refuse_success_of_system_exit(run)
        return nb


def _refuse_success_of_system_exit(run: _Run) -> None:
    if run.error_name != "SystemExit" or run.failing_cell is None:
        return
    index = run.failing_cell + 1  # behind the banner
    cell = run.nb.cells[index]
    lines = [line for output in cell.outputs for line in output.get("traceback", [])]
    raise PapermillExecutionError(index, cell.execution_count, cell.source, "SystemExit", run.error_message, lines)


def _registered(name: str | None, redactor: Redactor) -> _OutputFile | None:
    """Make papermill's own writes to the output go through this run's file."""
    if name is None:
        return None
    local = papermill_io.get_handler("local")
    if not isinstance(papermill_io.get_handler(name), type(local) | _OutputHandler):
        raise EvidenceError(
            f"The output {shorten(name)} is no local file.",
            "Save the notebook in a local folder, and copy it from there.",
        )
    folder = local.cwd(None)  # where papermill resolves relative paths, whatever --cwd says
    local.cwd(folder)
    output = _OutputFile(Path(folder or Path.cwd()) / name, redactor)
    # papermill knows handlers by the beginning of a path, and the latest one wins. It stays registered, since
    # papermill writes the output once more after its engine has returned.
    papermill_io.register(name, _OutputHandler(name, output))
    return output


# papermill may have asked for the class before it existed; see the imports.
papermill_engines.register("manual_payout", TruthfulEngine)
