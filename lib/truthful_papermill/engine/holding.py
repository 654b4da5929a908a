"""
What the engine holds against the notebook before a kernel starts: it is a template, a reviewed one, and what was
injected into it is known names with plain values.

papermill writes a parameter's name into the cell as it is, and most values that are no JSON scalar as well: both would be
code that runs before every gate, with the key in its environment.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from papermill.translators import PythonTranslator, papermill_translators

from truthful_papermill.engine.banner import Ending, no_ending
from truthful_papermill.errors import ExplainedError, ParameterError, RefusedError
from truthful_papermill.redaction import Redactor
from truthful_papermill.templates import (
    INJECTED_TAG,
    PARAMETERS_TAG,
    RECORD_KEY,
    check_injected,
    check_parameters,
    check_tags,
    declared_parameters,
    digest_of,
    is_banner,
    tags_of,
)

if TYPE_CHECKING:
    from typing import Any

    from nbformat import NotebookNode

PLAIN = (str, int, float, bool, type(None))
"""The types of JSON's scalars, which are all that a parameter can be."""

# The name under which papermill finds our translator; no kernel is called that.
TRANSLATOR = "truthful_papermill"


def _no_names(_: str | None) -> frozenset[str]:
    return frozenset()


@dataclass(frozen=True)
class House:
    """
    What somebody's own notebooks are known by. Without it, every notebook is somebody else's.

    Attributes:
        reviewed: The digest of each reviewed template, by its name.

        imports: Packages that only their notebooks import; one that does must be a reviewed one.

        also_known: Parameters that the reviewed template of a name may be given besides those that it declares.

        folder: Where the templates lie, for the sentence that says which to run instead.

        ending: Says in a few words what the outputs of their cells came to, for the banner.
    """

    reviewed: Mapping[str, str] = field(default_factory=dict)
    imports: tuple[str, ...] = ()
    also_known: Callable[[str | None], frozenset[str]] = _no_names
    folder: str = ""
    ending: Ending = no_ending

    def name_of(self, nb: NotebookNode) -> str | None:
        """Return which reviewed template *nb* is when what a run has added is left out; None if it is none of them."""
        digest = digest_of(nb, [cell for cell in nb.cells if INJECTED_TAG not in tags_of(cell) and not is_banner(cell)])
        return next((name for name, reviewed in self.reviewed.items() if reviewed == digest), None)

    def owns(self, template: Path | str, nb: NotebookNode) -> bool:
        """Say whether a notebook passes itself off as one of this house: by its name, or by what its code names."""
        named = re.compile(rf"\b({'|'.join(self.imports)})\b") if self.imports else None
        told = named and any(cell.cell_type == "code" and named.search(cell.source) for cell in nb.cells)
        return bool(told) or Path(str(template)).stem in self.reviewed


NO_HOUSE = House()


def refuse(template: Path | str, findings: list[str]) -> None:
    """Raise RefusedError if there are findings, sentences that say why *template* may not run."""
    if findings:
        raise RefusedError(
            f"{template} may not run: {' '.join(findings)}",
            "Run the reviewed template that came with this release.",
        )


def refuse_record(template: Path | str, nb: NotebookNode, house: House = NO_HOUSE) -> None:
    """
    Refuse the notebook of an earlier run as a template: its parameters were another run's, and it is evidence.

    Raises:
        RefusedError: It bears the marks of a run.
    """
    if not _is_record(nb):
        return
    name = nb.metadata.get(RECORD_KEY, {}).get("template") or house.name_of(nb)
    raise RefusedError(
        f"{template} is the record of a run that was, and no template; nothing ran.",
        f"Run the template {house.folder}{name}.ipynb." if name else "Run the template that it was made from.",
    )


def _is_record(nb: NotebookNode) -> bool:
    # papermill, ours and stock, notes in a notebook when its run began, and in each cell how it ended.
    records = [nb.metadata.get("papermill", {}), *(cell.metadata.get("papermill", {}) for cell in nb.cells)]
    began = any(record.get(mark) for record in records for mark in ("start_time", "end_time", "status"))
    return began or RECORD_KEY in nb.metadata or any(is_banner(cell) for cell in nb.cells)


def hold_template(template: Path | str, nb: NotebookNode, house: House = NO_HOUSE) -> None:
    """
    Refuse what papermill was given to run unless it is a reviewed template, or a notebook of another house.

    Raises:
        RefusedError: A cell is excused from running or failing, the notebook is the record of a run, or it is of this house and
            not as it was reviewed.
    """
    refuse_record(template, nb, house)
    refuse(template, check_tags(nb, injected=True))
    if house.owns(template, nb) and house.name_of(nb) is None:
        refuse(template, ["Its cells are not those of a reviewed template."])


def check_known(given: Mapping[str, Any], nb: NotebookNode, house: House) -> None:
    """
    Refuse what neither the notebook declares nor another one of its house, which it is given all the same.

    Raises:
        ParameterError: A name is not known, or a value is no JSON scalar.
    """
    known = {*declared_parameters(nb), *house.also_known(house.name_of(nb))}
    check_parameters(given, dict.fromkeys(known, PLAIN))


def hold_parameters(template: Path | str, nb: NotebookNode, house: House = NO_HOUSE) -> None:
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
    check_known(given, nb, house)
    after = next((index for index, cell in enumerate(nb.cells, 1) if PARAMETERS_TAG in tags_of(cell)), None)
    if injected != [after]:
        refuse(template, [f"Injected parameters stand at {injected} among its cells, expected at [{after}]."])
    cell = nb.cells[injected[0]]
    if cell.cell_type != "code" or tags_of(cell) != [INJECTED_TAG]:
        refuse(template, [f"The cell of injected parameters is {cell.cell_type} with the tags {tags_of(cell)}."])
    refuse(template, check_injected(cell.source, nb))


class PlainTranslator(PythonTranslator):  # type: ignore[misc]  # papermill is untyped
    """Writes parameters as papermill does, once they are known to be plain: the first lock, also of ``--prepare-only``."""

    @staticmethod
    def redactor() -> Redactor:
        """Return what a refusal passes before it is shown; whoever knows of secrets overrides it."""
        return Redactor()

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
            raise for_papermill(error, cls.redactor()) from None
        source: str = super().codify(parameters, comment)
        return source


def _is_plain_name(name: object) -> bool:
    return type(name) is str and re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII) is not None


def for_papermill(error: ExplainedError, clean: Redactor) -> ExplainedError:
    """Return *error* as one that papermill's command shows as its sentence, without a traceback, and exits with its code."""
    from click import ClickException

    kind = type(error)
    shown: type[ExplainedError] = type(
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
