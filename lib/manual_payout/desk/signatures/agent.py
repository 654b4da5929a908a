"""Keys that an ``ssh-agent`` holds, those on hardware among them."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from manual_payout.desk.signatures.keys import PublicKey, public_key_of
from manual_payout.desk.signatures.sshsig import SigningKey
from manual_payout.domain.errors import SignatureError

if TYPE_CHECKING:
    from asyncssh import SSHAgentClient

T = TypeVar("T")


def keys_of_agent() -> list[SigningKey]:
    """
    Return the keys of accepted kinds that the agent of ``SSH_AUTH_SOCK`` offers; none where there is no agent.

    Raises:
        SignatureError: There is an agent, and it does not answer.
    """
    if not os.environ.get("SSH_AUTH_SOCK"):
        return []
    return [SigningKey(public, "ssh-agent", _keypair(public)) for public in _ask(_public_keys)]


async def _public_keys(agent: SSHAgentClient) -> list[PublicKey]:
    found = []
    for pair in await agent.get_keys():
        try:
            found.append(public_key_of(pair.public_data))
        except ValueError:
            # RSA, a certificate: a key that no allowed_signers of ours can name.
            continue
    return found


def _keypair(public: PublicKey) -> Any:
    from asyncssh import SSHKeyPair

    class Held(SSHKeyPair):
        """A key pair whose private half stays with the agent."""

        @property
        def has_x509_chain(self) -> bool:
            return False

        def sign(self, data: bytes) -> bytes:
            async def signed(agent: SSHAgentClient) -> bytes:
                return await agent.sign(public.blob, data)

            return _ask(signed)

    name = public.algorithm.encode("ascii")
    return Held(name, name, (name,), (name,), public.blob, b"")


def _ask(question: Callable[[SSHAgentClient], Awaitable[T]]) -> T:
    # Imported by whoever asks an agent; most commands only read who may sign.
    import asyncio
    from concurrent.futures import ThreadPoolExecutor

    import asyncssh

    async def ask() -> T:
        agent = await asyncssh.connect_agent()
        try:
            return await question(agent)
        finally:
            agent.close()
            await agent.wait_closed()

    # In a thread of its own: a notebook's kernel has an event loop running already.
    with ThreadPoolExecutor(1) as thread:
        try:
            return thread.submit(asyncio.run, ask()).result()
        except (OSError, ValueError, asyncssh.Error) as error:
            raise SignatureError(
                f"The ssh-agent at {os.environ.get('SSH_AUTH_SOCK')} did not do what was asked: {error}.",
                "Check it with `ssh-add -l`, unlock or touch the key, and run the command again.",
            ) from None
