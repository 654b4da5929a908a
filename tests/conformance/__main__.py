"""
Run other people's tests against ours, and write docs/conformance.md. ``python -m tests.conformance``

It needs the network, for the source distributions that the lock names by their hashes and for what their tests need, which
goes into a virtual environment of its own. What differs has to stand in expected.toml, with the reason.
"""

from __future__ import annotations

import platform
import subprocess
import sys
import sysconfig
import tempfile
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from tests.conformance.node import VERSION, run_node
from tests.conformance.suites import (
    FAILED,
    HERE,
    PASSED,
    ROOT,
    SKIPPED,
    SUITES,
    Suite,
    expected_differences,
    locked,
    run_tests,
    unexpected,
    unpacked,
)

PAGE = ROOT / "docs" / "conformance.md"
LOCK = ROOT / "requirements.txt"


def environment(folder: Path) -> Path:
    """Make a virtual environment that has what this one has, and what other people's tests need; returns its Python."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / "bin" / "python"
    paths = sysconfig.get_paths(vars={"base": str(folder), "platbase": str(folder)})
    line = f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n"
    (Path(paths["purelib"]) / "_project.pth").write_text(line, "utf-8")
    subprocess.run(
        [
            str(python),
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "-r",
            str(HERE / "requirements.txt"),
        ],
        check=True,
    )
    return python


def play(suite: Suite, python: Path, folder: Path) -> tuple[Counter[str], dict[str, str], list[str]]:
    """
    Run one suite.

    Returns:
        How many passed, failed and were skipped; why each of those that failed did; and what nobody expected.
    """
    source = unpacked(suite, folder, LOCK.read_text("utf-8"))
    found = run_tests(python, source, [suite.tests], suite)
    expected = expected_differences(suite.package)
    reasons = {test: reason for test, reason in expected.items() if found.get(test) == FAILED}
    again = [test for test, what in found.items() if what == FAILED and test not in expected]
    if again:
        # Alone, a test that a busy machine was too slow for passes; and what is broken for itself fails without us.
        found |= run_tests(python, source, again, suite)
        theirs = run_tests(python, source, again, suite, ours=False)
        for test in again:
            if found[test] == theirs[test] == FAILED:
                expected[test] = reasons[test] = "It fails in the same way without anything of ours."
    return Counter(found.values()), reasons, unexpected(found, expected)


def page(rows: list[str], differences: list[str]) -> str:
    """Write the page of what was found today."""
    today = (
        f"{datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    )
    head = (HERE / "page.md").read_text("utf-8")
    return head.format(today=today, rows="\n".join(rows), differences="\n".join(differences))


def row_of(package: str, version: str, under: str, counts: Counter[str]) -> str:
    """Return a row of the table."""
    figures = (f"{counts[PASSED]} of {counts.total()}", counts[SKIPPED], counts[FAILED])
    return "| " + " | ".join(map(str, (package, version, under, *figures))) + " |"


def main() -> int:
    """Run everything; the exit code is 1 where something differs that nobody expected."""
    rows, differences, findings = [], [], []
    with tempfile.TemporaryDirectory(prefix="conformance-") as name:
        found = run_node(Path(name) / "node")
        rows.append(row_of("stripe-node", VERSION, "our sandbox as Stripe", Counter(found.values())))
        findings += unexpected(found, expected_differences("stripe-node"))
        say(rows[-1])
        python = environment(Path(name) / "venv")
        for suite in SUITES:
            counts, reasons, strange = play(suite, python, Path(name))
            version, _ = locked(suite.package, LOCK.read_text("utf-8"))
            rows.append(row_of(suite.package, version, suite.under, counts))
            findings += strange
            say(rows[-1])
            for reason in dict.fromkeys(reasons.values()):
                tests = [test for test, why in reasons.items() if why == reason]
                differences += ["", f"**{suite.package}**: {reason}", "", *(f"- `{test}`" for test in tests)]
    if findings:
        say("\n".join(findings))
        return 1
    PAGE.write_text(page(rows, differences), "utf-8")
    return 0


def say(line: str) -> None:
    """Show what was found so far."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
