"""The sandbox answers in the shapes of the installed SDK's own types; the checker that says so is itself checked."""

from __future__ import annotations

import json
import re
import urllib.request

import pytest
import stripe
import stripe.params
from sdk_types import check_envelope, check_params, check_resource, fields_of, omitted_by_stripe, param_hints
from stripe.params.v2.core import AccountCreateParams, AccountRetrieveParams

from local_stripe import FULL_KEY, PLATFORM_ACCOUNT, SandboxAccount, running
from local_stripe.operations import OPERATIONS

DAY_S = 86_400
STUDIO = "acct_123"
BROKEN = "acct_broken"
TRANSFER = {"amount": 125075, "currency": "usd", "destination": STUDIO, "metadata": {"incident": "INC-123"}}

ACCOUNT_V2 = {
    "contact_email": "studio@example.com",
    "dashboard": "none",
    "identity": {
        "country": "US",
        "entity_type": "individual",
        "attestations": {"terms_of_service": {"account": {"date": "2026-03-02T03:00:00.000Z", "ip": "127.0.0.1"}}},
    },
    "defaults": {"responsibilities": {"fees_collector": "application", "losses_collector": "application"}},
    "configuration": {"recipient": {"capabilities": {"stripe_balance": {"stripe_transfers": {"requested": True}}}}},
}

# Every endpoint that lists, what its items are, and on whose behalf it is asked.
LISTS = [
    ("/v1/transfers", stripe.Transfer, None),
    ("/v1/balance_transactions", stripe.BalanceTransaction, None),
    ("/v1/balance_transactions", stripe.BalanceTransaction, STUDIO),
    ("/v1/balance_transactions", stripe.BalanceTransaction, BROKEN),
    ("/v1/charges", stripe.Charge, None),
    ("/v1/charges", stripe.Charge, STUDIO),
    ("/v1/payouts", stripe.Payout, STUDIO),
    ("/v1/payouts", stripe.Payout, BROKEN),
    ("/v1/accounts", stripe.Account, None),
    (f"/v1/accounts/{STUDIO}/external_accounts", stripe.BankAccount, None),
    ("/v1/payment_intents", stripe.PaymentIntent, None),
    (f"/v1/accounts/{STUDIO}/capabilities", stripe.Capability, None),
]


@pytest.fixture(scope="module", name="sandbox")
def _sandbox():
    """A sandbox in which everything has happened that can happen to money."""
    accounts = [
        SandboxAccount(STUDIO, payout_schedule="manual", available=(("usd", 50_000),)),
        SandboxAccount(BROKEN, bank="fails"),
    ]
    with running(accounts=accounts, available={"usd": 500_000, "eur": 7}) as sandbox:
        client = _client(sandbox)
        transfer = client.v1.transfers.create(TRANSFER)
        client.v1.transfers.reversals.create(transfer.id, {"amount": 75})
        client.v1.transfers.create({**TRANSFER, "destination": BROKEN})
        client.v1.payment_intents.create(
            {"amount": 10_000, "currency": "usd", "payment_method": "pm_card_bypassPending", "confirm": True}
        )
        on_behalf = {"stripe_account": STUDIO}
        client.v1.payouts.create({"amount": 100, "currency": "usd"}, on_behalf)
        payout = client.v1.payouts.create({"amount": 200, "currency": "usd"}, on_behalf)
        client.v1.payouts.cancel(payout.id, {}, on_behalf)
        sandbox.advance(3 * DAY_S)
        yield sandbox


def _client(sandbox):
    return stripe.StripeClient(FULL_KEY, base_addresses={"api": sandbox.base_url}, max_network_retries=0)


def _raw(sandbox, path, *, account=None, key=FULL_KEY):
    """The JSON as it comes over the wire, and the status, without the SDK between."""
    headers = {"Authorization": f"Bearer {key}"} | ({"Stripe-Account": account} if account else {})
    request = urllib.request.Request(sandbox.base_url + path, headers=headers)
    try:
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return json.load(error)


@pytest.mark.parametrize(("path", "item", "account"), LISTS)
def test_every_list_and_its_items_have_the_shape_of_the_sdk(sandbox, path, item, account):
    """Envelope and items hold every annotated field and no other, with values of the annotated kinds."""
    found = _raw(sandbox, path, account=account)

    assert found["data"]
    assert [] == check_envelope(found, item)


