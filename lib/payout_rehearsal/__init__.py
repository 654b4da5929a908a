"""
The quarterly rehearsal: the incident played through, then a drill of faults, each step timed and the whole checked.

The stage and the incident are here for whoever needs a scene. What the notebook ``rehearse`` calls is in `play`, which
brings scrapbook and pandas with it; `notebook` runs that notebook.
"""

from payout_rehearsal.ground import Ground, People, SceneName
from payout_rehearsal.incident import Incident, Rehearsal, failed_stage, file_and_approve, rehearse_incident
from payout_rehearsal.sandbox_ground import CLOSING, DEMO_CAST, PAUSE_S, SandboxGround, sandbox_ground
from payout_rehearsal.stage import demo_parameters, nightly_job, sandbox_books, set_up_database, stage_set

APPROVERS = DEMO_CAST.approvers

__all__ = [
    "APPROVERS",
    "CLOSING",
    "DEMO_CAST",
    "PAUSE_S",
    "Ground",
    "Incident",
    "People",
    "Rehearsal",
    "SandboxGround",
    "SceneName",
    "demo_parameters",
    "failed_stage",
    "file_and_approve",
    "nightly_job",
    "rehearse_incident",
    "sandbox_books",
    "sandbox_ground",
    "set_up_database",
    "stage_set",
]
