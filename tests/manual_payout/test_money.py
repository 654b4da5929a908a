"""Money: exact or refused."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from manual_payout.domain.errors import ParameterError
from manual_payout.domain.money import (
    AMOUNT_MINOR_MAX,
    STEP_MINOR,
    THREE_DECIMAL,
    TWO_DECIMAL,
    ZERO_DECIMAL,
    Money,
    check_payable,
    exponent,
    parse,
    total,
)

CURRENCIES = sorted(ZERO_DECIMAL | TWO_DECIMAL | THREE_DECIMAL)
currencies = st.sampled_from(CURRENCIES)
minors = st.integers(0, AMOUNT_MINOR_MAX)
monies = st.builds(Money, minors, currencies)


@given(monies)
def test_text_reads_back_as_the_same_money(money):
    """Parse undoes format for every amount of every currency."""
    assert money == parse(money.text, money.currency)


@given(monies)
def test_grouped_differs_from_text_only_by_commas_and_currency(money):
    """What people read has the same digits as what the software reads."""
    number, code = money.grouped.split(" ")

    assert (money.text, money.currency.upper()) == (number.replace(",", ""), code)
    assert f"{money.text} {code}" == str(money)


@given(monies)
def test_float_that_papermill_made_is_exact(money):
    """Twelve digits survive a float: what papermill makes of the text is the same money, or is refused."""
    try:
        found = parse(float(money.text), money.currency)
    except ParameterError:
        # Only exponent form is refused, which shortest floats of this size take below a ten-thousandth.
        assert 0 < float(money.text) < 1e-4
    else:
        assert money == found


@given(currencies, st.integers(0, 10**9), st.integers(1, 9), st.integers(0, 3))
def test_finer_than_the_minor_unit_is_refused(currency, whole, digit, zeros):
    """One decimal too many is not rounded, as text or as float."""
    fraction = "0" * (exponent(currency) + zeros) + str(digit)
    with pytest.raises(ParameterError, match=f"at most {exponent(currency)} decimals for {currency.upper()}"):
        parse(f"{whole}.{fraction}", currency)
    # As a float the same value is refused too, for its decimals or for its exponent form.
    with pytest.raises(ParameterError):
        parse(float(f"{whole}.{fraction}"), currency)


@pytest.mark.parametrize("text", ["1.0000000000000000000000000000000001", "1250.7500000000000000000000000000001"])
def test_finer_than_twenty_eight_digits_is_refused_too(text):
    """However small the fraction of a cent is, it is not rounded away."""
    with pytest.raises(ParameterError):
        parse(text, "usd")


@pytest.mark.parametrize("value", [0.1 + 0.2, 1250.755, 10.005, 1e21, 1e-7, float("inf"), float("nan"), -1.5])
def test_float_that_lost_or_never_had_cents_is_refused(value):
    """A float is taken only where its shortest form is an exact amount."""
    with pytest.raises(ParameterError):
        parse(value, "usd")


@pytest.mark.parametrize(
    "value",
    [
        *(
            "12e5",
            "1E3",
            "1,250.75",
            "1_250.75",
            "1 250.75",
            "1250,75",
            "١٢٥٠",
            "\uff11\uff12\uff15",
            "1250.7\uff15",
            "²",
        ),
        *("+5", "-5", "", " ", " 5", "5 ", "5\n", ".5", "5.", "0x10", "NaN", "Infinity", "$5", "1250.75 USD"),
        *("1" * 13, True, False, None, b"5", [5], {"amount": 5}, complex(5)),
    ],
    ids=repr,
)
def test_what_is_no_plain_amount_is_refused(value):
    """No sign, exponent, grouping, space, foreign digit, symbol or other type; the field is named."""
    with pytest.raises(ParameterError, match=r"^reserve_after: found "):
        parse(value, "usd", field="reserve_after")


@given(st.text(max_size=20), currencies)
@example("1250.75", "usd")
@example("٣", "usd")
def test_text_is_money_or_a_parameter_error(text, currency):
    """No text whatever makes anything else happen; what is accepted is ASCII digits with at most one point."""
    try:
        money = parse(text, currency)
    except ParameterError:
        return

    assert set(text) <= set("0123456789.")
    assert money.decimal * 10 ** exponent(currency) == money.amount_minor


@pytest.mark.parametrize(
    ("text", "currency", "minor"),
    [
        ("1250.75", "usd", 125_075),
        ("1250.7", "usd", 125_070),
        ("0.01", "usd", 1),
        ("12500", "jpy", 12_500),
        ("125.750", "kwd", 125_750),
        ("125.75", "kwd", 125_750),
        ("100", "isk", 10_000),
        ("100", "ugx", 10_000),
    ],
)
def test_minor_units_are_stripes(text, currency, minor):
    """Cents, yen as such, thousandths of a dinar; ISK and UGX count two decimals at Stripe, unlike ISO."""
    assert Money(minor, currency) == parse(text, currency)


@pytest.mark.parametrize("places", [0, 2, 3])
def test_tables_of_currencies_agree_with_exponent(places):
    """Every currency is in exactly one table."""
    table = {0: ZERO_DECIMAL, 2: TWO_DECIMAL, 3: THREE_DECIMAL}[places]

    assert {places} == {exponent(currency) for currency in table}
    assert len(CURRENCIES) == len(ZERO_DECIMAL) + len(TWO_DECIMAL) + len(THREE_DECIMAL)
    assert all(len(currency) == 3 and currency.islower() and currency.isascii() for currency in CURRENCIES)


@pytest.mark.parametrize("currency", ["USD", "us", "usdt", "xxx", "", "btc", "eu r"])
def test_unknown_currency_is_an_error_not_a_guess(currency):
    """Two decimals are not assumed."""
    with pytest.raises(ParameterError, match=r"^currency: "):
        exponent(currency)


@given(monies, monies)
def test_arithmetic_keeps_or_refuses_the_currency(one, other):
    """Sums, differences and comparisons are those of the minor units, within one currency only."""
    if one.currency != other.currency:
        for combine in (one.__add__, one.__sub__, one.__lt__, one.__ge__):
            with pytest.raises(ParameterError, match="currency"):
                combine(other)
        return

    assert (one.amount_minor < other.amount_minor) == (one < other)
    assert (one.amount_minor <= other.amount_minor) == (one <= other)
    assert one.amount_minor - other.amount_minor == (one - other).amount_minor


@given(currencies, st.lists(st.integers(0, 10**9), max_size=30))
def test_total_is_the_sum_in_any_order(currency, amounts):
    """Nothing adds up to zero of the currency; order does not matter."""
    monies_of_one = [Money(minor, currency) for minor in amounts]

    assert Money(sum(amounts), currency) == total(monies_of_one, currency)
    assert total(reversed(monies_of_one), currency) == total(monies_of_one, currency)


def test_total_of_mixed_currencies_is_refused():
    """Dollars and yen have no sum."""
    with pytest.raises(ParameterError, match="currency"):
        total([Money(1, "usd"), Money(1, "jpy")], "usd")


@pytest.mark.parametrize("minor", [1.0, True, "1", None, AMOUNT_MINOR_MAX + 1, -AMOUNT_MINOR_MAX - 1])
def test_minor_units_are_whole_and_bounded(minor):
    """A float or bool would reach Stripe as ``100.0`` or ``true``."""
    with pytest.raises(ParameterError, match="amount_minor"):
        Money(minor, "usd")


@given(currencies, st.integers(1, 10**9))
def test_payable_is_a_positive_multiple_of_the_step(currency, minor):
    """What can be transferred can be paid out whole."""
    money = Money(minor, currency)
    if minor % STEP_MINOR.get(currency, 1):
        with pytest.raises(ParameterError, match="a multiple of"):
            check_payable(money)
    else:
        assert money is check_payable(money)


@pytest.mark.parametrize("minor", [0, -1])
@pytest.mark.parametrize("currency", ["usd", "jpy", "kwd"])
def test_nothing_and_less_is_not_payable(minor, currency):
    """Zero and negative amounts are refused by name."""
    with pytest.raises(ParameterError, match=r"^amount: .*above zero"):
        check_payable(Money(minor, currency))


@pytest.mark.parametrize("currency", sorted(THREE_DECIMAL))
def test_last_of_three_decimals_must_be_zero(currency):
    """Stripe wants the third decimal to be zero."""
    assert 1_230 == check_payable(Money(1_230, currency)).amount_minor
    with pytest.raises(ParameterError, match="a multiple of"):
        check_payable(Money(1_234, currency))


@given(monies)
def test_money_cannot_be_changed(money):
    """An amount that was approved is the amount that is sent."""
    with pytest.raises(AttributeError):
        money.amount_minor = 1
