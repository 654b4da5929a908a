"""The command line as people and programs use it: every command, its answers, its exit codes, and what it leaves alone."""

from __future__ import annotations

import ast
import inspect
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pexpect
import pytest
import yaml
from papermill.iorw import read_yaml_file

from manual_payout.cli.filing import request
from manual_payout.cli.options import EXIT_CODES
from manual_payout.cli.running import run
from manual_payout.desk.settings import SANDBOX_APPROVERS
from manual_payout.desk.signatures import (
    APPROVAL,
    AllowedSigner,
    check_signature,
    new_key_file,
    public_key,
    signer_line,
)
from manual_payout.domain.parameters import CLOSE_PARAMETERS, STAGE_PARAMETERS, validate
from payout_rehearsal.demo import incident
from shells import approve_both, live_command

PROGRAM = [sys.executable, "-c", "from manual_payout.cli import main; main()"]
FOLDER = Path(incident.INCIDENT_ID, incident.LEDGER_PAYOUT_ID)
# One worker runs the notebooks once.
STORY = pytest.mark.xdist_group("cli_story")
COMMANDS = [
    "",
    "request",
    "approve",
    "run",
    "reconcile",
    "status",
    "verify",
    "attach",
    "rehearse",
    "sandbox",
    "db",
    "db upgrade",
    "db adopt",
    "reversal",
    "reversal request",
    "reversal approve",
    "reversal run",
    "reversal reconcile",
    "keys",
    "keys new",
    "keys show",
]
OTHER = "8d2f1c60-7b34-4a19-9e55-0c1d2e3f4a5b"


def approve(shell, who, amount=incident.AMOUNT, last4="_123", *more):
    """Approve with both values as flags."""
    return shell("approve", incident.INCIDENT_ID, "--as", who, "--amount", amount, "--destination-last4", last4, *more)


@pytest.fixture(scope="module", name="filed")
def _filed(quiet_shell):
    """A scene on which the request is filed and nothing else has happened; tests that use it write nothing."""
    quiet_shell.answer = quiet_shell.request()
    assert 0 == quiet_shell.answer.code, quiet_shell.answer.err
    return quiet_shell


# ------------------------------------------------------------------------------------------------------------ help


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command or "manual-payout")
def test_help_shows_example_exit_codes_and_each_option_on_one_line(quiet_shell, command):
    """Whoever asks for help sees how a real call looks, what comes back, and every option at a glance."""
    answer = quiet_shell(*command.split(), "--help")
    lines = answer.out.splitlines()
    start = lines.index("Options:") + 1
    options = lines[start : lines.index("", start)]

    assert (0, "") == (answer.code, answer.err)
    assert all(re.match(r"  -", line) for line in options), options
    assert EXIT_CODES == " ".join("".join(answer.out.rpartition("Exit codes:")[1:]).split())
    assert not command or "Example" in answer.out
    assert 100 >= max(map(len, lines)) or "reconcile" in command


def test_help_loads_none_of_what_is_slow():
    """--help answers at once: neither papermill nor pandas, stripe, SQLAlchemy or YAML is imported."""
    code = (
        "import sys; sys.argv = ['manual-payout', 'run', '--help']\n"
        "from manual_payout.cli import main\n"
        "main()\n"
        "print({'papermill', 'pandas', 'stripe', 'sqlalchemy', 'alembic', 'nbformat', 'yaml'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "set()" == run.stdout.splitlines()[-1]


@pytest.mark.parametrize("arguments", [["bogus"], ["run", "--bogus"], ["approve"], ["sandbox", "--port", "x"], []])
def test_what_is_no_command_line_is_exit_2_with_a_pointer_to_help(quiet_shell, arguments):
    """A mistyped option is a person's mistake: no traceback, and where to read on."""
    answer = quiet_shell(*arguments)

    assert 2 == answer.code
    assert "--help" in answer.said
    assert "Traceback" not in answer.said


def test_what_is_no_command_line_is_json_for_programs(quiet_shell):
    """A program that asked for JSON gets it for its own mistakes too."""
    told = json.loads(quiet_shell("run", "--json", "--amuont", "5").err)

    assert 2 == told["exit_code"]
    assert "--amuont" in told["message"]


# --------------------------------------------------------------------------------------------------------- request


def test_request_names_id_digest_ticket_and_what_comes_next(filed):
    """Its answer is all that the ticket and the approvers need."""
    out = filed.answer.out

    assert re.search(r"^Request [0-9a-f-]{36} filed\.\nDigest  [0-9a-f]{64}$", out, re.MULTILINE)
    assert "## INC-123: manual payout fallback requested" in out
    assert "REHEARSAL (sandbox)" in out
    assert "manual-payout approve INC-123 --as" in out
    assert f"manual-payout run -f {filed.root / FOLDER / 'incident.yaml'} --operator" in out


def test_dry_run_is_read_on_the_terminal(shell):
    """The checks counted, request beside ledger, the exact payload, and the code alone at the end; never in a command to copy."""
    shell.request()
    approve_both(shell)
    dry = shell("run", incident.INCIDENT_ID, "--operator", "tomas")
    lines = dry.out.splitlines()
    folder = shell.root / FOLDER

    assert 0 == dry.code, dry.said
    assert re.search(r"^Checks: 2\d ok", dry.out, re.MULTILINE)
    assert re.search(r"^amount +1,250.75 USD +1,250.75 USD$", dry.out, re.MULTILINE)
    assert json.loads((folder / "payload.json").read_text("utf-8")) == json.loads(
        dry.out[dry.out.index("{") : dry.out.rindex("}") + 1]
    )
    assert re.fullmatch(r"[A-Z2-7]{4}-[A-Z2-7]{4}", lines[-1])
    assert 1 == dry.out.count(lines[-1])


def test_due_lists_what_failed_and_what_was_asked_for(shell):
    """From the ledger, the latest first; ids and minor units for programs."""
    before, table = json.loads(shell("due", "--json").out), shell("due")
    shell.request()
    after = {one["ledger_payout_id"]: one["asked_for"] for one in json.loads(shell("due", "--json").out)}
    demo = next(one for one in before if one["ledger_payout_id"] == incident.LEDGER_PAYOUT_ID)

    assert (0, 125075, "usd", "") == (table.code, demo["amount_minor"], demo["currency"], demo["asked_for"])
    assert "1,250.75 USD" in table.out
    assert "Next: manual-payout request" in table.out
    assert incident.INCIDENT_ID == after[incident.LEDGER_PAYOUT_ID]


def test_run_takes_what_was_filed_from_the_database(shell):
    """The incident alone will do, on any machine; what is typed besides is compared, and who has filed nothing is told so."""
    nothing = shell("run", incident.INCIDENT_ID, "--operator", "tomas")
    shell.request()
    approve_both(shell)
    dry = shell(
        "run", incident.INCIDENT_ID.lower(), "--operator", "tomas", MANUAL_PAYOUT_OUTPUTS=str(shell.root / "elsewhere")
    )
    other = shell("run", incident.INCIDENT_ID, "--operator", "tomas", "--amount", "9.99")
    two = shell("run", incident.INCIDENT_ID, "--operator", "tomas", "--incident-id", "INC-9")

    assert (3, 0, 2) == (nothing.code, dry.code, two.code), nothing.said + dry.said
    assert "INC-123 has no fallback request" in nothing.err
    assert "manual-payout run inc-123 --operator tomas --confirm CODE" in dry.out
    assert other.code in (2, 3)
    assert "9.99" in other.said
    assert "Two incidents are named: INC-123 and INC-9" in two.err


@pytest.mark.parametrize(
    ("command", "names"), [(request, STAGE_PARAMETERS), (run, STAGE_PARAMETERS + CLOSE_PARAMETERS)]
)
def test_every_flag_that_is_a_parameter_is_passed_on_under_its_own_name(command, names):
    """Else what was typed would be left out in silence; who runs it, and how, the command says itself."""
    tree = ast.parse(inspect.getsource(command))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "flags_given"]
    passed = {word.arg: ast.unparse(word.value) for word in calls[0].keywords}
    own = {"operator", "dry_run", "confirm"}

    assert {name: name for name in names if name not in own} == passed
    assert set(passed) == {*names, *own} & set(inspect.signature(command).parameters) - own


