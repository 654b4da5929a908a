"""
The endpoints of the sandbox as one table: what each needs, takes and does.

Source: the official SDK's parameter types, one `Spec` for each; parameters beyond these are refused as unknown.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from local_stripe import accounts_v2, connect_accounts, handlers
from local_stripe.errors import Json
from local_stripe.handlers import Call
from local_stripe.params import PAGING, Spec
from local_stripe.searching import SEARCH_PARAMS

RETRIEVE: Spec = {"expand": "list"}
UPDATE: Spec = {"description": "clearable", "metadata": "metadata", "expand": "list"}


@dataclass(frozen=True, slots=True)
class Operation:
    """
    One endpoint.

    Attributes:
        permission: What a restricted key needs, for example ``transfer_write``.

        returns: Stripe's name of the object that comes back; of the listed ones where *listed*.

        connect_column: Whether the permission is one about connected accounts even on the platform's own behalf.
    """

    method: str
    path: str
    permission: str
    returns: str
    spec: Spec
    act: Callable[[Call], Json]
    listed: bool = False
    connect_column: bool = False


_METADATA: Spec = {"description": "text", "metadata": "metadata", "expand": "list"}
_CREATE_TRANSFER: Spec = {
    "amount": "amount!",
    "currency": "currency!",
    "destination": "text!",
    "source_transaction": "text",
    "source_type": "text",
    "transfer_group": "text",
    **_METADATA,
}
_CREATE_PAYOUT: Spec = {
    "amount": "amount!",
    "currency": "currency!",
    "destination": "text",
    "method": "text",
    "source_type": "text",
    "statement_descriptor": "text",
    **_METADATA,
}
_CREATE_PAYMENT: Spec = {
    "amount": "amount!",
    "currency": "currency!",
    "payment_method": "text!",
    "confirm": "boolean",
    "automatic_payment_methods": "object",
    "payment_method_types": "list",
    "off_session": "boolean",
    "return_url": "text",
    "transfer_group": "text",
    **_METADATA,
}
_CREATED: Spec = {"created": "range", **PAGING}

# What no payout needs: so that a key that may do more than it should is found out here as it would be at Stripe.
_ABSENT = (
    ("application_fees", "application_fee_read", "application_fee"),
    ("customers", "customer_read", "customer"),
    ("disputes", "dispute_read", "dispute"),
    ("events", "event_read", "event"),
    ("invoices", "invoice_read", "invoice"),
    ("products", "product_read", "product"),
    ("subscriptions", "subscription_read", "subscription"),
    ("topups", "top_up_read", "topup"),
    ("webhook_endpoints", "webhook_read", "webhook_endpoint"),
)

_ABSENT_FILTERS: dict[str, Spec] = {
    "events": {"delivery_success": "boolean", "type": "text", "types": "list"},
}

_TRANSFER, _REVERSAL, _LINE = "transfer", "transfer_reversal", "balance_transaction"
_ACCOUNT_READ = "accounts_kyc_basic_read"
# The name of the permission to write accounts is an assumption; no restricted key of the sandbox has it.
_ACCOUNT_WRITE = "accounts_kyc_basic_write"


def _search(name: str, permission: str, returns: str, act: Callable[[Call], Json]) -> Operation:
    return Operation("GET", f"/v1/{name}/search", permission, returns, SEARCH_PARAMS, act, listed=True)


OPERATIONS = (
    Operation("POST", "/v1/transfers", "transfer_write", _TRANSFER, _CREATE_TRANSFER, handlers.create_transfer),
    Operation(
        "GET",
        "/v1/transfers",
        "transfer_read",
        _TRANSFER,
        {"destination": "text", "transfer_group": "text", **_CREATED},
        handlers.list_transfers,
        listed=True,
    ),
    Operation("GET", "/v1/transfers/{id}", "transfer_read", _TRANSFER, RETRIEVE, handlers.get_transfer),
    Operation("POST", "/v1/transfers/{id}", "transfer_write", _TRANSFER, UPDATE, handlers.update_transfer),
    Operation(
        "POST",
        "/v1/transfers/{id}/reversals",
        # Not documented which; that the right to transfer includes the right to take back is an assumption.
        "transfer_write",
        _REVERSAL,
        {"amount": "amount", "refund_application_fee": "boolean", **_METADATA},
        handlers.create_reversal,
    ),
    Operation(
        "GET", "/v1/transfers/{id}/reversals", "transfer_read", _REVERSAL, PAGING, handlers.list_reversals, listed=True
    ),
    Operation(
        "GET", "/v1/transfers/{id}/reversals/{reversal}", "transfer_read", _REVERSAL, RETRIEVE, handlers.get_reversal
    ),
    Operation(
        "POST",
        "/v1/transfers/{id}/reversals/{reversal}",
        "transfer_write",
        _REVERSAL,
        {"metadata": "metadata", "expand": "list"},
        handlers.update_reversal,
    ),
    Operation("GET", "/v1/balance", "balance_read", "balance", RETRIEVE, handlers.get_balance),
    Operation(
        "GET",
        "/v1/balance_transactions",
        "balance_read",
        _LINE,
        {"currency": "text", "payout": "text", "source": "text", "type": "text", **_CREATED},
        handlers.list_lines,
        listed=True,
    ),
    Operation("GET", "/v1/balance_transactions/{id}", "balance_read", _LINE, RETRIEVE, handlers.get_line),
    Operation(
        "GET",
        "/v1/charges",
        "charge_read",
        "charge",
        {"payment_intent": "text", "transfer_group": "text", **_CREATED},
        handlers.list_charges,
        listed=True,
    ),
    # Before the address of one object, which it would be taken for.
    _search("charges", "charge_read", "charge", handlers.search_charges),
    Operation("GET", "/v1/charges/{id}", "charge_read", "charge", RETRIEVE, handlers.get_charge),
    Operation("POST", "/v1/payouts", "payout_write", "payout", _CREATE_PAYOUT, handlers.create_payout),
    Operation(
        "GET",
        "/v1/payouts",
        "payout_read",
        "payout",
        {"arrival_date": "range", "destination": "text", "status": "text", **_CREATED},
        handlers.list_payouts,
        listed=True,
    ),
    Operation("GET", "/v1/payouts/{id}", "payout_read", "payout", RETRIEVE, handlers.get_payout),
    Operation(
        "POST",
        "/v1/payouts/{id}",
        "payout_write",
        "payout",
        {"metadata": "metadata", "expand": "list"},
        handlers.update_payout,
    ),
    Operation("POST", "/v1/payouts/{id}/cancel", "payout_write", "payout", RETRIEVE, handlers.cancel_payout),
    Operation("GET", "/v1/account", _ACCOUNT_READ, "account", RETRIEVE, handlers.get_own_account),
    Operation(
        "POST",
        "/v1/accounts",
        _ACCOUNT_WRITE,
        "account",
        connect_accounts.CREATE_PARAMS,
        handlers.create_account,
        connect_column=True,
    ),
    Operation(
        "GET",
        "/v1/accounts",
        _ACCOUNT_READ,
        "account",
        _CREATED,
        handlers.list_accounts,
        listed=True,
        connect_column=True,
    ),
    Operation(
        "GET", "/v1/accounts/{id}", _ACCOUNT_READ, "account", RETRIEVE, handlers.get_account, connect_column=True
    ),
    Operation(
        "POST",
        "/v1/accounts/{id}",
        _ACCOUNT_WRITE,
        "account",
        connect_accounts.UPDATE_PARAMS,
        handlers.update_account,
        connect_column=True,
    ),
    Operation(
        "GET",
        "/v1/accounts/{id}/capabilities",
        _ACCOUNT_READ,
        "capability",
        {"expand": "list"},
        handlers.list_capabilities,
        listed=True,
        connect_column=True,
    ),
    Operation(
        "GET",
        "/v1/accounts/{id}/capabilities/{capability}",
        _ACCOUNT_READ,
        "capability",
        RETRIEVE,
        handlers.get_capability,
        connect_column=True,
    ),
    Operation(
        "GET",
        "/v1/accounts/{id}/external_accounts",
        _ACCOUNT_READ,
        "bank_account",
        {"object": "text", **PAGING},
        handlers.list_external_accounts,
        listed=True,
        connect_column=True,
    ),
    Operation(
        "POST",
        "/v1/accounts/{id}/external_accounts",
        _ACCOUNT_WRITE,
        "bank_account",
        {
            "default_for_currency": "boolean",
            "expand": "list",
            "external_account": "token or object!",
            "metadata": "metadata",
        },
        handlers.create_external_account,
        connect_column=True,
    ),
    Operation(
        "GET",
        "/v1/balance_settings",
        "balance_settings_read",
        "balance_settings",
        RETRIEVE,
        handlers.get_balance_settings,
    ),
    Operation(
        "POST",
        "/v1/balance_settings",
        "balance_settings_write",
        "balance_settings",
        {"expand": "list", "payments": "object"},
        handlers.update_balance_settings,
    ),
    Operation(
        "POST",
        "/v2/core/accounts",
        _ACCOUNT_WRITE,
        "v2.core.account",
        accounts_v2.CREATE_PARAMS_V2,
        handlers.create_account_v2,
        connect_column=True,
    ),
    Operation(
        "GET",
        "/v2/core/accounts",
        _ACCOUNT_READ,
        "v2.core.account",
        accounts_v2.LIST_PARAMS,
        handlers.list_accounts_v2,
        listed=True,
        connect_column=True,
    ),
    Operation(
        "GET",
        "/v2/core/accounts/{id}",
        _ACCOUNT_READ,
        "v2.core.account",
        accounts_v2.RETRIEVE_PARAMS,
        handlers.get_account_v2,
        connect_column=True,
    ),
    Operation(
        "POST",
        "/v1/payment_intents",
        "payment_intent_write",
        "payment_intent",
        _CREATE_PAYMENT,
        handlers.create_payment_intent,
    ),
    _search("payment_intents", "payment_intent_read", "payment_intent", handlers.search_payment_intents),
    Operation(
        "GET",
        "/v1/payment_intents/{id}",
        "payment_intent_read",
        "payment_intent",
        RETRIEVE,
        handlers.get_payment_intent,
    ),
    Operation(
        "GET",
        "/v1/payment_intents",
        "payment_intent_read",
        "payment_intent",
        _CREATED,
        handlers.list_payment_intents,
        listed=True,
    ),
    # That refunds go with charges is an assumption, as the permissions' names below are.
    Operation(
        "GET",
        "/v1/refunds",
        "charge_read",
        "refund",
        {"charge": "text", **_CREATED},
        handlers.list_refunds,
        listed=True,
    ),
    *(
        Operation(
            "GET",
            f"/v1/{name}",
            permission,
            returns,
            {**_CREATED, **_ABSENT_FILTERS.get(name, {})},
            handlers.list_absent,
            listed=True,
        )
        for name, permission, returns in _ABSENT
    ),
    *(
        _search(name, permission, returns, handlers.search_absent)
        for name, permission, returns in _ABSENT
        if name in {"customers", "invoices", "products", "subscriptions"}
    ),
)
