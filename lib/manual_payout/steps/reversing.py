"""The reversal: what was asked for, whether it may be done, and the money taken back, once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from manual_payout import transfer
from manual_payout.approval.books import find_operator
from manual_payout.approval.reversal import verify_reversal as verify_afresh
from manual_payout.comms.telling import tell
from manual_payout.desk.people import Person
from manual_payout.desk.secret_settings import refuse_typed_secret
from manual_payout.desk.settings import load_settings
from manual_payout.desk.wiring import Desk, open_desk
from manual_payout.domain.display import Banner, Table, Text, check_table, facts_table, go_or_no_go
from manual_payout.domain.errors import AttemptRefusedError, ManualPayoutError
from manual_payout.domain.intent import build_payload, idempotency_key
from manual_payout.domain.models import Line, Record, Request, ReversalRecord, Stage, State
from manual_payout.domain.money import Money
from manual_payout.domain.parameters import ReversalParameters, validate
from manual_payout.evidence.folder import Folder, json_text
from manual_payout.steps.moving import compared, dry_run_banner, next_attempt
from manual_payout.steps.papers import approvals_table, keep_approvals
from manual_payout.steps.run import Bound, parameters_in, question, work_alone


@dataclass(repr=False)
class ReversalRun(Bound):
    """
    One run of the reversal notebook.

    Attributes:
        request: The filed request that the parameters name.
    """

    parameters: ReversalParameters
    desk: Desk
    operator: Person
    folder: Folder
    request: Request
    stage: Stage = Stage.REVERSAL
    findings: dict[str, Any] = field(default_factory=dict)
    verdict: str = ""
    refusal: ManualPayoutError | None = None

    @property
    def incident_id(self) -> str:
        """The incident that this run belongs to."""
        return self.request.incident_id

    @property
    def line(self) -> Line:
        """The line of the request: this reversal."""
        return self.request.line_for()

    @property
    def ledger_payout_id(self) -> str:
        """The ledger payout whose transfer is reversed."""
        return self.line.ledger_payout_id

    @property
    def dry_run(self) -> bool:
        """Whether nothing may move and nothing but the journal may be written."""
        return self.parameters.dry_run

    @property
    def reversal(self) -> str:
        """The line of this reversal."""
        return self.line.line_id

    def find_reversal(self) -> ReversalRecord | None:
        """Return the reversal record of the request, or None while nothing was begun."""
        return self.desk.store.find_reversal(self.line.line_id)

    def standing(self) -> Record | None:
        """Return the reversal record of the request, or None while nothing was begun."""
        return self.find_reversal()

    def binding(self) -> Table:
        """Say what this run is bound to: the incident, the world, the people."""
        desk, line = self.desk, self.line
        how = "dry run" if self.dry_run else "live"
        return facts_table(
            f"This run: reversal under {self.incident_id}, {how}, {desk.settings.mode} mode.",
            {
                "incident": self.incident_id,
                "studio": f"{line.studio_name} ({line.studio_id})",
                "ledger payout": self.ledger_payout_id,
                "transfer": line.stripe_transfer_id,
                "take back": line.amount.grouped,
                "from": line.destination_account,
                "moves money": "no, dry run" if self.dry_run else "YES, one reversal",
                "operator": f"{self.operator.name} ({self.operator.person_id})",
                "Stripe": f"{desk.place}, {desk.gateway.identity}",
                "started": f"{desk.now():%Y-%m-%d %H:%M:%S} UTC",
            },
        )


def begin_reversal(namespace: Mapping[str, Any]) -> ReversalRun:
    """
    Validate the parameters and bind the run to databases, Stripe, people and the filed request.

    Args:
        namespace: The notebook's ``globals()``: the parameters as papermill or a person left them.

    Raises:
        ParameterError: A parameter is wrong, or there is one of an unknown name.

        PolicyRefusedError, EvidenceError: There is no such request for a reversal.

        SettingsError, DatabaseError, ApprovalError: The run cannot be bound.

        HeldError: Somebody else works in the evidence folder.
    """
    given = parameters_in(namespace)
    refuse_typed_secret(given)
    parameters = validate(given, ReversalParameters)
    desk = open_desk(load_settings())
    request = transfer.get_reversal_request(desk, parameters)
    line = request.line_for()
    desk.require_record_keepable(request.incident_id, line.ledger_payout_id)
    folder = Folder(desk.folder_path(request.incident_id, line.ledger_payout_id), desk.redactor)
    operator = find_operator(desk, parameters.operator, line.ledger_payout_id, reversal=line.line_id)
    work_alone(folder, operator, Stage.REVERSAL)
    run = ReversalRun(parameters, desk, operator, folder, request)
    run.put_on_record()
    return run


@question
def reversal_request(run: ReversalRun) -> Table:
    """Show the request as it was filed."""
    request, line, names = run.request, run.line, run.desk.registry
    run.folder.keep("reversal-request.json", json_text({"statement": request.statement(), "digest": request.digest}))
    return facts_table(
        f"Request {request.request_id[:8]}: {line.amount.grouped} of {line.stripe_transfer_id}, filed by "
        f"{names.name_of(request.requested_by)}.",
        {
            "request": request.request_id,
            "digest": request.digest,
            "filed": f"{request.filed_at:%Y-%m-%d %H:%M} UTC by {names.name_of(request.requested_by)}",
            "valid until": f"{run.desk.settings.policy.request.request_ends(request):%Y-%m-%d %H:%M} UTC",
            "reversed when it was filed": Money(line.reversed_before_minor, line.amount.currency).grouped,
            "reason": request.reason.value.replace("_", " "),
            "notes": request.notes,
            "mode and account": f"{request.mode}, {request.platform_account}",
        },
    )


@question
def reversal_approvals(run: ReversalRun) -> Table:
    """Show who approved it."""
    given = run.desk.store.approvals_of(run.request.request_id)
    keep_approvals(run.folder, "reversal-approvals.json", given)
    people = len({approval.approver_id for approval in given if approval.signature})
    caption = (
        f"{people} {'person has' if people == 1 else 'people have'} approved this reversal; it needs two, of two teams."
    )
    return approvals_table(caption, given, run.request, run.desk)


@question
def verify_reversal(run: ReversalRun) -> Table:
    """Fetch every fact afresh and judge it."""
    found = verify_afresh(run.desk, run.request, run.line, run.operator.person_id)
    run.findings["checks"] = {check.name: check.status.value for check in found.checks}
    record = run.find_reversal()
    done = f"Reversed: {record.stripe_reversal_id}" if record is not None and record.state is State.REVERSED else ""
    run.findings["verdict"] = done or go_or_no_go(found.checks)
    return check_table(found.checks, of="reversal", done=done)


@question
def reversal_payload(run: ReversalRun) -> Text:
    """Show exactly what Stripe will be sent, and keep it."""
    request, line = run.request, run.line
    record = run.find_reversal()
    attempt_no = next_attempt(record)
    shown = {
        "POST": f"/v1/transfers/{line.stripe_transfer_id}/reversals",
        "Idempotency-Key": idempotency_key(line.line_id, attempt_no),
        "body": build_payload(request, line, attempt_no),
    }
    run.folder.keep("reversal-payload.json", json_text(shown))
    return Text(
        f"Exactly this is sent: {line.amount.grouped} ({line.amount.amount_minor} minor units) of "
        f"{line.stripe_transfer_id} come back from {line.destination_account}.",
        json.dumps(shown, indent=2, ensure_ascii=False),
    )


@question
def reverse(run: ReversalRun) -> Banner:
    """
    In a dry run, record that it was made; live, take the money back once.

    The gate is inside `transfer.reverse`; this cell can be run alone, twice or out of order without taking twice.
    """
    shown = _dry(run) if run.dry_run else _live(run)
    run.verdict = shown.word
    return shown


@question
def reversal_as_stripe_shows_it(run: ReversalRun) -> Table:
    """Read reversal and transfer back from Stripe and compare them with what was approved."""
    record = run.find_reversal()
    if record is None or record.stripe_reversal_id is None:
        return compared(None, {}, "There is no reversal for this request; nothing has come back.")
    own = next(
        (r for r in run.desk.gateway.reversals_of(record.stripe_transfer_id) if r["id"] == record.stripe_reversal_id),
        {},
    )
    pairs = {
        "amount in minor units": (str(record.amount.amount_minor), str(own.get("amount"))),
        "currency": (record.amount.currency, str(own.get("currency"))),
        "transfer": (record.stripe_transfer_id, str(own.get("transfer"))),
        "request digest": (run.request.digest, str(own.get("metadata", {}).get("request_digest"))),
    }
    return compared(record.stripe_reversal_id, pairs, "")


def _dry(run: ReversalRun) -> Banner:
    record = run.find_reversal()
    if record is not None and record.state is State.REVERSED:
        return _done_before(record)
    verify_afresh(run.desk, run.request, run.line, run.operator.person_id).require_go()
    return dry_run_banner(run, run.request)


def _live(run: ReversalRun) -> Banner:
    before = run.find_reversal()
    try:
        record = transfer.reverse(run.desk, run.parameters, run.operator)
    except AttemptRefusedError as error:
        run.folder.keep_redacted(
            "reversal-refusal.json", json_text({"error": type(error).__name__, "message": error.message})
        )
        raise
    run.folder.keep("reversal-response.json", (record.reversal or "") + "\n")
    told = tell(run.desk, record, actor=run.operator.person_id)
    if before is not None and before.state is State.REVERSED:
        return _done_before(record)
    return Banner(
        f"Reversed: {record.stripe_reversal_id}",
        f"{record.amount.grouped} of {record.stripe_transfer_id} came back from {record.destination_account} at "
        f"{record.outcome_at:%Y-%m-%d %H:%M:%S} UTC, attempt {record.attempt_no}. {record.outcome_reason}; its response "
        f"is saved as reversal-response.json. {told}",
        good=True,
    )


def _done_before(record: ReversalRecord) -> Banner:
    return Banner(
        "Already reversed",
        f"{record.stripe_reversal_id} was made at {record.outcome_at:%Y-%m-%d %H:%M:%S} UTC. Nothing more will be sent.",
        good=True,
    )
