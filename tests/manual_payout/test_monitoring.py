"""The monitor on real databases, the local Stripe, and real servers for Slack and PagerDuty."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import nbformat
import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr
from tests.manual_payout.test_rules import BREAKING, CALM, POLICY

import local_stripe
from manual_payout import monitoring
from manual_payout.comms.alarms import Alarm, alarm_messages
from manual_payout.comms.delivery import Postroom
from manual_payout.comms.telling import write_all_announced
from manual_payout.database import engines
from manual_payout.desk.inventory import Missing
from manual_payout.desk.reviewed import procedure_digest
from manual_payout.desk.settings import MessagePolicy
from manual_payout.domain.alerts import TELLING, Alert, Severity
from manual_payout.domain.errors import DatabaseError, EvidenceError, SettingsError
from manual_payout.domain.models import Channel, MessageState, Mode
from manual_payout.gateway import Gateway
from manual_payout.ledger import Ledger
from manual_payout.monitoring import ALERT_RULES, NO_DATA, evaluate, gather_watched, tell_request, watch_round
from manual_payout.monitoring.evaluation import Evaluation
from manual_payout.monitoring.facts import Comparison, Recent
from manual_payout.monitoring.gathering import compare
from manual_payout.monitoring.raising import alerts_of, raise_and_resolve
from payout_rehearsal.demo import incident

ROOT = Path(__file__).parents[2]

# What the demo's inventory holds on the demo's night.
DUE = "credential-due-14"


def told_desk(scene, services, **policy):
    """A desk at which both services are configured, live credentials beside the rehearsal's own."""
    slack, pagerduty = services
    desk = scene.new_desk()
    section = desk.settings.policy.monitoring.model_copy(update=policy)
    desk.settings = desk.settings.model_copy(
        update={
            "slack_bot_token": SecretStr("xoxb-live-0000"),
            "slack_rehearsal_bot_token": SecretStr("xoxb-rehearsal-1111"),
            "slack_api_base": f"{slack.url}/api/",
            "pagerduty_routing_key": SecretStr("LIVEROUTINGKEY"),
            "pagerduty_rehearsal_routing_key": SecretStr("R7PXKQ2MZL4TND"),
            "pagerduty_events_base": pagerduty.url,
            "policy": desk.settings.policy.model_copy(update={"monitoring": section}),
        }
    )
    return desk


def rules(alerts):
    return [alert.rule for alert in alerts]


def test_alert_is_told_once_and_resolves_itself(scene, services):
    """The open request is raised; the same round again tells nobody; once the money has moved it is over, at PagerDuty too."""
    slack, pagerduty = services
    desk = told_desk(scene, services)
    first, again = watch_round(desk), watch_round(desk)
    posts = len(slack.posted)
    scene.send()
    last = watch_round(desk)
    key = f"manual-payout/sandbox/fallback-requested/{scene.request.request_id}"

    assert ["fallback-requested", DUE] == rules(first.alerts.raised)
    assert ([], [], 2) == (rules(again.alerts.raised), rules(again.alerts.resolved), len(again.alerts.firing))
    assert 2 == posts == len(set(pagerduty.notified))
    assert (["fallback-requested"], [DUE]) == (rules(last.alerts.resolved), rules(last.alerts.firing))
    assert pagerduty.alerts[key] is False
    assert "[resolved] INC-123" in next(post["text"] for post in slack.posted if "[resolved]" in post["text"])


def test_every_rule_fires_and_resolves_by_itself(scene):
    """One after the other on one database: raised when its fact is there, over when it is gone, and no other with it."""
    raised, resolved = set(), set()
    for changed, expected in (*BREAKING, ({"inventory": Missing("inventory", "not set")}, {("no-data", "inventory")})):
        rules_of = [
            {(alert.rule, alert.subject) for alert in alerts}
            for facts in (replace(CALM, **changed), CALM)
            for round_ in [raise_and_resolve(scene.desk, evaluate(facts, POLICY), actor="monitor")]
            for alerts in (round_.raised, round_.resolved, round_.firing)
        ]

        assert [expected, set(), expected, set(), expected, set()] == rules_of
        raised |= {rule for rule, _ in rules_of[0]}
        resolved |= {rule for rule, _ in rules_of[4]}
    assert {rule.rule_id for rule in (*ALERT_RULES, NO_DATA)} == raised == resolved


