"""What an approver signs: the request, what they were shown of it, and their own part, as an in-toto Statement (v1)."""

from __future__ import annotations

import json
from typing import Any

from manual_payout.domain.canonical import canonical_json, digest_bytes, digest_of, instant_text
from manual_payout.domain.errors import ApprovalError
from manual_payout.domain.models import Approval, Request

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "urn:manual-payout:approval:v2"


def statement_of(request: Request, approval: Approval) -> dict[str, Any]:
    """
    Return what *approval*, if it is one of *request*, says.

    The subject is the request by its digest, which is taken over the canonical JSON of the request as it was filed.
    ``predicate.request`` says the same but for its lines, which it gives by count, total and digest; a single line
    stands there as well.
    """
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": f"request {request.request_id}", "digest": {"sha256": request.digest}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "approval_id": approval.approval_id,
            "approver_id": approval.approver_id,
            "team": approval.team.value,
            "nonce": approval.nonce,
            "approved_at": instant_text(approval.approved_at),
            "expires_at": instant_text(approval.expires_at),
            "facts_digest": digest_bytes(approval.facts.encode()),
            "rules_digest": approval.rules_digest,
            "registry_digest": approval.registry_digest,
            "request_signature": request.signature,
            "request": asked_of(request.statement()),
        },
    }


def asked_of(statement: dict[str, Any]) -> dict[str, Any]:
    """Return a request's statement with its lines by count, total and digest, whatever their number."""
    lines: list[dict[str, Any]] = statement["lines"]
    told: dict[str, Any] = {
        "count": len(lines),
        "total_minor": sum(line["amount_minor"] for line in lines),
        "currency": lines[0]["currency"],
        "sha256": digest_of(lines),
        "acknowledged_transfers": sorted({one for line in lines for one in line.get("acknowledged_transfers", ())}),
    }
    if len(lines) == 1:
        told["line"] = lines[0]
    return statement | {"lines": told}


def check_statement(request: Request, approval: Approval) -> None:
    """
    Check that what was signed is a yes to exactly *request*, by whom and for as long as the row says.

    Raises:
        ApprovalError: A field differs, by name; or the row was altered after the approval was given.
    """
    bound = (approval.request_id, approval.request_digest, approval.mode, approval.platform_account)
    if bound != (request.request_id, request.digest, request.mode, request.platform_account):
        raise ApprovalError(
            f"Approval {approval.approval_id} is for another request, account or mode.",
            "Have this exact request approved.",
        )
    expected = statement_of(request, approval)
    if _form_of(approval.signed_text) not in ("", PREDICATE_TYPE):
        raise ApprovalError(
            f"Approval {approval.approval_id} is of an older form, which counts no more.",
            "Have this request approved again.",
        )
    if approval.signed_text != canonical_json(expected):
        raise ApprovalError(
            f"What was signed for approval {approval.approval_id} is not what is on record: "
            f"{_difference(approval.signed_text, expected)}.",
            "Have this exact request approved. If nobody can say why they differ, keep the database as it is and call "
            "Security.",
        )
    if approval.statement_digest != digest_bytes(approval.signed_text.encode()):
        raise _altered(approval)
    if approval.expires_at > request.expires_at:
        raise ApprovalError(
            f"Approval {approval.approval_id} is valid for longer than its request.",
            "Have this request approved again.",
        )


def _form_of(signed_text: str) -> str:
    try:
        return str(json.loads(signed_text)["predicateType"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""


def _altered(approval: Approval) -> ApprovalError:
    return ApprovalError(
        f"Approval {approval.approval_id} was altered after it was given.",
        "Stop, keep the database as it is and call Security.",
    )


def _difference(signed_text: str, expected: dict[str, Any]) -> str:
    """Name the first field that differs."""
    try:
        signed, wanted = _leaves(json.loads(signed_text)), _leaves(expected)
    except (ValueError, RecursionError):
        return "it is not a statement"
    for name in sorted({*signed, *wanted}):
        if signed.get(name) != wanted.get(name):
            return f"{name} was {_shown(signed, name)}, expected {_shown(wanted, name)}"
    return "it is not in canonical form"


def _shown(leaves: dict[str, Any], name: str) -> str:
    return repr(leaves[name])[:100] if name in leaves else "missing"


def _leaves(value: Any, name: str = "") -> dict[str, Any]:
    """Name every value that is no table and no list by its path, such as ``predicate.request.lines.0.amount_minor``."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if inner is None:
        return {name: value}
    found: dict[str, Any] = {f"{name}.": type(value).__name__}
    for key, item in inner:
        found |= _leaves(item, f"{name}.{key}" if name else str(key))
    return found