ASKED = ("--incident-id", incident.INCIDENT_ID, "--ledger-payout-id", incident.LEDGER_PAYOUT_ID)


def test_what_the_ledger_knows_need_not_be_typed(shell):
    """Incident, payout and reason are enough: the rest is the ledger's own, and is filed and written out in full."""
    answer = shell("request", "--as", "maya", *ASKED, "--reason", incident.REASON, "--json")
    found = read_yaml_file(json.loads(answer.out)["parameters"])
    again = shell.request(notes="")

    assert (0, 0) == (answer.code, again.code), answer.err + again.err
    assert "was on record already, unchanged" in again.out
    assert found | {"operator": "tomas"} == validate(found | {"operator": "tomas"}).as_dict()
    assert (incident.AMOUNT, incident.RESERVE_AFTER) == (found["amount"], found["reserve_after"])
    assert (incident.STUDIO_NAME, incident.DESTINATION_ACCOUNT) == (found["studio_name"], found["destination_account"])


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (ASKED, 2, "--reason: found 'nothing'"),
        ((*ASKED, "--reason", "psp_rejection", "--amount", ""), 2, "amount"),
        (("--incident-id", "INC-1", "--ledger-payout-id", OTHER, "--reason", "psp_rejection"), 3, f"no payout {OTHER}"),
    ],
)
def test_what_the_ledger_cannot_fill_in_is_asked_for(quiet_shell, arguments, code, said):
    """What nobody but a person knows is never guessed, and a value that was given is never passed over."""
    before = quiet_shell.state()
    answer = quiet_shell("request", "--as", "maya", *arguments)

    assert code == answer.code
    assert said in answer.err
    assert before == quiet_shell.state()


WRONG = {
    "--studio-id": (OTHER, f"studio_id: typed {OTHER}, the ledger has {incident.STUDIO_ID}."),
    "--studio-name": ("H\u0430rbor", "studio_name: typed H\u0430[U+0430]rbor, the ledger has Harbor Light Pottery."),
    "--amount": ("12507.50", "amount: typed 12,507.50 USD, the ledger has 1,250.75 USD."),
    "--reserve-after": ("9", "reserve_after: typed 9.00 USD, the ledger has 1,560.75 USD − 1,250.75 USD = 310.00 USD."),
    "--destination-account": ("acct_124", "destination_account: typed acct_124, the ledger has acct_123"),
}


def test_everything_that_the_ledger_has_otherwise_is_refused_at_once_when_it_is_filed(shell):
    """A typing error is found before two people are asked, all of them together: field, typed, the ledger's, what to do."""
    before, flags = shell.state(), [part for flag, (value, _said) in WRONG.items() for part in (flag, value)]
    answer = shell("request", "--as", "maya", *ASKED, "--reason", incident.REASON, *flags)

    assert (3, before) == (answer.code, shell.state())
    assert "the ledger says otherwise in 5 points" in answer.err
    assert [] == [said for _value, said in WRONG.values() if said not in answer.err]
    assert "never pay another studio's payout" in answer.err
    assert answer.err.rstrip().endswith("Nothing of this payout has moved.")


def test_what_verification_would_refuse_of_the_ledger_is_refused_when_it_is_filed(shell):
    """A balance that covers nothing and is old, and a payout that the automation has paid: said before two people are asked."""
    with shell.desk.ledger._engine.begin() as connection:
        connection.exec_driver_sql("UPDATE manual_payout_balance SET balance_minor = 99, as_of = '2026-01-01 00:00:00'")
        connection.exec_driver_sql(
            "UPDATE manual_payout_due SET status = 'paid', paid_at = due_at, due_at = '2026-05-01 00:00:00'"
        )
    answer = shell("request", "--as", "maya", *ASKED, "--reason", incident.REASON)

    assert 3 == answer.code
    assert [] == [name for name in ("minimum reserve: ", "ledger payout: paid", "due: ", "balance: ")
                  if f"  {name}" not in answer.err]  # fmt: skip
    assert "typed" not in answer.err.partition("What to do")[0]


