"""
The demo incident from request to sealed folder, on the local sandbox and a fresh database: nothing real is touched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from pydantic import SecretStr

from manual_payout import database, sandbox
from manual_payout.approvals import approve
from manual_payout.demo import automation, incident
from manual_payout.demo.ledger import create_demo_ledger, demo_ledger, platform_available, sandbox_accounts
from manual_payout.desk import Desk, open_desk
from manual_payout.errors import ManualPayoutError
from manual_payout.intent import confirm_code, transfer_group
from manual_payout.messengers import NO_MESSENGERS
from manual_payout.models import Request, Stage
from manual_payout.parameters import Parameters, validate
from manual_payout.requesting import file_request
from manual_payout.runner import DRY_RUN, LIVE_RUN, Progress, StageResult, run_stages
from manual_payout.settings import Settings, load_settings
from manual_payout.signing import sandbox_key
from manual_payout.warm.starting import fork_server, needed_by

APPROVERS = ("priya", "amara")

# Between the steps of the demo's night, so that its timeline reads like one.
PAUSE_S = 240.0

CLOSING = {
    "root_cause": "The payout scheduler lost its database connection at 01:04 UTC and did not reconnect.",
    "follow_ups": "Reconnect on failure, Tomas Lindqvist, 2026-03-13; alert on a missed run, Noor Haddad, 2026-03-20",
    "automation_restored": True,
    "key_rotated_to": "",
    "access_review_on": "2026-04-20",
}


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """
    What a rehearsal came to.

    Attributes:
        folder: The sealed evidence folder.

        stages: Every stage in the order it was run.

        automation_skipped: Whether the automation's next run left the payout alone.

        transfers: How many transfers the sandbox's own books show for this payout.
    """

    folder: Path
    stages: tuple[StageResult, ...]
    automation_skipped: bool
    transfers: int

    @property
    def green(self) -> bool:
        """Whether everything went as it should."""
        return self.automation_skipped and self.transfers == 1 and all(stage.exit_code == 0 for stage in self.stages)


@contextmanager
def stage_set(root: Path) -> Iterator[tuple[Desk, sandbox.Sandbox]]:
    """
    Set the scene of the demo incident: a sandbox whose clock stands at the demo's night, and a fresh database.

    Args:
        root: An empty folder for the database and the evidence.

    Yields:
        The operator's desk, and the sandbox with its books.
    """
    accounts, available = sandbox_books()
    with sandbox.running(start=incident.NOW, accounts=accounts, available=available) as stripe:
        settings = demo_settings(root, stripe.base_url, set_up_database(root))
        yield open_desk(settings), stripe


def sandbox_books() -> tuple[list[sandbox.SandboxAccount], dict[str, int]]:
    """Return the demo's connected accounts and the platform's available balance, minor units by currency."""
    ledger = demo_ledger()
    return [sandbox.SandboxAccount(**cast("Any", account)) for account in sandbox_accounts(ledger)], platform_available(
        ledger
    )


def set_up_database(root: Path, url: str = "") -> str:
    """
    Make our tables and the demo's ledger in one database; what is there already stays.

    Args:
        root: Where the SQLite file is made when no *url* is given.

    Returns:
        The database's URL.
    """
    root.mkdir(parents=True, exist_ok=True)
    url = url or f"sqlite:///{(root / 'demo.sqlite').resolve()}"
    engine = database.connect(url, name="DATABASE_URL")
    database.upgrade(engine)
    create_demo_ledger(engine, demo_ledger())
    engine.dispose()
    return url


def demo_settings(root: Path, stripe_api_base: str, database_url: str) -> Settings:
    """Return settings that know only the sandbox and *root*, whatever the environment says."""
    return load_settings(
        fallback_key=SecretStr(sandbox.FALLBACK_KEY),
        fallback_key_command="",
        read_key=SecretStr(sandbox.READ_KEY),
        read_key_command="",
        stripe_api_base=stripe_api_base,
        database_url=SecretStr(database_url),
        ledger_database_url=None,
        outputs=root.resolve(),
        policy_file=None,
        approvers_file=None,
        allowed_signers_file=None,
        signing_key=None,
        operator=incident.OPERATOR,
        **NO_MESSENGERS,
    )


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


def file_and_approve(desk: Desk, *, pause_s: float = 0.0) -> Request:
    """File the demo's request and have both teams approve it, *pause_s* seconds after each other."""
    requester = desk.registry.get_allowed(incident.REQUESTER, "request", desk.now(), field="as")
    request, _ = file_request(desk, demo_parameters(), requester, replace=False)
    lifetime_s = desk.settings.policy.request.approval_lifetime_s
    for approver in APPROVERS:
        desk.clock.wait(pause_s)
        approve(
            desk.store,
            desk.registry,
            request,
            approver=approver,
            amount=incident.AMOUNT,
            destination_last4=incident.DESTINATION_ACCOUNT[-4:],
            lifetime_s=lifetime_s,
            key=sandbox_key(approver),
        )
    return request


