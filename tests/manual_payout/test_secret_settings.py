"""A secret that is a word of ours is refused at the start, and never takes a digested or signed byte with it."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from unittest import mock

import nbformat
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nbformat.v4 import new_code_cell, new_notebook

import local_stripe
from manual_payout import steps
from manual_payout.approval.policy import PAYOUT_RULES
from manual_payout.database.schema import metadata
from manual_payout.desk.papermill_engine import PayoutEngine
from manual_payout.desk.people import load_registry
from manual_payout.desk.secret_settings import Secret, refuse_our_words
from manual_payout.desk.settings import SANDBOX_APPROVERS
from manual_payout.desk.signing import judge_of
from manual_payout.domain.errors import EvidenceError, SecretError
from manual_payout.domain.models import CheckStatus, Mode, Reason, Stage, State, Team
from manual_payout.evidence.folder import Folder, json_text
from manual_payout.evidence.sealing import find_sealer, seal_folder
from manual_payout.evidence.verifier import Registry, check_contents, check_files, check_signatures, read_folder
from manual_payout.steps.papers import keep_approvals
from payout_rehearsal import demo_parameters
from payout_rehearsal.demo import incident
from payout_rehearsal.incident import file_and_approve
from truthful_papermill.engine import execute
from truthful_papermill.redaction import Redactor
from truthful_papermill.templates import digest_of, read_notebook

PEOPLE = load_registry(SANDBOX_APPROVERS)
WORDS = sorted(
    {column.name for table in metadata.tables.values() for column in table.columns}
    | set(metadata.tables)
    | {str(one.value) for kind in (CheckStatus, Mode, Reason, Stage, State, Team) for one in kind}
    | {rule.__name__ for rule in PAYOUT_RULES}
    | {"platform", "sandbox", "ledger", "payments", "transfer", "Refused, nothing moved", "request_filed", "payload.json"}
    | {"Content-Security-Policy", "confirm code", "2-execute.ipynb", "metadata", "stripe-response.json", "balance_transaction"}
)  # fmt: skip
LONG_ENOUGH = [word for word in WORDS if len(word) >= 6]


def refused(value, *texts):
    """Whether a secret of that value is refused at the start."""
    try:
        refuse_our_words([Secret("SMTP_PASSWORD", value)], *texts)
    except SecretError:
        return True
    return False


def test_every_word_of_ours_is_refused_in_any_case():
    """Columns, tables, states, kinds, rules, file names, captions: whatever the evidence is made of, in captions too."""

    assert [] == [word for word in WORDS if not refused(word)]
    assert [] == [word for word in LONG_ENOUGH if not (refused(word.upper()) and refused(word.title()))]


def test_every_name_in_the_evidence_of_an_incident_is_refused(rehearsed):
    """Ours or a library's: each field of each file, and what a notebook's metadata says."""
    names = set()
    for path in rehearsed.folder.rglob("*"):
        if path.suffix in {".json", ".ipynb"}:
            names |= names_of(json.loads(path.read_text("utf-8")))

    assert len(names) > 150
    assert [] == sorted(name for name in names if len(name) >= 6 and not refused(name))


def names_of(value):
    """The fields' names at every depth of JSON; an id or a number is no name."""
    if isinstance(value, list):
        return set().union(*map(names_of, value))
    if not isinstance(value, dict):
        return set()
    below = set().union(*map(names_of, value.values()))
    return below | {
        name for name in value if re.fullmatch(r"[A-Za-z_./-]+", name) and not name.endswith((".ipynb", ".html"))
    }


@pytest.mark.parametrize(
    "value",
    ["12345678", "20261130", "2026-11-30", "12:30:00", "deadbeef", "DEADBEEF01", "1250.75", "short", "redacted", "000000"],
)  # fmt: skip
def test_what_may_stand_in_a_digest_or_a_date_by_chance_is_refused(value):
    """Twelve digits stand in a folder's digests once in two thousand million folders, eight once in forty thousand."""

    assert refused(value)


@pytest.mark.parametrize(
    "value",
    [
        "Harbor/light-7", "correct horse battery staple", "kx7Q2mz9vP", "0123456789abcdef0123456789abcdef", "tr0ub4dor&3",
        local_stripe.FALLBACK_KEY, "xoxb-0123456789-abc", "https://hooks.slack.com/services/T0/B0/0123456789abcdefgh", "größer7!",
    ],
)  # fmt: skip
def test_a_fit_secret_is_taken(value):
    """What its issuer made cannot be a word, whatever stands in our sources."""

    assert not refused(value)


