"""The filing and the withdrawal of a request, each signed by whoever does it: at a terminal or in a browser."""

from __future__ import annotations

from dataclasses import replace as named
from typing import Any

from manual_payout.approval.approvals import check_filed, check_own
from manual_payout.desk.people import Person
from manual_payout.desk.signatures import REQUEST, WITHDRAWAL, SigningKey
from manual_payout.desk.wiring import Desk
from manual_payout.domain.canonical import canonical_json, instant_text
from manual_payout.domain.errors import ApprovalError
from manual_payout.domain.models import Mode, Request


def record_filed(desk: Desk, request: Request) -> None:
    """
    File a request that was drafted and has been signed by its requester since, if only by its name in the sandbox.

    Raises:
        ApprovalError: The requester may not file, or the signature is not theirs.

        ClaimError: Money for the ledger payout is under way, or the same was filed a moment ago.
    """
    desk.registry.get_allowed(request.requested_by, "request", desk.now(), field="as")
    check_filed(desk.registry, request)
    desk.store.record_request(request)


def with_signature(request: Request, key: SigningKey | None) -> Request:
    """
    Return *request* as its requester has signed it; unsigned where there is no key.

    Raises:
        SignatureError: The key does not sign.
    """
    if key is None:
        return request
    return named(request, signature=key.sign(REQUEST, canonical_json(request.statement()).encode()))


def withdrawal_of(desk: Desk, request: Request, person: Person, nonce: str) -> dict[str, Any]:
    """
    Return what *person* signs to withdraw *request*.

    Raises:
        ApprovalError: They may not: they neither filed it nor approve for a team; or it is withdrawn.
    """
    _check_may_withdraw(desk, request, person)
    return {
        "version": 1,
        "request_id": request.request_id,
        "request_digest": request.digest,
        "withdrawn_by": person.person_id,
        "at": instant_text(desk.now()),
        "nonce": nonce,
    }


def record_withdrawn(desk: Desk, request: Request, person: Person, statement: dict[str, Any], signature: str) -> None:
    """
    Withdraw a request that *person* has signed the withdrawal of.

    Raises:
        ApprovalError: They may not, or the signature is not theirs.

        ClaimError: Money of the request is under way.
    """
    _check_may_withdraw(desk, request, person)
    if signature or request.mode is not Mode.SANDBOX:
        check_own(desk.registry, person, canonical_json(statement), signature, WITHDRAWAL, desk.now())
    desk.store.record_withdrawal(request, actor=person.person_id, statement=statement, signature=signature)


def _check_may_withdraw(desk: Desk, request: Request, person: Person) -> None:
    approves = "approve" in person.may and person.valid_at(desk.now())
    if person.person_id != request.requested_by and not approves:
        raise ApprovalError(
            f"{person.name} neither filed this request nor approves.",
            "Ask its requester, or an approver, to withdraw it.",
        )
    if desk.store.is_withdrawn(request):
        raise ApprovalError(f"Request {request.request_id} was withdrawn already.", "Run `manual-payout status`.")
