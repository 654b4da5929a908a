"""
Which notebooks may run, with which parameters, and whether an executed one is still the reviewed one.

One word of metadata switches a gate off: papermill skips a cell tagged ``skip-execution`` and goes on after one tagged
``raises-exception``, and the payment behind it is made. A parameter's *name*, a tuple or a YAML tag becomes code. All
of that is refused here, before anything runs. The gates themselves stand in the library, not in the order of cells:
this is the second lock.
"""

from __future__ import annotations

import ast
import difflib
import hashlib
import json
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import nbformat

from truthful_papermill.errors import EvidenceError, ParameterError, shorten
from truthful_papermill.plain_text import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from nbformat import NotebookNode

PARAMETERS_TAG = "parameters"
INJECTED_TAG = "injected-parameters"
# Marks the cells at the top of a saved notebook that say how the run ended; they are not part of the template.
BANNER_TAG = "truthful-papermill-banner"
PAPERMILL_BANNER_TAG = "papermill-error-cell-tag"
# Under which key of a notebook's metadata the engine says which template it ran, and how its kernel was started.
RECORD_KEY = "truthful_papermill"

REFUSED_TAGS = {
    "skip-execution": "papermill and nbclient leave the cell out and call it completed",
    "raises-exception": "papermill, nbclient and nbval run the cells after it although it failed",
    # nbval runs our templates in the regression suite: a gate that it leaves out is not tested, and the cell after it
    # runs. Its tags on outputs (nbval-ignore-output, nbval-check-output) change no execution and are welcome.
    "nbval-skip": "nbval leaves the cell out and runs the ones after it",
    "nbval-raises-exception": "nbval accepts that the cell fails",
    INJECTED_TAG: "papermill replaces this cell instead of adding its own after the parameters",
    PAPERMILL_BANNER_TAG: "papermill removes the cell before it runs the notebook",
    BANNER_TAG: "it marks the cell with which the engine says how a run ended",
}
_REFUSED_COMMENT = re.compile(r"^\s*#\s*NBVAL_(SKIP|RAISES_EXCEPTION)", re.MULTILINE | re.IGNORECASE)

# Long enough for an incident note, short enough that a parameter is never a document.
LONGEST_TEXT = 10_000
# No amount has more; Python would not even write out a number of some thousand digits.
LARGEST_WHOLE = 10**18 - 1
_SCALARS = (str, int, float, bool, type(None))

# What papermill writes for a JSON scalar. Nothing in it is a sign to IPython, and a line end cannot hide in a text.
_INJECTED_LINE = re.compile(
    r"""[A-Za-z_]\w* = (?:None|True|False|-?[0-9][0-9.]*(?:e[-+]?[0-9]+)?|"(?:[ !#-\[\]-~]|\\[ -~])*")""", re.ASCII
)

_LOGIC: dict[type[ast.AST], str] = {
    ast.FunctionDef: "a def",
    ast.AsyncFunctionDef: "a def",
    ast.Lambda: "a lambda",
    ast.ClassDef: "a class",
    ast.For: "a loop",
    ast.AsyncFor: "a loop",
    ast.While: "a loop",
    ast.comprehension: "a loop",
    ast.If: "an if",
    ast.IfExp: "an if",
    ast.Match: "a match",
    ast.Try: "a try",
    ast.TryStar: "a try",
}
# `exit` ends the kernel and reports success; `get_ipython` is how a magic looks without its sign.
_FORBIDDEN_NAMES = {"exit", "quit", "get_ipython", "exec", "eval"}


@dataclass(frozen=True)
class Template:
    """
    A notebook as reviewed.

    Attributes:
        name: File name without its suffix, such as ``2-execute``.

        path: Where it was read.

        digest: SHA-256 of its canonical form, 64 hexadecimal digits; see :func:`digest_of`.
    """

    name: str
    path: Path
    digest: str


class DeclaredParameter(NamedTuple):
    """One line of the parameters cell: name, annotation or ``"None"``, default and help as papermill shows them."""

    name: str
    annotation: str
    default: str
    help: str


def load_template(path: Path) -> Template:
    """
    Read the notebook at *path* and digest it.

    Raises:
        EvidenceError: The file is missing, damaged or not a notebook.
    """
    return Template(name=path.stem, path=path, digest=digest_of(read_notebook(path)))


