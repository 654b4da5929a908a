"""Which grounds there are to rehearse on, by the names that ``--target`` takes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from manual_payout.errors import ParameterError
from manual_payout.rehearsal.ground import Ground
from manual_payout.rehearsal.sandbox_ground import sandbox_ground

# What opens each, given the folder that everything is left in.
GROUNDS: dict[str, Callable[[Path], AbstractContextManager[Ground]]] = {"sandbox": sandbox_ground}


def find_ground(target: str) -> Callable[[Path], AbstractContextManager[Ground]]:
    """
    Return what opens the ground of that name.

    Raises:
        ParameterError: There is none.
    """
    if target not in GROUNDS:
        raise ParameterError("target", target, " or ".join(GROUNDS))
    return GROUNDS[target]