def test_a_secret_that_only_this_installation_cannot_have_is_refused():
    """A person, a channel, a name of this incident."""
    people = SANDBOX_APPROVERS.read_text("utf-8")

    assert refused("zora.quill@shop.example", "[[people]]\nemail = 'Zora.Quill@shop.example'")
    assert not refused("zora.quill@shop.example", people)


# --- Not a digested byte is changed, whatever the secret -------------------------------------------------------------


@pytest.fixture(scope="module", name="filed")
def _filed(open_shell, tmp_path_factory):
    """A shell with a request that was filed and approved on other machines, whose secrets are other ones."""
    with open_shell(tmp_path_factory.mktemp("filed")) as shell:
        file_and_approve(shell.desk, replace(demo_parameters(), notes="Zirconium seven"))
        yield shell


@pytest.fixture(scope="module", name="whole")
def _whole(filed, tmp_path_factory):
    """What the writers write where there is no secret: by file, all that is digested, signed or compared."""
    folder = Folder(tmp_path_factory.mktemp("whole"), Redactor())
    write_everything(filed.desk, folder)
    return {name: data for name, data in contents(folder).items() if name != "index.html"}


def write_everything(desk, folder):
    """Request, approvals with their signatures, journal, manifest, seal: by the writers of a run."""
    request = desk.store.find_request(incident.INCIDENT_ID, incident.LEDGER_PAYOUT_ID)
    folder.keep("request.json", json_text({"statement": request.statement(), "digest": request.digest}))
    keep_approvals(folder, "approvals.json", desk.store.approvals_of(request.request_id))
    sealer = find_sealer(desk, incident.OPERATOR)
    seal_folder(desk, folder, incident.INCIDENT_ID, incident.LEDGER_PAYOUT_ID, sealer)


def contents(folder):
    """The files of a folder."""
    return {path.relative_to(folder.path).as_posix(): path.read_bytes() for path in folder.files()}


def wrong(folder):
    """The checks that fail, of those that need no notebook."""
    found = read_folder(folder.path)
    said = check_files(found) + check_signatures(found, Registry(SANDBOX_APPROVERS), judge_of(PEOPLE.signers))
    return [one.name for one in said + check_contents(found, {"no": "template"}, "", "") if one.wrong]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(data=st.data())
def test_a_byte_that_is_digested_or_signed_is_never_changed(filed, whole, tmp_path_factory, data):
    """With any piece of the evidence as the secret: all is written as it is and passes, or the file is refused by its name."""
    secret = data.draw(st.one_of(st.sampled_from(LONG_ENOUGH), pieces(whole)), label="secret")
    folder = Folder(tmp_path_factory.mktemp("folder"), Redactor([Secret("SMTP_PASSWORD", secret)]))
    error = error_of(lambda: write_everything(filed.desk, folder))

    assert "SMTP_PASSWORD" not in str(error)
    assert [] == wrong(folder) if error is None else "The secret is in SMTP_PASSWORD." == error.aside
    written = {name: data for name, data in contents(folder).items() if name != "index.html"}
    # The manifest holds the page's digest, and a page is made without the secret.
    alike = written.keys() - {"manifest.json", "manifest.json.sig"}

    assert {name: whole[name] for name in alike} == {name: written[name] for name in alike}
    assert [] == [name for name in written if Redactor([secret]).find(written[name])]


def error_of(act):
    """The refusal that *act* ends in, or None."""
    try:
        act()
    except EvidenceError as error:
        return error
    return None


def pieces(whole):
    """Anything that stands in what is digested or signed, long enough for a secret."""

    def piece(name, at, length):
        text = whole[name].decode()
        return text[int(at * len(text)) :][:length].strip()

    found = st.builds(piece, st.sampled_from(sorted(whole)), st.floats(0, 0.99), st.integers(6, 30))
    return found.filter(lambda text: len(text) >= 6)


# --- At the start ----------------------------------------------------------------------------------------------------

