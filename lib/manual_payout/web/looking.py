"""The pages that only show: the board, one's own keys and signatures, and evidence folders of this machine."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path, PurePosixPath
from typing import Any

from starlette.responses import Response

from manual_payout.approval.approvals import teams_approved
from manual_payout.approval.verification import rehearsal_at
from manual_payout.desk.wiring import Desk
from manual_payout.domain.account import account_of
from manual_payout.domain.errors import ManualPayoutError, PolicyRefusedError
from manual_payout.domain.models import PayoutRecord, Request, Team, stream_of
from manual_payout.domain.parameters import check
from manual_payout.evidence.verifier import files_below, read_file
from manual_payout.web.office import Office, Visit

RECENT = timedelta(days=30)

# What a folder's page may do: be looked at. Its own style sheets and pictures are in it.
_EVIDENCE_POLICY = "sandbox allow-same-origin; default-src 'none'; style-src 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'"
_SHOWN_AS = {".html": "text/html", ".png": "image/png", ".json": "application/json"}


@dataclass(frozen=True)
class Waiting:
    """A request that is in force, and which teams have not approved it."""

    request: Request
    teams: str
    until: str


@dataclass(frozen=True)
class Moving:
    """A payout that was begun: where its money is, and the last thing that the journal tells of it."""

    record: PayoutRecord
    where: str
    last: str
    tone: str


def board(office: Office, visit: Visit) -> Response:
    """Show what failed, what is asked for, who is waited for, what is running, and what needs a person."""
    desk = visit.desk
    records = desk.store.current_payouts(desk.now() - RECENT)
    begun = {record.request_id for record in records}
    waiting = [one for one in desk.open_requests() if one.request_id not in begun]
    asked = {line.ledger_payout_id for one in waiting for line in one.lines}
    due, trouble = [], ""
    try:
        due = [one for one in desk.ledger.failed_payouts() if one.ledger_payout_id not in asked]
    except ManualPayoutError as error:
        trouble = f"The ledger cannot be read: {error.message}"
    standing = rehearsal_at(desk)
    values: dict[str, Any] = {
        "due": due, "waiting": [_waiting(desk, one) for one in waiting], "trouble": trouble, "at": desk.now(),
        "moving": [_moving(desk, one) for one in records],
        "rehearsal": standing.found if standing else f"not asked in {desk.settings.mode} mode: no real money moves",
    }  # fmt: skip
    return office.page("board", visit, **values)


def _waiting(desk: Desk, request: Request) -> Waiting:
    rules, given = desk.settings.policy.request, desk.store.approvals_of(request.request_id)
    missing = [team.label for team in Team if team not in teams_approved(given, request, rules, desk.now())]
    return Waiting(
        request, " and ".join(missing) or "the operator", f"{rules.request_ends(request):%Y-%m-%d %H:%M} UTC"
    )


def _moving(desk: Desk, record: PayoutRecord) -> Moving:
    events = desk.store.events_of(stream_of(record.incident_id, record.ledger_payout_id))
    reversals = desk.store.reversals_of(ledger_payout_id=record.ledger_payout_id)
    found = account_of([record], reversals, events)
    last = f"{events[-1].kind.replace('_', ' ')}, {events[-1].at:%Y-%m-%d %H:%M} UTC" if events else ""
    return Moving(record, found.sentence, last, found.label)


def me(office: Office, visit: Visit) -> Response:
    """Show somebody's own keys, and what of the last month they have signed."""
    desk, signers = visit.desk, visit.desk.registry.signers
    keys = [one for one in signers.entries if one.principal == visit.person.email]
    requests = desk.open_requests()
    records = desk.store.current_payouts(desk.now() - RECENT)
    known = {one.request_id for one in requests}
    requests += [desk.store.get_request(one.request_id) for one in records if one.request_id not in known]
    signed = [
        (request, approval)
        for request in requests
        for approval in desk.store.approvals_of(request.request_id)
        if approval.approver_id == visit.person.person_id
    ]
    return office.page("me", visit, keys=keys, revoked=signers.revoked, signed=signed, own=visit.session.key)


def evidence(visit: Visit) -> Response:
    """
    Show one file of an evidence folder of this machine, read only, where nothing in it can act.

    Raises:
        PolicyRefusedError: There is no such file here.

        ParameterError: An id is none.
    """
    given = visit.call.path_params
    incident = check("incident_id", given["incident_id"])
    folder = visit.desk.folder_path(incident, check("ledger_payout_id", given["ledger_payout_id"]))
    name = given.get("name") or "index.html"
    # Only what lies in the folder by its own name: nothing is put together from what was asked for.
    files = {file.relative_to(folder).as_posix(): file for file in files_below(folder)} if folder.is_dir() else {}
    if name not in files or any(part.startswith(".") for part in PurePosixPath(name).parts):
        raise _nothing(incident)
    try:
        data = read_file(files[name])
    except OSError:
        raise _nothing(incident) from None
    # Anything else is text to look at, whatever a browser would make of it.
    kind = _SHOWN_AS.get(Path(name).suffix, "text/plain")
    charset = "" if kind.startswith("image") else "; charset=utf-8"
    headers = {"content-security-policy": _EVIDENCE_POLICY, "content-type": f"{kind}{charset}"}
    return Response(data, headers=headers)


def _nothing(incident: str) -> PolicyRefusedError:
    return PolicyRefusedError(
        f"There is no such evidence of {incident} on this machine.",
        "Folders lie where the notebooks ran; the ticket has the archive.",
    )
