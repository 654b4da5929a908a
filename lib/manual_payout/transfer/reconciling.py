"""Reconcile: what our row says against what Stripe shows, and the only ways out of an unknown outcome (design, rule 3)."""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Generic

from manual_payout.approval.books import by_the_books
from manual_payout.desk.people import Person
from manual_payout.desk.wiring import Desk
from manual_payout.domain.account import reconcile_command, reversal_line
from manual_payout.domain.errors import (
    ClaimError,
    DatabaseError,
    ManualPayoutError,
    PolicyRefusedError,
    RefusedError,
    StripeRefusedError,
    UnknownOutcomeError,
    UsageError,
)
from manual_payout.domain.intent import difference
from manual_payout.domain.models import OPEN_STATES, R, Record, Request, State
from manual_payout.domain.money import Money
from manual_payout.domain.parameters import NOTES_LENGTH_MAX, check, check_text
from manual_payout.gateway import Refused
from manual_payout.transfer.delivery import (
    KEY_WINDOW,
    deliver_attempt,
    look_up,
    record_refused,
    settle,
    settled_since,
    take_over,
    window_closed,
)
from manual_payout.transfer.gate import check_standing, record_leave, require_same_account
from manual_payout.transfer.movement import listed, way_of
from manual_payout.transfer.overriding import record_override

# The words of the command line.
_DECIDE = "--decide not-moved"

# The question that reconcile exists to answer does not forbid reconcile.
_ANSWERED_HERE = frozenset({"outcome_known"})


@dataclass(frozen=True, slots=True)
class Reconciliation(Generic[R]):
    """
    What reconcile found.

    Attributes:
        believed: What our row said before.

        stripe_says: What Stripe shows.

        difference: What does not agree; empty when all does.

        action: What was done about it.

        record: The row afterwards.
    """

    believed: str
    stripe_says: str
    difference: str
    action: str
    record: R


def reconcile(desk: Desk, record: R, operator: Person) -> Reconciliation[R]:
    """
    Settle an interrupted or unknown sending by asking Stripe (design, rule 3).

    Stripe's listing comes first. Only where it shows nothing, the key is inside its safe window, the approvals stand and
    every fact still allows it, the same key is sent again: Stripe then repeats its answer, or makes what was approved.

    Raises:
        UnknownOutcomeError: It stays unknown: a person has to decide, Stripe cannot be asked, or a run is still sending.
    """
    try:
        return _reconcile(desk, record, operator)
    except ManualPayoutError as error:
        settled = settled_since(desk, error, way_of(record))
        if settled is not None:
            return reconcile(desk, settled, operator)
        told = _as_it_stays(desk, record, error)
        if told is error:
            raise
        raise told from error


def decide_not_moved(
    desk: Desk, record: R, operator: Person, because: str, *, acknowledged: Collection[str] = ()
) -> Reconciliation[R]:
    """
    Record a person's decision that an unknown sending moved nothing.

    Args:
        because: What the person looked at; it is recorded with the name.

        acknowledged: Other transfers that may be this payout, of which the person knows. They allow no sending: that asks
            the request, which two people approve.

    Raises:
        ParameterError: No reason is given.

        RefusedError, MovedBeforeError: There is nothing to decide.

        UnknownOutcomeError: The key may still be in flight or replayed; Stripe shows a transfer that is not what was meant, or
            one that may be this payout, or cannot be asked.
    """
    because = check_text("because", because, NOTES_LENGTH_MAX)
    named = tuple(sorted({check("acknowledge", one) for one in acknowledged}))
    try:
        return _decide(desk, record, operator, because, named)
    except ManualPayoutError as error:
        settled = settled_since(desk, error, way_of(record))
        if settled is not None:
            return decide_not_moved(desk, settled, operator, because, acknowledged=named)
        told = _as_it_stays(desk, record, error, "Nothing was decided. ")
        if told is error:
            raise
        raise told from error


def _as_it_stays(desk: Desk, record: R, error: ManualPayoutError, first: str = "") -> ManualPayoutError:
    """Say that an outcome stays unknown, why, and from which hour on a person may decide; or what the books say instead."""
    told = by_the_books(desk, error, record.ledger_payout_id, mode=record.mode, reversal=reversal_line(record))
    if not isinstance(told, UnknownOutcomeError):
        return told
    message = (
        told.message if told is error else f"{first}The outcome for {record.subject} stays unknown: {error.message}"
    )
    return UnknownOutcomeError(message, f"{error.remedy} {_who_decides(desk, record, error.remedy)}".strip())


