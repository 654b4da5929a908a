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
LOCK = (ROOT / "requirements.txt").read_text("utf-8")
PINS = {
    Requirement(pin).name.lower().replace("_", "-"): Requirement(pin)
    for pin in re.findall(r"^(\S+==\S+(?: ; .+?)?) \\$", LOCK, re.MULTILINE)
}
DECLARED = [*PROJECT["dependencies"], *(one for extra in PROJECT["optional-dependencies"].values() for one in extra)]


@pytest.mark.parametrize("declared", DECLARED)
def test_lock_satisfies_what_is_declared(declared):
    """Every dependency of pyproject.toml is pinned in the lock at a version it allows."""
    wanted = Requirement(declared)
    pinned = PINS[wanted.name.lower().replace("_", "-")]

    assert wanted.specifier.contains(next(iter(pinned.specifier)).version)


def test_every_pin_has_hashes():
    """pip can check each file it installs."""
    blocks = re.split(r"^(?=\S+==)", LOCK, flags=re.MULTILINE)[1:]

    assert len(blocks) > 100
    assert all("--hash=sha256:" in block for block in blocks)


def test_lock_names_no_index():
    """Where packages come from is the business of whoever installs."""

    assert not re.search(r"https?://|--(extra-)?index-url|--find-links", LOCK)


def test_conda_environment_installs_the_same_lock():
    """environment.yml has Python as pyproject.toml demands it, and otherwise the lock itself."""
    environment = yaml.safe_load((ROOT / "environment.yml").read_text("utf-8"))
    pip = next(entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))

    assert ["-r requirements.txt"] == pip
    assert f"python{PROJECT['requires-python']}" in environment["dependencies"]


def test_scrapbooks_undeclared_dependency_is_declared():
    """scrapbook imports six without saying so."""

    assert "six" in PINS


def test_papermill_finds_our_engine():
    """`papermill --engine manual_payout` works after installation."""
    found = {point.name: point.value for point in entry_points(group="papermill.engine")}

    assert "manual_payout.desk.papermill_engine:PayoutEngine" == found["manual_payout"]


def test_executed_outputs_are_not_committed():
    """The ignore list is our own: it ignores outputs and not lib."""
    ignored = (ROOT / ".gitignore").read_text("utf-8").splitlines()

    assert "outputs/*" in ignored
    assert "lib/" not in ignored
