"""The digest of a seal, where the operator cannot edit it later: real servers for Slack and PagerDuty."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import timedelta

from pydantic import SecretStr

from manual_payout.comms.telling import write_announced
from manual_payout.desk.reviewed import reviewed_digests
from manual_payout.domain.models import MessageState, Mode, Stage
from manual_payout.evidence.folder import Folder
from manual_payout.evidence.manifest import head_digest
from manual_payout.evidence.verifier import check_contents, read_folder
from manual_payout.steps.runner import LIVE_RUN, run_stages, seal_again
from payout_rehearsal.demo import incident


def told_desk(scene, services):
    """A desk at which the rehearsal's own services are configured."""
    slack, pagerduty = services
    desk = scene.new_desk()
    desk.settings = desk.settings.model_copy(
        update={
            "slack_rehearsal_bot_token": SecretStr("xoxb-rehearsal-1111"),
            "slack_api_base": f"{slack.url}/api/",
            "pagerduty_rehearsal_routing_key": SecretStr("R7PXKQ2MZL4TND"),
            "pagerduty_events_base": pagerduty.url,
        }
    )
    return desk


def note(desk, text):
    """Put something into the payout's evidence folder."""
    path = desk.settings.outputs_dir / incident.INCIDENT_ID / incident.LEDGER_PAYOUT_ID
    return Folder(path, desk.redactor).keep("note.txt", text)


def sealed(desk):
    return seal_again(desk, incident.INCIDENT_ID, incident.LEDGER_PAYOUT_ID, incident.OPERATOR)[0]


def compared(folder, digest):
    """What the check of the anchor finds wrong."""
    findings = check_contents(read_folder(folder.path), reviewed_digests(), "", digest)
    return next(finding.wrong for finding in findings if finding.name == "anchor")


def digest_posted(slack, number=-1):
    posts = [post["text"] for post in slack.posted if "is sealed" in post["text"]]
    return re.search(r"SHA-256 of manifest\.json: ([0-9a-f]{64})", posts[number])[1]


def test_the_digest_that_slack_and_pagerduty_got_is_that_of_the_seal(scene, services):
    """Marked as a rehearsal, as a post and as a change that wakes nobody; what verify is told to compare, it accepts."""
    slack, pagerduty = services
    desk = told_desk(scene, services)
    scene.send()
    note(desk, "first")
    folder = sealed(desk)
    change = next(body for body in pagerduty.changes)

    assert head_digest(folder) == digest_posted(slack) == change["payload"]["custom_details"]["manifest_sha256"]
    assert () == compared(folder, digest_posted(slack))
    assert next(post["text"] for post in slack.posted if "is sealed" in post["text"]).startswith(
        "REHEARSAL: Evidence of INC-123"
    )
    assert ("R7PXKQ2MZL4TND", []) == (change["routing_key"], pagerduty.notified)


def test_a_folder_that_grew_since_still_matches_and_a_rewritten_one_does_not(scene, services):
    """What was added later is no objection; what was sealed then and is another now is, whoever signed it."""
    desk = told_desk(scene, services)
    scene.send()
    path = note(desk, "first")
    sealed(desk)
    digest = digest_posted(services[0])
    note(desk, "later")
    grown = compared(sealed(desk), digest)
    path.write_text("another")
    rewritten = sealed(desk)

    assert () == grown
    assert ("note.txt is not what seals/001.json sealed",) == compared(rewritten, digest)


def test_a_journal_that_was_begun_anew_does_not_match(scene, services):
    """The earlier manifest says where the journal stood."""
    desk = told_desk(scene, services)
    scene.send()
    note(desk, "first")
    sealed(desk)
    digest = digest_posted(services[0])
    note(desk, "later")
    folder = sealed(desk)
    journal = json.loads((folder.path / "journal.json").read_text())
    journal["events"] = journal["events"][1:]
    (folder.path / "journal.json").write_text(json.dumps(journal))

    assert "the journal does not continue the one of seals/001.json" in compared(folder, digest)


def test_dry_run_tells_nobody_anything(scene, services):
    """Every notebook once more, dry, after the money moved and with a message that waits: the folder is sealed, nobody is told."""
    slack, pagerduty = services
    scene.send()
    desk = told_desk(scene, services)
    write_announced(desk, scene.record, actor="tomas")
    waiting = desk.store.messages_of(scene.record.payout_id)
    results = run_stages(desk, (*LIVE_RUN, Stage.CLOSE), scene.typed())
    folder = Folder(desk.settings.outputs_dir / incident.INCIDENT_ID / incident.LEDGER_PAYOUT_ID, desk.redactor)

    assert {"slack_alert"} == {m.kind for m in waiting if m.state is MessageState.WAITING}
    assert [0] * 6 == [result.exit_code for result in results]
    assert (folder.path / "manifest.json.sig").is_file()
    assert ([], [], []) == (slack.posted, pagerduty.notified, pagerduty.changes)
    assert waiting == desk.store.messages_of(scene.record.payout_id)


def test_without_money_or_services_nothing_is_told(scene, services):
    """A refused night has no studio to tell of, and where nothing is configured nothing waits to be copied."""
    desk = told_desk(scene, services)
    note(desk, "before")
    sealed(desk)
    scene.send()
    quiet = scene.new_desk()
    note(quiet, "after")
    sealed(quiet)

    assert ([], []) == (services[0].posted, services[1].changes)
    assert {"slack_alert", "studio_email"} == {m.kind for m in desk.store.messages_of(scene.record.payout_id)}


def test_a_silent_service_neither_fails_the_run_nor_holds_up_the_close(scene, services):
    """The folder is sealed all the same; the message waits."""
    slack, pagerduty = services
    slack.faults.draw = pagerduty.faults.draw = lambda: "refuse"
    desk = told_desk(scene, services)
    scene.send()
    note(desk, "first")
    folder = sealed(desk)
    waiting = [m for m in desk.store.messages_of(scene.record.payout_id) if m.kind.endswith("_sealed")]

    assert (folder.path / "manifest.json.sig").is_file()
    assert [MessageState.WAITING] * 2 == [message.state for message in waiting]


def test_digest_is_told_with_the_payout_that_the_seal_is_about(scene, services, monkeypatch):
    """What was paid and taken back before, or in another mode, has a row of the same incident; it is not that one."""
    desk = told_desk(scene, services)
    record = scene.send()
    note(desk, "first")
    earlier = replace(record, payout_id="earlier", created_at=record.created_at - timedelta(days=1))
    rows = [replace(record, payout_id="live", mode=Mode.LIVE), record, earlier]
    told = []

    def found(**wanted):
        return [row for row in rows if all(value == getattr(row, name) for name, value in wanted.items())]

    monkeypatch.setattr(desk.store, "payouts_of", found)
    monkeypatch.setattr("manual_payout.steps.runner.tell_seal", lambda _desk, row, *_, **__: told.append(row.payout_id))
    sealed(desk)

    assert [record.payout_id] == told
