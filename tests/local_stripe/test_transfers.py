"""Transfers, reversals, listing, expansion and funding in the sandbox, asked through the official SDK."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest
import stripe

from local_stripe import FALLBACK_KEY, FULL_KEY, PLATFORM_ACCOUNT, SandboxAccount, running
from local_stripe.mistakes import InvalidValueError
from sdk import ORDER, STUDIO, client_of, refusal

DAY_S = 86_400
START_S = 1_772_420_400  # 2026-03-02T03:00:00Z


def test_transfer_moves_available_balance_at_once(sandbox, client):
    """The platform has less, the studio has it pending, and the transfer says what was asked."""
    transfer = client.v1.transfers.create(
        {**ORDER, "description": "Fallback", "transfer_group": "INC-123", "metadata": {"line": "1"}}
    )
    balance = client.v1.balance.retrieve()
    connected = client_of(sandbox, FULL_KEY).v1.balance.retrieve({}, {"stripe_account": STUDIO})

    assert (125_075, "usd", STUDIO) == (transfer.amount, transfer.currency, transfer.destination)
    assert ("Fallback", "INC-123", {"line": "1"}) == (
        transfer.description,
        transfer.transfer_group,
        transfer.metadata.to_dict(),
    )
    assert (False, False, 0, START_S) == (
        transfer.livemode,
        transfer.reversed,
        transfer.amount_reversed,
        transfer.created,
    )
    assert 374_925 == balance.available[0].amount == balance.available[0].source_types.card
    assert (0, 125_075) == (connected.available[0].amount, connected.pending[0].amount)
    assert [transfer.id] == [item.id for item in sandbox.books.transfers]


def test_balance_transaction_of_a_transfer_is_available_and_negative(client):
    """Rung A2 of the ladder: settled on the platform."""
    transfer = client.v1.transfers.create({**ORDER, "expand": ["balance_transaction"]})
    line = transfer.balance_transaction

    assert ("transfer", -125_075, -125_075, "available", transfer.id) == (
        line.type,
        line.amount,
        line.net,
        line.status,
        line.source,
    )


@pytest.mark.parametrize(
    ("change", "code", "param"),
    [
        ({"amount": 0}, "parameter_invalid_integer", "amount"),
        ({"amount": -5}, "parameter_invalid_integer", "amount"),
        ({"amount": 12.5}, "parameter_invalid_integer", "amount"),
        ({"amount": "lots"}, "parameter_invalid_integer", "amount"),
        ({"amount": 10**12}, "amount_too_large", "amount"),
        ({"amount": ""}, "parameter_invalid_empty", "amount"),
        ({"destination": ""}, "parameter_invalid_empty", "destination"),
        ({"currency": "zzz"}, None, "currency"),
        ({"speed": "fast"}, "parameter_unknown", "speed"),
        ({"amount": {"cents": 5}}, "parameter_unknown", "amount[cents]"),
        ({"destination": "acct_nobody"}, "resource_missing", "destination"),
        ({"destination": PLATFORM_ACCOUNT}, "resource_missing", "destination"),
        ({"amount": 500_001}, "balance_insufficient", None),
        ({"source_type": "bank_account"}, "balance_insufficient", None),
        ({"currency": "eur"}, "balance_insufficient", None),
        ({"metadata": {"k" * 41: "v"}}, None, "metadata"),
        ({"metadata": {"k": "v" * 501}}, "parameter_invalid_string", "metadata[k]"),
        ({"metadata": {str(n): "v" for n in range(51)}}, None, "metadata"),
        ({"source_transaction": "ch_nothing"}, "resource_missing", "source_transaction"),
        ({"expand": ["metadata"]}, None, None),
    ],
)
def test_wrong_transfer_is_refused_and_moves_nothing(sandbox, client, change, code, param):
    """Each refusal is an InvalidRequestError with Stripe's code and parameter, and no transfer exists."""
    error = refusal(lambda: client.v1.transfers.create({**ORDER, **change}))

    assert (stripe.InvalidRequestError, 400) == (type(error), error.http_status)
    assert (code, param) == (error.code, error.param)
    assert [] == sandbox.books.transfers


