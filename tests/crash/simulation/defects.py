"""
Planted defects: what the simulation is worth is what it finds.

Each is a mistake that somebody has made in a real payment system, put into the core by replacing one name or one piece
of one function, or into the database by taking one guard away. A piece that is no longer there is an error, so that a
defect cannot quietly stop being one.
"""

from __future__ import annotations

import inspect
import itertools
import textwrap
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from types import ModuleType
from typing import Any
from unittest import mock

from manual_payout.approval import books, dry_runs, policy
from manual_payout.approval.approvals import standing
from manual_payout.approval.reversal import checks
from manual_payout.domain import intent, models
from manual_payout.domain.errors import ClaimError, RefusedError, UnknownOutcomeError
from manual_payout.gateway import Answer, Refused, Unknown, client
from manual_payout.transfer import delivery, movement, reconciling, sending

from .colleague import has_colleague
from .memory_ledger import MemoryLedger
from .memory_store import Guards
from .regret import regretted
from .scenario import Options, forget_stages, play
from .stripe_books import BooksGateway

Defect = Callable[[ExitStack], Options]


@contextmanager
def planted(name: str) -> Iterator[Options]:
    """Plant the defect of that name, or none where it is empty, for as long as the context lasts."""
    if not name:
        yield Options()
        return
    with ExitStack() as stack:
        stack.callback(forget_stages)
        options = DEFECTS[name](stack)
        forget_stages()
        yield options


def _replaced(stack: ExitStack, name: str, value: Any, *modules: Any) -> None:
    for module in modules:
        stack.enter_context(mock.patch.object(module, name, value))


def _rewritten(stack: ExitStack, module: ModuleType, name: str, *pieces: tuple[str, str]) -> None:
    """Replace pieces of one function's source; every module that holds the function gets the new one."""
    function = getattr(module, name)
    source = textwrap.dedent(inspect.getsource(function))
    for old, new in pieces:
        if old not in source:
            raise LookupError(f"{module.__name__}.{name} no longer holds {old!r}: plant the defect elsewhere")
        source = source.replace(old, new)
    space: dict[str, Any] = {}
    exec(compile(source, f"<defect in {name}>", "exec", flags=annotations.compiler_flag), module.__dict__, space)
    holders = [one for one in (delivery, reconciling, sending) if getattr(one, name, None) is function]
    _replaced(stack, name, space[name], *holders)


# ---------------------------------------------------------------------------------------------- the key


class _FreshKeys(BooksGateway):
    numbers = itertools.count()

    def create_transfer(self, payload: dict[str, Any], *, idempotency_key: str) -> Answer:
        return super().create_transfer(payload, idempotency_key=f"{idempotency_key}-{next(self.numbers)}")


def random_key(_stack: ExitStack) -> Options:
    """A key of its own for every POST, made when it is sent and kept nowhere."""
    return Options(gateway=_FreshKeys)


def window_longer_than_stripes(stack: ExitStack) -> Options:
    """Our window for a key is longer than Stripe's."""
    _replaced(stack, "KEY_WINDOW", timedelta(hours=48), delivery, reconciling)
    return Options()


def resend_after_the_window(stack: ExitStack) -> Options:
    """Reconcile takes an empty list for leave to send again, however old the key is."""
    _replaced(stack, "window_closed", lambda _desk, _record: False, delivery, reconciling)
    _replaced(stack, "KEY_WINDOW", timedelta(days=365), delivery)
    return Options()


def new_key_after_unknown(stack: ExitStack) -> Options:
    """An unknown outcome is followed by a new attempt with a new key."""
    _rewritten(stack, delivery, "_give_up", ("State.NEEDS_HUMAN if late else State.UNKNOWN", "State.REFUSED"))
    return Options()


# ---------------------------------------------------------------------------------------------- the answer


class _Retrying(BooksGateway):
    def create_transfer(self, payload: dict[str, Any], *, idempotency_key: str) -> Answer:
        first = super().create_transfer(payload, idempotency_key=idempotency_key)
        if getattr(first, "code", "") != "APIConnectionError":
            return first
        return super().create_transfer(payload, idempotency_key=idempotency_key)


def hidden_retry(_stack: ExitStack) -> Options:
    """The SDK retries by itself, and its exception tells of the last attempt alone."""
    return Options(gateway=_Retrying)


def unknown_is_refused(stack: ExitStack) -> Options:
    """A lost answer counts as a failure."""
    judge = client.judge_answer

    def hasty(error: BaseException) -> Refused | Unknown:
        answer = judge(error)
        return Refused(answer.code, answer.message, answer.request_id, same_key=False)

    _replaced(stack, "judge_answer", hasty, client)
    return Options()


