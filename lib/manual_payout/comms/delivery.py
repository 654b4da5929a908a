"""
Deliver the outbox: at least once, and not twice where the provider lets us know.

A message is claimed, tried once, and its fate recorded; a failed one waits twice as long each time. What was handed
over without an answer is in doubt: the provider is asked before it is sent again, and where it cannot be asked, the
repetition is counted. Nothing in here ever raises for a provider's sake: the payout goes on whatever becomes of its
messages.
"""

from __future__ import annotations

import os
import socket
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property

from manual_payout.comms.courier import Absent, Courier, Delayed, Delivered, Lookup, MessageRefused, Outcome, Unknowable
from manual_payout.comms.wiring import objection, open_courier
from manual_payout.database.store import Store
from manual_payout.desk.settings import Settings
from manual_payout.domain.errors import ClaimError
from manual_payout.domain.models import Channel, Message
from truthful_papermill.redaction import Redactor

# One try: a claim, a handful of network steps of up to `timeout_s` each, a record.
LEASE_S = 180.0

# The first pause is long enough for a hiccup; an hour is as long as anybody should wait once the service is back.
PAUSE_FIRST_S = 30.0
DELIVERY_PAUSE_MAX_S = 3600.0

# A provider that failed so often in a row is down, not unlucky; the rest of its messages wait for the next round.
_FAILURES_MAX = 3

# Longer than any provider's stated limits last.
_RETRY_AFTER_MAX_S = 24 * 3600.0

# Whoever has to wake up comes first.
_ORDER = (Channel.PAGERDUTY, Channel.SLACK, Channel.EMAIL)

_BATCH = 100

# A row that says something else, to somebody else, or that nobody wrote: whoever can write into the table sends nothing by it.
_DISBELIEVED = MessageRefused(
    "It is not the message that the journal says was written, and was not sent: somebody changed the database."
)


@dataclass
class DeliveryRound:
    """
    One go through what is due.

    Attributes:
        delivered: How many messages their provider took, or turned out to have.

        delayed: How many wait for another try.

        refused: How many a person has to look after.
    """

    delivered: int = 0
    delayed: int = 0
    refused: int = 0
    failures: Counter[Channel] = field(default_factory=Counter)

    def rests(self, channel: Channel) -> bool:
        """Whether a channel is left alone for the remainder of the round."""
        return self.failures[channel] >= _FAILURES_MAX

    def count(self, message: Message, outcome: Outcome) -> None:
        """Take one outcome into account."""
        if isinstance(outcome, Delivered):
            self.delivered += 1
            self.failures[message.channel] = 0
        elif isinstance(outcome, MessageRefused):
            self.refused += 1
        else:
            self.delayed += 1
            limited = outcome.retry_after_s is not None
            self.failures[message.channel] += _FAILURES_MAX if limited else 1

    def followed_by(self, later: DeliveryRound) -> DeliveryRound:
        """Return this one and a later one, counted together."""
        return DeliveryRound(
            self.delivered + later.delivered,
            self.delayed + later.delayed,
            self.refused + later.refused,
            self.failures + later.failures,
        )


