"""Rows are not believed: whoever can write into the database sends, pages and hides nothing by a row."""

from __future__ import annotations

import json

import pytest
from tests.manual_payout.test_delivering import _paid, _services  # noqa: F401  # fixtures
from tests.manual_payout.test_delivery import NIGHT, Provider, _demo, message, now_of, postroom, put  # noqa: F401  # a fixture among them
from tests.manual_payout.test_journal import drop_triggers
from tests.manual_payout.test_monitoring import DUE, rules

from manual_payout.database.schema import messages
from manual_payout.database.store import message_id
from manual_payout.database.store.writing import content_digest
from manual_payout.domain.models import MessageState, Mode
from manual_payout.monitoring import watch_round
from payout_rehearsal.demo import incident

REFUSED = MessageState.REFUSED
OTHER = {
    "audience": "'thief@evil.example'", "subject": "'Your bank account'", "body_text": "'Click'", "body_html": "'<b>Click</b>'",
    "body_json": "'[]'", "stream": "'INC-2/x'", "kind": "'studio_arrived'", "dedup_key": "'other'", "channel": "'slack'",
}  # fmt: skip


@pytest.mark.parametrize("column", OTHER)
def test_message_that_was_changed_goes_to_nobody(demo, store, raw, column):
    """Each thing that a reader would be shown, and what says which message it is, is that of the journalled event."""
    put(store, message(), message(2))
    raw(f"UPDATE messages SET {column} = {OTHER[column]} WHERE message_id = 'm1'")
    provider = Provider()
    done = postroom(demo, store, provider).deliver()

    assert (0, 1, [("m2", 1)]) == (now_of(store).tries - 1, done.refused, list(provider.taken.items()))
    assert REFUSED is now_of(store).state
    assert "not the message that the journal says was written" in now_of(store).last_error
    assert ["m1"] == [one.message_id for one in store.disbelieved_messages(Mode.SANDBOX)]
    store.retry_refused(Mode.SANDBOX)
    assert 1 == postroom(demo, store, provider).deliver(at_once=True).refused


def test_message_that_nobody_wrote_goes_to_nobody(demo, store, engine):
    """A row that was put in is no message, nor is it where its event is not part of the chain."""
    forged = message(3)
    with engine.begin() as connection:
        values = {column.name: getattr(forged, column.name) for column in messages.c}
        connection.execute(
            messages.insert().values(values | {"state": "waiting", "mode": "sandbox", "channel": "email"})
        )
    provider = Provider()

    assert (1, {}) == (postroom(demo, store, provider).deliver().refused, dict(provider.taken))
    store.record_event("INC-3/x", "noted", "tester", {"n": 1})
    store.record_event("INC-3/x", "message_prepared", "tester", {"message_id": "m3", "digest": content_digest(forged)})
    drop_triggers(engine)
    with engine.execution_options(own_schema=True).begin() as connection:
        connection.exec_driver_sql("UPDATE events SET actor = 'x' WHERE seq = 1")
    store.retry_refused(Mode.SANDBOX)
    assert (1, {}) == (postroom(demo, store, provider).deliver(at_once=True).refused, dict(provider.taken))


def forged_row(shell, **changed):
    """Put a row into the outbox as somebody with the database's own client would."""
    record = shell.desk.store.find_live_payout(incident.LEDGER_PAYOUT_ID, Mode.SANDBOX)
    values = {column.name: getattr(message(9), column.name) for column in messages.c} | {
        "mode": "sandbox", "channel": "email", "state": "waiting", "payout_id": record.payout_id,
        "stream": f"{incident.INCIDENT_ID}/{incident.LEDGER_PAYOUT_ID}",
        "body_text": "Please confirm your bank account at https://evil.example",
    }  # fmt: skip
    with shell.desk.store._engine.begin() as connection:
        connection.execute(messages.insert().values(values | changed))


def test_deliver_and_monitor_say_that_a_row_was_forged(paid, services):
    """The true messages go out; the forged one does not; `deliver` ends in 5, the monitor fires, `status` shows it."""
    slack, mail = services
    forged_row(paid)
    answer = paid("deliver")
    watched = json.loads(paid("monitor", "--once", "--json").out)

    assert 5 == answer.code, answer.said
    assert "1 message is not what the journal says was written, and went to nobody" in answer.err
    assert "call Security" in answer.err
    assert slack.posted
    assert not any(b"evil.example" in email for _, _, email in mail.taken)
    assert ("message-not-written", "m9") in {(one["rule"], one["subject"]) for one in watched["firing"]}
    assert "somebody changed the" in paid("status", incident.INCIDENT_ID).said
    assert 5 == paid("deliver", "--refused").code
    assert not any(b"evil.example" in email for _, _, email in mail.taken)


@pytest.mark.parametrize("kind", ["studio_email", "studio_arrived", "studio_failed", "evil"])
def test_announcement_that_the_journal_does_not_know_gets_no_text(paid, services, kind):
    """A second email to the studio, or news of what did not happen, is not written; and no round ends of it."""
    _, mail = services
    record = paid.desk.store.find_live_payout(incident.LEDGER_PAYOUT_ID, Mode.SANDBOX)
    key = f"{record.payout_id}/1/{kind}/2"
    forged_row(paid, state="announced", kind=kind, dedup_key=key, message_id=message_id(key), body_text="", audience="")
    answer = paid("deliver")

    assert 5 == answer.code, answer.said
    assert 1 == len(mail.taken)
    assert "Nothing in the journal announces it" in paid.desk.store.get_message(message_id(key)).last_error
    assert 6 == paid("monitor", "--once").code


def test_alert_fires_and_is_over_by_the_journal_alone(scene):
    """A row that was put in pages nobody; one that was ended, or taken away, by hand is raised again, as an episode of its own."""
    first = watch_round(scene.desk)
    insert = (
        "INSERT INTO alerts (mode, rule, subject, severity, summary, value, episode, raised_at, resolved_at) "
        "VALUES ('sandbox', 'outcome-unknown', 'x', 'critical', 'Pay acct_evil', '1', 1, '2026-03-02 03:00:00', {})"
    )
    scene.tamper(insert.format("NULL"))
    scene.tamper("UPDATE alerts SET resolved_at = '2099-01-01 00:00:00' WHERE rule = 'fallback-requested'")
    scene.tamper(f"DELETE FROM alerts WHERE rule = '{DUE}'")
    again = watch_round(scene.desk)

    assert ["fallback-requested", DUE] == rules(first.alerts.firing) == rules(again.alerts.firing)
    assert [1, 1] == [alert.episode for alert in first.alerts.raised]
    assert [2, 2] == [alert.episode for alert in again.alerts.raised]
    assert "acct_evil" not in str(scene.rows("SELECT body_text, body_json FROM messages"))
