"""How far the money has come: what this key can show, and no rung more."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

import local_stripe
from desks import STREAM
from local_stripe.payouts import create_payout
from manual_payout.domain.errors import StripeRefusedError
from manual_payout.domain.models import State
from manual_payout.transfer import settlement
from manual_payout.transfer.settlement import Ladder, Reached, Rung, RungName
from payout_rehearsal.demo import incident

AT = datetime.fromisoformat(incident.NOW)
YES, NOT_YET, FAILED, INVISIBLE = Reached.YES, Reached.NOT_YET, Reached.FAILED, Reached.INVISIBLE
GOAL = RungName.PAID_TO_BANK


@pytest.fixture(name="paid")
def _paid(scene):
    """The scene after the transfer."""
    scene.send()
    return scene


def look(scene, desk=None):
    return settlement.look(desk or scene.desk, scene.record)


def seen(ladder):
    return [rung.reached for rung in ladder.rungs]


def without_read_key(scene):
    desk = scene.new_desk()
    desk.settings = desk.settings.model_copy(update={"read_key": None})
    return desk


def bank(scene, behaviour, schedule="daily"):
    scene.stripe.seed(
        [local_stripe.SandboxAccount(incident.DESTINATION_ACCOUNT, bank=behaviour, payout_schedule=schedule)]
    )


def test_ladder_climbs_as_the_days_pass(paid):
    """At once on the platform; a day later the studio can use it; two days later the bank has it."""
    ladders = [look(paid)]
    for _ in range(2):
        paid.pass_time(days=1, hours=2)
        ladders.append(look(paid))

    assert [[YES, YES, NOT_YET, NOT_YET], [YES, YES, YES, NOT_YET], [YES, YES, YES, YES]] == [
        seen(one) for one in ladders
    ]
    assert [RungName.SETTLED_ON_PLATFORM, RungName.USABLE_BY_STUDIO, GOAL] == [one.top for one in ladders]
    assert [False, False, True] == [one.done(GOAL) for one in ladders]


def test_every_rung_names_what_shows_it(paid):
    """Transfer, balance transaction, balance transaction of the studio, payout: each by Stripe's own id."""
    paid.pass_time(days=3)
    rungs = look(paid).rungs

    assert ["tr_", "txn_", "txn_", "po_"] == [rung.shown_by[: rung.shown_by.index("_") + 1] for rung in rungs]
    assert all(rung.at is not None and rung.note for rung in rungs)
    assert "Stripe can still take it back until" in rungs[-1].note


def test_fallback_key_alone_sees_the_transfer_and_says_what_to_grant(paid):
    """With Transfers and Balance only, the upper rungs are invisible; each names its permission."""
    desk = without_read_key(paid)
    ladder = look(paid, desk)
    hidden = [rung for rung in ladder.rungs if rung.reached is INVISIBLE]

    assert (YES, INVISIBLE, INVISIBLE) == (ladder.rungs[0].reached, ladder.rungs[2].reached, ladder.rungs[3].reached)
    assert all("STRIPE_READ_SECRET_KEY" in rung.note and "grant" in rung.note for rung in hidden)
    assert hidden[0] == ladder.blocked(GOAL)
    assert ladder.blocked(RungName.ACCEPTED) is None


def test_watch_ends_at_once_where_nothing_more_can_be_seen(paid):
    """Patience does not make a permission."""
    before, shown = paid.desk.now(), []
    settlement.watch(without_read_key(paid), paid.record, seen=shown.append)

    assert (before, 1) == (paid.desk.now(), len(shown))


def test_watch_follows_the_money_to_the_bank(paid):
    """With patience it ends when the policy's rung is reached, having told every look."""
    shown = []
    last = settlement.watch(paid.desk, paid.record, seen=shown.append)

    assert last.done(GOAL)
    assert last is shown[-1]
    assert [False] * (len(shown) - 1) == [one.done(GOAL) for one in shown[:-1]]


def test_watch_pauses_longer_each_time_and_ends_with_its_patience(paid, monkeypatch):
    """Pauses double up to the longest one, and their sum stays within the limit."""
    policy = {"poll_first_s": 60.0, "poll_pause_max_s": 200.0, "poll_limit_s": 1000.0}
    paid.desk.settings = paid.settings_with(settlement=policy)
    pauses = []
    monkeypatch.setattr(paid.desk.clock, "wait", pauses.append)
    last = settlement.watch(paid.desk, paid.record, seen=lambda _ladder: None)

    assert [60.0, 120.0, 200.0, 200.0, 200.0, 200.0] == pauses
    assert not last.done(GOAL)


