"""The start of a kernel that loads this Python and this library, and nothing that was planted nearby."""

from __future__ import annotations

import contextlib
import re
import shutil
import site
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager

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
from ipykernel.kernelapp import launch_new_instance
launch_new_instance()
"""


@contextlib.contextmanager
def private_folder() -> Iterator[Path]:
    """Make a folder that only this user can enter, for the kernel's sockets and settings; it starts empty."""
    # A socket's path has at most about 100 bytes.
    parent = tempfile.gettempdir() if len(tempfile.gettempdir()) < 70 else "/tmp"  # noqa: S108  # mkdtemp makes it 0700
    folder = Path(tempfile.mkdtemp(prefix="payout-", dir=parent))
    try:
        for name in ("work", "ipython", "jupyter"):
            (folder / name).mkdir()
        yield folder
    finally:
        # What a killed kernel leaves here is of no use to anybody; failing to remove it is no reason to fail.
        shutil.rmtree(folder, ignore_errors=True)


def kernel_environment(given: Mapping[str, str], private: Path) -> dict[str, str]:
    """Take from *given* what does not decide which code Python, IPython or Jupyter load; they get empty folders."""
    kept = {name: value for name, value in given.items() if not re.match("I?PYTHON|JUPYTER|JPY_", name)}
    kept |= dict.fromkeys(("JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR"), str(private / "jupyter"))
    kept |= {"IPYTHONDIR": str(private / "ipython"), "PYTHONSAFEPATH": "1"}
    ours = str(Path(__file__).parents[2])
    # In a source tree the kernel must import this copy of the library, even where it is not installed.
    return kept if ours in site.getsitepackages() else kept | {"PYTHONPATH": ours}


class KernelManager(AsyncKernelManager):
    """Starts this Python, and talks to it through sockets in a private folder, which no other user can read."""

    @property
    def kernel_spec(self) -> KernelSpec:
        """What is started: this Python, whatever kernel was asked for."""
        arguments = [sys.executable, "-P", "-s", "-c", _KERNEL_CODE, "-f", "{connection_file}"]
        return KernelSpec(argv=arguments, display_name="Python 3 (ipykernel)", language="python")
