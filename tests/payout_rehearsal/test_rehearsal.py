"""The rehearsal plays by itself, notices what is wrong, and leaves a record, a report and the times of every step."""

from __future__ import annotations

import json
import tomllib
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

import rehearsal_scenes
from local_stripe import FALLBACK_KEY, READ_KEY
from manual_payout.desk.results import the_result
from manual_payout.desk.reviewed import procedure_digest
from payout_rehearsal import commands
from payout_rehearsal.drill import DRILL
from rehearsal_scenes import DEFECTS
from truthful_papermill.templates import compare_code, read_notebook

TEMPLATE = Path(__file__).parents[2] / "runbooks" / "rehearse.ipynb"


@pytest.fixture(scope="module", name="played")
def _played(tmp_path_factory):
    """One of the incident alone and a damaged one, then a whole one; nobody was there to answer a question."""
    root = tmp_path_factory.mktemp("rehearsals")
    brief = rehearsal_scenes.rehearse("--no-drill", "--json", "--folder", root / "brief")
    (root / "damaged").mkdir()
    (root / "damaged" / "rehearse.ipynb").write_bytes(b'{"cells": [')
    whole = rehearsal_scenes.rehearse("--folder", root / "whole")
    book = read_notebook(root / "whole" / "rehearse.ipynb")
    return SimpleNamespace(root=root, brief=brief, whole=whole, book=book, result=the_result(book.cells))


@pytest.fixture(scope="module", name="defective")
def _defective(tmp_path_factory):
    """A whole rehearsal of software in which one thing is wrong for each scene."""
    root = tmp_path_factory.mktemp("defective")
    lib = rehearsal_scenes.defective_copy(root)
    run = rehearsal_scenes.rehearse("--json", "--folder", root / "played", lib=lib)
    assert run.stdout, run.stderr
    return SimpleNamespace(run=run, folder=root / "played", result=json.loads(run.stdout))


def test_whole_rehearsal_plays_by_itself_and_is_green(played):
    """With standard input closed: exit 0, every scene as expected, every check passed, one transfer."""
    found = played.result

    assert 0 == played.whole.returncode, played.whole.stderr
    assert [(scene.name, True) for scene in DRILL] == [(s["name"], s["as_expected"]) for s in found["scenes"]]
    assert {"ok"} == {check["status"] for check in found["checks"]}
    assert (True, 1, []) == (found["green"], found["transfers"], found["wrong"])
    assert f"Drill: {len(DRILL)} of {len(DRILL)} faults ended as expected." in played.whole.stdout


def test_progress_names_every_part(played):
    """Whoever waits sees which scene is played, one line each."""
    lines = [line.strip() for line in played.whole.stderr.splitlines()]

    assert {"Request and approvals …", "Live run …", "Drill: a kernel is killed …", "Report …"} <= set(lines)
    assert len(set(lines)) == len(lines)


def test_executed_notebook_is_the_record(played):
    """It ran the reviewed code, holds one result, and has a page."""

    assert [] == compare_code(played.book, read_notebook(TEMPLATE))
    assert played.result
    assert (played.root / "whole" / "rehearse.html").read_text("utf-8").lower().startswith("<!doctype html>")


def test_every_step_has_its_beginning_its_end_and_its_seconds(played):
    """In order, without overlap; the response time is their sum up to the accepted transfer."""
    steps = played.result["steps"]
    instants = [datetime.fromisoformat(step[name]) for step in steps for name in ("started_at", "ended_at")]
    names = [step["name"] for step in steps]
    until = names[: names.index("live run: 2-execute") + 1]

    assert sorted(instants) == instants
    assert all(step["seconds"] > 0 for step in steps)
    assert round(sum(played.result["seconds"][name] for name in until), 3) == played.result["response_s"]
    assert {f"drill: {scene.name}" for scene in DRILL} <= set(names)


def test_result_says_who_took_part_and_what_was_rehearsed(played):
    """People, target, procedure and versions, as the inventory and a later reader need them."""
    found = played.result

    assert (["priya", "amara"], "sandbox", "sandbox") == (found["approvers"], found["target"], found["mode"])
    assert procedure_digest() == found["procedure"]
    assert {"python", "manual-payout", "papermill", "scrapbook", "stripe"} <= set(found["versions"])


