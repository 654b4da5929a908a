"""
Whole papermill runs, killed at any moment, and the same command again until it is through.

The command line runs in a process of its own, its kernels under it. Either is shot, or told to stop, while notebooks
run, are saved, rendered or sealed; the books, the rows and every notebook on disk are compared afterwards.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import nbformat
import scrapbook
from tests.proofs import leave_dry_run

import payout_rehearsal
from manual_payout.desk.reviewed import reviewed_digests
from manual_payout.desk.wiring import Desk, kernel_environment, open_desk
from manual_payout.domain.errors import ManualPayoutError
from manual_payout.domain.models import OPEN_STATES, Stage, State
from manual_payout.evidence.verifier import check_contents, check_files, read_folder
from manual_payout.steps.runner import LIVE_RUN
from payout_rehearsal.demo import incident
from payout_rehearsal.demo.settings import demo_settings
from truthful_papermill.engine import read_status

from .world import Sandbox, at, die_with_parent

FLAGS = {
    "--incident-id": incident.INCIDENT_ID,
    "--studio-id": incident.STUDIO_ID,
    "--studio-name": incident.STUDIO_NAME,
    "--ledger-payout-id": incident.LEDGER_PAYOUT_ID,
    "--amount": incident.AMOUNT,
    "--reserve-after": incident.RESERVE_AFTER,
    "--reason": incident.REASON,
    "--destination-account": incident.DESTINATION_ACCOUNT,
    "--notes": incident.NOTES,
    "--operator": incident.OPERATOR,
}
STOPPING = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

# How long a whole run takes, until one has been seen; kills fall into it.
RUN_S = 14.0

# The stage in which money moves takes about this long.
EXECUTE_S = 4.0

# The command is given this often at most; the last times nobody disturbs it.
COMMANDS_MAX = 8
KILLS_MAX = 3

# No run takes this long on any machine.
PATIENCE_S = 240.0

# Exit codes that the command line documents.
DOCUMENTED = {0, 2, 3, 4, 5, 6, 7}


@dataclass
class Night:
    """What one incident, run until it was through, came to."""

    seed: str
    codes: list[int] = field(default_factory=list)
    kills: list[str] = field(default_factory=list)
    story: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)

    def as_json(self) -> dict[str, Any]:
        """What is added up, for a line of a file; the story only where something is wrong."""
        return {
            "incidents": 1,
            "kills": Counter(self.kills),
            "killed": len(self.kills),
            "exit codes": Counter(str(code) for code in self.codes),
            "notebooks": self.statuses,
            "violations": [str(self)] if self.violations else [],
        }

    def __str__(self) -> str:
        told = f"{self.seed}: exit codes {self.codes}; {', '.join(self.kills) or 'undisturbed'}; {dict(self.statuses)}"
        return "\n".join([told, *(f"  ! {what}" for what in self.violations), *(f"    {step}" for step in self.story)])


class Scene:
    """The demo incident, approved and read, with its sandbox in another process."""

    def __init__(self, root: Path) -> None:
        accounts, available = payout_rehearsal.sandbox_books()
        self.sandbox = Sandbox(root, [_as_json(account) for account in accounts], available)
        self.settings = demo_settings(root, self.sandbox.base_url, payout_rehearsal.set_up_database(root))
        self._stderr = root / "stderr"
        # No setting marks the processes of a scene: those are kept from the fork server, whose environment its kernels show.
        self._mark = {"CRASH_SCENE": str(root)}
        self.folder = root / incident.INCIDENT_ID / incident.LEDGER_PAYOUT_ID
        with self.desk() as desk:
            request = payout_rehearsal.file_and_approve(desk)
            self.line_id = request.line_for().line_id
            self._confirm = leave_dry_run(desk, request)

    @contextlib.contextmanager
    def desk(self) -> Iterator[Desk]:
        """Open a desk for a moment."""
        with at(open_desk(self.settings)) as desk:
            yield desk

    def run(self) -> subprocess.Popen[bytes]:
        """Give the command of the live run."""
        flags = [word for flag in FLAGS.items() for word in flag]
        return self._command("run", *flags, "--confirm", self._confirm)

    def reconcile(self) -> int:
        """Ask Stripe what became of it."""
        process = self._command("reconcile", incident.INCIDENT_ID, "--operator", incident.OPERATOR)
        return process.wait(PATIENCE_S)

    def said(self) -> str:
        """The end of what the last command said; one that was shot may not have said it to the end."""
        return " ".join(self._stderr.read_text("utf-8").split())[-300:]

    def running(self) -> list[int]:
        """The processes that any command of this scene has started and that run on, whoever they belong to by now."""
        mark = f"CRASH_SCENE={self._mark['CRASH_SCENE']}\0".encode()
        return [pid for pid in _processes() if mark in _environment(pid)]

    def made(self, stage: Stage) -> int:
        """How many notebooks of a stage there are."""
        return len(list(self.folder.glob(f"{stage}-*.ipynb")))

    def _command(self, *arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", "from manual_payout.__main__ import main; main()", *arguments]
        # In a file: a pipe would stay open for as long as a kernel that has outlived its command.
        with self._stderr.open("wb") as stderr:
            return subprocess.Popen(
                command, env=kernel_environment(self.settings) | self._mark, stdout=subprocess.DEVNULL, stderr=stderr,
                preexec_fn=_as_at_a_terminal,  # noqa: PLW1509  # no threads of ours
            )  # fmt: skip


def play(root: Path, seed: str, *, kills: int | None = None) -> Night:
    """Run one incident until it is through, killing it *kills* times, or as often as the seed says."""
    rng, night, scene = random.Random(seed), Night(seed), Scene(root)
    left = rng.randrange(1, KILLS_MAX + 1) if kills is None else kills
    seen: dict[str, str] = {}
    try:
        for _ in range(COMMANDS_MAX):
            crowded = bool(scene.running())
            before = set(scene.folder.glob("*.ipynb"))
            made_before = {one["id"] for one in scene.sandbox.transfers(incident.LEDGER_PAYOUT_ID)}
            process = scene.run()
            kill = _kill(process, scene, rng, sure=kills is not None) if left else ""
            if kill:
                left -= 1
                night.kills.append(kill)
            code = process.wait(PATIENCE_S)
            night.codes.append(code)
            night.story.append(f"{kill or 'undisturbed'}: exit code {code}; it said: {scene.said()}")
            if not kill or rng.random() < 0.5:
                _wait(scene, night)
            # Else the next command begins while what the last one has left behind may still be paying.
            _judge_code(night, code, kill)
            _judge_words(night, scene, code, made_before, crowded=crowded)
            if not code:
                _judge_done(night, set(scene.folder.glob("*.ipynb")) - before, kill)
            _compare_files(night, scene.folder, seen)
            if code == 4:
                night.story.append(f"reconcile: exit code {scene.reconcile()}")
            if code in {0, 3} and not kill and not crowded:
                break
        _wait(scene, night)
        _compare(night, scene)
    finally:
        scene.sandbox.close()
    return night


def nights(
    root: Path, numbers: Iterable[int], *, seed: str = "0", minutes: float = float("inf")
) -> Iterator[tuple[int, Night]]:
    """Run an incident for each number, one after another; begin none once *minutes* are over."""
    until_s = time.monotonic() + 60 * minutes
    for number in numbers:
        if time.monotonic() > until_s:
            return
        folder = root / f"night-{number}"
        folder.mkdir()
        yield number, play(folder, f"{seed}/{number}")
        shutil.rmtree(folder)


def _kill(process: subprocess.Popen[bytes], scene: Scene, rng: random.Random, *, sure: bool) -> str:
    """
    Wait for a random moment, strike, and say what was struck; nothing where the run was faster.

    Args:
        sure: Strike around the money, and before the last notebook is done however fast the machine is.
    """
    if not sure and rng.random() < 0.5:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(rng.uniform(0, RUN_S))
        moment = "at a random moment"
    else:
        executed, settled = scene.made(Stage.EXECUTE), scene.made(Stage.SETTLE)
        _wait_for(process, PATIENCE_S, lambda: scene.made(Stage.EXECUTE) > executed)
        _wait_for(process, rng.uniform(0, EXECUTE_S), lambda: scene.made(Stage.SETTLE) > settled)
        moment = "around the money"
    under = [pid for pid in scene.running() if pid != process.pid]
    if process.poll() is not None:
        return ""
    if under and rng.random() < 0.3:
        with contextlib.suppress(ProcessLookupError):
            os.kill(rng.choice(under), signal.SIGKILL)
        return f"SIGKILL of a process under the run {moment}"
    signum = rng.choice(STOPPING)
    process.send_signal(signum)
    return f"{signum.name} of the run {moment}"


def _wait_for(process: subprocess.Popen[bytes], timeout_s: float, seen: Callable[[], bool]) -> None:
    deadline = time.monotonic() + timeout_s
    while process.poll() is None and not seen() and time.monotonic() < deadline:
        time.sleep(0.01)


def _wait(scene: Scene, night: Night) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while scene.running():
        if time.monotonic() > deadline:
            night.violations.append("a process outlived its run")
            break
        time.sleep(0.02)


def _judge_code(night: Night, code: int, kill: str) -> None:
    name = kill.partition(" of the run")[0] if " of the run " in kill else ""
    # Between two notebooks, and before anything was installed, a signal may end the process as it ends any other.
    by_signal = {128 + signal.Signals[name], -signal.Signals[name], 130} if name else set()
    if code not in DOCUMENTED | by_signal:
        night.violations.append(f"exit code {code} after {kill or 'no disturbance'}")


def _judge_words(night: Night, scene: Scene, code: int, made_before: set[str], *, crowded: bool) -> None:
    """The exit code, and what was said last, against Stripe's books and our row: 3 and "nothing moved" only if nothing left."""
    with scene.desk() as desk:
        record = desk.store.find_payout(scene.line_id)
    said = scene.said()
    if made_before and (code == 3 or "nothing moved" in said):
        night.violations.append(f"exit code {code}, the books had {made_before}; it said: {said}")
    if code == 7:
        night.violations.append(f"exit code 7, and nothing came back; it said: {said}")
    # What an earlier command left running may settle it between that word and this look.
    if code == 4 and not crowded and (record is None or record.state not in OPEN_STATES):
        night.violations.append(f"exit code 4, and the row is {record and record.state}; it said: {said}")


