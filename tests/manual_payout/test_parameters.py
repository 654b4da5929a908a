"""What a person types is taken exactly or refused by name; the parameter file says the same to papermill and to us."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from papermill.iorw import read_yaml_file

from manual_payout.cli.parameter_file import parameter_file_text, read_parameter_file
from manual_payout.domain.errors import ParameterError
from manual_payout.domain.models import Reason
from manual_payout.domain.money import amount_text
from manual_payout.domain.parameters import (
    CLOSE_PARAMETERS,
    STAGE_PARAMETERS,
    check,
    refuse_unknown,
    validate,
    validate_closing,
)
from payout_rehearsal import demo_parameters

DEMO = demo_parameters().as_dict()


def text_taken(field):
    """Any text that *field* takes."""

    def taken(value: str) -> bool:
        try:
            check(field, value)
        except ParameterError:
            return False
        return True

    return st.text(max_size=60).map(str.strip).filter(taken)


names = text_taken("studio_name")
notes = text_taken("notes")
amounts = st.decimals(min_value="0.01", max_value=999_999, places=2).map(str)


def test_the_demo_is_valid_and_comes_back_unchanged():
    """Validation gives the values back in their one form."""

    assert DEMO == validate(DEMO).as_dict()
    assert list(STAGE_PARAMETERS) == list(DEMO)


@pytest.mark.parametrize("name", STAGE_PARAMETERS)
def test_a_missing_parameter_is_named(name):
    """None has a silent default here."""
    with pytest.raises(ParameterError, match=f"^{name}: found 'nothing', expected a value"):
        validate({key: value for key, value in DEMO.items() if key != name})


@pytest.mark.parametrize("value", [None, [], {}, b"x", object(), 5j])
@pytest.mark.parametrize("name", STAGE_PARAMETERS)
def test_another_type_is_refused_with_its_name(name, value):
    """What is no text, flag or figure is refused for what it is."""
    with pytest.raises(ParameterError, match=f"^{name}: found "):
        validate(DEMO | {name: value})


# Amounts, and the ids of a ledger that counts its rows, are typed without quotes.
MAY_BE_NUMBERS = {"amount", "reserve_after", "ledger_payout_id", "studio_id"}


@pytest.mark.parametrize("name", sorted(set(STAGE_PARAMETERS) - MAY_BE_NUMBERS))
@pytest.mark.parametrize("value", [0, 1, 123, 1.5, float("nan")])
def test_a_number_is_no_text_and_no_flag(name, value):
    """YAML and papermill make numbers of what looks like one: 1 is not true, 123 no incident."""
    with pytest.raises(ParameterError, match=f"^{name}: found "):
        validate(DEMO | {name: value})


@pytest.mark.parametrize("value", ["true", "True", "false", "", "yes"])
def test_a_flag_in_quotes_is_no_flag(value):
    """The text false is true to Python; a dry run must not hang on that."""
    with pytest.raises(ParameterError, match=r"dry_run: found .* expected true or false, not text"):
        validate(DEMO | {"dry_run": value})


@pytest.mark.parametrize("reason", list(Reason))
def test_every_documented_reason_is_taken(reason):
    """As text, as the SOP writes it."""

    assert reason is check("reason", reason.value)


def test_a_mistyped_reason_names_the_one_that_was_meant():
    """All are listed, the likeliest is offered."""
    with pytest.raises(ParameterError, match=r"one of scheduler_outage, .* Did you mean scheduler_outage\?"):
        check("reason", "sheduler_outage")


@given(st.text(max_size=80))
def test_text_that_is_taken_is_one_visible_line(value):
    """Whatever is typed: taken text is in NFC, on one line, with nothing invisible and no tag in it."""
    try:
        found = check("notes", value)
    except ParameterError:
        return

    assert found == unicodedata.normalize("NFC", found).strip()
    assert not {unicodedata.category(c) for c in found} & {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    assert "<script" not in found.lower()


@pytest.mark.parametrize(
    "text", ["I <3 clay", "3 < 5", "Salt & Clay", 'O\'Brien "Pots"', "陶芸スタジオ", "Cafe\u0301", "=5+5", "{{x}}"]
)
def test_what_is_only_a_strange_name_is_taken(text):
    """A heart is no tag; escaping is the business of who shows it."""

    assert unicodedata.normalize("NFC", text) == check("studio_name", text)


@pytest.mark.parametrize(("length", "fine"), [(2000, True), (2001, False), (10_000, False)])
def test_notes_end_at_two_thousand_characters(length, fine):
    """The refusal shows the beginning and says how long it was."""
    if fine:
        assert length == len(check("notes", "n" * length))
        return
    with pytest.raises(ParameterError, match=rf"… \({length + 2} characters\), expected at most 2000 characters"):
        check("notes", "n" * length)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("studioid", "Did you mean studio_id"),
        ("amountt", "Did you mean amount"),
        ("zzz", "The names are: incident_id, "),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(name, hint):
    """papermill only warns of one, and the default is used."""
    with pytest.raises(ParameterError, match=f"^{name}: found 'x', expected no parameter of that name") as caught:
        refuse_unknown({name: "x"})

    assert hint in caught.value.remedy


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, {}),
        ({"root_cause": "x", "amount": "1"}, {"root_cause": "x"}),
        ({"key_rotated_to": "", "automation_restored": True}, {"key_rotated_to": "", "automation_restored": True}),
    ],
)
def test_what_the_close_needs_is_taken_from_the_rest(values, expected):
    """What is missing is an open item of the checklist, not a mistake."""

    assert {name: expected[name] for name in CLOSE_PARAMETERS if name in expected} == validate_closing(values)


@pytest.mark.parametrize(
    ("name", "value"),
    [("root_cause", "a\nb"), ("root_cause", 5), ("follow_ups", "x" * 4001), ("automation_restored", "yes"),
     ("automation_restored", 1), ("key_rotated_to", "12345"), ("key_rotated_to", "sk_live_0123456789"), ("key_rotated_to", 1234)],
)  # fmt: skip
def test_a_wrong_closing_value_is_named(name, value):
    """A whole key where four characters are asked for is refused and not shown."""
    with pytest.raises(ParameterError, match=f"^{name}: found ") as caught:
        validate_closing({name: value})

    assert "0123456789" not in str(caught.value)


@given(names, notes, amounts, amounts, st.sampled_from(Reason))
def test_papermill_and_we_read_the_file_alike(tmp_path_factory, name, note, amount, reserve, reason):
    """For every form that can be filed: papermill's own YAML reading gives the identical values, and so does ours."""
    values = {"studio_name": name, "notes": note, "amount": amount, "reserve_after": reserve, "reason": reason}
    parameters = validate(DEMO | values)
    path = tmp_path_factory.mktemp("file") / "incident.yaml"
    path.write_text(parameter_file_text(parameters), "utf-8")
    theirs, ours = read_yaml_file(str(path)), read_parameter_file(path)

    assert theirs == ours
    assert list(map(type, theirs.values())) == list(map(type, ours.values()))
    assert parameters.as_dict() == validate(theirs | {"operator": DEMO["operator"]}).as_dict()


