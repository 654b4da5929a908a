"""What a signature is for. One made for one purpose is worth nothing for another."""

from __future__ import annotations

# An approver's yes to one exact request.
APPROVAL = "approval@manual-payout"

# An operator's seal on one evidence folder.
SEAL = "seal@manual-payout"

# A person's proof, to the web page, of who they are; and of a key that was made a moment ago.
SIGN_IN = "sign-in@manual-payout"
ENROLMENT = "enrolment@manual-payout"

# The filing of one exact request, and its withdrawal.
REQUEST = "request@manual-payout"
WITHDRAWAL = "withdrawal@manual-payout"

NAMESPACES = (APPROVAL, SEAL, SIGN_IN, ENROLMENT, REQUEST, WITHDRAWAL)


def require_namespace(namespace: str) -> None:
    """Hold the purpose of a signature to those that exist."""
    if namespace not in NAMESPACES:
        raise ValueError(f"Bug: no signature is made for {namespace!r}")
