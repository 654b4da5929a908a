"""What was true when it was filed, approved or computed is asked again when money is about to move."""

from __future__ import annotations

import json
import shlex
import shutil
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manual_payout import settings as settings_module
from manual_payout import transfer
from manual_payout.approvals import check_approvals
from manual_payout.demo import incident
from manual_payout.errors import ApprovalError, PolicyRefusedError, UnknownOutcomeError
from manual_payout.models import State
from manual_payout.people import Registry
from manual_payout.settings import RequestPolicy
from manual_payout.verification import verify
from test_approvals import AMARA, AT, PRIYA, REGISTRY, REQUEST
from test_cli import approve
from test_verifier import edit, findings

HOUR = 3600
DEMO_POLICY = Path(settings_module.__file__).parent / "demo" / "policy.toml"
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
    live = shell(*shlex.split(dry.out.splitlines()[-1])[1:], "--stage", "execute")

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


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ({"approval_lifetime_s": 60}, "at event 12 an approval had ended by the policy"),
        ({"request_lifetime_s": 60}, "at event 12 its request had ended"),
        ({"amount_minor_max": 125_074}, "at event 12 its amount was above the policy's ceiling"),
        ({"amount_minor_max": True}, "at event 12 its amount was above the policy's ceiling"),
        ({"approval_lifetime_s": "long"}, "event 12 does not say what the policy was then"),
        (None, "event 12 does not say what the policy was then"),
    ],
)
def test_the_verifier_judges_by_the_policy_on_record(folder, rules, said):
    """Whatever the approvals say themselves, and where somebody has written the manifest anew."""

    def change(journal):
        event = next(event for event in journal["events"] if event["kind"] == "intent_recorded")
        event["data"]["rules"] = event["data"]["rules"] | rules if rules else None

    edit(folder / "journal.json", change)

    assert said in findings(folder)["approvals"]


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
