"""The night of the demo, as an instant."""

from __future__ import annotations

from datetime import UTC, datetime

NOW = datetime(2026, 3, 2, 3, 0, tzinfo=UTC)
