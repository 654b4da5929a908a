"""
The key with which a person signs: in a named file, with an agent, or, in the sandbox alone, one that anybody can make.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import datetime
from functools import cache
from pathlib import Path

from manual_payout.desk.people import Person, Registry
from manual_payout.desk.signatures import (
    AllowedSigners,
    PublicKey,
    SigningKey,
    check_signature,
    claimed_origins,
    key_from_file,
    key_from_seed,
    keys_of_agent,
    parse_signers,
    signer_of,
)
from manual_payout.domain.errors import SettingsError, SignatureError
from manual_payout.domain.models import Mode

_SANDBOX_SIGNERS = Path(__file__).parent / "sandbox" / "allowed_signers"


def find_signing_key(
    registry: Registry,
    person: Person,
    namespace: str,
    at: datetime,
    *,
    mode: Mode,
    file: Path | None,
    ask_passphrase: Callable[[Path], str],
) -> SigningKey:
    """
    Return the key with which *person* may sign for *namespace* at *at*.

    Args:
        file: The key that was named; without one it is the person's sandbox key in the sandbox, else one that the agent
            holds.

        ask_passphrase: Called with the file if it is protected, and only then.

    Raises:
        SignatureError: There is none, or the one that was named may not sign that.

        SettingsError: The file cannot be used.
    """
    allowed = registry.signers.keys_for(person.email, namespace, at)
    if file is not None:
        key = key_from_file(file, ask_passphrase)
    else:
        key = _sandbox_key_among(allowed, person, mode) or _held_among(allowed, registry, person, namespace)
    registry.signers.judge(key.public_key, person.email, namespace, at)
    return key


def judge_of(signers: AllowedSigners) -> Callable[[bytes, str, str, str, str], str]:
    """
    Return what judges signatures by *signers*, for `verifier`: it says what is wrong with one, or nothing.

    Its arguments: the signed bytes, the armored signature, the principal, the namespace, and the instant as ISO text.
    """

    def judge(data: bytes, armored: str, principal: str, namespace: str, at: str) -> str:
        try:
            entry = signers.judge(signer_of(armored), principal, namespace, datetime.fromisoformat(at))
            # At which pages passkeys might sign then, the evidence says and the verifier compares.
            check_signature(data, armored, entry.key, namespace, claimed_origins(armored))
        except SignatureError as error:
            return f"is not good: {error.message}"
        return ""

    return judge


@cache
def sandbox_key(handle: str) -> SigningKey:
    """
    Make the sandbox key of a person of the demo: always the same, so that the same story has the same signatures.

    It proves nothing, since anybody can make it. `refuse_sandbox_keys` keeps it out of every other mode.

    Raises:
        SettingsError: The demo has no such person, or none who signs.
    """
    seed = hashlib.sha256(f"manual-payout, sandbox only, {handle}".encode()).digest()
    key = key_from_seed(seed, f"the sandbox key of {handle}, which anybody can make")
    if key.public_key not in _sandbox_public_keys():
        raise SettingsError(
            f"The demo has no signer called {handle!r}.", "Use a key of your own: `manual-payout keys new`."
        )
    return key


def refuse_sandbox_keys(signers: AllowedSigners, mode: Mode) -> None:
    """
    Hold the keys that anybody can make out of every mode but the sandbox.

    Raises:
        SettingsError: One of them stands among *signers*.
    """
    if mode is Mode.SANDBOX:
        return
    for entry in signers.entries:
        if entry.key in _sandbox_public_keys():
            raise SettingsError(
                f"{signers.source}, line {entry.line_no}: {entry.principal} has a key of the sandbox, which anybody can "
                f"make, in {mode} mode.",
                "Have them make a key of their own with `manual-payout keys new`.",
            )


@cache
def _sandbox_public_keys() -> frozenset[PublicKey]:
    entries = parse_signers(_SANDBOX_SIGNERS.read_text("utf-8"), _SANDBOX_SIGNERS.name)
    return frozenset(entry.key for entry in entries)


def _sandbox_key_among(allowed: tuple[PublicKey, ...], person: Person, mode: Mode) -> SigningKey | None:
    if mode is not Mode.SANDBOX or not _sandbox_public_keys().intersection(allowed):
        return None
    return sandbox_key(person.handle)


def _held_among(allowed: tuple[PublicKey, ...], registry: Registry, person: Person, namespace: str) -> SigningKey:
    if not allowed:
        raise SignatureError(
            f"{registry.signers.source} has no key of {person.email} that is valid now for {namespace}.",
            "Make one with `manual-payout keys new` and have its line reviewed (docs/approvals.md).",
        )
    held = next((key for key in keys_of_agent() if key.public_key in allowed), None)
    if held is None:
        raise SignatureError(
            f"No key was named, and the agent holds none that {person.name} may sign with.",
            "Give --key FILE, set MANUAL_PAYOUT_SIGNING_KEY, or load the key with `ssh-add`.",
        )
    return held
