"""How one ledger names its relations and its statuses."""

from __future__ import annotations

import re
from dataclasses import dataclass

from manual_payout.domain.errors import SettingsError, shorten

# One PostgreSQL identifier, optionally behind a schema. Quoting would allow more; nobody's view needs more.
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}", re.ASCII)


@dataclass(frozen=True, slots=True)
class LedgerMapping:
    """
    How one marketplace's ledger names what is read and written here.

    Attributes:
        due_relation: Relation of payouts, in every status; optionally ``schema.name``.

        balance_relation: Relation of balances and reserves.

        claim_relation: Where the claim is written, with the columns of `CLAIM_COLUMNS`; the due relation when empty.

        failed, claimed, paid: The ledger's own words for the three statuses that matter here.
    """

    due_relation: str = "manual_payout_due"
    balance_relation: str = "manual_payout_balance"
    claim_relation: str = ""
    failed: str = "failed"
    claimed: str = "claimed_by_fallback"
    paid: str = "paid"

    def __post_init__(self) -> None:
        for name in ("due_relation", "balance_relation", "claim_relation"):
            _check_relation(name, getattr(self, name) or self.due_relation)
        words = (self.failed, self.claimed, self.paid)
        if not all(words) or len(set(words)) < len(words):
            raise SettingsError(
                f"The ledger mapping's statuses are not three different words: failed {self.failed!r}, "
                f"claimed {self.claimed!r}, paid {self.paid!r}.",
                "Correct the statuses of the ledger mapping (see docs/ledger.md, Statuses).",
            )

    def standing(self, status: str) -> str:
        """Translate the ledger's word to ``failed``, ``claimed``, ``paid`` or, for any other, ``other``."""
        return {self.failed: "failed", self.claimed: "claimed", self.paid: "paid"}.get(status, "other")


def _check_relation(field: str, name: str) -> None:
    parts = name.split(".")
    if len(parts) > 2 or not all(_IDENTIFIER.fullmatch(part) for part in parts):
        raise SettingsError(
            f"The ledger mapping's {field} is {shorten(name)}, expected a plain SQL name, optionally schema.name.",
            "Name a view or table of letters, digits and underscores; see docs/ledger.md.",
        )
