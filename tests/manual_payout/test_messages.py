"""What is said to the channel, the studio and the ticket: true to the cent, harmless whatever a name holds, marked as rehearsal."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from dataclasses import replace
from datetime import UTC, datetime
from email.message import EmailMessage
from html.parser import HTMLParser

import pytest
from babel.numbers import parse_decimal
from hypothesis import given
from hypothesis import strategies as st

from manual_payout.approval.requesting import file_request, ticket_text
from manual_payout.comms.messages import Occasion, amount_for, compose, fill_in, is_rehearsal, slack_text
from manual_payout.desk.settings import MessagePolicy
from manual_payout.desk.wiring import Desk
from manual_payout.domain.errors import ParameterError
from manual_payout.domain.models import Channel, MessageState, Mode, PayoutRecord, Reason, State
from manual_payout.domain.money import STEP_MINOR, THREE_DECIMAL, TWO_DECIMAL, ZERO_DECIMAL, Money
from manual_payout.domain.parameters import check
from manual_payout.steps.verification import csv_text, defused
from payout_rehearsal import demo_parameters
from payout_rehearsal.demo import incident

NIGHT = datetime.fromisoformat(incident.NOW).astimezone(UTC)
POLICY = MessagePolicy(
    incident_url="https://tickets.example/team_a/browse/{incident_id}", rehearsal_email="rehearsal@marketplace.example"
)

# An underscore that Slack would read as formatting; inside a word it is part of an id.
FORMATTING = re.compile(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")

HOSTILE = [
    "<!channel>", "<!here|x>", "<http://evil.example|Stripe>", "<@U123ABC>", "*bold* _it_ ~no~ `code`", "@channel pay now",
    ":white_check_mark: APPROVED", "https://evil.example/login", "a & b < c > d", "&lt;!channel&gt;", "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>", '" onmouseover="alert(1)', "{{ 7*7 }}", "{% include 'x' %}", "Name\r\nBcc: evil@evil.example",
    "Name\nAmount: 1.00 USD", "tab\tbed", "\u202egnp.exe", "\u2066x\u2069", "zero\u200bwidth", "esc\x1b[2Jape", "bell\a",
    '=HYPERLINK("http://evil")', "+1", "-1", "@SUM(A1)", "＝1+1", "| cell | cell |", "[x](http://evil)", "# heading", "a" * 200,
]  # fmt: skip


@pytest.fixture(scope="module", name="desk")
def _desk(quiet_shell) -> Desk:
    """The demo's desk."""
    return quiet_shell.desk


@pytest.fixture(scope="module", name="occasion")
def _occasion(desk) -> Occasion:
    """A payout that was made, in sandbox mode."""
    due = desk.ledger.get_payout_due(incident.LEDGER_PAYOUT_ID)
    ids = {name: desk.registry.find(name).person_id for name in ("maya", "tomas", "priya", "amara")}
    record = PayoutRecord(
        payout_id="0f9b1c2d-0000-4000-8000-000000000001", request_id="r", incident_id=incident.INCIDENT_ID,
        ledger_payout_id=incident.LEDGER_PAYOUT_ID, studio_id=incident.STUDIO_ID, studio_name=incident.STUDIO_NAME,
        amount=Money(125_075, "usd"), reserve_after=Money(31_000, "usd"), destination_account="acct_123", mode=Mode.SANDBOX,
        reason=Reason.SCHEDULER_OUTAGE, notes=incident.NOTES, requested_by=ids["maya"], approved_by_payments_ops=ids["priya"],
        approved_by_finance=ids["amara"], operator_id=ids["tomas"], state=State.PAID, attempt_no=1, idempotency_key="k",
        transfer_group="g", payload="{}", owner="o", fence=1, lease_until=None, sent=True, created_at=NIGHT,
        stripe_transfer_id="tr_1Abc_Def2",
    )  # fmt: skip
    return Occasion(record, due, desk.registry, POLICY, rehearsal=True)


def said(occasion, **changed):
    """Slack text, email text, email HTML and subject for a record with some fields changed."""
    slack, email = compose(replace(occasion, record=replace(occasion.record, **changed)), at=NIGHT)
    return slack.body_text, email.body_text, email.body_html, email.subject


