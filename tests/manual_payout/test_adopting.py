"""A transfer that was made by hand from the payload is taken up whole, by a recorded decision, or refused by the field."""

from __future__ import annotations

import json
import re
import shlex

import pytest

from manual_payout import transfer
from manual_payout.domain.canonical import instant_text
from manual_payout.domain.errors import (
    IntentConflictError,
    ManualPayoutError,
    ParameterError,
    PolicyRefusedError,
    UnknownOutcomeError,
)
from manual_payout.domain.intent import build_payload, idempotency_key, stripe_command
from manual_payout.domain.models import Mode, State
from manual_payout.evidence import verifier
from payout_rehearsal.demo import incident

FOLDER = f"{incident.INCIDENT_ID}/{incident.LEDGER_PAYOUT_ID}"


def by_hand(scene, *, metadata=(), **changes):
    """Make the request's transfer outside of any run, some of it changed; its id is returned."""
    payload = build_payload(scene.request, scene.request.line_for(), 1) | changes
    payload["metadata"] = {name: text for name, text in {**payload["metadata"], **dict(metadata)}.items() if text}
    key = f"by-hand-{len(scene.transfers)}"
    return scene.desk.gateway.create_transfer(payload, idempotency_key=key).made["id"]


def adopt(scene, made, *, operator=None, because=""):
    return transfer.adopt(
        scene.desk, scene.request, scene.request.line_for(), made, operator or scene.operator, because
    )


def refusal(call, *args, **kwargs):
    with pytest.raises(ManualPayoutError) as caught:
        call(*args, **kwargs)
    return caught.value


def test_a_transfer_like_the_payload_is_taken_up(any_scene):
    """Row, attempt, claim and journal say what a send would have said, and that it was made by hand; nothing is sent."""
    made, posts = by_hand(any_scene), len(any_scene.posts)
    found = adopt(any_scene, made, because="The VPN was down.")
    told = any_scene.events("transfer_adopted")[0]

    assert (State.PAID, made, False, "claimed") == (
        any_scene.record.state, any_scene.record.stripe_transfer_id, any_scene.record.sent, any_scene.due.standing,
    )  # fmt: skip
    assert (found.record, posts) == (any_scene.record, len(any_scene.posts))
    assert (made, "The VPN was down.", any_scene.operator.person_id) == (
        told.data["stripe_transfer_id"], told.data["because"], told.actor,
    )  # fmt: skip
    assert [any_scene.events(kind)[0].seq for kind in ("intent_recorded", "outcome_paid")] == [
        told.seq - 1,
        told.seq + 1,
    ]
    assert [(any_scene.record.idempotency_key, "paid")] == any_scene.attempts()
    assert "nothing: it is on record" == adopt(any_scene, made).action
    assert any_scene.send() == any_scene.record


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"amount": 125_074}, ["amount"]),
        ({"transfer_group": "mine"}, ["transfer_group"]),
        ({"metadata": {"request_digest": ""}}, ["metadata.request_digest"]),
        ({"metadata": {"line_id": "x", "studio_id": "y"}, "amount": 1}, ["amount", "metadata.line_id", "metadata.studio_id"]),
    ],
)  # fmt: skip
def test_every_field_that_differs_is_named(scene, changes, named):
    """A transfer that is not the payload is refused with approved and found value of each field, and nothing is recorded."""
    error = refusal(adopt, scene, by_hand(scene, **changes))

    assert (PolicyRefusedError, None) == (type(error), scene.record)
    assert named == re.findall(r"([\w.]+): approved ", error.message)


def test_approvals_stand_now_and_stood_when_it_was_made(scene):
    """Nothing is approved afterwards; what exists and is not taken up is never called unmoved."""
    made = by_hand(scene)
    scene.pass_time(hours=5)
    late = refusal(adopt, scene, made)
    assert (UnknownOutcomeError, None) == (type(late), scene.record)
    assert "expired" in late.message
    scene.approve("priya")
    scene.approve("amara")
    assert State.PAID is adopt(scene, made).record.state


def test_what_was_made_before_the_approvals_is_not_taken_up(scene):
    """A request of its own, filed and approved after the transfer, does not make it approved."""
    scene.pass_time(minutes=25 * 60)
    scene.request = scene.file(incident_id="INC-124")
    made = by_hand(scene)
    scene.pass_time(minutes=10)
    scene.approve("priya")
    scene.approve("amara")
    error = refusal(adopt, scene, made)

    assert (UnknownOutcomeError, None) == (type(error), scene.record)
    assert "when the approvals did not stand" in error.message


def test_nothing_else_may_be_open(scene):
    """Beside an open attempt, another row or another transfer of the payout, nothing is taken up."""
    scene.stripe.fault("drop_before", times=3)
    refusal(scene.send)
    assert "reconcile" in refusal(adopt, scene, "tr_1").remedy
    made = by_hand(scene)
    scene.reconcile()

    assert made == scene.record.stripe_transfer_id
    assert IntentConflictError is type(refusal(adopt, scene, "tr_other"))


def test_a_second_transfer_in_the_group_stands_in_the_way(scene):
    """Two were made by hand: people compare them before either is taken up."""
    made, second = by_hand(scene), by_hand(scene)
    error = refusal(adopt, scene, made)

    assert (UnknownOutcomeError, True, None) == (type(error), second in error.message, scene.record)


def test_who_may_not_operate_takes_nothing_up(scene):
    """Approvers and requesters decide nothing about the record."""
    made = by_hand(scene)
    refusal(adopt, scene, made, operator=scene.desk.registry.find("priya"))

    assert scene.record is None
    assert ParameterError is type(refusal(adopt, scene, "po_1"))


