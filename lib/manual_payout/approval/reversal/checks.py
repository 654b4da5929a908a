"""
The verification of a reversal: facts fetched afresh, and the rules that judge them.

Sources: Stripe documentation, *Create separate charges and transfers* (reversing transfers): a reversal takes from the
connected account's available balance, and never more than the transfer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from manual_payout.approval import policy
from manual_payout.approval.approvals import Compared
from manual_payout.approval.policy import StripeFacts, verdict
from manual_payout.approval.verification import Verification, approvals_at, requester_may
from manual_payout.desk.settings import Policy
from manual_payout.desk.wiring import Desk
from manual_payout.domain.errors import ManualPayoutError, SettingsError, StripeRefusedError
from manual_payout.domain.intent import is_own
from manual_payout.domain.models import Check, CheckStatus, Line, Mode, Request, ReversalRecord, State
from manual_payout.domain.money import Money


@dataclass(frozen=True, slots=True)
class ReversalFacts:
    """
    Everything the verification of a reversal looks at, fetched afresh.

    Attributes:
        record: This line's reversal record, or None while nothing was begun.

        other: Another reversal of the same transfer whose outcome is not known yet, or None.

        transfer: The transfer as Stripe shows it, or None where it cannot be seen.

        own_minor: How much of what came back was taken by this very request, in minor units.

        requester_may: Whether who filed it may still file requests.

        studio_available: What the connected account has available, or None where the key may not see it.

        shown: What is kept of what each approver was shown; empty where the approvals do not stand, or once money came back.
    """

    request: Request
    line: Line
    mode: Mode
    at: datetime
    request_withdrawn: bool
    approval_error: ManualPayoutError | None
    approved_by: str
    record: ReversalRecord | None
    other: ReversalRecord | None
    stripe: StripeFacts
    transfer: dict[str, Any] | None = None
    own_minor: int = 0
    studio_available: Money | None = None
    requester_may: bool = True
    shown: tuple[Mapping[str, Any], ...] = ()

    @property
    def compared(self) -> Compared | None:
        """What is compared with what the approvers were shown; None where Stripe shows nothing."""
        return compared_transfer(self.line, self.transfer) if self.transfer is not None else None


def compared_transfer(line: Line, seen: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is compared between the moment of an approval and that of the reversal; what came back meanwhile is judged by itself."""
    return {
        "ledger_payout_id": line.ledger_payout_id,
        "stripe_transfer_id": seen["id"],
        "amount_minor": int(seen["amount"]),
        "currency": seen["currency"],
        "destination_account": seen["destination"],
    }


def verify_reversal(desk: Desk, request: Request, line: Line, operator_id: str) -> Verification[ReversalFacts]:
    """
    Fetch everything the checks look at, afresh, and judge it. Reads only.

    Args:
        operator_id: Person id of who runs this.

    Raises:
        SettingsError, DatabaseError: Something needed cannot be asked at all.
    """
    facts = _gather(desk, request, line, operator_id)
    return Verification(facts, tuple(rule(facts, desk.settings.policy) for rule in REVERSAL_RULES))


def reversal_in_force(facts: ReversalFacts, rules: Policy) -> Check:
    """Design rule 8: a reversal is its own request."""
    ends = rules.request.request_ends(facts.request)
    fine = not facts.request_withdrawn and facts.at < ends and facts.requester_may
    # What has begun must be finished and recorded, however old its request is by then.
    begun = facts.record is not None and facts.record.state is not State.REFUSED
    return verdict(
        "request_in_force", "Is the request for this reversal in force?", fine or begun, policy.IN_FORCE,
        policy.in_force_until(facts, ends), "Have the reversal requested and approved again.",
    )  # fmt: skip


def transfer_as_filed(facts: ReversalFacts, _policy: Policy) -> Check:
    """The transfer that the approvers saw is the one that is reversed."""
    line, seen = facts.line, facts.transfer
    name, question = "transfer_as_filed", "Does Stripe show the transfer that the request names?"
    expected = f"{line.stripe_transfer_id} in {line.amount.currency} to {line.destination_account}"
    if seen is None:
        return Check(name, question, CheckStatus.UNKNOWN, expected, _why(facts), _remedy(facts))
    found = f"{seen['id']} in {seen['currency']} to {seen['destination']}"
    fine = expected == found and seen["livemode"] == (facts.mode is Mode.LIVE)
    return verdict(
        name, question, fine, expected, found, "Compare the request with the Dashboard and file another one."
    )


def nothing_came_back_since(facts: ReversalFacts, _policy: Policy) -> Check:
    """Two people approved taking this much back on top of what had come back by then; more since is another decision."""
    line, seen = facts.line, facts.transfer
    name, question = "nothing_came_back_since", "Has nothing more of it been reversed since this was requested?"
    expected = _minor(line.reversed_before_minor, line.amount.currency)
    if seen is None:
        return Check(name, question, CheckStatus.UNKNOWN, expected, _why(facts), _remedy(facts))
    before = int(seen["amount_reversed"]) - facts.own_minor
    return verdict(
        name, question, before == line.reversed_before_minor, f"{expected} reversed",
        f"{_minor(before, line.amount.currency)} reversed", "Look at the transfer in the Dashboard, then file another request.",
    )  # fmt: skip


