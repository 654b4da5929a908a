"""
Stripe, and the judgement of its answers. The only module that imports ``stripe``.

Every call is one HTTP attempt: the SDK's own retries are off, because an exception after retries describes only the
last attempt although an earlier one may have paid. Retrying is the business of `transfer`, which knows what is at stake.
"""

from __future__ import annotations

import json
import re
import unicodedata
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

from manual_payout.canonical import digest_bytes
from manual_payout.errors import EvidenceError, SettingsError, StripeRefusedError
from manual_payout.lean import without
from manual_payout.models import Mode
from manual_payout.money import Money
from manual_payout.pauses import asked_s

# The SDK imports every HTTP library that it finds; `Gateway` uses requests.
with without("httpx"):
    import stripe

# A busy transfer group has one transfer; a hundred pages would be ten thousand, which is somebody else's group.
_PAGES_MAX = 100

# The code of a read that this key may not do, whatever finer code Stripe gives it.
NOT_PERMITTED = "not_permitted"

# Stripe's sentences are a line or two; a proxy's error page is not.
_MESSAGE_LENGTH_MAX = 500
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})

# A key is (sk|rk|rkcs)_(test|live)_…; publishable keys and others cannot pay. Stripe documentation, *API keys*.
_KEY = re.compile(r"(?P<kind>sk|rk|rkcs)_(?P<mode>test|live)_\w+", re.ASCII)
_ACCOUNT_IN_MESSAGE = re.compile(r"on account '(acct_\w+)'")
_MASKED_KEY = re.compile(r"\b((?:sk|rk|rkcs)_(?:test|live)_)[\w*]{8,}")


@dataclass(frozen=True, slots=True)
class KeyIdentity:
    """
    What may be said of a secret key in evidence, and no more.

    Attributes:
        restricted: Whether it is a restricted key.

        livemode: Whether its prefix says live.

        last4: Its last four characters.

        digest_prefix: The first eight hexadecimal digits of its SHA-256.
    """

    restricted: bool
    livemode: bool
    last4: str
    digest_prefix: str

    def __str__(self) -> str:
        kind = "restricted" if self.restricted else "unrestricted"
        return f"{kind} {'live' if self.livemode else 'test'} key …{self.last4} (sha256 {self.digest_prefix})"


@dataclass(frozen=True, slots=True)
class Accepted:
    """
    Stripe has the transfer, or the reversal.

    Attributes:
        made: Stripe's object as a dict.

        text: The same as JSON text, for the evidence.

        replayed: Whether this was the stored answer to an earlier request with the same key.
    """

    made: dict[str, Any]
    text: str
    request_id: str
    replayed: bool


@dataclass(frozen=True, slots=True)
class Refused:
    """
    Stripe said no, and this one HTTP attempt moved nothing.

    Attributes:
        same_key: Whether the same key may be used again: the refusal came before Stripe stored anything under it.

        retry_after_s: For how long it asks to be left alone, or None.
    """

    code: str
    message: str
    request_id: str
    same_key: bool
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Unknown:
    """Whether money has moved cannot be told from this answer; *retry_after_s* is as in `Refused`."""

    code: str
    message: str
    request_id: str
    retry_after_s: float | None = None


Answer = Accepted | Refused | Unknown


class Gateway:
    """
    One key's view of Stripe.

    Args:
        key: The secret key; kept out of every message and representation.

        base_url: ``https://api.stripe.com``, or the sandbox.

        timeout_s: Of one HTTP attempt.
    """

    def __init__(self, key: str, *, base_url: str, timeout_s: float) -> None:
        # Telemetry writes a file into the home directory and tells about this machine; neither belongs to a payout.
        stripe.enable_telemetry = False
        self.identity = identify_key(key)
        self.base_url = base_url
        self._client = stripe.StripeClient(
            key,
            base_addresses={"api": base_url},
            max_network_retries=0,
            http_client=stripe.RequestsClient(timeout=timeout_s),
        )

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
            with _notices_are_not_errors():
                made = self._client.v1.transfers.create(
                    cast("Any", payload), {"idempotency_key": idempotency_key, "max_network_retries": 0}
                )
            return _accepted(made, "transfer", "tr_")
        except Exception as error:  # noqa: BLE001  # total by intention: whatever happened, the transfer may exist
            return judge(error)

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
            with _notices_are_not_errors():
                made = self._client.v1.transfers.reversals.create(
                    transfer_id,
                    cast("Any", payload),
                    {"idempotency_key": idempotency_key, "max_network_retries": 0},
                )
            return _accepted(made, "transfer_reversal", "trr_")
        except Exception as error:  # noqa: BLE001  # total by intention: whatever happened, the reversal may exist
            return judge(error)

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

    def available(self, currency: str) -> Money:
        """Return the platform's available balance in *currency*; reads only."""
        balance = self._read(self._client.v1.balance.retrieve)
        amounts = [entry["amount"] for entry in balance["available"] if entry["currency"] == currency]
        return Money(sum(amounts), currency)

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
            with _notices_are_not_errors():
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
            with _notices_are_not_errors():
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
            with _notices_are_not_errors():
                return cast("dict[str, Any]", call().to_dict())
        except stripe.StripeError as error:
            raise read_error(error) from None

    def _pages(self, call: Any) -> Iterator[dict[str, Any]]:
        page: dict[str, Any] = {"limit": 100}
        for _ in range(_PAGES_MAX):
            listed = self._read(lambda: call(page))  # noqa: B023  # called at once
            yield from listed["data"]
            if not listed["has_more"]:
                return
            page = {"limit": 100, "starting_after": listed["data"][-1]["id"]}
        raise EvidenceError(
            f"Stripe lists over {_PAGES_MAX * 100} entries where few are expected.", "Look in the Dashboard."
        )


