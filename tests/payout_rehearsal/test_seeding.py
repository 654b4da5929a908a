"""Seeding Stripe's test mode, against the sandbox through the official SDK: made once, found again, and bounded."""

from __future__ import annotations

import socket
import threading

import pytest

import local_stripe
from local_stripe.connect_accounts import FAILING_NUMBERS
from manual_payout.database.clock import SandboxClock
from manual_payout.domain.errors import EvidenceError, NotFinishedError, SettingsError, StripeRefusedError
from manual_payout.domain.money import Money
from payout_rehearsal.testmode.seeding import BANK_NUMBERS, Patience, Seeder, Studio

STUDIO = Studio("incident", "Harbor Light Pottery")
UNLUCKY = Studio("payout_fails", "Kiln and Candle", bank="no_account")
# The sandbox's days pass at once; its payouts take two of them.
PATIENT = Patience(active_s=180, available_s=3 * 86_400, payout_s=5 * 86_400, look_s=3_600)


@pytest.fixture(name="stripe_books")
def _stripe_books():
    with local_stripe.running() as running:
        yield running


@pytest.fixture(name="seeder")
def _seeder(stripe_books):
    return seeder_of(stripe_books)


def seeder_of(stripe, key=local_stripe.FULL_KEY, patience=None):
    return Seeder(key, base_url=stripe.base_url, timeout_s=5, clock=SandboxClock(stripe.base_url), patience=patience)


def usd(minor):
    return Money(minor, "usd")


def posts(stripe, path=""):
    """The writes that reached the sandbox."""
    return [one for one in stripe.requests if one.method == "POST" and one.path.startswith(path)]


def account(stripe, seeded):
    return stripe.books.account(seeded.account)


def test_studio_is_made_once_and_found_by_every_later_rehearsal(stripe_books, seeder):
    """The second time nothing is written."""
    first = seeder.seed(STUDIO)
    written = len(posts(stripe_books))
    again = seeder_of(stripe_books).seed(STUDIO)

    assert (first.account, False, True) == (again.account, first.found, again.found)
    assert written == len(posts(stripe_books)) == 1
    assert 1 == len(stripe_books.books.accounts)


def test_made_studio_can_receive_and_pays_nothing_out_by_itself(stripe_books, seeder):
    """Transfers are active, the schedule is manual, the bank account is the one that was asked for."""
    seeded = seeder.seed(UNLUCKY)
    seeder.wait_until_active(seeded)
    made = account(stripe_books, seeded)

    assert ("active", "manual", "1116") == (made.transfers, made.payout_schedule, made.bank.last4)
    assert {"manual_payout_rehearsal": "payout_fails"} == made.metadata


@pytest.mark.parametrize("needs_cards", [False, True])
def test_where_v1_is_refused_the_studio_is_made_by_v2(stripe_books, seeder, needs_cards):
    """And found by v2 the next time, with schedule and bank account set by calls of their own."""
    stripe_books.switch(accounts_v1=False, recipient_needs_cards=needs_cards)
    seeded = seeder.seed(STUDIO)
    seeder.wait_until_active(seeded)
    made = account(stripe_books, seeded)
    again = seeder_of(stripe_books).seed(STUDIO)

    assert (2, 2, True) == (seeded.version, made.version, again.found)
    assert seeded.account == again.account
    assert ("active", "manual", "6789") == (made.transfers, made.payout_schedule, made.bank.last4)
    assert ("active" if needs_cards else "unrequested") == made.card_payments


def test_seeding_that_broke_off_is_taken_up_where_it_was(stripe_books, seeder):
    """The account is there, its schedule and bank account are not: the next rehearsal sees to both, and makes no other."""
    stripe_books.switch(accounts_v1=False)
    stripe_books.fault("status_403", path="/v1/balance_settings")
    with pytest.raises(StripeRefusedError, match="set a payout schedule"):
        seeder.seed(STUDIO)
    seeded = seeder.seed(STUDIO)
    made = account(stripe_books, seeded)

    assert (True, 1) == (seeded.found, len(stripe_books.books.accounts))
    assert ("manual", "6789") == (made.payout_schedule, made.bank.last4)


@pytest.mark.parametrize("where", ["GET", "POST"])
def test_v1_may_be_refused_already_when_it_is_listed(stripe_books, seeder, where):
    """Wherever Stripe says that v2 is to be used, it is."""
    said = "Stripe no longer recommends Accounts v1. Use /v2/core/accounts instead."
    stripe_books.fault("refuse", method=where, path="/v1/accounts", message=said)

    assert 2 == seeder.seed(STUDIO).version


