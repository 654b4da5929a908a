"""What is signed under break-glass: in-toto Statements (v1) of types of their own, so that none passes for an approval."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from manual_payout.approvals import STATEMENT_TYPE
from manual_payout.canonical import canonical_json, instant_text
from manual_payout.errors import ApprovalError, SignatureError
from manual_payout.models import Declaration, Request, Team
from manual_payout.people import Person, Registry
from manual_payout.signatures import APPROVAL, PublicKey, check_signature, signer_of

DECLARATION_TYPE = "urn:manual-payout:break-glass:v1"
REVIEW_TYPE = "urn:manual-payout:break-glass-review:v1"


def statement_of(request: Request, declaration: Declaration) -> dict[str, Any]:
    """Return what *declaration*, if it is one for *request*, says: the whole request, who is missing and why, the limits."""
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": f"request {request.request_id}", "digest": {"sha256": request.digest}}],
        "predicateType": DECLARATION_TYPE,
        "predicate": {
            "declaration_id": declaration.declaration_id,
            "declarer_id": declaration.declarer_id,
            "approval_id": declaration.approval_id,
            "missing_team": declaration.missing.value,
            "because": declaration.because,
            "owner_id": declaration.owner_id,
            "limit_minor": declaration.limit_minor,
            "hold_s": declaration.hold_s,
            "nonce": declaration.nonce,
            "declared_at": instant_text(declaration.declared_at),
            "expires_at": instant_text(declaration.expires_at),
            "request": request.statement(),
        },
    }


def declaration_in(data: Mapping[str, Any], request: Request) -> Declaration:
    """
    Read a declaration as the journal tells of it; what it is worth is judged by `check_glass`.

    Raises:
        ApprovalError: It is none.
    """
    try:
        said = data["statement"]["predicate"]
        return Declaration(
            declaration_id=str(said["declaration_id"]),
            request_id=request.request_id,
            request_digest=str(data["statement"]["subject"][0]["digest"]["sha256"]),
            declarer_id=str(said["declarer_id"]),
            approval_id=str(said["approval_id"]),
            missing=Team(said["missing_team"]),
            because=str(said["because"]),
            owner_id=str(said["owner_id"]),
            limit_minor=int(said["limit_minor"]),
            hold_s=int(said["hold_s"]),
            nonce=str(said["nonce"]),
            declared_at=datetime.fromisoformat(said["declared_at"]),
            expires_at=datetime.fromisoformat(said["expires_at"]),
            signature=str(data["signature"]),
            signed_text=canonical_json(data["statement"]),
        )
    except (KeyError, TypeError, ValueError, IndexError):
        raise ApprovalError(
            f"The break-glass declaration for request {request.request_id} cannot be read.",
            "Stop, keep the database as it is and call Security.",
        ) from None


def check_signed(text: str, signature: str, person: Person, registry: Registry, *instants: datetime) -> PublicKey:
    """
    Check that *person* signed *text* with a key for approvals that is theirs at each of *instants*.

    Raises:
        SignatureError: The signature does not fit, or its key may not sign that then.
    """
    key = signer_of(signature)
    for instant in instants:
        registry.signers.judge(key, person.email, APPROVAL, instant)
    check_signature(text.encode(), signature, key, APPROVAL)
    return key


def page_key(declaration_id: str, kind: str = "page_break_glass") -> str:
    """Name the message that pages the owner of one declaration, or the other one of *kind* beside it."""
    return f"break-glass/{declaration_id}/{kind}"


def unsigned(why: SignatureError, who: str) -> ApprovalError:
    """Say that a declaration does not stand because of its signature."""
    return ApprovalError(f"The break-glass declaration by {who} does not stand. {why.message}", why.remedy)
