"""Stripe's own library for Node against the sandbox."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

from tests.conformance.suites import FAILED, HERE, PASSED

from local_stripe import FULL_KEY, SandboxAccount, running

PACKAGE, VERSION = "stripe", "23.1.0"
_ACCOUNT = SandboxAccount("acct_123", payout_schedule="manual", available=(("usd", 50_000),))


def run_node(folder: Path) -> dict[str, str]:
    """Install the library in *folder* and do with it what clients do; returns what came of each thing, by its name."""
    folder.mkdir()
    script = Path(shutil.copy(HERE / "stripe_node.mjs", folder))
    subprocess.run(
        ["npm", "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(folder),
         f"{PACKAGE}@{VERSION}"],
        check=True,
    )  # fmt: skip
    with running(accounts=[_ACCOUNT], available={"usd": 500_000}) as sandbox:
        address = urlsplit(sandbox.base_url)
        done = subprocess.run(
            ["node", script.name, str(address.hostname), str(address.port), FULL_KEY, _ACCOUNT.id],
            cwd=folder, capture_output=True, text=True, check=True,
        )  # fmt: skip
    return read_lines(done.stdout)


def read_lines(text: str) -> dict[str, str]:
    """Read what the script prints: a word and a name on each line, with the reason behind one that failed."""
    found = re.findall(rf"^({PASSED}|{FAILED}) (.+)$", text, re.MULTILINE)
    return {name: what for what, name in found}
