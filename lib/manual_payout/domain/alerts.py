"""What monitoring finds, and what is firing because of it: frozen, and without a word about who is told."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from manual_payout.domain.models import Mode


class Severity(StrEnum):
    """How grave an alert is, in PagerDuty's words (*Events API v2*); the gravest last."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """Counted from 0, so that severities can be compared."""
        return list(Severity).index(self)


@dataclass(frozen=True, slots=True)
class Finding:
    """
    One thing that a rule does not accept.

    Attributes:
        subject: What it is about: an id or a name, the same in every evaluation, at most 120 characters.

        summary: One sentence for people.

        value: The metric as it was found, with its unit.
    """

    subject: str
    summary: str
    value: str


@dataclass(frozen=True, slots=True)
class Alert:
    """
    A finding that was raised.

    Attributes:
        rule: The id of the rule.

        episode: Counted from 1: the same subject can be raised again after it was resolved.

        resolved_at: None while it is firing.
    """

    mode: Mode
    rule: str
    subject: str
    severity: Severity
    summary: str
    value: str
    episode: int
    raised_at: datetime
    resolved_at: datetime | None = None

    @property
    def key(self) -> str:
        """Names what it is about to PagerDuty: one alert there per mode, rule and subject."""
        return f"manual-payout/{self.mode}/{self.rule}/{self.subject}"

    def message_key(self, kind: str) -> str:
        """Name the one message of a kind that tells of this episode."""
        return f"alert/{self.mode}/{self.rule}/{self.subject}/{self.episode}/{kind}"


# The kinds of message that tell of an alert, each with the one that says it is over.
TELLING = {"page_raised": "page_cleared", "slack_raised": "slack_cleared"}


def monitoring_stream(mode: Mode) -> str:
    """Name the journal of monitoring."""
    return f"monitoring/{mode}"