@pytest.mark.parametrize("missing", ["amount", "currency", "destination"])
def test_missing_parameter_is_named(client, missing):
    """The first parameter that lacks is named in message and param."""
    given = {name: value for name, value in ORDER.items() if name != missing}
    error = refusal(lambda: client.v1.transfers.create(given))

    assert ("parameter_missing", missing) == (error.code, error.param)
    assert f"Missing required param: {missing}." == error.user_message


@pytest.mark.parametrize("state", ["inactive", "pending"])
def test_destination_without_the_transfers_capability_is_refused(sandbox, client, state):
    """The create call is what tells a restricted key about capabilities."""
    sandbox.seed([SandboxAccount("acct_new", transfers=state)])
    error = refusal(lambda: client.v1.transfers.create({**ORDER, "destination": "acct_new"}))

    assert "insufficient_capabilities_for_transfer" == error.code


def test_account_outside_the_region_needs_the_recipient_agreement(sandbox, client):
    """Under the full agreement a transfer across the border is refused without a code; under the recipient's it goes."""
    sandbox.seed(
        [SandboxAccount("acct_far", country="BR"), SandboxAccount("acct_rcp", "BR", service_agreement="recipient")]
    )
    error = refusal(lambda: client.v1.transfers.create({**ORDER, "destination": "acct_far"}))

    assert (None, "BR" in str(error)) == (error.code, True)
    assert "acct_rcp" == client.v1.transfers.create({**ORDER, "destination": "acct_rcp"}).destination


def test_platform_without_connect_is_refused(sandbox, client):
    """A key of an account that is no platform cannot transfer."""
    sandbox.switch(connect=False)

    assert "platform_account_required" == refusal(lambda: client.v1.transfers.create(ORDER)).code


def test_error_body_has_the_keys_that_stripe_sends(client):
    """Type, code, message, param, doc_url and request_log_url, and the request id in the header."""
    error = refusal(lambda: client.v1.transfers.create({**ORDER, "destination": "acct_nobody"}))

    assert {"code", "doc_url", "message", "param", "request_log_url", "type"} == set(error.json_body["error"])
    assert "invalid_request_error" == error.json_body["error"]["type"]
    assert "No such destination: 'acct_nobody'" == error.user_message
    assert error.request_id == error.headers["request-id"]


def test_unknown_id_is_404(client):
    """Retrieving what is not there, or of another kind, is resource_missing."""
    error = refusal(lambda: client.v1.transfers.retrieve("tr_x"))

    assert (404, "resource_missing", "No such transfer: 'tr_x'") == (error.http_status, error.code, error.user_message)


def test_same_calls_give_the_same_ids():
    """Two sandboxes that are asked the same answer the same, ids included."""
    seen = []
    for _ in range(2):
        with running(accounts=[SandboxAccount(STUDIO)], available={"usd": 500_000}) as sandbox:
            client = client_of(sandbox)
            seen.append([str(client.v1.transfers.create({**ORDER, "amount": n})) for n in (1, 2)])

    assert seen[0] == seen[1]
    assert seen[0][0] != seen[0][1]


def test_concurrent_transfers_never_overdraw(sandbox):
    """Of many transfers at once, exactly as many succeed as the balance covers."""

    def attempt(_n):
        try:
            client_of(sandbox).v1.transfers.create({**ORDER, "amount": 100_000})
        except stripe.InvalidRequestError as error:
            return error.code
        return "made"

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(attempt, range(16)))

    assert (5, 11) == (outcomes.count("made"), outcomes.count("balance_insufficient"))
    assert 5 == len(sandbox.books.transfers)


# Listing and updating.


@pytest.fixture(name="ids")
def _ids(sandbox, client):
    """Five transfers, an hour apart, oldest first; the last two of group B."""
    ids = []
    for n in range(5):
        order = {**ORDER, "amount": n + 1, "transfer_group": "A" if n < 3 else "B"}
        ids.append(client.v1.transfers.create(order).id)
        sandbox.advance(3_600)
    return ids


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, [4, 3, 2, 1, 0]),
        ({"limit": 2}, [4, 3]),
        ({"transfer_group": "B"}, [4, 3]),
        ({"transfer_group": "C"}, []),
        ({"destination": STUDIO, "limit": 1}, [4]),
        ({"destination": "acct_nobody"}, []),
        ({"created": START_S}, [0]),
        ({"created": {"gte": START_S + 7_200}}, [4, 3, 2]),
        ({"created": {"gt": START_S, "lt": START_S + 7_200}}, [1]),
        ({"created": {"lte": START_S + 3_600}}, [1, 0]),
    ],
)
def test_list_is_newest_first_and_filters(client, ids, query, expected):
    """Every documented filter, alone and with others."""
    assert [ids[n] for n in expected] == [item.id for item in client.v1.transfers.list(query).data]


