"""The two directions of money: what differs between sending it and taking it back. All else of the way is the same."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Generic, cast

from manual_payout.approval.approvals import Approved
from manual_payout.approval.others import equal_to
from manual_payout.approval.policy import acknowledge_remedy
from manual_payout.approval.reversal import verify_reversal
from manual_payout.approval.verification import verify
from manual_payout.desk.people import Person
from manual_payout.desk.wiring import Desk
from manual_payout.domain.errors import SettingsError, StripeRefusedError
from manual_payout.domain.intent import OtherTransfer, is_own, transfer_group
from manual_payout.domain.models import (
    Kind,
    Line,
    PayoutRecord,
    R,
    Reason,
    Record,
    Request,
    ReversalReason,
    ReversalRecord,
)
from manual_payout.domain.money import Money
from manual_payout.domain.parameters import Parameters, filed_values, validate
from manual_payout.gateway import Answer
from manual_payout.transfer.gate import claim
from manual_payout.transfer.overriding import override_of

# Refusals that a person can mend, with how. Everything else: read Stripe's sentence.
_REMEDIES = {
    "balance_insufficient": "Top up the platform balance, then run the same command again: a new attempt with a new key.",
    "insufficient_capabilities_for_transfer": "The studio's account cannot receive transfers; have it fixed, then run again.",
    "resource_missing": "The destination is not connected to this platform in this mode; compare it with the ledger.",
    "transfers_not_allowed": "Stripe does not allow this transfer; contact Stripe with the request id.",
    "more_permissions_required": "Grant the key the permission that Stripe names, then run the same command again.",
    "rate_limit": "Wait a minute, then run the same command again.",
    "lock_timeout": "Wait a minute, then run the same command again.",
}


@dataclass(frozen=True, slots=True)
class Change:
    """What has changed since the approvals, so that nothing may be sent: a code for the record, a sentence, a remedy."""

    code: str
    message: str
    remedy: str


class Way(ABC, Generic[R]):
    """
    One direction of money, from the approved line to what Stripe has made of it.

    Attributes:
        remedies: What a person does about a refusal, by Stripe's code.
    """

    remedies = _REMEDIES

    @abstractmethod
    def find(self, desk: Desk, line_id: str) -> R | None:
        """Read the row of a line as it is now, or None while its sending has not begun."""

    @abstractmethod
    def judge(
        self, desk: Desk, request: Request, line: Line, operator: Person, approved: Approved, *,
        typed: Parameters | None = None, but: frozenset[str] = frozenset(),
    ) -> dict[str, Any] | None:  # fmt: skip
        """
        Make every check again on fresh facts, and take what only one may have.

        Args:
            typed: What the operator typed; the line as it was filed where None.

            but: Names of checks that the caller exists to answer.

        Returns:
            The warning that the sending goes on in spite of, or None.

        Raises:
            RefusedError: A check says no, or somebody else has the ledger payout.
        """

    @abstractmethod
    def attempt(self, request: Request, line: Line, common: dict[str, Any]) -> R:
        """Return the row of a new attempt; nothing is written."""

    @abstractmethod
    def post(self, desk: Desk, record: R) -> Answer:
        """Make the one HTTP attempt that moves money."""

    @abstractmethod
    def listed(self, desk: Desk, record: R) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Ask Stripe what it has: this line's own, and foreign ones that stand in the way. Reads only."""

    @abstractmethod
    def changed_since(self, desk: Desk, record: R) -> Change | None:
        """Say what makes a sending another one than was approved; asked where Stripe lists nothing of the line's own."""

    @abstractmethod
    def nothing(self, record: R) -> str:
        """Say that Stripe shows nothing."""

    @abstractmethod
    def told(self, made: dict[str, Any]) -> str:
        """Say what Stripe shows."""

    def accepted(self, record: R, made: dict[str, Any]) -> str:  # noqa: ARG002  # of what was made, only a transfer tells more
        """Say that Stripe made what was meant, for the record."""
        return f"Stripe accepted the {record.noun}"

    def take_again(self, desk: Desk, record: R) -> None:  # nothing where nothing was given back
        """Claim again what a refusal may have given back, before it is recorded that money moved all the same."""

    def note_what_came_back(self, desk: Desk, record: R, made: dict[str, Any]) -> R:  # noqa: ARG002
        """Record what has come back since of what was made, such as in the Dashboard."""
        return record

    def equal_ones(self, desk: Desk, record: R) -> list[OtherTransfer]:  # noqa: ARG002
        """Ask Stripe which other transfers may be this very movement, made by hand."""
        return []

    def reversed_minor(self, desk: Desk, record: R) -> int | None:  # noqa: ARG002
        """Say how much of another row's transfer is reversed by what was made, in minor units; None where there is none."""
        return None


