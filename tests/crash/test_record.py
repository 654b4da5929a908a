"""A long campaign survives being killed, and somebody else can add to what it has counted."""

from __future__ import annotations

from crash import record
from crash.kills.scenario import Outcome
from crash.kills.tally import Tally
from crash.simulation import report


def test_what_was_played_is_not_played_again(tmp_path, monkeypatch):
    """Ended in its middle and begun again, a campaign comes to the same sums as in one go."""
    monkeypatch.setattr(report, "BLOCK", 20)
    path = tmp_path / "simulation.txt"
    options = {"processes": 1, "defect": "", "keep_going": True, "say": lambda _: None}
    report.run(1, report.BLOCK, **options, record=record.Record(path))
    rest = report.run(1, 2 * report.BLOCK, **options, record=record.Record(path))
    whole = report.run(1, 2 * report.BLOCK, **options)
    kept = record.add_up([line["tally"] for line in record.read(path)])

    assert report.BLOCK == rest.scenarios
    assert (whole.scenarios, whole.hits, whole.outcomes) == (kept["scenarios"], kept["hits"], kept["outcomes"])


def test_a_half_written_line_is_played_again(tmp_path):
    """A kill in the middle of writing leaves the part to be done."""
    path = tmp_path / "kills.txt"
    record.Record(path).add("sqlite", "0", 0, {"scenarios": 50})
    whole = path.read_text("utf-8")
    path.write_text(whole + whole.replace('"first": 0', '"first": 50')[:-9], "utf-8")

    assert record.Record(path).has("sqlite", "0", 0)
    assert not record.Record(path).has("sqlite", "0", 50)
    record.Record(path).add("sqlite", "0", 50, {"scenarios": 50})

    assert [0, 50] == [line["first"] for line in record.read(path)]


def test_a_violation_is_told_by_the_file_too(tmp_path, capsys):
    """Seed, sentence and story are kept, and the sum says how many there are."""
    path, tally = tmp_path / "kills.txt", Tally("sqlite")
    tally.add(Outcome("0/7", end="paid", kills=2, story=["killed"], violations=["paid 2 times"]))
    record.Record(path).add("sqlite", "0", 0, tally.as_json())
    record.main([str(path)])
    told = capsys.readouterr().out

    assert "kills: 2" in told
    assert "0/7" in told
    assert "paid 2 times" in told


def test_a_part_that_two_have_played_counts_once(tmp_path, capsys):
    """Two people who divide a campaign badly do not make it larger than it is."""
    paths = [tmp_path / "one.txt", tmp_path / "other.txt"]
    for path in paths:
        record.Record(path).add("sqlite", "0", 0, {"scenarios": 50})
    record.main([str(path) for path in paths])

    assert "scenarios: 50" in capsys.readouterr().out
