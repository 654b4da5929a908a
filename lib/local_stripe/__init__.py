"""
A small local Stripe: transfers between a platform and its connected accounts, and what becomes of the money.

The official SDK talks to it unmodified; only the base address and the key differ. It is deterministic, keeps
everything in memory, and answers on loopback only::

    with running(accounts=[SandboxAccount("acct_123")], available={"usd": 500_000}) as sandbox:
        client = stripe.StripeClient(FALLBACK_KEY, base_addresses={"api": sandbox.base_url})
"""

from local_stripe.faults import Fault
from local_stripe.permissions import FALLBACK_KEY, FULL_KEY, PLATFORM_ACCOUNT, READ_KEY, WIDE_KEY
from local_stripe.process import Sandbox, running, serve
from local_stripe.records import SandboxAccount

__all__ = [
    "FALLBACK_KEY",
    "FULL_KEY",
    "PLATFORM_ACCOUNT",
    "READ_KEY",
    "WIDE_KEY",
    "Fault",
    "Sandbox",
    "SandboxAccount",
    "running",
    "serve",
]
