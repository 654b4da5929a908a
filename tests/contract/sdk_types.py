"""
Judges JSON and parameters by the type annotations of the installed Stripe SDK.

The SDK says what each resource holds: which fields, which may be null, which words an enumeration has. Two of its
habits need interpreting: an expandable field is an id or the object itself, and an open enumeration is written
``Union[Literal[...], str]``, of which this judge accepts the listed words only.
"""

from __future__ import annotations

import importlib
import sys
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Literal, NotRequired, Required, Union, get_args, get_origin, get_type_hints

import stripe
import typing_extensions
from stripe import ListObject, StripeObject
from stripe._stripe_object import UntypedStripeObject

_UNIONS = (Union, types.UnionType)
_LITERALS = (Literal, typing_extensions.Literal)
_REQUEST_OPTIONS = frozenset(
    {
        "api_key",
        "stripe_version",
        "stripe_account",
        "stripe_context",
        "max_network_retries",
        "idempotency_key",
        "content_type",
        "headers",
    }
)


def check_resource(
    json: dict[str, Any], cls: type[StripeObject], *, omitted: Mapping[type[Any], frozenset[str]] | None = None
) -> list[str]:
    """
    Return what is wrong with *json* as a resource of *cls*, one finding for each field; nothing is an empty list.

    Args:
        omitted: For each class the fields that may be absent; the table of what Stripe leaves out if None.
    """
    return _Judge(omitted_by_stripe() if omitted is None else omitted).object(json, cls, cls.__name__)


def check_envelope(
    json: dict[str, Any], item: type[StripeObject], *, omitted: Mapping[type[Any], frozenset[str]] | None = None
) -> list[str]:
    """Return what is wrong with *json* as one page of a list, each item of which should be an *item*."""
    return _Judge(omitted_by_stripe() if omitted is None else omitted).envelope(json, item, "list")


def check_params(params: dict[str, Any], typed_dict: type[Any]) -> list[str]:
    """
    Return what is wrong with *params* as an argument of the SDK method that takes *typed_dict*.

    Args:
        typed_dict: For example ``stripe.params.TransferCreateParams``.
    """
    return _params(params, typed_dict, typed_dict.__name__)


@cache
def fields_of(cls: type[Any]) -> dict[str, Any]:
    """Return the annotated fields of an SDK class and of its bases, forward references resolved."""
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        if base.__module__.startswith("stripe") and base not in _PLAIN and "__annotations__" in vars(base):
            hints = get_type_hints(base, localns=_names(base), include_extras=True)
            found |= {name: hints[name] for name in vars(base)["__annotations__"] if _is_field(name, hints[name])}
    return found


_PLAIN = frozenset(StripeObject.__mro__)


def _is_field(name: str, hint: Any) -> bool:
    return not name.startswith("_") and get_origin(hint) is not ClassVar


def _names(cls: type[Any]) -> dict[str, Any]:
    """What a forward reference inside *cls* may name: the classes nested around it, then the SDK's own."""
    module = sys.modules[cls.__module__]
    names: dict[str, Any] = dict(_sdk_names())
    names |= vars(module)
    scope: Any = module
    for part in cls.__qualname__.split("."):
        scope = getattr(scope, part)
        names |= {name: value for name, value in vars(scope).items() if isinstance(value, type)}
    return names


@cache
def _sdk_names() -> dict[str, Any]:
    """
    Every public class of the SDK by its bare name.

    Annotations name classes that are imported for type checkers only, under their bare or an aliased name.
    """
    names: dict[str, Any] = {}
    for package in ("stripe", "stripe.issuing", "stripe.radar", "stripe.treasury", "stripe.tax", "stripe.params"):
        module = importlib.import_module(package)
        for name in getattr(module, "__all__", None) or _lazy_names(module):
            value = getattr(module, name, None)
            if isinstance(value, type) or hasattr(value, "__annotations__"):
                names.setdefault(name, value)
    return names | {
        "CardResource": stripe.Card,
        "DisputeResource": stripe.Dispute,
        "IssuingDisputeResource": importlib.import_module("stripe.issuing").Dispute,
    }


def _lazy_names(module: types.ModuleType) -> list[str]:
    return [*vars(module), *getattr(module, "_import_map", {})]


