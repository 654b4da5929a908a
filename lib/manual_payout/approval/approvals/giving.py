"""One approver's yes: after a look at the facts, typed, signed, and recorded."""

from __future__ import annotations

import json
import secrets
import uuid
from dataclasses import replace
from datetime import datetime, timedelta

from manual_payout.approval.approvals.filed import check_filed
from manual_payout.approval.approvals.shown import Shown
from manual_payout.approval.approvals.standing import by_passkey, check_passkeys, check_signed
from manual_payout.approval.approvals.statement import check_statement, statement_of
from manual_payout.database.store import Store
from manual_payout.desk.people import Person, Registry
from manual_payout.desk.settings import RequestPolicy
from manual_payout.desk.signatures import APPROVAL, SigningKey, is_passkey, signer_of
from manual_payout.domain.canonical import canonical_json, digest_bytes, digest_of
from manual_payout.domain.errors import ApprovalError, ParameterError
from manual_payout.domain.models import Approval, Mode, Request, Team


def approve(
    store: Store,
    registry: Registry,
    request: Request,
    *,
    approver: str,
    amount: str,
    destination_last4: str,
    shown: Shown,
    rules: RequestPolicy,
    key: SigningKey,
) -> Approval:
    """
    Sign and record one approver's yes.

    Args:
        approver: Id, handle or email of a registered approver.

        amount: As the approver typed it, in major units.

        destination_last4: The last four characters of the destination as the approver typed them.

        shown: What they were shown; it is kept, and its digest is signed.

        rules: For how long the approval stands; it is judged again by those of the moment of sending.

        key: The approver's own.

    Raises:
        ParameterError: What was typed is not what the request says.

        ApprovalError: This person may not approve this request, has already, or it is no longer in force; or the key is
            not theirs, or not valid now.

        SignatureError: The key did not sign.
    """
    draft = draft_approval(
        store, registry, request, approver=approver, amount=amount, destination_last4=destination_last4, shown=shown,
        rules=rules,
    )  # fmt: skip
    signed = replace(draft, signature=key.sign(APPROVAL, draft.signed_text.encode()))
    return record_signed(store, registry, request, signed, rules)


def draft_approval(
    store: Store,
    registry: Registry,
    request: Request,
    *,
    approver: str,
    amount: str,
    destination_last4: str,
    shown: Shown,
    rules: RequestPolicy,
) -> Approval:
    """
    Build what one approver is about to sign; arguments and what is refused are those of `approve`.

    Returns:
        The approval without its signature, which is to be over its ``signed_text``.
    """
    now = store.clock.now()
    person = registry.get_allowed(approver, "approve", now, field="as")
    team = _check_person(request, person)
    _check_open(store, request, rules, now)
    check_filed(registry, request)
    _check_typed(request, amount, destination_last4)
    given = store.approvals_of(request.request_id)
    ends = min(now + timedelta(seconds=rules.approval_lifetime_s), rules.request_ends(request))
    approval = replace(
        _build(request, person, team, now, ends, number=len(given)),
        facts=shown.text(request),
        rules_digest=shown.rules_digest,
        registry_digest=shown.registry_digest,
    )
    standing = [one for one in given if now < rules.approval_ends(one, request)]
    _check_first(request, [one for one in standing if _repeats(approval, one)], person, registry, now)
    text = canonical_json(statement_of(request, approval))
    return replace(approval, statement_digest=digest_bytes(text.encode()), signed_text=text)


def record_signed(
    store: Store, registry: Registry, request: Request, approval: Approval, rules: RequestPolicy
) -> Approval:
    """
    Record an approval that was drafted and has been signed since, wherever that was done.

    Raises:
        ApprovalError: As `approve`; all is judged again, since time has passed.
    """
    now = store.clock.now()
    person = registry.get_allowed(approval.approver_id, "approve", now, field="as")
    _check_person(request, person)
    _check_open(store, request, rules, now)
    standing = [one for one in store.approvals_of(request.request_id) if now < rules.approval_ends(one, request)]
    others = [one for one in standing if one.approver_id != person.person_id]
    _check_first(request, [one for one in standing if _repeats(approval, one)], person, registry, now)
    # What will be asked inside the send is asked here first.
    check_statement(request, approval)
    key = check_signed(approval, person, registry, now)
    if is_passkey(key):
        check_passkeys([key, *(signer_of(one.signature) for one in by_passkey(others))], registry)
    store.record_approval(approval, request)
    return approval