def test_block_for_the_inventory_is_toml(played):
    """What is printed at the end, pasted, is one rehearsal."""
    [block] = tomllib.loads(played.whole.stdout[played.whole.stdout.index("[[rehearsal]]") :])["rehearsal"]

    assert (True, "sandbox", procedure_digest(), ["priya", "amara"]) == (
        block["green"], block["target"], block["procedure"], block["approvers"],
    )  # fmt: skip
    assert played.result["date"] == str(block["on"])


def test_every_scene_leaves_its_own_sealed_folder(played):
    """Eight incidents, eight studios, eight ledger payouts, each with a manifest."""
    folders = [played.result["evidence"], *(scene["folder"] for scene in played.result["scenes"])]

    assert 8 == len({folder.split("/")[0] for folder in folders}) == len({folder.split("/")[1] for folder in folders})
    assert [] == [folder for folder in folders if not (played.root / "whole" / folder / "manifest.json").is_file()]


def test_trend_holds_earlier_rehearsals_and_names_the_damaged_one(played):
    """The rehearsal before is in the report with its time; what cannot be read is left out by name."""
    page = (played.root / "whole" / "report.html").read_text("utf-8")
    brief = json.loads(played.brief.stdout)

    assert f"{brief['response_s']:.2f} s" in page
    assert "damaged, damaged (NotJSONError)" in page


def test_rehearsal_without_the_drill_is_none_for_the_inventory(played):
    """It plays the incident, says so, and offers no block."""
    brief = json.loads(played.brief.stdout)
    page = (played.root / "brief" / "report.html").read_text("utf-8")

    assert (0, True, False, []) == (played.brief.returncode, brief["green"], brief["drill"], brief["scenes"])
    assert "this one has none" in page
    assert "[[rehearsal]]" not in page


def test_no_key_is_in_anything_that_is_left(played):
    """Neither notebook, report, evidence nor database holds a key."""
    files = [path for path in played.root.rglob("*") if path.is_file()]

    assert len(files) > 100
    assert [] == [p for p in files if FALLBACK_KEY.encode() in (found := p.read_bytes()) or READ_KEY.encode() in found]


@pytest.mark.parametrize("name", DEFECTS)
def test_scene_goes_wrong_when_the_software_is_wrong(defective, name):
    """The drill has teeth: with a defect planted for it, each scene finds what it did not expect, and where."""
    scene = next(scene for scene in defective.result["scenes"] if scene["name"] == name)
    wrong = {finding["what"] for finding in scene["findings"] if finding["found"] != finding["expected"]}

    assert not scene["as_expected"]
    assert DEFECTS[name][0] in wrong


def test_every_scene_has_a_planted_defect():
    """A scene that nobody ever saw go wrong would prove nothing."""

    assert [scene.name for scene in DRILL] == list(DEFECTS)


def test_rehearsal_that_is_not_green_ends_with_6_and_says_which(defective):
    """The other scenes are played all the same; the sentence, the report and the data name what was wrong."""
    told = json.loads(defective.run.stderr[defective.run.stderr.index("{") :])
    page = (defective.folder / "report.html").read_text("utf-8")

    assert (6, 6) == (defective.run.returncode, told["exit_code"])
    assert "the answer is lost after the send" in told["message"]
    assert len(DRILL) == len(defective.result["scenes"])
    assert "not green" in page
    assert "green = false" in page


@pytest.mark.parametrize("where", ["/dev/null/rehearsal", "/proc/nothing/rehearsal"])
def test_folder_that_cannot_be_made_is_a_sentence(where):
    """Naming it, and what the system says against it."""
    run = rehearsal_scenes.rehearse("--no-drill", "--folder", where)

    assert 2 == run.returncode
    assert where in run.stderr
    assert "a folder that can be made" in run.stderr
    assert "Traceback" not in run.stderr


def test_rehearsal_without_a_drill_announces_no_fault(capfd):
    """The cells of the faults are there all the same; nobody is told that they are played."""
    with commands._progress(as_json=False, drill=False) as shown:
        for title in ("Close", "Drill: an answer is lost", "Checks"):
            shown("running", 9, 30, title)

    assert ["  Close …", "  Checks …"] == capfd.readouterr().err.splitlines()