def test_ledger_that_cannot_be_read_is_one_sentence_and_nothing_is_filed(shell):
    """Whoever files is told what cannot be reached, and that nothing was filed with what could not be compared."""
    with shell.desk.ledger._engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE manual_payout_balance RENAME TO gone")
    answer = shell.request()

    assert 5 == answer.code
    assert "Traceback" not in answer.err
    assert [] == shell.desk.store.open_requests()


def test_request_writes_a_parameter_file_that_papermill_reads_alike(filed):
    """papermill's own reader of -f finds every stage parameter, as text where it is text, equal to what was filed."""
    found = read_yaml_file(str(filed.root / FOLDER / "incident.yaml"))

    assert list(STAGE_PARAMETERS) == list(found)
    assert {"dry_run": True, "operator": "", "confirm": ""} == {n: found[n] for n in ("dry_run", "operator", "confirm")}
    assert incident.AMOUNT == found["amount"]
    assert found | {"operator": "tomas"} == validate(found | {"operator": "tomas"}).as_dict()


def test_filing_again_says_so_and_changes_nothing(filed):
    """The same content is the same request, the same parameter file and the same seal."""
    before = filed.state()
    again = filed.request()

    assert 0 == again.code
    assert "was on record already, unchanged" in again.out
    assert before == filed.state()


def test_other_content_is_refused_and_names_the_field(filed):
    """A second form for the same payout that says something else is a question, not a request."""
    before = filed.state()
    answer = filed.request(amount="1250.74")

    assert 2 == answer.code
    assert "amount differs from what is on record" in answer.err
    assert "--replace" in answer.err
    assert before == filed.state()


def test_replacing_keeps_the_earlier_parameter_file(shell):
    """--replace withdraws the request and writes the next file; of the folder nothing is wrong but that nobody signed."""
    shell.request()
    answer = shell.request(notes="Corrected note")
    replaced = shell(
        "request", "--replace", "--as", "maya", "-f", shell.root / FOLDER / "incident.yaml", "--notes", "New"
    )

    assert (2, 0) == (answer.code, replaced.code)
    assert "incident-02.yaml" in replaced.out
    assert "New" == read_yaml_file(str(shell.root / FOLDER / "incident-02.yaml"))["notes"]
    assert shell("verify", shell.root / FOLDER).err.partition(".\n")[0].endswith("does not pass: seal")


def test_a_folder_that_nobody_signed_is_signed_by_hand(shell):
    """After plain papermill, or after a form alone; by somebody who may operate, and the digest is said."""
    shell.request()
    nobody = shell("seal", "INC-123", "--operator", "maya")
    sealed = shell("seal", "INC-123", "--operator", "tomas", "--json")
    head = json.loads(sealed.out)["manifest_sha256"]

    assert (3, 0) == (nobody.code, sealed.code)
    assert "Maya Okafor may not operate" in nobody.err
    assert 0 == shell("verify", shell.root / FOLDER, "--anchor", head).code


@pytest.mark.parametrize(
    ("changed", "code", "said"),
    [
        ({"ledger_payout_id": OTHER}, 3, "The ledger has no payout"),
        ({"amount": "1250.755"}, 2, "at most 2 decimals for USD"),
    ],
)
def test_request_that_the_ledger_cannot_owe_is_refused(quiet_shell, changed, code, said):
    """What the ledger knows better is compared at once, and nothing is filed."""
    before = quiet_shell.state()
    answer = quiet_shell.request(**changed)

    assert code == answer.code
    assert said in answer.err
    assert before == quiet_shell.state()


def test_request_as_json_is_one_object(filed):
    """A program gets id, digest, whether it is new, the file and the ticket."""
    told = json.loads(filed("request", "--json", "--as", "maya", "-f", filed.root / FOLDER / "incident.yaml").out)

    about = {"state", "safe_to_repeat", "money"}
    assert {"request_id", "digest", "new", "parameters", "ticket", "told"} | about == set(told)
    assert told["new"] is False


@pytest.mark.parametrize(
    ("who", "code", "said"), [("priya", 3, "may not request"), ("nobody", 2, "Use one of: maya, noor, tomas")]
)
def test_only_registered_requesters_file(quiet_shell, who, code, said):
    """Whoever may not is told who may."""
    answer = quiet_shell("request", "--as", who, *shlex.split(_flags()))

    assert code == answer.code
    assert said in answer.err


def _flags():
    return (
        f"--incident-id {incident.INCIDENT_ID} --studio-id {incident.STUDIO_ID} --studio-name '{incident.STUDIO_NAME}' "
        f"--ledger-payout-id {incident.LEDGER_PAYOUT_ID} --amount {incident.AMOUNT} --reserve-after "
        f"{incident.RESERVE_AFTER} --reason {incident.REASON} --destination-account {incident.DESTINATION_ACCOUNT}"
    )


# --------------------------------------------------------------------------------------------------------- approve


def test_two_approvals_by_flags_are_counted(shell):
    """One of each team; each sees the facts even when both values are given; status counts them."""
    shell.request()
    first = approve(shell, "priya")
    second = approve(shell, "amara.diallo@marketplace.example")
    status = shell("status")

    assert (0, 0) == (first.code, second.code), first.err + second.err
    assert "Approved by Priya Raman for Payments Ops until 2026-03-02 07:00 UTC." in first.out
    assert "balance before → after" in first.err
    assert "2 of 2 approved" in status.out


def test_amount_may_be_typed_as_it_is_shown(shell):
    """With or without commas and currency, it is the same yes."""
    shell.request()
    answers = [approve(shell, "priya", "1,250.75 USD", "_123"), approve(shell, "amara", " 1250.75 usd ", "_123")]

    assert [0, 0] == [answer.code for answer in answers], answers[0].err + answers[1].err


