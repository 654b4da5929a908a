"""Public keys, named by their fingerprints."""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass

from manual_payout.desk.signatures.wire import strings_of

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
    def application(self) -> str:
        """Of a hardware key ``ssh:`` and more, of a passkey the full name of its host; empty for any other."""
        if not self.algorithm.startswith("sk-"):
            return ""
        parts, _ = strings_of(self.blob, 1 + _PARTS[self.algorithm])
        return parts[-1].decode("ascii", "replace")

    @property
    def fingerprint(self) -> str:
        """As ``ssh-keygen -l`` shows it: ``SHA256:`` and 43 characters."""
        digest = base64.b64encode(hashlib.sha256(self.blob).digest()).decode("ascii")
        return f"SHA256:{digest.rstrip('=')}"

    def __str__(self) -> str:
        return self.fingerprint


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
