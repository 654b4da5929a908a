"""The gate: what must hold at the moment of sending, whatever cells ran before (design, rule 1)."""

from __future__ import annotations

from typing import Any

from manual_payout.approval.approvals import Approved, by_passkey, check_approvals, given_approvals, in_browser
from manual_payout.approval.dry_runs import require_proved
from manual_payout.approval.pinned import pinned_rules, rules_digest
from manual_payout.desk.people import Person
from manual_payout.desk.wiring import Desk
from manual_payout.domain.errors import ApprovalError, ClaimError, DatabaseError, PolicyRefusedError
from manual_payout.domain.models import Check, CheckStatus, Kind, Line, Mode, Record, Request, stream_of
from manual_payout.domain.parameters import Parameters, ReversalParameters


def find_request(desk: Desk, parameters: Parameters) -> Request:
    """
    Return the stored request that these parameters select.

    Raises:
        PolicyRefusedError: There is none.

        EvidenceError: It was altered after it was filed.
    """
    request = desk.store.find_request(parameters.incident_id, parameters.ledger_payout_id)
    if request is None:
        raise PolicyRefusedError(
            f"{parameters.incident_id} has no request for ledger payout {parameters.ledger_payout_id}.",
            "File it with `manual-payout request`, and have both teams approve it.",
        )
    return request


def get_reversal_request(desk: Desk, parameters: ReversalParameters) -> Request:
    """
    Return the stored request for a reversal that these parameters name.

    Raises:
        PolicyRefusedError: It is another incident's, or asks for a transfer.

        EvidenceError: There is none, or it was altered after it was filed.
    """
    request = desk.store.get_request(parameters.request_id)
    if request.kind is not Kind.REVERSAL or request.incident_id != parameters.incident_id:
        raise PolicyRefusedError(
            f"Request {request.request_id} is for a {request.kind.value} under {request.incident_id}, not for a reversal "
            f"under {parameters.incident_id}.",
            "Use the request id that `manual-payout reversal request` printed.",
        )
    return request


def admit(
    desk: Desk,
    parameters: Parameters | ReversalParameters,
    request: Request,
    line: Line,
    operator: Person,
    *,
    first: bool,
) -> Approved:
    """
    Check the people, the code and the papers.

    Args:
        first: Nothing was begun for the line yet.

    Raises:
        RefusedError: Something does not hold.

        ParameterError: The confirm code is not that of this operator's sealed dry run.
    """
    now = desk.now()
    if parameters.dry_run:
        raise PolicyRefusedError("This is a dry run; a dry run sends nothing.", "Run live with the confirm code.")
    # Looked up again: whoever calls may have made this person up, or hold one whose time is over.
    desk.registry.get_allowed(operator.person_id, "operate", now, field="operator")
    desk.require_same_world(request)
    if now >= desk.settings.policy.request.request_ends(request) or desk.store.is_withdrawn(request):
        raise ApprovalError(
            f"Request {request.request_id} is expired or withdrawn.", "File it again and have it approved."
        )
    approved = check_standing(desk, request, operator)
    require_proved(desk, request, line, operator, parameters.confirm, first=first)
    return approved


def check_standing(desk: Desk, request: Request, operator: Person, *, sending: bool = True) -> Approved:
    """
    Return the two approvals that allow this operator to send *request* now.

    Args:
        sending: Whether money is about to move; what has left is recorded under any rules.

    Raises:
        ApprovalError: They do not stand.
    """
    given = given_approvals(desk.store, request)
    rules = desk.settings.policy.request
    return check_approvals(
        request, given, desk.registry, rules, operator_id=operator.person_id, at=desk.now(),
        rules_digest=rules_digest(desk.settings.policy) if sending else "",
    )  # fmt: skip


