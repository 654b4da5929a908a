"""
What the engine holds against the notebook before a kernel starts: it is a template, a reviewed one, and what was
injected into it is known names with plain values.

papermill writes a parameter's name into the cell as it is, and most values that are no JSON scalar as well: both would be
code that runs before every gate, with the key in its environment.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from papermill.translators import PythonTranslator, papermill_translators

from manual_payout.desk.reviewed import reviewed_digests
from manual_payout.domain.errors import ManualPayoutError, ParameterError, RefusedError
from manual_payout.domain.parameters import CLOSE_PARAMETERS, STAGE_PARAMETERS
from truthful_papermill.redaction import Redactor
from truthful_papermill.templates import (
    INJECTED_TAG,
    PARAMETERS_TAG,
    check_injected,
    check_parameters,
    check_tags,
    declared_parameters,
    digest_of,
    is_banner,
    tags_of,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from nbformat import NotebookNode

PLAIN = (str, int, float, bool, type(None))
"""The types of JSON's scalars, which are all that a parameter can be."""

# The name under which papermill finds our translator; no kernel is called that.
TRANSLATOR = "manual_payout"

_OURS = re.compile(r"\bmanual_payout\b")


def refuse(template: Path | str, findings: list[str]) -> None:
    """Raise RefusedError if there are findings, sentences that say why *template* may not run."""
    if findings:
        raise RefusedError(
            f"{template} may not run: {' '.join(findings)}",
            "Run the reviewed template that came with this release.",
        )


def refuse_record(template: Path | str, nb: NotebookNode) -> None:
    """
    Refuse the notebook of an earlier run as a template: its parameters were another run's, and it is evidence.

    Raises:
        RefusedError: It bears the marks of a run.
    """
    if not _is_record(nb):
        return
    name = nb.metadata.get("manual_payout", {}).get("template") or _reviewed_name(nb)
    raise RefusedError(
        f"{template} is the record of a run that was, and no template; nothing ran.",
        f"Run the template runbooks/{name}.ipynb." if name else "Run the template that it was made from.",
    )


def _is_record(nb: NotebookNode) -> bool:
    # papermill, ours and stock, notes in a notebook when its run began, and in each cell how it ended.
    records = [nb.metadata.get("papermill", {}), *(cell.metadata.get("papermill", {}) for cell in nb.cells)]
    began = any(record.get(mark) for record in records for mark in ("start_time", "end_time", "status"))
    return began or "manual_payout" in nb.metadata or any(is_banner(cell) for cell in nb.cells)


def hold_template(template: Path | str, nb: NotebookNode) -> None:
    """
    Refuse what papermill was given to run unless it is a reviewed template, or a notebook that has nothing to do with us.

    Raises:
        RefusedError: A cell is excused from running or failing, the notebook is the record of a run, or it is ours and not
            as it was reviewed.
    """
    refuse_record(template, nb)
    refuse(template, check_tags(nb, injected=True))
    named = Path(str(template)).stem in reviewed_digests()
    ours = named or any(cell.cell_type == "code" and _OURS.search(cell.source) for cell in nb.cells)
    if ours and _reviewed_name(nb) is None:
        refuse(template, ["Its cells are not those of a reviewed template."])


def hold_parameters(template: Path | str, nb: NotebookNode) -> None:
    """
    Refuse every parameter that was injected unless it is a known name with a plain value, and nothing else stands there.

    Raises:
        ParameterError: A name is not known to the notebook, or a value is no JSON scalar.

        RefusedError: The injected cell is not exactly the parameters on record, stands elsewhere, or there are several.
    """
    given: Mapping[str, Any] = nb.metadata.get("papermill", {}).get("parameters") or {}
    injected = [index for index, cell in enumerate(nb.cells) if INJECTED_TAG in tags_of(cell)]
    if not given and not injected:
        return
    check_parameters(given, dict.fromkeys(_known_names(nb), PLAIN))
    after = next((index for index, cell in enumerate(nb.cells, 1) if PARAMETERS_TAG in tags_of(cell)), None)
    if injected != [after]:
        refuse(template, [f"Injected parameters stand at {injected} among its cells, expected at [{after}]."])
    cell = nb.cells[injected[0]]
    if cell.cell_type != "code" or tags_of(cell) != [INJECTED_TAG]:
        refuse(template, [f"The cell of injected parameters is {cell.cell_type} with the tags {tags_of(cell)}."])
    refuse(template, check_injected(cell.source, nb))


def _known_names(nb: NotebookNode) -> set[str]:
    names = set(declared_parameters(nb))
    # One file of parameters serves all stages: each takes what another one declares, and compares or leaves it.
    return names | {*STAGE_PARAMETERS, *CLOSE_PARAMETERS} if (_reviewed_name(nb) or "")[:1].isdigit() else names


def _reviewed_name(nb: NotebookNode) -> str | None:
    """Return which reviewed template *nb* is when what a run has added is left out; None if it is none of them."""
    digest = digest_of(nb, [cell for cell in nb.cells if INJECTED_TAG not in tags_of(cell) and not is_banner(cell)])
    return next((name for name, reviewed in reviewed_digests().items() if reviewed == digest), None)


class PlainTranslator(PythonTranslator):  # type: ignore[misc]  # papermill is untyped
    """Writes parameters as papermill does, once they are known to be plain: the first lock, also of ``--prepare-only``."""

    @classmethod
    def codify(cls, parameters: Mapping[str, Any], comment: str = "Parameters") -> str:
        """
        Return the source of the cell that papermill injects.

        Raises:
            ParameterError: A name is no identifier, or a value no JSON scalar; papermill's command shows the sentence.
        """
        try:
            # Which names the template knows is asked before it runs; here it is only what could be code.
            check_parameters(parameters, {name: PLAIN for name in parameters if _is_plain_name(name)})
        except ParameterError as error:
            raise for_papermill(error) from None
        source: str = super().codify(parameters, comment)
        return source


def _is_plain_name(name: object) -> bool:
    return type(name) is str and re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII) is not None


def for_papermill(error: ManualPayoutError, redactor: Redactor | None = None) -> ManualPayoutError:
    """Return *error* as one that papermill's command shows as its sentence, without a traceback, and exits with its code."""
    import os

    from click import ClickException

    clean = redactor or Redactor.from_environment(os.environ)
    kind = type(error)
    shown: type[ManualPayoutError] = type(
        kind.__name__,
        (kind, ClickException),
        {"__module__": kind.__module__, "format_message": lambda self: f"{self.title}: {self}", "show": _show},
    )
    copy = shown.__new__(shown, *error.args)
    copy.__dict__.update(error.__dict__, message=clean.redact(error.message), remedy=clean.redact(error.remedy))
    return copy


def _show(self: Any, file: Any = None) -> None:
    import click

    click.echo(self.format_message(), file=file, err=file is None)


papermill_translators.register(TRANSLATOR, PlainTranslator)