class Nodes(HTMLParser):
    """Counts what a browser would build."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, tuple[str, ...]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, tuple(name for name, _ in attrs)))

    def handle_data(self, data):
        self.text += data


def test_the_facts_are_in_both_messages_as_they_are(occasion):
    """Ids and the incident's link can be copied and searched for: no character of them is replaced."""
    slack, text, html, subject = said(occasion)

    for fact in ("INC-123", "tr_1Abc_Def2", "acct_123", "1,250.75 USD", "310.00 USD", "Priya Raman (Payments Ops)",
                 "Amara Diallo (Finance)", "Tomas Lindqvist", "https://tickets.example/team_a/browse/INC-123"):  # fmt: skip
        assert fact in slack
    for fact in (incident.STUDIO_NAME, "$1,250.75", "tr_1Abc_Def2", "INC-123"):
        assert fact in text
        assert fact in html
    assert subject.endswith("Your payout of $1,250.75 is on its way")


def test_rehearsal_never_writes_to_the_studio_even_if_the_policy_says_so(occasion):
    """Somebody put a studio's address into messages.rehearsal_email: the email has no reader, and says why."""
    policy = POLICY.model_copy(update={"rehearsal_email": occasion.due.studio_email.upper()})
    email = compose(replace(occasion, policy=policy, automatic=frozenset(Channel)), at=NIGHT)[1]

    assert "nobody: messages.rehearsal_email is the studio's own address" == email.audience
    assert MessageState.TO_COPY is email.state


@pytest.mark.parametrize("mode", list(Mode))
def test_outside_live_mode_everything_says_rehearsal_first(occasion, mode):
    """Nobody takes an exercise for money; and nothing live is called an exercise."""
    marked = replace(occasion, rehearsal=is_rehearsal(mode))
    slack, text, html, subject = said(marked, mode=mode)
    found = [
        slack.startswith("REHEARSAL"),
        text.startswith("REHEARSAL"),
        "REHEARSAL" in html,
        subject.startswith("REHEARSAL: "),
    ]

    assert [mode is not Mode.LIVE] * 4 == found


@pytest.mark.parametrize("name", HOSTILE, ids=lambda name: repr(name[:20]))
def test_a_hostile_name_is_only_a_name_in_every_message(occasion, name):
    """No mention, link, markup, header, second line or invisible character comes out of a studio's name."""
    plain_slack, plain_text, plain_html, _ = said(occasion)
    slack, text, html, subject = said(occasion, studio_name=name)
    studio = next(line for line in slack.splitlines() if line.startswith("Studio: ")).removeprefix("Studio: ")

    assert not set("<>*~`@#") & set(studio)
    assert not FORMATTING.search(studio)
    assert re.sub("&(amp|lt|gt);", "", studio).count("&") == 0
    assert "://" not in studio
    assert not re.search(r":[\w+-]+:", studio)
    assert len(plain_slack.splitlines()) == len(slack.splitlines())
    assert len(plain_text.splitlines()) == len(text.splitlines())
    assert Nodes(plain_html).tags == Nodes(html).tags
    assert "49" not in Nodes(html).text.partition("your payout")[0]
    invisible = {unicodedata.category(c) for c in slack + text + html + subject if c != "\n"}
    assert not invisible & {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}


@given(st.text(max_size=80))
def test_slack_text_holds_nothing_that_slack_would_act_on(text):
    """For any text at all: one line, only Slack's three entities, no formatting, mention, emoji or address."""
    found = slack_text(text)

    assert not set("<>*~`@#\n\r\t\x1b") & set(found)
    assert not FORMATTING.search(found)
    assert "&" not in re.sub("&(?:amp|lt|gt);", "", found)
    assert not re.search(r":[\w+-]+:|://", found)


@pytest.mark.parametrize(
    "address", ["a@b.example\r\nBcc: evil@evil.example", "x, evil@evil.example", '"x" <a@b.example>', "nobody", "a@b", "ä@b.example"]
)  # fmt: skip
def test_an_address_that_could_be_two_is_no_address(occasion, address):
    """What the ledger holds as the studio's email goes nowhere unless it is one plain address."""
    email = compose(replace(occasion, due=replace(occasion.due, studio_email=address), rehearsal=False), at=NIGHT)[1]

    assert "no usable address in the ledger" == email.audience


@pytest.mark.parametrize("name", HOSTILE, ids=lambda name: repr(name[:20]))
def test_the_headers_of_the_email_are_ours(occasion, name):
    """Subject and recipient go into a real message unchanged: no header is added, no line is broken into."""
    email = compose(replace(occasion, record=replace(occasion.record, studio_name=name)), at=NIGHT)[1]
    message = EmailMessage()
    message["Subject"], message["To"], message["From"] = email.subject, email.audience, POLICY.support_from

    assert ["Subject", "To", "From"] == message.keys()
    assert 1 == len(message["To"].addresses)


