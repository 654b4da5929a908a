"""
Passkeys as OpenSSH keys: a browser's assertion becomes an SSHSIG signature that stock ``ssh-keygen -Y verify`` accepts.

The challenge of the ceremony is what OpenSSH signs, so that the authenticator vouches for the very bytes (PROTOCOL.u2f,
PROTOCOL.sshsig). What ``ssh-keygen`` leaves out is checked here: the exact origin, that the page stood in no frame, that the
user was verified, and that the RP id is the whole host name.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from manual_payout.desk.signatures.keys import PublicKey, public_key_of
from manual_payout.desk.signatures.wire import string, strings_of

KEY_KIND = "sk-ecdsa-sha2-nistp256@openssh.com"
_SIGNATURE_KIND = b"webauthn-sk-ecdsa-sha2-nistp256@openssh.com"
_CURVE = b"nistp256"

# Flags of an authenticator: somebody was there; it knew who; more data follows that no signature of ours has.
_PRESENT, _VERIFIED, _BACKED_UP, _ATTESTED = 0x01, 0x04, 0x08, 0x40

# Of the sandbox, where nothing else is named: whatever port the page is served at on this machine.
ANY_LOCALHOST = "http://localhost:*"

# Before X and Y in a P-256 key as browsers give it (SPKI, RFC 5480), the point's first byte included.
_SPKI = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004")


@dataclass(frozen=True, slots=True)
class PasskeyRules:
    """
    What the reviewed policy says of passkeys.

    Attributes:
        origins: Of the pages at which a passkey may sign, as browsers write them; `ANY_LOCALHOST` in the sandbox alone.

        at_most: How many of the two approvals may be by passkey.
    """

    origins: tuple[str, ...] = ()
    at_most: int = 0


# Where no policy was read: none counts.
NO_PASSKEYS = PasskeyRules()


@dataclass(frozen=True, slots=True)
class Assertion:
    """What a browser gives back of one ceremony, as the authenticator made it."""

    authenticator_data: bytes
    client_data: bytes
    signature: bytes


def passkey_of(spki: bytes, rp_id: str) -> PublicKey:
    """
    Name the key of a new passkey as OpenSSH does.

    Args:
        spki: The public key as ``response.getPublicKey()`` gives it.

        rp_id: The host's full name, such as ``payouts.example.com``.

    Raises:
        ValueError: It is not of ES256, the only kind that OpenSSH knows for a browser.
    """
    if len(spki) != len(_SPKI) + 64 or not spki.startswith(_SPKI):
        raise ValueError("it is not an ES256 key (P-256), the only kind of passkey that OpenSSH can check")
    point = b"\x04" + spki[len(_SPKI) :]
    return public_key_of(b"".join(map(string, (KEY_KIND.encode(), _CURVE, point, rp_id.encode("ascii")))))


def is_passkey(key: PublicKey) -> bool:
    """Whether *key* signs in a browser: its application is a host's name, not ``ssh:`` and more."""
    return key.algorithm == KEY_KIND and not key.application.startswith("ssh:")


def challenge_of(namespace: str, data: bytes) -> bytes:
    """Return what an authenticator is asked to sign, so that its answer is a signature over *data* for *namespace*."""
    digest = hashlib.sha512(data).digest()
    return b"SSHSIG" + b"".join(map(string, (namespace.encode(), b"", b"sha512", digest)))


def signature_blob(assertion: Assertion) -> bytes:
    """
    Put an assertion into OpenSSH's form of a signature.

    Raises:
        ValueError: It is not what an authenticator answers.
    """
    data = assertion.authenticator_data
    if len(data) < 37:
        raise ValueError("its authenticator data ends too early")
    both = b"".join(map(_mpint, _integers_of(assertion.signature)))
    origin = _text_of(_read_client(assertion.client_data), "origin").encode()
    parts = (string(_SIGNATURE_KIND), string(both), data[32:37], string(origin), string(assertion.client_data))
    return b"".join((*parts, string(data[37:])))


def is_synced(blob: bytes) -> bool:
    """Whether the authenticator says that the passkey may be on other devices too."""
    return bool(_split(blob).flags & _BACKED_UP)


def origin_of(blob: bytes) -> str:
    """Return the origin that a signature names; nothing is proved by it."""
    return _split(blob).origin


