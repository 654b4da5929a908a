"""Secrets leave no trace of their value, and everything else stays as it was."""

from __future__ import annotations

import base64
import html
import json
import re
import string
from urllib.parse import quote, quote_plus

import markupsafe
import nbformat
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from manual_payout.desk.secret_settings import passwords_in, refuse_typed_secret, secrets_in
from manual_payout.domain.errors import ParameterError, SettingsError
from truthful_papermill.redaction import _BREAKS, Redactor, redact_notebook

KEY = "rk_live_51Habcdefgha91f"
PASSWORD = 'p@ss wörd/"1\\'
# The mark itself is written with brackets: a secret with a bracket at its edge can meet one.
SECRETS = st.text(string.ascii_letters + string.digits + "-_.~!@#$%^&*()+=/\\'\"<>?äß€", min_size=8, max_size=40)
ANY_TEXT = st.text(string.ascii_letters + string.digits + " \n:/=", max_size=40)
FORMS = {
    "raw": lambda secret: secret,
    "url": lambda secret: quote(secret, safe=""),
    "form": quote_plus,
    "lower_hex": lambda secret: re.sub("[/%+@]", lambda found: f"%{ord(found[0]):02x}", secret),
    "html": html.escape,
    "jinja": lambda secret: str(markupsafe.escape(secret)),
    "json_in_json": lambda secret: json.dumps(json.dumps({"a": secret})),
    "json": json.dumps,
    "repr": repr,
    "base64_0": lambda secret: base64.b64encode(secret.encode()).decode(),
    "base64_1": lambda secret: base64.b64encode(b"x" + secret.encode() + b"yz").decode(),
    "base64_2": lambda secret: base64.urlsafe_b64encode(b"user:" + secret.encode()).decode(),
    "mime": lambda secret: base64.encodebytes(b"x" * 60 + secret.encode()).decode(),
    "broken_line": lambda secret: secret[:4] + "\n" + secret[4:],
    "broken_often": lambda secret: "\r\n".join(secret[at : at + 3] for at in range(0, len(secret), 3)),
    "lines_in_json": lambda secret: json.dumps([secret[:4] + "\n", secret[4:]], indent=4),
    "broken_in_json": lambda secret: json.dumps(secret[:4] + "\n" + secret[4:]),
    "broken_in_repr": lambda secret: repr(secret[:4] + "\r\n" + secret[4:]),
    "coloured": lambda secret: secret[:3] + "\x1b[1;31m" + secret[3:],
    "coloured_in_json": lambda secret: json.dumps(secret[:3] + "\x1b[0m" + secret[3:]),
    "hexadecimal": lambda secret: secret.encode().hex(),
    "upper_hexadecimal": lambda secret: secret.encode().hex().upper(),
    "base64_of_json": lambda secret: base64.b64encode(json.dumps({"a": secret}).encode()).decode(),
    "base64_of_url": lambda secret: base64.b64encode(quote(secret, safe="").encode()).decode(),
    "csv": lambda secret: '"' + secret.replace('"', '""') + '"',
    "sql": lambda secret: "'" + secret.replace("'", "''") + "'",
}


# What breaks a text as one would write it down.
PLAIN_COLOUR = r"(?:\x1b|\\u001b|\\x1b)\[[0-9;]*m"
PLAIN_ESCAPED = rf'(?:\\[rn])*",?\r?\n[ \t]*"|(?:\\[rn])+|{PLAIN_COLOUR}'
PLAIN_BREAKS = (rf"\r?\n|{PLAIN_COLOUR}", PLAIN_ESCAPED, rf"\\\\|{PLAIN_ESCAPED}")
NEAR_BREAKS = st.lists(
    st.sampled_from(["\r", "\n", "\\n", "\\r", '"', ",", " ", "\x1b", "\\u001b", "\\x1b", "[0m", "[1;", "m", "a", "\\"])
)


@given(pieces=NEAR_BREAKS)
def test_breaks_are_found_as_fast_patterns_and_plain_ones_find_them(pieces):
    """They are written so that Python passes over other characters at once, and mean the same."""
    text = "".join(pieces)
    fast = [[match.span() for match in breaks.finditer(text)] for breaks, _ in _BREAKS]

    assert [[match.span() for match in re.finditer(breaks, text)] for breaks in PLAIN_BREAKS] == fast


@pytest.mark.parametrize("form", FORMS)
@example(secret="000000\\r", before="", after="")
@example(secret="000\\\\n\\\\", before="\\", after="")
@given(secret=SECRETS, before=ANY_TEXT, after=ANY_TEXT)
def test_no_form_of_a_secret_survives(form, secret, before, after):
    """Whatever a library made of the secret, the redactor finds it, and finds nothing in its own result."""
    redactor = Redactor([secret])
    written = FORMS[form](secret)

    result = redactor.redact(before + written + after)

    assert redactor.find(before + written + after)
    assert redactor.find(result) == []
    assert written not in result


LONG = "hT9zQ4mVx2LpR8sKw7Yd3NfB"


