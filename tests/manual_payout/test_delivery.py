"""The outbox: nothing lost, nothing sent twice where the provider lets us know, and no payout held up by a message."""

from __future__ import annotations

import contextlib
import itertools
import json
import threading
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr
from tests.outbox.campaign import campaign

from manual_payout.comms.courier import Absent, Delayed, Delivered, MessageRefused, Unknowable
from manual_payout.comms.delivery import DELIVERY_PAUSE_MAX_S, Postroom, pause_s
from manual_payout.comms.telling import sent_messages, write_all_announced, write_announced
from manual_payout.comms.wiring import configured_channels, objection, open_courier
from manual_payout.database import engines
from manual_payout.database.clock import FixedClock
from manual_payout.database.store import Store
from manual_payout.desk.messengers import NO_MESSENGERS
from manual_payout.desk.settings import load_settings
from manual_payout.domain.errors import ClaimError, SettingsError, UnknownOutcomeError
from manual_payout.domain.models import Channel, Message, MessageState, Mode
from mishaps import CrashError

NIGHT = datetime(2026, 3, 2, 3, 0, tzinfo=UTC)
WAITING, DELIVERED, REFUSED = MessageState.WAITING, MessageState.DELIVERED, MessageState.REFUSED


def message(number=1, **changed):
    """A message that waits, addressed to the rehearsal's readers."""
    given = {
        "message_id": f"m{number}", "stream": f"INC-{number}/x", "payout_id": None, "kind": "studio_email",
        "audience": "rehearsal@marketplace.example", "dedup_key": f"k{number}", "subject": "s", "body_text": "t",
        "body_html": "h", "state": WAITING, "created_at": NIGHT, "mode": Mode.SANDBOX, "channel": Channel.EMAIL,
    }  # fmt: skip
    return Message(**(given | changed))


class Provider:
    """A provider that does as it is told, and keeps what people got."""

    def __init__(self, *plan, knows=False):
        self.plan, self.knows = list(plan), knows
        self.taken = Counter()

    def send(self, sent, hand_over):
        doing = self.plan.pop(0) if self.plan else "take"
        if doing == "unreachable":
            return Delayed("unreachable")
        if doing == "limit":
            return Delayed("429", retry_after_s=900)
        if doing == "bug":
            raise RuntimeError("a fault in a client")
        hand_over()
        if doing == "refuse":
            return MessageRefused("no such address")
        if doing == "lost":
            return Delayed("no answer", in_doubt=True)
        self.taken[sent.message_id] += 1
        return Delayed("no answer", in_doubt=True) if doing == "lose" else Delivered({"id": sent.message_id})

    def find(self, sent):
        if not self.knows:
            return Unknowable()
        return Delivered({"found": sent.message_id}) if self.taken[sent.message_id] else Absent()


@pytest.fixture(scope="module", name="demo")
def _demo():
    """Sandbox mode, nothing configured."""
    return load_settings(stripe_api_base="http://127.0.0.1:9", **NO_MESSENGERS)


def postroom(demo, store, provider, **changed):
    return Postroom(demo, store, "tomas", dict.fromkeys(Channel, provider), **changed)


def put(store, *made):
    store.record_messages(made, "tomas")


def now_of(store, number=1):
    return store.get_message(f"m{number}")


def kinds(store, number=1):
    return [event.kind for event in store.events_of(f"INC-{number}/x")]


def test_delivered_once_with_its_receipt(demo, store):
    """However often the outbox is emptied; the receipt is on the row and in the journal."""
    put(store, message())
    provider = Provider()
    rounds = [postroom(demo, store, provider).deliver().delivered for _ in range(3)]

    assert ([1, 0, 0], 1) == (rounds, provider.taken["m1"])
    assert (DELIVERED, {"id": "m1"}, NIGHT) == (
        now_of(store).state,
        json.loads(now_of(store).receipt),
        now_of(store).delivered_at,
    )
    assert ["message_prepared", "message_delivered"] == kinds(store)


