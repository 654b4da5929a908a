"""What approvers are shown is part of what they sign, and what has changed since is paid under no approval."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import sqlalchemy as sa
from tests.mishaps import refusal

from manual_payout.approval.approving import shown_to_approver
from manual_payout.approval.pinned import pinned_rules
from manual_payout.desk.settings import Policy
from manual_payout.desk.signatures import REQUEST, SEAL, WITHDRAWAL
from manual_payout.desk.signing import sandbox_key
from manual_payout.domain.canonical import canonical_json, digest_bytes
from manual_payout.domain.errors import ApprovalError, PolicyRefusedError
from manual_payout.domain.models import Mode, State
from manual_payout.evidence import verifier
from payout_rehearsal.demo import incident
from payout_rehearsal.demo.ledger import payouts_table


def ledger_says(scene, **values):
    """Change the ledger's row of the payout, as its owner does."""
    with scene.engine.execution_options(write=True).begin() as connection:
        row = payouts_table.c.ledger_payout_id == incident.LEDGER_PAYOUT_ID
        connection.execute(sa.update(payouts_table).where(row).values(**values))


def compared(scene):
    """The approver's table by field."""
    table = shown_to_approver(scene.desk, scene.request).tables[0]
    return table.caption, {row["field"]: row for row in table.as_dicts()}


def test_approver_sees_every_difference_between_request_ledger_and_stripe(scene):
    """The ledger has moved since the form was filed: each field that differs is marked, and counted at the top."""
    calm, _ = compared(scene)
    ledger_says(scene, amount_minor=125_076, destination_account="acct_999")
    caption, rows = compared(scene)

    assert calm.endswith("No field differs.")
    assert caption.endswith("2 fields differ: amount, destination_account.")
    assert ("differs", "1,250.75 USD", "1,250.76 USD") == tuple(
        rows["amount"][name] for name in ("result", "request", "ledger")
    )
    assert rows["destination_account"]["request"] == incident.DESTINATION_ACCOUNT
    assert rows["destination_account"]["ledger"].startswith("acct_999")
    assert "same" == rows["reserve_after"]["result"]


def test_statement_names_what_was_shown_and_it_is_kept(scene):
    """The digest under the signature is that of the kept facts; whoever changes them is found."""
    given = scene.desk.store.approvals_of(scene.request.request_id)
    said = json.loads(given[0].signed_text)["predicate"]
    told = scene.events("approved")[0].data

    assert (
        said["facts_digest"]
        == digest_bytes(given[0].facts.encode())
        == digest_bytes(canonical_json(told["facts"]).encode())
    )
    assert json.loads(given[0].facts)["request_digest"] == scene.request.digest
    assert said["request"]["lines"]["total_minor"] == scene.request.total.amount_minor


def test_ledger_that_changed_after_the_approvals_is_not_paid(scene):
    """Even where request and ledger still agree: both approvers said yes to what they were shown."""
    ledger_says(scene, destination_changed_at=scene.desk.now())
    error = refusal(scene.send)

    assert (PolicyRefusedError, []) == (type(error), scene.posts)
    assert "destination changed at: shown" in error.message

    # The remedy works: the same two may say yes again, to what is so now.
    scene.pass_time(minutes=1)
    scene.approve("priya"), scene.approve("amara"), scene.dry_run()
    assert State.PAID is scene.send().state


def test_nobody_says_the_same_yes_twice(scene):
    """Where nothing has changed, a second yes of one person is refused as ever."""
    with pytest.raises(ApprovalError, match="already"):
        scene.approve("priya")


def test_rules_of_money_that_changed_after_the_approvals_refuse_the_send(scene):
    """Who approved under one ceiling has approved nothing under another."""
    raised = scene.new_desk(account_check="if_visible")
    error = refusal(scene.send, raised)

    assert (ApprovalError, []) == (type(error), scene.posts)
    assert "not those under which Priya Raman and Amara Diallo approved" in error.message


def test_outside_the_sandbox_a_request_is_signed_by_its_requester(scene):
    """A typed name proves nothing: the signature is the requester's, over what was filed."""
    from manual_payout.approval.approvals import check_filed

    live = replace(scene.request, mode=Mode.LIVE)
    with pytest.raises(ApprovalError, match="Nobody has signed"):
        check_filed(scene.desk.registry, live)
    text = canonical_json(live.statement()).encode()
    for signature in (
        sandbox_key("maya").sign(WITHDRAWAL, text),
        sandbox_key("tomas").sign(REQUEST, text),
        sandbox_key("tomas").sign(SEAL, text),
        sandbox_key("maya").sign(REQUEST, text + b" "),
    ):
        with pytest.raises(ApprovalError, match="signature by Maya Okafor is not valid"):
            check_filed(scene.desk.registry, replace(live, signature=signature))

    check_filed(scene.desk.registry, replace(live, signature=sandbox_key("maya").sign(REQUEST, text)))


@pytest.mark.parametrize("mode", list(Mode))
def test_verifier_knows_the_rules_that_a_policy_file_leaves_out(mode):
    """Its own table says what the settings say, in every mode."""
    text = {"stripe": {"mode": mode.value, "platform_account": "acct_1"}}
    pinned = pinned_rules(Policy.model_validate(text))
    unless_said = verifier.RULES_UNLESS_SAID | (
        {"approvals": verifier.SANDBOX_APPROVALS} if mode is Mode.SANDBOX else {}
    )

    assert {name: pinned[name] for name in unless_said} == unless_said
