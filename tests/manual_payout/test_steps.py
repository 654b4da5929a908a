"""A stage and what it leaves behind: no result without the event that tells of it."""

from __future__ import annotations

import contextlib

import pytest
import scrapbook

from manual_payout.database.store import Store
from manual_payout.domain.errors import DatabaseError, PolicyRefusedError
from manual_payout.domain.models import Stage
from manual_payout.evidence.folder import Folder
from manual_payout.steps.run import Run, conclude, question


@pytest.fixture(name="run")
def _run(scene):
    """One run of 1-verify that has come to its answer."""
    folder = Folder(scene.desk.settings.outputs_dir / "evidence", scene.desk.redactor)
    return Run(Stage.VERIFY, scene.live(), scene.desk, scene.operator, folder, verdict="GO")


def _finish(run):
    conclude(run)


def _refuse(run):
    @question
    def answer(_):
        raise PolicyRefusedError("The window is closed.", "Wait.")

    with pytest.raises(PolicyRefusedError):
        answer(run)


@pytest.mark.parametrize(("end", "kind"), [(_finish, "stage_finished"), (_refuse, "stage_refused")])
def test_the_journal_tells_of_a_result_before_there_is_one(run, monkeypatch, end, kind):
    """Whoever is killed in between leaves an event too many, which harms nothing, and no result that looks forged."""
    told = []
    monkeypatch.setattr(scrapbook, "glue", lambda *_, **__: told.append(run.desk.store.events_of(run.stream)[-1].kind))
    end(run)

    assert [kind] == told


@pytest.mark.parametrize(("end", "raised"), [(_finish, DatabaseError), (_refuse, None)])
def test_a_result_that_the_journal_did_not_take_is_not_glued(run, monkeypatch, end, raised):
    """Glued, it would fail the evidence for ever; and what it would have told of is said, not that it was not recorded."""

    def refuse(*_):
        raise DatabaseError("The disk is full.", "Make room.")

    glued = []
    monkeypatch.setattr(scrapbook, "glue", lambda *_, **__: glued.append(1))
    monkeypatch.setattr(Store, "record_event", refuse)
    with pytest.raises(raised) if raised else contextlib.nullcontext():
        end(run)

    assert [] == glued
