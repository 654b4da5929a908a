"""Cell order is not a gate: however the payout cell is reached, nothing moves that was not approved and verified."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from manual_payout.approval.requesting import file_request
from manual_payout.desk.wiring import kernel_environment
from manual_payout.steps.runner import DRY_RUN, run_stages
from payout_rehearsal import demo_parameters, file_and_approve, stage_set
from payout_rehearsal.demo import incident
from proofs import code, leave_dry_run

RUNBOOKS = Path(__file__).parents[2] / "runbooks"


@pytest.fixture(name="scene")
def _scene(tmp_path, monkeypatch):
    """The demo's desk and sandbox, and an environment for kernels that points at them."""
    with stage_set(tmp_path) as (desk, sandbox):
        for name, value in kernel_environment(desk.settings).items():
            monkeypatch.setenv(name, value)
        yield desk, sandbox


def posts(sandbox):
    """The requests by which money could have moved."""
    return [request for request in sandbox.requests if request.method == "POST" and "/transfers" in request.path]


def live_book(confirm):
    """2-execute as a live run would have it, its reviewed gates still in place."""
    book = nbformat.read(RUNBOOKS / "2-execute.ipynb", as_version=4)
    cell = next(cell for cell in book.cells if "parameters" in cell.metadata.get("tags", []))
    cell.source += f'\ndry_run = False\nconfirm = "{confirm}"'
    return book


def run(book, tmp_path, *, allow_errors=True):
    """Run a notebook past every error, as a careless front end would."""
    NotebookClient(book, timeout=120, kernel_name="python3", allow_errors=allow_errors).execute(cwd=str(tmp_path))
    return [output.ename for cell in book.cells for output in cell.get("outputs", []) if output.output_type == "error"]


def only(book, *calls):
    """The parameters, the binding, and then only these calls, in this order."""
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    kept = code[:2] + [next(cell for cell in code if cell.source == call) for call in calls]
    book.cells = kept
    return book


def test_payout_cell_alone_moves_nothing_without_approvals(scene, tmp_path):
    """Without the verification cell before it, with the right code, but unapproved: the send itself refuses."""
    desk, sandbox = scene
    requester = desk.registry.find(incident.REQUESTER)
    request, _ = file_request(desk, demo_parameters(), requester, replace=False)
    book = only(live_book(code(desk, request)), "steps.send(run)")
    errors = run(book, tmp_path)

    assert ["ApprovalError"] == errors
    assert [] == posts(sandbox)


def test_payout_cell_moves_nothing_without_this_operators_dry_run(scene, tmp_path):
    """Approved, and with a code that no dry run printed: refused."""
    desk, sandbox = scene
    request = file_and_approve(desk)
    book = only(live_book(code(desk, request)), "steps.send(run)", "steps.verify(run)", "steps.send(run)")
    errors = run(book, tmp_path)

    assert ["PolicyRefusedError"] * 2 == errors
    assert [] == posts(sandbox)


@pytest.mark.parametrize("tag", ["skip-execution", "raises-exception"])
def test_payout_cell_moves_nothing_when_the_verification_is_excused(scene, tmp_path, tag):
    """A NO-GO whose cell is skipped, or allowed to fail, is still a NO-GO for the send; and our engine refuses the tag."""
    desk, sandbox = scene
    request = file_and_approve(desk)
    leave_dry_run(desk, request)
    _spend_the_balance(desk)
    book = live_book(code(desk, request))
    gate = next(cell for cell in book.cells if cell.source == "steps.verify(run)")
    gate.metadata["tags"] = [tag]
    errors = run(book, tmp_path)

    assert "PolicyRefusedError" in errors
    assert [] == posts(sandbox)


def test_payout_cell_moves_nothing_under_nbval(scene, tmp_path):
    """nbval goes on after a failing cell, and can run one cell alone: neither reaches Stripe."""
    desk, sandbox = scene
    request = file_and_approve(desk)
    leave_dry_run(desk, request)
    _spend_the_balance(desk)
    path = tmp_path / "2-execute.ipynb"
    nbformat.write(live_book(code(desk, request)), path)
    for target in (str(path), f"{path}::Cell 4"):
        command = [sys.executable, "-m", "pytest", "--nbval-lax", "--nbval-current-env", "-q", "-p", "no:cacheprovider"]
        done = subprocess.run(
            [*command, target], cwd=tmp_path, env=os.environ, capture_output=True, text=True, check=False
        )

        assert 1 == done.returncode, done.stdout[-2000:]
    assert [] == posts(sandbox)


def test_runner_refuses_a_template_with_an_excusing_tag(scene, tmp_path):
    """A template that was tampered with is not run at all."""
    desk, sandbox = scene
    file_and_approve(desk)
    shutil.copytree(RUNBOOKS, tmp_path / "home" / "runbooks")
    path = tmp_path / "home" / "runbooks" / "1-verify.ipynb"
    book = nbformat.read(path, as_version=4)
    book.cells[-2].metadata["tags"] = ["raises-exception"]
    nbformat.write(book, path)
    desk.settings = desk.settings.model_copy(update={"home": tmp_path / "home"})
    with pytest.raises(Exception, match="1-verify"):
        run_stages(desk, DRY_RUN, demo_parameters())

    assert [] == posts(sandbox)


def _spend_the_balance(desk):
    """Make the verification say NO-GO: the studio's balance no longer covers the payout and its reserve."""
    import sqlalchemy as sa

    engine = sa.create_engine(desk.settings.ledger_database_text())
    with engine.begin() as connection:
        connection.execute(
            sa.text("UPDATE manual_payout_balance SET balance_minor = 1000 WHERE studio_id = :studio"),
            {"studio": incident.STUDIO_ID},
        )
    engine.dispose()