def test_watch_without_patience_looks_once(paid):
    """A limit of zero is one look."""
    paid.desk.settings = paid.settings_with(settlement={"poll_limit_s": 0.0})
    shown = []
    settlement.watch(paid.desk, paid.record, seen=shown.append)

    assert 1 == len(shown)


def test_watch_ends_at_a_lower_goal(paid):
    """The policy may be content with less than the bank."""
    paid.desk.settings = paid.settings_with(settlement={"done_rung": "settled_on_platform"})
    before = paid.desk.now()
    last = settlement.watch(paid.desk, paid.record, seen=lambda _ladder: None)

    assert (before, True) == (paid.desk.now(), last.done(RungName.SETTLED_ON_PLATFORM))


def test_bank_that_refuses_is_a_failure_with_a_way_on(paid):
    """The payout failed: the money is with the studio at Stripe; it is not done, and never sent again."""
    bank(paid, "fails")
    last = settlement.watch(paid.desk, paid.record, seen=lambda _ladder: None)

    assert (FAILED, GOAL) == (last.failed.reached, last.failed.name)
    assert not last.done(RungName.ACCEPTED)
    assert "never send again" in last.failed.note


def test_paid_that_flips_to_failed_is_seen(paid):
    """Shown as paid, then taken back: the record says settled, then no longer."""
    bank(paid, "paid_then_fails")
    record = paid.record
    for hours, done in ((60, True), (72, False)):
        paid.pass_time(hours=hours)
        ladder = look(paid)
        rung = ladder.top.value
        record = paid.desk.store.record_settlement(record, rung, done=ladder.done(GOAL), actor="tomas", data={})

        assert done == ladder.done(GOAL) == (record.settled_at is not None)
    assert FAILED is ladder.rungs[-1].reached


def test_manual_schedule_never_shows_a_payout(paid):
    """A studio that takes its money by hand: usable, and the last rung says that it may never come."""
    bank(paid, "ok", "manual")
    paid.pass_time(days=10)
    ladder = look(paid)

    assert (RungName.USABLE_BY_STUDIO, NOT_YET) == (ladder.top, ladder.rungs[-1].reached)
    assert "manual schedule" in ladder.rungs[-1].note


def test_failed_payout_made_by_hand_is_told_and_not_taken_for_the_transfers(paid):
    """Stripe itemises none that was made by hand: the rung stays open, and the note names the payout and what to do."""
    bank(paid, "fails", schedule="manual")
    paid.pass_time(days=2)
    books = paid.stripe.books
    create_payout(books, books.account(incident.DESTINATION_ACCOUNT), 125_075, "usd", at=books.now_s, automatic=False)
    paid.pass_time(days=2)
    rung = look(paid).rungs[-1]

    assert (NOT_YET, "") == (rung.reached, rung.shown_by)
    assert books.payouts[-1].id in rung.note
    assert "(account_closed)" in rung.note
    assert "never send again" in rung.note


@pytest.mark.parametrize(("behaviour", "reached"), [("ok", YES), ("fails", FAILED)])
def test_payout_made_by_hand_that_names_the_transfer_is_the_last_rung(paid, behaviour, reached):
    """A platform that pays out by hand, or a rehearsal in test mode, says for which transfer."""
    bank(paid, behaviour, schedule="manual")
    paid.pass_time(days=2)
    books = paid.stripe.books
    named = {settlement.PAYOUT_METADATA_KEY: paid.record.stripe_transfer_id}
    studio = books.account(incident.DESTINATION_ACCOUNT)
    create_payout(books, studio, 125_075, "usd", at=books.now_s, automatic=False, metadata=named)
    paid.pass_time(days=2)
    rung = look(paid).rungs[-1]

    assert (reached, books.payouts[-1].id) == (rung.reached, rung.shown_by)


@pytest.mark.parametrize("change", [{"amount": 125_074}, {"metadata": {"manual_payout_transfer": "tr_other"}}])
def test_payout_that_cannot_hold_the_transfer_is_not_taken_at_its_word(paid, change):
    """Too small, or another's."""
    bank(paid, "ok", schedule="manual")
    paid.pass_time(days=2)
    books = paid.stripe.books
    given = {"amount": 125_075, "metadata": {settlement.PAYOUT_METADATA_KEY: paid.record.stripe_transfer_id}} | change
    create_payout(
        books, books.account(incident.DESTINATION_ACCOUNT), given["amount"], "usd", at=books.now_s, automatic=False,
        metadata=given["metadata"],
    )  # fmt: skip
    paid.pass_time(days=2)

    assert NOT_YET is look(paid).rungs[-1].reached


