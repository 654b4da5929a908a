"""What stands in the inventory, each of which may be missing with a reason."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Missing:
    """
    A fact that could not be gathered. It is an alert of its own, and never counts as *all is well*.

    Attributes:
        source: What could not be asked: a short name.
    """

    source: str
    reason: str


@dataclass(frozen=True, slots=True)
class Credential:
    """A certificate or another credential, and when it has to be renewed."""

    name: str
    due: datetime | Missing


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """
    A rehearsal on record.

    Attributes:
        target: ``sandbox`` or ``stripe``; empty where the entry does not say.

        procedure: `reviewed.procedure_digest` of the notebooks that were rehearsed; empty where the entry does not say.
    """

    on: datetime
    green: bool
    approvers: frozenset[str]
    target: str = ""
    procedure: str = ""


@dataclass(frozen=True, slots=True)
class Inventory:
    """What the inventory file says (docs/monitoring.md)."""

    credentials: tuple[Credential, ...]
    rehearsals: tuple[Rehearsed, ...]
    rotations: tuple[datetime, ...]
    access_reviewed_on: datetime | None