def test_filing_pages_at_once_and_the_next_round_says_nothing_twice(scene, services):
    """The page is there before any round; every other alert stays as it is, and the money's arrival closes this one."""
    slack, pagerduty = services
    desk = told_desk(scene, services)
    before = watch_round(replace(desk, store=scene.new_desk().store))
    scene.file(replace=True, notes="another")
    request = desk.store.find_request(incident.INCIDENT_ID, incident.LEDGER_PAYOUT_ID)
    posts = len(slack.posted)
    tell_request(desk, request, actor="maya")
    tell_request(desk, request, actor="maya")
    told = slack.posted[posts:]
    after = watch_round(desk)
    key = f"manual-payout/sandbox/fallback-requested/{request.request_id}"

    assert ["fallback-requested", DUE] == rules(before.alerts.raised)
    assert 1 == len(told)
    assert "a fallback of 1,250.75 USD" in told[0]["text"]
    assert pagerduty.alerts[key] is True
    assert ([], ["fallback-requested"]) == (rules(after.alerts.raised), rules(after.alerts.resolved))
    assert {request.request_id, "Stripe payment processing certificate"} == {a.subject for a in after.alerts.firing}


def test_nothing_is_raised_of_a_request_whose_money_has_moved(scene, services):
    """Filing the same again after the payment returns the request on record; nobody is woken by it."""
    desk = told_desk(scene, services)
    scene.send()
    tell_request(desk, scene.request, actor="maya")

    assert ([], []) == (services[1].notified, desk.store.firing_alerts(Mode.SANDBOX))


def test_alert_of_a_rehearsal_reaches_its_own_readers_only(scene, services):
    """The rehearsal's token, channel and routing key; marked, and no page above info. The body holds what the rule knows."""
    slack, pagerduty = services
    watch_round(told_desk(scene, services))
    events = [body for _, _, body in pagerduty.requests]

    assert {"R7PXKQ2MZL4TND"} == {event["routing_key"] for event in events}
    assert {"info"} == {event["payload"]["severity"] for event in events}
    assert all(event["payload"]["summary"].startswith("REHEARSAL: [") for event in events)
    assert {"Bearer xoxb-rehearsal-1111"} == {headers["Authorization"] for _, headers, _ in slack.requests}
    assert {"#payments-rehearsal"} == {post["channel"] for post in slack.posted}
    event = next(one for one in events if "fallback-requested" in one["dedup_key"])
    details = event["payload"]["custom_details"]
    assert ("fallback-requested", "error", "manual_payout_open_requests") == (
        details["rule"], details["severity"], details["metric"],
    )  # fmt: skip
    assert "https://runbooks.example/manual-payout/monitoring#fallback-requested" == event["links"][0]["href"]


def test_resolve_never_overtakes_its_trigger(scene, services):
    """PagerDuty was down when it was raised and is back when it is over: the page is opened, then closed, not left open."""
    _, pagerduty = services
    desk = told_desk(scene, services)
    pagerduty.faults.planned.extend(["refuse"] * 2)
    watch_round(desk)
    scene.send()
    watch_round(desk)
    Postroom(desk.settings, desk.store, "monitor").deliver(at_once=True)
    watch_round(desk)
    actions = [
        body["event_action"] for _, _, body in pagerduty.requests if "fallback-requested" in body["dedup_key"]
    ]  # fmt: skip

    assert "resolve" == actions[-1]
    assert actions.index("resolve") == len(actions) - 1
    assert not any(open_ for key, open_ in pagerduty.alerts.items() if "fallback-requested" in key)


def test_end_that_was_not_told_yet_does_not_close_what_fires_again(scene, services):
    """PagerDuty was down when it was over; by the time it is back the alert fires again, and its page stays open."""
    _, pagerduty = services
    desk = told_desk(scene, services)
    watch_round(desk)
    scene.send()
    pagerduty.faults.planned.extend(["refuse"] * 2)
    watch_round(desk)
    scene.tamper("UPDATE manual_payouts SET state = 'refused', stripe_transfer_id = NULL")
    scene.pass_time(seconds=10)
    watch_round(desk)
    scene.pass_time(minutes=10)
    last = watch_round(desk)

    assert "fallback-requested" in rules(last.alerts.firing)
    assert pagerduty.alerts[f"manual-payout/sandbox/fallback-requested/{scene.request.request_id}"]


