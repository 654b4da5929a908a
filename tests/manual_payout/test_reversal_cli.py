"""The reversal as people use it: asked for, approved and run by the command line, as a notebook that is its evidence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from manual_payout import transfer
from payout_rehearsal import demo_parameters, file_and_approve
from payout_rehearsal.demo import incident
from proofs import leave_dry_run

ID, FOLDER = incident.INCIDENT_ID, Path(incident.INCIDENT_ID, incident.LEDGER_PAYOUT_ID)
PAST_PAYOUT_S = 5 * 24 * 3600


def pay(shell, *, through_notebooks=False):
    """Move the demo's money by hand, as the operator does, after a dry run that keeps the payout's checks and payload."""
    desk = shell.desk
    request = file_and_approve(desk)
    operator = desk.registry.find(incident.OPERATOR)
    code = (
        shell("run", ID, "--operator", "tomas").out.split()[-1] if through_notebooks else leave_dry_run(desk, request)
    )
    return transfer.send(desk, demo_parameters(dry_run=False, confirm=code), operator)


def file(shell, *more):
    """Ask for 100.00 back."""
    return shell("reversal", "request", ID, "--as", "maya", "--amount", "100.00", "--reason", "wrong_amount", *more)


def approve(shell, who, amount="100.00"):
    """Approve with both values as flags."""
    return shell("reversal", "approve", ID, "--as", who, "--amount", amount, "--destination-last4", "_123")


@pytest.fixture(scope="module", name="taken_back")
def _taken_back(tmp_path_factory, open_shell):
    """A reversal of 100.00, from request to sealed folder."""
    with open_shell(tmp_path_factory.mktemp("reversal")) as shell:
        pay(shell, through_notebooks=True)
        shell.stripe.switch(connected_reserves=True)
        shell.answers = [file(shell), approve(shell, "priya"), approve(shell, "amara")]
        shell.answers.append(dry := shell("reversal", "run", ID, "--operator", "tomas"))
        shell.code = dry.out.split()[-1]
        shell.answers.append(shell("reversal", "run", ID, "--operator", "tomas", "--confirm", shell.code))
        yield shell


def test_reversal_goes_from_request_to_sealed_folder(taken_back):
    """Every command ends well, and the sandbox's own books show the transfer and 100.00 of it back."""

    assert [0] * 5 == [answer.code for answer in taken_back.answers], [a.said for a in taken_back.answers]
    assert [(10_000, taken_back.stripe.books.transfers[0].id)] == [
        (one.amount, one.transfer) for one in taken_back.stripe.books.reversals
    ]
    answer = taken_back("verify", str(taken_back.root / FOLDER))

    assert 0 == answer.code, answer.out


def test_each_answer_says_what_comes_next(taken_back):
    """Request, approval and dry run end with the next command, ready to be copied."""
    filed, _, _, dry, live = taken_back.answers

    assert "manual-payout reversal approve INC-123 --as WHO" in filed.out
    assert "## INC-123: reversal of a manual payout requested" in filed.out
    assert "--operator tomas --confirm CODE" in dry.out
    assert "Reversed: trr_" in live.out


def test_dry_run_of_a_reversal_shows_its_own_payload(taken_back):
    """The payout's checks and payload lie in the same folder, and nobody types a code below another request than they send."""
    dry = taken_back.answers[3].out
    payload = json.loads(dry[dry.index("{") : dry.rindex("}") + 1])

    assert json.loads((taken_back.root / FOLDER / "reversal-payload.json").read_text("utf-8")) == payload
    assert 10_000 == payload["body"]["amount"]
    assert (1, 0) == (dry.count("The exact request to Stripe"), dry.count("Checks:"))


def test_approver_of_a_reversal_sees_the_transfer_and_what_is_left_of_it(taken_back):
    """Nobody approves what they were not shown."""
    shown = taken_back.answers[1].err

    assert "1,250.75 USD → 1,150.75 USD" in shown
    assert "wrong_amount" in shown
    assert taken_back.stripe.books.transfers[0].id in shown


def test_status_tells_of_the_reversal_beside_the_payout(taken_back):
    """The payout is partly reversed, and the reversal is a line of its own with its amount taken away."""
    rows = json.loads(taken_back("status", ID, "--json").out)

    assert [("1,250.75 USD", "partly_reversed"), ("−100.00 USD", "reversed")] == [
        (row["amount"], row["state"]) for row in rows
    ]


def test_folder_holds_the_evidence_of_the_reversal(taken_back):
    """Request, approvals, payload and Stripe's response are beside the executed notebooks and their pages."""
    names = {path.name for path in (taken_back.root / FOLDER).iterdir()}
    wanted = {"reversal-request.json", "reversal-approvals.json", "reversal-payload.json", "reversal-response.json",
              "reversal-01.ipynb", "reversal-01.html", "reversal-02.ipynb", "manifest.json"}  # fmt: skip

    assert wanted <= names