def test_receipt_that_quotes_a_secret_is_kept_without_it(demo, store):
    """What a provider answered goes into the journal, whatever it is."""
    token = "xq7hT9zQ4mVx2LpR8sKw"
    put(store, message())
    quoting = Provider()
    quoting.send = lambda _, hand_over: hand_over() or Delivered({"ts": f"by {token}"})
    postroom(demo.model_copy(update={"slack_bot_token": SecretStr(token)}), store, quoting).deliver()

    assert {"ts": "by [redacted]"} == json.loads(now_of(store).receipt)
    assert token not in str(store.events_of("INC-1/x"))


def test_secret_that_is_too_short_is_found_before_anything_goes_out(demo, store):
    """Found out when the receipt is kept, it would let the message go out again with every run."""
    put(store, message())
    provider = Provider()
    with pytest.raises(SettingsError, match="short"):
        postroom(demo.model_copy(update={"slack_bot_token": SecretStr("k1")}), store, provider).deliver()

    assert (0, WAITING) == (provider.taken["m1"], now_of(store).state)


def test_client_that_cannot_be_made_delays_its_messages(demo, store, monkeypatch):
    """A proxy that it has no code for: that is a line in `status`, and no traceback; nothing was handed over."""
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1")
    put(store, message(channel=Channel.PAGERDUTY))
    paged = demo.model_copy(update={"pagerduty_rehearsal_routing_key": SecretStr("R7PXKQ2MZL4TND")})

    assert 1 == Postroom(paged, store, "tomas").deliver().delayed
    assert ("The client cannot be made (ImportError).", None) == (
        now_of(store).last_error,
        now_of(store).handed_over_at,
    )


def test_failed_try_waits_longer_each_time_and_says_why(demo, store):
    """30 s, then 60: not before; and then it goes out."""
    put(store, message())
    provider = Provider("unreachable", "unreachable")
    room = postroom(demo, store, provider)
    found = []
    for wait in (0, 29, 1, 59, 1):
        store.clock.wait(wait)
        room.deliver()
        found.append((now_of(store).tries, now_of(store).state))

    assert [(1, WAITING), (1, WAITING), (2, WAITING), (2, WAITING), (3, DELIVERED)] == found
    assert "" == now_of(store).last_error


@given(st.integers(1, 10_000), st.none() | st.floats(0, 1e6))
def test_pause_is_bounded_and_never_less_than_asked(tries, asked):
    """It grows to an hour; a provider's wish counts up to a day."""

    assert 30 <= pause_s(tries) <= DELIVERY_PAUSE_MAX_S
    assert pause_s(tries, asked) >= min(asked or 0, 24 * 3600)
    assert pause_s(tries) <= pause_s(tries + 1)


def test_provider_that_asks_for_a_pause_gets_it_for_all_its_messages(demo, store):
    """429: the others on that channel are not even tried in this round; another channel goes on."""
    put(store, message(1), message(2), message(3, channel=Channel.SLACK, audience="#payments-rehearsal"))
    mail, slack = Provider("limit"), Provider()
    room = Postroom(demo, store, "tomas", {Channel.EMAIL: mail, Channel.SLACK: slack})
    done = room.deliver()

    assert (1, 1) == (done.delivered, done.delayed)
    assert [1, 0, 1] == [now_of(store, number).tries for number in (1, 2, 3)]
    assert NIGHT + timedelta(seconds=900) == now_of(store, 1).not_before


def test_outage_is_not_tried_message_by_message(demo, store):
    """Three failures in a row, and a channel rests until the next round."""
    put(store, *(message(number) for number in range(1, 9)))
    done = postroom(demo, store, Provider(*["unreachable"] * 8)).deliver()

    assert (3, 0) == (done.delayed, done.delivered)


