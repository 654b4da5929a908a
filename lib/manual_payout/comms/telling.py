"""From what the outbox announces to messages with a text: the ledger is asked for the studio's address and language."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from manual_payout.comms.anchors import anchor_messages
from manual_payout.comms.delivery import Postroom
from manual_payout.comms.messages import Occasion, compose, fill_in, is_rehearsal
from manual_payout.comms.wiring import configured_channels
from manual_payout.database.store import NEWS, REVERSED, SEALED, SENT, channel_of, is_announced
from manual_payout.desk.inventory import Missing, override_sentence
from manual_payout.desk.wiring import Desk
from manual_payout.domain.account import taken_back_minor
from manual_payout.domain.errors import DatabaseError, ManualPayoutError
from manual_payout.domain.models import Channel, Message, MessageState, PayoutRecord, Record, stream_of
from manual_payout.domain.money import Money


def sent_messages(desk: Desk, record: PayoutRecord) -> list[Message]:
    """
    Render what is told of a payout that was made: the Slack message, then the studio's email.

    Raises:
        PolicyRefusedError: The ledger does not know the payout any more.
    """
    # The moment of the outcome, so that rendering again gives the same message.
    return compose(_occasion(desk, record), at=record.outcome_at or desk.now())


@dataclass(frozen=True, slots=True)
class Written:
    """
    What became of everything that was announced.

    Attributes:
        count: How many messages got their text.

        missing: Why the others have none yet.
    """

    count: int
    missing: tuple[Missing, ...] = ()


def write_announced(
    desk: Desk, record: Record, *, actor: str, channels: Collection[Channel] = frozenset(Channel)
) -> int:
    """
    Write out what is announced for one payout or reversal, and for what else the outbox tells with it.

    Args:
        channels: Only what goes out by these.

    Returns:
        How many messages got their text.

    Raises:
        ParameterError: The ledger does not know the payout any more.

        DatabaseError: The ledger, or our own database, does not answer.
    """
    lines = {
        record.line_id,
        *(one.payout_id for one in desk.store.payouts_of(stripe_transfer_id=record.stripe_transfer_id or "-")),
    }
    found = [
        message for message in desk.store.announced_messages(record.mode)
        if message.channel in channels and not lines.isdisjoint({message.payout_id, _line_of(message)})
    ]  # fmt: skip
    return _write(desk, found, actor)


def _write(desk: Desk, found: Sequence[Message], actor: str) -> int:
    written = []
    for message in found:
        record = _record_of(desk, message)
        chain = desk.store.events_of(message.stream)
        if (
            record is None
            or not is_announced(record, message, chain)
            or message.channel is not channel_of(message.kind)
        ):
            desk.store.refuse_announced(message, "Nothing in the journal announces it: somebody changed the database.")
        else:
            written.append(fill_in(_with_news(desk, _occasion(desk, record), message.kind), message))
    return desk.store.record_messages(written, actor) if written else 0


def _line_of(message: Message) -> str:
    return message.dedup_key.partition("/")[0]


def _record_of(desk: Desk, message: Message) -> Record | None:
    """Return the row that a message tells of: the payout, or what was taken back."""
    line = _line_of(message)
    return desk.store.find_reversal(line) if message.kind in REVERSED else desk.store.find_payout(line)


def write_all_announced(desk: Desk, *, actor: str, channels: Collection[Channel] = frozenset(Channel)) -> Written:
    """
    Write out what any payout of this mode announced, after whoever should have done it was stopped.

    What cannot be written out stays announced and is named, whatever it is: it holds up nothing else.
    """
    waiting = [m for m in desk.store.announced_messages(desk.settings.mode) if m.channel in channels]
    count = 0
    missing: tuple[Missing, ...] = ()
    for stream in sorted({message.stream for message in waiting}):
        try:
            count += _write(desk, [message for message in waiting if message.stream == stream], actor)
        except ManualPayoutError as error:
            incident_id = stream.partition("/")[0]
            missing = missing or (Missing("ledger", f"the messages of {incident_id} wait for it. {error.message}"),)
            if isinstance(error, DatabaseError):
                # The next would wait as long for the same answer.
                break
    return Written(count, missing)


def tell(desk: Desk, record: Record, *, actor: str) -> str:
    """
    Write out and deliver what a movement announced, and say what came of it; a ledger or a provider that is away stops nothing.
    """
    later = "Channel and studio are not told yet; `manual-payout deliver` tells them."
    try:
        write_announced(desk, record, actor=actor)
        Postroom(desk.settings, desk.store, actor).deliver()
    except ManualPayoutError:
        return later
    mine = [m for m in desk.store.undelivered_messages(record.incident_id) if _line_of(m) == record.line_id]
    if any(message.state is MessageState.TO_COPY for message in mine):
        return "The messages to channel and studio are ready to copy: `manual-payout deliver`."
    return later if mine else "Channel and studio are told."


def tell_seal(desk: Desk, record: PayoutRecord, digest: str, *, actor: str) -> None:
    """
    Tell the *digest* of the manifest that seals a payout's evidence, once, where somebody else keeps what was said.

    Raises:
        DatabaseError: Ours does not answer.
    """
    settings = desk.settings
    told = anchor_messages(record, digest, settings.policy.messages, configured_channels(settings), at=desk.now())
    if told and desk.store.record_messages(told, actor):
        Postroom(settings, desk.store, actor).deliver(record.payout_id)


def is_about_settlement(message: Message) -> bool:
    """Whether a message tells how the money went on after it was sent, or came back."""
    return message.kind not in {*SENT, *SEALED}


def _occasion(desk: Desk, record: Record) -> Occasion:
    events = desk.store.events_of(stream_of(record.incident_id, record.ledger_payout_id))
    return Occasion(
        record=record,
        due=desk.ledger.get_payout_due(record.ledger_payout_id),
        registry=desk.registry,
        policy=desk.settings.policy.messages,
        rehearsal=is_rehearsal(record.mode),
        automatic=configured_channels(desk.settings),
        override=override_sentence(events, record.request_id, desk.registry.name_of),
    )


def _with_news(desk: Desk, occasion: Occasion, kind: str) -> Occasion:
    """Add how far the money had come, or where it failed, when a message of *kind* was announced last."""
    if kind in (*SENT, *REVERSED):
        return occasion
    stream = stream_of(occasion.record.incident_id, occasion.record.ledger_payout_id)
    telling = [e for e in desk.store.events_of(stream) if kind in NEWS.get(str(e.data.get("told")), ())]
    if not telling or telling[-1].kind != "settlement_observed":
        # What a page told of was taken back, or closed; it never arrived.
        return occasion
    event, record = telling[-1], occasion.record
    reversals = desk.store.reversals_of(ledger_payout_id=record.ledger_payout_id)
    left = record.amount.amount_minor - taken_back_minor(record.stripe_transfer_id, reversals)
    return replace(
        occasion,
        amount=Money(event.data.get("came_back_minor") or left, record.amount.currency),
        rung=str(event.data.get("failed_rung") or event.data["rung"]),
        note=str(event.data.get("note", "")),
    )
