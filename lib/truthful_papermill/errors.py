"""
Every refusal and failure of a run that a person can meet, with its remedy and exit code.

::

    ExplainedError            message, remedy, exit_code
    ├─ UsageError (2)         the person typed something that cannot be right
    │  ├─ ParameterError      one named parameter; field, found, expected
    │  └─ SettingsError       configuration or a secret
    │     └─ SecretError      a secret that cannot be kept out of the notebook
    ├─ RefusedError (3)       the notebook may not run; nothing ran
    └─ EvidenceError (5)      the notebook cannot be read, written or believed

Whoever runs notebooks adds classes of their own below these. Messages never hold secrets.
"""

from __future__ import annotations


class ExplainedError(Exception):
    """
    Base of everything that is refused or fails, told to a person.

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


class UsageError(ExplainedError):
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


class RefusedError(ExplainedError):
    """A gate said no before anything was done."""

    exit_code = 3


class EvidenceError(ExplainedError):
    """Evidence is missing, damaged or contradicts itself."""

    exit_code = 5


def where_secret(*variables: str) -> str:
    """Say on a terminal which *variables* hold the secret in question; those without a name are left out."""
    named = " and ".join(filter(None, variables))
    return f"The secret is in {named}." if named else ""


def shorten(value: object, limit: int = 80) -> str:
    """Show *value* on one line in at most *limit* characters, control characters escaped."""
    text = repr(value) if isinstance(value, str) else f"{value!r} ({type(value).__name__})"
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text)} characters)"