def test_pages_follow_each_other_in_both_directions(client, ids):
    """Cursors and has_more lead through everything once, forwards and backwards."""
    forward = client.v1.transfers.list({"limit": 2, "starting_after": ids[4]})
    backward = client.v1.transfers.list({"limit": 2, "ending_before": ids[0]})

    assert ([ids[3], ids[2]], True) == ([item.id for item in forward.data], forward.has_more)
    assert ([ids[2], ids[1]], True) == ([item.id for item in backward.data], backward.has_more)
    assert ids[::-1] == [item.id for item in client.v1.transfers.list({"limit": 2}).auto_paging_iter()]


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"metadata": {"line": "1"}}, "parameter_unknown"),
        ({"amount": 5}, "parameter_unknown"),
        ({"currency": "usd"}, "parameter_unknown"),
        ({"limit": 0}, "parameter_invalid_integer"),
        ({"limit": 101}, "parameter_invalid_integer"),
        ({"created": {"after": 1}}, "parameter_unknown"),
        ({"starting_after": "tr_nothing"}, "resource_missing"),
        ({"starting_after": "tr_a", "ending_before": "tr_b"}, None),
        ({"expand": ["balance_transaction"]}, None),
    ],
)
def test_list_refuses_what_stripe_cannot_filter_by(client, ids, query, code):
    """There is no filter by metadata, amount or currency; a cursor must exist; expansion starts with data."""
    error = refusal(lambda: client.v1.transfers.list(query))

    assert (len(ids), 400, code) == (5, error.http_status, error.code)


def test_only_description_and_metadata_can_be_changed(client):
    """Metadata merges, a blank value removes; nothing else of a transfer can be edited."""
    transfer = client.v1.transfers.create({**ORDER, "metadata": {"a": "1", "b": "2"}})
    client.v1.transfers.update(transfer.id, {"description": "late", "metadata": {"a": "", "c": "3"}})
    changed = client.v1.transfers.retrieve(transfer.id)

    assert ("late", {"b": "2", "c": "3"}) == (changed.description, changed.metadata.to_dict())
    assert "parameter_unknown" == refusal(lambda: client.v1.transfers.update(transfer.id, {"amount": 1})).code


def test_expand_reaches_the_destination_payment_from_the_platform(sandbox):
    """Level B of the ladder without a Stripe-Account header."""
    client = client_of(sandbox, FULL_KEY)
    created = client.v1.transfers.create(ORDER)
    found = client.v1.transfers.retrieve(created.id, {"expand": ["destination_payment.balance_transaction"]})
    listed = client.v1.transfers.list({"expand": ["data.balance_transaction"]})
    payment = found.destination_payment

    assert ("charge", created.id) == (payment.object, payment.source_transfer)
    assert ("payment", "pending", START_S + DAY_S) == (
        payment.balance_transaction.type,
        payment.balance_transaction.status,
        payment.balance_transaction.available_on,
    )
    assert -125_075 == listed.data[0].balance_transaction.amount


# Reversals.


def test_reversal_before_the_funds_are_available_is_refused(client):
    """A reversal takes available balance of the studio, and there is none yet."""
    transfer = client.v1.transfers.create(ORDER)
    error = refusal(lambda: client.v1.transfers.reversals.create(transfer.id))

    assert ("balance_insufficient", 400) == (error.code, error.http_status)


