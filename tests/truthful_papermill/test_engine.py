"""An executed notebook says what happened, is always whole on disk, and holds no secret. With real kernels."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from papermill.iorw import load_notebook_node

import manual_payout
from processes import around, is_running
from truthful_papermill.engine import SAID, StoppedBySignal, client, execute, orderly_signals, read_status
from truthful_papermill.engine.recording import Run, cell_numbers
from truthful_papermill.errors import EvidenceError, ParameterError, RefusedError
from truthful_papermill.redaction import Redactor
from truthful_papermill.templates import compare_code, digest_of, is_banner, read_notebook
from truthful_papermill.warm.starting import fork_server

KEY = "rk_live_51Habcdefgha91f"
PAPERMILL = [sys.executable, "-m", "papermill", "--engine", "manual_payout", "--no-progress-bar"]


def write_template(folder, *sources, name="template.ipynb", tags=()):
    """A template of a heading and a cell for each source, the first of them behind the parameters."""
    nb = new_notebook(
        metadata={
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
            "language_info": {"name": "python"},
        }
    )
    nb.cells = [new_code_cell("amount: str = '1'  # Amount.", metadata={"tags": ["parameters"]})]
    for number, source in enumerate(sources, 1):
        nb.cells += [new_markdown_cell(f"## Step {number}"), new_code_cell(source)]
    nb.cells[-1].metadata["tags"] = list(tags)
    path = folder / name
    nbformat.write(nb, path)
    return path


def run(folder, *sources, parameters=None, redactor=None, **options):
    """Run a template of these sources; returns how it ended and what was saved."""
    template = write_template(folder, *sources)
    output = folder / "out.ipynb"
    execution = execute(template, output, parameters or {}, redactor=redactor or Redactor([KEY]), **options)
    nb = read_notebook(output)
    assert [] == compare_code(nb, read_notebook(template))
    return execution, nb


@pytest.fixture(scope="module", name="kernels")
def _kernels():
    """A fork server for the tests of this file that start many kernels."""
    with fork_server(around()) as server:
        yield server


def code_statuses(nb):
    """What the file itself says about its code cells."""
    return [cell.metadata.papermill.status for cell in nb.cells if cell.cell_type == "code"]


def banner(nb):
    """The banner's sentences on how the run ended and where it stopped, without the error's own text."""
    return " ".join(nb.cells[0].source.split("\n\n")[:2]) if is_banner(nb.cells[0]) else ""


def test_a_completed_run_says_so_and_shows_its_progress(tmp_path):
    """Every cell is completed, the banner says no more, and the progress names cells by their Jupyter number and heading."""
    shown = []
    execution, nb = run(
        tmp_path, "print(amount)", "", "1 + 1", parameters={"amount": "2"}, progress=lambda *step: shown.append(step)
    )
    shown = [step for step in shown if step[0] != SAID]

    assert ("completed", None, "", "") == (
        execution.status, execution.failing_cell, execution.error_name, execution.error_message
    )  # fmt: skip
    assert {"completed"} == set(execution.cells)
    assert execution.cells == read_status(nb).cells
    assert nb.metadata.papermill.exception is None
    assert "**How it ended: every cell ran.**" == banner(nb)
    assert "2\n" == nb.cells[4].outputs[0].text
    assert digest_of(read_notebook(tmp_path / "template.ipynb")) == nb.metadata.truthful_papermill.template_sha256
    assert [("running", 3, 4, "Step 1"), ("completed", 3, 4, "Step 1"), ("running", 4, 4, "Step 3")] == shown[4:7]


STOPS = {
    "raised": ("raise ValueError('no <b>')", "failed", "ValueError", "it raised ValueError"),
    "system_exit": ("raise SystemExit(0)", "failed", "SystemExit", "it raised SystemExit"),
    "interrupted": ("raise KeyboardInterrupt", "unknown", "KeyboardInterrupt", "the kernel was interrupted"),
    "killed": (
        "import os, time; print('posting', flush=True); time.sleep(.5); os.kill(os.getpid(), 9)",
        "unknown",
        "DeadKernelError",
        "the kernel died",
    ),
    "left": ("import os; os._exit(0)", "unknown", "DeadKernelError", "the kernel died"),
    "late": ("import time; time.sleep(600)", "unknown", "CellTimeoutError", "it did not end within its 2 s"),
}


@pytest.mark.parametrize("start", ["forked", "ordinary"])
@pytest.mark.parametrize("stop", STOPS)
def test_a_stopped_run_names_the_cell_and_what_is_known_of_it(tmp_path, stop, start, kernels):
    """A cell that raised has failed; one whose end nobody saw is unknown; those behind it did not run."""
    source, status, name, because = STOPS[stop]
    pid = "import os; print(os.getpid())"
    options = {"fork_server": kernels if start == "forked" else None, "kernel_env": around()}
    execution, nb = run(tmp_path, pid, source, "3", "4", timeout_s=2 if stop == "late" else None, **options)
    expected = ["completed", "completed", "completed", status, "not_run", "not_run"]
    ended, unknown = ("unknown", "What that cell did is unknown. ") if status == "unknown" else ("an error", "")
    ended = f"**How it ended: {ended}.** Stopped in cell 4 (Step 2)"

    assert start == nb.metadata.truthful_papermill.kernel_start
    assert (status, name, 5) == (execution.status, execution.error_name, execution.failing_cell)
    assert expected == code_statuses(nb)
    assert execution.cells == read_status(nb).cells
    assert f"{ended}: {because}. {unknown}Cells 5 to 6 did not run." == banner(nb)
    assert nb.metadata.papermill.exception is True
    assert not is_running(int(nb.cells[4].outputs[0].text))
    if stop == "killed":
        assert "posting\n" == nb.cells[6].outputs[0].text


def test_a_kernel_that_does_not_start_is_no_run(tmp_path, monkeypatch):
    """Nothing ran, and the notebook says so."""
    monkeypatch.setattr(sys, "executable", "/bin/false")
    execution, nb = run(tmp_path, "1")

    assert ("not_run", None) == (execution.status, execution.failing_cell)
    assert ["not_run"] * 3 == code_statuses(nb)
    assert (
        "**How it ended: not finished.** Stopped before cell 1: the kernel did not start. Cells 1 to 3 did not run."
        == banner(nb)
    )


def test_no_secret_reaches_the_disk(tmp_path):
    """Not through source, output, a line printed in two pieces, a traceback, metadata or a parameter."""
    password = "hunter2/hunter2"
    encoded = base64.b64encode(f"user:{KEY}".encode()).decode()
    template = write_template(
        tmp_path,
        f"import sys\ntoken = '{KEY}'\nprint(token)\ntoken",
        "import time\nfor part in (token[:9], token[9:]):\n    print(part, end='', flush=True); time.sleep(.4)",
        "from IPython.display import JSON, display\ndisplay(JSON({token: [token]}), metadata={'x': token})",
        f"print('{encoded}', 'hunter2%2Fhunter2')\nraise type('Bad_' + token, (ValueError,), {{}})(token)",
    )
    redactor = Redactor([password, KEY])
    execution = execute(template, tmp_path / "out.ipynb", {"amount": password}, redactor=redactor)
    saved = (tmp_path / "out.ipynb").read_text()

    assert "failed" == execution.status
    assert "[redacted rk_live …a91f sha256:e8e106fe]" == execution.error_message
    assert "Bad_[redacted rk_live …a91f sha256:e8e106fe]" == execution.error_name
    assert [] == [form for form in (KEY, password, "hunter2%2F", encoded[8:-8]) if form in saved]
    assert [] == redactor.find(saved)


@pytest.mark.parametrize("start", ["forked", "ordinary"])
def test_nothing_that_a_cell_says_reaches_the_terminal_past_the_redactor(tmp_path, start):
    """A kernel repeats on its own standard output what a child process or a library in C has written; ours has none."""
    template = write_template(
        tmp_path, "import os; os.write(1, b'on out'); os.write(2, b'on err'); os.system('echo below')"
    )
    server = "fork_server()" if start == "forked" else "contextlib.nullcontext()"
    code = (
        "import contextlib, pathlib, sys; from truthful_papermill.engine import execute\n"
        "from truthful_papermill.redaction import Redactor; from truthful_papermill.warm.starting import fork_server\n"
        f"with {server} as kernels:\n"
        f"    execute(pathlib.Path({str(template)!r}), pathlib.Path({str(tmp_path / 'out.ipynb')!r}), {{}},\n"
        "        redactor=Redactor(), fork_server=kernels)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=around(), check=True)
    nb = read_notebook(tmp_path / "out.ipynb")

    assert ("", "") == (told.stdout, told.stderr)
    assert start == nb.metadata.truthful_papermill.kernel_start
    assert "on out" in "".join(output.text for output in nb.cells[-1].outputs if output.get("name") == "stdout")


LOOK_AROUND = """\
import importlib.util, json, os, sys
from ipykernel import get_connection_info
connection = get_connection_info(unpack=True)
folder = os.path.dirname(connection["ip"])
print(json.dumps({
    "transport": connection["transport"],
    "mode": oct(os.stat(folder).st_mode & 0o777),
    "cwd": os.getcwd() == folder + "/work" and os.listdir(),
    "ipython": os.environ["IPYTHONDIR"] == folder + "/ipython",
    "runtime": os.environ["JUPYTER_RUNTIME_DIR"] == folder + "/jupyter",
    "planted": [name for name in ("startup_ran", "pythonstartup_ran") if hasattr(sys, name)],
    "stripe": importlib.util.find_spec("stripe").origin,
    "ours": importlib.util.find_spec("manual_payout").origin,
    "mine": os.environ.get("MINE"),
}))"""


def plant(folder):
    """Everything that Python, IPython and Jupyter would pick up nearby; returns the environment that points there."""
    startup = folder / ".ipython/profile_default/startup"
    kernel = folder / ".local/share/jupyter/kernels/python3"
    startup.mkdir(parents=True)
    kernel.mkdir(parents=True)
    (startup / "00.py").write_text("import sys; sys.startup_ran = True")
    (folder / "start.py").write_text("import sys; sys.pythonstartup_ran = True")
    (folder / "stripe.py").write_text("raise SystemExit('planted')")
    (kernel / "kernel.json").write_text('{"argv": ["/bin/false"], "display_name": "x", "language": "python"}')
    return {
        **os.environ,
        "HOME": str(folder),
        "IPYTHONDIR": str(folder / ".ipython"),
        "PYTHONSTARTUP": str(folder / "start.py"),
        "PYTHONPATH": str(folder),
        "MINE": "given",
    }


@pytest.mark.parametrize("start", ["forked", "ordinary"])
def test_nothing_planted_nearby_is_loaded(tmp_path, monkeypatch, start):
    """A stripe.py where the operator stands, startup files and a foreign kernel specification have no effect."""
    environment = plant(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    with fork_server(environment) if start == "forked" else contextlib.nullcontext() as server:
        _, nb = run(tmp_path, LOOK_AROUND, kernel_env=environment, fork_server=server)
    found = json.loads(nb.cells[4].outputs[0].text)
    stripe, ours = found.pop("stripe"), found.pop("ours")
    expected = {"transport": "ipc", "mode": "0o700", "cwd": [], "ipython": True, "runtime": True, "planted": []}

    assert expected | {"mine": "given"} == found
    assert start == nb.metadata.truthful_papermill.kernel_start
    assert "site-packages" in stripe
    assert manual_payout.__file__ == ours


@pytest.mark.parametrize("start", ["forked", "ordinary"])
@pytest.mark.parametrize(
    "question", ["input('Send?')", "__import__('getpass').getpass()", "__import__('pdb').set_trace()"]
)
def test_a_cell_that_asks_a_question_fails_at_once(tmp_path, question, start, kernels):
    """Nobody is there to answer: it does not wait for an answer, for ever or until the time-out of a cell."""
    execution, nb = run(
        tmp_path, question, kernel_env=around(), timeout_s=60, fork_server=kernels if start == "forked" else None
    )

    assert ("failed", "StdinNotImplementedError") == (execution.status, execution.error_name)
    assert "this frontend does not support input requests" in execution.error_message
    assert "Stopped in cell 3 (Step 1): it raised StdinNotImplementedError" in banner(nb)


def test_an_existing_output_is_refused_and_untouched(tmp_path):
    """Nothing runs, and the earlier evidence stays as it is, byte for byte."""
    output = tmp_path / "out.ipynb"
    output.write_bytes(b"earlier evidence")
    template = write_template(tmp_path, f"open({str(tmp_path / 'ran')!r}, 'w')")

    with pytest.raises(EvidenceError, match=r"out\.ipynb already exists"):
        execute(template, output, {}, redactor=Redactor())
    assert b"earlier evidence" == output.read_bytes()
    assert ["out.ipynb", "template.ipynb"] == sorted(path.name for path in tmp_path.iterdir())


def test_a_cell_that_runs_is_running_on_disk_and_those_before_it_completed(tmp_path):
    """Whoever finds the file after a kill knows what had ended, and which cell may have done something."""
    told = (
        "import json, nbformat\n"
        f"cells = nbformat.read({str(tmp_path / 'out.ipynb')!r}, 4).cells\n"
        "print(json.dumps([cell.metadata.papermill.status for cell in cells if cell.cell_type == 'code']))"
    )
    run(tmp_path, told, told)
    cells = [cell for cell in read_notebook(tmp_path / "out.ipynb").cells if cell.get("outputs")]
    found = [json.loads(cell.outputs[0].text) for cell in cells]

    assert [
        ["completed", "completed", "running", "pending"],
        ["completed", "completed", "completed", "running"],
    ] == found


def test_what_the_terminal_shows_is_on_disk_already(tmp_path):
    """A terminal that takes nothing more holds up the run; the file says by then what the terminal is about to say."""
    found = []

    def show(event, number, *_):
        cells = [cell for cell in read_notebook(tmp_path / "out.ipynb").cells if cell.cell_type == "code"]
        found.append((number, event, cells[number - 1].metadata.papermill.status))

    run(tmp_path, "1", "2", progress=show)

    assert [(number, event, event) for number in (1, 2, 3, 4) for event in ("running", "completed")] == found


def test_what_is_shown_at_the_end_is_of_the_cells_that_it_was(tmp_path):
    """A banner puts every cell one place further down; what was not shown by then is shown of the right ones, once."""
    shown = []
    nb = load_notebook_node(read_notebook(write_template(tmp_path, "1", "2")))
    record = Run(nb, None, Redactor(), lambda event, number, *_: shown.append((event, number)))
    record.notebook_start()
    for index in (0, 1):
        record.cell_start(nb.cells[index], index)
        record.cell_complete(nb.cells[index], index)
    record.ended_badly(KeyboardInterrupt(), "the run was stopped by SIGTERM")
    record.notebook_complete()

    assert is_banner(record.nb.cells[0])
    assert [("running", 1), ("completed", 1)] == shown


def test_a_run_that_is_stopped_while_its_kernel_starts_says_so(tmp_path, monkeypatch):
    """Nothing ran, and the banner gives the reason."""

    async def stopped(_client):
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(60)

    monkeypatch.setattr(client.Client, "_start_kernel", stopped)
    with pytest.raises(StoppedBySignal):
        run(tmp_path, "1")

    assert (
        "**How it ended: not finished.** Stopped before cell 1: the run was stopped by SIGTERM. Cells 1 to 3 did not run."
        == banner(read_notebook(tmp_path / "out.ipynb"))
    )


def test_a_runner_that_fails_between_cells_still_tells_the_truth(tmp_path, monkeypatch):
    """An error of our own is raised, and the notebook says where it stood; no kernel is left."""
    show = Run._show

    def failing(run, event, index):
        if event == "completed" and cell_numbers(run.nb.cells).get(index) == 3:
            raise OSError("a fault of ours")
        show(run, event, index)

    monkeypatch.setattr(Run, "_show", failing)
    with pytest.raises(OSError, match="a fault of ours"):
        run(tmp_path, "import os; print(os.getpid())", "2")
    nb = read_notebook(tmp_path / "out.ipynb")

    assert ["completed", "completed", "completed", "not_run"] == code_statuses(nb)
    assert (
        "**How it ended: not finished.** Stopped before cell 4: the program that ran it failed with OSError. Cell 4 did not run."
        == banner(nb)
    )
    assert not is_running(int(nb.cells[4].outputs[0].text))


@pytest.mark.parametrize(
    ("error", "options"),
    [
        (ParameterError, {"parameters": {"amounts": "1"}}),
        (ParameterError, {"parameters": {"amount": ("1", "2")}}),
        (RefusedError, {"tags": ["skip-execution"]}),
        (RefusedError, {"tags": ["raises-exception"]}),
        (RefusedError, {"expected_digest": "0" * 64}),
    ],
)
def test_what_may_not_run_leaves_no_file(tmp_path, error, options):
    """A foreign parameter, a tag that excuses a cell, or a template that is not the reviewed one: nothing begins."""
    template = write_template(tmp_path, "1", tags=options.pop("tags", ()))

    with pytest.raises(error):
        execute(template, tmp_path / "out.ipynb", options.pop("parameters", {}), redactor=Redactor(), **options)
    assert not (tmp_path / "out.ipynb").exists()


def test_a_signal_between_notebooks_exits_at_once():
    """Outside a notebook the runner stops with the usual code, and afterwards the old handlers are back."""
    before = signal.getsignal(signal.SIGTERM)

    with pytest.raises(StoppedBySignal) as stopped, orderly_signals():
        os.kill(os.getpid(), signal.SIGTERM)
    assert (143, None, before) == (stopped.value.code, stopped.value.execution, signal.getsignal(signal.SIGTERM))


def test_a_notebook_runs_inside_a_running_event_loop_and_off_the_main_thread(tmp_path):
    """From a notebook, or where signals cannot be handled, the run works all the same."""
    found = []

    async def run_inside():
        found.append(run(tmp_path, "1")[0].status)

    thread = threading.Thread(target=lambda: asyncio.run(run_inside()))
    thread.start()
    thread.join()

    assert ["completed"] == found


@pytest.fixture(name="small_disk")
def _small_disk(tmp_path):
    """A file system of 64 kB, where mounting is allowed."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("mounting a small file system needs privileges")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_leaves_the_last_good_notebook(tmp_path, small_disk):
    """The error says what is wrong; what is on disk is whole, and calls the cell unknown, and later ones not run."""
    marker = tmp_path / "later"
    template = write_template(tmp_path, "print('x' * 100_000)", f"open({str(marker)!r}, 'w')")
    output = small_disk / "out.ipynb"

    with pytest.raises(EvidenceError, match="could not be saved: No space left on device"):
        execute(template, output, {}, redactor=Redactor())
    assert ("completed", "completed", "unknown", "not_run", "not_run") == read_status(read_notebook(output)).cells[1:]
    assert not marker.exists()
    assert [output] == list(small_disk.iterdir())


