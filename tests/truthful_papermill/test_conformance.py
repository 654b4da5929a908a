"""papermill's own tests of executing, which its package brings along, with our engine as its default."""

from __future__ import annotations

import sys
from pathlib import Path

import papermill
import pytest
from tests.conformance.node import read_lines
from tests.conformance.suites import SUITES, expected_differences, locked, read_report, run_tests, unexpected

ROOT = Path(__file__).parents[2]
TESTS = "papermill/tests/test_execute.py"


def test_papermill_executes_with_our_engine_as_with_its_own(tmp_path):
    """Working directory, kernel, parameters, errors: what differs stands in the list of what is meant to."""
    (tmp_path / "papermill").symlink_to(Path(papermill.__file__).parent)
    found = run_tests(Path(sys.executable), tmp_path, [TESTS], SUITES[0])
    expected = {test: why for test, why in expected_differences("papermill").items() if test.startswith(TESTS)}

    assert len(found) > len(expected) > 0
    assert [] == unexpected(found, expected)


def test_a_difference_without_a_reason_is_told_and_a_reason_without_one_too():
    """In both directions, so that the list stays true."""
    found = {"a": "passed", "b": "failed", "c": "failed", "d": "skipped"}

    assert [] == unexpected(found, {"b": "meant", "c": "meant"})
    assert [
        "c fails, and nothing says that it may.",
        "a is expected to fail, and passes.",
        "e is expected to fail, and was not run.",
    ] == unexpected(found, {"b": "meant", "a": "meant", "e": "meant"})


def test_a_report_names_tests_as_people_do():
    """By file, class and name; one that fails as it ends has failed."""
    report = """<testsuites><testsuite>
    <testcase classname="t.test_a.TestOne" file="t/test_a.py" name="test_x"/>
    <testcase classname="t.test_a.TestOne" file="t/test_a.py" name="test_x"><error message="left open"/></testcase>
    <testcase classname="t.test_a" file="t/test_a.py" name="test_y[1]"><skipped/></testcase>
    </testsuite></testsuites>"""

    assert {"t/test_a.py::TestOne::test_x": "failed", "t/test_a.py::test_y[1]": "skipped"} == read_report(report)


@pytest.mark.parametrize("package", [suite.package for suite in SUITES])
def test_every_suite_is_of_the_locked_version_by_its_hash(package):
    """Nothing else is downloaded."""
    version, entry = locked(package, (ROOT / "requirements.txt").read_text("utf-8"))

    assert entry.startswith(f"{package}=={version} ")
    assert entry.count("--hash=sha256:") >= 1


def test_what_the_script_of_node_prints_is_read_by_name():
    """A reason belongs to one that failed."""

    assert {"one: two": "passed", "three: it was not refused": "failed"} == read_lines(
        "passed one: two\nfailed three: it was not refused\nnoise\n"
    )
