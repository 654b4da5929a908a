"""
Stripe's real test mode, for whoever has keys: what the seeding and the run rely on, and the open questions as probes.

Outside the default run. With the keys of one platform in the environment::

    export STRIPE_REHEARSAL_SECRET_KEY=sk_test_…     # the secret key of a sandbox, or of test mode
    export STRIPE_FALLBACK_SECRET_KEY=rk_test_…      # restricted: Transfers: Write, Balance: Read
    .venv/bin/pytest -s -m test_mode tests/contract/test_test_mode.py

*What it asserts.* What this software would be wrong without: a studio can be seeded and is found again; the platform can be
funded; a transfer is listed by its group, and is replayed and not repeated under its key; another amount under the same key
is no answer about the money; what is refused is refused in a way that is judged as refused; payouts end as the bank account
says. Where Stripe's documentation leaves a question open, nothing is asserted but that there is an answer: it is printed as
``probe: …``, to be compared with docs/architecture.md, *What the sandbox assumes*.

*What it moves.* Test money alone: one card payment if the platform has too little, a few transfers of some dollars, two
payouts of one of them to banks that do not exist.

*How it cleans up.* Transfers whose money is still in the studio's balance are reversed. Two connected accounts stay, and are
found again the next time; the payment and the payouts stay in the books of test mode, which nobody can take out.

*Before the first call* the keys are held to their prefixes; a live key, or none, means that nothing here runs. The module
itself is run against the sandbox by ``test_probes.py``; against Stripe it has not been run by those who wrote it.
"""

from __future__ import annotations

import os
import sys
import time
import uuid
from urllib.parse import urlsplit

import pytest
import stripe

from manual_payout.database.clock import SandboxClock
from manual_payout.desk.messengers import LOOPBACK
from manual_payout.desk.settings import STRIPE_API, Policy, load_settings
from manual_payout.domain.errors import NotFinishedError, SettingsError
from manual_payout.domain.money import Money
from manual_payout.gateway import Accepted, Gateway, Refused, Unknown
from manual_payout.gateway.privileges import try_key
from manual_payout.gateway.sdk import new_client
from payout_rehearsal.testmode.keys import find_platform, rehearsal_keys
from payout_rehearsal.testmode.seeding import Patience, Seeder, Studio

pytestmark = pytest.mark.test_mode

PAYS = Studio("contract_pays", "Contract Test Pottery")
FAILS = Studio("contract_fails", "Contract Test Kiln", bank="no_account")
AMOUNT = 500


class RealTime:
    """The clock of this machine, for waiting alone."""

    def now(self):
        """When terms are accepted."""
        from datetime import UTC, datetime

        return datetime.now(UTC)

    def wait(self, seconds):
        """Sleep."""
        time.sleep(seconds)


def probe(question, answer):
    """Say what was found out."""
    sys.stdout.write(f"\nprobe: {question} {answer}\n")


@pytest.fixture(scope="module", name="base")
def _base():
    """Stripe, or a sandbox on this machine."""
    return os.environ.get("STRIPE_API_BASE") or STRIPE_API


@pytest.fixture(scope="module", name="keys")
def _keys():
    """The keys, held to their prefixes; without them nothing runs."""
    missing = [
        name for name in ("STRIPE_REHEARSAL_SECRET_KEY", "STRIPE_FALLBACK_SECRET_KEY")
        if not (os.environ.get(name) or os.environ.get(f"{name}_COMMAND"))
    ]  # fmt: skip
    if missing:
        pytest.skip(f"{' and '.join(missing)} not set")
    try:
        return rehearsal_keys(load_settings(stripe_api_base=STRIPE_API, policy=Policy()))
    except SettingsError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture(scope="module", name="seeder")
def _seeder(keys, base):
    local = urlsplit(base).hostname in LOOPBACK
    patience = Patience(available_s=3 * 86_400, payout_s=5 * 86_400, look_s=3_600) if local else Patience()
    clock = SandboxClock(base) if local else RealTime()
    seeder = Seeder(keys.seeding, base_url=base, timeout_s=30, clock=clock, patience=patience)
    probe("platform account", find_platform(keys, seeder, base_url=base, timeout_s=30))
    return seeder


@pytest.fixture(scope="module", name="run")
def _run(keys, base):
    """The gateway of a run, with its restricted key."""
    return Gateway(keys.run, base_url=base, timeout_s=30)


