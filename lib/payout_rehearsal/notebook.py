"""The rehearsal as the command line plays it: the notebook ``rehearse`` through our engine, so that it is its own record."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manual_payout.desk.papermill_engine import HOUSE
from manual_payout.desk.results import the_result
from manual_payout.desk.reviewed import reviewed_digest
from manual_payout.desk.secret_settings import redactor_of
from manual_payout.desk.settings import Policy, load_settings
from manual_payout.domain import errors
from manual_payout.domain.errors import EvidenceError, ManualPayoutError, ParameterError
from manual_payout.domain.models import Stage
from manual_payout.evidence.folder import Folder
from payout_rehearsal.folders import NOTEBOOK, REPORT
from payout_rehearsal.grounds import Outfit, find_ground
from truthful_papermill.durable import make_folder
from truthful_papermill.engine import execute, orderly_signals
from truthful_papermill.warm.starting import ForkServer


@dataclass(frozen=True, slots=True)
class Recorded:
    """
    A rehearsal that was played.

    Attributes:
        root: Its folder.

        result: What it came to, as `result.result_of` says.

        error: Why it is not green, or None.
    """

    root: Path
    result: dict[str, Any]
    error: ManualPayoutError | None

    @property
    def notebook(self) -> Path:
        """The executed notebook; its page lies beside it."""
        return self.root / NOTEBOOK

    @property
    def report(self) -> Path:
        """The report."""
        return self.root / REPORT

    @property
    def evidence(self) -> Path:
        """The incident's evidence folder."""
        return self.root / str(self.result["evidence"])


def play_notebook(
    root: Path,
    *,
    target: str,
    outfit: Outfit,
    drill: bool,
    kernels: ForkServer | None = None,
    progress: Callable[[str, int, int, str], None] | None = None,
) -> Recorded:
    """
    Run the notebook from beginning to end; nothing is asked on the way.

    Args:
        root: A new folder, absolute.

        target: Where it is played; *outfit* is what that takes.

        drill: Whether the faults are played too.

        kernels: What forks the notebook's own kernel; the kernels inside are the notebook's to start.

        progress: As of `engine.execute`.

    Raises:
        ParameterError: The folder cannot be made.

        EvidenceError: The template was changed, or the notebook stopped before it came to a result.

        StoppedBySignal: SIGINT or SIGTERM; the notebook is saved.
    """
    try:
        make_folder(root)
    except OSError as error:
        raise ParameterError("folder", str(root), f"a folder that can be made ({error.strerror})") from None
    folder = Folder(root, redactor_of().with_secrets(*outfit.secrets))
    template = load_settings(stripe_api_base="https://api.stripe.com", policy=Policy()).runbooks_dir / NOTEBOOK
    with orderly_signals():
        try:
            execution = execute(
                template,
                root / NOTEBOOK,
                {"target": target, "folder": str(root), "drill": drill},
                redactor=folder.redactor,
                kernel_env=outfit.environment,
                expected_digest=reviewed_digest(Stage.REHEARSE),
                fork_server=kernels,
                progress=progress,
                house=HOUSE,
            )
        finally:
            find_ground(target).forget(root)
    # nbconvert costs a second to import, which would be waited for before the first cell.
    from manual_payout.evidence.pages import notebook_page

    folder.replace_redacted(f"{Stage.REHEARSE}.html", notebook_page(execution.path))
    result = the_result(json.loads(execution.path.read_text("utf-8"))["cells"])
    if not result:
        raise _stopped(execution.error_name, execution.error_message, execution.path)
    return Recorded(root, result, _refusal(result))


def _refusal(result: dict[str, Any]) -> ManualPayoutError | None:
    refusal = result.get("findings", {}).get("refusal")
    if not refusal:
        return None
    error = ManualPayoutError(refusal["message"], refusal["remedy"])
    error.exit_code = refusal["exit_code"]
    return error


def _stopped(name: str, message: str, notebook: Path) -> ManualPayoutError:
    """Say why the notebook came to nothing; a mistake of whoever called keeps its exit code."""
    kind = getattr(errors, name, EvidenceError)
    known = isinstance(kind, type) and issubclass(kind, ManualPayoutError)
    error = ManualPayoutError(
        f"The rehearsal stopped before it came to a result: {message or 'its kernel ended'}",
        f"Open {notebook} to see where.",
    )
    error.exit_code = kind.exit_code if known else EvidenceError.exit_code
    return error
