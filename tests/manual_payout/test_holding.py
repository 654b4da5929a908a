"""One evidence folder, several people: one works there at a time, and everybody else is told who it is."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from manual_payout import steps
from manual_payout.database.machine import machine_name
from manual_payout.desk.wiring import kernel_environment
from manual_payout.domain.account import Standing
from manual_payout.domain.errors import EvidenceError, ManualPayoutError
from manual_payout.domain.models import Stage
from manual_payout.evidence import holding as module
from manual_payout.evidence.folder import Folder
from manual_payout.evidence.holding import HeldError, hold, holder_of, holding, holds, reading
from manual_payout.evidence.verifier import SIGNATURE, check_contents, check_files, read_folder
from manual_payout.steps.run import work_alone
from manual_payout.steps.runner import _alone, _under_the_next_name
from payout_rehearsal import file_and_approve
from payout_rehearsal.demo import incident
from shells import FLAGS
from truthful_papermill.engine import NameTakenError
from truthful_papermill.redaction import Redactor

PROGRAM = [sys.executable, "-c", "from manual_payout.__main__ import main; main()"]
FOLDER = Path(incident.INCIDENT_ID, incident.LEDGER_PAYOUT_ID)
OPERATOR = ["--operator", incident.OPERATOR]
RUN = ["run", *(word for flag in FLAGS.items() for word in flag), *OPERATOR]
PATIENCE_S = 120
OTHER = """\
import sys, time
from pathlib import Path
from manual_payout.evidence.holding import hold
hold(Path(sys.argv[1]), who="maya", what="a live run")
print("held", flush=True)
time.sleep(600)
"""
# Adds one to a number in a file, a hundred times, as nobody could who is not alone.
COUNTING = """\
import sys
from pathlib import Path
from manual_payout.evidence.holding import holding
folder, number = Path(sys.argv[1]), Path(sys.argv[2])
for _ in range(100):
    with holding(folder, who="x", what="counting", wait_s=60):
        number.write_text(str(int(number.read_text()) + 1))
"""


@pytest.fixture(name="other")
def _other(tmp_path):
    """A process of somebody else's that works in the folder."""
    process = subprocess.Popen([sys.executable, "-c", OTHER, tmp_path / "folder"], stdout=subprocess.PIPE, text=True)
    assert "held\n" == process.stdout.readline()
    yield process
    process.kill()
    process.communicate()


@pytest.fixture(scope="module", name="approved")
def _approved(open_shell, tmp_path_factory):
    """A scene whose request is approved; nothing has run."""
    with open_shell(tmp_path_factory.mktemp("holding")) as shell:
        file_and_approve(shell.desk)
        yield shell


