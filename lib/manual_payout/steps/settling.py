"""Stage 5: how far the money has come, and a picture of the way."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import datetime

from manual_payout.approval.books import account_at
from manual_payout.comms.delivery import Postroom
from manual_payout.comms.telling import is_about_settlement, write_announced
from manual_payout.domain.account import Account, Standing, account_of
from manual_payout.domain.display import Banner, Picture, Table
from manual_payout.domain.errors import AstrayError, NotFinishedError, UnknownOutcomeError
from manual_payout.domain.models import Event, PayoutRecord, State
from manual_payout.steps.notification import delivery_table
from manual_payout.steps.run import Run, question
from manual_payout.transfer import settlement
from manual_payout.transfer.settlement import Ladder, Reached, RungName

_TITLES = {
    RungName.ACCEPTED: "Accepted: the transfer exists",
    RungName.SETTLED_ON_PLATFORM: "Settled on the platform",
    RungName.USABLE_BY_STUDIO: "Usable by the studio",
    RungName.PAID_TO_BANK: "Paid to the bank",
}

_RUNG_COLUMNS = ("rung", "status", "when", "shown by", "note", "what the key needs to see it")


@question
def watch(run: Run) -> Banner:
    """Follow the money as long as the policy's patience lasts, recording every new rung (SOP step 6)."""
    shown = _watch(run)
    run.verdict = shown.word
    return shown


@question
def ladder(run: Run) -> Table:
    """Show every rung as Stripe shows it now."""
    record = _sent(run)
    if record is None:
        return Table("Nothing was sent.", _RUNG_COLUMNS, ())
    seen = settlement.look(run.desk, record)
    rows = tuple(
        (_TITLES[r.name], r.reached.value, _when(r.at), r.shown_by, r.note, settlement.RUNG_NEEDS[r.name])
        for r in seen.rungs
    )
    top = _TITLES[seen.top] if seen.top else "nothing reached"
    return Table(f"{record.stripe_transfer_id}: {top}.", _RUNG_COLUMNS, rows)


@question
def tell_settlement(run: Run) -> Table:
    """Tell the channel and the studio when the money has reached it or failed on the way; show what became of it."""
    record = _sent(run)
    if record is None:
        return Table("Nothing was sent, so there is nothing to tell.", (), ())
    if not run.dry_run:
        actor = run.operator.person_id
        write_announced(run.desk, record, actor=actor)
        Postroom(run.desk.settings, run.desk.store, actor).deliver(record.payout_id)
    messages = [m for m in run.desk.store.messages_of(record.payout_id) if is_about_settlement(m)]
    for message in messages:
        if message.body_text:
            run.folder.keep(f"{message.kind.replace('_', '-')}.txt", message.body_text)
    return delivery_table(run, messages, "There is no news for the studio yet.")


@question
def timeline(run: Run) -> Picture | Banner:
    """Draw what happened when, from request to the highest rung."""
    points = _points(run)
    if not points:
        return Banner("Nothing to draw", "Nothing has happened for this ledger payout yet.", good=False)
    png = _draw(points, f"{run.parameters.incident_id}: from request to settlement")
    run.folder.replace_bytes("timeline.png", png)
    words = "\n".join(f"{at:%Y-%m-%d %H:%M} UTC  {what}" for at, what in points)
    return Picture(png, words)


def _note(run: Run, seen: Ladder) -> None:
    if not run.dry_run:
        settlement.note(run.desk, run.get_record(), seen, actor=run.operator.person_id)


def _sent(run: Run) -> PayoutRecord | None:
    record = run.find_record() if run.dry_run else run.get_record()
    if record is None or record.state is State.REFUSED:
        return None
    if record.stripe_transfer_id is None:
        raise UnknownOutcomeError(
            f"The sending is {record.state}; there may be nothing to settle.",
            f"Run `manual-payout reconcile {record.incident_id}`.",
        )
    return record


def _points(run: Run) -> list[tuple[datetime, str]]:
    names = {
        "request_filed": "request filed",
        "approved": "approved",
        "intent_recorded": "intent recorded",
        "outcome_paid": "transfer accepted",
        "payout_logged": "row compared",
    }
    points = []
    for event in run.desk.store.events_of(run.stream):
        if event.kind in names:
            points.append((event.at, names[event.kind]))
        elif event.kind == "settlement_observed":
            points.append((event.at, event.data["rung"].replace("_", " ")))
    return points


