"""Stock OpenSSH, run as the processes that it is; tests that need it skip where it is missing."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest


def required(program):
    """Skip where OpenSSH is missing, unless this run promised to have it."""
    needed = os.environ.get("MANUAL_PAYOUT_TESTS_REQUIRE", "").split(",")
    return pytest.mark.skipif(
        shutil.which(program) is None and program not in needed, reason=f"{program} is not on this machine"
    )


def openssh(*command, stdin=b"", **process):
    """Run one of its programs; returns the finished process."""
    return subprocess.run(list(map(str, command)), input=stdin, capture_output=True, check=False, **process)


@pytest.fixture(name="agent")
def _agent(tmp_path, monkeypatch):
    """A real ssh-agent of this test's own, without keys."""
    socket = tmp_path / "a"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.DEVNULL)
    while not socket.exists():
        assert process.poll() is None
    monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
    yield process
    process.terminate()
    process.wait()
