"""A transfer that was made by hand from the payload (SOP step 3: Stripe's CLI, Postman) is taken up, by a recorded decision."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from manual_payout.approval.approvals import Approved, check_approvals, given_approvals
from manual_payout.desk.people import Person
from manual_payout.desk.wiring import Desk
from manual_payout.domain.account import reconcile_command
from manual_payout.domain.errors import (
    ApprovalError,
    IntentConflictError,
    ManualPayoutError,
    PolicyRefusedError,
    UnknownOutcomeError,
)
from manual_payout.domain.intent import build_payload, payload_differences, transfer_group
from manual_payout.domain.models import MOVED_STATES, Line, PayoutRecord, Request, State
from manual_payout.domain.money import Money
from manual_payout.domain.parameters import NOTES_LENGTH_MAX, check, check_text
from manual_payout.transfer.gate import check_standing, claim, require_same_account, rules_now
from manual_payout.transfer.movement import OUT
from manual_payout.transfer.reconciling import Reconciliation
from manual_payout.transfer.sending import JUDGEMENT_AGE_MAX, new_attempt

# Stripe tells when it made a transfer in whole seconds, by its own clock.
_CLOCKS = timedelta(minutes=1)


def adopt(
    desk: Desk, request: Request, line: Line, transfer_id: str, operator: Person, because: str = ""
) -> Reconciliation[PayoutRecord]:
    """
    Put on record that *transfer_id* is the transfer of *request*, made by hand. No money moves by this.

    Args:
        because: Why it was made by hand; recorded with the operator's name.

    Raises:
        ParameterError: The id is none, or the reason is no plain text.

        PolicyRefusedError: It is not this payout's transfer, and how; or something else stands in the way of that.

        IntentConflictError: Another transfer is on record for this payout.

        UnknownOutcomeError: It is this payout's transfer, and cannot be taken up; or an attempt of ours is open.
    """
    transfer_id = check("adopt", transfer_id)
    because = check_text("because", because, NOTES_LENGTH_MAX, empty=True)
    desk.registry.get_allowed(operator.person_id, "operate", desk.now(), field="operator")
    record = desk.store.find_payout(line.line_id)
    if record is not None and record.state is not State.REFUSED:
        return _begun(record, transfer_id)
    require_same_account(desk, request)
    made = desk.gateway.get_transfer(transfer_id)
    _require_alike(made, request, line)
    _require_alone(desk, made, line)
    try:
        return _take_up(desk, request, line, record, made, operator, because)
    except ManualPayoutError as error:
        # It exists: "nothing moved" would be false, whatever stands in the way of the record.
        raise UnknownOutcomeError(
            f"{transfer_id} is this payout's transfer in every field, and is not taken up: {error.message}",
            f"{error.remedy} Then adopt it again; never send again before.".strip(),
        ) from error


def _begun(record: PayoutRecord, transfer_id: str) -> Reconciliation[PayoutRecord]:
    believed = f"{record.state}: attempt {record.attempt_no}, key {record.idempotency_key}"
    if record.state not in MOVED_STATES:
        # It may yet make another one; reconcile finds whatever stands in the group, this one too.
        raise UnknownOutcomeError(
            f"An attempt of ours is open, {record.state}: {transfer_id} cannot be taken up beside it.",
            f"Run `{reconcile_command(record)}`: it finds a transfer that was made from the payload.",
        )
    if record.stripe_transfer_id != transfer_id:
        raise IntentConflictError(
            [("stripe_transfer_id", record.stripe_transfer_id, transfer_id)],
            "Compare both in the Dashboard; a mistaken one is reversed by its own request.",
        )  # fmt: skip
    return Reconciliation(believed, transfer_id, "", "nothing: it is on record", record)


def _require_alike(made: dict[str, Any], request: Request, line: Line) -> None:
    """Refuse what is not exactly what the request would have sent; every field that differs is named."""
    payload = build_payload(request, line, 1)
    found = payload_differences(made, payload, request.mode)
    if found:
        raise PolicyRefusedError(
            f"{made['id']} is not the transfer of this request: {'; '.join(found)}.",
            "Only a transfer with every field of the payload of 2-execute is taken up. If it was meant for this payout all the "
            "same, take it back in the Dashboard, and run the request; if it paid something else, acknowledge it.",
        )
    if made["reversed"]:
        raise PolicyRefusedError(
            f"{made['id']} was reversed in full: it paid nobody.",
            "Run the request as usual; nothing stands in its way.",
        )
    if made["id"] in line.acknowledged:
        raise PolicyRefusedError(
            f"{made['id']} is acknowledged by this request as another payment.", "File the request again without it."
        )


def _require_alone(desk: Desk, made: dict[str, Any], line: Line) -> None:
    """Refuse where Stripe shows more than this one for the payout."""
    listed = desk.gateway.transfers_in_group(transfer_group(line.ledger_payout_id))
    others = [one["id"] for one in listed if one["id"] != made["id"] and not one["reversed"]]
    if others:
        raise UnknownOutcomeError(
            f"Stripe shows more than {made['id']} for this ledger payout: {', '.join(others)}.",
            "Compare them with the ledger in the Dashboard; take back what was paid twice, then adopt the other.",
        )


def _take_up(
    desk: Desk,
    request: Request,
    line: Line,
    refused: PayoutRecord | None,
    made: dict[str, Any],
    operator: Person,
    because: str,
) -> Reconciliation[PayoutRecord]:
    not_after = desk.now() + JUDGEMENT_AGE_MAX
    approved = _require_approved(desk, request, line, made, operator)
    claim(desk, line)
    not_after = min(not_after, approved.stand_until, desk.settings.policy.request.request_ends(request))
    attempt = new_attempt(OUT, request, line, approved, refused, operator, at=desk.now())
    record = desk.store.record_adoption(
        attempt,
        approved.approval_ids,
        state=attempt.end_state(made),
        made=made,
        made_text=json.dumps(made, indent=2, sort_keys=True),
        because=because,
        not_after=not_after,
        rules=rules_now(desk, request, line),
    )
    amount = Money(made["amount"], made["currency"]).grouped
    told = f"{made['id']}: {amount} to {made['destination']}, made by hand"
    believed = f"refused: attempt {refused.attempt_no}" if refused is not None else "nothing begun"
    return Reconciliation(
        believed, told, "it was made by hand", f"taken up by {operator.name} as {record.state}", record
    )


def _require_approved(desk: Desk, request: Request, line: Line, made: dict[str, Any], operator: Person) -> Approved:
    """Refuse unless both approvals stand now, and stood when the transfer was made: nothing is approved afterwards."""
    rules, now = desk.settings.policy.request, desk.now()
    if now >= rules.request_ends(request) or desk.store.is_withdrawn(request):
        raise ApprovalError(f"Request {request.request_id} is expired or withdrawn.", "")
    limit = rules.amount_minor_max.get(line.amount.currency)
    if limit is not None and line.amount.amount_minor > limit:
        raise PolicyRefusedError(
            "The amount is above the ceiling of the policy.", "Finance raises it in the policy file."
        )
    made_at = datetime.fromtimestamp(made["created"], UTC)
    given = given_approvals(desk.store, request)
    try:
        check_approvals(
            request, given, desk.registry, rules, operator_id=operator.person_id, at=min(now, made_at + _CLOCKS)
        )
    except ApprovalError as error:
        raise ApprovalError(
            f"It was made at {made_at:%Y-%m-%d %H:%M:%S} UTC, when the approvals did not stand: {error.message}",
            "Take it back by a reversal in the Dashboard, and run the request.",
        ) from error
    return check_standing(desk, request, operator, sending=False)
