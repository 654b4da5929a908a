"""
What the notebook ``rehearse`` calls: one call a cell, each answering with a table; only the last one refuses.

A step that breaks is noted and shown, and what can still be played is played.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import scrapbook

from manual_payout.domain.display import Banner, Picture, Table, Text, facts_table
from manual_payout.domain.errors import NotFinishedError, ParameterError
from manual_payout.evidence.folder import Folder
from manual_payout.steps.endings import StageResult
from payout_rehearsal.checks import check_rehearsal
from payout_rehearsal.drill import DRILL, NOT_REACHED, Played
from payout_rehearsal.drill import play as play_scene
from payout_rehearsal.folders import REPORT
from payout_rehearsal.ground import SceneName
from payout_rehearsal.incident import ACCEPTED, ASKED, CLOSED, DRY, LIVE, failed_stage
from payout_rehearsal.plot import draw
from payout_rehearsal.report import page_of
from payout_rehearsal.result import inventory_block
from payout_rehearsal.run import RehearsalRun, Shown, begin, step
from payout_rehearsal.trend import Trend, past_rehearsals, with_this

__all__ = [
    "RehearsalRun", "ask", "begin", "check", "close", "conclude", "dry_run", "fault", "live_run", "report", "times", "trend",
]  # fmt: skip

# Each of these scenes ends with money that moved, whose row and messages are looked at with the incident's.
_PAID = frozenset({SceneName.ANSWER_LOST, SceneName.KILLED_KERNEL, SceneName.FAILING_LATER})


@step(ASKED)
def ask(run: RehearsalRun) -> Shown:
    """File the request and approve it twice."""
    request = run.incident.ask()
    return facts_table(
        f"Request {request.request_id[:8]} was filed and approved twice.",
        {
            "incident": request.incident_id,
            "amount": request.total.grouped,
            "digest": request.digest,
            "took": _seconds(run.record.seconds_until(ASKED, ASKED)),
        },
    )


@step(DRY)
def dry_run(run: RehearsalRun) -> Shown:
    """Run the first two notebooks without sending."""
    return _stages(run, DRY, run.incident.dry_run())


@step(LIVE)
def live_run(run: RehearsalRun) -> Shown:
    """Run the five notebooks of a live run, with the code of the dry run."""
    return _stages(run, LIVE, run.incident.live_run())


@step(CLOSED)
def close(run: RehearsalRun) -> Shown:
    """Let the automation come back, and close the incident."""
    return _stages(run, CLOSED, run.incident.close())


def fault(run: RehearsalRun, name: str) -> Shown:
    """
    Play one scene of the drill.

    Raises:
        ParameterError: There is no scene of that name.
    """
    scene = next((scene for scene in DRILL if scene.name == name), None)
    if scene is None:
        raise ParameterError("scene", name, f"one of {', '.join(scene.name for scene in DRILL)}")
    if not run.parameters.drill:
        return Banner("Not played", "This rehearsal is of the incident alone.", good=False)
    # What was checked before this scene says nothing of it.
    run.checks.clear()
    with run.record.step(f"drill: {scene.name}"):
        played = play_scene(scene, run.ground, run.kernels)
    run.scenes.append(played)
    rows = [(f.what, f.expected, f.found, "same" if f.fine else "differs") for f in played.findings]
    if played.trouble:
        rows.append(("the scene", "its end", played.trouble, "differs"))
    caption = f"{'As expected' if played.as_expected else 'NOT AS EXPECTED'}: {scene.title}. {scene.teaches}"
    return Table(caption, ("what", "expected", "found", "result"), tuple(rows))


@step("checks")
def check(run: RehearsalRun) -> Shown:
    """Hold the audit rows against requests, approvals and Stripe, and read what people would have read."""
    incident = run.incident.parameters
    payouts = [(incident.incident_id, incident.ledger_payout_id)]
    payouts += [
        _payout(scene) for scene in run.scenes if scene.name in _PAID and scene.findings[-1].found != NOT_REACHED
    ]
    with run.record.step("checks"):
        run.checks[:] = check_rehearsal(run.ground.desk, payouts)
    wrong = sum(check.stops for check in run.checks)
    caption = f"{len(run.checks) - wrong} of {len(run.checks)} checks hold, over {len(payouts)} payouts."
    rows = tuple((c.status.value, c.question, c.expected, c.found) for c in run.checks)
    return Table(caption, ("status", "question", "expected", "found"), rows)


def times(run: RehearsalRun) -> Table:
    """Show when each step began and ended, and how long it really took."""
    response = run.record.seconds_until(ASKED, ACCEPTED)
    rows = tuple(
        (done.name, _clock(done.started_at), _clock(done.ended_at), _seconds(done.seconds)) for done in run.record.steps
    )
    caption = f"From the request to the accepted transfer: {_seconds(response).strip()} of work, waiting left out."
    return Table(caption, ("step", "from (UTC)", "to (UTC)", "took"), rows, frozenset({"took"}))


def trend(run: RehearsalRun) -> Shown:
    """Show the response time of this rehearsal beside those of the rehearsals before it."""
    seen = _trend(run)
    words = [
        f"{row.folder}  {_seconds(row.response_s)}  {'green' if row.green else 'not green'}" for row in seen.timed()
    ]
    words += [f"{name}: left out, {why}" for name, why in seen.damaged]
    return Picture(draw(seen.frame), "\n".join(words) or "No money was accepted in any rehearsal.")


def report(run: RehearsalRun) -> Banner:
    """Write the report: one page."""
    seen, result = _trend(run), run.result()
    folder = Folder(run.root, run.ground.desk.redactor)
    path = folder.replace_redacted(REPORT, page_of(result, seen))
    words = f"{path.name} in {run.root.name}: {result['verdict'].lower()}."
    if result["left_behind"]:
        words += f" {result['left_behind']}."
    return Banner("Written", words, good=result["green"])


def conclude(run: RehearsalRun) -> Text | Banner:
    """
    End the rehearsal: glue what it came to, take the stage down, and refuse if it is not green.

    Returns:
        The block for the inventory.

    Raises:
        NotFinishedError: Something was not as expected; the sentence names it.

        ManualPayoutError: A stage of the incident itself did not end well; as that stage ended.
    """
    result = run.result()
    error = failed_stage(run.incident.played) or _not_green(result)
    if error is not None:
        result["findings"] = {
            "refusal": {"error": type(error).__name__, "message": error.message, "remedy": error.remedy, "exit_code": error.exit_code}
        }  # fmt: skip
    scrapbook.glue("result", result, encoder="json")
    run.stack.close()
    if error is not None:
        raise error
    block = inventory_block(result)
    if not block:
        return Banner("Green, without the drill", "The inventory takes a rehearsal with its drill.", good=True)
    return Text("Green. For the reviewed inventory (docs/monitoring.md):", block)


def _not_green(result: dict[str, Any]) -> NotFinishedError | None:
    if result["green"]:
        return None
    wrong = result["wrong"]
    more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
    return NotFinishedError(
        f"The rehearsal is not green: {wrong[0].rstrip('.')}{more}.",
        f"Open {REPORT}, mend what it names, rehearse again (docs/rehearsal-playbook.md).",
    )


def _trend(run: RehearsalRun) -> Trend:
    past = past_rehearsals(run.root.parent, but=run.root, target=run.ground.name)
    return with_this(past, run.result(), run.root.name)


def _stages(run: RehearsalRun, name: str, results: list[StageResult]) -> Table:
    seconds = {done.name: done.seconds for done in run.record.steps}
    rows = tuple(
        (r.stage.value, r.verdict, f"exit {r.exit_code}", _seconds(seconds.get(f"{name}: {r.stage}")), r.message)
        for r in results
    )
    last = results[-1]
    ended = "notebook" if len(results) == 1 else f"{len(results)} notebooks"
    good = f"The {ended} of the {name} ended well."
    caption = good if not last.exit_code else f"The {name} ended at {last.stage} with exit {last.exit_code}."
    return Table(caption, ("notebook", "verdict", "end", "took", "why"), rows)


def _payout(scene: Played) -> tuple[str, str]:
    incident_id, _, ledger_payout_id = scene.folder.partition("/")
    return incident_id, ledger_payout_id


def _seconds(value: float | None) -> str:
    """Write real seconds, always as wide, so that a table keeps its shape from one rehearsal to the next."""
    return f"{value:7.2f} s" if value is not None else "not reached"


def _clock(at: datetime) -> str:
    return f"{at:%H:%M:%S.%f}"[:-4]
