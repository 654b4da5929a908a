"""Connected accounts in the sandbox as a seeder meets them: Accounts v2, bank accounts, checks that take a while."""

from __future__ import annotations

import pytest
import stripe

from local_stripe import FALLBACK_KEY, FULL_KEY, READ_KEY, SandboxAccount, running
from sdk import ON_BEHALF, STUDIO, client_of, refusal

RECIPIENT = {"recipient": {"capabilities": {"stripe_balance": {"stripe_transfers": {"requested": True}}}}}
MERCHANT = {"merchant": {"capabilities": {"card_payments": {"requested": True}}}}
V2 = {
    "dashboard": "none",
    "identity": {
        "country": "US",
        "attestations": {"terms_of_service": {"account": {"date": "2026-03-02T03:00:00.000Z", "ip": "127.0.0.1"}}},
    },
    "defaults": {"responsibilities": {"fees_collector": "application", "losses_collector": "application"}},
    "configuration": RECIPIENT,
    "include": ["configuration.recipient"],
}
FAILING = {
    "object": "bank_account",
    "country": "US",
    "currency": "usd",
    "routing_number": "110000000",
    "account_number": "000111111116",
}


@pytest.fixture(name="sandbox")
def _sandbox():
    accounts = [SandboxAccount(STUDIO, payout_schedule="manual", available=(("usd", 5_000),))]
    with running(accounts=accounts, available={"usd": 500_000}) as sandbox:
        yield sandbox


@pytest.fixture(name="client")
def _client(sandbox):
    return client_of(sandbox, FULL_KEY)


def transfers_of(account):
    return account.configuration.recipient.capabilities.stripe_balance.stripe_transfers.status


def test_account_of_v2_receives_transfers_and_stays_out_of_the_list_of_v1(sandbox, client):
    """It is one account with two faces; v1 shows it by its id alone."""
    account = client.v2.core.accounts.create(V2)
    client.v1.transfers.create({"amount": 100, "currency": "usd", "destination": account.id})

    assert "active" == transfers_of(account)
    assert "active" == client.v1.accounts.retrieve(account.id).capabilities.transfers
    assert [STUDIO] == [one.id for one in client.v1.accounts.list().data]
    assert [account.id] == [one.id for one in client.v2.core.accounts.list().data]


def test_list_of_v2_goes_on_by_the_address_of_the_next_page(client):
    """The SDK follows it."""
    made = [client.v2.core.accounts.create({**V2, "metadata": {"n": str(n)}}).id for n in range(5)]

    assert made[::-1] == [one.id for one in client.v2.core.accounts.list({"limit": 2}).auto_paging_iter()]


def test_account_of_v2_without_terms_cannot_receive(client):
    """What is requested is restricted until somebody accepts the terms."""
    account = client.v2.core.accounts.create({**V2, "identity": {"country": "US"}})
    error = refusal(lambda: client.v1.transfers.create({"amount": 1, "currency": "usd", "destination": account.id}))

    assert "restricted" == transfers_of(account)
    assert "insufficient_capabilities_for_transfer" == error.code


def test_recipient_can_be_made_to_need_card_payments(sandbox, client):
    """As one platform found; with them requested it is accepted."""
    sandbox.switch(recipient_needs_cards=True)
    error = refusal(lambda: client.v2.core.accounts.create(V2))

    assert "card_payments" in error.user_message
    assert "active" == transfers_of(client.v2.core.accounts.create({**V2, "configuration": RECIPIENT | MERCHANT}))


def test_accounts_v2_and_connect_can_be_switched_off(sandbox, client):
    """A platform may have one, the other, or nothing."""
    sandbox.switch(accounts_v2=False)
    off = refusal(lambda: client.v2.core.accounts.create(V2))
    sandbox.switch(accounts_v2=True, connect=False)
    never = refusal(lambda: client.v2.core.accounts.create(V2))

    assert "not enabled" in off.user_message
    assert "signed up for Connect" in never.user_message


@pytest.mark.parametrize(
    "change",
    [
        {"identity": {"attestations": {"terms_of_service": {"account": {"date": "yesterday"}}}}},
        {"defaults": {}},
        {"nonsense": 1},
        {"metadata": {"n": 1}},
        {"configuration": "recipient"},
    ],
)
def test_misshapen_account_of_v2_is_refused_and_not_made(client, change):
    """A 400 that names the parameter, never a server error."""
    error = refusal(lambda: client.v2.core.accounts.create({**V2, **change}))

    assert 400 == error.http_status
    assert [] == client.v2.core.accounts.list().data


