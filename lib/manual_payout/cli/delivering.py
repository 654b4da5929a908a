"""Send what waits in the outbox, and record what a person sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from manual_payout.cli.answers import show_answer
from manual_payout.cli.options import Json, Operator
from manual_payout.cli.values import open_operators_desk, required
from manual_payout.domain.errors import EvidenceError, ManualPayoutError, NotFinishedError, ParameterError

if TYPE_CHECKING:
    from manual_payout.desk.wiring import Desk
    from manual_payout.domain.display import Table
    from manual_payout.domain.models import Message

_COLUMNS = ("message", "incident", "tells", "to", "state", "tries", "why")


def deliver(
    now: Annotated[bool, typer.Option("--now", help="Do not wait out the pauses after failed tries.")] = False,
    refused: Annotated[bool, typer.Option("--refused", help="Try again what a provider refused.")] = False,
    copied: Annotated[
        str, typer.Option(metavar="MESSAGE", help="Record that you sent this message by hand, instead.")
    ] = "",
    operator: Operator = "",
    as_json: Json = False,
) -> None:
    """Send what waits in the outbox: Slack, the studio's email, PagerDuty. Moves no money.

    Every run does it too; this is for what had to wait, by hand or every few minutes by cron. Exit code 6 says that
    something still waits or was refused, 5 that a row of the outbox is not what the journal says was written; it goes to
    nobody. Messages are named as `manual-payout status` names them.

    \b
    Examples:
      manual-payout deliver --operator tomas
      manual-payout deliver --copied 1f0c6f9e-5f0a-5d1b-8f0e-4c52b7a1d001 --operator tomas
    """
    desk = open_operators_desk()
    who = required("operator", operator or desk.settings.operator)
    person = desk.registry.get_allowed(who, "operate", desk.now(), field="operator")
    if copied:
        _record_copied(desk, copied, person.person_id)
    counts, unwritten, disbelieved = {"copied": 1}, "", 0
    if not copied:
        counts, unwritten, disbelieved = _deliver(desk, person.person_id, now=now, refused=refused)
    error = _left_over(counts, unwritten, disbelieved)
    if as_json:
        show_answer(counts, error)
    else:
        typer.echo(", ".join(f"{count} {what.replace('_', ' ')}" for what, count in counts.items()) + ".")
    if error is not None:
        raise error


def _left_over(counts: Mapping[str, int], unwritten: str, disbelieved: int) -> ManualPayoutError | None:
    """Say what did not go out, the gravest first; None where everything did."""
    if disbelieved:
        return EvidenceError(
            f"{disbelieved} {'message is' if disbelieved == 1 else 'messages are'} not what the journal says was written, and "
            "went to nobody: somebody changed the database.",
            "Stop, keep the database as it is and call Security; see message-not-written in docs/monitoring.md.",
        )
    refused, waiting = counts.get("refused", 0), counts.get("waiting", 0)
    said = ([f"a provider refuses {refused}"] if refused else []) + ([f"{waiting} still wait"] if waiting else [])
    if refused:
        remedy = (
            "`manual-payout status` says why. Correct what is wrong and run `manual-payout deliver --refused`, or send it by "
            "hand and say so with `manual-payout deliver --copied MESSAGE`."
        )
        return NotFinishedError(f"Not everything went out: {' and '.join(said)}.", remedy)
    if waiting:
        return NotFinishedError(
            f"Not everything went out: {said[0]}.",
            "Run `manual-payout status` to see why, and the same command again later.",
        )
    if unwritten:
        return NotFinishedError(
            f"The ledger could not be asked for the text of some: {unwritten}", "Correct that, and run the same again."
        )
    return None


def waiting_table(messages: Sequence[Message]) -> Table:
    """Show messages that have not gone out, and why."""
    from manual_payout.domain.display import Table

    rows = tuple(
        (
            message.message_id,
            message.stream.partition("/")[0],
            message.kind.replace("_", " "),
            message.audience,
            message.state.value.replace("_", " "),
            str(message.tries),
            message.last_error + _next_try(message),
        )
        for message in messages
    )
    count = len(rows)
    caption = f"{count} {'message has' if count == 1 else 'messages have'} not gone out; the money is not affected."
    return Table(caption, _COLUMNS, rows, frozenset({"tries"}))


def _next_try(message: Message) -> str:
    from manual_payout.domain.models import MessageState

    # What was refused is tried again by nobody, until a person says so.
    if message.state is not MessageState.WAITING or message.not_before is None:
        return ""
    return f" Next try after {message.not_before:%H:%M} UTC."


def _deliver(desk: Desk, actor: str, *, now: bool, refused: bool) -> tuple[dict[str, int], str, int]:
    """Deliver, and say how many messages that came to, why others have no text yet, and how many nobody wrote."""
    from manual_payout.comms.delivery import Postroom
    from manual_payout.comms.telling import write_all_announced
    from manual_payout.domain.models import MessageState

    store, mode = desk.store, desk.settings.mode
    if refused:
        store.retry_refused(mode)
    postroom = Postroom(desk.settings, store, actor)
    # What has its text goes out before the ledger is asked for more.
    done = postroom.deliver(at_once=now)
    written = write_all_announced(desk, actor=actor)
    done = done.followed_by(postroom.deliver())
    left: Counter[MessageState] = Counter()
    for _, state, count, _ in store.unsent_counts(mode):
        left[state] += count
    counts = {
        "written": written.count,
        "delivered": done.delivered,
        "waiting": left[MessageState.WAITING] + left[MessageState.SENDING],
        "refused": left[MessageState.REFUSED],
        "to_copy": left[MessageState.TO_COPY],
    }
    return counts, "; ".join(one.reason for one in written.missing), len(store.disbelieved_messages(mode))


def _record_copied(desk: Desk, message_id: str, actor: str) -> None:
    message = desk.store.get_message(message_id)
    if message is None:
        raise ParameterError(
            "copied", message_id, "the id of a message in the outbox", "Run `manual-payout status` to see them."
        )
    if not desk.store.record_copied(message, actor=actor):
        raise ParameterError(
            "copied",
            message_id,
            f"a message that still has to be sent, and this one is {message.state}",
            "Run `manual-payout status` to see those.",
        )