def test_service_that_is_configured_later_hears_of_what_is_still_firing(scene, services):
    """Nothing is lost while nobody could be told."""
    watch_round(scene.desk)
    watch_round(told_desk(scene, services))

    assert 2 == len(services[0].posted)


def test_alert_comes_back_as_another_episode(any_scene):
    """Raised, over, raised again: one row, counted, on both databases; the journal tells each."""
    desk = any_scene.desk
    watch_round(desk)
    any_scene.send()
    watch_round(desk)
    any_scene.tamper("UPDATE manual_payouts SET state = 'refused', stripe_transfer_id = NULL")
    back = watch_round(desk)
    told = [
        (event.kind, event.data["episode"])
        for event in desk.store.events_of("monitoring/sandbox")
        if event.data["rule"] == "fallback-requested"
    ]

    assert [("alert_raised", 1), ("alert_resolved", 1), ("alert_raised", 2)] == told
    assert [2] == [alert.episode for alert in back.alerts.raised if alert.rule == "fallback-requested"]


def test_second_monitor_waits_and_finds_it_raised(any_scene):
    """Two machines run the monitor in the same minute: one raises, the other finds that it has."""
    desk, second = any_scene.desk, any_scene.new_desk()
    evaluation = evaluate(gather_watched(desk), desk.settings.policy.monitoring)
    rounds = []

    def write(_alert, _known):
        # The first is in the middle of its transaction; the second begins now.
        if not rounds:
            rounds.append(pool.submit(raise_and_resolve, second, evaluation, actor="second"))
            wait(rounds, timeout=0.3)
        return []

    with ThreadPoolExecutor(1) as pool:
        first = desk.store.record_alerts(
            Mode.SANDBOX, alerts_of(desk, evaluation), undecided=(), write=write, actor="first"
        )  # fmt: skip
        later = rounds[0].result()

    assert (["fallback-requested", DUE], []) == (rules(first.raised), rules(later.raised))
    assert rules(first.firing) == rules(later.firing)


def test_absent_ledger_silences_no_page(scene, services):
    """What was announced has no text without it; alerts go out all the same, and that it is away is one of them, once."""
    _, pagerduty = services
    desk = told_desk(scene, services)
    scene.send()
    # A run holds it, so that the round cannot settle it by looking.
    held = "state = 'unknown', stripe_transfer_id = NULL, transfer = NULL, lease_until = '2030-01-01 00:00:00.000000'"
    scene.tamper(f"UPDATE manual_payouts SET {held}")
    scene.pass_time(minutes=30)
    ledger = desk.ledger
    desk.ledger = Ledger(
        engines.connect("postgresql://nobody@127.0.0.1:1/none", name="LEDGER_DATABASE_URL"), ledger.mapping
    )
    away = [watch_round(desk), watch_round(desk)]
    desk.ledger = ledger
    back = watch_round(desk)

    assert [{"outcome-unknown", "no-data", DUE}, set()] == [set(rules(one.alerts.raised)) for one in away]
    assert [[], [], ["ledger"]] == [[a.subject for a in one.alerts.resolved] for one in (*away, back)]
    assert 3 == len(set(pagerduty.notified))


def test_payout_that_the_ledger_forgot_ends_no_monitor(scene, services):
    """One payout's texts cannot be written; that is said, and the round goes on."""
    desk = told_desk(scene, services)
    scene.send()
    scene.tamper("DELETE FROM manual_payout_due")
    seen = watch_round(desk)

    assert {("no-data", "ledger")} <= {(a.rule, a.subject) for a in seen.alerts.firing}


def test_monitor_leaves_to_a_desk_what_it_has_no_service_for(scene):
    """A text to copy, written by a machine without a mail server, would never be sent by the desk that has one."""
    scene.send()
    watch_round(scene.desk)
    states = {message.state for message in scene.desk.store.messages_of(scene.record.payout_id)}

    assert {MessageState.ANNOUNCED} == states
    assert 2 == write_all_announced(scene.desk, actor="tomas").count


