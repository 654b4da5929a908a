"""
Many messages through a mail server and a Slack that fail, by senders that are killed, and a comparison of the books.

What people got is counted by the servers, what the outbox believes is read from the database. A message that nobody got
is *lost*; a second copy is *avoidable* where the provider could have been asked, which is Slack, and otherwise only
where the outbox did not admit to it.
"""

from __future__ import annotations

import multiprocessing
import random
import time
from collections import Counter
from dataclasses import dataclass, field

from manual_payout.database import engines
from manual_payout.database.store import Store
from manual_payout.domain.models import Channel, Message, MessageState, Mode

from .relay import CHANNEL, MAILBOX, FastClock, relay, waits
from .servers import Mail, Slack

LIFE_S = (0.1, 10.0)

# Of all requests, so many fail, in these ways.
FAILURE_RATE = 0.3
_SLACK_FAULTS = ["limit", "refuse", "drop", "lose", "lose500", "rubbish"]
_MAIL_FAULTS = ["refuse", "drop", "lose"]


@dataclass
class Tally:
    """
    What a campaign came to.

    Attributes:
        copies: By channel, how often messages were read: times read → messages.

        lost: Messages that nobody read.

        avoidable: Messages read more often than could not be helped.
    """

    messages: int
    kills: int = 0
    seconds: float = 0.0
    requests: Counter = field(default_factory=Counter)
    copies: dict[str, Counter] = field(default_factory=dict)
    repeats: Counter = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    avoidable: list[str] = field(default_factory=list)
    unsettled: list[str] = field(default_factory=list)

    @property
    def violated(self) -> bool:
        """Whether anything happened that must not."""
        return bool(self.lost or self.avoidable or self.unsettled)

    def __str__(self) -> str:
        read = "; ".join(
            f"{channel}: {counts[1]} read once, {sum(n for times, n in counts.items() if times > 1)} more than once, "
            f"{self.repeats[channel]} repetitions admitted, {self.requests[channel]} requests"
            for channel, counts in self.copies.items()
        )
        return (
            f"{self.messages} messages, {self.kills} senders killed, {self.seconds:.0f} s. {read}. "
            f"Lost: {len(self.lost)}. Avoidable duplicates: {len(self.avoidable)}. Not settled: {len(self.unsettled)}."
        )


def campaign(
    url: str, count: int, *, seed: int, senders: int = 2, kills: bool = True, life_s: tuple[float, float] = LIFE_S
) -> Tally:
    """
    Send *count* messages, half by each service.

    Args:
        url: An empty database.

        senders: How many processes at a time.

        life_s: Between how many real seconds and how many a sender lives.
    """
    begun, drawn = time.time(), random.Random(seed)
    engine = engines.connect(url, name="DATABASE_URL")
    engines.upgrade_database(engine)
    clock = FastClock(begun)
    store = Store(engine, clock)
    slack, mail = Slack(now=lambda: clock.now().timestamp()), Mail()
    tally = Tally(count)
    try:
        slack.faults.draw = _drawing(random.Random(drawn.random()), _SLACK_FAULTS)
        mail.faults.draw = _drawing(random.Random(drawn.random()), _MAIL_FAULTS)
        for start in range(0, count, 500):
            batch = [_message(number, store) for number in range(start, min(count, start + 500))]
            store.record_messages(batch, "campaign")
        world = {"database": url, "slack": slack.url, "smtp": mail.port, "start": begun}
        tally.kills = _send(world, store, drawn, senders, life_s if kills else (1e6, 1e6))
        _compare(tally, store, slack, mail)
    finally:
        slack.close()
        mail.close()
        engine.dispose()
    tally.seconds = time.time() - begun
    return tally


def _drawing(drawn: random.Random, faults: list[str]):
    return lambda: drawn.choice(faults) if drawn.random() < FAILURE_RATE else ""


def _message(number: int, store: Store) -> Message:
    email = number % 2 == 0
    return Message(
        message_id=f"campaign-{number:06d}", stream=f"INC-{number}/campaign", payout_id=None,
        kind="studio_email" if email else "slack_alert", audience=MAILBOX if email else CHANNEL, dedup_key=f"campaign/{number}",
        subject="REHEARSAL" if email else "", body_text=f"Message {number}", body_html=f"<p>Message {number}</p>" if email else "",
        state=MessageState.WAITING, created_at=store.clock.now(), mode=Mode.TEST,
        channel=Channel.EMAIL if email else Channel.SLACK, body_json="" if email else "[]",
    )  # fmt: skip


def _send(world: dict, store: Store, drawn: random.Random, senders: int, life_s: tuple[float, float]) -> int:
    # Forked from a process that has imported everything and runs no threads: a life begins within milliseconds.
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["tests.outbox.relay"])
    killed = 0
    running: list[tuple[multiprocessing.process.BaseProcess, float]] = []
    while waits(store):
        while len(running) < senders:
            process = processes.Process(target=relay, args=(world,))
            process.start()
            running.append((process, time.time() + drawn.uniform(*life_s)))
        time.sleep(0.02)
        for process, until in list(running):
            if not process.is_alive():
                assert process.exitcode == 0, "a sender ended by itself"
                running.remove((process, until))
            elif time.time() > until:
                process.kill()
                process.join()
                running.remove((process, until))
                killed += 1
    for process, _ in running:
        process.join()
    return killed


def _compare(tally: Tally, store: Store, slack: Slack, mail: Mail) -> None:
    read = Counter(post["message_id"] for post in slack.posted)
    read.update(_ids(mail))
    tally.requests = Counter(slack=len(slack.requests), email=mail.sessions)
    tally.copies = {"slack": Counter(), "email": Counter()}
    for number in range(tally.messages):
        row = store.get_message(f"campaign-{number:06d}")
        times = read[row.message_id]
        tally.copies[row.channel.value][times] += 1
        tally.repeats[row.channel.value] += row.repeats
        if times == 0:
            tally.lost.append(row.message_id)
        if times > 1 + (row.repeats if row.channel is Channel.EMAIL else 0):
            tally.avoidable.append(row.message_id)
        if row.state is not MessageState.DELIVERED or not row.receipt:
            tally.unsettled.append(row.message_id)


def _ids(mail: Mail):
    for _, _, text in mail.taken:
        line = next(line for line in text.splitlines() if line.lower().startswith(b"message-id:"))
        yield line.decode().partition("<")[2].partition("@")[0]
