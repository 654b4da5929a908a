"""
The operator's dry run, proved: what was sealed of it, signed with the operator's key, and on record (design, rule 9).

Anybody can type an operator's name. Only the operator can sign that they looked; the confirm code derives from that signature.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from manual_payout.approval.approvals.statement import STATEMENT_TYPE
from manual_payout.approval.pinned import rules_digest
from manual_payout.desk.people import Person
from manual_payout.desk.settings import Policy
from manual_payout.desk.signatures import SEAL, check_signature, signer_of
from manual_payout.desk.wiring import Desk
from manual_payout.domain.canonical import canonical_json
from manual_payout.domain.errors import ParameterError, PolicyRefusedError, SignatureError
from manual_payout.domain.models import Event, Kind, Line, Request, stream_of

# Told by the notebook; told when the folder that it lies in was sealed.
DRY_RUN = "dry_run"
DRY_RUN_SEALED = "dry_run_sealed"

# The verdict of a dry run of which nothing says no.
DRY_RUN_MADE = "Dry run, nothing was sent"

DRY_RUN_TYPE = "urn:manual-payout:dry-run:v1"


def dry_run_statement(request: Request, operator_id: str, manifest_sha256: str, rules: str) -> dict[str, Any]:
    """
    Return what the operator signs: which sealed manifest holds their dry run, of which request, under which rules.

    Args:
        rules: The digest of the rules of money, of `pinned`.
    """
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": "manifest.json", "digest": {"sha256": manifest_sha256}}],
        "predicateType": DRY_RUN_TYPE,
        "predicate": {
            "request_id": request.request_id,
            "request_digest": request.digest,
            "operator_id": operator_id,
            "rules_digest": rules,
        },
    }


def record_sealed(
    desk: Desk, request: Request, line: Line, operator_id: str, manifest_sha256: str, sign: Callable[[bytes], str]
) -> str:
    """
    Sign and record that the operator's dry run of *request* is sealed.

    Args:
        sign: As of `sealed_data`.

    Returns:
        The confirm code.
    """
    data = sealed_data(desk.settings.policy, request, operator_id, manifest_sha256, sign)
    stream = stream_of(request.incident_id, line.ledger_payout_id)
    return confirm_code(desk.store.record_event(stream, DRY_RUN_SEALED, operator_id, data).data)


def sealed_data(
    policy: Policy, request: Request, operator_id: str, manifest_sha256: str, sign: Callable[[bytes], str]
) -> dict[str, Any]:
    """
    Return what is recorded of a sealed dry run.

    Args:
        sign: Returns the armored signature of the operator over bytes, in the namespace of seals.
    """
    rules = rules_digest(policy)
    text = canonical_json(dry_run_statement(request, operator_id, manifest_sha256, rules))
    return {
        "request_id": request.request_id,
        "operator_id": operator_id,
        "manifest_sha256": manifest_sha256,
        "rules_digest": rules,
        "signed_text": text,
        "signature": sign(text.encode()),
    }


def find_sealed(desk: Desk, request: Request, line: Line, operator_id: str) -> Event | None:
    """Return the newest record of a sealed dry run of *request* by that operator, or None; nothing of it is proved yet."""
    wanted = (request.request_id, operator_id)
    stream = stream_of(request.incident_id, line.ledger_payout_id)
    return desk.store.find_event(
        stream, DRY_RUN_SEALED, lambda data: (data.get("request_id"), data.get("operator_id")) == wanted
    )


def code_of(desk: Desk, request: Request, line: Line, operator_id: str) -> str:
    """Return the confirm code of that operator's sealed dry run; empty where there is none."""
    found = find_sealed(desk, request, line, operator_id)
    return confirm_code(found.data) if found is not None else ""


def confirm_code(sealed: Mapping[str, Any]) -> str:
    """
    Compute the code that the live run must be given, from the record of a sealed dry run.

    Eight characters that read well aloud, such as ``K7QM-3FWD``.
    """
    signed = canonical_json([sealed["signed_text"], sealed["signature"]])
    text = base64.b32encode(hashlib.sha256(b"confirm\n" + signed.encode()).digest()).decode()[:8]
    return f"{text[:4]}-{text[4:]}"


def require_proved(desk: Desk, request: Request, line: Line, operator: Person, confirm: str, *, first: bool) -> None:
    """
    Check that *operator* is who made the dry run, and read its code.

    Args:
        confirm: The code as it was typed.

        first: Nothing was begun for the line yet; only then the rules have to be those of the dry run.

    Raises:
        PolicyRefusedError: There is no sealed dry run of theirs, or the rules have changed since.

        ParameterError: The code is another.
    """
    found = find_sealed(desk, request, line, operator.person_id)
    if found is None:
        raise PolicyRefusedError(
            f"{operator.name} has not made a dry run of this request that was sealed with their key.",
            f"Run `{run_command(request)} --operator {operator.handle}` first; after plain papermill, "
            f"`manual-payout seal {request.incident_id} --operator {operator.handle}`.",
        )
    _check_signed(desk, found, request, operator)
    if confirm != confirm_code(found.data):
        raise ParameterError(
            "confirm", confirm or "nothing", "the code of this operator's newest sealed dry run of this request",
            "Run the dry run, read the payload, and give the code it prints.",
        )  # fmt: skip
    if first and found.data["rules_digest"] != rules_digest(desk.settings.policy):
        raise PolicyRefusedError(
            f"The policy's rules of money are not those of the dry run of {found.at:%Y-%m-%d %H:%M} UTC.",
            "Make the dry run again under the rules of now, and give its code.",
        )


def run_command(request: Request) -> str:
    """Return the command that runs *request*, without operator and code."""
    return f"manual-payout {'reversal ' if request.kind is Kind.REVERSAL else ''}run {request.incident_id}"


def _check_signed(desk: Desk, found: Event, request: Request, operator: Person) -> None:
    data = found.data
    said = dry_run_statement(request, operator.person_id, data["manifest_sha256"], data["rules_digest"])
    try:
        key = signer_of(data["signature"])
        for instant in (found.at, desk.now()):
            desk.registry.signers.judge(key, operator.email, SEAL, instant)
        check_signature(canonical_json(said).encode(), data["signature"], key, SEAL)
    except SignatureError as error:
        raise PolicyRefusedError(
            f"The dry run of {found.at:%Y-%m-%d %H:%M} UTC is not proved to be by {operator.name}. {error.message}",
            "Make the dry run again with your own key. If nobody can say how that record came about, call Security.",
        ) from error