@pytest.mark.parametrize(
    "first",
    [
        "papermill",
        "truthful_papermill.engine",
        "truthful_papermill.engine.saving",
        "manual_payout.desk.papermill_engine",
    ],
)
def test_papermill_knows_the_engine_whoever_is_imported_first(first):
    """papermill asks for the engine while it is itself being imported, which can be before the engine exists."""
    code = (
        f"import {first}, papermill.engines, manual_payout.desk.papermill_engine\n"
        "found = papermill.engines.papermill_engines.get_engine('manual_payout')\n"
        "assert found is manual_payout.desk.papermill_engine.PayoutEngine"
    )

    subprocess.run([sys.executable, "-c", code], check=True)


# What papermill's own command does with our engine ------------------------------------------------------------------


def papermill(folder, *sources, tags=(), options=(), **process):
    """Run papermill's command; returns its exit code, what it printed and the notebook."""
    template = write_template(folder, *sources, tags=tags)
    command = [*PAPERMILL, *options, str(template), "out.ipynb"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120, **process)
    output = folder / "out.ipynb"
    return done.returncode, done.stderr, read_notebook(output) if output.exists() else None


def test_papermill_with_a_dead_kernel_exits_138_and_calls_the_cell_unknown(tmp_path):
    """papermill's own exit code stays; its last words do not overwrite the truth."""
    code, _, nb = papermill(tmp_path, "import os; os.kill(os.getpid(), 9)", "2")

    assert (138, ["completed", "unknown", "not_run"]) == (code, code_statuses(nb))
    assert (
        "**How it ended: unknown.** Stopped in cell 2 (Step 1): the kernel died. What that cell did is unknown. "
        "Cell 3 did not run." == banner(nb)
    )


