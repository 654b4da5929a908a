"""
The keys of the sandbox and what each may do.

Sources: Stripe documentation, *Restricted API keys* and *Permissions reference*; the 403 body as captured in public
reports. A restricted key has two columns: the platform's own account, and connected accounts ("Connect").
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from local_stripe.errors import RefusalError, unauthorized

PLATFORM_ACCOUNT = "acct_1SandboxPlatform00"

# As long as real ones (107 characters), put together here so that no scanner takes them for real.
FALLBACK_KEY = "rk_test_51" + "SandboxFallback" * 6 + "FakeFbk"
READ_KEY = "rk_test_51" + "SandboxReadOnly" * 6 + "FakeRdo"
WIDE_KEY = "rk_test_51" + "SandboxTooMany0" * 6 + "FakeWde"
FULL_KEY = "sk_test_51" + "SandboxEverything" * 5 + "NotARealKey1"

_READS = frozenset(
    {
        "accounts_kyc_basic_read",
        "balance_read",
        "balance_transaction_source_read",
        "charge_read",
        "payout_read",
        "transfer_read",
    }
)


@dataclass(frozen=True, slots=True)
class ApiKey:
    """
    A key and its two columns of permissions.

    Attributes:
        name: How the request log and the settings call it; the value is never logged.

        own: Permissions on the platform; None is all.

        connect: Permissions on connected accounts; None is all.
    """

    value: str
    name: str
    own: frozenset[str] | None
    connect: frozenset[str] | None

    def may(self, permission: str, *, connected: bool) -> bool:
        """Say whether the key has *permission*, for example ``transfer_read``; write includes read."""
        granted = self.connect if connected else self.own
        if granted is None or permission in granted:
            return True
        return permission.endswith("_read") and permission.removesuffix("read") + "write" in granted


KEYS = (
    ApiKey(FALLBACK_KEY, "fallback", frozenset({"transfer_write", "balance_read"}), frozenset()),
    ApiKey(READ_KEY, "read", _READS, _READS),
    # What a key becomes when somebody ticks one box more, and then another.
    ApiKey(
        WIDE_KEY,
        "wide",
        frozenset({"transfer_write", "balance_read", "payout_write", "customer_read"}),
        frozenset({"charge_read"}),
    ),
    ApiKey(FULL_KEY, "full", None, None),
)


def mask(value: str) -> str:
    """Show a key as Stripe's messages do: its prefix, as many asterisks as it is long, its last four characters."""
    head, tail = value[:8], value[-4:]
    return head + "*" * max(len(value) - len(head) - len(tail), 4) + tail


def authenticate(authorization: str | None, expired: frozenset[str]) -> ApiKey:
    """
    Find the key of an Authorization header, Bearer as the SDK sends it or Basic as curl does.

    Args:
        authorization: The header's value.

        expired: Names of keys that have been rotated away.

    Raises:
        RefusalError: 401, in Stripe's words.
    """
    value = _key_of(authorization or "")
    if not value:
        raise unauthorized(
            "You did not provide an API key. You need to provide your API key in the Authorization header, using "
            "Bearer auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY'). See https://stripe.com/docs/api#authentication"
            " for details, or we can help at https://support.stripe.com/."
        )
    if value.startswith("pk_"):
        raise unauthorized(
            "This API call cannot be made with a publishable API key. Please use a secret API key. You can find a list "
            "of your API keys at https://dashboard.stripe.com/account/apikeys.",
            code="secret_key_required",
        )
    for key in KEYS:
        if key.value == value and key.name in expired:
            raise unauthorized(f"Expired API Key provided: {mask(value)}", code="api_key_expired")
        if key.value == value:
            return key
    raise unauthorized(f"Invalid API Key provided: {mask(value)}")


def require(key: ApiKey, permission: str, account: str, *, connected: bool) -> None:
    """
    Let the call pass if *key* has *permission* in the column that counts for *account*.

    Raises:
        RefusalError: 403 more_permissions_required, naming the permission and the account.
    """
    if not key.may(permission, connected=connected):
        raise lacks_permission(key, permission, account)


def lacks_permission(key: ApiKey, permission: str, account: str) -> RefusalError:
    """Build the 403 that names the missing permission."""
    return RefusalError(
        f"The provided key '{mask(key.value)}' does not have the required permissions for this endpoint on account "
        f"'{account}'. Having the 'rak_{permission}' permission would allow this request to continue.",
        status=403,
        code="more_permissions_required",
        saved=False,
    )


def no_access(key: ApiKey, account: str) -> RefusalError:
    """Build the 403 about a Stripe-Account header that names no account of this platform."""
    return RefusalError(
        f"The provided key '{mask(key.value)}' does not have access to account '{account}' (or that account does not "
        "exist). Application access may have been revoked.",
        status=403,
        code="account_invalid",
        saved=False,
    )


def _key_of(authorization: str) -> str:
    scheme, _, rest = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return rest.strip()
    if scheme.lower() != "basic":
        return ""
    try:
        return base64.b64decode(rest, validate=True).decode().partition(":")[0]
    except (binascii.Error, UnicodeDecodeError):
        return ""
