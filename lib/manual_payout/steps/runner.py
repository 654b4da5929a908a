"""
Run the stage notebooks one after another, each a new numbered file, and stop at the first that refuses.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Self

from manual_payout.approval.books import account_at
from manual_payout.approval.dry_runs import DRY_RUN_MADE
from manual_payout.comms.telling import tell_seal
from manual_payout.desk.kernels import PAGE_OF_FILE, fork_server, needed_by
from manual_payout.desk.papermill_engine import HOUSE
from manual_payout.desk.reviewed import reviewed_digest
from manual_payout.desk.wiring import Desk, kernel_environment
from manual_payout.domain.account import Standing
from manual_payout.domain.errors import (
    DatabaseError,
    EvidenceError,
    UnknownOutcomeError,
)
from manual_payout.domain.models import Request, Stage
from manual_payout.domain.parameters import Parameters, ReversalParameters
from manual_payout.evidence import review, whole
from manual_payout.evidence.folder import Folder
from manual_payout.evidence.holding import MOMENT_S, HeldError, holding
from manual_payout.evidence.manifest import Sealer, head_digest
from manual_payout.evidence.proving import prove_dry_run
from manual_payout.evidence.sealing import ask_nobody, find_sealer, seal_folder
from manual_payout.steps.endings import StageResult, judge_ending, result_as_it_is, unkept, unsaved
from truthful_papermill.durable import make_folder
from truthful_papermill.engine import Execution, NameTakenError, execute, orderly_signals
from truthful_papermill.warm.ahead import prepare_kernels
from truthful_papermill.warm.errands import run_errand
from truthful_papermill.warm.kernels import NoKernelError
from truthful_papermill.warm.starting import KERNELS_AHEAD, ForkServer

# What each command runs: a dry run ends before Stripe; a live run ends when settlement has been looked at.
DRY_RUN = (Stage.VERIFY, Stage.EXECUTE)
LIVE_RUN = (Stage.VERIFY, Stage.EXECUTE, Stage.LOG, Stage.NOTIFY, Stage.SETTLE)

# A number that others were faster to take is followed by the next one this often.
_NAMES_TRIED = 20

Progress = Callable[[Stage, str, int, int, str], None]


def run_stages(
    desk: Desk,
    stages: Sequence[Stage],
    parameters: Parameters,
    *,
    extra: Mapping[str, Any] | None = None,
    progress: Progress = lambda *_: None,
    kernels: ForkServer | None = None,
    ask_passphrase: Callable[[Path], str] = ask_nobody,
) -> list[StageResult]:
    """
    Run *stages* in order until one does not end well; seal the folder whatever happened.

    Args:
        extra: The parameters of 6-close.

        progress: Called with stage, event, cell, number of cells, and the heading above the cell.

        kernels: What forks the kernels, started early by the caller; without it one is started now.

        ask_passphrase: Called at the beginning if the operator's key is protected.

    Returns:
        The result of each stage that ran.

    Raises:
        EvidenceError: A template was changed, or the folder cannot be written.

        HeldError: Somebody else works in the folder; nothing was run.

        UnknownOutcomeError: So does somebody else, and their attempt is open; nothing was run.

        SignatureError: The operator has no key at hand to sign the folder with; nothing was run.

        StoppedBySignal: SIGINT or SIGTERM; the notebook is saved and the folder is sealed.
    """
    path = desk.folder_path(parameters.incident_id, parameters.ledger_payout_id)
    folder = Folder(path, desk.redactor)
    sealer = find_sealer(desk, parameters.operator, ask_passphrase)
    results: list[StageResult] = []
    try:
        # Signals inside the sealing, so that a run that is stopped by one is sealed too.
        with (
            _alone(desk, folder, parameters.operator, "a dry run" if parameters.dry_run else "a live run"),
            _kernels(kernels, stages) as warm,
            _sealed(
                desk,
                folder,
                parameters.incident_id,
                parameters.ledger_payout_id,
                sealer,
                warm,
                tell=not parameters.dry_run,
            ) as pages,
            orderly_signals(),
        ):
            for stage in stages:
                # The next kernels start while this notebook runs.
                left = len(stages) - stages.index(stage) - 1
                prepare = partial(prepare_kernels, warm, kernel_environment(desk.settings), min(left, KERNELS_AHEAD))
                try:
                    results.append(_run_stage(desk, stage, parameters, folder, extra or {}, progress, warm, prepare))
                except EvidenceError as error:
                    if not results:
                        raise
                    results.append(unsaved(stage, folder, error))
                    break
                pages.render(results[-1].notebook)
                if results[-1].exit_code:
                    break
    except EvidenceError as error:
        if not results:
            raise
        # What was done before is told first: a full disk must not hide what was sent.
        results[-1] = unkept(results[-1], error)
    results[-1] = result_as_it_is(
        desk, results[-1], parameters.incident_id, parameters.ledger_payout_id, live=not parameters.dry_run
    )
    results[-1] = _proved(desk, results[-1], folder, parameters.incident_id, parameters.ledger_payout_id, sealer)
    return results


def _proved(
    desk: Desk, last: StageResult, folder: Folder, incident_id: str, ledger_payout_id: str, sealer: Sealer | None
) -> StageResult:
    """Add the confirm code to a dry run that ended well, and of which the folder is sealed by now."""
    if last.exit_code or last.verdict != DRY_RUN_MADE:
        return last
    return replace(last, confirm=prove_dry_run(desk, folder, incident_id, ledger_payout_id, sealer))


def run_reversal(
    desk: Desk,
    request: Request,
    parameters: ReversalParameters,
    *,
    progress: Progress = lambda *_: None,
    kernels: ForkServer | None = None,
    ask_passphrase: Callable[[Path], str] = ask_nobody,
) -> StageResult:
    """
    Run the reversal notebook of one filed request; seal the folder whatever happened.

    Args:
        progress, kernels, ask_passphrase: As of `run_stages`.

    Raises:
        EvidenceError, SignatureError, StoppedBySignal: As of `run_stages`.
    """
    line = request.line_for()
    ledger_payout_id = line.ledger_payout_id
    folder = Folder(desk.folder_path(request.incident_id, ledger_payout_id), desk.redactor)
    sealer = find_sealer(desk, parameters.operator, ask_passphrase)
    results: list[StageResult] = []
    try:
        with (
            _alone(desk, folder, parameters.operator, "a reversal"),
            _kernels(kernels, (Stage.REVERSAL,)) as warm,
            _sealed(desk, folder, request.incident_id, ledger_payout_id, sealer, warm, tell=not parameters.dry_run),
            orderly_signals(),
        ):
            results.append(_run_stage(desk, Stage.REVERSAL, parameters, folder, {}, progress, warm))
    except EvidenceError as error:
        if not results:
            raise
        results[-1] = unkept(results[-1], error)
    last = result_as_it_is(
        desk,
        results[-1],
        request.incident_id,
        ledger_payout_id,
        live=not parameters.dry_run,
        reversal=line.line_id,
    )
    return _proved(desk, last, folder, request.incident_id, ledger_payout_id, sealer)


def seal_again(
    desk: Desk,
    incident_id: str,
    ledger_payout_id: str,
    operator: str,
    *,
    ask_passphrase: Callable[[Path], str] = ask_nobody,
) -> tuple[Folder, str]:
    """
    Seal a folder without running anything, such as one whose notebooks plain papermill ran.

    Returns:
        The folder, and the confirm code of the operator's dry run in it, if there is one that can still go live.

    Raises:
        EvidenceError: There is no such folder, its journal is broken, or it cannot be written.

        HeldError: Somebody else works there.

        SignatureError: The operator has no key at hand.
    """
    folder = Folder(desk.folder_path(incident_id, ledger_payout_id), desk.redactor)
    if not folder.path.is_dir():
        raise EvidenceError(
            f"{folder.path} does not exist.", "Check the incident, the ledger payout and the outputs folder."
        )
    sealer = find_sealer(desk, operator, ask_passphrase)
    with (
        holding(folder.path, who=operator, what="sealing", wait_s=MOMENT_S),
        _sealed(desk, folder, incident_id, ledger_payout_id, sealer),
    ):
        pass
    return folder, prove_dry_run(desk, folder, incident_id, ledger_payout_id, sealer)


def _run_stage(
    desk: Desk,
    stage: Stage,
    parameters: Parameters | ReversalParameters,
    folder: Folder,
    extra: Mapping[str, Any],
    progress: Progress,
    kernels: ForkServer,
    started: Callable[[], None] = lambda: None,
) -> StageResult:
    try:
        make_folder(folder.path)
    except OSError as error:
        raise EvidenceError(
            f"The evidence folder {folder.path} cannot be made: {error.strerror}; nothing ran.",
            "Correct MANUAL_PAYOUT_OUTPUTS, or who may write there.",
        ) from None
    values = parameters.as_dict() | (dict(extra) if stage is Stage.CLOSE else {})

    def run(path: Path) -> Execution:
        def begun() -> None:
            started()
            # Where the database is away, the first cell says so, and how.
            with suppress(DatabaseError):
                whole.record_begun(desk, stream, stage.value, path, _actor(desk, parameters.operator))

        return execute(
            desk.settings.runbooks_dir / f"{stage}.ipynb",
            path,
            parameters=values,
            redactor=desk.redactor,
            kernel_env=kernel_environment(desk.settings),
            expected_digest=reviewed_digest(stage),
            fork_server=kernels,
            house=HOUSE,
            started=begun,
            progress=lambda event, cell, total, title: progress(stage, event, cell, total, title),
        )

    stream = folder.stream
    return judge_ending(stage, _under_the_next_name(folder, stage, _on_record(desk, folder), run))


def _actor(desk: Desk, operator: str) -> str:
    person = desk.registry.find(operator)
    return person.person_id if person is not None else operator


def _on_record(desk: Desk, folder: Folder) -> set[str]:
    """Return the names of what was executed for this payout anywhere; none where the journal cannot be read."""
    try:
        return whole.names_on_record(desk.store.events_of(folder.stream))
    except (DatabaseError, EvidenceError):
        return set()


def _under_the_next_name(
    folder: Folder, stage: Stage, taken: Iterable[str], run: Callable[[Path], Execution]
) -> Execution:
    """Run under the next number that is free: it is taken as the notebook is first saved, before anything runs."""
    for _ in range(_NAMES_TRIED):
        # By somebody who saves there by hand, or from a machine that the folder's lock does not reach.
        with suppress(NameTakenError):
            return run(folder.next_notebook(stage, taken))
    return run(folder.next_notebook(stage, taken))


@contextmanager
def _alone(desk: Desk, folder: Folder, who: str, what: str) -> Iterator[None]:
    """Work in the folder alone; whoever is too late is told who is there, and whether money may be on its way."""
    try:
        with holding(folder.path, who=who, what=what):
            yield
    except HeldError as error:
        if account_at(desk, desk.payout_in(folder.stream)).standing is not Standing.OPEN:
            raise
        raise UnknownOutcomeError(
            f"An attempt is open, and its outcome is not known yet. {error.message}",
            f"{error.remedy} Once it has ended, run `manual-payout status {folder.path.parent.name}` first.",
        ) from None


def _kernels(given: ForkServer | None, stages: Sequence[Stage]) -> AbstractContextManager[ForkServer]:
    if given is not None:
        return nullcontext(given)
    return fork_server(later=needed_by(stage.short for stage in stages))


@contextmanager
def _sealed(
    desk: Desk,
    folder: Folder,
    incident_id: str,
    ledger_payout_id: str,
    sealer: Sealer | None,
    kernels: ForkServer | None = None,
    *,
    tell: bool = True,
) -> Iterator[_Pages]:
    with _Pages(folder, kernels) as pages:
        try:
            yield pages
        finally:
            if folder.path.is_dir():
                pages.add(_on_record(desk, folder))
                seal_folder(desk, folder, incident_id, ledger_payout_id, sealer)
    # Not when a signal or an error is on its way out: whoever stopped it does not wait for Slack. A dry run tells nobody
    # anything; the digest that was told last still holds, since a seal that only adds is found to continue it.
    if tell and sealer is not None and folder.path.is_dir():
        _tell_seal(desk, folder, incident_id, ledger_payout_id, sealer.person_id)


def _tell_seal(desk: Desk, folder: Folder, incident_id: str, ledger_payout_id: str, actor: str) -> None:
    """Tell the digest of the seal of a payout that was made; the answer of a run never hangs on it."""
    # The folder is sealed and the money is on record; the next seal tells the next digest.
    with suppress(DatabaseError):
        records = desk.store.payouts_of(
            incident_id=incident_id, ledger_payout_id=ledger_payout_id, mode=desk.settings.mode.value
        )
        # The newest of this world: what was taken back and paid again has two.
        for record in [record for record in records if record.stripe_transfer_id][:1]:
            tell_seal(desk, record, head_digest(folder), actor=actor)


class _Pages:
    """
    The pages of a folder's notebooks, rendered one by one in the background while the next notebook runs.

    They are put into the folder only at the end, so that no stage sees a folder that changes by itself.
    """

    def __init__(self, folder: Folder, kernels: ForkServer | None) -> None:
        self._folder = folder
        self._kernels = kernels
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="pages")
        self._pages: dict[Path, Future[bytes]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._worker.shutdown(cancel_futures=True)

    def render(self, notebook: Path) -> None:
        """Begin to render a notebook that has ended."""
        self._pages[notebook] = self._worker.submit(self._page_of, notebook)

    def add(self, on_record: Container[str] = ()) -> None:
        """Put a page beside every notebook that has none; one that is on record exists somewhere, and is not made again."""
        # While the last of them is rendered.
        review.compile_review()
        # Also of a notebook whose runner was killed before it could render the page.
        pages = [(path, path.with_suffix(".html")) for _, _, path in self._folder.notebooks()]
        missing = [path for path, page in pages if not page.exists() and page.name not in on_record]
        for notebook in missing:
            rendered = self._pages.get(notebook)
            page = self._page_of(notebook) if rendered is None else rendered.result()
            self._folder.replace_bytes(f"{notebook.stem}.html", page)

    def _page_of(self, notebook: Path) -> bytes:
        return self._folder.redactor.redact(self._rendered(notebook)).encode()

    def _rendered(self, notebook: Path) -> str:
        # nbconvert is slow to import; where kernels are forked, it is there already, and this process stays small.
        if self._kernels is not None:
            with suppress(NoKernelError):
                return run_errand(self._kernels, PAGE_OF_FILE, str(notebook.absolute()))
        from manual_payout.evidence.pages import notebook_page

        return notebook_page(notebook)
