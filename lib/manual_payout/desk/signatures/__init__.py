"""
OpenSSH keys and signatures (SSHSIG): who signed these bytes, for what purpose, and whether that key could at that time.

Stock ``ssh-keygen -Y verify`` accepts everything made here, and everything it makes with the same key is accepted here.
The cryptography is asyncssh's; it is imported when the first key is used and not before. Whether a key was valid at an
instant is judged here, because asyncssh and ``ssh-keygen`` ask the clock of the machine they run on.

::

    key = key_from_file(path, ask_passphrase)        or  keys_of_agent(), which hardware keys are reached through
    text = key.sign(APPROVAL, data)                  the armored signature, as text
    signers = load_signers(allowed_signers, revoked_keys)
    by = signer_of(text)                             the public key that the signature names; nothing is proved yet
    entry = signers.judge(by, principal, APPROVAL, at)   raises SignatureError: unknown, revoked, expired, not yet valid
    check_signature(data, text, entry.key, APPROVAL)     raises SignatureError: other bytes, key or purpose
"""

from __future__ import annotations

from manual_payout.desk.signatures.agent import keys_of_agent
from manual_payout.desk.signatures.key_files import key_from_file, key_from_seed, new_key_file
from manual_payout.desk.signatures.keys import PublicKey, public_key
from manual_payout.desk.signatures.namespaces import APPROVAL, ENROLMENT, NAMESPACES, REQUEST, SEAL, SIGN_IN, WITHDRAWAL
from manual_payout.desk.signatures.passkeys import (
    ANY_LOCALHOST,
    NO_PASSKEYS,
    Assertion,
    PasskeyRules,
    challenge_of,
    is_passkey,
    passkey_of,
)
from manual_payout.desk.signatures.signers import (
    AllowedSigner,
    AllowedSigners,
    load_signers,
    parse_signers,
    signer_line,
)
from manual_payout.desk.signatures.sshsig import (
    SigningKey,
    check_signature,
    claimed_origins,
    sign_by_passkey,
    signer_of,
)

__all__ = [
    "ANY_LOCALHOST",
    "APPROVAL",
    "ENROLMENT",
    "NAMESPACES",
    "NO_PASSKEYS",
    "REQUEST",
    "SEAL",
    "SIGN_IN",
    "WITHDRAWAL",
    "AllowedSigner",
    "AllowedSigners",
    "Assertion",
    "PasskeyRules",
    "PublicKey",
    "SigningKey",
    "challenge_of",
    "check_signature",
    "claimed_origins",
    "is_passkey",
    "key_from_file",
    "key_from_seed",
    "keys_of_agent",
    "load_signers",
    "new_key_file",
    "parse_signers",
    "passkey_of",
    "public_key",
    "sign_by_passkey",
    "signer_line",
    "signer_of",
]
