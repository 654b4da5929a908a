"""
What an approver is shown before typing a yes: facts fetched afresh, effects rather than inputs.
"""

from __future__ import annotations

from datetime import datetime
from statistics import median

from manual_payout.approval.approvals import Shown
from manual_payout.approval.comparing import compared_table
from manual_payout.approval.others import since, unexplained
from manual_payout.approval.pinned import rules_digest
from manual_payout.approval.policy import LEDGER_SKEW_MAX, Facts, StripeFacts, compared_facts
from manual_payout.approval.reversal.showing import reversal_shown
from manual_payout.approval.verification import rehearsal_at
from manual_payout.desk.inventory import SHOWN
from manual_payout.desk.people import Person
from manual_payout.desk.wiring import Desk
from manual_payout.domain.display import Table, facts_table
from manual_payout.domain.errors import (
    DatabaseError,
    EvidenceError,
    PolicyRefusedError,
    SettingsError,
    StripeRefusedError,
)
from manual_payout.domain.intent import transfer_group
from manual_payout.domain.models import Kind, Line, PayoutRecord, Request, stream_of
from manual_payout.domain.money import Money
from manual_payout.domain.parameters import filed_values, validate
from manual_payout.ledger import PayoutDue

# Of the earlier payouts; the number of all is always said.
_SHOWN = 3


def shown_to_approver(desk: Desk, request: Request) -> Shown:
    """
    Show what a request would do: its own fields beside the ledger's and Stripe's, and what is unusual about it.

    Reads only. Of a payout, Stripe's column says so where no key is on this machine; the send looks again in any case.

    Raises:
        PolicyRefusedError: The ledger does not know a payout of it.

        StripeRefusedError, SettingsError: It is to take money back, and Stripe cannot be asked.
    """
    if request.kind is Kind.REVERSAL:
        return reversal_shown(desk, request)
    tables, compared = [], []
    for line in request.lines:
        facts = _facts(desk, request, line)
        assert facts.due is not None, "Bug: a payout was found, and is not there"
        lead = f"{request.incident_id}: you are asked to approve {line.amount.grouped} for {line.studio_name}."
        tables += [compared_table(lead, facts, desk.settings.policy), _more(desk, request, line, facts, facts.due)]
        compared.append(compared_facts(line, facts.due, facts.balance))
    return Shown(tuple(tables), tuple(compared), rules_digest(desk.settings.policy), desk.registry.digest)


def _facts(desk: Desk, request: Request, line: Line) -> Facts:
    """Gather what can be compared from an approver's machine; Stripe is asked with whatever key there is."""
    due = desk.ledger.find_payout_due(line.ledger_payout_id)
    if due is None:
        raise PolicyRefusedError(
            f"The ledger has no payout {line.ledger_payout_id}, which {request.incident_id} asks for.",
            "Check the ticket.",
        )
    selected = {"incident_id": request.incident_id, "ledger_payout_id": line.ledger_payout_id}
    fixed = {"operator": "later", "dry_run": True, "confirm": ""}
    return Facts(
        parameters=validate(selected | filed_values(request, line) | fixed),
        mode=desk.settings.mode,
        at=desk.now(),
        request=request,
        request_withdrawn=False,
        approval_error=None,
        approved_by="",
        due=due,
        balance=desk.ledger.find_balance(due.studio_id, due.currency),
        record=None,
        earlier=(),
        dead_claims=tuple(desk.store.dead_claims(line.ledger_payout_id)),
        stripe=_stripe(desk, request, line, due),
    )


