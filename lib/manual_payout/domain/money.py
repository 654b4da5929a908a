"""
Amount and currency as one immutable value, in Stripe's minor units.

The exponents are Stripe's, not ISO 4217's. Sources: Stripe documentation, *Supported currencies*
(zero-decimal currencies; special cases ISK, UGX, HUF, TWD; three-decimal currencies).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from manual_payout.domain.errors import ParameterError

# Sent to Stripe without decimals.
ZERO_DECIMAL = frozenset(
    ["bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "vnd", "vuv", "xaf", "xof", "xpf"]
)

# Sent with three decimals, of which Stripe wants the last to be zero.
THREE_DECIMAL = frozenset(["bhd", "jod", "kwd", "omr", "tnd"])

# Two decimals everywhere else. The list is closed: an unknown currency is an error, never a guess.
TWO_DECIMAL = frozenset(
    """
    aed afn all amd ang aoa ars aud awg azn bam bbd bdt bgn bmd bnd bob brl bsd bwp byn bzd cad cdf chf cny cop
    crc cve czk dkk dop dzd egp etb eur fjd fkp gbp gel gip gmd gtq gyd hkd hnl htg huf idr ils inr isk jmd kes
    kgs khr kyd kzt lak lbp lkr lrd lsl mad mdl mkd mmk mnt mop mur mvr mwk mxn myr mzn nad ngn nio nok npr nzd
    pab pen pgk php pkr pln qar ron rsd sar sbd scr sek sgd shp sle sos srd std szl thb tjs top try ttd twd tzs
    uah ugx usd uyu uzs wst xcd yer zar zmw
    """.split()
)

# The smallest step, in minor units, that can be paid out later. ISK and UGX are sent with two decimals that must be
# 00; HUF and TWD payouts must be whole; of three decimals the last must be 0. Stripe documents these for charges and
# payouts; demanding them of a transfer too is our caution: money that cannot be paid out would strand.
STEP_MINOR = {"isk": 100, "ugx": 100, "huf": 100, "twd": 100} | dict.fromkeys(THREE_DECIMAL, 10)

# Digits only: no sign, no exponent, no grouping, no spaces, and ASCII (Decimal would take ١٢ and 1_000). Nine decimals at
# the most, so that decimal arithmetic, which keeps 28 digits, is exact.
_AMOUNT_TEXT = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,9})?", re.ASCII)

# Twelve digits is the most that Stripe documents for any amount; our own ceiling, since none is documented for
# transfers.
AMOUNT_MINOR_MAX = 999_999_999_999


@dataclass(frozen=True, slots=True, order=False)
class Money:
    """
    A whole number of minor units of one currency.

    Attributes:
        amount_minor: Minor units, for example cents; never negative here.

        currency: Three lower-case letters, as Stripe writes them.
    """

    amount_minor: int
    currency: str

    def __post_init__(self) -> None:
        exponent(self.currency)
        if type(self.amount_minor) is not int:
            raise ParameterError("amount_minor", self.amount_minor, "a whole number of minor units")
        if abs(self.amount_minor) > AMOUNT_MINOR_MAX:
            raise ParameterError("amount_minor", self.amount_minor, f"at most {AMOUNT_MINOR_MAX} minor units")

    def __str__(self) -> str:
        return f"{self.text} {self.currency.upper()}"

    def __add__(self, other: Money) -> Money:
        return Money(self.amount_minor + other._same(self), self.currency)

    def __sub__(self, other: Money) -> Money:
        return Money(self.amount_minor - other._same(self), self.currency)

    def __lt__(self, other: Money) -> bool:
        return self.amount_minor < other._same(self)

    def __ge__(self, other: Money) -> bool:
        return not self < other

    def _same(self, other: Money) -> int:
        if self.currency != other.currency:
            raise ParameterError("currency", self.currency, f"{other.currency}, the currency it is combined with")
        return self.amount_minor

    @property
    def decimal(self) -> Decimal:
        """The amount in major units, exactly."""
        return Decimal(self.amount_minor).scaleb(-exponent(self.currency))

    @property
    def text(self) -> str:
        """The amount in major units as plain decimal text, the form that `parse` reads back: ``1250.75``."""
        return f"{self.decimal:.{exponent(self.currency)}f}"

    @property
    def grouped(self) -> str:
        """The amount for people: ``1,250.75 USD``."""
        return f"{self.decimal:,.{exponent(self.currency)}f} {self.currency.upper()}"


def exponent(currency: str) -> int:
    """
    Say how many decimals Stripe's minor unit of *currency* has.

    Raises:
        ParameterError: The currency is not three lower-case letters that Stripe knows.
    """
    if currency in TWO_DECIMAL:
        return 2
    if currency in ZERO_DECIMAL:
        return 0
    if currency in THREE_DECIMAL:
        return 3
    raise ParameterError("currency", currency, "a currency that Stripe supports, in lower case, such as usd")


def amount_text(value: object, *, field: str = "amount") -> str:
    """
    Return *value* as plain decimal text if it can be an amount in any currency.

    Args:
        value: Text, an int, or a float whose shortest form is plain: exact for what papermill made of ``1250.75``, and
            in exponent form, hence refused, where cents may have been lost.

        field: The parameter's name for the error message.

    Raises:
        ParameterError: It is none of these, negative, grouped, in exponent form, or longer than 12 digits.
    """
    text: str | None = None
    if isinstance(value, str):
        text = value
    elif isinstance(value, int) and not isinstance(value, bool):
        text = str(value)
    elif isinstance(value, float):
        text = repr(value).removesuffix(".0")
    if text is None or not _AMOUNT_TEXT.fullmatch(text):
        raise ParameterError(field, value, "a positive amount as decimal text, such as 1250.75")
    return text


def parse(value: object, currency: str, *, field: str = "amount") -> Money:
    """
    Read an amount in major units, exactly or not at all.

    Args:
        value: Decimal text such as ``"1250.75"``; or an int; or a float that papermill made of such text, which is
            taken only where its shortest form is exact in the currency's minor unit.

        currency: Three lower-case letters.

        field: The parameter's name for the error message.

    Raises:
        ParameterError: The value is not an exact, non-negative amount of the currency.
    """
    places = exponent(currency)
    minor = Decimal(amount_text(value, field=field)).scaleb(places)
    if minor != minor.to_integral_value():
        raise ParameterError(field, value, f"at most {places} decimals for {currency.upper()}")
    if minor > AMOUNT_MINOR_MAX:
        raise ParameterError(field, value, f"at most {Money(AMOUNT_MINOR_MAX, currency).grouped}")
    return Money(int(minor), currency)


def check_payable(money: Money, *, field: str = "amount") -> Money:
    """
    Return *money* if it is an amount that can be transferred and later paid out whole.

    Raises:
        ParameterError: It is zero or negative, or not a multiple of the currency's payable step.
    """
    if money.amount_minor <= 0:
        raise ParameterError(field, money.text, "an amount above zero")
    step = STEP_MINOR.get(money.currency, 1)
    if money.amount_minor % step:
        raise ParameterError(
            field, money.text, f"a multiple of {Money(step, money.currency)}, the smallest step that can be paid out"
        )
    return money


def total(amounts: Iterable[Money], currency: str) -> Money:
    """Add up *amounts*, all of which must be of *currency*; nothing adds up to zero."""
    result = Money(0, currency)
    for money in amounts:
        result = result + money
    return result
