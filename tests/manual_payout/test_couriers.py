"""Each courier against a real server on this machine: what reaches a person, what is kept, and what becomes of a failure."""

from __future__ import annotations

import http.server
import json
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy

import pytest
from tests.outbox.servers import CHANNEL_ID, HOOK, Mail, PagerDuty, Slack, running

from manual_payout.comms.courier import Absent, Delayed, Delivered, MessageRefused, Unknowable
from manual_payout.comms.mail import Mailbox
from manual_payout.comms.paging import Pager
from manual_payout.comms.slack import SlackBot, SlackWebhook
from manual_payout.domain.models import Channel, Message, MessageState, Mode

NIGHT = datetime(2026, 3, 2, 3, 0, tzinfo=UTC)
SENDER = "Marketplace support <support@marketplace.example>"
TOKEN = "xoxb-rehearsal-0123456789"

BASE = Message(
    message_id="5c2f0e7c-7b8f-5d52-9c36-0d2f3d1a0001", stream="INC-1/x", payout_id=None, kind="slack_alert", audience="#r",
    dedup_key="k", subject="", body_text="text & more", body_html="", state=MessageState.SENDING, created_at=NIGHT,
    mode=Mode.TEST, channel=Channel.SLACK, body_json=json.dumps([{"type": "divider"}]), tries=1, fence=1,
)  # fmt: skip
EMAIL = replace(
    BASE, channel=Channel.EMAIL, audience="r@marketplace.example", subject="REHEARSAL: Zahlung von 1.250,75\xa0€",
    body_text="Hallo,\n.\n..zwei\nGrüße\n" + "x" * 1200, body_html="<p>Grüße</p>",
)  # fmt: skip
EVENT = {
    "event_action": "trigger",
    "dedup_key": "mp/1",
    "payload": {"summary": "s", "source": "manual-payout", "severity": "info"},
}
PAGE = replace(BASE, channel=Channel.PAGERDUTY, body_json=json.dumps(EVENT))
IN_DOUBT = replace(BASE, handed_over_at=datetime.fromtimestamp(1_772_420_000, UTC))


@pytest.fixture(name="slack")
def _slack():
    with running(Slack()) as server:
        yield server


@pytest.fixture(name="pagerduty")
def _pagerduty(tls):
    with running(PagerDuty(tls)) as server:
        yield server


class HandOvers:
    """Counts how often the outbox was told, and what the server had taken by then."""

    def __init__(self, taken=lambda: 0):
        self.seen, self._taken = [], taken

    def __call__(self):
        self.seen.append(self._taken())


def bot(slack, **changed):
    given = {"base_url": f"{slack.url}/api/", "channel": "#r", "channel_id": CHANNEL_ID, "timeout_s": 2, "dates": True}
    return SlackBot(TOKEN, **(given | changed))


def mailbox(server, **changed):
    given = {
        "host": "127.0.0.1",
        "port": server.port,
        "security": "none",
        "username": "",
        "password": "",
        "timeout_s": 2,
    }
    return Mailbox(SENDER, **(given | changed))


def pager(server):
    return Pager("R0UTINGKEY", base_url=server.url, timeout_s=2)


# ----------------------------------------------------------------------------------------------------------- Slack


def test_slack_receipt_is_channel_and_ts(slack):
    """One post with text, blocks and our id; the outbox knows before Slack does."""
    told = HandOvers(lambda: len(slack.posted))
    outcome = bot(slack).send(BASE, told)
    (posted,) = slack.posted

    assert Delivered({"provider": "slack", "channel": CHANNEL_ID, "ts": posted["ts"]}) == outcome
    assert [0] == told.seen
    assert (BASE.body_text, [{"type": "divider"}], BASE.message_id) == (
        posted["text"],
        posted["blocks"],
        posted["message_id"],
    )
    assert CHANNEL_ID == posted["channel"]
    assert f"Bearer {TOKEN}" == slack.requests[0][1]["Authorization"]


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("limit", Delayed("Slack asks for a pause (429).", retry_after_s=90)),
        ("refuse", Delayed("Slack answered 200: invalid_auth.")),
        ("invalid", MessageRefused("Slack refuses the message: msg_too_long.")),
        ("lose500", Delayed("Slack answered 500: internal_error.", in_doubt=True)),
    ],
)
def test_slack_answer_says_what_became_of_it(slack, fault, expected):
    """Only what Slack itself calls an internal error leaves a doubt; one request is made, whatever the SDK would like."""
    slack.faults.planned.append(fault)

    assert expected == bot(slack).send(BASE, lambda: None)
    assert 1 == len(slack.requests)


