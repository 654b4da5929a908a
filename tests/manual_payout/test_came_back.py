"""What people are told once money has come back, or did not arrive: by status, close, settlement, page, messages and alerts."""

from __future__ import annotations

import html
import itertools
import json
import re

import pytest

import local_stripe
import payout_rehearsal
from local_stripe.permissions import PLATFORM_ACCOUNT
from local_stripe.transfers import TransferOrder, create_transfer
from manual_payout import transfer
from manual_payout.domain.models import stream_of
from payout_rehearsal import demo_parameters, file_and_approve
from payout_rehearsal.demo import incident
from proofs import leave_dry_run
from shells import FLAGS

ID, PAYOUT = incident.INCIDENT_ID, incident.LEDGER_PAYOUT_ID
STREAM = stream_of(ID, PAYOUT)
CLOSING = list(
    itertools.chain(
        *(
            [f"--{name.replace('_', '-')}"] + ([] if value is True else [value])
            for name, value in payout_rehearsal.CLOSING.items()
            if value
        )
    )
)


class Story:
    """The command line after the demo's payout was made by hand, or beside one that the automation made."""

    def __init__(self, shell):
        self.shell, self.desk, self.books = shell, shell.desk, shell.stripe.books
        shell.stripe.switch(connected_reserves=True)

    def pay(self):
        """Request, approve, read, send."""
        operator = self.desk.registry.find(incident.OPERATOR)
        request = file_and_approve(self.desk)
        code = leave_dry_run(self.desk, request)
        return transfer.send(self.desk, demo_parameters(dry_run=False, confirm=code), operator)

    def automation_pays(self, minor=50_00):
        """The automation pays the studio too."""
        with self.books.lock:
            return create_transfer(
                self.books, PLATFORM_ACCOUNT, TransferOrder(minor, "usd", incident.DESTINATION_ACCOUNT)
            )

    def ask_back(self, *how):
        """File a reversal and have it approved by both teams."""
        asked = self.shell("reversal", "request", ID, "--as", "maya", "--reason", "paid_twice", "--json", *how)
        amount = self.desk.store.get_request(json.loads(asked.out)["request_id"]).line_for("").amount.text
        for who in ("priya", "amara"):
            given = self.shell(
                "reversal", "approve", ID, "--as", who, "--amount", amount, "--destination-last4", "_123"
            )
            assert 0 == given.code, given.said

    def take_back(self, *how, fault=""):
        """Ask, approve, read and run the reversal; the answer of the live run."""
        self.ask_back(*how)
        dry = self.shell("reversal", "run", ID, "--operator", "tomas", "--json")
        if fault:
            made = self.books.transfers[-1].id
            self.shell.stripe.fault(fault, path=f"/v1/transfers/{made}/reversals", times=3)
        return self.shell("reversal", "run", ID, "--operator", "tomas", "--confirm", json.loads(dry.out)["confirm"])

    def stage(self, name, *more):
        """Run one stage again."""
        flags = itertools.chain(*FLAGS.items())
        return self.shell("run", *flags, "--operator", "tomas", "--stage", name, *more)

    def firing(self):
        """The alerts that fire, by one round of the monitor."""
        return json.loads(self.shell("monitor", "--json").out)["firing"]

    def postmortem(self):
        """The draft that the close left."""
        return (self.desk.settings.outputs_dir / ID / PAYOUT / "postmortem.md").read_text("utf-8")

    def page(self):
        """What the reviewer's page says."""
        text = (self.desk.settings.outputs_dir / ID / PAYOUT / "index.html").read_text("utf-8")
        return html.unescape(re.sub(r"\s+", " ", re.sub(r"<style>.*?</style>|<[^>]+>", " ", text, flags=re.DOTALL)))

    def told(self):
        """The kinds of messages in the outbox, and what they say."""
        rows = self.desk.store.undelivered_messages(ID)
        return {message.kind: message.body_text for message in rows}


@pytest.fixture(name="story")
def _story(shell):
    return Story(shell)


def test_the_rest_of_a_partial_reversal_is_followed_to_the_bank(story):
    """Neither failed nor asked for anew: channel and studio hear what was taken back, and nothing else."""
    story.pay()
    back = story.take_back("--amount", "100.00")
    story.shell.stripe.advance(5 * 24 * 3600)
    settled = story.stage("settle")
    status = story.shell("status", ID)
    asked = story.shell("reconcile", ID, "--operator", "tomas")

    assert [0, 0] == [back.code, settled.code], settled.said
    assert "1,250.75 USD to acct_123, 100.00 USD of it reversed" in asked.out
    assert "partly reversed: attempt 1" in asked.out
    assert "partly taken back, the rest arrived" in status.out
    assert "Partly reversed: the rest has arrived" in story.page()
    assert "100.00 USD of it were taken back here, as approved" in story.page()
    assert not re.search(r"partly_reversed|minor units|Failed", settled.said + status.said + asked.said)
    assert not [kind for kind in story.told() if kind.endswith("_failed")]
    assert "1,150.75 USD for Harbor Light Pottery reached" in story.told()["slack_arrived"]
    assert "$1,150.75" in story.told()["studio_arrived"]
    assert "Money taken back under INC-123: 100.00 USD" in story.told()["slack_reversed"]
    assert "we have taken back money" in story.told()["studio_reversed"]


