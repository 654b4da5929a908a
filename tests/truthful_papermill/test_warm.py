"""A forked kernel is as fresh, as private and as mortal as one that was started the ordinary way. With real kernels."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from jupyter_client import KernelManager
from jupyter_client.provisioning import KernelProvisionerFactory
from nbformat.v4 import new_code_cell, new_notebook

from manual_payout.desk.kernels import STAGES_NEED, begin_fork_server, fork_server, needed_by
from manual_payout.desk.settings import variables
from processes import around, is_running, wait_until
from truthful_papermill.engine import execute, read_status
from truthful_papermill.redaction import Redactor
from truthful_papermill.templates import read_notebook
from truthful_papermill.warm import errands as errands_module
from truthful_papermill.warm import kernels as kernels_module
from truthful_papermill.warm import server as server_module
from truthful_papermill.warm import starting
from truthful_papermill.warm.ahead import prepare_kernels
from truthful_papermill.warm.errands import run_errand
from truthful_papermill.warm.kernels import UNTOLD, NoKernelError, WarmKernel, fork_kernel
from truthful_papermill.warm.manager import kernel_environment, private_folder
from truthful_papermill.warm.provisioner import NAME, WarmProvisioner

KEY = "rk_live_51Habcdefgha91f"


@pytest.fixture(scope="module", name="server")
def _server():
    """One fork server, as a run has one; it was started while a key stood in the environment."""
    with fork_server({**around(), "STRIPE_FALLBACK_SECRET_KEY": KEY}, later=needed_by(["settle", "close"])) as server:
        yield server


def run(folder, source, server=None, name="out", **options):
    """Run a notebook of one cell; returns its metadata and what the cell printed, read as JSON if it is."""
    nb = new_notebook(
        metadata={
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
            "language_info": {"name": "python"},
        }
    )
    nb.cells = [new_code_cell("amount: str = '1'", metadata={"tags": ["parameters"]}), new_code_cell(source)]
    nbformat.write(nb, folder / "template.ipynb")
    output = folder / f"{name}.ipynb"
    options = {"kernel_env": around(), "redactor": Redactor(), "fork_server": server} | options
    execution = execute(folder / "template.ipynb", output, {}, **options)
    saved = read_notebook(output)
    printed = "".join(part.get("text", "") for part in saved.cells[-1].outputs)
    try:
        return execution, saved.metadata.truthful_papermill.kernel_start, json.loads(printed)
    except ValueError:
        return execution, saved.metadata.truthful_papermill.kernel_start, printed


WHO = "import json, os; print(json.dumps([os.getpid(), os.getppid(), os.getsid(0), os.getpgid(0)]))"


def test_every_notebook_gets_a_process_of_its_own(tmp_path, server):
    """Each is a child of the server, leads a session of its own, and is gone when its notebook has ended."""
    found = [run(tmp_path, WHO, server, name)[1:] for name in ("first", "second")]
    pids = [who[0] for _, who in found]

    assert ["forked", "forked"] == [start for start, _ in found]
    assert [[pid, server.pid, pid, pid] for pid in pids] == [who for _, who in found]
    assert 2 == len({*pids} - {os.getpid()})
    assert [] == [pid for pid in pids if is_running(pid)]


LEAVE_TRACES = """\
import builtins, decimal, json, os, random, sys, stripe, uuid, warnings
found = [
    hasattr(builtins, "trace"), "TRACE" in os.environ, "trace" in sys.modules and hasattr(sys.modules["json"], "trace"),
    stripe.api_key, os.umask(0o22) == 0o77, decimal.getcontext().prec, os.listdir(), "/trace" in sys.path,
]
builtins.trace = json.trace = True
os.environ["TRACE"], stripe.api_key = "1", "sk_test_trace"
os.umask(0o77)
decimal.getcontext().prec = 3
sys.path.append("/trace")
open("trace", "w").close()
import numpy
chance = [random.random(), float(numpy.random.random()), str(uuid.uuid4()), str(uuid.uuid1()), os.urandom(4).hex()]
print(json.dumps({"found": found, "chance": chance}))
"""


def test_nothing_of_one_notebook_is_seen_by_the_next(tmp_path, server):
    """What the first one does to its interpreter and its folder stays with it; chance is drawn anew."""
    first, second = (run(tmp_path, LEAVE_TRACES, server, name)[2] for name in ("first", "second"))

    assert [False, False, False, None, False, 28, [], False] == first["found"] == second["found"]
    assert [] == [one for one, other in zip(first["chance"], second["chance"], strict=True) if one == other]


FINGERPRINT = """\
import contextlib, ctypes, decimal, gc, json, locale, logging, os, re, resource, signal, sys, threading, time, warnings
import matplotlib, numpy, stripe, zmq
from ipykernel import get_connection_info
folder = os.path.dirname(get_connection_info(unpack=True)["ip"])
plain = (str, int, float, bool, type(None))
deadly = ctypes.c_int()
ctypes.CDLL(None).prctl(2, ctypes.byref(deadly))