def rules_now(desk: Desk, request: Request, line: Line) -> dict[str, Any]:
    """
    Return what the policy says at this moment of a request like this, for the journal.

    By it the offline verifier judges again whether request, approvals and amount were allowed then.
    """
    rules, currency = desk.settings.policy.request, line.amount.currency
    told: dict[str, Any] = {
        "request_lifetime_s": rules.request_lifetime_s,
        "approval_lifetime_s": rules.approval_lifetime_s,
        "amount_minor_max": rules.amount_minor_max.get(currency) if request.kind is Kind.TRANSFER else None,
        "pinned": pinned_rules(desk.settings.policy),
        "rules_digest": rules_digest(desk.settings.policy),
        "registry_digest": desk.registry.digest,
    }
    if in_browser(request.signature) or by_passkey(desk.store.approvals_of(request.request_id)):
        # Where one was used: at which pages it might be, and how many of the two.
        passkeys = desk.registry.signers.passkeys
        told |= {"origins": list(passkeys.origins), "passkeys_max": passkeys.at_most}
    return told


def record_leave(
    desk: Desk, record: Record, request: Request, line: Line, approved: Approved, operator: Person
) -> None:
    """Record that what was begun may be sent by *operator*, who took it over: under which approvals, and which policy."""
    data = {
        "idempotency_key": record.idempotency_key,
        "approval_ids": list(approved.approval_ids),
        "rules": rules_now(desk, request, line),
    }
    stream = stream_of(record.incident_id, record.ledger_payout_id)
    desk.store.record_event(stream, "resend_allowed", operator.person_id, data)


def claim(desk: Desk, line: Line) -> None:
    """
    Take the ledger payout away from the automation, or refuse (design, rule 6).

    Raises:
        ClaimError: The automation has paid it, or another request holds it.
    """
    dead = [one for one in desk.store.dead_claims(line.ledger_payout_id) if one != line.line_id]
    try:
        desk.ledger.claim(line.ledger_payout_id, line.line_id, at=desk.now(), releasable=dead)
    except ClaimError as error:
        told = _named(desk, line.ledger_payout_id, error)
        if told is error:
            raise
        raise told from error


def try_claim(desk: Desk, line: Line) -> Check:
    """Try the claim and roll it back, for the operator: a forgotten grant or relation is found while nothing has moved."""
    dead = [one for one in desk.store.dead_claims(line.ledger_payout_id) if one != line.line_id]
    name, question = "claim_can_be_written", "Can the payout be taken away from the automation?"
    expected = "a claim that the ledger keeps, tried and rolled back"
    try:
        desk.ledger.try_claim(line.ledger_payout_id, line.line_id, at=desk.now(), releasable=dead)
    except (ClaimError, DatabaseError) as error:
        return Check(name, question, CheckStatus.FAIL, expected, error.message, error.remedy)
    return Check(name, question, CheckStatus.OK, expected, "it would be kept")


def _named(desk: Desk, ledger_payout_id: str, error: ClaimError) -> ClaimError:
    """Say which incident and whose run holds a claim of ours; the ledger knows only the line's id."""
    due = desk.ledger.find_payout_due(ledger_payout_id)
    holder = desk.store.find_payout(due.claimed_by) if due is not None and due.claimed_by else None
    if holder is None:
        return error
    return ClaimError(
        f"Ledger payout {ledger_payout_id} is claimed by {holder.incident_id}, run by "
        f"{desk.registry.name_of(holder.operator_id)}, {holder.state}.",
        "Leave it to them; `manual-payout status` shows how far it is.",
    )


def require_same_account(desk: Desk, request: Request) -> None:
    """
    Check that this desk's key looks into the account that *request* was approved for.

    Another account shows no transfer either, and would prove nothing.

    Raises:
        ApprovalError: Mode or account differ, or the account cannot be seen where it must be.

        StripeRefusedError, SettingsError: Stripe cannot be asked.
    """
    desk.require_same_world(request)
    found, rules = desk.gateway.account_id(), desk.settings.policy.stripe
    if found is None and rules.account_check == "if_visible":
        return
    if found != request.platform_account or desk.gateway.livemode() != (request.mode is Mode.LIVE):
        raise ApprovalError(
            f"The key belongs to {found or 'an account that it does not show'}; the request was approved for "
            f"{request.platform_account}.",
            "Use the key of the approved account; another account's listing proves nothing.",
        )
