"""One command in a process that has been forked from one with everything imported: what costs time is not what is asked."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import jira  # noqa: F401  # so that no command spends its life on importing them
import pagerduty  # noqa: F401
import psycopg  # noqa: F401
import slack_sdk  # noqa: F401
import stripe  # noqa: F401

from manual_payout import cli, steps  # noqa: F401
from manual_payout.comms import mail, paging, slack  # noqa: F401
from manual_payout.desk import wiring as desk  # noqa: F401
from manual_payout.monitoring import evaluation  # noqa: F401
from manual_payout.steps import runner  # noqa: F401


def live(arguments: list[str], environment: dict[str, str], folder: str, streams: tuple[str, str], defect: str) -> None:
    """Be ``manual-payout`` with these arguments; what it says goes into the *streams*."""
    for path, descriptor in zip(streams, (1, 2), strict=True):
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(opened, descriptor)
        os.close(opened)
    sys.stdin, sys.stdout, sys.stderr = Path(os.devnull).open(), os.fdopen(1, "w"), os.fdopen(2, "w")  # noqa: SIM115  # they are the process's own
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["manual-payout", *arguments]
    exec(defect, {})  # planted by a test
    # What the command put around them is not flushed when a forked process ends.
    own = sys.stdout, sys.stderr
    try:
        cli.main()
    finally:
        for stream in own:
            stream.flush()
