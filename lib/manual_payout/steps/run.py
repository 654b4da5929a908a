"""
One run of one stage: bind it to the world, remember its findings, and end it with a truthful result.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

import scrapbook

from manual_payout.approval.books import account_at, by_the_books, find_operator
from manual_payout.approval.policy import told_differences
from manual_payout.desk.people import Person
from manual_payout.desk.secret_settings import refuse_typed_secret
from manual_payout.desk.settings import load_settings
from manual_payout.desk.wiring import Desk, open_desk, runner_process
from manual_payout.domain.canonical import instant_text
from manual_payout.domain.display import Table, facts_table
from manual_payout.domain.errors import DatabaseError, ManualPayoutError, OtherValuesError, PolicyRefusedError
from manual_payout.domain.models import PayoutRecord, Record, Request, Stage, stream_of
from manual_payout.domain.parameters import (
    CLOSE_PARAMETERS,
    FILED_PARAMETERS,
    NOTEBOOK_PARAMETERS,
    Parameters,
    check_typed,
    filed_values,
    refuse_unknown,
    validate,
    validate_closing,
)
from manual_payout.evidence.folder import Folder
from manual_payout.evidence.holding import HeldError, hold, holds, let_go
from manual_payout.evidence.whole import record_plain
from truthful_papermill.redaction import Redactor

B = TypeVar("B", bound="Bound")
P = ParamSpec("P")
T = TypeVar("T")

# What a notebook's namespace holds besides parameters: Jupyter's own names begin with these or are not scalars.
_SCALARS = (str, int, float, bool, type(None), list, dict, tuple)
_JUPYTER = frozenset({"In", "Out", "exit", "quit", "open", "get_ipython"})


class Bound(ABC):
    """What every run is bound to, whatever notebook it is of."""

    stage: Stage
    desk: Desk
    operator: Person
    folder: Folder
    findings: dict[str, Any]
    verdict: str
    refusal: ManualPayoutError | None

    @property
    @abstractmethod
    def incident_id(self) -> str:
        """The incident that this run belongs to."""

    @property
    @abstractmethod
    def ledger_payout_id(self) -> str:
        """The ledger payout that this run is about."""

    @property
    @abstractmethod
    def dry_run(self) -> bool:
        """Whether nothing may move and nothing but the journal may be written."""

    @property
    def redactor(self) -> Redactor:
        """What text from outside passes before the journal digests it: afterwards not a byte of it may change."""
        return self.folder.redactor

    @property
    def stream(self) -> str:
        """The journal that this run writes to."""
        return stream_of(self.incident_id, self.ledger_payout_id)

    def put_on_record(self) -> None:
        """Put on record that papermill alone runs this notebook here; the runner does so for its own."""
        record_plain(self.desk, self.folder, self.stream, self.stage.value, self.operator.person_id)

    @property
    def reversal(self) -> str:
        """The line of the reversal that this run is about; empty where money is to be sent."""
        return ""

    @abstractmethod
    def standing(self) -> Record | None:
        """Return the record that says where the money of this run stands, or None while nothing was begun."""

    @abstractmethod
    def binding(self) -> Table:
        """Say what this run is bound to: the incident, the world, the people."""

    def _repr_html_(self) -> str:
        return self.binding()._repr_html_()

    def __repr__(self) -> str:
        return repr(self.binding())


@dataclass(repr=False)
class Run(Bound):
    """
    One run of one stage; a notebook's first cell makes it and every other cell is given it.

    Attributes:
        extra: The parameters that only this stage declares.

        findings: What the stage found; glued as the notebook's result.

        verdict: What the stage's main cell came to, in a word or two; empty until it has run.

        refusal: Why the stage ends in a refusal, or None.
    """

    stage: Stage
    parameters: Parameters
    desk: Desk
    operator: Person
    folder: Folder
    extra: Mapping[str, Any] = field(default_factory=dict)
    findings: dict[str, Any] = field(default_factory=dict)
    verdict: str = ""
    refusal: ManualPayoutError | None = None

    @property
    def incident_id(self) -> str:
        """The incident that this run belongs to."""
        return self.parameters.incident_id

    @property
    def ledger_payout_id(self) -> str:
        """The ledger payout that this run is about."""
        return self.parameters.ledger_payout_id

    @property
    def dry_run(self) -> bool:
        """Whether nothing may move and nothing but the journal may be written."""
        return self.parameters.dry_run

    def standing(self) -> Record | None:
        """Return the payout record of the request, or None while nothing was begun."""
        return self.find_record()

    def find_request(self) -> Request | None:
        """Return the stored request that the parameters select, or None."""
        return self.desk.store.find_request(self.parameters.incident_id, self.parameters.ledger_payout_id)

    def find_record(self) -> PayoutRecord | None:
        """Return the payout record of that request, or None while nothing was begun."""
        request = self.find_request()
        return self.desk.store.find_payout(request.line_for(self.ledger_payout_id).line_id) if request else None

    def get_record(self) -> PayoutRecord:
        """
        Return the payout record.

        Raises:
            PolicyRefusedError: Nothing was begun.
        """
        record = self.find_record()
        if record is None:
            nothing = f"Nothing has been sent for {self.ledger_payout_id} under {self.incident_id}."
            raise PolicyRefusedError(nothing, account_at(self.desk, self.ledger_payout_id).left_to_do)
        return record

    def binding(self) -> Table:
        """Say what this run is bound to: the incident, the world, the people."""
        desk, parameters = self.desk, self.parameters
        request = self.find_request()
        # What was typed is never shown as the run's: it is the request that is verified, sent and told of.
        filed = filed_values(request, request.line_for(self.ledger_payout_id)) if request else parameters.as_dict()
        return facts_table(
            f"This run: {self.stage} of {parameters.incident_id}, {'dry run' if self.dry_run else 'live'}, {desk.settings.mode} mode.",
            {
                "incident": parameters.incident_id,
                "studio": f"{filed['studio_name']} ({filed['studio_id']})",
                "ledger payout": parameters.ledger_payout_id,
                "amount": filed["amount"],
                "destination": filed["destination_account"],
                "moves money": _moves_money(self),
                "operator": f"{self.operator.name} ({self.operator.person_id})",
                "Stripe": f"{desk.place}, {desk.gateway.identity}",
                "started": f"{desk.now():%Y-%m-%d %H:%M:%S} UTC",
            }
            | ({"WARNING, not as filed": said} if request and (said := told_differences(parameters, request)) else {})
            | ({"WARNING, clocks": said} if (said := desk.clocks()) else {}),
        )


def begin(stage: str, namespace: Mapping[str, Any]) -> Run:
    """
    Validate the parameters and bind the run to databases, Stripe and people.

    Args:
        stage: The notebook's name, such as ``1-verify``.

        namespace: The notebook's ``globals()``: the parameters as papermill or a person left them.

    Raises:
        ParameterError: A parameter is wrong, or there is one of an unknown name.

        OtherValuesError: What was typed is not what was filed; 1-verify shows that instead.

        SettingsError, DatabaseError, ApprovalError: The run cannot be bound; or a secret could not be kept out of its evidence.

        HeldError: Somebody else works in the evidence folder.
    """
    given = parameters_in(namespace)
    refuse_typed_secret(given)
    refuse_unknown(given, NOTEBOOK_PARAMETERS + CLOSE_PARAMETERS)
    typed = check_typed(given)
    selected = typed.pop("request_id", "")
    desk = open_desk(load_settings())
    parameters = _as_filed(desk, Stage(stage), typed, selected)
    desk.require_record_keepable(parameters.incident_id, parameters.ledger_payout_id)
    folder = Folder(desk.folder_path(parameters.incident_id, parameters.ledger_payout_id), desk.redactor)
    operator = find_operator(desk, parameters.operator, parameters.ledger_payout_id)
    extra = validate_closing(given)
    work_alone(folder, operator, stage)
    run = Run(Stage(stage), parameters, desk, operator, folder, extra)
    run.put_on_record()
    return run


def _as_filed(desk: Desk, stage: Stage, typed: Mapping[str, Any], selected: str) -> Parameters:
    """Fill in what was left empty from the filed request; refuse what differs, which 1-verify shows in its tables."""
    incident_id, ledger_payout_id = typed["incident_id"], typed["ledger_payout_id"]
    request = desk.store.find_request(incident_id, ledger_payout_id)
    # Another request is another payout: no stage goes on with one that was not meant.
    if selected and (request is None or request.request_id != selected):
        found = f"is {request.request_id}" if request else "does not exist"
        told = f"request_id is {selected}, but the request for {incident_id} and {ledger_payout_id} {found}."
        raise OtherValuesError(told, "Leave request_id empty, or correct the ids.")
    if request is None:
        if set(FILED_PARAMETERS) - {"notes"} <= set(typed):
            return validate({"notes": "", "confirm": "", **typed}, Parameters)
        missing = f"{incident_id} has no fallback request for ledger payout {ledger_payout_id}."
        error = PolicyRefusedError(missing, "Check both ids; or file the request with `manual-payout request`.")
        raise by_the_books(desk, error, ledger_payout_id)
    filed = filed_values(request, request.line_for(ledger_payout_id))
    parameters = validate({**filed, "confirm": "", **typed}, Parameters)
    if stage is not Stage.VERIFY and (wrong := told_differences(parameters, request)):
        remedy = "Leave them empty, which means as filed, or run with the values of the request."
        raise OtherValuesError(f"These values are not the ones that were filed. {wrong}.", remedy)
    return parameters


def work_alone(folder: Folder, operator: Person, stage: str) -> None:
    """
    Hold the evidence folder until the stage has ended, unless the process that runs this notebook does.

    Raises:
        HeldError: Somebody else works there.
    """
    if holds(folder.path):
        return
    try:
        hold(folder.path, who=operator.handle, what=f"the notebook {stage}")
    except HeldError as error:
        runner = runner_process()
        # What could not be read of the holder is the runner's, where there is one: it begins no notebook without the lock.
        if not runner or error.holder.process not in (0, runner):
            raise


def parameters_in(namespace: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a notebook's ``globals()`` are parameters."""
    return {name: value for name, value in namespace.items() if _is_parameter(name, value)}


