"""An approved incident, ready to be run, with its sandbox in a process of its own; and what runs it."""

from __future__ import annotations

import json
from pathlib import Path

import yaml
from nbformat import v4, write
from tests.bench.programs import BIN
from tests.crash.kills.notebooks import FLAGS, Scene

from manual_payout.desk.wiring import kernel_environment
from manual_payout.domain.models import CHECKLIST, Stage
from payout_rehearsal import CLOSING

RUNBOOKS = Path(__file__).parents[2] / "runbooks"

# What a kernel of the stages holds in the end.
IMPORTS = (
    "import asyncssh.sshsig, matplotlib.backends.backend_agg, matplotlib.figure, pandas, scrapbook, sqlalchemy, stripe\n"
    "from manual_payout import steps"
)


class Night:
    """
    One approved incident.

    Attributes:
        environment: What every program of this night is given, with the key, the sandbox and the database.
    """

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True)
        self._root = root
        self._scene = Scene(root)
        self.environment = kernel_environment(self._scene.settings)

    def waited_s(self) -> float:
        """
        How many seconds 5-settle watched the money arrive, in every run of it.

        The sandbox's days pass without waiting, and it is still asked some fifty times on the way.
        """
        notebooks = [*self._root.rglob("5-settle-*.ipynb"), *self._root.glob("plain-5-settle.ipynb")]
        cells = [cell for path in notebooks for cell in json.loads(path.read_text("utf-8"))["cells"]]
        watched = [cell for cell in cells if "steps.watch(" in "".join(cell["source"])]
        return sum(cell["metadata"]["papermill"]["duration"] for cell in watched)

    def close(self) -> None:
        """End the sandbox."""
        self._scene.sandbox.close()

    def whole(self) -> list[str]:
        """The one command that runs all six notebooks live."""
        closing = [
            "--automation-restored",
            "--root-cause",
            CLOSING["root_cause"],
            "--follow-ups",
            CLOSING["follow_ups"],
        ]
        closing += ["--access-review-on", CLOSING["access_review_on"]]
        return [*self._run(), "--confirm", self._scene._confirm, *closing]

    def verify(self) -> list[str]:
        """The command that runs one stage alone."""
        return [*self._run(), "--stage", "verify"]

    def papermill(self) -> list[list[str]]:
        """The six commands that run the same notebooks live with papermill alone."""
        given = {name.lstrip("-").replace("-", "_"): value for name, value in FLAGS.items()}
        given |= {"dry_run": False, "confirm": self._scene._confirm}
        return [self._papermill(stage, given | (CLOSING if stage is Stage.CLOSE else {})) for stage in CHECKLIST]

    def _papermill(self, stage: Stage, given: dict) -> list[str]:
        parameters = self._root / f"{stage}.yaml"
        parameters.write_text(yaml.safe_dump(given), "utf-8")
        return [*_papermill(RUNBOOKS / f"{stage}.ipynb", self._root / f"plain-{stage}.ipynb"), "-f", str(parameters)]

    def _run(self) -> list[str]:
        return [str(BIN / "manual-payout"), "run", *(word for flag in FLAGS.items() for word in flag)]


def bare(root: Path, source: str = "") -> list[str]:
    """The command that runs a notebook of one cell, empty or with *source*, with papermill alone."""
    root.mkdir(parents=True, exist_ok=True)
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = v4.new_notebook(cells=[v4.new_code_cell(source)], metadata={"kernelspec": kernel})
    write(notebook, root / "bare.ipynb")
    return _papermill(root / "bare.ipynb", root / "bare-out.ipynb")


def _papermill(template: Path, output: Path) -> list[str]:
    return [str(BIN / "papermill"), "--no-progress-bar", "-k", "python3", str(template), str(output)]


def as_json(value: object) -> str:
    """One line for a program."""
    return json.dumps(value, sort_keys=True)