@dataclass(frozen=True)
class _Judge:
    """Compares values with annotations; *omitted* says what may be absent."""

    omitted: Mapping[type[Any], frozenset[str]]

    def object(self, json: Any, cls: type[Any], at: str) -> list[str]:
        if not isinstance(json, dict):
            return [f"{at}: found {_kind(json)}, expected {cls.__name__}"]
        fields, may_lack = fields_of(cls), self.omitted.get(cls, frozenset())
        findings = [f"{at}.{name}: unknown to the SDK" for name in json if name not in fields]
        for name, hint in fields.items():
            if name in json:
                findings += self.value(json[name], hint, f"{at}.{name}")
            elif name not in may_lack:
                findings.append(f"{at}.{name}: missing")
        return findings

    def value(self, value: Any, hint: Any, at: str) -> list[str]:  # noqa: PLR0911  # One for each kind of annotation.
        origin, arguments = get_origin(hint), get_args(hint)
        if origin in _UNIONS:
            return self.union(value, arguments, at)
        if origin in _LITERALS:
            known = any(value == word and type(value) is type(word) for word in arguments)
            return [] if known else [f"{at}: found {value!r}, expected one of {', '.join(map(str, arguments))}"]
        if origin is list:
            return self.items(value, arguments[0], at)
        if origin is ListObject:
            return self.envelope(value, arguments[0], at)
        if origin in {dict, UntypedStripeObject} or hint is UntypedStripeObject:
            return self.mapping(value, (arguments or (Any,))[-1], at)
        if isinstance(hint, type) and issubclass(hint, StripeObject):
            return self.object(value, hint, at)
        return _plain(value, hint, at)

    def union(self, value: Any, hints: tuple[Any, ...], at: str) -> list[str]:
        if value is None:
            return [] if type(None) in hints else [f"{at}: found null, which the SDK does not expect"]
        words = [hint for hint in hints if get_origin(hint) in _LITERALS]
        if words and isinstance(value, str):
            return self.value(value, words[0], at)
        candidates = [hint for hint in hints if hint is not type(None)]
        if isinstance(value, dict):
            # Among the classes that an expanded field may hold, the one that the object says it is.
            named = [hint for hint in candidates if getattr(hint, "OBJECT_NAME", None) == value.get("object", "")]
            candidates = named or candidates
        return min((self.value(value, hint, at) for hint in candidates), key=len)

    def items(self, value: Any, hint: Any, at: str) -> list[str]:
        if not isinstance(value, list):
            return [f"{at}: found {_kind(value)}, expected a list"]
        return [finding for n, item in enumerate(value) for finding in self.value(item, hint, f"{at}[{n}]")]

    def mapping(self, value: Any, hint: Any, at: str) -> list[str]:
        if not isinstance(value, dict):
            return [f"{at}: found {_kind(value)}, expected an object"]
        return [finding for name, item in value.items() for finding in self.value(item, hint, f"{at}[{name}]")]

    def envelope(self, value: Any, hint: Any, at: str) -> list[str]:
        if not isinstance(value, dict):
            return [f"{at}: found {_kind(value)}, expected a list object"]
        expected = {"object": str, "data": list, "has_more": bool, "url": str}
        findings = [f"{at}.{name}: unknown to the SDK" for name in value if name not in expected]
        for name, kind in expected.items():
            if name not in value:
                findings.append(f"{at}.{name}: missing")
            elif type(value[name]) is not kind:
                findings.append(f"{at}.{name}: found {_kind(value[name])}, expected {kind.__name__}")
        if value.get("object", "list") != "list":
            findings.append(f"{at}.object: found {value['object']!r}, expected list")
        return findings + (self.items(value["data"], hint, f"{at}.data") if "data" in value else [])


def _plain(value: Any, hint: Any, at: str) -> list[str]:
    if hint is Any or (hint is float and type(value) is int):
        return []
    return [] if type(value) is hint else [f"{at}: found {_kind(value)}, expected {getattr(hint, '__name__', hint)}"]


def _kind(value: Any) -> str:
    return "null" if value is None else type(value).__name__


