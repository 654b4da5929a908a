"""Whatever goes wrong in whatever order: the money moves at most once, and in the end everybody knows whether it did."""

from __future__ import annotations

import pytest

from crash.simulation import report

# `make crash SEEDS=1000000` plays as many as one likes.
SEEDS = 2000


@pytest.fixture(scope="module", name="tally")
def _tally():
    return report.run_block(range(1, SEEDS + 1))


def test_no_night_breaks_an_invariant(tally):
    """Crashes, lost answers, frozen laptops, a second operator, a racing automation: none moves the money twice."""

    assert [] == [(result.seed, result.violation) for result in tally.violations]


def test_every_boundary_and_every_fault_was_met(tally):
    """What was never hit was never tested."""

    assert [] == tally.missed()


def test_nearly_every_night_ends_with_the_money_moved(tally):
    """A simulation in which everything is refused would find nothing."""

    assert tally.outcomes["paid by hand"] > 0.8 * SEEDS


def test_what_was_paid_by_mistake_comes_back(tally):
    """Nor would one in which every reversal is refused; half of them are of a part."""
    nights = tally.hits["nights with a reversal"]

    assert nights > 0.15 * SEEDS
    assert tally.hits["reversal: came back whole"] + tally.hits["reversal: came back in part"] > 0.8 * nights
    assert tally.hits["reversal: came back in part"] > 0.3 * nights


def test_same_seed_is_the_same_night():
    """A failing seed can be looked at again, step by step, two operators and all."""
    seeds = range(1, 40)

    assert [report.play(seed, trace=True).log for seed in seeds] == [
        report.play(seed, trace=True).log for seed in seeds
    ]
