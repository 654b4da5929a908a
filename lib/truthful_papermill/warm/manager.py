"""The start of a kernel that loads this Python and this library, and nothing that was planted nearby."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager

from truthful_papermill.durable import file_system_time, hold, is_left_behind
from truthful_papermill.warm.environment import python_environment
from truthful_papermill.warm.kernels import WarmKernel
from truthful_papermill.warm.provisioner import WarmProvisioner
from truthful_papermill.warm.starting import ForkServer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# The kernel is this very Python, whatever a kernel specification in somebody's home folder says; -P keeps the working
# directory off sys.path, -s the user's own site-packages. On Linux the kernel dies with the thread that started it:
# otherwise it would go on paying for up to a second, until it polls for its parent.
_KERNEL_CODE = """\
import ctypes, os, signal
getattr(ctypes.CDLL(None), "prctl", lambda *_: 0)(1, signal.SIGKILL)
if os.getppid() != int(os.environ["JPY_PARENT_PID"]):
    os._exit(1)
from truthful_papermill.lean import leave_out_unused
leave_out_unused()
from ipykernel.kernelapp import launch_new_instance
from truthful_papermill.warm.environment import say_nothing_outside
say_nothing_outside()
launch_new_instance()
"""

# A history of what was typed is for people at a prompt; it would be a database in the kernel's folder.
_KERNEL_OPTIONS = ("--HistoryManager.enabled=False",)

_POLL_S = 0.01

_PREFIX = "payout-"
_OURS = ("work", "ipython", "jupyter")
# As `tempfile` names it, and what we, the kernel and its five sockets put into it.
_LEFT_NAME = re.compile(rf"{_PREFIX}[a-z0-9_]{{8}}")
_LEFT_ENTRY = re.compile(rf"{'|'.join(_OURS)}|kernel\.json|k-\d+")


@contextlib.contextmanager
def private_folder() -> Iterator[Path]:
    """
    Make a folder that only this user can enter, for the kernel's sockets and settings; it starts empty.

    Those of runs that were killed are removed: with each of them, a key to what a kernel says stays on the disk.
    """
    # A socket's path has at most about 100 bytes.
    parent = Path(tempfile.gettempdir() if len(tempfile.gettempdir()) < 70 else "/tmp")  # noqa: S108  # mkdtemp makes it 0700
    remove_left_folders(parent)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        hold(descriptor)
        for name in _OURS:
            (folder / name).mkdir()
        yield folder
    finally:
        # What a killed kernel leaves here is of no use to anybody; failing to remove it is no reason to fail.
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def remove_left_folders(parent: Path) -> None:
    """
    Remove from *parent* the private folders of this user that no process holds any longer.

    What has another form than those we make is somebody else's, whatever its name, and stays.
    """
    with contextlib.suppress(OSError):
        named = [entry for entry in os.scandir(parent) if _LEFT_NAME.fullmatch(entry.name)]
        now_s = file_system_time(parent) if named else 0
        for entry in named:
            _remove_if_left(Path(entry.path), now_s)


def _remove_if_left(folder: Path, now_s: float) -> None:
    with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        stack.callback(os.close, descriptor)
        found = os.fstat(descriptor)
        ours = found.st_uid == os.geteuid() and found.st_mode & 0o077 == 0
        of_our_form = ours and all(_LEFT_ENTRY.fullmatch(path.name) for path in folder.iterdir())
        if of_our_form and is_left_behind(descriptor, now_s):
            shutil.rmtree(folder, ignore_errors=True)


def kernel_environment(given: Mapping[str, str], private: Path) -> dict[str, str]:
    """Take from *given* what does not decide which code Python, IPython or Jupyter load; they get empty folders."""
    folders = dict.fromkeys(("JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR"), str(private / "jupyter"))
    return python_environment(given) | folders | {"IPYTHONDIR": str(private / "ipython")}


class KernelManager(AsyncKernelManager):
    """
    Starts this Python, and talks to it through sockets in a private folder, which no other user can read.

    Attributes:
        fork_server: What forks the kernel; None for the ordinary start.

        prepared: A kernel that was forked ahead for this manager, or None.
    """

    prepared: WarmKernel | None = None

    # As Jupyter's own, which then sleep for ten milliseconds, so that somebody may see that a start or an end is under way.
    start_kernel = AsyncKernelManager.start_kernel.__wrapped__  # type: ignore[attr-defined]  # made by functools.wraps
    shutdown_kernel = AsyncKernelManager.shutdown_kernel.__wrapped__  # type: ignore[attr-defined]

    def __init__(self, fork_server: ForkServer | None, private: Path) -> None:
        super().__init__(transport="ipc", ip=str(private / "k"), connection_file=str(private / "kernel.json"))
        self.fork_server = fork_server
        if fork_server is not None:
            # By name, as a kernel specification would ask for it, it is found only after a look into every package.
            self.provisioner = WarmProvisioner(kernel_id="", kernel_spec=self.kernel_spec, parent=self)

    @property
    def forked(self) -> bool:
        """Whether its kernel was forked."""
        return isinstance(getattr(self.provisioner, "process", None), WarmKernel)

    @property
    def why_ordinary(self) -> str:
        """Why the kernel was not forked although it should have been; empty if it was."""
        return self.provisioner.why_ordinary if isinstance(self.provisioner, WarmProvisioner) else ""

    async def listening(self) -> None:
        """
        Wait until the kernel has bound its last socket: who connects earlier is not answered until zmq tries again.

        Raises:
            RuntimeError: It ended before it came to that.
        """
        while not Path(f"{self.ip}-{self.hb_port}").exists():  # noqa: ASYNC240  # it takes microseconds
            if not await self._async_is_alive():
                raise RuntimeError("Kernel died before it was ready")
            await asyncio.sleep(_POLL_S)

    async def _async_wait(self, pollinterval: float = _POLL_S) -> None:
        # Jupyter looks ten times a second, which six notebooks would wait for.
        await super()._async_wait(min(pollinterval, _POLL_S))

    @property
    def kernel_spec(self) -> KernelSpec:
        """What is started: this Python, whatever kernel was asked for."""
        arguments = [sys.executable, "-P", "-s", "-c", _KERNEL_CODE, *_KERNEL_OPTIONS, "-f", "{connection_file}"]
        return KernelSpec(argv=arguments, display_name="Python 3 (ipykernel)", language="python")