def _judge_done(night: Night, made: set[Path], kill: str) -> None:
    """Exit code 0 says that every stage was run and ended well; nothing else may say so."""
    done = {path.stem.rpartition("-")[0] for path in made if read_status(nbformat.read(path, 4)).status == "completed"}
    if done != {str(stage) for stage in LIVE_RUN}:
        night.violations.append(f"exit code 0 after {kill or 'no disturbance'}, though only {sorted(done)} were run")


def _compare_files(night: Night, folder: Path, seen: dict[str, str]) -> None:
    """No notebook that was there is changed or gone, and each can be read."""
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.ipynb")}
    night.violations += [f"{name} was overwritten" for name in seen if found.get(name) != seen[name]]
    for name in found.keys() - seen.keys():
        try:
            json.loads((folder / name).read_text("utf-8"))
            nbformat.read(folder / name, 4)
        except (ValueError, nbformat.ValidationError) as error:
            night.violations.append(f"{name} cannot be read: {error}")
    seen.update(found)


def _compare(night: Night, scene: Scene) -> None:
    transfers = scene.sandbox.transfers(incident.LEDGER_PAYOUT_ID)
    with scene.desk() as desk:
        record = desk.store.find_payout(scene.line_id)
        due = desk.ledger.get_payout_due(incident.LEDGER_PAYOUT_ID)
    made = [one["id"] for one in transfers]
    paid = record is not None and record.state is State.PAID
    if len(made) > 1 or made != ([record.stripe_transfer_id] if paid else []):
        night.violations.append(f"the books have {made}, the row is {record}")
    if paid and not due.is_claimed_by(scene.line_id):
        night.violations.append(f"paid, and the ledger's payout is {due.status}")
    if night.codes[-1] not in {0, 3} or (night.codes[-1] == 0) != paid:
        night.violations.append(f"it ended with exit code {night.codes[-1]}, and the row is {record and record.state}")
    _compare_notebooks(night, scene.folder, made)
    _compare_seal(night, scene.folder)