def named(handler):
    return getattr(handler, "__qualname__", str(handler))

def opened(process):
    found = set()
    for number in os.listdir(f"/proc/{process}/fd"):
        with contextlib.suppress(FileNotFoundError):  # the descriptor of the listing itself
            found |= {os.readlink(f"/proc/{process}/fd/{number}")} if int(number) > 2 else set()
    return found

found = {
    "flags": str(sys.flags), "path": sys.path, "argv": sys.argv, "environ": dict(os.environ), "cwd": os.getcwd(),
    "locale": locale.getlocale(), "zone": time.tzname, "umask": os.umask(0o22),
    "signals": {int(one): named(signal.getsignal(one)) for one in signal.valid_signals()},
    "wakeup": signal.set_wakeup_fd(-1) == -1,
    "descriptors": sorted({re.sub("[0-9]+", "n", kind) for kind in opened("self")} - {"anon_inode:[eventfd]"}),
    "shared with its parent": sorted(one for one in opened("self") & opened(os.getppid()) if "anon_inode" not in one),
    "threads": sorted(re.sub("[0-9]+", "n", thread.name) for thread in threading.enumerate()),
    "warnings": sorted(str(one) for one in warnings.filters),
    "matplotlib": [matplotlib.get_backend(auto_select=False), matplotlib.matplotlib_fname(), matplotlib.get_cachedir()],
    "stripe": {name: value for name, value in vars(stripe).items() if isinstance(value, plain)},
    "logging": [str(logging.root.level), len(logging.root.handlers)],
    "limits": [resource.getrlimit(resource.RLIMIT_NOFILE), sys.getrecursionlimit(), os.getpriority(os.PRIO_PROCESS, 0)],
    "garbage": [gc.isenabled(), gc.get_threshold()], "decimal": str(decimal.getcontext()),
    "dies with its parent": deadly.value, "parent": int(os.environ["JPY_PARENT_PID"]) == os.getppid(),
    "stdin": os.read(0, 1).hex(), "main": sys.modules["__main__"].__name__,
    "iri": "rfc3987_syntax" in sys.modules,
}
found["environ"].pop("PYDEVD_USE_FRAME_EVAL", None)  # set by the debugger when it is imported
del found["environ"]["JPY_PARENT_PID"]
print(json.dumps(found, default=str).replace(folder, "<folder>"))
"""


def test_a_forked_kernel_finds_what_an_ordinary_one_finds(tmp_path, server):
    """Arguments, path, environment, folder, locale, signals, descriptors, threads, warnings, plotting, Stripe's state."""
    environment = {**around(), "STRIPE_FALLBACK_SECRET_KEY": KEY}
    _, warm, forked = run(tmp_path, FINGERPRINT, server, "forked", kernel_env=environment)
    _, cold, ordinary = run(tmp_path, FINGERPRINT, None, "ordinary", kernel_env=environment)

    assert ("forked", "ordinary") == (warm, cold)
    # Kinds, not numbers: how many sockets zmq has open depends on which of the client's connections have arrived, and an
    # event or two stays until the garbage is collected. What is inherited is seen by its inode, in the parent's table.
    # (An ordinary kernel keeps descriptors of who started it; it writes to none of them.)
    assert forked.pop("shared with its parent") == []
    del ordinary["shared with its parent"]
    assert ordinary == forked
    assert forked["dies with its parent"] == signal.SIGKILL


