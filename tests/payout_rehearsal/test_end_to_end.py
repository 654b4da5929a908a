"""The whole incident: by the runner, and by papermill alone, with the same result."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import sqlalchemy as sa
import yaml

from manual_payout.database.schema import metadata
from manual_payout.desk.wiring import kernel_environment
from manual_payout.domain.models import Stage
from manual_payout.evidence import whole
from manual_payout.steps.closing import read_results
from manual_payout.steps.runner import seal_again
from payout_rehearsal import CLOSING, PAUSE_S, demo_parameters, file_and_approve, stage_set
from payout_rehearsal.demo import automation, incident
from truthful_papermill.templates import compare_code, read_notebook

RUNBOOKS = Path(__file__).parents[2] / "runbooks"

# papermill's own command, once for each notebook; to import it takes as long as to run one.
PAPERMILL = """\
import json, sys
from papermill.__main__ import papermill
for command in json.loads(sys.argv[1]):
    papermill(command, standalone_mode=False)
"""

# Which process sent it differs from run to run; everything else of a demo incident is the same every time.
RUNTIME = {"owner", "fence", "lease_until", "digest", "previous", "manifest_sha256", "signed_text", "signature"}


def test_rehearsal_moves_the_money_once_and_ends_green(rehearsed):
    """Every stage ends well, the sandbox's own books show one transfer, and the automation leaves it alone."""

    assert [0] * 8 == [stage.exit_code for stage in rehearsed.stages]
    assert 1 == rehearsed.transfers
    assert rehearsed.automation_skipped
    assert rehearsed.green


def test_folder_holds_what_the_ticket_needs(rehearsed):
    """Ledger export, payload, response, SQL, messages, approvals, journal, pages and manifest are all there."""
    names = {path.name for path in rehearsed.folder.iterdir()}
    wanted = {
        "ledger-payout.csv",
        "payload.json",
        "stripe-response.json",
        "manual_payouts.sql",
        "slack-message.txt",
        "studio-email.txt",
        "studio-email.html",
        "timeline.png",
        "request.json",
        "approvals.json",
        "journal.json",
        "manifest.json",
        "6-close-01.ipynb",
        "6-close-01.html",
    }

    assert set() == wanted - names


def test_executed_notebooks_ran_the_reviewed_code(rehearsed):
    """Apart from the injected parameters, the code cells of the evidence are those of the templates."""
    for stage in rehearsed.stages:
        template = read_notebook(RUNBOOKS / f"{stage.stage}.ipynb")

        assert [] == compare_code(read_notebook(stage.notebook), template)


def test_summary_reads_every_result_back(rehearsed):
    """scrapbook finds the result of every executed notebook, and each names the same transfer."""
    frame = read_results(rehearsed.folder)
    live = frame[frame.run == "live"]

    assert 8 == len(frame)
    assert {"GO", "Dry run, nothing was sent"} == set(frame[frame.run == "dry run"].verdict)
    assert 1 == len(set(live.transfer) - {""})


def test_no_key_is_in_anything_written(rehearsed):
    """Not one file of the evidence, and not the database, holds a key."""
    from local_stripe import FALLBACK_KEY, READ_KEY

    for path in rehearsed.folder.parents[1].rglob("*"):
        if path.is_file():
            content = path.read_bytes()

            assert FALLBACK_KEY.encode() not in content, path
            assert READ_KEY.encode() not in content, path


def test_papermill_alone_reaches_the_same_state(rehearsed, tmp_path):
    """Notebook by notebook with plain papermill and a parameter file: same decisions, same rows, same journal."""
    with stage_set(tmp_path) as (desk, stripe):
        file_and_approve(desk, pause_s=PAUSE_S)
        desk.clock.wait(PAUSE_S)
        environment = kernel_environment(desk.settings)
        _papermill(environment, tmp_path, demo_parameters(), (Stage.VERIFY, Stage.EXECUTE))
        _, code = seal_again(desk, incident.INCIDENT_ID, incident.LEDGER_PAYOUT_ID, incident.OPERATOR)
        desk.clock.wait(PAUSE_S)
        live = demo_parameters(dry_run=False, confirm=code)
        stages = (Stage.VERIFY, Stage.EXECUTE, Stage.LOG, Stage.NOTIFY, Stage.SETTLE)
        _papermill(environment, tmp_path, live, stages)
        engine = sa.create_engine(environment["LEDGER_DATABASE_URL"])
        automation.attempt(engine, incident.LEDGER_PAYOUT_ID, desk.now())
        engine.dispose()
        _papermill(environment, tmp_path, live, (Stage.CLOSE,))
        transfers = len(stripe.books.transfers)

    assert 1 == transfers
    assert _state(rehearsed.folder.parents[1] / "demo.sqlite") == _state(tmp_path / "demo.sqlite")


def _papermill(environment, folder, parameters, stages):
    """Run papermill's own command, as a purist does."""
    file = folder / "incident.yaml"
    file.write_text(yaml.safe_dump(parameters.as_dict() | CLOSING), "utf-8")
    outs = [folder / f"{stage}-{parameters.dry_run}.ipynb" for stage in stages]
    commands = [
        [str(RUNBOOKS / f"{stage}.ipynb"), str(out), "-f", str(file)] for stage, out in zip(stages, outs, strict=True)
    ]
    run = subprocess.run(
        [sys.executable, "-c", PAPERMILL, json.dumps(commands)], env=environment | {"PATH": os.environ["PATH"]},
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert 0 == run.returncode, run.stderr[-2000:]


def _state(database):
    """Everything our tables hold, without what names one process."""
    engine = sa.create_engine(f"sqlite:///{database}")
    with engine.connect() as connection:
        found = {
            table.name: [_comparable(row._asdict()) for row in connection.execute(sa.select(table))]
            for table in metadata.sorted_tables
        }
    engine.dispose()
    # The runner notes which notebook it begins, and its machine seals at its end; plain papermill does neither.
    found["events"] = [
        {name: value for name, value in event.items() if name != "seq"}
        for event in found["events"]
        if event["kind"] not in (whole.BEGUN, whole.KEPT)
    ]
    return found


def _comparable(row):
    kept = {name: value for name, value in row.items() if name not in RUNTIME}
    if "data" in kept:
        kept["data"] = {name: value for name, value in json.loads(kept["data"]).items() if name not in RUNTIME}
    return kept