def test_a_refused_close_says_of_each_item_why_with_the_values_and_the_flag(story):
    """What was typed, what it is held against, and how it is answered, on the operator's screen."""
    story.pay()
    typed = {"root-cause": "tbd, tbd", "access-review-on": "2027-01-01", "follow-ups": '"Look; ask", Tomas, 20260313'}
    closed = story.stage("close", *itertools.chain(*((f"--{name}", text) for name, text in typed.items())))
    said = re.sub(r"\s+", " ", closed.said)

    assert 6 == closed.code, closed.said
    assert "'tbd, tbd' says neither what failed nor why" in said
    assert re.search(r"2027-01-01 is later than \d+ days from today, 2026-03-0\d", said)
    assert """'"Look; ask", Tomas, 20260313' is not in the form: what, owner, due date as YYYY-MM-DD""" in said
    assert all(f"--{name}" in said for name in (*typed, "automation-restored"))


def test_an_incident_stays_open_while_the_outcome_of_a_reversal_is(story):
    """It leads page and close, whatever became of the payout; the alert names the command of a reversal."""
    story.pay()
    story.shell.stripe.advance(5 * 24 * 3600)
    story.stage("settle")
    local_stripe_account = local_stripe.SandboxAccount(incident.DESTINATION_ACCOUNT, available=(("usd", 200_000),))
    story.shell.stripe.seed([local_stripe_account])
    back = story.take_back("--amount", "100.00", fault="drop_before")
    closed, status = story.stage("close", *CLOSING), story.shell("status", ID)

    assert [4, 4] == [back.code, closed.code], closed.said
    assert "`manual-payout reversal reconcile INC-123`" in status.out
    assert re.search(r"1,250.75 USD +arrived", status.out)
    assert re.search("[Ee]very outcome is known: Attempt 1 to take back 100.00 USD", closed.said)
    assert not [event for event in story.desk.store.events_of(STREAM) if event.kind == "incident_closed"]
    assert "Unknown: the reversal may have taken money back" in story.page()
    assert "manual-payout reversal reconcile INC-123" in story.page()
    assert "Nothing is left to do" not in story.page()
    assert not (story.desk.settings.outputs_dir / ID / PAYOUT / "postmortem.md").exists()

    story.shell.stripe.advance(15 * 60)
    alert = next(one for one in story.firing() if one["rule"] == "outcome-unknown")
    assert "whether 100.00 USD came back from Harbor Light Pottery is unknown" in alert["summary"]
    assert "`manual-payout reversal reconcile INC-123`" in alert["summary"]


def test_taking_back_what_the_automation_paid_leaves_a_folder_that_verifies(story):
    """The likeliest use: no payout of ours, 50.00 USD came back, and the page does not deny it."""
    theirs = story.automation_pays()
    back = story.take_back("--all", "--transfer", theirs.id, "--ledger-payout-id", PAYOUT)
    verified = story.shell("verify", story.desk.settings.outputs_dir / ID / PAYOUT)

    assert [0, 0] == [back.code, verified.code], verified.said
    assert "Reversed: the money has come back" in story.page()
    assert f"50.00 USD of {theirs.id} were taken back here, as approved." in story.page()
    assert not re.search("No money has moved|Dry run: nothing was sent|no money moved", story.page())
    assert {"slack_reversed", "studio_reversed"} <= set(story.told())

    # The stages of a payout have nothing to do here, and say what has.
    settled = story.stage("settle")
    assert "Nothing has been sent for" in settled.said
    assert "Close the incident" in settled.said
    assert "Run 2-execute live first" not in settled.said
    assert 0 == story.stage("close", *CLOSING).code
    assert "Nothing is left to do" in story.page()
    assert "50.00 USD of" in story.postmortem()
    assert "Reversal: request filed" in story.postmortem()
    assert not re.search("nothing has moved|No sending|transfer made", story.postmortem())


def test_what_the_bank_sent_back_is_told_and_closed_as_returned(story):
    """Status says so; told to the studio, with an owner, the incident is closed, and nothing is 7 any more."""
    story.pay()
    story.stage("log")
    story.stage("notify")
    account = local_stripe.SandboxAccount(incident.DESTINATION_ACCOUNT, bank="fails", payout_schedule="daily")
    story.shell.stripe.seed([account])
    story.shell.stripe.advance(4 * 24 * 3600)
    settled, status = story.stage("settle"), story.shell("status", ID)
    closed = story.stage("close", *CLOSING)
    after = story.shell("status", ID)

    assert [7, 0] == [settled.code, closed.code], closed.said
    assert "failed at the bank" in status.out
    assert "Returned to the studio's balance" in story.page()
    [event] = [event for event in story.desk.store.events_of(STREAM) if event.kind == "incident_closed"]
    assert ("returned to the studio's balance", "Tomas Lindqvist") == (event.data["outcome"], event.data["owner"])
    assert "back in the studio's balance" in after.out
    assert "Closed as returned to the studio's balance; Tomas Lindqvist looks after it." in story.postmortem()
    story.shell.stripe.advance(10 * 24 * 3600)
    assert not [one for one in story.firing() if one["rule"] in ("settlement-overdue", "outcome-unknown")]