@pytest.mark.parametrize(
    ("path", "item"),
    [
        ("/v1/balance", stripe.Balance),
        ("/v1/account", stripe.Account),
        (f"/v1/accounts/{STUDIO}", stripe.Account),
        ("/v1/balance_settings", stripe.BalanceSettings),
    ],
)
def test_every_single_resource_has_the_shape_of_the_sdk(sandbox, path, item):
    """A resource that is not listed is judged alone."""
    assert [] == check_resource(_raw(sandbox, path), item)


def test_a_balance_says_what_it_is_made_of(sandbox):
    """Each available entry names its sources, which add up to it; money from bank debits is one besides cards."""
    sandbox.switch(bank_funds=True)
    try:
        found = _raw(sandbox, "/v1/balance")
    finally:
        sandbox.switch(bank_funds=False)

    assert [] == check_resource(found, stripe.Balance)
    assert {"bank_account", "card"} == {name for entry in found["available"] for name in entry["source_types"]}
    assert all(entry["amount"] == sum(entry["source_types"].values()) for entry in found["available"])


def test_accounts_of_v2_have_the_shape_of_the_sdk(sandbox):
    """Alone, with what was asked for beside it and without, and in the list, which v2 wraps in its own way."""
    made = _client(sandbox).v2.core.accounts.create(ACCOUNT_V2)
    url = f"/v2/core/accounts/{made.id}"
    shown = _raw(sandbox, f"{url}?include[0]=configuration.recipient")
    listed = _raw(sandbox, "/v2/core/accounts?limit=1")

    assert [] == check_resource(_raw(sandbox, url), stripe.v2.core.Account)
    assert [] == check_resource(shown, stripe.v2.core.Account)
    assert (
        "active" == shown["configuration"]["recipient"]["capabilities"]["stripe_balance"]["stripe_transfers"]["status"]
    )
    assert ["data", "next_page_url", "previous_page_url"] == list(listed)
    assert [] == [finding for one in listed["data"] for finding in check_resource(one, stripe.v2.core.Account)]


def test_reversals_have_the_shape_of_the_sdk(sandbox):
    """A reversal is right alone, in its list, and within its transfer."""
    transfer = sandbox.books.transfers[0]
    url = f"/v1/transfers/{transfer.id}/reversals"
    reversals = _raw(sandbox, url)

    assert [] == check_envelope(reversals, stripe.TransferReversal)
    assert [] == check_resource(_raw(sandbox, f"{url}/{reversals['data'][0]['id']}"), stripe.TransferReversal)
    assert reversals == _raw(sandbox, f"/v1/transfers/{transfer.id}")["reversals"]


@pytest.mark.parametrize(
    ("kind", "paths"),
    [
        ("transfers", ["balance_transaction.source", "destination", "destination_payment.balance_transaction"]),
        ("charges", ["balance_transaction", "payment_intent"]),
    ],
)
def test_expanded_resources_have_the_shape_of_the_sdk(sandbox, kind, paths):
    """What an expanded field holds is judged by the class that it says it is."""
    query = "&".join(f"expand[]=data.{path}" for path in paths)
    found = _raw(sandbox, f"/v1/{kind}?{query}")

    assert all(isinstance(item[path.split(".")[0]], dict) for item in found["data"] for path in paths)
    assert [] == check_envelope(found, {"transfers": stripe.Transfer, "charges": stripe.Charge}[kind])


def test_expanded_refund_of_a_reversal_has_the_shape_of_the_sdk(sandbox):
    """The connected account's side of a reversal is a refund."""
    transfer = sandbox.books.transfers[0]
    found = _raw(
        sandbox,
        f"/v1/transfers/{transfer.id}/reversals?expand[]=data.destination_payment_refund.balance_transaction",
    )

    assert "refund" == found["data"][0]["destination_payment_refund"]["object"]
    assert [] == check_envelope(found, stripe.TransferReversal)


@pytest.mark.parametrize(
    ("path", "account", "key"),
    [
        ("/v1/transfers/tr_nothing", None, FULL_KEY),
        ("/v1/transfers?foo=1", None, FULL_KEY),
        ("/v1/transfers?limit=many", None, FULL_KEY),
        ("/v1/balance", "acct_nobody", FULL_KEY),
        ("/v1/balance", None, "sk_test_wrong"),
        ("/v1/nowhere", None, FULL_KEY),
    ],
)
def test_errors_have_the_shape_of_the_sdk(sandbox, path, account, key):
    """An error is one object under "error", with nothing in it that the SDK does not know."""
    body = _raw(sandbox, path, account=account, key=key)

    assert ["error"] == list(body)
    assert [] == check_resource(body["error"], stripe.ErrorObject)