def _check_person(request: Request, person: Person) -> Team:
    team = person.approving_team()
    if team is None:
        raise ApprovalError(
            f"{person.name} is in neither Payments Ops nor Finance.", "Ask somebody of one of these teams to approve."
        )
    if person.person_id == request.requested_by:
        raise ApprovalError(
            f"{person.name} filed this request and cannot approve it.", "Ask somebody else of the team."
        )
    return team


def _check_first(request: Request, own: list[Approval], person: Person, registry: Registry, now: datetime) -> None:
    """Refuse a second yes of *person* while one of their *own* that have not ended stands; what proves nothing any more hinders nobody."""
    for approval in own:
        try:
            check_statement(request, approval)
            check_signed(approval, person, registry, now)
        except ApprovalError:
            # Unsigned, or by a key that has been revoked since: they sign again.
            continue
        raise ApprovalError(
            f"{person.name} approved this request at {approval.approved_at:%H:%M} UTC already.",
            "Ask the other team; one person counts once.",
        )


def _repeats(approval: Approval, earlier: Approval) -> bool:
    """Whether it says nothing new: the same person, of the same facts, under the same rules of money."""
    if (approval.approver_id, approval.rules_digest) != (earlier.approver_id, earlier.rules_digest):
        return False
    now, then = (json.loads(one.facts or "{}").get("compared") for one in (approval, earlier))
    return bool(now == then)


def _check_open(store: Store, request: Request, rules: RequestPolicy, now: datetime) -> None:
    if store.is_withdrawn(request):
        raise ApprovalError(f"Request {request.request_id} was withdrawn.", "Approve the one that replaced it.")
    if now >= (ends := rules.request_ends(request)):
        raise ApprovalError(
            f"Request {request.request_id} expired at {ends:%Y-%m-%d %H:%M} UTC.", "Have the request filed again."
        )


def check_amount(request: Request, amount: str) -> None:
    """
    Compare what an approver typed with the amount of the request, written in any of the ways in which it is shown.

    Raises:
        ParameterError: It is another amount, or of another currency.
    """
    shown, currency = request.total, request.total.currency.upper()
    number = shown.grouped.removesuffix(f" {currency}")
    right = {form for plain in (shown.text, number) for form in (plain, f"{plain} {currency}")}
    if " ".join(amount.upper().split()) not in right:
        raise ParameterError(
            "amount",
            amount,
            "exactly the amount you were shown; the commas and the currency may be left out",
            "Look again at amount and currency; if it is wrong, do not approve.",
        )


def _check_typed(request: Request, amount: str, destination_last4: str) -> None:
    check_amount(request, amount)
    if {destination_last4.strip()} != {line.destination_account[-4:] for line in request.lines}:
        raise ParameterError(
            "destination-last4", destination_last4, "the last four characters of the destination you were shown",
            "Look again at the destination; if it is wrong, do not approve.",
        )  # fmt: skip


def _build(request: Request, person: Person, team: Team, now: datetime, ends: datetime, *, number: int) -> Approval:
    # In the sandbox the same story gives the same ids, so that notebooks can be compared; elsewhere nobody can guess.
    sandbox = digest_of({"request": request.digest, "approver": person.person_id, "number": number})[:32]
    nonce = sandbox if request.mode is Mode.SANDBOX else secrets.token_hex(16)
    return Approval(
        approval_id=str(uuid.uuid5(uuid.NAMESPACE_OID, f"approval {request.digest} {nonce}")),
        request_id=request.request_id,
        request_digest=request.digest,
        approver_id=person.person_id,
        team=team,
        mode=request.mode,
        platform_account=request.platform_account,
        nonce=nonce,
        approved_at=now,
        expires_at=ends,
        statement_digest="",
    )