def test_claim_is_taken_or_it_is_not_taken_up(scene):
    """A ledger payout that the automation has paid meanwhile is a double for people, and no row says that all is well."""
    from payout_rehearsal.demo import automation

    made = by_hand(scene)
    automation.attempt(scene.desk.ledger._engine, incident.LEDGER_PAYOUT_ID, scene.desk.now())
    error = refusal(adopt, scene, made)

    assert (UnknownOutcomeError, None) == (type(error), scene.record)
    assert "paid" in error.message


def test_the_command_makes_the_payload_whatever_stands_in_it(scene):
    """Words as Stripe's CLI reads them, the run's own key, and nothing that a shell would run or that is secret."""
    payload = build_payload(scene.request, scene.request.line_for(), 1)
    hostile = 'O\'Hara; $(rm -rf /) "`x`" & \\ ünï'
    payload["metadata"]["studio_id"] = hostile
    key = idempotency_key(scene.request.line_for().line_id, 1)
    words = shlex.split(stripe_command(payload, key, Mode.LIVE))
    data = dict(word.split("=", 1) for at, word in enumerate(words) if words[at - 1] == "-d")

    assert ["stripe", "transfers", "create", "--live", "--idempotency", key] == words[:6]
    assert str(payload["amount"]) == data["amount"]
    assert hostile == data["metadata[studio_id]"]
    assert {*payload["metadata"]} == {name[9:-1] for name in data if name.startswith("metadata[")}
    assert "rk_" not in " ".join(words)
    assert "--live" not in stripe_command(payload, key, Mode.TEST)


def test_from_the_shown_command_to_a_folder_that_verifies(shell):
    """The dry run shows the command; what it makes is adopted, logged, and the folder passes, saying that it was by hand."""
    shell.request()
    for who in ("priya", "amara"):
        shell("approve", "INC-123", "--as", who, "--amount", incident.AMOUNT, "--destination-last4", "_123")
    parameters = shell.root / FOLDER / "incident.yaml"
    dry = shell("run", "-f", parameters, "--operator", "tomas", "--stage", "execute", "--dry-run")
    assert 0 == dry.code, dry.err
    book = json.loads((shell.root / FOLDER / "2-execute-01.ipynb").read_text("utf-8"))
    shown = "".join(
        "".join(o.get("data", {}).get("text/plain", "")) for c in book["cells"] for o in c.get("outputs", ())
    )
    (command,) = re.findall(r"^stripe transfers create .*$", shown, flags=re.MULTILINE)
    words = shlex.split(command)
    data = dict(word.split("=", 1) for at, word in enumerate(words) if words[at - 1] == "-d")
    payload = {name: text for name, text in data.items() if "[" not in name} | {
        "amount": int(data["amount"]),
        "metadata": {name[9:-1]: text for name, text in data.items() if "[" in name},
    }
    made = shell.desk.gateway.create_transfer(payload, idempotency_key=words[words.index("--idempotency") + 1]).made[
        "id"
    ]
    taken = shell("reconcile", "INC-123", "--operator", "tomas", "--adopt", made)
    assert (0, True) == (taken.code, "taken up by Tomas Lindqvist as paid" in taken.out), taken.err
    for stage in ("log", "notify", "settle"):
        run = shell("run", "-f", parameters, "--operator", "tomas", "--stage", stage)
        assert 0 == run.code, (stage, run.err)
    verified = shell("verify", shell.root / FOLDER)

    assert (0, True) == (verified.code, f"MADE BY HAND AND TAKEN UP: {made}." in verified.out), verified.said


class Journal:
    """What the verifier asks of a folder, of a scene's own journal."""

    def __init__(self, scene):
        events = scene.desk.store.events_of(f"{incident.INCIDENT_ID}/{incident.LEDGER_PAYOUT_ID}")
        self.all = [
            {"seq": one.seq, "kind": one.kind, "actor": one.actor, "at": instant_text(one.at), "data": one.data}
            for one in events
        ]

    def events(self, *kinds):
        return [one for one in self.all if not kinds or one["kind"] in kinds]


def change(journal, kind, **data):
    for one in journal.events(kind):
        one["data"] = one["data"] | data


FORGERIES = {
    "an intent before it": lambda journal: change(journal, "outcome_paid", stripe_transfer_id="tr_x"),
    "not approved by both teams": lambda journal: change(journal, "transfer_adopted", made_at="2026-03-02T02:00:00Z"),
    "a key that was sent": lambda journal: journal.all.append(
        {"seq": 99, "kind": "sending", "actor": "x", "data": journal.events("intent_recorded")[0]["data"]}
    ),
}


@pytest.mark.parametrize("said", FORGERIES)
def test_offline_verifier_judges_an_adoption(scene, said):
    """It passes as it was recorded; one that was sent, is another transfer's, or came before the approvals does not."""
    adopt(scene, by_hand(scene))
    journal = Journal(scene)
    sent = {
        one["data"]["idempotency_key"]: json.loads(one["data"]["payload"]) for one in journal.events("intent_recorded")
    }
    assert [] == verifier._adopted(journal, sent)
    FORGERIES[said](journal)
    (wrong,) = verifier._adopted(journal, sent)

    assert said in wrong


def test_offline_verifier_finds_a_payment_that_its_request_calls_another(scene):
    """What both approvers signed as another payment cannot be the payout's own transfer."""
    made = adopt(scene, by_hand(scene)).record.stripe_transfer_id
    journal = Journal(scene)
    statement = scene.request.statement()
    assert [] == verifier._acknowledged(journal, {scene.request.digest: statement})
    statement["lines"][0]["acknowledged_transfers"] = [made]

    assert [f"{made} is on record, and its request says that it is another payment"] == verifier._acknowledged(
        journal, {scene.request.digest: statement}
    )