def rehearse(root: Path, *, say: Callable[[str], None], progress: Progress) -> Rehearsal:
    """
    Run the whole incident: request, approvals, dry run, live run, settlement, close.

    Args:
        root: An empty folder; everything is left there.

        say: Told each step in a sentence.

        progress: As for `run_stages`.

    Raises:
        ManualPayoutError: A step before the notebooks was refused.
    """
    with fork_server(later=needed_by(stage.short for stage in Stage)) as kernels, stage_set(root) as (desk, stripe):
        say(f"Local Stripe sandbox at {stripe.base_url}; database and evidence in {root}")
        request = file_and_approve(desk, pause_s=PAUSE_S)
        desk.clock.wait(PAUSE_S)
        say(f"Request {request.request_id[:8]} filed by {incident.REQUESTER}, approved by {' and '.join(APPROVERS)}")
        stages = run_stages(desk, DRY_RUN, demo_parameters(), progress=progress, kernels=kernels)
        operator = desk.registry.get_allowed(incident.OPERATOR, "operate", desk.now(), field="operator")
        live = demo_parameters(dry_run=False, confirm=confirm_code(request, request.line, operator.person_id))
        if not stages[-1].exit_code:
            desk.clock.wait(PAUSE_S)
            say(f"Dry run read; running live with confirm code {live.confirm}")
            stages += run_stages(desk, LIVE_RUN, live, progress=progress, kernels=kernels)
        skipped = _automation_skips(desk, say)
        if not stages[-1].exit_code:
            stages += run_stages(desk, (Stage.CLOSE,), live, extra=CLOSING, progress=progress, kernels=kernels)
        made = [t for t in stripe.books.transfers if t.transfer_group == transfer_group(incident.LEDGER_PAYOUT_ID)]
    folder = root / incident.INCIDENT_ID / incident.LEDGER_PAYOUT_ID
    return Rehearsal(folder, tuple(stages), skipped, len(made))


def _automation_skips(desk: Desk, say: Callable[[str], None]) -> bool:
    engine = database.connect(desk.settings.ledger_database_text(), name="LEDGER_DATABASE_URL")
    try:
        paid = automation.attempt(engine, incident.LEDGER_PAYOUT_ID, desk.now())
    finally:
        engine.dispose()
    say("The automation is back: " + ("it PAID this payout again" if paid else "its next run skips this payout"))
    return not paid


def failed_stage(rehearsal: Rehearsal) -> ManualPayoutError | None:
    """Return the first stage that did not end well as an error to show, or None."""
    bad = next((stage for stage in rehearsal.stages if stage.exit_code), None)
    if bad is None:
        return None
    error = ManualPayoutError(bad.message, bad.remedy)
    error.exit_code = bad.exit_code
    return error