def test_outage_of_one_service_hides_no_message_to_another(demo, store):
    """Hundreds wait for a Slack that is down; the email behind them goes out."""
    put(store, *(message(n, channel=Channel.SLACK, audience="#payments-rehearsal") for n in range(1, 131)))
    store.clock.wait(1)
    put(store, message(500))
    room = Postroom(demo, store, "tomas", {Channel.SLACK: Provider(*["unreachable"] * 9), Channel.EMAIL: Provider()})
    done = room.deliver()

    assert (1, 3) == (done.delivered, done.delayed)


def test_everything_that_is_due_goes_out_in_one_round(demo, store):
    """However much it is."""
    put(store, *(message(number) for number in range(1, 231)))

    assert 230 == postroom(demo, store, Provider()).deliver().delivered


def test_refused_message_waits_for_a_person(demo, store):
    """It is not tried again by itself; told to, it is; a person may send it instead, and then nothing does."""
    put(store, message(1), message(2))
    provider = Provider("refuse", "refuse")
    room = postroom(demo, store, provider)
    room.deliver()
    store.clock.wait(1e6)
    room.deliver()
    before = [now_of(store, number).state for number in (1, 2)]
    copied = [store.record_copied(now_of(store, 1), actor="tomas") for _ in range(2)]
    store.retry_refused(Mode.SANDBOX)
    room.deliver()

    assert [REFUSED, REFUSED] == before
    assert [True, False] == copied
    assert (MessageState.COPIED, DELIVERED) == (now_of(store, 1).state, now_of(store, 2).state)
    assert Counter({"m2": 1}) == provider.taken
    assert "message_copied" in kinds(store, 1)


def test_lost_answer_is_looked_up_where_the_provider_knows(demo, store):
    """It was there all along: delivered, read once, and no repetition counted."""
    put(store, message())
    provider = Provider("lose", knows=True)
    for _ in range(2):
        postroom(demo, store, provider).deliver()
        store.clock.wait(60)

    assert (DELIVERED, 1, 0) == (now_of(store).state, provider.taken["m1"], now_of(store).repeats)


def test_lost_answer_is_sent_again_and_counted_where_nobody_knows(demo, store):
    """At least once: the second copy is on the row and in the journal, also if a clear failure lay in between."""
    put(store, message())
    provider = Provider("lose", "unreachable", "take")
    for _ in range(3):
        postroom(demo, store, provider).deliver()
        store.clock.wait(300)

    assert (DELIVERED, 2, 1) == (now_of(store).state, provider.taken["m1"], now_of(store).repeats)
    assert 1 == kinds(store).count("message_repeated")


def test_fault_in_a_client_stops_nothing(demo, store):
    """The message is in doubt and waits; the next one goes out."""
    put(store, message(1), message(2))
    done = postroom(demo, store, Provider("bug")).deliver()

    assert (1, 1) == (done.delivered, done.delayed)
    assert "RuntimeError" in now_of(store, 1).last_error
    assert "a fault in a client" not in now_of(store, 1).last_error


def test_two_postrooms_at_once_deliver_each_message_once(demo, store):
    """Whoever claims it sends it."""
    put(store, *(message(number) for number in range(1, 13)))
    provider, gate = Provider(), threading.Barrier(3)

    def work():
        gate.wait()
        postroom(demo, store, provider).deliver()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [1] * 12 == sorted(provider.taken.values())


def test_postroom_that_slept_too_long_hands_nothing_over(demo, store):
    """Its lease is over and another has sent it: the fence before the last step holds."""
    put(store, message())
    late = store.claim_message(now_of(store), owner="late", lease_s=60)
    store.clock.wait(61)
    provider = Provider()
    postroom(demo, store, provider).deliver()
    with pytest.raises(ClaimError, match="paused too long"):
        store.record_handing_over(late, lease_s=60, actor="tomas")
    after = store.record_delay(late, "late", not_before=NIGHT, in_doubt=False)

    assert (1, DELIVERED) == (provider.taken["m1"], after.state)