@pytest.mark.parametrize(("amount", "back", "arrives"), [(1, "0.01 USD", True), (125_075, "1,250.75 USD", False)])
def test_what_came_back_is_no_rung_and_the_rest_climbs_on(paid, amount, back, arrives):
    """Taken back in part, the rest is followed to the bank as any payout; of the whole nothing is left to arrive."""
    paid.pass_time(days=3)
    record = paid.transfers[0]
    record.amount_reversed = amount
    ladder = look(paid)

    assert (None, arrives, not arrives) == (ladder.failed, ladder.done(GOAL), ladder.whole)
    assert f"{back} of 1,250.75 USD have come back" in ladder.rungs[0].note


@pytest.mark.parametrize("kind", ["rate_limit", "error_500", "drop_before"])
@pytest.mark.parametrize("path", ["/v1/balance_transactions", "/v1/payouts"])
def test_failing_stripe_is_not_an_invisible_rung(paid, kind, path):
    """A busy or failing Stripe is told as that; a rung is called invisible only where a permission is missing."""
    paid.stripe.fault(kind, method="GET", path=path)
    with pytest.raises(StripeRefusedError):
        look(paid)

    assert NOT_YET is look(paid).rungs[2].reached


def test_payment_that_the_studio_does_not_show_yet_is_not_there_yet(paid, monkeypatch):
    """An empty listing is not a missing permission."""
    monkeypatch.setattr(paid.desk.watcher, "payments_balance", lambda *_args: None)

    assert NOT_YET is look(paid).rungs[2].reached


def test_looking_moves_nothing(paid):
    """The whole watch reads."""
    settlement.watch(paid.desk, paid.record, seen=lambda _ladder: None)

    assert (1, State.PAID) == (len(paid.posts), paid.record.state)


@pytest.mark.parametrize(
    ("reached", "top", "done"),
    [
        ([YES, YES, YES, YES], GOAL, True),
        ([YES, INVISIBLE, YES, YES], GOAL, True),
        ([YES, YES, YES, NOT_YET], RungName.USABLE_BY_STUDIO, False),
        ([NOT_YET, NOT_YET, NOT_YET, NOT_YET], None, False),
        ([FAILED, YES, YES, YES], GOAL, False),
        ([YES, YES, YES, FAILED], RungName.USABLE_BY_STUDIO, False),
    ],
)
def test_done_is_the_rung_reached_and_nothing_failed(reached, top, done):
    """A later rung that shows proves the earlier ones; a failure undoes all."""
    rungs = tuple(Rung(name, one, AT, "", "") for name, one in zip(RungName, reached, strict=True))
    ladder = Ladder(AT + timedelta(days=1), rungs)

    assert (top, done) == (ladder.top, ladder.done(GOAL))


def follow(scene, desk=None, **options):
    return settlement.follow_due(desk or scene.desk, actor="monitor", **options)


def kinds(scene):
    return [event.kind for event in scene.desk.store.events_of(STREAM)]


def told(scene):
    return sorted(message.kind for message in scene.desk.store.messages_of(scene.record.payout_id))


def test_following_climbs_without_a_run_and_tells_the_studio(paid):
    """Nobody runs 5-settle: each due look puts the new rung into the journal, and the arrival is announced once."""
    rungs = []
    for _ in range(9):
        follow(paid)
        rungs.append(paid.record.settlement_rung)
        paid.pass_time(hours=12)

    assert ["settled_on_platform", "usable_by_studio", "paid_to_bank"] == sorted(set(rungs), key=rungs.index)
    assert 3 == kinds(paid).count("settlement_observed")
    assert ["slack_alert", "slack_arrived", "studio_arrived", "studio_email"] == told(paid)


def test_looks_at_one_payout_become_rarer(paid):
    """A round right after another asks Stripe nothing; pauses double up to the longest one."""
    paid.desk.settings = paid.settings_with(settlement={"poll_first_s": 60.0, "poll_pause_max_s": 200.0})
    looked = []
    for seconds in (0, 30, 30, 60, 60, 120, 80, 200):
        paid.pass_time(seconds=seconds)
        looked.append(follow(paid).looked)

    assert [1, 0, 1, 0, 1, 0, 1, 1] == looked


def test_round_has_an_end_and_says_what_it_left(paid):
    """A thousand payouts are not asked for at once."""

    assert (0, 1) == (follow(paid, limit=0).looked, follow(paid, limit=0).left)


