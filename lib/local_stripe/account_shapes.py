"""
Accounts and their bank accounts as the JSON that Stripe sends, with every field that the SDK's types name.

Source: the type annotations of the official SDK; see `shapes`.
"""

from __future__ import annotations

from local_stripe.errors import Json
from local_stripe.listing import envelope
from local_stripe.records import Account, Bank


def account_shape(account: Account) -> Json:
    """Return *account* as Stripe would send it now."""
    bank = account.bank
    paid_out = bank is not None and bank.status != "errored"
    return {
        "id": account.id,
        "object": "account",
        "business_profile": _business_profile(account),
        "business_type": account.business_type,
        "capabilities": capabilities_of(account),
        "charges_enabled": account.card_payments == "active",
        "controller": _controller() if account.controller else {"type": "account"},
        "country": account.country,
        "created": account.created,
        "default_currency": account.currency,
        "details_submitted": account.tos_date is not None,
        "email": account.email,
        "external_accounts": envelope(
            [] if bank is None else [bank_account(account, bank)],
            has_more=False,
            url=f"/v1/accounts/{account.id}/external_accounts",
        ),
        "future_requirements": _requirements([]),
        "metadata": dict(account.metadata),
        "payouts_enabled": paid_out and account.transfers == "active",
        "requirements": _requirements(_due(account)),
        "settings": _settings(account),
        "tos_acceptance": {
            "date": account.tos_date,
            "ip": account.tos_ip,
            "service_agreement": account.service_agreement,
            "user_agent": None,
        },
        "type": "custom" if account.controller else "standard",
    }


def capabilities_of(account: Account) -> dict[str, str]:
    """Return the state of each capability that was asked for."""
    states = {"transfers": account.transfers, "card_payments": account.card_payments}
    return {name: state for name, state in states.items() if state != "unrequested"}


def capability(account: Account, name: str) -> Json:
    """Return one of them as an object of its own."""
    status = capabilities_of(account)[name]
    return {
        "id": name,
        "object": "capability",
        "account": account.id,
        "future_requirements": _requirements([]),
        "requested": True,
        "requested_at": account.created,
        "requirements": _requirements([] if status == "active" else _due(account)),
        "status": status,
    }


def _due(account: Account) -> list[str]:
    paid_out = account.bank is not None and account.bank.status != "errored"
    return ([] if paid_out else ["external_account"]) + (
        [] if account.tos_date else ["tos_acceptance.date", "tos_acceptance.ip"]
    )


def _business_profile(account: Account) -> Json:
    return {
        "annual_revenue": None,
        "estimated_worker_count": None,
        "mcc": None,
        "minority_owned_business_designation": None,
        "name": account.display_name,
        "product_description": None,
        "support_address": None,
        "support_email": None,
        "support_phone": None,
        "support_url": None,
        "url": account.url,
    }


def _controller() -> Json:
    return {
        "type": "application",
        "is_controller": True,
        "fees": {"payer": "application"},
        "losses": {"payments": "application"},
        "requirement_collection": "application",
        "stripe_dashboard": {"type": "none"},
    }


def _requirements(due: list[str]) -> Json:
    return {
        "alternatives": [],
        "current_deadline": None,
        "currently_due": list(due),
        "disabled_reason": "requirements.past_due" if due else None,
        "errors": [],
        "eventually_due": list(due),
        "past_due": list(due),
        "pending_verification": [],
    }


def _settings(account: Account) -> Json:
    schedule: Json = {"interval": account.payout_schedule, "delay_days": 2}
    return {
        "bacs_debit_payments": {"display_name": None, "service_user_number": None},
        "branding": {"icon": None, "logo": None, "primary_color": None, "secondary_color": None},
        "card_issuing": {"tos_acceptance": {"date": None, "ip": None}},
        "card_payments": {
            "decline_on": {"avs_failure": False, "cvc_failure": False},
            "statement_descriptor_prefix": None,
            "statement_descriptor_prefix_kana": None,
            "statement_descriptor_prefix_kanji": None,
        },
        "dashboard": {"display_name": account.display_name, "timezone": "Etc/UTC"},
        "invoices": {"default_account_tax_ids": None, "hosted_payment_method_save": None},
        "payments": {
            "statement_descriptor": None,
            "statement_descriptor_kana": None,
            "statement_descriptor_kanji": None,
            "statement_descriptor_prefix_kana": None,
            "statement_descriptor_prefix_kanji": None,
        },
        "payouts": {"debit_negative_balances": False, "schedule": schedule, "statement_descriptor": None},
        "sepa_debit_payments": {},
    }


def bank_account(account: Account, bank: Bank) -> Json:
    """Return the bank account as an external account of *account*."""
    return {
        "id": bank.id,
        "object": "bank_account",
        "account": account.id,
        "account_holder_name": account.display_name,
        "account_holder_type": "company",
        "account_type": None,
        "available_payout_methods": ["standard"],
        "bank_name": "STRIPE TEST BANK",
        "country": bank.country,
        "currency": bank.currency,
        "default_for_currency": True,
        "fingerprint": f"Sandbox{bank.id[-9:]}",
        "future_requirements": _bank_requirements([]),
        "last4": bank.last4,
        "metadata": {},
        "requirements": _bank_requirements(["external_account"] if bank.status == "errored" else []),
        "routing_number": "110000000" if bank.country == "US" else None,
        "status": bank.status,
    }


def balance_settings(account: Account) -> Json:
    """Return how *account* is paid out."""
    return {
        "object": "balance_settings",
        "payments": {
            "debit_negative_balances": False,
            "payouts": {
                "automatic_transfer_rules_by_currency": None,
                "minimum_balance_by_currency": None,
                "schedule": {
                    "interval": account.payout_schedule,
                    "monthly_payout_days": None,
                    "weekly_payout_days": None,
                },
                "statement_descriptor": None,
                "status": "enabled" if account.bank is not None and account.bank.status != "errored" else "disabled",
            },
            "settlement_timing": {"delay_days": 2, "delay_days_override": None, "start_of_day": None},
        },
    }


def _bank_requirements(due: list[str]) -> Json:
    return {"currently_due": list(due), "errors": [], "past_due": list(due), "pending_verification": []}