def _stripe(desk: Desk, request: Request, line: Line, due: PayoutDue) -> StripeFacts:
    """Ask what else went to this account since the payout was due, among which may be this payout, and what is there to pay from."""
    begin, group = since(due, request.filed_at), transfer_group(line.ledger_payout_id)
    try:
        account, listed, grouped, funds = desk.read(
            lambda key: (
                key.account_id(), key.transfers_to(due.destination_account, begin), key.transfers_in_group(group),
                key.funds(line.amount.currency),
            )
        )  # fmt: skip
    except DatabaseError:
        raise
    except (StripeRefusedError, SettingsError, EvidenceError) as error:
        return StripeFacts(error=error)
    if account not in (None, request.platform_account):
        other = f"The key is of {account}, not of {request.platform_account}."
        return StripeFacts(error=SettingsError(other, "Look with a key of that account."))
    return StripeFacts(
        account_id=account,
        available=funds[0],
        drawable=funds[1],
        foreign_transfers=tuple(one["id"] for one in grouped if not one["reversed"]),
        unexplained=unexplained(desk, listed, line.ledger_payout_id, line.line_id),
    )


def _more(desk: Desk, request: Request, line: Line, facts: Facts, due: PayoutDue) -> Table:
    """Say what is not compared: effects, and how unusual they are."""
    balance = facts.balance
    earlier = desk.store.payouts_of(studio_id=line.studio_id, mode=request.mode.value)
    told = {
        "balance before → after": _effect(balance.balance, line.amount) if balance else "no balance in the ledger",
        "destination last changed": _since(due.destination_changed_at, desk.now()),
        "why it failed": due.failure_reason or "the ledger does not say",
        "how unusual": _unusual(desk, due, line.amount),
        "earlier manual payouts to this studio": _listed(earlier),
        "reason and notes": f"{request.reason.value}: {request.notes}",
        "requested by": f"{desk.registry.name_of(request.requested_by)}, {'signed' if request.signature else 'not signed'}",
        "rehearsal": _rehearsal(desk),
        "mode and account": f"{request.mode}, {request.platform_account}",
        "request digest": request.digest,
    }
    return facts_table(f"{line.studio_name}: what this would do, and how usual it is.", told)


def note_warning(desk: Desk, request: Request, person: Person) -> None:
    """
    Note in the journal that *person* is shown the warning about the rehearsal, where there is one.

    Before they approve, and whether they do or not: an override says which of the two approvers had been warned.
    """
    standing = rehearsal_at(desk)
    if standing is None or standing.good:
        return
    for line in request.lines:
        data = {"request_id": request.request_id, "reason": standing.found}
        stream = stream_of(request.incident_id, line.ledger_payout_id)
        desk.store.record_event(stream, SHOWN, person.person_id, data)


def _rehearsal(desk: Desk) -> str:
    standing = rehearsal_at(desk)
    if standing is None:
        return f"not asked: no real money moves in {desk.settings.mode} mode"
    if standing.good:
        return f"of these notebooks, {standing.found}"
    return f"WARNING: {standing.found}. If it is sent anyway, that is recorded, with your name among those who were warned."


def _effect(before: Money, amount: Money) -> str:
    return f"{before.grouped} → {(before - amount).grouped}"


def _since(changed_at: datetime | None, now: datetime) -> str:
    if changed_at is None:
        return "never"
    days = (now - changed_at).days
    if changed_at > now + LEDGER_SKEW_MAX:
        return f"{changed_at:%Y-%m-%d}, WARNING: in the future"
    return f"{changed_at:%Y-%m-%d}, {'today' if days < 1 else f'{days} days ago'}"


def _listed(earlier: list[PayoutRecord]) -> str:
    shown = [f"{one.amount.grouped} on {one.created_at:%Y-%m-%d}, {one.state}" for one in earlier[:_SHOWN]]
    return f"{len(earlier)}{': ' if shown else ''}{'; '.join(shown)}{'; …' if len(earlier) > _SHOWN else ''}"


def _unusual(desk: Desk, due: PayoutDue, amount: Money) -> str:
    past = [p.amount_minor for p in desk.ledger.past_payouts(due.studio_id) if p.amount.currency == amount.currency]
    if not past:
        return "no earlier payout in this currency to compare with"
    middle = Money(int(median(past)), amount.currency)
    if not middle.amount_minor:
        return f"the last {len(past)} payouts were mostly zero"
    return f"{amount.decimal / middle.decimal:.1f} times the median of the last {len(past)} payouts ({middle.grouped})"
