"""Nothing but reviewed cells and plain parameters reaches a kernel, whichever door a notebook comes in by."""

from __future__ import annotations

import ast
import copy
import subprocess
import sys
from pathlib import Path

import nbformat
import papermill
import pytest
from hypothesis import given
from hypothesis import strategies as st
from IPython.core.inputtransformer2 import TransformerManager
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook

from manual_payout.desk.papermill_engine import HOUSE
from manual_payout.desk.reviewed import reviewed_digest
from manual_payout.domain.errors import ManualPayoutError, ParameterError, RefusedError
from manual_payout.domain.parameters import CLOSE_PARAMETERS, STAGE_PARAMETERS
from truthful_papermill.engine import execute
from truthful_papermill.engine.holding import PlainTranslator, hold_parameters, hold_template
from truthful_papermill.redaction import Redactor
from truthful_papermill.templates import read_notebook

RUNBOOKS = Path(__file__).parents[2] / "runbooks"
EXECUTE = RUNBOOKS / "2-execute.ipynb"
TEMPLATE = read_notebook(EXECUTE)


def injected(parameters, template=TEMPLATE):
    """What stock papermill makes of the template and *parameters*, before an engine sees it."""
    nb = load_notebook_node(copy.deepcopy(template))
    return parameterize_notebook(nb, parameters, kernel_name="python3", language="python")


class Number(int):
    """An int that writes itself as code."""

    def __format__(self, _):
        return "1\nimport os"


class Name(str):
    """A name that is equal to a known one, and writes itself as code."""

    __slots__ = ()

    def __format__(self, _):
        return "x = 1; import os; notes"


known = st.sampled_from(STAGE_PARAMETERS)
hostile_names = st.one_of(
    known.map(lambda name: f"x=1; import os; {name}"),
    known.map(lambda name: f"{name}: print(1)"),
    known.map(lambda name: f"{name} "),
    known.map(lambda name: f"%%bash\n{name}"),
    # The same name to Python, written with other characters.
    known.map(lambda name: "\N{MATHEMATICAL BOLD SMALL A}" + name),
    known.map(lambda name: name.replace("o", "\N{MASCULINE ORDINAL INDICATOR}")).filter(
        lambda name: name not in STAGE_PARAMETERS
    ),
    known.map(Name),
    st.sampled_from(["steps", "run", "__builtins__", "exit", "class", "", "*a", "a, b", "globals()['x']"]),
    st.text(max_size=10).filter(lambda name: name not in STAGE_PARAMETERS),
)
plain = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**17), 10**17),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(codec="utf-8")),
    st.sampled_from(
        ["%%bash", "!ls", "x?", "??x", '"', "\\", '\\"', "\r\n\f\v\x85\u2028", ">>> x", "In [1]: x", "'''", '"""']
    ),
)
hostile_values = st.one_of(
    st.binary(max_size=5),
    st.sampled_from([Number(1), Name("x"), float("nan"), float("inf"), 10**400, 10**5000, "\ud800", "x" * 10_001]),
    st.lists(plain, max_size=2),
    st.lists(st.tuples(st.text(max_size=5), plain), min_size=1, max_size=2),
    st.sets(st.text(max_size=5), max_size=2),
    st.dictionaries(st.text(max_size=5), plain, max_size=2),
    st.just('"; import os; "').map(lambda text: text.encode()),
    st.complex_numbers(),
)


@given(st.dictionaries(known, plain, min_size=1, max_size=4))
def test_plain_values_under_known_names_are_all_that_the_kernel_reads(values):
    """IPython rewrites nothing of the injected cell, and Python reads exactly what was given."""
    nb = injected(values)
    source = nb.cells[3].source
    hold_parameters("2-execute.ipynb", nb, HOUSE)
    read = {}
    exec(compile(ast.parse(source), "cell", "exec"), {"__builtins__": {}}, read)

    assert source == TransformerManager().transform_cell(source)
    assert {name: (type(value), value) for name, value in values.items()} == {
        name: (type(value), value) for name, value in read.items()
    }
    assert PlainTranslator.codify(values) == source


