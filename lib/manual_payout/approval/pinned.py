"""The rules by which money moves, as one value and its digest: what an approval and a dry run bind themselves to."""

from __future__ import annotations

from typing import Any

from manual_payout.desk.settings import Policy
from manual_payout.domain.canonical import digest_of


def pinned_rules(policy: Policy) -> dict[str, Any]:
    """
    Return the rules that decide whether money moves: mode, account, and all of a request and of the ledger.

    Messages, time-outs and monitoring are not among them: none of them admits or refuses a payment.
    """
    stripe = policy.stripe
    return {
        "mode": stripe.mode.value,
        "platform_account": stripe.platform_account,
        "account_check": stripe.account_check,
        "request": policy.request.model_dump(mode="json"),
        "approvals": policy.approvals.model_dump(mode="json"),
        "ledger": policy.ledger.model_dump(mode="json"),
    }


def rules_digest(policy: Policy) -> str:
    """Return the SHA-256 of the canonical JSON of the `pinned_rules`, in hexadecimal."""
    return digest_of(pinned_rules(policy))
