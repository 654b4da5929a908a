"""
The quarterly rehearsal: the incident played through, then a drill of faults, each step timed and the whole checked.

The stage and the incident are here for whoever needs a scene. What the notebook ``rehearse`` calls is in `play`, which
brings scrapbook and pandas with it; `notebook` runs that notebook.
"""

from payout_rehearsal.ground import Cast, Ground, SceneName
from payout_rehearsal.incident import Incident, Rehearsal, failed_stage, file_and_approve, rehearse
from payout_rehearsal.sandbox_ground import CLOSING, DEMO_CAST, PAUSE_S, SandboxGround, sandbox_ground
from payout_rehearsal.stage import demo_parameters, nightly_job, sandbox_books, set_up_database, stage_set

APPROVERS = DEMO_CAST.approvers

__all__ = [
    "APPROVERS",
    "CLOSING",
    "DEMO_CAST",
    "PAUSE_S",
    "Cast",
    "Ground",
    "Incident",
    "Rehearsal",
    "SandboxGround",
    "SceneName",
    "demo_parameters",
    "failed_stage",
    "file_and_approve",
    "nightly_job",
    "rehearse",
    "sandbox_books",
    "sandbox_ground",
    "set_up_database",
    "stage_set",
]
