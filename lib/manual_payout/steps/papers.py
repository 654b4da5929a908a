"""The approvals of a request as files that stock OpenSSH can check: exactly what was signed, and the signature."""

from __future__ import annotations

from collections.abc import Sequence

from manual_payout.desk.signatures import signer_of
from manual_payout.desk.wiring import Desk
from manual_payout.domain.display import Table
from manual_payout.domain.errors import SignatureError
from manual_payout.domain.models import Approval, Request
from manual_payout.evidence.folder import Folder, json_text


def keep_approvals(folder: Folder, name: str, given: Sequence[Approval]) -> None:
    """
    Save *given* as one list under *name*, and each as ``approval-<team>-<id>.json`` with ``.json.sig`` and what was shown.

    Raises:
        EvidenceError: They cannot be written.
    """
    folder.keep(name, json_text([_content(approval) for approval in given]))
    for approval in given:
        if approval.signature:
            file = f"approval-{approval.team.value}-{approval.approval_id[:8]}.json"
            folder.keep(file, approval.signed_text)
            folder.keep(f"{file}.sig", approval.signature)
            folder.keep(file.replace("approval-", "shown-", 1), approval.facts)


def approvals_table(caption: str, given: Sequence[Approval], request: Request | None, desk: Desk) -> Table:
    """Show who gave them, until when they stand by the policy as it is now, and with which key they are signed."""
    rules = desk.settings.policy.request
    ends = {one.approval_id: rules.approval_ends(one, request) for one in given if request is not None}
    rows = tuple(
        (
            approval.team.label,
            desk.registry.name_of(approval.approver_id),
            f"{approval.approved_at:%Y-%m-%d %H:%M} UTC",
            f"{ends[approval.approval_id]:%Y-%m-%d %H:%M} UTC",
            approval.request_digest[:12] + "…",
            _key(approval),
        )
        for approval in given
    )
    return Table(caption, ("team", "approved by", "at", "stands until", "of request digest", "signed with"), rows)


def _content(approval: Approval) -> dict[str, object]:
    told = {name: value for name, value in approval.told().items() if name != "facts"}
    return told | {"approval_id": approval.approval_id, "key": _key(approval)}


def _key(approval: Approval) -> str:
    if not approval.signature:
        return "not signed"
    try:
        return str(signer_of(approval.signature))
    except SignatureError as error:
        return error.message