def read_notebook(path: Path) -> NotebookNode:
    """
    Read a notebook, saved by whatever tool, as format 4.

    Raises:
        EvidenceError: The file is missing, truncated, not UTF-8, or not a notebook.
    """
    try:
        text = path.read_bytes().decode()
        nb: NotebookNode = nbformat.reads(text, as_version=4)  # type: ignore[no-untyped-call]  # untyped upstream
        nbformat.validate(nb)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, nbformat.ValidationError) as error:
        raise EvidenceError(
            f"{path.name} cannot be read as a notebook: {type(error).__name__}.",
            "Keep the file as it is, and look for an undamaged copy of it.",
        ) from error
    return nb


def digest_of(nb: NotebookNode, cells: Iterable[NotebookNode] | None = None) -> str:
    """Digest what decides what a notebook, or *cells* of it, does and says: type, source and tags of every cell, in order."""
    taken = nb.cells if cells is None else cells
    said = [[cell.cell_type, cell.source, sorted(tags_of(cell))] for cell in taken]
    return hashlib.sha256(json.dumps(said, ensure_ascii=True, separators=(",", ":")).encode()).hexdigest()


def tags_of(cell: NotebookNode) -> list[str]:
    """Return the tags of *cell*."""
    return list(cell.metadata.get("tags", []))


def is_banner(cell: NotebookNode) -> bool:
    """Tell whether our engine or papermill put *cell* there to say how the run ended."""
    return cell.cell_type == "markdown" and not {BANNER_TAG, PAPERMILL_BANNER_TAG}.isdisjoint(tags_of(cell))


def heading_above(nb: NotebookNode, index: int) -> str:
    """Return the nearest Markdown heading above the cell at *index*, or an empty string."""
    above = (cell for cell in reversed(nb.cells[: index + 1]) if cell.cell_type == "markdown" and not is_banner(cell))
    headings = (re.findall(r"^#{1,6}\s+(.+?)\s*#*$", cell.source, re.MULTILINE) for cell in above)
    return next((found[-1] for found in headings if found), "")


def check_tags(nb: NotebookNode, *, injected: bool = False) -> list[str]:
    """
    Find the tags and comments with which a cell escapes its execution or its failure.

    Args:
        injected: Whether papermill has already added its cell of parameters, whose tag is then in order.

    Returns:
        One sentence for each finding.
    """
    excused = {INJECTED_TAG} if injected else set()
    found = [
        f"Cell {number} carries the tag {tag!r}: {REFUSED_TAGS[tag]}."
        for number, cell in enumerate(nb.cells, 1)
        for tag in tags_of(cell)
        if tag in REFUSED_TAGS.keys() - excused
    ]
    return found + [
        f"Cell {number} holds the comment {match[0].strip()!r}, which nbval obeys like a tag."
        for number, cell in enumerate(nb.cells, 1)
        for match in _REFUSED_COMMENT.finditer(cell.source)
    ]


def check_template(nb: NotebookNode) -> list[str]:
    """
    Find what forbids to run the template *nb*.

    Returns:
        One sentence for each finding; an empty list for a template that may run.
    """
    tagged = [cell for cell in nb.cells if PARAMETERS_TAG in tags_of(cell)]
    found = check_tags(nb)
    if len(tagged) != 1:
        found.append(f"{len(tagged)} cells carry the tag {PARAMETERS_TAG!r}, expected exactly one.")
    return found + [
        f"The cell with the tag {PARAMETERS_TAG!r} is a {cell.cell_type} cell, expected a code cell."
        for cell in tagged
        if cell.cell_type != "code"
    ]


def check_form(nb: NotebookNode) -> list[str]:
    """
    Find logic in *nb*: the house puts it into the library, where it has tests.

    Returns:
        One sentence for each kind of logic in each code cell.
    """
    return [
        f"Cell {number} holds {what}; a notebook has no logic, so move it into the library."
        for number, cell in enumerate(nb.cells, 1)
        if cell.cell_type == "code"
        for what in _logic_in(cell.source)
    ]