@pytest.mark.parametrize(
    ("who", "amount", "last4", "code", "said"),
    [
        ("priya", "1,250.75 EUR", "_123", 2, "exactly the amount you were shown"),
        ("priya", "12,50.75", "_123", 2, "exactly the amount you were shown"),
        ("priya", "1250.57", "_123", 2, "exactly the amount you were shown"),
        ("priya", "1250.75", "_124", 2, "the last four characters of the destination"),
        ("priya", "", "_123", 2, "exactly the amount you were shown"),
        ("nobody", "1250.75", "_123", 2, "a registered person who may approve"),
        ("tomas", "1250.75", "_123", 3, "Tomas Lindqvist may not approve"),
        ("maya", "1250.75", "_123", 3, "Maya Okafor may not approve"),
        ("greta", "1250.75", "_123", 3, "is not in force at 2026-03-02"),
    ],
)
def test_an_approval_that_is_not_a_yes_to_this_request_is_refused(filed, who, amount, last4, code, said):
    """A wrong figure, a stranger, an operator, somebody who has left: refused with the reason, nothing recorded."""
    before = filed.state()
    answer = approve(filed, who, amount, last4)

    assert code == answer.code, answer.err
    assert said in answer.err
    assert before == filed.state()


@pytest.fixture(name="keyed")
def _keyed(shell, tmp_path_factory):
    """A filed request, and approvers whose keys are their own: Priya's has a passphrase, Amara's has none."""
    folder = shell.keys = tmp_path_factory.mktemp("keys")
    lines = []
    for who, email, passphrase in (
        ("priya", "priya.raman@marketplace.example", "a passphrase"),
        ("amara", "amara.diallo@marketplace.example", ""),
    ):
        key = new_key_file(folder / who, passphrase, email)
        lines.append(signer_line(AllowedSigner(email, (APPROVAL,), key)))
    (folder / "allowed_signers").write_text("\n".join(lines))
    (folder / "revoked_keys").touch()
    shell.environment |= {"MANUAL_PAYOUT_ALLOWED_SIGNERS": str(folder / "allowed_signers")}
    shell.request()
    return shell


def test_approver_signs_with_a_key_of_their_own(keyed):
    """Named as a flag or a setting; somebody else's, a locked one without a terminal, or none at all is refused."""
    amaras, priyas = str(keyed.keys / "amara"), str(keyed.keys / "priya")
    none, others, locked, missing = (
        approve(keyed, "priya"),
        approve(keyed, "priya", incident.AMOUNT, "_123", "--key", amaras),
        approve(keyed, "priya", incident.AMOUNT, "_123", "--key", priyas),
        approve(keyed, "priya", incident.AMOUNT, "_123", "--key", "nowhere"),
    )

    assert (3, True) == (none.code, "No key was named, and the agent holds none that Priya Raman may" in none.err)
    assert (3, True) == (others.code, "is amara.diallo@marketplace.example's, not priya.raman@" in others.err)
    assert (2, True) == (locked.code, "no terminal on which to ask for the passphrase" in locked.err)
    assert (2, True) == (missing.code, "The key nowhere cannot be used: it cannot be read" in missing.err)
    status = keyed("status")
    assert "requested, 0 of 2 approved, waits for Payments Ops and Finance until 2026-03-03 03:00 UTC" in status.out
    asked = json.loads(keyed("status", "--json").out)[0]
    assert ("requested", ["Payments Ops", "Finance"], False) == (
        asked["state"],
        asked["missing_teams"],
        asked["closed"],
    )
    keyed.environment |= {"MANUAL_PAYOUT_SIGNING_KEY": amaras}
    given = json.loads(approve(keyed, "amara", incident.AMOUNT, "_123", "--json").out)
    check_signature(
        given["signed_text"].encode(), given["signature"],
        public_key((keyed.keys / "amara.pub").read_text()), APPROVAL,
    )  # fmt: skip
    with _at_a_terminal(keyed, "approve", "INC-123", "--as", "priya", "--key", priyas) as terminal:
        for question, answer in (
            ("type the amount in USD: ", "1250.75"), ("the destination: ", "_123"), ("Passphrase of .*: ", "a passphrase"),
        ):  # fmt: skip
            terminal.expect(question)
            terminal.sendline(answer)
        terminal.expect("Signed with    SHA256:")
        terminal.expect(pexpect.EOF)
    assert "requested, 2 of 2 approved, waits for the operator until 2026-03-02 07:00 UTC" in keyed("status").out
    assert "approved" == json.loads(keyed("status", "--json").out)[0]["state"]


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ('mode = "test"\nplatform_account = "acct_1SandboxPlatform00"', "for sandbox mode, this run is in test mode"),
        ('platform_account = "acct_other"', "for account acct_1SandboxPlatform00, the policy file names acct_other"),
    ],
)
def test_what_was_asked_for_elsewhere_is_not_signed_here(keyed, policy, said):
    """An approver with the settings of another mode or account is told before typing anything."""
    file = keyed.keys / "policy.toml"
    file.write_text(f"[stripe]\n{policy}\n")
    keyed.environment |= {"MANUAL_PAYOUT_POLICY": str(file)}
    if "test" in policy:
        keyed.environment |= {
            "STRIPE_API_BASE": None,
            "MANUAL_PAYOUT_APPROVERS": "lib/manual_payout/desk/sandbox/approvers.toml",
        }
    answer = approve(keyed, "amara", incident.AMOUNT, "_123", "--key", str(keyed.keys / "amara"))

    assert (3, True) == (answer.code, said in answer.err), answer.err


def test_nobody_approves_their_own_request(shell, tmp_path_factory):
    """Somebody who may both request and approve still needs another person."""
    people = tmp_path_factory.mktemp("people") / "approvers.toml"
    text = Path("lib/manual_payout/desk/sandbox/approvers.toml").read_text()
    people.write_text(text.replace('may = ["approve"]', 'may = ["request", "approve"]'))
    shell.environment |= {
        "MANUAL_PAYOUT_APPROVERS": str(people),
        "MANUAL_PAYOUT_ALLOWED_SIGNERS": "lib/manual_payout/desk/sandbox/allowed_signers",
    }
    shell("request", "--as", "priya", *shlex.split(_flags()))
    answer = approve(shell, "priya")

    assert 3 == answer.code
    assert "Priya Raman filed this request and cannot approve it" in answer.err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["INC-999"], 3, "INC-999 has no open request"),
        (["INC 999"], 2, "incident_id: found 'INC 999'"),
        (["INC-123", "--ledger-payout-id", OTHER], 3, f"no open request for ledger payout {OTHER}"),
        (["INC-123", "--ledger-payout-id", "x y"], 2, "ledger_payout_id: found 'x y'"),
    ],
)
def test_approving_what_nobody_asked_for_is_refused(filed, arguments, code, said):
    """A mistyped incident or payout is named."""
    answer = filed("approve", *arguments, "--as", "priya", "--amount", "1", "--destination-last4", "x")

    assert code == answer.code
    assert said in answer.err


