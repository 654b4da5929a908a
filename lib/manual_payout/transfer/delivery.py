"""
The recovery loop: look, fence, one HTTP attempt, outcome; until it is known what happened or it is known that it is not.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

from manual_payout.database.waiting import PATIENCE_S, pass_time, wait_for
from manual_payout.desk.people import Person
from manual_payout.desk.wiring import Desk
from manual_payout.domain.account import reconcile_command
from manual_payout.domain.errors import (
    AttemptRefusedError,
    ClaimError,
    DatabaseError,
    EvidenceError,
    ManualPayoutError,
    PolicyRefusedError,
    SettingsError,
    StripeRefusedError,
    UnknownOutcomeError,
)
from manual_payout.domain.intent import difference
from manual_payout.domain.models import OPEN_STATES, R, Record, State, stream_of
from manual_payout.gateway import Accepted, Refused, Unknown
from manual_payout.transfer.movement import Way, changed_since, listed, way_of
from manual_payout.transfer.tries import PAUSE_MAX_S, TRIES_MAX, Sending, asked_for

T = TypeVar("T")

# Stripe may forget a key once it is 24 hours old, and would then run the request anew (*Idempotent requests*). One hour
# is kept for clocks that disagree and for a request on its way.
KEY_WINDOW = timedelta(hours=23)


def deliver_attempt(desk: Desk, record: R) -> R:
    """
    Send the attempt of *record*, to which this run holds the right, until its outcome is known or known to be unknown.

    Returns:
        The record, paid or reversed.

    Raises:
        AttemptRefusedError: Stripe said no, and no request of this attempt is in doubt.

        ClaimError, PolicyRefusedError, DatabaseError, SettingsError: It ended before anything could have moved.

        UnknownOutcomeError: A transfer or a reversal may exist, whatever the reason.
    """
    sending: Sending[R] = Sending(record, in_doubt=record.sent)
    try:
        return _send_until_known(desk, sending)
    except UnknownOutcomeError:
        raise
    except ManualPayoutError as error:
        if not sending.in_doubt:
            raise
        raise UnknownOutcomeError(
            f"A {record.noun} for {record.subject} may have been made, and this run could not find out: {error.message}",
            f"Run `{reconcile_command(record)}`; never send again before.",
        ) from error


def take_over(desk: Desk, record: R, operator: Person) -> R:
    """
    Wait for the end of another run's lease, then take over the sending, or find what has become of it meanwhile.

    Returns:
        The record in our hands if it is still open; otherwise as it is by now, which is the caller's to look at.

    Raises:
        ClaimError: Another run was faster.

        UnknownOutcomeError: Another run holds it still, after as long as a person waits.
    """
    fresh: R = record

    def over() -> bool:
        nonlocal fresh
        fresh = way_of(record).find(desk, record.line_id) or record
        return fresh.state is not record.state or _held_for_s(desk, fresh) <= 0

    # A run that died may have a request on its way for as long as one HTTP attempt lasts; its lease covers that. The
    # wait is a person's and may end sooner; the lease may not.
    if not wait_for(desk.clock, over, lambda: _held(desk, fresh), ends_s=_held_for_s(desk, record)):
        raise UnknownOutcomeError(
            f"{_held(desk, fresh)} This run has waited for {PATIENCE_S:.0f} s.",
            f"Run `{reconcile_command(record)}` after {fresh.lease_until:%Y-%m-%d %H:%M:%S} UTC; never send in another way before.",
            record=fresh,
        )
    if fresh.state is not record.state:
        return fresh
    return desk.store.take_over(
        fresh, owner=owner_name(operator), operator_id=operator.person_id, lease_s=lease_s(desk)
    )


def _held_for_s(desk: Desk, record: Record) -> float:
    """How long the lease of *record* still lasts by the clock that judges."""
    return (record.lease_until - desk.now()).total_seconds() if record.lease_until else 0.0


def _held(desk: Desk, record: Record) -> str:
    """Say who holds the sending, until when, and where that is longer than anybody is given."""
    left_s, given_s = _held_for_s(desk, record), lease_s(desk)
    said = (
        f"The sending for {record.subject} is in the hands of {record.owner} until "
        f"{record.lease_until:%Y-%m-%d %H:%M:%S} UTC by the database's clock, {left_s:.0f} s from now."
    )
    # A second for the statements in between.
    odd = left_s > given_s + 1
    why = f" This policy gives a run {given_s:.0f} s: that clock was set back since, or that run has another policy."
    return said + why * odd


def look_up(desk: Desk, record: R) -> dict[str, Any] | None:
    """
    Return this line's transfer or reversal as Stripe lists it, or None.

    Transfers that are not this line's end the sending: the money may have moved under another name.

    Raises:
        PolicyRefusedError: There are foreign ones, and this attempt has sent nothing; recorded as refused.

        UnknownOutcomeError: There are foreign ones, or several of our own; recorded as needing a person.

        StripeRefusedError, SettingsError, EvidenceError: Stripe cannot be asked.
    """
    own, foreign = listed(desk, record)
    if not foreign and len(own) <= 1:
        return own[0] if own else None
    ids = ", ".join(transfer["id"] for transfer in foreign + own)
    message = f"Stripe shows {record.noun}s for {record.subject} that are not this request's one: {ids}"
    remedy = (
        "Do not send: compare them with the ledger in the Dashboard; a mistaken one is reversed by its own request."
    )
    if not record.sent and not own:
        record_refused(desk, record, Refused("foreign_transfer", message, "", same_key=True))
        raise PolicyRefusedError(f"{message}.", remedy)
    desk.store.record_outcome(record, State.NEEDS_HUMAN, message, actor=record.operator_id, code="foreign_transfer")
    raise UnknownOutcomeError(f"{message}.", remedy)


def settle(
    desk: Desk,
    record: R,
    made: dict[str, Any],
    *,
    text: str | None = None,
    request_id: str = "",
    doubt: str = "",
    took: str = "",
    actor: str = "",
) -> R:
    """
    Record what Stripe has made: paid or reversed, or needing a person where it is not what was meant.

    Args:
        text: It as JSON text for the evidence.

        doubt: A reason beyond itself why a person has to look.

        took: What it took to get there, for the record.

        actor: Who records it; empty for who runs it.

    Raises:
        UnknownOutcomeError: It is not what was meant, or the record could not be taken; it is named.
    """
    differs = doubt or difference(made, record)
    try:
        settled = desk.store.record_outcome(
            record,
            State.NEEDS_HUMAN if differs else record.end_state(made),
            f"{made['id']}: {differs}" if differs else f"{way_of(record).accepted(record, made)}{took}",
            actor=actor or record.operator_id,
            made=made,
            made_text=text or json.dumps(made, indent=2, sort_keys=True),
            reversed_minor=way_of(record).reversed_minor(desk, record) if not differs else None,
            request_id=request_id,
        )
    except Exception as error:  # the money has moved: whatever went wrong here, its name must reach a person
        raise _not_taken(desk, record, made, error) from error
    desk.spool.close(record)
    if differs:
        raise unknown_outcome(settled)
    return settled


def _not_taken(desk: Desk, record: Record, made: dict[str, Any], error: Exception) -> UnknownOutcomeError:
    """Name what was made, on screen and, where the database is away, on this machine's disk."""
    why = error.message if isinstance(error, ManualPayoutError) else type(error).__name__
    noted = ""
    if isinstance(error, ClaimError):
        _note_late_answer(desk, record, made)
    else:
        try:
            noted = f" It is noted in {desk.spool.note(record, made['id'])}."
        except OSError as failure:
            noted = f" Nor could it be noted on this machine: {failure.strerror}."
    return UnknownOutcomeError(
        f"Stripe has the {record.noun} {made['id']}, under the key {record.idempotency_key}, but our database did not take "
        f"the record: {why.rstrip('.')}.{noted}",
        f"Note {made['id']} in the ticket, mend the database, then run `{reconcile_command(record)}`.",
    )


