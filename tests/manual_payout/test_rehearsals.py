"""Whether a rehearsal counts: one judgement for the live run and the monitor, at every boundary."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from instants import NOW
from manual_payout.desk.inventory import Inventory, Missing, Rehearsed, find_inventory, last_green, standing_of
from manual_payout.desk.reviewed import procedure_digest
from manual_payout.desk.settings import SANDBOX_APPROVERS, MonitoringPolicy

DAY = timedelta(days=1)
THESE, OTHERS = "a" * 64, "b" * 64
POLICY = MonitoringPolicy()


def rehearsed(ago, *, green=True, procedure=THESE, target="sandbox"):
    return Rehearsed(NOW - ago, green, frozenset(), target, procedure)


def standing(*rehearsals, **policy):
    inventory = Inventory((), rehearsals, (), None)
    return standing_of(inventory, THESE, MonitoringPolicy(**policy), NOW)


@pytest.mark.parametrize(
    ("ago", "good"),
    [
        (92 * DAY, True), (92 * DAY + timedelta(seconds=1), False), (timedelta(0), True), (-DAY + timedelta(seconds=1), True),
        (-DAY, False),
    ],
)  # fmt: skip
def test_a_rehearsal_counts_for_a_quarter_and_not_from_the_future(ago, good):
    """To the second on both sides; a day ahead of UTC is a calendar east of it."""

    assert good is standing(rehearsed(ago)).good


def test_threshold_is_the_policys():
    """The monitor's entry, and no second one."""

    assert standing(rehearsed(9 * DAY), rehearsal_every_days=9).good
    assert not standing(rehearsed(10 * DAY), rehearsal_every_days=9).good


@pytest.mark.parametrize(
    ("rehearsals", "said"),
    [
        ((), "none is on record"),
        ((rehearsed(DAY, green=False),), "the last one, on 2026-03-01, was red"),
        ((rehearsed(9 * DAY), rehearsed(DAY, green=False)), "the last one, on 2026-03-01, was red"),
        ((rehearsed(100 * DAY),), "the last green one was on 2025-11-22, 100 days ago"),
        ((rehearsed(DAY, procedure=OTHERS),), "the last one, on 2026-03-01, was of other notebooks (bbbbbbbb…; these are aaaaaaaa…)"),
        ((rehearsed(DAY, procedure=""),), "the last one, on 2026-03-01, does not say of which notebooks"),
        ((rehearsed(-2 * DAY),), "none is on record"),
    ],
)  # fmt: skip
def test_what_does_not_count_says_why(rehearsals, said):
    """One clause for each reason, whatever order the file has."""
    for order in (rehearsals, rehearsals[::-1]):
        found = standing(*order)

        assert (False, said) == (found.good, found.found)
        assert "manual-payout rehearse" in found.remedy


def test_newest_of_these_notebooks_decides():
    """Green after red counts, on the same day too; what others did in between changes nothing."""

    assert standing(rehearsed(DAY), rehearsed(9 * DAY, green=False)).good
    assert standing(rehearsed(DAY), rehearsed(DAY, green=False)).good
    assert standing(rehearsed(9 * DAY), rehearsed(DAY, green=False, procedure=OTHERS)).good


def test_only_stripe_counts_where_the_policy_says_so():
    """Off by default; a rehearsal whose entry does not say where it ran did not run at Stripe."""
    asked = {"rehearsal_at_stripe": True}
    refused = standing(rehearsed(DAY), **asked)

    assert standing(rehearsed(DAY)).good
    assert standing(rehearsed(DAY, target="stripe"), **asked).good
    assert not standing(rehearsed(DAY, target=""), **asked).good
    assert "did not run against Stripe's test mode" in refused.found
    assert "manual-payout rehearse --target stripe" in refused.remedy
    assert standing(rehearsed(DAY), rehearsed(9 * DAY, target="stripe"), **asked).good


def test_unknown_inventory_is_a_reason():
    """Not configured and not readable are told apart."""

    for path, said in ((None, "MANUAL_PAYOUT_INVENTORY is not set"), (Path("nowhere.toml"), "cannot be read")):
        found = standing_of(find_inventory(path), THESE, POLICY, NOW)

        assert not found.good
        assert said in found.found
        assert found.last is None
    assert isinstance(find_inventory(None), Missing)


def test_age_is_that_of_the_last_green_one_of_these_notebooks():
    """The gauge has no sample where there is none: its absence can be asked for."""
    inventory = Inventory(
        (), (rehearsed(100 * DAY), rehearsed(9 * DAY, green=False), rehearsed(DAY, procedure=OTHERS)), (), None
    )

    assert NOW - 100 * DAY == last_green(inventory, THESE, NOW)
    assert last_green(inventory, "c" * 64, NOW) is None


def test_demos_rehearsal_is_of_these_notebooks():
    """A changed notebook changes its digest; `make notebooks` writes it into the demo's inventory."""
    inventory = find_inventory(SANDBOX_APPROVERS.parent / "inventory.toml")

    assert [procedure_digest()] == [one.procedure for one in inventory.rehearsals], "run: make notebooks"
