"""From what the outbox announces to messages with a text: the ledger is asked for the studio's address and language."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from manual_payout.comms.anchors import anchor_messages
from manual_payout.comms.delivery import Postroom
from manual_payout.comms.messages import Occasion, compose, fill_in, is_rehearsal
from manual_payout.comms.wiring import configured_channels
from manual_payout.database.store import ARRIVED, SEALED, SENT, channel_of, is_announced
from manual_payout.desk.inventory import Missing, override_sentence
from manual_payout.desk.wiring import Desk
from manual_payout.domain.errors import DatabaseError, ManualPayoutError
from manual_payout.domain.models import Channel, Event, Message, PayoutRecord, stream_of


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
    desk: Desk, record: PayoutRecord, *, actor: str, channels: Collection[Channel] = frozenset(Channel)
) -> int:
    """
    Write out what is announced for one payout.

    Args:
        channels: Only what goes out by these.

    Returns:
        How many messages got their text.

    Raises:
        ParameterError: The ledger does not know the payout any more.

        DatabaseError: The ledger, or our own database, does not answer.
    """
    found = [m for m in desk.store.announced_messages(record.mode, record.payout_id) if m.channel in channels]
    chain = desk.store.events_of(stream_of(record.incident_id, record.ledger_payout_id)) if found else []
    announced = [message for message in found if _is_announced(record, message, chain)]
    for message in found:
        if message not in announced:
            desk.store.refuse_announced(message, "Nothing in the journal announces it: somebody changed the database.")
    if not announced:
        return 0
    plain = _occasion(desk, record)
    told = {kind: _with_news(desk, plain, kind) for kind in {message.kind for message in announced}}
    return desk.store.record_messages([fill_in(told[message.kind], message) for message in announced], actor)


def _is_announced(record: PayoutRecord, message: Message, chain: Sequence[Event]) -> bool:
    return is_announced(record, message, chain) and message.channel is channel_of(message.kind)


def write_all_announced(desk: Desk, *, actor: str, channels: Collection[Channel] = frozenset(Channel)) -> Written:
    """
    Write out what any payout of this mode announced, after whoever should have done it was stopped.

    What cannot be written out stays announced and is named, whatever it is: it holds up nothing else.
    """
    waiting = [m for m in desk.store.announced_messages(desk.settings.mode) if m.channel in channels]
    payouts = sorted({message.payout_id for message in waiting if message.payout_id is not None})
    count = 0
    missing: tuple[Missing, ...] = ()
    for record in (desk.store.find_payout(payout_id) for payout_id in payouts):
        assert record is not None, "Bug: a message was announced without its payout"
        try:
            count += write_announced(desk, record, actor=actor, channels=channels)
        except ManualPayoutError as error:
            missing = missing or (
                Missing("ledger", f"the messages of {record.incident_id} wait for it. {error.message}"),
            )
            if isinstance(error, DatabaseError):
                # The next would wait as long for the same answer.
                break
    return Written(count, missing)


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
    """Whether a message tells how the money went on after it was sent."""
    return message.kind not in {*SENT, *SEALED}


def _occasion(desk: Desk, record: PayoutRecord) -> Occasion:
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
    if kind in SENT:
        return occasion
    news = "arrived" if kind in ARRIVED else "failed"
    stream = stream_of(occasion.record.incident_id, occasion.record.ledger_payout_id)
    event = desk.store.find_event(stream, "settlement_observed", lambda data: data.get("told") == news)
    assert event is not None, "Bug: a message was announced without its event"
    return replace(
        occasion,
        rung=str(event.data.get("failed_rung") or event.data["rung"]),
        note=str(event.data.get("note", "")),
    )
