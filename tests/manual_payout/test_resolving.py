"""The monitor settles an unknown outcome by looking, at growing pauses, and never sends anything."""

from __future__ import annotations

import pytest
from tests.mishaps import refusal

from manual_payout.domain.errors import UnknownOutcomeError
from manual_payout.domain.models import State
from manual_payout.monitoring import watch_round


@pytest.fixture(name="lost")
def _lost(any_scene):
    """A transfer that Stripe made, and of which no answer came back."""
    any_scene.stripe.fault("drop_after", then_silent=9)
    assert isinstance(refusal(any_scene.send), UnknownOutcomeError)
    return any_scene


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # connections that Stripe has dropped
def test_a_transfer_that_stripe_lists_is_recorded_without_a_person(lost):
    """After five minutes, in the monitor's name; nothing more is posted, and the operator stays who ran it."""
    posts, before = len(lost.posts), lost.record
    watch_round(lost.desk)
    early = lost.record.state
    for _ in range(12):
        # Stripe is silent for some rounds more; a look that saw nothing of it counts for no pause.
        lost.pass_time(minutes=6)
        watch_round(lost.desk)
    outcome = lost.events("outcome_paid")[-1]

    assert (early, State.PAID, posts) == (before.state, lost.record.state, len(lost.posts))
    assert ("monitor", before.operator_id) == (outcome.actor, lost.record.operator_id)


def test_where_stripe_lists_nothing_the_pauses_grow_and_nothing_is_concluded(any_scene):
    """Each look that showed nothing is on record; the next one is an hour later, and nothing is sent again."""
    any_scene.stripe.fault("drop_before", times=3)
    assert isinstance(refusal(any_scene.send), UnknownOutcomeError)
    posts, state = len(any_scene.posts), any_scene.record.state
    looks = []
    for minutes in (6, 6, 30, 30, 60, 360):
        any_scene.pass_time(minutes=minutes)
        watch_round(any_scene.desk)
        looks.append(len(any_scene.events("looked_up")))

    assert ([1, 1, 1, 2, 2, 3], state, posts) == (looks, any_scene.record.state, len(any_scene.posts))
