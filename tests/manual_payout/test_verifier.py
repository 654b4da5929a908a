"""The verifier: an untouched folder passes, every change is found by the right check, and it runs alone."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from tests import tamper

from manual_payout.desk.people import load_registry
from manual_payout.desk.results import the_result
from manual_payout.desk.reviewed import reviewed_digests
from manual_payout.desk.settings import SANDBOX_APPROVERS
from manual_payout.desk.signatures import AllowedSigners
from manual_payout.desk.signatures.signers import parse_signers
from manual_payout.desk.signing import judge_of, sandbox_key
from manual_payout.domain.canonical import digest_bytes, digest_of
from manual_payout.evidence import verifier
from manual_payout.evidence.folder import json_text
from manual_payout.steps.closing import _result_row
from truthful_papermill.engine.statuses import read_status
from truthful_papermill.templates import load_template

SCRAP = "application/scrapbook.scrap.json+json"
UNSIGNED = "nobody has signed this seal; have the operator run `manual-payout seal`"
RUNBOOKS = Path(__file__).parents[2] / "runbooks"


@pytest.fixture(name="original")
def _original(rehearsed):
    """The sealed folder of a whole incident; not to be changed."""
    return rehearsed.folder


@pytest.fixture(name="folder")
def _folder(original, tmp_path):
    """A copy of it, to be changed."""
    return Path(shutil.copytree(original, tmp_path / "folder"))


def findings(folder, *, mode="", anchor=""):
    """What is wrong, by the name of each check."""
    sealed = verifier.read_folder(folder)
    people, judge = verifier.Registry(SANDBOX_APPROVERS), judge_of(tamper.PEOPLE.signers)
    found = verifier.check_all(sealed, people, judge, tamper.REVIEWED, mode=mode, anchor=anchor)
    return {finding.name: finding.wrong for finding in found if finding.wrong}


def edit(path, change):
    """Change the content of a JSON file, and write the manifest anew over it."""
    content = json.loads(path.read_bytes())
    change(content)
    path.write_text(json.dumps(content))
    tamper.cover_up(path.parent)


def edit_manifest(folder, change):
    """Change what the manifest says of the run, and sign it as the operator could."""
    path = folder / "manifest.json"
    content = json.loads(path.read_bytes())
    change(content["predicate"]["facts"])
    path.write_text(json_text(content))
    (folder / "manifest.json.sig").write_text(tamper.operator().sign(path.read_bytes()))


def test_a_rehearsals_folder_passes_every_check(original):
    """No false alarm, in its own mode and with its own anchors."""
    sealed = (original / "manifest.json").read_bytes()
    head = json.loads(sealed)["predicate"]["facts"]["journal_head"]

    assert {} == findings(original)
    assert {} == findings(original, mode="sandbox", anchor=digest_bytes(sealed))
    assert {} == findings(original, anchor=head[:16])


def test_sixty_random_mutations_are_each_found_by_the_right_check(original):
    """A slice of ``python -m tests.tamper``: every kind of change, as it is and covered up."""
    tally, missed = tamper.campaign(original, 60)

    assert [] == missed
    assert 60 == tally.total()


@pytest.mark.parametrize("mode", ["live", "test"])
def test_sandbox_evidence_never_verifies_as_another_mode(original, folder, mode):
    """Neither when another is expected, nor when the manifest is made to say so."""
    expected = findings(original, mode=mode)
    edit_manifest(folder, lambda facts: facts.update(mode=mode))

    assert {"mode": (f"this is sandbox evidence, expected {mode}",)} == expected
    assert "mode" in findings(folder, mode=mode)


def test_the_verdict_on_sandbox_evidence_says_so_first(original):
    """Nobody takes a rehearsal for a payout; what to keep elsewhere stands at the end."""
    said = verifier.verdict_line(verifier.read_folder(original), [])
    head = digest_bytes((original / "manifest.json").read_bytes())

    assert said.startswith("SANDBOX EVIDENCE, NO REAL MONEY. ")
    assert said.endswith(f"SHA-256 of manifest.json: {head}.")


@pytest.mark.parametrize(
    ("signer", "said"),
    [
        (tamper.stranger, "the signature of tomas.lindqvist@marketplace.example is not good"),
        (tamper.approver, "priya.raman@marketplace.example could not operate then"),
    ],
)
def test_a_seal_by_somebody_who_may_not_is_found(folder, signer, said):
    """Whoever may write to the folder writes a manifest that fits; a name that may operate takes its key, too."""
    tamper.cover_up(folder, signer())

    assert {"seal"} == set(findings(folder))
    assert said in findings(folder)["seal"][0]


def test_a_seal_that_nobody_signed_is_said_to_be_none(folder):
    """With what to do; the files may be as they were."""
    (folder / "manifest.json.sig").unlink()

    assert {"seal": (f"manifest.json.sig is missing: {UNSIGNED}",)} == findings(folder)


@pytest.mark.parametrize("handle", ["tomas", "amara"])
def test_a_key_that_was_revoked_since_vouches_for_nothing(original, handle):
    """Neither for the seal nor for an approval that the sending needed."""
    revoked = AllowedSigners(
        tamper.PEOPLE.signers.entries, frozenset({sandbox_key(handle).public_key}), "allowed_signers"
    )
    sealed, people = verifier.read_folder(original), verifier.Registry(SANDBOX_APPROVERS)
    found = verifier.check_signatures(sealed, people, judge_of(revoked))
    wrong = {finding.name: finding.wrong[0] for finding in found if finding.wrong}

    assert ({"seal", "seals", "operator"} if handle == "tomas" else {"signatures"}) == set(wrong)
    assert all("was revoked" in text for text in wrong.values())


def test_an_approval_whose_signature_is_of_another_is_found(folder):
    """Also where the operator has written the journal's chain anew and sealed it."""

    def exchange(journal):
        one, other = [event["data"] for event in journal["events"] if event["kind"] == "approved"]
        one["signature"], other["signature"] = other["signature"], one["signature"]

    edit(folder / "journal.json", exchange)

    assert 2 == len(findings(folder)["signatures"])


