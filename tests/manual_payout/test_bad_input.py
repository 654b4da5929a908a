"""Every mistake of a person is one sentence that names field, found, expected and remedy; and nothing is written."""

from __future__ import annotations

import itertools
import json

import pytest

from payout_rehearsal.demo import incident

FLAGS = {
    "incident-id": incident.INCIDENT_ID,
    "studio-id": incident.STUDIO_ID,
    "studio-name": incident.STUDIO_NAME,
    "ledger-payout-id": incident.LEDGER_PAYOUT_ID,
    "amount": incident.AMOUNT,
    "reserve-after": incident.RESERVE_AFTER,
    "reason": incident.REASON,
    "destination-account": incident.DESTINATION_ACCOUNT,
    "notes": incident.NOTES,
}

IDS = ["", " x", "x y", "x" * 65, f"{{{incident.STUDIO_ID}}}", "../x", "x\n", "x;y", "ä"]
TEXTS = [
    "two\r\nlines", "tab\there", "bell\a", "escape\x1b[31m", "zero\u200bwidth", "right\u202eleft", " leading", "trailing ",
    "<b>bold</b>", "<script>alert(1)</script>", "<!channel>", "<http://evil.example|x>", "<@U123>", "&#60;", "javascript:x",
    "\u2028", "byte\ufeffmark",
]  # fmt: skip
AMOUNTS = [
    "", " ", "0", "0.00", "-5", "-0.01", "+5", "1,250.75", "1.250,75", "1250.7x", "1e3", "NaN", "inf", "0x10", "1_000", "$5",
    "1250.75 USD", "１２５０", "1250.755", "99999999999999",
]  # fmt: skip

WRONG = {
    "incident-id": ["", "123", "INC", "INC-", "INC 123", "../INC-1", "INC-123/..", "INC-123\n", "INC-<b>", "I" * 200],
    "studio-id": IDS,
    "studio-name": ["", "   ", "n" * 1001, *TEXTS],
    "ledger-payout-id": IDS,
    "amount": AMOUNTS,
    "reserve-after": ["", "-1", "none", "310,00", "1e3"],
    "reason": ["", "because", "Scheduler_Outage", "scheduler outage", "scheduler_outrage"],
    "destination-account": ["", "acct_", "123", "ACCT_123", "acct_12 3", "acct-123", "ca_123", "acct_ä", "acct_123\n"],
    "notes": ["n" * 10_000, *TEXTS],
}
CASES = [(field, value) for field, values in WRONG.items() for value in values]


def flags(**changed):
    """The demo's flags, some changed, as arguments."""
    return list(itertools.chain(*((f"--{name}", value) for name, value in (FLAGS | changed).items())))


def assert_one_clear_sentence(answer, *named):
    """A person sees what, found, expected and what to do; neither a traceback nor a raw control character."""

    assert "Traceback" not in answer.said
    assert "What to do: " in answer.err
    assert all(name in answer.err for name in named), answer.err
    assert not {character for character in answer.said if ord(character) < 32} - {"\n"}
    assert len(answer.err) < 700


@pytest.mark.parametrize("command", ["request", "run"])
@pytest.mark.parametrize(("field", "value"), CASES, ids=lambda value: repr(value[:24]))
def test_a_wrong_parameter_is_refused_and_nothing_is_written(quiet_shell, command, field, value):
    """Whatever is wrong with one flag: exit 2, the flag's name, what was found, what is expected; the world is as before."""
    before = quiet_shell.state()
    who = ["--as", "maya"] if command == "request" else ["--operator", "tomas"]
    answer = quiet_shell(command, *who, *flags(**{field: value}))

    assert 2 == answer.code
    assert_one_clear_sentence(answer, field.replace("-", "_"), "found ", "expected ")
    assert before == quiet_shell.state()


@pytest.mark.parametrize("field", ["incident-id", "ledger-payout-id", "reason"])
def test_a_missing_parameter_is_named_by_its_flag(quiet_shell, field):
    """Whoever leaves out what the ledger cannot know is told the flag's name as it is typed."""
    given = {name: value for name, value in FLAGS.items() if name != field}
    answer = quiet_shell("request", "--as", "maya", *itertools.chain(*((f"--{n}", v) for n, v in given.items())))

    assert 2 == answer.code
    assert_one_clear_sentence(answer, f"--{field}: found 'nothing'", "Give the flag")


