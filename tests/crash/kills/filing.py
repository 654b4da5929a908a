"""What comes before a send: the request, the two approvals, the dry runs of both operators."""

from __future__ import annotations

from typing import Any

from tests.proofs import leave_dry_run

from manual_payout.approval.approvals import approve
from manual_payout.approval.approving import shown_to_approver
from manual_payout.approval.requesting import file_request
from manual_payout.desk.signing import sandbox_key
from manual_payout.desk.wiring import Desk
from manual_payout.domain.errors import ApprovalError, RefusedError
from manual_payout.domain.parameters import Parameters
from payout_rehearsal.demo import incident

OPERATORS = ("tomas", "noor")
APPROVERS = ("priya", "amara")


def make_ready(desk: Desk, typed: Parameters) -> str:
    """
    Have *typed* requested, approved by both teams, and read by both operators, as far as it is not already.

    Returns:
        Why not, where it was refused.
    """
    try:
        request, _ = file_request(desk, typed, desk.registry.find(incident.REQUESTER), replace=True)
        for approver in APPROVERS:
            _approve(desk, request, approver)
    except RefusedError as error:
        return error.message
    for handle in OPERATORS:
        leave_dry_run(desk, request, handle)
    return ""


def _approve(desk: Desk, request: Any, approver: str) -> None:
    try:
        approve(
            desk.store, desk.registry, request, approver=approver, amount=request.line_for().amount.text,
            destination_last4=request.line_for().destination_account[-4:],
            shown=shown_to_approver(desk, request), rules=desk.settings.policy.request, key=sandbox_key(approver),
        )  # fmt: skip
    except ApprovalError as error:
        if "already" not in error.message:
            raise
