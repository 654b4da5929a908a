"""
Fetch the facts afresh, and have them judged (SOP, pre-conditions and step 1).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from manual_payout.approval import policy
from manual_payout.approval.approvals import check_approvals, given_approvals
from manual_payout.approval.others import since, unexplained
from manual_payout.approval.pinned import rules_digest
from manual_payout.approval.policy import AS_FILED, Facts, StripeFacts
from manual_payout.desk.inventory import RehearsalStanding, find_inventory, standing_of
from manual_payout.desk.reviewed import procedure_digest
from manual_payout.desk.settings import AS_WRITTEN
from manual_payout.desk.wiring import Desk
from manual_payout.domain.errors import (
    ApprovalError,
    DatabaseError,
    EvidenceError,
    OtherValuesError,
    PolicyRefusedError,
    SettingsError,
    StripeRefusedError,
)
from manual_payout.domain.intent import is_own, transfer_group
from manual_payout.domain.models import Check, Mode, PayoutRecord, Record, Request, State
from manual_payout.domain.parameters import Parameters
from manual_payout.ledger import PayoutDue

F = TypeVar("F")


@dataclass(frozen=True, slots=True)
class Verification(Generic[F]):
    """The facts and the answers."""

    facts: F
    checks: tuple[Check, ...]

    @property
    def go(self) -> bool:
        """Whether no check forbids the payout."""
        return not any(check.stops for check in self.checks)

    def require_go(self, *, but: frozenset[str] = frozenset()) -> None:
        """
        Refuse unless every check allows it.

        Args:
            but: Names of checks that this caller exists to answer.

        Raises:
            OtherValuesError: What was typed is not what was filed.

            PolicyRefusedError: Naming each check that does not, what was expected and found, and what to do.
        """
        failed = [check for check in self.checks if check.stops and check.name not in but]
        if failed:
            # Where nothing was filed, nothing can be another value than that.
            filed = all(check.name != "incident" for check in failed)
            other = [check for check in failed if check.name == AS_FILED and filed]
            ordered = other + [check for check in failed if check not in other]
            more = f" ({len(failed)} checks say no)" if len(failed) > 1 else ""
            found = " ".join(_told(one) for one in ordered)
            kind = OtherValuesError if other else PolicyRefusedError
            raise kind(f"NO-GO{more}. {found}", " ".join(dict.fromkeys(one.remedy for one in ordered)))


def _told(check: Check) -> str:
    # What was found is a phrase, or a sentence of its own.
    found = f"found: {check.found}" if check.found.endswith(".") else f"found {check.found}."
    return f"{check.question} Expected {check.expected}; {found}"


def verify(desk: Desk, parameters: Parameters, operator_id: str) -> Verification[Facts]:
    """
    Fetch everything the checks look at, afresh, and judge it. Reads only.

    Args:
        operator_id: Person id of who runs this.

    Raises:
        SettingsError, DatabaseError: Something needed cannot be asked at all.
    """
    facts = gather_facts(desk, parameters, operator_id)
    return Verification(facts, policy.judge(facts, desk.settings.policy))


def gather_facts(desk: Desk, parameters: Parameters, operator_id: str) -> Facts:
    """Fetch everything the checks look at. Reads only."""
    request = desk.store.find_request(parameters.incident_id, parameters.ledger_payout_id)
    record = desk.store.find_payout(request.line_for(parameters.ledger_payout_id).line_id) if request else None
    due = desk.ledger.find_payout_due(parameters.ledger_payout_id)
    error, approved_by, shown = approvals_at(desk, request, record, operator_id)
    return Facts(
        parameters=parameters,
        mode=desk.settings.mode,
        at=desk.now(),
        request=request,
        request_withdrawn=desk.store.is_withdrawn(request) if request else False,
        approval_error=error,
        approved_by=approved_by,
        due=due,
        balance=desk.ledger.find_balance(due.studio_id, due.currency) if due else None,
        record=record,
        earlier=_earlier(desk, parameters, request),
        requester_may=requester_may(desk, request),
        dead_claims=tuple(desk.store.dead_claims(parameters.ledger_payout_id)),
        stripe=_stripe(desk, parameters, request, due),
        rehearsal=rehearsal_at(desk),
        shown=shown,
    )


def requester_may(desk: Desk, request: Request | None) -> bool:
    """Whether who filed *request* may still file requests, by the registry as it is now; True where there is none."""
    person = desk.registry.find(request.requested_by) if request is not None else None
    return request is None or (person is not None and "request" in person.may and person.valid_at(desk.now()))


def rehearsal_at(desk: Desk) -> RehearsalStanding | None:
    """Say how the last rehearsal of these notebooks stands by the inventory; None where no real money moves."""
    if desk.settings.mode is not Mode.LIVE:
        return None
    inventory = find_inventory(desk.settings.inventory_path())
    return standing_of(inventory, procedure_digest(), desk.settings.policy.monitoring, desk.now())


def approvals_at(
    desk: Desk, request: Request | None, record: Record | None, operator_id: str
) -> tuple[ApprovalError | None, str, tuple[dict[str, Any], ...]]:
    """
    Say why the approvals of *request* do not stand, and who gave those that do.

    Returns:
        The error, or None; the names; and what the two were shown, where what is so now has to be the same.
    """
    if request is None:
        return ApprovalError("There is no request, so there are no approvals.", "File the request first."), "", ()
    # What has begun was approved when it began; it is finished and recorded under those approvals. A new attempt, after
    # a refusal by Stripe, needs approvals that stand now.
    begun = record is not None and record.state is not State.REFUSED
    at = desk.store.began_at(record) if begun and record else desk.now()
    try:
        given = given_approvals(desk.store, request)
        # What has begun was judged by the policy of its moment, too.
        rules = AS_WRITTEN if begun else desk.settings.policy.request
        found = check_approvals(
            request, given, desk.registry, rules, operator_id=operator_id, at=at,
            rules_digest="" if begun else rules_digest(desk.settings.policy),
        )  # fmt: skip
        return None, str(found), () if begun else found.shown
    except ApprovalError as error:
        return error, "", ()


def _earlier(desk: Desk, parameters: Parameters, request: Request | None) -> tuple[PayoutRecord, ...]:
    same = desk.store.payouts_of(ledger_payout_id=parameters.ledger_payout_id, mode=desk.settings.mode)
    # By the request's line, not by the record read a moment ago: another operator may have begun this very request since.
    return tuple(
        other
        for other in same
        if request is None or other.payout_id != request.line_for(parameters.ledger_payout_id).line_id
    )


def _stripe(desk: Desk, parameters: Parameters, request: Request | None, due: PayoutDue | None) -> StripeFacts:
    identity = desk.gateway.identity
    seen = StripeFacts(key=str(identity), key_restricted=identity.restricted, key_livemode=identity.livemode)
    line_id = request.line_for(parameters.ledger_payout_id).line_id if request else ""
    try:
        listed = desk.gateway.transfers_in_group(transfer_group(parameters.ledger_payout_id))
        asked_at = request.filed_at if request else desk.now()
        others = desk.gateway.transfers_to(due.destination_account, since(due, asked_at)) if due else []
        present = [transfer for transfer in listed if not transfer["reversed"]]
        own = next((t["id"] for t in present if request and is_own(t, line_id)), None)
        available, drawable = desk.gateway.funds(due.currency) if due else (None, None)
        seen = replace(
            seen,
            livemode=desk.gateway.livemode(),
            account_id=desk.gateway.account_id(),
            available=available,
            drawable=drawable,
            foreign_transfers=tuple(transfer["id"] for transfer in present if transfer["id"] != own),
            own_transfer=own,
        )
    except DatabaseError:
        raise
    except (StripeRefusedError, SettingsError, EvidenceError) as error:
        return replace(seen, error=error)
    return replace(seen, unexplained=unexplained(desk, others, parameters.ledger_payout_id, line_id))
