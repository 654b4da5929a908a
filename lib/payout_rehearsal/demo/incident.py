"""The SOP's example, made whole: the incident that the demo, the defaults and the tests share."""

from __future__ import annotations

INCIDENT_ID = "INC-123"
STUDIO_ID = "7c1d9a52-3e84-4f0b-9b6e-2f5a8c40d713"
STUDIO_NAME = "Harbor Light Pottery"
LEDGER_PAYOUT_ID = "b8e4f6a0-52c9-4d3e-8f17-6a90d2c3e541"
AMOUNT = "1250.75"
CURRENCY = "usd"
RESERVE_AFTER = "310.00"
RESERVE_MINIMUM = "300.00"
REASON = "scheduler_outage"
DESTINATION_ACCOUNT = "acct_123"
NOTES = "Primary job timed out on PSP"

# Handles of the demo registry, `approvers.toml`.
REQUESTER = "maya"
OPERATOR = "tomas"

# The demo's fixed night: two hours after the automation failed.
NOW = "2026-03-02T03:00:00Z"
FAILED_AT = "2026-03-02T01:04:11Z"
