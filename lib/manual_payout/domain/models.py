"""
The nouns of a manual payout, frozen.

A *request* asks for money to be moved and has *lines*; each line is one intent: one transfer to one connected account
for one ledger payout. An *approval* names the digest of one exact request. A *payout record* (a row of
``manual_payouts``) is a line whose sending has begun; an *attempt* is one idempotency key of it; an *event* is one line
of the journal. Amounts are minor units; instants are aware and in UTC.
"""

from __future__ import annotations

import hashlib
import json
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar, TypeVar

from manual_payout.domain.canonical import digest_of, instant_text
from manual_payout.domain.errors import PolicyRefusedError
from manual_payout.domain.money import Money

# What is a folder's name on every file system; Windows keeps some words for its devices.
_FOLDER_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_RESERVED = re.compile(r"con|prn|aux|nul|(?:com|lpt)[0-9]")


class Mode(StrEnum):
    """Which world the money is in. Evidence of one never verifies as another."""

    SANDBOX = "sandbox"
    TEST = "test"
    LIVE = "live"


class Team(StrEnum):
    """The two teams whose approvals the SOP demands (pre-conditions, second line)."""

    PAYMENTS_OPS = "payments_ops"
    FINANCE = "finance"

    @property
    def label(self) -> str:
        """The name for people."""
        return "Payments Ops" if self is Team.PAYMENTS_OPS else "Finance"


class Reason(StrEnum):
    """Why the automation failed (SOP, pre-conditions, first line)."""

    SCHEDULER_OUTAGE = "scheduler_outage"
    PSP_REJECTION = "psp_rejection"
    RESERVE_LOCK = "reserve_lock"
    BANK_DETAILS_CHANGED = "bank_details_changed"
    COMPLIANCE_HOLD = "compliance_hold"
    DATA_ERROR = "data_error"
    OTHER = "other"


class Kind(StrEnum):
    """What a request asks for: money to the studio, or money of one transfer back."""

    TRANSFER = "transfer"
    REVERSAL = "reversal"


class ReversalReason(StrEnum):
    """Why a transfer was a mistake."""

    PAID_TWICE = "paid_twice"
    WRONG_AMOUNT = "wrong_amount"
    WRONG_DESTINATION = "wrong_destination"
    NOT_OWED = "not_owed"
    OTHER = "other"


class State(StrEnum):
    """
    Where the money of one line stands.

    ``approved → submitting → paid | refused | unknown``; ``unknown`` leads to ``paid``, ``refused`` or
    ``needs_human``; ``reversed`` and ``partly_reversed`` are reached by their own requests. A reversal goes the same
    way, and what is *paid* for a transfer is *reversed* for it.
    """

    APPROVED = "approved"
    SUBMITTING = "submitting"
    PAID = "paid"
    REFUSED = "refused"
    UNKNOWN = "unknown"
    NEEDS_HUMAN = "needs_human"
    REVERSED = "reversed"
    PARTLY_REVERSED = "partly_reversed"


# While a row is in one of these, no second row for the same ledger payout can exist: the database's own constraint.
LIVE_STATES = (State.SUBMITTING, State.PAID, State.UNKNOWN, State.NEEDS_HUMAN, State.PARTLY_REVERSED)

# While a row is in one of these, what happened to the money is still to be found out.
OPEN_STATES = (State.SUBMITTING, State.UNKNOWN, State.NEEDS_HUMAN)

# A row in one of these tells of money that went out, whatever came back afterwards.
MOVED_STATES = (State.PAID, State.REVERSED, State.PARTLY_REVERSED)


class Stage(StrEnum):
    """The notebooks: those of one incident in the order of the SOP's checklist, and those that belong to none."""

    VERIFY = "1-verify"
    EXECUTE = "2-execute"
    LOG = "3-log"
    NOTIFY = "4-notify"
    SETTLE = "5-settle"
    CLOSE = "6-close"
    REVERSAL = "reversal"
    MONITOR = "monitor"
    REHEARSE = "rehearse"

    @property
    def short(self) -> str:
        """The name that ``--stage`` takes."""
        return self.value.split("-", 1)[-1]


# The checklist itself; taking money back, keeping watch and rehearsing are no part of it.
CHECKLIST = tuple(stage for stage in Stage if stage not in {Stage.REVERSAL, Stage.MONITOR, Stage.REHEARSE})


