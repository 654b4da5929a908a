"""Preflight: does everything answer that a night will need? Reads only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from manual_payout.cli.answers import show_json, show_table
from manual_payout.cli.options import Json
from manual_payout.cli.values import open_operators_desk
from manual_payout.domain.errors import ManualPayoutError, PolicyRefusedError

if TYPE_CHECKING:
    from manual_payout.desk.wiring import Desk
    from manual_payout.domain.models import Channel

_SOON = timedelta(days=30)
# Who could approve in each team, so that one may be away.
_APPROVERS_MIN = 2
# Under which a claim is tried; it is rolled back, so nobody ever sees it.
_TRIED_AS = "manual-payout check"


@dataclass(frozen=True)
class Found:
    """
    What one question came to.

    Attributes:
        status: ``ok``, ``failed``, or ``none`` where nothing is configured, or nothing can be tried.
    """

    what: str
    status: str
    found: str
    remedy: str = ""


def check(
    claim: Annotated[
        bool, typer.Option("--claim", help="For the operator: try a claim on a failed payout, and roll it back.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Try everything that a night will need: database, ledger, Stripe, people, keys, messages, ticket, clocks.

    Reads only. With --claim the ledger's one write is tried as well and rolled back, before anybody can see it. Exit code 3 if
    anything fails; what is not configured is said, and fails nothing.

    \b
    Examples:
      manual-payout check
      manual-payout check --claim
    """
    from manual_payout.domain.display import Table

    desk = open_operators_desk()
    asked: list[tuple[str, Callable[[Desk], str | None]]] = [
        ("database", _database), ("clocks", _clocks), ("ledger", _ledger), ("stripe, to pay", _paying),
        ("stripe, to read", _reading), ("people", _people), ("keys", _keys), *_channels(), ("jira", _jira),
    ]  # fmt: skip
    if claim:
        asked.append(("claim", _claim))
    found = [_asked(desk, what, ask) for what, ask in asked]
    failing = [one.what for one in found if one.status == "failed"]
    if as_json:
        show_json([vars(one) for one in found])
    else:
        summary = f"{len(failing)} of {len(found)} fail: {', '.join(failing)}." if failing else "Nothing fails."
        rows = tuple((one.status, one.what, one.found, one.remedy) for one in found)
        show_table(Table(summary, ("status", "what", "found", "what to do"), rows))
    if failing:
        raise PolicyRefusedError(f"Not everything is ready: {', '.join(failing)}.", "Do what stands beside each.")


def _asked(desk: Desk, what: str, ask: Callable[[Desk], str | None]) -> Found:
    try:
        found = ask(desk)
    except ManualPayoutError as error:
        return Found(what, "failed", error.message, error.remedy)
    if found is None:
        return Found(what, "none", "not configured")
    return Found(what, "none" if found.startswith("not ") else "ok", found)


def _database(desk: Desk) -> str:
    return f"{desk.settings.mode} mode, {len(desk.open_requests())} open requests"


def _clocks(desk: Desk) -> str:
    if apart := desk.clocks():
        raise PolicyRefusedError(apart, "Set this machine's clock by NTP.")
    return "this machine's and the database's agree"


def _ledger(desk: Desk) -> str:
    failed = desk.ledger.failed_payouts()
    for one in failed[:1]:
        desk.ledger.find_balance(one.studio_id, one.currency)
    return f"{len(failed)} failed payouts"


def _paying(desk: Desk) -> str:
    if desk.settings.fallback_key is None and not desk.settings.fallback_key_command:
        return "not checked out on this machine"
    return f"{desk.gateway.identity}, of {desk.gateway.account_id() or 'an account that it does not show'}"


def _reading(desk: Desk) -> str:
    if desk.settings.read_secret() is None:
        return "not configured: the key to pay reads too, where it is checked out"
    return f"{desk.watcher.identity}, of {desk.watcher.account_id() or 'an account that it does not show'}"


def _people(desk: Desk) -> str:
    from manual_payout.domain.models import Team

    now = desk.now()
    able = {
        team: [
            one
            for one in desk.registry.people
            if one.valid_at(now) and one.approving_team() is team and "approve" in one.may
        ]
        for team in Team
    }
    if short := [team.label for team, people in able.items() if len(people) < _APPROVERS_MIN]:
        raise PolicyRefusedError(
            f"{' and '.join(short)}: fewer than {_APPROVERS_MIN} people may approve.",
            "Name more approvers of that team (docs/approvals.md), so that one can be away.",
        )
    return ", ".join(f"{len(people)} approvers of {team.label}" for team, people in able.items())


def _keys(desk: Desk) -> str:
    from manual_payout.desk.signatures import WITHDRAWAL

    now = desk.now()
    lacking = [
        person.name
        for person in desk.registry.people
        if person.valid_at(now)
        and not all(
            desk.registry.signers.keys_for(person.email, purpose, now)
            for purpose in person.purposes()
            # A night can do without a withdrawal, and keys from before there was one lack it.
            if purpose != WITHDRAWAL
        )
    ]
    if lacking:
        raise PolicyRefusedError(
            f"No key that may sign all that they do: {', '.join(lacking)}.",
            "Have each make one with `manual-payout keys new`, and its line reviewed.",
        )
    ends = [
        entry.principal
        for entry in desk.registry.signers.entries
        if entry.valid_before is not None and now < entry.valid_before <= now + _SOON
    ]
    return f"everybody has one; ending within {_SOON.days} days: {', '.join(ends)}" if ends else "everybody has one"


def _channels() -> list[tuple[str, Callable[[Desk], str | None]]]:
    from manual_payout.domain.models import Channel

    return [(channel.value, partial(_reach, channel)) for channel in Channel]


def _reach(channel: Channel, desk: Desk) -> str | None:
    from manual_payout.comms.wiring import open_courier

    courier = open_courier(desk.settings, channel)
    if courier is None:
        return None
    wrong = courier.reach()
    if wrong is None:
        return "not tried: only a message could"
    if wrong:
        raise PolicyRefusedError(wrong, "Correct its settings (docs/configuration.md), or ask whoever runs it.")
    return "answers"


def _jira(desk: Desk) -> str | None:
    from manual_payout.evidence.attaching import open_jira

    if not desk.settings.jira_base_url:
        return None
    if wrong := open_jira(desk.settings).reach():
        raise PolicyRefusedError(wrong, "Correct JIRA_BASE_URL, JIRA_USER and JIRA_API_TOKEN.")
    return "answers"


def _claim(desk: Desk) -> str:
    failed = desk.ledger.failed_payouts()
    if not failed:
        return "not tried: the ledger has no failed payout to try it on"
    desk.ledger.try_claim(failed[0].ledger_payout_id, _TRIED_AS, at=desk.now())
    return f"could be written, tried on {failed[0].ledger_payout_id} and rolled back"
