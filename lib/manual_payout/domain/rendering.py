"""Jinja2, set up once for every text of ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment


def environment(
    folder: str,
    *,
    package: str = "manual_payout",
    keep_trailing_newline: bool = False,
    finalize: Callable[[Any], Any] | None = None,
) -> Environment:
    """
    Return what renders the templates of a folder.

    A value that a template names and nobody gave is an error. What is called ``….html.j2`` has every value escaped; texts
    have none escaped, so that whoever renders one gives it values that are checked or escaped for where it goes.

    Args:
        folder: Within *package*, such as ``comms/templates``.

        package: Whose templates they are.

        keep_trailing_newline: Whether a file of ours ends in a line break; a message does not.

        finalize: What is done to every value before it is escaped and shown.
    """
    # Rooms that everybody imports use this one; only whoever renders needs Jinja2.
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    return Environment(
        loader=PackageLoader(package, folder),
        autoescape=select_autoescape(["html.j2"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=keep_trailing_newline,
        finalize=finalize,
    )
