"""What a dependency would do at import and nobody here needs, left out before it costs a second."""

from __future__ import annotations

import importlib
import sys


def leave_out_unused() -> None:
    """
    Import jsonschema without its check of IRIs, if it was not imported yet.

    Where JupyterLab is installed, jsonschema finds ``rfc3987_syntax``, which compiles a grammar when it is imported;
    that takes longer than all other imports of a kernel together. nbformat brings jsonschema along and checks no IRI.
    The package itself stays importable for whoever asks for it by name.
    """
    if "jsonschema" in sys.modules or "rfc3987_syntax" in sys.modules:
        return
    sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]  # Python's own mark for "not to be found"
    try:
        importlib.import_module("jsonschema")
    finally:
        del sys.modules["rfc3987_syntax"]