def test_without_a_terminal_nothing_is_asked(filed):
    """A pipe cannot read the facts; it is told which flags to give."""
    answer = filed("approve", "INC-123", "--as", "priya", "--amount", "1250.75")

    assert 2 == answer.code
    assert "There is no terminal on which to ask for amount and destination" in answer.err


def test_filing_approving_and_looking_need_no_key(shell):
    """Only operators check the key out; everybody else works without it."""
    shell.environment |= {"STRIPE_FALLBACK_SECRET_KEY": None, "STRIPE_READ_SECRET_KEY": None}
    answers = [shell.request(), approve(shell, "priya"), approve(shell, "amara"), shell("status")]

    assert [0] * 4 == [answer.code for answer in answers], [answer.err for answer in answers]


def test_an_incident_with_two_payouts_asks_which_one_is_approved(shell):
    """A signature over the newest request when the other was meant would be a yes to the wrong money."""
    from payout_rehearsal.demo.ledger import demo_ledger

    shell.request()
    due = (payout for payout in demo_ledger().payouts if payout.status == "failed" and payout.currency == "usd")
    other = next(payout for payout in due if payout.ledger_payout_id != incident.LEDGER_PAYOUT_ID)
    asked = ("--incident-id", incident.INCIDENT_ID, "--ledger-payout-id", other.ledger_payout_id)
    filed = shell("request", "--as", "maya", *asked, "--reason", incident.REASON)
    answer = approve(shell, "priya")

    assert (0, 2) == (filed.code, answer.code), filed.err
    assert "INC-123 has open requests for 2 ledger payouts" in answer.err
    assert "--ledger-payout-id" in answer.err


