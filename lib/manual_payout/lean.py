"""What a dependency would do at import and nobody here needs, left out before it costs a second."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator


def leave_out_unused() -> None:
    """
    Import jsonschema without its check of IRIs, if it was not imported yet.

    Where JupyterLab is installed, jsonschema finds ``rfc3987_syntax``, which compiles a grammar when it is imported;
    that takes longer than all other imports of a kernel together. nbformat brings jsonschema along and checks no IRI.
    """
    if "jsonschema" not in sys.modules:
        with without("rfc3987_syntax"):
            importlib.import_module("jsonschema")


@contextlib.contextmanager
def without(name: str) -> Iterator[None]:
    """
    Let what is imported inside this block believe that the optional package *name* is not installed.

    What is imported already stays; afterwards the package can be imported as ever.
    """
    hidden = name not in sys.modules
    if hidden:
        sys.modules[name] = None  # type: ignore[assignment]  # Python's own mark for "not to be found"
    try:
        yield
    finally:
        if hidden:
            del sys.modules[name]
