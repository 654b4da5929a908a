"""Displays that fail: a reader that goes away, a full disk, a terminal that is hung up. None of them ends a run."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import pty
import shlex
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from manual_payout.cli.answers import LiveLine
from manual_payout.domain.models import State
from manual_payout.evidence.verifier import MANIFEST, SIGNATURE
from payout_rehearsal import file_and_approve
from payout_rehearsal.demo import incident
from proofs import leave_dry_run
from shells import FLAGS
from truthful_papermill import terminal

PROGRAM = [sys.executable, "-c", "from manual_payout.__main__ import main; main()"]
FOLDER = Path(incident.INCIDENT_ID, incident.LEDGER_PAYOUT_ID)
RUN = ["run", *(word for flag in FLAGS.items() for word in flag), "--operator", incident.OPERATOR]
PATIENCE_S = 120


@pytest.fixture(scope="module", name="approved")
def _approved(open_shell, tmp_path_factory):
    """A scene whose request is approved and whose dry run is on record."""
    with open_shell(tmp_path_factory.mktemp("terminal")) as shell:
        request = file_and_approve(shell.desk)
        shell.line_id = request.line_for().line_id
        shell.confirm = leave_dry_run(shell.desk, request)
        yield shell


def in_shell(scene, line, *arguments, **environment):
    """Run ``manual-payout`` with *arguments* as the shell's *line* says, where ``"$@"`` stands for it."""
    return subprocess.run(
        ["bash", "-c", line, "bash", *PROGRAM, *arguments], env=scene.environment | environment, capture_output=True,
        text=True, check=False, timeout=PATIENCE_S,
    )  # fmt: skip


@pytest.mark.parametrize("target", ["/dev/full", "closed pipe"])
def test_what_cannot_be_written_is_lost_and_the_reason_is_kept(target):
    """No write raises, at any layer, and the end of the program finds nothing left over."""
    if target == "closed pipe":
        reader, descriptor = os.pipe()
        os.close(reader)
    else:
        descriptor = os.open(target, os.O_WRONLY)
    outlet = terminal.Outlet(descriptor)
    outlet.write(b"x" * 100_000)
    os.close(descriptor)

    assert {"/dev/full": errno.ENOSPC}.get(target, errno.EPIPE) == outlet.failure.errno
    assert 3 == outlet.write(b"yes")


def test_what_shares_its_pipe_with_somebody_who_never_waits_waits_all_the_same():
    """A pipe that another process made non-blocking loses nothing."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    filled = fcntl.fcntl(writer, fcntl.F_GETPIPE_SZ)
    os.write(writer, b"x" * filled)
    pid = os.fork()
    if not pid:
        os.read(reader, filled)
        os._exit(0)
    outlet = terminal.Outlet(writer)

    assert 3 == outlet.write(b"yes")
    assert outlet.failure is None
    os.waitpid(pid, 0)
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize("line", ['"$@" > /dev/full', '"$@" 2> /dev/full', '"$@" > /dev/full 2>&1', '"$@" | true'])
@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["no-such-command"]], ids=" ".join)
def test_help_and_usage_end_as_ever_whoever_reads(quiet_shell, line, arguments):
    """Neither a traceback nor Python's own 120."""
    done = in_shell(quiet_shell, f"set -o pipefail; {line}", *arguments)

    assert (2 if arguments == ["no-such-command"] else 0) == done.returncode
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize("arguments", [["status"], ["status", "--json"], ["keys", "show", "--json"]], ids=" ".join)
def test_a_question_whose_answer_is_lost_on_a_full_disk_is_no_success(quiet_shell, arguments):
    """Whoever reads the file later would take it for the whole answer; it is said, and not by a traceback."""
    done = in_shell(quiet_shell, '"$@" > /dev/full', *arguments)

    assert 5 == done.returncode, done.stderr
    assert "The answer could not be written to standard output: No space left on device." in done.stderr
    assert "Traceback" not in done.stderr


def test_a_question_whose_reader_had_enough_is_answered(quiet_shell):
    """`status | head -0` is a choice, and no failure."""
    done = in_shell(quiet_shell, 'set -o pipefail; "$@" | true', "status")

    assert (0, "") == (done.returncode, done.stderr)


def test_a_deed_whose_answer_is_lost_is_done(approved):
    """The exit code says what was done; that it could not be written down is said beside it."""
    done = in_shell(approved, '"$@" > /dev/full', "deliver", "--operator", "tomas", "--json")

    assert 0 == done.returncode, done.stderr
    assert "Standard output did not take the whole answer: No space left on device." in done.stderr


