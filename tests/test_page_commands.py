"""Every command that the incident template and the monitoring page show is run, in the order of a night."""

from __future__ import annotations

import json
import re
from pathlib import Path

import nbformat
import pytest

from desks import LAST4
from manual_payout.desk.results import the_result
from payout_rehearsal import CLOSING as DONE
from payout_rehearsal.demo import incident

DOCS = Path(__file__).parents[1] / "docs"
PAGES = [DOCS / "incident-template.md", DOCS / "monitoring.md"]
FOLDER = f"{incident.INCIDENT_ID}/{incident.LEDGER_PAYOUT_ID}"

# What the pages show → what is typed, and the exit code it has on this night. Where the page leaves out, … stands for it.
TYPED = {
    "request": (["request", "--as", "maya", "-f", "{values}"], 0),
    "approve INC-123 --as …": (
        ["approve", "INC-123", "--as", "{approver}", "--amount", incident.AMOUNT, "--destination-last4", LAST4], 0,
    ),
    "status": (["status"], 0),
    "status INC-123": (["status", "INC-123"], 0),
    "monitor": (["monitor"], 6),
    "monitor --once --json": (["monitor", "--once", "--json"], 6),
    "monitor --once --metrics /var/lib/node_exporter/manual_payout.prom": (
        ["monitor", "--once", "--metrics", "{root}/manual_payout.prom"], 6,
    ),
    "run … --stage settle": (["run", "-f", "{file}", "--operator", "tomas", "--stage", "settle"], 0),
    "reconcile INC-123": (["reconcile", "INC-123", "--operator", "tomas"], 0),
    "deliver --refused": (["deliver", "--refused", "--operator", "tomas"], 0),
    "verify": (["verify", "{folder}"], 0),
}  # fmt: skip

CLOSING = [
    "--automation-restored", "--root-cause", DONE["root_cause"], "--follow-ups", DONE["follow_ups"],
    "--access-review-on", DONE["access_review_on"],
]  # fmt: skip

# The whole incident with a sandbox of its own, which test_end_to_end.py runs; what takes a message that went wrong, or a
# reversal, is typed where the tests have one: test_delivering.py, test_reversal_cli.py.
ELSEWHERE = {"rehearse", "deliver --copied MESSAGE", "reversal reconcile INC-123"}


def shown():
    """The commands of both pages, without what a shell does with their output."""
    found = set()
    for page in PAGES:
        for command in re.findall(r"(?<!/)manual-payout ([a-z][^`|\n]*)", page.read_text("utf-8")):
            found.add(command.partition(" >>")[0].strip())
        for command in re.findall(r"bin/manual-payout ([a-z][^`|\n]*)", page.read_text("utf-8")):
            found.add(command.partition(" >>")[0].strip())
    return found


def test_no_command_of_the_pages_is_left_out():
    """A command that is added to a page has to be added here."""

    assert shown() == {*TYPED, *ELSEWHERE}


@pytest.fixture(scope="module", name="night")
def _night(tmp_path_factory, open_shell):
    """The command line, the demo's values in a file, and nothing done."""
    root = tmp_path_factory.mktemp("night")
    with open_shell(root) as shell:
        (root / "values.yaml").write_text(
            "".join(f"{name}: {json.dumps(value)}\n" for name, value in _values().items()), "utf-8"
        )
        yield shell


def _values():
    return {
        "incident_id": incident.INCIDENT_ID, "studio_id": incident.STUDIO_ID, "studio_name": incident.STUDIO_NAME,
        "ledger_payout_id": incident.LEDGER_PAYOUT_ID, "amount": incident.AMOUNT, "reserve_after": incident.RESERVE_AFTER,
        "reason": incident.REASON, "destination_account": incident.DESTINATION_ACCOUNT, "notes": incident.NOTES,
    }  # fmt: skip


def test_commands_of_the_pages_do_what_they_are_there_for(night):
    """From the request to the sealed folder; each ends as the pages say, and the close names what is missing until it is done."""
    folder = night.root / FOLDER
    places = {
        "values": night.root / "values.yaml", "root": night.root, "file": folder / "incident.yaml", "folder": folder,
    }  # fmt: skip

    def typed(name, **more):
        words, code = TYPED[name]
        answer = night(*(word.format(**places, **more) for word in words))
        assert code == answer.code, (name, answer.said)
        return answer

    typed("request")
    for approver in ("priya", "amara"):
        typed("approve INC-123 --as …", approver=approver)
    assert "2 of 2 approved" in typed("status INC-123").out
    assert "fallback-requested" in typed("monitor").out
    run = ["run", "-f", str(places["file"]), "--operator", "tomas"]
    code = json.loads(night(*run, "--dry-run", "--json").out)["confirm"]
    assert 0 == night(*run, "--stage", "execute", "--confirm", code).code
    early = not_closed(night(*run, "--stage", "close"), folder)
    typed("reconcile INC-123")
    for stage in ("log", "notify"):
        assert 0 == night(*run, "--stage", stage).code
    typed("run … --stage settle")
    after = json.loads(typed("monitor --once --json").out)
    assert ["fallback-requested"] == [alert["rule"] for alert in after["resolved"]]
    typed("monitor --once --metrics /var/lib/node_exporter/manual_payout.prom")
    assert (night.root / "manual_payout.prom").is_file()
    late = not_closed(night(*run, "--stage", "close"), folder)
    assert late < early, (late, early)
    assert any("money" in item for item in early - late), early - late
    waiting = [m.message_id for m in night.desk.store.undelivered_messages(incident.INCIDENT_ID)]
    for message in waiting:
        night("deliver", "--copied", message, "--operator", "tomas")
    typed("deliver --refused")
    closed = night(*run, "--stage", "close", *CLOSING)
    assert 0 == closed.code, (closed.said, early, late)
    typed("verify")


def not_closed(answer, folder):
    """What the close says is missing, in its answer and in its notebook."""
    book = nbformat.read(max(folder.glob("6-close-*.ipynb")), as_version=4)
    missing = set(the_result(book.cells)["findings"]["open"])

    assert 6 == answer.code, answer.said
    assert f"is not closed, {len(missing)} of its items are open. " in answer.said
    assert all(f"{item.lower()}: " in answer.said.lower() for item in missing)
    return missing