def test_lease_that_is_over_hands_nothing_over_even_if_nobody_took_it(demo, store):
    """Somebody may take it at any moment; then both would send."""
    put(store, message())
    late = store.claim_message(now_of(store), owner="late", lease_s=60)
    store.clock.wait(60)
    with pytest.raises(ClaimError, match="paused too long"):
        store.record_handing_over(late, lease_s=60, actor="tomas")


def test_late_receipt_is_taken_from_anybody(demo, store):
    """A fact is a fact: whoever lost the right to deliver may still say that it was delivered."""
    put(store, message())
    late = store.claim_message(now_of(store), owner="late", lease_s=60)
    store.record_handing_over(late, lease_s=60, actor="tomas")
    store.clock.wait(61)
    second = store.claim_message(now_of(store), owner="second", lease_s=60)
    store.record_delivered(late, {"id": "1"}, actor="tomas")
    with pytest.raises(ClaimError):
        store.record_handing_over(second, lease_s=60, actor="tomas")
    store.record_delivered(second, {"id": "2"}, actor="tomas")

    assert {"id": "1"} == json.loads(now_of(store).receipt)
    assert ["message_delivered", "message_delivered_again"] == kinds(store)[-2:]


class Crashing(Store):
    """A store under whose feet the process dies at the planned call, before or after its commit."""

    plan = ()

    def _fate(self):
        return self.plan.pop(0) if self.plan else 0

    def __getattribute__(self, name):
        found = super().__getattribute__(name)
        if name not in {"claim_message", "record_handing_over", "record_absence", "record_delay", "record_delivered"}:
            return found

        def doomed(*args, **given):
            fate = self._fate()
            if fate == 1:
                raise CrashError
            result = found(*args, **given)
            if fate == 2:
                raise CrashError
            return result

        return doomed


FAULTS = st.sampled_from(["take", "take", "lose", "lost", "unreachable", "limit", "bug"])


@pytest.fixture(scope="module", name="crashing")
def _crashing():
    """One database for all examples; each has messages of its own."""
    engine = engines.connect("sqlite:///:memory:", name="DATABASE_URL")
    engines.upgrade_database(engine)
    yield Crashing(engine, FixedClock(NIGHT))
    engine.dispose()


_examples = itertools.count(100, 10)


@settings(max_examples=60, deadline=None)
@given(
    faults=st.lists(FAULTS, max_size=14),
    crashes=st.lists(st.sampled_from([0, 0, 0, 1, 2]), max_size=30),
    knows=st.booleans(),
)
def test_at_every_crash_and_fault_nothing_is_lost_or_doubled_unknowingly(demo, crashing, faults, crashes, knows):
    """
    Whatever fails and wherever the process dies, each message is read at least once; exactly once where the provider
    can be asked; and where it cannot, no more often than the row admits.
    """
    store, first = crashing, next(_examples)
    store.plan = list(crashes)
    put(store, *(message(first + number) for number in range(3)))
    provider = Provider(*faults, knows=knows)
    for _ in range(len(faults) + len(crashes) + 8):
        with contextlib.suppress(CrashError):  # the next process goes on
            postroom(demo, store, provider).deliver()
        store.clock.wait(4000)

    for row in (now_of(store, first + number) for number in range(3)):
        read = provider.taken[row.message_id]
        assert read >= 1
        assert read == 1 if knows else read <= 1 + row.repeats
        assert DELIVERED is row.state


def test_killed_senders_and_flaky_services_lose_nothing(database_url):
    """Real processes, a real mail server, a real Slack; `python -m tests.outbox` does it with 10,000 messages."""
    tally = campaign(database_url, 14, seed=7, life_s=(0.1, 3.0))

    assert not tally.violated, tally
    assert 7 == tally.copies["slack"][1]


# ---------------------------------------------------------------------------------------------------- what is told