def _accepted(answer: stripe.Transfer | stripe.TransferReversal, kind: str, prefix: str) -> Accepted | Unknown:
    headers = answer.last_response.headers if answer.last_response else {}
    made, request_id = answer.to_dict(), headers.get("Request-Id", "")
    # A proxy can answer 200 with somebody else's JSON; only an object that says what it is is one.
    if made.get("object") != kind or not str(made.get("id", "")).startswith(prefix):
        return Unknown("unexpected_answer", f"the answer is no {kind.replace('_', ' ')}", request_id)
    return Accepted(made, _json_text(made), request_id, headers.get("Idempotent-Replayed") == "true")


def judge(error: BaseException) -> Refused | Unknown:
    """
    Say what an error on *Create a transfer* or *Create a transfer reversal* means for the money. Total: what is not recognised is unknown.

    Refused are only the answers that Stripe gives before or instead of moving money, and only for this one HTTP
    attempt; whether an earlier attempt with the same key was ambiguous is the caller's to remember. Sources: Stripe
    documentation, *Error handling*, *Advanced error handling*, *Idempotent requests*, *Rate limits*.
    """
    if not isinstance(error, stripe.StripeError):
        return Unknown(type(error).__name__, f"the call ended with {type(error).__name__}", "")
    # `code` is filled in on only half of the SDK's exceptions; the error body has it.
    code = plain(str(getattr(error.error, "code", None) or getattr(error.error, "type", None) or ""))
    message = plain(mask_keys(str(error.user_message or ""))) or type(error).__name__
    request_id, pause_s = plain(error.request_id or ""), asked_s(error.headers)
    if isinstance(error, stripe.IdempotencyError):
        return Unknown(code or "idempotency_error", message, request_id, pause_s)
    if isinstance(error, stripe.RateLimitError):
        return Refused(code or "rate_limit", message, request_id, same_key=True, retry_after_s=pause_s)
    if isinstance(error, stripe.AuthenticationError | stripe.PermissionError):
        return Refused(code or "not_permitted", message, request_id, same_key=True)
    if isinstance(error, stripe.InvalidRequestError | stripe.CardError) and 400 <= (error.http_status or 0) < 500:
        return Refused(code or "invalid_request_error", message, request_id, same_key=False)
    return Unknown(code or type(error).__name__, message, request_id, pause_s)


def read_error(error: stripe.StripeError) -> StripeRefusedError | EvidenceError | SettingsError:
    """Put a failing read into one sentence: nothing moved, but nothing can be said either."""
    message = plain(mask_keys(str(error.user_message or type(error).__name__))).rstrip(".")
    code = plain(str(getattr(error.error, "code", None) or ""))
    if isinstance(error, stripe.AuthenticationError):
        return SettingsError(
            f"Stripe does not accept the key: {message}.", "Check out the current restricted key and export it again."
        )
    if isinstance(error, stripe.APIConnectionError):
        return StripeRefusedError(
            "Stripe cannot be reached, so nothing can be verified.",
            "Check the network and status.stripe.com, then run the same command again.",
            code="unreachable",
        )
    if isinstance(error, stripe.PermissionError):
        return StripeRefusedError(
            f"Stripe does not let this key read that: {message}.",
            "Grant the key the permission that Stripe names, in the Dashboard under API keys.",
            code=NOT_PERMITTED,
            request_id=plain(error.request_id or ""),
        )
    return StripeRefusedError(
        f"Stripe refused a read: {message}.",
        "Correct what it names, or wait a minute if it names nothing; then run the same command again.",
        code=code,
        request_id=plain(error.request_id or ""),
    )


def identify_key(key: str) -> KeyIdentity:
    """
    Say which key it is without showing it.

    Raises:
        SettingsError: It is not a secret or restricted key.
    """
    match = _KEY.fullmatch(key)
    if match is None:
        raise SettingsError(
            "The Stripe key is neither a restricted key (rk_…) nor a secret key (sk_…).",
            "Export the restricted fallback key; a publishable key cannot pay.",
        )
    return KeyIdentity(
        restricted=match["kind"] != "sk",
        livemode=match["mode"] == "live",
        last4=key[-4:],
        digest_prefix=digest_bytes(key.encode())[:8],
    )


def key_fits(identity: KeyIdentity, mode: Mode) -> bool:
    """Whether a key may be used in *mode*: live keys in live mode only, test keys elsewhere."""
    return identity.livemode == (mode is Mode.LIVE)


def mask_keys(text: str) -> str:
    """Collapse the masked key that Stripe quotes in its refusals; it still shows the last characters."""
    return _MASKED_KEY.sub(r"\1…", text)


def plain(text: str) -> str:
    """Make foreign text safe for one line anywhere: no control or format characters, no surrogates, not endless."""
    shown = "".join(c if unicodedata.category(c) not in _INVISIBLE else " " for c in text)
    return " ".join(shown.split())[:_MESSAGE_LENGTH_MAX]


def _json_text(value: dict[str, Any]) -> str:
    # With escapes: foreign text can hold lone surrogates, which no database takes.
    return json.dumps(value, indent=2, sort_keys=True)


class _notices_are_not_errors(warnings.catch_warnings):  # noqa: N801  # used as a verb
    """Stripe may send a notice, which the SDK turns into a warning; where warnings are errors it must not hide a transfer."""

    def __enter__(self) -> None:
        super().__enter__()
        warnings.simplefilter("ignore")
