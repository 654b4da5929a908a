"""Settings that know the sandbox and one folder only."""

from __future__ import annotations

from pathlib import Path

from pydantic import SecretStr

import local_stripe
from manual_payout.desk.messengers import NO_MESSENGERS
from manual_payout.desk.settings import Settings, load_settings
from payout_rehearsal.demo import incident


def demo_settings(root: Path, stripe_api_base: str, database_url: str) -> Settings:
    """Return settings that know only the sandbox and *root*, whatever the environment says."""
    return load_settings(
        fallback_key=SecretStr(local_stripe.FALLBACK_KEY),
        fallback_key_command="",
        read_key=SecretStr(local_stripe.READ_KEY),
        read_key_command="",
        stripe_api_base=stripe_api_base,
        database_url=SecretStr(database_url),
        ledger_database_url=None,
        outputs=root.resolve(),
        policy_file=None,
        approvers_file=None,
        allowed_signers_file=None,
        signing_key=None,
        operator=incident.OPERATOR,
        **NO_MESSENGERS,
    )