@pytest.mark.parametrize(
    "shown",
    [
        LONG[:12], LONG[-12:], LONG[5:20], f"{LONG[:12]}...{LONG[-13:]}", f"{LONG[:20]}…", f"{LONG[:9]}\n{LONG[9:14]}",
        f"{LONG[2:8]}\x1b[0m{LONG[8:16]}",
    ],
)  # fmt: skip
def test_a_piece_of_a_secret_is_removed_too(shown):
    """A table, a debugger and `reprlib` cut a text short; what they leave is enough to look a secret up by."""
    redactor = Redactor([LONG])
    result = redactor.redact(f"before {shown} after")

    assert ["a piece of a secret of this installation"] == redactor.find(shown)
    assert re.fullmatch(r"before \[redacted\](?:(?:\.\.\.)?\[redacted\])?…? after", result), result


def test_what_tells_nothing_of_a_secret_is_no_piece_of_it():
    """An account's id is in its key, a host in a webhook's address, and a password may be made of words."""
    key = "rk_live_51NvABCDEFGHIJKLMxQ7hT9zQ4mVx2LpR8sKw7"
    hook = "http://127.0.0.1:40000/services/T0/B0/hT9zQ4mVx2LpR8"
    redactor = Redactor([key, hook, "a marketplace moves money"])

    for text in ("acct_1NvABCDEFGHIJKLM", "http://127.0.0.1:40000/api/", "the marketplace moves", LONG[:11]):
        assert text == redactor.redact(text)
        assert [] == redactor.find(text)


def test_webhook_is_found_where_a_library_tells_its_host_and_its_path_apart():
    """As the error of a connection does."""
    hook = "https://hooks.slack.com/services/T0/B0/hT9zQ4mVx2LpR8"
    said = (
        f"HTTPSConnectionPool(host='hooks.slack.com', port=443): Max retries exceeded with url: {hook[23:]} (refused)"
    )

    assert said.replace(hook[24:], "[redacted]") == Redactor([hook]).redact(said)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://payout:p%40ss%2Fword@db/payout", ["p@ss/word", "p%40ss%2Fword"]),
        ("postgresql://payout:p@ss/word@db/payout", ["p", "p@ss/word"]),
        ("postgresql://payout:pa?ssword@db/payout", ["pa?ssword"]),
        ("postgresql://payout:pa[ssword@db:port/payout", ["pa[ssword"]),
        ("postgresql://payout@db/payout?password=in-the-query&sslpassword=of-the-key", ["in-the-query", "of-the-key"]),
        ("postgresql://payout@db/payout?options=a:b@c", []),
        ("sqlite:////var/payout.sqlite", []),
        ("", []),
    ],
)
def test_password_of_a_database_is_found_wherever_the_url_has_it(url, expected):
    """Also where the URL is wrong: that is when a driver quotes it."""
    assert expected == passwords_in(url)


@given(secret=SECRETS, text=ANY_TEXT)
def test_redacting_twice_changes_nothing(secret, text):
    """The mark of a removed secret is not itself redacted."""
    redactor = Redactor([secret, KEY])
    once = redactor.redact(f"{text}{secret}{KEY}{text}")

    assert once == redactor.redact(once)


@given(text=st.text())
def test_other_text_is_left_alone(text):
    """Text without a secret comes back as it was, as text and as bytes."""
    redactor = Redactor([KEY, PASSWORD])

    assert text == redactor.redact(text)
    assert text.encode(errors="surrogatepass") == redactor.redact(text.encode(errors="surrogatepass"))


@given(data=st.binary(), secret=SECRETS)
def test_bytes_that_are_no_text_survive_around_a_secret(data, secret):
    """A damaged file loses its secret and nothing else."""
    assert secret.encode() not in Redactor([secret]).redact(data + b"\n" + secret.encode() + b"\n" + data)


def test_a_key_leaves_its_mode_and_last_four_characters():
    """An operator must see which key it was, to rotate the right one."""
    expected = "key [redacted rk_live …a91f sha256:e8e106fe]"

    assert expected == Redactor([KEY]).redact(f"key {KEY}")
    assert expected == Redactor().redact(f"key {KEY}")


@pytest.mark.parametrize(
    ("text", "expected", "kinds"),
    [
        ("sk_test_****************a91f", "[redacted sk_test …a91f]", []),
        ("whsec_abcdefgh12345678", "[redacted]", ["a Stripe webhook secret"]),
        ("xoxb-1234567890-abcdef", "[redacted]", ["a Slack token"]),
        ("https://hooks.slack.com/services/T0/B0/x1y2", "https://[redacted]", ["a Slack webhook"]),
        ("https%3A%2F%2Fhooks.slack.com%2Fservices%2FT0%2FB0%2Fx1", "https%3A%2F%2F[redacted]", ["a Slack webhook"]),
        ("pk_live_51Habcdefgha91f acct_1Nv0FGQ9RKHgCVdK", "pk_live_51Habcdefgha91f acct_1Nv0FGQ9RKHgCVdK", []),
    ],
)
def test_what_looks_like_a_secret_is_removed_without_being_known(text, expected, kinds):
    """The second net; account ids and publishable keys are no secrets."""
    assert expected == Redactor().redact(text)
    assert kinds == Redactor().find(text)


