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
    assert (f"templates: {name}: papermill prepared it and never ran it" in refused.err) is (leave is prepare)
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


MEASURED = """
import atexit, resource
atexit.register(lambda: print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024))
from manual_payout.cli import main
main()
"""


def peak_mb(shell, *arguments):
    """Run a command in a process of its own; return its exit code and its peak memory in MB."""
    ran = subprocess.run(
        [sys.executable, "-c", MEASURED, *arguments], env=os.environ | shell.environment, capture_output=True, text=True, check=False
    )  # fmt: skip
    return ran.returncode, int(ran.stdout.split()[-1])


def test_memory_does_not_grow_with_the_largest_file(filed):
    """A recording of a screen may lie there: it is read in pieces, by the search for secrets too, which finds one across two."""
    seal = ("seal", "INC-123", "--operator", "tomas")
    _, before = peak_mb(filed, *seal)
    half = (1 << 18) - 10 - len("recording.bin\n")
    # Not made in this process: what it once took counts for every process that it starts (getrusage, ru_maxrss).
    with (filed.folder / "recording.bin").open("wb") as recording:
        for _ in range(24 << 4):
            recording.write(b"x" * (1 << 16))
    code, after = peak_mb(filed, *seal)
    (filed.folder / "recording.bin").write_bytes(b"x" * half + b" rk_live_51Habcdefgha91f " + b"x" * half)
    found = filed(*seal)

    assert (0, 5) == (code, found.code)
    assert after - before < 16
    assert "recording.bin in the evidence folder holds a Stripe key" in found.err


@pytest.mark.parametrize("name", ["shot.png", "3-log-01.ipynb", "seals/009.json", "below"])
def test_a_link_is_refused_by_its_name(filed, tmp_path, name):
    """It would show whatever it points at by then, and a copy of the folder would hold something else."""
    (filed.folder / "seals").mkdir(exist_ok=True)
    (filed.folder / name).symlink_to(tmp_path)
    refused = filed("seal", "INC-123", "--operator", "tomas")

    assert 5 == refused.code
    assert f"{name} in the evidence folder is a symbolic link, and evidence is regular files" in refused.err
