"""
The inventory: which certificates and credentials there are, and what was rehearsed, rotated and reviewed when.

The monitor holds its rules against it, and a live run asks it for the last rehearsal (docs/monitoring.md).
"""

from __future__ import annotations

from manual_payout.desk.inventory.entries import Credential, Inventory, Missing, Rehearsed
from manual_payout.desk.inventory.reading import find_inventory, read_inventory
from manual_payout.desk.inventory.rehearsals import (
    AHEAD_MAX,
    RehearsalStanding,
    dated_until,
    last_green,
    other_notebooks,
    standing_of,
)
from manual_payout.domain.overrides import OVERRIDDEN, SHOWN, override_sentence

__all__ = [
    "AHEAD_MAX",
    "OVERRIDDEN",
    "SHOWN",
    "Credential",
    "Inventory",
    "Missing",
    "RehearsalStanding",
    "Rehearsed",
    "dated_until",
    "find_inventory",
    "last_green",
    "other_notebooks",
    "override_sentence",
    "read_inventory",
    "standing_of",
]
