"""
The rules of verification: facts in, checks out. Pure; every rule names its line of the SOP.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from manual_payout.approval.approvals import Compared, changed_facts
from manual_payout.desk.inventory import RehearsalStanding
from manual_payout.desk.settings import Policy
from manual_payout.domain.canonical import instant_text
from manual_payout.domain.display import told_apart
from manual_payout.domain.errors import ManualPayoutError
from manual_payout.domain.intent import OtherTransfer, in_the_way, unacknowledged
from manual_payout.domain.models import OPEN_STATES, Check, CheckStatus, Line, Mode, PayoutRecord, Request, State
from manual_payout.domain.money import Money
from manual_payout.domain.parameters import Parameters
from manual_payout.ledger import PayoutDue, StudioBalance

# The check that only warns, and whose warning has to be on record before a live send goes on.
REHEARSAL = "rehearsal"

# By how much the ledger's clock, which is another than the one that judges, may be ahead of it.
LEDGER_SKEW_MAX = timedelta(minutes=5)

IN_FORCE = "neither expired nor withdrawn"

# The check of what was typed against what was filed: who fails it typed something else, and was refused nothing.
AS_FILED = "same_as_requested"


@dataclass(frozen=True, slots=True)
class StripeFacts:
    """
    What Stripe showed.

    Attributes:
        error: Why nothing was seen, or None.

        available: What the platform has available in the payout's currency, of every source.

        drawable: The part of it that a transfer can draw; None where Stripe does not say.

        foreign_transfers: Unreversed transfers of this transfer group that are not this line's own.

        own_transfer: The id of this line's own transfer, if it exists.

        unexplained: Other transfers to this account since the payout was due, of which nobody knows what they paid.
    """

    error: ManualPayoutError | None = None
    key: str = ""
    key_restricted: bool = False
    key_livemode: bool = False
    livemode: bool = False
    account_id: str | None = None
    available: Money | None = None
    drawable: Money | None = None
    foreign_transfers: tuple[str, ...] = ()
    own_transfer: str | None = None
    unexplained: tuple[OtherTransfer, ...] = ()


class ApprovalFacts(Protocol):
    """What the rule about approvals looks at, of a payout as of a reversal."""

    @property
    def approval_error(self) -> ManualPayoutError | None:
        """Why the approvals do not stand, or None when they do."""

    @property
    def approved_by(self) -> str:
        """For people: who approved."""


class StripeSeen(Protocol):
    """What the rules about key and account look at, of a payout as of a reversal."""

    @property
    def mode(self) -> Mode:
        """The mode of this run."""

    @property
    def request(self) -> Request | None:
        """The filed request."""

    @property
    def stripe(self) -> StripeFacts:
        """What Stripe showed."""


class RequestSeen(Protocol):
    """What is asked of a request, of a payout as of a reversal, to say whether it is in force."""

    @property
    def request(self) -> Request | None:
        """The filed request."""

    @property
    def request_withdrawn(self) -> bool:
        """Whether it was withdrawn."""

    @property
    def requester_may(self) -> bool:
        """Whether who filed it may still file requests."""


@dataclass(frozen=True, slots=True)
class Facts:
    """
    Everything the verification looks at, fetched afresh.

    Attributes:
        request: The filed request, or None.

        requester_may: Whether who filed it may still file requests.

        approval_error: Why the approvals do not stand, or None when they do.

        approved_by: For people: who approved.

        due: The ledger's payout, or None.

        record: This line's payout record, or None while nothing was begun.

        earlier: Other live or finished payout records for the same ledger payout.

        dead_claims: Lines whose claim on the ledger payout no longer stands for any money.

        shown: What is kept of what each approver was shown; empty where the approvals do not stand, or once money has left.

        rehearsal: How the last rehearsal stands; None where it was not asked for, since no real money moves.
    """

    parameters: Parameters
    mode: Mode
    at: datetime
    request: Request | None
    request_withdrawn: bool
    approval_error: ManualPayoutError | None
    approved_by: str
    due: PayoutDue | None
    balance: StudioBalance | None
    record: PayoutRecord | None
    earlier: tuple[PayoutRecord, ...]
    stripe: StripeFacts
    dead_claims: tuple[str, ...] = ()
    rehearsal: RehearsalStanding | None = None
    requester_may: bool = True
    shown: tuple[Mapping[str, Any], ...] = ()

    @property
    def compared(self) -> Compared | None:
        """What is compared with what the approvers were shown; None where there is nothing to compare."""
        line = self.line
        return compared_facts(line, self.due, self.balance) if line is not None and self.due is not None else None

    @property
    def line(self) -> Line | None:
        """The line of the request that is about this ledger payout, or None where there is no request."""
        return self.request.line_for(self.parameters.ledger_payout_id) if self.request else None


def judge(facts: Facts, policy: Policy) -> tuple[Check, ...]:
    """
    Answer every question of the verification; none is left out because another failed.

    Returns:
        The checks in the order of the SOP: pre-conditions, then step 1.
    """
    return tuple(rule(facts, policy) for rule in PAYOUT_RULES)


def incident(facts: Facts, _policy: Policy) -> Check:
    """SOP, pre-conditions: automation failure identified with an open incident."""
    return verdict(
        "incident", "Is there an incident with a filed fallback request?", bool(facts.request),
        f"a request filed under {facts.parameters.incident_id}",
        f"request {facts.request.request_id[:8]} of {facts.request.filed_at:%Y-%m-%d %H:%M} UTC" if facts.request else "none",
        f"File it: manual-payout request --incident-id {facts.parameters.incident_id} …",
    )  # fmt: skip


def request_in_force(facts: Facts, policy: Policy) -> Check:
    """SOP, pre-conditions: fallback request form submitted."""
    request = facts.request
    fine, found = False, "no request"
    if request is not None:
        ends = policy.request.request_ends(request)
        fine = not facts.request_withdrawn and facts.at < ends and facts.requester_may
        found = in_force_until(facts, ends)
    # A sending that has begun must be finished and recorded, however old its request is by then.
    begun = facts.record is not None and facts.record.state is not State.REFUSED
    return verdict(
        "request_in_force", "Is the request still in force?", fine or begun, IN_FORCE, found,
        "File a new request and have it approved.",
    )  # fmt: skip


def same_as_requested(facts: Facts, _policy: Policy) -> Check:
    """SOP step 1: confirm incident ID, studio identifiers, amount and destination."""
    difference = _difference(facts)
    return verdict(
        AS_FILED, "Are these parameters the ones that were requested?", difference == "",
        "every field as filed", difference or "every field as filed",
        "Run with the values of the request, or file a new request with these.",
    )  # fmt: skip


def approved(facts: ApprovalFacts, _policy: Policy) -> Check:
    """SOP, pre-conditions: approved by both Payments Ops and Finance."""
    error = facts.approval_error
    return verdict(
        "approved_by_both_teams", "Have Payments Ops and Finance approved exactly this request?", error is None,
        "two people, two teams, neither requester nor operator", facts.approved_by if error is None else error.message,
        error.remedy if error is not None else "",
    )  # fmt: skip


class FactsShown(Protocol):
    """What the rule about shown facts looks at, of a payout as of a reversal."""

    @property
    def request(self) -> Request | None:
        """The filed request."""

    @property
    def line(self) -> Line | None:
        """The line in question."""

    @property
    def shown(self) -> tuple[Mapping[str, Any], ...]:
        """What is kept of what each approver was shown."""

    @property
    def compared(self) -> Compared | None:
        """The same facts as they are now."""


def facts_as_shown(facts: FactsShown, _policy: Policy) -> Check:
    """Design rule 1, facts digest: an approval is a yes to what was shown, and to nothing that has changed since."""
    name, question, expected = (
        "facts_as_shown",
        "Is everything still as both approvers were shown it?",
        "nothing changed since",
    )
    request, line, now = facts.request, facts.line, facts.compared
    if not facts.shown or request is None or line is None or now is None:
        return Check(name, question, CheckStatus.OK, expected, "no approvals to compare with")
    at = request.lines.index(line)
    found = dict.fromkeys(one for kept in facts.shown for one in changed_facts(kept["compared"][at], now))
    told = "; ".join(f"{field}: shown {was}, now {so}" for field, was, so in found)
    return verdict(
        name, question, not found, expected, told or expected,
        "Find out why it changed; then have both teams look and approve again.",
    )  # fmt: skip


def compared_facts(line: Line, due: PayoutDue, balance: StudioBalance | None) -> dict[str, Any]:
    """Return what is compared between the moment of an approval and that of the sending; a balance may move."""
    changed = due.destination_changed_at
    return {
        "ledger_payout_id": due.ledger_payout_id,
        "amount_minor": due.amount.amount_minor,
        "currency": due.currency,
        "studio_id": due.studio_id,
        "studio_name": due.studio_name,
        "destination_account": due.destination_account,
        "destination_changed_at": instant_text(changed) if changed else "",
        "reserve_minimum_minor": balance.reserve_minimum.amount_minor if balance else None,
        "acknowledged_transfers": list(line.acknowledged),
    }


def ledger_payout_exists(facts: Facts, _policy: Policy) -> Check:
    """SOP step 1: export the ledger payout details."""
    due = facts.due
    return verdict(
        "ledger_payout_exists", "Does the ledger know this payout?", due is not None, facts.parameters.ledger_payout_id,
        f"{due.amount.grouped}, due {due.due_at:%Y-%m-%d}, {due.failure_reason or 'no failure reason'}" if due else "not found",
        "Check the ledger payout id against the ledger and the ticket.",
    )  # fmt: skip


def ledger_payout_of_studio(facts: Facts, _policy: Policy) -> Check:
    """SOP step 1: confirm studio identifiers."""
    expected = f"{facts.parameters.studio_name} ({facts.parameters.studio_id})"
    found = f"{facts.due.studio_name} ({facts.due.studio_id})" if facts.due else "no ledger payout"
    return verdict(
        "ledger_payout_of_studio", "Does it belong to this studio?", expected == found, *told_apart(expected, found),
        "Correct the studio id and name; never pay another studio's payout.",
    )  # fmt: skip


def ledger_payout_unpaid(facts: Facts, _policy: Policy) -> Check:
    """SOP, pre-conditions: automation failure identified; design rule 6, racing the automation."""
    due, line = facts.due, facts.line
    claims = {*facts.dead_claims, *([line.line_id] if line else ())}
    fine = due is not None and (due.standing == "failed" or (due.standing == "claimed" and due.claimed_by in claims))
    found = _standing(due, line)
    return verdict(
        "ledger_payout_unpaid", "Is it failed and unpaid in the ledger?", fine, "failed, or claimed by this request", found,
        "Do not pay: find out who pays it, and close or withdraw this request.",
    )  # fmt: skip


def amount_as_on_file(facts: Facts, _policy: Policy) -> Check:
    """SOP step 1: confirm amount; the currency is the ledger's."""
    due = facts.due
    asked = _asked(lambda: facts.parameters.amount_in(due.currency).grouped) if due else facts.parameters.amount
    found = due.amount.grouped if due else "no ledger payout"
    # What is sent is the request, which froze its currency when it was filed: if the ledger has changed currency since,
    # the same digits are another amount.
    filed = facts.line.amount.grouped if facts.line else asked
    expected = asked if filed == asked else f"{asked}, filed as {filed}"
    return verdict(
        "amount_as_on_file", "Is the amount the one the ledger owes?", expected == found, expected, found,
        "Correct the amount; a partial payout is not made by hand.",
    )  # fmt: skip


