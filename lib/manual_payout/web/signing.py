"""Filing, approving and withdrawing: each is typed, shown in full, and then its own ceremony over its own statement."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, replace
from typing import Any

from starlette.responses import Response

from manual_payout.approval.approvals import draft_approval, record_signed
from manual_payout.approval.approving import note_warning, shown_to_approver
from manual_payout.approval.requesting import draft_request, filled_from_ledger
from manual_payout.approval.signed_forms import record_filed, record_withdrawn, withdrawal_of
from manual_payout.desk.signatures import APPROVAL, REQUEST, WITHDRAWAL, PublicKey
from manual_payout.desk.wiring import Desk
from manual_payout.domain.canonical import canonical_json
from manual_payout.domain.errors import ManualPayoutError, ParameterError
from manual_payout.domain.models import Reason, Request
from manual_payout.domain.parameters import Parameters, check, validate
from manual_payout.monitoring import tell_request
from manual_payout.web.office import Office, Visit, encoded, form_of, require, web_log
from manual_payout.web.sessions import FACTS_S, Unsigned

# What a person types; all else is the ledger's.
_TYPED = ("incident_id", "ledger_payout_id", "reason", "notes")


@dataclass(frozen=True)
class Bar:
    """One earlier payout in the small picture: where it stands, how high, and what it was."""

    x: int
    y: int
    height: int
    label: str


def form_page(office: Office, visit: Visit) -> Response:
    """Show the form, or take it: every refusal at once, and then what is to be signed."""
    typed = {name: visit.call.query_params.get(name, "") for name in _TYPED}
    if visit.call.method == "GET":
        return _form(office, visit, typed, [])
    typed |= {name: value.strip() for name, value in form_of(visit.call).items() if name in _TYPED}
    errors: list[ManualPayoutError] = []
    checked: dict[str, Any] = {}
    for name, value in typed.items():
        try:
            checked[name] = check(name, value)
        except ManualPayoutError as error:
            errors.append(error)
    if not errors:
        try:
            return _confirm_filing(office, visit, checked)
        except ManualPayoutError as error:
            errors.append(error)
    return _form(office, visit, typed, errors)


def _form(office: Office, visit: Visit, typed: dict[str, str], errors: list[ManualPayoutError]) -> Response:
    due = visit.desk.ledger.failed_payouts()
    values = {"typed": typed, "errors": errors, "due": due, "reasons": [reason.value for reason in Reason]}
    return office.page("form", visit, status=400 if errors else 200, **values)


def _confirm_filing(office: Office, visit: Visit, typed: dict[str, Any]) -> Response:
    desk = visit.desk
    requester = desk.registry.get_allowed(visit.person.person_id, "request", desk.now(), field="as")
    fixed = {"operator": "later", "dry_run": True, "confirm": ""}
    parameters: Parameters = validate(filled_from_ledger(desk, typed) | fixed)
    request, new = draft_request(desk, parameters, requester, replace=False)
    if not new:
        return request_page(office, visit, request)

    def finish(_: PublicKey, armored: str) -> dict[str, str]:
        record_filed(desk, replace(request, signature=armored))
        web_log.info("%s filed request %s", visit.person.handle, request.request_id)
        try:
            tell_request(desk, request, actor=visit.person.person_id)
        except ManualPayoutError as error:
            # It is filed; the monitor tells of it at its next round.
            web_log.warning("nobody was told of the request yet: %s", error.title)
        return {"go": f"/request/{request.request_id}"}

    text = canonical_json(request.statement())
    pending = office.memory.begin(visit.session.token, REQUEST, text.encode(), finish)
    said = f"File {request.total.grouped} for {request.line_for().studio_name}, {request.incident_id}"
    return _confirm(office, visit, pending, said, text, "File with passkey", "/form")


def request_page(office: Office, visit: Visit, request: Request, error: ManualPayoutError | None = None) -> Response:
    """Show the approver's page: the facts, fetched now, who has approved, and what this person may do."""
    desk, rules = visit.desk, visit.desk.settings.policy.request
    try:
        shown = shown_to_approver(desk, request)
        visit.session.seen[request.request_id] = time.monotonic(), shown
        tables = shown.tables
    except ManualPayoutError as unseen:
        tables, error = (), error or unseen
    given = desk.store.approvals_of(request.request_id)
    approvals = [(one, desk.registry.name_of(one.approver_id), rules.approval_ends(one, request)) for one in given]
    withdrawn, ends = desk.store.is_withdrawn(request), rules.request_ends(request)
    open_now = not withdrawn and desk.now() < ends
    may_withdraw = visit.person.person_id == request.requested_by or "approve" in visit.person.may
    values = {
        "request": request, "line": request.lines[0], "tables": tables, "approvals": approvals, "withdrawn": withdrawn,
        "ends": ends, "may_approve": open_now and tables and "approve" in visit.person.may
        and visit.person.person_id != request.requested_by, "may_withdraw": open_now and may_withdraw, "error": error,
        "bars": _bars(desk, request), "requester": desk.registry.name_of(request.requested_by), "open": open_now,
        "statement": canonical_json(request.statement()),
    }  # fmt: skip
    return office.page("request", visit, status=409 if error else 200, **values)


