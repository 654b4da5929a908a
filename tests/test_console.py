"""The program as a shell starts it: whatever is closed, and whenever Ctrl-C comes."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

PROGRAM = [sys.executable, "-c", "from manual_payout.console import main; main()"]
# Says when it is under way, and then takes its time.
SLOW = """\
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.argv = ["manual-payout", *sys.argv[1:]]
from manual_payout.warm import starting
starting.begin = lambda: (print("begun", flush=True), time.sleep(60))
from manual_payout.console import main
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
        "import os, sys\nfrom manual_payout import console\nconsole._open_what_is_closed()\n"
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
