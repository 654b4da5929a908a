"""
A value for every secret that the settings know, made of random blocks, so that any part of it is recognised.

Between the blocks stand the characters that URLs, JSON and HTML write differently, where a secret may have them.
"""

from __future__ import annotations

import random
import re
import string
from dataclasses import dataclass
from urllib.parse import quote

_ALPHABET = string.ascii_letters + string.digits

# Stripe's keys go on after their prefix with what their account's id has too, which is no secret.
_ACCOUNT = 14

# Found by chance in a gigabyte once in a hundred thousand times; fifteen characters in a row always hold a whole one.
BLOCK = 8

# Stripe's keys may be told apart by these; everything before them may not be shown.
_SHOWN_AT_END = 4
# The key that seeds test mode is at hand in some shells, and never sent by a run.
_STRIPE = ("STRIPE_FALLBACK_SECRET_KEY", "STRIPE_READ_SECRET_KEY", "STRIPE_REHEARSAL_SECRET_KEY")

# Their secret is the password.
URLS = ("DATABASE_URL", "LEDGER_DATABASE_URL")
PASSPHRASE = "the signing key's passphrase"


@dataclass(frozen=True)
class Canary:
    """
    One secret.

    Attributes:
        name: The setting it is the value of, or what it is.

        value: As it is configured; of a database only the password.

        hidden: The part that nobody may see.
    """

    name: str
    value: str
    hidden: str

    def blocks(self) -> list[str]:
        """The pieces by which it is recognised."""
        runs = re.findall(r"[A-Za-z0-9]{8,}", self.hidden)
        return [run[at : at + BLOCK] for run in runs for at in range(0, len(run) - BLOCK + 1, BLOCK)]


def make_canaries(seed: str, slack_url: str) -> dict[str, Canary]:
    """
    Return a canary for every secret, by name.

    Args:
        slack_url: Where the rehearsal's webhook is.
    """
    rng = random.Random(f"canary/{seed}")

    def filled(pattern: str) -> str:
        return re.sub("#", lambda _: "".join(rng.choices(_ALPHABET, k=BLOCK)), pattern)

    made = {
        "STRIPE_FALLBACK_SECRET_KEY": filled("rk_test_51######") + filled("#")[:_SHOWN_AT_END],
        "STRIPE_READ_SECRET_KEY": filled("rk_test_51######") + filled("#")[:_SHOWN_AT_END],
        "STRIPE_REHEARSAL_SECRET_KEY": filled("sk_test_51######") + filled("#")[:_SHOWN_AT_END],
        "SLACK_BOT_TOKEN": filled("xoxb-#-#-##"),
        # Of no shape that a net could know: it is found by its value or not at all.
        "SLACK_REHEARSAL_BOT_TOKEN": filled("##_##-#"),
        "SLACK_WEBHOOK_URL": filled("https://hooks.slack.com/services/T0CANARY/B0/###"),
        "SLACK_REHEARSAL_WEBHOOK_URL": filled(f"{slack_url}/services/T0/B0/###"),
        "SMTP_PASSWORD": filled('#&#"#/#+#'),
        "PAGERDUTY_ROUTING_KEY": filled("####"),
        "PAGERDUTY_REHEARSAL_ROUTING_KEY": filled("####"),
        "JIRA_API_TOKEN": filled("ATATT3x-#-#=#_#"),
        "DATABASE_URL": filled("#@#:#%#'#"),
        "LEDGER_DATABASE_URL": filled("#/#?#&#<#"),
        PASSPHRASE: filled("# #<#"),
    }
    return {name: Canary(name, value, _hidden(name, value)) for name, value in made.items()}


def _hidden(name: str, value: str) -> str:
    if name in _STRIPE:
        return value.partition("_51")[2][_ACCOUNT:-_SHOWN_AT_END]
    return value.rpartition("/")[2] if name.endswith("WEBHOOK_URL") else value


def quoted(value: str) -> str:
    """Write a password as a URL has it."""
    return quote(value, safe="")