def _at_a_terminal(shell, *arguments):
    return pexpect.spawn(
        PROGRAM[0],
        [*PROGRAM[1:], *arguments],
        env=shell.environment,
        encoding="utf-8",
        timeout=30,
        dimensions=(60, 160),
        # A suite that runs in the background of a shell has Ctrl-C switched off, and would hand that on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def test_an_approver_types_amount_and_destination_at_a_terminal(shell):
    """The facts come first, then the two questions, then the approval."""
    shell.request()
    with _at_a_terminal(shell, "approve", "INC-123", "--as", "priya") as terminal:
        terminal.expect("balance before → after")
        terminal.expect("Priya Raman, type the amount in USD: ")
        terminal.sendline("1250.75")
        terminal.expect("last four characters of the destination: ")
        terminal.sendline("_123")
        terminal.expect("Approved by Priya Raman")
        terminal.expect(pexpect.EOF)

    assert 0 == terminal.exitstatus


def test_a_wrong_amount_at_a_terminal_is_refused_in_colour(shell):
    """It is said before the next question. On a terminal the finding is coloured; the words say the same."""
    shell.request()
    with _at_a_terminal(shell, "approve", "INC-123", "--as", "priya") as terminal:
        terminal.expect("type the amount in USD: ")
        terminal.sendline("1250.57")
        terminal.expect("\x1b\\[31m\x1b\\[1mCannot start: \x1b\\[0m")
        terminal.expect("exactly the amount you were shown")
        terminal.expect(pexpect.EOF)

    assert 2 == terminal.exitstatus


def test_ctrl_c_at_a_question_stops_without_a_traceback(filed):
    """The person is told where to look; exit 130, and nothing is recorded."""
    before = filed.state()
    with _at_a_terminal(filed, "approve", "INC-123", "--as", "priya") as terminal:
        terminal.expect("type the amount in USD: ")
        terminal.sendintr()
        terminal.expect("Stopped. Run `manual-payout status`")
        terminal.expect(pexpect.EOF)

    assert 130 == terminal.exitstatus
    assert before == filed.state()


def test_colour_is_for_terminals_only(filed):
    """A pipe gets no escape sequence, nor does a terminal whose owner set NO_COLOR."""
    piped = subprocess.run(
        [*PROGRAM, "approve", "INC-9", "--as", "priya"],
        env=filed.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    plain = pexpect.run(
        shlex.join([*PROGRAM, "approve", "INC-9", "--as", "priya"]),
        env=filed.environment | {"NO_COLOR": "1"},
        timeout=30,
    )

    assert piped.stderr.startswith("Refused, nothing moved: INC-9 has no open request.")
    assert b"\x1b" not in plain
    assert b"Refused, nothing moved: " in plain


# ------------------------------------------------------------------------------------------------------------- run


@pytest.fixture(scope="module", name="story")
def _story(open_shell, tmp_path_factory):
    """One payout by nothing but the command line: request, approvals, dry run, live sending."""
    with open_shell(tmp_path_factory.mktemp("story")) as shell:
        shell.request()
        for who in ("priya", "amara"):
            approve(shell, who)
        file = shell.root / FOLDER / "incident.yaml"
        shell.dry = shell("run", "-f", file, "--operator", "tomas", "--dry-run")
        shell.after_dry = shell.state()["transfers"]
        shell.live = shell(*live_command(shell.dry), "--stage", "execute", "--json")
        yield shell


@STORY
def test_dry_run_goes_through_the_notebooks_and_moves_nothing(story):
    """It ends with the command that goes live, and alone on the last line the code that whoever read so far puts into it."""

    assert 0 == story.dry.code, story.dry.err
    assert "1-verify   GO\n2-execute  Dry run, nothing was sent\n" in story.dry.out
    assert re.search(
        r"\n  manual-payout run -f \S+ --operator tomas --confirm CODE\n\n[A-Z2-7]{4}-[A-Z2-7]{4}\n$", story.dry.out
    )
    assert "dry run by Tomas Lindqvist, sandbox mode, restricted test key …" in story.dry.err
    assert 0 == story.after_dry


@STORY
def test_the_command_that_the_dry_run_printed_goes_live(story):
    """Copied as it stands, it sends; as JSON it says which notebook shows it."""
    told = json.loads(story.live.out)

    assert 0 == story.live.code, story.live.err
    assert [("2-execute", 0, "2-execute-02.ipynb")] == [
        (s["stage"], s["exit_code"], s["notebook"]) for s in told["stages"]
    ]
    assert 1 == story.state()["transfers"]


@STORY
def test_status_after_the_payout_names_state_and_transfer_and_writes_nothing(story):
    """Reads only: files, database and Stripe are as before."""
    before, requests = story.state(), len(story.stripe.requests)
    answer = story("status", "INC-123")
    told = json.loads(story("status", "--json").out)

    assert 0 == answer.code
    assert re.search(r"INC-123 .*1,250\.75 USD  paid .* tr_\w+", answer.out)
    assert ["paid"] == [row["state"] for row in told]
    assert [(incident.LEDGER_PAYOUT_ID, 125_075, "usd", True)] == [
        (row["ledger_payout_id"], row["amount_minor"], row["currency"], row["safe_to_repeat"]) for row in told
    ]
    assert told[0]["money"].startswith("1,250.75 USD moved to acct_123 as tr_")
    assert before == story.state()
    assert requests == len(story.stripe.requests)


@STORY
@pytest.mark.parametrize("stage", ["execute", "log", "notify", "settle", "close"])
def test_other_values_than_were_filed_are_refused_by_name_after_the_payout(story, stage):
    """No later notebook shows another amount and studio than was paid: exit 2, every field named, nothing moved, and the folder verifies."""
    others = ("--amount", "900.00", "--studio-name", "Copper Kettle Ceramics", "--destination-account", "acct_9")
    file, before = story.root / FOLDER / "incident.yaml", story.state()["transfers"]
    answer = story("run", "-f", file, "--operator", "tomas", "--stage", stage, *others)

    assert 2 == answer.code, answer.said
    assert "studio_name: filed 'Harbor Light Pottery', now 'Copper Kettle Ceramics'" in answer.err
    assert "destination_account: filed 'acct_123', now 'acct_9'" in answer.err
    assert "amount: filed '1,250.75 USD', now '900.00 USD'" in answer.err
    assert before == story.state()["transfers"]
    assert 0 == story("verify", story.root / FOLDER).code


@STORY
def test_verification_binds_the_run_to_what_was_filed_and_shows_what_was_typed(story, tmp_path):
    """Whoever reads the first table aloud reads the request's amount; what was typed besides is a warning below it."""
    given = ("-p", "incident_id", "INC-123", "-p", "operator", "tomas", "-p", "amount", "900.00")
    subprocess.run(
        [sys.executable, "-m", "papermill", "--engine", "manual_payout", *given, "runbooks/1-verify.ipynb", tmp_path / "out.ipynb"],
        env=os.environ | story.environment, capture_output=True, check=False, timeout=120,
    )  # fmt: skip
    shown = re.sub(r"  +", "  ", (tmp_path / "out.ipynb").read_text())

    assert "amount  1250.75" in shown
    assert "WARNING, not as filed  amount: filed '1,250.75 USD', now '900.00 USD'" in shown
    assert 0 == story("seal", "INC-123", "--operator", "tomas").code


@STORY
@pytest.mark.parametrize("stage", ["1-verify", "3-log"])
def test_another_request_than_the_one_in_force_is_refused_at_any_stage(story, tmp_path, stage):
    """A selector that contradicts the others is never passed over: its name, what was found, and nothing went on."""
    other = "114db460-c6ec-5ff2-8d4a-4c65067d9c17"
    given = ("-p", "incident_id", "INC-123", "-p", "operator", "tomas", "-p", "request_id", other)
    run = subprocess.run(
        [sys.executable, "-m", "papermill", "--engine", "manual_payout", *given, f"runbooks/{stage}.ipynb", tmp_path / "out.ipynb"],
        env=os.environ | story.environment, capture_output=True, check=False, timeout=120, text=True,
    )  # fmt: skip
    shown = (tmp_path / "out.ipynb").read_text()

    assert 0 != run.returncode
    assert f"request_id is {other}, but the request for INC-123 and {incident.LEDGER_PAYOUT_ID} is " in shown
    assert 0 == story("seal", "INC-123", "--operator", "tomas").code


@STORY
def test_papermill_needs_only_what_selects_the_payout(story, tmp_path):
    """What is left empty was filed: with papermill alone, incident, payout and operator are enough, at any stage."""
    selected = (
        "-p",
        "incident_id",
        "INC-123",
        "-p",
        "ledger_payout_id",
        incident.LEDGER_PAYOUT_ID,
        "-p",
        "operator",
        "tomas",
    )
    told = []
    for stage in ("1-verify", "3-log"):
        done = subprocess.run(
            [sys.executable, "-m", "papermill", "--engine", "manual_payout", *selected, f"runbooks/{stage}.ipynb", tmp_path / f"{stage}.ipynb"],
            env=os.environ | story.environment, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        told.append((done.returncode, "Harbor Light Pottery" in (tmp_path / f"{stage}.ipynb").read_text()))

    assert [(0, True), (0, True)] == told
    assert 0 == story("seal", "INC-123", "--operator", "tomas").code


def test_a_stage_before_its_time_is_refused_with_evidence(shell):
    """Nothing was sent, so nothing can be logged: exit 3, and the refused notebook is sealed in the folder."""
    shell.request()
    answer = shell("run", "-f", shell.root / FOLDER / "incident.yaml", "--operator", "tomas", "--stage", "log")

    assert 3 == answer.code
    assert "Nothing has been sent for" in answer.err
    assert (shell.root / FOLDER / "3-log-01.ipynb").is_file()
    assert 0 == shell("verify", shell.root / FOLDER).code


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--dry-run", "--confirm", "ABCD-2345"], "--dry-run and --confirm contradict each other"),
        (["--stage", "verify", "--confirm", "ABCD-2345"], "--stage verify moves nothing"),
        (["--stage", "transfer"], "stage: found 'transfer', expected one of verify, execute, log"),
        (["--root-cause", "x"], "--root-cause is for a run that closes"),
        (["--stage", "settle", "--automation-restored"], "--automation-restored is for a run that closes"),
        (["--stage", "close", "--key-rotated-to", "12345"], "key_rotated_to: found '12345'"),
        (["--stage", "close", "--root-cause", "<script>"], "root_cause: found '<script>'"),
        (["--confirm", "abcd-2345"], "confirm: found 'abcd-2345', expected the code that the dry run printed"),
        (["--confirm", "ABCD-2345-"], "confirm: found 'ABCD-2345-'"),
        (["--operator", "to mas"], "operator: found 'to mas'"),
    ],
    ids=" ".join,
)
def test_flags_that_contradict_or_mean_nothing_are_refused(filed, arguments, said):
    """Nobody is left believing that a flag did something."""
    before = filed.state()
    answer = filed("run", "-f", filed.root / FOLDER / "incident.yaml", "--operator", "tomas", *arguments)

    assert 2 == answer.code, answer.said
    assert said in answer.said
    assert before == filed.state()


def test_file_and_environment_that_name_two_operators_are_refused(filed, tmp_path):
    """Whoever runs with a colleague's file says who they are; nobody runs under another's name by accident."""
    file = tmp_path / "incident.yaml"
    text = (filed.root / FOLDER / "incident.yaml").read_text().replace('operator: ""', 'operator: "noor"')
    file.write_text(text)
    answer = filed("run", "-f", file, MANUAL_PAYOUT_OPERATOR="tomas")

    assert 2 == answer.code
    assert "operator: found 'noor', expected 'tomas', which MANUAL_PAYOUT_OPERATOR says" in answer.err


# --------------------------------------------------------------------------------- reconcile, status, verify, db


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["INC-123"], 2, "Nothing was sent under INC-123; there is nothing to reconcile"),
        (["INC-123", "--decide", "moved"], 2, "decide: found 'moved', expected not-moved"),
        (["INC-123", "--decide", "not-moved"], 2, "because: found 'nothing'"),
        (["INC-123", "--because", "x"], 2, "--because gives the reason"),
        (["INC-123", "--decide", "not-moved", "--because", "a\nb"], 2, "because: found 'a\\nb'"),
        (["INC-123", "--operator", "priya"], 3, "Priya Raman may not operate"),
        (["../x"], 2, "incident_id: found '../x'"),
    ],
)
def test_reconcile_with_nothing_to_reconcile_says_so(filed, arguments, code, said):
    """It asks Stripe only about what was begun."""
    before, requests = filed.state(), len(filed.stripe.requests)
    answer = filed("reconcile", *arguments, MANUAL_PAYOUT_OPERATOR="tomas")

    assert code == answer.code
    assert said in answer.err
    assert (before, requests) == (filed.state(), len(filed.stripe.requests))


