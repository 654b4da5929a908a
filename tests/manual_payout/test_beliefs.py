"""What was true when it was filed, approved or computed is asked again when money is about to move."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from tests.manual_payout.test_approvals import AMARA, AT, PRIYA, REGISTRY, REQUEST
from tests.manual_payout.test_cli import approve
from tests.manual_payout.test_policy import BALANCE, GOOD, RULES, failing
from tests.manual_payout.test_verifier import edit, findings

from desks import STREAM
from manual_payout import transfer
from manual_payout.approval.approvals import check_approvals
from manual_payout.approval.policy import LEDGER_SKEW_MAX
from manual_payout.approval.verification import verify
from manual_payout.database import engines
from manual_payout.desk import settings as settings_module
from manual_payout.desk.people import Registry
from manual_payout.desk.settings import LedgerPolicy, RequestPolicy
from manual_payout.domain.errors import ApprovalError, PolicyRefusedError, UnknownOutcomeError
from manual_payout.domain.models import CheckStatus, State
from manual_payout.domain.money import Money
from manual_payout.gateway.client import funds_in
from mishaps import CrashError, crash
from payout_rehearsal.demo import incident
from shells import live_command

HOUR = 3600
DEMO_POLICY = Path(settings_module.__file__).parent / "sandbox" / "policy.toml"
FOLDER = Path(incident.INCIDENT_ID) / incident.LEDGER_PAYOUT_ID
SHORT = {"approval_lifetime_s": 4 * HOUR}
LONG = {"approval_lifetime_s": 24 * HOUR}


def policy_file(folder, name, **entries):
    """The demo's policy with other *entries*, whose sections are unchanged."""
    text = DEMO_POLICY.read_text("utf-8")
    for entry, value in entries.items():
        lines = [f"{entry} = {value}" if line.startswith(f"{entry} =") else line for line in text.splitlines()]
        text = "\n".join(lines) + "\n"
    path = folder / name
    path.write_text(text, "utf-8")
    return str(path)


# -------------------------------------------------------------------------- how long approvals and requests stand


@given(st.integers(1, 30 * 24 * HOUR), st.integers(1, 30 * 24 * HOUR), st.sampled_from((-1, 0, 1)))
def test_approvals_stand_until_the_earliest_end(approval_s, request_s, beside_us):
    """By what they say (four hours), the policy of now, and their request, to the microsecond: the end itself is over."""
    rules = RequestPolicy(approval_lifetime_s=approval_s, request_lifetime_s=request_s)
    ends = AT + timedelta(seconds=min(4 * HOUR, approval_s, request_s))
    at = ends + timedelta(microseconds=beside_us)

    def stand():
        return check_approvals(REQUEST, [PRIYA, AMARA], REGISTRY, rules, operator_id="tomas", at=at)

    if beside_us < 0:
        assert ends == stand().stand_until
    else:
        with pytest.raises(ApprovalError, match="expired"):
            stand()


def test_approvals_that_say_24_hours_end_with_the_policy_of_now(shell):
    """Through the command line: under a policy of 4 hours they are no longer counted, sent or in anybody's way."""
    long = policy_file(shell.root, "long.toml", approval_lifetime_s=24 * HOUR)
    under = {"MANUAL_PAYOUT_POLICY": long}
    shell.request()
    given_under_it = [shell("approve", "INC-123", "--as", who, "--amount", incident.AMOUNT, "--destination-last4", "_123", **under) for who in ("priya", "amara")]  # fmt: skip
    file = shell.root / FOLDER / "incident.yaml"
    dry = shell("run", "-f", file, "--operator", "tomas", "--dry-run", **under)
    shell.stripe.advance(4 * HOUR)
    long_after, status = shell("status", **under), shell("status")
    live = shell(*live_command(dry), "--stage", "execute")

    assert [0, 0, 0] == [*(one.code for one in given_under_it), dry.code], given_under_it[0].err + dry.said
    assert "2 of 2 approved" in long_after.out
    assert "0 of 2 approved" in status.out
    assert 3 == live.code
    assert "expired at 2026-03-02 07:00 UTC, by the policy as it is now; it says 2026-03-03 03:00." in live.said
    assert "manual-payout approve INC-123" in live.said
    assert [] == shell.stripe.books.transfers
    assert "Approved by Priya Raman" in approve(shell, "priya").out