def record_refused(desk: Desk, record: R, answer: Refused) -> R:
    """
    Record that this attempt moved nothing.

    The claim on the ledger payout stays. Giving it back here once let the automation pay again: a run that froze
    between this record and the release gave back, an hour later, the claim under which a second attempt had paid.
    """
    return desk.store.record_outcome(
        record, State.REFUSED, answer.message, actor=record.operator_id, code=answer.code, request_id=answer.request_id
    )


def unknown_outcome(record: Record, *, first: str = "") -> UnknownOutcomeError:
    """Say that the outcome of *record* is unknown and what leads on; *first* is a sentence on what comes before that."""
    return UnknownOutcomeError(
        f"The outcome of attempt {record.attempt_no} for {record.subject} is unknown: {record.outcome_reason}.",
        f"{first}Run `{reconcile_command(record)}`; never send again before.",
        record=record,
    )


def settled_since(desk: Desk, error: ManualPayoutError, way: Way[R]) -> R | None:
    """
    Return the row that *error* calls unknown, where another run has settled it since.

    A run can freeze between its last word to the database and its last word to a person.
    """
    record = error.record if isinstance(error, UnknownOutcomeError) else None
    if record is None:
        return None
    # Where the books cannot be asked, the outcome stays unknown.
    with contextlib.suppress(DatabaseError):
        fresh = way.find(desk, record.line_id)
        if fresh is not None and fresh.state not in OPEN_STATES:
            return fresh
    return None


def window_closed(desk: Desk, record: Record) -> bool:
    """Whether Stripe may have forgotten the key of *record*, so that it must never be sent again."""
    return record.first_sent_at is not None and desk.now() >= record.first_sent_at + KEY_WINDOW


def lease_s(desk: Desk) -> float:
    """Return how long a lease lasts: an HTTP attempt, the listing before it and the longest pause after it, doubled."""
    return 2 * (2 * desk.settings.policy.stripe.timeout_s + PAUSE_MAX_S)


