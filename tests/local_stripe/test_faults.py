"""Faults on demand, as the official SDK meets them; and the sandbox as a process of its own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time

import pytest
import stripe

from local_stripe import serve
from local_stripe.mistakes import InvalidValueError
from sdk import ORDER, STUDIO, client_at, client_of, refusal

POLL_S = 0.005
KEY = {"idempotency_key": "line-1"}


def test_lost_answer_is_a_connection_error_after_the_money_moved(sandbox, client):
    """The caller knows nothing, the money is gone, and the same key tells."""
    sandbox.fault("drop_after")
    error = refusal(lambda: client.v1.transfers.create(ORDER, KEY))
    moved = len(sandbox.books.transfers)
    replay = client.v1.transfers.create(ORDER, KEY)

    assert (stripe.APIConnectionError, 1) == (type(error), moved)
    assert (sandbox.books.transfers[0].id, "true") == (replay.id, replay.last_response.headers["idempotent-replayed"])
    assert [(None, "drop_after"), (200, None)] == [(item.status, item.fault) for item in sandbox.requests]


def test_lost_request_is_a_connection_error_and_nothing_moved(sandbox, client):
    """To the caller it looks the same as a lost answer."""
    sandbox.fault("drop_before")
    error = refusal(lambda: client.v1.transfers.create(ORDER, KEY))

    assert (stripe.APIConnectionError, []) == (type(error), sandbox.books.transfers)
    assert "125075" == sandbox.requests[0].params["amount"]


@pytest.mark.parametrize(("effect", "moved"), [(True, 1), (False, 0)])
def test_500_is_kept_and_replayed_whether_or_not_money_moved(sandbox, client, effect, moved):
    """The same key gets the same 500 for a day; only a listing shows which it was."""
    sandbox.fault("error_500", effect=effect)
    errors = [refusal(lambda: client.v1.transfers.create(ORDER, KEY)) for _ in range(2)]

    assert [(stripe.APIError, 500)] * 2 == [(type(error), error.http_status) for error in errors]
    assert "true" == errors[1].headers["idempotent-replayed"]
    assert moved == len(client.v1.transfers.list().data)


def test_rate_limit_names_its_reason(sandbox, client):
    """A 429 of the limiter carries Stripe-Rate-Limited-Reason."""
    sandbox.fault("rate_limit", reason="endpoint-rate")
    error = refusal(lambda: client.v1.transfers.create(ORDER))

    assert (stripe.RateLimitError, 429, "rate_limit") == (type(error), error.http_status, error.error.code)
    assert "endpoint-rate" == error.headers["stripe-rate-limited-reason"]


def test_lock_timeout_is_a_429_without_a_reason(sandbox, client):
    """An object lock says that it is worth a retry, and why it is not the limiter."""
    sandbox.fault("lock_timeout")
    error = refusal(lambda: client.v1.transfers.create(ORDER))

    assert (stripe.RateLimitError, "lock_timeout") == (type(error), error.error.code)
    assert (None, "true") == (
        error.headers.get("stripe-rate-limited-reason"),
        error.headers["stripe-should-retry"],
    )


def test_conflict_is_a_409(sandbox, client):
    """The SDK raises its general error for it."""
    sandbox.fault("conflict")
    error = refusal(lambda: client.v1.transfers.create(ORDER, KEY))

    assert (stripe.APIError, 409, "idempotency_key_in_use") == (type(error), error.http_status, error.error.code)


def test_status_403_names_the_permission_of_the_call(sandbox, client):
    """A key whose permission was taken away in between."""
    sandbox.fault("status_403")
    error = refusal(lambda: client.v1.transfers.create(ORDER))

    assert (stripe.PermissionError, True) == (type(error), "rak_transfer_write" in error.user_message)


def test_refuse_gives_any_code_and_keeps_it(sandbox, client):
    """A planted refusal is an answer of execution: kept under the key, nothing moved."""
    sandbox.fault("refuse", code="transfers_not_allowed", message="The requested transfer cannot be created.")
    codes = [refusal(lambda: client.v1.transfers.create(ORDER, KEY)).code for _ in range(2)]

    assert (["transfers_not_allowed"] * 2, []) == (codes, sandbox.books.transfers)


def test_garbage_is_a_200_that_cannot_be_read_after_the_money_moved(sandbox, client):
    """The SDK cannot read it; the transfer exists."""
    sandbox.fault("garbage")
    error = refusal(lambda: client.v1.transfers.create(ORDER, KEY))

    assert (stripe.APIError, 1) == (type(error), len(sandbox.books.transfers))
    assert sandbox.books.transfers[0].id == client.v1.transfers.create(ORDER, KEY).id


def test_lost_answer_can_leave_the_question_after_it_unanswered_too(sandbox, client):
    """Whoever lists at once meets a closed connection as often as told; then the transfer is found."""
    sandbox.fault("drop_after", then_silent=2)
    refusal(lambda: client.v1.transfers.create(ORDER, KEY))
    asked = [type(refusal(client.v1.transfers.list)) for _ in range(2)]

    assert [stripe.APIConnectionError] * 2 == asked
    assert 1 == len(client.v1.transfers.list().data)


@pytest.mark.parametrize(("sleep_first", "moved"), [(False, 1), (True, 0)])
def test_slow_answer_times_out_before_or_after_the_effect(sandbox, sleep_first, moved):
    """When the caller gives up, the money may have moved already or may move yet; in the end it has moved."""
    sandbox.fault("slow", seconds=1.2, sleep_first=sleep_first)
    hasty = client_of(sandbox, http_client=stripe.RequestsClient(timeout=0.2))
    error = refusal(lambda: hasty.v1.transfers.create(ORDER, KEY))
    at_timeout = len(sandbox.books.transfers)
    while sandbox.requests[0].status is None:
        time.sleep(POLL_S)

    assert (stripe.APIConnectionError, moved) == (type(error), at_timeout)
    assert 1 == len(sandbox.books.transfers)


def test_fault_waits_for_its_turn_and_its_path(sandbox, client):
    """Skipped requests, other paths and other methods pass; then as many as told are spoiled."""
    sandbox.fault("drop_before", skip=1, times=2)
    outcomes = []
    for n in range(4):
        client.v1.balance.retrieve()
        client.v1.transfers.list()
        try:
            client.v1.transfers.create(ORDER if n == 0 else {**ORDER, "amount": n})
        except stripe.APIConnectionError:
            outcomes.append("lost")
        else:
            outcomes.append("made")

    assert ["made", "lost", "lost", "made"] == outcomes


def test_faults_also_spoil_reading(sandbox, client):
    """A listing that is lost during reconciliation."""
    sandbox.fault("drop_after", method="GET", path="/v1/transfers")

    assert isinstance(refusal(client.v1.transfers.list), stripe.APIConnectionError)
    assert [] == client.v1.transfers.list().data


def test_sdk_retries_hide_the_attempt_that_paid(sandbox):
    """With retries on, a lost answer and then a 429 surface as the 429 alone, although money moved."""
    sandbox.fault("drop_after")
    sandbox.fault("rate_limit")
    error = refusal(lambda: client_of(sandbox, max_network_retries=1).v1.transfers.create(ORDER, KEY))

    assert (stripe.RateLimitError, 1) == (type(error), len(sandbox.books.transfers))


def test_request_during_a_slow_one_is_answered(sandbox, client):
    """One request that hangs does not hold up the others."""
    sandbox.fault("slow", seconds=1)
    other = threading.Thread(target=client_of(sandbox).v1.transfers.create, args=(ORDER,))
    other.start()
    while not sandbox.books.transfers:
        time.sleep(POLL_S)
    client.v1.balance.retrieve()

    assert sandbox.requests[0].status is None
    other.join()


@pytest.mark.parametrize(
    "options",
    [
        {"kind": "explode"},
        {"kind": "slow", "times": 0},
        {"kind": "slow", "skip": -1},
        {"kind": "drop_after", "then_silent": -1},
    ],
)
def test_impossible_fault_is_refused(sandbox, options):
    """A misspelt fault would be a test that tests nothing."""
    with pytest.raises(InvalidValueError):
        sandbox.fault(**options)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "example.com"])
def test_only_loopback_is_served(host):
    """The sandbox's own endpoints have no locks, so nobody else may reach them."""
    with pytest.raises(InvalidValueError, match="loopback"):
        serve(host, 0)