def destination_as_on_file(facts: Facts, _policy: Policy) -> Check:
    """SOP step 1: confirm the destination connected account."""
    expected, due = facts.parameters.destination_account, facts.due
    found = due.destination_account if due else "no ledger payout"
    changed = f", changed {due.destination_changed_at:%Y-%m-%d}" if due and due.destination_changed_at else ""
    return verdict(
        "destination_as_on_file", "Is the destination the studio's account on file?", expected == found, expected, found + changed,
        "Stop and ask the studio through a known contact; a changed destination is how fraud looks.",
    )  # fmt: skip


def ledger_payout_due(facts: Facts, _policy: Policy) -> Check:
    """SOP, purpose: a payout that the automation has failed at; what is not due yet, it has not failed at."""
    name, question, expected = "ledger_payout_due", "Was it due by now?", "due by now"
    due, own = facts.due, facts.stripe.own_transfer
    found = f"due at {due.due_at:%Y-%m-%d %H:%M} UTC" if due else "no ledger payout"
    if own is not None:
        return Check(name, question, CheckStatus.OK, expected, f"already sent, {own}")
    return verdict(
        name, question, due is not None and due.due_at <= facts.at + LEDGER_SKEW_MAX, expected, found,
        "Wait until it is due; or have the ledger's owner correct due_at.",
    )  # fmt: skip


