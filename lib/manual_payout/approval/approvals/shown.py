"""What an approver is shown, and the rules and people of that moment: part of what they sign."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from manual_payout.domain.canonical import canonical_json
from manual_payout.domain.display import Table
from manual_payout.domain.models import Request
from manual_payout.domain.money import Money

# What is compared again when money is about to move; a balance is not among it, since balances move.
Compared = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Shown:
    """
    Everything that stood before an approver's eyes.

    Attributes:
        tables: As they were shown.

        compared: What is compared with the facts of the moment of sending, for each line.

        rules_digest: Of the rules of money.

        registry_digest: Of people and keys.
    """

    tables: tuple[Table, ...]
    compared: tuple[Compared, ...]
    rules_digest: str
    registry_digest: str

    def text(self, request: Request) -> str:
        """Return what is kept of it, as the canonical JSON whose digest is signed."""
        tables = [
            {"caption": table.caption, "columns": list(table.columns), "rows": [list(row) for row in table.rows]}
            for table in self.tables
        ]
        compared = [dict(one) for one in self.compared]
        return canonical_json({"version": 1, "request_digest": request.digest, "compared": compared, "tables": tables})


def changed_facts(shown: Compared, now: Compared) -> list[tuple[str, str, str]]:
    """Return each fact that is another than the one that was shown: its name, what was shown, and what is so now, in words."""
    return [
        (name.removesuffix("_minor").replace("_", " "), _told(name, shown), _told(name, now))
        for name in sorted({*shown, *now})
        if shown.get(name) != now.get(name)
    ]


def _told(name: str, facts: Compared) -> str:
    value = facts.get(name)
    if name.endswith("_minor") and value is not None:
        return Money(value, facts["currency"]).grouped
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return str(value) if value not in (None, "") else "none"