def owner_name(operator: Person) -> str:
    """Name this run, so that a second operator is told who holds the sending."""
    return f"{operator.handle}@{socket.gethostname()}:{os.getpid()}-{secrets.token_hex(3)}"


def _send_until_known(desk: Desk, sending: Sending[R]) -> R:
    answer: Refused | Unknown = Unknown("interrupted", "an earlier run ended during the call", "")
    for _ in range(TRIES_MAX):
        found = _look_up_or_end(desk, sending)
        if found is not None:
            return settle(desk, sending.record, found, took=sending.told)
        if window_closed(desk, sending.record):
            break
        _require_as_approved(desk, sending)
        sending.record = desk.store.mark_sent(sending.record, lease_s=lease_s(desk), window=KEY_WINDOW)
        earlier, sending.in_doubt = sending.in_doubt, True
        reply = way_of(sending.record).post(desk, sending.record)
        sending.tries += 1
        if isinstance(reply, Accepted):
            return settle(
                desk, sending.record, reply.made, text=reply.text, request_id=reply.request_id, took=sending.told
            )
        answer = reply
        sending.in_doubt = earlier or isinstance(reply, Unknown)
        pause_s = sending.pause_s(reply)
        if pause_s is None or (not sending.in_doubt and not _worth_repeating(reply)):
            break
        pass_time(desk.clock, pause_s, f"Stripe's answer was {reply.code}; the same key is sent again.")
        sending.waited_s += pause_s
    if isinstance(answer, Refused) and not sending.in_doubt:
        record_refused(desk, sending.record, answer)
        raise _refused(sending.record, answer, sending.told)
    return _give_up(desk, sending, answer)


def _give_up(desk: Desk, sending: Sending[R], answer: Refused | Unknown) -> R:
    found = _look_up_or_end(desk, sending)
    if found is not None:
        return settle(desk, sending.record, found, took=sending.told)
    late = window_closed(desk, sending.record)
    record = desk.store.record_outcome(
        sending.record,
        State.NEEDS_HUMAN if late else State.UNKNOWN,
        f"{answer.message.rstrip('.')} ({answer.code}){sending.told}",
        actor=sending.record.operator_id,
        code=answer.code,
        request_id=answer.request_id,
    )
    raise unknown_outcome(record, first=asked_for(answer))


def _look_up_or_end(desk: Desk, sending: Sending[R]) -> dict[str, Any] | None:
    return _ask_or_end(desk, sending, lambda: look_up(desk, sending.record))


def _require_as_approved(desk: Desk, sending: Sending[R]) -> None:
    """End the sending where something has changed after its verification: the last look before the fence."""
    changed = _ask_or_end(desk, sending, lambda: changed_since(desk, sending.record))
    if changed is None:
        return
    if not sending.in_doubt:
        record_refused(desk, sending.record, Refused(changed.code, changed.message, "", same_key=True))
        raise PolicyRefusedError(f"{changed.message}.", changed.remedy)
    record = desk.store.record_outcome(
        sending.record, State.NEEDS_HUMAN, changed.message, actor=sending.record.operator_id, code=changed.code
    )
    raise unknown_outcome(record)


def _ask_or_end(desk: Desk, sending: Sending[R], ask: Callable[[], T]) -> T:
    try:
        return ask()
    except DatabaseError:
        raise
    except (StripeRefusedError, SettingsError, EvidenceError) as error:
        if not sending.in_doubt:
            record_refused(desk, sending.record, Refused("unreachable", error.message, "", same_key=True))
            if isinstance(error, SettingsError):
                raise
            # Not Stripe's refusal: the look before the sending is a gate, and it did not open.
            raise PolicyRefusedError(error.message, error.remedy) from error
        reason = f"the answer was lost and Stripe cannot be asked ({error.message.rstrip('.')})"
        record = desk.store.record_outcome(
            sending.record, State.UNKNOWN, reason, actor=sending.record.operator_id, code="unreachable"
        )
        raise unknown_outcome(record) from error


def _note_late_answer(desk: Desk, record: Record, made: dict[str, Any]) -> None:
    data = {f"stripe_{record.noun}_id": made["id"], "idempotency_key": record.idempotency_key, "owner": record.owner}
    desk.store.record_event(
        stream_of(record.incident_id, record.ledger_payout_id), "late_answer", record.operator_id, data
    )


def _refused(record: Record, answer: Refused, took: str) -> AttemptRefusedError:
    asked = asked_for(answer)
    remedy = way_of(record).remedies.get(
        answer.code, "Correct what Stripe names; a retry is a new attempt with a new key."
    )
    if asked:
        remedy = f"{asked}Then run the same command again." if _worth_repeating(answer) else f"{asked}{remedy}"
    return AttemptRefusedError(
        f"Stripe refused attempt {record.attempt_no}: {answer.message.rstrip('.')} ({answer.code}){took}.",
        remedy,
        code=answer.code,
        request_id=answer.request_id,
    )


def _worth_repeating(answer: Refused | Unknown) -> bool:
    # These come before Stripe runs anything under the key, and pass by themselves (*Rate limits*).
    return answer.code in {"rate_limit", "lock_timeout"}
