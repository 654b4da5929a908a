"""From a request that both teams approved to a transfer: gate, claim, intent, delivery."""

from __future__ import annotations

from datetime import datetime, timedelta

from manual_payout.approvals import Approved
from manual_payout.canonical import canonical_json
from manual_payout.desk import Desk
from manual_payout.errors import ClaimError, RefusedError, UnknownOutcomeError
from manual_payout.intent import build_payload, idempotency_key, transfer_group
from manual_payout.models import PayoutRecord, Request, State
from manual_payout.parameters import Parameters
from manual_payout.people import Person
from manual_payout.transfer.delivery import deliver, lease_s, owner_name, take_over, unknown_outcome
from manual_payout.transfer.gate import admit, claim, find_request
from manual_payout.verification import verify

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
        RefusedError: A gate or Stripe said no; nothing moved.

        ParameterError: The confirm code is wrong; nothing moved.

        UnknownOutcomeError: A transfer may exist; only `reconcile` leads on.
    """
    request = find_request(desk, parameters)
    record = desk.store.find_payout(request.line.line_id)
    if record is not None and _is_sent_before(record):
        return record
    not_after = desk.now() + JUDGEMENT_AGE_MAX
    approved = _pass_gate(desk, parameters, request, operator, record)
    if record is None or record.state is State.REFUSED:
        not_after = min(not_after, request.expires_at, approved.stand_until)
        intent = _intent(request, approved, record, operator, at=desk.now())
        record = desk.store.record_intent(intent, approved.approval_ids, lease_s=lease_s(desk), not_after=not_after)
        return deliver(desk, record)
    record = take_over(desk, record, operator)
    if record.state is State.REFUSED:
        raise ClaimError(
            f"The run that was sending {record.ledger_payout_id} was refused by Stripe: {record.outcome_reason}.",
            "Run the same command again for a new attempt.",
        )
    if _is_sent_before(record):
        return record
    # The wait for the other run's lease may have been long: approvals can have expired, facts can have changed.
    _pass_gate(desk, parameters, request, operator, record)
    return deliver(desk, record)


def _pass_gate(
    desk: Desk, parameters: Parameters, request: Request, operator: Person, record: PayoutRecord | None
) -> Approved:
    try:
        approved = admit(desk, parameters, request, operator)
        verify(desk, parameters, operator.person_id).require_go()
        claim(desk, request)
    except RefusedError as error:
        if record is not None and record.state is State.SUBMITTING and record.sent:
            # This run sends nothing, but an interrupted one may have: "nothing moved" would be a guess.
            raise UnknownOutcomeError(
                f"An earlier run was interrupted while sending {record.ledger_payout_id}, and this one may not "
                f"continue it: {error.message}",
                f"Run `manual-payout reconcile {record.incident_id}` to learn what happened.",
            ) from error
        raise
    return approved


def _is_sent_before(record: PayoutRecord) -> bool:
    if record.state in (State.UNKNOWN, State.NEEDS_HUMAN):
        raise unknown_outcome(record)
    return record.state in (State.PAID, State.PARTLY_REVERSED, State.REVERSED)


def _intent(
    request: Request, approved: Approved, refused: PayoutRecord | None, operator: Person, *, at: datetime
) -> PayoutRecord:
    line = request.line
    attempt_no = refused.attempt_no + 1 if refused is not None else 1
    return PayoutRecord(
        payout_id=line.line_id,
        request_id=request.request_id,
        incident_id=request.incident_id,
        ledger_payout_id=line.ledger_payout_id,
        studio_id=line.studio_id,
        studio_name=line.studio_name,
        amount=line.amount,
        reserve_after=line.reserve_after,
        destination_account=line.destination_account,
        mode=request.mode,
        reason=request.reason,
        notes=request.notes,
        requested_by=request.requested_by,
        approved_by_payments_ops=approved.payments_ops_person.person_id,
        approved_by_finance=approved.finance_person.person_id,
        operator_id=operator.person_id,
        state=State.SUBMITTING,
        attempt_no=attempt_no,
        idempotency_key=idempotency_key(line.line_id, attempt_no),
        transfer_group=transfer_group(line.ledger_payout_id),
        payload=canonical_json(build_payload(request, line, attempt_no)),
        owner=owner_name(operator),
        fence=(refused.fence if refused is not None else 0) + 1,
        lease_until=None,
        sent=False,
        created_at=at,
    )