@given(good=st.dictionaries(known, plain, max_size=2), name=hostile_names, value=plain)
def test_a_name_that_the_template_does_not_know_is_refused(good, name, value):
    """papermill writes a name into the cell as it is."""
    # A dictionary would keep the key it has, were another one equal to it.
    others = {known: given for known, given in good.items() if known != name}
    with pytest.raises(ParameterError):
        hold_parameters("2-execute.ipynb", injected({**others, name: value}), HOUSE)


@given(good=st.dictionaries(known, plain, max_size=2), name=known, value=hostile_values)
def test_a_value_that_is_no_scalar_of_json_is_refused(good, name, value):
    """Our translator refuses it under ``--prepare-only`` too; the engine, should stock papermill have translated it."""
    values = {**good, name: value}
    with pytest.raises(ParameterError, match=name):
        PlainTranslator.codify(values)
    try:
        nb = injected(values)
    except (ValueError, AttributeError, TypeError):
        return  # papermill itself cannot write it
    with pytest.raises(ParameterError, match=name):
        hold_parameters("2-execute.ipynb", nb, HOUSE)


@pytest.mark.parametrize(
    "source",
    [
        '%%bash\n# Parameters\nnotes = "x"\n',
        '%%time\nnotes = "x"\n',
        '# Parameters\n%env A=1\nnotes = "x"\n',
        '# Parameters\n!ls\nnotes = "x"\n',
        "# Parameters\nnotes = !ls\n",
        '# Parameters\nnotes = "x"\nnotes?\n',
        '# Parameters\nnotes = "x"; import os\n',
        '# Parameters\nnotes = "x"\nimport os\n',
        '# Parameters\nnotes = "x"\nnotes = "x"\n',
        '# Parameters\nnotes = operator = "x"\n',
        '# Parameters\nnotes, = "x"\n',
        '# Parameters\nnotes: str = "x"\n',
        '# Parameters\nnotes: print(1) = "x"\n',
        '# Parameters\nnotes = f"x"\n',
        '# Parameters\nnotes = f"{print(1)}"\n',
        '# Parameters\nnotes = "x" "y"\n',
        '# Parameters\nnotes = ("x")\n',
        '# Parameters\nnotes = (notes := "x")\n',
        '# Parameters\nnotes += "x"\n',
        "# Parameters\nnotes = 'x'\n",
        '# Parameters\nnotes = """x"""\n',
        '# Parameters\nnotes = "x" # NBVAL_SKIP\n',
        '# Parameters\n# coding: utf-7\nnotes = "x"\n',
        '# -*- coding: utf-7 -*-\nnotes = "x"\n',
        '# Parameters\rimport os\nnotes = "x"\n',
        '# Parameters\n\fnotes = "x"\n',
        '# Parameters\nnotes = "x"\r\n',
        '# Parameters\nnotes = "\u00e9"\n',
        '# Parameters\nn\u00bates = "x"\n',
        '# Parameters\n>>> notes = "x"\n',
        '# Parameters\nIn [1]: notes = "x"\n',
        ' # Parameters\n notes = "x"\n',
        '# Parameters\nnotes = "x"\nsteps = None\n',
        '# Parameters\nnotes = "x\\\n"\n',
        "# Parameters\nnotes = --1\n",
        "# Parameters\nnotes = 1j\n",
        '# Parameters\nnotes = b"x"\n',
        "# Parameters\n",
        "",
    ],
)
def test_an_injected_cell_that_is_anything_else_is_refused(source):
    """Also where somebody edited it after papermill prepared it: the text decides, not what papermill recorded."""
    nb = injected({"notes": "x"})
    nb.cells[3].source = source

    with pytest.raises(RefusedError, match="may not run"):
        hold_parameters("2-execute.ipynb", nb, HOUSE)