def confirm_approval(office: Office, visit: Visit, request: Request) -> Response:
    """Take what the approver typed, and show what they are about to sign."""
    desk, typed, rules = visit.desk, form_of(visit.call), visit.desk.settings.policy.request
    seen = visit.session.seen.get(request.request_id)
    if seen is None or time.monotonic() - seen[0] >= FACTS_S:
        old = ParameterError(
            "facts", "older than ten minutes", "facts that were looked at now",
            "They were fetched again and stand below: look, and type again.",
        )  # fmt: skip
        return request_page(office, visit, request, old)
    try:
        desk.require_same_world(request)
        for line in request.lines:
            desk.require_record_keepable(request.incident_id, line.ledger_payout_id)
        note_warning(desk, request, visit.person)
        draft = draft_approval(
            desk.store, desk.registry, request, approver=visit.person.person_id, amount=typed.get("amount", ""),
            destination_last4=typed.get("destination_last4", ""), shown=seen[1], rules=rules,
        )  # fmt: skip
    except ManualPayoutError as error:
        return request_page(office, visit, request, error)

    def finish(_: PublicKey, armored: str) -> dict[str, str]:
        now = office.desk_now()
        record_signed(now.store, now.registry, request, replace(draft, signature=armored), rules)
        web_log.info("%s approved request %s", visit.person.handle, request.request_id)
        return {"go": f"/request/{request.request_id}"}

    pending = office.memory.begin(visit.session.token, APPROVAL, draft.signed_text.encode(), finish)
    said = f"Approve {request.total.grouped} to {request.lines[0].destination_account}, {request.incident_id}"
    place = f"/request/{request.request_id}"
    return _confirm(office, visit, pending, said, draft.signed_text, "Approve with passkey", place)


def confirm_withdrawal(office: Office, visit: Visit, request: Request) -> Response:
    """Show what is signed to withdraw the request."""
    try:
        statement = withdrawal_of(visit.desk, request, visit.person, secrets.token_hex(16))
    except ManualPayoutError as error:
        return request_page(office, visit, request, error)

    def finish(_: PublicKey, armored: str) -> dict[str, str]:
        record_withdrawn(office.desk_now(), request, visit.person, statement, armored)
        web_log.info("%s withdrew request %s", visit.person.handle, request.request_id)
        return {"go": f"/request/{request.request_id}"}

    text, place = canonical_json(statement), f"/request/{request.request_id}"
    pending = office.memory.begin(visit.session.token, WITHDRAWAL, text.encode(), finish)
    said = f"Withdraw the request for {request.total.grouped}, {request.incident_id}"
    return _confirm(office, visit, pending, said, text, "Withdraw with passkey", place)


def _confirm(
    office: Office, visit: Visit, pending: Unsigned, said: str, text: str, button: str, place: str
) -> Response:
    keys = office.passkeys_of(visit.desk, visit.person, pending.namespace)
    require(
        keys,
        f"No passkey of yours may sign for {pending.namespace}.",
        "Sign at a terminal with your SSH key, or enroll a passkey and have its line reviewed.",
    )
    values: dict[str, Any] = {"pending": pending, "encoded": encoded, "host": office.host}
    return office.page("confirm", visit, said=said, statement=text, button=button, place=place, **values)


def _bars(desk: Desk, request: Request) -> list[Bar]:
    """Draw the studio's last payouts as they stood before, oldest first; the one in question is the last."""
    line = request.lines[0]
    past = [one for one in desk.ledger.past_payouts(line.studio_id, 11) if one.currency == line.amount.currency][::-1]
    shown = [(one.amount, f"{one.paid_at:%Y-%m-%d}" if one.paid_at else "") for one in past] + [
        (line.amount, "this one")
    ]
    highest = max(amount.amount_minor for amount, _ in shown) or 1
    bars = []
    for number, (amount, when) in enumerate(shown):
        height = max(1, amount.amount_minor * 60 // highest)
        bars.append(Bar(4 + number * 24, 64 - height, height, f"{when}: {amount.grouped}"))
    return bars
