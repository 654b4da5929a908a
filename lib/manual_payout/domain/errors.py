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

Only a `RefusedError` says that nothing moved. `books.as_it_is` puts another in its place where something has; whatever
lets one out of this software has asked it. Messages never hold secrets, local variables or request headers.
"""

from __future__ import annotations


class ManualPayoutError(Exception):
    """
    Base of everything this software refuses or fails at.

    Attributes:
        message: One sentence: what, which object, expected and found.

        remedy: One sentence: what the person does next.

        exit_code: The process exit code that this error becomes.

        aside: What is said on a terminal and never kept: it would help whoever reads the evidence to guess a secret.

        heading: What a tired operator reads first, where the exit code's own words would not fit; else empty.
    """

    exit_code = 1
    aside = ""
    heading = ""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message, remedy)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".strip()

    def _render_traceback_(self) -> list[str]:
        """Show the sentence alone in a notebook: a refusal is not a crash (IPython protocol)."""
        return [f"{self.title}: {self.message}", f"What to do: {self.remedy}"]

    @property
    def title(self) -> str:
        """What a tired operator reads first."""
        return self.heading or _TITLES.get(self.exit_code, "Failed")


_TITLES = {
    2: "Cannot start",
    3: "Refused, nothing moved",
    4: "Outcome unknown",
    5: "Evidence or database failure",
    6: "Not finished yet",
    7: "Moved, and did not arrive",
}


class UsageError(ManualPayoutError):
    """The command, its arguments or the configuration cannot be right."""

    exit_code = 2


class ParameterError(UsageError):
    """
    One parameter is wrong.

    Args:
        field: The parameter's name as the person typed it.

        found: What was given; shown shortened and with control characters escaped.

        expected: What would have been right.

        remedy: What to do next; a general sentence is used when empty.
    """

    def __init__(self, field: str, found: object, expected: str, remedy: str = "") -> None:
        self.field = field
        self.found = shorten(found)
        self.expected = expected
        super().__init__(
            f"{field}: found {self.found}, expected {expected}.",
            remedy or f"Correct {field} and run the command again.",
        )


class SettingsError(UsageError):
    """A setting or secret is missing, malformed or contradicts another."""


class SecretError(SettingsError):
    """
    A secret of this installation cannot be kept out of the evidence without destroying it.

    Args:
        variables: The environment variables that hold it; shown on a terminal alone.
    """

    def __init__(self, message: str, remedy: str, *variables: str) -> None:
        super().__init__(message, remedy)
        self.aside = where_secret(*variables)


class OtherValuesError(UsageError):
    """What was typed is not what was filed."""

    heading = "Other values than were filed"


class IntentConflictError(OtherValuesError):
    """
    The same ledger payout already has a request with other content.

    Args:
        field: The first field that differs.

        recorded: The value on record.

        found: The value given now.

        remedy: What to do next.
    """

    def __init__(self, field: str, recorded: object, found: object, remedy: str) -> None:
        self.field = field
        super().__init__(
            f"{field} differs from what is on record: recorded {shorten(recorded)}, found {shorten(found)}.",
            remedy,
        )


class RefusedError(ManualPayoutError):
    """A gate said no, and nothing of this payout has moved."""

    exit_code = 3


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
    """The transfer may exist. The only way on is ``manual-payout reconcile``."""

    exit_code = 4


class EvidenceError(ManualPayoutError):
    """Evidence is missing, damaged or contradicts itself."""

    exit_code = 5


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


def where_secret(*variables: str) -> str:
    """Say on a terminal which *variables* hold the secret in question; those without a name are left out."""
    named = " and ".join(filter(None, variables))
    return f"The secret is in {named}." if named else ""


def shorten(value: object, limit: int = 80) -> str:
    """Show *value* on one line in at most *limit* characters, control characters escaped."""
    text = repr(value) if isinstance(value, str) else f"{value!r} ({type(value).__name__})"
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text)} characters)"
