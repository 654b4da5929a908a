"""Each rule, held against facts made by hand: what it accepts, what it does not, and what it says when it cannot know."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from instants import NOW
from manual_payout.desk.inventory import Credential, Inventory, Missing, Rehearsed, read_inventory
from manual_payout.desk.settings import MonitoringPolicy
from manual_payout.domain.alerts import Severity
from manual_payout.domain.errors import SettingsError
from manual_payout.domain.models import Mode
from manual_payout.monitoring import ALERT_RULES, NO_DATA, evaluate
from manual_payout.monitoring.facts import (
    Comparison,
    OpenRequest,
    Pending,
    Recent,
    Studio,
    Undelivered,
    WatchedFacts,
)
from manual_payout.monitoring.metrics import metrics_text
from manual_payout.monitoring.table import rules_table
from openssh import openssh, required

POLICY = MonitoringPolicy()
DOCS = Path(__file__).parents[2] / "docs" / "monitoring.md"


PROCEDURE, OTHER = "a" * 64, "b" * 64


def days(number):
    return timedelta(days=number)


def waiting(since, state="unknown"):
    return (Pending("row-1", "INC-1", "Studio", "10.00 USD", state, NOW - since),)


QUIET = Inventory(
    credentials=(Credential("certificate", NOW + days(31)),),
    rehearsals=(Rehearsed(NOW - days(91), True, frozenset({"priya"}), "sandbox", PROCEDURE),),
    rotations=(),
    access_reviewed_on=NOW - days(91),
)
CALM = WatchedFacts(
    at=NOW,
    mode=Mode.LIVE,
    recent=Recent(1, ()),
    comparison=Comparison(Recent(1, ()), (), (), 0),
    requests=(),
    pending=(),
    unsettled=(),
    exposed_since=NOW - days(2),
    inventory=QUIET,
    approvers=("priya",),
    procedure=PROCEDURE,
)


def found(**changed):
    """What the rules say to calm facts with some of them changed: (rule, subject) pairs."""
    return {(rule.rule_id, one.subject) for rule, one in evaluate(replace(CALM, **changed), POLICY).found}


def with_inventory(**changed):
    return {"inventory": replace(QUIET, **changed)}


# For each rule a fact that it does not accept, and what it says of it.
BREAKING = [
    ({"recent": Recent(2, ())}, {("repeated-payouts", "platform")}),
    ({"comparison": Comparison(Recent(2, ()), (), (), 0)}, {("repeated-payouts", "platform")}),
    ({"recent": Recent(1, (Studio("s1", "Studio", 2),))}, {("repeated-payouts-studio", "s1")}),
    ({"comparison": Comparison(Recent(1, (Studio("s2", "s2", 3),)), (), (), 0)}, {("repeated-payouts-studio", "s2")}),
    ({"comparison": Comparison(Recent(1, ()), (("tr_1", "x"),), (), 0)}, {("payout-outside-runbook", "tr_1")}),
    ({"clocks": "This machine is behind."}, {("clock-skew", "clock")}),
    ({"disbelieved": (("m1", "studio_email to x"),)}, {("message-not-written", "m1")}),
    ({"undelivered": (Undelivered("slack", 2, 0, NOW - timedelta(hours=1, seconds=1)),)}, {("message-undelivered", "slack")}),
    ({"undelivered": (Undelivered("email", 1, 1, NOW),)}, {("message-undelivered", "email")}),
    ({"comparison": Comparison(Recent(1, ()), (), (("tr_2", "x"),), 0)}, {("transfer-not-at-stripe", "tr_2")}),
    ({"requests": (OpenRequest("r1", "INC-1", "Studio", "1.00 USD", NOW),)}, {("fallback-requested", "r1")}),
    ({"pending": waiting(timedelta(minutes=10, seconds=1))}, {("outcome-unknown", "row-1")}),
    ({"unsettled": waiting(days(5.1), "nothing")}, {("settlement-overdue", "row-1")}),
    ({"exposed_since": NOW - days(2.1)}, {("key-not-rotated", "fallback key")}),
    (with_inventory(rehearsals=()), {("rehearsal-overdue", "rehearsal"), ("approver-unrehearsed", "priya")}),
    (with_inventory(access_reviewed_on=NOW - days(92.1)), {("access-review-overdue", "access review")}),
    (with_inventory(access_reviewed_on=None), {("access-review-overdue", "access review")}),
    ({"approvers": ("priya", "lucia")}, {("approver-unrehearsed", "lucia")}),
    ({"procedure": OTHER}, {("rehearsal-overdue", "rehearsal")}),
    *(
        (with_inventory(credentials=(Credential("cert", NOW + left),)), {(rule, "cert")})
        for left, rule in (
            (days(30), "credential-due-30"), (days(14), "credential-due-14"), (days(7), "credential-due-7"),
            (days(0), "credential-expired"),
        )
    ),
]  # fmt: skip


def test_calm_facts_raise_nothing():
    """At every threshold itself, nothing is said."""

    assert set() == found(pending=waiting(timedelta(minutes=10)), unsettled=waiting(days(5)))


@pytest.mark.parametrize(("changed", "expected"), BREAKING)
def test_rule_fires_beyond_its_threshold_and_no_other_with_it(changed, expected):
    """One fact is changed; one rule says so."""

    assert expected == found(**changed)


@pytest.mark.parametrize(
    ("left", "rule"),
    [
        (days(30), "credential-due-30"), (days(14.1), "credential-due-30"), (days(14), "credential-due-14"),
        (days(7), "credential-due-7"), (timedelta(seconds=1), "credential-due-7"), (days(0), "credential-expired"),
        (days(-400), "credential-expired"),
    ],
)  # fmt: skip
def test_credential_is_in_one_band_at_a_time(left, rule):
    """As the day comes nearer the graver rule takes over from the milder one; expired has a severity of its own."""

    assert {(rule, "cert")} == found(**with_inventory(credentials=(Credential("cert", NOW + left),)))


def test_what_is_dated_in_the_future_counts_for_nothing():
    """A wrong year is no review and no rehearsal for the decades until then; the day that has begun elsewhere is one."""
    ahead = replace(QUIET.rehearsals[0], on=NOW + days(9000))

    assert {("access-review-overdue", "access review")} == found(**with_inventory(access_reviewed_on=NOW + days(1)))
    assert set() == found(**with_inventory(access_reviewed_on=NOW + days(0.9)))
    assert ("approver-unrehearsed", "priya") in found(**with_inventory(rehearsals=(ahead,)))
    assert set() == found(**with_inventory(rehearsals=(*QUIET.rehearsals, ahead)))


def test_failed_rehearsal_is_none_but_its_approvers_took_part():
    """Only a green one counts for the quarter."""
    red = (Rehearsed(NOW - days(1), False, frozenset({"priya"}), "", PROCEDURE),)

    assert {("rehearsal-overdue", "rehearsal")} == found(**with_inventory(rehearsals=red))


def test_alert_says_that_the_last_rehearsal_was_of_other_notebooks():
    """The quarter asks for these notebooks; an approver's year does not, and says so where it is over."""
    old = (Rehearsed(NOW - days(400), True, frozenset({"priya"}), "", OTHER),)
    said = {
        rule.rule_id: one.summary
        for rule, one in evaluate(replace(CALM, **with_inventory(rehearsals=old)), POLICY).found
    }

    assert "was of other notebooks (bbbbbbbb…; these are aaaaaaaa…)" in said["rehearsal-overdue"]
    assert "on 2025-01-26, of other notebooks (bbbbbbbb…; these are aaaaaaaa…)." in said["approver-unrehearsed"]
    assert set() == found(**with_inventory(rehearsals=(*QUIET.rehearsals, *old)))


