"""
Connected accounts as a seeder makes them through the API, instead of through the sandbox's own seeding.

Sources: Stripe documentation, *Testing Stripe Connect* (bank account numbers that fail) and *Receive payouts*.
"""

from __future__ import annotations

from local_stripe.books import Books
from local_stripe.errors import Json, RefusalError, invalid
from local_stripe.params import Spec, merged_metadata, read_integer
from local_stripe.records import Account, Bank, BankBehaviour

UPDATE_PARAMS: Spec = {
    "business_profile": "object",
    "business_type": "text",
    "capabilities": "object",
    "company": "object",
    "default_currency": "currency",
    "email": "text",
    "expand": "list",
    "external_account": "token or object",
    "individual": "object",
    "metadata": "metadata",
    "settings": "object",
    "tos_acceptance": "object",
}
CREATE_PARAMS: Spec = {**UPDATE_PARAMS, "controller": "object", "country": "text", "type": "text"}

ACCOUNT_ID_LENGTH = 16
# How long a check of the owner takes where it is told to take long.
VERIFIED_AFTER_S = 60

# United States test account numbers whose payouts fail, and the failure each gives.
FAILING_NUMBERS = {
    "000111111116": "no_account",
    "000111111113": "account_closed",
    "000222222227": "insufficient_funds",
    "000333333335": "debit_not_authorized",
    "000444444440": "invalid_currency",
}


def create_account(books: Books, params: Json) -> Account:
    """
    Connect a new account; its transfers capability becomes active once requested and the terms are accepted.

    Raises:
        RefusalError: The platform may not use Accounts v1, or the parameters contradict each other.
    """
    connect_is_on(books)
    if not books.switches.accounts_v1:
        raise RefusalError(
            "Stripe no longer recommends Accounts v1 for new Connect integrations. Create connected accounts with POST "
            "/v2/core/accounts instead."
        )
    if "type" in params and "controller" in params:
        raise invalid(
            "You may not provide the `type` parameter and `controller` parameters together.", code="", param="type"
        )
    account = Account(
        books.ids.take("acct", ACCOUNT_ID_LENGTH),
        country=params.get("country", "US"),
        currency=text_in(params, "external_account", "currency") or "usd",
        display_name="",
        created=books.now_s,
        controller=True,
    )
    # Entered last, so that a refusal leaves nothing behind.
    return books.add(update_account(books, account, params))


def connect_is_on(books: Books) -> None:
    """
    Let only a platform that is signed up for Connect make accounts.

    Raises:
        RefusalError: It is not.
    """
    if not books.switches.connect:
        raise RefusalError(
            "You can only create new accounts if you've signed up for Connect, which you can do at "
            "https://dashboard.stripe.com/connect."
        )


def update_account(books: Books, account: Account, params: Json) -> Account:
    """Change what *params* name, as far as it matters to payouts; the rest is accepted and not kept."""
    account.display_name = text_in(params, "business_profile", "name") or account.display_name
    account.url = text_in(params, "business_profile", "url") or account.url
    account.email = params.get("email", account.email)
    account.business_type = params.get("business_type", account.business_type)
    account.currency = params.get("default_currency", account.currency)
    account.metadata = merged_metadata(account.metadata, params.get("metadata", {}))
    account.service_agreement = text_in(params, "tos_acceptance", "service_agreement") or account.service_agreement
    accepted = text_in(params, "tos_acceptance", "date")
    if accepted:
        account.tos_date = read_integer("tos_acceptance[date]", accepted)
    account.tos_ip = text_in(params, "tos_acceptance", "ip") or account.tos_ip
    set_schedule(account, text_in(params, "settings", "payouts", "schedule", "interval") or account.payout_schedule)
    if "external_account" in params:
        account.bank = _bank(books, account, params["external_account"])
    for name in ("transfers", "card_payments"):
        wanted = text_in(params, "capabilities", name, "requested") == "true"
        set_capability(books, account, name, wanted=wanted)
    return account


def add_bank(books: Books, account: Account, params: Json) -> Bank:
    """
    Give the account another bank account, which takes the place of the one it had.

    Raises:
        RefusalError: The sandbox keeps one for each account, so that the new one has to be the default.
    """
    if account.bank is not None and not params.get("default_for_currency"):
        raise invalid(
            "The sandbox keeps one bank account: set default_for_currency.", code="", param="default_for_currency"
        )
    account.bank = _bank(books, account, params["external_account"])
    return account.bank


def set_capability(books: Books, account: Account, name: str, *, wanted: bool) -> None:
    """Request a capability: it is inactive until the terms are accepted, and active from then on, or after a check."""
    if wanted and getattr(account, name) == "unrequested":
        setattr(account, name, "inactive")
    if account.tos_date is None or getattr(account, name) != "inactive":
        return
    setattr(account, name, "pending" if books.switches.slow_verification else "active")
    account.verified_from = books.now_s + VERIFIED_AFTER_S


def set_schedule(account: Account, interval: str) -> None:
    """
    Say whether the account pays out by itself.

    Raises:
        RefusalError: The sandbox knows no such schedule.
    """
    if interval not in {"daily", "manual"}:
        raise invalid(
            f"The sandbox pays out daily or manually, not {interval}.",
            code="",
            param="settings[payouts][schedule][interval]",
        )
    account.payout_schedule = interval


def text_in(params: Json, *path: str) -> str | None:
    """Return the text at *path*, or None where there is none."""
    here: object = params
    for name in path:
        here = here.get(name) if isinstance(here, dict) else None
    return here if isinstance(here, str) else None


def _bank(books: Books, account: Account, given: object) -> Bank:
    if not isinstance(given, dict):
        # A token, such as btok_us_verified, stands for the account number that succeeds.
        return books.new_bank(account.country, account.currency, "6789")
    number = text_in(given, "account_number") or ""
    failure = FAILING_NUMBERS.get(number)
    behaviour: BankBehaviour = "ok" if failure is None else "fails"
    return books.new_bank(
        text_in(given, "country") or account.country,
        text_in(given, "currency") or account.currency,
        number[-4:],
        behaviour,
        failure or "account_closed",
    )
