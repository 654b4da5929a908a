"""A real browser on a page: what it loads, what it runs, and what a reader can make out."""

from __future__ import annotations

import contextlib
import os
import shutil
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

import pytest

# Chromium of the machine itself; none is ever downloaded.
EXECUTABLE = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

# WCAG 2.1, 1.4.3: text needs 4.5 to 1; large text would be allowed 3, which nobody asks for here.
CONTRAST_MIN = 4.5

# What is seen of every piece of text: its colour and what stands behind it, down to the first that is opaque.
LOOK = """least => {
  const numbers = colour => { const found = (colour.match(/[\\d.]+/g) || [0, 0, 0, 0]).map(Number);
    return found.length === 3 ? [...found, 1] : found; };
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255).map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = element => { for (let e = element; e; e = e.parentElement) {
      const style = getComputedStyle(e);
      if (style.backgroundImage !== 'none') return null;
      const colour = numbers(style.backgroundColor);
      if (colour[3] === 1) return colour; }
    return matchMedia('(prefers-color-scheme: dark)').matches ? [18, 18, 18, 1] : [255, 255, 255, 1]; };
  const poor = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement, text = walker.currentNode.data.trim();
    if (!text || !element.getClientRects().length) continue;
    const style = getComputedStyle(element), back = behind(element);
    const colour = numbers(element.closest('svg') ? style.fill : style.color);
    const [a, b] = back ? [light(colour), light(back)].sort((x, y) => y - x) : [0, 0];
    const ratio = back && colour[3] === 1 ? (a + 0.05) / (b + 0.05) : 0;
    if (ratio < least) poor.push(ratio.toFixed(2) + ' ' + element.tagName + ' ' + text.slice(0, 30));
  }
  const wide = [...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > innerWidth + 1
    && getComputedStyle(e).position !== 'absolute' && !e.closest('thead')).map(e => e.tagName + '.' + e.className);
  const live = document.querySelectorAll('script,iframe,object,embed,form,img,link,base,audio,video,[srcdoc],[onload],[onerror],[onclick]');
  return {poor, wide: wide.slice(0, 5), overflow: document.documentElement.scrollWidth - innerWidth,
    live: [...live].map(e => e.tagName), ran: document.body.dataset.ran || '', title: document.title};
}"""


# A reader opens what is folded; the height of a page is what it is before that.
UNFOLD = "() => document.querySelectorAll('details').forEach(one => { one.open = true; })"
AXE = """async () => (await axe.run(document, {resultTypes: ['violations']})).violations
  .map(found => `${found.id}: ${found.nodes[0].html.slice(0, 90)}`)"""


def require_browser():
    """Skip where there is no Chromium, unless this run has to have one."""
    if EXECUTABLE.exists():
        return
    if "chromium" in os.environ.get("MANUAL_PAYOUT_TESTS_REQUIRE", "").replace(",", " ").split():
        pytest.fail(f"MANUAL_PAYOUT_TESTS_REQUIRE names chromium, and {EXECUTABLE} is not there")
    pytest.skip(f"{EXECUTABLE} is not installed")


@dataclass
class Seen:
    """
    What the browser made of one page.

    Attributes:
        requests: Every address it asked for, the page's own included.

        said: What it wrote to its console, and every error of a page.

        looks: What `LOOK` found in each view, with the height of the page and what axe has against it.
    """

    requests: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    looks: list[dict] = field(default_factory=list)


class Browser:
    """
    One Chromium.

    Args:
        chromium: Playwright's own object.
    """

    def __init__(self, chromium):
        self._chromium = chromium

    def look(self, page: Path, *views: dict) -> Seen:
        """
        Open a page from the disk, as a reviewer does who has the folder.

        Args:
            views: Ways of looking at it: ``width``, ``scheme`` and ``media``, as far as they differ from a telephone's.
        """
        seen = Seen()
        tab = self._chromium.new_page()
        tab.on("request", lambda request: seen.requests.append(request.url))
        tab.on("console", lambda message: seen.said.append(message.text))
        tab.on("pageerror", lambda error: seen.said.append(str(error)))
        tab.on("dialog", lambda dialog: (seen.said.append(dialog.message), dialog.dismiss()))
        tab.goto(page.as_uri())
        for view in views:
            tab.set_viewport_size({"width": view.get("width", 400), "height": 900})
            tab.emulate_media(media=view.get("media", "screen"), color_scheme=view.get("scheme", "light"))
            height = tab.evaluate("() => document.documentElement.scrollHeight")
            tab.evaluate(UNFOLD)
            seen.looks.append(tab.evaluate(LOOK, CONTRAST_MIN) | {"height": height, "axe": self._axe(tab, view)})
        tab.close()
        return seen

    def _axe(self, tab, view: dict) -> list[str]:
        # It judges what is on a screen.
        if view.get("media", "screen") != "screen":
            return []
        tab.evaluate((files("axe_playwright_python") / "axe.min.js").read_text("utf-8"))
        return tab.evaluate(AXE)

    def print(self, page: Path) -> bytes:
        """The page as it comes out of a printer, as a PDF."""
        tab = self._chromium.new_page()
        tab.goto(page.as_uri())
        made = tab.pdf(format="A4")
        tab.close()
        return made


@contextlib.contextmanager
def running():
    """Run Chromium until the block ends."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=shutil.which(EXECUTABLE), args=ARGUMENTS)
        yield Browser(chromium)
        chromium.close()


@pytest.fixture(scope="module", name="browser")
def _browser():
    require_browser()
    with running() as browser:
        yield browser