def test_a_request_ends_with_the_policy_of_now(shell):
    """Through the command line: status no longer waits for it, nobody approves it, and the same is filed anew."""
    under = {"MANUAL_PAYOUT_POLICY": policy_file(shell.root, "short.toml", request_lifetime_s=2 * HOUR)}
    first = shell.request()
    shell.stripe.advance(2 * HOUR)
    status, refused = shell("status", **under), shell(
        "approve", "INC-123", "--as", "priya", "--amount", incident.AMOUNT, "--destination-last4", "_123", **under
    )  # fmt: skip
    again = shell("request", "--as", "maya", "-f", shell.root / FOLDER / "incident.yaml", **under)

    assert 0 == first.code
    assert "No manual payout was requested" in status.out
    assert 3 == refused.code
    assert "expired at 2026-03-02 05:00 UTC" in refused.said
    assert 0 == again.code, again.said
    assert " filed." in again.out


@pytest.mark.parametrize("rules", [SHORT, {"request_lifetime_s": 4 * HOUR}], ids=["approvals", "request"])
def test_the_send_asks_the_policy_of_now(scene, rules):
    """Filed and approved for a day; four hours later under a policy of four hours nothing is sent, and a second before it is."""
    scene.settings = scene.settings_with(request=LONG)
    scene.desk = scene.new_desk(request=LONG)
    request = scene.request = scene.file(notes="for a day", replace=True)
    scene.approve("priya"), scene.approve("amara"), scene.dry_run()
    scene.pass_time(hours=4)
    strict = scene.new_desk(request=rules)
    live = scene.live(notes="for a day")
    found = verify(strict, live, scene.operator.person_id)
    with pytest.raises(ApprovalError, match="expired"):
        transfer.send(strict, live, scene.operator)

    assert not found.go
    assert [] == scene.posts
    assert request.request_id == transfer.send(scene.new_desk(request=LONG), live, scene.operator).request_id


def test_the_same_key_is_not_sent_again_under_approvals_that_the_policy_ended(scene):
    """A lost request, then a stricter policy: reconcile looks, sends nothing, and asks a person."""
    scene.stripe.fault("drop_before", times=3)
    with pytest.raises(UnknownOutcomeError):
        scene.send()
    scene.pass_time(hours=1)
    before = len(scene.posts)
    with pytest.raises(UnknownOutcomeError, match="by the policy as it is now"):
        scene.reconcile(desk=scene.new_desk(request={"approval_lifetime_s": HOUR}))

    assert State.NEEDS_HUMAN is scene.record.state
    assert before == len(scene.posts)


def test_what_is_paid_is_no_news_to_a_stricter_policy(scene):
    """What has begun was judged by the policy of its moment: the verification of what was done stands."""
    scene.send()
    scene.pass_time(hours=2)
    desk = scene.new_desk(request={"approval_lifetime_s": HOUR, "request_lifetime_s": HOUR})

    assert verify(desk, scene.live(), scene.operator.person_id).facts.approval_error is None
    assert State.PAID is transfer.send(desk, scene.live(), scene.operator).state


def test_a_requester_who_may_not_file_any_more_stops_a_first_send(scene):
    """The registry of now counts for who asked as it does for who approves; what has begun is finished."""
    people = [replace(one, may=one.may - {"request"}) for one in scene.desk.registry.people]
    registry = Registry(people, source="the registry", signers=scene.desk.registry.signers)
    scene.desk.registry, before = registry, scene.desk.registry
    with pytest.raises(PolicyRefusedError, match="may not file requests any more"):
        scene.send()
    scene.desk.registry = before
    scene.send()
    scene.desk.registry = registry

    assert verify(scene.desk, scene.live(), scene.operator.person_id).go


# ------------------------------------------------------------------------------------------- the offline verifier


@pytest.fixture(name="folder")
def _folder(rehearsed, tmp_path):
    """A copy of the sealed folder of a whole incident, to be changed."""
    return Path(shutil.copytree(rehearsed.folder, tmp_path / "folder"))


def unnumbered(found):
    """What was found, whatever place in the journal it is about."""
    return [re.sub(r"event \d+", "event N", one) for one in found]


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ({"approval_lifetime_s": 60}, "at event N an approval had ended by the policy"),
        ({"request_lifetime_s": 60}, "at event N its request had ended"),
        ({"amount_minor_max": 125_074}, "at event N its amount was above the policy's ceiling"),
        ({"amount_minor_max": True}, "at event N its amount was above the policy's ceiling"),
        ({"approval_lifetime_s": "long"}, "event N does not say what the policy was then"),
        (None, "event N does not say what the policy was then"),
    ],
)
def test_the_verifier_judges_by_the_policy_on_record(folder, rules, said):
    """Whatever the approvals say themselves, and where somebody has written the manifest anew."""

    def change(journal):
        event = next(event for event in journal["events"] if event["kind"] == "intent_recorded")
        event["data"]["rules"] = event["data"]["rules"] | rules if rules else None

    edit(folder / "journal.json", change)

    assert said in unnumbered(findings(folder)["approvals"])


