"""An authenticator of software: it signs whatever it is told, so that what no honest one signs can be shown to a check."""

from __future__ import annotations

import base64
import hashlib
import json

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from manual_payout.desk.signatures import Assertion, challenge_of, passkey_of, sign_by_passkey

# Somebody was there, and was verified.
USUAL = 0x05


def encoded(data):
    """As WebAuthn writes bytes."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Authenticator:
    """One passkey, for one host; *seed* makes it always the same."""

    def __init__(self, rp_id="localhost", seed=1):
        self.private = ec.derive_private_key(seed, ec.SECP256R1())
        form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        self.spki = self.private.public_key().public_bytes(*form)
        self.rp_id = rp_id
        self.key = passkey_of(self.spki, rp_id)

    def answer(self, challenge, *, origin, flags=USUAL, rp_id=None, client=None, more=None, counter=0):
        """Assert *challenge*; *client* stands for the whole client data, *more* is added to it."""
        told = {"type": "webauthn.get", "challenge": encoded(challenge), "origin": origin, "crossOrigin": False}
        client = client or json.dumps(told | (more or {}), separators=(",", ":")).encode()
        data = hashlib.sha256((rp_id or self.rp_id).encode()).digest() + bytes([flags]) + counter.to_bytes(4, "big")
        signature = self.private.sign(data + hashlib.sha256(client).digest(), ec.ECDSA(SHA256()))
        return Assertion(data, client, signature)

    def sign(self, namespace, data, **how):
        """The armored signature over *data*."""
        return sign_by_passkey(self.key, namespace, self.answer(challenge_of(namespace, data), **how))
