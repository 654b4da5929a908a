"""The demo incident from request to sealed folder, a step at a time: nothing real is touched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from manual_payout.approval.approvals import approve
from manual_payout.approval.approving import shown_to_approver
from manual_payout.approval.dry_runs import code_of
from manual_payout.approval.requesting import file_request
from manual_payout.desk.kernels import fork_server, needed_by
from manual_payout.desk.wiring import Desk
from manual_payout.domain.errors import ManualPayoutError, NotFinishedError
from manual_payout.domain.models import Request, Stage
from manual_payout.domain.parameters import Parameters
from manual_payout.steps.endings import StageResult
from manual_payout.steps.runner import DRY_RUN, LIVE_RUN, Progress, run_stages
from payout_rehearsal.ground import Ground, People, SceneName
from payout_rehearsal.record import Record
from payout_rehearsal.sandbox_ground import DEMO_CAST, sandbox_ground
from payout_rehearsal.stage import demo_parameters
from truthful_papermill.warm.starting import ForkServer

ASKED = "request and approvals"
DRY, LIVE, CLOSED = "dry run", "live run", "close"
# The step with whose end the money is accepted.
ACCEPTED = f"{LIVE}: {Stage.EXECUTE}"


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """
    What a rehearsal of the incident came to.

    Attributes:
        folder: The sealed evidence folder.

        stages: Every stage in the order it was run.

        automation_skipped: Whether the automation's next run left the payout alone.

        transfers: How many transfers Stripe's own books show for this payout; None where they could not be asked.
    """

    folder: Path
    stages: tuple[StageResult, ...]
    automation_skipped: bool
    transfers: int | None

    @property
    def green(self) -> bool:
        """Whether everything went as it should, to the close."""
        return (
            self.automation_skipped
            and self.transfers == 1
            and bool(self.stages)
            and self.stages[-1].stage is Stage.CLOSE
            and all(stage.exit_code == 0 for stage in self.stages)
        )


def file_and_approve(
    desk: Desk,
    parameters: Parameters | None = None,
    cast: People = DEMO_CAST,
    *,
    pause_s: float = 0.0,
    lifetime_s: int | None = None,
) -> Request:
    """
    File a request and have both teams approve it, *pause_s* seconds after each other.

    Args:
        parameters: The demo incident's where none are given.

        lifetime_s: How long the approvals stand; as the policy says where it is not given.
    """
    parameters = parameters or demo_parameters()
    rules = desk.settings.policy.request
    if lifetime_s is not None:
        rules = rules.model_copy(update={"approval_lifetime_s": lifetime_s})
    requester = desk.registry.get_allowed(cast.requester, "request", desk.now(), field="as")
    request, _ = file_request(desk, parameters, requester, replace=False, key=cast.key_of(cast.requester))
    for approver in cast.approvers:
        desk.clock.wait(pause_s)
        approve(
            desk.store,
            desk.registry,
            request,
            approver=approver,
            amount=parameters.amount,
            destination_last4=parameters.destination_account[-4:],
            shown=shown_to_approver(desk, request),
            rules=rules,
            key=cast.key_of(approver),
        )
    return request


def live_parameters(desk: Desk, parameters: Parameters, request: Request) -> Parameters:
    """Return the parameters of the live run: with the code that the operator's dry run of *request* prints."""
    operator = desk.registry.get_allowed(parameters.operator, "operate", desk.now(), field="operator")
    return replace(parameters, dry_run=False, confirm=code_of(desk, request, request.line_for(), operator.person_id))