def test_earlier_seals_are_kept_and_each_builds_on_the_one_before(original):
    """Dry run, live run, the close notebook's own and the run's: four seals, of which three lie under ``seals``."""
    kept = sorted((original / "seals").glob("*.json"))
    previous = [json.loads(path.read_bytes())["predicate"]["previous"] for path in [*kept, original / "manifest.json"]]

    assert ["", *(digest_bytes(path.read_bytes()) for path in kept)] == previous
    assert 3 == len(kept)


def test_an_error_under_a_cell_called_completed_is_found(folder):
    """A notebook cannot flatter itself: the error counts, and so does the claim."""

    def flatter(book):
        cell = next(cell for cell in book["cells"] if cell["cell_type"] == "code" and cell["outputs"])
        cell["outputs"] = [{"output_type": "error", "ename": "ClaimError", "evalue": "", "traceback": []}]

    edit(folder / "1-verify-01.ipynb", flatter)

    assert "1-verify-01.ipynb: a cell is called completed and shows ClaimError" in findings(folder)["templates"]


def test_a_result_that_is_glued_twice_is_found(folder):
    """Of two results scrapbook shows the last, so that whoever adds one has the last word."""

    def approve(book):
        outputs = _results(book["cells"])
        second = copy.deepcopy(outputs[0])
        second["data"][SCRAP]["data"]["verdict"] = "GO"
        next(c for c in book["cells"] if outputs[0] in c.get("outputs", []))["outputs"].append(second)

    path = folder / "1-verify-01.ipynb"
    before = the_result(json.loads(path.read_bytes())["cells"])
    edit(path, approve)

    assert "1-verify-01.ipynb: 'result' is glued 2 times" in findings(folder)["templates"]
    assert ("GO", {}) == (before["verdict"], the_result(json.loads(path.read_bytes())["cells"]))
    assert ["1-verify-01.ipynb", "two results"] == _result_row(path)[:2]


BANNERS = {
    "missing": (lambda cells: cells.pop(0), "it does not begin with one banner that says how it ended"),
    "flattering": (
        lambda cells: cells[0].update(source=["**How it ended: GO (live); the money: paid.**"]),
        "its banner says '**How it ended: GO (live); the money: paid.**', its cells and result show 'GO (dry run); the money: nothing begun'",
    ),
    "longer": (lambda cells: cells[0]["source"].append("\n\nThe money has moved."), "its banner goes on with 'The money has moved.'"),
    "elsewhere": (lambda cells: cells.insert(3, cells.pop(0)), "a banner stands where none belongs"),
    "twice": (
        lambda cells: cells.insert(2, copy.deepcopy(cells[0]) | {"id": "again"}), "a banner stands where none belongs"
    ),
    "dry run called live": (
        lambda cells: _results(cells)[0]["data"][SCRAP]["data"].update(dry_run=False),
        "its banner says '**How it ended: GO (dry run); the money: nothing begun.**', its cells and result show 'GO (live); the money: nothing begun'",
    ),
}  # fmt: skip


