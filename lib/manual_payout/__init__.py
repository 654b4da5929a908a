"""Move a failed studio payout by hand through Stripe: once, with two approvals, with evidence."""

__version__ = "0.1.0"