COMMANDS = [
    ("request", "--as", "maya"), ("approve", "INC-123", "--as", "priya"), ("run", "--operator", "tomas", "--dry-run"),
    ("reconcile", "INC-123", "--operator", "tomas"), ("status",), ("deliver", "--operator", "tomas"), ("seal", "INC-123"),
    ("attach", "INC-123"), ("monitor", "--operator", "tomas"), ("verify", "."), ("rehearse",), ("db", "upgrade"),
    ("keys", "show"), ("reversal", "run", "INC-123", "--operator", "tomas"),
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_secret_that_is_our_word_is_refused_before_any_command(quiet_shell, command):
    """By its variable, on the terminal, in one sentence with the remedy; nothing is written."""
    before = quiet_shell.state()
    answer = quiet_shell(*command, SMTP_USERNAME="x", SMTP_PASSWORD="platform")

    assert 2 == answer.code
    assert "A secret is a word that evidence is made of. The secret is in SMTP_PASSWORD.\n" in answer.err
    assert "What to do: Change that secret" in answer.err
    assert "" == answer.out
    assert before == quiet_shell.state()


@pytest.mark.parametrize("name", ["DATABASE_URL", "LEDGER_DATABASE_URL"])
@pytest.mark.parametrize("word", ["platform", "sandbox", "ledger", "payments", "Transfer", "20261130", "live"])
def test_a_password_of_a_database_that_is_our_word_is_refused_by_its_variable(quiet_shell, name, word):
    """Whichever database, before it is asked anything."""
    answer = quiet_shell("status", "--json", **{name: f"postgresql://payer:{word}@127.0.0.1:1/x"})

    assert (2, "Cannot start") == (answer.code, json.loads(answer.err)["error"])
    assert f"The secret is in {name}." in json.loads(answer.err)["message"]


def test_help_is_given_whatever_the_secrets_are(quiet_shell):
    """And costs no search for words."""
    with mock.patch("manual_payout.desk.secret_settings._texts", side_effect=AssertionError):
        answer = quiet_shell("run", "--help", SMTP_USERNAME="x", SMTP_PASSWORD="platform")

    assert 0 == answer.code


@pytest.mark.parametrize("secret", ["INC-2042", "Primary Job timed", "maya.okafor@marketplace.example"])
def test_a_value_of_the_request_that_is_a_secret_is_refused_when_it_is_filed(quiet_shell, secret):
    """Typed or not; the variable is named on the terminal, since the value may be right and the password bad."""
    before = quiet_shell.state()
    changed = {"incident_id": "INC-2042", "notes": "Primary Job timed out on PSP"}
    answer = quiet_shell.request(**changed, environment={"SMTP_USERNAME": "x", "SMTP_PASSWORD": secret})

    assert 2 == answer.code
    assert "The secret is in SMTP_PASSWORD." in answer.err
    assert before == quiet_shell.state()


@pytest.mark.parametrize(
    "command",
    [("approve", "INC-123", "--as", "priya", "--amount", "1250.75", "--destination-last4", "_123")],
    ids=" ".join,
)
def test_what_is_on_record_is_held_against_the_secrets_of_this_machine(filed, command):
    """Before it is approved or run: afterwards it is signed, and could neither be saved nor be left out."""
    before = filed.state()
    answer = filed(*command, SMTP_USERNAME="x", SMTP_PASSWORD="Zirconium seven")

    assert 2 == answer.code
    assert "occurs in what was requested, approved or recorded. The secret is in SMTP_PASSWORD." in answer.err
    assert before == filed.state()


def test_a_notebook_is_refused_without_the_name_of_the_variable(filed):
    """Evidence that names it tells its reader what the password is."""
    given = demo_parameters().as_dict()
    for secret in ("platform", "Zirconium seven"):
        with (
            mock.patch.dict(
                os.environ, filed.environment | {"SMTP_USERNAME": "x", "SMTP_PASSWORD": secret}, clear=True
            ),
            pytest.raises(SecretError) as refusal,
        ):
            steps.begin("1-verify", given)

        assert "SMTP_PASSWORD" not in str(refusal.value) + "".join(refusal.value._render_traceback_())


def test_papermill_is_refused_before_there_is_a_file(tmp_path):
    """A notebook from whose words one is taken out is damaged evidence."""
    nb = new_notebook(cells=[new_code_cell("1")], metadata={"papermill": {}})
    with (
        mock.patch.dict(os.environ, {"SMTP_PASSWORD": "platform"}),
        pytest.raises(SecretError),
    ):
        PayoutEngine.execute_notebook(nb, "python3", str(tmp_path / "out.ipynb"))

    assert [] == list(tmp_path.iterdir())


def test_a_template_that_holds_a_secret_does_not_run(tmp_path):
    """Its reviewed text is saved as it is, or there is no notebook."""
    template = tmp_path / "t.ipynb"
    tagged = {"tags": ["parameters"]}
    nbformat.write(
        new_notebook(cells=[new_code_cell("a = 1", metadata=tagged), new_code_cell("zirconium = 7")]), template
    )
    digest = digest_of(read_notebook(template))
    with pytest.raises(SecretError):
        execute(template, tmp_path / "out.ipynb", {}, redactor=Redactor(["zirconium"]), expected_digest=digest)

    assert [template] == list(tmp_path.iterdir())