@pytest.mark.parametrize("fault", ["drop", "lose", "rubbish", "slow"])
def test_slack_without_a_readable_answer_is_in_doubt(slack, fault):
    """Broken off, silent or talking rubbish: it may be there."""
    slack.faults.planned.append(fault)
    outcome = bot(slack, timeout_s=1).send(BASE, lambda: None)

    assert isinstance(outcome, Delayed)
    assert outcome.in_doubt
    assert 1 == len(slack.requests)


def test_nobody_listening_leaves_no_doubt(slack):
    """A refused connection carried nothing, with a token or a webhook."""
    slack.close()
    slack.close = lambda: None
    for courier in (bot(slack), SlackWebhook(f"{slack.url}{HOOK}", timeout_s=1)):
        outcome = courier.send(BASE, lambda: None)

        assert isinstance(outcome, Delayed)
        assert not outcome.in_doubt


def test_lost_answer_is_found_in_the_history(slack):
    """The id in the metadata tells, also on a later page; an older or another message is not taken for it."""
    bot(slack).send(BASE, lambda: None)
    for number in range(150):
        bot(slack).send(replace(BASE, message_id=f"other-{number}"), lambda: None)
    found = bot(slack).find(IN_DOUBT)

    assert slack.posted[0]["ts"] == found.receipt["ts"]
    assert Absent() == bot(slack).find(replace(IN_DOUBT, message_id="never-sent"))


def test_history_is_read_around_the_handing_over_only(slack):
    """A busy channel does not drown the question: what was posted an hour later is not looked through."""
    later = replace(IN_DOUBT, handed_over_at=IN_DOUBT.handed_over_at - timedelta(hours=1))
    bot(slack).send(BASE, lambda: None)

    assert Absent() == bot(slack).find(later)
    assert isinstance(bot(slack).find(replace(later, repeats=1)), Delivered)
    assert isinstance(bot(slack, dates=False).find(later), Delivered)


def test_history_that_cannot_be_read_is_no_answer(slack):
    """Without the permission or the channel's id nobody knows; a token that is refused or a Slack that is down is asked again."""
    courier = bot(slack)
    slack.history = False

    assert Unknowable() == courier.find(IN_DOUBT)
    assert Unknowable() == bot(slack, channel_id="").find(IN_DOUBT)
    slack.faults.planned.extend(["limit", "drop", "refuse", "rubbish"])
    limited, *others = (courier.find(IN_DOUBT) for _ in range(4))
    assert (90, True) == (limited.retry_after_s, limited.in_doubt)
    assert [True, True, True] == [other.in_doubt for other in others]


def test_webhook_says_ok_and_knows_no_more(slack, caplog, capfd):
    """Its receipt is the word ok; its address, which is a secret, is logged nowhere."""
    courier = SlackWebhook(f"{slack.url}{HOOK}", timeout_s=1)
    first = courier.send(BASE, lambda: None)
    slack.faults.planned.extend(["limit", "invalid", "lose", "drop"])
    limited, invalid, lost, dropped = (courier.send(BASE, lambda: None) for _ in range(4))

    assert Delivered({"provider": "slack webhook", "answer": "ok"}) == first
    assert 90 == limited.retry_after_s
    assert isinstance(invalid, MessageRefused)
    assert (True, True) == (lost.in_doubt, dropped.in_doubt)
    assert Unknowable() == courier.find(IN_DOUBT)
    assert "hookhookhook" not in caplog.text + "".join(capfd.readouterr())


# ------------------------------------------------------------------------------------------------------------ mail


@pytest.mark.parametrize("security", ["none", "starttls", "tls"])
def test_email_arrives_with_its_headers_and_both_forms(tls, security):
    """One recipient, our headers, text and HTML to the letter; in clear on this machine, by STARTTLS, or by TLS."""
    context = tls if security != "none" else None
    login = ("support", "pass word/1") if context else None
    with running(Mail(context, at_once=security == "tls", login=login)) as server:
        told = HandOvers(lambda: len(server.taken))
        given = {"username": "support", "password": "pass word/1"} if login else {}
        outcome = mailbox(server, security=security, **given).send(EMAIL, told)
        ((sender, recipients, raw),) = server.taken
    email = message_from_bytes(raw, policy=policy.default)
    text, html = (email.get_body((kind,)).get_content().replace("\r\n", "\n") for kind in ("plain", "html"))

    assert ("support@marketplace.example", ["r@marketplace.example"]) == (sender, recipients)
    assert [0] == told.seen
    assert EMAIL.subject == email["Subject"]
    assert (SENDER, "r@marketplace.example") == (email["From"], email["To"])
    assert f"<{EMAIL.message_id}@marketplace.example>" == email["Message-ID"]
    assert ("auto-generated", NIGHT) == (email["Auto-Submitted"], email["Date"].datetime)
    assert (EMAIL.body_text, EMAIL.body_html) == (text.rstrip("\n"), html.rstrip("\n"))
    assert max(map(len, raw.splitlines())) < 100
    assert raw.isascii()
    assert {
        "provider": "smtp",
        "response": "250 2.0.0 Ok: queued as 000001",
        "message_id": email["Message-ID"],
    } == outcome.receipt


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_certificate_that_nobody_vouches_for_gets_no_password(tls, monkeypatch, security):
    """The session ends before the login; nothing was handed over."""
    monkeypatch.delenv("SSL_CERT_FILE")
    told = HandOvers()
    with running(Mail(tls, at_once=security == "tls", login=("support", "secret-word"))) as server:
        outcome = mailbox(server, security=security, username="support", password="secret-word").send(EMAIL, told)

    assert (isinstance(outcome, Delayed), outcome.in_doubt, told.seen) == (True, False, [])


