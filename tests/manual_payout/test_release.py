"""What somebody who installs it asks first: which version, under which licence, and completion for their shell."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import manual_payout

ROOT = Path(__file__).parents[2]


def test_version_is_one_everywhere():
    """On the command line, in the package, in its metadata, and at the top of the changelog."""
    told = subprocess.run(
        [sys.executable, "-m", "manual_payout", "--version"], capture_output=True, text=True, check=True
    )
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    first = next(line for line in (ROOT / "CHANGELOG.md").read_text().splitlines() if line.startswith("## "))

    assert told.stdout.strip() == manual_payout.__version__ == declared["version"]
    assert f"## [{declared['version']}]" in first


def test_licence_is_in_the_metadata_and_in_the_tree():
    """The whole text of Apache-2.0."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    assert ("Apache-2.0", ["LICENSE"]) == (declared["license"], declared["license-files"])
    assert "Apache License" in (ROOT / "LICENSE").read_text()


def test_a_shell_completes_the_commands():
    """As Bash asks for it."""
    asked = {"_MANUAL_PAYOUT_COMPLETE": "complete_bash", "COMP_WORDS": "manual-payout re", "COMP_CWORD": "1"}
    program = [
        sys.executable,
        "-c",
        "import sys; from manual_payout.cli import main; sys.argv[0] = 'manual-payout'; main()",
    ]
    told = subprocess.run(program, env=os.environ | asked, capture_output=True, text=True, check=False)

    assert {"request", "reconcile", "rehearse", "reversal"} == set(told.stdout.split())
