"""A process that empties one outbox until it is empty or the process is killed."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

from manual_payout.comms import mail, slack  # noqa: F401  # so that no sender spends its life on importing them
from manual_payout.comms.delivery import Postroom
from manual_payout.database import engines
from manual_payout.database.store import Store
from manual_payout.desk.messengers import NO_MESSENGERS
from manual_payout.desk.settings import Policy, load_settings
from manual_payout.domain.models import MessageState, Mode

CHANNEL_ID = "C0REHEARSAL"
MAILBOX = "rehearsal@marketplace.example"
CHANNEL = "#payments-rehearsal"

# Back-off and leases are minutes long; a campaign that waited them out would take days.
SPEED = 60.0


class FastClock:
    """The world's clock, sped up: the same in every process."""

    def __init__(self, start: float) -> None:
        self._start = start

    def now(self) -> datetime:
        """The present."""
        return datetime.fromtimestamp(self._start, UTC) + timedelta(seconds=(time.time() - self._start) * SPEED)

    def wait(self, seconds: float) -> None:
        """Sleep, faster."""
        time.sleep(seconds / SPEED)


def settings_for(world: dict):
    """Rehearsal settings that reach the campaign's own servers."""
    messages = {"rehearsal_email": MAILBOX, "rehearsal_slack_channel_id": CHANNEL_ID, "timeout_s": 5.0}
    policy = Policy.model_validate({"stripe": {"mode": "test"}, "messages": messages})
    given = {
        "slack_rehearsal_bot_token": "xoxb-rehearsal-000000",
        "slack_api_base": f"{world['slack']}/api/",
        "smtp_host": "127.0.0.1",
        "smtp_port": world["smtp"],
        "smtp_security": "none",
    }
    return load_settings(policy=policy, **(NO_MESSENGERS | given))


def waits(store: Store) -> bool:
    """Whether anything waits to be sent, or is being sent."""
    counts = store.unsent_counts(Mode.TEST)
    return any(state in (MessageState.WAITING, MessageState.SENDING) for _, state, _, _ in counts)


def relay(world: dict) -> None:
    """Go on until nothing waits."""
    engine = engines.connect(world["database"], name="DATABASE_URL")
    store = Store(engine, FastClock(world["start"]))
    room = Postroom(settings_for(world), store, "campaign")
    while waits(store):
        done = room.deliver()
        if not done.delivered:
            time.sleep(0.05)
