"""The pages in a real browser, with two people and two authenticators, and what nobody may do there."""

from __future__ import annotations

import pytest
from tests.web_scenes import Visitor, _chromium, _house  # noqa: F401  # fixtures

from payout_rehearsal.demo import incident


@pytest.fixture(name="people")
def _people(chromium, house):
    """Maya, Priya and Amara, enrolled."""
    found = {handle: Visitor(chromium, house, handle) for handle in ("maya", "priya", "amara")}
    for one in found.values():
        house.take(one.enroll())
    yield found
    for one in found.values():
        one.context.close()


def test_the_whole_night_goes_in_browsers(people, house):
    """Form, two approvals by passkey; each is on record."""
    maya, priya, amara = people.values()
    assert "" == maya.sign_in()
    path = maya.file()

    for one in (priya, amara):
        assert "" == one.sign_in(path)
        assert "" == one.approve(path)

    request = house.desk.store.find_request(incident.INCIDENT_ID)
    assert 2 == len(house.desk.store.approvals_of(request.request_id))