def doubt_forgotten(stack: ExitStack) -> Options:
    """Any refusal is final, also one that follows a lost answer."""
    _rewritten(
        stack, delivery, "_send_until_known", ("earlier or isinstance(reply, Unknown)", "isinstance(reply, Unknown)")
    )
    return Options()


def doubt_not_inherited(stack: ExitStack) -> Options:
    """A run that takes over does not ask whether the one before it had sent."""
    _rewritten(stack, delivery, "deliver_attempt", ("in_doubt=record.sent", "in_doubt=False"))
    return Options()


# ---------------------------------------------------------------------------------------------- the record


def outcome_before_the_call(stack: ExitStack) -> Options:
    """The row says paid before Stripe was asked."""
    early = (
        "    desk.store.record_outcome(sending.record, State.PAID, 'sent', actor=sending.record.operator_id,"
        " made={'id': 'tr_expected'}, made_text='{}')\n"
    )
    call = "        reply = way_of("
    _rewritten(stack, delivery, "_send_until_known", (call, f"    {early}{call}"))
    return Options()


def mark_after_the_call(_stack: ExitStack) -> Options:
    """That a request may have left is not on record while it is under way."""
    return Options(guards=Guards(keeps_sent=False))


def released_before_recorded(stack: ExitStack) -> Options:
    """The claim is given back at every end that is not a success, known or unknown."""

    def give_up(desk: Any, sending_: Any, answer: Any) -> Any:
        desk.ledger.release(sending_.record.ledger_payout_id, sending_.record.payout_id)
        return real(desk, sending_, answer)

    real = delivery._give_up
    _replaced(stack, "_give_up", give_up, delivery)
    return Options()


# ---------------------------------------------------------------------------------------------- the gates


def claim_skipped(stack: ExitStack) -> Options:
    """The ledger payout is not claimed; that it was failed a moment ago must do."""
    _replaced(stack, "claim", lambda _desk, _line: None, movement)
    return Options()


class _SelectThenUpdate(MemoryLedger):
    def claim(self, ledger_payout_id: str, claim_id: str, *, at: Any, releasable: Any = ()) -> Any:
        if not self.may_claim(self.due, claim_id, releasable):
            raise ClaimError(f"Ledger payout {ledger_payout_id} is {self.due.status}.", "")
        self.hooks.step("claim:before")
        self.take(claim_id, at)
        self.hooks.step("claim:after")
        return self.due


def claim_by_select_then_update(_stack: ExitStack) -> Options:
    """The claim is looked at and then written, in two statements."""
    return Options(ledger=_SelectThenUpdate)


def no_unique_row(stack: ExitStack) -> Options:
    """The database allows two live rows for one ledger payout, and nobody looks for the other."""
    from manual_payout.approval import policy

    rules = tuple(rule for rule in policy.PAYOUT_RULES if rule is not policy.no_earlier_payout)
    _replaced(stack, "PAYOUT_RULES", rules, policy)
    return Options(guards=Guards(unique_live=False))


def no_fence(_stack: ExitStack) -> Options:
    """Whoever once had the right to send still has it after a pause."""
    return Options(guards=Guards(fence=False))


def lease_ignored(stack: ExitStack) -> Options:
    """A sending is taken over while another run is at it: neither the wait nor the store asks for its lease."""
    _replaced(stack, "_held_for_s", lambda _desk, _record: 0.0, delivery)
    return Options(guards=Guards(lease=False))


def lookup_skipped(stack: ExitStack) -> Options:
    """Stripe is not asked what it has before and after a send."""
    _replaced(stack, "look_up", lambda _desk, _record: None, delivery, reconciling)
    return Options()


def approvals_not_rechecked(stack: ExitStack) -> Options:
    """What was approved once is sent again under approvals that have expired."""
    check = reconciling.check_standing

    def lenient(desk: Any, request: Any, operator: Any) -> Any:
        row = next(row for row in desk.store.rows.values() if row.request_id == request.request_id)
        with mock.patch.object(type(desk), "now", lambda self: self.store.attempts[row.idempotency_key].created_at):
            return check(desk, request, operator)

    _replaced(stack, "check_standing", lenient, reconciling)
    return Options()


def signatures_not_checked(stack: ExitStack) -> Options:
    """An approval, or a dry run, is believed because row, digest and journal agree, whoever wrote them."""
    _replaced(stack, "check_signature", lambda *_: None, standing, dry_runs)
    return Options()


def digest_misses_a_field(stack: ExitStack) -> Options:
    """The digest that approvals bind to does not cover the destination."""
    whole = models.Line.statement

    def partial(line: models.Line) -> dict[str, Any]:
        return {name: value for name, value in whole(line).items() if name != "destination_account"}

    _replaced(stack, "statement", partial, models.Line)
    return Options()