@pytest.mark.parametrize("line", ['"$@" 2> /dev/full', '"$@" 2> >(exec 0<&-; sleep 5)'])
def test_nobody_signs_what_could_not_be_shown(approved, line):
    """A display that fails is no reason to stop, unless a person was about to sign what it showed."""
    before = approved.desk.store.find_request(incident.INCIDENT_ID)
    flags = ["--amount", incident.AMOUNT, "--destination-last4", "_123", "--json"]
    done = in_shell(approved, line, "approve", incident.INCIDENT_ID, "--as", "amara", *flags)

    assert (3, "") == (done.returncode, done.stdout)
    assert 2 == len(approved.desk.store.approvals_of(before.request_id))


def test_a_reader_that_goes_away_costs_a_live_run_nothing(approved):
    """Transfer, log, notification, settlement and seal are there, and the exit code is that of the run."""
    done = in_shell(
        approved, f'set -o pipefail; "$@" --confirm {shlex.quote(approved.confirm)} 2>&1 | head -1', *RUN
    )  # fmt: skip
    folder = approved.root / FOLDER
    record = approved.desk.store.find_payout(approved.line_id)

    assert State.PAID is record.state
    assert ["1-verify-01", "2-execute-01", "3-log-01", "4-notify-01", "5-settle-01"] == sorted(
        path.stem for path in folder.glob("*.ipynb")
    )
    assert (folder / MANIFEST).is_file()
    assert (folder / SIGNATURE).is_file()
    last = json.loads((folder / "5-settle-01.ipynb").read_text("utf-8"))["metadata"]["papermill"]["exception"]
    assert (6 if last else 0) == done.returncode


def test_a_terminal_that_is_hung_up_ends_no_run(approved):
    """SIGHUP comes, every write fails with EIO, and the run goes on to its end."""
    ours, theirs = pty.openpty()

    def in_the_terminal():
        os.setsid()
        fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)

    arguments = [*RUN, "--stage", "log"]
    process = subprocess.Popen(
        [*PROGRAM, *arguments], stdin=theirs, stdout=theirs, stderr=theirs,
        env=approved.environment | {"TERM": "xterm"}, preexec_fn=in_the_terminal,  # noqa: PLW1509
    )  # fmt: skip
    os.close(theirs)
    os.read(ours, 10)
    os.close(ours)

    assert 0 == process.wait(PATIENCE_S)
    assert list((approved.root / FOLDER).glob("3-log-0*.html"))


@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, {"TERM": ""}, {"PYTHONIOENCODING": "ascii"}], ids=str)
def test_a_poor_terminal_shows_the_stages_all_the_same(environment):
    """Without letters, without a cursor: a line a stage, or one that moves, and no traceback."""
    code = (
        "from truthful_papermill.terminal import guard; guard()\n"
        "from manual_payout.cli.answers import progress\nfrom manual_payout.domain.models import Stage\n"
        "with progress(as_json=False) as show:\n"
        "    for event in ('running', 'completed'):\n        show(Stage.EXECUTE, event, 1, 1, 'Übertragung →')\n"
    )
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=theirs, stdout=theirs, stderr=theirs,
        env={"PATH": os.environ["PATH"], "TERM": "xterm"} | environment,
    )  # fmt: skip
    os.close(theirs)
    code = process.wait(PATIENCE_S)
    said = os.read(ours, 10_000).decode()
    os.close(ours)

    assert 0 == code, said
    assert "2-execute" in said
    assert "Traceback" not in said


def on_a_terminal(scene, *arguments, columns=80, **environment):
    """What a command writes to a terminal of that width, with its exit code."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen(
        [*PROGRAM, *arguments], stdin=theirs, stdout=theirs, stderr=theirs, env=scene.environment | environment
    )
    os.close(theirs)
    said = b""
    with contextlib.suppress(OSError):
        while more := os.read(ours, 10_000):
            said += more
    os.close(ours)
    return process.wait(PATIENCE_S), said.decode().replace("\r\n", "\n")


@pytest.mark.parametrize("columns", [40, 80])
def test_a_table_is_whole_on_a_narrow_terminal(approved, columns):
    """No line is longer than the terminal is wide, and nothing of it is left out."""
    code, said = on_a_terminal(approved, "status", columns=columns, TERM="xterm", COLUMNS=str(columns))

    assert 0 == code, said
    assert columns >= max(map(len, said.splitlines()))
    assert incident.STUDIO_NAME in said


@pytest.mark.parametrize("term", ["dumb", "unknown"])
def test_a_terminal_that_knows_no_codes_gets_none(approved, term):
    """They would be shown instead of a colour, in the very sentence that says what went wrong."""
    code, said = on_a_terminal(approved, "approve", "INC-999", "--as", "priya", TERM=term)

    assert 0 != code
    assert "What to do: " in said
    assert "\x1b" not in said


def test_a_display_with_a_fault_of_its_own_ends_nothing(monkeypatch):
    """Whatever draws on the terminal may be wrong; it is not what the run is about."""
    live = LiveLine(as_json=False)
    monkeypatch.setattr(live._console, "print", lambda *_, **__: 1 / 0)

    assert live.keep("  2-execute …") is None
