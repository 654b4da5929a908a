"""The reviewer's page says what the record says, names every file, and shows hostile text as text."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from manual_payout.domain.canonical import digest_bytes
from manual_payout.domain.models import Mode, State
from manual_payout.evidence.folder import Folder, json_text
from manual_payout.evidence.review import write_page
from manual_payout.evidence.timeline import draw
from manual_payout.evidence.verdicts import Tone, verdict_of
from payout_rehearsal.demo import incident
from review_scenes import HOSTILE, page, poisoned, stories, told
from truthful_papermill.redaction import Redactor

WORDS = {
    "dry-run": (Tone.DRY_RUN, "Dry run: nothing was sent"),
    "refused by us": (Tone.REFUSED, "Refused: nothing was sent"),
    "nothing": (Tone.NOTHING, "Nothing was sent"),
    "unknown": (Tone.UNKNOWN, "Unknown: the money may have moved"),
    "moving": (Tone.MOVING, "Paid: the money is on its way"),
    "arrived": (Tone.ARRIVED, "Paid, and arrived"),
    "failed": (Tone.FAILED, "Failed on the way to the bank"),
    "refused by Stripe": (Tone.REFUSED, "Refused: nothing has moved"),
    "needs a person": (Tone.UNKNOWN, "Unknown: a person has to find out"),
    "reversed": (Tone.MOVING, "Partly reversed: the rest is on its way"),
}


@pytest.fixture(scope="module", name="told_stories")
def _told_stories(tmp_path_factory, demo_file, shared_stripe):
    """One story for each kind of outcome, and their scene."""
    import shutil

    import desks

    root = tmp_path_factory.mktemp("review")
    shutil.copy(demo_file, root / "state.sqlite")
    scenes = desks._scene(root, f"sqlite:///{root / 'state.sqlite'}", shared_stripe)
    scene = next(scenes)
    yield scene, stories(scene)
    next(scenes, None)


def verdict(story):
    return verdict_of(
        story.account, story.events, incident_id="INC-123", begun=story.record is not None, broken=story.broken
    )


def text_of(page):
    """What a page says, without its markup."""
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<style>.*?</style>|<[^>]+>", " ", page, flags=re.DOTALL)))


@pytest.mark.parametrize("name", WORDS)
def test_every_outcome_has_its_own_word_and_look(told_stories, name):
    """The verdict comes from row and journal; its word, class and next step are on the page."""
    scene, told = told_stories
    kind, word = WORDS[name]
    found, shown = verdict(told[name]), page(scene, told[name])

    assert (kind, word) == (found.kind, found.word)
    assert f'<header class="verdict {kind}">' in shown
    assert f"SANDBOX: {word}" in text_of(shown)
    assert found.next_step in text_of(shown)


def test_unknown_says_what_to_do_and_what_never_to_do(told_stories):
    """The one page on which a tired reader must not act on their own."""
    scene, told = told_stories
    said = text_of(page(scene, told["unknown"]))

    assert (
        "Next: Run `manual-payout reconcile INC-123`; never send again before, not from the Dashboard either." in said
    )
    assert "may have been sent" in said
    assert "Paid" not in said


@pytest.mark.parametrize("state", [state for state in State if state is not State.APPROVED])
def test_money_is_called_moved_exactly_where_the_row_says_so(told_stories, state):
    """No state but those of a made transfer is shown as money that moved, and every state has a verdict."""
    scene, told = told_stories
    story = replace(told["moving"], record=replace(told["moving"].record, state=state))
    moved = state in (State.PAID, State.REVERSED, State.PARTLY_REVERSED)

    assert moved == ("<h2>What moved</h2>" in page(scene, story))
    assert moved == (verdict(story).kind in (Tone.MOVING, Tone.ARRIVED, Tone.REVERSED))


def test_sandbox_test_and_live_cannot_be_confused(told_stories):
    """What is not live says so in title, head, frame and on every printed sheet; live says live."""
    scene, told = told_stories
    pages = {mode: page(scene, told["arrived"], mode) for mode in Mode}

    for mode, word in ((Mode.SANDBOX, "SANDBOX"), (Mode.TEST, "STRIPE TEST MODE")):
        assert 'class="pretend"' in pages[mode]
        assert f"{word}: Paid, and arrived</h1>" in pages[mode]
        assert f'@top-left {{ content: "{word} · Paid, and arrived"' in pages[mode]
        assert f"({word})</title>" in pages[mode]
    assert "<body>" in pages[Mode.LIVE]
    assert "<h1>Paid, and arrived</h1>" in pages[Mode.LIVE]
    # What the approvers were shown is as they saw it, in the mode of their own machine.
    live = re.sub("<details>.*?</details>", "", pages[Mode.LIVE], flags=re.DOTALL)
    assert "SANDBOX" not in live.upper().replace("SANDBOXPLATFORM", "")


def test_people_amounts_and_checks_are_those_on_record(told_stories):
    """Who asked, approved and ran; from where to where; what stays."""
    scene, told = told_stories
    said = text_of(page(scene, told["arrived"]))
    request = told["arrived"].request

    for wanted in ("Maya Okafor", "Priya Raman", "Amara Diallo", "Tomas Lindqvist", "1,250.75 USD", "310.00 USD"):
        assert wanted in said
    assert request.digest in said
    assert request.platform_account in said
    assert told["arrived"].record.stripe_transfer_id in said
    assert "ANOTHER DIGEST" not in said


def test_an_approval_of_another_digest_is_shouted(told_stories):
    """The page compares by itself."""
    scene, told = told_stories
    story = told["arrived"]
    other = tuple(replace(approval, request_digest="0" * 64) for approval in story.approvals)

    assert "ANOTHER DIGEST" in page(scene, replace(story, approvals=other))


class Nodes(HTMLParser):
    """The elements and attributes that a browser would see."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, tuple(name for name, _ in attributes)))


