"""A function called in a process of its own, forked from the one that has already imported what it needs."""

from __future__ import annotations

import json
import socket
from typing import BinaryIO

from truthful_papermill.warm.kernels import NoKernelError
from truthful_papermill.warm.starting import ForkServer

_TIMEOUT_S = 60


def run_errand(server: ForkServer, function: str, argument: str) -> str:
    """
    Have *server* fork a process that calls *function* once and ends.

    Args:
        function: ``module:name`` of a function that takes and returns one text.

    Returns:
        What it returned.

    Raises:
        NoKernelError: Nobody was forked, or it did not answer; the caller calls the function itself.
    """
    if server.why_not:
        raise NoKernelError(server.why_not)
    ours, theirs = socket.socketpair()
    # Closing our end is also how the server learns that the process may go.
    with ours, ours.makefile("rb") as answers:
        ours.settimeout(_TIMEOUT_S)
        try:
            with theirs:
                server.send(theirs)
            said = json.loads(_first(answers, server))
            if "pid" not in said:
                raise NoKernelError(said.get("refused") or server.gone())
            ours.sendall(json.dumps({"function": function, "argument": argument}).encode() + b"\n")
            said = json.loads(answers.readline() or "{}")
        # An answer that breaks off is no JSON: its process was killed while it spoke.
        except (OSError, ValueError) as error:
            raise NoKernelError(f"it did not answer: {error}") from error
    if "answer" not in said:
        raise NoKernelError("the forked process ended before it answered")
    return str(said["answer"])


def _first(answers: BinaryIO, server: ForkServer) -> bytes:
    try:
        return answers.readline() or b"{}"
    except TimeoutError as error:
        raise NoKernelError(server.silent(_TIMEOUT_S)) from error