# ------------------------------------------------------------------------------------------------ no way there


@pytest.fixture(name="listening")
def _listening(tls):
    """The address of something that speaks TLS, by a certificate that this machine trusts until a test says otherwise."""
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    server.socket = tls.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *_: None
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield "127.0.0.1", server.server_port
    server.shutdown()
    server.server_close()


def slack_at(host, port):
    return SlackBot(TOKEN, base_url=f"https://{host}:{port}/api/", channel="#r", channel_id="", timeout_s=5, dates=True)


def webhook_at(host, port):
    return SlackWebhook(f"https://{host}:{port}/services/T0/B0/secret", timeout_s=5)


def pager_at(host, port):
    return Pager("R0UTINGKEY", base_url=f"https://{host}:{port}", timeout_s=5)


def mailbox_at(host, port):
    return Mailbox(SENDER, host=host, port=port, security="tls", username="", password="", timeout_s=5)


WAYS = {
    "Slack": (slack_at, BASE),
    "webhook": (webhook_at, BASE),
    "PagerDuty": (pager_at, PAGE),
    "mail": (mailbox_at, EMAIL),
}


@pytest.mark.parametrize("way", WAYS)
def test_each_cause_of_silence_has_its_own_remedy(monkeypatch, tmp_path, listening, way):
    """Intercepted TLS, a missing file of certificates, an unknown host, a dead proxy; none leaves a doubt."""
    courier, message = WAYS[way]

    def cause(host=listening[0]):
        outcome = courier(host, listening[1]).send(message, lambda: None)
        assert (Delayed, False) == (type(outcome), outcome.in_doubt), outcome
        assert "secret" not in outcome.reason
        return outcome.reason

    assert "DNS or VPN" in cause("nobody.invalid")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    assert (
        "file of certificates that it would be checked by is not there. Correct or unset REQUESTS_CA_BUNDLE" in cause()
    )
    monkeypatch.delenv("SSL_CERT_FILE")
    assert "opens the encryption" in cause()
    if way != "mail":
        # SMTP knows no proxy.
        monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
        assert "unset HTTPS_PROXY" in cause("nobody.invalid")


def test_a_proxy_that_lets_nothing_through_leaves_no_doubt(monkeypatch):
    """It has answered, and nobody behind it has seen a byte."""
    refusing = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    threading.Thread(target=refusing.serve_forever, daemon=True).start()
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{refusing.server_port}")
    outcomes = [
        courier("nobody.invalid", 443).send(message, lambda: None)
        for courier, message in (WAYS[way] for way in list(WAYS)[:3])
    ]
    refusing.shutdown()
    refusing.server_close()

    assert [False] * 3 == [outcome.in_doubt for outcome in outcomes]
    assert all("unset HTTPS_PROXY" in outcome.reason for outcome in outcomes)


def test_a_mail_server_that_speaks_no_tls_there_is_told_apart(tls):
    """The security that is set belongs to another port."""
    with running(Mail(tls)) as server:
        outcome = mailbox(server, security="tls").send(EMAIL, lambda: None)

    assert "does not speak TLS as it should" in outcome.reason
    assert "Correct the port and the encryption" in outcome.reason


# What servers of Postfix, Google, Exchange and others say, and whether it is about this message or its reader.
SAID_BY_SERVERS = {
    "550 5.1.1 No such user": True,
    "550 User unknown": True,
    "552 5.2.2 Mailbox full, over quota": True,
    "552 5.3.4 Message size exceeds fixed limit": True,
    "554 5.7.1 Looks like spam": True,
    "554 5.6.0 Malformed content": True,
    "550 5.1.8 Access denied, bad outbound sender": False,
    "550 5.4.5 Daily user sending limit exceeded": False,
    "554 5.2.252 SendAsDenied; a@x not allowed to send as b@x": False,
    "550 5.7.1 Relaying denied": False,
    "554 5.7.1 Client host blocked using zen.example": False,
    "550 5.7.60 Client does not have permissions to send as this sender": False,
    "550 5.7.708 Access denied, traffic not accepted from this IP": False,
    "503 5.5.1 Bad sequence of commands": False,
    "550 Too many messages per day from this account": False,
    "530 5.7.0 Authentication required": False,
}


