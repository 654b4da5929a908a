"""Move a failed studio payout by hand through Stripe: once, with two approvals, with evidence."""

__version__ = "1.0.0"
