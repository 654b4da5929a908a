"""
Every refusal and failure that a person can meet, with its remedy and exit code.

::

    ManualPayoutError              message, remedy, exit_code
    ├─ UsageError (2)              the person typed something that cannot be right
    │  ├─ ParameterError           one named parameter; field, found, expected
    │  ├─ SettingsError            configuration or a secret
    │  │  └─ SecretError        a secret that cannot be kept out of the evidence
    │  └─ OtherValuesError         not the values that were filed
    │     └─ IntentConflictError   the same payout was requested with other content
    ├─ RefusedError (3)            a gate said no; nothing of this payout has moved
    │  ├─ PolicyRefusedError       the verification found a NO-GO
    │  ├─ ApprovalError            an approval is missing, stale, used or not theirs
    │  ├─ SignatureError           a signature is not by the key, over the bytes, for the purpose
    │  ├─ ClaimError               somebody else has, or has paid, the ledger payout
    │  └─ AttemptRefusedError      Stripe refused the attempt and no transfer exists; a StripeRefusedError too
    ├─ UnknownOutcomeError (4)     money may have moved: reconcile, never re-send
    ├─ EvidenceError (5)           the evidence or the database cannot be trusted
    │  └─ DatabaseError            the database did not do what was asked
    ├─ MovedBeforeError (5)        a gate said no, and the payout had moved before: it is on record
    ├─ NotFinishedError (6)        nothing is wrong, it just is not over yet
    ├─ StripeRefusedError (6)      Stripe did not answer a question; says nothing of the money
    └─ AstrayError (7)             moved, and did not arrive or came back: a person must act

The upper classes are those of `truthful_papermill.errors`, which its engine raises too. Only a `RefusedError` says that nothing moved. `books.as_it_is` puts another in its place where something has; whatever
lets one out of this software has asked it. Messages never hold secrets, local variables or request headers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from truthful_papermill.errors import (
    EvidenceError,
    ParameterError,
    RefusedError,
    SecretError,
    SettingsError,
    UsageError,
    shorten,
    where_secret,
)
from truthful_papermill.errors import ExplainedError as ManualPayoutError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from manual_payout.domain.models import Record

__all__ = [
    "ApprovalError",
    "AstrayError",
    "AttemptRefusedError",
    "ClaimError",
    "DatabaseError",
    "EvidenceError",
    "IntentConflictError",
    "ManualPayoutError",
    "MovedBeforeError",
    "NotFinishedError",
    "OtherValuesError",
    "ParameterError",
    "PolicyRefusedError",
    "RefusedError",
    "SecretError",
    "SettingsError",
    "SignatureError",
    "StripeRefusedError",
    "UnknownOutcomeError",
    "UsageError",
    "kind_of",
    "shorten",
    "where_secret",
]


class OtherValuesError(UsageError):
    """What was typed is not what was filed."""

    heading = "Other values than were filed"


class IntentConflictError(OtherValuesError):
    """
    The same ledger payout already has a request with other content.

    Args:
        differences: Of each field that differs its name, the value on record and the one given now.

        remedy: What to do next.
    """

    def __init__(self, differences: Sequence[tuple[str, object, object]], remedy: str) -> None:
        self.fields = tuple(name for name, _recorded, _found in differences)
        told = (f"recorded {shorten(recorded)}, found {shorten(found)}" for _name, recorded, found in differences)
        found = "; ".join(
            f"{name} differs from what is on record: {said}" for name, said in zip(self.fields, told, strict=True)
        )
        super().__init__(f"{found}.", remedy)


class PolicyRefusedError(RefusedError):
    """The verification ended in NO-GO."""


class ApprovalError(RefusedError):
    """An approval is missing, stale, used, altered or made by the wrong person."""


class SignatureError(RefusedError):
    """A signature is not by the expected key, over these bytes, for this purpose; or its key may not sign at that time."""


class ClaimError(RefusedError):
    """The ledger payout belongs to somebody else now: another operator, or the automation."""


class StripeRefusedError(ManualPayoutError):
    """
    Stripe said no, or did not answer; of the money this says nothing.

    Args:
        code: Stripe's error code, or an empty string where it gave none.

        request_id: Stripe's request id, for its support, or an empty string.
    """

    exit_code = 6
    heading = "Stripe did not answer the question"

    def __init__(self, message: str, remedy: str, *, code: str = "", request_id: str = "") -> None:
        super().__init__(message, remedy)
        self.code = code
        self.request_id = request_id


class AttemptRefusedError(RefusedError, StripeRefusedError):
    """Stripe refused an attempt, in a way that proves that it moved nothing; arguments as of `StripeRefusedError`."""

    heading = "Refused by Stripe, nothing moved"


class UnknownOutcomeError(ManualPayoutError):
    """
    The transfer may exist. The only way on is ``manual-payout reconcile``.

    Args:
        record: The row that says so, if one does: another run can have settled it by the time that a person is told.
    """

    exit_code = 4

    def __init__(self, message: str, remedy: str, *, record: Record | None = None) -> None:
        super().__init__(message, remedy)
        self.record = record


class DatabaseError(EvidenceError):
    """A database is unreachable, not migrated, or refused to keep its promise."""


class MovedBeforeError(ManualPayoutError):
    """A gate said no, and money of this payout had moved before; where it is, is on record."""

    exit_code = 5
    heading = "Refused now; the money had moved before"


class NotFinishedError(ManualPayoutError):
    """Nothing is wrong; the thing waited for has not happened yet."""

    exit_code = 6


class AstrayError(ManualPayoutError):
    """Money moved, and did not arrive or came back; a person must act, and nobody sends it again."""

    exit_code = 7


def kind_of(name: str) -> type[ManualPayoutError]:
    """Return the class of that name; a notebook that ended in anything else is evidence that does not say what happened."""
    kind = globals().get(name)
    return kind if isinstance(kind, type) and issubclass(kind, ManualPayoutError) else EvidenceError