def test_arrived_money_that_flips_to_failed_is_noticed_without_a_run(paid):
    """It was settled and told; then the bank took it back: no longer settled, and everybody is told again."""
    bank(paid, "paid_then_fails")
    paid.pass_time(hours=60)
    follow(paid)
    arrived = paid.record.settled_at
    paid.pass_time(hours=72)
    changed = follow(paid).changed

    assert arrived is not None
    assert [None] == [record.settled_at for record in changed]
    assert {"slack_arrived", "studio_arrived", "slack_failed", "studio_failed", "page_failed"} <= set(told(paid))


def test_settled_payout_is_left_alone_once_it_can_flip_no_more(paid):
    """A week after it was settled nobody asks Stripe about it any more."""
    paid.pass_time(days=3)
    follow(paid)
    paid.pass_time(days=8)

    assert (0, 0) == (follow(paid).looked, follow(paid).left)


@pytest.mark.parametrize(("amount", "state"), [(100, State.PARTLY_REVERSED), (125_075, State.REVERSED)])
def test_reversal_in_the_dashboard_is_noticed_and_told_once(paid, amount, state):
    """The row says so, the journal tells the amount, and later rounds add nothing."""
    paid.transfers[0].amount_reversed = amount
    follow(paid)
    once = kinds(paid)
    settlement.note(paid.desk, paid.record, look(paid), actor="monitor")
    paid.pass_time(days=1)

    assert state is paid.record.state
    assert [amount] == [event.data["reversed_minor"] for event in paid.events("payout_reversed")]
    assert once == kinds(paid)
    assert (state is State.PARTLY_REVERSED) == follow(paid).looked


@pytest.mark.parametrize("kind", ["rate_limit", "drop_before"])
def test_failing_stripe_is_told_and_the_payout_is_looked_at_again_later(paid, kind):
    """A round never raises for Stripe's sake; it says which payout it could not see."""
    paid.stripe.fault(kind, method="GET", path="/v1/transfers")
    blind = follow(paid)
    paid.pass_time(minutes=5)

    assert ["Stripe"] == [name for name, _ in blind.blind]
    assert 1 == len(follow(paid).changed)


def test_failed_look_is_repeated_by_the_next_round(paid):
    """After hours of ever rarer looks too: a round that did not look could not say that there is still no data."""
    for _ in range(5):
        follow(paid)
        paid.pass_time(hours=7)
    looks = paid.rows("SELECT looks FROM settlement_watch")
    paid.stripe.fault("error_500", method="GET", path="/v1/payouts")
    paid.stripe.fault("error_500", method="GET", path="/v1/payouts")
    rounds = [follow(paid), follow(paid), follow(paid), follow(paid)]

    assert [1, 1, 0, 0] == [len(one.blind) for one in rounds]
    assert [1, 1, 1, 0] == [one.looked for one in rounds]
    assert looks[0][0] + 1 == paid.rows("SELECT looks FROM settlement_watch")[0][0]


def test_rung_that_no_key_can_see_is_said_in_every_round(paid):
    """Not that the money is late, which nobody knows, but what to grant."""
    desk = without_read_key(paid)
    rounds = [follow(paid, desk) for _ in range(2)]

    assert [[f"settlement of {incident.INCIDENT_ID}"]] * 2 == [[name for name, _ in one.blind] for one in rounds]
    assert "STRIPE_READ_SECRET_KEY" in rounds[0].blind[0][1]
    assert [] == list(follow(paid).blind)


def test_part_that_was_not_taken_back_arrives(paid):
    """Settled stays settled, since when it was; the studio gets no email that the whole amount failed."""
    paid.pass_time(days=3)
    follow(paid)
    before = paid.record.settled_at
    paid.transfers[0].amount_reversed = 100
    paid.pass_time(hours=7)
    follow(paid)

    assert before is not None
    assert (State.PARTLY_REVERSED, before) == (paid.record.state, paid.record.settled_at)
    assert {"slack_failed", "page_failed", "studio_came_back"} <= set(told(paid))
    assert "studio_failed" not in told(paid)


def test_part_that_was_not_taken_back_is_settled_once_it_is_there(paid):
    """Taken back in part before it arrived, the rest counts from its own arrival."""
    paid.transfers[0].amount_reversed = 100
    follow(paid)
    early = paid.record.settled_at
    paid.pass_time(days=3)
    settlement.note(paid.desk, paid.record, look(paid), actor="tomas")

    assert early is None
    assert paid.record.settled_at is not None


def test_round_of_looks_works_on_both_databases(any_scene):
    """The query that finds what is due, and the row that makes it rare, on SQLite and PostgreSQL."""
    any_scene.send()

    assert [1, 0] == [follow(any_scene).looked, follow(any_scene).looked]