@pytest.mark.parametrize(
    "tamper",
    [
        lambda nb: nb.cells.append(copy.deepcopy(nb.cells[3])),
        lambda nb: nb.cells.append(nb.cells.pop(3)),
        lambda nb: nb.cells.insert(0, nb.cells.pop(3)),
        lambda nb: nb.cells.pop(3),
        lambda nb: nb.cells[3].update(cell_type="markdown"),
        lambda nb: nb.cells[3].metadata.tags.append("parameters"),
        lambda nb: nb.metadata.papermill.update(parameters={"notes": "y"}),
        lambda nb: nb.metadata.papermill.update(parameters={}),
        lambda nb: nb.metadata.papermill.pop("parameters"),
    ],
)
def test_an_injected_cell_elsewhere_twice_or_off_the_record_is_refused(tamper):
    """There is one, behind the parameters, and it is what is on record."""
    nb = injected({"notes": "x"})
    tamper(nb)

    with pytest.raises(RefusedError, match="may not run"):
        hold_parameters("2-execute.ipynb", nb, HOUSE)


@pytest.mark.parametrize("stage", sorted(path.stem for path in RUNBOOKS.glob("[1-6]-*.ipynb")))
def test_one_file_of_parameters_serves_every_stage(stage):
    """The SOP's twelve and those of closing may be given to any of them."""
    nb = injected(dict.fromkeys(STAGE_PARAMETERS + CLOSE_PARAMETERS, "x"), read_notebook(RUNBOOKS / f"{stage}.ipynb"))

    assert (None, None) == (hold_template(f"{stage}.ipynb", nb, HOUSE), hold_parameters(f"{stage}.ipynb", nb, HOUSE))


def _edit(nb):
    nb.cells[-5].source = "run.desk.settings"


def _without_its_name(nb):
    nb.metadata.papermill.input_path = "mine.ipynb"
    nb.cells.append(new_code_cell("1"))


@pytest.mark.parametrize(
    "tamper",
    [
        _edit,
        _without_its_name,
        lambda nb: nb.cells.insert(0, new_code_cell("import os")),
        lambda nb: nb.cells.insert(3, new_code_cell("dry_run = False")),
        lambda nb: nb.cells.append(new_markdown_cell("Nothing moves.")),
        lambda nb: nb.cells[3].metadata.tags.append("hide-input"),
        lambda nb: nb.cells.clear(),
    ],
)
def test_a_notebook_of_ours_that_was_not_reviewed_is_refused(tamper):
    """By its name, or because it names the library; what has nothing to do with us may run."""
    nb = load_notebook_node(copy.deepcopy(TEMPLATE))
    nb.metadata.papermill["input_path"] = "runbooks/2-execute.ipynb"
    tamper(nb)

    with pytest.raises(RefusedError, match="not those of a reviewed template"):
        hold_template(nb.metadata.papermill.input_path, nb, HOUSE)


# Through papermill, with nothing in between --------------------------------------------------------------------------


