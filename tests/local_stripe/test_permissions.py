"""Which key may do what, and how the sandbox says no."""

from __future__ import annotations

import base64
import json
import urllib.request

import pytest
import stripe

from local_stripe import FALLBACK_KEY, FULL_KEY, PLATFORM_ACCOUNT, READ_KEY, SandboxAccount, running
from sdk import ON_BEHALF, STUDIO, client_of, refusal

ORDER = {"amount": 100, "currency": "usd", "destination": STUDIO}


@pytest.fixture(scope="module", name="sandbox")
def _sandbox():
    with running(accounts=[SandboxAccount(STUDIO)], available={"usd": 500_000}) as sandbox:
        client_of(sandbox, FULL_KEY).v1.transfers.create(ORDER)
        yield sandbox


# Each call with the permission that it needs and whether the fallback key, and the reading key, may make it.
CALLS = {
    "create a transfer": (lambda client: client.v1.transfers.create(ORDER), "transfer_write", True, False),
    "list transfers": (lambda client: client.v1.transfers.list(), "transfer_read", True, True),
    "update a transfer": (
        lambda client: client.v1.transfers.update(client.v1.transfers.list().data[0].id, {"description": "x"}),
        "transfer_write",
        True,
        False,
    ),
    "read the balance": (lambda client: client.v1.balance.retrieve(), "balance_read", True, True),
    "list balance transactions": (lambda client: client.v1.balance_transactions.list(), "balance_read", True, True),
    "expand the platform's line": (
        lambda client: client.v1.transfers.list({"expand": ["data.balance_transaction"]}),
        "balance_read",
        True,
        True,
    ),
    "expand the destination payment": (
        lambda client: client.v1.transfers.list({"expand": ["data.destination_payment"]}),
        "charge_read",
        False,
        True,
    ),
    "expand a source": (
        lambda client: client.v1.balance_transactions.list({"expand": ["data.source"]}),
        "balance_transaction_source_read",
        False,
        True,
    ),
    "list payouts": (lambda client: client.v1.payouts.list(), "payout_read", False, True),
    "create a payout": (
        lambda client: client.v1.payouts.create({"amount": 1, "currency": "usd"}),
        "payout_write",
        False,
        False,
    ),
    "list charges": (lambda client: client.v1.charges.list(), "charge_read", False, True),
    "read the own account": (
        lambda client: client.v1.accounts.retrieve_current(),
        "accounts_kyc_basic_read",
        False,
        True,
    ),
    "read a connected account": (
        lambda client: client.v1.accounts.retrieve(STUDIO),
        "accounts_kyc_basic_read",
        False,
        True,
    ),
    "make an account": (
        lambda client: client.v1.accounts.create({"country": "US"}),
        "accounts_kyc_basic_write",
        False,
        False,
    ),
    "read a connected balance": (lambda client: client.v1.balance.retrieve({}, ON_BEHALF), "balance_read", False, True),
    "list connected payouts": (lambda client: client.v1.payouts.list({}, ON_BEHALF), "payout_read", False, True),
    "list connected lines": (
        lambda client: client.v1.balance_transactions.list({}, ON_BEHALF),
        "balance_read",
        False,
        True,
    ),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("key", ["fallback", "read", "full"])
def test_each_key_may_do_exactly_what_it_was_given(sandbox, name, key):
    """What is granted works; what is not is a 403 that names the permission and the account."""
    call, permission, fallback, reading = CALLS[name]
    value, allowed = {"fallback": (FALLBACK_KEY, fallback), "read": (READ_KEY, reading), "full": (FULL_KEY, True)}[key]
    client = client_of(sandbox, value)

    if allowed:
        assert 200 == call(client).last_response.code
        return
    error = refusal(lambda: call(client))

    assert (stripe.PermissionError, 403) == (type(error), error.http_status)
    assert "more_permissions_required" == error.error.code
    assert f"Having the 'rak_{permission}' permission would allow this request to continue." in error.user_message
    assert "'acct_" in error.user_message


def test_denied_call_masks_the_key(sandbox):
    """The message quotes the prefix, asterisks as long as the key, and its last four characters."""
    message = refusal(client_of(sandbox, FALLBACK_KEY).v1.payouts.list).user_message

    assert FALLBACK_KEY not in message
    assert f"rk_test_{'*' * 95}{FALLBACK_KEY[-4:]}" in message
    assert PLATFORM_ACCOUNT in message


def test_expansion_without_permission_moves_nothing(sandbox):
    """A transfer whose answer could not be given is not made."""
    before = len(sandbox.books.transfers)
    client = client_of(sandbox, FALLBACK_KEY)
    error = refusal(lambda: client.v1.transfers.create({**ORDER, "expand": ["destination_payment"]}))

    assert (403, before) == (error.http_status, len(sandbox.books.transfers))


def test_permission_is_judged_before_the_object_is_looked_up(sandbox):
    """A bogus id tells a key that lacks the permission nothing about what exists."""
    forbidden = refusal(lambda: client_of(sandbox, FALLBACK_KEY).v1.payouts.retrieve("po_x"))
    absent = refusal(lambda: client_of(sandbox, READ_KEY).v1.payouts.retrieve("po_x"))

    assert (403, 404) == (forbidden.http_status, absent.http_status)


@pytest.mark.parametrize(
    ("key", "code"),
    [
        ("sk_test_unknown", None),
        ("rk_live_" + "x" * 90, None),
        (FALLBACK_KEY.replace("_test_", "_live_"), None),
        (FALLBACK_KEY + "x", None),
        ("pk_test_something", "secret_key_required"),
    ],
)
def test_unusable_key_is_an_authentication_error(sandbox, key, code):
    """401, whatever is wrong with the key, and the key itself is never quoted."""
    error = refusal(client_of(sandbox, key).v1.balance.retrieve)

    assert (stripe.AuthenticationError, 401) == (type(error), error.http_status)
    assert code == (error.error.code if code else error.json_body["error"].get("code"))
    assert key not in error.user_message


def test_rotated_key_is_expired():
    """After a rotation the old key says so."""
    with running() as sandbox:
        sandbox.switch(expired_keys=["fallback"])
        error = refusal(client_of(sandbox, FALLBACK_KEY).v1.balance.retrieve)

        assert ("api_key_expired", 401) == (error.error.code, error.http_status)
        assert 200 == client_of(sandbox, FULL_KEY).v1.balance.retrieve().last_response.code


def test_foreign_account_is_invalid(sandbox):
    """A Stripe-Account header must name a connected account of this platform."""
    error = refusal(lambda: client_of(sandbox, FULL_KEY).v1.balance.retrieve({}, {"stripe_account": "acct_nobody"}))

    assert (stripe.PermissionError, "account_invalid") == (type(error), error.error.code)
    assert "does not have access to account 'acct_nobody'" in error.user_message


def test_objects_of_a_connected_account_are_not_the_platforms(sandbox):
    """The destination payment is found on the studio's behalf only, the transfer on the platform's only."""
    client, transfer = client_of(sandbox, READ_KEY), sandbox.books.transfers[0]

    assert 404 == refusal(lambda: client.v1.charges.retrieve(transfer.destination_payment)).http_status
    assert transfer.destination_payment == client.v1.charges.retrieve(transfer.destination_payment, {}, ON_BEHALF).id
    assert 404 == refusal(lambda: client.v1.transfers.retrieve(transfer.id, {}, ON_BEHALF)).http_status


def test_key_may_come_as_basic_user_name(sandbox):
    """As with ``curl -u KEY:``; without any key the answer is 401."""
    basic = base64.b64encode(f"{READ_KEY}:".encode()).decode()
    request = urllib.request.Request(f"{sandbox.base_url}/v1/balance", headers={"Authorization": f"Basic {basic}"})
    with urllib.request.urlopen(request) as answer:
        assert "balance" == json.load(answer)["object"]
    with pytest.raises(urllib.error.HTTPError, match="401") as caught:
        urllib.request.urlopen(f"{sandbox.base_url}/v1/balance")
    caught.value.close()
