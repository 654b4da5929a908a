"""Waits that people sit through: told from the beginning, given up after a minute, and never at the lease's cost."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import time
from datetime import datetime, timedelta

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from manual_payout import transfer
from manual_payout.database import waiting
from manual_payout.database.clock import DatabaseClock, FixedClock, SandboxClock
from manual_payout.database.waiting import pass_time, wait_for
from manual_payout.desk.wiring import kernel_environment
from manual_payout.domain.errors import UnknownOutcomeError
from manual_payout.domain.models import State
from payout_rehearsal.demo import incident
from shells import Shell
from truthful_papermill.engine import SAID, execute
from truthful_papermill.redaction import Redactor
from truthful_papermill.terminal import Lines, telling

NOW = datetime.fromisoformat(incident.NOW)
UNTIL = f"until {NOW + timedelta(seconds=160):%Y-%m-%d %H:%M:%S} UTC"


class KilledError(Exception):
    """The run's process is gone."""


@pytest.fixture(name="crashed")
def _crashed(scene, monkeypatch):
    """A scene whose run was killed with its request on the way, seen with a clock at which waiting takes time."""

    def dies(*_, **__):
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(scene.desk.gateway, "create_transfer", dies)
        with pytest.raises(KilledError):
            scene.send()
    monkeypatch.setattr(waiting, "PATIENCE_S", 0.6)
    monkeypatch.setattr(waiting, "LOOK_S", 0.1)
    monkeypatch.setattr(SandboxClock, "takes_time", True, raising=False)
    monkeypatch.setattr(SandboxClock, "wait", lambda _self, seconds: time.sleep(seconds))
    return scene


@pytest.mark.parametrize("command", ["send", "reconcile"])
def test_whoever_waits_for_a_lease_is_told_whose_it_is_and_when_to_come_back(crashed, command, capsys):
    """Who, until when, how long already; and after a minute the command and the hour, with the lease untouched."""
    before = crashed.record
    with pytest.raises(UnknownOutcomeError) as ended:
        getattr(crashed, command)(crashed.new_desk())
    error, told = ended.value, capsys.readouterr().out

    assert f"is in the hands of {before.owner} {UNTIL} by the database's clock, 160 s from now." in told
    assert "Waited 0 s, at most 1 s." in told
    assert f"in the hands of {before.owner} {UNTIL}" in error.message
    assert (4, True) == (error.exit_code, "set back" not in error.message)
    assert f"Run `manual-payout reconcile INC-123` after {UNTIL.removeprefix('until ')}" in error.remedy
    assert (before.lease_until, before.fence, []) == (
        crashed.record.lease_until, crashed.record.fence, crashed.transfers,
    )  # fmt: skip


def test_a_clock_that_was_set_back_is_named_and_gives_nobody_the_lease(crashed, monkeypatch):
    """Two hours of lease are none that anybody was given; the wait is measured as it passes, and the lease stands."""
    back = crashed.desk.now() - timedelta(hours=2)
    monkeypatch.setattr(SandboxClock, "now", lambda _self: back)
    began = time.monotonic()
    with pytest.raises(
        UnknownOutcomeError, match=r"7360 s from now\. This policy gives a run 160 s: that clock was set back"
    ):
        crashed.reconcile(crashed.new_desk())

    assert 0.6 <= time.monotonic() - began < 30
    assert [] == crashed.transfers


def test_a_run_that_ends_meanwhile_is_not_waited_for_any_longer(crashed, monkeypatch):
    """What it came to is found at the next look."""
    held, looks = crashed.record, []

    def wait(_self, _seconds):
        looks.append(1)
        if len(looks) == 2:
            transfer.delivery.deliver_attempt(crashed.desk, held)

    monkeypatch.setattr(SandboxClock, "wait", wait)

    assert State.PAID is crashed.reconcile(crashed.new_desk()).record.state
    assert (2, 1) == (len(looks), len(crashed.transfers))