def test_papermill_with_an_exception_keeps_its_own_error_and_stays_redacted(tmp_path):
    """papermill writes once more after the engine, around it: that write is atomic and redacted too."""
    options = ("-p", "amount", "5", "--no-request-save-on-cell-execute", "--log-output", "--stdout-file", "log.txt")
    environment = {**os.environ, "STRIPE_FALLBACK_SECRET_KEY": "notakey-hunter2"}
    code, shown, nb = papermill(
        tmp_path,
        "import os; token = os.environ['STRIPE_FALLBACK_SECRET_KEY']; print(token)",
        "raise ValueError(token)",
        options=options,
        env=environment,
    )
    kept = (tmp_path / "out.ipynb").read_text() + (tmp_path / "log.txt").read_text()

    assert (1, ["completed"] * 3 + ["failed"]) == (code, code_statuses(nb))
    assert "**How it ended: an error.** Stopped in cell 4 (Step 2): it raised ValueError." == banner(nb)
    assert [0] == [index for index, cell in enumerate(nb.cells) if is_banner(cell)]
    assert "PapermillExecutionError" in shown
    assert "hunter2" not in kept + shown
    assert "[redacted]" in kept


def test_papermill_does_not_take_system_exit_for_success(tmp_path):
    """Stock papermill exits with 0, as if the rest had run."""
    code, shown, nb = papermill(tmp_path, "raise SystemExit(0)", "2")

    assert (1, ["completed", "failed", "not_run"]) == (code, code_statuses(nb))
    assert "SystemExit" in shown


