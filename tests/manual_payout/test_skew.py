"""Two clocks that disagree are shown with both times, and only the database's judges."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from tests.manual_payout.test_rules import NOW

from manual_payout.database.clock import DatabaseClock, FixedClock, Stopwatch, find_skew
from manual_payout.domain.models import Stage
from manual_payout.evidence.folder import Folder
from manual_payout.monitoring import gather_watched
from manual_payout.steps.run import Run
from manual_payout.steps.verification import verify


@pytest.fixture(name="apart")
def _apart(monkeypatch):
    """Set this machine's clock, and nobody else's."""

    def move(**span):
        monkeypatch.setattr(Stopwatch, "now", lambda _: datetime.now(UTC) + timedelta(**span))

    return move


@pytest.mark.parametrize(("seconds", "said"), [(-600, "behind"), (600, "ahead"), (30, ""), (-30, ""), (0, "")])
def test_both_times_are_named(engine, apart, seconds, said):
    """Over a minute either way, on both databases; the sentence says which of them counts."""
    apart(seconds=seconds)
    skew = find_skew(DatabaseClock(engine))

    assert bool(said) == (skew is not None)
    if skew is not None:
        assert f"this machine is {abs(seconds)} s {said}. Only the database's decides" in skew.sentence
        assert all(f"{at:%Y-%m-%d %H:%M:%S} UTC" in skew.sentence for at in (skew.machine, skew.database))
        assert abs(skew.database - datetime.now(UTC)) < timedelta(minutes=1)


def test_rehearsals_clock_is_no_disagreement(apart):
    """The sandbox's night is another one on purpose."""
    apart(hours=5)

    assert find_skew(FixedClock(NOW)) is None


def test_status_says_it(quiet_shell, apart, monkeypatch):
    """On standard error, beside the table, by the clock that would judge outside of the sandbox."""
    apart(seconds=-7200)
    monkeypatch.setattr(
        "manual_payout.desk.wiring.SandboxClock", lambda _: DatabaseClock(quiet_shell.desk.store._engine)
    )
    answer = quiet_shell("status")

    assert 0 == answer.code
    assert "Warning: This machine's clock says" in answer.err
    assert "behind. Only the database's decides." in answer.err
    assert "Warning" not in quiet_shell("status", "--json").out


def test_monitor_header_and_first_notebook_warn(scene, apart, monkeypatch):
    """A fact of the monitor's, a line of the run's header, and a check of 1-verify that warns and stops nothing."""
    folder = Folder(scene.desk.settings.outputs_dir / "evidence", scene.desk.redactor)
    folder.path.mkdir(parents=True)
    run = Run(Stage.VERIFY, scene.typed(), scene.desk, scene.operator, folder)
    sandbox = scene.desk.clock
    apart(seconds=7200)
    # The sandbox's clock judges the facts; the database's is what the machine is compared with.
    monkeypatch.setattr("manual_payout.desk.wiring.find_skew", lambda _: find_skew(DatabaseClock(scene.engine)))
    shown = repr(verify(run))

    assert sandbox is scene.desk.clock
    assert "warn" == run.findings["checks"]["clocks_agree"]
    assert "is 7200 s ahead. Only the database's decides." in " ".join(shown.split())
    assert run.verdict.startswith("GO")
    assert "WARNING, clocks" in repr(run.binding())
    assert "ahead" in gather_watched(scene.desk).clocks
