"""Real servers on this machine for Slack, mail and PagerDuty, and a campaign that shoots at the outbox."""
