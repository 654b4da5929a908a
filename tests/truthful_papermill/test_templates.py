"""Only reviewed notebooks run, only with plain parameters, and an executed one can be held against its template."""

from __future__ import annotations

import copy

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook

from truthful_papermill.errors import EvidenceError, ParameterError
from truthful_papermill.templates import (
    LONGEST_TEXT,
    REFUSED_TAGS,
    DeclaredParameter,
    check_form,
    check_parameters,
    check_template,
    compare_code,
    declared_parameters,
    digest_of,
    heading_above,
    load_template,
    parameters_seen_alike,
)

PARAMETERS = 'amount: str = "1250.75"  # Decimal text.\ndry_run: bool = True  # Stop before Stripe.\nnotes = ""'
NAMES = {"amount": str, "dry_run": bool, "notes": (str, type(None)), "count": int}


def build_template():
    """A template as small as one can be."""
    nb = new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}})
    nb.cells = [
        new_markdown_cell("# About\n\nMoves money."),
        new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}),
        new_code_cell("from manual_payout import steps"),
        new_markdown_cell("## Send\n\nOnce."),
        new_code_cell("steps.send(amount)"),
    ]
    return nb


def build_executed(**parameters):
    """What papermill makes of the template before it runs it."""
    nb = load_notebook_node(build_template())
    return parameterize_notebook(nb, parameters, kernel_name="python3", language="python")


def test_the_reviewed_template_passes():
    """Nothing is found in a template as it should be."""
    assert ([], [], []) == tuple(f(build_template()) for f in (check_template, check_form, parameters_seen_alike))


def test_the_digest_follows_what_a_notebook_does_and_says():
    """Outputs, ids and execution counts do not count; source, type, tags and order of cells do."""
    reference = digest_of(build_template())
    ran = build_template()
    ran.cells[4].update(execution_count=4, outputs=[nbformat.v4.new_output("stream", text="x")], id="other")
    changed = [build_template() for _ in range(5)]
    changed[0].cells[4].source += " "
    changed[1].cells[3].source += "!"
    changed[2].cells[4].metadata["tags"] = ["x"]
    changed[3].cells.reverse()
    changed[4].cells[4].cell_type = "raw"

    assert reference == digest_of(ran)
    assert len({reference, *map(digest_of, changed)}) == 6


def test_a_saved_template_is_loaded_with_its_name(tmp_path):
    """The digest of the file is the digest of its cells, whatever the indentation of its JSON."""
    path = tmp_path / "2-execute.ipynb"
    nbformat.write(build_template(), path)
    template = load_template(path)

    assert ("2-execute", path, digest_of(build_template())) == (template.name, template.path, template.digest)


@pytest.mark.parametrize("content", [b"", b'{"cells": [', b"\xff\xfe", b"{}", b"[]", b'{"nbformat": 4, "cells": 1}'])
def test_a_damaged_notebook_is_called_damaged(tmp_path, content):
    """Damage is one clear error that names the file, and never a traceback from a JSON library."""
    path = tmp_path / "x.ipynb"
    path.write_bytes(content)

    with pytest.raises(EvidenceError, match=r"x\.ipynb cannot be read as a notebook"):
        load_template(path)


@pytest.mark.parametrize("tag", REFUSED_TAGS)
def test_a_tag_that_excuses_a_cell_is_refused(tag):
    """One word of metadata must not switch a gate off."""
    nb = build_template()
    nb.cells[4].metadata["tags"] = [tag]

    assert [f"Cell 5 carries the tag {tag!r}: {REFUSED_TAGS[tag]}."] == check_template(nb)


def test_a_comment_that_nbval_obeys_is_refused():
    """nbval takes the same orders from comments."""
    nb = build_template()
    nb.cells[4].source = "# NBVAL_SKIP\n" + nb.cells[4].source

    assert ["Cell 5 holds the comment '# NBVAL_SKIP', which nbval obeys like a tag."] == check_template(nb)


@pytest.mark.parametrize("count", [0, 2])
def test_exactly_one_cell_holds_parameters(count):
    """papermill puts its cell after the first one, or at the top if there is none: before the imports."""
    nb = build_template()
    nb.cells[1:2] = [nb.cells[1]] * count

    assert [f"{count} cells carry the tag 'parameters', expected exactly one."] == check_template(nb)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("def f(): pass", "a def"),
        ("class A: pass", "a class"),
        ("for x in y: pass", "a loop"),
        ("[x for x in y]", "a loop"),
        ("while True: pass", "a loop"),
        ("if a: b", "an if"),
        ("a if b else c", "an if"),
        ("try: a\nexcept E: b", "a try"),
        ("!rm -rf x", "a shell escape, magic or help request (!)"),
        ("a = !ls", "a shell escape, magic or help request (!)"),
        ("%env", "a shell escape, magic or help request (%)"),
        ("%%bash\nls", "a shell escape, magic or help request (%%)"),
        ("steps?", "a shell escape, magic or help request (?)"),
        ("get_ipython().system('ls')", "the name 'get_ipython'"),
        ("exit()", "the name 'exit'"),
        ("a b", "a syntax error"),
    ],
)
def test_logic_in_a_notebook_is_found(source, expected):
    """A notebook has no logic; it is a matter of form, not of safety, and reported apart."""
    nb = build_template()
    nb.cells[4].source = source

    assert [f"Cell 5 holds {expected}; a notebook has no logic, so move it into the library."] == check_form(nb)
    assert check_template(nb) == []


