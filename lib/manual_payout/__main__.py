"""The program as a shell starts it: what takes longest is begun before anything else is imported, and it ends at once."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys

from truthful_papermill.warm.environment import trusted_path


def main() -> None:
    """Run the command line as a program of its own."""
    # Before anything is imported that could be read from there.
    sys.path[:] = trusted_path(sys.path)
    from truthful_papermill.terminal import guard, outlive_the_terminal

    code = [1]
    # The first to be registered is the last to be called. To take apart all that was imported, object by object, takes
    # Python a quarter of a second.
    atexit.register(_leave_at_once, code)
    try:
        _open_what_is_closed()
        guard()
        # A local Stripe in the foreground is nobody's once its terminal is gone.
        if sys.argv[1:2] != ["sandbox"]:
            outlive_the_terminal()
        if sys.argv[1:2] == ["run"] and not {"--help", "-h"} & set(sys.argv):
            from manual_payout.desk.kernels import begin_fork_server

            begin_fork_server()
        from manual_payout.cli import main as command_line

        command_line()
        code[0] = 0
    except KeyboardInterrupt:
        code[0] = 130
        sys.exit(130)
    except SystemExit as end:
        code[0] = end.code if isinstance(end.code, int) else int(end.code is not None)
        raise


def _open_what_is_closed() -> None:
    """Open nothing where a stream was closed (``>&-``): a file or socket would get its number, and be written into."""
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(descriptor, "w" if descriptor else "r", closefd=False))


def _leave_at_once(code: list[int]) -> None:
    for stream in (sys.stdout, sys.stderr):
        # A reader that has gone is no reason to end otherwise.
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code[0])


if __name__ == "__main__":
    main()
