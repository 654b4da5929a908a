"""What Stripe's answers mean: for the money where something was to move, for the reader where something was asked."""

from __future__ import annotations

import json
import unicodedata
from dataclasses import dataclass
from typing import Any

from manual_payout.domain.connections import explain_connection
from manual_payout.domain.errors import EvidenceError, SettingsError, StripeRefusedError
from manual_payout.domain.pauses import asked_s
from manual_payout.gateway.key_identity import mask_keys
from manual_payout.gateway.sdk import stripe

# The code of a read that this key may not do, whatever finer code Stripe gives it.
NOT_PERMITTED = "not_permitted"

# Stripe's sentences are a line or two; a proxy's error page is not.
_MESSAGE_LENGTH_MAX = 500
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


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


def accepted(answer: stripe.Transfer | stripe.TransferReversal, kind: str, prefix: str) -> Accepted | Unknown:
    """Say that Stripe has it, if what came back is what was asked for."""
    headers = answer.last_response.headers if answer.last_response else {}
    made, request_id = answer.to_dict(), headers.get("Request-Id", "")
    # A proxy can answer 200 with somebody else's JSON; only an object that says what it is is one.
    if made.get("object") != kind or not str(made.get("id", "")).startswith(prefix):
        return Unknown("unexpected_answer", f"the answer is no {kind.replace('_', ' ')}", request_id)
    return Accepted(made, stripe_json(made), request_id, headers.get("Idempotent-Replayed") == "true")


def judge_answer(error: BaseException) -> Refused | Unknown:
    """
    Say what an error on *Create a transfer* or *Create a transfer reversal* means for the money. Total: what is not recognised is unknown.

    Refused are only the answers that Stripe gives before or instead of moving money, and only for this one HTTP
    attempt; whether an earlier attempt with the same key was ambiguous is the caller's to remember. Sources: Stripe
    documentation, *Error handling*, *Advanced error handling*, *Idempotent requests*, *Rate limits*.
    """
    if not isinstance(error, stripe.StripeError):
        return Unknown(type(error).__name__, f"the call ended with {type(error).__name__}", "")
    # `code` is filled in on only half of the SDK's exceptions; the error body has it.
    code = one_line(str(getattr(error.error, "code", None) or getattr(error.error, "type", None) or ""))
    message = one_line(mask_keys(str(error.user_message or ""))) or type(error).__name__
    request_id, pause_s = one_line(error.request_id or ""), asked_s(error.headers)
    # A fault of Stripe's own says of itself that it does not know what it did, whatever the status beside it.
    is_own_fault = getattr(error.error, "type", None) == "api_error"
    if is_own_fault or isinstance(error, stripe.IdempotencyError):
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
    message = one_line(mask_keys(str(error.user_message or type(error).__name__))).rstrip(".")
    code = one_line(str(getattr(error.error, "code", None) or ""))
    if isinstance(error, stripe.AuthenticationError):
        return SettingsError(
            f"Stripe does not accept the key: {message}.", "Check out the current restricted key and export it again."
        )
    if isinstance(error, stripe.RateLimitError):
        return StripeRefusedError(
            f"Stripe answers too many requests at the moment: {message}.",
            "Wait a minute, then run the same command again.",
            code=code or "rate_limit",
            request_id=one_line(error.request_id or ""),
        )
    if isinstance(error, stripe.APIConnectionError):
        why, remedy = explain_connection(error, "Stripe") or ("", "")
        return StripeRefusedError(
            f"Stripe cannot be reached, so nothing can be verified{f': {why}' if why else ''}.",
            remedy or "Check the network and status.stripe.com, then run the same command again.",
            code="unreachable",
        )
    if isinstance(error, stripe.PermissionError):
        return StripeRefusedError(
            f"Stripe does not let this key read that: {message}.",
            "Grant the key the permission that Stripe names, in the Dashboard under API keys.",
            code=NOT_PERMITTED,
            request_id=one_line(error.request_id or ""),
        )
    return StripeRefusedError(
        f"Stripe refused a read: {message}.",
        "Correct what it names, or wait a minute if it names nothing; then run the same command again.",
        code=code,
        request_id=one_line(error.request_id or ""),
    )


def one_line(text: str) -> str:
    """Make foreign text safe for one line anywhere: no control or format characters, no surrogates, not endless."""
    shown = "".join(c if unicodedata.category(c) not in _INVISIBLE else " " for c in text)
    return " ".join(shown.split())[:_MESSAGE_LENGTH_MAX]


def stripe_json(value: dict[str, Any]) -> str:
    """Return one of Stripe's objects as text for the evidence."""
    # With escapes: foreign text can hold lone surrogates, which no database takes.
    return json.dumps(value, indent=2, sort_keys=True)