@cache
def omitted_by_stripe() -> dict[type[Any], frozenset[str]]:
    """
    Return, for each class, the fields that Stripe leaves out of some or all answers, with the reason.

    Raises:
        ValueError: The table names a field that the SDK does not know (any more).
    """
    account, charge, intent, balance = stripe.Account, stripe.Charge, stripe.PaymentIntent, stripe.Balance
    lookup: dict[type[Any], frozenset[str]] = {
        # One of them is there, according to the business type, and only with the right to see persons.
        account: frozenset({"company", "individual", "groups", "deleted"}),
        # Only in the countries, or for the businesses, that they exist for.
        account.BusinessProfile: frozenset({"monthly_estimated_revenue", "specified_commercial_transactions_act_url"}),
        # Only capabilities that were requested.
        account.Capabilities: frozenset(fields_of(account.Capabilities)),
        # "type" alone where the account controls itself.
        account.Controller: _all_but(account.Controller, "type"),
        account.Settings: frozenset({"paypay_payments", "treasury"}),
        account.Settings.CardIssuing.TosAcceptance: frozenset({"user_agent"}),
        # Anchors only for weekly and monthly schedules.
        account.Settings.Payouts.Schedule: _all_but(account.Settings.Payouts.Schedule, "interval", "delay_days"),
        account.Settings.SepaDebitPayments: frozenset({"creditor_id"}),
        # "deleted" only once it is; the other owner of a bank account is a customer.
        stripe.BankAccount: frozenset({"customer", "deleted"}),
        # Only the source types in which there is a balance; none at all where they make no difference.
        balance.Available.SourceTypes: frozenset({"bank_account", "fpx"}),
        balance.ConnectReserved: frozenset({"source_types"}),
        balance.InstantAvailable: frozenset({"net_available"}),
        balance.InstantAvailable.SourceTypes: frozenset({"bank_account", "fpx"}),
        balance.Issuing.Available: frozenset({"source_types"}),
        balance.Pending.SourceTypes: frozenset({"bank_account", "fpx"}),
        balance.RefundAndDisputePrefunding.Available.SourceTypes: frozenset({"bank_account", "fpx"}),
        balance.RefundAndDisputePrefunding.Pending.SourceTypes: frozenset({"bank_account", "fpx"}),
        # "refunds" only when expanded since 2022-11-15; "transfer" only for destination charges; "level3" and
        # "authorization_code" only for card businesses that have them.
        charge: frozenset({"authorization_code", "level3", "refunds", "transfer"}),
        charge.FraudDetails: frozenset(fields_of(charge.FraudDetails)),
        # Only with Radar for Fraud Teams.
        charge.Outcome: frozenset({"risk_score", "rule"}),
        # One key, named by "type".
        charge.PaymentMethodDetails: _all_but(charge.PaymentMethodDetails, "type"),
        # Only for businesses that are enabled for them.
        charge.PaymentMethodDetails.Card: frozenset(
            {
                "capture_before",
                "description",
                "electronic_commerce_indicator",
                "extended_authorization",
                "iin",
                "incremental_authorization",
                "issuer",
                "moto",
                "multicapture",
                "overcapture",
                "setup_credential_usage",
                "stored_credential_usage",
            }
        ),
        charge.RadarOptions: frozenset({"session"}),
        intent: frozenset({"hooks", "payment_details"}),
        intent.AmountDetails: _all_but(intent.AmountDetails, "tip"),
        intent.AmountDetails.Tip: frozenset({"amount"}),
        intent.PaymentMethodOptions: frozenset(fields_of(intent.PaymentMethodOptions)),
        # An error carries what concerns it; "type" and "message" are always there.
        stripe.ErrorObject: _all_but(stripe.ErrorObject, "type", "message"),
        # Only for refunds by bank transfer, by mail, or that wait or failed.
        stripe.Refund: frozenset(
            {
                "description",
                "destination_details",
                "failure_balance_transaction",
                "failure_reason",
                "instructions_email",
                "next_action",
                "pending_reason",
                "presentment_details",
            }
        ),
    }
    for cls, names in lookup.items():
        if unknown := names - set(fields_of(cls)):
            raise ValueError(f"{cls.__qualname__}: the SDK does not know {', '.join(sorted(unknown))}")
    return lookup


def _all_but(cls: type[Any], *kept: str) -> frozenset[str]:
    return frozenset(fields_of(cls)) - set(kept)


def _params(params: Any, typed_dict: type[Any], at: str) -> list[str]:
    if not isinstance(params, dict):
        return [f"{at}: found {_kind(params)}, expected an object"]
    hints = param_hints(typed_dict)
    findings = [f"{at}.{name}: unknown to the SDK" for name in params if name not in hints]
    for name, hint in hints.items():
        if name in params:
            findings += _param(params[name], hint, f"{at}.{name}")
        elif get_origin(hint) not in {NotRequired, typing_extensions.NotRequired} and name not in _REQUEST_OPTIONS:
            findings.append(f"{at}.{name}: missing")
    return findings


@cache
def param_hints(typed_dict: type[Any]) -> dict[str, Any]:
    """Return the parameters of an SDK method, forward references resolved, without the options of the request."""
    module = sys.modules[typed_dict.__module__]
    hints = get_type_hints(typed_dict, localns={**vars(typing), **_sdk_names(), **vars(module)}, include_extras=True)
    return {name: hint for name, hint in hints.items() if name not in _REQUEST_OPTIONS}


def _param(value: Any, hint: Any, at: str) -> list[str]:
    if get_origin(hint) in {NotRequired, typing_extensions.NotRequired, Required, typing_extensions.Required}:
        hint = get_args(hint)[0]
    if get_origin(hint) in _UNIONS:
        words = [part for part in get_args(hint) if get_origin(part) in _LITERALS]
        parts = words if words and isinstance(value, str) else get_args(hint)
        return min((_param(value, part, at) for part in parts), key=len)
    if typing.is_typeddict(hint) or typing_extensions.is_typeddict(hint):
        return _params(value, hint, at)
    if get_origin(hint) is list:
        if not isinstance(value, list):
            return [f"{at}: found {_kind(value)}, expected a list"]
        return [finding for n, item in enumerate(value) for finding in _param(item, get_args(hint)[0], f"{at}[{n}]")]
    return _Judge({}).value(value, hint, at)
