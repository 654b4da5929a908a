"""What the rules are held against: facts that were gathered, each of which may be missing with a reason."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from manual_payout.desk.inventory import Inventory, Missing
from manual_payout.domain.models import Mode


@dataclass(frozen=True, slots=True)
class Studio:
    """How many manual payouts one studio had in the window."""

    studio_id: str
    name: str
    count: int


@dataclass(frozen=True, slots=True)
class Recent:
    """
    The manual payouts of the window, by one of the two sources.

    Attributes:
        count: In all; a payout that Stripe refused is none.

        studios: Those with more than one.
    """

    count: int
    studios: tuple[Studio, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """
    Our table and Stripe's list, held against each other.

    Attributes:
        at_stripe: The manual payouts by Stripe's list.

        outside: Transfers that neither our table nor the automation's mark explains: id and what is known of each.

        vanished: Transfers of our table that Stripe does not list: id and what is known of each.

        unmarked: How many transfers are not ours where no mark of the automation is configured, so that nobody can say
            whose they are.
    """

    at_stripe: Recent
    outside: tuple[tuple[str, str], ...]
    vanished: tuple[tuple[str, str], ...]
    unmarked: int


@dataclass(frozen=True, slots=True)
class OpenRequest:
    """A fallback request whose money has not moved yet."""

    request_id: str
    incident_id: str
    studio_name: str
    amount: str
    filed_at: datetime


@dataclass(frozen=True, slots=True)
class Pending:
    """
    A payout or a reversal that waits for something since an instant.

    Attributes:
        reversal: Whether money was to come back.
    """

    row_id: str
    incident_id: str
    studio_name: str
    amount: str
    state: str
    since: datetime
    reversal: bool = False

    @property
    def question(self) -> str:
        """What nobody knows of it, and the only command that finds out."""
        what = f"came back from {self.studio_name}" if self.reversal else f"moved for {self.studio_name}"
        command = f"manual-payout {'reversal ' if self.reversal else ''}reconcile {self.incident_id}"
        return f"whether {self.amount} {what} is {self.state} (`{command}`)"


@dataclass(frozen=True, slots=True)
class Undelivered:
    """
    What has not gone out by one channel that is configured.

    Attributes:
        refused: How many of them a provider refused, which nothing tries again.

        since: When the oldest was announced.
    """

    channel: str
    count: int
    refused: int
    since: datetime


@dataclass(frozen=True, slots=True)
class WatchedFacts:
    """
    Everything that the rules are held against, as it was at one instant.

    Attributes:
        pending: Outcomes that are not known, the oldest first.

        unsettled: Paid, neither arrived nor closed, the oldest first; of each, what the account of its money says.

        exposed_since: The first real payment or reversal after the last key rotation, or None.

        approvers: Handles of the people who may approve now.

        procedure: The digest of the numbered notebooks at hand.

        blind: What the following of settlement could not see.

        clocks: That this machine's clock and the database's disagree, in a sentence; empty where they agree.

        disbelieved: Messages that are not what the journal says was written: id, and what the row says it is.

        undelivered: What has not gone out, by channel.

        unwritten: Why messages that were announced have no text yet; no rule waits for it.
    """

    at: datetime
    mode: Mode
    recent: Recent
    comparison: Comparison | Missing
    requests: tuple[OpenRequest, ...] | Missing
    pending: tuple[Pending, ...]
    unsettled: tuple[Pending, ...]
    exposed_since: datetime | None
    inventory: Inventory | Missing
    approvers: tuple[str, ...]
    procedure: str
    clocks: str = ""
    disbelieved: tuple[tuple[str, str], ...] = ()
    undelivered: tuple[Undelivered, ...] = ()
    blind: tuple[Missing, ...] = ()
    unwritten: tuple[Missing, ...] = ()