def test_reconcile_shows_what_it_waits_for_and_ends_in_4(crashed):
    """On a log's standard error as a line now and then, and the remedy says when to come back."""
    names = ("PATH", "HOME")
    environment = {name: os.environ[name] for name in names if name in os.environ} | kernel_environment(
        crashed.settings
    )
    shell = Shell(crashed.settings.outputs_dir, crashed.stripe, crashed.desk, environment)
    answer = shell("reconcile", incident.INCIDENT_ID, "--operator", incident.OPERATOR)

    assert (4, "") == (answer.code, answer.out)
    first, *others = answer.err.splitlines()
    assert f"is in the hands of {crashed.record.owner} {UNTIL}" in first
    assert others[0].startswith("Outcome unknown: ")
    assert any(line.startswith("What to do: Run `manual-payout reconcile INC-123` after ") for line in others)


def test_at_a_test_clock_a_lease_is_waited_out_at_once_and_nothing_is_told(capsys):
    """Nobody sits there; a lease that is renewed for ever is given up all the same."""
    clock = FixedClock(NOW)
    ends = NOW + timedelta(seconds=164)

    assert wait_for(clock, lambda: clock.now() >= ends, lambda: "told", ends_s=164)
    assert not wait_for(clock, lambda: False, lambda: "told", ends_s=164)
    assert "" == capsys.readouterr().out


def test_a_pause_is_told_where_it_takes_time(capsys, monkeypatch):
    """Between two tries, and between two looks at the settlement."""
    clock, slept = DatabaseClock.__new__(DatabaseClock), []
    monkeypatch.setattr(DatabaseClock, "wait", lambda _self, seconds: slept.append(seconds))
    with telling(Lines(every_s=0).show):
        pass_time(clock, 5.0, "Stripe's answer was rate_limit; the same key is sent again.")

    assert [2.0, 2.0, 1.0] == slept
    assert "the same key is sent again. Waiting for 5 s.\n" in capsys.readouterr().out


def test_what_a_cell_prints_while_it_runs_is_shown_beside_its_stage_without_secrets(tmp_path):
    """A run's terminal shows what the send waits for; the notebook keeps it."""
    seen = []
    first = new_code_cell("amount: str = '1'", metadata={"tags": ["parameters"]})
    nb = new_notebook(cells=[first, new_code_cell("print('Waiting for sk_test_hidden_word.\\x1b[2J', flush=True)")])
    nb.metadata.update(
        kernelspec={"name": "python3", "display_name": "Python 3", "language": "python"},
        language_info={"name": "python"},
    )
    (tmp_path / "template.ipynb").write_text(nbformat.writes(nb), "utf-8")
    execute(
        tmp_path / "template.ipynb", tmp_path / "out.ipynb", {}, redactor=Redactor(["sk_test_hidden_word"]),
        progress=lambda *step: seen.append(step),
    )  # fmt: skip
    said = [title for event, _, _, title in seen if event == SAID]

    assert 1 == len(said)
    assert said[0].startswith("Waiting for ")
    assert "hidden" not in said[0]
    assert "\x1b" not in said[0]


@pytest.mark.parametrize("terminal", [True, False])
def test_time_is_seen_to_pass(terminal):
    """On a terminal one line that changes; in a log a line, and another one ten seconds later."""
    code = (
        "import sys, time\nfrom manual_payout.cli.answers import waits_shown\nfrom truthful_papermill.terminal import tell\n"
        "with waits_shown(as_json=False):\n"
        "    for n in range(4):\n        tell(f'Waited {n} s.', begins=not n)\n        time.sleep(0.3)\n"
    )
    ours, theirs = pty.openpty() if terminal else os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", code], stderr=theirs, env={"PATH": os.environ["PATH"], "TERM": "xterm"}
    )  # fmt: skip
    os.close(theirs)
    assert 0 == process.wait(60)
    said = os.read(ours, 100_000).decode()
    os.close(ours)

    assert "Waited 0 s." in said
    assert terminal == ("Waited 3 s." in said)