def _compare_notebooks(night: Night, folder: Path, made: list[str]) -> None:
    """What a notebook says of itself is true: a completed one has its result, and the result fits the books."""
    statuses = {}
    for path in sorted(folder.glob("*.ipynb")):
        statuses[path.name] = read_status(nbformat.read(path, 4)).status
        night.statuses[statuses[path.name]] += 1
        if statuses[path.name] == "completed":
            result = _result(path)
            if not result:
                night.violations.append(f"{path.name} says completed, and has no result")
            if path.name.startswith("2-execute") and not all(one in json.dumps(result) for one in made):
                night.violations.append(f"{path.name} says completed, and does not name {made}")
    if night.codes[-1] == 0:
        newest = {stage: max(name for name in statuses if name.startswith(f"{stage}-")) for stage in LIVE_RUN}
        wrong = [name for name in newest.values() if statuses[name] != "completed"]
        night.violations += [f"{name} is {statuses[name]} after exit code 0" for name in wrong]


def _compare_seal(night: Night, folder: Path) -> None:
    sealed = read_folder(folder)
    if isinstance(sealed, str):
        night.violations.append(f"not sealed: {sealed}")
        return
    findings = check_files(sealed) + check_contents(sealed, reviewed_digests(), "", "")
    night.violations += [f"the seal: {finding.line()}" for finding in findings if finding.wrong]


def _result(path: Path) -> dict[str, Any]:
    with contextlib.suppress(ManualPayoutError):
        scraps = scrapbook.read_notebook(str(path)).scraps
        return dict(scraps["result"].data) if "result" in scraps else {}
    return {}


def _as_at_a_terminal() -> None:
    """What is started in the background may ignore SIGINT; a person's terminal does not."""
    die_with_parent()
    for signum in STOPPING[1:]:
        signal.signal(signum, signal.SIG_DFL)


def _processes() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _environment(pid: int) -> bytes:
    # That of a process that has ended, or ends, is empty or gone.
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/environ").read_bytes()
    return b""


def _as_json(account: Any) -> dict[str, Any]:
    return asdict(account) | {"available": dict(account.available)}
