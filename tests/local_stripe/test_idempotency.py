"""Idempotency of the sandbox, as Stripe documents it for its v1 API."""

from __future__ import annotations

import threading
import time

import pytest
import stripe

from local_stripe import FALLBACK_KEY, FULL_KEY, SandboxAccount
from sdk import ORDER, STUDIO, refusal

DAY_S = 86_400
POLL_S = 0.005
KEY = {"idempotency_key": "line-1"}


def test_replay_carries_the_header_and_moves_nothing_again(sandbox, client):
    """The same key and parameters give the same transfer, marked as replayed, and one transfer exists."""
    first = client.v1.transfers.create(ORDER, KEY)
    second = client.v1.transfers.create(ORDER, KEY)

    assert first.id == second.id
    assert (None, "true") == tuple(
        answer.last_response.headers.get("idempotent-replayed") for answer in (first, second)
    )
    assert first.last_response.body == second.last_response.body
    assert first.last_response.request_id == second.last_response.headers["original-request"]
    assert first.last_response.request_id != second.last_response.request_id
    assert "line-1" == first.last_response.headers["idempotency-key"]
    assert (1, [False, True]) == (len(sandbox.books.transfers), [item.replayed for item in sandbox.requests])


def test_replay_is_the_first_answer_even_if_the_world_has_changed(sandbox, client):
    """What is replayed is the stored answer, not the transfer's present state."""
    client.v1.transfers.create(ORDER, KEY)
    client.v1.transfers.update(sandbox.books.transfers[0].id, {"description": "changed"})

    assert client.v1.transfers.create(ORDER, KEY).description is None


@pytest.mark.parametrize("change", [{"amount": 1}, {"metadata": {"a": "b"}}, {"description": ""}, {"amount": "wrong"}])
def test_same_key_with_other_parameters_is_an_idempotency_error(sandbox, client, change):
    """Any difference counts, even one that would not have passed validation."""
    client.v1.transfers.create(ORDER, KEY)
    error = refusal(lambda: client.v1.transfers.create({**ORDER, **change}, KEY))

    assert (stripe.IdempotencyError, 400) == (type(error), error.http_status)
    assert (
        "Keys for idempotent requests can only be used with the same parameters they were first used with. Try using a "
        "key other than 'line-1' if you meant to execute a different request."
    ) == error.user_message
    assert 1 == len(sandbox.books.transfers)


def test_same_key_at_another_endpoint_is_an_idempotency_error(client):
    """A key belongs to the endpoint that it was first used for."""
    transfer = client.v1.transfers.create(ORDER, KEY)
    error = refusal(lambda: client.v1.transfers.reversals.create(transfer.id, {}, KEY))

    assert (stripe.IdempotencyError, True) == (type(error), "/v1/transfers" in error.user_message)


def test_parameters_in_another_order_are_the_same_parameters(sandbox, client):
    """What counts is what is said, not the order in which it is."""
    client.v1.transfers.create(ORDER, KEY)
    client.v1.transfers.create(dict(reversed(ORDER.items())), KEY)

    assert 1 == len(sandbox.books.transfers)


def test_balance_insufficient_is_replayed_even_after_funding(sandbox, client):
    """A refusal by execution is kept: funding does not help the old key, a new key does."""
    order = {**ORDER, "amount": 600_000}
    refusal(lambda: client.v1.transfers.create(order, KEY))
    sandbox.seed(available={"usd": 900_000})
    replay = refusal(lambda: client.v1.transfers.create(order, KEY))

    assert ("balance_insufficient", "true") == (replay.code, replay.headers["idempotent-replayed"])
    assert 600_000 == client.v1.transfers.create(order, {"idempotency_key": "line-1-b"}).amount


def test_validation_error_is_not_kept(sandbox, client):
    """What never began to execute leaves the key free for the corrected request."""
    refusal(lambda: client.v1.transfers.create({**ORDER, "amount": 0}, KEY))

    assert 125_075 == client.v1.transfers.create(ORDER, KEY).amount
    assert 1 == len(sandbox.books.transfers)


@pytest.mark.parametrize("kind", ["rate_limit", "lock_timeout", "conflict", "status_403", "drop_before"])
def test_refusals_before_execution_are_not_kept(sandbox, client, kind):
    """After a 429, a 409, a 403 or a request that never arrived, the same key runs for the first time."""
    sandbox.fault(kind)
    refusal(lambda: client.v1.transfers.create(ORDER, KEY))
    transfer = client.v1.transfers.create(ORDER, KEY)

    assert transfer.last_response.headers.get("idempotent-replayed") is None
    assert 1 == len(sandbox.books.transfers)


def test_missing_permission_is_not_kept(sandbox, client):
    """After the right key is used, the same idempotency key runs."""
    order = {"amount": 5, "currency": "usd"}
    refusal(lambda: client.v1.payouts.create(order, KEY))
    full = stripe.StripeClient(FULL_KEY, base_addresses={"api": sandbox.base_url})

    assert 5 == full.v1.payouts.create(order, KEY).amount


def test_key_runs_again_after_a_day(sandbox, client):
    """A day less a second replays; after the full day the key is forgotten, and money moves a second time."""
    client.v1.transfers.create(ORDER, KEY)
    sandbox.advance(DAY_S - 1)
    client.v1.transfers.create(ORDER, KEY)
    before = len(sandbox.books.transfers)
    sandbox.advance(1)
    client.v1.transfers.create(ORDER, KEY)

    assert (1, 2) == (before, len(sandbox.books.transfers))


def test_key_in_use_is_a_conflict(sandbox, client):
    """While the first request runs, the second one with its key is told to come back."""
    sandbox.fault("slow", seconds=1, sleep_first=True)
    other = stripe.StripeClient(FALLBACK_KEY, base_addresses={"api": sandbox.base_url})
    first = threading.Thread(target=other.v1.transfers.create, args=(ORDER, KEY))
    first.start()
    while not sandbox.requests or sandbox.requests[0].fault is None:
        time.sleep(POLL_S)
    error = refusal(lambda: client.v1.transfers.create(ORDER, KEY))
    first.join()

    assert (409, "idempotency_key_in_use") == (error.http_status, error.error.code)
    assert stripe.APIError is type(error)
    assert sandbox.books.transfers[0].id == client.v1.transfers.create(ORDER, KEY).id


def test_keys_belong_to_one_account(sandbox):
    """On behalf of another account, the same key is another key."""
    sandbox.seed([SandboxAccount(STUDIO, payout_schedule="manual", available=(("usd", 100),))])
    full = stripe.StripeClient(FULL_KEY, base_addresses={"api": sandbox.base_url})
    mine = full.v1.payouts.create({"amount": 5, "currency": "usd"}, KEY)
    theirs = full.v1.payouts.create({"amount": 5, "currency": "usd"}, {**KEY, "stripe_account": STUDIO})

    assert mine.id != theirs.id


def test_too_long_a_key_is_refused(sandbox, client):
    """255 characters are the most."""
    error = refusal(lambda: client.v1.transfers.create(ORDER, {"idempotency_key": "k" * 256}))

    assert (400, []) == (error.http_status, sandbox.books.transfers)
    assert 125_075 == client.v1.transfers.create(ORDER, {"idempotency_key": "k" * 255}).amount


def test_key_on_a_get_has_no_effect(client):
    """Reading is always fresh."""
    client.v1.balance.retrieve({}, KEY)
    client.v1.transfers.create(ORDER, KEY)

    assert 374_925 == client.v1.balance.retrieve({}, KEY).available[0].amount