def test_ids_look_like_those_of_stripe(sandbox):
    """Prefixes and lengths are Stripe's, so that checks of ids meet the real thing."""
    transfer = sandbox.books.transfers[0]

    assert re.fullmatch(r"tr_[0-9A-Za-z]{24}", transfer.id)
    assert re.fullmatch(r"py_[0-9A-Za-z]{24}", transfer.destination_payment)
    assert re.fullmatch(r"txn_[0-9A-Za-z]{24}", transfer.balance_transaction)
    assert re.fullmatch(r"acct_[0-9A-Za-z]{16,}", PLATFORM_ACCOUNT)


# What the sandbox takes, as (method, path), the SDK's parameter type, and what of it the sandbox does without.
TAKES = [
    ("POST", "/v1/transfers", stripe.params.TransferCreateParams, set()),
    ("GET", "/v1/transfers", stripe.params.TransferListParams, set()),
    ("GET", "/v1/transfers/{id}", stripe.params.TransferRetrieveParams, set()),
    ("POST", "/v1/transfers/{id}", stripe.params.TransferModifyParams, set()),
    ("POST", "/v1/transfers/{id}/reversals", stripe.params.TransferCreateReversalParams, set()),
    ("GET", "/v1/transfers/{id}/reversals", stripe.params.TransferListReversalsParams, set()),
    ("GET", "/v1/balance", stripe.params.BalanceRetrieveParams, set()),
    ("GET", "/v1/balance_transactions", stripe.params.BalanceTransactionListParams, set()),
    ("GET", "/v1/payouts", stripe.params.PayoutListParams, set()),
    ("POST", "/v1/payouts", stripe.params.PayoutCreateParams, {"payout_method"}),
    ("POST", "/v1/payouts/{id}/cancel", stripe.params.PayoutCancelParams, set()),
    ("GET", "/v1/charges", stripe.params.ChargeListParams, {"customer"}),
    ("GET", "/v1/accounts", stripe.params.AccountListParams, set()),
    ("POST", "/v1/transfers/{id}/reversals/{reversal}", stripe.params.TransferModifyReversalParams, set()),
    ("GET", "/v1/accounts/{id}/capabilities", stripe.params.AccountListCapabilitiesParams, set()),
    ("GET", "/v1/events", stripe.params.EventListParams, set()),
    ("GET", "/v1/charges/search", stripe.params.ChargeSearchParams, set()),
    ("GET", "/v1/payment_intents/search", stripe.params.PaymentIntentSearchParams, set()),
    ("POST", "/v1/accounts/{id}/external_accounts", stripe.params.AccountCreateExternalAccountParams, set()),
    ("GET", "/v1/accounts/{id}/external_accounts", stripe.params.AccountListExternalAccountsParams, set()),
    ("POST", "/v1/balance_settings", stripe.params.BalanceSettingsUpdateParams, set()),
    ("GET", "/v2/core/accounts/{id}", AccountRetrieveParams, set()),
    (
        "POST",
        "/v2/core/accounts",
        AccountCreateParams,
        {"account_token", "contact_phone"},
    ),
]


@pytest.mark.parametrize(("method", "path", "params", "without"), TAKES)
def test_sandbox_takes_the_parameters_of_the_sdk_and_no_other(method, path, params, without):
    """What the sandbox refuses as unknown, Stripe does not know either."""
    (operation,) = [item for item in OPERATIONS if (item.method, item.path) == (method, path)]

    assert set(param_hints(params)) - without == set(operation.spec)


# The checker itself.


def _transfer(sandbox):
    return _raw(sandbox, f"/v1/transfers/{sandbox.books.transfers[0].id}")


