"""Configuration: what cannot be right is refused by name, what is secret is not shown, what is documented is true."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from manual_payout.desk.people import load_registry
from manual_payout.desk.settings import Policy, Settings, load_settings, read_policy, variables
from manual_payout.desk.wiring import open_desk
from manual_payout.domain.errors import SettingsError
from manual_payout.domain.models import Mode

DOCS = Path(__file__).parents[2] / "docs"
KEY = "rk_test_0123456789abcdef"


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch):
    """No variable of the developer's own."""
    for name in variables().values():
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(name="policy")
def _policy(tmp_path, monkeypatch):
    """Write a policy file and name it."""

    def write(text: str) -> Path:
        path = tmp_path / "policy.toml"
        path.write_text(text, "utf-8")
        monkeypatch.setenv("MANUAL_PAYOUT_POLICY", str(path))
        return path

    return write


def test_without_any_configuration_it_is_the_sandbox():
    """Whoever configures nothing can move nothing."""
    settings = load_settings()

    assert Mode.SANDBOX is settings.mode
    with pytest.raises(SettingsError, match="STRIPE_FALLBACK_SECRET_KEY is not set"):
        settings.fallback_secret()


@pytest.mark.parametrize(
    ("name", "value", "field", "expected"),
    [
        ("DATABASE_URL", "sqlite:////x/y.sqlite", "database_text", "sqlite:////x/y.sqlite"),
        ("DATABASE_URL", "sqlite:////x/y.sqlite", "ledger_database_text", "sqlite:////x/y.sqlite"),
        ("LEDGER_DATABASE_URL", "sqlite:////x/z.sqlite", "ledger_database_text", "sqlite:////x/z.sqlite"),
        ("STRIPE_FALLBACK_SECRET_KEY", KEY, "fallback_secret", KEY),
        ("STRIPE_FALLBACK_SECRET_KEY_COMMAND", f"echo {KEY}", "fallback_secret", KEY),
        ("STRIPE_READ_SECRET_KEY", KEY, "read_secret", KEY),
        ("STRIPE_READ_SECRET_KEY_COMMAND", f"printf '{KEY}\\r\\n'", "read_secret", KEY),
        ("STRIPE_READ_SECRET_KEY", "", "read_secret", None),
        ("STRIPE_REHEARSAL_SECRET_KEY", KEY, "rehearsal_secret", KEY),
        ("STRIPE_REHEARSAL_SECRET_KEY_COMMAND", f"printf '{KEY}\\r\\n'", "rehearsal_secret", KEY),
        ("MANUAL_PAYOUT_OUTPUTS", "/x/out", "outputs_dir", Path("/x/out")),
        ("MANUAL_PAYOUT_HOME", "/x/home", "outputs_dir", Path("/x/home/outputs")),
        ("MANUAL_PAYOUT_APPROVERS", "/x/people.toml", "approvers_path", Path("/x/people.toml")),
        ("MANUAL_PAYOUT_OPERATOR", "tomas", "operator", "tomas"),
        ("STRIPE_API_BASE", "http://127.0.0.1:12111/", "stripe_api_base", "http://127.0.0.1:12111"),
        ("STRIPE_API_BASE", "http://localhost:80", "stripe_api_base", "http://localhost:80"),
        ("STRIPE_API_BASE", "http://[::1]:12111", "stripe_api_base", "http://[::1]:12111"),
        ("STRIPE_API_BASE", "https://api.stripe.com/", "stripe_api_base", "https://api.stripe.com"),
    ],
)
def test_each_variable_is_read(monkeypatch, name, value, field, expected):
    """What is exported is what is used; a line break after a key is not part of it."""
    monkeypatch.setenv(name, value)
    found = getattr(load_settings(), field)

    assert expected == (found() if callable(found) else found)


@pytest.mark.parametrize("mode", ["test", "live"])
@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({}, "DATABASE_URL"),
        ({"DATABASE_URL": "sqlite:////x/y.sqlite"}, "LEDGER_DATABASE_URL"),
    ],
)
def test_outside_the_sandbox_no_database_is_a_default(monkeypatch, policy, mode, given, named):
    """A silent file would look like a database in which nothing was ever paid; nothing is made on the way."""
    policy(f'[stripe]\nmode = "{mode}"\n')
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(
        SettingsError, match=f"^{named} is not set in {mode} mode: found nothing, expected the URL"
    ) as caught:
        open_desk(load_settings())

    assert f"Export {named}" in caught.value.remedy


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"SMTP_HOST": "smtp.marketplace.example"}, "messages.support_from"),
        ({"SLACK_BOT_TOKEN": "xoxb-1234567890123"}, "messages.incident_url"),
        ({"PAGERDUTY_ROUTING_KEY": "R0123456789abcdefgh"}, "messages.incident_url"),
    ],
)
def test_live_messages_have_no_sender_and_no_page_of_the_demo(monkeypatch, policy, given, named):
    """What is left out of a live policy is not filled in with the demo's addresses, once something would send them."""
    policy('[stripe]\nmode = "live"\n')
    for name, value in (
        given | dict.fromkeys(("DATABASE_URL", "LEDGER_DATABASE_URL"), "sqlite:////x/y.sqlite")
    ).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=f"^{named} is not in the policy file in live mode"):
        open_desk(load_settings())