def test_partial_reversals_add_up_to_a_full_one(sandbox):
    """Each gives the money back; the transfer is reversed only when nothing is left; more is refused."""
    sandbox.seed([SandboxAccount(STUDIO, payout_schedule="manual")])
    client = client_of(sandbox)
    transfer = client.v1.transfers.create(ORDER)
    sandbox.advance(DAY_S)
    client.v1.transfers.reversals.create(transfer.id, {"amount": 25_075, "metadata": {"why": "typo"}})
    partly = client.v1.transfers.retrieve(transfer.id)
    too_much = refusal(lambda: client.v1.transfers.reversals.create(transfer.id, {"amount": 100_001}))
    client.v1.transfers.reversals.create(transfer.id)
    fully = client.v1.transfers.retrieve(transfer.id)
    again = refusal(lambda: client.v1.transfers.reversals.create(transfer.id))

    assert (False, 25_075, 1) == (partly.reversed, partly.amount_reversed, len(partly.reversals.data))
    assert "amount" == too_much.param
    assert (True, 125_075, [100_000, 25_075]) == (
        fully.reversed,
        fully.amount_reversed,
        [item.amount for item in fully.reversals.data],
    )
    assert "already been fully reversed" in again.user_message
    assert 500_000 == client.v1.balance.retrieve().available[0].amount
    assert [-25_075, -100_000] == [
        line.amount for line in sandbox.books.balance_transactions if line.type == "payment_refund"
    ]


def test_connected_reserves_allow_a_reversal_below_zero(sandbox, client):
    """With reserves, the studio goes below zero and the platform holds as much back."""
    sandbox.switch(connected_reserves=True)
    transfer = client.v1.transfers.create(ORDER)
    client.v1.transfers.reversals.create(transfer.id, {"amount": 75})
    balance = client.v1.balance.retrieve()

    assert (375_000 - 75, 75) == (balance.available[0].amount, balance.connect_reserved[0].amount)


# Funding and accounts, as a seeder does it.


@pytest.mark.parametrize(
    ("method", "available", "pending"), [("pm_card_bypassPending", 509_680, 0), ("pm_card_visa", 500_000, 9_680)]
)
def test_card_payment_funds_the_platform_less_its_fee(sandbox, method, available, pending):
    """Only the card that bypasses pending is available at once; the fee is 2.9 % and 30."""
    client = client_of(sandbox, FULL_KEY)
    intent = client.v1.payment_intents.create(
        {
            "amount": 10_000,
            "currency": "usd",
            "payment_method": method,
            "confirm": True,
            "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"},
        }
    )
    balance = client.v1.balance.retrieve()

    assert "succeeded" == intent.status
    assert (available, pending) == (balance.available[0].amount, balance.pending[0].amount)


def test_source_transaction_transfers_pending_money_and_no_more_than_the_charge(sandbox):
    """It succeeds whatever is available, waits for the charge, takes its group, and stops at its amount."""
    client = client_of(sandbox, FULL_KEY)
    payment = {"amount": 600_000, "currency": "usd", "payment_method": "pm_card_visa", "confirm": True}
    intent = client.v1.payment_intents.create(payment)
    order = {**ORDER, "amount": 550_000, "source_transaction": intent.latest_charge}
    transfer = client.v1.transfers.create({**order, "expand": ["balance_transaction"]})
    too_much = refusal(lambda: client.v1.transfers.create(order))
    foreign = refusal(lambda: client.v1.transfers.create({**order, "amount": 1, "currency": "eur"}))

    assert ("pending", f"group_{intent.id}") == (transfer.balance_transaction.status, transfer.transfer_group)
    assert ("amount", "currency") == (too_much.param, foreign.param)


def test_new_account_can_receive_once_terms_are_accepted(sandbox):
    """A capability that was requested becomes active with the acceptance of the terms."""
    client = client_of(sandbox, FULL_KEY)
    account = client.v1.accounts.create(
        {
            "country": "US",
            "controller": {"stripe_dashboard": {"type": "none"}},
            "capabilities": {"transfers": {"requested": True}},
            "external_account": {
                "object": "bank_account",
                "country": "US",
                "currency": "usd",
                "account_number": "000111111116",
            },
        }
    )
    accepted = client.v1.accounts.update(account.id, {"tos_acceptance": {"date": START_S, "ip": "127.0.0.1"}})

    assert ("inactive", "active") == (account.capabilities.transfers, accepted.capabilities.transfers)
    assert "1116" == accepted.external_accounts.data[0].last4
    assert account.id == client.v1.transfers.create({**ORDER, "destination": account.id}).destination


def test_accounts_v1_can_be_switched_off(sandbox):
    """A new platform is refused in the words that it will meet."""
    sandbox.switch(accounts_v1=False)
    error = refusal(lambda: client_of(sandbox, FULL_KEY).v1.accounts.create({"country": "US"}))

    assert "POST /v2/core/accounts" in error.user_message