def test_v1_that_was_enabled_meanwhile_is_tried_again(stripe_books, seeder):
    """Stripe keeps the refusal under its idempotency key; every rehearsal has keys of its own."""
    stripe_books.switch(accounts_v1=False, accounts_v2=False)
    with pytest.raises(StripeRefusedError, match="Accounts v2 is not enabled"):
        seeder.seed(STUDIO)
    stripe_books.switch(accounts_v1=True)

    assert 1 == seeder.seed(STUDIO).version


def test_studio_of_v2_is_found_on_a_later_page(stripe_books, seeder):
    """A hundred other accounts do not hide it."""
    stripe_books.switch(accounts_v1=False)
    first = seeder.seed(STUDIO)
    for number in range(101):
        seeder.write("make", seeder.client.v2.core.accounts.create, {"metadata": {"n": str(number)}})

    assert first.account == seeder.seed(STUDIO).account


def test_platform_without_connect_is_told_where_to_enable_it(stripe_books, seeder):
    """The remedy is in the Dashboard."""
    stripe_books.switch(connect=False)
    with pytest.raises(StripeRefusedError, match="signed up for Connect") as caught:
        seeder.seed(STUDIO)

    assert "complete the platform profile" in caught.value.remedy


def test_capability_that_takes_a_while_is_waited_for(stripe_books, seeder):
    """The check of the owner ends within the patience."""
    stripe_books.switch(slow_verification=True)
    seeded = seeder.seed(STUDIO)

    assert "pending" == account(stripe_books, seeded).transfers
    seeder.wait_until_active(seeded)
    assert "active" == account(stripe_books, seeded).transfers


@pytest.mark.parametrize("version", [1, 2])
def test_capability_that_never_comes_ends_the_wait(stripe_books, version):
    """With the account and where to look, as something that is not finished."""
    stripe_books.switch(slow_verification=True, accounts_v1=version == 1)
    seeder = seeder_of(stripe_books, patience=Patience(active_s=10, look_s=3))
    seeded = seeder.seed(STUDIO)
    with pytest.raises(NotFinishedError, match=f"{seeded.account} .incident. may not receive transfers after 9 s"):
        seeder.wait_until_active(seeded)


@pytest.mark.parametrize(("has", "charged"), [(0, 110_100), (40_000, 66_100), (100_000, None), (999_999, None)])
def test_platform_is_funded_only_by_what_is_missing_and_the_fee(stripe_books, seeder, has, charged):
    """What is available afterwards covers what is needed; where it did before, no card is charged."""
    stripe_books.seed(available={"usd": has})
    taken = seeder.fund(usd(100_000))

    assert charged == (taken.amount_minor if taken else None)
    assert seeder.available() >= usd(100_000)
    assert (0 if charged is None else 1) == len(posts(stripe_books, "/v1/payment_intents"))


@pytest.mark.parametrize(("studio", "status", "code"), [(STUDIO, "paid", None), (UNLUCKY, "failed", "no_account")])
def test_payout_to_the_bank_ends_as_the_account_number_says(stripe_books, studio, status, code):
    """It is made on the studio's behalf, waited for, and says of which transfer it is."""
    seeder = seeder_of(stripe_books, patience=PATIENT)
    seeded = seeder.seed(studio)
    stripe_books.books.seed((), None)
    stripe_books.books._set_available(seeded.account, {"usd": 500})
    ended = seeder.wait_for_end(seeded.account, seeder.pay_out(seeded.account, usd(500), {"transfer": "tr_1"})["id"])

    assert (status, code, "tr_1") == (
        ended["status"],
        ended["failure_code"],
        ended["metadata"]["transfer"],
    )


def test_bank_account_that_a_failed_payout_disabled_is_replaced(stripe_books):
    """Otherwise the next rehearsal could not fail a payout any more."""
    seeder = seeder_of(stripe_books, patience=PATIENT)
    seeded = seeder.seed(UNLUCKY)
    stripe_books.books._set_available(seeded.account, {"usd": 500})
    seeder.wait_for_end(seeded.account, seeder.pay_out(seeded.account, usd(500), {"transfer": "tr_1"})["id"])
    spoiled = account(stripe_books, seeded).bank
    again = seeder.seed(UNLUCKY)
    fresh = account(stripe_books, again).bank

    assert (True, seeded.account) == (again.found, again.account)
    assert ("errored", "new", spoiled.last4) == (spoiled.status, fresh.status, fresh.last4)


def test_payout_that_does_not_end_ends_the_wait(stripe_books):
    """The payout is named, so that somebody can look."""
    seeder = seeder_of(stripe_books, patience=Patience(payout_s=10, look_s=3))
    seeded = seeder.seed(STUDIO)
    stripe_books.books._set_available(seeded.account, {"usd": 500})
    payout = seeder.pay_out(seeded.account, usd(500), {"transfer": "tr_1"})
    with pytest.raises(NotFinishedError, match=f"Payout {payout['id']} of {seeded.account} has not ended after"):
        seeder.wait_for_end(seeded.account, payout["id"])


