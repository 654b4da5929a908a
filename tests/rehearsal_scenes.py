"""Rehearsals that were never played, for the report and the trend; and a copy of the software with a defect in every scene."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import nbformat

ROOT = Path(__file__).parents[1]
PROGRAM = "import sys; from manual_payout.cli import main; sys.argv[0] = 'manual-payout'; main()"

# What is done to the software so that exactly one scene of the drill goes wrong: what that scene then finds otherwise than
# expected, and the edits, each of a file and a text that it holds once.
DEFECTS = {
    "answer-lost": ("row", [(
        "manual_payout/transfer/delivery.py", "    except (StripeRefusedError, SettingsError, EvidenceError) as error:\n        if not sending.in_doubt:",
        "    except (StripeRefusedError, SettingsError, EvidenceError) as error:\n        if True:",
    )]),
    "killed-kernel": ("live run", [(
        "manual_payout/steps/endings.py", "code = exit_code(last.exit_code, account, reversal=bool(reversal))", "code = last.exit_code",
    )]),
    "stale-approval": ("live run", [("manual_payout/approval/approvals/standing.py", "at >= ends", "False")]),
    "wrong-account": ("transfers at Stripe", [
        ("manual_payout/approval/policy.py", '"destination_account": (line.destination_account, parameters.destination_account),', ""),
        ("manual_payout/approval/policy.py", "expected, due = facts.parameters.destination_account, facts.due", "expected, due = facts.due.destination_account, facts.due"),
    ]),
    "not-connected": ("row", [(
        "manual_payout/transfer/delivery.py", "if isinstance(answer, Refused) and not sending.in_doubt:", "if False:",
    )]),
    "insufficient-balance": ("dry run", [("manual_payout/approval/policy.py", "drawable >= needed", "True")]),
    "failing-later": ("studio told", [(
        "manual_payout/database/store/announcing.py", 'FAILED = ("slack_failed", "studio_failed", "page_failed")', 'FAILED = ("slack_failed", "page_failed")',
    )]),
}  # fmt: skip


def defective_copy(root: Path) -> Path:
    """Copy the software and make it wrong for every scene; returns the folder that Python is to find it in."""
    return _edited_copy(root, itertools.chain(*(edits for _, edits in DEFECTS.values())))


def copy_with_stripe_at(root: Path, address: str, short_approval_s: int = 20) -> Path:
    """
    Copy the software and let `--target stripe` find Stripe at *address*, where the sandbox's clock passes days at once.

    Nothing but the arguments of one call and one pause are others: no setting of an installation names another Stripe.
    """
    opening = "testmode.ground(root, _settings(), scenes=scenes, say=say)"
    options = (
        f"scenes=scenes, say=say, upstream={address!r}, waits=SandboxClock({address!r}), short_approval_s={short_approval_s}, "
        "patience=Patience(available_s=3 * 86_400, payout_s=5 * 86_400, look_s=3_600)"
    )
    imports = "from manual_payout.desk.settings import STRIPE_API, Settings, load_settings\n"
    more = "from manual_payout.database.clock import SandboxClock\nfrom payout_rehearsal.testmode.seeding import Patience\n"
    return _edited_copy(
        root,
        [
            ("payout_rehearsal/grounds.py", opening, f"testmode.ground(root, _settings(), {options})"),
            ("payout_rehearsal/grounds.py", imports, imports + more),
            # Of what is waited for in earnest when a sender was killed, most is patience with Stripe's rate limits.
            ("manual_payout/transfer/tries.py", "PAUSE_MAX_S = 20.0", "PAUSE_MAX_S = 5.0"),
        ],
    )


def _edited_copy(root: Path, edits: Iterable[tuple[str, str, str]]) -> Path:
    lib = root / "lib"
    shutil.copytree(ROOT / "lib", lib, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "runbooks", root / "runbooks")
    for file, right, wrong in edits:
        path = lib / file
        text = path.read_text("utf-8")
        assert 1 == text.count(right), (file, right)
        path.write_text(text.replace(right, wrong), "utf-8")
    return lib


def rehearse(*arguments: str, lib: Path = ROOT / "lib", **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``manual-payout rehearse`` in a process of its own, with nobody to ask and no more in its environment than is given."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    command = [sys.executable, "-P", "-c", PROGRAM, "rehearse", *map(str, arguments)]
    return subprocess.run(
        command, env=kept | {"PYTHONPATH": str(lib), "COLUMNS": "160"} | environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip


def result(*, at: str = "2026-11-26T15:04:05.000000Z", text: str = "", **changed: object) -> dict[str, object]:
    """What a rehearsal glues; every scene and check wrong, and saying *text*, where one is given."""
    fine = not text
    scene = {
        "as_expected": fine, "trouble": text, "folder": "INC-201/58b8fce4-0000-4000-8000-000000000000",
        "findings": [
            {"what": what, "expected": "exit 4 at 2-execute", "found": text or "exit 4 at 2-execute"}
            for what in ("dry run", "live run", "kernel killed while sending", "notebook", "row", "row afterwards", "same command again")
        ],
    }  # fmt: skip
    steps = [
        "request and approvals",
        *(f"live run: {n}-verify" for n in range(1, 9)),
        *(f"drill: scene {n}" for n in range(7)),
        "checks",
    ]
    made = {
        "stage": "rehearse", "verdict": "Green" if fine else "Not green", "green": fine, "wrong": [text] * 12 if text else [],
        "at": at, "date": at[:10], "target": "sandbox", "mode": "sandbox", "drill": True,
        "requester": "maya", "approvers": ["priya", "amara"], "operator": "tomas",
        "names": {"maya": text or "Maya Okafor", "priya": text or "Priya Raman", "amara": "Amara Diallo", "tomas": "Tomas Lindqvist"},
        "procedure": "7" * 64, "versions": {"python": "3.11.7", "manual-payout": text or "0.1.0"},
        "response_s": 7.25, "seconds": dict.fromkeys(steps, 1.5),
        "steps": [{"name": name, "started_at": at, "ended_at": at, "seconds": 1.5} for name in steps],
        "transfers": 1 if fine else 2, "automation_skipped": fine, "changes": [], "left_behind": text, "evidence": "INC-123/b8e4f6a0-52c9-4d3e-8f17-6a90d2c3e541",
        "scenes": [scene | {"name": f"scene {n}", "title": "the payout to the bank fails later"} for n in range(7)],
        "checks": [
            {"name": f"c{n}", "question": "Is every ticket filled in, marked, right in amount?",
             "status": "ok" if fine else "fail", "expected": "x", "found": text or "x", "remedy": ""}
            for n in range(10)
        ],
    }  # fmt: skip
    return made | changed


def write_past(folder: Path, glued: dict[str, object]) -> Path:
    """Leave the executed notebook of a rehearsal that was played before."""
    output = nbformat.v4.new_output(
        "display_data",
        data={
            "application/scrapbook.scrap.json+json": {"name": "result", "data": glued, "encoder": "json", "version": 1}
        },
        metadata={"scrapbook": {"name": "result", "data": True, "display": False}},
    )
    book = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell("play.conclude(run)", outputs=[output], execution_count=1)]
    )
    folder.mkdir(parents=True)
    nbformat.write(book, folder / "rehearse.ipynb")
    return folder / "rehearse.ipynb"
