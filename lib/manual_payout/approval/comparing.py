"""
A request's own fields beside the ledger's and Stripe's: when it is filed, and for whoever is asked to approve it.

What is compared, and how, is the rules' of the verification (`policy`), so that nobody is shown less than the gate asks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from manual_payout.approval import policy
from manual_payout.approval.policy import Facts, verdict
from manual_payout.desk.settings import Policy
from manual_payout.domain.display import Table, told_apart
from manual_payout.domain.errors import PolicyRefusedError
from manual_payout.domain.models import Check, CheckStatus

COMPARED_COLUMNS = ("result", "field", "request", "ledger", "Stripe")

_Rule = Callable[[Facts, Policy], Check]


@dataclass(frozen=True, slots=True)
class ComparedField:
    """
    One field of a request, and the rules that compare it.

    Attributes:
        ledger: Judges it by the ledger; None where the ledger does not know it.

        stripe: Judges it by what Stripe shows; None where Stripe does not know it.

        typed: Whether the request itself says it, so that the rule expects the request's own value.
    """

    name: str
    ledger: _Rule | None
    stripe: _Rule | None = None
    typed: bool = True


def _studio_id(facts: Facts, _policy: Policy) -> Check:
    found = facts.due.studio_id if facts.due else "no ledger payout"
    expected = facts.parameters.studio_id
    return verdict("studio_id", "Is it this studio's?", expected == found, expected, found, _ANOTHER_STUDIO)


def _studio_name(facts: Facts, _policy: Policy) -> Check:
    expected, found = facts.parameters.studio_name, facts.due.studio_name if facts.due else "no ledger payout"
    fine, told = expected == found, told_apart(expected, found)
    return verdict("studio_name", "Is it this studio's?", fine, *told, _ANOTHER_STUDIO)


_ANOTHER_STUDIO = "Compare with the ledger and the ticket; never pay another studio's payout."

FIELDS: tuple[ComparedField, ...] = (
    ComparedField("studio_id", _studio_id),
    ComparedField("studio_name", _studio_name),
    ComparedField("amount", policy.amount_as_on_file, policy.stripe_balance),
    ComparedField("destination_account", policy.destination_as_on_file),
    ComparedField("other transfers to this account", None, policy.no_unexplained_transfer, typed=False),
    ComparedField("reserve_after", policy.reserve_arithmetic),
    ComparedField("minimum reserve", policy.reserve_minimum, typed=False),
    ComparedField("ledger payout", policy.ledger_payout_unpaid, policy.no_transfer_in_group, typed=False),
    ComparedField("due", policy.ledger_payout_due, typed=False),
    ComparedField("balance", policy.balance_age, typed=False),
    ComparedField("ceiling", policy.ceiling, typed=False),
)  # fmt: skip


def require_as_in_ledger(facts: Facts, rules: Policy) -> None:
    """
    Refuse a form that verification would refuse by the ledger's facts alone, before two people are asked to approve it.

    Raises:
        PolicyRefusedError: Naming every field that differs, what was typed, what the ledger has, and what to do.
    """
    owed, balance = facts.due.amount if facts.due else None, facts.balance.balance if facts.balance else None
    # Of a balance that does not cover the payout no reserve is right, whatever was typed.
    covered = owed is not None and balance is not None and balance >= owed
    asked = [field for field in FIELDS if covered or field.ledger is not policy.reserve_arithmetic]
    judged = [(field, field.ledger(facts, rules)) for field in asked if field.ledger is not None]
    wrong = [f"\n  {_told(field, check)}" for field, check in judged if check.stops]
    if wrong:
        many = f"in {len(wrong)} points" if len(wrong) > 1 else "in 1 point"
        raise PolicyRefusedError(
            f"Nothing was filed: the ledger says otherwise {many}.{''.join(wrong)}",
            "Correct what was typed, or leave it out: then the ledger's own value is taken. What is wrong in the ledger "
            "itself, its owner corrects.",
        )


def compared_table(lead: str, facts: Facts, rules: Policy) -> Table:
    """Show the request's own fields beside the ledger's and Stripe's, every difference marked, and counted in the caption."""
    rows, differing = [], []
    for field in FIELDS:
        ledger, stripe = (rule(facts, rules) if rule else None for rule in (field.ledger, field.stripe))
        found = [check for check in (ledger, stripe) if check is not None]
        seen = stripe.found if stripe else ""
        if stripe and facts.stripe.error is not None:
            seen = f"NOT CHECKED from here; the send checks it. {seen}"
        statuses = {check.status for check in found}
        result = "differs" if CheckStatus.FAIL in statuses else "warn" if CheckStatus.WARN in statuses else "same"
        if result == "differs":
            differing.append(field.name)
        asked = found[0].expected if field.typed else f"(expected: {found[0].expected})"
        rows.append((result, field.name, asked, ledger.found if ledger else "", seen))
    return Table(f"{lead} {counted(differing)}", COMPARED_COLUMNS, tuple(rows))


def counted(differing: Sequence[str]) -> str:
    """Say how many fields differ, and which."""
    many = "1 field differs" if len(differing) == 1 else f"{len(differing)} fields differ"
    return f"{many}: {', '.join(differing)}." if differing else "No field differs."


def _told(field: ComparedField, check: Check) -> str:
    said = (
        f"typed {check.expected}, the ledger has {check.found}"
        if field.typed
        else f"{check.found}, expected {check.expected}"
    )
    return f"{field.name}: {said}. {check.remedy}"