def test_a_kernel_gets_exactly_the_environment_it_is_meant_to_have(tmp_path, server):
    """Its own settings and no others; the server, which outlives it, was never given a secret."""
    given = {**around(), "STRIPE_READ_SECRET_KEY": "not-a-key", "DATABASE_URL": "sqlite:///x"}
    source = "import json, os; print(json.dumps(dict(os.environ)))"
    _, start, found = run(tmp_path, source, server, kernel_env=given)
    folders = {"JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR"}
    meant = kernel_environment(given, tmp_path) | {"JPY_PARENT_PID": str(server.pid)}
    set_by_ipykernel = found.keys() - meant.keys()

    assert "forked" == start
    assert {"CLICOLOR", "CLICOLOR_FORCE", "FORCE_COLOR", "GIT_PAGER", "MPLBACKEND", "PAGER", "TERM"} >= set_by_ipykernel
    assert {name: meant[name] for name in meant.keys() - folders - {"TERM", "PAGER"}} == {
        name: found.get(name) for name in meant.keys() - folders - {"TERM", "PAGER"}
    }
    assert "STRIPE_FALLBACK_SECRET_KEY" not in found
    assert KEY.encode() not in Path(f"/proc/{server.pid}/environ").read_bytes()


def test_what_an_import_might_have_read_sends_a_kernel_to_the_ordinary_start(tmp_path, server, caplog):
    """A variable that differs from the server's could have changed an import; it is named, and nothing is guessed."""
    _, start, found = run(tmp_path, WHO, server, kernel_env={**around(), "MPLCONFIGDIR": str(tmp_path)})

    assert "ordinary, since its environment differs from the fork server's in MPLCONFIGDIR" == start
    assert "started the ordinary way" in caplog.text
    assert found[1] == os.getpid()


def test_every_setting_of_ours_may_differ():
    """A new setting that is not known here would make every kernel start the ordinary way."""

    assert [] == [name for name in variables().values() if not re.fullmatch(STAGES_NEED.settings, name)]


def test_without_a_fork_server_the_ordinary_start_is_used_and_said(tmp_path, monkeypatch, caplog):
    """A server that ended at once, and a system that cannot fork: the notebook runs, and why is on record."""
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", "/bin/false")
        ended = fork_server(around())
        server = ended.__enter__()
    _, start, found = run(tmp_path, WHO, server, "ended")
    ended.__exit__(None, None, None)

    assert ("ordinary, since the fork server has ended (exit code 1)", os.getpid()) == (start, found[1])
    assert "the fork server has ended" in caplog.text


@pytest.mark.parametrize(("module", "name"), [(os, "fork"), (socket, "send_fds")])
def test_where_forking_is_impossible_the_notebook_runs_all_the_same(tmp_path, monkeypatch, module, name):
    """Windows has neither: an ordinary kernel is started, and why is on record."""
    with monkeypatch.context() as patch:
        patch.delattr(module, name)
        with fork_server(around(), later=["json"]) as unable:
            prepare_kernels(unable, around())
            _, start, _ = run(tmp_path, WHO, unable, "unable")

    assert ("this system cannot fork", "ordinary, since this system cannot fork") == (unable.why_not, start)


def test_a_server_that_stands_still_is_waited_for_once(tmp_path, monkeypatch):
    """The first notebook waits its patience out; the next one, a page and the end do not."""
    monkeypatch.setattr(kernels_module, "START_TIMEOUT_S", 1)
    server = fork_server(around())
    with server as stopped:
        run(tmp_path, WHO, stopped, "before")
        os.kill(stopped.pid, signal.SIGSTOP)
        _, start, _ = run(tmp_path, WHO, stopped, "first")
        monkeypatch.setattr(kernels_module, "START_TIMEOUT_S", 3600)
        monkeypatch.setattr(errands_module, "_TIMEOUT_S", 3600)
        _, then, _ = run(tmp_path, WHO, stopped, "then")
        with pytest.raises(NoKernelError, match="did not answer within 1 s"):
            run_errand(stopped, "html:escape", "<")
        pid = stopped.pid

    assert start == then == "ordinary, since the fork server did not answer within 1 s"
    assert not is_running(pid)