@pytest.mark.parametrize("secret", ["sk_live_0123456789abcdef", "rk_test_0123456789abcdef", "xoxb-0123456789-abc"])
@pytest.mark.parametrize("field", sorted(FLAGS))
def test_a_key_in_a_parameter_is_refused_without_being_shown(quiet_shell, field, secret):
    """A key pasted into the wrong place is not quoted back, wherever it was pasted."""
    before = quiet_shell.state()
    answer = quiet_shell("request", "--as", "maya", *flags(**{field: f"see {secret}"}))

    assert 2 == answer.code
    assert secret not in answer.said
    assert_one_clear_sentence(answer, field.replace("-", "_"), "rotate that key")
    assert before == quiet_shell.state()


@pytest.mark.parametrize("field", ["notes", "studio-name", "amount", "incident-id"])
def test_a_secret_of_any_shape_is_refused_by_its_value(quiet_shell, field):
    """A password looks like nothing in particular; it is known all the same, also in a file of parameters."""
    before = quiet_shell.state()
    answer = quiet_shell(
        "request",
        "--as",
        "maya",
        *flags(**{field: "see Harbor/light-7"}),
        SMTP_PASSWORD="Harbor/light-7",
        SMTP_USERNAME="x",
    )

    assert 2 == answer.code
    assert "light-7" not in answer.said
    assert_one_clear_sentence(answer, field.replace("-", "_"), "rotate that key")
    assert before == quiet_shell.state()


@pytest.mark.parametrize("secret", ["Harbor/light-7", "sk_live_0123456789abcdef"])
@pytest.mark.parametrize(
    "command",
    [
        ("reconcile", "INC-123", "--operator", "tomas", "--decide", "not-moved", "--because"),
        ("reversal", "request", "INC-123", "--as", "maya", "--all", "--reason", "paid_twice", "--notes"),
    ],
    ids=" ".join,
)
def test_a_secret_in_a_reason_is_refused_before_it_is_signed_kept_or_sent(quiet_shell, command, secret):
    """What a person gives as a reason goes into the journal, to PagerDuty and to Slack; a pasted secret goes nowhere."""
    before = quiet_shell.state()
    answer = quiet_shell(*command, f"see {secret}", SMTP_PASSWORD="Harbor/light-7", SMTP_USERNAME="x")

    assert 2 == answer.code
    assert secret not in answer.said
    assert_one_clear_sentence(answer, command[-1].removeprefix("--"), "rotate that key")
    assert before == quiet_shell.state()


@pytest.mark.parametrize(
    "command",
    [
        ("status", "--json", "Harbor/light-7"), ("approve", "INC-123", "--as", "Harbor/light-7", "--json"),
        ("deliver", "--operator", "Harbor/light-7"), ("verify", "Harbor/light-7"), ("run", "--file", "Harbor/light-7"),
    ],
)  # fmt: skip
def test_no_error_quotes_a_secret(quiet_shell, command):
    """An error tells what it found; where somebody pasted a secret, it tells that something was found."""
    answer = quiet_shell(*command, SMTP_PASSWORD="Harbor/light-7", SMTP_USERNAME="x")

    assert answer.code
    assert "[redacted]" in answer.err
    assert "light-7" not in answer.said


def test_a_key_in_an_unknown_parameter_is_not_shown_either(quiet_shell, tmp_path):
    """The refusal of a name quotes its value, except this one."""
    file = tmp_path / "p.yaml"
    file.write_text("stripe_key: sk_live_0123456789abcdef\n")
    answer = quiet_shell("run", "-f", file, "--operator", "tomas")

    assert 2 == answer.code
    assert "sk_live" not in answer.said


YAML = {
    "amount: 0123": "amount: found '0123', expected text in quotes; YAML reads this as 83",
    "amount: 1:30": "amount: found '1:30', expected text in quotes; YAML reads this as 90",
    "amount: 1_250.75": "amount: found '1_250.75', expected text in quotes",
    "amount: 0x4e2": "YAML reads this as 1250",
    "amount: 1.25075e+3": "YAML reads this as 1250.75",
    "amount: 12345678901234567.89": "expected text in quotes; YAML reads this as 1.2345678901234568e+16",
    "amount: -5": "amount: found '-5'",
    "amount: .inf": "YAML reads this as inf",
    "amount: [1, 2]": "amount: found 'a sequence', expected one value",
    "amount:": "amount: found '', expected text in quotes; YAML reads this as None",
    "studio_name: NO": "studio_name: found 'NO', expected text in quotes; YAML reads this as False",
    "studio_name: on": "YAML reads this as True",
    "studio_name: 1984": "YAML reads this as 1984",
    "studio_name: ~": "YAML reads this as None",
    "notes: 12:30:45": "YAML reads this as 45045",
    "incident_id: 5": "incident_id: found '5'",
    "dry_run: 1": "expected true or false; YAML reads this as 1",
    "studioname: x": "Did you mean studio_name?",
    "destination: acct_123": "Did you mean destination_account?",
    "wholly_else: 1": "The names are: incident_id",
    "amount: 1\namount: 2": "amount: found '2', expected each name once",
    "? [a, b]\n: 1": "no parameter of that name",
    "amount: !!python/object/apply:os.system [id]": "amount: found 'a sequence'",
    "amount: !!python/name:os.system x": "a value without a YAML tag",
    "notes: see #4711": "notes: found 'see #4711', expected text in quotes; YAML reads only 'see' of this",
    "\ufeffstudio_name: A  #1": "studio_name: found 'A #1', expected text in quotes",
    "amount: !!int abc": "expected what its YAML tag says",
}


