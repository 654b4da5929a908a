"""An incident is closed when step 7 is done, by what is on record and not by what somebody says."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from types import SimpleNamespace

import pytest

import payout_rehearsal
from desks import STREAM
from manual_payout.approval.books import account_at
from manual_payout.domain.account import account_of
from manual_payout.domain.models import MessageState, Mode, State
from manual_payout.evidence.checklist import FollowUp, ItemStanding, checklist_of, read_follow_ups
from manual_payout.evidence.folder import Folder
from manual_payout.evidence.postmortem import postmortem_text
from manual_payout.evidence.story import read_story
from manual_payout.gateway import identify_key
from manual_payout.steps import closing
from payout_rehearsal.demo import incident

TODAY = date(2026, 3, 4)
TYPED = payout_rehearsal.CLOSING
OLD, NEW = identify_key("rk_live_" + "A" * 24 + "a91e"), identify_key("rk_live_" + "B" * 24 + "a91f")
ROTATED = {"mode": Mode.LIVE, "key_used": OLD.digest_prefix, "key_at_hand": NEW}


@pytest.fixture(name="done")
def _done(scene):
    """Everything but the messages is done, and arrived."""
    scene.send()
    record = replace(
        scene.record, settled_at=datetime.now(UTC), logged_at=datetime.now(UTC), settlement_rung="paid_to_bank"
    )
    return ItemStanding(
        account=account_of([record], [], []), waiting=(), record=record, messages=[], due=scene.desk.ledger.find_payout_due(incident.LEDGER_PAYOUT_ID), mode=Mode.SANDBOX,
        key_used="", key_at_hand=NEW, today=TODAY, access_review_every_days=92, typed=TYPED,
    )  # fmt: skip


def still_open(standing):
    """The names of what is open, but for the messages, which other tests are about."""
    return [item.name for item in checklist_of(standing) if not item.done and item.name != "stakeholders are told"]


def test_nothing_is_open_when_everything_is_done(done):
    """Then it can be closed."""

    assert [] == still_open(done)


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"automation_restored": False}, "automation is restored"),
        ({"root_cause": ""}, "root cause is written"),
        ({"root_cause": "…"}, "root cause is written"),
        ({"root_cause": "tbd"}, "root cause is written"),
        ({"root_cause": "See ticket."}, "root cause is written"),
        ({"root_cause": "n/a, n/a"}, "root cause is written"),
        ({"root_cause": "tbd tbd"}, "root cause is written"),
        ({"root_cause": "The root cause is not yet known."}, "root cause is written"),
        ({"root_cause": "原因不明"}, "root cause is written"),
        ({"follow_ups": ""}, "follow-ups have owners and dates"),
        ({"follow_ups": "Reconnect on failure"}, "follow-ups have owners and dates"),
        ({"follow_ups": "Reconnect on failure, Tomas, soon"}, "follow-ups have owners and dates"),
        ({"follow_ups": "Reconnect on failure, , 2026-03-13"}, "follow-ups have owners and dates"),
        ({"follow_ups": "Reconnect on failure, Tomas, 2026-03-03"}, "follow-ups have owners and dates"),
        ({"access_review_on": ""}, "the next access review has a date"),
        ({"access_review_on": "2026-03-03"}, "the next access review has a date"),
        ({"access_review_on": "2026-06-05"}, "the next access review has a date"),
    ],
)
def test_what_is_missing_is_named_with_its_remedy(done, changed, name):
    """One item each."""
    standing = replace(done, typed=TYPED | changed)

    assert [name] == still_open(standing)
    assert all(item.remedy for item in checklist_of(standing) if not item.done)


def test_root_cause_need_not_be_in_a_script_that_parts_words(done):
    """Japanese and Thai put no space between words."""
    causes = ("データベースへの接続が切れました", "การเชื่อมต่อฐานข้อมูลขาดหาย")

    assert [[], []] == [still_open(replace(done, typed=TYPED | {"root_cause": cause})) for cause in causes]


@pytest.mark.parametrize(
    ("claim", "is_open"),
    [
        ({"claimed_by": "somebody else"}, True),
        ({"claimed_by": None, "status": "failed", "standing": "failed"}, True),
        ({"status": "paid", "standing": "paid"}, False),
        ({"status": "paid", "standing": "paid", "claimed_by": None}, True),
    ],
)
def test_ledger_says_whether_the_automation_will_leave_it_alone(done, claim, is_open):
    """Paid without our claim may mean that the automation paid too."""
    found = still_open(replace(done, due=replace(done.due, **claim)))

    assert (["the ledger leaves it to the fallback"] if is_open else []) == found


def test_payout_that_the_ledger_does_not_know_is_open(done):
    """Another ledger than that of the payout."""

    assert ["the ledger leaves it to the fallback"] == still_open(replace(done, due=None))


@pytest.mark.parametrize(
    ("typed", "at_hand", "used", "is_open"),
    [
        ("", NEW, OLD.digest_prefix, True),
        ("a91f", NEW, OLD.digest_prefix, False),
        ("a91f", NEW, "", False),
        ("a91f", OLD, OLD.digest_prefix, True),
        ("a91e", OLD, OLD.digest_prefix, True),
        ("a91e", NEW, OLD.digest_prefix, True),
    ],
)
def test_rotation_is_proven_by_the_key_at_hand(done, typed, at_hand, used, is_open):
    """Four typed characters prove nothing; the digest of the key that runs this does."""
    standing = replace(
        done, mode=Mode.LIVE, key_used=used, key_at_hand=at_hand, typed=TYPED | {"key_rotated_to": typed}
    )

    assert (["the key is rotated"] if is_open else []) == still_open(standing)


def test_key_that_paid_is_the_one_verified_before_the_intent(scene):
    """The run that closes verifies with the new key first; taken for the one that paid, it could never close, and the old key would pass."""

    def verified(key):
        scene.desk.store.record_event(STREAM, "verified", "tomas", {"stripe_key": key.digest_prefix, "verdict": "GO"})

    verified(NEW)
    verified(OLD)
    scene.send()
    verified(NEW)

    assert OLD.digest_prefix == closing._key_used(SimpleNamespace(desk=scene.desk, stream=STREAM), scene.record)


@pytest.mark.parametrize(
    ("mode", "states", "is_open"),
    [
        (Mode.LIVE, ("delivered", "to_copy"), True),
        (Mode.LIVE, ("delivered", "copied"), False),
        (Mode.LIVE, ("delivered", "waiting"), True),
        (Mode.SANDBOX, ("to_copy", "to_copy"), False),
    ],
)
def test_text_that_nobody_has_said_to_have_sent_is_open_in_live_mode(done, mode, states, is_open):
    """Ready to copy is not told; `deliver --copied` says that it was sent."""
    messages = [SimpleNamespace(kind="slack_alert", state=MessageState(state)) for state in states]
    told = next(
        item
        for item in checklist_of(replace(done, messages=messages, mode=mode))
        if item.name.startswith("stakeholders")
    )

    assert is_open is not told.done
    assert ("to_copy" in states and is_open) == ("--copied" in told.remedy)


def test_close_asks_again_and_shows_what_the_journal_keeps(scene, monkeypatch):
    """Without the list before it, too; and a second close shows the root cause of the first, which is the one on record."""
    items = [SimpleNamespace(name="the money has arrived", done=False, found="on its way", remedy="Wait.")]
    monkeypatch.setattr(closing, "checklist_of", lambda _standing: items)
    monkeypatch.setattr(
        closing, "_standing", lambda _run: SimpleNamespace(account=account_at(scene.desk, incident.LEDGER_PAYOUT_ID))
    )
    scene.send()

    def close(cause):
        run = SimpleNamespace(
            findings={}, dry_run=False, find_record=lambda: scene.record, desk=scene.desk, stream=STREAM, operator=scene.operator, parameters=scene.typed(),
            extra={"root_cause": cause, "follow_ups": "x, y, 2026-03-13"},
        )  # fmt: skip
        return closing._close(run).sentence

    left = close("first")
    items.clear()

    assert "the money has arrived" in left
    assert ["Root cause: first Follow-ups: x, y, 2026-03-13"] * 2 == [close("first"), close("second")]


@pytest.mark.parametrize(("mode", "counts"), [("live", True), ("sandbox", False)])
def test_rotation_in_a_rehearsals_close_is_none_of_the_live_key(scene, mode, counts):
    """A drill that names a new key would end the alert about the one that paid."""
    scene.send()
    scene.desk.store.record_event(STREAM, "incident_closed", "tomas", {"key_rotated_to": "a91f"})
    scene.tamper("UPDATE manual_payouts SET mode = :mode", mode=mode)

    assert counts == (scene.desk.store.last_key_rotation(Mode.LIVE) is not None)


def test_money_that_came_back_whole_need_not_arrive(done):
    """A reversed payout is closed too."""
    gone = replace(done.record, state=State.REVERSED, settled_at=None)
    account = account_of([gone], [], [])

    assert [] == still_open(
        replace(done, account=account, record=gone, due=replace(done.due, claimed_by=None, standing="failed"))
    )


def test_follow_ups_are_read_as_they_are_typed():
    """A comma belongs to what is to be done; the last two part owner and date from it."""

    assert (
        FollowUp("Alert, and page", "Noor Haddad", date(2026, 3, 20)),
        FollowUp("Reconnect", "Tomas", TODAY),
    ) == read_follow_ups("Alert, and page, Noor Haddad, 2026-03-20; Reconnect, Tomas, 2026-03-04;", TODAY)


def test_postmortem_holds_what_the_record_knows_and_escapes_the_rest(scene):
    """People fill in what is left; a hostile root cause is text."""
    scene.send()
    closed = scene.desk.store.record_event(
        STREAM, "incident_closed", "tomas", TYPED | {"root_cause": "a | b [x](http://x)"}
    )
    folder = Folder(scene.desk.settings.outputs_dir / "evidence", scene.desk.redactor)
    story = read_story(scene.desk, folder, incident.INCIDENT_ID, incident.LEDGER_PAYOUT_ID, without=frozenset())
    text = postmortem_text(
        story, closed, incident_id="INC-123", name_of=scene.desk.registry.name_of, today=TODAY
    )  # fmt: skip

    assert scene.record.stripe_transfer_id in text
    assert "| Stripe made the transfer |" in text
    assert "| Reconnect on failure | Tomas Lindqvist | 2026-03-13 |" in text
    assert "a | b [x](http://x)" not in text
    assert 3 == text.count("*Not written yet.*")
