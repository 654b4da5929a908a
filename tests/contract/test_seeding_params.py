"""What the seeding sends to Stripe is what the installed SDK's parameter types describe."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
import stripe
import stripe.params
from sdk_types import check_params
from stripe.params.v2.core import AccountCreateParams as AccountV2CreateParams

import local_stripe
from manual_payout.database.clock import SandboxClock
from manual_payout.domain.money import Money
from payout_rehearsal.testmode.seeding import Patience, Seeder, Studio
from payout_rehearsal.testmode.studios import BANK_NUMBERS, body_v1, body_v2

AT = datetime(2026, 3, 2, 3, 0, 5, 250_000, tzinfo=UTC)

TYPES = {
    "create an account": stripe.params.AccountCreateParams,
    "create an account by v2": AccountV2CreateParams,
    "add a bank account": stripe.params.AccountCreateExternalAccountParams,
    "take a test card payment": stripe.params.PaymentIntentCreateParams,
    "create a payout": stripe.params.PayoutCreateParams,
    "set a payout schedule": stripe.params.BalanceSettingsUpdateParams,
}


class Noting(Seeder):
    """A seeder that notes what it sends, and sends it."""

    def write(self, what, create, body, *, account=""):
        """Note one write; those of v2 say dashboard."""
        self.sent.append((f"{what} by v2" if "dashboard" in body else what, body))
        return super().write(what, create, body, account=account)

    def raw(self, what, method, path, **params):
        """Note one write past the SDK's types."""
        body = {name: value for name, value in params.items() if name not in stripe.RequestOptions.__annotations__}
        if method == "post":
            self.sent.append((what, body))
        return super().raw(what, method, path, **params)


@pytest.fixture(scope="module", name="sent")
def _sent():
    """Every write of the seeding in its life, in words, with its parameters."""
    with local_stripe.running() as running:
        seeder = Noting(
            local_stripe.FULL_KEY, base_url=running.base_url, timeout_s=5, clock=SandboxClock(running.base_url),
            patience=Patience(available_s=3 * 86_400, payout_s=5 * 86_400, look_s=3_600),
        )  # fmt: skip
        seeder.sent = []
        seeder.seed(Studio("incident", "Harbor Light Pottery"))
        running.switch(accounts_v1=False, recipient_needs_cards=True)
        seeded = seeder.seed(Studio("payout_fails", "Kiln and Candle", bank="no_account"))
        seeder.fund(Money(1_000, "usd"))
        running.books._set_available(seeded.account, {"usd": 500})
        seeder.pay_out(seeded.account, Money(500, "usd"), {"transfer": "tr_1"})
        return seeder.sent


def test_every_parameter_of_the_seeding_is_one_the_sdk_knows(sent):
    """Names, kinds and required parameters, down to the last magic value."""

    assert set(TYPES) == {what for what, _ in sent}
    assert [] == [finding for what, body in sent for finding in check_params(body, TYPES[what])]


@pytest.mark.parametrize("bank", BANK_NUMBERS)
def test_accounts_of_every_bank_are_ones_the_sdk_knows(bank):
    """Whatever end is wanted."""
    studio = Studio("incident", "Harbor Light Pottery", bank)

    assert [] == check_params(body_v1(studio, AT), stripe.params.AccountCreateParams)
    assert [] == check_params(body_v2(studio, AT, with_cards=True), AccountV2CreateParams)


def test_type_and_controller_are_never_sent_together():
    """Stripe refuses that."""

    assert "type" not in body_v1(Studio("incident", "Harbor Light Pottery"), AT)


def test_checker_finds_a_wrong_magic_value():
    """The check has teeth at the depth where the values lie."""
    body = body_v1(Studio("incident", "Harbor Light Pottery"), AT)
    body["individual"]["dob"] = {"day": "1", "month": 1, "year": 1901}

    assert 1 == len(check_params(body, stripe.params.AccountCreateParams))