def test_a_setting_called_home_does_not_take_the_shells(monkeypatch):
    """HOME is everybody's; ours has a name of its own."""
    monkeypatch.setenv("HOME", "/x/shell")
    monkeypatch.setenv("OPERATOR", "priya")
    settings = load_settings()

    assert (Path(), "") == (settings.home, settings.operator)


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("rk_test_01234567 rk_test_89", "it holds a space"),
        ("rk_test_01234567\nrk_test_89", "it holds a line break"),
        ("rk_test_01234567\r\nrk_test_89", "it holds a line break"),
        (f'"{KEY}"', "it stands in quotes"),
        (f"'{KEY}'", "it stands in quotes"),
        ("rk_test_ä1234567", "other characters"),
        ("rk-test-01234567", "other characters"),
        ("   ", "is not set"),
    ],
)
def test_a_malformed_key_is_described_but_never_shown(monkeypatch, key, said):
    """The sentence says what is wrong with it, and holds no part of it."""
    monkeypatch.setenv("STRIPE_FALLBACK_SECRET_KEY", key)
    with pytest.raises(SettingsError, match=said) as caught:
        load_settings().fallback_secret()

    assert "1234567" not in str(caught.value)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("echo rk_test_halfkey0; exit 3", "_COMMAND ended with exit code 3"),
        ("echo oops rk_test_halfkey0 >&2; false", "ended with exit code 1"),
        ("true", "_COMMAND printed nothing"),
        ("no-such-secret-manager", "ended with exit code 127"),
        ("printf 'a\\nb'", "it holds a line break"),
        ("printf '\\377'", "other characters"),
    ],
)
def test_a_command_that_prints_no_key_is_refused_without_its_output(monkeypatch, command, said):
    """What a failing secret manager printed may be half a key, so it is not shown."""
    monkeypatch.setenv("STRIPE_READ_SECRET_KEY_COMMAND", command)
    with pytest.raises(SettingsError, match=re.escape(said)) as caught:
        load_settings().read_secret()

    assert "halfkey" not in str(caught.value)


@pytest.mark.parametrize(
    "address",
    [
        "http://api.stripe.com", "https://api.stripe.com:444", "https://evil.example", "http://127.0.0.1", "127.0.0.1:1",
        "http://127.0.0.1@evil.example:80", "http://u:pw1234@127.0.0.1:80", "http://127.0.0.1:80/v1", "http://[::1",
        "http://127.0.0.1:port", "http://127.0.0.1:99999", "https://127.0.0.1:80", "ftp://127.0.0.1:80",
        "http://0.0.0.0:80", "http://127.0.0.1.evil.example:80", "http://localhost:80?x", "file:///etc/passwd", " ",
    ],
)  # fmt: skip
def test_in_sandbox_mode_only_this_machine_is_stripe(monkeypatch, address):
    """Every address that is not plainly the local sandbox is refused, without repeating what may hold a password."""
    monkeypatch.setenv("STRIPE_API_BASE", address)
    with pytest.raises(SettingsError, match="STRIPE_API_BASE is not a loopback address") as caught:
        load_settings()

    assert "pw1234" not in str(caught.value)


@pytest.mark.parametrize("mode", ["test", "live"])
@pytest.mark.parametrize("address", ["http://127.0.0.1:12111", "https://api.stripe.com.evil.example"])
def test_outside_the_sandbox_only_stripe_is_stripe(monkeypatch, policy, mode, address):
    """A live key is never sent to another address."""
    policy(f'[stripe]\nmode = "{mode}"\n')
    monkeypatch.setenv("STRIPE_API_BASE", address)
    with pytest.raises(SettingsError, match=f"another address than https://api.stripe.com in {mode} mode"):
        load_settings()


def test_a_relay_may_stand_before_the_test_mode(monkeypatch, policy):
    """A rehearsal's own policy file says so; the address is held to this machine as the sandbox's is."""
    policy('[stripe]\nmode = "test"\nrelay = true\n')
    monkeypatch.setenv("STRIPE_API_BASE", "http://127.0.0.1:12111/")

    assert "http://127.0.0.1:12111" == load_settings().stripe_api_base

    monkeypatch.setenv("STRIPE_API_BASE", "https://evil.example")
    with pytest.raises(SettingsError, match="loopback address with a port, which test mode expects"):
        load_settings()


