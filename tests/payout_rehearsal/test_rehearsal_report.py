"""The trend over past rehearsals, and the report of one page, whatever is in them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import rehearsal_scenes as scenes
from manual_payout.domain.errors import ParameterError
from payout_rehearsal.folders import new_folder
from payout_rehearsal.plot import draw
from payout_rehearsal.report import page_of
from payout_rehearsal.trend import frame_of, past_rehearsals, with_this

HOSTILE = "<script>document.body.dataset.ran = 1</script><img src=x onerror=alert(1)>\u202e" + "W" * 400
VIEWS = (
    {"width": 400},
    {"width": 400, "scheme": "dark"},
    {"width": 1400},
    {"width": 1400, "scheme": "dark"},
    {"width": 720, "media": "print"},
)


def past(root: Path, count: int, **changed: object) -> Path:
    """Leave *count* rehearsals, a quarter apart."""
    for number in range(count):
        at = f"{2010 + number}-01-14T03:00:00.000000Z"
        scenes.write_past(root / f"r{number:03}", scenes.result(at=at, response_s=5.0 + number, **changed))
    return root


def trend_of(root: Path, result: dict[str, object]):
    """What the notebook shows for a rehearsal in *root* / now."""
    return with_this(past_rehearsals(root, but=root / "now"), result, "now")


@pytest.mark.parametrize("count", [0, 1, 40])
def test_trend_holds_every_past_rehearsal_and_this_one(tmp_path, count):
    """With none, with one, with many before; the oldest first, each with its seconds."""
    seen = trend_of(past(tmp_path, count), scenes.result(at="2099-01-01T00:00:00.000000Z", response_s=3.5))

    assert [*(5.0 + number for number in range(count)), 3.5] == [row.response_s for row in seen.timed()]
    assert "now" == seen.timed()[-1].folder
    assert () == seen.damaged
    assert draw(seen.frame).startswith(b"\x89PNG")


def test_rehearsal_in_which_no_money_was_accepted_is_in_no_plot(tmp_path):
    """It has no response time; it is neither zero nor in the way."""
    scenes.write_past(tmp_path / "red", scenes.result(text="x", response_s=None))
    seen = trend_of(tmp_path, scenes.result())

    assert (2, ["now"]) == (len(seen.frame), [row.folder for row in seen.timed()])
    assert () == seen.damaged
    assert draw(frame_of([])).startswith(b"\x89PNG")


def unfinished(root: Path) -> None:
    book = json.loads(scenes.write_past(root, scenes.result()).read_text("utf-8"))
    book["cells"][0]["outputs"] = []
    (root / "rehearse.ipynb").write_text(json.dumps(book), "utf-8")


def written(content: bytes):
    """Leave a notebook of these bytes."""

    def write(root: Path) -> None:
        root.mkdir()
        (root / "rehearse.ipynb").write_bytes(content)

    return write


DAMAGE = {
    "empty": written(b""),
    "truncated": written(b'{"cells": [{"cell_type": "co'),
    "not UTF-8": written(b"\xff\xfe\x00\x00"),
    "no notebook": written(b"[1, 2]"),
    "a folder": lambda root: (root / "rehearse.ipynb").mkdir(parents=True),
    "unfinished": unfinished,
    "text as seconds": lambda root: scenes.write_past(root, scenes.result(response_s="7")),
    "no number": lambda root: scenes.write_past(root, scenes.result(response_s=float("inf"))),
    "no time": lambda root: scenes.write_past(root, scenes.result(at="yesterday")),
    "another notebook's": lambda root: scenes.write_past(root, scenes.result(stage="monitor")),
    "no object": lambda root: scenes.write_past(root, [1]),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_past_is_named_and_left_out(tmp_path, kind):
    """It hides no other rehearsal and stops nothing."""
    past(tmp_path, 2)
    DAMAGE[kind](tmp_path / "bad")
    seen = trend_of(tmp_path, scenes.result())
    page = page_of(scenes.result(), seen)

    assert ["bad"] == [name for name, _ in seen.damaged]
    assert ["r000", "r001", "now"] == [row.folder for row in seen.timed()]
    assert f"Left out: bad, {seen.damaged[0][1]}" in page


def test_folder_that_holds_something_is_refused_and_a_running_notebook_is_nothing(tmp_path, monkeypatch):
    """Evidence is never overwritten; but the notebook that is being run lies there already. A name lies below outputs."""
    monkeypatch.setenv("MANUAL_PAYOUT_OUTPUTS", str(tmp_path))
    (tmp_path / "rehearsals" / "q4").mkdir(parents=True)
    (tmp_path / "rehearsals" / "q4" / "rehearse.ipynb").write_text("{}")
    (tmp_path / "rehearsals" / "q3").mkdir()
    (tmp_path / "rehearsals" / "q3" / "report.html").write_text("x")

    assert tmp_path / "rehearsals" / "q4" == new_folder("q4")
    assert tmp_path / "rehearsals" == new_folder().parent
    with pytest.raises(ParameterError, match="new or empty"):
        new_folder("q3")


@pytest.fixture(scope="module", name="pages")
def _pages(tmp_path_factory):
    """A green one, its first; one without the drill; and one in which everything is wrong, hostile and long, after many."""
    root = tmp_path_factory.mktemp("reports")
    many = past(root / "many", 40)
    for number in range(9):
        written(b"")(many / f"damaged{number}-{'W' * 60}")
    results = {
        "green": scenes.result(),
        "brief": scenes.result(drill=False, scenes=[]),
        "wrong": scenes.result(text=HOSTILE),
    }
    files = {}
    for name, result in results.items():
        seen = trend_of(many if name == "wrong" else root, result)
        files[name] = root / f"{name}.html"
        files[name].write_text(page_of(result, seen), "utf-8")
    return files


@pytest.mark.parametrize("name", ["green", "brief", "wrong"])
def test_report_can_be_read_and_loads_and_runs_nothing(browser, pages, name):
    """By day and night, on a telephone, a desk and paper: no overflow, no poor contrast, no script, no request but the page."""
    seen = browser.look(pages[name], *VIEWS)

    for look in seen.looks:
        assert ([], [], ["IMG"], "", []) == (look["poor"], look["wide"], look["live"], look["ran"], look["axe"])
        assert look["overflow"] <= 0
    assert [] == seen.said
    assert {pages[name].as_uri()} == {
        address for address in seen.requests if not address.startswith("data:image/png;base64,")
    }


@pytest.mark.parametrize("name", ["green", "brief", "wrong"])
def test_report_is_one_page(browser, pages, name):
    """One sheet of A4, also where everything went wrong at length."""
    printed = browser.print(pages[name])

    assert 1 == printed.count(b"/Type /Page\n")