def test_an_errand_that_is_not_begun_is_remembered_too(monkeypatch):
    """The caller does it, and no later one waits."""
    monkeypatch.setattr(errands_module, "_TIMEOUT_S", 0.2)
    with fork_server(around()) as server:
        os.kill(server.pid, signal.SIGSTOP)
        for _ in range(2):
            with pytest.raises(NoKernelError, match=r"did not answer within 0\.2 s"):
                run_errand(server, "html:escape", "<")
            monkeypatch.setattr(errands_module, "_TIMEOUT_S", 3600)


def test_a_system_without_descriptors_of_processes_forks_all_the_same(tmp_path, monkeypatch):
    """Python knows the call; an old kernel, or what a container allows, does not."""

    def refused(_pid):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(os, "pidfd_open", refused, raising=False)
    with fork_server(around()) as server:
        _, start, _ = run(tmp_path, WHO, server)

    assert "forked" == start


def test_a_kernel_ahead_that_cannot_be_prepared_stops_no_notebook(tmp_path, monkeypatch):
    """What is wrong with the next one is the next one's to say."""

    def full(**_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with fork_server(around()) as server, monkeypatch.context() as patch:

        def prepare():
            patch.setattr("truthful_papermill.warm.manager.tempfile.mkdtemp", full)
            prepare_kernels(server, around())

        execution, start, _ = run(tmp_path, WHO, server, started=prepare)

    assert ("completed", "forked") == (execution.status, start)


def test_a_backend_of_somebodys_own_is_not_what_a_kernel_draws_with(tmp_path, monkeypatch):
    """A name that matplotlib does not have here would fail the notebook after the money has moved."""
    monkeypatch.setenv("MPLBACKEND", "Qt4Agg")
    with fork_server(around()) as server:
        found = [
            run(tmp_path, "import os; print([os.environ['MPLBACKEND']])", s, n)[2]
            for s, n in ((server, "a"), (None, "b"))
        ]

    assert all("inline" in str(backend) for backend in found), found


def test_a_server_that_cannot_import_is_said_whatever_the_error_was(tmp_path, monkeypatch, capfd):
    """The kernel is started the ordinary way, the reason is on record, and no traceback is on the terminal."""
    broken = "from truthful_papermill.warm import server\nserver.IMPORTS = ('json:nothing',)\n"
    monkeypatch.setattr(starting, "_CODE", broken + starting._CODE)
    with fork_server(around()) as server:
        wait_until(lambda: server._process.poll() is not None)
        execution, start, _ = run(tmp_path, WHO, server)

    assert "completed" == execution.status
    assert start.startswith("ordinary, since the fork server could not import what kernels need: AttributeError: ")
    assert "Traceback" not in capfd.readouterr().err


def test_a_module_that_fails_later_takes_no_kernel_along(tmp_path):
    """Only some notebooks need it; the server goes on, and with it the kernel that may be paying."""
    with fork_server(around(), later=["json:nothing", "colorsys"]) as server:
        names = map(str, itertools.count())
        asked = "import sys; print(['no', 'yes']['colorsys' in sys.modules])"
        # What comes after the module that fails is imported in its turn.
        wait_until(lambda: "yes\n" == run(tmp_path, asked, server, next(names))[2])
        _, start, _ = run(tmp_path, WHO, server, "then")

    assert "forked" == start


def test_a_fork_server_that_died_takes_its_kernel_along_and_the_next_one_starts_ordinarily(tmp_path):
    """The cell is unknown, for the kernel died; afterwards the run goes on without the server."""
    with fork_server(around()) as server:
        shoot = f"import os, time; os.kill({server.pid}, 9); time.sleep(3600)"
        first, started, _ = run(tmp_path, shoot, server, "first")
        _, then, who = run(tmp_path, WHO, server, "then")

    assert ("forked", "unknown", "DeadKernelError") == (started, first.status, first.error_name)
    assert ("ordinary, since the fork server has ended (exit code -9)", os.getpid()) == (then, who[1])


def test_what_was_begun_early_is_the_next_fork_server_and_no_other():
    """The process starts it before it knows what it will run; a server for another environment is another one."""
    begin_fork_server()
    (begun,) = starting._begun
    with fork_server(around()) as other, fork_server() as first, fork_server() as second:
        assert begun is first
        assert 3 == len({other.pid, first.pid, second.pid})
    assert [] == starting._begun


PROGRAM = """\
import json, sys
from manual_payout import __main__ as console
from truthful_papermill.warm import starting
from truthful_papermill.warm.ahead import prepare_kernels
sys.argv = ["manual-payout", *sys.argv[1:]]
try:
    console.main()
except SystemExit as end:
    print(json.dumps([end.code, [server.pid for server in starting._begun]]), flush=True)
"""


@pytest.mark.parametrize(
    ("typed", "code", "begun"),
    [("--help", None, 0), ("status --help", None, 0), ("run --help", None, 0), ("run --bogus", 2, 1), ("run", 2, 0)],
)
def test_the_program_begins_the_fork_server_of_a_run_alone_and_leaves_none_behind(typed, code, begun):
    """Help is answered without one; what was begun for a run that was mistyped ends with the program."""
    command = [sys.executable, "-c", PROGRAM, *typed.split()]
    done = subprocess.run(command, env=around(), capture_output=True, text=True, check=False)
    said, pids = json.loads(done.stdout.splitlines()[-1]) if code else (None, [])

    assert (code or 0, code, begun) == (done.returncode, said, len(pids))
    assert "Traceback" not in done.stderr
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))


