"""
Connected accounts as a seeder makes them through the API, instead of through the sandbox's own seeding.

Sources: Stripe documentation, *Testing Stripe Connect* (bank account numbers that fail) and *Receive payouts*.
"""

from __future__ import annotations

from manual_payout.sandbox.books import Books
from manual_payout.sandbox.errors import Json, RefusalError, invalid
from manual_payout.sandbox.params import Spec, merged_metadata, read_integer
from manual_payout.sandbox.records import Account, Bank, BankBehaviour

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
    if not books.switches.connect:
        raise RefusalError(
            "You can only create new accounts if you've signed up for Connect, which you can do at "
            "https://dashboard.stripe.com/connect."
        )
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
        currency=_text(params, "external_account", "currency") or "usd",
        display_name="",
        created=books.now_s,
        controller=True,
    )
    # Entered last, so that a refusal leaves nothing behind.
    return books.add(update_account(books, account, params))


def update_account(books: Books, account: Account, params: Json) -> Account:
    """Change what *params* name, as far as it matters to payouts; the rest is accepted and not kept."""
    account.display_name = _text(params, "business_profile", "name") or account.display_name
    account.url = _text(params, "business_profile", "url") or account.url
    account.email = params.get("email", account.email)
    account.business_type = params.get("business_type", account.business_type)
    account.currency = params.get("default_currency", account.currency)
    account.metadata = merged_metadata(account.metadata, params.get("metadata", {}))
    account.service_agreement = _text(params, "tos_acceptance", "service_agreement") or account.service_agreement
    accepted = _text(params, "tos_acceptance", "date")
    if accepted:
        account.tos_date = read_integer("tos_acceptance[date]", accepted)
    account.tos_ip = _text(params, "tos_acceptance", "ip") or account.tos_ip
    _set_schedule(account, _text(params, "settings", "payouts", "schedule", "interval") or account.payout_schedule)
    if "external_account" in params:
        account.bank = _bank(books, account, params["external_account"])
    _set_capabilities(account, params)
    return account


def _text(params: Json, *path: str) -> str | None:
    """Return the text at *path*, or None where there is none."""
    here: object = params
    for name in path:
        here = here.get(name) if isinstance(here, dict) else None
    return here if isinstance(here, str) else None


def _set_schedule(account: Account, interval: str) -> None:
    if interval not in {"daily", "manual"}:
        raise invalid(
            f"The sandbox pays out daily or manually, not {interval}.",
            code="",
            param="settings[payouts][schedule][interval]",
        )
    account.payout_schedule = interval


def _set_capabilities(account: Account, params: Json) -> None:
    """A requested capability is inactive until the terms are accepted, and active from then on."""
    for name in ("transfers", "card_payments"):
        wanted = _text(params, "capabilities", name, "requested") == "true"
        if wanted and getattr(account, name) == "unrequested":
            setattr(account, name, "inactive")
        if account.tos_date is not None and getattr(account, name) == "inactive":
            setattr(account, name, "active")


def _bank(books: Books, account: Account, given: object) -> Bank:
    if not isinstance(given, dict):
        # A token, such as btok_us_verified, stands for the account number that succeeds.
        return books.new_bank(account.country, account.currency, "6789")
    number = _text(given, "account_number") or ""
    failure = FAILING_NUMBERS.get(number)
    behaviour: BankBehaviour = "ok" if failure is None else "fails"
    return books.new_bank(
        _text(given, "country") or account.country,
        _text(given, "currency") or account.currency,
        number[-4:],
        behaviour,
        failure or "account_closed",
    )