@pytest.mark.parametrize("mode", ["live", "sandbox"])
def test_nothing_stands_between_a_live_key_and_stripe(policy, mode):
    """A relay is for test mode alone, whatever a policy file says."""
    policy(f'[stripe]\nmode = "{mode}"\nrelay = true\n')
    with pytest.raises(SettingsError, match=f"a relay is for test mode alone, and the mode is {mode}"):
        load_settings()


def test_outside_the_sandbox_people_must_be_named(policy):
    """The demo's people approve nothing real."""
    policy('[stripe]\nmode = "test"\n')
    with pytest.raises(SettingsError, match="MANUAL_PAYOUT_APPROVERS is not set in test mode"):
        load_settings().approvers_path()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[stripe", "cannot be read"),
        ("[strip]\n", "strip in the policy file .* is not a known entry. Did you mean stripe?"),
        ("[request]\nlifetime_s = 5", "request.lifetime_s in the policy file .* Did you mean"),
        ("[request]\nwholly_else = 5", "Use one of: request_lifetime_s, approval_lifetime_s"),
        ("mode = 'live'", "mode in the policy file .* is not a known entry"),
        ("[stripe]\nmode = 'prod'", "stripe.mode in .*Input should be 'sandbox', 'test' or 'live'"),
        ("[stripe]\nplatform_account = 'me'", "stripe.platform_account in .* is wrong"),
        ("[stripe]\naccount_check = 'no'", "stripe.account_check in .* is wrong"),
        ("[stripe]\ntimeout_s = '30'", "stripe.timeout_s in .* is wrong"),
        ("[stripe]\ntimeout_s = 0", "stripe.timeout_s in .* greater than 0"),
        ("[stripe]\ntimeout_s = nan", "stripe.timeout_s in .* is wrong"),
        ("[settlement]\npoll_limit_s = inf", "settlement.poll_limit_s in .* finite"),
        ("[settlement]\ndone_rung = 'paid'", "settlement.done_rung in .* is wrong"),
        ("[request]\napproval_lifetime_s = '14400'", "approval_lifetime_s in .* valid integer"),
        ("[request]\napproval_lifetime_s = true", "approval_lifetime_s in .* valid integer"),
        ("[request]\napproval_lifetime_s = 1.5", "approval_lifetime_s in .* valid integer"),
        ("[request]\nrequest_lifetime_s = 1000000000000", "request_lifetime_s in .* less than or equal"),
        (
            "[request.amount_minor_max]\nUSD = 5",
            "'USD' is not a currency that Stripe supports, in lower case such as usd",
        ),
        ("[request.amount_minor_max]\nxxx = 5", "'xxx' is not a currency"),
        ("[request.amount_minor_max]\nusd = 50.5", "amount_minor_max.usd in .* valid integer"),
        ("[request.reserve_minimum_minor]\nusd = -1", "reserve_minimum_minor.usd in .* greater than or equal to 0"),
        ("[messages]\nincident_url = 'https://t.example/browse'", r"an address with \{incident_id\} in it"),
        ("[messages]\nincident_url = 'https://t.example/{incident}/{incident_id}'", "no other name in braces"),
        ("[messages]\nincident_url = 'https://t.example/{incident_id.__class__}'", r"an address with \{incident_id\}"),
        ("[messages]\nincident_url = 'javascript:{incident_id}'", r"an address with \{incident_id\}"),
        ('[messages]\nsupport_from = "A <a@b.example>\\nBcc: x@y.example"', "one line of text is expected"),
        ("[messages]\nsupport_from = 'nobody'", "an email address such as"),
        ("[messages]\nslack_channel = ''", "one line of text is expected"),
        ("[ledger]\nfailed_status = ''", "one line of text is expected"),
        ("stripe = 5", "stripe in the policy file .* is wrong"),
    ],
)
def test_a_policy_entry_that_would_mean_nothing_or_something_else_is_refused(policy, text, said):
    """The entry is named; a misspelt one with the name that was probably meant."""
    policy(text)
    with pytest.raises(SettingsError, match=said):
        load_settings()


@pytest.mark.parametrize("content", [b"\xff\xfe", b"\x00"])
def test_a_policy_file_that_is_no_text_is_refused(policy, content):
    """Binary is said to be unreadable."""
    policy("").write_bytes(content)
    with pytest.raises(SettingsError, match="cannot be read"):
        load_settings()