def forked(server, source):
    """Fork a kernel whose cell-less life is *source*'s signal; returns its exit code as the runner is told."""

    async def ask(private):
        environment = kernel_environment(around(), private)
        kernel = await fork_kernel(server, environment=environment, folder=str(private / "work"), arguments=[])
        source(kernel)
        wait_until(lambda: kernel.poll() not in {None, UNTOLD})
        return kernel, kernel.wait()

    with private_folder() as private:
        return asyncio.run(ask(private))


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_kernel_is_reported_as_killed(server, signum):
    """The server tells how it ended, as the system would tell its parent; and it is really gone."""
    kernel, code = forked(server, lambda kernel: kernel.send_signal(signum))

    assert -signum == code == kernel.poll()
    wait_until(lambda: not Path(f"/proc/{kernel.pid}").exists())


def test_a_kernel_that_is_gone_with_its_server_takes_a_signal_in_silence():
    """Nobody has told yet that it has ended, and its number is nobody's: that is no error, least of all on the way out."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    ours, theirs = socket.socketpair()
    with theirs:
        kernel = WarmKernel(child.pid, ours)
        kernel.kill()
        kernel.close()


def test_a_kernel_that_the_runner_lets_go_of_is_killed(server):
    """Closing the channel is enough, whatever else failed."""
    pids = []
    with contextlib.suppress(OSError, ValueError):
        # A closed channel cannot be asked any more.
        forked(server, lambda kernel: (pids.append(kernel.pid), kernel.close()))

    wait_until(lambda: not Path(f"/proc/{pids[0]}").exists())


RUNNER = """\
import os, sys, time
from truthful_papermill.warm.starting import ForkServer
server = ForkServer(os.environ)
print(server.pid, flush=True)
time.sleep(3600)
"""


@pytest.mark.parametrize("stopped", [False, True])
def test_nothing_is_left_running_after_the_runner_is_killed(stopped):
    """The server ends with its runner: while it is still importing, and even where it was stopped itself."""
    runner = subprocess.Popen([sys.executable, "-c", RUNNER], stdout=subprocess.PIPE, text=True)
    server = int(runner.stdout.readline())
    if stopped:
        # It ties itself to its runner before it imports anything.
        wait_until(lambda: "zmq" in Path(f"/proc/{server}/maps").read_text())
        os.kill(server, signal.SIGSTOP)
    runner.kill()
    runner.communicate()

    wait_until(lambda: not is_running(server))


def test_the_server_ends_by_its_socket_alone(tmp_path):
    """Where a system cannot tie one process's death to another's, the closed socket does."""
    found = []

    def start():
        # Off the main thread nothing is tied, since the thread's end would be taken for the runner's.
        with fork_server(around()) as server:
            found.append((server.pid, run(tmp_path, WHO, server)[1]))

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()

    assert "forked" == found[0][1]
    assert not is_running(found[0][0])


def test_a_process_with_threads_is_not_forked():
    """What another thread holds at that moment would be held for ever in the child."""
    assert "" == _in_a_process_of_its_own("")
    assert "threads" in _in_a_process_of_its_own("threading.Thread(target=time.sleep, args=(9,), daemon=True).start()")


def _in_a_process_of_its_own(before):
    code = (
        f"import threading, time\nfrom {server_module.__name__} import _why_not_fork\n{before}\nprint(_why_not_fork())"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_a_refusal_of_the_server_is_an_error_with_its_reason(server):
    """Nothing half started is left behind."""

    async def ask():
        await fork_kernel(server, environment={"HOME": "/elsewhere"}, folder="/", arguments=[])

    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(NoKernelError, match=r"differs from the fork server's in .*HOME"):
        asyncio.run(ask())
    assert before == len(list(Path("/proc/self/fd").iterdir()))


def test_jupyter_finds_the_provisioner_by_its_name():
    """A kernel specification may ask for it too, and gets an ordinary kernel where nobody offers a fork server."""
    found = KernelProvisionerFactory.instance().get_provisioner_entries()

    assert f"{WarmProvisioner.__module__}:{WarmProvisioner.__name__}" == found["manual-payout-warm"]


@pytest.mark.parametrize("folder", [None, "elsewhere"])
def test_the_provisioner_starts_ordinary_kernels_of_other_peoples_managers(tmp_path, monkeypatch, folder):
    """As Jupyter's default, whatever the kernel's command is, and whether or not it is told where to stand."""
    monkeypatch.setenv("JUPYTER_DEFAULT_PROVISIONER_NAME", NAME)
    monkeypatch.setattr(KernelProvisionerFactory, "_instance", None)
    where = {} if folder is None else {"cwd": str(tmp_path)}
    manager, said = KernelManager(kernel_name="python3"), []
    manager.start_kernel(**where)
    try:
        client = manager.blocking_client()
        client.start_channels()
        client.wait_for_ready(timeout=60)
        client.execute_interactive("import os; print(os.getcwd())", output_hook=said.append, timeout=60)
        client.stop_channels()
    finally:
        manager.shutdown_kernel(now=True)

    assert isinstance(manager.provisioner, WarmProvisioner)
    printed = "".join(message["content"].get("text", "") for message in said)
    assert f"{tmp_path if folder else Path.cwd()}\n" == printed


def test_the_record_of_a_forked_kernel_reads_like_any_other(tmp_path, server):
    """The notebook is read as completed, and no field of it differs but the start of its kernel."""
    run(tmp_path, "1 + 1", server, "forked")
    run(tmp_path, "1 + 1", None, "ordinary")
    books = [read_notebook(tmp_path / f"{name}.ipynb") for name in ("forked", "ordinary")]
    shapes = [
        sorted({**book.metadata, **book.metadata.papermill, **book.metadata.truthful_papermill}) for book in books
    ]

    assert shapes[0] == shapes[1]
    assert [read_status(book) for book in books] == [read_status(books[0])] * 2
    assert books[0].metadata.language_info == books[1].metadata.language_info


def test_a_kernel_that_was_prepared_is_the_one_that_runs(tmp_path, server):
    """It is forked while the notebook before it runs, and is told nothing before its own."""
    _, _, first = run(tmp_path, WHO, server, "first", started=lambda: prepare_kernels(server, around()))
    wait_until(lambda: not server.ahead[0].pending)
    ahead = server.ahead[0].place.manager.prepared
    _, start, second = run(tmp_path, WHO, server, "second")

    assert ("forked", ahead.pid) == (start, second[0])
    assert first[0] != second[0]
    assert not is_running(ahead.pid)


@pytest.mark.parametrize("why", ["it has died", "another environment"])
def test_a_prepared_kernel_that_does_not_fit_is_not_used(tmp_path, server, why):
    """Its notebook gets another one, and the prepared one is gone, with its folder."""
    prepare_kernels(server, around() | ({"MANUAL_PAYOUT_OPERATOR": "tomas"} if why == "another environment" else {}))
    ahead = server.ahead[0]
    wait_until(lambda: not ahead.pending)
    kernel = ahead.place.manager.prepared
    if why == "it has died":
        kernel.kill()
        wait_until(lambda: kernel.poll() is not None)
    _, start, who = run(tmp_path, WHO, server)

    assert "forked" == start
    assert kernel.pid != who[0]
    assert not is_running(kernel.pid)
    assert not ahead.place.private.exists()


def test_a_kernel_that_nobody_took_is_gone_with_the_server(tmp_path):
    """Also one that is still being forked, by a server that is still importing."""
    for patient in (False, True):
        with fork_server(around()) as server:
            prepare_kernels(server, around())
            ahead = server.ahead[0]
            if patient:
                wait_until(lambda ahead=ahead: not ahead.pending)
            kernel = ahead.place.manager.prepared

        assert patient == (kernel is not None)
        assert not (patient and is_running(kernel.pid))
        assert not ahead.place.private.exists()
        assert not is_running(server.pid)


def test_an_errand_is_done_in_a_process_of_its_own(server):
    """It answers with a text of any length, and is gone; one that fails is the caller's to do."""
    assert "&lt;" * 1_000_000 == run_errand(server, "html:escape", "<" * 1_000_000)
    with pytest.raises(NoKernelError, match="ended before it answered"):
        run_errand(server, "json:loads", "{")


