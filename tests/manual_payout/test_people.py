"""Who is who: one person is one person, and an entry that is not whole is refused by number and handle."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest

from manual_payout.desk.people import load_registry
from manual_payout.domain.errors import ApprovalError, ParameterError, SettingsError
from manual_payout.domain.models import Team

ENTRY = {
    "id": '"3f0c2d4e-5b6a-4c7d-8e9f-a0b1c2d3e4f5"',
    "handle": '"sam"',
    "name": '"Sam Rivera"',
    "email": '"sam@marketplace.example"',
    "teams": '["payments_ops"]',
    "may": '["operate", "approve"]',
    "valid_from": "2026-01-01T00:00:00Z",
}
SECOND = ENTRY | {
    "id": '"4a1d3e5f-6c7b-4d8e-9fa0-b1c2d3e4f5a6"',
    "handle": '"bea"',
    "email": '"bea@marketplace.example"',
}
NIGHT = datetime(2026, 3, 2, 3, tzinfo=UTC)


@pytest.fixture(name="registry_of")
def _registry_of(tmp_path):
    """Write entries, given as TOML by field, and read them."""

    def read(*entries: dict[str, str | None]):
        path = tmp_path / "people.toml"
        tables = ("".join(f"{name} = {value}\n" for name, value in e.items() if value is not None) for e in entries)
        path.write_text("".join(f"[[person]]\n{table}" for table in tables), "utf-8")
        for name in ("allowed_signers", "revoked_keys"):
            (tmp_path / name).write_text("")
        return load_registry(path)

    return read


@pytest.mark.parametrize(
    "name", ["sam", "SAM", "Sam@Marketplace.Example", "3f0c2d4e-5b6a-4c7d-8e9f-a0b1c2d3e4f5", "3F0C2D4E-5B6A-4C7D-8E9F-A0B1C2D3E4F5"]
)  # fmt: skip
def test_handle_email_and_id_are_one_person(registry_of, name):
    """However somebody is named, comparisons see the same id."""

    assert "3f0c2d4e-5b6a-4c7d-8e9f-a0b1c2d3e4f5" == registry_of(ENTRY, SECOND).find(name).person_id


@pytest.mark.parametrize("field", ["id", "handle", "email"])
def test_a_name_for_two_people_is_refused(registry_of, field):
    """Two entries that share an id, a handle or an address, in whatever case, could make one person two."""
    twin = SECOND | {field: ENTRY[field].upper() if field != "id" else ENTRY[field]}
    with pytest.raises(SettingsError, match=f"{re.escape(ENTRY[field].strip(chr(34)))}' names two people"):
        registry_of(ENTRY, twin)


@pytest.mark.parametrize("field", sorted(ENTRY))
def test_a_missing_field_is_named_with_its_entry(registry_of, field):
    """Whoever edits a long file learns which entry it is."""
    with pytest.raises(SettingsError, match=rf"^person 2 in \S+people.toml.* has no {field}\."):
        registry_of(ENTRY, SECOND | {field: None})


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"id": '"sam"'}, "has the id 'sam', expected a UUID"),
        ({"id": "5"}, "has the id 5, expected a UUID"),
        ({"handle": '"sam rivera"'}, "has the handle 'sam rivera'"),
        ({"handle": '""'}, "has the handle ''"),
        ({"name": '"Sam\\nRivera"'}, "expected one line of text"),
        ({"name": '"Sam\\u202eareviR"'}, "expected one line of text"),
        ({"name": '" "'}, "expected one line of text"),
        ({"email": '"sam"'}, "has the email 'sam'"),
        ({"email": '"a@b.example, c@d.example"'}, "which is not a valid email"),
        ({"email": '"a@b.example\\r\\nBcc: c@d.example"'}, "which is not a valid email"),
        ({"teams": '"finance"'}, 'expected a list such as ["finance"]'),
        ({"teams": '["payments_ops", "finance"]'}, "is in both approving teams"),
        ({"teams": '["support"]'}, "may approve, but is in neither payments_ops nor finance"),
        ({"may": '"approve"'}, "has may 'approve', expected a list"),
        ({"may": '["pay"]'}, "may 'pay', expected one of approve, operate, request"),
        ({"may": "[1]"}, "has may [1], expected a list"),
        ({"valid_from": '"soon"'}, "has valid_from 'soon', expected an instant"),
        ({"valid_from": "5"}, "has valid_from 5, expected an instant"),
        ({"valid_until": '""'}, "has valid_until '', expected an instant"),
        ({"valid_until": "2025-01-01T00:00:00Z"}, "is valid until before it is valid from"),
        ({"valid_untill": "2026-02-01T00:00:00Z"}, "has 'valid_untill', expected one of"),
    ],
)
def test_an_entry_that_cannot_be_right_is_refused(registry_of, changed, said):
    """What would make somebody two people, nobody, or somebody for ever is said with the entry's handle."""
    with pytest.raises(SettingsError, match=re.escape(said)) as caught:
        registry_of(ENTRY | changed)

    assert str(caught.value).startswith("person 1 in ")


