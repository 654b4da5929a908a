"""`manual-payout deliver` and `status`, on real servers: what a rehearsal reaches, what it never reaches, what waits."""

from __future__ import annotations

import json

import pytest
from tests.outbox.servers import Mail, Slack, running

from manual_payout import transfer
from payout_rehearsal import demo_parameters, file_and_approve
from payout_rehearsal.demo import incident
from proofs import leave_dry_run

PASSWORD = "mail-password-91"
SECRETS = {
    "SLACK_BOT_TOKEN": "xoxb-live-00000000",
    "SLACK_WEBHOOK_URL": "https://hooks.slack.com/services/T0/B0/livelive",
    "SLACK_REHEARSAL_BOT_TOKEN": "xoxb-rehearsal-1111",
    "PAGERDUTY_ROUTING_KEY": "LIVEROUTINGKEY",
}


@pytest.fixture(name="paid")
def _paid(shell):
    """The money has moved; nobody has been told."""
    desk = shell.desk
    request = file_and_approve(desk)
    operator = desk.registry.find(incident.OPERATOR)
    code = leave_dry_run(desk, request)
    transfer.send(desk, demo_parameters(dry_run=False, confirm=code), operator)
    return shell


@pytest.fixture(name="services")
def _services(paid):
    """A Slack and a mail server, configured beside live secrets that must never be used."""
    with running(Slack()) as slack, running(Mail()) as mail:
        paid.environment |= SECRETS | {
            "SLACK_API_BASE": f"{slack.url}/api/",
            "SMTP_HOST": "127.0.0.1",
            "SMTP_PORT": str(mail.port),
            "SMTP_SECURITY": "none",
            "MANUAL_PAYOUT_OPERATOR": incident.OPERATOR,
        }
        yield slack, mail


def test_rehearsal_reaches_its_own_readers_and_nobody_else(paid, services):
    """One post with the rehearsal's token, one email to the rehearsal's mailbox, both marked; a second time nothing."""
    slack, mail = services
    first, again = paid("deliver", "--json"), paid("deliver", "--json")
    ((_, recipients, email),) = mail.taken

    assert (0, 0) == (first.code, again.code), first.said
    assert (2, 0) == (json.loads(first.out)["delivered"], json.loads(again.out)["delivered"])
    assert ["rehearsal@marketplace.example"] == recipients
    assert b"Subject: REHEARSAL" in email
    assert b"payouts@harbor-light" not in email
    assert ["#payments-rehearsal"] == [post["channel"] for post in slack.posted]
    assert slack.posted[0]["text"].startswith("REHEARSAL")
    assert {"Bearer xoxb-rehearsal-1111"} == {headers["Authorization"] for _, headers, _ in slack.requests}
    assert "2 delivered" in paid("status").out


def test_what_waits_is_shown_with_its_reason_and_goes_out_later(paid, services):
    """A service that says no is exit code 6 and a line in `status`, never an error of the payout."""
    slack, mail = services
    mail.faults.planned.append("refuse")
    waiting = paid("deliver")
    shown = paid("status")
    early, later = paid("deliver"), paid("deliver", "--now")

    assert (6, 0, 6, 0) == (waiting.code, shown.code, early.code, later.code)
    assert "1 delivered, 1 waiting" in shown.out
    assert "Greylisted" in shown.out
    assert "the money is not affected" in shown.out
    assert (1, 1) == (len(mail.taken), len(slack.posted))


def test_refused_message_is_sent_by_hand_and_said_so(paid, services):
    """Its id is in `status`; once a person has sent it, nothing sends it any more."""
    mail = services[1]
    mail.faults.planned.append("invalid")
    first, stuck = paid("deliver"), paid("deliver", "--json")
    watched = paid("monitor", "--json", "--metrics", "/proc/none/x.prom")
    desk = paid.desk
    refused = next(m for m in desk.store.undelivered_messages() if m.state == "refused")
    status = paid("status").out
    by_hand, twice = (paid("deliver", "--copied", refused.message_id) for _ in range(2))
    paid("deliver", "--refused")

    assert (6, 6) == (first.code, stuck.code)
    assert "Not everything went out: a provider refuses 1." in first.err
    assert (1, 6) == (json.loads(stuck.said)["refused"], json.loads(stuck.said)["exit_code"])
    assert [("message-undelivered", "email")] == [
        (one["rule"], one["subject"]) for one in json.loads(watched.said)["firing"] if "message" in one["rule"]
    ]
    assert (5, True) == (
        watched.code,
        "metrics /proc/none/x.prom cannot be written" in json.loads(watched.said)["message"],
    )
    assert refused.message_id in status
    assert "Next try after" not in status
    assert (0, 2) == (by_hand.code, twice.code)
    assert "still has to be sent" in twice.err
    assert [] == mail.taken
    assert 2 == paid("deliver", "--copied", "nothing").code


def test_absent_ledger_holds_up_nothing_that_has_its_text(paid, services):
    """What waits goes out; what has no text yet is exit code 6 with the reason, and goes out once the ledger is back."""
    mail = services[1]
    mail.faults.planned.append("refuse")
    paid("deliver")
    record = paid.desk.store.payouts_of()[0]
    seen = {"shown_by": "po_1", "note": "", "failed": False}
    paid.desk.store.record_settlement(record, "paid_to_bank", done=True, actor="tomas", data=seen)
    away = paid("deliver", "--now", LEDGER_DATABASE_URL="postgresql://nobody@127.0.0.1:1/none")
    back = paid("deliver")

    assert (6, 0) == (away.code, back.code)
    assert "0 written, 1 delivered" in away.out
    assert "the messages of INC-123 wait for it" in away.err
    assert "2 written, 2 delivered" in back.out


def test_nothing_configured_is_ready_to_copy(paid):
    """As on the first day: texts are written, and a person sends them."""
    answer = paid("deliver", "--operator", incident.OPERATOR)

    assert 0 == answer.code
    assert "2 to copy" in paid("status").out


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("SLACK_API_BASE", "https://slack.example/api/", "https://slack.com/"),
        ("SLACK_API_BASE", "http://slack.com/api/", "https://slack.com/"),
        ("SLACK_WEBHOOK_URL", "https://evil.example/services/x", "https://hooks.slack.com/"),
        ("SLACK_BOT_TOKEN", '"xoxb-quoted"', "without quotes"),
        ("PAGERDUTY_EVENTS_BASE", "http://127.0.0.1:1", "https://"),
        ("SMTP_SECURITY", "none", "a mail server on this machine"),
        ("SMTP_PASSWORD", PASSWORD, "together"),
        ("SMTP_PORT", "70000", "SMTP_PORT"),
    ],
)
def test_setting_that_would_take_a_secret_elsewhere_is_refused(quiet_shell, name, value, expected):
    """One sentence, exit code 2, and not a letter of the secret."""
    answer = quiet_shell("status", **({"SMTP_HOST": "smtp.marketplace.example"} | {name: value}))

    assert 2 == answer.code
    assert expected in answer.err
    assert PASSWORD not in answer.said
    assert "xoxb-quoted" not in answer.said
