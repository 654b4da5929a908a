"""People's names in the letters that they are written with: compared by value, refused where something hides."""

from __future__ import annotations

import unicodedata

import pytest
import sqlalchemy as sa
from pydantic import ValidationError

from manual_payout.approval.requesting import file_request
from manual_payout.desk.settings import Policy
from manual_payout.domain.addresses import is_address
from manual_payout.domain.display import told_apart
from manual_payout.domain.errors import ClaimError, ParameterError
from manual_payout.domain.parameters import check
from manual_payout.ledger import Ledger
from payout_rehearsal.demo import incident
from truthful_papermill.plain_text import shown

NEEDED = {
    "Persian": "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
    "Sinhala": "\u0dc1\u0dca\u200d\u0dbb\u0dd3 \u0dbd\u0d82\u0d9a\u0dcf",
    "Malayalam": "\u0d05\u0d35\u0d28\u0d4d\u200d",
    "Hindi": "\u0936\u0930\u094d\u200d\u092e\u093e",
    "Hindi, kept apart": "\u0915\u094d\u200c\u0937",
    "emoji": "Studio \U0001f469\U0001f3fd\u200d\U0001f3a8 \u2764\ufe0f\u200d\U0001f525",
}
HIDING = {
    "between Latin letters": "Har\u200dbor",
    "at the end": "Harbor\u200c",
    "at the beginning": "\u200dHarbor",
    "after a letter that joins nothing": "\u062f\u200c\u0631",
    "twice": "\u0645\u06cc\u200c\u200c\u062e",
    "after a mark of another script": "a\u094d\u200db",
    "between emoji and letter": "\U0001f469\u200da",
    "filler": "Harbor\u3164",
    "direction": "Harbor\u202e",
    "soft hyphen": "Har\u00adbor",
}


@pytest.mark.parametrize("name", NEEDED.values(), ids=NEEDED)
def test_joiner_that_a_script_needs_is_part_of_the_name(name):
    """It is taken as typed, and shown as it is."""
    composed = unicodedata.normalize("NFC", name)

    assert (composed, name) == (check("studio_name", name), shown(name))


@pytest.mark.parametrize("name", HIDING.values(), ids=HIDING)
def test_character_that_hides_something_is_refused_by_its_code_point(name):
    """Where its neighbours have no use for it, nobody would see it."""
    with pytest.raises(ParameterError, match=r"without U\+[0-9A-F]{4} \(") as caught:
        check("studio_name", name)

    assert "studio_name" == caught.value.field
    assert "\\" in shown(name)


@pytest.mark.parametrize("spelling", ["NFD", "NFC"])
@pytest.mark.parametrize("around", ["", " ", "\u00a0"])
def test_name_is_compared_by_what_it_says(scene, spelling, around):
    """A ledger that takes letters apart, or pads its names, can be paid by whoever types the name as it reads."""
    name = "Café Zoë Pottery"
    with scene.engine.begin() as connection:
        kept = {"name": f"{around}{unicodedata.normalize(spelling, name)}{around}"}
        connection.execute(sa.text("UPDATE manual_payout_due SET studio_name = :name"), kept)

    assert name == Ledger(scene.engine).get_payout_due(incident.LEDGER_PAYOUT_ID).studio_name
    assert name == scene.file(replace=True, studio_name=name).line_for().studio_name


@pytest.mark.parametrize(
    ("one", "other", "shown_one", "shown_other"),
    [
        ("Harbor", "H\u0430rbor", "Harbor", "H\u0430[U+0430]rbor"),
        ("Light  Pottery", "Light Pottery", "Light [U+0020] Pottery", "Light Pottery"),
        ("One Two", "Other", "One Two", "Other"),
        ("A\u00a0B", "A B", "A\u00a0[U+00A0]B", "A [U+0020]B"),
        ("same é", "same é", "same é", "same é"),
    ],
)
def test_texts_that_look_alike_are_told_apart_by_code_point(one, other, shown_one, shown_other):
    """Whoever compares two texts sees what differs, and nothing else is marked."""
    assert (shown_one, shown_other) == told_apart(one, other)


def test_incident_has_no_case_of_its_own(scene):
    """Another spelling of the ticket is the same incident."""
    assert ("INC-123", "INC-AB12") == (check("incident_id", "inc-123"), check("incident_id", "Inc-aB12"))
    person = scene.desk.registry.find("maya")
    again, new = file_request(
        scene.desk, scene.typed(incident_id=check("incident_id", "inc-123")), person, replace=False
    )

    assert (scene.request, False) == (again, new)


def test_one_ledger_payout_has_one_open_request(any_scene):
    """A second ticket about the same payout is sent to the first."""
    with pytest.raises(ClaimError, match=r"is already requested under INC-123\.") as caught:
        any_scene.file(incident_id="INC-124")

    assert "Go on under INC-123" in caught.value.remedy
    any_scene.desk.clock.wait(any_scene.desk.settings.policy.request.request_lifetime_s + 1)
    assert "INC-124" == any_scene.file(incident_id="INC-124").incident_id


ADDRESSES = {
    "o'dea@studio.example": True,
    "first.last+tag@sub.studio.example": True,
    "a!#$%&*/=?^_`{|}~-@studio.example": True,
    "a..b@studio.example": False,
    ".a@studio.example": False,
    "a@-studio.example": False,
    "a@studio": False,
    "a@b.example, c@d.example": False,
    "a@b.example\r\nBcc: c@d.example": False,
    "A <a@b.example>": False,
    "zoë@studio.example": False,
    "a" * 65 + "@studio.example": False,
    "": False,
}


@pytest.mark.parametrize("address", ADDRESSES)
def test_address_is_one_that_mail_servers_take(address):
    """O'Dea exists; a list, a header or a name beside it is no address, for people, studios and our own sender alike."""
    policy = {"messages": {"support_from": f"Support <{address}>"}}

    assert ADDRESSES[address] is is_address(address)
    if ADDRESSES[address]:
        assert address in Policy.model_validate(policy).messages.support_from
    elif address and "<" not in address:
        with pytest.raises(ValidationError, match="support_from"):
            Policy.model_validate(policy)