def papermill_command(folder, *options, template=EXECUTE):
    """Run papermill's command on the template; returns its exit code, what it said, and the names of what it left."""
    before = {path.name for path in folder.iterdir()}
    done = subprocess.run(
        [sys.executable, "-m", "papermill", "--engine", "manual_payout", "--no-progress-bar", *options, str(template), "out.ipynb"],
        cwd=folder, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    return done.returncode, done.stderr, {path.name for path in folder.iterdir()} - before


PLANT = "__import__('os').system('touch planted')"


@pytest.mark.parametrize(
    ("field", "yaml", "options"),
    [
        ("notes", f'notes: !!omap [{{a: "x"}}, {{b: "{PLANT}"}}]', ()),
        ("notes", f"notes: !!set {{ 'x\"; {PLANT.replace(chr(39), chr(39) * 2)}; \"': null }}", ("--prepare-only",)),
        ("x=1", f'"x=1; {PLANT}; notes": "x"', ()),
        ("incident", 'incident: "INC-123"', ()),
    ],
)
def test_papermill_answers_code_among_its_parameters_with_one_sentence(tmp_path, field, yaml, options):
    """It names the parameter, exits with 2, and leaves nothing: no kernel has run a line, no file was written."""
    code, shown, left = papermill_command(tmp_path, *options, "-y", yaml)

    assert (2, set()) == (code, left)
    assert shown.splitlines()[-1].startswith(f"Cannot start: {field}")
    assert "Traceback" not in shown


def test_papermill_in_python_refuses_what_writes_itself_as_code(tmp_path):
    """An int of a class of its own is an int to papermill, which asks it to write itself."""
    with pytest.raises(ParameterError, match="amount: found") as refused:
        papermill.execute_notebook(
            str(EXECUTE), str(tmp_path / "out.ipynb"), {"amount": Number(1)}, engine_name="manual_payout"
        )

    assert (2, []) == (refused.value.exit_code, list(tmp_path.iterdir()))


def test_a_record_of_a_run_is_refused_as_a_template(tmp_path):
    """By papermill, with its parameters or others, and by the runner; the sentence says what to run instead."""
    nb = injected({"notes": "x"})
    nb.metadata["truthful_papermill"] = {"template": "2-execute"}
    nb.metadata.papermill.update(start_time="2026-03-14T02:00:00", end_time="2026-03-14T02:00:01")
    record = tmp_path / "2-execute-01.ipynb"
    nbformat.write(nb, record)
    expected = (
        "is the record of a run that was, and no template; nothing ran. Run the template runbooks/2-execute.ipynb."
    )

    for options in ((), ("-p", "notes", "y")):
        code, shown, left = papermill_command(tmp_path, *options, template=record)
        assert (3, set()) == (code, left)
        assert shown.endswith(f"{expected}\n")
        assert "Traceback" not in shown
    with pytest.raises(RefusedError, match="no template; nothing ran"):
        execute(
            record,
            tmp_path / "out.ipynb",
            {},
            redactor=Redactor(),
            expected_digest=reviewed_digest("2-execute"),
            house=HOUSE,
        )


@pytest.mark.parametrize(
    "mark",
    [
        lambda nb: nb.metadata.papermill.update(start_time="2026-03-14T02:00:00"),
        lambda nb: nb.cells[2].metadata.papermill.update(status="completed"),
        lambda nb: nb.metadata.update(truthful_papermill={}),
        lambda nb: nb.cells.insert(0, new_markdown_cell("x", metadata={"tags": ["truthful-papermill-banner"]})),
    ],
)
def test_any_mark_of_a_run_makes_a_record(mark):
    """Also of a run without parameters, whose cells are those of the template."""
    nb = load_notebook_node(copy.deepcopy(TEMPLATE))
    hold_template("x.ipynb", nb, HOUSE)
    mark(nb)

    with pytest.raises(RefusedError, match=r"Run the template runbooks/2-execute\.ipynb"):
        hold_template("x.ipynb", nb, HOUSE)


def test_a_notebook_that_is_not_ours_runs_with_the_parameters_it_declares():
    """The engine is of use to others; what is injected is held all the same."""
    nb = new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "P", "language": "python"}})
    nb.cells = [new_code_cell("rate = 1", metadata={"tags": ["parameters"]}), new_code_cell("rate")]

    assert None is hold_template("x.ipynb", injected({"rate": 2.5}, nb), HOUSE)
    assert None is hold_parameters("x.ipynb", injected({"rate": 2.5}, nb), HOUSE)
    with pytest.raises(ManualPayoutError, match=r"rates: .* did you mean rate"):
        hold_parameters("x.ipynb", injected({"rates": 2.5}, nb), HOUSE)
    nb.cells[0].source = "%matplotlib inline"
    with pytest.raises(ManualPayoutError, match="one assignment on each line"):
        hold_parameters("x.ipynb", injected({"rate": 2.5}, nb), HOUSE)
    nb.cells.pop(0)
    with pytest.raises(ManualPayoutError, match="declares none"):
        hold_parameters("x.ipynb", injected({"rate": 2.5}, nb), HOUSE)