def _results(cells):
    return [output for cell in cells for output in cell.get("outputs", []) if SCRAP in output.get("data", {})]


@pytest.mark.parametrize("change", BANNERS)
def test_a_banner_that_says_something_else_than_the_result_is_found(folder, change):
    """Whoever reads the first line alone reads what the result says, or the folder does not verify."""
    forge, said = BANNERS[change]
    edit(folder / "1-verify-01.ipynb", lambda book: forge(book["cells"]))

    assert f"1-verify-01.ipynb: {said}" in findings(folder)["templates"]


@pytest.mark.parametrize("verdict", [{}, {"verdict": "NO-GO"}])
def test_an_event_whose_result_was_never_saved_does_no_harm(folder, verdict):
    """A run that was killed right after it told the journal."""

    def spare(journal):
        events = journal["events"]
        event = next(copy.deepcopy(event) for event in events if event["kind"] == "stage_finished")
        event |= {"seq": len(events) + 1, "previous": events[-1]["digest"], "data": event.pop("data") | verdict}
        del event["digest"]
        events.append(event | {"digest": digest_of(event | {"version": 1, "stream": journal["stream"]})})

    edit(folder / "journal.json", spare)

    assert {} == findings(folder)


def test_a_status_that_the_notebook_does_not_show_is_found(folder):
    """The manifest cannot call a notebook what it is not."""
    edit_manifest(folder, lambda facts: facts["notebooks"]["2-execute-02.ipynb"].update(status="failed"))

    assert ("2-execute-02.ipynb: status is 'completed', sealed as 'failed'",) == findings(folder)["statuses"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"team": "finance"}, "is not by both teams"),
        ({"request": {"mode": "sandbox"}}, "is for another request"),
        ({"expires_at": "2026-03-02T03:10:00.000000Z"}, "did not stand"),
        ({"approver_id": "0b6c1f0e-7a52-4d0f-9c3e-2e8a51f7d901"}, "is by its requester"),
    ],
)
def test_an_approval_that_does_not_allow_the_sending_is_found(folder, change, said):
    """Also where somebody has written the journal's chain anew."""

    def forge(journal):
        event = next(event for event in journal["events"] if event["kind"] == "approved")
        event["data"]["statement"]["predicate"] |= change

    edit(folder / "journal.json", forge)

    assert f"the approval of event 18 {said}" in findings(folder)["approvals"]


def test_a_signed_statement_that_is_no_approval_approves_nothing(folder):
    """Whatever else is signed for the same purpose one day: only the type of an approval is a yes."""

    def forge(journal):
        event = next(event for event in journal["events"] if event["kind"] == "approved")
        event["data"]["statement"]["predicateType"] = "urn:manual-payout:something-else:v1"

    edit(folder / "journal.json", forge)

    assert "the approval of event 18 is none" in findings(folder)["approvals"]


def test_a_sending_that_names_one_approval_is_refused(folder):
    """One approval never does, in an ordinary folder or in any other."""

    def take_one(journal):
        event = next(event for event in journal["events"] if event["kind"] == "intent_recorded")
        event["data"]["approval_ids"].pop()

    edit(folder / "journal.json", take_one)

    assert "is not by both teams" in "; ".join(findings(folder)["approvals"])


def test_an_answer_of_stripe_about_other_money_is_found(folder):
    """Amount, currency and destination are those that were sent, whatever the transfer is called."""
    edit(folder / "stripe-response.json", lambda answer: answer.update(destination="acct_456"))

    assert ("stripe-response.json is not what was sent",) == findings(folder)["money"]


@pytest.mark.parametrize("anchor", ["", "81331c", "8" * 64, "ZZ331c8112cf2e84"])
def test_an_anchor_that_is_too_short_or_not_in_the_folder_fails(original, anchor):
    """Only the empty one is none."""

    assert ({"anchor"} if anchor else set()) == set(findings(original, anchor=anchor))


def test_it_digests_templates_as_the_software_does():
    """Two readings of one definition, and the reviewed list."""
    ours = {path.stem: load_template(path).digest for path in RUNBOOKS.glob("*.ipynb")}

    assert ours == verifier.templates_in(RUNBOOKS) == reviewed_digests()