def test_papermill_refuses_an_existing_output(tmp_path):
    """Also where it would have written only at the end."""
    (tmp_path / "out.ipynb").write_text(nbformat.writes(new_notebook()))
    before = (tmp_path / "out.ipynb").read_bytes()
    code, shown, _ = papermill(tmp_path, "1", options=["--no-request-save-on-cell-execute"])

    assert (1, before) == (code, (tmp_path / "out.ipynb").read_bytes())
    assert "out.ipynb already exists; it was not touched" in shown


@pytest.mark.parametrize("options", [(), ("--cwd", "elsewhere")])
def test_papermill_s_working_directory_is_the_kernel_s(tmp_path, options):
    """The output stays where papermill puts it."""
    (tmp_path / "elsewhere").mkdir()
    code, shown, nb = papermill(tmp_path, "import os; print(os.getcwd())", options=options)

    assert 0 == code, shown
    assert f"{tmp_path.joinpath(*options[1:])}\n" == nb.cells[3].outputs[0].text


def test_a_notebook_of_the_house_takes_no_working_directory(tmp_path):
    """It runs in an empty folder; one that is named is refused instead of overlooked."""
    runbook = Path(manual_payout.__file__).parents[2] / "runbooks" / "1-verify.ipynb"
    (tmp_path / "elsewhere").mkdir()
    command = [*PAPERMILL, "--cwd", "elsewhere", str(runbook), "out.ipynb"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)

    assert 2 == done.returncode, done.stderr
    assert f"runs in an empty folder of its own; --cwd names {tmp_path}/elsewhere" in done.stderr
    assert not (tmp_path / "out.ipynb").exists()


