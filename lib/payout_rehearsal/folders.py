"""Where a rehearsal is kept: a folder of its own, beside those of all rehearsals before it."""

from __future__ import annotations

from pathlib import Path

from manual_payout.database.clock import Stopwatch
from manual_payout.desk.settings import Policy, load_settings
from manual_payout.domain.errors import ParameterError
from manual_payout.domain.models import Stage

NOTEBOOK = f"{Stage.REHEARSE}.ipynb"
REPORT = "report.html"


def new_folder(named: str = "") -> Path:
    """
    Return the folder of a rehearsal that begins now; it may hold nothing but the notebook that is being run.

    Args:
        named: Its name below ``outputs/rehearsals``, or an absolute path; empty for the present time.

    Raises:
        ParameterError: It holds something.
    """
    # Only where outputs go is asked of the environment: no policy file, no address.
    settings = load_settings(stripe_api_base="https://api.stripe.com", policy=Policy())
    name = named or f"{Stopwatch().now():%Y-%m-%dT%H-%M-%S}"
    folder = settings.outputs_dir / "rehearsals" / name
    if folder.exists() and (not folder.is_dir() or _holds_something(folder)):
        raise ParameterError("folder", str(folder), "a new or empty folder; evidence is never overwritten")
    return folder


def _holds_something(folder: Path) -> bool:
    """Whether there is more than a notebook being run, and the file that is about to take its place."""
    return any(path.name != NOTEBOOK and not path.name.startswith(f".{NOTEBOOK}.") for path in folder.iterdir())