def shape(text):
    """Which elements with which attributes there are, in order."""
    return Nodes(text).found


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_adds_no_element_and_no_attribute(told_stories, name):
    """Whatever somebody writes anywhere: the page has the very elements that it has with a harmless word."""
    scene, told = told_stories
    story = told["arrived"]

    assert shape(page(scene, poisoned(story, "word"))) == shape(page(scene, poisoned(story, HOSTILE[name])))


@pytest.mark.parametrize("name", ["right_to_left", "unseen", "control", "surrogate"])
def test_nothing_that_cannot_be_seen_reaches_the_page(told_stories, name):
    """Characters that turn, hide or erase are shown as their escapes."""
    from truthful_papermill.plain_text import find_invisible

    scene, told = told_stories
    shown = page(scene, poisoned(told["arrived"], HOSTILE[name]))

    assert None is find_invisible(shown.replace("\n", ""))
    shown.encode()


def test_the_policy_allows_this_style_sheet_and_nothing_else(told_stories):
    """The digest in the policy is that of the style sheet; no style, script or address stands anywhere else."""
    scene, told = told_stories
    shown = page(scene, told["arrived"])
    style = re.search(r"<style>(.*?)</style>", shown, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = html.unescape(re.search(r'Content-Security-Policy" content="([^"]+)"', shown)[1])

    assert f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'" == policy
    assert not re.search(r"<script|<link|<img|<iframe|\sstyle=|\son\w+=|@import|url\(", shown)


def test_the_page_lists_every_other_file_with_its_digest(tmp_path, scene):
    """All of them but those written later, with links that stay in the folder whatever the name is."""
    folder = Folder(tmp_path / "evidence", Redactor([]))
    for name in ("payload.json", "javascript:alert(1).txt", "ünï #1?.txt"):
        folder.keep(name, name)
    later = frozenset({"manifest.json"})
    folder.keep("manifest.json", "old")
    shown = write_page(scene.desk, folder, incident.INCIDENT_ID, incident.LEDGER_PAYOUT_ID, later=later).read_text()

    for name in ("payload.json", "javascript:alert(1).txt", "ünï #1?.txt"):
        assert digest_bytes(name.encode()) in shown
    assert digest_bytes(b"old") not in shown
    assert ["./"] == sorted({found[:2] for found in re.findall(r'href="([^"]*)"', shown)})
    assert 'href="./javascript%3Aalert%281%29.txt"' in shown


def test_damaged_files_are_named_and_the_page_is_there(tmp_path, scene):
    """A broken verification and a broken notebook are damaged evidence, not a missing page."""
    folder = Folder(tmp_path / "evidence", Redactor([]))
    folder.keep("verification.json", '{"at": 5, "checks": [{}], "ledger"')
    folder.keep("verification-02.json", json_text({"at": "2026", "checks": 7}))
    folder.keep("1-verify-01.ipynb", "{")
    shown = write_page(scene.desk, folder, incident.INCIDENT_ID, incident.LEDGER_PAYOUT_ID).read_text()

    assert "verification.json cannot be read (JSONDecodeError)" in shown
    assert "verification-02.json cannot be read (KeyError)" in shown
    assert "damaged" in text_of(shown)
    assert "Not every notebook came to its end: 1-verify-01.ipynb" in text_of(shown)


def test_a_request_that_was_tampered_with_is_said_and_sealing_goes_on(scene):
    """What does not have the digest it was filed under is damage that the reviewer sees first."""
    scene.tamper("UPDATE requests SET notes = 'x'")
    shown = page(scene, told(scene))

    assert "Damaged record." in shown


def test_a_payout_nobody_asked_for_has_a_page_too(scene, tmp_path):
    """A folder of a refused first run: no request, no row, no journal."""
    shown = write_page(scene.desk, Folder(tmp_path, Redactor([])), "INC-9", "nowhere").read_text()

    assert "No request and no row is on record" in text_of(shown)
    assert "nobody approved" in text_of(shown)


def test_a_row_whose_money_may_have_moved_comes_before_a_new_request(told_stories, monkeypatch):
    """An older unknown row is never hidden behind a request that was filed after it."""
    from manual_payout.evidence.story import _telling

    _, told = told_stories
    unknown, refused = told["unknown"].record, told["refused by Stripe"].record
    newer = replace(told["unknown"].request, lines=(replace(told["unknown"].request.line_for(), line_id="another"),))

    assert unknown is _telling([refused, unknown], newer)
    assert None is _telling([refused], newer)
    assert refused is _telling([refused], None)


def test_a_night_of_many_events_is_drawn_by_its_beginning_and_end(told_stories):
    """Forty points at most, and the page says how many it left out."""
    scene, told = told_stories
    many = told["arrived"].events * 20
    drawn = draw(many, lambda actor: actor)

    assert 40 == len(drawn.points)
    assert drawn.left_out > 0
    assert f"{drawn.left_out} points between them are not drawn" in page(scene, replace(told["arrived"], events=many))
    assert [point.y for point in drawn.points] == sorted(point.y for point in drawn.points)


def test_a_long_night_still_makes_a_small_page(told_stories):
    """A thousand files and three hundred notebooks stay under a megabyte."""
    scene, told = told_stories
    story = told["arrived"]
    story = replace(story, notebooks=story.notebooks * 60, files=story.files * 125)

    assert len(page(scene, story).encode()) < 1_000_000
