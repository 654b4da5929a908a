"""Filing a request: once for one content, never beside money that is under way."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from manual_payout.approval.requesting import file_request, ticket_text
from manual_payout.domain.errors import (
    ClaimError,
    IntentConflictError,
    ManualPayoutError,
    ParameterError,
    PolicyRefusedError,
)
from manual_payout.domain.models import Mode, Reason
from payout_rehearsal.demo import incident


def test_request_is_filed_as_typed(any_scene):
    """Everything typed is in the request, the amounts exact in the ledger's currency, and the journal has it whole."""
    found = any_scene.desk.store.find_request(incident.INCIDENT_ID, incident.LEDGER_PAYOUT_ID)
    line = found.line_for()
    told = any_scene.events("request_filed")[0].data

    assert any_scene.request == found
    assert (125_075, "usd", 31_000) == (line.amount.amount_minor, line.amount.currency, line.reserve_after.amount_minor)
    assert (incident.STUDIO_NAME, incident.DESTINATION_ACCOUNT) == (line.studio_name, line.destination_account)
    assert (found.digest, found.statement()) == (told["digest"], told["statement"])


def test_same_content_again_is_the_same_request(scene):
    """Filing twice files once, also for somebody else and on another machine."""
    person = scene.desk.registry.find("noor")
    again, new = file_request(scene.new_desk(), scene.typed(), person, replace=False)

    assert (scene.request, False) == (again, new)
    assert 1 == len(scene.events("request_filed"))


OTHER = {
    "amount": "1250.76", "reserve_after": "309.00", "reason": Reason.OTHER, "destination_account": "acct_124",
    "notes": "other", "studio_name": "Other", "studio_id": "00000000-0000-4000-8000-000000000001",
}  # fmt: skip


def test_other_content_is_refused_and_every_field_is_named(scene):
    """The same ledger payout under the same incident, with other content: which fields, recorded and found."""
    with pytest.raises(IntentConflictError, match=r"^studio_id differs") as caught:
        scene.file(**OTHER)

    assert set(OTHER) == set(caught.value.fields)
    assert "--replace" in caught.value.remedy


@pytest.mark.parametrize("name", ["reason", "notes"])
def test_replacing_withdraws_the_first(scene, name):
    """With --replace the first is withdrawn in the same breath, and its approvals are worth nothing for the second."""
    second = scene.file(replace=True, **{name: OTHER[name]})

    assert scene.desk.store.is_withdrawn(scene.request)
    assert second == scene.desk.store.find_request(incident.INCIDENT_ID, incident.LEDGER_PAYOUT_ID)
    assert [] == scene.desk.store.approvals_of(second.request_id)


def test_request_of_another_mode_is_other_content(scene):
    """A request of the sandbox does not stand for one of the test mode in the same database."""
    person, desk = scene.desk.registry.find("maya"), scene.new_desk(mode=Mode.TEST)
    desk.clock = desk.store.clock = scene.desk.clock
    with pytest.raises(IntentConflictError) as caught:
        file_request(desk, scene.typed(), person, replace=False)

    assert ("mode",) == caught.value.fields


def test_request_for_another_account_is_other_content(scene):
    """Nor for one of another platform account."""
    person = scene.desk.registry.find("maya")
    with pytest.raises(IntentConflictError) as caught:
        file_request(scene.new_desk(platform_account="acct_other"), scene.typed(), person, replace=False)

    assert ("platform_account",) == caught.value.fields


def test_expired_request_is_followed_by_a_new_one(scene):
    """After its end the same content is a new request, with a new id, and the old one is withdrawn."""
    scene.pass_time(hours=24)
    second = scene.file()

    assert scene.request.request_id != second.request_id
    assert scene.request.line_for().line_id != second.line_for().line_id
    assert scene.desk.store.is_withdrawn(scene.request)


@pytest.mark.parametrize(
    "other", [{"notes": "other"}, {"incident_id": "INC-124"}, {"incident_id": "INC-124", "notes": "x"}]
)
def test_payout_that_was_paid_is_not_requested_again(any_scene, other):
    """Under this incident or another: whoever asks is told who paid it, under which incident."""
    owner = any_scene.send().owner
    with pytest.raises(ClaimError) as caught:
        any_scene.file(replace=True, **other)

    assert "paid under INC-123" in caught.value.message
    assert owner in caught.value.message


def test_unknown_payout_is_not_requested(scene):
    """The ledger has to know it."""
    with pytest.raises(PolicyRefusedError, match="The ledger has no payout"):
        scene.file(ledger_payout_id="00000000-0000-4000-8000-000000000001")


@pytest.mark.parametrize(("name", "value"), [("amount", "1250.755"), ("reserve_after", "1.001")])
def test_amount_that_the_currency_does_not_have_is_not_requested(scene, name, value):
    """Fractions of a cent are refused by name."""
    with pytest.raises(ParameterError, match=name):
        scene.file(incident_id="INC-124", **{name: value})


def test_filing_at_once_files_one(any_scene):
    """Two people file the same at the same instant: one request counts, the other is told or given it."""
    any_scene.desk.clock.wait(any_scene.desk.settings.policy.request.request_lifetime_s + 1)
    results, desks = [], [any_scene.new_desk(), any_scene.new_desk()]
    gate = threading.Barrier(2)

    def file(desk):
        person = desk.registry.find("maya")
        gate.wait()
        try:
            results.append(file_request(desk, any_scene.typed(incident_id="INC-124"), person, replace=False)[0])
        except ManualPayoutError as error:
            results.append(error)

    threads = [threading.Thread(target=file, args=(desk,)) for desk in desks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    on_record = any_scene.desk.store.open_requests("INC-124")

    assert 1 == len(on_record)
    assert all(result == on_record[0] or isinstance(result, ClaimError) for result in results)


def test_ticket_says_what_is_asked_for(scene):
    """Who, what, to whom, why, the digest to compare, and how to approve."""
    text = ticket_text(scene.desk, scene.request)
    said = (
        "INC-123",
        "1,250.75",
        "acct_123",
        scene.request.digest,
        scene.request.request_id,
        "scheduler outage",
        "Maya Okafor",
    )

    assert [] == [one for one in said if one not in text]


@pytest.mark.parametrize(
    "hostile", ["**bold** [x](http://evil)", "`code`", "| a | b |", "# head", "~~x~~", "<b>", "!x_y_"]
)
def test_free_text_is_no_markup_in_the_ticket(scene, hostile):
    """Notes and names of a person stay text where the ticket is Markdown."""
    line = replace(scene.request.line_for(), studio_name=hostile)
    text = ticket_text(scene.desk, replace(scene.request, notes=hostile, lines=(line,)))

    escaped = "".join(f"\\{one}" if one in "*[]()`|#~<>!_" else one for one in hostile)

    assert escaped in text
    assert hostile not in text.replace(escaped, "")
