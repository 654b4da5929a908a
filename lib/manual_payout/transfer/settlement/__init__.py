"""How far the money has come, and who follows it there."""

from __future__ import annotations

from manual_payout.transfer.settlement.following import Round, follow_due, note, observation, watch
from manual_payout.transfer.settlement.ladder import (
    FINAL_AFTER,
    PAYOUT_METADATA_KEY,
    RUNG_NEEDS,
    Ladder,
    Reached,
    Rung,
    RungName,
    look,
)

__all__ = [
    "FINAL_AFTER",
    "PAYOUT_METADATA_KEY",
    "RUNG_NEEDS",
    "Ladder",
    "Reached",
    "Round",
    "Rung",
    "RungName",
    "follow_due",
    "look",
    "note",
    "observation",
    "watch",
]