def decided_inside_the_window(stack: ExitStack) -> Options:
    """A person may decide that nothing moved while the key can still be in flight."""
    _rewritten(
        stack, reconciling, "_require_decidable",
        ("record.state is not State.NEEDS_HUMAN", "record.state not in OPEN_STATES"),
        ("not window_closed(desk, record)", "False"),
    )  # fmt: skip
    return Options()


# ---------------------------------------------------------------------------------------------- taking money back


def new_key_after_an_unknown_reversal(stack: ExitStack) -> Options:
    """An unknown reversal counts as refused, and is followed by a new attempt with a new key."""
    late = "State.NEEDS_HUMAN if late else State.UNKNOWN"
    _rewritten(stack, delivery, "_give_up", (late, f"State.REFUSED if sending.record.noun == 'reversal' else {late}"))
    return Options()


def no_fence_before_a_reversal(_stack: ExitStack) -> Options:
    """Whoever once had the right to take money back still has it after a pause."""
    return Options(guards=Guards(fences_reversals=False))


def reversals_not_looked_up(stack: ExitStack) -> Options:
    """Stripe is not asked for the reversals that it has."""
    real = movement.listed

    def blind(desk: Any, record: Any) -> Any:
        return ([], []) if isinstance(record, models.ReversalRecord) else real(desk, record)

    _replaced(stack, "listed", blind, delivery, reconciling)
    return Options()


def digest_misses_the_amount_to_reverse(stack: ExitStack) -> Options:
    """The digest that approvals of a reversal bind to does not cover how much is taken back."""
    whole = models.Line.statement

    def partial(line: models.Line) -> dict[str, Any]:
        return whole(line) | ({"amount_minor": 0} if line.stripe_transfer_id else {})

    _replaced(stack, "statement", partial, models.Line)
    return Options()


def earlier_reversal_overlooked(stack: ExitStack) -> Options:
    """That somebody else has taken some back since the approvals is not looked at."""
    rules = tuple(rule for rule in checks.REVERSAL_RULES if rule is not checks.nothing_came_back_since)
    _replaced(stack, "REVERSAL_RULES", rules, checks)
    _replaced(stack, "changed_since", lambda _desk, _record: None, delivery)
    return Options()


def two_reversals_at_once(stack: ExitStack) -> Options:
    """The database allows two open reversals of one transfer, and nobody looks for the other."""
    rules = tuple(rule for rule in checks.REVERSAL_RULES if rule is not checks.no_other_reversal)
    _replaced(stack, "REVERSAL_RULES", rules, checks)
    return Options(guards=Guards(unique_open_reversal=False))


def payout_still_says_paid(stack: ExitStack) -> Options:
    """The row of the transfer is not told that its money has come back."""
    _replaced(stack, "reversed_minor", lambda *_: None, type(movement.BACK))
    return Options()


def reversals_doubt_not_inherited(stack: ExitStack) -> Options:
    """A run that takes a reversal over does not ask whether the one before it had sent."""
    doubt = "in_doubt=record.sent"
    _rewritten(stack, delivery, "deliver_attempt", (doubt, f"{doubt} and record.noun == 'transfer'"))
    return Options()


# ---------------------------------------------------------------------------------------------- the last word


def refused_after_the_money(stack: ExitStack) -> Options:
    """A refusal says that nothing moved, whatever the books hold."""
    _replaced(stack, "as_it_is", lambda error, _account, **_: error, books)
    return Options()


def refused_while_it_is_open(stack: ExitStack) -> Options:
    """Only what is on record as paid keeps a refusal from saying that nothing moved."""
    real = books.as_it_is

    def as_it_is(error: Any, account: Any, **options: Any) -> Any:
        return error if account.standing is books.Standing.OPEN else real(error, account, **options)

    _replaced(stack, "as_it_is", as_it_is, books)
    return Options()


def unknown_although_it_is_known(stack: ExitStack) -> Options:
    """Every refusal is told as an unknown outcome, to be sure."""

    def as_it_is(error: Any, _account: Any, **_: Any) -> Any:
        return UnknownOutcomeError(error.message, error.remedy) if isinstance(error, RefusedError) else error

    _replaced(stack, "as_it_is", as_it_is, books)
    return Options()


def done_although_it_was_refused(stack: ExitStack) -> Options:
    """A refusal by Stripe ends the run as if it were through."""
    refused = "        raise _refused(sending.record, answer, sending.told)"
    _rewritten(stack, delivery, "_send_until_known", (refused, "        return sending.record"))
    return Options()