def balance_age(facts: Facts, policy: Policy) -> Check:
    """docs/ledger.md: a reserve is computed from a balance of now; one that is stale, or from the future, says nothing."""
    name, question = "balance_age", "Was the studio's balance computed recently?"
    expected = f"within {span(timedelta(seconds=policy.ledger.balance_age_max_s))}, not in the future"
    if facts.balance is None:
        return verdict(name, question, False, expected, "none", "Check the studio's balance in the ledger.")
    fine, found = balance_at(facts.balance, facts.at, policy)
    if facts.stripe.own_transfer is not None:
        # What it was before the transfer was asked then.
        return Check(name, question, CheckStatus.OK, expected, f"already sent, {facts.stripe.own_transfer}")
    return verdict(
        name, question, fine, expected, found,
        "Have the ledger recompute its balances, then run again; as_of has to be the instant at which it did.",
    )  # fmt: skip


def balance_at(balance: StudioBalance, at: datetime, policy: Policy) -> tuple[bool, str]:
    """Say whether a balance may be relied on at *at*, and how old it is, for people."""
    age = at - balance.as_of
    when = f"{balance.as_of:%Y-%m-%d %H:%M} UTC, "
    if age < -LEDGER_SKEW_MAX:
        return False, f"{when}{span(-age)} in the future"
    fresh = age <= timedelta(seconds=policy.ledger.balance_age_max_s)
    return fresh, f"{when}{span(max(age, timedelta()))} old"


