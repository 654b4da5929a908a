"""
Connected accounts by Accounts v2, for platforms that may not make them by v1: JSON in, JSON out.

Source: the official SDK's types for ``/v2/core/accounts``. Assumptions: that accounts made here are not in the list of
v1 although v1 shows each of them by its id; that an account may receive transfers once its terms are accepted; and,
where the sandbox is told so, that a recipient needs card payments as one public report says.
"""

from __future__ import annotations

from datetime import UTC, datetime

from local_stripe.books import Books
from local_stripe.connect_accounts import ACCOUNT_ID_LENGTH, connect_is_on, set_capability, text_in
from local_stripe.errors import Json, RefusalError, invalid
from local_stripe.params import Spec, read_integer
from local_stripe.records import Account

CREATE_PARAMS_V2: Spec = {
    "configuration": "object",
    "contact_email": "text",
    "dashboard": "text",
    "defaults": "object",
    "display_name": "text",
    "identity": "object",
    "include": "list",
    "metadata": "metadata",
}
RETRIEVE_PARAMS: Spec = {"include": "list"}
LIST_PARAMS: Spec = {"applied_configurations": "list", "closed": "boolean", "limit": "limit", "page": "text"}

# What v2 calls the states that v1 gives a capability.
_STATUS = {"active": "active", "pending": "pending", "inactive": "restricted"}


def create_account_v2(books: Books, params: Json) -> Account:
    """
    Connect a new account that receives transfers.

    Raises:
        RefusalError: The platform may not, or the parameters contradict each other.
    """
    connect_is_on(books)
    if not books.switches.accounts_v2:
        raise RefusalError("Accounts v2 is not enabled for your platform.", code="accounts_v2_access_blocked")
    wanted = _requested(params, "recipient", "stripe_balance", "stripe_transfers")
    cards = _requested(params, "merchant", "card_payments")
    if wanted and books.switches.recipient_needs_cards and not cards:
        raise RefusalError(
            "The capability stripe_balance.stripe_transfers cannot be requested without merchant card_payments.",
            code="capability_not_available",
        )
    if wanted and text_in(params, "defaults", "responsibilities", "losses_collector") is None:
        raise invalid("Missing responsibilities.", code="parameter_missing", param="defaults.responsibilities")
    account = Account(
        books.ids.take("acct", ACCOUNT_ID_LENGTH),
        country=(text_in(params, "identity", "country") or "US").upper(),
        currency=text_in(params, "defaults", "currency") or "usd",
        display_name=params.get("display_name", ""),
        created=books.now_s,
        controller=True,
        version=2,
    )
    account.email = params.get("contact_email")
    account.metadata = dict(params.get("metadata") or {})
    account.business_type = text_in(params, "identity", "entity_type")
    account.url = text_in(params, "defaults", "profile", "business_url")
    accepted = text_in(params, "identity", "attestations", "terms_of_service", "account", "date")
    if accepted is not None:
        account.tos_date = _seconds(accepted)
    account.tos_ip = text_in(params, "identity", "attestations", "terms_of_service", "account", "ip")
    set_capability(books, account, "transfers", wanted=wanted)
    set_capability(books, account, "card_payments", wanted=cards)
    return books.add(account)


def account_shape_v2(account: Account, include: list[str]) -> Json:
    """Return *account* as Accounts v2 would; what is not asked for with *include* is null."""
    cards = account.card_payments != "unrequested"
    return {
        "id": account.id,
        "object": "v2.core.account",
        "applied_configurations": ["recipient", *(["merchant"] if cards else [])],
        "closed": None,
        "configuration": _configuration(account, include) if any(one.startswith("config") for one in include) else None,
        "contact_email": account.email,
        "contact_phone": None,
        "created": _instant(account.created),
        "dashboard": "none",
        "defaults": None,
        "display_name": account.display_name or None,
        "future_requirements": None,
        "identity": None,
        "livemode": False,
        "metadata": dict(account.metadata),
        "requirements": None,
    }


def page_v2(accounts: list[Account], params: Json) -> Json:
    """Cut one page of a v2 list, newest first; the next one is named by its address."""
    limit, start = params.get("limit", 10), read_integer("page", params.get("page", "0"))
    rest = len(accounts) > start + limit
    return {
        "data": [account_shape_v2(account, []) for account in accounts[start : start + limit]],
        "next_page_url": f"/v2/core/accounts?limit={limit}&page={start + limit}" if rest else None,
        "previous_page_url": None,
    }


def _configuration(account: Account, include: list[str]) -> Json:
    transfers = {"status": _STATUS.get(account.transfers, "restricted"), "status_details": []}
    recipient = {
        "applied": True,
        "capabilities": {
            "bank_accounts": None,
            "cards": None,
            "stripe_balance": {"payouts": None, "stripe_transfers": transfers},
        },
    }
    return {
        "customer": None,
        "merchant": None,
        "recipient": recipient if "configuration.recipient" in include else None,
    }


def _requested(params: Json, configuration: str, *path: str) -> bool:
    here: object = params.get("configuration")
    for name in (configuration, "capabilities", *path, "requested"):
        here = here.get(name) if isinstance(here, dict) else None
    return here is True


def _seconds(instant: str) -> int:
    try:
        return int(datetime.fromisoformat(instant).timestamp())
    except ValueError:
        raise invalid(
            f"Invalid timestamp: {instant}", code="invalid_fields", param="identity.attestations.terms_of_service"
        ) from None


def _instant(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