def states(scene):
    return {m.kind: m.state for m in scene.desk.store.messages_of(scene.record.payout_id)}


def test_payout_and_its_messages_are_one_transaction(any_scene):
    """They are announced with the outcome, before any notebook renders them; `deliver` writes them out after a crash."""
    any_scene.send()
    before = states(any_scene)
    written = write_all_announced(any_scene.desk, actor="tomas")

    assert {"slack_alert": MessageState.ANNOUNCED, "studio_email": MessageState.ANNOUNCED} == before
    assert (2, ()) == (written.count, written.missing)
    assert {MessageState.TO_COPY} == set(states(any_scene).values())
    again = any_scene.desk.store.record_messages(sent_messages(any_scene.desk, any_scene.record), "tomas")
    assert 0 == again


def test_outcome_is_not_recorded_without_its_messages(scene):
    """If the outbox cannot take them, the transaction is not: the outcome stays to be found out, as after a crash."""
    scene.tamper("CREATE TRIGGER full BEFORE INSERT ON messages BEGIN SELECT RAISE(ABORT, 'disk full'); END")
    with pytest.raises(UnknownOutcomeError, match="our database did not take the record"):
        scene.send()

    assert "paid" != scene.record.state.value
    assert 1 == len(scene.transfers)


def see(scene, rung, *, done=False, failed=""):
    data = {"shown_by": "po_1", "note": "account_closed", "failed": bool(failed)} | (
        {"failed_rung": failed} if failed else {}
    )
    scene.desk.store.record_settlement(scene.record, rung, done=done, actor="tomas", data=data)
    scene.pass_time(hours=1)


def told(scene):
    return [m.kind for m in scene.desk.store.messages_of(scene.record.payout_id)][2:]


def test_last_word_about_a_payout_arrives_last(any_scene):
    """What failed to go out is not overtaken by what came after it; once it is out, the rest follows in the same round."""
    any_scene.send()
    any_scene.pass_time(seconds=1)
    desk, got = any_scene.desk, []

    class Courier(Provider):
        def send(self, sent, hand_over):
            outcome = super().send(sent, hand_over)
            got.extend([sent.kind] if isinstance(outcome, Delivered) else [])
            return outcome

    desk.settings = desk.settings.model_copy(update={"smtp_host": "127.0.0.1", "smtp_security": "none"})
    room = Postroom(desk.settings, desk.store, "tomas", {Channel.EMAIL: Courier("unreachable", "unreachable")})
    for failed, done in (("paid_to_bank", False), ("", True)):
        write_announced(desk, any_scene.record, actor="tomas")
        room.deliver()
        see(any_scene, "paid_to_bank", done=done, failed=failed)
    write_announced(desk, any_scene.record, actor="tomas")
    room.deliver()

    assert ["studio_email", "studio_failed", "studio_arrived"] == got


def test_studio_is_told_of_arrival_and_failure_each_time_it_changes(any_scene):
    """Arrived, taken back, arrived again: three pieces of news, however often one looks."""
    any_scene.send()
    news = []
    for look in ({"rung": "usable_by_studio"}, {"rung": "paid_to_bank", "done": True}, {"rung": "paid_to_bank", "done": True},
                 {"rung": "usable_by_studio", "failed": "paid_to_bank"}, {"rung": "usable_by_studio", "failed": "paid_to_bank"},
                 {"rung": "paid_to_bank", "done": True}, {"rung": "usable_by_studio"}, {"rung": "paid_to_bank", "done": True}):  # fmt: skip
        see(any_scene, **look)
        news.append(len(told(any_scene)))
    write_announced(any_scene.desk, any_scene.record, actor="tomas")
    texts = {m.dedup_key: m for m in any_scene.desk.store.messages_of(any_scene.record.payout_id)}
    failed = next(m for m in texts.values() if m.kind == "studio_failed")
    page = next(json.loads(m.body_json) for m in texts.values() if m.kind == "page_failed")

    assert [0, 2, 2, 5, 5, 8, 8, 8] == news
    assert Counter(
        slack_arrived=2, studio_arrived=2, slack_failed=1, studio_failed=1, page_failed=1, page_resolved=1
    ) == Counter(told(any_scene))
    assert "back into your Stripe balance" in failed.body_text
    assert "account_closed" not in failed.body_text + failed.body_html
    assert ("trigger", "info", "account_closed") == (
        page["event_action"], page["payload"]["severity"], page["payload"]["custom_details"]["note"],
    )  # fmt: skip
    assert page["payload"]["summary"].startswith("REHEARSAL: INC-123")