class _Out(Way[PayoutRecord]):
    """A transfer to a connected account."""

    def find(self, desk: Desk, line_id: str) -> PayoutRecord | None:
        return desk.store.find_payout(line_id)

    def judge(
        self, desk: Desk, request: Request, line: Line, operator: Person, approved: Approved, *,
        typed: Parameters | None = None, but: frozenset[str] = frozenset(),
    ) -> dict[str, Any] | None:  # fmt: skip
        verification = verify(desk, typed or as_filed(request, line, operator), operator.person_id)
        verification.require_go(but=but)
        claim(desk, line)
        return override_of(desk, request, line, verification, approved)

    def attempt(self, request: Request, line: Line, common: dict[str, Any]) -> PayoutRecord:
        return PayoutRecord(
            payout_id=line.line_id, reserve_after=line.reserve_after, transfer_group=transfer_group(line.ledger_payout_id),
            reason=Reason(request.reason), **common,
        )  # fmt: skip

    def post(self, desk: Desk, record: PayoutRecord) -> Answer:
        return desk.gateway.create_transfer(json.loads(record.payload), idempotency_key=record.idempotency_key)

    def listed(self, desk: Desk, record: PayoutRecord) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """
        Ask for the transfers of the ledger payout's group, reversed ones excepted.

        One whose id is on record is this line's own, wherever Stripe has filed it.
        """
        transfers = desk.gateway.transfers_in_group(record.transfer_group)
        known = record.stripe_transfer_id
        # What this machine noted while the database was away is asked for by name, and judged like any other.
        for name in {known, desk.spool.find(record)} - {None, *(transfer["id"] for transfer in transfers)}:
            transfers.append(desk.gateway.get_transfer(str(name)))
        own = [t for t in transfers if t["id"] == known or is_own(t, record.payout_id)]
        foreign = [t for t in transfers if t not in own and not t["reversed"]]
        return own, foreign

    def changed_since(self, desk: Desk, record: PayoutRecord) -> Change | None:
        """Look for a transfer of the same amount that a colleague has made since, in the Dashboard."""
        equal = equal_to(desk, record)
        if not equal:
            return None
        message = f"Stripe shows {', '.join(map(str, equal))} to the same account, which is unexplained and may be this payout"
        return Change("paid_by_hand", message, acknowledge_remedy(equal, begun=record.sent))

    def nothing(self, record: PayoutRecord) -> str:
        return f"no transfer in group {record.transfer_group}"

    def told(self, made: dict[str, Any]) -> str:
        came = made.get("amount_reversed")
        back = f", {Money(came, made['currency']).grouped} of it reversed" if came else ""
        return f"{made['id']}: {Money(made['amount'], made['currency']).grouped} to {made['destination']}{back}"

    def accepted(self, record: PayoutRecord, made: dict[str, Any]) -> str:
        said, back = super().accepted(record, made), made["amount_reversed"]
        return f"{said}; {Money(back, made['currency']).grouped} of it have come back since" if back else said

    def take_again(self, desk: Desk, record: PayoutRecord) -> None:
        request = desk.store.get_request(record.request_id)
        claim(desk, request.line_for(record.ledger_payout_id))

    def note_what_came_back(self, desk: Desk, record: PayoutRecord, made: dict[str, Any]) -> PayoutRecord:
        return desk.store.record_reversed(record, made["amount_reversed"], actor=record.operator_id)

    def equal_ones(self, desk: Desk, record: PayoutRecord) -> list[OtherTransfer]:
        return equal_to(desk, record)


