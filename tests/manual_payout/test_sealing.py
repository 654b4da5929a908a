"""A seal is given to what its own verifier passes, and to nothing else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from payout_rehearsal.demo import incident

RUNBOOKS = Path(__file__).parents[2] / "runbooks"
FOLDER = Path(incident.INCIDENT_ID, incident.LEDGER_PAYOUT_ID)
SELECTED = {
    "incident_id": incident.INCIDENT_ID, "ledger_payout_id": incident.LEDGER_PAYOUT_ID, "operator": "tomas"
}  # fmt: skip


def papermill(shell, stage, output, *options):
    """Run papermill alone, with the scene's environment."""
    given = [word for name, value in SELECTED.items() for word in ("-p", name, value)]
    command = [sys.executable, "-m", "papermill", "--engine", "manual_payout", *given, *options]
    return subprocess.run(
        [*command, RUNBOOKS / f"{stage}.ipynb", output], env=os.environ | shell.environment,
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


@pytest.fixture(name="filed")
def _filed(shell):
    """A request and its folder, which the operator has sealed."""
    shell.request()
    shell.folder = shell.root / FOLDER
    assert 0 == shell("seal", "INC-123", "--operator", "tomas").code
    return shell


def prepare(shell, path):
    """Have papermill write the notebook without running it."""
    assert 0 == papermill(shell, "2-execute", path, "--prepare-only").returncode


def copy(_, path):
    """Put the reviewed template there as it is."""
    shutil.copy(RUNBOOKS / "2-execute.ipynb", path)


@pytest.mark.parametrize("name", ["2-execute-01.ipynb", "2-execute.ipynb"])
@pytest.mark.parametrize("leave", [prepare, copy])
def test_a_notebook_that_never_ran_is_not_signed(filed, leave, name):
    """It shows what its template showed, a dry run; the seal names it with all that is wrong, and passes once it is gone."""
    manifest = (filed.folder / "manifest.json").read_bytes()
    leave(filed, filed.folder / name)
    shown = "Dry run, nothing was sent" in (filed.folder / name).read_text()
    refused = filed("seal", "INC-123", "--operator", "tomas")
    before = (filed.folder / "manifest.json").read_bytes()
    (filed.folder / name).unlink()
    (filed.folder / name).with_suffix(".html").unlink()
    again = filed("seal", "INC-123", "--operator", "tomas")

    assert (True, 5, 0) == (shown, refused.code, again.code)
    assert (f"templates: {name}: papermill prepared it and never ran it; stages" in refused.err) is (leave is prepare)
    assert f"stages: {name}: no event tells of" in refused.err
    assert "Move what is named out of the folder" in refused.err
    assert manifest == before
    assert 0 == filed("verify", filed.folder).code


def test_a_notebook_of_no_stage_and_a_file_of_other_money_are_named_together(filed):
    """Every failing check is said at once; what is not a matter of files alone goes to Security."""
    (filed.folder / "notes.ipynb").write_text(json.dumps({"cells": [], "metadata": {}}))
    (filed.folder / "stripe-response.json").write_text('{"id": "tr_1", "metadata": {}}')
    refused = filed("seal", "INC-123", "--operator", "tomas")

    assert 5 == refused.code
    assert "templates: notes.ipynb is not the reviewed notes" in refused.err
    assert "money: stripe-response.json is not the outcome on record" in refused.err
    assert "call Security" in refused.err
