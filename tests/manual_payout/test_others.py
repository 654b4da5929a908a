"""A transfer that somebody has made in the Dashboard is seen before money moves; who knows better says so, and two approve."""

from __future__ import annotations

import shlex
from datetime import timedelta

import pytest
import sqlalchemy as sa

from manual_payout import transfer
from manual_payout.approval.approving import shown_to_approver
from manual_payout.approval.others import MARGIN, explain, since
from manual_payout.approval.requesting import file_request
from manual_payout.approval.verification import verify
from manual_payout.domain.errors import (
    IntentConflictError,
    ManualPayoutError,
    ParameterError,
    PolicyRefusedError,
    UnknownOutcomeError,
)
from manual_payout.domain.intent import transfer_group
from manual_payout.domain.models import CheckStatus, State
from payout_rehearsal.demo import incident

AMOUNT = 125_075
MARK = "payout_run"


def in_dashboard(scene, amount=AMOUNT, **changes):
    """A colleague pays the demo's account, with nothing of ours on the transfer; its id is returned."""
    order = {"amount": amount, "currency": "usd", "destination": incident.DESTINATION_ACCOUNT} | changes
    return scene.desk.gateway.create_transfer(order, idempotency_key=f"dashboard-{len(scene.transfers)}").made["id"]


def refusal(call, *args, **kwargs):
    with pytest.raises(ManualPayoutError) as caught:
        call(*args, **kwargs)
    return caught.value


def answer(scene, desk=None):
    """What the verification says about other transfers."""
    found = verify(desk or scene.desk, scene.typed(), scene.operator.person_id)
    return {check.name: check for check in found.checks}["no_unexplained_transfer"]


def refile(scene, *named, replace=True):
    """File, approve and read again, acknowledging the transfers that are named."""
    person = scene.desk.registry.find(incident.REQUESTER)
    scene.request = file_request(scene.desk, scene.typed(), person, replace=replace, acknowledge=named)[0]
    for approver in ("priya", "amara"):
        scene.approve(approver)
    scene.dry_run()


def with_mark(scene):
    """A desk whose policy knows the automation's transfers by their metadata."""
    monitoring = scene.settings.policy.monitoring.model_copy(update={"automation_metadata_key": MARK})
    desk = scene.new_desk()
    policy = desk.settings.policy.model_copy(update={"monitoring": monitoring})
    desk.settings = desk.settings.model_copy(update={"policy": policy})
    return desk


# ---------------------------------------------------------------------------------------------- what is seen


def test_equal_transfer_of_a_colleague_stops_the_send(any_scene):
    """Same amount, currency and account, nothing of ours on it: NO-GO, and the books hold one."""
    made = in_dashboard(any_scene)
    error = refusal(any_scene.send)

    assert (PolicyRefusedError, 1, None) == (type(error), len(any_scene.transfers), any_scene.record)
    assert made in error.message
    assert f"--acknowledge {made} --replace" in error.remedy


def test_unequal_transfer_warns_and_lets_the_payout_go(scene):
    """The warning names id, amount and time of what nobody explains."""
    made = in_dashboard(scene, 100_000)
    check = answer(scene)

    assert CheckStatus.WARN is check.status
    assert f"{made} (1,000.00 USD on 2026-03-02 03:00:00 UTC)" in check.found
    assert State.PAID is scene.send().state


@pytest.mark.parametrize(
    ("amount", "back", "expected"),
    [
        (AMOUNT, AMOUNT, CheckStatus.OK),
        (AMOUNT, 1, CheckStatus.WARN),
        (AMOUNT + 500, 500, CheckStatus.FAIL),
    ],
)
def test_what_has_come_back_is_taken_off(scene, amount, back, expected):
    """A transfer counts as what has stayed with the studio; one that came back whole is none."""
    in_dashboard(scene, amount)
    # In Stripe's own books: what a studio has to give back is another matter.
    scene.transfers[0].amount_reversed = back

    assert expected is answer(scene).status


def test_the_oldest_of_a_long_list_is_seen(scene):
    """Stripe lists a hundred at a time; what stands on the second page counts as well."""
    made = in_dashboard(scene)
    for number in range(101):
        in_dashboard(scene, 100 + number)

    assert made in refusal(scene.send).message


def test_list_begins_a_day_before_the_payout_was_due_or_asked_for(scene):
    """Time zones and colleagues who pay ahead of an outage are within the margin; the payout before is not."""
    due, early = scene.due, scene.due.due_at - timedelta(days=3)

    assert (due.due_at - MARGIN).timestamp() == since(due, due.due_at + timedelta(days=1))
    assert (early - MARGIN).timestamp() == since(due, early)
    in_dashboard(scene)
    assert [] == scene.desk.gateway.transfers_to(incident.DESTINATION_ACCOUNT, int(scene.desk.now().timestamp()) + 1)


