"""The program as a shell starts it: whatever is closed, and whenever Ctrl-C comes."""

from __future__ import annotations

import os
import signal
import site
import subprocess
import sys
import time
from pathlib import Path

import pytest

import manual_payout
from truthful_papermill.warm.environment import trusted_path

PROGRAM = [sys.executable, "-c", "from manual_payout.__main__ import main; main()"]
# Says when it is under way, and then takes its time.
SLOW = """\
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.argv = ["manual-payout", *sys.argv[1:]]
from truthful_papermill.warm import starting
starting.begin = lambda _: (print("begun", flush=True), time.sleep(60))
from manual_payout.__main__ import main
main()
"""


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_stream_is_no_reason_to_fail(closed):
    """Whoever closes one (a scheduler, a careless script) loses what would have been written there, and nothing else."""
    shell = ["/bin/sh", "-c", f'exec "$@" {closed}', "sh", *PROGRAM, "--help"]
    done = subprocess.run(shell, capture_output=True, text=True, check=False)

    assert 0 == done.returncode, done.stderr
    assert "Traceback" not in done.stderr
    assert (">&-" not in closed.replace("2>&-", "")) == ("Usage: " in done.stdout)


def test_what_is_opened_later_gets_no_number_of_a_closed_stream():
    """A file or a socket that had one would be written into by whatever prints."""
    code = (
        "import os, sys\nfrom manual_payout import __main__ as console\nconsole._open_what_is_closed()\n"
        "number = os.open('/dev/null', os.O_RDONLY)\nprint('lost')\nos._exit(number > 2)"
    )
    shell = ["/bin/sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, "-c", code]

    assert 1 == subprocess.run(shell, check=False).returncode


def test_ctrl_c_before_anything_is_imported_is_130_without_a_traceback():
    """The tenth of a second before the command line is there counts too."""
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, "run"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )  # fmt: skip
    assert "begun\n" == process.stdout.readline()
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)

    assert (130, "") == (process.returncode, said)


@pytest.mark.parametrize("where", ["on PYTHONPATH", "where the operator stands"])
def test_a_planted_package_is_not_read_by_the_command(tmp_path, where):
    """The command holds the key as kernels do: what lies about under the name of a package that it uses is not read."""
    for name in ("stripe", "requests", "sqlalchemy", "pydantic"):
        (tmp_path / f"{name}.py").write_text("open('read', 'w'); raise SystemExit('planted')")
    (tmp_path / "work").mkdir()
    standing = tmp_path if where == "where the operator stands" else tmp_path / "work"
    environment = {"STRIPE_API_BASE": "http://127.0.0.1:9", "STRIPE_FALLBACK_SECRET_KEY": "rk_test_" + "Sandbox" * 9}
    environment["DATABASE_URL"] = f"sqlite:///{tmp_path}/none.sqlite"
    if where == "on PYTHONPATH":
        environment["PYTHONPATH"] = str(tmp_path)
    done = subprocess.run(
        [*PROGRAM, "reconcile", "INC-123", "--operator", "tomas"], cwd=standing, env=os.environ | environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert "planted" not in done.stdout + done.stderr
    assert not (standing / "read").exists()
    assert "What to do: " in done.stderr


def test_the_search_path_keeps_what_is_ours(monkeypatch, tmp_path):
    """Also where PYTHONPATH names it, and where the folder in which we stand is gone."""
    ours = str(Path(manual_payout.__file__).parents[1])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([ours, str(tmp_path), "", *site.getsitepackages()]))
    monkeypatch.chdir(tmp_path)
    standing = tmp_path / "gone"
    standing.mkdir()
    path = ["", ours, str(tmp_path), str(standing), *site.getsitepackages(), str(Path(os.__file__).parent)]

    assert [ours, str(standing), *site.getsitepackages(), str(Path(os.__file__).parent)] == trusted_path(path)
    monkeypatch.chdir(standing)
    standing.rmdir()
    assert ours in trusted_path(path)
