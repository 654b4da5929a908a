"""The stage of the demo incident: a fresh database with the demo's ledger, a sandbox whose clock stands at the demo's night."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import local_stripe
from manual_payout.database import engines
from manual_payout.desk.wiring import Desk, open_desk
from manual_payout.domain.parameters import Parameters, validate
from payout_rehearsal.demo import incident
from payout_rehearsal.demo.automation import NightlyJob
from payout_rehearsal.demo.ledger import create_demo_ledger, demo_ledger, platform_available, sandbox_accounts
from payout_rehearsal.demo.settings import demo_settings


@contextmanager
def stage_set(root: Path, *, without: frozenset[str] = frozenset()) -> Iterator[tuple[Desk, local_stripe.Sandbox]]:
    """
    Set the scene of the demo incident: a sandbox whose clock stands at the demo's night, and a fresh database.

    Args:
        root: An empty folder for the database and the evidence.

        without: Ids of connected accounts that Stripe does not know, although the ledger names them.

    Yields:
        The operator's desk, and the sandbox with its books.
    """
    accounts, available = sandbox_books()
    connected = [account for account in accounts if account.id not in without]
    with local_stripe.running(start=incident.NOW, accounts=connected, available=available) as stripe:
        settings = demo_settings(root, stripe.base_url, set_up_database(root))
        stripe.on_advance(nightly_job(settings.ledger_database_text()))
        yield open_desk(settings), stripe


def sandbox_books() -> tuple[list[local_stripe.SandboxAccount], dict[str, int]]:
    """Return the demo's connected accounts and the platform's available balance, minor units by currency."""
    ledger = demo_ledger()
    return [
        local_stripe.SandboxAccount(**cast("Any", account)) for account in sandbox_accounts(ledger)
    ], platform_available(ledger)


def set_up_database(root: Path, url: str = "") -> str:
    """
    Make our tables and the demo's ledger in one database; what is there already stays.

    Args:
        root: Where the SQLite file is made when no *url* is given.

    Returns:
        The database's URL.
    """
    root.mkdir(parents=True, exist_ok=True)
    url = url or engines.sqlite_url((root / "demo.sqlite").resolve())
    engine = engines.connect(url, name="DATABASE_URL")
    engines.upgrade_database(engine)
    create_demo_ledger(engine, demo_ledger())
    engine.dispose()
    return url


def nightly_job(url: str) -> NightlyJob:
    """Return what keeps the demo's balances of the day, for the sandbox to call when its clock was moved."""
    return NightlyJob(engines.connect(url, name="LEDGER_DATABASE_URL"))


def demo_parameters(*, dry_run: bool = True, confirm: str = "") -> Parameters:
    """Return the SOP's example."""
    return validate(
        {
            "incident_id": incident.INCIDENT_ID,
            "studio_id": incident.STUDIO_ID,
            "studio_name": incident.STUDIO_NAME,
            "ledger_payout_id": incident.LEDGER_PAYOUT_ID,
            "amount": incident.AMOUNT,
            "reserve_after": incident.RESERVE_AFTER,
            "reason": incident.REASON,
            "destination_account": incident.DESTINATION_ACCOUNT,
            "notes": incident.NOTES,
            "operator": incident.OPERATOR,
            "dry_run": dry_run,
            "confirm": confirm,
        }
    )