def test_a_key_that_may_not_list_sends_nothing(scene):
    """What cannot be seen is never taken for nothing; the remedy names the permission."""
    scene.stripe.fault("status_403", method="GET", path="/v1/transfers", times=9)
    check = answer(scene)

    assert (CheckStatus.UNKNOWN, True) == (check.status, "permission" in check.remedy)
    assert PolicyRefusedError is type(refusal(scene.send))
    assert [] == scene.posts


# ---------------------------------------------------------------------------------------------- what explains


def test_our_own_rows_explain(scene):
    """A transfer that a row of ours names, whichever ledger payout it was for, is no stranger to another incident."""
    paid = scene.send()
    others = scene.desk.gateway.transfers_to(incident.DESTINATION_ACCOUNT, 0)

    assert {paid.stripe_transfer_id: "row"} == {name: why.by for name, why in explain(scene.desk, others).items()}


def test_automations_mark_explains_unless_it_names_this_payout(scene):
    """The mark's value may be the ledger payout: then the automation itself says that this one was paid."""
    desk = with_mark(scene)
    in_dashboard(scene, metadata={MARK: "2026-03-02"})
    assert CheckStatus.FAIL is answer(scene).status
    assert CheckStatus.OK is answer(scene, desk).status
    in_dashboard(scene, metadata={MARK: incident.LEDGER_PAYOUT_ID})

    assert CheckStatus.FAIL is answer(scene, desk).status


def test_ledgers_column_explains_unless_it_names_this_payout(any_scene):
    """The optional column may be absent; where another payout's row names the transfer it is explained, in ours it is not."""
    scene, made = any_scene, in_dashboard(any_scene)
    assert CheckStatus.FAIL is answer(scene).status
    book = sa.text("UPDATE manual_payout_due SET stripe_transfer_id = :made WHERE ledger_payout_id = :payout")
    with scene.engine.connect().execution_options(write=True) as connection, connection.begin():
        connection.execute(sa.text("ALTER TABLE manual_payout_due ADD COLUMN stripe_transfer_id text"))
        other = connection.execute(
            sa.text(
                "SELECT min(ledger_payout_id) FROM manual_payout_due WHERE studio_id = :studio AND status = 'paid'"
            ),
            {"studio": incident.STUDIO_ID},
        ).scalar_one()
        connection.execute(book, {"made": made, "payout": other})
    assert CheckStatus.OK is answer(scene).status
    with scene.engine.connect().execution_options(write=True) as connection, connection.begin():
        connection.execute(book, {"made": None, "payout": other})
        connection.execute(book, {"made": made, "payout": incident.LEDGER_PAYOUT_ID})

    assert CheckStatus.FAIL is answer(scene).status


def test_copied_metadata_explains_nothing_to_its_own_payout(scene, monkeypatch):
    """A transfer with our line's metadata in no group of ours is a stranger, also while our row is open."""
    judge = transfer.movement.verify

    def judge_then_appear(*args):
        found = judge(*args)
        in_dashboard(scene, metadata={"line_id": scene.request.line_for().line_id})
        return found

    monkeypatch.setattr(transfer.movement, "verify", judge_then_appear)
    refusal(scene.send)

    assert (State.REFUSED, 1) == (scene.record.state, len(scene.transfers))


# ---------------------------------------------------------------------------------------------- asked again


def test_transfer_that_appears_after_the_gate_stops_the_first_send(any_scene, monkeypatch):
    """The last look before the fence asks again; the attempt ends refused, and nothing of ours has left."""
    judge = transfer.movement.verify

    def judge_then_appear(*args):
        found = judge(*args)
        in_dashboard(any_scene)
        return found

    monkeypatch.setattr(transfer.movement, "verify", judge_then_appear)
    error = refusal(any_scene.send)

    assert (PolicyRefusedError, 1) == (type(error), len(any_scene.transfers))
    assert (State.REFUSED, False) == (any_scene.record.state, any_scene.record.sent)
    assert "--replace" in error.remedy


def lose_the_request(scene):
    """Leave an unknown outcome of which nothing has arrived at Stripe."""
    scene.stripe.fault("drop_before", times=3)
    assert UnknownOutcomeError is type(refusal(scene.send))