class Incident:
    """
    The incident, played a step at a time.

    Args:
        ground: Where.

        kernels: What forks the kernels.

        record: Where each step is noted.

        say: Told each step in a sentence.

        progress: As for `run_stages`.
    """

    def __init__(
        self,
        ground: Ground,
        kernels: ForkServer,
        record: Record,
        *,
        say: Callable[[str], None] = lambda _: None,
        progress: Progress = lambda *_: None,
    ) -> None:
        self.parameters = ground.case(SceneName.INCIDENT)
        self.request: Request | None = None
        self._ground, self._desk, self._kernels = ground, ground.desk, kernels
        self._record, self._say, self._progress = record, say, progress
        self._stages: list[StageResult] = []
        self._skipped = False

    def ask(self) -> Request:
        """File the request and approve it twice."""
        cast = self._ground.cast
        with self._record.step(ASKED):
            self.request = file_and_approve(self._desk, self.parameters, cast, pause_s=self._ground.pause_s)
        self._pause()
        self._say(
            f"Request {self.request.request_id[:8]} filed by {cast.requester}, approved by {' and '.join(cast.approvers)}"
        )
        return self.request

    def dry_run(self) -> list[StageResult]:
        """Run the first two notebooks without sending."""
        return self._run(DRY, DRY_RUN, self.parameters)

    def live_run(self) -> list[StageResult]:
        """Run live with the code of the dry run, to the settlement."""
        live = self._live()
        self._require(DRY)
        self._pause()
        self._say(f"Dry run read; running live with confirm code {live.confirm}")
        return self._run(LIVE, LIVE_RUN, live)

    def close(self) -> list[StageResult]:
        """Let the automation come back, and close."""
        self._require(LIVE)
        self._skipped = not self._ground.automation_pays(self.parameters.ledger_payout_id)
        self._say(
            "The automation is back: "
            + ("its next run skips this payout" if self._skipped else "it PAID this payout again")
        )
        return self._run(CLOSED, (Stage.CLOSE,), self._live())

    @property
    def played(self) -> Rehearsal:
        """What it has come to by now."""
        ledger_payout_id = self.parameters.ledger_payout_id
        folder = self._desk.folder_path(self.parameters.incident_id, ledger_payout_id)
        try:
            transfers = self._ground.transfers(ledger_payout_id)
        except ManualPayoutError:
            # Also where Stripe is away at the very end, there is a result and a report.
            transfers = None
        return Rehearsal(folder, tuple(self._stages), self._skipped, transfers)

    def _run(self, name: str, stages: tuple[Stage, ...], parameters: Parameters) -> list[StageResult]:
        extra = self._ground.closing() if stages == (Stage.CLOSE,) else None
        with self._record.notebooks(name, self._progress) as progress:
            results = run_stages(self._desk, stages, parameters, extra=extra, progress=progress, kernels=self._kernels)
        self._stages += results
        return results

    def _live(self) -> Parameters:
        if self.request is None:
            raise NotFinishedError("Nothing was requested yet.", "Play the steps in order.")
        return live_parameters(self._desk, self.parameters, self.request)

    def _require(self, before: str) -> None:
        if not self._stages or self._stages[-1].exit_code:
            raise NotFinishedError(
                f"The {before} did not end well, so nothing follows it.", "Look at its last notebook."
            )

    def _pause(self) -> None:
        self._desk.clock.wait(self._ground.pause_s)


def rehearse_incident(root: Path, *, say: Callable[[str], None], progress: Progress) -> Rehearsal:
    """
    Play the whole incident on the sandbox, without drill, notebook and report.

    Args:
        root: An empty folder; everything is left there.

        say: Told each step in a sentence.

        progress: As for `run_stages`.

    Raises:
        ManualPayoutError: A step before the notebooks was refused.
    """
    with fork_server(later=needed_by(["settle", "close"])) as kernels, sandbox_ground(root) as ground:
        played = Incident(ground, kernels, Record(), say=say, progress=progress)
        played.ask()
        for act in (played.dry_run, played.live_run, played.close):
            if act()[-1].exit_code:
                break
        return played.played


def failed_stage(rehearsal: Rehearsal) -> ManualPayoutError | None:
    """Return the first stage that did not end well as an error to show, or None."""
    bad = next((stage for stage in rehearsal.stages if stage.exit_code), None)
    if bad is None:
        return None
    error = ManualPayoutError(bad.message, bad.remedy)
    error.exit_code = bad.exit_code
    return error
