"""Evidence on the ticket: a real HTTP server stands for Jira, with its faults."""

from __future__ import annotations

import io
import json
from pathlib import Path
from zipfile import ZipFile

import pytest
from tests.jira_server import ISSUE, TOKEN, USER, jira_running

from manual_payout.domain.errors import EvidenceError, ManualPayoutError
from manual_payout.domain.models import Mode, stream_of
from manual_payout.evidence.attaching import archive_of, issue_of
from manual_payout.evidence.folder import Folder
from manual_payout.evidence.manifest import seal
from payout_rehearsal.demo import incident
from truthful_papermill.redaction import Redactor

FOLDER = Path(incident.INCIDENT_ID, incident.LEDGER_PAYOUT_ID)


@pytest.fixture(name="jira")
def _jira():
    with jira_running() as server:
        yield server


@pytest.fixture(name="filed")
def _filed(shell, jira):
    """A request is filed, so that there is a sealed folder, and a Jira is configured."""
    assert 0 == shell.request().code
    shell.environment |= {
        "JIRA_BASE_URL": jira.url, "JIRA_USER": USER, "JIRA_API_TOKEN": TOKEN, "JIRA_REHEARSAL_ISSUE": ISSUE,
    }  # fmt: skip
    return shell


def attach(shell, to="jira", *more, **environment):
    return shell("attach", incident.INCIDENT_ID, "--to", to, "--operator", "tomas", *more, **environment)


def attached_events(shell):
    stream = stream_of(incident.INCIDENT_ID, incident.LEDGER_PAYOUT_ID)
    return [event.data for event in shell.desk.store.events_of(stream) if event.kind == "evidence_attached"]


def test_archive_and_digest_are_on_the_ticket_once(filed, jira):
    """One attachment, one comment with the digest that verify --anchor accepts, one event; again changes nothing."""
    first, again = attach(filed), attach(filed)
    with ZipFile(io.BytesIO(next(body for body in jira.bodies if body[:2] == b"PK"))) as packed:
        packed.extractall(filed.root / "unpacked")
    head = json.loads(attach(filed, "jira", "--json").out)["manifest_sha256"]
    unpacked = filed.root / "unpacked" / f"{FOLDER.parent}-{FOLDER.name}"

    assert [0, 0] == [first.code, again.code], first.err
    assert (1, 1) == (len(jira.attachments), len(jira.comments))
    assert jira.attachments[0]["filename"] == f"REHEARSAL-INC-123-{incident.LEDGER_PAYOUT_ID}-{head[:12]}.zip"
    assert jira.comments[0]["body"].startswith("REHEARSAL. Files compared with the seal: SANDBOX EVIDENCE")
    assert f"verify --anchor {head}" in jira.comments[0]["body"]
    assert {path.name: path.read_bytes() for path in unpacked.iterdir() if path.is_file()} == {
        path.name: path.read_bytes() for path in (filed.root / FOLDER).iterdir() if path.is_file()
    }
    assert ["now", "before"] == [told["attachment"].split("(")[1][:-1] for told in attached_events(filed)]


@pytest.mark.parametrize("where", ["GET PAY-7", "POST attachments", "GET comment", "POST comment"])
@pytest.mark.parametrize("fault", ["drop", "lose", 429, 503])
def test_after_any_fault_the_same_command_completes_it_without_a_second_copy(filed, jira, where, fault):
    """Exit 6 and what to do; nothing is on record before it is there."""
    jira.faults[where] = fault
    failed, told = attach(filed), attached_events(filed)
    done = attach(filed)

    assert (6, []) == (failed.code, told)
    assert "Run the same command again" in failed.err
    assert ("17 seconds" in failed.err) == (fault == 429)
    assert (0, 1, 1) == (done.code, len(jira.attachments), len(jira.comments)), done.err
    assert TOKEN not in failed.said


def test_an_upload_that_the_ticket_has_kept_in_part_is_not_taken_for_whole(filed, jira, monkeypatch):
    """The size that Jira returns is compared with the archive's; no comment says that it is there."""
    whole = jira._attach
    monkeypatch.setattr(jira, "_attach", lambda body, headers: whole(body, headers) | {"size": 17})
    answer = attach(filed)

    assert (6, []) == (answer.code, jira.comments)
    assert "has 17 of the " in answer.err
    assert "Delete that attachment in Jira" in answer.err


@pytest.mark.parametrize(
    ("status", "said"),
    [(400, "may be closed"), (401, "JIRA_API_TOKEN"), (403, "Add Comments"), (404, "the issue"), (413, "limit")],
)
def test_refusal_says_what_has_to_be_changed(filed, jira, status, said):
    """A person's to correct: exit 2, no traceback."""
    jira.faults["POST attachments"] = status
    answer = attach(filed)

    assert 2 == answer.code
    assert f"({status})" in answer.err
    assert said in answer.err
    assert "Traceback" not in answer.said


CAUSES = {
    "CAPTCHA": (403, {"X-Authentication-Denied-Reason": "CAPTCHA_CHALLENGE; login-url=https://jira/login.jsp"}, ""),
    "personal access token": (403, {}, '{"message": "Basic Authentication has been disabled on this instance."}'),
    "API token": (401, {}, "Basic authentication with passwords is deprecated. For more information, see: https://x"),
    "VPN": (403, {}, '{"errorMessages": ["The IP address 203.0.113.9 is not on the allowlist"]}'),
    "single sign-on": (200, {"Content-Type": "text/html"}, "\n<!DOCTYPE html><html><title>Log in</title></html>"),
}