def _who_decides(desk: Desk, record: R, said: str) -> str:
    with contextlib.suppress(DatabaseError):
        record = way_of(record).find(desk, record.line_id) or record
        decidable = record.state in OPEN_STATES and record.stripe_id is None and record.first_sent_at is not None
        if decidable and _DECIDE not in said:
            return f"While it stays so, a person who has looked in the Dashboard may decide {_decision(record)}."
    return ""


def _decision(record: Record) -> str:
    """Name the hour from which a person may decide, and the command."""
    assert record.first_sent_at is not None, "Bug: what was never sent is not decided"
    return f"from {record.first_sent_at + KEY_WINDOW:%Y-%m-%d %H:%M} UTC on: `{reconcile_command(record)} {_DECIDE} --because '…'`"


def _decide(desk: Desk, record: R, operator: Person, because: str, acknowledged: tuple[str, ...]) -> Reconciliation[R]:
    believed = _believed(record)
    require_same_account(desk, desk.store.get_request(record.request_id))
    _require_decidable(desk, record)
    # Asked twice: whoever is refused here has not taken the right to send away from anybody.
    _require_not_paid_by_hand(desk, record, acknowledged)
    record = take_over(desk, record, operator)
    _require_decidable(desk, record)
    if found := look_up(desk, record):
        settled = settle(desk, record, found)
        return Reconciliation(
            believed, way_of(record).told(found), f"the {record.noun} exists", f"recorded as {settled.state}", settled
        )
    _require_not_paid_by_hand(desk, record, acknowledged)
    known = f" (knowing of {', '.join(acknowledged)})" if acknowledged else ""
    reason = f"decided by {operator.name}: {because}{known}"
    closed = record_refused(desk, record, Refused("decided_not_moved", reason, "", same_key=False))
    return Reconciliation(believed, way_of(record).nothing(record), "", reason, closed)


def _reconcile(desk: Desk, record: R, operator: Person) -> Reconciliation[R]:
    believed = _believed(record)
    request = desk.store.get_request(record.request_id)
    require_same_account(desk, request)
    if record.state in OPEN_STATES:
        record = take_over(desk, record, operator)
    if record.state not in OPEN_STATES:
        return _compare(desk, record, believed)
    found = look_up(desk, record)
    if found is not None:
        settled = settle(desk, record, found)
        differs = f"the {record.noun} was not on record"
        return Reconciliation(believed, way_of(record).told(found), differs, f"recorded as {settled.state}", settled)
    if not record.sent:
        never = Refused("never_sent", "the run ended before anything was sent", "", same_key=False)
        done = "recorded as not sent; the same request may be run again"
        return Reconciliation(believed, way_of(record).nothing(record), "", done, record_refused(desk, record, never))
    _require_sendable(desk, record, request, operator)
    paid = deliver_attempt(desk, record)
    return Reconciliation(
        believed, way_of(record).nothing(record), "nothing had arrived", "sent again under the same key", paid
    )


def _compare(desk: Desk, record: R, believed: str) -> Reconciliation[R]:
    own, others = listed(desk, record)
    # Where the money of this row is not out, what another row of ours has made is on record there; beside money that is
    # out it would be a second payment.
    out = record.state in (State.PAID, State.PARTLY_REVERSED)
    ours = set() if out else desk.store.known_transfers({other["id"] for other in others})
    foreign = [other for other in others if other["id"] not in ours]
    if foreign or len(own) > 1:
        ids = ", ".join(transfer["id"] for transfer in own + foreign)
        raise UnknownOutcomeError(
            f"Stripe shows more for {record.subject} than the one {record.noun} that our row can be: {ids}.",
            "Compare them with the ledger in the Dashboard; a mistaken one is reversed by its own request.",
        )
    if not own:
        differs = "" if record.state is State.REFUSED else f"our row says {record.state}, Stripe shows no {record.noun}"
        return Reconciliation(believed, way_of(record).nothing(record), differs, "nothing", record)
    if record.state is State.REFUSED:
        return _correct(desk, record, own[0], believed)
    differs = difference(own[0], record)
    if not differs:
        return _compare_what_came_back(desk, record, own[0], believed)
    return Reconciliation(believed, way_of(record).told(own[0]), differs, "nothing", record)


