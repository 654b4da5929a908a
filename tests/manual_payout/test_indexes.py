"""What is asked at three in the morning is found by an index, however many payouts there were before."""

from __future__ import annotations

import re
from contextlib import contextmanager

import sqlalchemy as sa

from manual_payout.cli.standing import RECENT
from manual_payout.comms.delivery import Postroom
from manual_payout.monitoring import watch_round

# These grow with every payout, for ever.
GROWING = {
    "requests", "request_lines", "approvals", "manual_payouts", "attempts", "manual_reversals",
    "reversal_attempts", "events", "messages", "alerts", "settlement_watch",
}  # fmt: skip

PARTIAL = re.compile(r"INDEX ix_\w+_(unsent|unfinished|unsettled)$")


@contextmanager
def heard(engine):
    """Every question that is asked of *engine* meanwhile."""
    asked = []

    def listen(_connection, _cursor, statement, parameters, _context, _many):
        if statement.lstrip().upper().startswith(("SELECT", "UPDATE")):
            asked.append((statement, parameters))

    sa.event.listen(engine, "before_cursor_execute", listen)
    yield asked
    sa.event.remove(engine, "before_cursor_execute", listen)


def scanned(engine, statement, parameters):
    """The growing tables that this question reads from one end to the other."""
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            plan = [row[-1] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)]
            # What is left of a partial index is what is unfinished, however many rows there are.
            found = [match[1] for line in plan if (match := re.match(r"SCAN (\w+)", line)) and not PARTIAL.search(line)]
        else:
            # Small tables are read whole where that is cheaper; what is asked is whether there is another way.
            connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
            plan = [row[0] for row in connection.exec_driver_sql(f"EXPLAIN {statement}", parameters)]
            found = re.findall(r"Seq Scan on (\w+)", "\n".join(plan))
        connection.rollback()
    return GROWING.intersection(found)


def whole_reads(desk, asked):
    """Each question that no index answers, and the tables that it reads whole."""
    seen = {}
    for statement, parameters in asked:
        if statement not in seen:
            seen[statement] = scanned(desk.store._engine, statement, parameters)
    return {statement: tables for statement, tables in seen.items() if tables}


def test_paying_by_hand_reads_no_table_whole(any_scene):
    """From the request through approvals, dry run and send to the outcome."""
    with heard(any_scene.desk.store._engine) as asked:
        any_scene.request = any_scene.file(replace=True, notes="again")
        for approver in ("priya", "amara"):
            any_scene.approve(approver)
        any_scene.dry_run()
        any_scene.send(notes="again")

    assert len(asked) > 20
    assert {} == whole_reads(any_scene.desk, asked)


def test_looking_reads_no_table_whole(any_scene):
    """What `status`, `reconcile`, `deliver` and `monitor` ask."""
    any_scene.send()
    desk = any_scene.desk
    with heard(desk.store._engine) as asked:
        desk.store.payouts_of(incident_id="INC-123")
        desk.store.current_payouts(desk.now() - RECENT)
        desk.store.current_reversals(desk.now() - RECENT)
        desk.store.open_requests()
        desk.store.open_requests("INC-123")
        desk.store.count_messages([any_scene.record.payout_id])
        desk.store.undelivered_messages("INC-123")
        any_scene.reconcile()
        Postroom(desk.settings, desk.store, "tomas").deliver()
        watch_round(desk)

    assert len(asked) > 20
    assert {} == whole_reads(desk, asked)


def test_question_without_an_index_is_found(any_scene):
    """The two tests above can fail."""
    with heard(any_scene.desk.store._engine) as asked:
        any_scene.desk.store.payouts_of(reason="psp_rejection")

    assert [{"manual_payouts"}] == list(whole_reads(any_scene.desk, asked).values())