def test_slow_monitor_takes_back_nothing_that_a_later_one_has_said(scene, services):
    """It gathered before: what was resolved since stays resolved, what was raised since stays raised."""
    desk = told_desk(scene, services)
    watch_round(desk)
    slow = gather_watched(desk)
    scene.pass_time(seconds=10)
    scene.send()
    over = watch_round(desk)
    raised = raise_and_resolve(desk, evaluate(slow, POLICY), actor="slow", as_of=slow.at)
    slow = gather_watched(desk)
    scene.pass_time(seconds=10)
    scene.tamper("UPDATE manual_payouts SET state = 'refused', stripe_transfer_id = NULL")
    tell_request(desk, scene.request, actor="maya")
    resolved = raise_and_resolve(desk, evaluate(slow, POLICY), actor="slow", as_of=slow.at)

    assert ["fallback-requested"] == rules(over.alerts.resolved)
    assert ([], []) == (rules(raised.raised), rules(resolved.resolved))
    assert "fallback-requested" in rules(resolved.firing)


def test_rule_that_misses_a_fact_calls_nothing_over(scene):
    """What was firing stays until it can be judged again."""
    watch_round(scene.desk)
    blind = raise_and_resolve(scene.desk, Evaluation((), frozenset({"fallback-requested"})), actor="monitor")

    assert (["fallback-requested"], [DUE]) == (rules(blind.firing), rules(blind.resolved))


def test_repetition_that_only_stripe_shows_stays_while_stripe_does_not_answer(scene):
    """Nobody is told that it is over, and told again, because a list could not be read."""
    twice = replace(CALM, comparison=Comparison(Recent(2, ()), (), (), 0))
    blind = replace(CALM, comparison=Missing("Stripe's list", "down"))
    raised, away, back = (
        raise_and_resolve(scene.desk, evaluate(facts, POLICY), actor="m") for facts in (twice, blind, twice)
    )

    assert (["repeated-payouts"], [], []) == (rules(raised.raised), rules(away.resolved), rules(back.raised))


def test_dry_run_writes_nothing_and_says_what_it_would(scene):
    """Only looking is only looking."""
    before = scene.rows("SELECT count(*) FROM events")
    seen = watch_round(scene.desk, dry_run=True)

    assert ["fallback-requested", DUE] == rules(seen.alerts.firing) == rules(seen.alerts.raised)
    assert (before, [(0,)]) == (scene.rows("SELECT count(*) FROM events"), scene.rows("SELECT count(*) FROM alerts"))


# -------------------------------------------------------------------------------------- our table and Stripe's list


def compared(scene, **policy):
    desk = scene.new_desk()
    section = desk.settings.policy.monitoring.model_copy(update=policy)
    desk.settings = desk.settings.model_copy(
        update={"policy": desk.settings.policy.model_copy(update={"monitoring": section})}
    )
    return compare(desk, datetime.fromisoformat("2026-02-10T00:00:00+00:00"), desk.now())


def pay_outside(scene, group=None, **metadata):
    """Make a transfer that the runbook knows nothing of."""
    key = Gateway(local_stripe.FULL_KEY, base_url=scene.stripe.base_url, timeout_s=10)
    payload = {"amount": 700, "currency": "usd", "destination": incident.DESTINATION_ACCOUNT, "metadata": metadata}
    payload |= {"transfer_group": group} if group else {}
    return key.create_transfer(payload, idempotency_key=f"outside-{len(scene.transfers)}").made["id"]


def test_our_own_transfer_is_no_news(scene):
    """What the runbook made is known by its row."""
    scene.send()
    seen = compared(scene, automation_metadata_key="payout_run")

    assert (1, (), (), 0) == (seen.at_stripe.count, seen.outside, seen.vanished, seen.unmarked)


def test_transfer_outside_the_runbook_is_named_and_the_automations_is_not(scene):
    """With the automation's mark configured, whatever carries neither is somebody's."""
    scene.send()
    pay_outside(scene, payout_run="2026-03-01")
    made = pay_outside(scene)
    seen = compared(scene, automation_metadata_key="payout_run")

    assert [made] == [transfer_id for transfer_id, _ in seen.outside]
    assert "7.00 USD to acct_123" in seen.outside[0][1]
    assert 2 == seen.at_stripe.count


def test_without_the_automations_mark_nobody_can_say_whose_a_transfer_is(scene):
    """That is no data, not all is well."""
    pay_outside(scene)

    assert 1 == compared(scene).unmarked


def test_transfer_that_claims_to_be_ours_and_has_no_row_is_outside(scene):
    """A forged mark, or a runbook with another database."""
    made = pay_outside(scene, line_id="somebody-elses")

    assert [made] == [transfer_id for transfer_id, _ in compared(scene).outside]


