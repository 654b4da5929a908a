"""
What the sandbox answers when it says no, in Stripe's shape.

Sources: Stripe documentation, *Errors*, *Error codes*, *Idempotent requests*, *Rate limits*; messages as quoted in
public reports where the documentation gives only the code.
"""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]


class RefusalError(Exception):
    """
    One error answer of Stripe.

    Args:
        message: The sentence that Stripe would send.

        status: HTTP status.

        kind: Stripe's error type.

        code: Stripe's error code, empty where it sends none.

        param: The parameter that is wrong, empty where none is.

        saved: Whether the answer is kept under the idempotency key, which is so once execution has begun.

        headers: Response headers that belong to this error.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        kind: str = "invalid_request_error",
        code: str = "",
        param: str = "",
        saved: bool = True,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.kind = kind
        self.code = code
        self.param = param
        self.saved = saved
        self.headers = headers or {}

    def body(self, request_id: str, now_s: int) -> Json:
        """Build Stripe's error envelope; keys that Stripe leaves out when empty are left out."""
        error: Json = {}
        if self.code:
            error["code"] = self.code
            error["doc_url"] = f"https://stripe.com/docs/error-codes/{self.code.replace('_', '-')}"
        error["message"] = self.message
        if self.param:
            error["param"] = self.param
        error["request_log_url"] = f"https://dashboard.stripe.com/test/logs/{request_id}?t={now_s}"
        error["type"] = self.kind
        return {"error": error}


def invalid(message: str, *, code: str, param: str) -> RefusalError:
    """Build the refusal of a parameter that was never executed, hence is not kept under the idempotency key."""
    return RefusalError(message, code=code, param=param, saved=False)


def missing(noun: str, found: str, *, param: str = "id", status: int = 404) -> RefusalError:
    """Build the answer about an id that this account does not have."""
    return RefusalError(f"No such {noun}: '{found}'", status=status, code="resource_missing", param=param)


def unauthorized(message: str, *, code: str = "") -> RefusalError:
    """Build the answer to a request without a usable key."""
    return RefusalError(message, status=401, code=code, saved=False)


def balance_insufficient() -> RefusalError:
    """Build the refusal of an amount above the available balance (*Error codes*, balance_insufficient)."""
    return RefusalError(
        "You have insufficient available funds in your Stripe account. Try adding funds directly to your available "
        "balance by creating Charges using the 4000000000000077 test card. "
        "See: https://stripe.com/docs/testing#available-balance",
        code="balance_insufficient",
    )


def rate_limited(reason: str, *, retry_after: str = "") -> RefusalError:
    """Build the 429 of the rate limiter, which answers before the idempotency layer (*Rate limits*)."""
    return RefusalError(
        "Request rate limit exceeded. Learn more about rate limits https://stripe.com/docs/rate-limits.",
        status=429,
        code="rate_limit",
        saved=False,
        headers={"Stripe-Rate-Limited-Reason": reason} | _pause(retry_after),
    )


def lock_timeout(*, retry_after: str = "") -> RefusalError:
    """Build the 429 of a locked object, which Stripe marks as worth a retry (*Rate limits*, object lock timeouts)."""
    return RefusalError(
        "This object cannot be accessed right now because another API request or Stripe process is currently "
        "accessing it. If you see this error intermittently, retry the request. If you see this error frequently and "
        "are making multiple concurrent requests to a single object, make your requests serially or at a lower rate.",
        status=429,
        code="lock_timeout",
        saved=False,
        headers={"Stripe-Should-Retry": "true"} | _pause(retry_after),
    )


def _pause(retry_after: str) -> dict[str, str]:
    return {"Retry-After": retry_after} if retry_after else {}


def key_in_use(key: str) -> RefusalError:
    """Build the 409 of an idempotency key whose first request is still running."""
    return RefusalError(
        "There is currently another in-progress request using this Idempotent Key (that probably means you submitted "
        f"twice, and the other request is still going through): {key}. Please try again later.",
        status=409,
        kind="idempotency_error",
        code="idempotency_key_in_use",
        saved=False,
    )


def server_error() -> RefusalError:
    """Build a 500, which is kept and replayed under the key (*Advanced error handling*)."""
    return RefusalError("An unexpected error occurred on the server.", status=500, kind="api_error")