def _compare_what_came_back(desk: Desk, record: R, made: dict[str, Any], believed: str) -> Reconciliation[R]:
    """Record what was taken back since, such as in the Dashboard: the row must not claim money that is not there."""
    way = way_of(record)
    if record.end_state(made) is record.state:
        return Reconciliation(believed, way.told(made), "", "nothing", record)
    present = way.note_what_came_back(desk, record, made)
    back = Money(made["amount_reversed"], made["currency"]).grouped
    differs = f"our row said {record.state}; {back} have come back since"
    return Reconciliation(believed, way.told(made), differs, f"recorded as {present.state}", present)


def _correct(desk: Desk, record: R, made: dict[str, Any], believed: str) -> Reconciliation[R]:
    """Record what shows although the attempt was taken for refused; the automation must not pay it again."""
    doubt = ""
    try:
        way_of(record).take_again(desk, record)
    except ClaimError as error:
        doubt = f"the attempt was taken for refused, and the ledger payout cannot be claimed again: {error.message}"
    settled = settle(desk, record, made, doubt=doubt)
    return Reconciliation(
        believed, way_of(record).told(made), "our row said refused", f"recorded as {settled.state}", settled
    )


def _require_sendable(desk: Desk, record: R, request: Request, operator: Person) -> None:
    """Refuse to send the same key again unless everything that allowed it still does; a person is asked instead."""
    try:
        if window_closed(desk, record):
            raise PolicyRefusedError("its key has left the window in which Stripe surely remembers it", "")
        approved = check_standing(desk, request, operator)
        line, way = request.line_for(record.ledger_payout_id), way_of(record)
        override = way.judge(desk, request, line, operator, approved, but=_ANSWERED_HERE)
        record_override(desk, record, override, operator)
        # The questions above can have taken a while, and an approval can have ended meanwhile.
        check_standing(desk, request, operator)
    except (RefusedError, StripeRefusedError, UsageError) as error:
        reason = error.message.rstrip(".")
        desk.store.record_outcome(record, State.NEEDS_HUMAN, reason, actor=operator.person_id)
        raise UnknownOutcomeError(
            f"Stripe shows no {record.noun} for {record.subject}, and the same key cannot be sent again: {reason}.",
            _what_next(desk, record, error),
        ) from error
    record_leave(desk, record, request, line, approved, operator)


def _what_next(desk: Desk, record: Record, error: ManualPayoutError) -> str:
    decide = f"{reconcile_command(record)} {_DECIDE} --because '…'"
    if window_closed(desk, record) or record.first_sent_at is None:
        return f"Look it up in the Dashboard, then record the decision: {decide}."
    until = f"{record.first_sent_at + KEY_WINDOW:%Y-%m-%d %H:%M} UTC"
    return f"{error.remedy} Then reconcile again; or after {until}, having looked in the Dashboard, decide: {decide}."


def _require_decidable(desk: Desk, record: Record) -> None:
    if record.state is not State.NEEDS_HUMAN:
        raise PolicyRefusedError(
            f"The {record.noun} is {record.state}, not needs_human; there is nothing to decide.",
            "Run reconcile without a decision first.",
        )
    if record.stripe_id is not None:
        raise PolicyRefusedError(
            f"Stripe made the {record.noun} {record.stripe_id}; a decision cannot undo that.",
            "Compare it with the request in the Dashboard; a mistaken transfer is reversed by its own request.",
        )
    if not window_closed(desk, record):
        opens = f"{record.first_sent_at + KEY_WINDOW:%Y-%m-%d %H:%M}" if record.first_sent_at else "the key was sent"
        raise PolicyRefusedError(
            f"The key is still inside its window: Stripe may yet show the {record.noun}.", f"Decide after {opens} UTC."
        )


def _require_not_paid_by_hand(desk: Desk, record: Record, acknowledged: tuple[str, ...]) -> None:
    """Refuse to decide past a transfer that may be this payout, until it is named."""
    others = [one for one in way_of(record).equal_ones(desk, record) if one.transfer_id not in acknowledged]
    if others:
        named = " ".join(f"--acknowledge {one.transfer_id}" for one in others)
        raise UnknownOutcomeError(
            f"Nothing was decided: Stripe shows {', '.join(map(str, others))} to the same account, which nobody explains and "
            "which may be this payout.",
            f"Ask who made it, then decide again with {named}. A new attempt stays refused until a request that acknowledges "
            "it is approved by both teams.",
        )


def _believed(record: Record) -> str:
    return f"{record.state}: attempt {record.attempt_no}, key {record.idempotency_key}"
