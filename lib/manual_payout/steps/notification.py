"""Stage 4: the Slack message and the studio email, rendered from the row and saved."""

from __future__ import annotations

from manual_payout.comms.messages import Occasion, compose, is_rehearsal
from manual_payout.display import Banner, Text
from manual_payout.errors import UnknownOutcomeError
from manual_payout.models import Message, State
from manual_payout.steps.run import Run, question


@question
def slack_message(run: Run) -> Text:
    """Show the message for the payments channel, approver names and incident link filled in."""
    rendered = _rendered(run)
    if rendered is None:
        return Text("Nothing was sent, so there is nothing to tell.", "")
    message = rendered[0]
    path = run.folder.keep("slack-message.txt", message.body_text)
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
    policy = run.desk.settings.policy.messages
    head = f"From: {policy.support_from}\nTo: {message.audience}\nSubject: {message.subject}\n\n"
    return Text(f"From the shared support inbox to the studio; saved as {path.name}.", head + message.body_text)


@question
def prepare(run: Run) -> Banner:
    """Put both messages into the outbox, each once."""
    shown = _prepare(run)
    run.verdict = shown.word
    return shown


def _rendered(run: Run) -> list[Message] | None:
    record = run.find_record() if run.dry_run else run.get_record()
    if record is None or (run.dry_run and record.state is State.REFUSED):
        return None
    if record.stripe_transfer_id is None:
        raise UnknownOutcomeError(
            f"The sending is {record.state}; nobody is told of money that may not have moved.",
            f"Run `manual-payout reconcile {record.incident_id}`.",
        )
    due = run.desk.ledger.get_payout_due(record.ledger_payout_id)
    policy = run.desk.settings.policy.messages
    occasion = Occasion(record, due, run.desk.registry, policy, is_rehearsal(record.mode))
    # The moment of the outcome, so that rendering again gives the same message.
    return compose(occasion, at=record.outcome_at or run.desk.now())


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
    again = "" if new else " They were prepared before; do not send them twice."
    return Banner(
        "Ready to copy",
        f"Nothing is configured to send them: post the first in the channel, send the second from the shared inbox, "
        f"and confirm delivery in the ticket.{again}",
        good=True,
    )