def test_the_verifier_judges_approvals_to_the_exact_end(folder):
    """An approval that ended in the very instant of the intent did not stand; a second more, and it did."""
    journal = json.loads((folder / "journal.json").read_bytes())["events"]
    intent = next(event for event in journal if event["kind"] == "intent_recorded")
    first = min(
        event["data"]["statement"]["predicate"]["approved_at"] for event in journal if event["kind"] == "approved"
    )
    age_s = int((datetime.fromisoformat(intent["at"]) - datetime.fromisoformat(first)).total_seconds())

    def change(seconds):
        def write(journal):
            event = next(event for event in journal["events"] if event["kind"] == "intent_recorded")
            event["data"]["rules"]["approval_lifetime_s"] = seconds

        edit(folder / "journal.json", write)
        return [one for one in findings(folder).get("approvals", ()) if "by the policy" in one]

    assert 1 == len(change(age_s))
    assert [] == change(age_s + 1)


def test_what_is_taken_over_is_sent_only_with_leave_on_record(scene, monkeypatch):
    """Whoever continues another's sending is asked again, and the journal has under which approvals and which policy."""
    monkeypatch.setattr(scene.desk.gateway, "create_transfer", crash)
    with pytest.raises(CrashError):
        scene.send()
    monkeypatch.undo()
    scene.send()
    (leave,) = scene.events("resend_allowed")
    kinds = [event.kind for event in scene.desk.store.events_of(STREAM)]

    assert 2 == len(leave.data["approval_ids"])
    assert 14400 == leave.data["rules"]["approval_lifetime_s"]
    assert (
        kinds.index("sending_taken_over")
        < kinds.index("resend_allowed")
        < len(kinds) - 1 - kinds[::-1].index("sending")
    )


@pytest.mark.parametrize("asked", [True, False])
def test_the_verifier_finds_what_was_sent_without_leave(folder, asked):
    """After a take-over the approvals have to be asked about before the next request leaves, by somebody who may run it."""

    def change(journal):
        events = journal["events"]
        at = next(at for at, event in enumerate(events) if event["kind"] == "sending")
        intent = next(event for event in events if event["kind"] == "intent_recorded")
        taken = events[at] | {"kind": "sending_taken_over", "data": {}}
        events[at:at] = [taken, *([intent | {"kind": "resend_allowed"}] if asked else [])]

    edit(folder / "journal.json", change)

    assert asked is not any("nobody was asked about" in one for one in findings(folder).get("approvals", ()))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"actor": "0b6c1f0e-7a52-4d0f-9c3e-2e8a51f7d901"}, ""),
        ({"actor": "approver"}, "is by its operator"),
        ({"at": "2026-03-02T23:00:00.000000Z"}, "did not stand"),
    ],
)
def test_the_verifier_judges_each_leave_to_send_again(folder, change, said):
    """As it judges an intent: who sends a key again is none of its approvers, and the approvals stand at that moment."""

    def add(journal):
        events = journal["events"]
        intent = next(event for event in events if event["kind"] == "intent_recorded")
        approver = next(event["actor"] for event in events if event["kind"] == "approved")
        leave = intent | {"kind": "resend_allowed"} | change
        events.append(leave | ({"actor": approver} if change.get("actor") == "approver" else {}))

    edit(folder / "journal.json", add)
    wrong = unnumbered(findings(folder).get("approvals", ()))

    assert ([f"the approval of event N {said}"] if said else []) == [
        one for one in wrong if one.startswith("the approval")
    ]


# ------------------------------------------------------------------------------------------ the age of a balance


def set_balance(desk, as_of):
    """Have the ledger say that every balance was computed at *as_of*."""
    engine = engines.connect(desk.settings.ledger_database_text(), name="LEDGER_DATABASE_URL")
    with engine.execution_options(write=True).begin() as connection:
        connection.execute(sa.text("UPDATE manual_payout_balance SET as_of = :at"), {"at": as_of})
    engine.dispose()


@given(st.integers(1, 30 * 24 * HOUR), st.sampled_from((-1, 0, 1)))
def test_a_balance_may_be_as_old_as_the_policy_says_and_no_older(limit_s, beside_us):
    """Exactly that old is not too old; a microsecond more is."""
    rules = policy_with(balance_age_max_s=limit_s)
    as_of = GOOD.at - timedelta(seconds=limit_s, microseconds=beside_us)

    assert (beside_us > 0) is ("balance_age" in failing(rules, balance=replace(BALANCE, as_of=as_of)))