class CheckStatus(StrEnum):
    """How one check ended. ``warn`` does not stop a payout; ``unknown`` does, as ``fail`` does."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Check:
    """
    One question of the verification and its answer.

    Attributes:
        name: Stable name in the field's terms, such as ``reserve_arithmetic``.

        question: What is asked, for a person.

        status: How it ended.

        expected: What a good answer looks like.

        found: What was found.

        remedy: What to do when it is not ok; empty when ok.
    """

    name: str
    question: str
    status: CheckStatus
    expected: str
    found: str
    remedy: str = ""

    @property
    def stops(self) -> bool:
        """Whether this answer forbids the payout."""
        return self.status in (CheckStatus.FAIL, CheckStatus.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Line:
    """
    One intent: one transfer to one connected account for one ledger payout.

    Attributes:
        line_id: Ours, made when the request is filed; the idempotency key and the ledger claim derive from it.

        amount: What is to be moved.

        reserve_after: What must stay with the studio's balance afterwards; zero for a reversal, which touches no reserve.

        stripe_transfer_id: The transfer that is to be reversed; empty where money is to be sent.

        reversed_before_minor: How much of that transfer was reversed when the request was filed, in minor units.

        acknowledged: Other transfers to the same account of which the requester says that they are not this payout,
            sorted; whoever approves the request says so too.
    """

    line_id: str
    line_no: int
    studio_id: str
    studio_name: str
    ledger_payout_id: str
    amount: Money
    reserve_after: Money
    destination_account: str
    stripe_transfer_id: str = ""
    reversed_before_minor: int = 0
    acknowledged: tuple[str, ...] = ()

    def statement(self) -> dict[str, Any]:
        """The part of the request's statement that this line is."""
        told: dict[str, Any] = {
            "line_id": self.line_id,
            "line_no": self.line_no,
            "studio_id": self.studio_id,
            "studio_name": self.studio_name,
            "ledger_payout_id": self.ledger_payout_id,
            "amount_minor": self.amount.amount_minor,
            "currency": self.amount.currency,
            "reserve_after_minor": self.reserve_after.amount_minor,
            "destination_account": self.destination_account,
        }
        if self.stripe_transfer_id:
            told["stripe_transfer_id"] = self.stripe_transfer_id
            told["reversed_before_minor"] = self.reversed_before_minor
        if self.acknowledged:
            told["acknowledged_transfers"] = list(self.acknowledged)
        return told


