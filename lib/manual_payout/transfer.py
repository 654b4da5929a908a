"""
The send, and the only way back from an unknown outcome.

`send` holds the gate: it trusts no cell before it. The order is always: judge afresh → claim the ledger payout → commit
the intent → look at Stripe → fence → one HTTP attempt → commit the outcome. A crash between any two leaves a state from
which the next run continues; no database transaction spans a call to Stripe.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from manual_payout.approvals import Approved, check_approvals
from manual_payout.canonical import canonical_json
from manual_payout.desk import Desk
from manual_payout.errors import (
    ApprovalError,
    ClaimError,
    DatabaseError,
    ParameterError,
    PolicyRefusedError,
    SettingsError,
    StripeRefusedError,
    UnknownOutcomeError,
)
from manual_payout.gateway import Accepted, Refused, Unknown
from manual_payout.intent import build_payload, confirm_code, difference, idempotency_key, is_own, transfer_group
from manual_payout.models import PayoutRecord, Request, State, stream_of
from manual_payout.parameters import Parameters
from manual_payout.people import Person
from manual_payout.verification import verify

# HTTP attempts with one key in one run. Three bridge a dropped connection; more would outlast the lease.
TRIES_MAX = 3

# Pauses between them, in seconds; Stripe recommends exponential back-off (*Rate limits*, *Advanced error handling*).
PAUSES_S = (1.0, 4.0)

# Stripe may forget a key once it is 24 hours old, and would then run the request anew (*Idempotent requests*). One hour
# is kept for clocks that disagree and for a request on its way.
KEY_WINDOW = timedelta(hours=23)

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
class Reconciliation:
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
    record: PayoutRecord


def send(desk: Desk, parameters: Parameters, operator: Person) -> PayoutRecord:
    """
    Move the money of one request, once.

    Args:
        parameters: As typed; they select the request and must agree with it. What is sent is the stored request.

    Returns:
        The payout record, paid. If it was paid before, nothing is sent.

    Raises:
        RefusedError: A gate or Stripe said no; nothing moved.

        UnknownOutcomeError: A transfer may exist; only `reconcile` leads on.
    """
    request = find_request(desk, parameters)
    record = desk.store.find_payout(request.line.line_id)
    if record is not None and record.state in (State.PAID, State.PARTLY_REVERSED, State.REVERSED):
        return record
    if record is not None and record.state in (State.UNKNOWN, State.NEEDS_HUMAN):
        raise unknown_outcome(record)
    approved = admit(desk, parameters, request, operator)
    verify(desk, parameters, operator.person_id).require_go()
    claim(desk, request)
    owner = _owner(operator)
    if record is not None and record.state is State.SUBMITTING:
        record = _take_over(desk, record, owner, operator)
    else:
        record = _record_intent(desk, request, approved, record, owner, operator)
    return _submit(desk, record)


def admit(desk: Desk, parameters: Parameters, request: Request, operator: Person) -> Approved:
    """
    Check everything that must hold at the moment of sending, whatever cells ran before (design, rule 1).

    Raises:
        RefusedError: Something does not hold.
    """
    now = desk.now()
    if parameters.dry_run:
        raise PolicyRefusedError("This is a dry run; a dry run sends nothing.", "Run live with the confirm code.")
    if request.mode is not desk.settings.mode:
        raise ApprovalError(
            f"The request is for {request.mode} mode, this run is in {desk.settings.mode} mode.",
            "Use the settings of that mode.",
        )
    if now >= request.expires_at or desk.store.is_withdrawn(request):
        raise ApprovalError(
            f"Request {request.request_id} is expired or withdrawn.", "File it again and have it approved."
        )
    if parameters.confirm != confirm_code(request, request.line, operator.person_id):
        raise ParameterError(
            "confirm", parameters.confirm or "nothing", "the code that this operator's dry run of this request printed",
            "Run the dry run, read the payload, and give the code it prints.",
        )  # fmt: skip
    if not _saw_dry_run(desk, request, operator):
        raise PolicyRefusedError(f"{operator.name} has not made a dry run of this request.", "Run the dry run first.")
    stored = desk.store.approvals_of(request.request_id)
    return check_approvals(request, stored, desk.registry, operator_id=operator.person_id, at=now)


def find_request(desk: Desk, parameters: Parameters) -> Request:
    """
    Return the stored request that these parameters select.

    Raises:
        PolicyRefusedError: There is none.
    """
    request = desk.store.find_request(parameters.incident_id, parameters.ledger_payout_id)
    if request is None:
        raise PolicyRefusedError(
            f"{parameters.incident_id} has no request for ledger payout {parameters.ledger_payout_id}.",
            "File it with `manual-payout request`, and have both teams approve it.",
        )
    return request


def claim(desk: Desk, request: Request) -> None:
    """
    Take the ledger payout away from the automation, or refuse (design, rule 6).

    Raises:
        ClaimError: The automation has paid it, or another request holds it.
    """
    line = request.line
    dead = desk.store.dead_claims(line.ledger_payout_id)
    desk.ledger.claim(line.ledger_payout_id, line.line_id, at=desk.now(), releasable=dead)


def reconcile(desk: Desk, record: PayoutRecord, operator: Person) -> Reconciliation:
    """
    Settle an interrupted or unknown sending by asking Stripe (design, rule 3).

    Stripe's listing comes first. Only where it shows nothing, the key is inside its safe window and the approvals still
    stand, the same key is sent again: Stripe then repeats its answer, or makes the transfer that was approved.

    Raises:
        UnknownOutcomeError: It stays unknown; a person has to decide.

        ClaimError: A run is still sending.
    """
    believed = f"{record.state}: attempt {record.attempt_no}, key {record.idempotency_key}"
    if record.state not in (State.SUBMITTING, State.UNKNOWN, State.NEEDS_HUMAN):
        return _agree(desk, record, believed)
    record = _take_over(desk, record, _owner(operator), operator)
    found = _look_up(desk, record)
    if found is not None:
        return Reconciliation(
            believed, _told(found), "the transfer was not on record", "recorded as paid", _settle(desk, record, found)
        )
    nothing = f"no transfer in group {record.transfer_group}"
    if not record.sent:
        closed = _record_refused(
            desk, record, Refused("never_sent", "the run ended before anything was sent", "", same_key=False)
        )
        return Reconciliation(believed, nothing, "", "recorded as not sent; the same request may be run again", closed)
    reason = _why_not_again(desk, record, operator)
    if reason:
        desk.store.record_outcome(record, State.NEEDS_HUMAN, reason, actor=operator.person_id)
        raise UnknownOutcomeError(
            f"Stripe shows no transfer for {record.ledger_payout_id}, and the same key cannot be sent again: {reason}.",
            "Look it up in the Dashboard, then record the decision: manual-payout reconcile "
            f"{record.incident_id} --decide not-moved --because '…'.",
        )
    paid = _submit(desk, record)
    return Reconciliation(believed, nothing, "nothing had arrived", "sent again under the same key", paid)


def decide_not_moved(desk: Desk, record: PayoutRecord, operator: Person, because: str) -> Reconciliation:
    """
    Record a person's decision that an unknown sending moved nothing.

    Raises:
        PolicyRefusedError: Stripe shows the transfer, or the key may still be in flight or replayed.
    """
    believed = f"{record.state}: attempt {record.attempt_no}, key {record.idempotency_key}"
    if record.state is not State.NEEDS_HUMAN:
        raise PolicyRefusedError(
            f"The payout is {record.state}, not needs_human; there is nothing to decide.",
            "Run reconcile without a decision first.",
        )
    if found := _look_up(desk, record):
        return Reconciliation(
            believed, _told(found), "the transfer exists", "recorded as paid", _settle(desk, record, found)
        )
    if record.first_sent_at is not None and desk.now() < record.first_sent_at + KEY_WINDOW:
        raise PolicyRefusedError(
            "The key is still inside its window: Stripe may yet show the transfer.",
            f"Decide after {record.first_sent_at + KEY_WINDOW:%Y-%m-%d %H:%M} UTC.",
        )
    reason = f"decided by {operator.name}: {because}"
    closed = desk.store.record_outcome(
        record, State.REFUSED, reason, actor=operator.person_id, code="decided_not_moved"
    )
    desk.ledger.release(record.ledger_payout_id, record.payout_id)
    return Reconciliation(believed, f"no transfer in group {record.transfer_group}", "", reason, closed)


def unknown_outcome(record: PayoutRecord) -> UnknownOutcomeError:
    """Say that the outcome of *record* is unknown and what leads on."""
    return UnknownOutcomeError(
        f"The outcome of attempt {record.attempt_no} for {record.ledger_payout_id} is unknown: {record.outcome_reason}.",
        f"Run `manual-payout reconcile {record.incident_id}`; never send again before.",
    )


def _submit(desk: Desk, record: PayoutRecord) -> PayoutRecord:
    payload = json.loads(record.payload)
    # Once an answer was lost, a later refusal says nothing about the earlier request; it can have paid.
    ambiguous = record.sent
    answer: Refused | Unknown = Unknown("interrupted", "an earlier run ended during the call", "")
    for pause_s in (*PAUSES_S[: TRIES_MAX - 1], 0.0):
        found = _look_up_before(desk, record, ambiguous=ambiguous)
        if found is not None:
            return _settle(desk, record, found)
        if _window_closed(desk, record):
            break
        record = desk.store.mark_sent(record, lease_s=_lease_s(desk))
        reply = desk.gateway.create_transfer(payload, idempotency_key=record.idempotency_key)
        if isinstance(reply, Accepted):
            return _settle(desk, record, reply.transfer, text=reply.text, request_id=reply.request_id)
        answer = reply
        ambiguous = ambiguous or isinstance(answer, Unknown)
        if not ambiguous and not _worth_repeating(answer):
            break
        if pause_s:
            desk.clock.wait(pause_s)
    if isinstance(answer, Refused) and not ambiguous:
        _record_refused(desk, record, answer)
        raise _refused(record, answer)
    return _give_up(desk, record, answer)


def _give_up(desk: Desk, record: PayoutRecord, answer: Refused | Unknown) -> PayoutRecord:
    found = _look_up_before(desk, record, ambiguous=True)
    if found is not None:
        return _settle(desk, record, found)
    reason = f"{answer.message} ({answer.code})"
    record = desk.store.record_outcome(
        record, State.UNKNOWN, reason, actor=record.operator_id, code=answer.code, request_id=answer.request_id
    )
    raise unknown_outcome(record)


def _settle(
    desk: Desk, record: PayoutRecord, transfer: dict[str, Any], *, text: str | None = None, request_id: str = ""
) -> PayoutRecord:
    differs = difference(transfer, json.loads(record.payload), record.mode)
    state = State.NEEDS_HUMAN if differs else State.PAID
    try:
        record = desk.store.record_outcome(
            record,
            state,
            differs or "Stripe accepted the transfer",
            actor=record.operator_id,
            transfer=transfer,
            transfer_text=text or json.dumps(transfer, indent=2, sort_keys=True, ensure_ascii=False),
            request_id=request_id,
        )
    except DatabaseError as error:
        raise UnknownOutcomeError(
            f"Stripe has the transfer {transfer['id']}, but our database did not take the record: {error.message}",
            f"Note {transfer['id']} in the ticket, mend the database, then run `manual-payout reconcile {record.incident_id}`.",
        ) from None
    if differs:
        raise unknown_outcome(record)
    return record


def _record_refused(desk: Desk, record: PayoutRecord, answer: Refused) -> PayoutRecord:
    closed = desk.store.record_outcome(
        record, State.REFUSED, answer.message, actor=record.operator_id, code=answer.code, request_id=answer.request_id
    )
    # After the outcome, never before: a claim that is still held only makes the automation wait.
    desk.ledger.release(record.ledger_payout_id, record.payout_id)
    return closed


def _refused(record: PayoutRecord, answer: Refused) -> StripeRefusedError:
    return StripeRefusedError(
        f"Stripe refused attempt {record.attempt_no}: {answer.message.rstrip('.')} ({answer.code}).",
        _REMEDIES.get(answer.code, "Correct what Stripe names; a retry is a new attempt with a new key."),
        code=answer.code,
        request_id=answer.request_id,
    )


def _worth_repeating(answer: Refused | Unknown) -> bool:
    # These come before Stripe runs anything under the key, and pass by themselves (*Rate limits*).
    return answer.code in {"rate_limit", "lock_timeout"}


def _window_closed(desk: Desk, record: PayoutRecord) -> bool:
    return record.first_sent_at is not None and desk.now() >= record.first_sent_at + KEY_WINDOW


def _look_up(desk: Desk, record: PayoutRecord) -> dict[str, Any] | None:
    """Return this line's transfer, as Stripe lists it under the ledger payout's group, or None."""
    listed = [t for t in desk.gateway.transfers_in_group(transfer_group(record.ledger_payout_id)) if not t["reversed"]]
    own = [transfer for transfer in listed if is_own(transfer, record.payout_id)]
    foreign = [transfer for transfer in listed if not is_own(transfer, record.payout_id)]
    if foreign or len(own) > 1:
        ids = ", ".join(transfer["id"] for transfer in foreign + own)
        raise UnknownOutcomeError(
            f"Stripe shows transfers for {record.ledger_payout_id} that are not this request's one: {ids}.",
            "Do not send: compare them with the ledger in the Dashboard; a mistaken one is reversed by its own request.",
        )
    return own[0] if own else None


def _look_up_before(desk: Desk, record: PayoutRecord, *, ambiguous: bool) -> dict[str, Any] | None:
    try:
        return _look_up(desk, record)
    except (StripeRefusedError, SettingsError) as error:
        if ambiguous:
            reason = f"the answer was lost and Stripe cannot be asked ({error.message})"
            raise unknown_outcome(
                desk.store.record_outcome(record, State.UNKNOWN, reason, actor=record.operator_id)
            ) from None
        _record_refused(desk, record, Refused("unreachable", error.message, "", same_key=True))
        raise


def _why_not_again(desk: Desk, record: PayoutRecord, operator: Person) -> str:
    """Say why the same key may not be sent again, or nothing."""
    now = desk.now()
    if _window_closed(desk, record):
        return "its key has left the window in which Stripe surely remembers it"
    request = desk.store.get_request(record.request_id)
    try:
        stored = desk.store.approvals_of(request.request_id)
        check_approvals(request, stored, desk.registry, operator_id=operator.person_id, at=now)
        claim(desk, request)
    except (ApprovalError, ClaimError) as error:
        return error.message.rstrip(".")
    return ""


def _agree(desk: Desk, record: PayoutRecord, believed: str) -> Reconciliation:
    found = _look_up(desk, record)
    says = _told(found) if found else f"no transfer in group {record.transfer_group}"
    differs = ""
    if (found is not None) != (record.state is State.PAID):
        differs = f"our row says {record.state}, Stripe says {says}"
    elif found is not None:
        differs = difference(found, json.loads(record.payload), record.mode)
    return Reconciliation(believed, says, differs, "nothing", record)


def _take_over(desk: Desk, record: PayoutRecord, owner: str, operator: Person) -> PayoutRecord:
    # A run that died may have a request on its way for as long as one HTTP attempt lasts; its lease covers that.
    remaining = (record.lease_until - desk.now()).total_seconds() if record.lease_until else 0.0
    if remaining > 0:
        desk.clock.wait(remaining)
        fresh = desk.store.find_payout(record.payout_id)
        record = fresh if fresh is not None else record
    return desk.store.take_over(record, owner=owner, operator_id=operator.person_id, lease_s=_lease_s(desk))


def _record_intent(
    desk: Desk, request: Request, approved: Approved, refused: PayoutRecord | None, owner: str, operator: Person
) -> PayoutRecord:
    line = request.line
    attempt_no = refused.attempt_no + 1 if refused is not None else 1
    now = desk.now()
    record = PayoutRecord(
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
        owner=owner,
        fence=(refused.fence if refused is not None else 0) + 1,
        lease_until=now,
        sent=False,
        created_at=now,
    )
    return desk.store.record_intent(record, approved.approval_ids, lease_s=_lease_s(desk))


def _saw_dry_run(desk: Desk, request: Request, operator: Person) -> bool:
    stream = stream_of(request.incident_id, request.line.ledger_payout_id)
    wanted = (request.request_id, operator.person_id)
    return (
        desk.store.find_event(stream, "dry_run", lambda data: (data["request_id"], data["operator_id"]) == wanted)
        is not None
    )


def _lease_s(desk: Desk) -> float:
    # One HTTP attempt, the listing before it, and the pause after it, doubled: the lease is renewed before each attempt.
    return 2 * (2 * desk.settings.policy.stripe.timeout_s + max(PAUSES_S))


def _owner(operator: Person) -> str:
    return f"{operator.handle}@{socket.gethostname()}:{os.getpid()}-{secrets.token_hex(3)}"


def _told(transfer: dict[str, Any]) -> str:
    return f"{transfer['id']}: {transfer['amount']} {transfer['currency']} (minor units) to {transfer['destination']}"