def test_type_and_controller_together_are_refused(sandbox):
    """An account is described by one or the other."""
    given = {"type": "custom", "controller": {"stripe_dashboard": {"type": "none"}}}

    assert "type" == refusal(lambda: client_of(sandbox, FULL_KEY).v1.accounts.create(given)).param


@pytest.mark.parametrize(
    "change",
    [
        {"external_account": {"currency": {"x": "y"}, "account_number": {"x": "y"}}},
        {"settings": "daily"},
        {"settings": {"payouts": {"schedule": {"interval": "hourly"}}}},
        {"tos_acceptance": {"date": "today"}},
        {"capabilities": {"transfers": "yes"}},
        {"business_profile": {"name": {"x": "y"}}},
    ],
)
def test_misshapen_account_is_refused_or_ignored_but_never_a_server_error(sandbox, change):
    """A seeder's mistake is answered, and a refused one leaves no account behind."""
    before = len(sandbox.books.accounts)
    try:
        client_of(sandbox, FULL_KEY).v1.accounts.create({"country": "US", **change})
    except stripe.InvalidRequestError:
        assert before == len(sandbox.books.accounts)
    else:
        assert before + 1 == len(sandbox.books.accounts)


@pytest.mark.parametrize(
    "form",
    [
        "amount=5&amount[a]=6",
        "amount[a]=5&amount=6",
        "metadata=x",
        "metadata[a][b]=c",
        "expand[a][b]=c",
        "expand=balance_transaction.source.x.y.z",
        "[]=1",
        "a[=1",
        "=1",
        "amount=" + "9" * 5_000,
        "amount=%FF%FE",
        "currency[]=usd",
        "description=",
        "expand=",
    ],
)
def test_misshapen_form_is_refused_and_moves_nothing(sandbox, form):
    """Whatever is sent, the answer is a 400 in Stripe's shape."""
    fields = "" if form.startswith("amount") else "&amount=1"
    request = urllib.request.Request(
        f"{sandbox.base_url}/v1/transfers",
        data=f"{form}{fields}&currency=usd&destination={STUDIO}".encode(),
        headers={"Authorization": f"Bearer {FULL_KEY}"},
    )
    with pytest.raises(urllib.error.HTTPError, match="400") as caught:
        urllib.request.urlopen(request)
    with caught.value as error:
        assert "invalid_request_error" == json.load(error)["error"]["type"]
    assert [] == sandbox.books.transfers


# The sandbox's own surface.


