"""What is checked after the incident: each check finds what it looks for, and a rehearsal says of itself what was wrong."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from manual_payout.comms.telling import write_announced
from manual_payout.desk.kernels import fork_server
from manual_payout.domain.errors import ParameterError
from manual_payout.domain.models import Stage, stream_of
from manual_payout.steps.runner import StageResult
from payout_rehearsal import Ground, Rehearsal, SandboxGround, SceneName, failed_stage
from payout_rehearsal.checks import check_rehearsal
from payout_rehearsal.demo import incident
from payout_rehearsal.drill import DRILL, Finding, Played, play
from payout_rehearsal.grounds import find_ground
from payout_rehearsal.killing import killed_when
from payout_rehearsal.record import Record
from payout_rehearsal.result import Findings, inventory_block

PAYOUT = (incident.INCIDENT_ID, incident.LEDGER_PAYOUT_ID)


@pytest.fixture(name="told")
def _told(scene):
    """The demo incident paid, logged and told."""
    record = scene.send()
    write_announced(scene.desk, record, actor="test")
    scene.desk.store.mark_logged(record, scene.operator.person_id, {})
    return scene


def wrong(scene, *payouts):
    """Names of the checks that do not hold."""
    return {check.name for check in check_rehearsal(scene.desk, payouts or (PAYOUT,)) if check.stops}


def test_everything_holds_after_a_good_payout(told):
    """Ten questions, ten answers."""

    assert set() == wrong(told)
    assert 10 == len(check_rehearsal(told.desk, [PAYOUT]))


def test_payout_that_was_not_made_is_missed(scene):
    """Nothing paid and nothing told is not nothing wrong."""

    assert {"one_row"} == wrong(scene)
    assert {"one_row"} == wrong(scene, ("INC-999", incident.LEDGER_PAYOUT_ID))


ROW, MESSAGE = "UPDATE manual_payouts SET", "UPDATE messages SET"
TAMPERED = {
    "amount": (f"{ROW} amount_minor = 125076", {"row_as_requested", "row_as_at_stripe", "amount", "tickets"}),
    "destination": (f"{ROW} destination_account = 'acct_124'", {"row_as_requested", "row_as_at_stripe"}),
    "approver": (f"{ROW} approved_by_finance = requested_by", {"row_as_requested"}),
    "studio": (f"{ROW} studio_name = 'Harbour Light Pottery'", {"row_as_requested", "escaped", "tickets"}),
    "reserve": (f"{ROW} reserve_after_minor = 1", {"row_as_requested"}),
    "gap": (f"{MESSAGE} body_text = body_text || '{{{{ studio_name }}}}'", {"rendered"}),
    "unmarked subject": (f"{MESSAGE} subject = 'Your payout' WHERE subject <> ''", {"marked"}),
    "unmarked text": (f"{MESSAGE} body_text = 'x ' || body_text", {"marked"}),
    "other amount": (f"{MESSAGE} body_text = replace(body_text, '1,250.75', '1,250.57')", {"amount"}),
    "other amount in HTML": (f"{MESSAGE} body_html = replace(body_html, '1,250.75', '12,507.50')", {"amount"}),
    "markup in email": (f"{MESSAGE} body_html = replace(body_html, 'Hello', '<img src=x>')", {"escaped"}),
    "attribute in email": (f"{MESSAGE} body_html = replace(body_html, '<strong>', '<strong onclick=x>')", {"escaped"}),
    "bare ampersand": (f"{MESSAGE} body_html = replace(body_html, 'Hello', 'Hello & co')", {"escaped"}),
    "mention in Slack": (f"{MESSAGE} body_text = body_text || '<!channel>' WHERE channel = 'slack'", {"escaped"}),
    "real reader": (
        f"{MESSAGE} audience = 'payouts@harbor-light-pottery.example' WHERE channel = 'email'",
        {"readers"},
    ),
    "silence": ("DELETE FROM messages WHERE kind = 'studio_email'", {"messages"}),
}


@pytest.mark.parametrize("what", TAMPERED)
def test_each_check_finds_what_it_looks_for(told, what):
    """One thing changed in row or message, and exactly those checks say so."""
    statement, found = TAMPERED[what]
    told.tamper(statement)

    assert found == wrong(told)


# ------------------------------------------------------------------------------------------------- steps and verdict


class Watch:
    """A stopwatch that moves by a second and a half at each look."""

    def __init__(self):
        self.looked = 0.0

    def now(self):
        return datetime(2026, 11, 26, tzinfo=UTC) + timedelta(seconds=self.looked)

    def seconds(self):
        self.looked += 1.5
        return self.looked


def test_steps_are_measured_and_notebooks_follow_each_other():
    """A block is a step, however it ends; of a run each notebook is one, from the end of the one before to its last cell."""
    record = Record(Watch())
    with pytest.raises(ValueError, match="x"), record.step("broken"):
        raise ValueError("x")
    with record.notebooks("live run") as told:
        for stage in (Stage.VERIFY, Stage.EXECUTE):
            for cell in (1, 2):
                told(stage, "running", cell, 2, "")

    assert [("broken", 1.5), ("live run: 1-verify", 3.0), ("live run: 2-execute", 3.0)] == [
        (step.name, step.seconds) for step in record.steps
    ]
    assert record.steps[1].ended_at == record.steps[2].started_at
    assert 6.0 == record.seconds_until("live run: 1-verify", "live run: 2-execute")
    assert record.seconds_until("broken", "live run: 3-log") is None


GOOD = Rehearsal(None, (StageResult(Stage.CLOSE, 0, "Closed", "", "", None),), True, 1)
FINE = Played(SceneName.ANSWER_LOST, "the answer is lost", (Finding("row", "unknown", "unknown"),), "", "INC-201/x")
CHECKED = (SimpleNamespace(stops=False, question="", found=""),)
GREEN = Findings(GOOD, {}, wanted=(FINE.name,), scenes=(FINE,), checks=CHECKED)

RED = {
    "a stage": (
        replace(GOOD, stages=(StageResult(Stage.LOG, 5, "", "it broke", "", None), *GOOD.stages)),
        "3-log: it broke",
    ),
    "no close": (replace(GOOD, stages=GOOD.stages[:0]), "not played to its close"),
    "paid twice": (replace(GOOD, transfers=2), "2 transfers"),
    "automation": (replace(GOOD, automation_skipped=False), "automation paid"),
}


@pytest.mark.parametrize("kind", RED)
def test_incident_that_went_wrong_is_not_green(kind):
    """Whatever of it: it is said."""
    bad, said = RED[kind]

    assert [] == GREEN.wrong()
    assert said in " ".join(replace(GREEN, incident=bad).wrong())
    assert not bad.green
    assert (kind == "a stage") == (failed_stage(bad) is not None)


def test_drill_and_checks_that_went_wrong_or_were_left_out_are_not_green():
    """A scene that differs or broke, one that is missing, a step that broke, checks that were never made."""
    differs = replace(FINE, findings=(Finding("row", "unknown", "refused"),))
    broken = replace(FINE, trouble="KeyError: 'x'")

    assert ["the answer is lost: row expected unknown, found refused"] == replace(GREEN, scenes=(differs,)).wrong()
    assert ["the answer is lost: KeyError: 'x'"] == replace(GREEN, scenes=(broken,)).wrong()
    assert ["of the drill, answer-lost was not played"] == replace(GREEN, scenes=()).wrong()
    twice = replace(GREEN, wanted=(FINE.name, SceneName.STALE_APPROVAL), scenes=(FINE, FINE))
    assert ["of the drill, stale-approval was not played"] == twice.wrong()
    assert [] == replace(GREEN, scenes=(), wanted=()).wrong()
    assert ["dry run: it broke"] == replace(GREEN, troubles={"dry run": "it broke"}).wrong()
    assert ["rows and messages were not checked"] == replace(GREEN, checks=()).wrong()
    assert "" == inventory_block({"drill": False})


def test_scene_that_breaks_is_a_finding_and_no_exception(tmp_path):
    """Whatever breaks in a scene, what it had not reached is said, and the next one can be played."""

    def broken(act):
        act.found["row"] = "unknown"
        raise KeyError("bank")

    with find_ground("sandbox").open(tmp_path, True, print) as ground:
        played = play(replace(DRILL[0], play=broken), ground, kernels=None)

    assert "KeyError: 'bank'" == played.trouble
    assert not played.as_expected
    assert {"unknown", "not reached"} == {finding.found for finding in played.findings}


# ----------------------------------------------------------------------------------------------------------- grounds


def test_sandbox_is_a_ground_with_a_case_of_its_own_for_every_scene(tmp_path):
    """Eight incidents, studios, ledger payouts and accounts; the balance is short and the account unknown only by then."""
    with find_ground("sandbox").open(tmp_path, True, print) as ground:
        cases = [ground.case(name) for name in SceneName]
        checked: Ground = ground

    for field in ("incident_id", "studio_id", "ledger_payout_id", "destination_account"):
        assert len(SceneName) == len({getattr(case, field) for case in cases})
    assert isinstance(checked, SandboxGround)
    assert {scene.name for scene in DRILL} == set(SceneName) - {SceneName.INCIDENT}
    assert all(stream_of(case.incident_id, case.ledger_payout_id) for case in cases)


def test_unknown_target_is_refused():
    """With the targets that there are."""
    with pytest.raises(ParameterError, match="expected sandbox or stripe"):
        find_ground("moon")


def test_nothing_is_killed_where_no_kernel_was_started():
    """There is nothing to shoot at, and the scene says so instead of shooting at somebody else."""
    with killed_when(SimpleNamespace(last_kernel=0), lambda: True) as shot:
        pass

    assert not shot.fired


def test_kernel_is_killed_where_kernels_are_started_ordinarily_too(tmp_path):
    """A machine on which no kernel can be forked rehearses the same scene."""
    scene = next(scene for scene in DRILL if scene.name is SceneName.KILLED_KERNEL)
    with fork_server() as kernels, find_ground("sandbox").open(tmp_path, True, print) as ground:
        kernels.why_not = "as on a system that cannot fork"
        played = play(scene, ground, kernels)

    assert ([], "") == ([finding for finding in played.findings if not finding.fine], played.trouble)