@STORY
def test_reconcile_of_a_paid_payout_agrees_with_stripe(story):
    """What is believed and what Stripe says are the same, and it says so."""
    answer = story("reconcile", "INC-123", "--operator", "tomas", "--json")
    told = json.loads(answer.out)

    assert 0 == answer.code, answer.err
    assert ("paid", "none") == (told["now"], told["difference"])


def test_status_of_an_empty_world_is_one_sentence(quiet_shell):
    """Nothing is something to say too."""
    answer = quiet_shell("status", "INC-404")

    assert (0, "No manual payout was requested or begun under INC-404.\n") == (answer.code, answer.out)
    assert "[]\n" == quiet_shell("status", "INC-404", "--json").out


def test_status_of_a_request_counts_its_approvals_and_writes_nothing(filed):
    """Who waits for whom is visible before anything has begun."""
    before = filed.state()
    answer = filed("status")

    assert "0 manual payouts begun, 1 requested within 30 days or left open." == answer.out.splitlines()[0]
    assert "requested, 0 of 2 approved" in answer.out
    assert before == filed.state()


@STORY
def test_verify_accepts_the_folder_and_names_every_kind_of_change(story, tmp_path):
    """A changed, a missing and an added file each turn their own answer, by name; exit 5."""
    folder = tmp_path / "folder"
    _copy(story.root / FOLDER, folder)
    good = story("verify", folder)
    (folder / "payload.json").write_text("{}")
    (folder / "request.json").unlink()
    (folder / "added.txt").write_text("x")
    bad, told = story("verify", folder), story("verify", "--json", folder)

    assert (0, 5) == (good.code, bad.code)
    assert "Is every file as it was sealed? payload.json" in bad.out
    assert "Is nothing missing? request.json" in bad.out
    assert "Is nothing added? added.txt" in bad.out
    assert "files_as_sealed, nothing_missing, nothing_extra" in bad.err
    assert ["ok", "fail", "fail", "fail"] == [check["status"] for check in json.loads(told.out)][:4]
    assert 5 == json.loads(told.err)["exit_code"]


def _copy(source, target):
    for path in source.rglob("*"):
        if path.is_file():
            copy = target / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())


@pytest.mark.parametrize(
    "content", [None, "", "{", "[]", "null", "{}", '{"files": 5, "digest": ""}', '{"files": {}}', "[" * 100_000]
)
def test_verify_of_a_folder_without_a_readable_manifest_is_exit_5(quiet_shell, tmp_path, content):
    """No manifest, or a broken one, is said in one sentence."""
    if content is not None:
        (tmp_path / "manifest.json").write_text(content)
    answer = quiet_shell("verify", tmp_path)

    assert 5 == answer.code
    assert "has no readable manifest.json: it is " in answer.err


@STORY
def test_verify_works_without_any_setting(story):
    """An auditor has the folder and nothing else: no database, no key, no policy."""
    run = subprocess.run(
        [*PROGRAM, "verify", story.root / FOLDER], env={}, capture_output=True, text=True, check=False, cwd="/"
    )

    assert (0, "") == (run.returncode, run.stderr)


@STORY
@pytest.mark.parametrize("mode", ["live", "test"])
def test_verify_takes_the_sandbox_s_people_for_sandbox_evidence_alone(story, tmp_path, mode):
    """Their keys can be made by anybody: with no other people, by name or as a copy, nothing is said of the folder."""
    folder = tmp_path / "folder"
    _copy(story.root / FOLDER, folder)
    manifest = folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"mode": "sandbox"', f'"mode": "{mode}"'))
    _copy(SANDBOX_APPROVERS.parent, tmp_path / "copied")
    none, named = story("verify", folder), story("verify", "--registry", SANDBOX_APPROVERS, folder)
    copied = story("verify", "--registry", tmp_path / "copied" / "approvers.toml", folder)

    assert [(2, "")] * 3 == [(answer.code, answer.out) for answer in (none, named, copied)]
    assert f"This is {mode} evidence, and the only people known here are the sandbox's" in none.err
    assert "--registry" in none.err
    assert none.err == named.err
    assert "has a key of the sandbox, which anybody can make" in copied.err