@given(st.text(max_size=60))
def test_no_policy_text_ends_in_anything_but_a_policy_or_a_sentence(tmp_path_factory, text):
    """Whatever stands in the file, the answer is a policy or one error."""
    path = tmp_path_factory.mktemp("policy") / "policy.toml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        found = read_policy(path)
    except SettingsError as error:
        found = error.message

    assert isinstance(found, Policy) or str(path) in found


@pytest.mark.parametrize("name", ["JIRA_USER", "SMTP_USERNAME", "JIRA_REHEARSAL_ISSUE"])
@pytest.mark.parametrize("secret", [KEY, "xq7-hT9zQ4mVx2", "p@ss/word-of-it"])
def test_secret_in_a_variable_that_is_sent_as_it_is_is_refused(monkeypatch, name, secret):
    """Jira would be told the mail server's password as a user's name."""
    monkeypatch.setenv("SMTP_PASSWORD", "xq7-hT9zQ4mVx2")
    monkeypatch.setenv("SMTP_USERNAME", "support")
    monkeypatch.setenv("DATABASE_URL", "postgresql://payout:p%40ss%2Fword-of-it@db/payout")
    monkeypatch.setenv(name, secret)

    with pytest.raises(SettingsError, match=f"{name} holds a secret") as refused:
        load_settings()
    assert secret not in str(refused.value)


def test_no_representation_of_settings_shows_a_secret(monkeypatch):
    """A traceback or a debug print of the settings gives nothing away."""
    monkeypatch.setenv("STRIPE_FALLBACK_SECRET_KEY", KEY)
    monkeypatch.setenv("DATABASE_URL", "postgresql://payer:topsecretpw@db.example/payouts")
    settings = load_settings()

    assert not [
        secret for secret in (KEY, "topsecretpw") if secret in f"{settings!r} {settings} {settings.model_dump()}"
    ]


def entries(section: type[BaseModel], prefix: str = "") -> list[str]:
    """Name every entry of the policy file."""
    found = []
    for name, info in section.model_fields.items():
        kind = info.annotation
        nested = isinstance(kind, type) and issubclass(kind, BaseModel)
        found += entries(kind, f"{prefix}{name}.") if nested else [f"{prefix}{name}"]
    return found


def documented(heading: str) -> dict[str, list[str]]:
    """The rows of the table under a heading of docs/configuration.md, by their first cell."""
    page = (DOCS / "configuration.md").read_text("utf-8")
    part = page.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split(" | ")] for line in part.splitlines() if line.startswith("| `")
    ]
    return {row[0].strip("` |"): row for row in rows}


def test_every_variable_is_documented_and_no_other():
    """The table of the environment and the software name the same variables."""

    assert sorted(variables().values()) == sorted(documented("Environment"))
    assert len(variables()) == len(Settings.model_fields) - 1  # all but the policy itself


def test_every_policy_entry_is_documented_with_its_default():
    """The table and the software agree on names and, where it is a plain value, on defaults."""
    table, defaults = documented("Policy"), Policy().model_dump(mode="json")

    assert sorted(entries(Policy)) == sorted(table)
    for name, row in table.items():
        section, _, entry = name.partition(".")
        default = defaults[section][entry]
        # TOML has a lower-case true and false.
        plain = f"{default:g}" if isinstance(default, float) else json.dumps(default).strip('"')
        # An empty default is described in words.
        assert default in ("", {}) or row[2].strip("`") == plain, name


def test_table_that_is_gone_is_said_to_be_gone(policy):
    """Whoever kept an old policy file reads what is done now, instead of a list of the entries that are left."""
    policy("[break_glass]\nenabled = true\nhold_s = 900\n")
    with pytest.raises(SettingsError) as refused:
        load_settings()

    assert re.fullmatch(
        r"\[break_glass\] in the policy file \S+ is gone: a payout needs two approvals, always\.", refused.value.message
    )
    assert (
        "Delete the table; docs/approvals.md says how to have several approvers of each team." == refused.value.remedy
    )


def test_the_example_files_load_and_agree_with_each_other():
    """Whoever copies them starts from something that works: a live policy, and people enough for two approvals."""
    policy, people = (
        read_policy(DOCS / "examples" / "policy.toml"),
        load_registry(DOCS / "examples" / "approvers.toml").people,
    )

    assert Mode.LIVE is policy.stripe.mode
    approving = Counter(person.approving_team().value for person in people if "approve" in person.may)
    assert {"payments_ops": 2, "finance": 2} == approving
    assert any("operate" in person.may for person in people)
    assert all(line.split(" = ")[0] in str(entries(Policy)) for line in _plain_lines(DOCS / "examples" / "policy.toml"))


def _plain_lines(path: Path) -> list[str]:
    lines = path.read_text("utf-8").splitlines()
    return [line for line in lines if re.match(r"[a-z_]{4,} = ", line)]