def pair(scene, *arguments):
    """Give the same command twice at once; return exit codes and what was said, the better one first."""
    both = [
        subprocess.Popen(
            [*PROGRAM, *arguments], env=scene.environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    said = [process.communicate(timeout=PATIENCE_S)[1] for process in both]
    return sorted(zip([process.returncode for process in both], said, strict=True))


def test_the_second_is_told_who_is_there_since_when_and_what_to_do(tmp_path, other):
    """All that is needed to find them."""
    with pytest.raises(HeldError) as refused, holding(tmp_path / "folder", who="tomas", what="a live run"):
        pass

    assert f"a live run by maya on {machine_name()}, process {other.pid}, since 20" in refused.value.message
    assert " UTC" in refused.value.message
    assert "Wait until that has ended" in refused.value.remedy
    assert 6 == refused.value.exit_code


def test_a_folder_is_free_at_once_when_its_holder_was_shot(tmp_path, other):
    """Nobody waits for the dead, and what they left behind is taken away by the next."""
    other.send_signal(signal.SIGKILL)
    other.wait()
    with holding(tmp_path / "folder", who="tomas", what="a dry run"):
        assert "tomas" == holder_of(tmp_path / "folder").who

    assert [] == list(tmp_path.iterdir())


def test_who_comes_for_a_moment_waits_for_a_moment(tmp_path, other):
    """A seal waits for a seal, for as long as was said."""
    began = time.monotonic()
    with pytest.raises(HeldError), holding(tmp_path / "folder", who="tomas", what="sealing", wait_s=0.5):
        pass

    assert 0.5 <= time.monotonic() - began < 30


def test_one_process_may_hold_a_folder_as_often_as_it_likes(tmp_path):
    """A run seals what it runs in."""
    with holding(tmp_path / "folder", who="tomas", what="a run"):
        with holding(tmp_path / "folder", who="tomas", what="sealing"):
            pass
        assert holds(tmp_path / "folder")

    assert not holds(tmp_path / "folder")


def test_nobody_is_ever_there_beside_another(tmp_path):
    """Four processes come and go, and each finds what the one before has left."""
    number = tmp_path / "number"
    number.write_text("0")
    command = [sys.executable, "-c", COUNTING, tmp_path / "folder", number]
    for process in [subprocess.Popen(command) for _ in range(4)]:
        assert 0 == process.wait(PATIENCE_S)

    assert "400" == number.read_text()


def test_a_disk_without_locks_keeps_nobody_out_and_says_so(tmp_path, monkeypatch, caplog):
    """Some network disks know none; names are taken by one alone there too, and the database guards the money."""

    def no_locks(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with caplog.at_level(logging.WARNING), holding(tmp_path / "folder", who="tomas", what="a run"):
        assert holds(tmp_path / "folder")

    assert "knows no locks; see that nobody else works there" in caplog.text


def test_who_may_only_read_a_folder_reads_it(tmp_path, monkeypatch):
    """An auditor's disk is written by nobody."""

    def read_only(*_):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(module, "_take_in", read_only)
    with reading(tmp_path / "folder", who="tomas", what="attaching"):
        pass

    with pytest.raises(EvidenceError, match="Read-only file system; nothing ran"):
        hold(tmp_path / "folder", who="tomas", what="a run")


def test_a_number_that_somebody_else_takes_meanwhile_is_followed_by_the_next(tmp_path):
    """A name is taken by the first save alone, whoever looked before."""
    folder, tried = Folder(tmp_path, Redactor()), []

    def run(path):
        tried.append(path.name)
        if len(tried) < 3:
            path.touch()
            raise NameTakenError("taken", "")
        return path

    assert "4-notify-03.ipynb" == _under_the_next_name(folder, Stage.NOTIFY, (), run).name
    assert ["4-notify-01.ipynb", "4-notify-02.ipynb", "4-notify-03.ipynb"] == tried


def test_two_terminals_on_one_incident(approved):
    """One runs, the other is told who; never a traceback, and what is sealed afterwards is whole."""
    (first, _), (second, said) = pair(approved, *RUN, "--dry-run")

    assert (0, 6) == (first, second), said
    assert "Not finished yet: Somebody else works in " in said
    assert f"a dry run by tomas on {machine_name()}, process " in said
    assert "Traceback" not in said
    sealed = read_folder(approved.root / FOLDER)
    assert [] == [found.line() for found in check_files(sealed) + check_contents(sealed, {}, "", "") if found.wrong
                  and "reviewed" not in found.line()]  # fmt: skip


def test_sealing_excludes_sealing(approved):
    """The second seal waits for the first, and continues it."""
    for _ in range(3):
        found = pair(approved, "seal", incident.INCIDENT_ID, *OPERATOR)
        assert [0, 0] == [code for code, _ in found], found
    sealed = read_folder(approved.root / FOLDER)

    assert (approved.root / FOLDER / SIGNATURE).is_file()
    assert [] == [found.line() for found in check_files(sealed) if found.wrong]


@pytest.mark.parametrize(
    "arguments",
    [["seal", incident.INCIDENT_ID], ["attach", incident.INCIDENT_ID, "--to", "."], [*RUN[:-2], "--stage", "settle"]],
    ids=lambda arguments: arguments[0],
)
def test_whatever_needs_the_folder_at_rest_is_told_who_is_there(approved, arguments, tmp_path, monkeypatch):
    """Run, seal and attach are refused while somebody works there, with exit code 6, and change nothing."""
    monkeypatch.setattr(module, "MOMENT_S", 0.0)
    monkeypatch.setattr("manual_payout.steps.runner.MOMENT_S", 0.0)
    monkeypatch.chdir(tmp_path)
    folder = approved.root / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    process = subprocess.Popen([sys.executable, "-c", OTHER, folder], stdout=subprocess.PIPE, text=True)
    assert "held\n" == process.stdout.readline()
    answer = approved(*arguments, *OPERATOR)
    process.kill()
    process.communicate()

    assert 6 == answer.code, answer.err
    assert f"a live run by maya on {machine_name()}, process {process.pid}" in answer.err
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_papermill_alone_is_kept_out_of_a_run(approved, tmp_path):
    """Whoever runs notebook by notebook is somebody too."""
    folder = approved.root / FOLDER
    values = {"operator": "tomas", "dry_run": "True"} | {
        name.removeprefix("--").replace("-", "_"): value for name, value in FLAGS.items()
    }
    given = [word for name, value in values.items() for word in ("-p", name, value)]
    command = [
        sys.executable, "-m", "papermill", "--engine", "manual_payout", "runbooks/1-verify.ipynb",
        tmp_path / "out.ipynb", *given,
    ]  # fmt: skip
    environment = {name: value for name, value in approved.environment.items() if name != "MANUAL_PAYOUT_RUNNER"}
    with holding(folder, who="maya", what="a live run"):
        done = subprocess.run(
            command, cwd=Path(__file__).parents[2], env=environment, capture_output=True, check=False,
            timeout=PATIENCE_S,
        )  # fmt: skip

    assert 0 != done.returncode
    assert f"a live run by maya on {machine_name()}, process {os.getpid()}" in (tmp_path / "out.ipynb").read_text()


def test_a_notebook_by_itself_holds_the_folder_until_its_stage_has_ended(scene, monkeypatch):
    """So that a run that begins meanwhile is told of it."""
    for name, value in kernel_environment(scene.settings).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("scrapbook.glue", lambda *_, **__: None)  # there is no kernel
    run = steps.begin("1-verify", scene.typed(dry_run=True).as_dict())
    during = holds(run.folder.path)
    run.verdict = "GO"
    steps.conclude(run)

    assert (True, False) == (during, holds(run.folder.path))


def test_a_notebook_of_a_run_is_within_what_the_run_holds(tmp_path, other, monkeypatch):
    """Its runner is there already; anybody else's is somebody else."""
    tomas = SimpleNamespace(handle="tomas")
    monkeypatch.setenv("MANUAL_PAYOUT_RUNNER", str(other.pid))
    work_alone(Folder(tmp_path / "folder", Redactor()), tomas, "1-verify")
    monkeypatch.setenv("MANUAL_PAYOUT_RUNNER", str(os.getpid()))

    with pytest.raises(HeldError, match="a live run by maya"):
        work_alone(Folder(tmp_path / "folder", Redactor()), tomas, "1-verify")


@pytest.mark.parametrize(("standing", "code"), [(Standing.NOTHING, 6), (Standing.OPEN, 4)])
def test_whoever_is_too_late_is_told_whether_money_may_be_on_its_way(tmp_path, other, monkeypatch, standing, code):
    """Not finished, or outcome unknown: never that nothing has moved, which only the other one knows."""
    monkeypatch.setattr("manual_payout.steps.runner.account_at", lambda *_: SimpleNamespace(standing=standing))
    folder, desk = Folder(tmp_path / "folder", Redactor()), SimpleNamespace(payout_in=lambda stream: stream)
    with pytest.raises(ManualPayoutError) as refused, _alone(desk, folder, "tomas", "a live run"):
        pass

    assert code == refused.value.exit_code
    assert f"a live run by maya on {machine_name()}, process {other.pid}" in refused.value.message
    assert (code == 4) == ("`manual-payout status " in refused.value.remedy)