def span(length: timedelta) -> str:
    """Write a span of time such as ``26 h``, ``26 h 1 s`` or ``3 days 4 h``: below two days to the second."""
    seconds = int(length.total_seconds())
    days, hours, minutes = (f"{seconds // 86_400} days", seconds // 3_600, seconds // 60 % 60)
    if seconds >= 2 * 86_400:
        return f"{days} {hours % 24} h" if hours % 24 else days
    told = [f"{count} {unit}" for count, unit in ((hours, "h"), (minutes, "min"), (seconds % 60, "s")) if count]
    return " ".join(told) or "0 s"


def reserve_arithmetic(facts: Facts, _policy: Policy) -> Check:
    """SOP, pre-conditions: studio balance verified against the ledger."""
    name, question = "reserve_arithmetic", "Is reserve after = balance − amount?"
    if facts.balance is None or facts.due is None:
        return verdict(
            name, question, False, "a balance in the ledger", "none", "Check the studio's balance in the ledger."
        )
    stated = _asked(lambda: facts.parameters.reserve_after_in(facts.due.currency).grouped if facts.due else "")
    leaving = _leaving(facts, facts.due)
    after = facts.balance.balance - leaving
    found = f"{facts.balance.balance.grouped} − {leaving.grouped} = {after.grouped}"
    return verdict(
        name, question, after.grouped == stated, stated, found,
        "Recompute the reserve from the ledger's balance and file the request with it.",
    )  # fmt: skip


def reserve_minimum(facts: Facts, policy: Policy) -> Check:
    """SOP, pre-conditions: reserve remaining at least the required minimum."""
    name, question = "reserve_minimum", "Does the required minimum reserve remain?"
    if facts.balance is None or facts.due is None:
        return verdict(
            name, question, False, "a balance in the ledger", "none", "Check the studio's balance in the ledger."
        )
    floor = Money(policy.request.reserve_minimum_minor.get(facts.due.currency, 0), facts.due.currency)
    needed = max(floor, facts.balance.reserve_minimum, key=lambda money: money.amount_minor)
    after = facts.balance.balance - _leaving(facts, facts.due)
    return verdict(
        name, question, after >= needed, f"at least {needed.grouped}", after.grouped,
        "Do not pay: the reserve would fall below the required minimum; Finance decides.",
    )  # fmt: skip


def ceiling(facts: Facts, policy: Policy) -> Check:
    """Design, policy: a ceiling on what one manual payout may move."""
    name, question = "below_ceiling", "Is the amount below the ceiling for manual payouts?"
    if facts.due is None:
        return verdict(name, question, False, "a ledger payout", "none", "Check the ledger payout id.")
    limit = policy.request.amount_minor_max.get(facts.due.currency)
    if limit is None:
        return Check(name, question, CheckStatus.OK, "no ceiling set for this currency", facts.due.amount.grouped)
    return verdict(
        name, question, facts.due.amount.amount_minor <= limit, f"at most {Money(limit, facts.due.currency).grouped}",
        facts.due.amount.grouped, "Finance raises the ceiling in the reviewed policy file, or this payout waits.",
    )  # fmt: skip


def no_earlier_payout(facts: Facts, _policy: Policy) -> Check:
    """Design rule 7: one live payout record per ledger payout."""
    # What was refused never moved, and what was reversed whole has come back.
    standing = [record for record in facts.earlier if record.state not in (State.REFUSED, State.REVERSED)]
    found = ", ".join(f"{record.state} under {record.incident_id}" for record in standing) or "none"
    if not standing and facts.record is not None:
        found = f"only this request's own, {facts.record.state}"
    return verdict(
        "no_earlier_manual_payout", "Has nobody paid it by hand before?", not standing, "none", found,
        "Do not pay: run `manual-payout status` on the other incident.",
    )  # fmt: skip


def outcome_known(facts: Facts, _policy: Policy) -> Check:
    """Design rule 3: an unknown outcome is left only through reconcile."""
    open_states = (State.UNKNOWN, State.NEEDS_HUMAN)
    unknown = facts.record is not None and facts.record.state in open_states
    return verdict(
        "outcome_known", "Is the outcome of every earlier attempt known?", not unknown, "no open attempt",
        f"attempt {facts.record.attempt_no} is {facts.record.state}" if facts.record else "nothing sent yet",
        f"Run `manual-payout reconcile {facts.parameters.incident_id}`; never send again before.",
    )  # fmt: skip


def key_is_right(facts: StripeSeen, _policy: Policy) -> Check:
    """SOP, pre-conditions and security controls: the restricted key, of the right mode."""
    seen = facts.stripe
    fine = bool(seen.key) and seen.key_restricted and seen.key_livemode == (facts.mode is Mode.LIVE)
    kind = "live" if facts.mode is Mode.LIVE else "test"
    return verdict(
        "key_is_right", "Is the key restricted and of the right mode?", fine, f"a restricted {kind} key (rk_{kind}_…)",
        seen.key or _why(seen), "Check the restricted fallback key out of the secret manager and export it.",
    )  # fmt: skip


def account_is_right(facts: StripeSeen, policy: Policy) -> Check:
    """Design rule 1: the account that approvals bind to is the account that pays."""
    name, question = "account_is_right", "Does the key belong to the platform account that was approved?"
    expected = facts.request.platform_account if facts.request else policy.stripe.platform_account
    found, error = facts.stripe.account_id, facts.stripe.error
    if error is not None:
        # Stripe was not asked to the end: what it would have shown is not known, and its own remedy is the one.
        return Check(name, question, CheckStatus.UNKNOWN, expected, error.message, error.remedy)
    if found is None and policy.stripe.account_check == "if_visible":
        return Check(
            name, question, CheckStatus.WARN, expected, "not visible to this key", "Look it up in the Dashboard."
        )
    return verdict(
        name, question, found == expected and facts.stripe.livemode == (facts.mode is Mode.LIVE), expected,
        found or "not visible to this key",
        "Use the key of the approved account; grant it Accounts: Read, or set stripe.account_check in the policy file.",
    )  # fmt: skip


def no_transfer_in_group(facts: Facts, _policy: Policy) -> Check:
    """Design rule 3: Stripe itself shows no transfer for this ledger payout."""
    seen = facts.stripe
    name, question = "no_transfer_in_group", "Does Stripe show no other transfer in this payout's group?"
    if seen.error is not None:
        return Check(name, question, CheckStatus.UNKNOWN, "none", _why(seen), seen.error.remedy)
    found = ", ".join(seen.foreign_transfers) or (f"only our own {seen.own_transfer}" if seen.own_transfer else "none")
    return verdict(
        name, question, not seen.foreign_transfers, "none", found,
        "Do not pay: the money may have moved already; compare that transfer with the ledger.",
    )  # fmt: skip


def no_unexplained_transfer(facts: Facts, _policy: Policy) -> Check:
    """Design rule 1: no recent equal transfer that nobody explains; a colleague may have paid in the Dashboard."""
    seen, due = facts.stripe, facts.due
    name = "no_unexplained_transfer"
    question = "Is every other transfer to this account since the payout was due explained?"
    if seen.error is not None or due is None:
        remedy = seen.error.remedy if seen.error else "Check the ledger payout id."
        return Check(name, question, CheckStatus.UNKNOWN, "none unexplained", _why(seen, "no ledger payout"), remedy)
    line = facts.line
    left = unacknowledged(seen.unexplained, line)
    equal = in_the_way(left, line, due.amount, *([line.amount] if line else []))
    known = [one for one in seen.unexplained if one not in left]
    found = f"unexplained: {', '.join(map(str, left))}" if left else "none"
    found += f"; acknowledged: {', '.join(map(str, known))}" if known else ""
    if left and not equal:
        remedy = "Ask who made it: if it is this payout with another amount, do not pay."
        return Check(name, question, CheckStatus.WARN, "none unexplained", found, remedy)
    begun = facts.record is not None and facts.record.state in OPEN_STATES
    return verdict(name, question, not equal, "none unexplained", found, acknowledge_remedy(equal, begun=begun))


def acknowledge_remedy(equal: list[OtherTransfer], *, begun: bool = False) -> str:
    """
    Say what a person does about transfers that may be this payout.

    Args:
        begun: A sending is open, so that no other request can be filed before it has an outcome.
    """
    named = " ".join(f"--acknowledge {one.transfer_id}" for one in equal)
    if begun:
        return (
            "Ask who made it: one that was reversed in full, or that the ledger names as another payout's, is no obstacle "
            f"any more. A decision that nothing was sent names it with {named}."
        )
    return (
        "Do not pay: it may be this payout, made by hand. Ask who made it; if it is not this payout, file the request "
        f"again with {named} --replace, and have both teams approve it."
    )


def stripe_balance(facts: Facts, _policy: Policy) -> Check:
    """SOP, purpose: transfers draw on the platform's available balance."""
    name, question = "stripe_balance", "Does the available Stripe balance cover the amount?"
    if facts.stripe.available is None or facts.due is None:
        remedy = facts.stripe.error.remedy if facts.stripe.error else "Check the ledger payout id."
        return Check(name, question, CheckStatus.UNKNOWN, "a balance", _why(facts.stripe, "no ledger payout"), remedy)
    if facts.stripe.own_transfer is not None:
        return Check(
            name, question, CheckStatus.OK, "covered before the transfer", f"already sent, {facts.stripe.own_transfer}"
        )
    return _funds(name, question, facts.stripe.available, facts.stripe.drawable, facts.due.amount)


def _funds(name: str, question: str, available: Money, drawable: Money | None, needed: Money) -> Check:
    expected = f"at least {needed.grouped} that a transfer can draw"
    top_up = "Top up the platform balance in this currency, or wait for charges to become available."
    if drawable is not None:
        found = f"{drawable.grouped} that a transfer can draw, {available.grouped} in all"
        return verdict(name, question, drawable >= needed, expected, found, top_up)
    found = f"{available.grouped} in all; Stripe does not say how much of it a transfer can draw"
    if available >= needed:
        return Check(
            name, question, CheckStatus.WARN, expected, found,
            "Look at the balance in the Dashboard; where a transfer can draw less, Stripe refuses and nothing moves.",
        )  # fmt: skip
    return verdict(name, question, False, expected, found, top_up)


def rehearsed(facts: Facts, policy: Policy) -> Check:
    """SOP, rehearsal procedure: quarterly. A warning: who goes on all the same is on record (`REHEARSAL`)."""
    question, found = "Were these notebooks rehearsed recently?", facts.rehearsal
    if facts.mode is not Mode.LIVE:
        return Check(
            REHEARSAL, question, CheckStatus.OK, "nothing", f"not asked: no real money moves in {facts.mode} mode"
        )
    expected = f"a green rehearsal of these notebooks within {policy.monitoring.rehearsal_every_days} days"
    if found is not None and found.good:
        return Check(REHEARSAL, question, CheckStatus.OK, expected, found.found)
    why, remedy = (found.found, f"{found.remedy} ") if found is not None else ("not looked at", "")
    on_record = "Sending anyway is allowed, and recorded under the operator's name."
    return Check(REHEARSAL, question, CheckStatus.WARN, expected, why, f"{remedy}{on_record}")


PAYOUT_RULES: tuple[Callable[[Facts, Policy], Check], ...] = (
    incident,
    request_in_force,
    same_as_requested,
    approved,
    facts_as_shown,
    ledger_payout_exists,
    ledger_payout_of_studio,
    ledger_payout_unpaid,
    amount_as_on_file,
    destination_as_on_file,
    ledger_payout_due,
    balance_age,
    reserve_arithmetic,
    reserve_minimum,
    ceiling,
    no_earlier_payout,
    outcome_known,
    key_is_right,
    account_is_right,
    no_transfer_in_group,
    no_unexplained_transfer,
    stripe_balance,
    rehearsed,
)


def differences(parameters: Parameters, request: Request) -> list[tuple[str, str, str]]:
    """
    Compare typed parameters with a filed request.

    Returns:
        Each field that differs, with the recorded and the found value as text.
    """
    line = request.line_for()
    pairs = {
        "incident_id": (request.incident_id, parameters.incident_id),
        "studio_id": (line.studio_id, parameters.studio_id),
        "studio_name": (line.studio_name, parameters.studio_name),
        "ledger_payout_id": (line.ledger_payout_id, parameters.ledger_payout_id),
        "amount": (line.amount.grouped, parameters.amount_in(line.amount.currency).grouped),
        "reserve_after": (line.reserve_after.grouped, parameters.reserve_after_in(line.amount.currency).grouped),
        "reason": (request.reason.value, parameters.reason.value),
        "destination_account": (line.destination_account, parameters.destination_account),
        "notes": (request.notes, parameters.notes),
    }
    return [(name, *told_apart(was, now)) for name, (was, now) in pairs.items() if was != now]


def told_differences(parameters: Parameters, request: Request) -> str:
    """Say every difference in words, or why a value cannot be one of that currency; nothing where there is none."""
    try:
        found = differences(parameters, request)
    except ManualPayoutError as error:
        return error.message.rstrip(".")
    return "; ".join(f"{name}: filed {was!r}, now {now!r}" for name, was, now in found)


def _difference(facts: Facts) -> str:
    if facts.request is None:
        return "no request to compare with"
    if facts.request.mode is not facts.mode:
        return f"mode: filed {facts.request.mode.value!r}, now {facts.mode.value!r}"
    return told_differences(facts.parameters, facts.request)


def _leaving(facts: Facts, due: PayoutDue) -> Money:
    """What would leave: the request's amount, once there is one, in the ledger's currency; else what the ledger owes."""
    lines = facts.request.lines if facts.request else ()
    asked = next((line.amount for line in lines if line.ledger_payout_id == due.ledger_payout_id), due.amount)
    return asked if asked.currency == due.currency else due.amount


def _asked(text: Callable[[], str]) -> str:
    try:
        return text()
    except ManualPayoutError as error:
        return error.message


def _standing(due: PayoutDue | None, line: Line | None) -> str:
    if due is None:
        return "no ledger payout"
    if due.standing == "claimed":
        whose = "this request" if line is not None and due.claimed_by == line.line_id else due.claimed_by
        return f"claimed by {whose}"
    if due.standing == "paid":
        return f"paid{f' at {due.paid_at:%Y-%m-%d %H:%M} UTC' if due.paid_at else ''}"
    return due.status


def _why(seen: StripeFacts, otherwise: str = "") -> str:
    return seen.error.message if seen.error is not None else otherwise


def in_force_until(facts: RequestSeen, ends: datetime) -> str:
    """Say how a request stands that ends at *ends*: its own word, or the policy's as it is now."""
    if facts.request_withdrawn:
        return "withdrawn"
    if not facts.requester_may:
        return "filed by somebody who may not file requests any more"
    assert facts.request is not None, "Bug: no request, no end"
    early = ends < facts.request.expires_at
    return f"valid until {ends:%Y-%m-%d %H:%M} UTC{', by the policy as it is now' if early else ''}"


def verdict(name: str, question: str, fine: bool, expected: str, found: str, remedy: str) -> Check:  # noqa: FBT001  # the verdict
    """Answer one question of a verification with yes or no; the remedy is told only where it is no."""
    status = CheckStatus.OK if fine else CheckStatus.FAIL
    return Check(name, question, status, expected, found, "" if fine else remedy)