@pytest.mark.parametrize("mode", [Mode.SANDBOX, Mode.TEST])
def test_no_real_money_exposes_no_key(mode):
    """A rehearsal is no incident."""

    assert set() == found(mode=mode, exposed_since=NOW - days(9))


@pytest.mark.parametrize(
    ("changed", "source", "undecided"),
    [
        ({"comparison": Missing("Stripe's list", "unreachable")}, "Stripe's list",
         {"payout-outside-runbook", "transfer-not-at-stripe", "repeated-payouts", "repeated-payouts-studio"}),
        ({"comparison": Comparison(Recent(1, ()), (), (), 4)}, "automation mark", {"payout-outside-runbook"}),
        ({"blind": (Missing("settlement of INC-1", "refused"),)}, "settlement of INC-1", {"settlement-overdue"}),
        (with_inventory(credentials=(Credential("cert", Missing("cert", "gone")),)), "cert",
         {rule.rule_id for rule in ALERT_RULES if rule.rule_id.startswith("credential")}),
        ({"inventory": Missing("inventory", "not set")}, "inventory",
         {rule.rule_id for rule in ALERT_RULES if rule.rule_id.startswith(("credential", "rehearsal", "access", "approver"))}),
    ],
)  # fmt: skip
def test_missing_fact_is_one_alert_and_settles_no_rule(changed, source, undecided):
    """No data is said once, however many rules miss it, and those rules may call nothing over."""
    evaluation = evaluate(replace(CALM, **changed), POLICY)

    assert [(NO_DATA.rule_id, source)] == [(rule.rule_id, one.subject) for rule, one in evaluation.found]
    assert undecided == evaluation.undecided


def test_gravest_comes_first():
    """Whoever reads one line reads the worst."""
    facts = replace(
        CALM, recent=Recent(2, ()), pending=waiting(days(1)), requests=(OpenRequest("r", "I", "S", "1", NOW),)
    )
    severities = [rule.severity for rule, _ in evaluate(facts, POLICY).found]

    assert [Severity.CRITICAL, Severity.ERROR, Severity.WARNING] == severities