@pytest.fixture(name="process")
def _process(tmp_path):
    """A sandbox in a process of its own, seeded from a file."""
    seed, port_file = tmp_path / "seed.json", tmp_path / "port"
    seed.write_text(json.dumps({"accounts": [{"id": STUDIO}], "available": {"usd": 200_000}}), encoding="utf-8")
    command = [sys.executable, "-m", "local_stripe", "--seed-file", str(seed), "--port-file", str(port_file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.base_url = process.stdout.readline().strip()
        process.port_file = port_file
        yield process
        if process.poll() is None:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_process_announces_its_port_serves_and_ends_quietly(process, number):
    """The port is printed and written, the SDK is served, and being told to stop is exit code 0 without a word."""
    transfer = client_at(process.base_url).v1.transfers.create(ORDER)
    while not process.port_file.exists():
        time.sleep(POLL_S)
    port = process.port_file.read_text(encoding="ascii").strip()
    process.send_signal(number)
    rest, errors = process.communicate(timeout=20)

    assert (125_075, f"http://127.0.0.1:{port}") == (transfer.amount, process.base_url)
    assert (0, "", "") == (process.returncode, rest, errors)


def test_process_refuses_a_seed_that_cannot_be_read(tmp_path):
    """A wrong command line is exit code 2 with a sentence."""
    command = [sys.executable, "-m", "local_stripe", "--seed-file", str(tmp_path / "none.json")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (2, "") == (ended.returncode, ended.stdout)
    assert "seed-file" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_sandbox_does_not_load_the_runbooks_machinery():
    """A rehearsal's Stripe must start fast and share nothing with what it judges."""
    program = (
        "import sys, local_stripe.__main__; "
        "print(sorted({'pandas', 'papermill', 'sqlalchemy', 'stripe'} & set(sys.modules)))"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert "[]" == ended.stdout.strip()
