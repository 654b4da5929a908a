"""What real clients of Stripe's ask besides transfers, and what they ask wrongly, is answered as Stripe answers it."""

from __future__ import annotations

import http.client
import json
from urllib.parse import urlsplit

import pytest

from local_stripe import FULL_KEY, SandboxAccount, running
from sdk import ORDER, STUDIO, client_of, refusal


@pytest.fixture(scope="module", name="sandbox")
def _sandbox():
    accounts = [
        SandboxAccount(STUDIO, payout_schedule="manual", available=(("usd", 5_000),)),
        SandboxAccount("acct_waits", transfers="pending"),
    ]
    with running(accounts=accounts, available={"usd": 500_000}) as sandbox:
        yield sandbox


@pytest.fixture(name="client")
def _client(sandbox):
    return client_of(sandbox, FULL_KEY)


def ask(sandbox, method, path, body="", **headers):
    """One request as it is, and nothing that follows where an answer points."""
    connection = http.client.HTTPConnection(urlsplit(sandbox.base_url).netloc, timeout=30)
    sent = {"Authorization": f"Bearer {FULL_KEY}", "Content-Type": "application/x-www-form-urlencoded", **headers}
    connection.request(method, path, body, sent)
    answer = connection.getresponse()
    found = answer.status, json.loads(answer.read() or "{}")
    connection.close()
    return found


def test_a_reversals_metadata_can_be_changed_and_nothing_else_of_it(client):
    """Given keys replace, blank ones remove."""
    transfer = client.v1.transfers.create({**ORDER, "amount": 500})
    reversal = client.v1.transfers.reversals.create(transfer.id, {"amount": 100, "metadata": {"a": "1", "b": "2"}})
    changed = client.v1.transfers.reversals.update(transfer.id, reversal.id, {"metadata": {"a": "", "c": "3"}})
    other = client.v1.transfers.create({**ORDER, "amount": 500})

    assert {"b": "2", "c": "3"} == changed.metadata.to_dict()
    assert changed == client.v1.transfers.reversals.retrieve(transfer.id, reversal.id)
    assert "Received unknown parameter: description" in str(
        refusal(lambda: client.v1.transfers.reversals.update(transfer.id, reversal.id, {"description": "x"}))
    )
    assert 404 == refusal(lambda: client.v1.transfers.reversals.update(other.id, reversal.id, {})).http_status


def test_capabilities_are_listed_and_shown_one_by_one(client):
    """As they stand in the account."""
    listed = client.v1.accounts.capabilities.list(STUDIO)

    assert [("transfers", "active", STUDIO)] == [(one.id, one.status, one.account) for one in listed.data]
    assert "pending" == client.v1.accounts.capabilities.retrieve("acct_waits", "transfers").status
    assert 404 == refusal(lambda: client.v1.accounts.capabilities.retrieve(STUDIO, "treasury")).http_status


def test_events_are_asked_for_by_type(client):
    """There are none, whatever their type."""
    assert [] == client.v1.events.list({"type": "transfer.created"}).data
    assert [] == client.v1.events.list({"types": ["transfer.created", "payout.paid"], "delivery_success": True}).data


PAID = {"currency": "usd", "payment_method": "pm_card_bypassPending", "confirm": True}


@pytest.fixture(scope="module", name="paid")
def _paid(sandbox):
    """The payments, by their amounts."""
    client = client_of(sandbox, FULL_KEY)
    metadata = {100: {"game": "Reef"}, 200: {"game": "Moss"}, 300: {}}
    intents = client.v1.payment_intents
    return {
        amount: intents.create({**PAID, "amount": amount, "metadata": kept}).id for amount, kept in metadata.items()
    }


@pytest.mark.parametrize(
    ("query", "amounts"),
    [
        ("amount:200", [200]),
        ("amount>=200 AND status:'succeeded'", [300, 200]),
        ('metadata["game"]:"reef" OR amount:300', [300, 100]),
        ('-metadata["game"]:null', [200, 100]),
        ('metadata["game"]~"os" currency:"USD"', [200]),
        ("amount<100", []),
    ],
)
def test_search_is_an_endpoint_of_its_own(client, paid, query, amounts):
    """It was taken for the address of one object called search."""
    found = client.v1.payment_intents.search({"query": query})

    assert "search_result" == found.object
    assert [paid[amount] for amount in amounts] == [one.id for one in found.data]


def test_search_goes_on_page_by_page(client, paid):
    """The SDK follows."""
    pages = client.v1.payment_intents.search({"query": "amount>0", "limit": 1})

    assert sorted(paid.values()) == sorted(one.id for one in pages.auto_paging_iter())
    assert [] == client.v1.customers.search({"query": 'metadata["x"]:"y"'}).data


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("reef", "We were unable to parse your search query"),
        ("amount:1 AND currency:'usd' OR amount:2", "We were unable to parse your search query"),
        ("status>1", "We were unable to parse your search query"),
        ("color:'red'", "Field `color` is an unsupported search field"),
    ],
)
def test_what_is_no_query_is_refused(client, paid, query, said):
    """Nothing is found by guessing."""
    error = refusal(lambda: client.v1.payment_intents.search({"query": query}))

    assert (400, "query") == (error.http_status, error.param)
    assert said in str(error)


def test_transfers_have_no_search(client):
    """There the word is an id."""
    assert "No such transfer: 'search'" in str(refusal(lambda: client.v1.transfers.retrieve("search")))


@pytest.mark.parametrize(
    "version", ["2019-2-19", "2019-12-03, 2019-12-03", "2222-01-01.later", "2026-10-28", "latest", ""]
)
def test_a_version_that_cannot_be_is_refused(sandbox, version):
    """Before anything is executed."""
    before = len(sandbox.books.transfers)
    form = f"amount=100&currency=usd&destination={STUDIO}"
    status, found = ask(sandbox, "POST", "/v1/transfers", form, **{"Stripe-Version": version})

    assert (400, f"Invalid Stripe API version: {version}") == (status, found["error"]["message"])
    assert before == len(sandbox.books.transfers)


@pytest.mark.parametrize("version", ["2019-12-03", "2024-06-20", "2026-10-28.endive", "2026-10-28.preview"])
def test_a_version_that_can_be_is_taken(sandbox, version):
    """An old client's too."""

    assert 200 == ask(sandbox, "GET", "/v1/balance", **{"Stripe-Version": version})[0]


def test_a_trailing_slash_makes_no_transfer(sandbox):
    """A redirect would be followed with the form, and the transfer made."""
    before = len(sandbox.books.transfers)
    status, found = ask(sandbox, "POST", "/v1/transfers/", f"amount=100&currency=usd&destination={STUDIO}")

    assert 404 == status
    assert found["error"]["message"].startswith(
        "Unrecognized request URL (POST: /v1/transfers/). If you are trying to list objects, remove the trailing slash."
    )
    assert before == len(sandbox.books.transfers)


@pytest.mark.parametrize(("method", "path"), [("GET", "/v1/issuing/cards"), ("DELETE", "/v1/transfers"), ("GET", "/")])
def test_an_endpoint_that_is_not_there_is_unrecognized(sandbox, method, path):
    """In Stripe's words."""
    status, found = ask(sandbox, method, path)

    assert (404, "invalid_request_error") == (status, found["error"]["type"])
    assert f"Unrecognized request URL ({method}: {path})." in found["error"]["message"]
