"""
Records as the JSON that Stripe sends, with every field that the SDK's types name.

Source: the type annotations of the official SDK (API version 2026-10-28.endive), to which
`tests/contract/test_sandbox_contract.py` holds every function here; it also lists what Stripe itself leaves out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from local_stripe.account_shapes import account_shape
from local_stripe.books import Books
from local_stripe.errors import Json
from local_stripe.listing import envelope
from local_stripe.permissions import PLATFORM_ACCOUNT
from local_stripe.records import (
    Account,
    BalanceTransaction,
    Charge,
    PaymentIntent,
    Payout,
    Record,
    Refund,
    Reversal,
    Transfer,
)

# Accountants' name for each type of balance transaction (Stripe documentation, *Reporting categories*).
REPORTING_CATEGORY = {
    "adjustment": "other_adjustment",
    "charge": "charge",
    "payment": "charge",
    "payment_refund": "refund",
    "payout": "payout",
    "payout_cancel": "payout_reversal",
    "payout_failure": "payout_reversal",
    "transfer": "transfer",
    "transfer_refund": "transfer_reversal",
}


# What the platform has from bank debits in each currency, where that is switched on.
BANK_FUNDS_MINOR = 1_000_000


def shape(books: Books, record: Record) -> Json:
    """Return *record* as Stripe would send it now, nothing expanded."""
    return _SHAPES[type(record)](books, record)


def balance(books: Books, account: str) -> Json:
    """Return the balance of *account*: what a transfer may draw on, and what is still on its way."""
    available, pending = books.balance(account)
    default = books.account(account).currency
    currencies = sorted({default, *available})
    result = {
        "object": "balance",
        "available": [_available(books, account, available.get(currency, 0), currency) for currency in currencies],
        "instant_available": [_amount(0, currency) for currency in currencies],
        "issuing": {"available": [{"amount": 0, "currency": default}]},
        "livemode": False,
        "pending": [_amount(pending.get(currency, 0), currency) for currency in currencies],
        "refund_and_dispute_prefunding": {"available": [_amount(0, default)], "pending": [_amount(0, default)]},
    }
    held = books.reserved()
    result["connect_reserved"] = [{"amount": held.get(currency, 0), "currency": currency} for currency in currencies]
    return result


def _available(books: Books, account: str, minor: int, currency: str) -> Json:
    shown = _amount(minor, currency)
    if account == PLATFORM_ACCOUNT and books.switches.bank_funds:
        sources = {"bank_account": BANK_FUNDS_MINOR, "card": minor}
        shown |= {"amount": minor + BANK_FUNDS_MINOR, "source_types": sources}
    if not books.switches.source_types:
        del shown["source_types"]
    return shown


def _amount(minor: int, currency: str) -> Json:
    return {"amount": minor, "currency": currency, "source_types": {"card": minor}}


def _transfer(books: Books, transfer: Transfer) -> Json:
    url = f"/v1/transfers/{transfer.id}/reversals"
    reversals = [item for item in books.reversals if item.transfer == transfer.id][::-1]
    return {
        "id": transfer.id,
        "object": "transfer",
        "amount": transfer.amount,
        "amount_reversed": transfer.amount_reversed,
        "balance_transaction": transfer.balance_transaction,
        "created": transfer.created,
        "currency": transfer.currency,
        "description": transfer.description,
        "destination": transfer.destination,
        "destination_payment": transfer.destination_payment,
        "livemode": False,
        "metadata": dict(transfer.metadata),
        "reversals": envelope([shape(books, item) for item in reversals[:10]], has_more=len(reversals) > 10, url=url),
        "reversed": transfer.reversed,
        "source_transaction": transfer.source_transaction,
        "source_type": transfer.source_type,
        "transfer_group": transfer.transfer_group,
    }


def _reversal(_books: Books, reversal: Reversal) -> Json:
    return {
        "id": reversal.id,
        "object": "transfer_reversal",
        "amount": reversal.amount,
        "balance_transaction": reversal.balance_transaction,
        "created": reversal.created,
        "currency": reversal.currency,
        "destination_payment_refund": reversal.destination_payment_refund,
        "metadata": dict(reversal.metadata),
        "source_refund": None,
        "transfer": reversal.transfer,
    }


def _refund(_books: Books, refund: Refund) -> Json:
    return {
        "id": refund.id,
        "object": "refund",
        "amount": refund.amount,
        "balance_transaction": refund.balance_transaction,
        "charge": refund.charge,
        "created": refund.created,
        "currency": refund.currency,
        "customer": None,
        "customer_account": None,
        "metadata": {},
        "payment_intent": None,
        "payment_method": None,
        "reason": None,
        "receipt_number": None,
        "source_transfer_reversal": None,
        "status": "succeeded",
        "transfer_reversal": refund.transfer_reversal,
    }


def _balance_transaction(books: Books, line: BalanceTransaction) -> Json:
    return {
        "id": line.id,
        "object": "balance_transaction",
        "amount": line.amount,
        "available_on": line.available_on,
        "balance_type": "payments",
        "created": line.created,
        "currency": line.currency,
        "description": line.description,
        "exchange_rate": None,
        "fee": line.fee,
        "fee_details": _fees(line),
        "net": line.net,
        "reporting_category": REPORTING_CATEGORY[line.type],
        "source": line.source,
        "status": "available" if line.available_on <= books.now_s else "pending",
        "type": line.type,
    }


def _fees(line: BalanceTransaction) -> list[Json]:
    if not line.fee:
        return []
    return [
        {
            "amount": line.fee,
            "application": None,
            "currency": line.currency,
            "description": "Stripe processing fees",
            "type": "stripe_fee",
        }
    ]


def _charge(_books: Books, charge: Charge) -> Json:
    card = charge.source_transfer is None
    return {
        "id": charge.id,
        "object": "charge",
        "amount": charge.amount,
        "amount_captured": charge.amount,
        "amount_refunded": charge.amount_refunded,
        "application": None,
        "application_fee": None,
        "application_fee_amount": None,
        "balance_transaction": charge.balance_transaction,
        "billing_details": {"address": _address(), "email": None, "name": None, "phone": None, "tax_id": None},
        "calculated_statement_descriptor": "SANDBOX PLATFORM" if card else None,
        "captured": True,
        "created": charge.created,
        "currency": charge.currency,
        "customer": None,
        "description": charge.description,
        "disputed": False,
        "failure_balance_transaction": None,
        "failure_code": None,
        "failure_message": None,
        "fraud_details": {},
        "livemode": False,
        "metadata": dict(charge.metadata),
        "on_behalf_of": None,
        "outcome": _outcome() if card else None,
        "paid": True,
        "payment_intent": charge.payment_intent,
        "payment_method": charge.payment_method,
        "payment_method_details": _card() if card else {"type": "stripe_account", "stripe_account": {}},
        "presentment_details": None,
        "radar_options": {},
        "receipt_email": None,
        "receipt_number": None,
        "receipt_url": None,
        "refunded": charge.amount_refunded == charge.amount,
        "review": None,
        "shipping": None,
        "source": None,
        "source_transfer": charge.source_transfer,
        "statement_descriptor": None,
        "statement_descriptor_suffix": None,
        "status": "succeeded",
        "transfer_data": None,
        "transfer_group": charge.transfer_group,
    }


def _outcome() -> Json:
    return {
        "advice_code": None,
        "network_advice_code": None,
        "network_decline_code": None,
        "network_status": "approved_by_network",
        "reason": None,
        "risk_level": "normal",
        "seller_message": "Payment complete.",
        "type": "authorized",
    }


def _card() -> Json:
    return {
        "type": "card",
        "card": {
            "amount_authorized": None,
            "authorization_code": None,
            "brand": "visa",
            "checks": {"address_line1_check": None, "address_postal_code_check": None, "cvc_check": "pass"},
            "country": "US",
            "exp_month": 12,
            "exp_year": 2034,
            "fingerprint": "SandboxFingerprt",
            "funding": "credit",
            "installments": None,
            "last4": "0077",
            "mandate": None,
            "network": "visa",
            "network_token": {"used": False},
            "network_transaction_id": None,
            "regulated_status": "unregulated",
            "three_d_secure": None,
            "transaction_link_id": None,
            "wallet": None,
        },
    }


def _payment_intent(_books: Books, intent: PaymentIntent) -> Json:
    return {
        "id": intent.id,
        "object": "payment_intent",
        "allowed_payment_method_types": None,
        "amount": intent.amount,
        "amount_capturable": 0,
        "amount_details": {"tip": {}},
        "amount_received": intent.amount,
        "application": None,
        "application_fee_amount": None,
        "automatic_payment_methods": {"allow_redirects": "never", "enabled": True},
        "canceled_at": None,
        "cancellation_reason": None,
        "capture_method": "automatic_async",
        "client_secret": f"{intent.id}_secret_Sandbox",
        "confirmation_method": "automatic",
        "created": intent.created,
        "currency": intent.currency,
        "customer": None,
        "customer_account": None,
        "description": intent.description,
        "excluded_payment_method_types": None,
        "last_payment_error": None,
        "latest_charge": intent.latest_charge,
        "livemode": False,
        "managed_payments": None,
        "metadata": dict(intent.metadata),
        "next_action": None,
        "on_behalf_of": None,
        "payment_method": intent.payment_method,
        "payment_method_configuration_details": None,
        "payment_method_options": {},
        "payment_method_types": ["card"],
        "payment_record": None,
        "presentment_details": None,
        "processing": None,
        "receipt_email": None,
        "review": None,
        "setup_future_usage": None,
        "shipping": None,
        "source": None,
        "statement_descriptor": None,
        "statement_descriptor_suffix": None,
        "status": "succeeded",
        "transfer_data": None,
        "transfer_group": intent.transfer_group,
    }


def _payout(_books: Books, payout: Payout) -> Json:
    return {
        "id": payout.id,
        "object": "payout",
        "amount": payout.amount,
        "application_fee": None,
        "application_fee_amount": None,
        "arrival_date": payout.arrival_date,
        "automatic": payout.automatic,
        "balance_transaction": payout.balance_transaction,
        "created": payout.created,
        "currency": payout.currency,
        "description": payout.description,
        "destination": payout.bank.id,
        "failure_balance_transaction": payout.failure_balance_transaction,
        "failure_code": payout.failure_code,
        "failure_message": payout.failure_message,
        "livemode": False,
        "metadata": dict(payout.metadata),
        "method": "standard",
        "original_payout": None,
        "payout_method": None,
        "reconciliation_status": _reconciliation(payout),
        "reversed_by": None,
        "source_type": "card",
        "statement_descriptor": payout.statement_descriptor,
        "status": payout.status,
        "trace_id": _trace(payout),
        "type": "bank_account",
    }


def _reconciliation(payout: Payout) -> str:
    """Only automatic payouts can be itemised, and here not before they have left."""
    if not payout.automatic:
        return "not_applicable"
    return "in_progress" if payout.status == "pending" else "completed"


def _trace(payout: Payout) -> Json:
    if payout.status == "paid":
        return {"status": "supported", "value": f"SANDBOX{payout.id[-8:].upper()}"}
    return {"status": "unsupported" if payout.status in {"failed", "canceled"} else "pending", "value": None}


def _address() -> Json:
    return dict.fromkeys(("city", "country", "line1", "line2", "postal_code", "state"))


_SHAPES: dict[type[Any], Callable[[Books, Any], Json]] = {
    Account: lambda _books, account: account_shape(account),
    BalanceTransaction: _balance_transaction,
    Charge: _charge,
    PaymentIntent: _payment_intent,
    Payout: _payout,
    Refund: _refund,
    Reversal: _reversal,
    Transfer: _transfer,
}
