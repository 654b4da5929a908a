"""Two machines, two folders, one database: a folder that lacks what another machine executed says so, until it is whole."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from manual_payout.database.machine import machine_name
from manual_payout.desk.settings import SANDBOX_APPROVERS
from manual_payout.evidence import verifier
from payout_rehearsal.demo import incident
from shells import approve_both, live_command

RUNBOOKS = Path(__file__).parents[2] / "runbooks"
PROGRAM = [sys.executable, "-c", "from manual_payout.cli import main; main()"]
FOLDER = Path(incident.INCIDENT_ID, incident.LEDGER_PAYOUT_ID)
OPERATOR = ("--operator", "tomas")
PATIENCE_S = 120
ON_A = [
    f"{name} (on {machine_name()})"
    for name in (
        "1-verify-01.html", "1-verify-01.ipynb", "1-verify-02.ipynb",
        "2-execute-01.html", "2-execute-01.ipynb", "2-execute-02.ipynb",
    )
]  # fmt: skip


def shoot_once_it_is_sent(shell, command):
    """Run *command*, and kill everything of it once Stripe has the transfer and before it has said so."""
    shell.stripe.fault("slow", seconds=20)
    process = subprocess.Popen([*PROGRAM, *command], env=shell.environment, start_new_session=True)
    until = time.monotonic() + PATIENCE_S
    while not shell.stripe.books.transfers and time.monotonic() < until and process.poll() is None:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def dry_run(shell):
    """Run dry, and return the command that goes live."""
    dry = shell("run", "-f", shell.root / FOLDER / "incident.yaml", *OPERATOR, "--dry-run")
    assert 0 == dry.code, dry.said
    return live_command(dry)


@pytest.fixture(scope="module", name="night")
def _night(open_shell, tmp_path_factory):
    """A was killed once the money had left; B went on with a folder of its own, and brought in what A had executed."""
    with open_shell(tmp_path_factory.mktemp("two")) as shell:
        shell.request()
        approve_both(shell)
        command = dry_run(shell)
        shoot_once_it_is_sent(shell, command)
        a, b = shell.root / FOLDER, shell.root / "b" / FOLDER
        shell.environment["MANUAL_PAYOUT_OUTPUTS"] = str(shell.root / "b")
        told = {
            "went on": shell(*command),
            "lacking": shell("verify", b, "--json"),
            "page": (b / "index.html").read_text(),
        }
        told["attached"] = shell("attach", "INC-123", "--to", shell.root, *OPERATOR, "--json")
        told["closed"] = shell("run", "-f", a / "incident.yaml", *OPERATOR, "--stage", "close")
        told["again"] = alone(b)
        forged = Path(shutil.copytree(a, shell.root / "forged" / FOLDER))
        for name, text in (
            ("2-execute-01.ipynb", "Dry run, nothing was sent"),
            ("2-execute-02.ipynb", "steps.begin"),
        ):
            (forged / name).write_text((forged / name).read_text().replace(text, "Something else"))
        (forged / "1-verify-01.html").unlink()
        before = sorted(b.iterdir())
        told["forged"] = shell("evidence", "add", forged, *OPERATOR)
        told["copied"] = sorted(b.iterdir()) != before
        shell.before = {path: path.read_bytes() for path in (*a.rglob("*"), *b.glob("*.ipynb")) if path.is_file()}
        told["added"] = shell("evidence", "add", a, *OPERATOR, "--json")
        shell.after = {path: path.read_bytes() for path in shell.before}
        told["sealed"], told["whole"] = shell("seal", "INC-123", *OPERATOR), shell("verify", b, "--json")
        shell.told, shell.b = told, b
        yield shell


def alone(folder):
    """The exit code of the one file that an auditor runs."""
    command = [
        sys.executable,
        "-I",
        "-S",
        verifier.__file__,
        folder,
        "--templates",
        RUNBOOKS,
        "--registry",
        SANDBOX_APPROVERS,
    ]
    return subprocess.run(command, capture_output=True, text=True, check=False).returncode


def test_the_folder_that_went_on_says_by_name_and_machine_what_it_lacks(night):
    """The run itself, the page, both verifiers, the ticket and the close; the money was moved once."""
    told = night.told
    lacking = {one["name"]: one["wrong"] for one in json.loads(told["lacking"].out) if one["status"] == "incomplete"}

    assert (0, 1) == (told["went on"].code, len(night.stripe.books.transfers))
    assert {"complete": ON_A} == lacking
    assert [6, 6, 6, 6] == [told[name].code for name in ("lacking", "attached", "closed")] + [told["again"]]
    for said in (told["went on"].out, told["page"], json.loads(told["attached"].out)["incomplete"], told["closed"].err):
        assert f"Incomplete here: {', '.join(ON_A)}" in said
    assert "The evidence is whole" in told["closed"].err or "the evidence is whole" in told["closed"].err


def test_two_machines_never_give_two_notebooks_one_name(night):
    """So nothing collides once the folders come together; the number counts what is on record anywhere."""

    assert (night.b / "2-execute-03.ipynb").is_file()
    assert "2-execute-03.ipynb" in night.told["went on"].out or night.before == night.after
    assert night.before == night.after


def test_another_file_than_was_executed_is_not_brought_in(night):
    """Neither one whose digest is on record, nor what was killed and is no notebook of ours; and then nothing is."""
    said = night.told["forged"].err

    assert (5, False) == (night.told["forged"].code, night.told["copied"])
    assert f"2-execute-01.ipynb is not what {machine_name()} executed, by the digest on record" in said
    assert "2-execute-02.ipynb is no notebook of ours" in said


def test_what_was_executed_elsewhere_makes_the_folder_whole(night):
    """Brought in, sealed, and every check passes, also of a notebook whose run was killed; it can be attached and closed."""
    added = json.loads(night.told["added"].out)
    attached = night("attach", "INC-123", "--to", night.root, *OPERATOR)
    closed = night("run", "-f", night.root / FOLDER / "incident.yaml", *OPERATOR, "--stage", "close")

    assert (0, [], 6) == (night.told["added"].code, added["missing"], len(added["added"]))
    assert ["ok"] * 18 == [one["status"] for one in json.loads(night.told["whole"].out)]
    assert (0, 0) == (alone(night.b), attached.code)
    assert "the evidence is whole" not in closed.err.lower()


def test_what_never_comes_back_is_given_up_with_a_reason(shell):
    """On record, on the page and in the verdict; only what is missing can be lost, and a page goes with its notebook."""
    shell.request()
    approve_both(shell)
    dry_run(shell)
    shell.environment["MANUAL_PAYOUT_OUTPUTS"] = str(shell.root / "b")
    dry_run(shell)
    folder, lost = shell.root / "b" / FOLDER, ("--lost", "1-verify-01.ipynb", "--lost", "2-execute-01.ipynb")
    wrong = shell("seal", "INC-123", *OPERATOR, "--lost", "1-verify-02.ipynb", "--because", "The laptop was stolen")
    without = shell("seal", "INC-123", *OPERATOR, *lost)
    sealed = shell("seal", "INC-123", *OPERATOR, *lost, "--because", "The laptop was stolen")
    checked = shell("verify", folder)

    assert (2, 2, 0, 0) == (wrong.code, without.code, sealed.code, checked.code), sealed.said
    assert "a file that this folder lacks: 1-verify-01.html, 1-verify-01.ipynb, 2-execute-01.html" in wrong.err
    assert f"All but what was lost: 1-verify-01.html of {machine_name()}, because: The laptop was stolen" in checked.out
    assert "Lost, and given up:" in (folder / "index.html").read_text()
    assert 0 == alone(folder)


def test_papermill_alone_puts_on_record_what_it_runs_in_the_folder(shell):
    """Before its first cell has ended, with the name that papermill was given; a killed one is missed elsewhere."""
    shell.request()
    given = [word for name, value in SELECTED.items() for word in ("-p", name, value)]
    subprocess.run(
        [sys.executable, "-m", "papermill", "--engine", "manual_payout", *given, RUNBOOKS / "1-verify.ipynb", "1-verify-07.ipynb"],
        cwd=shell.root / FOLDER, env={**os.environ, **shell.environment, "MANUAL_PAYOUT_RUNNER": ""}, check=False, capture_output=True, timeout=120,
    )  # fmt: skip
    begun = [
        event.data for event in shell.desk.store.events_of("/".join(FOLDER.parts)) if event.kind == "notebook_begun"
    ]

    assert [{"stage": "1-verify", "notebook": "1-verify-07.ipynb", "machine": machine_name()}] == begun


SELECTED = {"incident_id": incident.INCIDENT_ID, "ledger_payout_id": incident.LEDGER_PAYOUT_ID, "operator": "tomas"}


def test_a_shared_folder_is_whole_whoever_goes_on(shell):
    """The ordinary set-up of a team: one is killed, another process goes on in the same folder, and nothing is missing."""
    shell.request()
    approve_both(shell)
    command = dry_run(shell)
    shoot_once_it_is_sent(shell, command)
    other = subprocess.run(
        [*PROGRAM, *command], env=shell.environment, capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )

    assert 0 == other.returncode, other.stderr
    assert "Incomplete here" not in other.stdout
    assert (0, 1) == (shell("verify", shell.root / FOLDER).code, len(shell.stripe.books.transfers))