@pytest.mark.parametrize(
    "text", ["", "[[people]]\nid = 1\n", "person = 5\n", "person = []\n", "person = [5]\n", "title = 1\n"]
)
def test_a_file_without_people_is_refused(tmp_path, text):
    """An empty registry, or one under another name, would otherwise be one in which nobody may do anything."""
    path = tmp_path / "people.toml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=r"expected \[\[person\]\] tables|is not a table"):
        load_registry(path)


@pytest.mark.parametrize(
    ("content", "said"), [(b"[[person]\n", "cannot be read"), (b"\xff", "cannot be read"), (None, "No such file")]
)
def test_a_file_that_cannot_be_read_is_named(tmp_path, content, said):
    """Broken TOML, no text, no file."""
    path = tmp_path / "people.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError, match=said) as caught:
        load_registry(path)

    assert str(path) in str(caught.value)


def test_validity_begins_and_ends_to_the_instant(registry_of):
    """In force from the first instant on; from the last one on no more."""
    until = "2026-03-02T03:00:00Z"
    person = registry_of(ENTRY | {"valid_from": "2026-03-01", "valid_until": until}).find("sam")
    start = datetime(2026, 3, 1, tzinfo=UTC)
    tick = timedelta(microseconds=1)

    assert [False, True, True, False] == [person.valid_at(at) for at in (start - tick, start, NIGHT - tick, NIGHT)]


def test_an_instant_without_a_zone_is_utc(registry_of):
    """A local time in the file means the same on every machine."""

    assert (
        datetime(2026, 1, 1, 9, tzinfo=UTC)
        == registry_of(ENTRY | {"valid_from": "2026-01-01T09:00:00"}).find("sam").valid_from
    )


def test_only_what_the_registry_allows_is_allowed(registry_of):
    """A stranger, another action, and a time that is over are three different sentences."""
    registry = registry_of(ENTRY, SECOND | {"may": '["request"]', "valid_until": "2026-02-01T00:00:00Z"})

    assert "sam" == registry.get_allowed("sam", "operate", NIGHT, field="operator").handle
    with pytest.raises(
        ParameterError, match=r"found .kim., expected a registered person who may operate\. Use one of: sam"
    ):
        registry.get_allowed("kim", "operate", NIGHT, field="operator")
    with pytest.raises(ApprovalError, match="Sam Rivera may not request"):
        registry.get_allowed("sam", "request", NIGHT, field="as")
    with pytest.raises(ApprovalError, match="is not in force at 2026-03-02 03:00 UTC"):
        registry.get_allowed("bea", "request", NIGHT, field="as")


def test_the_name_of_somebody_who_was_removed_is_their_id(registry_of):
    """Old evidence stays readable, if less friendly."""

    assert ("Sam Rivera", "gone") == tuple(
        map(registry_of(ENTRY).name_of, ("3f0c2d4e-5b6a-4c7d-8e9f-a0b1c2d3e4f5", "gone"))
    )


@pytest.mark.parametrize(
    ("teams", "team"), [('["finance"]', Team.FINANCE), ('["x", "payments_ops"]', Team.PAYMENTS_OPS)]
)
def test_an_approver_speaks_for_one_team(registry_of, teams, team):
    """Other teams of the same person do not matter."""

    assert team is registry_of(ENTRY | {"teams": teams}).find("sam").approving_team()
