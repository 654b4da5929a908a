"""
The kernel of the next notebook, forked and starting up while the notebook before it still runs.

It is a process of its own like every kernel, has been given nothing to run, and is killed if nobody takes it.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator, Mapping

from truthful_papermill.warm.kernels import NoKernelError, fork_kernel, kernel_arguments
from truthful_papermill.warm.manager import KernelManager, kernel_environment, private_folder
from truthful_papermill.warm.starting import ForkServer


class Place:
    """
    Where one kernel runs, whether it has been started yet or not.

    Args:
        fork_server: What forks the kernel; None for the ordinary start.

        given: The kernel's environment, before it is cleaned.

    Attributes:
        private: A folder that only this user can enter.

        environment: What the kernel is given.

        manager: Jupyter's door to the kernel.
    """

    def __init__(self, fork_server: ForkServer | None, given: Mapping[str, str]) -> None:
        self._folder = contextlib.ExitStack()
        self.private = self._folder.enter_context(private_folder())
        self.given = dict(given)
        self.environment = kernel_environment(given, self.private)
        self.manager = KernelManager(fork_server, self.private)

    @property
    def work(self) -> str:
        """The folder in which the kernel stands."""
        return str(self.private / "work")

    def close(self) -> None:
        """Remove the folder."""
        self._folder.close()


class Ahead:
    """A kernel that is being forked in the background; arguments as of `Place`."""

    def __init__(self, fork_server: ForkServer, given: Mapping[str, str]) -> None:
        self.place = Place(fork_server, given)
        self.place.manager.write_connection_file()
        self._thread = threading.Thread(target=self._fork, args=(fork_server,), name="kernel-ahead", daemon=True)
        self._thread.start()

    def _fork(self, fork_server: ForkServer) -> None:
        arguments = kernel_arguments(self.place.manager.format_kernel_cmd())
        forked = fork_kernel(
            fork_server, environment=self.place.environment, folder=self.place.work, arguments=arguments
        )
        # Whoever wants the kernel asks again, and is told why there is none.
        with contextlib.suppress(NoKernelError):
            self.place.manager.prepared = asyncio.run(forked)

    @property
    def pending(self) -> bool:
        """Whether it is still being forked."""
        return self._thread.is_alive()

    def take(self, given: Mapping[str, str]) -> Place | None:
        """Return the place of the kernel, or None where it was made for another environment or has ended."""
        self._thread.join()
        kernel = self.place.manager.prepared
        if self.place.given == given and kernel is not None and kernel.poll() is None:
            return self.place
        self.close()
        return None

    def close(self) -> None:
        """Be rid of the kernel that nobody took."""
        self._thread.join()
        kernel = self.place.manager.prepared
        if kernel is not None:
            # First: without its folder it would look for another place to be reached at.
            kernel.kill()
            kernel.wait()
        self.place.close()


def prepare_kernels(server: ForkServer, environment: Mapping[str, str], kernels: int = 1) -> None:
    """
    Begin to start kernels of the notebooks to come, which will be given *environment*, until there are *kernels* of them.

    Two are enough to never wait for one: the second is forked before the server imports anything that only later
    stages need.
    """
    # What is wrong is said where a notebook needs the kernel, and takes no other one's down.
    with contextlib.suppress(OSError):
        while not server.why_not and len(server.ahead) < kernels:
            server.ahead.append(Ahead(server, environment))


@contextlib.contextmanager
def kernel_place(fork_server: ForkServer | None, given: Mapping[str, str]) -> Iterator[Place]:
    """Take the place of the kernel that was started ahead, where there is one for this environment, or make one."""
    place = fork_server.ahead.popleft().take(given) if fork_server is not None and fork_server.ahead else None
    if place is None:
        place = Place(fork_server, given)
    try:
        yield place
    finally:
        place.close()
