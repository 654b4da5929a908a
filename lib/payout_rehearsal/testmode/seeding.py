"""
Seeding Stripe's test mode: studios that can receive transfers, a platform that can pay, payouts that end as wanted.

Done with the full test key of a rehearsal, which no payout has and no notebook is given; a live key gets no client here.
What an earlier rehearsal made is found by its metadata and used again. Each write has one idempotency key over all its
tries, and a new one in the next rehearsal: Stripe keeps refusals under a key too, and a Dashboard setting that was
corrected meanwhile would not be noticed. Sources: Stripe documentation, *Testing Stripe Connect*, *Receive payouts*,
*Idempotent requests*, *Rate limits*.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

from manual_payout.domain.errors import EvidenceError, StripeRefusedError
from manual_payout.domain.money import Money
from manual_payout.gateway.client import funds_in
from manual_payout.gateway.sdk import PAGES_MAX
from payout_rehearsal.testmode.calling import USE_V2, Caller, Patience, new_key
from payout_rehearsal.testmode.studios import (
    BANK_NUMBERS,
    COUNTRY,
    CURRENCY,
    METADATA_KEY,
    Studio,
    bank_account,
    body_v1,
    body_v2,
)

__all__ = ["BANK_NUMBERS", "COUNTRY", "CURRENCY", "Patience", "Seeded", "Seeder", "Studio"]

_BYPASS_PENDING = "pm_card_bypassPending"
# What a card payment costs at most, generously: the percentage and fixed fees of foreign cards included.
_FEE_PCT, _FEE_MINOR = 10, 100


@dataclass(frozen=True, slots=True)
class Seeded:
    """
    A studio's connected account.

    Attributes:
        version: Of the accounts API that made it, 1 or 2.

        found: Whether an earlier rehearsal had made it.
    """

    studio: Studio
    account: str
    version: int
    found: bool


class Seeder(Caller):
    """Stripe's test mode as the full key of a rehearsal sees it."""

    def livemode(self) -> bool:
        """Whether Stripe itself says that this key is live; reads only."""
        return bool(self.call("read the balance", self.client.v1.balance.retrieve)["livemode"])

    def platform(self) -> dict[str, Any]:
        """Return the platform's own account; reads only."""
        return self.call("read the platform's account", self.client.v1.accounts.retrieve_current)

    def available(self, account: str | None = None) -> Money:
        """Return the available balance of the platform, or of one connected account; reads only."""
        options = {"stripe_account": account} if account else {}
        balance = self.call("read a balance", lambda: self.client.v1.balance.retrieve({}, cast("Any", options)))
        total, drawable = funds_in(balance, CURRENCY)
        # What a transfer cannot draw does not fund one.
        return total if drawable is None else drawable

    def seed(self, studio: Studio) -> Seeded:
        """
        Return the account of *studio*, made if there is none, with a bank account that can be paid.

        By Accounts v1; by v2 where the platform is refused v1. It may not be able to receive transfers yet:
        `wait_until_active`.

        Raises:
            StripeRefusedError: Stripe allows neither, or refuses something else.
        """
        try:
            seeded = self._seed_v1(studio)
        except StripeRefusedError as error:
            if USE_V2 not in error.message:
                raise
            seeded = self._seed_v2(studio)
            self._pay_out_by_hand(seeded.account)
        return self._with_bank(seeded)

    def wait_until_active(self, seeded: Seeded) -> None:
        """
        Wait until the account may receive transfers.

        Raises:
            NotFinishedError: It may not within the patience.
        """
        self.wait_for(
            f"Account {seeded.account} ({seeded.studio.role}) may not receive transfers",
            "Open it in the Dashboard under Connect: what Stripe still wants to know stands there; then rehearse again.",
            self.patience.active_s,
            lambda: self._may_receive(seeded),
        )

    def fund(self, needed: Money) -> Money | None:
        """
        See to it that the platform has *needed* available, by one test card payment if it has less.

        Returns:
            What the card was charged, or None where nothing had to be done.

        Raises:
            NotFinishedError: The payment was taken and is not available within the patience.
        """
        gap = needed.amount_minor - self.available().amount_minor
        if gap <= 0:
            return None
        charged = Money(gap + gap * _FEE_PCT // 100 + _FEE_MINOR, CURRENCY)
        payment = {
            "amount": charged.amount_minor,
            "currency": CURRENCY,
            "payment_method": _BYPASS_PENDING,
            "confirm": True,
            "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"},
            "description": "Funds of a rehearsal of manual payouts",
            "metadata": {METADATA_KEY: "funds"},
        }
        self.write("take a test card payment", self.client.v1.payment_intents.create, payment)
        self.wait_for_funds(needed)
        return charged

    def wait_for_funds(self, needed: Money, account: str | None = None) -> None:
        """
        Wait until the platform, or one connected account, has *needed* available.

        Raises:
            NotFinishedError: It has not within the patience.
        """
        self.wait_for(
            f"{account or 'The platform'} has not {needed.grouped} available",
            "Look at its balance in the Dashboard, in test mode; then rehearse again.",
            self.patience.available_s,
            lambda: self.available(account).amount_minor >= needed.amount_minor,
        )

    def pay_out(self, account: str, amount: Money, metadata: dict[str, str]) -> dict[str, Any]:
        """Send *amount* from a connected account to its bank; *metadata* says what for."""
        body = {
            "amount": amount.amount_minor,
            "currency": amount.currency,
            "metadata": {METADATA_KEY: "payout", **metadata},
        }
        return self.write("create a payout", self.client.v1.payouts.create, body, account=account)

    def wait_for_end(self, account: str, payout_id: str) -> dict[str, Any]:
        """
        Wait until a payout is paid, failed or canceled.

        Raises:
            NotFinishedError: It is not within the patience.
        """
        shown: list[dict[str, Any]] = []

        def ended() -> bool:
            options = {"stripe_account": account}
            shown.append(
                self.call("read a payout", lambda: self.client.v1.payouts.retrieve(payout_id, {}, cast("Any", options)))
            )
            return shown[-1]["status"] in {"paid", "failed", "canceled"}

        self.wait_for(
            f"Payout {payout_id} of {account} has not ended",
            "Stripe's test mode takes its time with payouts: look at it in the Dashboard, and rehearse again later.",
            self.patience.payout_s,
            ended,
        )
        return shown[-1]

    def _seed_v1(self, studio: Studio) -> Seeded:
        found = self._find(studio, self._accounts_v1())
        return Seeded(studio, found or self._make_v1(studio), 1, found=found is not None)

    def _seed_v2(self, studio: Studio) -> Seeded:
        found = self._find(studio, self._accounts_v2())
        return Seeded(studio, found or self._make_v2(studio), 2, found=found is not None)

    def _find(self, studio: Studio, accounts: Iterator[dict[str, Any]]) -> str | None:
        """Return the oldest account that says it was made for *studio*; lists are newest first."""
        made = [one["id"] for one in accounts if (one.get("metadata") or {}).get(METADATA_KEY) == studio.role]
        return str(made[-1]) if made else None

    def _accounts_v1(self) -> Iterator[dict[str, Any]]:
        page: dict[str, Any] = {"limit": 100}
        for _ in range(PAGES_MAX):
            listed = self.call("list accounts", lambda: self.client.v1.accounts.list(cast("Any", page)))  # noqa: B023  # called at once
            yield from listed["data"]
            if not listed["has_more"]:
                return
            page = {"limit": 100, "starting_after": listed["data"][-1]["id"]}
        raise _too_many()

    def _accounts_v2(self) -> Iterator[dict[str, Any]]:
        path, params = USE_V2, {"limit": 100}
        for _ in range(PAGES_MAX):
            listed = self.raw("list accounts", "get", path, **params)
            yield from listed["data"]
            if not listed["next_page_url"]:
                return
            # A path with its query; a whole address would lead the key to another host.
            path, params = str(listed["next_page_url"]), {}
            if not path.startswith(f"{USE_V2}?"):
                raise EvidenceError(
                    f"Stripe names {path[:80]!r} as the next page of its accounts, which is no page of them.",
                    "Rehearse again; if it stays so, ask Stripe.",
                )
        raise _too_many()

    def _make_v1(self, studio: Studio) -> str:
        made = self.write("create an account", self.client.v1.accounts.create, body_v1(studio, self.clock.now()))
        return str(made["id"])

    def _make_v2(self, studio: Studio) -> str:
        create, at = self.client.v2.core.accounts.create, self.clock.now()
        try:
            return str(self.write("create an account", create, body_v2(studio, at, with_cards=False))["id"])
        except StripeRefusedError as error:
            if "card_payments" not in error.message:
                raise
        return str(self.write("create an account", create, body_v2(studio, at, with_cards=True))["id"])

    def _pay_out_by_hand(self, account: str) -> None:
        # Raw: the SDK stumbles over a map that is null in the answer, after Stripe has done what it was asked.
        path = "/v1/balance_settings"
        shown = self.raw("read a payout schedule", "get", path, stripe_account=account)
        payouts = (shown.get("payments") or {}).get("payouts") or {}
        if (payouts.get("schedule") or {}).get("interval") == "manual":
            return
        self.raw(
            "set a payout schedule",
            "post",
            path,
            payments={"payouts": {"schedule": {"interval": "manual"}}},
            stripe_account=account,
            idempotency_key=new_key(),
        )

    def _with_bank(self, seeded: Seeded) -> Seeded:
        """Give the account a new bank account unless it has the wanted one in order; a failed payout spoils one."""
        wanted = bank_account(seeded.studio)
        listed = self.call(
            "list bank accounts",
            lambda: self.client.v1.accounts.external_accounts.list(
                seeded.account, {"object": "bank_account", "limit": 100}
            ),
        )
        for bank in listed["data"]:
            fits = bank["last4"] == wanted["account_number"][-4:] and bank["default_for_currency"]
            if fits and bank["status"] not in {"errored", "verification_failed"}:
                return seeded
        body = {"external_account": wanted, "default_for_currency": True}
        create = self.client.v1.accounts.external_accounts.create
        self.write("add a bank account", lambda given, options: create(seeded.account, given, options), body)
        return seeded

    def _may_receive(self, seeded: Seeded) -> bool:
        if seeded.version == 1:
            shown = self.call("read an account", lambda: self.client.v1.accounts.retrieve(seeded.account))
            return bool((shown.get("capabilities") or {}).get("transfers") == "active")
        shown = self.raw("read an account", "get", f"{USE_V2}/{seeded.account}", include=["configuration.recipient"])
        here: Any = shown
        for name in ("configuration", "recipient", "capabilities", "stripe_balance", "stripe_transfers"):
            here = (here or {}).get(name)
        return bool((here or {}).get("status") == "active")


def _too_many() -> EvidenceError:
    return EvidenceError(
        f"Stripe lists over {PAGES_MAX * 100} connected accounts.",
        "Rehearse in a sandbox of its own (docs/test-mode.md).",
    )