def _logic_in(source: str) -> list[str]:
    signs = re.findall(r"^\s*(?:[\w, ]+=\s*)?([!%?]{1,2})(?=[\w/. ])|(\?{1,2})\s*$", source, re.MULTILINE)
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return [f"a shell escape, magic or help request ({a or b})" for a, b in signs[:1]] or ["a syntax error"]
    kinds = {_LOGIC[type(node)] for node in ast.walk(tree) if type(node) in _LOGIC}
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} & _FORBIDDEN_NAMES
    return sorted(kinds) + [f"the name {name!r}" for name in sorted(names)]


def compare_code(executed_nb: NotebookNode, template_nb: NotebookNode) -> list[str]:
    """
    Find every difference between the code that ran and the code that was reviewed.

    The executed notebook must hold the template's code cells, unchanged and in order, and one cell of injected
    parameters directly after the parameters cell, which assigns plain values and nothing else.

    Returns:
        One sentence for each difference; an empty list where the code is the reviewed code.
    """
    template = [(cell.source, sorted(tags_of(cell))) for cell in template_nb.cells if cell.cell_type == "code"]
    executed = [(cell.source, sorted(tags_of(cell))) for cell in executed_nb.cells if cell.cell_type == "code"]
    injected = [at for at, (_, tags) in enumerate(executed) if INJECTED_TAG in tags]
    after = next((at for at, (_, tags) in enumerate(template, 1) if PARAMETERS_TAG in tags), None)
    if len(injected) != 1 or injected[0] != after:
        return [f"Injected parameters stand at {injected} among the code cells, expected at [{after}]."]
    source, _ = executed.pop(after)
    return check_injected(source, executed_nb) + _compare_cells(executed, template)


def _compare_cells(executed: list[tuple[str, list[str]]], template: list[tuple[str, list[str]]]) -> list[str]:
    if len(executed) != len(template):
        return [f"The notebook holds {len(executed)} code cells, the template {len(template)}."]
    return [
        f"Code cell {number} of the template has another {what}: {shorten(found)}, expected {shorten(expected)}."
        for number, (ran, reviewed) in enumerate(zip(executed, template, strict=True), 1)
        for what, found, expected in zip(("source", "tags"), ran, reviewed, strict=True)
        if found != expected
    ]


def check_injected(source: str, nb: NotebookNode) -> list[str]:
    """Find injected code that is no plain assignment, or that differs from the parameters on record."""
    try:
        assigned = injected_values(source)
    except (SyntaxError, ValueError):
        return ["The cell of injected parameters holds something other than known names with plain values."]
    recorded = dict(nb.metadata.get("papermill", {}).get("parameters", {}))
    if _typed(assigned) != _typed(recorded):
        return [f"The injected parameters {shorten(assigned)} are not those on record, {shorten(recorded)}."]
    return []


def injected_values(source: str) -> dict[str, Any]:
    """
    Read a cell of injected parameters: the comment that papermill begins it with, then one scalar to one name on each line.

    IPython rewrites a cell before Python reads it (magics, shell escapes, help, pasted prompts), and Python folds names that
    look alike. So the text itself has to be of this form, in ASCII, and the syntax tree has to say the same.

    Raises:
        ValueError: The cell holds anything else.
    """
    first, *lines = source.removesuffix("\n").split("\n")
    lines = [line for line in lines if line]
    if first != "# Parameters" or not all(_INJECTED_LINE.fullmatch(line) for line in lines):
        raise ValueError("a line is no assignment of a scalar to a name")
    values: dict[str, Any] = {}
    for statement in ast.parse(source).body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant() | ast.UnaryOp(operand=ast.Constant())):
                values[name] = ast.literal_eval(statement.value)
            case _:
                raise ValueError(ast.dump(statement))
    if len(values) != len(lines):
        raise ValueError("a name is assigned twice")
    return values


def _typed(values: Mapping[str, Any]) -> dict[str, tuple[type, Any]]:
    """Tell 1, 1.0 and True apart, which Python calls equal."""
    return {name: (type(value), value) for name, value in values.items()}