@pytest.mark.parametrize("said", CAUSES)
@pytest.mark.parametrize("where", ["GET PAY-7", "GET comment"])
def test_refusal_that_names_its_cause_gets_the_remedy_that_fits(filed, jira, said, where):
    """Jira puts it into a header or a sentence; a sign-in page is no data, whatever its status."""
    jira.faults[where] = CAUSES[said]
    answer = attach(filed)

    assert (2, True) == (answer.code, said in answer.err), answer.err
    assert "Traceback" not in answer.said


def test_comment_on_a_long_ticket_is_found_on_its_last_page(filed, jira):
    """Three runs write one comment, however many others have written before."""
    jira.comments += [{"id": str(5000 + n), "body": f"Comment {n}"} for n in range(230)]
    codes = [attach(filed).code for _ in range(3)]

    assert ([0, 0, 0], 231) == (codes, len(jira.comments))


def test_a_stranger_on_the_address_gets_nothing_but_a_refusal(filed, jira):
    """A wrong token is Jira's to refuse; the archive was not sent."""
    answer = attach(filed, JIRA_API_TOKEN="another-token-1111")

    assert 2 == answer.code
    assert [] == jira.attachments
    assert not any(b"PK\x03\x04" in body for body in jira.bodies)


@pytest.mark.parametrize("missing", ["JIRA_BASE_URL", "JIRA_API_TOKEN", "JIRA_REHEARSAL_ISSUE"])
def test_missing_setting_is_named(filed, missing):
    """With what to set, before anything is sent."""
    answer = attach(filed, **{missing: None})

    assert 2 == answer.code
    assert missing in answer.err


@pytest.mark.parametrize(
    "address", ["http://jira.example", "https://u:p@jira.example", "jira.example", "https://x/?a=b"]
)
def test_token_goes_over_https_or_stays_on_this_machine(filed, address):
    """The environment is refused, not the connection."""
    answer = attach(filed, JIRA_BASE_URL=address)

    assert 2 == answer.code
    assert "JIRA_BASE_URL" in answer.err


def test_rehearsal_reaches_no_other_issue_than_its_own(filed, jira):
    """Not even one that somebody names."""
    answer = attach(filed, "jira", "--issue", "INC-123")

    assert 2 == answer.code
    assert [] == jira.bodies


def test_live_evidence_goes_to_the_incident_s_own_issue(filed):
    """By its id, or by the name it is given; what cannot be a key is asked for."""
    settings = filed.desk.settings
    section = settings.policy.stripe.model_copy(update={"mode": Mode.LIVE})
    live = settings.model_copy(update={"policy": settings.policy.model_copy(update={"stripe": section})})

    assert ("INC-123", "PAY-9") == (issue_of(live, "INC-123"), issue_of(live, "INC-123", "PAY-9"))
    with pytest.raises(ManualPayoutError, match="--issue"):
        issue_of(live, "incident.of.march")


def test_folder_keeps_what_it_has(filed, tmp_path):
    """Archive and digest once; another file of that name is never written over."""
    place = tmp_path / "evidence"
    place.mkdir()
    first, again = attach(filed, str(place)), attach(filed, str(place))
    archive = next(place.glob("*.zip"))
    archive.write_bytes(b"something else")
    other = attach(filed, str(place))

    assert [0, 0, 5] == [first.code, again.code, other.code]
    assert b"something else" == archive.read_bytes()
    assert 2 == len(list(place.iterdir()))
    assert 2 == attach(filed, str(place / "nowhere")).code


def test_nothing_leaves_a_folder_that_is_not_as_it_was_sealed(filed, jira):
    """A changed, or added, file is a question; a secret in it is another."""
    (filed.root / FOLDER / "note.txt").write_text(f"token {TOKEN}")
    unsealed = attach(filed)
    folder = Folder(filed.root / FOLDER, Redactor())
    seal(folder, {"incident_id": "INC-123", "mode": "sandbox"})
    secret = attach(filed)

    assert (5, 5) == (unsealed.code, secret.code)
    assert "nothing_extra: note.txt" in unsealed.err
    assert "note.txt in the evidence folder holds a secret of this installation" in secret.err
    assert TOKEN not in secret.said
    assert [] == jira.bodies


def test_same_folder_is_the_same_bytes(filed):
    """So that the digest of an archive says something."""
    folder = Folder(filed.root / FOLDER, Redactor())

    assert archive_of(folder, Mode.SANDBOX) == archive_of(folder, Mode.SANDBOX)


@pytest.mark.parametrize("mode", [Mode.LIVE, Mode.TEST])
def test_evidence_of_another_mode_is_not_attached(filed, mode):
    """What it is stands in its manifest: the settings at hand cannot take the mark of a rehearsal from it."""
    with pytest.raises(
        EvidenceError, match=f"is sandbox evidence, and these are the settings of {mode} mode"
    ) as refused:
        archive_of(Folder(filed.root / FOLDER, Redactor()), mode)

    assert "its own mode" in refused.value.remedy


@pytest.mark.parametrize("below", ["", "seals"])
def test_archive_is_not_put_into_the_evidence(filed, below):
    """It would be an addition, and nothing would pass again."""
    (filed.root / FOLDER / below).mkdir(exist_ok=True)
    before = {path: path.read_bytes() for path in Folder(filed.root / FOLDER, Redactor()).files()}
    answer = attach(filed, filed.root / FOLDER / below)

    assert 2 == answer.code
    assert "a folder outside of the evidence" in answer.err
    assert before == {path: path.read_bytes() for path in Folder(filed.root / FOLDER, Redactor()).files()}


def test_attaching_needs_no_stripe_key(filed):
    """It is the reviewer's errand as much as the operator's."""
    assert 0 == attach(filed, STRIPE_FALLBACK_SECRET_KEY=None, STRIPE_READ_SECRET_KEY=None).code