@pytest.mark.parametrize(
    ("field", "wrong", "finding"),
    [
        ("amount", "125075", "Transfer.amount: found str, expected int"),
        ("amount", 125075.0, "Transfer.amount: found float, expected int"),
        ("amount", None, "Transfer.amount: found null, expected int"),
        ("livemode", 0, "Transfer.livemode: found int, expected bool"),
        ("object", "transfers", "Transfer.object: found 'transfers', expected one of transfer"),
        ("metadata", {"a": 1}, "Transfer.metadata[a]: found int, expected str"),
        ("metadata", [], "Transfer.metadata: found list, expected an object"),
        ("reversals", [], "Transfer.reversals: found list, expected a list object"),
        ("destination_payment", 7, "Transfer.destination_payment: found int, expected str"),
        ("status", "paid", "Transfer.status: unknown to the SDK"),
    ],
)
def test_checker_finds_a_planted_mistake(sandbox, field, wrong, finding):
    """One wrong field of a right resource is one finding, which names it."""
    assert [finding] == check_resource({**_transfer(sandbox), field: wrong}, stripe.Transfer)


def test_checker_finds_every_missing_field(sandbox):
    """Each of the seventeen fields of a transfer is missed when it is gone."""
    transfer = _transfer(sandbox)

    assert 17 == len(fields_of(stripe.Transfer))
    for field in fields_of(stripe.Transfer):
        rest = {name: value for name, value in transfer.items() if name != field}
        assert [f"Transfer.{field}: missing"] == check_resource(rest, stripe.Transfer)


def test_checker_looks_into_nested_and_expanded_objects(sandbox):
    """Mistakes are found in a list within a resource and in an object that replaced an id."""
    transfer = _transfer(sandbox)
    transfer["reversals"]["data"][0]["amount"] = "75"
    transfer["balance_transaction"] = {"object": "balance_transaction"}
    findings = check_resource(transfer, stripe.Transfer)

    assert "Transfer.reversals.data[0].amount: found str, expected int" in findings
    assert "Transfer.balance_transaction.net: missing" in findings


def test_checker_accepts_only_listed_words_of_an_open_enumeration(sandbox):
    """``Union[Literal[...], str]`` is read as the listed words, or a wrong word would never be found."""
    payout = _raw(sandbox, "/v1/payouts", account=BROKEN)["data"][0]
    findings = check_resource({**payout, "reconciliation_status": "done"}, stripe.Payout)

    expected = "Payout.reconciliation_status: found 'done', expected one of completed, in_progress, not_applicable"

    assert [expected] == findings


def test_checker_excuses_only_what_the_table_names(sandbox):
    """Without its table the checker misses what Stripe leaves out, so the table is what excuses it."""
    account = _raw(sandbox, "/v1/account")

    assert [] == check_resource(account, stripe.Account)
    assert "Account.company: missing" in check_resource(account, stripe.Account, omitted={})
    assert frozenset() == omitted_by_stripe().get(stripe.Transfer, frozenset())


@pytest.mark.parametrize("change", [{"has_more": "no"}, {"object": "page"}, {"count": 1}])
def test_checker_finds_a_wrong_envelope(sandbox, change):
    """The envelope of a list is judged as well as its items."""
    assert 1 == len(check_envelope({**_raw(sandbox, "/v1/transfers"), **change}, stripe.Transfer))


def test_checker_accepts_right_parameters():
    """What the project sends is what the SDK's parameter types describe."""
    assert [] == check_params({**TRANSFER, "expand": ["balance_transaction"]}, stripe.params.TransferCreateParams)
    assert [] == check_params({"created": {"gte": 1}, "limit": 100}, stripe.params.TransferListParams)


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        ({"amount": 12.5}, "TransferCreateParams.amount: found float, expected int"),
        ({"amount": True}, "TransferCreateParams.amount: found bool, expected int"),
        ({"metadata": {"n": 1}}, "TransferCreateParams.metadata[n]: found int, expected str"),
        (
            {"source_type": "cash"},
            "TransferCreateParams.source_type: found 'cash', expected one of bank_account, card, fpx",
        ),
        ({"expand": "balance_transaction"}, "TransferCreateParams.expand: found str, expected a list"),
        ({"idempotency_keys": "x"}, "TransferCreateParams.idempotency_keys: unknown to the SDK"),
    ],
)
def test_checker_finds_a_wrong_parameter(change, finding):
    """One wrong parameter is one finding, which names it."""
    assert [finding] == check_params({**TRANSFER, **change}, stripe.params.TransferCreateParams)


def test_checker_finds_a_missing_required_parameter():
    """The SDK's type says which parameters are required."""
    rest = {name: value for name, value in TRANSFER.items() if name != "destination"}

    assert ["TransferCreateParams.destination: missing"] == check_params(rest, stripe.params.TransferCreateParams)
