"""What is left when the process that runs a notebook is told to stop, or is shot."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from processes import PATIENCE_S, is_running, wait_until
from truthful_papermill.engine import read_status
from truthful_papermill.templates import is_banner, read_notebook

RUNNER = """\
import sys
from pathlib import Path
from truthful_papermill.engine import execute, orderly_signals
from truthful_papermill.redaction import Redactor
from truthful_papermill.warm.starting import fork_server
with orderly_signals(), fork_server() as server:
    execute(Path("template.ipynb"), Path("out.ipynb"), {}, redactor=Redactor(), fork_server=server)
"""
# What a busy machine does now and then: a moment passes between the kernel's end and the run's.
SLOW_RUNNER = (
    """\
import asyncio
from truthful_papermill.engine import client
clean_up = client.Client._async_cleanup_kernel
async def clean_up_slowly(self):
    await clean_up(self)
    await asyncio.sleep(5 * client.ALIVE_POLL_S)
client.Client._async_cleanup_kernel = clean_up_slowly
"""
    + RUNNER
)
# papermill starts its kernel the ordinary way, the runner has it forked: each is stopped by each signal.
COMMANDS = {
    "papermill": ["-m", "papermill", "--engine", "manual_payout", "--no-progress-bar", "template.ipynb", "out.ipynb"],
    "runner": ["-c", RUNNER],
    "slow runner": ["-c", SLOW_RUNNER],
}
SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGKILL]
CASES = [(door, signum) for door in ("papermill", "runner") for signum in SIGNALS] + [("slow runner", signal.SIGTERM)]


def forked(nb):
    """Whether the kernel of this run was forked."""
    return nb.metadata.get("truthful_papermill", {}).get("kernel_start") == "forked"


def start(folder, door, wait_s=3600, reader=subprocess.PIPE):
    """Start a run whose second cell prints, announces its kernel, and waits for as good as ever."""
    nb = new_notebook(
        metadata={
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
            "language_info": {"name": "python"},
        }
    )
    pay = f"import os, time\nprint('posting', flush=True)\nopen({str(folder / 'pid')!r}, 'x').write(str(os.getpid()))\n"
    nb.cells = [
        new_code_cell("amount: str = '1'", metadata={"tags": ["parameters"]}),
        new_markdown_cell("## Pay"),
        new_code_cell(f"{pay}time.sleep({wait_s})"),
        new_code_cell("'late'"),
    ]
    nbformat.write(nb, folder / "template.ipynb")
    return subprocess.Popen([sys.executable, *COMMANDS[door]], cwd=folder, stderr=reader, text=True)


@pytest.fixture(scope="module", name="stopped")
def _stopped(tmp_path_factory):
    """Seven runs at once, each stopped in its second cell as soon as its output is on disk."""
    runs = {case: (tmp_path_factory.mktemp("run"), case) for case in CASES}
    processes = {case: start(folder, case[0]) for case, (folder, _) in runs.items()}
    found = {}
    for case, (folder, _) in runs.items():
        wait_until(lambda folder=folder: (folder / "pid").exists() and (folder / "pid").read_text())
        wait_until(lambda folder=folder: "posting\\n" in (folder / "out.ipynb").read_text().partition("stdout")[2])
        processes[case].send_signal(case[1])
        _, shown = processes[case].communicate(timeout=PATIENCE_S)
        kernel = int((folder / "pid").read_text())
        alive = is_running(kernel)
        found[case] = (processes[case].returncode, read_notebook(folder / "out.ipynb"), kernel, alive, shown, folder)
    return found


@pytest.mark.parametrize(("door", "signum"), [case for case in CASES if case[1] != signal.SIGKILL])
def test_a_signal_stops_the_run_in_good_order(stopped, door, signum):
    """The cell is unknown, the rest not run, the notebook says so, the kernel is gone, and the exit code is usual."""
    code, nb, _, alive, shown, folder = stopped[door, signum]
    statuses = [cell.metadata.papermill.status for cell in nb.cells if cell.cell_type == "code"]
    expected = ["completed"] * (len(statuses) - 2) + ["unknown", "not_run"]

    assert (128 + signum, expected, False) == (code, statuses, alive)
    assert (door != "papermill") == forked(nb)
    assert is_banner(nb.cells[0])
    assert f"(Pay): the run was stopped by {signum.name}. What that cell did is unknown." in nb.cells[0].source
    assert nb.metadata.papermill.exception is True
    assert "Traceback" not in shown
    assert ["out.ipynb", "pid", "template.ipynb"] == sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("door", ["papermill", "runner"])
def test_a_shot_process_leaves_a_whole_notebook_that_is_read_as_unknown(stopped, door):
    """The file still says running; its reader and its banner know no end of that. The kernel dies with its parent."""
    code, nb, kernel, _, _, _ = stopped[door, signal.SIGKILL]
    found, banner = read_status(nb), nb.cells.pop(0)
    statuses = [status for status, cell in zip(found.cells, nb.cells, strict=True) if cell.cell_type == "code"]

    assert (-signal.SIGKILL, door != "papermill") == (code, forked(nb))
    assert "running" in [cell.metadata.papermill.status for cell in nb.cells]
    assert ("unknown", ["unknown", "not_run"]) == (found.status, statuses[-2:])
    assert banner.source.startswith("**How it ended: unknown.**\n\nStopped in cell ")
    assert is_banner(banner)
    assert "(Pay): no end of it is on record. What that cell did is unknown." in banner.source
    wait_until(lambda: not is_running(kernel))


@pytest.mark.parametrize("door", ["papermill", "runner"])
def test_a_terminal_that_is_closed_takes_a_reader_away_and_ends_no_run(tmp_path, door):
    """SIGHUP comes and nobody reads: the cell that may be paying goes on, and so does what comes after it."""
    reader, theirs = os.pipe()
    process = start(tmp_path, door, wait_s=0.5, reader=theirs)
    os.close(theirs)
    wait_until((tmp_path / "pid").exists)
    os.close(reader)
    process.send_signal(signal.SIGHUP)
    code = process.wait(PATIENCE_S)

    assert (0, "completed") == (code, read_status(read_notebook(tmp_path / "out.ipynb")).status)