@given(st.sampled_from((-1, 0, 1)), st.sampled_from(("balance_age", "ledger_payout_due")))
def test_a_clock_that_is_a_little_ahead_is_no_future(beside_us, name):
    """Five minutes of skew between two databases are taken; a microsecond more is the future, of a balance as of a due date."""
    ahead = GOOD.at + LEDGER_SKEW_MAX + timedelta(microseconds=beside_us)
    facts = {"balance": replace(BALANCE, as_of=ahead), "due": replace(GOOD.due, due_at=ahead)}

    assert (beside_us > 0) is (name in failing(**facts))


def policy_with(**ledger):
    return RULES.model_copy(update={"ledger": LedgerPolicy(**ledger)})


@pytest.mark.parametrize(
    ("as_of", "found"),
    [
        ("2021-03-02T03:00:00+00:00", "2021-03-02 03:00 UTC, 1826 days old"),
        ("2026-03-01T00:59:59+00:00", "2026-03-01 00:59 UTC, 26 h 1 s old"),
        ("2027-03-02T03:00:00+00:00", "2027-03-02 03:00 UTC, 365 days in the future"),
        # Text without a zone is UTC on SQLite, whatever zone this machine is in.
        ("2026-03-01 00:59:59", "2026-03-01 00:59 UTC, 26 h 1 s old"),
    ],
)
def test_the_send_refuses_a_balance_that_is_not_of_now(scene, as_of, found):
    """However good everything else is; and once the ledger has computed it anew, it goes."""
    set_balance(scene.desk, as_of)
    with pytest.raises(PolicyRefusedError) as refused:
        scene.send()
    set_balance(scene.desk, incident.NOW)

    assert f"Expected within 26 h, not in the future; found {found}." in refused.value.message
    assert "recompute its balances" in refused.value.remedy
    assert [] == [post for post in scene.posts if post.path == "/v1/transfers"]
    assert State.PAID is scene.send().state


def test_a_stale_balance_is_shown_to_approvers_and_refused_to_operators(shell):
    """Through the command line: marked to each approver, exit 3 with the check's own sentence to the operator."""
    shell.request()
    set_balance(shell.desk, "2021-03-02T03:00:00+00:00")
    approvals = [approve(shell, "priya"), approve(shell, "amara")]
    dry = shell("run", "-f", shell.root / FOLDER / "incident.yaml", "--operator", "tomas", "--dry-run")

    assert all("1 field differs: balance." in one.err for one in approvals)
    assert all("2021-03-02 03:00 UTC, 1826 days old" in one.err for one in approvals)
    assert 3 == dry.code
    assert "Was the studio's balance computed recently?" in dry.said
    assert "found 2021-03-02 03:00 UTC, 1826 days old" in dry.said
    assert [] == shell.stripe.books.transfers


@pytest.mark.parametrize("as_of", [None, "yesterday", ""])
def test_a_balance_without_an_instant_is_refused_by_its_column(shell, as_of):
    """Through the command line: the view, the studio and the column are named; exit 5, since the ledger cannot be believed."""
    shell.request()
    engine = engines.connect(shell.desk.settings.ledger_database_text(), name="LEDGER_DATABASE_URL")
    with engine.execution_options(write=True).begin() as connection:
        connection.execute(sa.text("ALTER TABLE manual_payout_balance RENAME TO balances"))
        columns = "studio_id, currency, balance_minor, reserve_minimum_minor"
        word = "NULL" if as_of is None else f"'{as_of}'"
        connection.execute(
            sa.text(f"CREATE VIEW manual_payout_balance AS SELECT {columns}, {word} AS as_of FROM balances")
        )
    engine.dispose()
    answer = approve(shell, "priya")

    assert 5 == answer.code
    assert f"manual_payout_balance holds for studio {incident.STUDIO_ID}" in answer.said
    assert "in column as_of" in answer.said
    assert "Traceback" not in answer.said


def test_a_stale_balance_keeps_the_same_key_from_being_sent_again(scene):
    """Reconcile looks and asks a person; once the balance is of now, the same key goes out."""
    scene.stripe.fault("drop_before", times=3)
    with pytest.raises(UnknownOutcomeError):
        scene.send()
    set_balance(scene.desk, "2021-03-02T03:00:00+00:00")
    before = len(scene.posts)
    with pytest.raises(UnknownOutcomeError, match="1826 days old"):
        scene.reconcile()
    after = len(scene.posts)
    set_balance(scene.desk, incident.NOW)

    assert before == after
    assert State.PAID is scene.reconcile().record.state


