"""Keys: named by their fingerprint, kept in OpenSSH's own files, made with a passphrase."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from manual_payout.desk.signatures.namespaces import require_namespace
from manual_payout.desk.signatures.wire import strings_of
from manual_payout.domain.errors import SettingsError, SignatureError
from truthful_papermill.lean import without_system_libraries

# How many strings follow the name of the algorithm. No RSA: its keys may be too short. No certificates: a person's key
# stands in a reviewed file, and what an authority signs does not.
_PARTS = {
    "ssh-ed25519": 1,
    "sk-ssh-ed25519@openssh.com": 2,
    "ecdsa-sha2-nistp256": 2,
    "ecdsa-sha2-nistp384": 2,
    "ecdsa-sha2-nistp521": 2,
    "sk-ecdsa-sha2-nistp256@openssh.com": 3,
}
ALGORITHMS = tuple(_PARTS)
_ED25519_BYTES = 32

# What stands before the 32 bytes of an Ed25519 key in PKCS #8 (RFC 8410, section 7).
_PKCS8_ED25519 = bytes.fromhex("302e020100300506032b657004220420")

# Of bcrypt: twice and more what ssh-keygen takes, and still under a second for whoever types the right passphrase.
_KDF_ROUNDS = 64

_AskPassphrase = Callable[[Path], str]


@dataclass(frozen=True, slots=True)
class PublicKey:
    """
    A public key. Two are the same key if and only if they are equal; comments do not count.

    Attributes:
        text: Algorithm and base64, as in a ``.pub`` file without its comment.
    """

    text: str

    @property
    def algorithm(self) -> str:
        """Such as ``ssh-ed25519``."""
        return self.text.split(" ", 1)[0]

    @property
    def blob(self) -> bytes:
        """Its binary form."""
        return base64.b64decode(self.text.split(" ", 1)[1])

    @property
    def fingerprint(self) -> str:
        """As ``ssh-keygen -l`` shows it: ``SHA256:`` and 43 characters."""
        digest = base64.b64encode(hashlib.sha256(self.blob).digest()).decode("ascii")
        return f"SHA256:{digest.rstrip('=')}"

    def __str__(self) -> str:
        return self.fingerprint


@dataclass(frozen=True, slots=True)
class SigningKey:
    """
    A key that can sign: from a file, or held by an agent.

    Attributes:
        source: Where it is, for people to read; never anything secret.
    """

    public_key: PublicKey
    source: str
    # asyncssh's key, or what asks the agent; never shown.
    _keypair: Any = field(repr=False, compare=False)

    @property
    def fingerprint(self) -> str:
        """Of its public key."""
        return self.public_key.fingerprint

    def sign(self, namespace: str, data: bytes) -> str:
        """
        Sign *data* for one purpose, one of `NAMESPACES`.

        Returns:
            The armored signature, as ``ssh-keygen -Y sign`` writes it.

        Raises:
            SignatureError: The key, or the agent that holds it, did not sign.
        """
        from manual_payout.desk.signatures.sshsig import make_signature

        require_namespace(namespace)
        try:
            return make_signature(self._keypair, namespace, data)
        except (ValueError, OSError) as error:
            raise SignatureError(
                f"The key {self.fingerprint} ({self.source}) did not sign: {str(error) or type(error).__name__}.",
                "Unlock or touch it and run the command again; a hardware key is reached through ssh-agent.",
            ) from None


def public_key(text: str) -> PublicKey:
    """
    Read one public key, with or without its comment.

    Raises:
        ValueError: It is none, or of a kind that is not accepted here.
    """
    words = text.split()
    if len(words) < 2:
        raise ValueError("it is not a public key")
    try:
        key = public_key_of(base64.b64decode(words[1], validate=True))
    except binascii.Error:
        raise ValueError("its key is not base64") from None
    if key.text != f"{words[0]} {words[1]}":
        raise ValueError(f"it says {words[0]} and holds {key.algorithm}")
    return key


def public_key_of(blob: bytes) -> PublicKey:
    """
    Read one public key from its binary form.

    Raises:
        ValueError: It is none, or of a kind that is not accepted here.
    """
    (name,), rest = strings_of(blob, 1)
    algorithm = name.decode("ascii", "replace")
    if algorithm not in _PARTS:
        raise ValueError(f"its kind is {algorithm[:40]!r}, expected one of {', '.join(ALGORITHMS)}")
    parts, rest = strings_of(rest, _PARTS[algorithm])
    if rest or ("ed25519" in algorithm and len(parts[0]) != _ED25519_BYTES):
        raise ValueError("its key has the wrong length")
    return PublicKey(f"{algorithm} {base64.b64encode(blob).decode('ascii')}")


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
        content = path.read_bytes()
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
    from manual_payout.desk.signatures.agent import keys_of_agent

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


def make_ready() -> None:
    """Import what the first key needs, which is otherwise imported when it is used."""
    # It would have ldconfig and a compiler look for a library of key exchanges, of which a signature has none.
    with without_system_libraries():
        import asyncssh.sshsig  # noqa: F401
