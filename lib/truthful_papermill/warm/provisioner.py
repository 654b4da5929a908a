"""Jupyter's door to forked kernels."""

from __future__ import annotations

from typing import Any

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.provisioning.local_provisioner import LocalProvisioner

from truthful_papermill.warm.kernels import NoKernelError, WarmKernel, fork_kernel, kernel_arguments
from truthful_papermill.warm.starting import ForkServer

NAME = "manual-payout-warm"


class WarmProvisioner(LocalProvisioner):
    """
    Has a fork server start the kernel, where the kernel manager offers one; otherwise starts it as Jupyter does.

    The manager offers it by its attribute ``fork_server``, or a kernel that was forked already by ``prepared``.

    Attributes:
        why_ordinary: Why the kernel was started ordinarily; empty if it was forked.
    """

    why_ordinary = ""

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        """Fork the kernel, or start it ordinarily."""
        info = await self._launch(cmd, **kwargs)
        if (server := self._fork_server) is not None and self.pid is not None:
            server.last_kernel = self.pid
        return info

    @property
    def _fork_server(self) -> ForkServer | None:
        return getattr(self.parent, "fork_server", None)

    async def _launch(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        server = self._fork_server
        if server is None:
            # Somebody else's manager: what it starts may be of any language, and stand anywhere.
            return await super().launch_kernel(cmd, **kwargs)
        try:
            kernel = getattr(self.parent, "prepared", None) or await fork_kernel(
                server,
                environment=kwargs["env"],
                folder=str(kwargs["cwd"]),
                arguments=kernel_arguments(cmd),
            )
        except NoKernelError as error:
            self.why_ordinary = str(error)
            return await super().launch_kernel(cmd, **kwargs)
        self.process: WarmKernel | None = kernel  # type: ignore[assignment]  # all that is asked of a Popen
        self.pid = self.pgid = kernel.pid
        self.cwd = kwargs["cwd"]
        return self.connection_info

    async def cleanup(self, restart: bool = False) -> None:  # noqa: FBT001, FBT002  # jupyter_client's signature
        """Let go of a kernel that has died by itself, for which nobody waits."""
        if isinstance(self.process, WarmKernel):
            self.process.close()
            self.process = None
        await super().cleanup(restart=restart)