@pytest.mark.parametrize("kind", ["rate_limit", "lock_timeout", "conflict", "drop_before", "drop_after"])
def test_what_passes_is_tried_again_with_the_same_key(stripe_books, seeder, kind):
    """A lost answer among it: the same key replays it, and no second account is made."""
    stripe_books.fault(kind, path="/v1/accounts", times=2)
    seeder.seed(STUDIO)
    keys = [one.idempotency_key for one in posts(stripe_books, "/v1/accounts")]

    assert (3, 1) == (len(keys), len(set(keys)))
    assert 1 == len(stripe_books.books.accounts)


def test_429_without_end_gives_up_after_six_tries(stripe_books, seeder):
    """The back-off is bounded, and the sentence says what was being done."""
    stripe_books.fault("rate_limit", path="/v1/accounts", times=99)
    with pytest.raises(StripeRefusedError, match="refused to create an account: Request rate limit exceeded"):
        seeder.seed(STUDIO)

    assert 6 == len(posts(stripe_books))


def test_pause_that_stripe_asks_for_is_kept_or_left_to_a_person(stripe_books, seeder):
    """A minute is waited for; an hour is not."""
    before = stripe_books.books.now_s
    stripe_books.fault("rate_limit", path="/v1/accounts", retry_after="50")
    seeder.seed(STUDIO)
    waited = stripe_books.books.now_s - before
    stripe_books.fault("rate_limit", path="/v1/accounts", retry_after="3600")
    with pytest.raises(StripeRefusedError, match="rate limit"):
        seeder.seed(UNLUCKY)

    assert waited == 50
    assert 3 == len(posts(stripe_books))


def test_every_write_has_a_key_of_its_own(stripe_books, seeder):
    """No write goes out under a random key of the SDK's, and no two writes share one."""
    stripe_books.switch(accounts_v1=False)
    seeder.seed(STUDIO)
    seeder.fund(usd(1_000))
    keys = [one.idempotency_key for one in posts(stripe_books)]

    assert len(keys) == len(set(keys)) == 5
    assert all(key.startswith("manual-payout-seed-") for key in keys)


@pytest.mark.parametrize("key", [local_stripe.FALLBACK_KEY, local_stripe.READ_KEY])
def test_restricted_key_of_the_run_cannot_seed(stripe_books, key):
    """Stripe's own refusal, with the permission by name and without the key."""
    with pytest.raises(StripeRefusedError) as caught:
        seeder_of(stripe_books, key).seed(STUDIO)

    assert "rak_accounts_kyc_basic_" in caught.value.message
    assert "*" not in caught.value.message
    assert "permission that Stripe names" in caught.value.remedy
    assert [] == stripe_books.books.accounts


def test_expired_key_is_named_by_its_setting(stripe_books, seeder):
    """So that the right one is exported again."""
    stripe_books.switch(expired_keys=["full"])
    with pytest.raises(SettingsError, match="the key in STRIPE_REHEARSAL_SECRET_KEY"):
        seeder.seed(STUDIO)


@pytest.mark.parametrize("key", ["sk_live_" + "x" * 99, "rk_live_" + "x" * 99, "pk_test_" + "x" * 99, "", "nonsense"])
def test_no_client_exists_for_a_key_that_is_not_of_test_mode(key):
    """Refused before a socket is opened: nobody knocks at this listener."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.3)
        knocked = []

        def listen():
            try:
                knocked.append(listener.accept())
            except TimeoutError:
                return

        thread = threading.Thread(target=listen)
        thread.start()
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(SettingsError) as caught:
            Seeder(key, base_url=address, timeout_s=1, clock=SandboxClock(address))
        thread.join()

    assert [] == knocked
    assert "xxxxx" not in str(caught.value)


def test_next_page_on_another_host_is_not_followed(stripe_books, seeder, monkeypatch):
    """The key goes to Stripe's own address and nowhere else."""
    stripe_books.switch(accounts_v1=False)

    def elsewhere(accounts, params):
        return {"data": [], "next_page_url": "https://evil.example/v2/core/accounts?page=2", "previous_page_url": None}

    monkeypatch.setattr("local_stripe.accounts_v2.page_v2", elsewhere)
    with pytest.raises(EvidenceError, match="no page of them"):
        seeder.seed(STUDIO)


def test_bank_numbers_of_the_seeding_and_of_the_sandbox_agree():
    """Both were written down from the same page of Stripe's."""

    assert {number: end for end, number in BANK_NUMBERS.items() if end != "paid"} == FAILING_NUMBERS


def test_neither_key_nor_client_shows_in_its_representation(seeder):
    """Who prints it sees which key it is, and no more."""

    assert "<Seeder unrestricted test key …" in repr(seeder)
    assert local_stripe.FULL_KEY not in repr(seeder)
