"""The test suites of papermill, nbclient and jupyter_client: which they are, how they are run, and what came of each test."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PROVISIONER = "manual-payout-warm"

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"


@dataclass(frozen=True)
class Suite:
    """
    One package's own tests.

    Attributes:
        package: Its name in the lock.

        tests: Where they lie in its source distribution.

        under: What of ours stands in for its own.

        options: What pytest is given.

        variables: What its environment is given.
    """

    package: str
    tests: str
    under: str
    options: tuple[str, ...] = ()
    variables: tuple[tuple[str, str], ...] = ()


_LOOPS = ("-o", "asyncio_default_fixture_loop_scope=function")
_OURS = (("JUPYTER_DEFAULT_PROVISIONER_NAME", PROVISIONER),)

SUITES = (
    Suite("papermill", "papermill/tests", "our engine as papermill's default", ("-p", "ours_as_default")),
    Suite("nbclient", "tests", "our provisioner as Jupyter's default", _LOOPS, _OURS),
    Suite("jupyter-client", "tests", "our provisioner as Jupyter's default", _LOOPS, _OURS),
)


def locked(package: str, lock: str) -> tuple[str, str]:
    """Return the version of *package* in the text of the lock, and its whole entry with the hashes."""
    found = re.search(rf"^{package}==(\S+) \\\n(?:    --hash=\S+(?: \\)?\n)+", lock, re.MULTILINE)
    if found is None:
        raise LookupError(f"The lock names no {package} with hashes.")
    return found[1], found[0]


def unpacked(suite: Suite, folder: Path, lock: str) -> Path:
    """Download the source distribution of exactly the locked version, by its hash, and unpack it in *folder*."""
    version, entry = locked(suite.package, lock)
    wanted = folder / f"{suite.package}.txt"
    wanted.write_text(entry, "utf-8")
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", "--require-hashes",
         "--disable-pip-version-check", "--dest", str(folder), "-r", str(wanted)],
        check=True,
    )  # fmt: skip
    name = f"{suite.package.replace('-', '_')}-{version}"
    with tarfile.open(folder / f"{name}.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    return folder / name


def run_tests(python: Path, folder: Path, tests: Sequence[str], suite: Suite, *, ours: bool = True) -> dict[str, str]:
    """Run *tests* in *folder* with what is ours, or with what is their own; returns what came of each, by its name."""
    report = folder / "report.xml"
    report.unlink(missing_ok=True)
    options = (
        suite.options if ours else tuple(option for option in suite.options if option not in {"-p", "ours_as_default"})
    )
    programs = os.pathsep.join([str(python.parent), str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    subprocess.run(
        [str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "addopts=", "-o", "junit_family=xunit1",
         f"--junitxml={report}", *options, *tests],
        cwd=folder, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env=os.environ | (dict(suite.variables) if ours else {}) | {"PYTHONPATH": f"{HERE}{os.pathsep}{folder}", "PATH": programs},
    )  # fmt: skip
    if not report.exists():
        raise LookupError(f"The tests of {suite.package} could not be run in {folder}.")
    return read_report(report.read_text("utf-8"))


def read_report(text: str) -> dict[str, str]:
    """Read pytest's report; a test that also failed while it was set up or torn down has failed."""
    found: dict[str, str] = {}
    for case in ET.fromstring(text).iter("testcase"):  # written by the pytest that we have just run
        bad = case.find("failure") is not None or case.find("error") is not None
        what = FAILED if bad else SKIPPED if case.find("skipped") is not None else PASSED
        file = case.get("file") or f"{case.get('classname', '').replace('.', '/')}.py"
        classes = case.get("classname", "").removeprefix(file.removesuffix(".py").replace("/", ".")).strip(".")
        name = "::".join(part for part in (file, *classes.split("."), case.get("name", "")) if part)
        found[name] = FAILED if found.get(name) == FAILED else what
    return found


def expected_differences(package: str) -> dict[str, str]:
    """Return the reason why each test of *package* that is meant to fail with what is ours does."""
    groups = tomllib.loads((HERE / "expected.toml").read_text("utf-8")).get(package, [])
    return {test: group["reason"] for group in groups for test in group["tests"]}


def unexpected(found: Mapping[str, str], expected: Mapping[str, str]) -> list[str]:
    """Say of each test that failed without a reason, and of each reason whose test did not fail."""
    failed = {test for test, what in found.items() if what == FAILED}
    return [f"{test} fails, and nothing says that it may." for test in sorted(failed - set(expected))] + [
        f"{test} is expected to fail, and {'passes' if test in found else 'was not run'}."
        for test in sorted(set(expected) - failed)
    ]