def check_parameters(values: Mapping[str, Any], allowed: Mapping[str, type | tuple[type, ...]]) -> None:
    """
    Refuse every parameter that is not a known name with a plain value of its type.

    Types are exact: ``True`` is no ``int`` here, and a subclass of ``str``, whose ``repr`` could be code, is no ``str``.

    Args:
        values: What was given; a missing name keeps the default of its notebook.

        allowed: The type or types of each known name, among ``str``, ``int``, ``float``, ``bool`` and ``NoneType``.

    Raises:
        ParameterError: The first parameter that is wrong.
    """
    for name, value in values.items():
        if type(name) is not str or name not in allowed:
            raise ParameterError(
                shown(str(name)), value, _known(str(name), allowed), "Use the name as it is documented."
            )
        kinds = allowed[name] if isinstance(allowed[name], tuple) else (allowed[name],)
        _check_value(name, value, kinds)  # type: ignore[arg-type]  # the line above made it a tuple


def _known(name: str, allowed: Iterable[str]) -> str:
    names = sorted(allowed)
    if not names:
        return "no parameter, since the notebook declares none"
    close = difflib.get_close_matches(name, names, n=1)
    return f"a known parameter; did you mean {close[0]}?" if close else f"one of {', '.join(names)}"


def _check_value(name: str, value: object, kinds: tuple[type, ...]) -> None:
    if type(value) not in kinds or type(value) not in _SCALARS:
        raise ParameterError(name, value, " or ".join(kind.__name__ for kind in kinds))
    if isinstance(value, int) and abs(value) > LARGEST_WHOLE:
        raise ParameterError(name, "a whole number", f"one of at most {len(str(LARGEST_WHOLE))} digits")
    if isinstance(value, float) and not math.isfinite(value):
        raise ParameterError(name, value, "a finite number")
    if isinstance(value, str) and len(value) > LONGEST_TEXT:
        raise ParameterError(name, value, f"at most {LONGEST_TEXT} characters")
    if isinstance(value, str) and any("\ud800" <= character <= "\udfff" for character in value):
        raise ParameterError(name, value, "text that UTF-8 can hold")


def declared_parameters(nb: NotebookNode) -> dict[str, DeclaredParameter]:
    """
    Return the parameters of *nb*, by name, as Python itself reads the parameters cell.

    Raises:
        ParameterError: The cell holds something other than ``name: type = default  # Help.``, one for each line.
    """
    cell = next((cell for cell in nb.cells if PARAMETERS_TAG in tags_of(cell)), None)
    source = cell.source if cell is not None else ""
    try:
        statements = ast.parse(source).body
    except (SyntaxError, ValueError):
        raise ParameterError(PARAMETERS_TAG, source, "one assignment on each line of the parameters cell") from None
    return {found.name: found for found in (_declared(node, source) for node in statements)}


def _declared(statement: ast.stmt, source: str) -> DeclaredParameter:
    match statement:
        case ast.AnnAssign(target=ast.Name(id=name), annotation=kind, value=ast.expr() as value):
            annotation = ast.unparse(kind)
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            annotation = "None"
        case _:
            raise ParameterError(
                PARAMETERS_TAG, ast.unparse(statement), "one assignment on each line of the parameters cell"
            )
    line = source.splitlines()[(value.end_lineno or 1) - 1].encode()
    comment = line[value.end_col_offset or 0 :].decode().partition("#")[2]
    return DeclaredParameter(name, annotation, ast.get_source_segment(source, value) or "", comment.strip())


def parameters_seen_alike(nb: NotebookNode) -> list[str]:
    """
    Find the parameters that papermill's own inspection reads otherwise than Python does.

    papermill reads the cell with a regular expression, which a ``|`` in a type or a second ``=`` on the line defeats:
    it then warns about a parameter that exists, or hides it from ``--help-notebook``.
    """
    python = declared_parameters(nb)
    seen = _inspect_notebook()(nb)
    papermill = {name: DeclaredParameter(name, *_papermill_view(entry)) for name, entry in seen.items()}
    return [
        f"{name}: papermill sees {papermill.get(name)}, Python sees {python.get(name)}."
        for name in sorted(python.keys() | papermill.keys())
        if papermill.get(name) != python.get(name)
    ]


def _papermill_view(entry: Mapping[str, str]) -> tuple[str, str, str]:
    return entry["inferred_type_name"], entry["default"], entry["help"]


def _inspect_notebook() -> Callable[[NotebookNode], dict[str, dict[str, str]]]:
    # papermill imports our engine, and with it this module, while it is itself being imported: ask for it late.
    from papermill.inspection import inspect_notebook

    inspect: Callable[[NotebookNode], dict[str, dict[str, str]]] = inspect_notebook
    return inspect