def passkey_objection(key: PublicKey, blob: bytes, challenge: bytes, origins: Sequence[str]) -> str:
    """
    Say why a passkey's signature does not count, or nothing.

    Args:
        key: Whose line in the registry was found good.

        blob: The signature within the SSHSIG.

        challenge: What should have been signed.

        origins: Those that the policy allows.

    Raises:
        ValueError: It is no signature of a passkey.
    """
    signed = _split(blob)
    host, client = urlsplit(signed.origin).hostname, _read_client(signed.client_data)
    encoded = base64.urlsafe_b64encode(challenge).rstrip(b"=").decode()
    begins = f'{{"type":"webauthn.get","challenge":"{encoded}","origin":"{signed.origin}"'
    wrong = {
        f"was made at {signed.origin!r}, which is none of the policy's origins": not _allowed(signed.origin, origins),
        f"was made at {signed.origin!r} for the host {key.application!r}": host != key.application,
        "was made in a frame of another page": client.get("crossOrigin", False) is not False or "topOrigin" in client,
        "was made without anybody touching the authenticator": not signed.flags & _PRESENT,
        "was made without verifying the user, by PIN, finger or face": not signed.flags & _VERIFIED,
        "holds what no signature of a browser holds": bool(signed.flags & _ATTESTED)
        or bool(signed.flags & 0x80) != bool(signed.extensions),
        "does not fit these bytes": not signed.client_data.startswith(begins.encode()) or not _fits(key, signed),
    }
    return next((what for what, found in wrong.items() if found), "")


@dataclass(frozen=True, slots=True)
class _Signed:
    r_and_s: tuple[int, int]
    flags: int
    counter: bytes
    origin: str
    client_data: bytes
    extensions: bytes


@lru_cache(maxsize=1024)
def _split(blob: bytes) -> _Signed:
    (kind, both), rest = strings_of(blob, 2)
    if kind != _SIGNATURE_KIND:
        raise ValueError(f"its kind is {kind[:50].decode('ascii', 'replace')!r}, expected {_SIGNATURE_KIND.decode()!r}")
    (origin, client_data, extensions), more = strings_of(rest[5:], 3)
    (r, s), left = strings_of(both, 2)
    numbers = int.from_bytes(r, "big"), int.from_bytes(s, "big")
    # One signature has one text.
    if more or left or b"".join(map(_mpint, numbers)) != both:
        raise ValueError("it is not as OpenSSH writes it")
    return _Signed(numbers, rest[0], rest[1:5], origin.decode("ascii"), client_data, extensions)


def _allowed(origin: str, origins: Sequence[str]) -> bool:
    parts = urlsplit(origin)
    local = ANY_LOCALHOST in origins and origin in ("http://localhost", f"http://localhost:{_port(origin)}")
    return local or (origin in origins and bool(parts.hostname))


def _port(origin: str) -> int | None:
    try:
        return urlsplit(origin).port
    except ValueError:
        return None


def _fits(key: PublicKey, signed: _Signed) -> bool:
    # Imported by whoever checks a passkey; most commands never do.
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric import ec, utils
    from cryptography.hazmat.primitives.hashes import SHA256

    (_, _, point, application), _ = strings_of(key.blob, 4)
    flags = bytes([signed.flags])
    told = hashlib.sha256(application).digest() + flags + signed.counter + signed.extensions
    told += hashlib.sha256(signed.client_data).digest()
    try:
        public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
        public.verify(utils.encode_dss_signature(*signed.r_and_s), told, ec.ECDSA(SHA256()))
    except (InvalidSignature, ValueError):
        return False
    return True


def _read_client(data: bytes) -> dict[str, Any]:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({name for name, _ in pairs}) != len(pairs):
            raise ValueError("a name stands twice in its client data")
        return dict(pairs)

    try:
        found = json.loads(data.decode(), object_pairs_hook=once)
    except RecursionError:
        found = None
    if not isinstance(found, dict):
        raise ValueError("its client data is no object")  # noqa: TRY004  # whoever asks hears one kind of error
    return found


def _text_of(client: dict[str, Any], name: str) -> str:
    if not isinstance(client.get(name), str):
        raise ValueError(f"its client data has no {name}")  # noqa: TRY004  # whoever asks hears one kind of error
    return str(client[name])


def _integers_of(signature: bytes) -> tuple[int, int]:
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

    return decode_dss_signature(signature)


def _mpint(number: int) -> bytes:
    # RFC 4251: one leading zero byte where the first bit is set, none otherwise.
    return string(number.to_bytes(number.bit_length() // 8 + 1, "big") if number else b"")
