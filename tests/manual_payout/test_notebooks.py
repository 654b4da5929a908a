"""The committed notebooks keep the house's form, and their outputs are compared by nbval."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from tests.notebooks.story import told

from local_stripe import FALLBACK_KEY
from manual_payout.desk import reviewed
from manual_payout.desk.reviewed import reviewed_digest
from manual_payout.domain.models import Stage
from manual_payout.domain.parameters import (
    CLOSE_PARAMETERS,
    LATER_PARAMETERS,
    MONITOR_PARAMETERS,
    REHEARSE_PARAMETERS,
    REVERSAL_PARAMETERS,
    STAGE_PARAMETERS,
)
from truthful_papermill import templates

ROOT = Path(__file__).parents[2]
RUNBOOKS = ROOT / "runbooks"
STAGES = list(Stage)


@pytest.fixture(params=STAGES, ids=str, name="stage")
def _stage(request):
    """Each stage in turn."""
    return request.param


@pytest.fixture(name="book")
def _book(stage):
    """Its committed notebook."""
    return templates.read_notebook(RUNBOOKS / f"{stage}.ipynb")


def test_there_is_a_notebook_for_every_stage_and_no_other():
    """The folder is the procedure."""

    assert sorted(str(stage) for stage in STAGES) == sorted(path.stem for path in RUNBOOKS.glob("*.ipynb"))


def test_committed_notebook_is_the_reviewed_one(stage, book):
    """Its digest is the one on record, so that the runner will run it."""

    assert reviewed_digest(stage) == templates.digest_of(book)


def test_no_cell_is_excused_or_skipped(book):
    """No tag and no comment lets a cell fail or be passed over."""

    assert [] == templates.check_template(book)


def test_notebook_holds_no_logic(book):
    """No def, no loop, no condition, no magic: one call a cell."""

    assert [] == templates.check_form(book)


def test_parameters_are_seen_alike_by_papermill_and_python(stage, book):
    """papermill sees every parameter, with its type and help, and they are those of the contract."""
    declared = list(templates.declared_parameters(book))
    later = stage not in (Stage.VERIFY, Stage.EXECUTE)
    of_stage = (LATER_PARAMETERS if later else STAGE_PARAMETERS) + (CLOSE_PARAMETERS if stage is Stage.CLOSE else ())
    own = {
        Stage.REVERSAL: REVERSAL_PARAMETERS,
        Stage.MONITOR: MONITOR_PARAMETERS,
        Stage.REHEARSE: REHEARSE_PARAMETERS,
    }
    wanted = list(own.get(stage, of_stage))

    assert [] == templates.parameters_seen_alike(book)
    assert wanted == declared


def test_every_code_cell_was_run_for_the_reference(book):
    """nbval does not compare a cell that was never run; each has its execution count, in order."""
    counts = [cell.execution_count for cell in book.cells if cell.cell_type == "code"]

    assert list(range(1, len(counts) + 1)) == counts


def test_text_stands_around_every_question(book):
    """Before each question there is text, and the notebook says who may run it, what to do if it stopped, and what next."""
    text = "\n".join(cell.source for cell in book.cells if cell.cell_type == "markdown")

    for wanted in ("**About.**", "**Before you start.**", "## Binding", "**If it stopped here.**", "**Next.**"):
        assert wanted in text
    assert "moves money" in text or "moves no money" in text or "reads only" in text


def test_scene_of_nbval_holds_no_credential_but_the_sandboxs(monkeypatch):
    """Whatever the developer's shell holds, the kernels of nbval see the sandbox's keys and no others."""
    monkeypatch.setenv("STRIPE_FALLBACK_SECRET_KEY", "rk_live_" + "x" * 30)
    monkeypatch.setenv("STRIPE_FALLBACK_SECRET_KEY_COMMAND", "vault read -field=key payouts/fallback")
    monkeypatch.setenv("SLACK_BOT_TOKEN", "xoxb-0000000000-not-a-real-token")
    with told():
        seen = dict(os.environ)

    assert FALLBACK_KEY == seen["STRIPE_FALLBACK_SECRET_KEY"]
    assert set() == {"STRIPE_FALLBACK_SECRET_KEY_COMMAND", "SLACK_BOT_TOKEN"} & set(seen)
    assert "xoxb-0000000000-not-a-real-token" == os.environ["SLACK_BOT_TOKEN"]


def test_nbval_notices_a_changed_output(tmp_path):
    """The comparison has teeth: one changed word in a reference output fails the run."""
    changed = tmp_path / "1-verify.ipynb"
    shutil.copy(RUNBOOKS / "1-verify.ipynb", changed)
    text = changed.read_text("utf-8")
    changed.write_text(text.replace("GO: all", "GO: nearly all"), "utf-8")
    nbformat.read(changed, as_version=4)
    options = ["-p", "tests.notebooks.nbval_scene", "--nbval", "--nbval-current-env", "--nbval-cell-timeout=120"]
    command = [
        sys.executable,
        "-m",
        "pytest",
        *options,
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(ROOT),
        str(changed),
    ]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert "GO: all" in text
    assert 1 == run.returncode, run.stdout[-2000:]
    assert "1 failed" in run.stdout


def test_one_digest_stands_for_the_procedure(monkeypatch):
    """It changes with each numbered notebook, and with no other."""
    was, digests = reviewed.procedure_digest(), reviewed.reviewed_digests()
    for name in digests:
        monkeypatch.setattr(reviewed, "reviewed_digests", lambda name=name: digests | {name: "0" * 64})

        assert (was != reviewed.procedure_digest()) == name[0].isdigit()