LOCALES = ["en_US", "de_DE", "de-DE", "ja_JP", "ar_KW", "fr_CH", "hi_IN", None, "", "xx_XX", "not a locale", "../x"]
AMOUNTS = [
    Money(125_075, "usd"),
    Money(125_075, "eur"),
    Money(12_500, "jpy"),
    Money(1_250_750, "kwd"),
    Money(1_050, "lak"),
]


@pytest.mark.parametrize(
    ("currency", "locale", "expected"),
    [
        ("usd", "en_US", "$1,250.75"),
        ("usd", "de_DE", "1.250,75 $"),
        ("eur", "de-DE", "1.250,75 €"),
        ("eur", "en_US", "€1,250.75"),
        ("jpy", "ja_JP", "￥12,500"),
        ("jpy", "en_US", "¥12,500"),
        ("kwd", "en_US", "KWD1,250.750"),
        ("usd", "nonsense", "$1,250.75"),
    ],
)
def test_the_studio_reads_the_amount_in_its_own_way(occasion, currency, locale, expected):
    """Signs, separators and decimals are the locale's and the currency's; an unknown locale is English."""
    money = next(amount for amount in AMOUNTS if amount.currency == currency)
    found = amount_for(locale, money)

    assert expected == unicodedata.normalize("NFC", found.replace("\xa0", " "))


@given(
    st.integers(1, 99_999_999).map(lambda n: n * 100),
    st.integers(0, 9),
    st.sampled_from(sorted(ZERO_DECIMAL | TWO_DECIMAL | THREE_DECIMAL)),
    st.sampled_from(["en_US", "de_DE", "ja_JP", "ar_KW", "fr_CH"]),
)
def test_no_locale_rounds_a_single_minor_unit_away(occasion, minor, extra, currency, locale):
    """What the email says, read back, is what was sent: in every currency and language."""
    money = Money(minor + extra * 10 * (currency not in STEP_MINOR), currency)
    found = amount_for(locale, money)
    digits = "".join(str(unicodedata.digit(c)) if c.isdigit() else c for c in found)
    number = re.search(r"\d[\d.,٬٫’'\u202f\xa0 ]*\d|\d", digits).group().replace("٬", "").replace("٫", ".")

    assert money.decimal == parse_decimal(number, locale="en_US" if locale in {"ar_KW", "ja_JP", "en_US"} else locale)


def test_an_arabic_studio_reads_one_english_sentence(occasion):
    """Dates are in the sentence's language; name and amount turn nothing around them, as text and as a page."""
    due = replace(occasion.due, studio_locale="ar_KW")
    name = "استوديو الميناء"
    _, text, html, subject = said(replace(occasion, due=due), studio_name=name)

    assert "for Feb 16, 2026 to Mar 1, 2026 was delayed" in text
    assert f"Hello \u2068{name}\u2069," in text
    assert re.search("Your payout of \u2068[^\u2069]+\u2069 is on its way", subject)
    assert f"Hello <bdi>{name}</bdi>," in html
    assert '<html lang="en" dir="ltr">' in html
    assert "overflow-wrap:anywhere" in html
    assert re.search("<strong><bdi>[^<]+</bdi></strong>", html)


def emails(occasion):
    """Every email there is, by its name."""
    arrived = replace(occasion, rung="paid_to_bank")
    told = {
        "studio_email": occasion,
        "studio_arrived": arrived,
        "studio_failed": arrived,
        "studio_failed, at its studio": replace(occasion, rung="usable_by_studio"),
        "studio_failed, come back": replace(occasion, rung="accepted"),
        "studio_came_back": replace(occasion, rung="accepted"),
        "studio_reversed": occasion,
    }
    return {
        name: fill_in(one, replace(compose(one, at=NIGHT)[1], kind=name.partition(",")[0]))
        for name, one in told.items()
    }


VIEWS = [{"width": width, "scheme": scheme} for width in (320, 400, 1400) for scheme in ("light", "dark")]