def test_it_reads_statuses_as_the_engine_does(folder):
    """Whatever the record of a cell says: both come to the same word."""
    path = folder / "2-execute-02.ipynb"
    original = json.loads(path.read_text())
    error = {"output_type": "error", "ename": "KeyboardInterrupt", "evalue": "", "traceback": []}
    for said in ("completed", "failed", "unknown", "running", "pending", ""):
        for change in (
            {},
            {"outputs": [error]},
            {"outputs": [error | {"ename": "ClaimError"}]},
            {"execution_count": None},
        ):
            for timing in ({}, {"iopub.status.busy": "x"}, None):
                book = json.loads(json.dumps(original))
                cell = [cell for cell in book["cells"] if cell["cell_type"] == "code"][-1]
                cell["metadata"]["papermill"]["status"] = said
                cell["metadata"] |= {"execution": timing} if timing is not None else {}
                cell |= change
                path.write_text(json.dumps(book))

                assert read_status(nbformat.read(path, as_version=4)).status == verifier.read_executed(path).status


def test_one_file_and_python_are_enough(original, tmp_path):
    """Copied away from the software, with no package to import, it comes to the same answer and exit code."""
    alone = shutil.copy(verifier.__file__, tmp_path / "verifier.py")
    command = [sys.executable, "-I", "-S", alone, original, "--templates", RUNBOOKS, "--registry", SANDBOX_APPROVERS]
    good = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    live = subprocess.run([*command, "--mode", "live", "--json"], capture_output=True, text=True, check=False)
    none = subprocess.run([*command[:4], tmp_path, *command[5:]], capture_output=True, text=True, check=False)

    assert (0, "") == (good.returncode, good.stderr)
    assert 18 == sum(line.startswith("ok ") for line in good.stdout.splitlines())
    assert (5, ["mode"]) == (live.returncode, [one["name"] for one in json.loads(live.stdout) if one["wrong"]])
    assert (5, "") == (none.returncode, none.stdout)
    assert "has no readable manifest.json: it is missing" in none.stderr


def test_stock_openssh_says_who_sealed_a_folder(folder, tmp_path):
    """The one file asks ssh-keygen, which takes the operator's signature and no other."""
    alone = shutil.copy(verifier.__file__, tmp_path / "verifier.py")
    tamper.cover_up(folder, tamper.stranger())
    command = [sys.executable, "-I", "-S", alone, folder, "--templates", RUNBOOKS, "--registry", SANDBOX_APPROVERS]
    told = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False)

    assert (5, ["seal"]) == (told.returncode, [one["name"] for one in json.loads(told.stdout) if one["wrong"]])
    assert "Could not verify signature" in told.stdout


def test_seals_are_followed_by_their_numbers(original):
    """Also past 999, where names are no longer in the order of numbers; what only looks like a seal is none."""
    names = ["seals/1000.json", "seals/099.json", "seals/999.json", "seals/1x.json", "seals/999.json.sig", "a/001.json"]

    assert ["seals/099.json", "seals/999.json", "seals/1000.json"] == verifier.earlier_seals(names)


@pytest.mark.parametrize("anchor", [str.upper, str.title])
def test_an_anchor_is_taken_in_either_case(original, anchor):
    """Some programs write digests in capitals."""
    assert {} == findings(original, anchor=anchor(digest_bytes((original / "manifest.json").read_bytes())))


@pytest.mark.parametrize(
    "change",
    [
        ("2025-01-01T00:00:00Z", "2025-01-01"), ("2025-01-01T00:00:00Z", "2025-01-01T00:00:00"),
        ("2025-01-01T00:00:00Z", '"2025-01-01T00:00:00Z"'), ("2025-01-01T00:00:00Z", '"2025-01-01"'),
        (r"(?m)^id = .*$", lambda line: f"id{line[0][2:].upper()}"),
    ],
)  # fmt: skip
def test_it_reads_every_registry_that_the_software_accepts(original, tmp_path, change):
    """A date, an instant without a zone, text, an id in capitals: the same people, in force at the same time."""
    written = re.sub(*change, SANDBOX_APPROVERS.read_text())
    (tmp_path / "approvers.toml").write_text(written)
    people = load_registry(tmp_path / "approvers.toml", SANDBOX_APPROVERS.with_name("allowed_signers")).people
    registry, sealed = verifier.Registry(tmp_path / "approvers.toml"), verifier.read_folder(original)
    found = verifier.check_signatures(sealed, registry, judge_of(tamper.PEOPLE.signers))

    assert written != SANDBOX_APPROVERS.read_text()
    assert {p.person_id: p.valid_from for p in people} == {i: p["valid_from"] for i, p in registry.people.items()}
    assert [] == [finding.wrong for finding in found if finding.wrong]