class _Back(Way[ReversalRecord]):
    """A reversal of a transfer, or of part of one."""

    # Stripe documents no code for a studio whose balance has been paid out; this is the nearest.
    remedies = _REMEDIES | {
        "balance_insufficient": "The studio's Stripe balance no longer holds the amount: it has been paid to the bank. Agree with the "
        "studio to keep it from a later payout, or run the same command again once its balance covers it.",
        "resource_missing": "Stripe does not know this transfer in this mode; compare its id with the Dashboard.",
    }

    def find(self, desk: Desk, line_id: str) -> ReversalRecord | None:
        return desk.store.find_reversal(line_id)

    def judge(
        self, desk: Desk, request: Request, line: Line, operator: Person, approved: Approved, *,  # noqa: ARG002
        typed: Parameters | None = None, but: frozenset[str] = frozenset(),  # noqa: ARG002  # everything was filed
    ) -> dict[str, Any] | None:  # fmt: skip
        verify_reversal(desk, request, line, operator.person_id).require_go(but=but)
        return None

    def attempt(self, request: Request, line: Line, common: dict[str, Any]) -> ReversalRecord:
        return ReversalRecord(
            reversal_id=line.line_id, stripe_transfer_id=line.stripe_transfer_id,
            reversed_before_minor=line.reversed_before_minor, reason=ReversalReason(request.reason), **common,
        )  # fmt: skip

    def post(self, desk: Desk, record: ReversalRecord) -> Answer:
        payload, key = json.loads(record.payload), record.idempotency_key
        return desk.gateway.create_reversal(record.stripe_transfer_id, payload, idempotency_key=key)

    def listed(self, desk: Desk, record: ReversalRecord) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Ask for the transfer's reversals; none is in the way, since Stripe never takes back more than the transfer."""
        return [one for one in desk.gateway.reversals_of(record.stripe_transfer_id) if is_own(one, record.line_id)], []

    def changed_since(self, desk: Desk, record: ReversalRecord) -> Change | None:
        """
        Look for something else of the transfer that came back.

        Two reversals of one transfer wait for each other only while one of them is open, and another can begin and end
        between this one's verification and its intent.
        """
        back = desk.gateway.get_transfer(record.stripe_transfer_id)["amount_reversed"]
        if back == record.reversed_before_minor:
            return None
        now, before = (Money(minor, record.amount.currency).grouped for minor in (back, record.reversed_before_minor))
        message = f"{now} of {record.stripe_transfer_id} are reversed by now, {before} were when this was requested"
        return Change("came_back_since", message, "Look at the transfer in the Dashboard, then file another request.")

    def nothing(self, record: ReversalRecord) -> str:
        return f"no reversal of {record.stripe_transfer_id} by this request"

    def told(self, made: dict[str, Any]) -> str:
        return f"{made['id']}: {Money(made['amount'], made['currency']).grouped} of {made['transfer']} taken back"

    def reversed_minor(self, desk: Desk, record: ReversalRecord) -> int | None:
        # The gate saw how much was reversed before, so this much it is at least, even if Stripe cannot be asked now.
        known = record.reversed_before_minor + record.amount.amount_minor
        try:
            return max(known, int(desk.gateway.get_transfer(record.stripe_transfer_id)["amount_reversed"]))
        except (StripeRefusedError, SettingsError):
            return known


OUT, BACK = _Out(), _Back()


def way_of(record: R) -> Way[R]:
    """Return the direction in which the money of *record* moves."""
    ways: dict[str, Way[Any]] = {PayoutRecord.noun: OUT, ReversalRecord.noun: BACK}
    return cast("Way[R]", ways[record.noun])


def way_for(kind: Kind) -> Way[Any]:
    """Return the direction that a request of that kind asks for."""
    return BACK if kind is Kind.REVERSAL else OUT


def listed(desk: Desk, record: Record) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Ask Stripe what it has: this line's own, and foreign ones that stand in the way. Reads only."""
    return way_of(record).listed(desk, record)


def changed_since(desk: Desk, record: Record) -> Change | None:
    """Say what makes a sending another one than was approved. Reads only."""
    return way_of(record).changed_since(desk, record)


def as_filed(request: Request, line: Line, operator: Person) -> Parameters:
    """Return the parameters of a payout that agree with its line."""
    selected = {"incident_id": request.incident_id, "ledger_payout_id": line.ledger_payout_id}
    return validate(
        selected | filed_values(request, line) | {"operator": operator.handle, "dry_run": False, "confirm": ""}
    )