def test_second_transfer_with_a_paid_lines_mark_is_outside(scene):
    """A line explains one transfer: metadata can be copied."""
    scene.send()
    made = pay_outside(scene, line_id=scene.record.payout_id)

    assert [made] == [transfer_id for transfer_id, _ in compared(scene).outside]


def test_transfer_of_a_row_that_says_refused_is_outside(scene):
    """Our table says that no money moved, and money moved."""
    scene.send()
    scene.tamper("UPDATE manual_payouts SET state = 'refused', stripe_transfer_id = NULL")

    assert [scene.transfers[0].id] == [transfer_id for transfer_id, _ in compared(scene).outside]


def test_transfer_that_a_row_still_waits_for_is_no_news(scene):
    """Its outcome is not known; that is another rule's to say."""
    scene.send()
    scene.tamper("UPDATE manual_payouts SET state = 'unknown', stripe_transfer_id = NULL")

    assert ((), 1) == (compared(scene).outside, compared(scene).at_stripe.count)


def test_automation_that_pays_again_what_was_paid_by_hand_is_named(scene):
    """In the group of a payout of ours its mark explains nothing; once our money has come back whole it does."""
    scene.send()
    made = pay_outside(scene, group=scene.record.transfer_group, payout_run="2026-03-02")
    twice = compared(scene, automation_metadata_key="payout_run").outside
    scene.tamper("UPDATE manual_payouts SET state = 'reversed'")

    assert [made] == [transfer_id for transfer_id, _ in twice]
    assert () == compared(scene, automation_metadata_key="payout_run").outside


def test_transfer_of_our_table_that_stripe_does_not_list_is_named(scene):
    """The row says paid, the list does not have it."""
    scene.send()
    scene.tamper("UPDATE manual_payouts SET stripe_transfer_id = 'tr_nowhere'")
    seen = compared(scene)

    assert [("tr_nowhere", "made under INC-123")] == list(seen.vanished)


@pytest.mark.parametrize("kind", ["rate_limit", "error_500", "drop_before"])
def test_stripe_that_does_not_answer_is_missing_and_stops_nothing(scene, kind):
    """The other rules are judged all the same."""
    scene.stripe.fault(kind, method="GET", path="/v1/transfers")
    seen = watch_round(scene.desk)

    assert isinstance(seen.facts.comparison, Missing)
    assert {"no-data", "fallback-requested", DUE} == set(rules(seen.alerts.firing))


def test_altered_request_is_missing_and_stops_nothing(scene):
    """Whoever writes into the tables silences one rule, and that is an alert."""
    scene.tamper("UPDATE requests SET reason = 'psp_rejection'")
    seen = watch_round(scene.desk)

    assert isinstance(seen.facts.requests, Missing)
    assert {"no-data", DUE} == set(rules(seen.alerts.firing))


# ------------------------------------------------------------------------------------------------------- messages


@pytest.mark.parametrize(
    ("severity", "kinds"), [("info", ["slack_raised"]), ("warning", ["page_raised", "slack_raised"])]
)
def test_information_wakes_nobody(severity, kinds):
    """A reminder thirty days ahead is read in Slack."""

    assert kinds == [message.kind for message in alarm_messages(alarm(severity=Severity(severity)), ())]


def test_end_is_told_to_those_who_heard_the_beginning():
    """Nobody is told that something is over of which they never heard."""
    over = alarm(resolved_at=datetime(2026, 3, 3, tzinfo=UTC))
    heard = over.alert.message_key("page_raised")

    assert [] == alarm_messages(over, ())
    assert ["page_cleared"] == [message.kind for message in alarm_messages(over, {heard})]
    assert {"page_cleared", "slack_cleared"} == set(TELLING.values())


@pytest.mark.parametrize(
    "text", ["<!channel> pay", "*bold* `code`", "@here", "a\nb", "<http://evil.example|x>", "\u202egnp"]
)
def test_free_text_in_an_alert_is_harmless_in_slack(text):
    """A studio's name or a credential's reaches Slack as text only."""
    (post,) = alarm_messages(alarm(subject=text, summary=text, value=text, severity=Severity.INFO), ())
    said = post.body_text + post.body_json

    assert not any(
        mark in said.replace("<https://runbooks.example", "") for mark in ("<!", "<http", "*bold", "`", "@here")
    )
    assert "\u202e" not in said