def test_same_key_is_not_sent_again_beside_a_colleagues_transfer(any_scene):
    """Reconcile finds nothing of ours and an equal stranger: a person has to look, and no request leaves."""
    lose_the_request(any_scene)
    made, before = in_dashboard(any_scene), len(any_scene.posts)
    error = refusal(any_scene.reconcile)

    assert (UnknownOutcomeError, State.NEEDS_HUMAN) == (type(error), any_scene.record.state)
    assert (1, before) == (len(any_scene.transfers), len(any_scene.posts))
    assert made in error.message
    assert f"--acknowledge {made}" in error.remedy


def test_next_try_of_one_run_looks_again(scene, monkeypatch):
    """Between two tries of one run a colleague can pay: the key that is in doubt is not sent again."""
    wait = scene.desk.clock.wait
    scene.stripe.fault("drop_before", times=1)
    monkeypatch.setattr(scene.desk.clock, "wait", lambda seconds: (in_dashboard(scene), wait(seconds)))
    error = refusal(scene.send)

    assert (UnknownOutcomeError, State.NEEDS_HUMAN, 1) == (type(error), scene.record.state, len(scene.transfers))


def test_decision_that_nothing_moved_asks_again(any_scene):
    """It names what stands there, is refused until the person names it too, and then allows no new attempt by itself."""
    lose_the_request(any_scene)
    made = in_dashboard(any_scene)
    refusal(any_scene.reconcile)
    any_scene.pass_time(hours=24)
    error = refusal(any_scene.decide)
    assert (UnknownOutcomeError, State.NEEDS_HUMAN) == (type(error), any_scene.record.state)
    assert made in error.message
    transfer.decide_not_moved(
        any_scene.desk, any_scene.record, any_scene.operator, "It is the bonus.", acknowledged=[made]
    )
    assert State.REFUSED is any_scene.record.state
    assert f"(knowing of {made})" in any_scene.record.outcome_reason
    refile(any_scene, replace=False)
    assert made in refusal(any_scene.send).message
    refile(any_scene, made)

    assert (State.PAID, 2) == (any_scene.send().state, len(any_scene.transfers))


# ---------------------------------------------------------------------------------------------- acknowledged


def test_acknowledged_transfer_lets_the_payout_go_and_a_later_one_does_not(any_scene):
    """Two people approve a request that names it; one that is made afterwards needs a request of its own."""
    first = in_dashboard(any_scene)
    refile(any_scene, first)
    second = in_dashboard(any_scene)
    error = refusal(any_scene.send)
    assert (True, 2) == (second in error.message, len(any_scene.transfers))
    refile(any_scene, first, second)

    assert (State.PAID, 3) == (any_scene.send().state, len(any_scene.transfers))
    stored = any_scene.desk.store.get_request(any_scene.request.request_id)
    assert (tuple(sorted([first, second])), any_scene.request.digest) == (stored.line_for().acknowledged, stored.digest)


def test_acknowledging_covers_no_transfer_of_this_payouts_group(scene):
    """What carries this ledger payout's own group is never talked away."""
    made = in_dashboard(scene, transfer_group=transfer_group(incident.LEDGER_PAYOUT_ID))
    refile(scene, made)

    assert "in this payout's group" in refusal(scene.send).message


def test_request_without_acknowledgement_has_the_digest_it_always_had(scene):
    """Only a request that names a transfer says so: what was approved before stays approved."""
    assert "acknowledged_transfers" not in scene.request.line_for().statement()
    before = scene.request.digest
    refile(scene, "tr_1")
    assert ["tr_1"] == scene.request.line_for().statement()["acknowledged_transfers"]

    assert before != scene.request.digest


def test_acknowledging_something_else_is_another_request(scene):
    """Filing again with or without a transfer is other content: refused by name, or a replacement that is approved anew."""
    error = refusal(refile, scene, "tr_1", replace=False)
    assert (IntentConflictError, ("acknowledge",)) == (type(error), error.fields)
    refile(scene, "tr_2", "tr_1", "tr_2")
    same, new = file_request(
        scene.desk, scene.typed(), scene.desk.registry.find(incident.REQUESTER), replace=False,
        acknowledge=["tr_1", "tr_2"],
    )  # fmt: skip

    assert (scene.request, False) == (same, new)
    assert IntentConflictError is type(refusal(scene.file))


@pytest.mark.parametrize("named", ["", "ch_1", "tr_1 tr_2", "tr_é", "tr_1\n"])
def test_what_is_no_transfer_cannot_be_acknowledged(scene, named):
    """The field is named."""
    error = refusal(refile, scene, named)

    assert (ParameterError, "acknowledge") == (type(error), error.field)