def _deep(folder):
    """A notebook with a tag inside of a hundred thousand lists."""
    path = folder / "1-verify-01.ipynb"
    path.write_text(path.read_text().replace('"tags": [', f'"tags": [{"[" * 99_999}{"]" * 99_999}, ', 1))


def _manifest(change):
    """A change of the manifest, as a way to damage a folder."""

    def damage(folder):
        content = json.loads((folder / "manifest.json").read_bytes())
        change(content)
        (folder / "manifest.json").write_text(json_text(content))

    return damage


@pytest.mark.parametrize(
    ("damage", "check"),
    [
        (_manifest(lambda m: m["predicate"].update(sealed_by=[])), "seal"),
        (_manifest(lambda m: m["predicate"].update(sealed_by=None)), "seal"),
        (_manifest(lambda m: m["predicate"]["facts"].update(sealed_at="0001-01-01T00:00:00+14:00")), "seal"),
        (_manifest(lambda m: m["subject"][0].update(name=None)), None),
        (_manifest(lambda m: m["subject"][0].update(name=5)), None),
        (_deep, "files_as_sealed"),
        (lambda folder: (folder / "März.txt").write_text("x"), "nothing_extra"),
    ],
)
def test_damaged_evidence_is_exit_5(folder, tmp_path, damage, check):
    """Whatever somebody wrote into it: an answer in words, also on a terminal that has ASCII only."""
    alone = shutil.copy(verifier.__file__, tmp_path / "verifier.py")
    damage(folder)
    command = [sys.executable, "-S", alone, folder, "--templates", RUNBOOKS, "--registry", SANDBOX_APPROVERS]
    told = subprocess.run(
        command, capture_output=True, text=True, check=False, env=dict(os.environ, PYTHONIOENCODING="ascii")
    )

    assert 5 == told.returncode, told.stderr
    assert "Traceback" not in told.stderr
    assert (f"FAIL  {check}" if check else "has no readable manifest.json: it is damaged") in told.stdout + told.stderr


@pytest.mark.parametrize("templates", ["nowhere", "."])
def test_a_folder_without_templates_is_the_auditor_s_mistake(original, tmp_path, templates):
    """Exit 2: the evidence is not to blame."""
    command = [sys.executable, verifier.__file__, original, "--templates", tmp_path / templates]
    told = subprocess.run([*command, "--registry", SANDBOX_APPROVERS], capture_output=True, text=True, check=False)

    assert (2, "") == (told.returncode, told.stdout)
    assert "holds no notebooks" in told.stderr


@pytest.mark.parametrize("mode", ["live", "test"])
def test_keys_that_anybody_can_make_vouch_for_the_sandbox_alone(folder, tmp_path, mode):
    """With them anybody could seal a payout that never was: the one file is given the wrong people then, exit 2."""
    alone = shutil.copy(verifier.__file__, tmp_path / "verifier.py")
    edit_manifest(folder, lambda facts: facts.update(mode=mode))
    command = [sys.executable, "-I", "-S", alone, folder, "--templates", RUNBOOKS, "--registry", SANDBOX_APPROVERS]
    told = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (2, "") == (told.returncode, told.stdout)
    assert "line 3 of" in told.stderr
    assert "is a key of the sandbox, which anybody can make" in told.stderr


def test_it_knows_the_keys_of_the_sandbox():
    """All of them, without the software."""
    entries = parse_signers(SANDBOX_APPROVERS.with_name("allowed_signers").read_text(), "allowed_signers")

    assert [entry.line_no for entry in entries] == verifier.sandbox_lines(
        SANDBOX_APPROVERS.with_name("allowed_signers")
    )
    assert len(entries) == len(verifier._SANDBOX_KEYS)


def test_a_name_with_control_characters_cannot_forge_a_line(folder):
    """A file called like a verdict stays inside its line."""
    (folder / "a\rok    all is well\x1b[2K").write_text("x")
    lines = [finding.line() for finding in verifier.check_files(verifier.read_folder(folder))]

    assert all(line.isprintable() for line in lines)
