"""The calls that a payout needs, with one key's view of Stripe: the two that move money, and reads."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, cast

from manual_payout.domain.errors import EvidenceError
from manual_payout.domain.money import Money
from manual_payout.gateway.answers import Answer, accepted, judge_answer, read_error
from manual_payout.gateway.key_identity import identify_key
from manual_payout.gateway.sdk import PAGES_MAX, new_client, notices_are_not_errors, stripe

_ACCOUNT_IN_MESSAGE = re.compile(r"on account '(acct_\w+)'")


class Gateway:
    """
    One key's view of Stripe.

    Args:
        key: The secret key; kept out of every message and representation.

        base_url: ``https://api.stripe.com``, or the sandbox.

        timeout_s: Of one HTTP attempt.
    """

    def __init__(self, key: str, *, base_url: str, timeout_s: float) -> None:
        self.identity = identify_key(key)
        self.base_url = base_url
        self._client = new_client(key, base_url=base_url, timeout_s=timeout_s)

    def __repr__(self) -> str:
        return f"<Gateway {self.identity} at {self.base_url}>"

    def create_transfer(self, payload: dict[str, Any], *, idempotency_key: str) -> Answer:
        """
        Send one transfer, in one HTTP attempt. Money goes out here and nowhere else.

        Args:
            payload: The parameters of *Create a transfer*; amount in minor units.

            idempotency_key: The same for every attempt of one intent; at most 255 characters.

        Returns:
            What is known; a lost answer is an answer (`Unknown`).
        """
        if type(payload.get("amount")) is not int:
            raise AssertionError("Bug: a transfer's amount must be a whole number of minor units")
        try:
            with notices_are_not_errors():
                made = self._client.v1.transfers.create(
                    cast("Any", payload), {"idempotency_key": idempotency_key, "max_network_retries": 0}
                )
            return accepted(made, "transfer", "tr_")
        except Exception as error:  # noqa: BLE001  # total by intention: whatever happened, the transfer may exist
            return judge_answer(error)

    def create_reversal(self, transfer_id: str, payload: dict[str, Any], *, idempotency_key: str) -> Answer:
        """
        Take money of one transfer back, in one HTTP attempt. Money comes back here and nowhere else.

        Args:
            payload: The parameters of *Create a transfer reversal*; amount in minor units, always given: without one
                Stripe takes all that is left.

            idempotency_key: The same for every attempt of one intent; at most 255 characters.

        Returns:
            What is known; a lost answer is an answer (`Unknown`).
        """
        if type(payload.get("amount")) is not int:
            raise AssertionError("Bug: a reversal's amount must be a whole number of minor units")
        try:
            with notices_are_not_errors():
                made = self._client.v1.transfers.reversals.create(
                    transfer_id,
                    cast("Any", payload),
                    {"idempotency_key": idempotency_key, "max_network_retries": 0},
                )
            return accepted(made, "transfer_reversal", "trr_")
        except Exception as error:  # noqa: BLE001  # total by intention: whatever happened, the reversal may exist
            return judge_answer(error)

    def transfers_in_group(self, transfer_group: str) -> list[dict[str, Any]]:
        """
        Return every transfer of the group, newest first; reads only.

        Raises:
            StripeRefusedError, EvidenceError: As `read_error` says.
        """
        pages = self._pages(
            lambda page: self._client.v1.transfers.list(cast("Any", {"transfer_group": transfer_group, **page}))
        )
        return list(pages)

    def transfers_since(self, created_s: int) -> list[dict[str, Any]]:
        """Return the platform's transfers created since *created_s* (Unix time), newest first; reads only."""
        params = {"created": {"gte": created_s}}
        return list(self._pages(lambda page: self._client.v1.transfers.list(cast("Any", {**params, **page}))))

    def transfers_to(self, destination: str, created_s: int) -> list[dict[str, Any]]:
        """Return the transfers to one account created since *created_s* (Unix time), newest first; reads only."""
        params = {"destination": destination, "created": {"gte": created_s}}
        return list(self._pages(lambda page: self._client.v1.transfers.list(cast("Any", {**params, **page}))))

    def reversals_of(self, transfer_id: str) -> list[dict[str, Any]]:
        """Return every reversal of one transfer, newest first; reads only."""
        pages = self._pages(lambda page: self._client.v1.transfers.reversals.list(transfer_id, cast("Any", page)))
        return list(pages)

    def get_transfer(self, transfer_id: str, *, expand: tuple[str, ...] = ()) -> dict[str, Any]:
        """Return one transfer; reads only."""
        return self._read(
            lambda: self._client.v1.transfers.retrieve(
                transfer_id, cast("Any", {"expand": list(expand)} if expand else {})
            )
        )

    def funds(self, currency: str) -> tuple[Money, Money | None]:
        """
        Return the platform's available balance in *currency*, and the part of it that a transfer can draw; reads only.

        A transfer without a ``source_type``, as ours are, draws on what came from card payments (Stripe API reference,
        *Create a transfer* and *The balance object*). That part is None where an entry does not say what it is made of.
        """
        return funds_in(self._read(self._client.v1.balance.retrieve), currency)

    def available_to(self, account: str, currency: str) -> Money:
        """Return a connected account's available balance in *currency*; reads only."""
        balance = self._read(lambda: self._client.v1.balance.retrieve(None, {"stripe_account": account}))
        amounts = [entry["amount"] for entry in balance["available"] if entry["currency"] == currency]
        return Money(sum(amounts), currency)

    def livemode(self) -> bool:
        """Whether Stripe itself says that this key is live; reads only."""
        return bool(self._read(self._client.v1.balance.retrieve)["livemode"])

    def account_id(self) -> str | None:
        """
        Return the account the key belongs to, or None where Stripe does not show it to this key.

        A key without permission to read its account still learns the account from the text of the refusal.
        """
        try:
            with notices_are_not_errors():
                return str(self._client.v1.accounts.retrieve_current().id)
        except stripe.PermissionError as error:
            found = _ACCOUNT_IN_MESSAGE.search(str(error))
            return found.group(1) if found else None
        except stripe.StripeError as error:
            raise read_error(error) from None

    def may_read(self, path: str, *, account: str | None = None) -> bool:
        """
        Whether this key may list what is at *path*, found out with the smallest list there is; reads only.

        Args:
            account: The connected account on whose behalf it is asked, or None for the platform's own.

        Raises:
            StripeRefusedError, SettingsError: As `read_error` says, where the answer shows neither yes nor no.
        """
        options = {"stripe_account": account} if account else {}
        try:
            with notices_are_not_errors():
                self._client.raw_request("get", path, limit=1, **options)
        except stripe.PermissionError:
            return False
        except stripe.StripeError as error:
            raise read_error(error) from None
        return True

    def payments_balance(self, account: str, payment_id: str) -> dict[str, Any] | None:
        """Return the connected account's balance transaction of a destination payment, or None yet; reads only."""
        params = {"source": payment_id, "limit": 1}
        listed = self._read(
            lambda: self._client.v1.balance_transactions.list(cast("Any", params), {"stripe_account": account})
        )
        return cast("dict[str, Any]", listed["data"][0]) if listed["data"] else None

    def payouts_since(self, account: str, created_s: int) -> list[dict[str, Any]]:
        """Return the payouts of a connected account created since *created_s* (Unix time), oldest first; reads only."""
        params = {"created": {"gte": created_s}}
        pages = self._pages(
            lambda page: self._client.v1.payouts.list(cast("Any", {**params, **page}), {"stripe_account": account})
        )
        return sorted(pages, key=lambda payout: payout["created"])

    def payout_holds(self, account: str, payout_id: str, payment_id: str) -> bool:
        """Whether an automatic payout contains the destination payment; reads only."""
        pages = self._pages(
            lambda page: self._client.v1.balance_transactions.list(
                cast("Any", {"payout": payout_id, **page}), {"stripe_account": account}
            )
        )
        return any(entry["source"] == payment_id for entry in pages)

    def _read(self, call: Any) -> dict[str, Any]:
        try:
            with notices_are_not_errors():
                return cast("dict[str, Any]", call().to_dict())
        except stripe.StripeError as error:
            raise read_error(error) from None

    def _pages(self, call: Any) -> Iterator[dict[str, Any]]:
        page: dict[str, Any] = {"limit": 100}
        for _ in range(PAGES_MAX):
            listed = self._read(lambda: call(page))  # noqa: B023  # called at once
            yield from listed["data"]
            if not listed["has_more"]:
                return
            page = {"limit": 100, "starting_after": listed["data"][-1]["id"]}
        raise EvidenceError(
            f"Stripe lists over {PAGES_MAX * 100} entries where few are expected.", "Look in the Dashboard."
        )


def funds_in(balance: dict[str, Any], currency: str) -> tuple[Money, Money | None]:
    """Add up what a balance shows as available in *currency*: in all, and from card payments."""
    entries = [entry for entry in balance["available"] if entry["currency"] == currency]
    cards = [_cards_in(entry) for entry in entries]
    known = [minor for minor in cards if minor is not None]
    drawable = Money(sum(known), currency) if len(known) == len(cards) else None
    return Money(sum(entry["amount"] for entry in entries), currency), drawable


def _cards_in(entry: dict[str, Any]) -> int | None:
    sources = entry.get("source_types")
    if not isinstance(sources, dict) or not all(type(minor) is int for minor in sources.values()):
        return None
    # Nothing at all is named only where there is nothing: an entry with money whose sources are left out says nothing.
    return int(sources.get("card", 0)) if sources or not entry["amount"] else None