@pytest.mark.parametrize("text", YAML, ids=lambda text: text[:28])
def test_yaml_is_taken_as_it_was_typed_or_not_at_all(quiet_shell, tmp_path, text):
    """What YAML would read differently from what the person sees is refused, with how to write it."""
    before, file = quiet_shell.state(), tmp_path / "p.yaml"
    file.write_text(text + "\n")
    answer = quiet_shell("run", "-f", file, "--operator", "tomas")

    assert 2 == answer.code
    assert_one_clear_sentence(answer, YAML[text])
    assert before == quiet_shell.state()


FILES = {
    b"- a\n- b\n": "holds a sequence, expected names and values",
    b"just text": "holds a scalar, expected names and values",
    b"": "holds nothing, expected names and values",
    b"# only a comment\n": "holds nothing",
    b"amount: 'open\n": "is not YAML in line",
    b"a: b: c\n": "is not YAML in line 1",
    b"\tamount: 1\n": "is not YAML in line 1",
    b"amount: 1\n---\namount: 2\n": "is not YAML in line 2",
    b"\xff\xfe": "is not UTF-8 text",
    b"\x00": "is not YAML",
    b"[" * 5000: "is not YAML",
    b"a" * 200_000: "has 200000 bytes",
}


@pytest.mark.parametrize("content", FILES, ids=lambda content: repr(content[:16]))
def test_a_file_that_holds_no_parameters_is_refused(quiet_shell, tmp_path, content):
    """Not YAML, a list, empty, binary, nested without end or huge: one sentence with the file's name."""
    file = tmp_path / "p.yaml"
    file.write_bytes(content)
    answer = quiet_shell("run", "-f", file, "--operator", "tomas")

    assert 2 == answer.code
    assert_one_clear_sentence(answer, "p.yaml", FILES[content])


def test_a_missing_file_and_a_folder_are_refused(quiet_shell, tmp_path):
    """The reason is the operating system's."""
    missing = quiet_shell("run", "-f", tmp_path / "none.yaml", "--operator", "tomas")
    folder = quiet_shell("request", "-f", tmp_path, "--as", "maya")

    assert (2, 2) == (missing.code, folder.code)
    assert_one_clear_sentence(missing, "none.yaml cannot be read: No such file or directory")
    assert_one_clear_sentence(folder, "cannot be read: Is a directory")