def enough_left(facts: ReversalFacts, _policy: Policy) -> Check:
    """Stripe documentation, *Create a transfer reversal*: never more than what is left of the transfer."""
    line, seen = facts.line, facts.transfer
    name, question = "enough_left", "Is that much of the transfer left?"
    expected = f"at least {line.amount.grouped}"
    if seen is None:
        return Check(name, question, CheckStatus.UNKNOWN, expected, _why(facts), _remedy(facts))
    left = Money(int(seen["amount"]) - int(seen["amount_reversed"]) + facts.own_minor, line.amount.currency)
    return verdict(name, question, left >= line.amount, expected, left.grouped, "File a request for what is left.")


def no_other_reversal(facts: ReversalFacts, _policy: Policy) -> Check:
    """One open reversal per transfer: a second one waits until the first is known."""
    other = facts.other
    return verdict(
        "no_other_reversal", "Is no other reversal of it under way?", other is None, "none",
        f"{other.state} under {other.incident_id}, by {other.owner}" if other else "none",
        "Leave it to them; `manual-payout status` shows how far it is.",
    )  # fmt: skip


def reversal_outcome_known(facts: ReversalFacts, _policy: Policy) -> Check:
    """Design rule 3: an unknown outcome is left only through reconcile."""
    record = facts.record
    unknown = record is not None and record.state in (State.UNKNOWN, State.NEEDS_HUMAN)
    return verdict(
        "outcome_known", "Is the outcome of every earlier attempt known?", not unknown, "no open attempt",
        f"attempt {record.attempt_no} is {record.state}" if record else "nothing sent yet",
        f"Run `manual-payout reversal reconcile {facts.request.incident_id}`; never send again before.",
    )  # fmt: skip


def studio_can_return_it(facts: ReversalFacts, _policy: Policy) -> Check:
    """A reversal takes from the studio's available balance; once paid out to its bank, Stripe refuses."""
    line, have = facts.line, facts.studio_available
    name, question = "studio_can_return_it", "Does the studio's Stripe balance still hold the amount?"
    expected = f"at least {line.amount.grouped}"
    if facts.own_minor:
        return Check(name, question, CheckStatus.OK, expected, "taken back already")
    if have is None:
        return Check(
            name, question, CheckStatus.WARN, expected, "not visible to this key",
            "Look at the studio's balance in the Dashboard; where it does not hold the amount, Stripe refuses and nothing moves.",
        )  # fmt: skip
    if have >= line.amount:
        return Check(name, question, CheckStatus.OK, expected, have.grouped)
    # Not a NO: with connected reserves Stripe takes it nevertheless, and without them it refuses and nothing moves.
    return Check(
        name, question, CheckStatus.WARN, expected, have.grouped,
        "Stripe will probably refuse: agree with the studio to keep the amount from a later payout.",
    )  # fmt: skip


REVERSAL_RULES: tuple[Callable[[ReversalFacts, Policy], Check], ...] = (
    reversal_in_force,
    policy.approved,
    policy.facts_as_shown,
    transfer_as_filed,
    nothing_came_back_since,
    enough_left,
    no_other_reversal,
    reversal_outcome_known,
    policy.key_is_right,
    policy.account_is_right,
    studio_can_return_it,
)


def _gather(desk: Desk, request: Request, line: Line, operator_id: str) -> ReversalFacts:
    record = desk.store.find_reversal(line.line_id)
    other = desk.store.find_open_reversal(line.stripe_transfer_id)
    error, approved_by, shown = approvals_at(desk, request, record, operator_id)
    identity = desk.gateway.identity
    facts = ReversalFacts(
        request=request,
        line=line,
        mode=desk.settings.mode,
        at=desk.now(),
        request_withdrawn=desk.store.is_withdrawn(request),
        requester_may=requester_may(desk, request),
        approval_error=error,
        approved_by=approved_by,
        record=record,
        other=other if other is not None and other.reversal_id != line.line_id else None,
        stripe=StripeFacts(key=str(identity), key_restricted=identity.restricted, key_livemode=identity.livemode),
        shown=shown,
    )
    try:
        return _with_stripe(desk, facts)
    except (StripeRefusedError, SettingsError) as refused:
        return replace(facts, stripe=replace(facts.stripe, error=refused))


def _with_stripe(desk: Desk, facts: ReversalFacts) -> ReversalFacts:
    line = facts.line
    own = [one for one in desk.gateway.reversals_of(line.stripe_transfer_id) if is_own(one, line.line_id)]
    seen = replace(facts.stripe, livemode=desk.gateway.livemode(), account_id=desk.gateway.account_id())
    return replace(
        facts,
        stripe=seen,
        # After the list: a reversal made in between shows as one too many, never as one too few.
        transfer=desk.gateway.get_transfer(line.stripe_transfer_id),
        own_minor=sum(int(one["amount"]) for one in own),
        studio_available=_available(desk, line.destination_account, line.amount.currency),
    )


def _available(desk: Desk, account: str, currency: str) -> Money | None:
    try:
        return desk.watcher.available_to(account, currency)
    except StripeRefusedError:
        # A key that may not look into connected accounts is the usual case, and no reason to stop.
        return None


def _minor(amount_minor: int, currency: str) -> str:
    return Money(amount_minor, currency).grouped


def _why(facts: ReversalFacts) -> str:
    return facts.stripe.error.message if facts.stripe.error is not None else "not shown"


def _remedy(facts: ReversalFacts) -> str:
    return facts.stripe.error.remedy if facts.stripe.error is not None else ""
