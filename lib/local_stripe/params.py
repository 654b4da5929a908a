"""
Parameters, form-encoded or JSON, read and judged as Stripe does before it executes anything.

Source: Stripe documentation, *Error codes* (parameter_missing, parameter_unknown, parameter_invalid_empty,
parameter_invalid_integer, amount_too_large) and *Metadata*.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from urllib.parse import parse_qsl

from local_stripe.errors import Json, RefusalError, invalid

# Every currency that Stripe takes (Stripe documentation, *Supported currencies*).
CURRENCIES = frozenset(
    """
    aed afn all amd ang aoa ars aud awg azn bam bbd bdt bgn bhd bif bmd bnd bob brl bsd bwp byn bzd cad cdf chf
    clp cny cop crc cve czk djf dkk dop dzd egp etb eur fjd fkp gbp gel gip gmd gnf gtq gyd hkd hnl htg huf idr
    ils inr isk jmd jod jpy kes kgs khr kmf krw kwd kyd kzt lak lbp lkr lrd lsl mad mdl mga mkd mmk mnt mop mur
    mvr mwk mxn myr mzn nad ngn nio nok npr nzd omr pab pen pgk php pkr pln pyg qar ron rsd rwf sar sbd scr sek
    sgd shp sle sos srd std szl thb tjs tnd top try ttd twd tzs uah ugx usd uyu uzs vnd vuv wst xaf xcd xof xpf
    yer zar zmw
    """.split()
)

# Twelve digits is the most that Stripe documents for an amount.
AMOUNT_MINOR_MAX = 999_999_999_999
LIMIT_DEFAULT = 10
LIMIT_MAX = 100
METADATA_KEYS_MAX = 50
METADATA_KEY_LENGTH_MAX = 40
METADATA_VALUE_LENGTH_MAX = 500

_NAME = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)")
# More digits than any integer here has are not read at all.
_INTEGER = re.compile(r"[+-]?[0-9]{1,30}", re.ASCII)
_RANGE = frozenset({"gt", "gte", "lt", "lte"})

# What a name may hold: one of the words below, with "!" where the parameter is required.
Spec = Mapping[str, str]

PAGING: Spec = {"limit": "limit", "starting_after": "text", "ending_before": "text", "expand": "list"}


def parse_form(encoded: str) -> Json:
    """
    Read ``a[b]=c`` and ``a[]=c`` into nested dictionaries and lists, all values text.

    Raises:
        RefusalError: A name is malformed or is used both as a value and as a container.
    """
    form: Json = {}
    for name, value in parse_qsl(encoded, keep_blank_values=True):
        match = _NAME.fullmatch(name)
        if match is None:
            raise _unknown(name)
        path = [match[1], *re.findall(r"\[([^\[\]]*)\]", match[2])]
        _put(form, path, value, name)
    return form


def parse_json(body: str) -> Json:
    """
    Read the JSON object in which v2 takes its parameters.

    Raises:
        RefusalError: It is none.
    """
    try:
        given = json.loads(body or "{}")
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, dict):
        raise invalid("The request body is not a JSON object.", code="invalid_fields", param="")
    return given


def check(form: Json, spec: Spec) -> Json:
    """
    Return *form* with every value read as *spec* says.

    Raises:
        RefusalError: The first thing wrong: unknown, then missing, then blank or malformed.
    """
    for name in form:
        if name not in spec:
            raise _unknown(name)
    for name, kind in spec.items():
        if kind.endswith("!") and name not in form:
            raise invalid(f"Missing required param: {name}.", code="parameter_missing", param=name)
    return {name: _read(name, value, spec[name].rstrip("!")) for name, value in form.items()}


def _put(form: Json, path: list[str], value: str, name: str) -> None:
    here = form
    for part in path[:-1]:
        here = here.setdefault(part, {})
        if not isinstance(here, dict):
            raise _unknown(name)
    # ``expand[]`` counts up, as ``expand[0]`` does of itself.
    last = path[-1] or str(len(here))
    if isinstance(here.get(last), dict):
        raise _unknown(name)
    here[last] = value


def _read(name: str, value: object, kind: str) -> object:
    if kind == "metadata":
        return _metadata(name, value)
    if kind == "token or object" and isinstance(value, str):
        return value
    if kind in {"object", "token or object"}:
        return _hash(name, value)
    if kind == "list":
        return _list(name, value)
    if kind == "range" and isinstance(value, dict):
        return _range(name, value)
    if not isinstance(value, str):
        raise _unknown(f"{name}[{next(iter(value))}]" if isinstance(value, dict) and value else name)
    if value == "" and kind != "clearable":
        raise _blank(name)
    return _scalar(name, value, kind)


def _scalar(name: str, value: str, kind: str) -> object:
    if kind in {"text", "clearable"}:
        return value
    if kind == "currency":
        return _currency(name, value)
    if kind == "boolean":
        if value not in {"true", "false"}:
            raise invalid(f"Invalid boolean: {value}", code="parameter_invalid_boolean", param=name)
        return value == "true"
    number = read_integer(name, value)
    if kind == "amount":
        return _amount(name, number)
    if kind == "limit":
        return _limit(name, number)
    return number


def _hash(name: str, value: object) -> Json:
    if not isinstance(value, dict):
        raise invalid("Invalid hash", code="", param=name)
    return value


def _list(name: str, value: object) -> list[str]:
    given = value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]
    items = [item for item in given if isinstance(item, str)]
    if len(items) < len(given):
        raise invalid("Invalid array", code="", param=name)
    return items


def _range(name: str, value: Json) -> dict[str, int]:
    for part in value:
        if part not in _RANGE:
            raise _unknown(f"{name}[{part}]")
    return {part: read_integer(f"{name}[{part}]", text) for part, text in value.items()}


def read_integer(name: str, value: object) -> int:
    """
    Read a whole number.

    Raises:
        RefusalError: parameter_invalid_integer.
    """
    if not isinstance(value, str) or not _INTEGER.fullmatch(value):
        raise invalid(f"Invalid integer: {value}", code="parameter_invalid_integer", param=name)
    return int(value)


def _amount(name: str, number: int) -> int:
    if number < 1:
        raise invalid("This value must be greater than or equal to 1.", code="parameter_invalid_integer", param=name)
    if number > AMOUNT_MINOR_MAX:
        raise invalid(f"Amount must be no more than {AMOUNT_MINOR_MAX}.", code="amount_too_large", param=name)
    return number


def _limit(name: str, number: int) -> int:
    if not 1 <= number <= LIMIT_MAX:
        raise invalid(f"This value must be between 1 and {LIMIT_MAX}.", code="parameter_invalid_integer", param=name)
    return number


def _currency(name: str, value: str) -> str:
    if value.lower() not in CURRENCIES:
        listed = ", ".join(sorted(CURRENCIES))
        raise invalid(
            f"Invalid currency: {value.lower()}. Stripe currently supports these currencies: {listed}",
            code="",
            param=name,
        )
    return value.lower()


def _metadata(name: str, value: object) -> dict[str, str] | str:
    """Return the pairs; or an empty text, which asks for all of them to be removed."""
    if value == "":
        return ""
    pairs = _hash(name, value)
    if not all(isinstance(text, str) for text in pairs.values()):
        raise invalid("Invalid hash", code="", param=name)
    if len(pairs) > METADATA_KEYS_MAX:
        raise invalid(f"Metadata can have at most {METADATA_KEYS_MAX} keys", code="", param=name)
    for key, text in pairs.items():
        if len(key) > METADATA_KEY_LENGTH_MAX:
            raise invalid(
                f"Metadata keys must be at most {METADATA_KEY_LENGTH_MAX} characters long", code="", param=name
            )
        if len(text) > METADATA_VALUE_LENGTH_MAX:
            raise invalid(
                f"Metadata values can have up to {METADATA_VALUE_LENGTH_MAX} characters, but you passed in a value "
                f"that is {len(text)} characters",
                code="parameter_invalid_string",
                param=f"{name}[{key}]",
            )
    return pairs


def merged_metadata(old: dict[str, str], new: dict[str, str] | str) -> dict[str, str]:
    """Apply an update of metadata: given keys replace, blank values and a blank whole remove."""
    if isinstance(new, str):
        return {}
    return {key: text for key, text in {**old, **new}.items() if text != ""}


def _unknown(name: str) -> RefusalError:
    return invalid(f"Received unknown parameter: {name}", code="parameter_unknown", param=name)


def _blank(name: str) -> RefusalError:
    return invalid(
        f"You passed an empty string for '{name}'. We assume empty values are an attempt to unset a field; however "
        f"'{name}' cannot be unset. You should remove '{name}' from your request or supply a non-empty value.",
        code="parameter_invalid_empty",
        param=name,
    )