def test_our_own_transfer_cannot_be_acknowledged(scene):
    """A row of ours explains it; to call it a stranger would be a mistake."""
    made = scene.send().stripe_transfer_id
    error = refusal(
        file_request, scene.desk, scene.typed(incident_id="INC-124"), scene.desk.registry.find(incident.REQUESTER),
        replace=False, acknowledge=[made],
    )  # fmt: skip

    assert (ParameterError, "acknowledge") == (type(error), error.field)


# ---------------------------------------------------------------------------------------------- approvers


def seen_by_approver(scene, desk=None):
    """What Stripe's column says."""
    table = shown_to_approver(desk or scene.desk, scene.request).tables[0]
    return next(row for row in table.as_dicts() if row["field"] == "other transfers to this account")["Stripe"]


def test_approvers_see_what_else_went_to_the_account(scene):
    """Equal, unequal and acknowledged ones by id, amount and time; where nobody looked, that is said."""
    assert "none" == seen_by_approver(scene)
    equal, small = in_dashboard(scene), in_dashboard(scene, 500)
    told = seen_by_approver(scene)
    assert f"{equal} (1,250.75 USD on 2026-03-02 03:00:00 UTC)" in told
    assert f"{small} (5.00 USD" in told
    refile(scene, equal)
    assert f"acknowledged: {equal} (1,250.75 USD" in seen_by_approver(scene)
    scene.stripe.fault("drop_before", method="GET", path="/v1", times=9)

    assert seen_by_approver(scene).startswith("NOT CHECKED from here; the send checks it.")


def test_approver_with_another_accounts_key_is_not_told_that_there_is_nothing(scene, monkeypatch):
    """The listing of another account proves nothing about this one."""
    monkeypatch.setattr(type(scene.desk.gateway), "account_id", lambda _self: "acct_other")

    assert "The key is of acct_other" in seen_by_approver(scene)


# ---------------------------------------------------------------------------------------------- the command line


def run_dry(shell):
    parameters = shell.root / incident.INCIDENT_ID / incident.LEDGER_PAYOUT_ID / "incident.yaml"
    return shell("run", "-f", parameters, "--operator", "tomas", "--stage", "verify")


def approve_both(shell):
    last4 = incident.DESTINATION_ACCOUNT[-4:]
    for who in ("priya", "amara"):
        given = shell(
            "approve", incident.INCIDENT_ID, "--as", who, "--amount", incident.AMOUNT, "--destination-last4", last4
        )
        assert 0 == given.code, given.err
    return given


def test_colleagues_transfer_on_the_command_line(shell):
    """The run says NO-GO with the id and the command that leads on; that command, approved by two, leads on."""
    shell.request()
    made = in_dashboard(Books(shell))
    assert f"unexplained: {made}" in approve_both(shell).err
    refused = run_dry(shell)
    assert (3, True) == (refused.code, f"unexplained: {made} (1,250.75 USD" in refused.err)
    named = shlex.split(f"--acknowledge {made} --replace")
    assert shlex.join(named) in refused.err
    filed = shell.root / incident.INCIDENT_ID / incident.LEDGER_PAYOUT_ID / "incident.yaml"
    assert 0 == shell("request", "--as", "maya", "-f", filed, *named).code
    assert f"acknowledged: {made}" in approve_both(shell).err

    assert 0 == run_dry(shell).code


class Books:
    """What `in_dashboard` needs of a scene, at a shell."""

    def __init__(self, shell):
        self.desk, self.transfers = shell.desk, shell.stripe.books.transfers


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["request", "--acknowledge", "po_1"], "acknowledge: found 'po_1', expected a transfer such as tr_1NwVxQ"),
        (["reconcile", "INC-123", "--acknowledge", "tr_1"], "--acknowledge belongs to a decision"),
        (
            ["reconcile", "INC-123", "--decide", "not-moved", "--because", "x", "--acknowledge", "x"],
            "acknowledge: found 'x'",
        ),
    ],
)
def test_mistyped_acknowledgement_is_a_usage_error(quiet_shell, arguments, said):
    """One sentence names the flag, what was found, and what was expected."""
    answer = (
        quiet_shell(*arguments, MANUAL_PAYOUT_OPERATOR="tomas")
        if arguments[0] == "reconcile"
        else quiet_shell.request(acknowledge=arguments[2])
    )

    assert (2, True) == (answer.code, said in answer.err), answer.err


def test_no_refusal_causes_itself(scene):
    """An error that is told as it is keeps its own cause: whoever follows the chain comes to its end."""
    in_dashboard(scene)
    seen, error = [], refusal(scene.send)
    while error is not None:
        assert not any(error is one for one in seen)
        seen.append(error)
        error = error.__cause__