@pytest.fixture(scope="module", name="studio")
def _studio(seeder):
    """A studio that can receive, on a platform that can pay."""
    seeded = seeder.seed(PAYS)
    probe("accounts are made by version", seeded.version)
    seeder.wait_until_active(seeded)
    seeder.fund(Money(20 * AMOUNT, "usd"))
    return seeded


@pytest.fixture(name="transfer")
def _transfer(run, studio, keys, base):
    """A transfer of a few dollars, reversed afterwards as far as it can be."""
    group = f"contract-{uuid.uuid4()}"
    key, payload = f"{group}-1", payload_of(studio.account, group)
    answer = run.create_transfer(payload, idempotency_key=key)
    assert isinstance(answer, Accepted), answer
    yield answer.made, payload, key
    full = Gateway(keys.seeding, base_url=base, timeout_s=30)
    left = full.get_transfer(answer.made["id"])
    if not left["reversed"]:
        back = full.create_reversal(
            answer.made["id"], {"amount": left["amount"] - left["amount_reversed"]}, idempotency_key=f"{key}-back"
        )
        probe("a transfer is taken back:", type(back).__name__)


def payload_of(account, group, amount=AMOUNT):
    return {"amount": amount, "currency": "usd", "destination": account, "transfer_group": group}


def status_of(call):
    """The HTTP status of a call, and what Stripe says is missing where it refuses."""
    try:
        call()
    except stripe.StripeError as error:
        named = [word.strip("'") for word in str(error.user_message).split() if "rak_" in word]
        return error.http_status, getattr(error.error, "code", None), *named
    return (200,)


def test_studio_is_found_again(seeder, studio):
    """Every later rehearsal uses the same account."""
    again = seeder.seed(PAYS)

    assert (studio.account, True) == (again.account, again.found)


def test_transfer_is_listed_by_its_group_and_replayed_under_its_key(run, transfer):
    """The two ways out of an unknown outcome."""
    made, payload, key = transfer
    again = run.create_transfer(payload, idempotency_key=key)

    assert [made["id"]] == [one["id"] for one in run.transfers_in_group(payload["transfer_group"])]
    assert isinstance(again, Accepted)
    assert (made["id"], True) == (again.made["id"], again.replayed)


def test_other_amount_under_the_same_key_says_nothing_about_the_money(run, transfer):
    """It is an error of its own, and moves nothing."""
    made, payload, key = transfer
    answer = run.create_transfer(payload | {"amount": AMOUNT + 1}, idempotency_key=key)

    assert isinstance(answer, Unknown), answer
    assert [made["id"]] == [one["id"] for one in run.transfers_in_group(payload["transfer_group"])]


def test_refusals_are_judged_as_refused(run, seeder, studio):
    """Too little money, nobody there, no amount: each is a no, and the list stays empty."""
    group = f"contract-{uuid.uuid4()}"
    beyond = seeder.available().amount_minor + 100_000
    orders = {
        "balance_insufficient": payload_of(studio.account, group, beyond),
        "unknown destination": payload_of("acct_1Nobody0000000000", group),
        "amount of zero": payload_of(studio.account, group, 0),
    }
    for number, (what, order) in enumerate(orders.items()):
        first = run.create_transfer(order, idempotency_key=f"{group}-{number}")
        second = run.create_transfer(order, idempotency_key=f"{group}-{number}")
        probe(f"{what}:", f"{first.code} (again under the same key: {second.code})")

        assert isinstance(first, Refused), first
        assert isinstance(second, Refused), second
    assert [] == run.transfers_in_group(group)


def test_funds_come_with_the_card_that_bypasses_pending(seeder):
    """What is missing is available after one payment."""
    needed = Money(seeder.available().amount_minor + 100, "usd")
    charged = seeder.fund(needed)
    probe("for 1.00 USD more the card was charged", charged.grouped)

    assert seeder.available() >= needed