def test_an_answer_that_breaks_off_is_none():
    """Its process was killed while it spoke; the caller does the errand itself, and a folder is sealed all the same."""

    kept = []

    def send(channel):
        # It still hears what it is told, and says no more.
        kept.append(channel.dup())
        kept[0].sendall(b'{"pid": 1}\n{"answer": "half of i')
        kept[0].shutdown(socket.SHUT_WR)

    half = SimpleNamespace(why_not="", send=send)
    with pytest.raises(NoKernelError, match="did not answer"):
        run_errand(half, "html:escape", "")
    kept[0].close()


HOLDING = """\
import os, sys, time
from truthful_papermill.warm.manager import private_folder
with private_folder() as folder:
    (folder / "kernel.json").touch()
    os.utime(folder, (0, 0))
    print(folder, flush=True)
    time.sleep(60)
"""


@pytest.fixture(name="near")
def _near():
    """A temporary folder whose name is short enough for a kernel's sockets."""
    with tempfile.TemporaryDirectory(prefix="pf") as folder:
        yield Path(folder)


def test_the_folder_of_a_killed_run_is_removed_by_the_next_and_no_other(near, monkeypatch):
    """While it lives its folder stays, whatever its age; so does what others have called alike."""
    monkeypatch.setattr("tempfile.tempdir", str(near))
    reports, linked, strange = (near / name for name in ("payout-reports", "payout-abcdefgh", "payout-mydata01"))
    for folder in (reports, strange):
        folder.mkdir(mode=0o700)
        (folder / "q3.csv").touch()
        os.utime(folder, (0, 0))
    linked.symlink_to(reports)
    others = sorted(near.iterdir())
    with subprocess.Popen(
        [sys.executable, "-c", HOLDING], env=os.environ | {"TMPDIR": str(near)}, stdout=subprocess.PIPE, text=True
    ) as process:
        held = Path(process.stdout.readline().strip())
        with private_folder() as mine:
            assert sorted([*others, held, mine]) == sorted(near.iterdir())
        process.kill()
    assert held.exists()
    with private_folder() as mine:
        assert sorted([*others, mine]) == sorted(near.iterdir())