def test_what_was_sent_does_not_age(scene):
    """A week after the transfer its verification stands: the balance was asked for when it mattered."""
    scene.send()
    scene.pass_time(days=7)

    assert verify(scene.desk, scene.live(), scene.operator.person_id).go


def test_the_demo_s_balances_are_of_the_day_by_the_sandbox_s_clock(shell):
    """A second incident after a week of settlement is a go; what somebody has set by hand stays as it is."""
    shell.stripe.advance(7 * 24 * HOUR)
    balance = shell.desk.ledger.find_balance(incident.STUDIO_ID, "usd")
    set_balance(shell.desk, "2021-03-02T03:00:00+00:00")
    shell.stripe.advance(7 * 24 * HOUR)

    assert timedelta(days=7) == balance.as_of - datetime.fromisoformat(incident.NOW)
    assert 2021 == shell.desk.ledger.find_balance(incident.STUDIO_ID, "usd").as_of.year


# ------------------------------------------------------------------------------------- what a transfer can draw


@pytest.mark.parametrize(
    ("entries", "total", "drawable"),
    [
        ([{"amount": 5, "currency": "usd", "source_types": {"card": 5}}], 5, 5),
        ([{"amount": 8, "currency": "usd", "source_types": {"card": 5, "bank_account": 3}}], 8, 5),
        ([{"amount": 3, "currency": "usd", "source_types": {"bank_account": 3}}], 3, 0),
        ([{"amount": 3, "currency": "usd", "source_types": {"card": 3}}, {"amount": 9, "currency": "eur"}], 3, 3),
        ([{"amount": 3, "currency": "usd", "source_types": {"card": 3}}, {"amount": 2, "currency": "usd"}], 5, None),
        ([{"amount": 5, "currency": "usd"}], 5, None),
        ([{"amount": 5, "currency": "usd", "source_types": {}}], 5, None),
        ([{"amount": 5, "currency": "usd", "source_types": {"card": "5"}}], 5, None),
        ([{"amount": 5, "currency": "usd", "source_types": None}], 5, None),
        ([{"amount": 0, "currency": "usd", "source_types": {}}], 0, 0),
        ([{"amount": -5, "currency": "usd", "source_types": {"card": -5}}], -5, -5),
        ([], 0, 0),
    ],
)
def test_a_transfer_draws_what_came_from_cards(entries, total, drawable):
    """Both numbers of a currency; where one entry does not say what it is made of, the second is not known."""
    expected = (Money(total, "usd"), None if drawable is None else Money(drawable, "usd"))

    assert expected == funds_in({"available": entries}, "usd")


@given(st.integers(-2, 2), st.integers(0, 10**6))
def test_the_funds_check_counts_what_a_transfer_can_draw(beside, bank):
    """To the cent, whatever else there is."""
    drawable = Money(max(0, 125_075 + beside), "usd")
    stripe = replace(GOOD.stripe, drawable=drawable, available=Money(drawable.amount_minor + bank, "usd"))

    assert (beside < 0) is ("stripe_balance" in failing(stripe=stripe))


def test_money_from_bank_debits_does_not_fund_a_transfer(shell):
    """Through the command line: both numbers are shown, and the run is refused before anything is claimed or sent."""
    shell.stripe.seed(available={"usd": 125_074})
    shell.stripe.switch(bank_funds=True)
    shell.request(), approve(shell, "priya"), approve(shell, "amara")
    dry = shell("run", "-f", shell.root / FOLDER / "incident.yaml", "--operator", "tomas", "--dry-run")

    assert 3 == dry.code
    assert (
        "Expected at least 1,250.75 USD that a transfer can draw; found 1,250.74 USD that a transfer can draw, 11,250.74 USD in all."
        in dry.said
    )
    assert "failed" == shell.desk.ledger.find_payout_due(incident.LEDGER_PAYOUT_ID).standing


def test_a_balance_that_does_not_say_what_it_is_made_of_is_a_warning(scene):
    """It says so, and the send goes on; what does not suffice in all is still refused."""
    scene.stripe.switch(source_types=False)
    found = verify(scene.desk, scene.live(), scene.operator.person_id)
    warned = next(check for check in found.checks if check.name == "stripe_balance")
    scene.stripe.seed(available={"usd": 125_074})
    with pytest.raises(PolicyRefusedError, match=r"found 1,250\.74 USD in all"):
        scene.send()
    scene.stripe.seed(available={"usd": 125_075})

    assert (CheckStatus.WARN, True) == (warned.status, found.go)
    assert "Stripe does not say how much of it a transfer can draw" in warned.found
    assert State.PAID is scene.send().state
