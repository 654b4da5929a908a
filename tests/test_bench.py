"""What measures must measure: the programs really ran, their whole tree is counted, and the ratio is of medians."""

from __future__ import annotations

import json
import sys

import pytest
from tests.bench.__main__ import in_turn
from tests.bench.page import page_with
from tests.bench.programs import FailedError, peak_mb, plain_environment, seconds
from tests.bench.report import Pair, draw, table

SLEEP = [sys.executable, "-c", "import time; time.sleep(0.3)"]
FAIL = [sys.executable, "-c", "import sys; sys.exit('a reason')"]
HOLD = "x = bytearray(80_000_000); import time; time.sleep(1)"
PARENT = [sys.executable, "-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {HOLD!r}])"]


def test_seconds_are_those_of_the_whole_program():
    """From its start to its end."""

    assert seconds(SLEEP, plain_environment()) >= 0.3


def test_a_program_that_failed_is_no_measurement():
    """How fast it was says nothing; what it said is shown."""
    with pytest.raises(FailedError, match="a reason"):
        seconds(FAIL, plain_environment())


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_memory_is_that_of_everything_a_program_started():
    """The parent holds next to nothing, its child eighty million bytes."""

    assert 75 < peak_mb(PARENT, plain_environment()) < 200


def test_things_are_measured_in_turn_and_the_first_turn_is_left_out(tmp_path):
    """Each gets a folder of its own."""
    asked = []

    def measure(root):
        asked.append(root)
        return float(len(asked))

    found = in_turn(2, [measure, measure], tmp_path)

    assert [(3.0, 5.0), (4.0, 6.0)] == found
    assert len(asked) == len(set(asked)) == 6


def test_the_ratio_is_that_of_the_medians(tmp_path):
    """One slow turn changes the spread and not the ratio; the picture is drawn."""
    pair = Pair("a", "one", "other", 1.5, "s", (2.0, 2.0, 9.0), (1.0, 1.0, 1.0))
    draw([pair], tmp_path / "ratios.png")

    assert 2.0 == pair.ratio
    assert "| a | one | other | 2.00 | 2.00 to 9.00, 3 turns | 1.5 | 2 s : 1 s |" in table([pair])
    assert (tmp_path / "ratios.png").read_bytes().startswith(b"\x89PNG")


def test_page_shows_what_was_measured():
    """The table is made from the measurement, sorted by letter, and put in its place again and again."""
    pairs = [Pair(letter, "one", "other", None, "s", (2.0,), (1.0,)) for letter in "ba"]
    measured = json.dumps({"machine": "a machine", "pairs": [pair.as_json() for pair in pairs]})
    page = page_with("before\n<!-- table -->\nold\n<!-- /table -->\nafter\n", measured)

    assert page == page_with(page, measured)
    assert "old" not in page
    assert page.startswith("before\n<!-- table -->\na machine:\n\n| | measured")
    assert page.index("| a | one") < page.index("| b | one")