def test_an_executed_notebook_with_the_reviewed_code_passes():
    """Outputs and banners are no code."""
    nb = build_executed(amount='1"2', dry_run=False, notes="\\x\n€")
    nb.cells[5].outputs = [nbformat.v4.new_output("stream", text="x")]
    nb.cells.insert(0, new_markdown_cell("**Stopped**", metadata={"tags": ["papermill-error-cell-tag"]}))

    assert compare_code(nb, build_template()) == []


def _edit(index, source):
    def edit(nb):
        nb.cells[index].source = source

    return edit


@pytest.mark.parametrize(
    "tamper",
    [
        _edit(5, "steps.send(amount * 10)"),
        _edit(2, 'amount = "1"\nimport os'),
        _edit(2, 'amount = print("x")'),
        _edit(2, 'amount = "2"'),
        _edit(2, "amount = 1"),
        _edit(1, "amount = '9'"),
        lambda nb: nb.cells.pop(3),
        lambda nb: nb.cells.pop(2),
        lambda nb: nb.cells.append(new_code_cell("x")),
        lambda nb: nb.cells.insert(3, new_code_cell("amount = '9'")),
        lambda nb: nb.cells.append(nb.cells.pop(2)),
        lambda nb: nb.cells.append(copy.deepcopy(nb.cells[2])),
        lambda nb: nb.cells[3].update(cell_type="raw"),
        lambda nb: nb.cells[5].metadata.update(tags=["skip-execution"]),
        lambda nb: nb.cells[2].metadata.update(tags=[]),
        lambda nb: nb.metadata.papermill.update(parameters={"amount": "3"}),
    ],
)
def test_a_changed_code_cell_is_found(tamper):
    """Every change of code, order, tags or recorded parameters is named."""
    nb = build_executed(amount="1")
    tamper(nb)

    assert len(compare_code(nb, build_template())) >= 1


def test_plain_parameters_pass():
    """Every JSON scalar passes as the type that its name has."""
    assert check_parameters({"amount": "1250.75", "dry_run": False, "notes": None, "count": 3}, NAMES) is None


class Text(str):
    """A str that could have a repr of its own."""

    __slots__ = ()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("amount", 1250.75),
        ("amount", Text("1")),
        ("amount", ("1", "2")),
        ("amount", ["1"]),
        ("amount", {"a": 1}),
        ("amount", None),
        ("amount", b"1"),
        ("amount", "x" * (LONGEST_TEXT + 1)),
        ("amount", "\ud800"),
        ("count", True),
        ("count", float("nan")),
        ("count", "1"),
        ("dry_run", 0),
        ("amount=1;import os;x", "1"),
        (Text("amount"), "1"),
        (1, "1"),
    ],
)
def test_a_parameter_that_papermill_could_turn_into_code_is_refused(name, value):
    """Foreign names, sequences, subclasses and values of another type never reach papermill."""
    with pytest.raises(ParameterError):
        check_parameters({name: value}, NAMES)


def test_a_misspelt_name_is_answered_with_the_right_one():
    """papermill only warns, and runs with the default."""
    with pytest.raises(ParameterError, match="did you mean amount"):
        check_parameters({"amounts": "999"}, NAMES)


def test_a_float_must_be_finite():
    """JSON has no NaN."""
    with pytest.raises(ParameterError, match="a finite number"):
        check_parameters({"rate": float("inf")}, {"rate": float})


@given(st.dictionaries(st.sampled_from(sorted(NAMES)), st.text(st.characters(codec="utf-8"))))
def test_any_text_arrives_in_the_injected_cell_unchanged(values):
    """papermill's own escaping holds for every string; what is injected is what was given."""
    nb = build_executed(**values)

    assert compare_code(nb, build_template()) == []


def test_declared_parameters_are_read_as_python_reads_them():
    """Type, default and help."""
    expected = {
        "amount": DeclaredParameter("amount", "str", '"1250.75"', "Decimal text."),
        "dry_run": DeclaredParameter("dry_run", "bool", "True", "Stop before Stripe."),
        "notes": DeclaredParameter("notes", "None", '""', ""),
    }

    assert expected == declared_parameters(build_template())


@pytest.mark.parametrize("line", ["notes = 'a # b'", "a: int | None = 1", "b = 1  # At least >= 1.", "c: str = 'x=y'"])
def test_a_parameter_that_papermill_cannot_see_is_found(line):
    """A union in a type, the sign of a comment in a text, or a second equals sign on the line, hides a parameter from papermill."""
    nb = build_template()
    nb.cells[1].source = line

    assert len(parameters_seen_alike(nb)) == 1


def test_code_among_the_parameters_is_refused():
    """The parameters cell assigns, and does nothing else."""
    nb = build_template()
    nb.cells[1].source = "import os"

    with pytest.raises(ParameterError, match="one assignment on each line"):
        declared_parameters(nb)


def test_a_cell_is_titled_by_the_heading_above_it():
    """The nearest heading wins; banners are no headings."""
    nb = build_template()
    nb.cells.insert(5, new_markdown_cell("# Stopped", metadata={"tags": ["truthful-papermill-banner"]}))

    assert ["About", "About", "About", "Send", "Send"] == [heading_above(nb, index) for index in range(5)]
    assert heading_above(nb, 5) == "Send"