@given(st.integers(0, 10**9), st.integers(0, 99))
def test_an_unquoted_amount_is_the_amount_that_is_shown(tmp_path_factory, whole, cents):
    """Whoever writes 1250.75 without quotes gets 1250.75: the text as typed, never the float in between."""
    path = tmp_path_factory.mktemp("file") / "p.yaml"
    path.write_text(f"amount: {whole}.{cents:02}\nreserve_after: {whole}\n")
    found = read_parameter_file(path)

    assert {"amount": f"{whole}.{cents:02}", "reserve_after": str(whole)} == found
    assert amount_text(found["amount"]) == found["amount"]


@given(st.text("0123456789_.:+-xobeE", min_size=1, max_size=12))
def test_no_plain_scalar_changes_its_meaning_on_the_way(tmp_path_factory, typed):
    """Whatever YAML makes of an amount that looks like a figure: it is taken as typed, or refused."""
    path = tmp_path_factory.mktemp("file") / "p.yaml"
    path.write_text(f"amount: {typed}\n")
    try:
        found = read_parameter_file(path)
    except Exception as error:  # noqa: BLE001  # the claim is about the kind of error
        found = type(error).__name__

    assert found in ({"amount": typed}, "ParameterError", "UsageError")


def test_a_date_is_text_as_papermill_leaves_it(tmp_path):
    """papermill turns YAML's dates off; so do we."""
    path = tmp_path / "p.yaml"
    path.write_text("notes: 2026-03-02\n")

    assert {"notes": "2026-03-02"} == read_parameter_file(path) == read_yaml_file(str(path))


def test_the_file_names_every_stage_parameter_and_moves_nothing():
    """Ready for a dry run, by nobody yet."""
    text = parameter_file_text(validate(DEMO | {"dry_run": False, "confirm": "ABCD-2345"}))

    assert list(STAGE_PARAMETERS) == [line.split(":")[0] for line in text.splitlines() if not line.startswith("#")]
    assert 'operator: ""\ndry_run: true\nconfirm: ""\n' in text
