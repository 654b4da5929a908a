"""What the kernels of our notebooks need, so that they start at once. The one place besides the command table that names modules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager

from truthful_papermill.warm import starting
from truthful_papermill.warm.starting import ForkServer, KernelNeeds

_STEPS = tuple(
    f"manual_payout.steps.{name}"
    for name in (
        "closing",
        "execution",
        "logging",
        "notification",
        "reversing",
        "run",
        "settling",
        "verification",
        "watching",
    )
)

STAGES_NEED = KernelNeeds(
    first=(
        *_STEPS,
        "manual_payout.desk.signatures.key_files:import_asyncssh",
        "manual_payout.gateway.sdk:import_stripe",
    ),
    later=("manual_payout.evidence.pages:compile_pages", "manual_payout.evidence.review:compile_review"),
    # The settings of one run, its secrets among them. STRIPE_LOG is the SDK's own, which it reads at import.
    settings=r"STRIPE_(?!LOG$)\w+|(SLACK|SMTP|PAGERDUTY|JIRA|MANUAL_PAYOUT)_\w+|(LEDGER_)?DATABASE_URL",
)

# What is called in a process that has imported it already: an errand, and no kernel.
PAGE_OF_FILE = "manual_payout.evidence.pages:page_of_file"

# What single stages need besides: the one that draws the settlement's timeline, and the one that sums the stages up.
# pandas, which the server puts off, comes with the module below it.
_NEEDED_BY = {"settle": ("matplotlib.figure", "matplotlib.backends.backend_agg"), "close": ("pandas.api",)}


def needed_by(stages: Iterable[str]) -> list[str]:
    """Return what the stages of these short names need besides what all need, for ``later`` of `fork_server`."""
    return [name for stage in stages for name in _NEEDED_BY.get(stage, ())]


def begin_fork_server() -> None:
    """Start the server that the next `fork_server` of this process will be, as the first thing that the process does."""
    starting.begin(STAGES_NEED)


def fork_server(
    environment: Mapping[str, str] | None = None, later: Sequence[str] = ()
) -> AbstractContextManager[ForkServer]:
    """
    Start a fork server of our notebooks' kernels for the time of a block.

    Args:
        environment, later: As of `starting.fork_server`.
    """
    return starting.fork_server(environment, later, STAGES_NEED)