@pytest.mark.parametrize(("studio_of", "status"), [(PAYS, "paid"), (FAILS, "failed")], ids=["paid", "failed"])
def test_payout_ends_as_its_bank_account_says(run, seeder, studio_of, status):
    """On the studio's behalf, after a transfer to it."""
    seeded = seeder.seed(studio_of)
    seeder.wait_until_active(seeded)
    seeder.fund(Money(2 * AMOUNT, "usd"))
    group = f"contract-{uuid.uuid4()}"
    made = run.create_transfer(payload_of(seeded.account, group), idempotency_key=f"{group}-1")
    assert isinstance(made, Accepted), made
    began = seeder.clock.now()
    seeder.wait_for_funds(Money(AMOUNT, "usd"), seeded.account)
    usable = seeder.clock.now()
    payout = seeder.pay_out(seeded.account, Money(AMOUNT, "usd"), {"transfer": made.made["id"]})
    try:
        ended = seeder.wait_for_end(seeded.account, payout["id"])
    except NotFinishedError as error:
        # How long test mode takes is documented nowhere; that it takes longer than this is an answer too.
        pytest.skip(error.message)
    probe(f"{status}: usable after", f"{usable - began}, ended after {seeder.clock.now() - usable}")

    assert status == ended["status"]


def test_reads_of_the_restricted_key(keys, base, transfer, studio):
    """Transfers and the balance it must see; of everything else, whether it does is found out."""
    made, _, _ = transfer
    client = new_client(keys.run, base_url=base, timeout_s=30)
    on_behalf = {"stripe_account": studio.account}
    calls = {
        "GET /v1/balance": client.v1.balance.retrieve,
        "GET /v1/transfers": lambda: client.v1.transfers.list({"limit": 1}),
        "expand balance_transaction": lambda: client.v1.transfers.retrieve(
            made["id"], {"expand": ["balance_transaction"]}
        ),
        "expand destination_payment.balance_transaction": lambda: client.v1.transfers.retrieve(
            made["id"], {"expand": ["destination_payment.balance_transaction"]}
        ),
        "GET /v1/balance_transactions": lambda: client.v1.balance_transactions.list({"limit": 1}),
        "GET /v1/payouts": lambda: client.v1.payouts.list({"limit": 1}),
        "GET /v1/accounts/:id": lambda: client.v1.accounts.retrieve(studio.account),
        "GET /v1/accounts": lambda: client.v1.accounts.list({"limit": 1}),
        "GET /v1/events": lambda: client.raw_request("get", "/v1/events", limit=1),
        "GET /v1/balance of a studio": lambda: client.v1.balance.retrieve({}, on_behalf),
    }
    found = {name: status_of(call) for name, call in calls.items()}
    for name, answer in found.items():
        probe(f"restricted key, {name}:", answer)

    assert (200,) == found["GET /v1/balance"] == found["GET /v1/transfers"]
    assert {200, 403} >= {answer[0] for answer in found.values()}


def test_writes_of_the_restricted_key(keys, base, run, transfer):
    """Whether it may take back and pay out is found out, the latter with more than there is, so that nothing can move."""
    made, _, key = transfer
    client = new_client(keys.run, base_url=base, timeout_s=30)
    back = run.create_reversal(made["id"], {"amount": 1}, idempotency_key=f"{key}-r")
    probe("restricted key, POST reversal:", f"{type(back).__name__} {getattr(back, 'code', '')}")
    order = {"amount": 99_999_999, "currency": "usd"}
    paid = status_of(lambda: client.v1.payouts.create(order, {"idempotency_key": f"{key}-p"}))
    probe("restricted key, POST /v1/payouts:", paid)

    assert not isinstance(back, Unknown)
    assert paid[0] in {400, 403}


def test_least_privilege_is_found_out(run, studio):
    """What the verification warns of is answered by Stripe, each question with yes or no."""
    seen = try_key(run, studio.account)
    probe("restricted key may also read:", ", ".join(seen.open_to_it) or "nothing else")

    assert () == seen.unknown, seen.why_unknown


def test_rungs_of_a_transfer_as_the_full_key_sees_them(keys, base, transfer):
    """When a transfer that was funded from the balance is settled and usable is found out."""
    made, _, _ = transfer
    full = Gateway(keys.seeding, base_url=base, timeout_s=30)
    shown = full.get_transfer(made["id"], expand=("balance_transaction", "destination_payment.balance_transaction"))
    for name, entry in (
        ("platform", shown["balance_transaction"]),
        ("studio", shown["destination_payment"]["balance_transaction"]),
    ):
        probe(
            f"a balance-funded transfer, {name}:",
            f"{entry['status']}, available {entry['available_on'] - shown['created']} s after it was made",
        )

        assert entry["status"] in {"available", "pending"}
