"""The policy of one rehearsal: the user's reviewed one where there is one, with what test mode needs changed, and said."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from manual_payout.desk.settings import (
    LedgerPolicy,
    MessagePolicy,
    Policy,
    Settings,
    SettlementPolicy,
    StripePolicy,
)
from manual_payout.domain.models import Mode
from manual_payout.domain.money import Money, parse
from payout_rehearsal.demo import incident
from payout_rehearsal.testmode.seeding import CURRENCY

# How far the money gets while a rehearsal waits: payouts of test mode follow a daily schedule, and one that is made by
# hand cannot be itemised, so that the bank can never be shown. The rung below needs a key with the Connect column.
_DONE_RUNG = "settled_on_platform"


def rehearsal_policy(settings: Settings, platform_account: str, largest: Money) -> tuple[Policy, tuple[str, ...]]:
    """
    Return the policy of a rehearsal, and in sentences what of the user's own it changes.

    Args:
        largest: The most that a scene asks for, on purpose more than there is.
    """
    given, own = settings.policy, settings.policy_file is not None
    said = [
        f"stripe: mode test, platform account {platform_account}, and a relay on this machine before Stripe",
        "ledger: the demo's tables in the rehearsal's own database",
        f"settlement: done at {_DONE_RUNG}, because test mode shows no payout to the bank within a rehearsal",
    ]
    ceilings = dict(given.request.amount_minor_max)
    if ceilings.get(CURRENCY, largest.amount_minor) < largest.amount_minor:
        ceilings[CURRENCY] = largest.amount_minor
        said.append(
            f"request: the ceiling is {largest.grouped}, above what the platform has, so that this can be too little"
        )
    floors, reserve = dict(given.request.reserve_minimum_minor), parse(incident.RESERVE_AFTER, CURRENCY)
    if floors.get(CURRENCY, 0) > reserve.amount_minor:
        floors[CURRENCY] = reserve.amount_minor
        said.append(f"request: the least reserve is {reserve.grouped}, which the demo's studios keep")
    if not own:
        said.append("messages: to nobody, because there is no policy file of yours (MANUAL_PAYOUT_POLICY)")
    policy = Policy(
        stripe=StripePolicy(
            mode=Mode.TEST,
            platform_account=platform_account,
            account_check=given.stripe.account_check,
            timeout_s=given.stripe.timeout_s,
            relay=True,
        ),
        request=given.request.model_copy(update={"amount_minor_max": ceilings, "reserve_minimum_minor": floors}),
        ledger=LedgerPolicy(),
        settlement=SettlementPolicy(done_rung=_DONE_RUNG, poll_first_s=5.0, poll_pause_max_s=20.0, poll_limit_s=60.0),
        messages=given.messages if own else MessagePolicy(),
        monitoring=given.monitoring,
    )
    return policy, tuple(said)


def write_policy(path: Path, policy: Policy, said: tuple[str, ...]) -> None:
    """Write *policy* as the TOML file that the notebooks read, with what was changed above it."""
    heading = ["The policy of one rehearsal in Stripe's test mode. Changed from the policy file in force:", *said]
    lines = [f"# {line}" for line in heading]
    for section, values in policy.model_dump(mode="json").items():
        lines += _table(section, values)
    path.write_text("\n".join(lines) + "\n", "utf-8")


def _table(name: str, values: Mapping[str, Any]) -> list[str]:
    plain = {key: value for key, value in values.items() if not isinstance(value, dict)}
    tables = {key: value for key, value in values.items() if isinstance(value, dict)}
    lines = ["", f"[{name}]", *(f"{key} = {_written(value)}" for key, value in plain.items())]
    return lines + [line for key, value in tables.items() for line in _table(f"{name}.{key}", value)]


def _written(value: str | float | bool) -> str:  # noqa: FBT001  # whatever a policy holds
    # JSON's texts, numbers and truths are TOML's too, but for the one control character that JSON leaves as it is.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