def test_a_second_payment_under_a_closed_incident_is_closed_for_itself(story):
    """Its own root cause is kept; what was closed before is not taken for it."""
    for number in (1, 2):
        story.pay()
        story.stage("log")
        story.stage("notify")
        if number == 1:
            assert 0 == story.take_back("--all").code
        else:
            story.shell.stripe.advance(5 * 24 * 3600)
            story.stage("settle")
        closed = story.stage("close", *CLOSING, "--root-cause", f"The scheduler failed, time {number}.")
        assert 0 == closed.code, closed.said
    kept = [e.data["root_cause"] for e in story.desk.store.events_of(STREAM) if e.kind == "incident_closed"]

    assert ["The scheduler failed, time 1.", "The scheduler failed, time 2."] == kept


def test_a_reversal_is_asked_for_approval_by_its_own_command_and_read_as_one(story):
    """Neither the command of a payout nor its words: what was read, and by whom, is another payment's."""
    theirs = story.automation_pays()
    asked = "--all", "--transfer", theirs.id, "--ledger-payout-id", PAYOUT, "--reason", "paid_twice"
    story.shell("reversal", "request", ID, "--as", "maya", *asked)
    unapproved = story.shell("reversal", "run", ID, "--operator", "tomas")
    for who in ("priya", "amara"):
        story.shell("reversal", "approve", ID, "--as", who, "--amount", "50.00", "--destination-last4", "_123")
    story.shell("reversal", "run", ID, "--operator", "tomas")

    assert 3 == unapproved.code
    assert "`manual-payout reversal approve INC-123 --as …`" in unapproved.said
    assert "manual-payout approve" not in unapproved.said
    assert "Dry run: nothing was taken back" in story.page()
    assert "manual-payout reversal run INC-123" in story.page()
    assert not re.search("2-execute|payout was verified|nobody approved|ran it Tomas", story.page())


def test_what_the_dashboard_took_back_is_told_as_that_and_can_be_closed(story):
    """Neither failed on its way nor the whole amount; the studio hears of it, and the close says how it ended."""
    story.pay()
    story.stage("log")
    story.stage("notify")
    story.books.transfers[-1].amount_reversed = 50_00
    settled = story.stage("settle")
    told = story.told()
    closed = story.stage("close", *CLOSING)

    assert [7, 0] == [settled.code, closed.code], closed.said
    assert "Money of the manual payout of INC-123 came back unapproved: 50.00 USD" in told["slack_failed"]
    assert "INC-123: 50.00 USD of the manual payout to Harbor Light Pottery came back unapproved" in told["page_failed"]
    assert "went from your Stripe balance back to us" in told["studio_came_back"]
    assert not [text for text in told.values() if re.search("failed on (its|the) way|1,250.75 USD failed", text)]
    story.shell("deliver", "--operator", "tomas")
    assert "settled otherwise" in story.told()["page_resolved"]


def test_a_page_is_over_once_what_it_told_of_was_taken_back(story):
    """Arrived, then failed at the bank, then taken back as approved: nobody hears that it has arrived after all."""
    story.pay()
    account = local_stripe.SandboxAccount(
        incident.DESTINATION_ACCOUNT, bank="fails", payout_schedule="daily", available=(("usd", 300_000),)
    )
    story.shell.stripe.seed([account])
    story.shell.stripe.advance(4 * 24 * 3600)
    failed = story.stage("settle")
    page = story.told()["page_failed"]
    back = story.take_back("--all")
    story.shell("monitor")

    assert [7, 0] == [failed.code, back.code], back.said
    assert "manual payout of 1,250.75 USD failed on its way" in page
    assert "is settled otherwise: taken back as approved, or closed" in story.told()["page_resolved"]
    assert "taken back" in story.stage("settle").said


def test_what_is_asked_for_and_not_begun_keeps_the_incident_open(story):
    """Somebody wants money back; the page does not say that nothing is left to do."""
    story.pay()
    story.shell.stripe.advance(5 * 24 * 3600)
    story.stage("log")
    story.stage("notify")
    story.stage("settle")
    story.shell("reversal", "request", ID, "--as", "maya", "--reason", "paid_twice", "--amount", "100.00")
    closed = story.stage("close", *CLOSING)

    assert 6 == closed.code, closed.said
    assert "Every outcome is known: A reversal of 100.00 USD is requested" in closed.said
    assert "A reversal of 100.00 USD is requested and not begun: `manual-payout reversal run`" in story.page()
    assert "Nothing is left to do" not in story.page()
