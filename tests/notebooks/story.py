"""The demo incident as a scene for the committed notebooks: approved for the first two, paid for the rest, regretted."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from manual_payout.approval.approvals import approve
from manual_payout.approval.approving import shown_to_approver
from manual_payout.approval.reversal import ReversalAsked, file_reversal
from manual_payout.desk.settings import variables
from manual_payout.desk.signing import sandbox_key
from manual_payout.desk.wiring import Desk, kernel_environment
from manual_payout.domain.models import Request, ReversalReason, Stage
from manual_payout.steps.runner import DRY_RUN, LIVE_RUN, run_stages
from payout_rehearsal import APPROVERS, PAUSE_S, demo_parameters, file_and_approve, stage_set
from payout_rehearsal.demo import incident

# The services that an operator's shell may hold credentials of.
_SERVICES = ("STRIPE_", "SLACK_", "SMTP_", "PAGERDUTY_", "JIRA_", "AWS_", "VAULT_")


class Story:
    """
    The scene, and what has happened on it.

    Args:
        desk: The operator's desk.

        request: Filed and approved.
    """

    def __init__(self, desk: Desk, request: Request) -> None:
        self.desk = desk
        self._request = request
        self._paid = False
        self.reversal_request_id = ""

    def reach(self, notebook: str) -> None:
        """Let happen what must have happened before *notebook* is run: from 3-log on, the money has moved."""
        if notebook[0] not in "12":
            self._pay()
        if notebook == Stage.REVERSAL:
            self._regret()

    def _pay(self) -> None:
        if self._paid:
            return
        results = run_stages(self.desk, DRY_RUN, demo_parameters())
        live = demo_parameters(dry_run=False, confirm=results[-1].confirm)
        self.desk.clock.wait(PAUSE_S)
        results += run_stages(self.desk, LIVE_RUN, live)
        assert [0] * len(results) == [result.exit_code for result in results], results
        self._paid = True

    def _regret(self) -> None:
        if self.reversal_request_id:
            return
        desk, why = self.desk, "100.00 more than the studio had earned"
        asked = ReversalAsked(
            incident.INCIDENT_ID, incident.LEDGER_PAYOUT_ID, ReversalReason.WRONG_AMOUNT, why, amount="100.00"
        )
        desk.clock.wait(PAUSE_S)
        request, _ = file_reversal(desk, asked, desk.registry.find(incident.REQUESTER), replace=False)
        for approver in APPROVERS:
            desk.clock.wait(PAUSE_S)
            approve(
                desk.store, desk.registry, request, approver=approver, amount="100.00",
                destination_last4=incident.DESTINATION_ACCOUNT[-4:],
                shown=shown_to_approver(desk, request), rules=desk.settings.policy.request, key=sandbox_key(approver),
            )  # fmt: skip
        desk.clock.wait(PAUSE_S)
        self.reversal_request_id = request.request_id


@contextlib.contextmanager
def told() -> Iterator[Story]:
    """Set the scene, and point this process's environment, hence every kernel it starts, at it."""
    before = dict(os.environ)
    with tempfile.TemporaryDirectory(prefix="story") as folder, stage_set(Path(folder)) as (desk, _stripe):
        scene = kernel_environment(desk.settings)
        # Nothing of the developer's own: nbval runs what it finds, and must find no credential but the sandbox's.
        ours = set(variables().values())
        os.environ.clear()
        os.environ.update(
            {name: value for name, value in scene.items() if name in ours or not name.startswith(_SERVICES)}
        )
        try:
            request = file_and_approve(desk, pause_s=PAUSE_S)
            desk.clock.wait(PAUSE_S)
            yield Story(desk, request)
        finally:
            os.environ.clear()
            os.environ.update(before)