def reversal_forgets_itself(stack: ExitStack) -> Options:
    """A reversal that was made is refused as if nothing had been taken back."""
    real = books.as_it_is

    def as_it_is(error: Any, account: Any, *, reversal: str = "") -> Any:
        return error if reversal and isinstance(error, RefusedError) else real(error, account, reversal=reversal)

    _replaced(stack, "as_it_is", as_it_is, books)
    return Options()


# ---------------------------------------------------------------------------------------------- the colleague


def _without_the_rule(stack: ExitStack) -> None:
    rules = tuple(rule for rule in policy.PAYOUT_RULES if rule is not policy.no_unexplained_transfer)
    _replaced(stack, "PAYOUT_RULES", rules, policy)


def colleague_overlooked(stack: ExitStack) -> Options:
    """A first send does not ask what else went to the account."""
    real = movement.changed_since
    _without_the_rule(stack)
    _replaced(stack, "changed_since", lambda desk, record: real(desk, record) if record.sent else None, delivery)
    return Options()


def colleague_overlooked_at_the_fence(stack: ExitStack) -> Options:
    """What else went to the account is asked in the gate, and not again before the request leaves."""
    real = movement.changed_since

    def blind(desk: Any, record: Any) -> Any:
        return real(desk, record) if isinstance(record, models.ReversalRecord) else None

    _replaced(stack, "changed_since", blind, delivery)
    return Options()


def colleague_overlooked_at_the_resend(stack: ExitStack) -> Options:
    """The same key is sent again without asking what else went to the account meanwhile."""
    real = movement.changed_since
    answered = reconciling._ANSWERED_HERE | {"no_unexplained_transfer"}
    _replaced(stack, "_ANSWERED_HERE", answered, reconciling)
    _replaced(stack, "changed_since", lambda desk, record: None if record.sent else real(desk, record), delivery)
    return Options()


def colleague_overlooked_at_the_decision(stack: ExitStack) -> Options:
    """A person decides that nothing moved, and nobody looks at what else went to the account."""
    _replaced(stack, "_require_not_paid_by_hand", lambda *_: None, reconciling)
    return Options()


def acknowledged_too_broadly(stack: ExitStack) -> Options:
    """A request that acknowledges one transfer is taken to acknowledge every other."""
    real = intent.unacknowledged

    def broad(others: Any, line: Any) -> Any:
        return [] if line is not None and line.acknowledged else real(others, line)

    _replaced(stack, "unacknowledged", broad, intent, policy)
    return Options()


# They show only where a colleague pays in the Dashboard.
OF_COLLEAGUES: dict[str, Defect] = {
    defect.__name__: defect
    for defect in (
        colleague_overlooked, colleague_overlooked_at_the_fence, colleague_overlooked_at_the_resend,
        colleague_overlooked_at_the_decision, acknowledged_too_broadly,
    )
}  # fmt: skip

# They show in the second act only.
OF_REVERSALS: dict[str, Defect] = {
    defect.__name__: defect
    for defect in (
        new_key_after_an_unknown_reversal, no_fence_before_a_reversal, reversals_not_looked_up,
        digest_misses_the_amount_to_reverse, earlier_reversal_overlooked, two_reversals_at_once,
        payout_still_says_paid, reversals_doubt_not_inherited, reversal_forgets_itself,
    )
}  # fmt: skip

DEFECTS: dict[str, Defect] = OF_REVERSALS | OF_COLLEAGUES | {
    defect.__name__: defect
    for defect in (
        random_key, window_longer_than_stripes, resend_after_the_window, new_key_after_unknown, hidden_retry,
        unknown_is_refused, doubt_forgotten, doubt_not_inherited, outcome_before_the_call, mark_after_the_call,
        released_before_recorded, claim_skipped, claim_by_select_then_update, no_unique_row, no_fence, lease_ignored,
        lookup_skipped, approvals_not_rechecked, signatures_not_checked, digest_misses_a_field, decided_inside_the_window,
        refused_after_the_money, refused_while_it_is_open, unknown_although_it_is_known, done_although_it_was_refused,
    )
}  # fmt: skip


def first_caught(name: str, seeds: range) -> tuple[int, str] | None:
    """Return the first seed whose night holds without the defect and does not hold with it, and what is violated."""
    # A night without a reversal says nothing about them, nor one without a colleague about those.
    tells = regretted if name in OF_REVERSALS else has_colleague if name in OF_COLLEAGUES else None
    told = filter(tells, seeds) if tells is not None else seeds
    with planted(name) as options:
        found = next((result for seed in told if (result := play(seed, options)).violation), None)
    if found is None or not play(found.seed).violation:
        return (found.seed, found.violation) if found else None
    return first_caught(name, range(found.seed + 1, seeds.stop))