def conclude(run: Bound) -> Table:
    """
    End the stage: tell the journal, glue its result, and refuse if the stage found a reason to.

    Returns:
        What this notebook came to, as it is recorded.

    Raises:
        PolicyRefusedError: The stage's main cell was not run, so there is nothing to conclude.

        ManualPayoutError: The stage's refusal, after everything was recorded.
    """
    if not run.verdict:
        raise PolicyRefusedError(f"{run.stage} has not answered its question yet.", "Run its cells in order.")
    if run.refusal is not None:
        run.refusal = _as_it_is(run, run.refusal)
        run.findings["refusal"] = _told(run, run.refusal)
    data = {"stage": run.stage.value, "verdict": run.verdict, "dry_run": run.dry_run}
    # Before the result: an event without one does no harm, a result that no event tells of is taken for a forgery.
    event = run.desk.store.record_event(run.stream, "stage_finished", run.operator.person_id, data)
    result = _glue(run, run.verdict)
    _let_go(run)
    if run.refusal is not None:
        raise run.refusal
    return facts_table(
        f"{run.stage}: {run.verdict}.",
        {
            "verdict": run.verdict,
            "run": "dry run" if run.dry_run else "live",
            "the money": account_at(run.desk, run.ledger_payout_id).label,
            "Stripe transfer": result["stripe_transfer_id"] or "none",
            "journal": f"event {event.seq} of {event.stream}",
            "finished": f"{event.at:%Y-%m-%d %H:%M:%S} UTC",
        },
    )


