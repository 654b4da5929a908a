"""What costs time at import and nobody here needs, left out or put off before it costs a second."""

from __future__ import annotations

import contextlib
import gc
import importlib
import importlib.util
import sys
import types
from collections.abc import Iterator
from typing import Any

# What jsonschema would check the contents of a text with, were it asked to.
_FORMATS = (
    "fqdn", "isoduration", "jsonpointer", "rfc3339_validator", "rfc3986_validator", "rfc3987", "rfc3987_syntax",
    "uri_template", "webcolors",
)  # fmt: skip


def leave_out_unused() -> None:
    """
    Import jsonschema and papermill without what they would only bring along, where they were not imported yet.

    Where JupyterLab is installed, jsonschema finds packages that check what a text is about, such as
    ``rfc3987_syntax``, which compiles a grammar when it is imported; that takes longer than all other imports of a kernel
    together. nbformat brings jsonschema along and has no IRI, colour or duration checked.
    papermill looks for clients of storage in clouds; evidence is written to local folders only.
    """
    if "jsonschema" not in sys.modules:
        with without(*_FORMATS):
            importlib.import_module("jsonschema")
    if "papermill" not in sys.modules:
        with without("boto3", "azure", "gcsfs", "pyarrow", "github"):
            importlib.import_module("papermill.iorw")


@contextlib.contextmanager
def without(*names: str) -> Iterator[None]:
    """
    Let what is imported inside this block believe that the optional packages *names* are not installed.

    What is imported already stays; afterwards the packages can be imported as ever.
    """
    hidden = [name for name in names if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]  # Python's own mark for "not to be found"
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


@contextlib.contextmanager
def without_system_libraries() -> Iterator[None]:
    """Let what is imported inside this block believe that the system has no shared library that could be looked for."""
    import ctypes.util

    looks = ctypes.util.find_library
    ctypes.util.find_library = lambda name: None  # noqa: ARG005  # it is called by whatever name
    try:
        yield
    finally:
        ctypes.util.find_library = looks


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """
    Look for no garbage while what is in this block is imported, nor ever in what was imported.

    Nearly all of it stays; looking through it again and again takes a fifth of the time of the imports.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()


def put_off(name: str) -> None:
    """
    Have the package *name* imported only when something of it is asked for, or a module below it is imported.

    Who glues a result brings pandas along, and asks nothing of it.
    """
    spec = importlib.util.find_spec(name) if name not in sys.modules else None
    if spec is not None:
        later = _Later(name)
        later.__spec__, later.__file__ = spec, spec.origin
        sys.modules[name] = later


class _Later(types.ModuleType):
    """What stands for a package until it is asked for the first time, and asks the package from then on."""

    # importlib's own LazyLoader would import when the package is imported for the second time.
    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)
