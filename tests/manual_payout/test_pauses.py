"""How long a server is left alone: what it asks for is read whatever stands there, and jitter stays in its bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manual_payout.domain.models import State
from manual_payout.domain.pauses import asked_s, jittered_s
from manual_payout.gateway import Refused
from manual_payout.transfer.delivery import lease_s
from manual_payout.transfer.tries import PAUSE_MAX_S, PAUSES_S, TRIES_MAX, Sending

DATE = "Mon, 02 Mar 2026 03:00:00 GMT"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"retry-after": " 0 "}, 0.0),
        ({"RETRY-AFTER": "Mon, 02 Mar 2026 03:01:30 GMT", "Date": DATE}, 90.0),
        ({"Retry-After": "Mon, 02 Mar 2026 02:59:00 GMT", "Date": DATE}, 0.0),
        ({"Retry-After": "Mon, 02 Mar 2026 03:01:30 GMT"}, None),
        ({"Retry-After": "-3"}, None),
        ({"Retry-After": "1.5"}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": ""}, None),
        ({"Date": DATE}, None),
        ({}, None),
        (None, None),
    ],
)
def test_pause_asked_for_is_read(headers, expected):
    """In seconds or as a date of the server's own clock; anything else is as if it were not there."""

    assert expected == asked_s(headers)


@given(st.text(), st.text())
def test_no_header_breaks_the_reading(asked, date):
    """A header is foreign text."""
    found = asked_s({"Retry-After": asked, "Date": date})

    assert found is None or found >= 0


@given(st.floats(0, 100), st.text())
def test_jitter_stays_around_its_pause(base_s, seed):
    """From half to one and a half, the same for the same seed."""
    found = jittered_s(base_s, seed=seed)

    assert 0.5 * base_s <= found <= 1.5 * base_s
    assert found == jittered_s(base_s, seed=seed)


def test_jitter_spreads_keys_apart():
    """A hundred payouts that were refused at once do not come back at once."""
    found = sorted(jittered_s(1.0, seed=f"key-{number}") for number in range(100))

    assert 100 == len(set(found))
    assert found[0] < 0.6
    assert found[-1] > 1.4


@given(asked=st.one_of(st.none(), st.floats(0, 1e9)), tries=st.integers(1, TRIES_MAX), key=st.text())
def test_no_pause_is_shorter_than_asked_nor_longer_than_allowed(asked, tries, key):
    """A pause of its own bounds, or no next try."""
    record = type("Record", (), {"idempotency_key": key})()
    found = Sending(record, in_doubt=False, tries=tries).pause_s(Refused("rate_limit", "", "", True, asked))
    given_up = tries == TRIES_MAX or (asked or 0) > PAUSE_MAX_S

    assert given_up == (found is None)
    assert found is None or max(asked or 0, 0.5 * PAUSES_S[tries - 1]) <= found <= PAUSE_MAX_S


def test_lease_outlasts_the_longest_pause(scene):
    """Whoever waits as long as asked, looks and sends within two whole timeouts still holds the right to."""
    timeout_s = scene.settings.policy.stripe.timeout_s
    scene.stripe.fault("rate_limit", times=2, retry_after=str(int(PAUSE_MAX_S)))

    assert lease_s(scene.desk) > 2 * timeout_s + PAUSE_MAX_S
    assert State.PAID is scene.send().state