def _draw(points: list[tuple[datetime, str]], title: str) -> bytes:
    # Costs a second to import, and only this needs it.
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 0.9 + 0.32 * len(points)), dpi=110)
    axes = figure.subplots()
    start = points[0][0]
    hours = [(at - start).total_seconds() / 3600 for at, _ in points]
    rows = list(range(len(points)))[::-1]
    axes.hlines(rows, 0, hours, color="#8c959f", linewidth=1)
    axes.plot(hours, rows, "o", color="#1a7f37", clip_on=False)
    axes.set_yticks(rows, [f"{what}  {at:%d %b %H:%M}" for at, what in points], fontsize=8)
    # Minutes and days on one axis: the beginning would vanish on a linear one.
    axes.set_xscale("symlog", linthresh=1)
    axes.set_xlim(left=0)
    axes.set_xticks(*_ticks(max(hours)))
    axes.minorticks_off()
    axes.set_xlabel("since the request", fontsize=8)
    axes.set_title(title, fontsize=10, loc="left")
    axes.tick_params(axis="x", labelsize=8)
    axes.spines[["top", "right", "left"]].set_visible(False)
    figure.tight_layout()
    file = io.BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()


def _ticks(hours_max: float) -> tuple[list[float], list[str]]:
    """Choose the marks of an axis that holds minutes as well as days: positions in hours, and what they are called."""
    marks = {
        0: "0",
        0.25: "15 min",
        0.5: "30 min",
        1: "1 h",
        6: "6 h",
        24: "1 day",
        48: "2 days",
        96: "4 days",
        240: "10 days",
    }
    shown = {hours: name for hours, name in marks.items() if hours <= hours_max * 1.1}
    return list(shown), list(shown.values())


def _when(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC" if at else ""


def _next_time(seen: Ladder) -> str:
    waiting = next((rung for rung in seen.rungs if rung.reached is Reached.NOT_YET), None)
    if waiting is None or waiting.at is None:
        return "Stripe names no date yet."
    return f"Stripe expects the next rung at {_when(waiting.at)}."


def _account(run: Run, record: PayoutRecord, seen: Ladder) -> Account:
    """Ask the books, which hold what was just seen; in a dry run, what they would say."""
    told = settlement.observation(run.desk, record, seen)
    if not run.dry_run or told is None:
        return account_at(run.desk, record.ledger_payout_id)
    data = {"rung": told["rung"], "done": told["done"], **told["data"]}
    event = Event(run.stream, 0, "settlement_observed", run.desk.now(), run.operator.person_id, data)
    settled_at = run.desk.now() if told["done"] else None
    looked_at = replace(record, settlement_rung=told["rung"], settled_at=settled_at)
    reversals = run.desk.store.reversals_of(ledger_payout_id=record.ledger_payout_id)
    return account_of([looked_at], reversals, [*run.desk.store.events_of(run.stream), event])


def _watch(run: Run) -> Banner:
    record = _sent(run)
    if record is None:
        return Banner("Nothing to watch", "Nothing was sent.", good=False)
    last = settlement.watch(run.desk, record, seen=lambda ladder: _note(run, ladder))
    goal = RungName(run.desk.settings.policy.settlement.done_rung)
    top = _TITLES[last.top] if last.top else "not even accepted"
    run.findings |= {"rung": last.top.value if last.top else None, "goal": goal.value}
    account = _account(run, record, last)
    if account.standing is Standing.OPEN:
        run.refusal = UnknownOutcomeError(account.sentence, account.remedy)
        return Banner("Open", account.sentence, good=False)
    if account.standing is Standing.ASTRAY:
        run.refusal = AstrayError(account.sentence, account.remedy)
        return Banner("Failed on the way", account.sentence, good=False)
    if account.standing is not Standing.OUT:
        word = {Standing.TAKEN_BACK: "Taken back", Standing.RETURNED: "Returned"}.get(account.standing, "Arrived")
        note = f" {last.rungs[-1].note}" if word == "Arrived" else ""
        return Banner(word, f"{account.sentence}{note}", good=True)
    if blocked := last.blocked(goal):
        run.refusal = NotFinishedError(f"{_TITLES[blocked.name]} cannot be seen with this key.", blocked.note)
        return Banner("As far as this key can see", f"{top}. {blocked.note}", good=False)
    run.refusal = NotFinishedError(
        f"Not settled yet: {top}.", f"Run `manual-payout run … --stage settle` again later; {_next_time(last)}"
    )
    return Banner("Still on its way", f"{top}. {_next_time(last)}", good=False)
