"""What a rehearsal came to: green or what was wrong, as the data that the notebook glues and the report shows."""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass
from datetime import datetime
from importlib.metadata import version
from typing import Any

from manual_payout.desk.reviewed import procedure_digest
from manual_payout.domain.canonical import instant_text
from manual_payout.domain.models import Check, Stage
from payout_rehearsal.drill import Played
from payout_rehearsal.ground import Ground, SceneName
from payout_rehearsal.incident import ACCEPTED, ASKED, Rehearsal
from payout_rehearsal.record import Record

_LIBRARIES = ("manual-payout", "papermill", "scrapbook", "nbclient", "stripe")


@dataclass(frozen=True)
class Findings:
    """
    Everything that was found.

    Attributes:
        incident: What the incident came to.

        troubles: What a step broke with, by the step's name.

        wanted: The scenes that were to be played; none where the incident was to be played alone.
    """

    incident: Rehearsal
    troubles: dict[str, str]
    wanted: tuple[SceneName, ...]
    scenes: tuple[Played, ...]
    checks: tuple[Check, ...]

    def wrong(self) -> list[str]:
        """Say in one sentence each what was not as it should be; an empty list is a green rehearsal."""
        incident = self.incident
        found = [f"{step}: {trouble}" for step, trouble in self.troubles.items()]
        found += [f"{stage.stage}: {stage.message}" for stage in incident.stages if stage.exit_code]
        if not incident.stages or incident.stages[-1].stage is not Stage.CLOSE:
            found.append("the incident was not played to its close")
        elif not incident.automation_skipped:
            found.append("the automation paid the incident's payout again")
        if incident.transfers is None:
            found.append("Stripe's own books could not be asked for the incident's transfers")
        elif incident.transfers != 1:
            found.append(f"Stripe's own books show {incident.transfers} transfers for the incident, expected 1")
        found += [f"{scene.title}: {_said(scene)}" for scene in self.scenes if not scene.as_expected]
        # By name: one that was played twice is not two.
        if missing := [name.value for name in self.wanted if name not in {scene.name for scene in self.scenes}]:
            found.append(f"of the drill, {', '.join(missing)} was not played")
        if not self.checks:
            found.append("rows and messages were not checked")
        return found + [f"{check.question} {check.found}" for check in self.checks if check.stops]


def _said(scene: Played) -> str:
    wrong = [f"{f.what} expected {f.expected}, found {f.found}" for f in scene.findings if not f.fine]
    return "; ".join([*([scene.trouble] if scene.trouble else []), *wrong])


def result_of(ground: Ground, record: Record, findings: Findings, *, at: datetime) -> dict[str, Any]:
    """
    Return the whole rehearsal as JSON: what the notebook glues, the report shows and later rehearsals read.

    Args:
        at: The present instant by the clock of this machine.
    """
    wrong, response_s = findings.wrong(), record.seconds_until(ASKED, ACCEPTED)
    incident = findings.incident
    names = ground.desk.registry
    return {
        "stage": Stage.REHEARSE.value,
        "verdict": "Green" if not wrong else "Not green",
        "green": not wrong,
        "wrong": wrong,
        "at": instant_text(at),
        "date": f"{at:%Y-%m-%d}",
        "target": ground.name,
        "mode": ground.desk.settings.mode.value,
        "drill": bool(findings.wanted),
        "requester": ground.cast.requester,
        "approvers": list(ground.cast.approvers),
        "operator": ground.cast.operator,
        "names": {handle: _name(names.find(handle)) for handle in _handles(ground)},
        "procedure": procedure_digest(),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in _LIBRARIES},
        "response_s": round(response_s, 3) if response_s is not None else None,
        "seconds": {step.name: step.seconds for step in record.steps},
        "steps": [
            {"name": s.name, "started_at": instant_text(s.started_at), "ended_at": instant_text(s.ended_at), "seconds": s.seconds}
            for s in record.steps
        ],
        "transfers": incident.transfers,
        "automation_skipped": incident.automation_skipped,
        "changes": list(ground.changes),
        "left_behind": ground.left_behind,
        "evidence": incident.folder.relative_to(ground.desk.settings.outputs_dir).as_posix(),
        "scenes": [_scene(scene) for scene in findings.scenes],
        "checks": [asdict(check) for check in findings.checks],
    }  # fmt: skip


def inventory_block(result: dict[str, Any]) -> str:
    """Return what goes into the reviewed inventory (docs/monitoring.md); nothing for a rehearsal without its drill."""
    if not result["drill"]:
        return ""
    approvers = ", ".join(f'"{handle}"' for handle in result["approvers"])
    return (
        f"[[rehearsal]]\non = {result['date']}\ngreen = {'true' if result['green'] else 'false'}\n"
        f'target = "{result["target"]}"\nprocedure = "{result["procedure"]}"\napprovers = [{approvers}]\n'
    )


def _scene(scene: Played) -> dict[str, Any]:
    return {
        "name": scene.name.value,
        "title": scene.title,
        "as_expected": scene.as_expected,
        "trouble": scene.trouble,
        "findings": [asdict(finding) for finding in scene.findings],
        "folder": scene.folder,
    }


def _handles(ground: Ground) -> list[str]:
    return [ground.cast.requester, *ground.cast.approvers, ground.cast.operator]


def _name(person: Any) -> str:
    return person.name if person is not None else ""
