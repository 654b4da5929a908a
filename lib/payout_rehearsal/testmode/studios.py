"""
What Stripe is told about a studio that does not exist: the magic values with which its test mode needs no human.

United States only: the bank account numbers below are those of the United States. Sources: Stripe documentation,
*Testing Stripe Connect* (dates of birth, id numbers, addresses, documents) and *Receive payouts* (bank accounts); the
official SDK's parameter types. The body for Accounts v2 was put together from those types and has met no Stripe yet.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

COUNTRY, CURRENCY = "US", "usd"
ROUTING_NUMBER = "110000000"

BankEnd = Literal[
    "paid", "no_account", "account_closed", "insufficient_funds", "debit_not_authorized", "invalid_currency"
]

# How a payout to each of these ends in test mode.
BANK_NUMBERS: dict[BankEnd, str] = {
    "paid": "000123456789",
    "no_account": "000111111116",
    "account_closed": "000111111113",
    "insufficient_funds": "000222222227",
    "debit_not_authorized": "000333333335",
    "invalid_currency": "000444444440",
}

# By this key an account says in its metadata for which studio of a rehearsal it was made.
METADATA_KEY = "manual_payout_rehearsal"

# A documentation address (RFC 5737): nobody accepted anything from a real one.
_IP = "192.0.2.1"
_BORN = {"year": 1901, "month": 1, "day": 1}
_ID_NUMBER = "000000000"
_URL = "https://accessible.stripe.com"
_ADDRESS = {"line1": "address_full_match", "city": "Portland", "state": "OR", "postal_code": "97201"}
# Arts and crafts shops.
_MCC = "5970"


@dataclass(frozen=True, slots=True)
class Studio:
    """
    A studio to seed.

    Attributes:
        role: Under which it is found again by every later rehearsal, such as ``incident``.

        bank: How its payouts to the bank end.
    """

    role: str
    name: str
    bank: BankEnd = "paid"

    @property
    def email(self) -> str:
        """Where nobody reads."""
        return f"{self.role.replace('_', '-')}@studios.example.com"

    @property
    def metadata(self) -> dict[str, str]:
        """By what it is found again."""
        return {METADATA_KEY: self.role}


def bank_account(studio: Studio) -> dict[str, str]:
    """Return the bank account of *studio* as an external account."""
    return {
        "object": "bank_account",
        "country": COUNTRY,
        "currency": CURRENCY,
        "account_holder_name": studio.name,
        "account_holder_type": "individual",
        "routing_number": ROUTING_NUMBER,
        "account_number": BANK_NUMBERS[studio.bank],
    }


def body_v1(studio: Studio, at: datetime) -> dict[str, Any]:
    """Return the parameters of *Create an account*: no Dashboard of its own, and terms that the platform accepts for it."""
    return {
        "country": COUNTRY,
        "controller": {
            "requirement_collection": "application",
            "fees": {"payer": "application"},
            "losses": {"payments": "application"},
            "stripe_dashboard": {"type": "none"},
        },
        "email": studio.email,
        "business_type": "individual",
        "business_profile": {"mcc": _MCC, "name": studio.name, "url": _URL},
        "individual": {
            "first_name": "Rehearsal",
            "last_name": "Studio",
            "email": studio.email,
            "phone": "0000000000",
            "dob": _BORN,
            "address": {"country": COUNTRY, **_ADDRESS},
            "ssn_last_4": _ID_NUMBER[-4:],
            "id_number": _ID_NUMBER,
            "verification": {"document": {"front": "file_identity_document_success"}},
        },
        "capabilities": {"card_payments": {"requested": True}, "transfers": {"requested": True}},
        "external_account": bank_account(studio),
        "tos_acceptance": {"date": int(at.timestamp()), "ip": _IP},
        "settings": {"payouts": {"schedule": {"interval": "manual"}}},
        "metadata": studio.metadata,
    }


def body_v2(studio: Studio, at: datetime, *, with_cards: bool) -> dict[str, Any]:
    """
    Return the parameters of Accounts v2 for a recipient of transfers.

    Args:
        with_cards: Also request card payments, without which one platform was refused the transfers.
    """
    accepted = {"date": f"{at:%Y-%m-%dT%H:%M:%S}.000Z", "ip": _IP}
    transfers = {"stripe_balance": {"stripe_transfers": {"requested": True}}}
    configuration: dict[str, Any] = {"recipient": {"capabilities": transfers}}
    if with_cards:
        configuration["merchant"] = {"mcc": _MCC, "capabilities": {"card_payments": {"requested": True}}}
    return {
        "dashboard": "none",
        "display_name": studio.name,
        "contact_email": studio.email,
        "identity": {
            "country": COUNTRY,
            "entity_type": "individual",
            "individual": {
                "given_name": "Rehearsal",
                "surname": "Studio",
                "email": studio.email,
                "phone": "0000000000",
                "date_of_birth": _BORN,
                "address": {"country": COUNTRY, **_ADDRESS},
                "id_numbers": [{"type": "us_ssn", "value": _ID_NUMBER}],
            },
            "attestations": {"terms_of_service": {"account": accepted}},
        },
        "defaults": {
            "currency": CURRENCY,
            "profile": {"business_url": _URL, "product_description": "Pottery and classes"},
            "responsibilities": {"fees_collector": "application", "losses_collector": "application"},
        },
        "configuration": configuration,
        "metadata": studio.metadata,
        "include": ["configuration.recipient"],
    }
