"""
What a process of ours is given: a search path; a kernel also variables, which of them may differ from those of the process
that it is forked from, and no terminal.
"""

from __future__ import annotations

import os
import re
import site
from collections.abc import Iterable, Mapping
from pathlib import Path

# They name folders of one kernel, and the process that it belongs to.
_OF_ONE_KERNEL = re.compile(r"JUPYTER_(RUNTIME|CONFIG|DATA)_DIR|IPYTHONDIR|JPY_\w+")

# They decide which code Python, IPython, Jupyter and matplotlib load.
_OF_PYTHON = re.compile("I?PYTHON|JUPYTER|JPY_|MPLBACKEND$")


def python_environment(given: Mapping[str, str]) -> dict[str, str]:
    """Take from *given* what does not decide which code is loaded, and see to it that this library is what is found."""
    kept = {name: value for name, value in given.items() if not _OF_PYTHON.match(name)} | {"PYTHONSAFEPATH": "1"}
    ours = str(Path(__file__).parents[2])
    # In a source tree the kernel must import this copy of the library, even where it is not installed.
    return kept if ours in site.getsitepackages() else kept | {"PYTHONPATH": ours}


def trusted_path(entries: Iterable[str]) -> list[str]:
    """
    Take from the search path what ``PYTHONPATH`` put there, and the folder in which the operator stands.

    What lies there under the name of a package of ours, or of one that we use, would be read in its place, and hold the key.

    Args:
        entries: As of ``sys.path``.

    Returns:
        Those of them that are this library's, Python's own, or named by neither.
    """
    standard = str(Path(os.__file__).parent)
    own = {str(Path(__file__).parents[2]), standard, f"{standard}/lib-dynload", *site.getsitepackages()}
    planted = {*os.environ.get("PYTHONPATH", "").split(os.pathsep), ""}
    left_out = {_absolute(entry) for entry in planted} - {_absolute(entry) for entry in own}
    return [entry for entry in entries if _absolute(entry) not in left_out]


def _absolute(entry: str) -> str:
    try:
        return str(Path(entry).absolute())
    except FileNotFoundError:
        return entry  # the folder in which we stand is gone, and nothing is read there


def importing_environment(given: Mapping[str, str], settings: str) -> dict[str, str]:
    """Return the environment of a process that only imports: that of a kernel without *settings*, which belong to one run."""
    return {name: value for name, value in python_environment(given).items() if not re.fullmatch(settings, name)}


def differences(imported_under: Mapping[str, str], wanted: Mapping[str, str], settings: str) -> list[str]:
    """
    Name the variables that might have made an import come out differently, sorted.

    Args:
        imported_under: The environment in which things were imported.

        wanted: The environment of the kernel.

        settings: A pattern of the names that may differ.
    """
    names = {name for name in {*imported_under, *wanted} if imported_under.get(name) != wanted.get(name)}
    return sorted(name for name in names if not re.fullmatch(settings, name) and not _OF_ONE_KERNEL.fullmatch(name))


def say_nothing_outside() -> None:
    """
    Take the runner's standard output and standard error from this process, which is about to become a kernel.

    A kernel repeats there what cells and their child processes print, past the redactor; the notebook has it anyway.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(nowhere, descriptor)
    os.close(nowhere)
