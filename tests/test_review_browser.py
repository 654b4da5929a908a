"""The reviewer's page in a real browser: it loads nothing, runs nothing, and can be read on any screen and on paper."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import desks
from manual_payout.domain.models import Mode
from manual_payout.evidence.pages import notebook_page
from review_scenes import HOSTILE, crowded, page, poisoned, stories

RUNBOOKS = Path(__file__).parent.parent / "runbooks"

# A telephone and a desk, by day and by night; the width of an A4 sheet between its margins.
VIEWS = (
    {"width": 320},
    {"width": 400},
    {"width": 400, "scheme": "dark"},
    {"width": 1400},
    {"width": 1400, "scheme": "dark"},
    {"width": 688, "media": "print"},
    {"width": 688, "media": "print", "scheme": "dark"},
)

# Every hostile text stands on one page; these fill a page of their own, each of them everywhere.
WHOLE = ("leaving_the_style", "right_to_left", "long_word", "wide")
NAMES = (
    *("dry-run", "refused by us", "nothing", "unknown", "moving", "arrived", "failed", "refused by Stripe"),
    *("needs a person", "reversed", "live", "hostile"),
    *(f"hostile {name}" for name in WHOLE),
)
# Their style sheet is the same for all; these are looked at in every view, the others in two.
CLOSELY = ("arrived", "unknown", "live")
TOLD = ("poor", "wide", "live", "ran", "axe")
# A third of what a page of everything once took.
PHONE_PX = 9000


@pytest.fixture(scope="module", name="pages")
def _pages(tmp_path_factory, demo_file, shared_stripe):
    """Every kind of outcome, live and not, and every hostile text, as files."""
    root = tmp_path_factory.mktemp("pages")
    shutil.copy(demo_file, root / "state.sqlite")
    scenes = desks._scene(root, f"sqlite:///{root / 'state.sqlite'}", shared_stripe)
    scene = next(scenes)
    told = stories(scene)
    made = {name: page(scene, story) for name, story in told.items()}
    made["live"] = page(scene, told["arrived"], Mode.LIVE)
    made["hostile"] = page(scene, crowded(told["arrived"]))
    made |= {f"hostile {name}": page(scene, poisoned(told["arrived"], HOSTILE[name])) for name in WHOLE}
    next(scenes, None)
    files = {name: root / f"{number}.html" for number, name in enumerate(made)}
    for name, file in files.items():
        file.write_text(made[name], "utf-8")
    return files


def faults(seen, file):
    """What is wrong with what was seen, for people."""
    found = {f"{name} {at}": look[name] for at, look in enumerate(seen.looks) for name in TOLD if look[name]}
    found |= {f"overflow {at}": look["overflow"] for at, look in enumerate(seen.looks) if look["overflow"] > 0}
    if seen.said:
        found["said"] = seen.said
    if seen.requests != [file.as_uri()]:
        found["requests"] = seen.requests
    return found


@pytest.mark.parametrize("name", NAMES)
def test_every_page_can_be_read_and_loads_and_runs_nothing(browser, pages, name):
    """In no view an overflow to the side, poor contrast or a live element; no message, no request but the page itself."""
    assert set(NAMES) == set(pages)
    views = VIEWS if name in CLOSELY or "hostile" in name else VIEWS[2:4]
    assert {} == faults(browser.look(pages[name], *views), pages[name])


def test_the_page_of_a_night_is_short_on_a_telephone(browser, pages):
    """What is not ordinary is seen at once; ids, digests, answers that are fine and texts are folded away."""
    seen = browser.look(pages["arrived"], {"width": 400})

    assert seen.looks[0]["height"] < PHONE_PX


def test_the_page_comes_out_of_a_printer(browser, pages):
    """A few sheets of A4."""
    printed = browser.print(pages["arrived"])

    assert printed.startswith(b"%PDF")
    assert 2 <= printed.count(b"/Type /Page\n") <= 9


# The looking itself.

PLANTED = {
    "poor": "<p style='color:#999;background:#fff'>grey</p>",
    "wide": "<div style='width:3000px;background:#fff;color:#000'>x</div>",
    "overflow": "<div style='width:3000px;background:#fff;color:#000'>x</div>",
    "said": "<script>console.log('ran')</script>",
    "ran": "<script>document.body.dataset.ran = 1</script>",
    "live": "<img alt='' src='data:,'>",
    "axe": "<p>no landmark</p>",
    "requests": "<img alt='' src='other.png'>",
}


@pytest.mark.parametrize("fault", PLANTED)
def test_the_browser_would_see_a_planted_fault(browser, tmp_path, fault):
    """Without this, a blind browser would pass every page."""
    file = tmp_path / "planted.html"
    file.write_text(
        f"<!doctype html><html lang='en'><title>x</title><body style='background:#fff'>{PLANTED[fault]}</body>", "utf-8"
    )

    assert fault in {name.split()[0] for name in faults(browser.look(file, {}), file)}


# ------------------------------------------------------------------------------------------------- the notebooks' pages


@pytest.mark.parametrize("name", ["1-verify", "2-execute", "5-settle", "6-close", "monitor", "rehearse"])
def test_page_of_a_notebook_can_be_read_by_eye_and_by_keyboard(browser, tmp_path, name):
    """Nothing that axe finds, in light and dark, on a telephone and on a desk; what is wider than the screen scrolls by itself."""
    file = tmp_path / f"{name}.html"
    file.write_text(notebook_page(RUNBOOKS / f"{name}.ipynb"), "utf-8")
    seen = browser.look(file, {"width": 320}, {"width": 400, "scheme": "dark"}, {"width": 1400, "scheme": "dark"})

    assert [] == [found for look in seen.looks for found in look["axe"]]
    assert [] == [look["overflow"] for look in seen.looks if look["overflow"] > 0]
