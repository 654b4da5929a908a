"""
Stripe's own library, as everything in this room uses it: one HTTP attempt a call, and no other library than requests.
"""

from __future__ import annotations

import warnings
from urllib.parse import urlsplit

import requests

from manual_payout.domain.addresses import LOOPBACK
from truthful_papermill.lean import without

# The SDK imports every HTTP library that it finds; this room uses requests.
with without("httpx"):
    import stripe

__all__ = ["PAGES_MAX", "new_client", "notices_are_not_errors", "stripe"]

# A busy transfer group has one transfer; a hundred pages would be ten thousand, which is somebody else's group.
PAGES_MAX = 100


class Session(requests.Session):
    """
    Sends each request with the key that it was given, and nowhere else than where it was sent.

    Args:
        base_url: As of `new_client`.
    """

    def __init__(self, base_url: str) -> None:
        super().__init__()
        # Where a session has no authorization of its own, requests takes one from ~/.netrc: another key, after all checks of
        # this one.
        self.auth = _as_it_is
        # The proxy of whoever runs this would be handed what is for this machine.
        self.trust_env = urlsplit(base_url).hostname not in LOOPBACK
        # Stripe redirects nobody; a transfer is sent to no second address.
        self.max_redirects = 0


def _as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def new_client(key: str, *, base_url: str, timeout_s: float) -> stripe.StripeClient:
    """
    Build the SDK's client for one key; it retries nothing by itself.

    Args:
        base_url: ``https://api.stripe.com``, or an address on this machine.

        timeout_s: Of one HTTP attempt.
    """
    # Telemetry writes a file into the home directory and tells about this machine; neither belongs to a payout.
    stripe.enable_telemetry = False
    return stripe.StripeClient(
        key,
        base_addresses={"api": base_url},
        max_network_retries=0,
        http_client=stripe.RequestsClient(timeout=timeout_s, session=Session(base_url)),
    )


class notices_are_not_errors(warnings.catch_warnings):  # noqa: N801  # used as a verb
    """Stripe may send a notice, which the SDK turns into a warning; where warnings are errors it must not hide a transfer."""

    def __enter__(self) -> None:
        super().__enter__()
        warnings.simplefilter("ignore")


def import_stripe() -> None:
    """Import what the SDK only imports when a client first uses it: each forked kernel has it then. Nothing is connected."""
    telemetry = stripe.enable_telemetry
    client = new_client("rk_test_nobody", base_url="http://127.0.0.1:9", timeout_s=1)
    # A kernel decides on it with its own client, as after any start.
    stripe.enable_telemetry = telemetry
    for service in ("accounts", "balance", "balance_transactions", "payouts", "transfers"):
        getattr(client.v1, service)
