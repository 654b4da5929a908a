"""Stage 2: the exact payload, the confirm code, and the one transfer."""

from __future__ import annotations

import json
from typing import Any

from manual_payout import transfer
from manual_payout.approval.verification import verify as verify_afresh
from manual_payout.desk.inventory import override_sentence
from manual_payout.domain.display import Banner, Table, Text, warnings_of
from manual_payout.domain.errors import AttemptRefusedError
from manual_payout.domain.intent import build_payload, idempotency_key, stripe_command
from manual_payout.domain.models import MOVED_STATES, PayoutRecord, State
from manual_payout.evidence.folder import json_text
from manual_payout.steps.moving import compared, dry_run_banner, next_attempt
from manual_payout.steps.run import Run, question


@question
def payload(run: Run) -> Text:
    """Show exactly what Stripe will be sent, and keep it."""
    request = transfer.find_request(run.desk, run.parameters)
    record = run.find_record()
    attempt_no = next_attempt(record)
    line = request.line_for(run.ledger_payout_id)
    body = build_payload(request, line, attempt_no)
    key = idempotency_key(line.line_id, attempt_no)
    shown = {"POST": "/v1/transfers", "Idempotency-Key": key, "body": body}
    run.folder.keep("payload.json", json_text(shown))
    return Text(
        f"Exactly this is sent: {line.amount.grouped} ({line.amount.amount_minor} minor units) to {line.destination_account}.",
        json.dumps(shown, indent=2, ensure_ascii=False) + _by_hand(run, record, body, key),
    )


def _by_hand(run: Run, record: PayoutRecord | None, body: dict[str, Any], key: str) -> str:
    """Show the same as a command for Stripe's CLI, where a live run would send it: a dry run of which no check says no."""
    if not run.dry_run or run.refusal is not None or (record is not None and record.state is not State.REFUSED):
        return ""
    adopt = f"manual-payout reconcile {run.incident_id} --operator {run.operator.handle} --adopt tr_…"
    return (
        "\n\nOnly where no run can call Stripe, by hand with Stripe's own CLI (the same key: both make one transfer),\n"
        f"and then `{adopt}`:\n\n{stripe_command(body, key, run.desk.settings.mode)}"
    )


@question
def send(run: Run) -> Banner:
    """
    In a dry run, record that it was made; live, move the money once (SOP step 3).

    The gate is inside `transfer.send`; this cell can be run alone, twice or out of order without moving money twice.
    """
    shown = _dry(run) if run.dry_run else _live(run)
    run.verdict = shown.word
    return shown


@question
def transfer_as_stripe_shows_it(run: Run) -> Table:
    """Read the transfer back from Stripe and compare it with what was approved."""
    record = run.find_record()
    if record is None or record.stripe_transfer_id is None:
        return compared(None, {}, "There is no transfer for this ledger payout; nothing has moved.")
    shown = run.desk.gateway.get_transfer(record.stripe_transfer_id)
    pairs = {
        "amount in minor units": (str(record.amount.amount_minor), str(shown["amount"])),
        "currency": (record.amount.currency, shown["currency"]),
        "destination": (record.destination_account, shown["destination"]),
        "transfer group": (record.transfer_group, shown["transfer_group"]),
        "request digest": (
            json.loads(record.payload)["metadata"]["request_digest"],
            shown["metadata"].get("request_digest", ""),
        ),
        "reversed": ("0", str(shown["amount_reversed"])),
    }
    return compared(record.stripe_transfer_id, pairs, "")


def _dry(run: Run) -> Banner:
    record = run.find_record()
    if record is not None and record.state in MOVED_STATES:
        return Banner(
            "Already sent",
            f"{record.stripe_transfer_id} was made at {record.outcome_at:%Y-%m-%d %H:%M:%S} UTC. Nothing more will be sent.{_since(record)}",
            good=True,
        )
    request = transfer.find_request(run.desk, run.parameters)
    verification = verify_afresh(run.desk, run.parameters, run.operator.person_id)
    verification.require_go()
    warned = "".join(f" WARNING: {sentence}" for sentence in warnings_of(verification.checks))
    return dry_run_banner(run, request, warned)


def _live(run: Run) -> Banner:
    before = run.find_record()
    try:
        record = transfer.send(run.desk, run.parameters, run.operator)
    except AttemptRefusedError as error:
        run.folder.keep_redacted(
            "stripe-refusal.json", json_text({"error": type(error).__name__, "message": error.message})
        )
        raise
    run.folder.keep("stripe-response.json", (record.transfer or "") + "\n")
    if before is not None and before.state in MOVED_STATES:
        told = f"{record.stripe_transfer_id} was made before; nothing was sent now.{_since(record)}"
        return Banner("Already sent", told, good=True)
    return Banner(
        f"Sent: {record.stripe_transfer_id}",
        f"{record.amount.grouped} moved to {record.destination_account} at {record.outcome_at:%Y-%m-%d %H:%M:%S} UTC, "
        f"attempt {record.attempt_no}. {record.outcome_reason}; its response is saved as stripe-response.json.{_overridden(run)}",
        good=True,
    )


def _since(record: PayoutRecord) -> str:
    words = {State.REVERSED: "all of it has", State.PARTLY_REVERSED: "part of it has"}
    return f" {words[record.state].capitalize()} come back since." if record.state in words else ""


def _overridden(run: Run) -> str:
    events, names = run.desk.store.events_of(run.stream), run.desk.registry
    said = override_sentence(events, run.get_record().request_id, names.name_of)
    return f" {said}" if said else ""