def alarm(severity=Severity.ERROR, subject="s", summary="what", value="1", resolved_at=None):
    at = datetime(2026, 3, 2, tzinfo=UTC)
    alert = Alert(Mode.LIVE, "rule", subject, severity, summary, value, 1, at, resolved_at)
    both = frozenset({Channel.SLACK, Channel.PAGERDUTY})
    return Alarm(alert, "metric_name", "any", "https://runbooks.example/m#rule", MessagePolicy(), both)


# ------------------------------------------------------------------------------------- command line and notebook


@pytest.fixture(scope="module", name="watched")
def _watched(tmp_path_factory, open_shell):
    """The command line on a scene where nothing was begun."""
    with open_shell(tmp_path_factory.mktemp("watched")) as shell:
        yield shell


def test_request_pages_and_says_who_was_told(shell, services, authority):
    """Both services at once; where one is silent the request is filed all the same; what is not configured is named."""
    slack, pagerduty = services
    configured = {
        "SLACK_REHEARSAL_BOT_TOKEN": "xoxb-rehearsal-1111", "SLACK_API_BASE": f"{slack.url}/api/",
        "PAGERDUTY_REHEARSAL_ROUTING_KEY": "R7PXKQ2MZL4TND", "PAGERDUTY_EVENTS_BASE": pagerduty.url,
        "SSL_CERT_FILE": str(authority[1]),
    }  # fmt: skip
    bare = shell.request()
    shell.environment |= configured
    told = shell.request()
    pages = len(pagerduty.notified)
    pagerduty.faults.planned.append("refuse")
    silent = shell.request(
        incident_id="INC-124", ledger_payout_id="58b8fce4-378f-4ad7-9b71-9fe6d19fbfb0", amount="1237.81",
        studio_id="8306d03b-f38b-4ffc-80a4-df5a51c9bc70", studio_name="Copper Kettle Ceramics", reserve_after="655.08",
        destination_account="acct_1vkQnGzczrrNQ85y",
    )  # fmt: skip

    assert (0, 0, 0) == (bare.code, told.code, silent.code), silent.said
    assert "Not configured, so not told: pagerduty, slack." in bare.err
    assert "Slack and PagerDuty were told of the request." in told.err
    assert (1, 2) == (pages, len(slack.posted))
    assert "1 messages wait: `manual-payout deliver` and the monitor try again." in silent.err


def test_firing_is_exit_code_6_and_calm_is_0(watched, tmp_path):
    """The code is what a scheduler reads; the answer names rule, severity and value."""
    (tmp_path / "calm.toml").write_text(
        'access_reviewed_on = 2026-02-01\n[[rehearsal]]\non = 2026-02-01\ngreen = true\n'
        f'procedure = "{procedure_digest()}"\napprovers = ["priya", "amara", "jonas", "lucia", "greta"]\n', "utf-8"
    )  # fmt: skip
    firing, calm = (
        watched("monitor", "--json"),
        watched("monitor", MANUAL_PAYOUT_INVENTORY=str(tmp_path / "calm.toml")),
    )

    assert (6, 0) == (firing.code, calm.code), calm.said
    assert [(DUE, "warning")] == [(one["rule"], one["severity"]) for one in json.loads(firing.out)["firing"]]
    assert "Not configured, so not told: pagerduty, slack." in calm.out
    assert "1 resolved" in calm.out


def test_monitor_needs_no_key_that_can_send(watched):
    """The machine that only watches has the read-only key alone."""
    answer = watched("monitor", "--dry-run", "--json", STRIPE_FALLBACK_SECRET_KEY=None)

    assert [DUE] == [one["rule"] for one in json.loads(answer.out)["firing"]]


def test_metrics_file_is_what_prometheus_reads(watched, tmp_path):
    """Its own parser reads it; one sample per rule."""
    watched("monitor", "--metrics", str(tmp_path / "m.prom"))
    families = {f.name: f for f in text_string_to_metric_families((tmp_path / "m.prom").read_text("utf-8"))}

    assert {1.0} == {s.value for s in families["manual_payout_alerts_firing"].samples if s.labels["rule"] == DUE}
    assert 1 == len(list(tmp_path.iterdir()))


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--once", "--every", "5"), "exclude each other"),
        (("--every", "0"), "--every"),
    ],
)
def test_wrong_flags_are_a_sentence_and_exit_code_2(watched, flags, said):
    """A typing mistake is no alert."""
    answer = watched("monitor", "--dry-run", *flags)

    assert 2 == answer.code
    assert said in answer.err