OTHERS = {
    "kernel": (("-k", "julia-1.10"), "the kernel 'julia-1.10' was asked for"),
    "kernel, with parameters": (("-k", "ir", "-p", "amount", "1"), "the kernel 'ir' was asked for"),
    "language": (("--language", "R", "-p", "amount", "1"), "the language 'R' was asked for"),
}


@pytest.mark.parametrize("other", OTHERS)
def test_papermill_is_refused_another_kernel_than_this_python(tmp_path, other):
    """Nothing runs in a Python that was not meant."""
    options, expected = OTHERS[other]
    code, shown, nb = papermill(tmp_path, "1", options=options)

    assert (2, None) == (code, nb)
    assert expected in shown
    assert "Traceback" not in shown


def test_papermill_takes_this_python_by_its_name(tmp_path):
    """As stock papermill's users name it."""
    code, shown, _ = papermill(tmp_path, "1", options=("-k", "python3", "--language", "python", "-p", "amount", "1"))

    assert 0 == code, shown


def test_papermill_refuses_a_notebook_in_another_language(tmp_path):
    """Its cells would be read as Python."""
    template = write_template(tmp_path, "x <- 1")
    text = template.read_text("utf-8")
    template.write_text(text.replace('"language": "python"', '"language": "R"'), "utf-8")
    done = subprocess.run(
        [*PAPERMILL, str(template), "out.ipynb"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
    )

    assert 2 == done.returncode, done.stderr
    assert "the language 'R' was asked for" in done.stderr


@pytest.mark.parametrize("tag", ["skip-execution", "raises-exception"])
def test_papermill_refuses_a_tag_that_excuses_a_cell(tmp_path, tag):
    """Nothing runs and nothing is written."""
    code, shown, nb = papermill(tmp_path, "1", tags=[tag])

    assert (3, None) == (code, nb)
    assert f"carries the tag '{tag}'" in shown


def test_papermill_on_a_disk_that_takes_no_more_keeps_the_last_good_notebook(tmp_path):
    """The limit on the size of a file cuts a write in the middle, as a full disk does."""

    def limit():
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))

    code, shown, nb = papermill(tmp_path, "print('x' * 100_000)", "2", preexec_fn=limit)

    assert 1 == code
    assert "could not be saved: File too large. Its last saved version is unchanged" in shown
    assert ("unknown", ("unknown", "not_run", "not_run")) == (read_status(nb).status, read_status(nb).cells[2:])
    assert ["out.ipynb", "template.ipynb"] == sorted(path.name for path in tmp_path.iterdir())
