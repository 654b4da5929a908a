"""
From a request that both teams approved to a transfer, or to a reversal of one: gate, claim, intent, delivery.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from manual_payout.approval import policy
from manual_payout.approval.approvals import Approved
from manual_payout.approval.books import by_the_books
from manual_payout.desk.people import Person
from manual_payout.desk.wiring import Desk
from manual_payout.domain.canonical import canonical_json
from manual_payout.domain.errors import ClaimError, IntentConflictError, ManualPayoutError
from manual_payout.domain.intent import build_payload, idempotency_key
from manual_payout.domain.models import MOVED_STATES, Line, PayoutRecord, R, Record, Request, ReversalRecord, State
from manual_payout.domain.parameters import Parameters, ReversalParameters
from manual_payout.transfer.delivery import (
    deliver_attempt,
    lease_s,
    owner_name,
    settled_since,
    take_over,
    unknown_outcome,
)
from manual_payout.transfer.gate import admit, find_request, get_reversal_request, record_leave, rules_now
from manual_payout.transfer.movement import BACK, OUT, Way
from manual_payout.transfer.overriding import record_override

# How old the judgement of facts and approvals may be when the intent is committed. Stripe's slowest answers to the
# verification fit into it; a laptop that was closed in between does not.
JUDGEMENT_AGE_MAX = timedelta(minutes=10)


def send(desk: Desk, parameters: Parameters, operator: Person) -> PayoutRecord:
    """
    Move the money of one request, once.

    Args:
        parameters: As typed; they select the request and must agree with it. What is sent is the stored request.

    Returns:
        The payout record, paid. If it was paid before, nothing is sent.

    Raises:
        RefusedError: A gate or Stripe said no; nothing of this ledger payout has moved.

        MovedBeforeError, AstrayError: A gate said no, and money of this ledger payout had moved before.

        IntentConflictError: What was paid before is not what was typed; nothing moved now.

        ParameterError: The confirm code is wrong; nothing moved.

        UnknownOutcomeError: A transfer may exist; only `reconcile` leads on.
    """
    try:
        return _send(desk, parameters, operator)
    except ManualPayoutError as error:
        settled = _as_settled(desk, error, OUT, parameters.ledger_payout_id)
    _require_same_content(parameters, find_request(desk, parameters), settled)
    return settled


def _send(desk: Desk, parameters: Parameters, operator: Person) -> PayoutRecord:
    request = find_request(desk, parameters)
    line = request.line_for(parameters.ledger_payout_id)
    record = desk.store.find_payout(line.line_id)
    if record is not None and record.state in MOVED_STATES:
        _require_same_content(parameters, request, record)
    return _move(desk, request, line, operator, OUT, parameters, record)


def reverse(desk: Desk, parameters: ReversalParameters, operator: Person) -> ReversalRecord:
    """
    Take the money of one approved reversal back, once.

    Args:
        parameters: They select the request; everything else was filed.

    Returns:
        The reversal record, reversed. If it was reversed before, nothing is sent.

    Raises:
        RefusedError: A gate or Stripe said no, such as where the studio's balance has been paid out; nothing came back.

        MovedBeforeError: A gate said no, and this reversal had been made before.

        ParameterError: The confirm code is wrong; nothing moved.

        UnknownOutcomeError: A reversal may exist; only `reconcile` leads on.
    """
    request = get_reversal_request(desk, parameters)
    line = request.line_for()
    try:
        return _move(desk, request, line, operator, BACK, parameters, desk.store.find_reversal(line.line_id))
    except ManualPayoutError as error:
        return _as_settled(desk, error, BACK, line.ledger_payout_id, reversal=line.line_id)


def _as_settled(desk: Desk, error: ManualPayoutError, way: Way[R], ledger_payout_id: str, *, reversal: str = "") -> R:
    """Return what another run has settled since *error* was raised; else raise it as the books say."""
    told = by_the_books(desk, error, ledger_payout_id, reversal=reversal)
    settled = settled_since(desk, told, way)
    if settled is not None and settled.state in MOVED_STATES:
        return settled
    if settled is not None:
        told = by_the_books(desk, _ended_without(settled), ledger_payout_id, reversal=reversal)
    if told is error:
        raise error
    raise told from error


def _ended_without(record: Record) -> ClaimError:
    return ClaimError(
        f"Attempt {record.attempt_no} for {record.subject} ended without a {record.noun}: {record.outcome_reason}.",
        "Run the same command again for a new attempt.",
    )


def _require_same_content(parameters: Parameters, request: Request, record: PayoutRecord) -> None:
    """Who types something else after the payment is told which field, and not that it was paid (design, rule 5)."""
    if differs := policy.differences(parameters, request):
        raise IntentConflictError(
            differs, remedy=f"It was paid as requested, {record.stripe_transfer_id}; nothing was sent now."
        )


def _move(
    desk: Desk,
    request: Request,
    line: Line,
    operator: Person,
    way: Way[R],
    typed: Parameters | ReversalParameters,
    record: R | None,
) -> R:
    def judge() -> tuple[Approved, dict[str, Any] | None]:
        approved = admit(desk, typed, request, line, operator, first=record is None)
        shown = typed if isinstance(typed, Parameters) else None
        return approved, way.judge(desk, request, line, operator, approved, typed=shown)

    if record is not None and _is_done(record):
        return record
    not_after = desk.now() + JUDGEMENT_AGE_MAX
    approved, override = judge()
    if record is None or record.state is State.REFUSED:
        not_after = min(not_after, desk.settings.policy.request.request_ends(request), approved.stand_until)
        begun = desk.store.record_intent(
            new_attempt(way, request, line, approved, record, operator, at=desk.now()),
            approved.approval_ids,
            lease_s=lease_s(desk),
            not_after=not_after,
            override=override,
            rules=rules_now(desk, request, line),
        )
        return deliver_attempt(desk, begun)
    record = take_over(desk, record, operator)
    if record.state is State.REFUSED:
        raise _ended_without(record)
    if _is_done(record):
        return record
    # The wait for the other run's lease may have been long: approvals can have expired, facts can have changed.
    approved, override = judge()
    record_override(desk, record, override, operator)
    record_leave(desk, record, request, line, approved, operator)
    return deliver_attempt(desk, record)


def _is_done(record: Record) -> bool:
    if record.state in (State.UNKNOWN, State.NEEDS_HUMAN):
        raise unknown_outcome(record)
    return record.state in MOVED_STATES


def new_attempt(
    way: Way[R],
    request: Request,
    line: Line,
    approved: Approved,
    refused: Record | None,
    operator: Person,
    *,
    at: datetime,
) -> R:
    """Return the row of a new attempt of *line*, after the one that was *refused*, if any; nothing is written."""
    attempt_no = refused.attempt_no + 1 if refused is not None else 1
    common = {
        "request_id": request.request_id,
        "incident_id": request.incident_id,
        "ledger_payout_id": line.ledger_payout_id,
        "studio_id": line.studio_id,
        "studio_name": line.studio_name,
        "amount": line.amount,
        "destination_account": line.destination_account,
        "mode": request.mode,
        "notes": request.notes,
        "requested_by": request.requested_by,
        "approved_by_payments_ops": approved.payments_ops_person.person_id,
        "approved_by_finance": approved.finance_person.person_id,
        "operator_id": operator.person_id,
        "state": State.SUBMITTING,
        "attempt_no": attempt_no,
        "idempotency_key": idempotency_key(line.line_id, attempt_no),
        "payload": canonical_json(build_payload(request, line, attempt_no)),
        "owner": owner_name(operator),
        "fence": (refused.fence if refused is not None else 0) + 1,
        "lease_until": None,
        "sent": False,
        "created_at": at,
    }
    return way.attempt(request, line, common)