def test_verify_of_no_folder_is_a_usage_error(quiet_shell, tmp_path):
    """A path that is none is the person's mistake, not damaged evidence."""
    answer = quiet_shell("verify", tmp_path / "none")

    assert 2 == answer.code
    assert "does not exist" in answer.err


def test_db_upgrade_twice_is_once(quiet_shell, tmp_path):
    """The second time changes nothing; the folder for the database is made."""
    file = tmp_path / "new" / "state.sqlite"
    first = quiet_shell("db", "upgrade", DATABASE_URL=f"sqlite:///{file}")
    made = file.read_bytes()
    second = quiet_shell("db", "upgrade", "--json", DATABASE_URL=f"sqlite:///{file}")

    assert (0, 0) == (first.code, second.code)
    assert f"The database is at migration {json.loads(second.out)['migration']}.\n" == first.out
    assert made == file.read_bytes()


def test_a_database_that_was_never_upgraded_names_the_command(quiet_shell, tmp_path):
    """Whoever starts without tables is told how to make them."""
    answer = quiet_shell("status", DATABASE_URL=f"sqlite:///{tmp_path / 'none.sqlite'}")

    assert 5 == answer.code
    assert "Run `manual-payout db upgrade`" in answer.err
    assert not (tmp_path / "none.sqlite").exists()


# ------------------------------------------------------------------------------------------- sandbox and rehearse


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_sandbox_prints_exports_that_work_and_ends_quietly(tmp_path, end):
    """Its lines, given to a shell, are all that a status needs; Ctrl-C ends it with exit 0 and without a word."""
    folder = tmp_path / "with space"
    child = subprocess.Popen(
        [*PROGRAM, "sandbox", "--port", "0", "--folder", folder],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={"PATH": os.environ["PATH"]},
    )  # fmt: skip
    lines = [child.stdout.readline()]
    while lines[-1] and not lines[-1].startswith("To begin afresh"):
        lines.append(child.stdout.readline())
    exports = "".join(line for line in lines if line.startswith(("export ", "unset ")))
    status = subprocess.run(
        ["bash", "-c", f"{exports}\nexec {shlex.join([*PROGRAM, 'status'])}"],
        env={"PATH": os.environ["PATH"], "MANUAL_PAYOUT_POLICY": "/nonexistent"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    child.send_signal(end)
    _, errors = child.communicate(timeout=30)

    assert (0, "No manual payout was requested or begun within 30 days or left open.\n") == (
        status.returncode,
        status.stdout,
    ), status.stderr
    assert (0, "") == (child.returncode, errors)


def test_sandbox_on_a_port_that_is_taken_says_so(quiet_shell, tmp_path):
    """The port of somebody else is refused by name."""
    port = quiet_shell.stripe.base_url.rpartition(":")[2]
    answer = quiet_shell("sandbox", "--port", port, "--folder", tmp_path)

    assert 2 == answer.code
    assert f"port: found {port}" in answer.err


def test_rehearsing_against_an_unknown_target_is_refused(quiet_shell):
    """A target that this release does not have is refused in one sentence, before anything starts."""
    answer = quiet_shell("rehearse", "--target", "paypal")

    assert 2 == answer.code
    assert "target: found 'paypal', expected sandbox or stripe" in answer.err


def test_rehearsing_into_a_folder_that_holds_something_is_refused(quiet_shell, tmp_path):
    """Evidence is never overwritten, not even a rehearsal's."""
    (tmp_path / "kept.txt").write_text("x")
    answer = quiet_shell("rehearse", "--folder", tmp_path)

    assert 2 == answer.code
    assert "expected a new or empty folder" in answer.err


# ------------------------------------------------------------------------------------------------------ surroundings


def test_a_reader_that_goes_away_gets_no_traceback(filed):
    """`manual-payout status | head -0` ends as quietly as any other program."""
    run = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {shlex.join([*PROGRAM, 'status', '--help'])} | true"],
        env=filed.environment, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert "" == run.stderr


def test_a_terminal_without_unicode_gets_escapes_instead_of_a_traceback(filed):
    """An arrow that the encoding does not know is written as its escape."""
    run = subprocess.run(
        [*PROGRAM, "approve", "INC-123", "--as", "priya", "--amount", "1", "--destination-last4", "x"],
        env=filed.environment | {"PYTHONIOENCODING": "latin-1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert 2 == run.returncode
    assert "balance before \\u2192 after" in run.stderr


def test_a_fault_of_this_software_is_not_dressed_up_as_a_refusal(quiet_shell, monkeypatch):
    """Only known errors are sentences; a bug stays a traceback, so that it is reported."""
    monkeypatch.setattr("manual_payout.desk.settings.load_settings", lambda: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        quiet_shell("status")


def test_yaml_of_the_parameter_file_is_plain(filed):
    """No tag, anchor or multi-line text: whoever opens it reads it."""
    text = (filed.root / FOLDER / "incident.yaml").read_text()

    assert yaml.safe_load(text) == read_yaml_file(str(filed.root / FOLDER / "incident.yaml"))
    assert not set("&*!|>") & set(re.sub(r"^#.*$", "", text, flags=re.MULTILINE))


# ------------------------------------------------------------------------------------------------------------ stopping


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), SystemExit(143), SystemExit(129)], ids=["INT", "TERM", "HUP"])
def test_stopped_command_never_says_that_it_is_done(quiet_shell, monkeypatch, stop):
    """Ctrl-C, SIGTERM and SIGHUP end with their own exit code and the sentence that leads on, never with 0."""

    def stopped(**_):
        raise stop

    monkeypatch.setattr("manual_payout.desk.settings.load_settings", stopped)
    answer = quiet_shell("status")

    assert (getattr(stop, "code", None) or 130) == answer.code
    assert 0 != answer.code
    assert "Stopped. Run `manual-payout status`" in answer.err