@dataclass
class Postroom:
    """
    Where the outbox is emptied.

    Args:
        actor: In whose name the journal is written.

        couriers: By channel; wired from the settings where none are given.

    Raises:
        SettingsError: A messenger's secret is too short to be taken out of what a provider answers. Found out after the
            provider has the message, that would leave no receipt, and the message would go out again with every run.
    """

    settings: Settings
    store: Store
    actor: str
    couriers: Mapping[Channel, Courier] | None = None
    lease_s: float = LEASE_S

    def __post_init__(self) -> None:
        # A server may quote what it was sent.
        self._redactor = Redactor(self.settings.messenger_secrets())

    def deliver(self, payout_id: str | None = None, *, at_once: bool = False) -> DeliveryRound:
        """
        Try everything that is due, once.

        Args:
            payout_id: Only the messages of this payout.

            at_once: Do not wait out the pause after a failed try.

        Raises:
            DatabaseError: Ours does not answer.
        """
        done = DeliveryRound()
        # By channel, so that a thousand messages to a service that is down cannot hide those to another.
        for channel in _ORDER:
            self._empty(channel, payout_id, done, at_once=at_once)
        return done

    def _empty(self, channel: Channel, payout_id: str | None, done: DeliveryRound, *, at_once: bool) -> None:
        batch = self._due(channel, payout_id, at_once=at_once)
        while batch:
            before = done.delivered
            for message in batch:
                if done.rests(channel):
                    return
                held = self.store.claim_message(message, owner=_owner(), lease_s=self.lease_s)
                if held is not None:
                    self._record(held, self._attempt(held), done)
            # What is delivered lets the next message about its payout go. What failed just now waits out its pause.
            more = done.delivered > before or len(batch) == _BATCH
            batch = self._due(channel, payout_id, at_once=False) if more else []

    def _due(self, channel: Channel, payout_id: str | None, *, at_once: bool) -> list[Message]:
        return self.store.due_messages(self.settings.mode, channel, payout_id, at_once=at_once, limit=_BATCH)

    def _attempt(self, held: Message) -> Outcome:
        in_doubt = held.handed_over_at is not None
        if not self.store.is_as_written(held, self._prepared):
            return _DISBELIEVED
        if why := objection(self.settings, held):
            return Delayed(why, in_doubt=in_doubt)
        try:
            courier = self._courier(held.channel)
        except Exception as error:  # noqa: BLE001  # as below: a proxy that a client cannot use, say; nothing was handed over
            return Delayed(f"The client cannot be made ({type(error).__name__}).", in_doubt=in_doubt)
        if courier is None:
            return Delayed("Nothing is configured to send it any more.", in_doubt=in_doubt)
        return self._try(held, courier, in_doubt=in_doubt)

    def _try(self, held: Message, courier: Courier, *, in_doubt: bool) -> Outcome:
        try:
            if in_doubt:
                finding = courier.find(held)
                if not isinstance(finding, Absent | Unknowable):
                    return finding
                held = self._absent(held, finding)
            return courier.send(held, lambda: self._hand_over(held))
        except ClaimError as error:
            return Delayed(error.message, in_doubt=in_doubt)
        except Exception as error:  # noqa: BLE001  # a fault in a client must not stop a payout; what it did is unknown
            return Delayed(f"The client failed ({type(error).__name__}).", in_doubt=True)

    def _absent(self, held: Message, finding: Lookup) -> Message:
        return self.store.record_absence(held) if isinstance(finding, Absent) else held

    def _hand_over(self, held: Message) -> None:
        self.store.record_handing_over(held, lease_s=self.lease_s, actor=self.actor)

    def _record(self, held: Message, outcome: Outcome, done: DeliveryRound) -> None:
        done.count(held, outcome)
        if isinstance(outcome, Delivered):
            receipt = {name: self._redactor.redact(said) for name, said in outcome.receipt.items()}
            self.store.record_delivered(held, receipt, actor=self.actor)
            return
        reason = self._redactor.redact(outcome.reason)
        refused = isinstance(outcome, MessageRefused)
        asked = outcome.retry_after_s if isinstance(outcome, Delayed) else None
        # A doubt about an earlier try does not end because this one failed for certain.
        in_doubt = held.handed_over_at is not None or (isinstance(outcome, Delayed) and outcome.in_doubt)
        pause = timedelta(seconds=pause_s(held.tries, asked))
        self.store.record_delay(
            held, reason, not_before=self.store.clock.now() + pause, in_doubt=in_doubt, refused=refused
        )

    def _courier(self, channel: Channel) -> Courier | None:
        if self.couriers is not None:
            return self.couriers.get(channel)
        if channel not in self._opened:
            self._opened[channel] = open_courier(self.settings, channel)
        return self._opened[channel]

    @cached_property
    def _prepared(self) -> dict[str, set[tuple[str, str]]]:
        return {}

    @cached_property
    def _opened(self) -> dict[Channel, Courier | None]:
        return {}


def pause_s(tries: int, asked_s: float | None = None) -> float:
    """Return how long to wait after the *tries*-th failed try: doubling, and no less than the provider asked for."""
    own = min(PAUSE_FIRST_S * 2.0 ** min(tries - 1, 10), DELIVERY_PAUSE_MAX_S)
    return max(own, min(asked_s or 0.0, _RETRY_AFTER_MAX_S))


def _owner() -> str:
    return f"{socket.gethostname()}:{os.getpid()}:{threading.get_ident()}"