@pytest.mark.parametrize("secret", ["", "  ", "short", "short\n", "redacted", "rk_live"])
def test_a_secret_that_would_shred_everything_is_refused(secret):
    """Better no run than evidence in which every other word is redacted."""
    with pytest.raises(SettingsError):
        Redactor([secret])


def test_white_space_around_a_secret_does_not_count():
    """A key file ends in a newline; the key in an output does not."""
    assert "[redacted]" == Redactor(["hunter2hunter2\n"]).redact("hunter2hunter2")


def test_a_secret_learned_later_is_removed_with_the_earlier_ones():
    """The key that a command prints joins what the environment told; the redactor it joins stays as it was."""
    first = Redactor(["hunter2hunter2"])
    both = first.with_secrets("opensesame\n", "hunter2hunter2")

    assert "[redacted] [redacted]" == both.redact("hunter2hunter2 opensesame")
    assert "[redacted] opensesame" == first.redact("hunter2hunter2 opensesame")
    with pytest.raises(SettingsError):
        first.with_secrets("short")


def test_secrets_of_an_environment_are_found_by_name():
    """Tokens, keys and database passwords are secrets; the names of channels and projects are not."""
    environment = {
        "STRIPE_FALLBACK_SECRET_KEY": KEY,
        "DATABASE_URL": "postgresql://payout:p%40ssw0rd@db/payout",
        "LEDGER_DATABASE_URL": "sqlite:///ledger.sqlite",
        "SLACK_BOT_TOKEN": "xoxb-1",
        "SLACK_WEBHOOK_URL": "https://hooks.slack.com/services/x",
        "SLACK_CHANNEL": "#payments",
        "SMTP_PASSWORD": "mailmail",
        "PAGERDUTY_ROUTING_KEY": "R0UT1NG",
        "JIRA_API_TOKEN": "jirajira",
        "JIRA_PROJECT_KEY": "PAY",
        "JIRA_TOKEN": "",
    }
    expected = {
        KEY,
        "p@ssw0rd",
        "p%40ssw0rd",
        "xoxb-1",
        "https://hooks.slack.com/services/x",
        "mailmail",
        "R0UT1NG",
        "jirajira",
    }

    assert expected == set(secrets_in(environment))


@pytest.mark.parametrize(
    ("typed", "remedy"),
    [
        ("Invalid API Key provided: sk_live_************a91f", "Take it out of notes."),
        (f"see {KEY}", "Take it out of notes and rotate that key: it was exposed."),
    ],
)
def test_what_redaction_would_change_is_not_taken_as_a_parameter(typed, remedy):
    """The journal is redacted after its digests are taken: they would never fit again. A mark of ours is left as it is."""
    with pytest.raises(ParameterError) as refused:
        refuse_typed_secret({"notes": typed})

    assert remedy == refused.value.remedy
    assert "a91f" not in refused.value.message
    refuse_typed_secret({"notes": Redactor().redact(typed)})


def test_a_redacted_notebook_is_still_a_notebook():
    """Even where a weak password is a word of the format, the result is valid, and names of fields are cleaned too."""
    cell = nbformat.v4.new_code_cell("print(1)", metadata={"tags": ["parameters"], KEY: KEY})
    cell.outputs = [nbformat.v4.new_output("display_data", {"application/json": {KEY: [KEY]}})]
    clean = redact_notebook(nbformat.v4.new_notebook(cells=[cell]), Redactor([KEY, "metadata", "stdout"]))

    nbformat.validate(clean)
    assert KEY not in nbformat.writes(clean)


@given(st.text(alphabet="[]redactskrxowh_livetoken-123…:. ", max_size=60), st.data())
def test_nothing_is_passed_over_that_could_begin_a_secret(around, data):
    """What is tried only where it can begin finds what it would find if it were tried everywhere."""
    found = data.draw(
        st.sampled_from([KEY, "whsec_abcdefgh12", "xoxb-123456789", "hooks.slack.com/services/T/B/x", '"q"uo tes"'])
    )
    redactor = Redactor(['"q"uo tes"'])
    everywhere = re.compile(redactor._pattern.pattern.partition(")(?:")[2][:-1])
    text = around + found + around

    assert [match.span() for match in everywhere.finditer(text)] == [
        match.span() for match in redactor._pattern.finditer(text)
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgresql://ledger:aB3...G57RXXIc@/scene_20?host=x", "postgresql://ledger:[redacted]@/scene_20?host=x"),
        ("https://tomas:short@jira.example/x", "https://tomas:[redacted]@jira.example/x"),
        ("postgresql://ledger:[redacted]@/scene", "postgresql://ledger:[redacted]@/scene"),
        ("http://127.0.0.1:12111/v1/transfers and priya@marketplace.example", None),
    ],
)
def test_password_of_a_url_goes_whatever_it_is(text, expected):
    """Known by its place: what a traceback leaves of a long one can be too short to be known by its value."""

    assert (expected or text) == Redactor(["another secret"]).redact(text)
    assert ([] if expected in (None, text) else ["the password in a URL"]) == Redactor().find(text)