def test_running_it_again_takes_nothing_back_twice(taken_back):
    """The same command again says that it was done, and Stripe is sent nothing."""
    again = taken_back("reversal", "run", ID, "--operator", "tomas", "--confirm", taken_back.code)

    assert 0 == again.code
    assert "Already reversed" in again.out
    assert 1 == len(taken_back.stripe.books.reversals)


def test_reconcile_of_a_known_reversal_finds_no_difference(taken_back):
    """It says what is believed and what Stripe says, and does nothing."""
    told = json.loads(taken_back("reversal", "reconcile", ID, "--operator", "tomas", "--json").out)

    assert ("none", "nothing", "reversed") == (told["difference"], told["done"], told["now"])
    assert taken_back.stripe.books.reversals[0].id == told["stripe_reversal_id"]


def test_money_that_has_left_for_the_bank_is_refused_with_what_to_do(shell):
    """Stripe says no, nothing moves, and the operator reads how the amount can come back."""
    pay(shell)
    shell.stripe.advance(PAST_PAYOUT_S)
    answers = [file(shell), approve(shell, "priya"), approve(shell, "amara")]
    dry = shell("reversal", "run", ID, "--operator", "tomas", "--json")
    live = shell("reversal", "run", ID, "--operator", "tomas", "--confirm", json.loads(dry.out)["confirm"])

    assert [0, 0, 0, 0, 3] == [answer.code for answer in (*answers, dry, live)], live.said
    assert "keep it from a later payout" in live.err
    assert [] == shell.stripe.books.reversals


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["request", ID, "--as", "maya", "--reason", "not_owed"], 2, "Give either --amount or --all"),
        (["request", ID, "--as", "maya", "--all", "--amount", "1.00", "--reason", "not_owed"], 2, "either --amount or"),
        (["request", ID, "--as", "maya", "--all", "--reason", "because"], 2, "one of paid_twice, wrong_amount"),
        (["request", ID, "--as", "maya", "--all"], 2, "one of paid_twice"),
        (["request", ID, "--as", "maya", "--amount", "0.00", "--reason", "not_owed"], 2, "amount"),
        (["request", ID, "--as", "maya", "--amount", "1.005", "--reason", "not_owed"], 2, "amount"),
        (["request", ID, "--as", "maya", "--amount", "1250.76", "--reason", "not_owed"], 2, "at most 1250.75"),
        (["request", ID, "--as", "maya", "--all", "--transfer", "ch_1", "--reason", "not_owed"], 2, "tr_"),
        (["request", ID, "--as", "maya", "--all", "--transfer", "tr_none", "--reason", "not_owed"], 3, "tr_none"),
        (["request", "INC-9", "--as", "maya", "--all", "--reason", "not_owed"], 2, "--ledger-payout-id"),
        (["request", ID, "--as", "stranger", "--all", "--reason", "not_owed"], 2, "stranger"),
        (["request", ID, "--all", "--reason", "not_owed", "--as", "maya", "--notes", "a\nb"], 2, "notes"),
        (["approve", ID, "--as", "priya"], 3, "no request for a reversal"),
        (["run", ID, "--operator", "tomas"], 3, "no request for a reversal"),
        (["run", ID, "--operator", "tomas", "--request", "x"], 2, "request_id"),
        (["reconcile", ID, "--operator", "tomas"], 3, "no request for a reversal"),
    ],
)  # fmt: skip
def test_mistake_is_one_sentence_and_writes_nothing(paid_shell, arguments, code, said):
    """Every wrong input names field, value and remedy; no traceback, no row."""
    before = paid_shell.desk.store.open_requests()
    answer = paid_shell("reversal", *arguments)

    assert code == answer.code, answer.said
    assert said in answer.said
    assert "What to do:" in answer.err
    assert "Traceback" not in answer.said
    assert before == paid_shell.desk.store.open_requests()


@pytest.fixture(scope="module", name="paid_shell")
def _paid_shell(tmp_path_factory, open_shell):
    """A scene on which the money has moved."""
    with open_shell(tmp_path_factory.mktemp("paid")) as shell:
        pay(shell)
        yield shell


def test_approval_of_the_payout_does_not_count_for_its_reversal(shell):
    """It needs two of its own."""
    pay(shell)
    shell.stripe.switch(connected_reserves=True)
    file(shell)
    run = shell("reversal", "run", ID, "--operator", "tomas")

    assert 3 == run.code
    assert "No approval by Payments Ops" in run.err
    assert [] == shell.stripe.books.reversals