def question(answer: Callable[Concatenate[B, P], T]) -> Callable[Concatenate[B, P], T]:
    """Decorate a step: a refusal is put into the journal and the result before the notebook stops."""

    @functools.wraps(answer)
    def asked(run: B, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return answer(run, *args, **kwargs)
        except ManualPayoutError as found:
            error = _as_it_is(run, found)
            # What could not be recorded is no reason to hide what happened: it is said without a result that could be read.
            with suppress(DatabaseError):
                _record(run, error)
            _let_go(run)
            if error is found:
                raise
            raise error from found

    return cast("Callable[Concatenate[B, P], T]", asked)


def _let_go(run: Bound) -> None:
    # A round of the monitor has no folder.
    if (folder := getattr(run, "folder", None)) is not None:
        let_go(folder.path)


def _as_it_is(run: Bound, error: ManualPayoutError) -> ManualPayoutError:
    # A round of the monitor is about no payout.
    if not run.ledger_payout_id:
        return error
    return by_the_books(run.desk, error, run.ledger_payout_id, reversal=run.reversal)


def _record(run: Bound, error: ManualPayoutError) -> None:
    told = run.findings["refusal"] = _told(run, error)
    data = {"stage": run.stage.value, "error": told["error"], "message": told["message"], "dry_run": run.dry_run}
    run.desk.store.record_event(run.stream, "stage_refused", run.operator.person_id, data)
    _glue(run, error.title)


def _glue(run: Bound, verdict: str) -> dict[str, Any]:
    record = run.standing()
    result = {
        "stage": run.stage.value,
        "verdict": verdict,
        "dry_run": run.dry_run,
        "incident_id": run.incident_id,
        "ledger_payout_id": run.ledger_payout_id,
        "mode": run.desk.settings.mode.value,
        "operator": run.operator.person_id,
        "at": instant_text(run.desk.now()),
        "state": record.state.value if record else "nothing begun",
        "stripe_transfer_id": record.stripe_transfer_id if record else None,
        "findings": run.findings,
    }
    scrapbook.glue("result", result, encoder="json")
    return result


def _told(run: Bound, error: ManualPayoutError) -> dict[str, str]:
    # An error can quote what a provider or a database said.
    said = {"message": run.redactor.redact(error.message), "remedy": run.redactor.redact(error.remedy)}
    return {"error": type(error).__name__, "title": error.title} | said


def _is_parameter(name: str, value: Any) -> bool:
    return not name.startswith("_") and name not in _JUPYTER and isinstance(value, _SCALARS)


def _moves_money(run: Run) -> str:
    if run.stage is not Stage.EXECUTE:
        return "no, this stage never does"
    return "no, dry run" if run.dry_run else "YES, one transfer"
