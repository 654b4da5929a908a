"""A command imports what it needs to answer, and nothing that only another one needs."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

# What costs a tenth of a second or more, and belongs to notebooks and to Stripe.
HEAVY = (
    "papermill",
    "pandas",
    "numpy",
    "stripe",
    "nbformat",
    "nbconvert",
    "jupyter_client",
    "scrapbook",
    "IPython",
    "asyncssh",
)

COMMAND = """\
import json, sys
from manual_payout.cli import main
sys.argv = ["manual-payout", *sys.argv[1:]]
try:
    main()
    code = 0
except SystemExit as end:
    code = end.code
print(json.dumps([code, sorted(sys.modules)]))
"""


def modules_of(code, *arguments, **process):
    """Run *code* in a process of its own; returns the last line of what it prints as JSON."""
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, **process)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("command", ["--help", "run --help", "status"])
def test_help_and_status_import_neither_papermill_nor_pandas_nor_stripe(quiet_shell, command):
    """Whoever only asks is answered at once."""
    code, modules = modules_of(COMMAND, *command.split(), env=quiet_shell.environment)

    assert 0 == code
    assert [] == [name for name in HEAVY if name in modules]


def test_the_runner_imports_no_pandas_and_no_stripe():
    """Its kernels do; it reads their results without."""
    found = modules_of("import json, sys, manual_payout.steps.runner\nprint(json.dumps(sorted(sys.modules)))")

    assert [] == [name for name in ("pandas", "numpy", "scrapbook", "stripe", "nbconvert", "pyarrow") if name in found]


def test_jsonschema_is_imported_without_the_grammar_that_nobody_needs():
    """The package that compiles it stays importable, and what was imported before is left alone."""
    pytest.importorskip("rfc3987_syntax")
    code = (
        "import json, sys\nfrom truthful_papermill.lean import leave_out_unused\nleave_out_unused()\nimport nbformat\n"
        "before = 'rfc3987_syntax' in sys.modules\nimport rfc3987_syntax\nleave_out_unused()\n"
        "print(json.dumps([before, 'rfc3987_syntax' in sys.modules]))"
    )

    assert [False, True] == modules_of(code)


def test_signatures_have_no_program_look_for_a_library_of_the_system():
    """Neither ldconfig nor a compiler runs; afterwards libraries are found as ever."""
    code = (
        "import ctypes.util, json, subprocess\n"
        "started = []\n"
        "class Popen(subprocess.Popen):\n"
        "    def __init__(self, *arguments, **options):\n"
        "        started.append(str(arguments))\n"
        "        super().__init__(*arguments, **options)\n"
        "subprocess.Popen = Popen\n"
        "from manual_payout.desk.signatures.key_files import import_asyncssh\n"
        "import_asyncssh()\n"
        "before = len(started)\n"
        "print(json.dumps([before, ctypes.util.find_library('c') is not None]))"
    )

    assert [0, True] == modules_of(code)
