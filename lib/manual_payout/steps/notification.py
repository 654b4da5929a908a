"""Stage 4: the Slack message and the studio email, rendered from the row, saved, put into the outbox and delivered."""

from __future__ import annotations

import json

from manual_payout.comms.delivery import Postroom
from manual_payout.comms.telling import is_about_settlement, sent_messages
from manual_payout.domain.display import Banner, Table, Text
from manual_payout.domain.errors import UnknownOutcomeError
from manual_payout.domain.models import Message, MessageState, Mode, State
from manual_payout.evidence.folder import json_text
from manual_payout.steps.run import Run, question

_GONE = (MessageState.DELIVERED, MessageState.COPIED)

_WORDS = {
    MessageState.ANNOUNCED: "not yet",
    MessageState.TO_COPY: "to copy",
    MessageState.WAITING: "not yet",
    MessageState.SENDING: "not yet",
    MessageState.DELIVERED: "done",
    MessageState.REFUSED: "failed",
    MessageState.COPIED: "done",
}


@question
def slack_message(run: Run) -> Text:
    """Show the message for the payments channel, approver names and incident link filled in."""
    rendered = _rendered(run)
    if rendered is None:
        return Text("Nothing was sent, so there is nothing to tell.", "")
    message = rendered[0]
    path = run.folder.keep("slack-message.txt", message.body_text)
    run.folder.keep("slack-message.json", json_text({"blocks": json.loads(message.body_json)}))
    return Text(f"For {message.audience}; saved as {path.name}.", message.body_text)


@question
def studio_email(run: Run) -> Text:
    """Show the email to the studio, in text; the HTML form is saved beside it."""
    rendered = _rendered(run)
    if rendered is None:
        return Text("Nothing was sent, so there is nothing to tell.", "")
    message = rendered[1]
    run.folder.keep("studio-email.html", message.body_html)
    path = run.folder.keep("studio-email.txt", message.body_text)
    head = f"From: {run.desk.settings.policy.messages.support_from}\nTo: {message.audience}\nSubject: {message.subject}\n\n"
    reader = "the studio" if run.desk.settings.mode is Mode.LIVE else "the rehearsal's own mailbox, not to the studio"
    return Text(f"From the shared support inbox to {reader}; saved as {path.name}.", head + message.body_text)


@question
def prepare(run: Run) -> Banner:
    """Put both messages into the outbox, each once, and try to deliver what is configured."""
    shown = _prepare(run)
    run.verdict = shown.word
    return shown


@question
def deliveries(run: Run) -> Table:
    """Show every message of this payout: where it went, and what the provider answered."""
    record = run.find_record()
    messages = run.desk.store.messages_of(record.payout_id) if record else []
    return delivery_table(run, messages)


def delivery_table(run: Run, messages: list[Message], none: str = "Nothing is in the outbox.") -> Table:
    """Show messages with what became of each, or say that there are *none*; a live run saves the receipts."""
    if not run.dry_run:
        _keep_receipts(run, messages)
    rows = tuple((_WORDS[m.state], m.kind.replace("_", " "), m.audience, _answer(m)) for m in messages)
    return Table(_caption(messages) if messages else none, ("status", "message", "to", "answer or reason"), rows)


def _keep_receipts(run: Run, messages: list[Message]) -> None:
    receipts = [
        {
            "message_id": message.message_id,
            "kind": message.kind,
            "audience": message.audience,
            "delivered_at": f"{message.delivered_at:%Y-%m-%dT%H:%M:%SZ}",
            "sent_again_in_doubt": message.repeats,
            "receipt": json.loads(message.receipt),
        }
        for message in messages
        if message.delivered_at is not None
    ]
    if receipts:
        run.folder.keep("message-receipts.json", json_text(receipts))


def _caption(messages: list[Message]) -> str:
    copy = sum(message.state is MessageState.TO_COPY for message in messages)
    gone = sum(message.state in _GONE for message in messages)
    if copy == len(messages):
        return f"{copy} messages are ready to copy."
    return f"{gone} of {len(messages)} messages have gone out."


def _answer(message: Message) -> str:
    if message.state is MessageState.DELIVERED:
        receipt = json.loads(message.receipt)
        return ", ".join(f"{name} {receipt[name]}" for name in sorted(receipt))
    if message.state is MessageState.COPIED:
        return "sent by hand"
    if message.state is MessageState.TO_COPY:
        return "nothing is configured to send it: copy it"
    later = f" Next try after {message.not_before:%H:%M:%S} UTC." if message.not_before else ""
    if message.state is MessageState.REFUSED:
        later = " Send it by hand, or correct what is wrong and run `manual-payout deliver --refused`."
    return f"{message.last_error or 'waits for its first try.'}{later}"


def _rendered(run: Run) -> list[Message] | None:
    record = run.find_record() if run.dry_run else run.get_record()
    if record is None or (run.dry_run and record.state is State.REFUSED):
        return None
    if record.stripe_transfer_id is None:
        raise UnknownOutcomeError(
            f"The sending is {record.state}; nobody is told of money that may not have moved.",
            f"Run `manual-payout reconcile {record.incident_id}`.",
        )
    return sent_messages(run.desk, record)


def _prepare(run: Run) -> Banner:
    rendered = _rendered(run)
    if rendered is None:
        return Banner("Nothing to tell", "Nothing was sent.", good=False)
    if run.dry_run:
        return Banner(
            "Dry run: not prepared",
            "The messages above are a preview; run live to put them into the outbox.",
            good=True,
        )
    new = run.desk.store.record_messages(rendered, run.operator.person_id)
    payout_id = run.get_record().payout_id
    Postroom(run.desk.settings, run.desk.store, run.operator.person_id).deliver(payout_id)
    stored = [m for m in run.desk.store.messages_of(payout_id) if not is_about_settlement(m)]
    return _outcome(stored, new)


def _outcome(stored: list[Message], new: int) -> Banner:
    states = {message.state for message in stored}
    copy = [message.kind.replace("_", " ") for message in stored if message.state is MessageState.TO_COPY]
    if states == {MessageState.TO_COPY}:
        again = "" if new else " They were prepared before; do not send them twice."
        return Banner(
            "Ready to copy",
            f"Nothing is configured to send them: post the first in the channel, send the second from the shared inbox, "
            f"and confirm delivery in the ticket.{again}",
            good=True,
        )
    by_hand = f" Copy by hand: {', '.join(copy)}." if copy else ""
    if MessageState.REFUSED in states:
        return Banner("Refused by a provider", f"The table below says which and why.{by_hand}", good=False)
    if states <= {*_GONE, MessageState.TO_COPY}:
        return Banner("Delivered", f"The providers have taken them; their answers are below.{by_hand}", good=True)
    return Banner(
        "On their way",
        f"Not everything was taken yet. The payout is not held up by it: the later stages and `manual-payout deliver` "
        f"try again, and `manual-payout status` shows it.{by_hand}",
        good=False,
    )