@pytest.mark.parametrize(("locale", "rehearsal"), [("en_US", True), ("ar_KW", False)])
def test_every_email_is_a_page_that_everybody_can_read(browser, occasion, tmp_path, locale, rehearsal):
    """Nothing that axe finds, in light and dark, on a telephone and on a desk; its title and its heading are its subject."""
    due = replace(occasion.due, studio_locale=locale)
    for name, email in emails(replace(occasion, rehearsal=rehearsal, due=due)).items():
        (tmp_path / "email.html").write_text(email.body_html, "utf-8")
        seen = browser.look(tmp_path / "email.html", *VIEWS)
        found = [[look[kind] for kind in ("axe", "poor", "wide", "live")] for look in seen.looks]

        assert [[[], [], [], []]] * len(VIEWS) == found, name
        assert {email.subject} == {look["title"] for look in seen.looks}
        assert [] == [look["overflow"] for look in seen.looks if look["overflow"] > 0]
        tags = [tag for tag, _ in Nodes(email.body_html).tags]
        assert [1, 1, 1] == [tags.count(tag) for tag in ("title", "main", "h1")]
        assert ("REHEARSAL: " if rehearsal else "") + heading_of(email.body_html) == email.subject


def heading_of(page):
    """What stands in its h1."""
    return re.search("<h1[^>]*>([^<]+)</h1>", page)[1]


def test_ids_that_stripe_says_in_slack_can_be_copied(occasion):
    """The note quotes ids of Stripe's; only what would format is replaced."""

    assert "po_1Ab_c was returned, ＿really＿" == slack_text("po_1Ab_c was returned, _really_")


def test_the_same_payout_gives_the_same_messages(occasion):
    """Rendering again is not a second message: text, ids and deduplication keys are equal."""

    assert compose(occasion, at=NIGHT) == compose(occasion, at=NIGHT)
    assert 2 == len({message.dedup_key for message in compose(occasion, at=NIGHT)})


TICKET = ["*bold* _x_ `c`", "a | b", "[x](http://evil)", "# x", "a & b < c", "![x](y)", "~~x~~", "1 <3 2"]


@pytest.mark.parametrize("text", TICKET)
def test_free_text_in_the_ticket_is_no_markdown(desk, text):
    """What the form accepts as a note is shown in the ticket with its own characters, and as nothing else."""
    parameters = replace(demo_parameters(), notes=check("notes", text), incident_id="INC-T1")
    requester = desk.registry.find("maya")
    filed, _ = file_request(desk, parameters, requester, replace=True)
    ticket = ticket_text(desk, filed)
    shown = re.search(r"\| Notes \| (.*) \|\n", ticket).group(1)

    assert text == re.sub(r"\\(.)", r"\1", shown)
    assert not re.search(r"(?<!\\)[*_`|\[\]<>#!~]", shown)
    assert "**REHEARSAL (sandbox): no real money moves.**" in ticket


@pytest.mark.parametrize(
    "text", [name for name in HOSTILE if unicodedata.normalize("NFC", name).isprintable() is False]
)
def test_what_cannot_be_seen_never_reaches_the_form(text):
    """Line breaks, controls and bidirectional marks are refused where a person types them."""
    with pytest.raises(ParameterError, match=r"without U\+|without spaces"):
        check("notes", text)


FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", " =1", "  +1", "＝1", "＋1", "－1", "＠x", "\u200b=1",
            "\ufeff=1", " \u200b =1", "\tx", '=HYPERLINK("http://evil","x")', "=cmd|'/c calc'!A0", "-2+3+cmd|' /C calc'!A0"]  # fmt: skip


@pytest.mark.parametrize("cell", FORMULAS, ids=repr)
def test_no_cell_of_the_export_is_a_formula(cell):
    """A spreadsheet takes the cell for text; whoever reads the file with a program finds the value behind one quote."""
    text = csv_text([{"status": "failed", "name": cell}])
    row = next(csv.DictReader(io.StringIO(text, newline="")))

    assert f"'{cell}" == row["name"]
    assert "failed" == row["status"]


@given(st.text(max_size=40))
def test_every_cell_is_kept_behind_at_most_one_quote(cell):
    """Nothing of the ledger's value is lost by making it harmless, and no harmless value is touched."""
    found = defused(cell)

    assert found in (cell, f"'{cell}")
    assert not found.lstrip().startswith(("=", "+", "-", "@"))


@pytest.mark.parametrize(
    "cell", ["Harbor Light Pottery", "1250.75", "", "a=b", "x-1", "2026-03-02T01:04:11Z", "a@b.example"]
)
def test_an_ordinary_cell_is_left_as_it_is(cell):
    """Figures, instants and addresses stay what they are for programs."""

    assert cell == defused(cell)