def test_rule_ids_are_unique_and_each_has_its_heading_and_metric():
    """The link of an alert leads to a heading of the page; its gauge is published."""
    page = DOCS.read_text("utf-8")
    ids = [rule.rule_id for rule in (*ALERT_RULES, NO_DATA)]
    samples = set(re.findall(r"^([a-z_]+)[{ ]", metrics_text(CALM, []), re.MULTILINE))

    assert len(set(ids)) == len(ids)
    assert [] == [name for name in ids if f"\n### {name}\n" not in page]
    assert set() == {rule.metric for rule in (*ALERT_RULES, NO_DATA)} - samples


def test_table_of_the_page_is_made_from_the_rules():
    """Severities and thresholds are written once, in the code."""
    shown = re.search(r"<!-- rules -->\n(.*)<!-- /rules -->", DOCS.read_text("utf-8"), re.DOTALL).group(1)

    assert rules_table(POLICY).strip() == shown.strip()


@required("promtool")
def test_promtool_finds_nothing_to_say():
    """Names, units and help texts are as Prometheus wants them."""
    checked = openssh("promtool", "check", "metrics", stdin=metrics_text(CALM, []).encode())

    assert (0, b"") == (checked.returncode, checked.stdout + checked.stderr)


def test_monitor_that_runs_is_not_taken_for_gone_on_a_sandboxs_clock():
    """The documented alert compares with the collector's own time, which a clock that stands still is no part of."""
    ran = re.search(r"monitor_timestamp_seconds ([0-9]\S+)", metrics_text(CALM, [])).group(1)

    assert abs(time.time() - float(ran)) < 3600


def test_missing_fact_has_no_sample():
    """A zero would say that all is well."""
    text = metrics_text(replace(CALM, comparison=Missing("x", "y"), inventory=Missing("x", "y")), [])

    assert "not_at_stripe" not in text
    assert "credential_left_seconds" not in text
    assert 'recent_payouts{source="table"} 1.0' in text


# ------------------------------------------------------------------------------------------------------- inventory


def test_certificate_is_read_from_its_file_and_a_chain_by_its_earliest_end(tmp_path):
    """A renewed certificate is noticed by itself; of a chain the first to expire counts."""
    authority = trustme.CA()
    soon, late = NOW + days(9), NOW + days(300)
    certs = [authority.issue_cert("stripe.example", not_after=at).cert_chain_pems[0].bytes() for at in (late, soon)]
    (tmp_path / "chain.pem").write_bytes(b"".join(certs))
    (tmp_path / "inventory.toml").write_text('[[credential]]\nname = "merchant"\nfile = "chain.pem"\n', "utf-8")

    assert [Credential("merchant", soon)] == list(read_inventory(tmp_path / "inventory.toml").credentials)


@pytest.mark.parametrize(
    "content", [None, b"", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", b"\xff\xfe"]
)
def test_certificate_that_cannot_be_read_is_missing_and_hides_no_other(tmp_path, content):
    """One bad file is one alert, by the credential's name."""
    if content is not None:
        (tmp_path / "bad.pem").write_bytes(content)
    text = '[[credential]]\nname = "bad"\nfile = "bad.pem"\n[[credential]]\nname = "key"\ndue = 2026-06-01\n'
    (tmp_path / "inventory.toml").write_text(text, "utf-8")
    bad, good = read_inventory(tmp_path / "inventory.toml").credentials

    assert isinstance(bad.due, Missing)
    assert "bad" == bad.due.source
    assert Credential("key", datetime(2026, 6, 1, tzinfo=UTC)) == good


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("credential = 3", "credential in the inventory"),
        ('[[credential]]\nname = "x"', "either a file or a due date"),
        ('[[credential]]\nname = "x"\nfile = "f"\ndue = 2026-01-01', "either a file or a due date"),
        ('[[credential]]\nname = "x"\nexpires = 2026-01-01', "expires"),
        ("acces_reviewed_on = 2026-01-01", "acces_reviewed_on"),
        ('access_reviewed_on = "soon"', "access_reviewed_on"),
        ("[[", "cannot be read"),
        ('[[rehearsal]]\non = 2026-01-01\ngreen = true\napprovers = []\ntarget = "live"', "rehearsal.0.target"),
        (
            '[[rehearsal]]\non = 2026-01-01\ngreen = true\napprovers = []\nprocedure = "76567E92"',
            "rehearsal.0.procedure",
        ),
    ],
)
def test_inventory_that_cannot_be_right_is_refused_by_name(tmp_path, text, said):
    """A misspelt entry must not look like nothing to do."""
    (tmp_path / "inventory.toml").write_text(text, "utf-8")
    with pytest.raises(SettingsError, match=said):
        read_inventory(tmp_path / "inventory.toml")
