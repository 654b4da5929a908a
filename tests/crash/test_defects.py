"""The simulation has teeth: each known way to lose money is found, when it is planted, within 2,500 nights."""

from __future__ import annotations

import pytest

from crash.simulation import defects

# The rarest need two incidents and a crash at one place; which night has them moves with every read that is added.
WITHIN = 2500


@pytest.mark.parametrize("name", defects.DEFECTS)
def test_planted_defect_is_caught(name):
    """A night that holds with the code as it is does not hold with the defect."""

    assert defects.first_caught(name, range(1, WITHIN + 1)) is not None


def test_defects_leave_nothing_behind():
    """After a defect the code is itself again: the same night ends as before."""
    before = defects.play(3, trace=True).log
    for name in defects.DEFECTS:
        with defects.planted(name):
            pass

    assert before == defects.play(3, trace=True).log


def test_defect_without_its_place_is_an_error():
    """A core that has changed shape cannot make a planted defect pass for caught or for harmless."""
    with defects.ExitStack() as stack, pytest.raises(LookupError, match="no longer holds"):
        defects._rewritten(stack, defects.delivery, "deliver_attempt", ("what never stood there", ""))
