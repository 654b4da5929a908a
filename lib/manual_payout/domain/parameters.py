"""
The values a person types, validated exactly: one sentence per mistake.

The names are those of the SOP's helper script. The currency is not among them: it is the ledger's, and the amount is
read in it once the ledger payout is known.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import date
from typing import Any, TypeVar

from manual_payout.domain.errors import ParameterError
from manual_payout.domain.models import Line, Reason, Request
from manual_payout.domain.money import Money, amount_text, check_payable, parse
from truthful_papermill.plain_text import find_invisible, shown

# The parameters of every stage notebook, in the order of the SOP's flags.
STAGE_PARAMETERS = (
    "incident_id",
    "studio_id",
    "studio_name",
    "ledger_payout_id",
    "amount",
    "reserve_after",
    "reason",
    "destination_account",
    "notes",
    "operator",
    "dry_run",
    "confirm",
)

# What the request holds; left empty, each means *as filed*, so that no default is taken for something typed.
FILED_PARAMETERS = (
    "studio_id", "studio_name", "amount", "reserve_after", "reason", "destination_account", "notes",
)  # fmt: skip

# What the notebooks after the transfer declare: everything else was filed.
LATER_PARAMETERS = ("incident_id", "ledger_payout_id", "request_id", "operator", "dry_run")

# What any stage may be given; the request is found by the other two selectors, so that this one may be left out.
NOTEBOOK_PARAMETERS = (*STAGE_PARAMETERS, "request_id")

# What step 7 of the SOP asks for on top; only 6-close declares them, the other stages tolerate them, so that one
# parameter file serves all six notebooks.
CLOSE_PARAMETERS = ("root_cause", "follow_ups", "automation_restored", "key_rotated_to", "access_review_on")

# The parameters of the reversal notebook: everything else was filed, and is read from the request.
REVERSAL_PARAMETERS = ("incident_id", "request_id", "operator", "dry_run", "confirm")

# The parameters of the monitor's notebook.
MONITOR_PARAMETERS = ("operator", "dry_run")

# The parameters of the rehearsal's notebook.
REHEARSE_PARAMETERS = ("target", "folder", "drill")

_INCIDENT = re.compile(r"[A-Za-z][A-Za-z0-9]{0,15}-[A-Za-z0-9]{1,32}", re.ASCII)
_ACCOUNT = re.compile(r"acct_[A-Za-z0-9]{1,64}", re.ASCII)
_TRANSFER = re.compile(r"tr_[A-Za-z0-9_]{1,64}", re.ASCII)
_PERSON = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,99}", re.ASCII)
_CONFIRM = re.compile(r"[A-Z2-7]{4}-[A-Z2-7]{4}", re.ASCII)

# An id of the ledger's, whatever its type there: a number, a UUID, a ULID. Nothing in it means anything to a shell.
LEDGER_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:/+=@#~,%-]{0,63}", re.ASCII)
LEDGER_ID_EXPECTED = "an id of 1 to 64 letters, digits and -_.:/+=@#~,% as the ledger writes it"

# What opens a tag, a comment or a Slack control sequence. A lone "<3" in a studio's name is not markup.
_MARKUP = re.compile(r"<[A-Za-z/!?@#]|&#|javascript:", re.IGNORECASE)
_SECRET = re.compile(r"\b(?:sk|rk|rkcs|whsec)_(?:live_|test_)?[A-Za-z0-9]{8,}|xox[a-z]-[A-Za-z0-9-]{8,}")

_Check = Callable[[str, Any], Any]
V = TypeVar("V", bound="Parameters | ReversalParameters | MonitorParameters | RehearseParameters")

NAME_LENGTH_MAX = 1000
NOTES_LENGTH_MAX = 2000
CLOSE_LENGTH_MAX = 4000
PATH_LENGTH_MAX = 1000

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_LAST4 = re.compile(r"[A-Za-z0-9]{4}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Parameters:
    """The parameters of one run, each valid by itself."""

    incident_id: str
    studio_id: str
    studio_name: str
    ledger_payout_id: str
    amount: str
    reserve_after: str
    reason: Reason
    destination_account: str
    notes: str
    operator: str
    dry_run: bool
    confirm: str

    def amount_in(self, currency: str) -> Money:
        """Read the amount in *currency*, exactly; a payable amount above zero."""
        return check_payable(parse(self.amount, currency))

    def reserve_after_in(self, currency: str) -> Money:
        """Read the reserve that stays behind in *currency*, exactly; zero is allowed."""
        return parse(self.reserve_after, currency, field="reserve_after")

    def as_dict(self) -> dict[str, Any]:
        """The parameters as JSON scalars, for papermill."""
        values: dict[str, Any] = {name: getattr(self, name) for name in STAGE_PARAMETERS}
        return values | {"reason": self.reason.value}


@dataclass(frozen=True, slots=True)
class ReversalParameters:
    """The parameters of one run of a reversal, each valid by itself."""

    incident_id: str
    request_id: str
    operator: str
    dry_run: bool
    confirm: str

    def as_dict(self) -> dict[str, Any]:
        """The parameters as JSON scalars, for papermill."""
        return {name: getattr(self, name) for name in REVERSAL_PARAMETERS}


@dataclass(frozen=True, slots=True)
class MonitorParameters:
    """The checked values of one run of the monitor."""

    operator: str
    dry_run: bool


@dataclass(frozen=True, slots=True)
class RehearseParameters:
    """
    The checked values of one rehearsal.

    Attributes:
        target: Where it is played; which targets there are is the rehearsal's to say.

        folder: A new folder, below ``outputs/rehearsals`` unless absolute; empty for one that is named by the present time.

        drill: Whether the faults are played too.
    """

    target: str
    folder: str
    drill: bool


def validate(values: Mapping[str, Any], kind: type[V] = Parameters) -> V:  # type: ignore[assignment]  # what most notebooks have
    """
    Check every parameter by itself.

    Args:
        values: By name; every field of *kind* must be there.

        kind: The notebook's kind of parameters.

    Raises:
        ParameterError: Naming the first field that is wrong or missing, what was found and what was expected.
    """
    names = tuple(one.name for one in fields(kind))
    refuse_unknown(values, STAGE_PARAMETERS + CLOSE_PARAMETERS if kind is Parameters else names)
    for name in names:
        if name not in values:
            raise ParameterError(name, "nothing", "a value", f"Give {name} a value and run again.")
    return kind(**{name: check(name, values[name]) for name in names})


def check_typed(values: Mapping[str, Any]) -> dict[str, Any]:
    """
    Check what was typed of `NOTEBOOK_PARAMETERS`, each by itself.

    Returns:
        It; what was left empty of `FILED_PARAMETERS` and ``request_id`` is not among it.

    Raises:
        ParameterError: One is wrong, or a selector is missing.
    """
    for name in LATER_PARAMETERS:
        if name not in values and name != "request_id":
            raise ParameterError(name, "nothing", "a value", f"Give {name} a value and run again.")
    return {
        name: check(name, values[name])
        for name in NOTEBOOK_PARAMETERS
        if name in values and not (name in (*FILED_PARAMETERS, "request_id") and values[name] == "")
    }


def filed_values(request: Request, line: Line) -> dict[str, Any]:
    """Return the values of `FILED_PARAMETERS` as they were filed."""
    return {
        "studio_id": line.studio_id,
        "studio_name": line.studio_name,
        "amount": line.amount.text,
        "reserve_after": line.reserve_after.text,
        "reason": request.reason.value,
        "destination_account": line.destination_account,
        "notes": request.notes,
    }


def validate_closing(values: Mapping[str, Any]) -> dict[str, Any]:
    """
    Check what step 7 of the SOP asks for; what is missing is an open item, not a mistake.

    Returns:
        The parameters of `CLOSE_PARAMETERS` that were given.

    Raises:
        ParameterError: One is wrong.
    """
    return {name: check(name, values[name]) for name in CLOSE_PARAMETERS if name in values}


def check(name: str, value: Any) -> Any:
    """
    Check one parameter by itself.

    Args:
        name: One of `STAGE_PARAMETERS` and `CLOSE_PARAMETERS`.

    Returns:
        The value in its one form, such as an amount without commas.

    Raises:
        ParameterError: Naming what was found and what was expected.
    """
    _refuse_secret(name, value)
    return _CHECKS[name](name, value)


def refuse_unknown(values: Mapping[str, Any], known: tuple[str, ...] = STAGE_PARAMETERS + CLOSE_PARAMETERS) -> None:
    """
    Refuse a name that no stage declares, which papermill would inject with a mere warning.

    Raises:
        ParameterError: Naming it, and the name that was probably meant.
    """
    for name, value in values.items():
        if name not in known:
            _refuse_secret(name, value)
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"Did you mean {near[0]}?" if near else f"The names are: {', '.join(known)}."
            raise ParameterError(shown(name), value, "no parameter of that name", hint)


def check_text(field: str, value: Any, length_max: int, *, empty: bool = False) -> str:
    """
    Return free text in NFC if it is safe to show on one line anywhere.

    Raises:
        ParameterError: It is not text, empty where it may not be, too long, holds control, format or bidirectional
            characters, markup, or what looks like a secret.
    """
    if not isinstance(value, str):
        raise ParameterError(field, value, "text")
    text = unicodedata.normalize("NFC", value)
    if not text.strip() and not empty:
        raise ParameterError(field, value, "text that is not empty")
    if text != text.strip():
        raise ParameterError(field, value, "text without spaces at its ends")
    if len(text) > length_max:
        raise ParameterError(
            field, value, f"at most {length_max} characters", f"Shorten {field}; details belong in the ticket."
        )
    bad = find_invisible(text)
    if bad is not None:
        name = unicodedata.name(bad, "control character")
        raise ParameterError(field, value, f"one line of plain text without U+{ord(bad):04X} ({name})")
    if match := _MARKUP.search(text):
        raise ParameterError(field, value, f"plain text without markup such as {match.group()!r}")
    _refuse_secret(field, text)
    return text


def _refuse_secret(field: str, value: Any) -> None:
    # Before anything else, since every other refusal quotes what it found.
    if isinstance(value, str) and _SECRET.search(value):
        raise ParameterError(
            shown(field),
            "[redacted]",
            "text without a key or token",
            f"Take it out of {shown(field)} and rotate that key: it was exposed.",
        )


def _matching(field: str, value: Any, pattern: re.Pattern[str], expected: str) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise ParameterError(field, value, expected)
    return value


def _incident(field: str, value: Any) -> str:
    # A ticket's key has no case of its own: two spellings would be two incidents, and two payouts.
    return _matching(field, value, _INCIDENT, "a ticket id such as INC-123").upper()


def _ledger_id(field: str, value: Any) -> str:
    # papermill and YAML read digits as a number.
    text = str(value) if type(value) is int else value
    return _matching(field, text, LEDGER_ID, LEDGER_ID_EXPECTED)


def _uuid(field: str, value: Any) -> str:
    expected = "a UUID such as 3f2b8c1e-9d4a-4c57-8e21-0a6b5d7f9c10"
    if not isinstance(value, str):
        raise ParameterError(field, value, expected)
    try:
        parsed = uuid.UUID(value)
    except ValueError:
        raise ParameterError(field, value, expected) from None
    if str(parsed) != value.lower():
        raise ParameterError(field, value, expected)
    return str(parsed)


def _amount(field: str, value: Any) -> str:
    text = amount_text(value, field=field)
    if not text.strip("0."):
        raise ParameterError(field, value, "an amount above zero")
    return text


def _reason(field: str, value: Any) -> Reason:
    try:
        return Reason(value)
    except ValueError:
        near = difflib.get_close_matches(str(value), list(Reason), n=1)
        raise ParameterError(
            field, value, f"one of {', '.join(Reason)}", f"Did you mean {near[0]}?" if near else ""
        ) from None


def _day(field: str, value: Any) -> str:
    text = _matching(field, value, _DATE, "a date such as 2026-04-20")
    try:
        date.fromisoformat(text)
    except ValueError:
        raise ParameterError(field, value, "a date that exists, such as 2026-04-20") from None
    return text


def _flag(field: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ParameterError(field, value, "true or false, not text")
    return value


def _or_nothing(check_one: _Check) -> _Check:
    return lambda field, value: "" if value == "" else check_one(field, value)


def _as(pattern: re.Pattern[str], expected: str) -> _Check:
    return lambda field, value: _matching(field, value, pattern, expected)


def _text(length_max: int, *, empty: bool = False) -> _Check:
    return lambda field, value: check_text(field, value, length_max, empty=empty)


_CHECKS: dict[str, _Check] = {
    "incident_id": _incident,
    "studio_id": _ledger_id,
    "request_id": _uuid,
    "studio_name": _text(NAME_LENGTH_MAX),
    "ledger_payout_id": _ledger_id,
    "amount": _amount,
    "reserve_after": lambda field, value: amount_text(value, field=field),
    "reason": _reason,
    "destination_account": _as(_ACCOUNT, "a connected account such as acct_123"),
    "stripe_transfer_id": _as(_TRANSFER, "a transfer such as tr_1NwVxQ"),
    "adopt": _as(_TRANSFER, "a transfer such as tr_1NwVxQ"),
    "acknowledge": _as(_TRANSFER, "a transfer such as tr_1NwVxQ"),
    "notes": _text(NOTES_LENGTH_MAX, empty=True),
    "operator": _as(_PERSON, "the id, handle or email of a registered operator"),
    "dry_run": _flag,
    "target": _text(NAME_LENGTH_MAX),
    "folder": _text(PATH_LENGTH_MAX, empty=True),
    "drill": _flag,
    "confirm": _or_nothing(_as(_CONFIRM, "the code that the dry run printed, such as ABCD-2345, or nothing")),
    "root_cause": _text(CLOSE_LENGTH_MAX, empty=True),
    "follow_ups": _text(CLOSE_LENGTH_MAX, empty=True),
    "automation_restored": _flag,
    "key_rotated_to": _or_nothing(_as(_LAST4, "the last four characters of the new key")),
    "access_review_on": _or_nothing(_day),
}