def test_goal_below_the_studio_is_no_arrival(scene):
    """What the policy calls settled need not be with the studio; then it is not told so."""
    scene.send()
    see(scene, "settled_on_platform", done=True)

    assert [] == told(scene)


# ------------------------------------------------------------------------------------------- rehearsals and settings


def with_messengers(**given):
    return load_settings(stripe_api_base="http://127.0.0.1:9", **(NO_MESSENGERS | given))


LIVE = {
    "slack_bot_token": "xoxb-live-000",
    "slack_webhook_url": "https://hooks.slack.com/services/T/B/x",
    "pagerduty_routing_key": "LIVEKEY",
}


def test_rehearsal_never_looks_at_the_live_services():
    """With every live secret set, a rehearsal has nothing to send with."""

    assert frozenset() == configured_channels(with_messengers(**LIVE))
    assert [None] * 3 == [open_courier(with_messengers(**LIVE), channel) for channel in Channel]


@pytest.mark.parametrize(
    ("name", "value"), [("slack_{}webhook_url", LIVE["slack_webhook_url"]), ("pagerduty_{}routing_key", "LIVEKEY")]
)
def test_live_readers_own_door_is_no_rehearsals(name, value):
    """A webhook is a channel and a routing key is a team: one that is given for both is refused by name, and not shown."""
    same = {name.format(""): value, name.format("rehearsal_"): value}
    with pytest.raises(SettingsError, match="is the same as") as refused:
        with_messengers(**same)

    assert "REHEARSAL" in refused.value.message
    assert value not in refused.value.message


def test_rehearsal_writes_to_its_own_readers_only(demo, store):
    """Whatever the outbox holds: a studio's address or the live channel is not even given to the courier."""
    put(store, message(1, audience="payouts@harbor.example"),
        message(2, channel=Channel.SLACK, audience="#payments-alerts"), message(3))  # fmt: skip
    provider = Provider()
    postroom(demo, store, provider).deliver()

    assert Counter({"m3": 1}) == provider.taken
    assert "A rehearsal may write to" in now_of(store, 1).last_error
    assert "A rehearsal may write to" in now_of(store, 2).last_error


@pytest.mark.parametrize("mode", [Mode.LIVE, Mode.TEST])
def test_message_of_another_mode_is_left_alone(demo, store, mode):
    """A rehearsal's database under a live desk sends nothing, and the other way round."""
    put(store, message(1, mode=mode))
    provider = Provider()
    postroom(demo, store, provider).deliver()

    assert (Counter(), WAITING, 0) == (provider.taken, now_of(store).state, now_of(store).tries)
    assert "belongs to" in objection(demo, message(1, mode=mode))


def test_live_mode_has_the_studio_and_the_live_channel(demo):
    """Outside rehearsals nothing is redirected."""
    policy = demo.policy.model_copy(update={"stripe": demo.policy.stripe.model_copy(update={"mode": Mode.LIVE})})
    live = with_messengers(**LIVE, smtp_host="smtp.marketplace.example").model_copy(update={"policy": policy})

    assert frozenset(Channel) == configured_channels(live)
    assert "" == objection(live, message(1, mode=Mode.LIVE, audience="payouts@harbor.example"))
    assert "xoxb-live-000" in live.messenger_secrets()
