"""
papermill's door: the engine behind ``papermill --engine NAME in.ipynb out.ipynb``, whatever name it is registered under.

papermill still does what it does before an engine begins: it reads parameters its own way (types guessed, YAML tags obeyed),
expands ``{name}`` in paths, and with ``--prepare-only`` writes without any engine. What could be code among parameters is
refused even there; a name that the template does not know, and a notebook that is ours and not as it was reviewed, before a
kernel starts (:mod:`holding`). From then on the rules hold: existing output is refused, every write (papermill's own
last one too) is atomic and redacted, and a notebook is saved even with ``--no-request-save-on-cell-execute``. Output
anywhere but in a local file is refused. The kernel is this Python: another one (``-k``, ``--language``) is refused;
it stands where papermill does or ``--cwd`` says, a notebook of the house in an empty folder and nowhere else. Files
of ``--stdout-file`` are redacted message by message, and so can hold a secret that a cell printed in two pieces.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import nbformat
from papermill.engines import NBClientEngine
from papermill.exceptions import PapermillExecutionError
from papermill.iorw import papermill_io

from truthful_papermill.engine.execution import carry_out
from truthful_papermill.engine.holding import NO_HOUSE, TRANSLATOR, House, for_papermill, hold_parameters, hold_template
from truthful_papermill.engine.recording import AUTOSAVE_S, Run
from truthful_papermill.engine.saving import OutputFile
from truthful_papermill.engine.signals import StoppedBySignal, deferred_signals
from truthful_papermill.errors import EvidenceError, ExplainedError, SecretError, UsageError, shorten
from truthful_papermill.redaction import Redactor
from truthful_papermill.templates import BANNER_TAG, is_banner, tags_of
from truthful_papermill.terminal import guard

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nbformat import NotebookNode

DOOR_TIMEOUT_S = 60

# What Jupyter calls the Python that it is installed in, as a kernel and as a language.
_THIS_PYTHON = ("python3", "python")


class TruthfulEngine(NBClientEngine):  # type: ignore[misc]  # papermill is untyped
    """
    The engine; see the top of this module for what it covers.

    Whoever has notebooks and secrets of their own registers a subclass that knows them.

    Attributes:
        house: Whose templates are known.

        translator: Under what name papermill finds the translator of parameters.
    """

    house: ClassVar[House] = NO_HOUSE
    translator: ClassVar[str] = TRANSLATOR

    @classmethod
    def redactor(cls) -> Redactor:
        """
        Return what everything saved passes.

        Raises:
            SecretError: A secret cannot be kept out of the notebook; nothing ran.
        """
        return Redactor()

    @classmethod
    def nb_kernel_name(cls, nb: NotebookNode, name: str | None = None) -> str:  # noqa: ARG003  # papermill's signature
        """
        Name what papermill looks its translator of parameters up by.

        Raises:
            UsageError: Another kernel than this Python is asked for with ``-k``.
        """
        with _shown_by_papermill():
            _hold_python("kernel", name)
        return cls.translator

    @classmethod
    def nb_language(cls, nb: NotebookNode, language: str | None = None) -> str:  # noqa: ARG003  # papermill's signature
        """
        Name the one language there is.

        Raises:
            UsageError: Another one is asked for with ``--language``.
        """
        with _shown_by_papermill():
            _hold_python("language", language)
        return "python"

    @classmethod
    def execute_notebook(  # papermill's signature
        cls,
        nb: NotebookNode,
        kernel_name: str,  # noqa: ARG003  # the kernel is this Python
        output_path: str | None = None,
        progress_bar: bool | dict[str, Any] = True,  # noqa: FBT001, FBT002  # papermill's signature
        log_output: bool = False,  # noqa: FBT001, FBT002
        autosave_cell_every: int = AUTOSAVE_S,
        **options: Any,
    ) -> NotebookNode:
        """
        Run *nb* as papermill asks, with the secrets of this environment removed from what is saved.

        Raises:
            ParameterError: A parameter is not known to the notebook, or is no plain value; nothing ran.

            UsageError: The notebook is in another language, or ``--cwd`` names a folder for one that has its own.

            RefusedError: A cell carries a tag that excuses or skips it, the notebook is the record of a run, it is ours and
                not as it was reviewed, or something else than parameters was injected; nothing ran.

            SecretError: A secret of this environment is a word that evidence is made of; nothing ran.

            EvidenceError: The output exists, is no local file, or could not be saved.

            PapermillExecutionError: A cell raised ``SystemExit(0)``, which papermill itself takes for success.

            DeadKernelError: The kernel died; papermill exits with 138.

            CellTimeoutError: A cell took longer than ``--execution-timeout``.

            StoppedBySignal: A signal stopped the run; the process exits with 128 + n.
        """
        # papermill's own bar and messages go there, also after this has returned.
        guard()
        try:
            # Before there is a file: one whose words are taken out of it would be damaged evidence.
            redactor = cls.redactor()
        except SecretError as error:
            # As it is: a secret that is a word of the sentence would be missed in it.
            raise for_papermill(error, Redactor()) from None
        template = str(nb.metadata.papermill.get("input_path", "The notebook"))
        with _shown_by_papermill(redactor):
            hold_template(template, nb, cls.house)
            hold_parameters(template, nb, cls.house)
            _hold_python("language", _language_of(nb))
            folder = _folder_of_kernel(template, nb, cls.house)
        # papermill names no output to its engine under --no-request-save-on-cell-execute, but writes it all the same.
        output = _registered(output_path or nb.metadata.papermill.get("output_path"), redactor)
        run = Run(
            nb,
            output,
            redactor,
            ending=cls.house.ending,
            progress_bar=progress_bar,
            log_output=log_output,
            autosave_cell_every=autosave_cell_every,
        )
        with deferred_signals() as stop:
            carry_out(
                run,
                stop,
                # What a notebook is called, no kernel knows by itself; the name is that of papermill's own parameter.
                os.environ | ({"PAPERMILL_OUTPUT_PATH": str(output.path)} if output else {}),
                cls.house,
                folder=folder,
                log_output=log_output,
                stdout_file=options.get("stdout_file"),
                stderr_file=options.get("stderr_file"),
                startup_timeout=options.get("start_timeout") or DOOR_TIMEOUT_S,
                timeout=options.get("execution_timeout") or options.get("timeout"),
            )
        if stop.signum is not None:
            raise StoppedBySignal(stop.signum)
        _refuse_success_of_system_exit(run)
        return nb


@contextlib.contextmanager
def _shown_by_papermill(clean: Redactor | None = None) -> Iterator[None]:
    try:
        yield
    except ExplainedError as error:
        raise for_papermill(error, clean or Redactor()) from None


def _hold_python(what: str, name: str | None) -> None:
    if name and name.lower() not in _THIS_PYTHON:
        raise UsageError(
            f"This engine runs notebooks in the Python that it is installed in; the {what} {shorten(name)} was asked for.",
            "Name python3, or run the notebook with papermill's own engine.",
        )


def _language_of(nb: NotebookNode) -> str | None:
    said: str | None = nb.metadata.get("kernelspec", {}).get("language")
    return said or nb.metadata.get("language_info", {}).get("name")


def _folder_of_kernel(template: str, nb: NotebookNode, house: House) -> str | None:
    """Return where the kernel stands: where papermill does, which ``--cwd`` decides; None for a folder of its own."""
    if not house.owns(template, nb):
        return str(Path.cwd())
    before, here = _papermills_folder(), Path.cwd()
    if before and not here.samefile(before):
        raise UsageError(
            f"{template} runs in an empty folder of its own; --cwd names {here}.",
            "Run the command again without --cwd.",
        )
    return None


def _refuse_success_of_system_exit(run: Run) -> None:
    if run.error_name != "SystemExit" or run.failing_cell is None:
        return
    index = run.failing_cell + 1  # behind the banner
    cell = run.nb.cells[index]
    lines = [line for output in cell.outputs for line in output.get("traceback", [])]
    raise PapermillExecutionError(index, cell.execution_count, cell.source, "SystemExit", run.error_message, lines)


def _registered(name: str | None, redactor: Redactor) -> OutputFile | None:
    """Make papermill's own writes to the output go through this run's file."""
    if name is None:
        return None
    local = papermill_io.get_handler("local")
    if not isinstance(papermill_io.get_handler(name), type(local) | _OutputHandler):
        raise EvidenceError(
            f"The output {shorten(name)} is no local file.",
            "Save the notebook in a local folder, and copy it from there.",
        )
    output = OutputFile(Path(_papermills_folder() or Path.cwd()) / name, redactor)
    # papermill knows handlers by the beginning of a path, and the latest one wins. It stays registered, since
    # papermill writes the output once more after its engine has returned.
    papermill_io.register(name, _OutputHandler(name, output))
    return output


def _papermills_folder() -> str | None:
    """Return the folder in which papermill resolves relative paths, whatever ``--cwd`` says."""
    local = papermill_io.get_handler("local")
    folder: str | None = local.cwd(None)
    local.cwd(folder)
    return folder


class _OutputHandler:
    """papermill's door to one output file: its own writes to it become this run's; all else stays as it was."""

    def __init__(self, name: str, output: OutputFile) -> None:
        self._name = name
        self._output = output
        self._local = papermill_io.get_handler("local")

    def write(self, text: str, path: str) -> None:
        """Write the notebook *text*, which is whole, to *path*; papermill's own cells about an error say less than the banner."""
        if path == self._name:
            nb = nbformat.reads(text, as_version=4)  # type: ignore[no-untyped-call]
            nb.cells = [cell for cell in nb.cells if BANNER_TAG in tags_of(cell) or not is_banner(cell)]
            self._output.save(nb)
        else:
            self._local.write(text, path)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._local, name)
