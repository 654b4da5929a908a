"""What a signature is for. One made for one purpose is worth nothing for another."""

from __future__ import annotations

# An approver's yes to one exact request.
APPROVAL = "approval@manual-payout"

# An operator's seal on one evidence folder.
SEAL = "seal@manual-payout"

NAMESPACES = (APPROVAL, SEAL)


def require_namespace(namespace: str) -> None:
    """Hold the purpose of a signature to those that exist."""
    if namespace not in NAMESPACES:
        raise ValueError(f"Bug: no signature is made for {namespace!r}")
