"""The preflight: everything that a night will need is tried beforehand, and what fails is named with its remedy."""

from __future__ import annotations

import json

import pytest

from manual_payout.desk.settings import SANDBOX_APPROVERS
from payout_rehearsal.demo import incident
from shells import approve_both


@pytest.fixture(name="forgetful")
def _forgetful(shell):
    """The command line under a policy that names a relation for claims which nobody has made."""
    policy = shell.root / "policy.toml"
    policy.write_text(
        SANDBOX_APPROVERS.with_name("policy.toml").read_text("utf-8")
        + '\n[ledger]\nclaim_relation = "manual_payout_claims"\n'
    )
    shell.environment["MANUAL_PAYOUT_POLICY"] = str(policy)
    return shell


def by_name(answer):
    """What was found, by what was asked."""
    return {one["what"]: one for one in json.loads(answer.out)}


def test_everything_is_tried_and_nothing_is_written(shell):
    """On a machine that is ready: exit code 0; a claim is tried, and nobody sees it."""
    before = shell.desk.ledger.find_payout_due(incident.LEDGER_PAYOUT_ID)
    answer, plain = shell("check", "--claim", "--json"), shell("check")
    found = by_name(answer)

    assert (0, 0) == (answer.code, plain.code), answer.err + plain.err
    assert {
        "database",
        "clocks",
        "ledger",
        "people",
        "keys",
        "slack",
        "email",
        "pagerduty",
        "jira",
        "claim",
    } < found.keys()
    assert found["claim"]["found"].startswith("could be written")
    assert before == shell.desk.ledger.find_payout_due(incident.LEDGER_PAYOUT_ID)
    assert "Nothing fails." in plain.out


def test_a_forgotten_claim_relation_is_found_before_anything_runs(forgetful):
    """By the preflight and by the operator's dry run, which said GO until the live run failed."""
    checked = forgetful("check", "--claim", "--json")
    forgetful.request()
    approve_both(forgetful)
    dry = forgetful("run", "INC-123", "--operator", "tomas")

    assert (3, "failed") == (checked.code, by_name(checked)["claim"]["status"])
    assert 0 == forgetful("check").code
    assert 3 == dry.code, dry.said
    assert "Can the payout be taken away from the automation?" in dry.said
    assert "manual_payout_claims" in dry.said
    assert [] == forgetful.stripe.books.transfers


def test_what_does_not_answer_is_named_with_its_remedy(shell):
    """A mail server that is not there, and people of whom one alone could approve: all at once, exit code 3."""
    people = shell.root / "approvers.toml"
    demo = shell.desk.settings.approvers_path()
    people.write_text(demo.read_text("utf-8").replace('may = ["approve"]', "may = []", 1))
    (shell.root / "allowed_signers").write_text(demo.with_name("allowed_signers").read_text("utf-8"))
    (shell.root / "revoked_keys").write_text("")
    answer = shell(
        "check", "--json", SMTP_HOST="127.0.0.1", SMTP_PORT="1", SMTP_SECURITY="none",
        MANUAL_PAYOUT_APPROVERS=str(people),
    )  # fmt: skip
    failing = {what: one for what, one in by_name(answer).items() if one["status"] == "failed"}

    assert (3, {"email", "people"}) == (answer.code, set(failing)), answer.said
    assert "Payments Ops" in failing["people"]["found"]
    assert all(one["remedy"] for one in failing.values())