SETTINGS = [
    ({"STRIPE_FALLBACK_SECRET_KEY": None}, 2, "STRIPE_FALLBACK_SECRET_KEY is not set"),
    ({"STRIPE_FALLBACK_SECRET_KEY": "rk_live_0123456789abcdef"}, 2, "but the mode is sandbox"),
    ({"STRIPE_FALLBACK_SECRET_KEY": "pk_test_0123456789abcdef"}, 2, "neither a restricted key"),
    ({"STRIPE_FALLBACK_SECRET_KEY": "rk_test_01234567\nrk_test_01234567"}, 2, "it holds a line break"),
    ({"STRIPE_FALLBACK_SECRET_KEY": '"rk_test_0123456789abcdef"'}, 2, "it stands in quotes"),
    ({"STRIPE_FALLBACK_SECRET_KEY": None, "STRIPE_FALLBACK_SECRET_KEY_COMMAND": "exit 7"}, 2, "ended with exit code 7"),
    ({"STRIPE_FALLBACK_SECRET_KEY": None, "STRIPE_FALLBACK_SECRET_KEY_COMMAND": "true"}, 2, "printed nothing"),
    ({"STRIPE_API_BASE": "http://127.0.0.1:1"}, 2, "does not answer"),
    ({"STRIPE_API_BASE": None}, 2, "STRIPE_API_BASE is not set"),
    ({"STRIPE_API_BASE": "https://evil.example"}, 2, "not a loopback address"),
    ({"DATABASE_URL": "postgresql://payer:topsecretpw@127.0.0.1:1/payouts"}, 5, "did not answer"),
    ({"DATABASE_URL": "postgresql://payer:topsecretpw@h:port/payouts"}, 2, "DATABASE_URL is not a database URL"),
    ({"DATABASE_URL": "topsecretpw"}, 2, "DATABASE_URL is not a database URL"),
    ({"DATABASE_URL": "mysql://payer:topsecretpw@h/payouts"}, 2, "found a mysql database"),
    ({"DATABASE_URL": "sqlite:////nonexistent/x.sqlite"}, 5, "does not exist yet"),
    ({"LEDGER_DATABASE_URL": "postgresql://payer:topsecretpw@127.0.0.1:1/ledger"}, 5, "ledger"),
    ({"MANUAL_PAYOUT_POLICY": "/nonexistent/policy.toml"}, 2, "cannot be read: No such file"),
    ({"MANUAL_PAYOUT_APPROVERS": "/nonexistent/people.toml"}, 2, "cannot be read: No such file"),
    ({"MANUAL_PAYOUT_ALLOWED_SIGNERS": "/nonexistent/allowed_signers"}, 2, "cannot be read: No such file"),
    (
        {"MANUAL_PAYOUT_ALLOWED_SIGNERS": "docs/examples/allowed_signers"},
        2,
        "is not the email of anybody in approvers.toml",
    ),
    (
        {
            "MANUAL_PAYOUT_POLICY": "docs/examples/policy.toml",
            "MANUAL_PAYOUT_APPROVERS": "lib/manual_payout/desk/sandbox/approvers.toml",
            "STRIPE_API_BASE": None,
        },
        2,
        "has a key of the sandbox, which anybody can make, in live mode",
    ),
    (
        {"MANUAL_PAYOUT_POLICY": "docs/examples/policy.toml", "STRIPE_API_BASE": None, "DATABASE_URL": None},
        2,
        "DATABASE_URL is not set in live mode",
    ),
    (
        {"MANUAL_PAYOUT_POLICY": "docs/examples/policy.toml", "STRIPE_API_BASE": None, "LEDGER_DATABASE_URL": None},
        2,
        "LEDGER_DATABASE_URL is not set in live mode: found nothing, expected the URL of the marketplace's ledger",
    ),
    ({"MANUAL_PAYOUT_OPERATOR": None}, 2, "--operator: found 'nothing'"),
    ({"MANUAL_PAYOUT_OPERATOR": "nobody"}, 2, "expected a registered person who may operate"),
    ({"MANUAL_PAYOUT_OPERATOR": "priya"}, 3, "Priya Raman may not operate"),
]


@pytest.mark.parametrize(("environment", "code", "said"), SETTINGS, ids=lambda value: str(value)[:60])
def test_a_wrong_setting_is_one_sentence_before_any_notebook_starts(quiet_shell, environment, code, said):
    """A key, an address, a database or a person that cannot be right: said at once, without secrets, and nothing is written."""
    before = quiet_shell.state()
    answer = quiet_shell("run", *flags(), **({"MANUAL_PAYOUT_OPERATOR": "tomas"} | environment))

    assert code == answer.code, answer.err
    assert_one_clear_sentence(answer, said)
    assert "topsecretpw" not in answer.said
    assert "0123456789abcdef" not in answer.said
    assert before == quiet_shell.state()


@pytest.mark.parametrize("url", ["postgresql://payer:topsecretpw@127.0.0.1:1/x", "postgresql://payer:topsecret@pw@h/x"])
@pytest.mark.parametrize("command", [["db", "upgrade"], ["status"]], ids=" ".join)
def test_a_database_out_of_reach_keeps_its_password_secret(quiet_shell, command, url):
    """An unescaped @ in a password must not make half of it a host name that is shown."""
    answer = quiet_shell(*command, DATABASE_URL=url)

    assert answer.code in {2, 5}
    assert_one_clear_sentence(answer)
    assert "topsecret" not in answer.said
    assert "pw@" not in answer.said


def test_an_error_for_programs_is_json(quiet_shell):
    """With --json the same four things come as fields, on standard error."""
    answer = quiet_shell("request", "--json", "--as", "maya", *flags(amount="-5"))
    told = json.loads(answer.err)

    assert (2, "") == (answer.code, answer.out)
    assert {"error", "message", "remedy", "exit_code", "state", "safe_to_repeat"} == set(told)
    assert "amount: found '-5', expected a positive amount" in told["message"]
