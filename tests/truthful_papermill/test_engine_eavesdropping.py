"""Who has an account on the same machine and no more learns nothing from a running notebook, and cannot speak to it."""

from __future__ import annotations

import contextlib
import json
import os
import sys

import pytest
from tests.truthful_papermill.test_engine import around, run

from truthful_papermill.warm.starting import fork_server

NOBODY = 65534

# It looks as root for what is there, so that not knowing the names is no protection; then it becomes the other one.
EAVESDROPPER = """
import json, os, pathlib, socket, sys
import zmq

folder, uid = pathlib.Path(sys.argv[1]), int(sys.argv[2])
sockets = sorted(path for path in folder.iterdir() if path.is_socket())
files = [path for path in folder.rglob("*") if path.is_file()]
if uid:
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)
found = {"sockets": len(sockets), "files": len(files), "reached": 0, "read": 0, "messages": 0, "written": 0}
for path in sockets:
    try:
        socket.socket(socket.AF_UNIX).connect(str(path))
        found["reached"] += 1
    except PermissionError:
        pass
for path in files:
    try:
        path.read_bytes()
        found["read"] += 1
    except PermissionError:
        pass
try:
    (folder / "work" / "stripe.py").touch()
    found["written"] = 1
except PermissionError:
    pass
listener = zmq.Context().socket(zmq.SUB)
listener.subscribe(b"")
for path in sockets:
    listener.connect(f"ipc://{path}")
while listener.poll(500) and found["messages"] < 20:
    listener.recv_multipart()
    found["messages"] += 1
print(json.dumps(found), flush=True)
os._exit(0)
"""

SPEAK = """
import pathlib, subprocess, sys, time
from ipykernel import get_connection_file
folder = str(pathlib.Path(get_connection_file()).parent)
command = [sys.executable, "-c", {code!r}, folder]
listeners = [subprocess.Popen([*command, uid], stdout=subprocess.PIPE, text=True) for uid in ("0", "{nobody}")]
while any(one.poll() is None for one in listeners):
    print("a secret", flush=True)
    time.sleep(0.02)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else to try")
@pytest.mark.skipif(sys.platform != "linux", reason="becomes another user as Linux does")
@pytest.mark.parametrize("start", ["forked", "ordinary"])
def test_another_user_of_the_machine_gets_no_message_and_reaches_no_socket(tmp_path, start):
    """Whoever may, hears the cell speak and reads the key of its connection; nobody else does, nor plants anything."""
    speak = SPEAK.format(code=EAVESDROPPER, nobody=NOBODY)
    show = "import json; print(json.dumps([json.loads(one.stdout.read()) for one in listeners]))"
    with fork_server(around()) if start == "forked" else contextlib.nullcontext() as server:
        _, nb = run(tmp_path, speak, show, kernel_env=around(), fork_server=server)
    ours, foreign = json.loads(nb.cells[-1].outputs[0].text)

    assert start == nb.metadata.truthful_papermill.kernel_start
    assert 5 == foreign["sockets"] == ours["reached"]
    assert ours["messages"] > 0
    assert ours["read"] == ours["files"] > 0
    assert (0, 0, 0, 0) == tuple(foreign[what] for what in ("reached", "read", "messages", "written"))
