"""A live send after a warning about the rehearsal: allowed, seen by those who approve, and never without a record."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from desks import LAST4
from live import LiveScene, live_stripe
from manual_payout import steps
from manual_payout.approval.approving import note_warning, shown_to_approver
from manual_payout.approval.verification import verify
from manual_payout.cli.run_results import show_results
from manual_payout.comms.telling import sent_messages
from manual_payout.desk.reviewed import procedure_digest, reviewed_digests
from manual_payout.domain.errors import ClaimError, DatabaseError, UnknownOutcomeError
from manual_payout.domain.models import CheckStatus, Stage, State
from manual_payout.evidence.folder import Folder
from manual_payout.evidence.postmortem import postmortem_text
from manual_payout.evidence.review import write_page
from manual_payout.evidence.sealing import seal_folder
from manual_payout.evidence.story import read_story
from manual_payout.evidence.verifier import check_contents, check_files, read_folder
from manual_payout.steps.run import Run
from manual_payout.steps.runner import StageResult
from manual_payout.transfer import sending
from payout_rehearsal import APPROVERS
from payout_rehearsal.demo import incident
from shells import Shell

OTHER = "ab" * 32


@pytest.fixture(name="stripe")
def _stripe(shared_stripe):
    """The sandbox, and where it answers as live mode does."""
    shared_stripe.reset()
    with live_stripe(shared_stripe.base_url) as address:
        yield shared_stripe, address


@pytest.fixture(name="any_live")
def _any_live(any_demo_url, tmp_path, stripe):
    """The incident in live mode, filed, once on each kind of database."""
    scene = LiveScene(tmp_path, any_demo_url, *stripe)
    yield scene
    scene.close()


@pytest.fixture(name="live")
def _live(tmp_path, demo_file, stripe):
    """The same on SQLite."""
    shutil.copy(demo_file, tmp_path / "state.sqlite")
    scene = LiveScene(tmp_path, f"sqlite:///{tmp_path / 'state.sqlite'}", *stripe)
    yield scene
    scene.close()


def entry(scene, days_ago, *, green=True, procedure=None, more=""):
    """One rehearsal of the inventory."""
    on = (scene.desk.now() - timedelta(days=days_ago)).date()
    return f'on = {on}\ngreen = {str(green).lower()}\napprovers = []\nprocedure = "{procedure or procedure_digest()}"\n{more}'


def check_of(scene):
    checks = verify(scene.desk, scene.live(), scene.operator.person_id).checks
    return next(check for check in checks if check.name == "rehearsal")


def warn_both(scene):
    """Show both approvers what they are shown when they approve."""
    for approver in APPROVERS:
        note_warning(scene.desk, scene.request, scene.desk.registry.find(approver))


def kinds(scene):
    return [event.kind for event in scene.desk.store.events_of(f"{incident.INCIDENT_ID}/{incident.LEDGER_PAYOUT_ID}")]


def test_good_rehearsal_asks_for_nothing_and_leaves_no_record(any_live):
    """Green, of these notebooks, lately: the send goes out as any other, and nobody is warned."""
    any_live.rehearsed(entry(any_live, 1))
    warn_both(any_live)
    record = any_live.approve_both().send()

    assert CheckStatus.OK is check_of(any_live).status
    assert State.PAID is record.state
    assert set() == {"rehearsal_overridden", "rehearsal_warning_shown"} & set(kinds(any_live))


def test_send_after_a_warning_is_on_record_before_anything_left(any_live):
    """Operator, both approvers, the reason and the last rehearsal stand in the journal right before the intent."""
    any_live.rehearsed(entry(any_live, 3, green=False, more='target = "sandbox"\n'))
    warn_both(any_live)
    record = any_live.approve_both().send()
    told = kinds(any_live)
    event = any_live.events("rehearsal_overridden")[0]
    names = [any_live.desk.registry.find(handle).person_id for handle in APPROVERS]
    on = f"{any_live.desk.now() - timedelta(days=3):%Y-%m-%d}"

    assert State.PAID is record.state
    assert told.index("rehearsal_overridden") + 1 == told.index("intent_recorded") < told.index("sending")
    assert any_live.operator.person_id == event.actor
    assert (names, names) == (event.data["approved_by"], event.data["approvers_warned"])
    assert f"the last one, on {on}, was red" == event.data["reason"]
    assert {"on": on, "green": False, "target": "sandbox", "procedure": procedure_digest()} == event.data["last"]


@pytest.mark.parametrize(
    ("given", "said", "todo"),
    [
        (None, "cannot be read", "Name the reviewed inventory"),
        ((), "none is on record", "manual-payout rehearse"),
        (((1, {"procedure": OTHER}),), "was of other notebooks (abababab…; these are", "manual-payout rehearse"),
        (((93, {}),), "93 days ago", "manual-payout rehearse"),
        (((9, {}), (2, {"green": False})), "was red", "Mend what it found"),
    ],
)  # fmt: skip
def test_warning_gives_its_reason_and_allows_the_payout(live, given, said, todo):
    """Every reason has its words and its remedy, and none is a NO-GO."""
    if given is not None:
        live.rehearsed(*(entry(live, days, **what) for days, what in given))
    live.approve_both()
    verification = verify(live.desk, live.live(), live.operator.person_id)
    check = check_of(live)

    assert verification.go
    assert CheckStatus.WARN is check.status
    assert said in check.found
    assert todo in check.remedy
    assert "recorded under the operator's name" in check.remedy


def test_no_inventory_is_a_warning_of_its_own(live):
    """Where none is configured, nothing is known, which is not the same as all is well."""
    live.desk = live.new_desk(inventory_file=None)

    assert "not known: MANUAL_PAYOUT_INVENTORY is not set" == check_of(live).found


def test_intent_that_is_refused_leaves_no_override(live, monkeypatch):
    """The event is in the transaction of the intent: where that fails, nobody overrode anything."""
    live.approve_both()
    monkeypatch.setattr(
        live.desk.store, "_begin", lambda *_: (_ for _ in ()).throw(ClaimError("Lost.", "Look at the status."))
    )
    with pytest.raises(ClaimError):
        live.send()

    assert [] == live.events("rehearsal_overridden")
    assert [] == live.posts


def test_approver_is_shown_the_warning_and_it_is_noted_who_was_not(live):
    """What the first is shown is noted; the second approved while the rehearsal was good still."""
    live.rehearsed(entry(live, 1))
    approve_facts = dict(shown_to_approver(live.desk, live.request).tables[1].rows)
    note_warning(live.desk, live.request, live.desk.registry.find("amara"))
    live.rehearsed(entry(live, 1, procedure=OTHER))
    warned_facts = dict(shown_to_approver(live.desk, live.request).tables[1].rows)
    note_warning(live.desk, live.request, live.desk.registry.find("priya"))
    live.approve_both().send()
    data = live.events("rehearsal_overridden")[0].data

    assert approve_facts["rehearsal"].startswith("of these notebooks, green on")
    assert warned_facts["rehearsal"].startswith("WARNING: the last one, on ")
    assert [live.desk.registry.find("priya").person_id] == data["approvers_warned"]
    assert "Approved before, or without, the warning by Amara Diallo." in slack_of(live)["body"]


def test_approve_shows_the_warning_before_anything_is_typed(live):
    """The command line of an approver in live mode: it says so, and notes that it did, whether they approve or not."""
    policy = live.people / "policy.toml"
    policy.write_text(f'[stripe]\nmode = "live"\nplatform_account = "{live.request.platform_account}"\n', "utf-8")
    settings = live.desk.settings
    shell = Shell(
        live.people, live.stripe, live.desk,
        {
            "PATH": os.environ["PATH"], "DATABASE_URL": live.url, "LEDGER_DATABASE_URL": live.url, "MANUAL_PAYOUT_POLICY": str(policy),
            "MANUAL_PAYOUT_APPROVERS": str(settings.approvers_file),
            "MANUAL_PAYOUT_ALLOWED_SIGNERS": str(settings.allowed_signers_file),
            "MANUAL_PAYOUT_OUTPUTS": str(settings.outputs_dir), "COLUMNS": "200",
        },
    )  # fmt: skip
    words = (
        "approve",
        incident.INCIDENT_ID,
        "--as",
        "priya",
        "--key",
        live.people / "priya",
        "--destination-last4",
        LAST4,
    )
    wrong, right = shell(*words, "--amount", "1.00"), shell(*words, "--amount", incident.AMOUNT)
    live.rehearsed(entry(live, 1))
    calm = shell(*words, "--amount", "1.00", MANUAL_PAYOUT_INVENTORY=str(live.inventory))

    assert (2, 0, 2) == (wrong.code, right.code, calm.code), right.said
    for answer in (wrong, right):
        assert (
            "WARNING: not known: MANUAL_PAYOUT_INVENTORY is not set. If it is sent anyway, that is recorded"
            in answer.err
        )
    assert "of these notebooks, green on" in calm.err
    assert 2 == len(live.events("rehearsal_warning_shown"))
    assert kinds(live).index("rehearsal_warning_shown") < kinds(live).index("approved")


def test_whoever_continues_a_sending_is_on_record_too(live, monkeypatch):
    """It was begun while the rehearsal was good; by the time that another operator goes on it is not."""
    live.rehearsed(entry(live, 1))
    live.approve_both()

    def lost(*_):
        raise DatabaseError("Gone.", "Wait.")

    with monkeypatch.context() as patch:
        patch.setattr(sending, "deliver_attempt", lost)
        with pytest.raises(UnknownOutcomeError):
            live.send()
    live.rehearsed()
    other = live.desk.registry.find("noor")
    live.dry_run(operator=other)
    live.tamper("UPDATE manual_payouts SET lease_until = created_at")
    record = live.send(operator=other)
    told = kinds(live)

    assert State.PAID is record.state
    assert [other.person_id] == [event.actor for event in live.events("rehearsal_overridden")]
    assert told.index("intent_recorded") < told.index("rehearsal_overridden") < told.index("sending")


def step(live, *, dry_run):
    """One run of 2-execute at the live desk."""
    folder = Folder(live.desk.settings.outputs_dir / "evidence", live.desk.redactor)
    folder.path.mkdir(parents=True, exist_ok=True)
    return Run(Stage.EXECUTE, live.live(dry_run=dry_run), live.desk, live.operator, folder)


def test_dry_run_confirm_and_send_show_it_to_the_operator(live, capsys):
    """Beside the confirm code, at the terminal, and in the sentence that says what was sent."""
    live.approve_both()
    dry, verified = step(live, dry_run=True), step(live, dry_run=True)
    code = steps.send(dry).sentence
    steps.verify(verified)
    found = {"findings": verified.findings | dry.findings}
    show_results(
        [StageResult(Stage.EXECUTE, 0, "Dry run", "", "", Path("2-execute-01.ipynb"), found, confirm="K7QM-3FWD")],
        folder="f", next_command="run", as_json=False,
    )  # fmt: skip
    shown = capsys.readouterr().out
    sent = steps.send(step(live, dry_run=False)).sentence

    assert "WARNING: Were these notebooks rehearsed recently? not known: The inventory" in code
    assert 1 == shown.count("Warning: Were these notebooks rehearsed recently? not known")
    assert shown.index("Warning: Were") < shown.index("--confirm")
    assert "Tomas Lindqvist sent it in spite of the rehearsal's warning: not known: The inventory" in sent


def slack_of(scene):
    settings = scene.desk.settings.model_copy(update={"slack_bot_token": SecretStr("xoxb-live-0000")})
    message = sent_messages(replace(scene.desk, settings=settings), scene.record)[0]
    return {"body": message.body_text, "blocks": json.loads(message.body_json)}


def test_reviewer_slack_and_postmortem_tell_of_it(live):
    """Nobody who reads about the payout has to look for it in the journal."""
    warn_both(live)
    live.approve_both().send()
    said = "Tomas Lindqvist sent it in spite of the rehearsal's warning: not known"
    folder = Folder(live.desk.settings.outputs_dir / "evidence", live.desk.redactor)
    folder.path.mkdir(parents=True)
    page = write_page(live.desk, folder, incident.INCIDENT_ID, incident.LEDGER_PAYOUT_ID).read_text("utf-8")
    stream = f"{incident.INCIDENT_ID}/{incident.LEDGER_PAYOUT_ID}"
    closed = live.desk.store.record_event(stream, "incident_closed", "tomas", {})
    story = read_story(live.desk, folder, incident.INCIDENT_ID, incident.LEDGER_PAYOUT_ID, without=frozenset())
    draft = postmortem_text(
        story,
        closed,
        incident_id=incident.INCIDENT_ID,
        name_of=live.desk.registry.name_of,
        today=live.desk.now().date(),
    )
    slack = slack_of(live)

    assert said in html.unescape(re.sub("<[^>]+>", "", page))
    assert "Went on without rehearsal" in page
    assert said in draft.replace("\\", "")
    assert f"Rehearsal: {said}" in slack["body"]
    assert any("Both approvers had been warned" in field["text"] for field in slack["blocks"][1]["fields"])


def test_verifier_accepts_the_evidence_of_it(live):
    """A folder whose journal tells of the warning and of the override passes every check of its contents."""
    warn_both(live)
    live.approve_both()
    steps.send(step(live, dry_run=False))
    folder = Folder(live.desk.settings.outputs_dir / "evidence", live.desk.redactor)
    seal_folder(live.desk, folder, incident.INCIDENT_ID, incident.LEDGER_PAYOUT_ID, None)
    sealed = read_folder(folder.path)
    findings = check_files(sealed) + check_contents(sealed, reviewed_digests(), "live", "")

    assert {"rehearsal_overridden", "rehearsal_warning_shown"} <= {event["kind"] for event in sealed.events()}
    assert [] == [found.line() for found in findings if found.wrong]
