"""The module for Stripe's test mode is run here against the sandbox: it works, it needs keys, and it knows live ones."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import local_stripe

MODULE = Path(__file__).with_name("test_test_mode.py")
KEYS = {"STRIPE_REHEARSAL_SECRET_KEY": local_stripe.FULL_KEY, "STRIPE_FALLBACK_SECRET_KEY": local_stripe.FALLBACK_KEY}


def probes(**environment):
    """Run the module with this environment and nothing else of ours; returns what it came to."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    command = [sys.executable, "-m", "pytest", "-q", "-s", "-m", "test_mode", "-p", "no:cacheprovider", str(MODULE)]
    return subprocess.run(command, env=kept | environment, capture_output=True, text=True, check=False)


@pytest.fixture(name="stripe_books")
def _stripe_books():
    with local_stripe.running() as running:
        yield running


@pytest.mark.parametrize(("accounts_v1", "times"), [(True, 1), (False, 2)])
def test_every_probe_is_answered(stripe_books, accounts_v1, times):
    """All of them pass, on a platform of either kind; and once more, when everything is found."""
    stripe_books.switch(accounts_v1=accounts_v1)
    for _ in range(times):
        done = probes(STRIPE_API_BASE=stripe_books.base_url, **KEYS)

        assert 0 == done.returncode, done.stdout + done.stderr
        assert " passed" in done.stdout
        assert "skipped" not in done.stdout
    assert (
        "probe: restricted key, GET /v1/payouts: (403, 'more_permissions_required', 'rak_payout_read')" in done.stdout
    )
    assert "probe: unknown destination: resource_missing" in done.stdout
    assert 2 == len(stripe_books.books.accounts)


def test_without_keys_everything_is_skipped(stripe_books):
    """Nobody is asked anything."""
    done = probes(STRIPE_API_BASE=stripe_books.base_url)

    assert 0 == done.returncode, done.stdout
    assert "passed" not in done.stdout
    assert [] == stripe_books.requests


@pytest.mark.parametrize("name", KEYS)
def test_live_key_ends_it_before_the_first_call(stripe_books, name):
    """By its prefix."""
    live = KEYS[name].replace("_test_", "_live_")
    done = probes(STRIPE_API_BASE=stripe_books.base_url, **(KEYS | {name: live}))

    assert 1 == done.returncode
    assert f"{name} is a live key, which a rehearsal never uses" in done.stdout
    assert live not in done.stdout + done.stderr
    assert [] == stripe_books.requests


def test_default_run_leaves_it_out():
    """Whoever runs the suite with keys in the environment moves no test money by accident."""
    command = [sys.executable, "-m", "pytest", "-q", "--collect-only", "-p", "no:cacheprovider", str(MODULE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert "no tests collected" in done.stdout
    assert "deselected" in done.stdout