def admin(sandbox, method, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{sandbox.base_url}/_sandbox{path}", data=data, method=method)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_clock_is_shown_and_advanced_over_http(sandbox):
    """Time stands still until it is moved, and never goes back."""
    assert (200, {"now": "2026-03-02T03:00:00.000000Z", "ticking": False}) == admin(sandbox, "GET", "/clock")
    assert "2026-03-02T03:01:30.500000Z" == admin(sandbox, "POST", "/clock/advance", {"seconds": 90.5})[1]["now"]
    assert 400 == admin(sandbox, "POST", "/clock/advance", {"seconds": -1})[0]
    assert 400 == admin(sandbox, "POST", "/clock/advance", {})[0]


def test_seeding_twice_is_seeding_once(sandbox):
    """Seeds describe what should be; the same seed again changes neither accounts nor balances."""
    seed = {
        "accounts": [{"id": "acct_9", "display_name": "Nine", "available": {"usd": 7}}],
        "available": {"usd": 5, "eur": 6},
    }
    answers = [admin(sandbox, "POST", "/seed", seed) for _ in range(2)]
    dump = admin(sandbox, "GET", "/books")[1]

    assert [(200, {"accounts": 2})] * 2 == answers
    assert {"available": {"usd": 5, "eur": 6}, "pending": {"usd": 0, "eur": 0}} == dump["balances"][PLATFORM_ACCOUNT]
    assert {"usd": 7} == dump["balances"]["acct_9"]["available"]


@pytest.mark.parametrize(
    "seed",
    [{"accounts": [{"id": "123"}]}, {"accounts": [{"id": "acct_1", "bank": "maybe"}]}, {"accounts": [{"name": 1}]}],
)
def test_wrong_seed_is_refused(sandbox, seed):
    """A seed that cannot be meant is an error, not an account."""
    assert 400 == admin(sandbox, "POST", "/seed", seed)[0]
    assert [STUDIO] == [account.id for account in sandbox.books.accounts]


def test_books_and_log_show_what_happened_but_never_a_key(sandbox, client):
    """The dump holds transfers and every request with its parameters; the keys stay out of it."""
    transfer = client.v1.transfers.create(ORDER, {"idempotency_key": "k-1"})
    dump = admin(sandbox, "GET", "/books")[1]
    request = dump["requests"][0]

    assert (transfer.id, "k-1", False) == tuple(
        dump["transfers"][0][name] for name in ("id", "idempotency_key", "reversed")
    )
    assert ("POST", "/v1/transfers", "k-1", None, 200, None, "fallback") == tuple(
        request[name] for name in ("method", "path", "idempotency_key", "account", "status", "fault", "key")
    )
    assert "125075" == request["params"]["amount"]
    assert FALLBACK_KEY not in json.dumps(dump)


def test_switches_are_set_over_http(sandbox, client):
    """A switch takes effect at once; one that does not exist is refused."""
    assert (200, {"settings": ["connect"]}) == admin(sandbox, "POST", "/settings", {"connect": False})
    assert "platform_account_required" == refusal(lambda: client.v1.transfers.create(ORDER)).code
    assert 400 == admin(sandbox, "POST", "/settings", {"connections": True})[0]
    assert 400 == admin(sandbox, "POST", "/settings", {"expired_keys": ["mine"]})[0]


def test_faults_are_planted_and_taken_back_over_http(sandbox, client):
    """Faults can be planted from another process; a misspelt one is refused."""
    assert (200, {"waiting": 1}) == admin(sandbox, "POST", "/faults", {"kind": "drop_before", "times": 1})
    assert 400 == admin(sandbox, "POST", "/faults", {"kind": "drop"})[0]
    assert 400 == admin(sandbox, "POST", "/faults", {"kind": "slow", "second": 1})[0]
    assert (200, {"waiting": 0}) == admin(sandbox, "DELETE", "/faults")
    assert 125_075 == client.v1.transfers.create(ORDER).amount


def test_date_of_an_answer_is_that_of_the_sandbox(client):
    """Who compares clocks with Stripe compares them with the sandbox's."""
    assert "Mon, 02 Mar 2026 03:00:00 GMT" == client.v1.balance.retrieve().last_response.headers["date"]


def test_health_says_that_it_serves(sandbox):
    """Asking changes nothing, however often."""
    answers = [admin(sandbox, "GET", "/health") for _ in range(2)]

    assert [(200, "ok")] * 2 == [(status, body["status"]) for status, body in answers]
    assert [] == sandbox.requests


def test_reset_goes_back_to_the_start(sandbox, client):
    """After a reset the same call gives the same answer as the first time."""
    first = str(client.v1.transfers.create(ORDER))
    sandbox.advance(5)
    sandbox.fault("drop_before")
    admin(sandbox, "POST", "/reset")

    assert ([], 500_000) == (sandbox.books.transfers, client.v1.balance.retrieve().available[0].amount)
    sandbox.reset()
    assert first == str(client.v1.transfers.create(ORDER))


def test_unknown_url_gets_the_answer_of_stripe(sandbox):
    """A typing error in a path is told as Stripe tells it."""
    with pytest.raises(urllib.error.HTTPError, match="404") as caught:
        urllib.request.urlopen(f"{sandbox.base_url}/v1/transfer")
    with caught.value as error:
        assert "Unrecognized request URL (GET: /v1/transfer)" in json.load(error)["error"]["message"]


@pytest.mark.parametrize("start", ["yesterday", "2026-03-02T03:00:00"])
def test_start_must_be_an_instant(start):
    """A start without an offset would mean another instant on another machine."""
    with pytest.raises(InvalidValueError, match="start"), running(start=start):
        pass


def test_ticking_clock_goes_by_itself():
    """A ticking sandbox starts where it is told and does not stand still."""
    with running(ticking=True) as sandbox:
        first = sandbox.books.clock.now_us
        while sandbox.books.clock.now_us == first:
            time.sleep(0)

        assert START_S * 1_000_000 <= first < sandbox.books.clock.now_us
