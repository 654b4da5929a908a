"""Tables show themselves: the same rows as HTML, as text and as data, and nothing in them acts."""

from __future__ import annotations

import re
import unicodedata
from html.parser import HTMLParser

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from manual_payout.domain.display import Banner, Picture, Table, Text, check_table, facts_table, go_or_no_go
from manual_payout.domain.models import Check, CheckStatus
from manual_payout.evidence.pages import clean
from truthful_papermill.plain_text import one_line, shown, width


class Nodes(HTMLParser):
    """Counts what a browser would build."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        del attrs
        self.tags.append(tag)

    def handle_data(self, data):
        self.text.append(data)


def check(status, remedy=""):
    """One answer of a verification."""
    return Check("reserve", "Is the reserve left?", status, "310.00 USD", "310.00 USD", remedy)


@given(st.text(max_size=40), st.text(max_size=40))
@example("<script>alert(1)</script>", "\x1b[2J\u202eevil")
@example("</td><td>", '" onclick="x')
def test_no_cell_and_no_caption_builds_a_node_or_reaches_the_terminal_raw(caption, cell):
    """Markup stays text, control characters and bidirectional marks become visible escapes, in both forms."""
    table = Table(caption, ("a", "b"), ((cell, "x"),))
    plain = Nodes(Table("c", ("a", "b"), (("y", "x"),))._repr_html_())

    assert plain.tags == Nodes(table._repr_html_()).tags
    for form in (repr(table), table._repr_html_()):
        assert not {unicodedata.category(c) for c in form if c != "\n"} & {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    assert 3 == len(repr(table).split("\n"))


@given(st.text(max_size=60))
def test_text_and_banner_keep_line_breaks_only(text):
    """What is to be copied keeps its lines; everything else that cannot be seen is shown as its escape."""
    for thing in (Text("c", text), Banner("w", text, good=True), Picture(b"", text)):
        assert not {unicodedata.category(c) for c in repr(thing) if c not in "\n\t"} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert ["div", "pre"] == Nodes(Text("c", text)._repr_html_()).tags


def test_text_that_is_copied_is_copied_exactly():
    """JSON with its quotes and indentation comes out of both forms unchanged."""
    body = '{\n\t"a": "<b>&amp;",\n  "c": "é"\n}'

    assert body == repr(Text("Payload", body)).partition("\n\n")[2]
    assert body == "".join(Nodes(Text("", body)._repr_html_()).text)


def test_columns_line_up_for_wide_and_combining_characters():
    """A Japanese name takes two columns a character, a combining accent none."""
    table = Table("t", ("name", "n"), (("陶芸スタジオ", "1"), ("Cafe\u0301", "2"), ("x", "33")), frozenset({"n"}))
    ends = {width(line) for line in repr(table).splitlines()[1:]}

    assert 1 == len(ends)
    assert (12, 4, 0) == (width("陶芸スタジオ"), width("Cafe\u0301"), width(""))


def test_amounts_are_aligned_to_the_right_in_both_forms():
    """Figures are compared digit under digit."""
    table = Table("t", ("amount",), (("1.00 USD",), ("1,250.75 USD",)), frozenset({"amount"}))

    assert "    1.00 USD" == repr(table).splitlines()[2]
    assert 2 == table._repr_html_().count("text-align:right")


def test_rows_for_programs_are_the_rows_as_they_are():
    """Data is not escaped: the program decides."""

    assert [{"what": "a", "value": "<b>\n"}] == facts_table("c", {"a": "<b>\n"}).as_dicts()


def test_an_empty_table_is_still_a_table():
    """No rows: caption and columns in both forms."""
    table = Table("Nothing.", ("a", "b"), ())

    assert "Nothing.\na  b" == repr(table)
    assert "<th" in table._repr_html_()


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ([], "GO"),
        ([CheckStatus.OK], "GO"),
        ([CheckStatus.OK, CheckStatus.WARN], "GO"),
        ([CheckStatus.OK, CheckStatus.FAIL], "NO-GO"),
        ([CheckStatus.UNKNOWN], "NO-GO"),
    ],
)
def test_the_caption_of_a_verification_is_its_verdict(statuses, expected):
    """Only fail and unknown forbid a payout; the caption says so with their number."""
    checks = [check(status) for status in statuses]
    caption = check_table(checks).caption

    assert expected == go_or_no_go(checks)
    assert caption.startswith(f"{expected}: ")
    assert expected == "NO-GO" or "allow this reversal" in check_table(checks, of="reversal").caption
    assert expected == "GO" or f"1 of {len(checks)} checks say no" in caption


@pytest.mark.parametrize(("remedy", "columns"), [("", 4), ("Top up.", 5)])
def test_what_to_do_is_a_column_only_where_there_is_something_to_do(remedy, columns):
    """An all-green table has no empty column."""

    assert columns == len(check_table([check(CheckStatus.WARN, remedy)]).columns)


def test_colour_only_repeats_a_finding_and_never_somebody_elses_word():
    """The ledger's own word 'failed' in another column is not painted red."""
    html = Table("t", ("status", "ledger"), (("fail", "failed"),))._repr_html_()

    assert 1 == html.count("#cf222e")


def luminance(colour):
    """The relative luminance of a colour such as #1a7f37 (WCAG 2.2)."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("word", ["ok", "warn", "fail", "GO", "NO-GO", "not yet", "differs", "unknown"])
def test_word_of_a_finding_can_be_read_on_any_page(word):
    """It brings its own ground, whose contrast is 4.5 : 1 or more: JupyterLab's pages are white or nearly black."""
    html = Table("t", ("status",), ((word,),))._repr_html_()
    ink, ground = (re.search(rf"[;\"]{name}:(#[0-9a-f]{{6}})", html)[1] for name in ("color", "background-color"))

    assert (luminance(ink) + 0.05) / (luminance(ground) + 0.05) >= 4.5
    assert clean(html).count(ground) == 1


@given(st.text(max_size=40))
def test_shown_is_the_identity_on_what_can_be_seen(text):
    """Ordinary text, in any script, is left alone; applied twice it changes nothing more."""
    assert shown(shown(text)) == shown(text)
    assert "\n" not in one_line(text)
    assert shown("Harbor Light Pottery 陶芸 é") == "Harbor Light Pottery 陶芸 é"
