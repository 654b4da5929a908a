"""The filing and the withdrawal of a request as their own signed statements: what a browser has somebody sign."""

from __future__ import annotations

from typing import Any

from manual_payout.desk.people import Person
from manual_payout.desk.signatures import REQUEST, WITHDRAWAL, check_signature, signer_of
from manual_payout.desk.wiring import Desk
from manual_payout.domain.canonical import canonical_json, instant_text
from manual_payout.domain.errors import ApprovalError, SignatureError
from manual_payout.domain.models import Request


def record_filed(desk: Desk, request: Request, replaced: str | None, signature: str) -> None:
    """
    File a request that was drafted and has been signed by its requester since.

    Raises:
        ApprovalError: The requester may not file, or the signature is not theirs.

        ClaimError: Money for the ledger payout is under way, or the same was filed a moment ago.
    """
    person = desk.registry.get_allowed(request.requested_by, "request", desk.now(), field="as")
    _check_signed(desk, person, canonical_json(request.statement()), signature, REQUEST)
    desk.store.record_request(request, replaces=replaced, signature=signature)


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
    _check_signed(desk, person, canonical_json(statement), signature, WITHDRAWAL)
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


def _check_signed(desk: Desk, person: Person, text: str, signature: str, namespace: str) -> None:
    signers = desk.registry.signers
    try:
        key = signer_of(signature)
        signers.judge(key, person.email, namespace, desk.now())
        check_signature(text.encode(), signature, key, namespace, signers.passkeys.origins)
    except SignatureError as error:
        raise ApprovalError(f"The signature by {person.name} is not valid. {error.message}", error.remedy) from error