@pytest.mark.parametrize("said", SAID_BY_SERVERS)
@pytest.mark.parametrize("command", ["MAIL", "RCPT", "DATA"])
def test_only_what_is_said_of_the_message_is_booked_against_it(said, command):
    """The session, the sender and the day's quota are nobody's fault who reads: it is tried again."""
    with running(Mail(said={command: said})) as server:
        outcome = mailbox(server).send(EMAIL, lambda: None)
    refused = SAID_BY_SERVERS[said] and command != "MAIL"

    assert (MessageRefused if refused else Delayed) is type(outcome), outcome
    assert said in outcome.reason


def test_wrong_password_waits_for_a_person_and_is_not_shown(tls):
    """535 can be mended without another message; what the server said is kept, the password is not."""
    with running(Mail(tls, login=("support", "right-password"))) as server:
        outcome = mailbox(server, security="starttls", username="support", password="wrong-password").send(
            EMAIL, lambda: None
        )

    assert isinstance(outcome, Delayed)
    assert "535" in outcome.reason
    assert "wrong-password" not in outcome.reason


@pytest.mark.parametrize(
    ("fault", "kind", "in_doubt", "handed_over"),
    [
        ("refuse", Delayed, False, 0),
        ("invalid", MessageRefused, None, 0),
        ("drop", Delayed, False, 0),
        ("reject", MessageRefused, None, 1),
        ("lose", Delayed, True, 1),
    ],
)
def test_mail_is_in_doubt_only_between_its_last_line_and_the_answer(fault, kind, in_doubt, handed_over):
    """Before, nothing can have been delivered; a clear answer after it is an answer."""
    told = HandOvers()
    with running(Mail()) as server:
        server.faults.planned.append(fault)
        outcome = mailbox(server).send(EMAIL, told)

    assert isinstance(outcome, kind)
    assert in_doubt is getattr(outcome, "in_doubt", None)
    assert handed_over == len(told.seen)


def test_mail_server_that_is_gone_leaves_no_doubt():
    """Nobody listens."""
    with running(Mail()) as server:
        pass
    outcome = mailbox(server).send(EMAIL, lambda: None)

    assert (isinstance(outcome, Delayed), False) == (True, outcome.in_doubt)
    assert Unknowable() == mailbox(server).find(EMAIL)


# ------------------------------------------------------------------------------------------------------- PagerDuty


def test_pagerduty_receipt_is_its_key_and_a_repetition_wakes_nobody(pagerduty):
    """Answer lost, sent again: one alert, one person woken; resolving closes it."""
    pagerduty.faults.planned.append("lose")
    first, second = (pager(pagerduty).send(PAGE, lambda: None) for _ in range(2))
    resolve = replace(PAGE, body_json=json.dumps({"event_action": "resolve", "dedup_key": "mp/1"}))
    third = pager(pagerduty).send(resolve, lambda: None)

    assert first.in_doubt
    assert Absent() == pager(pagerduty).find(PAGE)
    assert {"provider": "pagerduty", "event_action": "trigger", "dedup_key": "mp/1"} == second.receipt
    assert "resolve" == third.receipt["event_action"]
    assert (["mp/1"], {"mp/1": False}) == (pagerduty.notified, pagerduty.alerts)
    assert "R0UTINGKEY" == pagerduty.requests[0][2]["routing_key"]


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("limit", Delayed("PagerDuty asks for a pause (429).", retry_after_s=75)),
        ("refuse", Delayed("PagerDuty answered 503.", in_doubt=True)),
    ],
)
def test_pagerduty_is_asked_once_and_its_wish_is_heard(pagerduty, fault, expected):
    """The client by itself would go on for minutes; the outbox decides when."""
    pagerduty.faults.planned.append(fault)

    assert expected == pager(pagerduty).send(PAGE, lambda: None)
    assert 1 == len(pagerduty.requests)


def test_pagerduty_refusal_says_why(pagerduty):
    """An event that it cannot read is for a person."""
    pagerduty.faults.planned.append("invalid")
    outcome = pager(pagerduty).send(PAGE, lambda: None)

    assert isinstance(outcome, MessageRefused)
    assert "'payload.summary' is missing" in outcome.reason


def test_pagerduty_that_is_gone_leaves_no_doubt(pagerduty):
    """Nobody listens."""
    pagerduty.close()
    pagerduty.close = lambda: None
    outcome = pager(pagerduty).send(PAGE, lambda: None)

    assert (isinstance(outcome, Delayed), False) == (True, outcome.in_doubt)