@dataclass(frozen=True, slots=True)
class Request:
    """
    The fallback request form as filed (SOP, pre-conditions): frozen, and named by the digest of its statement.

    A reversal is asked for in the same form, under its own kind, and needs its own two approvals.

    Attributes:
        requested_by: Person id of who filed it.

        nonce: Makes two requests with equal content two requests.

        expires_at: After this instant it can neither be approved nor sent.

        replaces: Id of the request that it withdraws by being filed; empty where it replaces none.

        signature: The requester's own over the canonical statement, armored; empty where nobody signed, as in the sandbox.
    """

    request_id: str
    incident_id: str
    kind: Kind
    mode: Mode
    platform_account: str
    requested_by: str
    reason: Reason | ReversalReason
    notes: str
    nonce: str
    filed_at: datetime
    expires_at: datetime
    lines: tuple[Line, ...]
    replaces: str = ""
    signature: str = ""

    def statement(self) -> dict[str, Any]:
        """Everything that an approval binds to; a changed byte is another request."""
        replaced = {"replaces": self.replaces} if self.replaces else {}
        return replaced | {
            "version": 1,
            "request_id": self.request_id,
            "incident_id": self.incident_id,
            "kind": self.kind.value,
            "mode": self.mode.value,
            "platform_account": self.platform_account,
            "requested_by": self.requested_by,
            "reason": self.reason.value,
            "notes": self.notes,
            "nonce": self.nonce,
            "filed_at": instant_text(self.filed_at),
            "expires_at": instant_text(self.expires_at),
            "lines": [line.statement() for line in self.lines],
        }

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical statement, in hexadecimal."""
        return digest_of(self.statement())

    @property
    def total(self) -> Money:
        """What all lines together ask for; they are of one currency."""
        return Money(sum(line.amount.amount_minor for line in self.lines), self.lines[0].amount.currency)

    def line_for(self, ledger_payout_id: str = "") -> Line:
        """
        Return the line that is about that ledger payout; where none is named, the only line.

        Raises:
            PolicyRefusedError: There is no such line; or there are several, and none is named.
        """
        found = [line for line in self.lines if ledger_payout_id in ("", line.ledger_payout_id)]
        if len(found) == 1:
            return found[0]
        about = f"lines about {ledger_payout_id}" if ledger_payout_id else "lines"
        raise PolicyRefusedError(
            f"Request {self.request_id} has {len(found) or 'no'} {about}, and one is meant.",
            "Name one of its ledger payouts with --ledger-payout-id.",
        )


@dataclass(frozen=True, slots=True)
class Approval:
    """
    One person's yes to one exact request, on behalf of one team.

    Attributes:
        statement_digest: SHA-256 of what was signed, in hexadecimal.

        signature: OpenSSH's, armored; empty for what was given before approvals were signed, and counts no more.

        signed_text: Exactly what was signed: the canonical JSON of its statement.

        facts: What the approver was shown, as canonical JSON; the statement names its digest.

        rules_digest: Of the rules of money under which it was given.

        registry_digest: Of the people and keys as they were then.
    """

    approval_id: str
    request_id: str
    request_digest: str
    approver_id: str
    team: Team
    mode: Mode
    platform_account: str
    nonce: str
    approved_at: datetime
    expires_at: datetime
    statement_digest: str
    signature: str = ""
    signed_text: str = ""
    facts: str = ""
    rules_digest: str = ""
    registry_digest: str = ""

    def told(self) -> dict[str, Any]:
        """What the journal is told of it."""
        statement = json.loads(self.signed_text) if self.signed_text else {}
        facts = json.loads(self.facts) if self.facts else {}
        return {"statement": statement, "digest": self.statement_digest, "signature": self.signature, "facts": facts}


@dataclass(frozen=True, slots=True, kw_only=True)
class Record(ABC):
    """
    A line whose sending has begun, in either direction; each direction has a table of its own.

    Attributes:
        noun: What Stripe makes of it.

        stripe_transfer_id: The transfer that was made, once known; of a reversal, the one that is reversed.

        destination_account: The connected account to which the money goes, or from which it is taken.

        attempt_no: The attempt whose key is in use, counted from 1.

        first_sent_at: When the key of the present attempt may first have reached Stripe; its safe window counts from
            here, by the database's clock.

        owner: Who holds the sending right now, and until when (`lease_until`).

        fence: Counts the takings of that right; a sender whose number is old may not send.

        sent: Whether any request of the present attempt may have left this machine.
    """

    noun: ClassVar[str]

    request_id: str
    incident_id: str
    ledger_payout_id: str
    studio_id: str
    studio_name: str
    amount: Money
    destination_account: str
    mode: Mode
    reason: Reason | ReversalReason
    notes: str
    requested_by: str
    approved_by_payments_ops: str
    approved_by_finance: str
    operator_id: str
    state: State
    attempt_no: int
    idempotency_key: str
    payload: str
    owner: str
    fence: int
    lease_until: datetime | None
    sent: bool
    created_at: datetime
    first_sent_at: datetime | None = None
    stripe_transfer_id: str | None = None
    outcome_reason: str | None = None
    outcome_at: datetime | None = None

    @property
    @abstractmethod
    def line_id(self) -> str:
        """The line whose sending this is."""

    @property
    @abstractmethod
    def subject(self) -> str:
        """What it is made for."""

    @property
    @abstractmethod
    def stripe_id(self) -> str | None:
        """What Stripe made of it, once known."""

    @property
    @abstractmethod
    def answer(self) -> str | None:
        """Stripe's answer as JSON text, once known."""

    @abstractmethod
    def end_state(self, made: dict[str, Any]) -> State:
        """Say how the row ends where Stripe made what was meant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PayoutRecord(Record):
    """
    A row of ``manual_payouts``: money on its way out.

    Attributes:
        payout_id: Ours; equal to the line's id, since a line becomes at most one row.

        transfer: Stripe's answer as JSON text, once known.

        settlement_rung: The highest rung of the settlement ladder seen so far.
    """

    noun: ClassVar[str] = "transfer"

    payout_id: str
    reserve_after: Money
    transfer_group: str
    transfer: str | None = None
    logged_at: datetime | None = None
    settlement_rung: str | None = None
    settled_at: datetime | None = None

    @property
    def line_id(self) -> str:
        """The line whose sending this is."""
        return self.payout_id

    @property
    def subject(self) -> str:
        """The ledger payout that is paid."""
        return self.ledger_payout_id

    @property
    def stripe_id(self) -> str | None:
        """The transfer, once known."""
        return self.stripe_transfer_id

    @property
    def answer(self) -> str | None:
        """The transfer as JSON text, once known."""
        return self.transfer

    def end_state(self, made: dict[str, Any]) -> State:
        """Say how the row ends where Stripe made what was meant; the transfer may have come back meanwhile."""
        if made["reversed"]:
            return State.REVERSED
        return State.PARTLY_REVERSED if made["amount_reversed"] else State.PAID


@dataclass(frozen=True, slots=True, kw_only=True)
class ReversalRecord(Record):
    """
    A row of ``manual_reversals``: money of one transfer on its way back.

    Attributes:
        reversal_id: Ours; equal to the line's id.

        reversed_before_minor: How much of the transfer was reversed when this was asked for, in minor units.

        reversal: Stripe's answer as JSON text, once known.
    """

    noun: ClassVar[str] = "reversal"

    reversal_id: str
    stripe_transfer_id: str
    reversed_before_minor: int
    stripe_reversal_id: str | None = None
    reversal: str | None = None

    @property
    def line_id(self) -> str:
        """The line whose sending this is."""
        return self.reversal_id

    @property
    def subject(self) -> str:
        """The transfer that is reversed."""
        return self.stripe_transfer_id

    @property
    def stripe_id(self) -> str | None:
        """The reversal, once known."""
        return self.stripe_reversal_id

    @property
    def answer(self) -> str | None:
        """The reversal as JSON text, once known."""
        return self.reversal

    def end_state(self, made: dict[str, Any]) -> State:  # noqa: ARG002  # whatever Stripe shows of it
        """Say how the row ends where Stripe made what was meant."""
        return State.REVERSED


R = TypeVar("R", bound=Record)


@dataclass(frozen=True, slots=True)
class Event:
    """
    One line of the journal, chained to the line before it.

    Attributes:
        stream: ``<incident>/<ledger payout>``: the journal of one evidence folder.

        seq: Counted from 1 without gaps within the stream.

        digest: Over all the other fields, the previous digest included.
    """

    stream: str
    seq: int
    kind: str
    at: datetime
    actor: str
    data: dict[str, Any] = field(default_factory=dict)
    previous: str = ""
    digest: str = ""


class Channel(StrEnum):
    """By which service a message goes out."""

    SLACK = "slack"
    EMAIL = "email"
    PAGERDUTY = "pagerduty"


class MessageState(StrEnum):
    """
    Where a message of the outbox stands.

    ``announced → to_copy | waiting``; ``waiting ⇄ sending``; ``sending → delivered | refused``. What was refused, or
    has to be copied, a person sends: ``copied``.
    """

    ANNOUNCED = "announced"
    TO_COPY = "to_copy"
    WAITING = "waiting"
    SENDING = "sending"
    DELIVERED = "delivered"
    REFUSED = "refused"
    COPIED = "copied"


@dataclass(frozen=True, slots=True)
class Message:
    """
    A message in the outbox.

    Attributes:
        payout_id: The payout it tells of, or None.

        kind: What it tells, and to whom: ``studio_email`` tells the studio that money was sent.

        audience: The channel, the address or the service that reads it.

        dedup_key: One message per event, kind and audience; the database refuses a second.

        body_json: What has a structure of its own: Slack's blocks, or PagerDuty's event; JSON text.

        tries: How often a provider was asked to take it.

        handed_over_at: Since when it may have reached the provider without our knowing; None while that is certain.

        repeats: How often it was sent again although nobody could say whether it had arrived.

        not_before: When it may be tried next.

        last_error: Why the last try did not deliver it, in a sentence.

        receipt: What the provider answered when it took it, as JSON text.
    """

    message_id: str
    stream: str
    payout_id: str | None
    kind: str
    audience: str
    dedup_key: str
    subject: str
    body_text: str
    body_html: str
    state: MessageState
    created_at: datetime
    mode: Mode = Mode.SANDBOX
    channel: Channel = Channel.SLACK
    body_json: str = ""
    tries: int = 0
    handed_over_at: datetime | None = None
    repeats: int = 0
    owner: str = ""
    fence: int = 0
    lease_until: datetime | None = None
    not_before: datetime | None = None
    last_error: str = ""
    receipt: str = ""
    delivered_at: datetime | None = None


def stream_of(incident_id: str, ledger_payout_id: str) -> str:
    """Name the journal, and below the outputs the evidence folder, of one payout of one incident."""
    return f"{incident_id}/{folder_name(ledger_payout_id)}"


def folder_name(ledger_payout_id: str) -> str:
    """
    Return the name of a ledger payout's folder: its id where every file system takes that for a name, else one derived from it.

    Two ids never have one name, not even where capitals do not count: a derived name holds a full stop and a digest.
    """
    if _FOLDER_NAME.fullmatch(ledger_payout_id) and not _RESERVED.fullmatch(ledger_payout_id):
        return ledger_payout_id
    readable = re.sub(r"[^a-z0-9]+", "-", ledger_payout_id.lower()).strip("-")[:40]
    return f"id-{readable}.{hashlib.sha256(ledger_payout_id.encode()).hexdigest()[:16]}"
