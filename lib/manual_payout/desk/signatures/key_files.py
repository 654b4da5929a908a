"""Keys that can sign: kept in OpenSSH's own files, made with a passphrase."""

from __future__ import annotations

import os
from codecs import BOM_UTF8
from collections.abc import Callable
from pathlib import Path
from typing import Any

from manual_payout.desk.signatures.agent import keys_of_agent
from manual_payout.desk.signatures.keys import ALGORITHMS, PublicKey, public_key, public_key_of
from manual_payout.desk.signatures.sshsig import SigningKey
from manual_payout.domain.errors import SettingsError
from truthful_papermill.lean import without_system_libraries

# What stands before the 32 bytes of an Ed25519 key in PKCS #8 (RFC 8410, section 7).
_PKCS8_ED25519 = bytes.fromhex("302e020100300506032b657004220420")

# Of bcrypt: twice and more what ssh-keygen takes, and still under a second for whoever types the right passphrase.
_KDF_ROUNDS = 64

_AskPassphrase = Callable[[Path], str]


def key_from_file(path: Path, ask_passphrase: _AskPassphrase) -> SigningKey:
    """
    Read a key that can sign.

    Args:
        path: A private key in OpenSSH's form; or a public key, and then the agent is asked for the private one.

        ask_passphrase: Called with the path if the key is protected, and only then.

    Raises:
        SettingsError: It cannot be read, others can read it too, the passphrase is wrong, or it is of no accepted kind.
    """
    try:
        # Some editors put a byte order mark before everything.
        content = path.read_bytes().removeprefix(BOM_UTF8)
        mode = path.stat().st_mode
    except OSError as error:
        raise _unusable(path, f"it cannot be read: {error.strerror}", "Correct the path.") from None
    if content.startswith(tuple(name.encode("ascii") for name in ALGORITHMS)):
        return _held_by_agent(path, content)
    if mode & 0o077:
        raise _unusable(path, "people other than its owner may read it", f"Run `chmod 600 {path}`, or make a new key.")
    key = _imported(path, content, ask_passphrase)
    try:
        return SigningKey(public_key_of(key.public_data), str(path), key)
    except ValueError as error:
        raise _unusable(path, str(error), "Make one with `manual-payout keys new`.") from None


def key_from_seed(seed: bytes, source: str) -> SigningKey:
    """Make the Ed25519 key of *seed*, 32 bytes: for the sandbox, whose keys anybody can make."""
    import asyncssh

    key = asyncssh.import_private_key(_PKCS8_ED25519 + seed)
    return SigningKey(public_key_of(key.public_data), source, key)


def new_key_file(path: Path, passphrase: str, comment: str) -> PublicKey:
    """
    Make an Ed25519 key: *path* for its owner alone, and ``.pub`` beside it. Nothing is overwritten.

    Args:
        passphrase: Empty leaves the file unprotected; who may do that is the caller's question.

    Raises:
        SettingsError: One of the files is there already, or cannot be written.
    """
    import asyncssh

    if path.exists():
        raise _unusable(path, "it cannot be made: File exists", "Name another file with --out.")
    key = asyncssh.generate_private_key("ssh-ed25519", comment=comment)
    public = public_key_of(key.public_data)
    private_bytes = key.export_private_key("openssh", passphrase or None, rounds=_KDF_ROUNDS)
    for file, content, mode in (
        (path, private_bytes, 0o600),
        (path.with_name(f"{path.name}.pub"), f"{public.text} {comment}\n".encode(), 0o644),
    ):
        try:
            with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as out:
                out.write(content)
        except OSError as error:
            raise _unusable(file, f"it cannot be made: {error.strerror}", "Name another file with --out.") from None
    return public


def _imported(path: Path, content: bytes, ask_passphrase: _AskPassphrase) -> Any:
    import asyncssh

    try:
        return asyncssh.import_private_key(content)
    except asyncssh.KeyEncryptionError as error:
        raise _unusable(path, str(error), "Make one with `manual-payout keys new`.") from None
    except asyncssh.KeyImportError as error:
        if not str(error).startswith("Passphrase"):
            raise _unusable(path, "it holds no private key", "Name the file of a private key.") from None
    try:
        return asyncssh.import_private_key(content, ask_passphrase(path))
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError):
        raise _unusable(path, "the passphrase does not open it", "Run the command again and type it anew.") from None


def _held_by_agent(path: Path, content: bytes) -> SigningKey:
    try:
        wanted = public_key(content.decode("utf-8", "replace"))
    except ValueError as error:
        raise _unusable(path, str(error), "Name the file of a key of an accepted kind.") from None
    found = next((key for key in keys_of_agent() if key.public_key == wanted), None)
    if found is None:
        raise _unusable(path, "it is a public key, and the agent does not hold its private one", "Run `ssh-add`.")
    return found


def _unusable(path: Path, why: str, remedy: str) -> SettingsError:
    return SettingsError(f"The key {path} cannot be used: {why}.", remedy)


def import_asyncssh() -> None:
    """Import what the first key needs, which is otherwise imported when it is used."""
    # It would have ldconfig and a compiler look for a library of key exchanges, of which a signature has none.
    with without_system_libraries():
        import asyncssh.sshsig  # noqa: F401
