"""Who filed a request, proved by their signature under it: a name can be typed by anybody."""

from __future__ import annotations

from datetime import datetime

from manual_payout.desk.people import Person, Registry
from manual_payout.desk.signatures import REQUEST, check_signature, signer_of
from manual_payout.domain.canonical import canonical_json
from manual_payout.domain.errors import ApprovalError, SignatureError
from manual_payout.domain.models import Mode, Request


def check_filed(registry: Registry, request: Request) -> None:
    """
    Check that whom the request names as its requester has signed it; in the sandbox it may be unsigned.

    Raises:
        ApprovalError: Nobody has, or the signature is not theirs.
    """
    if not request.signature and request.mode is Mode.SANDBOX:
        return
    again = "Have it filed again by somebody who signs it: `manual-payout request … --replace`."
    if not request.signature:
        raise ApprovalError(f"Nobody has signed request {request.request_id}: who filed it is not proved.", again)
    person = registry.find(request.requested_by)
    if person is None:
        raise ApprovalError(f"{registry.source} has nobody with the id {request.requested_by}, who filed this.", again)
    check_own(registry, person, canonical_json(request.statement()), request.signature, REQUEST, request.filed_at)


def check_own(registry: Registry, person: Person, text: str, signature: str, namespace: str, at: datetime) -> None:
    """
    Check a signature of *person* over *text*.

    Args:
        at: When it was made; the key had to be theirs then.

    Raises:
        ApprovalError: It is not theirs, or the key may not sign that.
    """
    signers = registry.signers
    try:
        key = signer_of(signature)
        signers.judge(key, person.email, namespace, at)
        check_signature(text.encode(), signature, key, namespace, signers.passkeys.origins)
    except SignatureError as error:
        raise ApprovalError(f"The signature by {person.name} is not valid. {error.message}", error.remedy) from error
