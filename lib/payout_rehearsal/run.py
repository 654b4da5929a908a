"""One rehearsal as the notebook holds it: bound to a ground, with everything that was found by now."""

from __future__ import annotations

import atexit
import functools
import logging
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, cast

from manual_payout.desk.kernels import fork_server, needed_by
from manual_payout.domain.display import Banner, Picture, Table, Text, facts_table
from manual_payout.domain.errors import ManualPayoutError
from manual_payout.domain.models import Check
from manual_payout.domain.parameters import RehearseParameters, validate
from manual_payout.steps.run import parameters_in
from payout_rehearsal.drill import DRILL, Played
from payout_rehearsal.folders import new_folder
from payout_rehearsal.ground import Ground, SceneName
from payout_rehearsal.grounds import Target, find_ground
from payout_rehearsal.incident import Incident
from payout_rehearsal.record import Record
from payout_rehearsal.result import Findings, result_of
from truthful_papermill.warm.starting import ForkServer

P = ParamSpec("P")
Shown = Table | Banner | Text | Picture


@dataclass(repr=False)
class RehearsalRun:
    """
    One rehearsal; the notebook's first cell makes it and every other cell is given it.

    Attributes:
        target: What the ground was opened as.

        root: The folder that everything is left in.

        said: What was said while the ground was opened, a sentence each.

        troubles: What a step broke with, by the step's name.

        stack: What takes the stage down.
    """

    parameters: RehearseParameters
    target: Target
    root: Path
    ground: Ground
    kernels: ForkServer
    record: Record
    incident: Incident
    stack: ExitStack
    said: tuple[str, ...] = ()
    scenes: list[Played] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    troubles: dict[str, str] = field(default_factory=dict)

    def binding(self) -> Table:
        """Say what this rehearsal is bound to: the world and the people."""
        ground, desk = self.ground, self.ground.desk
        faults = f"yes, {len(DRILL)} scenes" if self.parameters.drill else "no, the incident alone"
        # Only where there is something to say: a ground that is ready at once changes nothing.
        told = {"made ready": "; ".join(self.said), "policy here": "; ".join(ground.changes)}
        return facts_table(
            f"This rehearsal: on {self.target.title}.",
            {
                "moves money": "no real money, ever",
                "Stripe": f"{desk.place}, {desk.gateway.identity}",
                "requester": ground.cast.requester,
                "approvers": ", ".join(ground.cast.approvers),
                "operator": ground.cast.operator,
                "drill of faults": faults,
                "folder": self.root.name,
                **{name: text for name, text in told.items() if text},
            },
        )

    @property
    def _wanted(self) -> tuple[SceneName, ...]:
        return tuple(scene.name for scene in DRILL) if self.parameters.drill else ()

    def result(self) -> dict[str, Any]:
        """Return what it has come to by now."""
        findings = Findings(self.incident.played, self.troubles, self._wanted, tuple(self.scenes), tuple(self.checks))
        return result_of(self.ground, self.record, findings, at=self.record.watch.now())

    def _repr_html_(self) -> str:
        return self.binding()._repr_html_()

    def __repr__(self) -> str:
        return repr(self.binding())


def begin(namespace: Mapping[str, Any]) -> RehearsalRun:
    """
    Validate the parameters and set the stage.

    Args:
        namespace: The notebook's ``globals()``: the parameters as papermill or a person left them.

    Raises:
        ParameterError: A parameter is wrong, or there is one of an unknown name; or the folder holds something.

        SettingsError, DatabaseError, StripeRefusedError, NotFinishedError: The stage cannot be set.
    """
    parameters = validate(parameters_in(namespace), RehearseParameters)
    target, root = find_ground(parameters.target), new_folder(parameters.folder)
    # That a kernel dies is part of the drill; without a handler, whoever notices would tell it on standard error.
    logging.getLogger().addHandler(logging.NullHandler())
    stack = ExitStack()
    # Also where the notebook stops before its end; closing twice does nothing.
    atexit.register(stack.close)
    kernels = stack.enter_context(fork_server(later=needed_by(["settle", "close"])))
    said: list[str] = []
    ground, record = stack.enter_context(target.open(root, parameters.drill, said.append)), Record()
    incident = Incident(ground, kernels, record)
    return RehearsalRun(parameters, target, root, ground, kernels, record, incident, stack, tuple(said))


def step(
    name: str,
) -> Callable[[Callable[Concatenate[RehearsalRun, P], Shown]], Callable[Concatenate[RehearsalRun, P], Shown]]:
    """Decorate a step of the incident: what it breaks with is noted and shown, and the rehearsal goes on."""

    def decorate(act: Callable[Concatenate[RehearsalRun, P], Shown]) -> Callable[Concatenate[RehearsalRun, P], Shown]:
        @functools.wraps(act)
        def acted(run: RehearsalRun, *args: P.args, **kwargs: P.kwargs) -> Shown:
            try:
                return act(run, *args, **kwargs)
            except ManualPayoutError as error:
                run.troubles[name] = error.message
            except Exception as error:  # noqa: BLE001  # whatever broke is a finding of this rehearsal
                run.troubles[name] = f"{type(error).__name__}: {error}"
            return Banner("Broken", f"{name}: {run.troubles[name]}", good=False)

        return cast("Callable[Concatenate[RehearsalRun, P], Shown]", acted)

    return decorate
