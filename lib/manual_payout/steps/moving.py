"""What the two notebooks that move money show alike: the attempt, the confirm code, and what Stripe shows beside what was approved."""

from __future__ import annotations

from manual_payout.domain.display import Banner, Table
from manual_payout.domain.intent import confirm_code
from manual_payout.domain.models import Line, Record, Request, State
from manual_payout.steps.run import Bound

_COMPARED = ("field", "approved", "at Stripe", "result")


def next_attempt(record: Record | None) -> int:
    """Return the number of the attempt that a run would send now."""
    if record is None:
        return 1
    return record.attempt_no + (record.state is State.REFUSED)


def code_banner(run: Bound, request: Request, line: Line, warned: str = "") -> Banner:
    """Record the dry run, and print the code that the live run must be given."""
    code = confirm_code(request, line, run.operator.person_id)
    run.findings["confirm_code"] = code
    data = {"request_id": request.request_id, "operator_id": run.operator.person_id}
    run.desk.store.record_event(run.stream, "dry_run", run.operator.person_id, data)
    return Banner(
        f"Confirm code: {code}",
        f"This was a dry run; nothing was sent. If the payload above is right, run live with confirm {code}. The code is for this request and this operator only.{warned}",
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
