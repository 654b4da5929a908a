"""Armored signatures in the form of ``ssh-keygen -Y sign`` (OpenSSH, PROTOCOL.sshsig): made, read and checked."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from manual_payout.desk.signatures.keys import PublicKey, public_key_of
from manual_payout.desk.signatures.namespaces import SEAL, require_namespace
from manual_payout.desk.signatures.passkeys import (
    Assertion,
    challenge_of,
    is_passkey,
    origin_of,
    passkey_objection,
    signature_blob,
)
from manual_payout.desk.signatures.wire import string, strings_of
from manual_payout.domain.errors import SignatureError

if TYPE_CHECKING:
    from asyncssh.sshsig import SSHAllowedSigners

_MAGIC = b"SSHSIG\x00\x00\x00\x01"
_BEGIN, _END = "-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----"

# As ssh-keygen wraps it, so that one signature has one text.
_WIDTH = 70

# More than the largest signature of the accepted kinds of keys; what is longer is not looked at.
_CHARACTERS_MAX = 4096


@dataclass(frozen=True, slots=True)
class _Content:
    key: PublicKey
    namespace: str
    hash_name: str
    signature: bytes


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
        require_namespace(namespace)
        try:
            return _make_signature(self._keypair, namespace, data)
        except (ValueError, OSError) as error:
            raise SignatureError(
                f"The key {self.fingerprint} ({self.source}) did not sign: {str(error) or type(error).__name__}.",
                "Unlock or touch it and run the command again; a hardware key is reached through ssh-agent.",
            ) from None


def signer_of(armored: str) -> PublicKey:
    """
    Return the public key that a signature names. Nothing is proved by it: check the signature with that key.

    Raises:
        SignatureError: This is no signature, or not of an accepted kind.
    """
    return _content(armored).key


# The same question has the same answer for ever; a refusal is an exception and is not kept.
@lru_cache(maxsize=4096)
def check_signature(data: bytes, armored: str, key: PublicKey, namespace: str, origins: tuple[str, ...] = ()) -> None:
    """
    Check that *armored* is the signature of *key* over *data* for the purpose *namespace*.

    Whether the key may sign, and could at that time, is `AllowedSigners.judge`'s question.

    Args:
        armored: Exactly as ``ssh-keygen -Y sign`` writes it.

        origins: Of the pages at which a passkey may sign; without any, none may.

    Raises:
        SignatureError: It is none, is another key's, is for another purpose, made at another page, or the bytes are not those that were signed.
    """
    require_namespace(namespace)
    content = _content(armored)
    if content.key != key:
        raise _refused(f"The signature is by the key {content.key.fingerprint}, expected {key.fingerprint}.")
    if content.namespace != namespace:
        raise _refused(f"The signature was made for {content.namespace!r}, expected {namespace!r}.")
    if is_passkey(key):
        _check_passkey(data, content, origins)
    # OpenSSH knows sha256 too, for verifiers that are no longer made.
    elif content.hash_name != "sha512" or not _fits(data, armored, key, namespace):
        raise _refused(f"The signature of {key.fingerprint} does not fit these bytes.")


def _make_signature(keypair: Any, namespace: str, data: bytes) -> str:
    """
    Sign *data* with asyncssh's *keypair*.

    Raises:
        ValueError: The key cannot sign.
    """
    from asyncssh.sshsig import create_sshsig

    return _armored(create_sshsig(keypair, data, namespace=namespace, hash_name="sha512", raw=True))


def sign_by_passkey(key: PublicKey, namespace: str, assertion: Assertion) -> str:
    """
    Make the armored signature of a ceremony; `check_signature` says whether its challenge was `challenge_of` the bytes in question.

    Raises:
        SignatureError: It is not what an authenticator answers.
    """
    require_namespace(namespace)
    try:
        parts = (key.blob, namespace.encode(), b"", b"sha512", signature_blob(assertion))
    except ValueError as error:
        raise _refused(f"This is not the answer of a passkey: {error}.") from None
    return _armored(_MAGIC + b"".join(map(string, parts)))


def claimed_origins(armored: str) -> tuple[str, ...]:
    """
    Return the origin that a passkey's signature names, nothing for another kind of key; nothing is proved by it.

    Raises:
        SignatureError: This is no signature, or not of an accepted kind.
    """
    content = _content(armored)
    try:
        return (origin_of(content.signature),) if is_passkey(content.key) else ()
    except ValueError as error:
        raise _refused(f"This is not the signature of a passkey: {error}.") from None


def _check_passkey(data: bytes, content: _Content, origins: tuple[str, ...]) -> None:
    if content.namespace == SEAL:
        raise _refused("A passkey seals no folder: it signs in a browser only.")
    try:
        why = passkey_objection(content.key, content.signature, challenge_of(content.namespace, data), origins)
    except ValueError as error:
        why = f"cannot be checked: {error}"
    if why or content.hash_name != "sha512":
        raise _refused(f"The passkey signature of {content.key.fingerprint} {why or 'is of another hash'}.")


def _fits(data: bytes, armored: str, key: PublicKey, namespace: str) -> bool:
    from asyncssh.sshsig import validate_sshsig

    try:
        return validate_sshsig(data, armored.encode("ascii"), "signer", _only(key, namespace))
    except ValueError as error:
        raise _refused(f"The signature of {key.fingerprint} cannot be checked: {error}.") from None


@lru_cache(maxsize=256)
def _only(key: PublicKey, namespace: str) -> SSHAllowedSigners:
    # One principal, one purpose, one key and no dates: asyncssh would hold those against the wrong clock.
    from asyncssh.sshsig import import_allowed_signers

    return import_allowed_signers(f'signer namespaces="{namespace}" {key.text}')


def _content(armored: str) -> _Content:
    try:
        (blob, namespace, reserved, hash_name, signature), rest = strings_of(_payload(armored), 5)
        if rest or reserved:
            raise ValueError("it holds more than a signature")  # noqa: TRY301  # all that is wrong is said below
        key = public_key_of(blob)
        if not is_passkey(key):
            _require_own_kind(key, signature)
        return _Content(key, namespace.decode("ascii"), hash_name.decode("ascii"), signature)
    except ValueError as error:
        raise _refused(f"This is not an OpenSSH signature: {error}.") from None


def _require_own_kind(key: PublicKey, signature: bytes) -> None:
    # A hardware key of OpenSSH never signs as a browser has it sign, and OpenSSH accepts both.
    if key.application and not key.application.startswith("ssh:"):
        raise ValueError(
            f"a key of {key.algorithm!r} for {key.application[:50]!r} signs in no browser that OpenSSH knows"
        )
    (kind,), _ = strings_of(signature, 1)
    if kind != key.algorithm.encode():
        raise ValueError(f"it is a {kind[:50].decode('ascii', 'replace')!r} by a key of {key.algorithm!r}")


def _payload(armored: str) -> bytes:
    if len(armored) > _CHARACTERS_MAX or not armored.startswith(_BEGIN) or not armored.isascii():
        raise ValueError(f"it does not begin with {_BEGIN}")
    try:
        blob = base64.b64decode("".join(armored.splitlines()[1:-1]), validate=True)
    except binascii.Error:
        raise ValueError("its text is not base64") from None
    # One signature has one text: a changed line break or spare bit would otherwise go unnoticed.
    if _armored(blob) != armored or not blob.startswith(_MAGIC):
        raise ValueError("its text is not as ssh-keygen writes it")
    return blob[len(_MAGIC) :]


def _armored(blob: bytes) -> str:
    text = base64.b64encode(blob).decode("ascii")
    lines = [text[at : at + _WIDTH] for at in range(0, len(text), _WIDTH)]
    return "\n".join([_BEGIN, *lines, _END, ""])


def _refused(message: str) -> SignatureError:
    return SignatureError(
        message, "Keep what you have as it is; have it signed again by whoever it is said to be from."
    )
