"""The runner's door: it reads, checks, parameterizes, runs and saves a notebook by itself."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbclient.exceptions import CellTimeoutError, DeadKernelError
from papermill.iorw import load_notebook_node
from papermill.log import logger
from papermill.parameterize import parameterize_notebook

from truthful_papermill.engine.client import Client
from truthful_papermill.engine.holding import NO_HOUSE, House, check_known, hold_parameters, refuse, refuse_record
from truthful_papermill.engine.recording import Progress, Run
from truthful_papermill.engine.saving import OutputFile
from truthful_papermill.engine.signals import Stop, StoppedBySignal, deferred_signals
from truthful_papermill.engine.statuses import Execution
from truthful_papermill.errors import SecretError
from truthful_papermill.redaction import REMEDY as SECRET_REMEDY
from truthful_papermill.redaction import Redactor
from truthful_papermill.templates import RECORD_KEY, check_template, digest_of, read_notebook
from truthful_papermill.warm.ahead import kernel_place

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nbformat import NotebookNode

    from truthful_papermill.warm.starting import ForkServer


def execute(
    template_path: Path,
    output_path: Path,
    parameters: Mapping[str, Any],
    *,
    redactor: Redactor,
    kernel_env: Mapping[str, str] | None = None,
    timeout_s: int | None = None,
    progress: Progress | None = None,
    expected_digest: str | None = None,
    fork_server: ForkServer | None = None,
    started: Callable[[], None] = lambda: None,
    house: House = NO_HOUSE,
) -> Execution:
    """
    Run the template with *parameters* and save it as a new notebook.

    A cell that fails, a kernel that dies and a cell that takes too long are answers, not exceptions.

    Args:
        output_path: A new file in an existing folder. Nothing is expanded in it.

        parameters: Names that the template declares; plain values only.

        redactor: What everything saved passes.

        kernel_env: The kernel's environment instead of this process's; cleaned of what decides which code is loaded.

        timeout_s: How many seconds one cell may take; None for as long as it needs.

        progress: Called when a code cell starts and ends.

        expected_digest: The digest of the reviewed template; the very notebook that is run is compared with it.

        fork_server: What forks the kernel; without one, or where it cannot, the kernel is started ordinarily.

        started: Called once the kernel answers, before its first cell.

        house: Whose template it is.

    Raises:
        RefusedError: The template is not the reviewed one, is the record of a run, or a cell of it escapes its execution;
            nothing ran.

        SecretError: A secret occurs in a reviewed template, whose text must be saved as it is; nothing ran.

        ParameterError: A parameter is unknown or not a plain value; nothing ran.

        EvidenceError: The template cannot be read, the output exists, or it could not be saved.

        StoppedBySignal: A signal stopped the run; the notebook is saved and the kernel is gone.
    """
    nb = read_notebook(template_path)
    refuse_record(template_path, nb, house)
    digest = digest_of(nb)
    if expected_digest not in (None, digest):
        refuse(template_path, [f"Its digest is {digest}, the reviewed one is {expected_digest}."])
    refuse(template_path, check_template(nb))
    if expected_digest is not None:
        refuse_changed(nb, redactor)
    check_known(parameters, nb, house)
    output = OutputFile(output_path.absolute(), redactor)
    prepared = _parameterized(nb, parameters, template_path, digest)
    run = Run(prepared, output, redactor, progress, ending=house.ending, progress_bar=False)
    # The run has recorded these two, with all that is known about them.
    with deferred_signals() as stop, contextlib.suppress(DeadKernelError, CellTimeoutError):
        environment = os.environ if kernel_env is None else kernel_env
        carry_out(run, stop, environment, house, timeout=timeout_s, fork_server=fork_server, started=started)
    found = run.statuses()
    execution = Execution(found.status, found.failing_cell, found.cells, output.path, run.error_name, run.error_message)
    if stop.signum is not None:
        raise StoppedBySignal(stop.signum, execution)
    return execution


def _parameterized(nb: NotebookNode, parameters: Mapping[str, Any], template: Path, digest: str) -> NotebookNode:
    prepared: NotebookNode = load_notebook_node(nb)  # a copy, with the fields that papermill expects
    prepared = parameterize_notebook(prepared, dict(parameters), kernel_name="python3", language="python")
    # Names, not paths: a path tells who ran it where, and is wrong as soon as the evidence is moved.
    prepared.metadata.papermill["input_path"] = template.name
    prepared.metadata[RECORD_KEY] = {"template": template.stem, "template_sha256": digest}
    return prepared


def refuse_changed(nb: NotebookNode, redactor: Redactor) -> None:
    """Raise SecretError if *redactor* would change a cell of a template: its digest is what was reviewed."""
    text = "\n".join(cell.source for cell in nb.cells)
    if redactor.redact(text) != text:
        raise SecretError(
            "A secret occurs in the template of this notebook.", SECRET_REMEDY, *redactor.variables_in(text)
        )


def carry_out(
    run: Run,
    stop: Stop,
    environment: Mapping[str, str],
    house: House,
    *,
    fork_server: ForkServer | None = None,
    started: Callable[[], None] = lambda: None,
    **options: Any,
) -> None:
    """
    Run the notebook from its first save to its last one; *started* is called once its kernel answers.

    Raises:
        ParameterError, RefusedError: As of `hold_parameters`; no kernel was started and nothing saved.
    """
    # Every kernel is started by the lines below, whichever door the notebook came in by.
    hold_parameters(str(run.nb.metadata.papermill.get("input_path", "The notebook")), run.nb, house)
    for cell in run.nb.cells:
        cell.metadata.pop("execution", None)  # another run's timing would pass as the proof of this one
    run.notebook_start()
    try:
        with kernel_place(fork_server, environment) as place:
            Client(run, stop, place, started, log=logger, **options).execute()
    except BaseException as error:
        if not run.stopped_because:
            run.ended_badly(error, f"the program that ran it failed with {type(error).__name__}")
        raise
    finally:
        run.notebook_complete()
