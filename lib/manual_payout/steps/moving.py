"""What the two notebooks that move money show alike: the attempt, the dry run, and what Stripe shows beside what was approved."""

from __future__ import annotations

from manual_payout.approval.dry_runs import DRY_RUN, DRY_RUN_MADE, run_command
from manual_payout.domain.display import Banner, Table
from manual_payout.domain.models import Record, Request, State
from manual_payout.steps.run import Bound

_COMPARED = ("field", "approved", "at Stripe", "result")


def next_attempt(record: Record | None) -> int:
    """Return the number of the attempt that a run would send now."""
    if record is None:
        return 1
    return record.attempt_no + (record.state is State.REFUSED)


def dry_run_banner(run: Bound, request: Request, warned: str = "") -> Banner:
    """Record the dry run, and say who tells the code that the live run must be given: whoever seals the folder."""
    data = {"request_id": request.request_id, "operator_id": run.operator.person_id}
    run.desk.store.record_event(run.stream, DRY_RUN, run.operator.person_id, data)
    return Banner(
        DRY_RUN_MADE,
        "If the payload above is right, the live run needs the confirm code, which is for this request and this operator "
        f"only. `{run_command(request)}` prints it once the folder is sealed; after plain papermill, "
        f"`manual-payout seal {request.incident_id} --operator {run.operator.handle}` does.{warned}",
        good=True,
    )


def compared(made: str | None, pairs: dict[str, tuple[str, str]], none: str) -> Table:
    """
    Compare what was approved with what Stripe shows.

    Args:
        made: The id of what Stripe made, or None.

        pairs: Each field as approved and as Stripe shows it.

        none: What is said where nothing was made.
    """
    if made is None:
        return Table(none, _COMPARED, ())
    rows = tuple((name, was, now, "same" if was == now else "differs") for name, (was, now) in pairs.items())
    agree = all(row[3] == "same" for row in rows)
    return Table(f"{made} {'is' if agree else 'IS NOT'} what was approved.", _COMPARED, rows)