def test_wrong_inventory_is_an_alert_not_a_crash(watched, tmp_path):
    """The other rules are judged all the same."""
    (tmp_path / "bad.toml").write_text("[[", "utf-8")
    answer = watched("monitor", "--dry-run", "--json", MANUAL_PAYOUT_INVENTORY=str(tmp_path / "bad.toml"))

    firing = [(one["rule"], one["subject"]) for one in json.loads(answer.out)["firing"]]

    assert ("no-data", "inventory") == firing[0]
    assert {"no-data", DUE} >= {rule for rule, _ in firing}


def test_single_round_says_what_it_found_before_its_metrics_fail(watched):
    """Exit code 5 and the reason, after the table: people were told, whatever becomes of the file."""
    answer = watched("monitor", "--once", "--metrics", "/nowhere/at/all.prom")

    assert 5 == answer.code
    assert DUE in answer.out
    assert "The round is done; its metrics /nowhere/at/all.prom cannot be written: No such file" in answer.err


ENDS = {
    "metrics": (None, ("--metrics", "/nowhere/at/all.prom"), "cannot be written"),
    "settings": (SettingsError("The key's command failed.", "Run it by hand."), (), "The key's command failed."),
    "journal": (EvidenceError("The journal monitoring/sandbox is broken.", "Stop."), (), "is broken"),
    "database": (DatabaseError("The database did not answer.", "Wait."), (), "did not answer"),
    "disk": (OSError(28, "No space left on device"), (), "ended in a fault of the software: OSError"),
    "fault": (AssertionError("Bug"), (), "ended in a fault of the software: AssertionError"),
}


@pytest.mark.parametrize("name", ENDS)
def test_nothing_ends_a_watch_but_its_user(watched, monkeypatch, name):
    """Whatever ends a round is said in a sentence, and the next round comes, and is whole where it can be."""
    error, options, said = ENDS[name]
    rounds = []
    real = monitoring.watch_round

    def watch(*arguments, **given):
        rounds.append(1)
        if len(rounds) == 3:
            raise KeyboardInterrupt
        if error is not None and len(rounds) == 1:
            raise error
        return real(*arguments, **given)

    monkeypatch.setattr(monitoring, "watch_round", watch)
    answer = watched("monitor", "--every", "1", "--dry-run", *options)

    assert (3, 130) == (len(rounds), answer.code)
    assert said in answer.err
    assert "Traceback" not in answer.said
    assert DUE in answer.out


def test_every_goes_on_until_it_is_stopped(watched):
    """A real process does round after round, and ends with 130 at Ctrl-C."""
    command = [
        sys.executable,
        "-c",
        "from manual_payout.cli import main; main()",
        "monitor",
        "--every",
        "1",
        "--dry-run",
    ]
    with subprocess.Popen(
        command, env=watched.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        # One that has died says no more, and is not waited for; nor is one that stands still.
        patience = threading.Timer(60, process.kill)
        patience.start()
        rounds = list(itertools.islice((line for line in process.stdout if "UTC: " in line), 2))
        patience.cancel()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)

    assert (2, 130) == (len(rounds), process.returncode)


def test_notebook_runs_through_papermill_with_the_schedulers_parameters(watched, tmp_path):
    """What Airflow's operator would call: it ends well whatever is firing, and says what."""
    command = [
        sys.executable, "-m", "papermill", str(ROOT / "runbooks" / "monitor.ipynb"), str(tmp_path / "out.ipynb"),
        "-p", "operator", "tomas", "-p", "dry_run", "False", "--no-progress-bar",
    ]  # fmt: skip
    done = subprocess.run(command, env=watched.environment, capture_output=True, text=True, check=False)
    book = nbformat.read(tmp_path / "out.ipynb", as_version=4)
    outputs = [output for cell in book.cells for output in cell.get("outputs", ())]
    scraps = [
        output.data["application/scrapbook.scrap.json+json"]["data"]
        for output in outputs
        if "application/scrapbook.scrap.json+json" in output.get("data", {})
    ]

    assert 0 == done.returncode, done.stderr[-2000:]
    assert [[DUE]] == [[one["rule"] for one in scrap["findings"]["firing"]] for scrap in scraps]
