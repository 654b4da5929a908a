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
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from manual_payout.errors import ParameterError
from manual_payout.models import Reason
from manual_payout.money import Money, amount_text, check_payable, parse

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

# What step 7 of the SOP asks for on top; only 6-close declares them, the other stages tolerate them, so that one
# parameter file serves all six notebooks.
CLOSE_PARAMETERS = ("root_cause", "follow_ups", "automation_restored", "key_rotated_to")

_INCIDENT = re.compile(r"[A-Za-z][A-Za-z0-9]{0,15}-[A-Za-z0-9]{1,32}", re.ASCII)
_ACCOUNT = re.compile(r"acct_[A-Za-z0-9]{1,64}", re.ASCII)
_PERSON = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,99}", re.ASCII)
_CONFIRM = re.compile(r"[A-Z2-7]{4}-[A-Z2-7]{4}", re.ASCII)

# What opens a tag, a comment or a Slack control sequence. A lone "<3" in a studio's name is not markup.
_MARKUP = re.compile(r"<[A-Za-z/!?@#]|&#|javascript:", re.IGNORECASE)
_SECRET = re.compile(r"\b(?:sk|rk|rkcs|whsec)_(?:live_|test_)?[A-Za-z0-9]{8,}|xox[a-z]-[A-Za-z0-9-]{8,}")

NAME_LENGTH_MAX = 200
NOTES_LENGTH_MAX = 2000


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


def validate(values: Mapping[str, Any]) -> Parameters:
    """
    Check every parameter by itself.

    Args:
        values: By name; every name of `STAGE_PARAMETERS` must be there.

    Raises:
        ParameterError: Naming the first field that is wrong, what was found and what was expected.
    """
    refuse_unknown(values)
    for name in STAGE_PARAMETERS:
        if name not in values:
            raise ParameterError(name, "nothing", "a value", f"Give {name} a value and run again.")
    return Parameters(
        incident_id=_matching("incident_id", values["incident_id"], _INCIDENT, "a ticket id such as INC-123"),
        studio_id=_uuid("studio_id", values["studio_id"]),
        studio_name=check_text("studio_name", values["studio_name"], NAME_LENGTH_MAX),
        ledger_payout_id=_uuid("ledger_payout_id", values["ledger_payout_id"]),
        amount=_amount("amount", values["amount"]),
        reserve_after=amount_text(values["reserve_after"], field="reserve_after"),
        reason=_reason(values["reason"]),
        destination_account=_matching(
            "destination_account", values["destination_account"], _ACCOUNT, "a connected account such as acct_123"
        ),
        notes=check_text("notes", values["notes"], NOTES_LENGTH_MAX, empty=True),
        operator=_matching("operator", values["operator"], _PERSON, "the id, handle or email of a registered operator"),
        dry_run=_flag("dry_run", values["dry_run"]),
        confirm=_confirm(values["confirm"]),
    )


def refuse_unknown(values: Mapping[str, Any]) -> None:
    """
    Refuse a name that no stage declares, which papermill would inject with a mere warning.

    Raises:
        ParameterError: Naming it, and the name that was probably meant.
    """
    known = STAGE_PARAMETERS + CLOSE_PARAMETERS
    for name in values:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"Did you mean {near[0]}?" if near else f"The names are: {', '.join(known)}."
            raise ParameterError(name, values[name], "no parameter of that name", hint)


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
    bad = next((c for c in text if unicodedata.category(c) in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}), None)
    if bad is not None:
        name = unicodedata.name(bad, "control character")
        raise ParameterError(field, value, f"one line of plain text without U+{ord(bad):04X} ({name})")
    if match := _MARKUP.search(text):
        raise ParameterError(field, value, f"plain text without markup such as {match.group()!r}")
    if _SECRET.search(text):
        raise ParameterError(
            field,
            "[redacted]",
            "text without a key or token",
            f"Take it out of {field} and rotate that key: it was exposed.",
        )
    return text


def _matching(field: str, value: Any, pattern: re.Pattern[str], expected: str) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise ParameterError(field, value, expected)
    return value


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


def _reason(value: Any) -> Reason:
    try:
        return Reason(value)
    except ValueError:
        raise ParameterError("reason", value, f"one of {', '.join(Reason)}") from None


def _flag(field: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ParameterError(field, value, "true or false, not text")
    return value


def _confirm(value: Any) -> str:
    if value == "":
        return ""
    return _matching("confirm", value, _CONFIRM, "the code that the dry run printed, such as ABCD-2345, or nothing")
