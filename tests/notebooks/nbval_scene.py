"""
A pytest plugin that sets the scene for ``pytest --nbval runbooks``.

nbval starts a notebook's kernel when the first of its cells is set up; just before, the story is moved to where that
notebook belongs. The kernels see the sandbox's key and no other, and a database that ends with the run.
"""

from __future__ import annotations

import contextlib

import pytest
from tests.notebooks.story import Story, told

_scene = contextlib.ExitStack()
_story: list[Story] = []


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Set the scene before the first cell, and move on with each notebook."""
    if item.path.suffix != ".ipynb":
        return
    if not _story:
        _story.append(_scene.enter_context(told()))
    _story[0].reach(item.path.stem)


def pytest_sessionfinish():
    """Take the scene down."""
    _scene.close()