def test_slow_verification_leaves_the_capability_pending_for_a_while(sandbox, client):
    """Until then a transfer is refused."""
    sandbox.switch(slow_verification=True)
    account = client.v2.core.accounts.create(V2)
    order = {"amount": 100, "currency": "usd", "destination": account.id}
    early = refusal(lambda: client.v1.transfers.create(order))
    sandbox.advance(60)

    assert "pending" == transfers_of(account)
    assert "insufficient_capabilities_for_transfer" == early.code
    assert account.id == client.v1.transfers.create(order).destination


def test_bank_account_that_fails_takes_the_place_of_the_one_that_works(sandbox, client):
    """Its number decides how the next payout ends; it is errored afterwards, and a new one is needed."""
    bank = client.v1.accounts.external_accounts.create(
        STUDIO, {"external_account": FAILING, "default_for_currency": True}
    )
    payout = client.v1.payouts.create({"amount": 100, "currency": "usd"}, ON_BEHALF)
    sandbox.advance(2 * 86_400)
    ended = client.v1.payouts.retrieve(payout.id, {}, ON_BEHALF)
    listed = client.v1.accounts.external_accounts.list(STUDIO, {"object": "bank_account"}).data

    assert ("failed", "no_account") == (ended.status, ended.failure_code)
    assert [(bank.id, "1116", "errored")] == [(one.id, one.last4, one.status) for one in listed]


def test_sandbox_keeps_one_bank_account_and_says_so(client):
    """A second one that is not to be the default is refused rather than forgotten."""
    error = refusal(lambda: client.v1.accounts.external_accounts.create(STUDIO, {"external_account": FAILING}))

    assert "default_for_currency" == error.param


def schedule(client, **given):
    """How somebody is paid out, set first where *given* says; raw, because the SDK stumbles over a null map in it."""
    options = {"stripe_account": given.pop("account")} if "account" in given else {}
    answer = client.raw_request("post" if given else "get", "/v1/balance_settings", **given, **options)
    return answer.data["payments"]["payouts"]["schedule"]["interval"]


def test_payout_schedule_is_set_for_the_account_on_whose_behalf_it_is_asked(client):
    """Not for the platform."""
    daily = {"payouts": {"schedule": {"interval": "daily"}}}

    assert "daily" == schedule(client, payments=daily, account=STUDIO)
    assert ["daily", "manual"] == [schedule(client, account=STUDIO), schedule(client)]


# What seeding does, and no restricted key may.
SEEDING = {
    "make an account by v1": lambda client: client.v1.accounts.create({"country": "US"}),
    "make an account by v2": lambda client: client.v2.core.accounts.create(V2),
    "change an account": lambda client: client.v1.accounts.update(STUDIO, {"email": "a@example.com"}),
    "add a bank account": lambda client: client.v1.accounts.external_accounts.create(
        STUDIO, {"external_account": FAILING, "default_for_currency": True}
    ),
    "set a schedule": lambda client: client.raw_request(
        "post", "/v1/balance_settings", payments={"payouts": {"schedule": {"interval": "manual"}}}, **ON_BEHALF
    ),
    "take a payment": lambda client: client.v1.payment_intents.create(
        {"amount": 100, "currency": "usd", "payment_method": "pm_card_bypassPending", "confirm": True}
    ),
    "pay out": lambda client: client.v1.payouts.create({"amount": 100, "currency": "usd"}, ON_BEHALF),
}


@pytest.mark.parametrize("name", SEEDING)
@pytest.mark.parametrize("key", [FALLBACK_KEY, READ_KEY], ids=["fallback", "read"])
def test_restricted_keys_may_not_seed(sandbox, name, key):
    """Each attempt is a 403 that names a permission, and changes nothing."""
    before = (len(sandbox.books.records), sandbox.books.balance("acct_123"))
    error = refusal(lambda: SEEDING[name](client_of(sandbox, key)))

    assert isinstance(error, stripe.PermissionError)
    assert "rak_" in error.user_message
    assert before == (len(sandbox.books.records), sandbox.books.balance("acct_123"))


@pytest.mark.parametrize("name", SEEDING)
def test_full_key_may_seed(client, name):
    """The same calls, allowed."""

    assert vars(SEEDING[name](client))
