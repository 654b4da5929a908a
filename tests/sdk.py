"""Stripe's own library as a test asks the sandbox with it: a sandbox with one studio, clients of it, and what it refuses."""

from __future__ import annotations

import pytest
import stripe

from local_stripe import FALLBACK_KEY, SandboxAccount, running

STUDIO = "acct_123"
ORDER = {"amount": 125_075, "currency": "usd", "destination": STUDIO}
ON_BEHALF = {"stripe_account": STUDIO}


@pytest.fixture(name="sandbox")
def _sandbox():
    with running(accounts=[SandboxAccount(STUDIO)], available={"usd": 500_000}) as sandbox:
        yield sandbox


@pytest.fixture(name="client")
def _client(sandbox):
    return client_of(sandbox)


def client_of(sandbox, key=FALLBACK_KEY, **options):
    """A client that calls once, unless *options* of the library say otherwise."""
    return client_at(sandbox.base_url, key, **options)


def client_at(base_url, key=FALLBACK_KEY, **options):
    """As `client_of`, of whatever listens there."""
    return stripe.StripeClient(key, base_addresses={"api": base_url}, **{"max_network_retries": 0, **options})


def refusal(call):
    """The error that Stripe answers *call* with."""
    with pytest.raises(stripe.StripeError) as caught:
        call()
    return caught.value
