"""Money as integers: micro-units, half-even rounding, no floats."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache

MICROS_PER_UNIT = 1_000_000
MAX_AMOUNT_MICROS = 10**9 * MICROS_PER_UNIT
"""The largest amount of a record, in base micro-units."""
MAX_STORED = 2**63 - 1
"""The largest number that a state holds: an amount in its own currency is no larger, however little that is worth."""
BASE_RATE = Fraction(1)
"""The rate of the base currency: one object, since telling it by its value costs more than converting."""

_WITHOUT_MINOR_UNIT = frozenset(
    "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF".split()  # noqa: SIM905 - a table
)
_THOUSANDTHS = frozenset(["BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"])


def minor_unit_digits(currency: str) -> int:
    """Decimals of a currency's minor unit, as ISO 4217 lists them: 0 for JPY, 3 for KWD, 2 for most."""
    if currency in _WITHOUT_MINOR_UNIT:
        return 0
    return 3 if currency in _THOUSANDTHS else 2


def divide_half_even(numerator: int, denominator: int) -> int:
    """`numerator / denominator` rounded to the nearest integer, ties to even; `denominator` > 0."""
    quotient, remainder = divmod(numerator, denominator)
    twice = 2 * remainder
    if twice > denominator or (twice == denominator and quotient & 1):
        quotient += 1
    return quotient


def convert_micros(amount_micros: int, rate: Fraction) -> int:
    """Micro-units of another currency as micro-units of the base currency, at `rate` base units per unit."""
    if rate is BASE_RATE or rate == 1:
        return amount_micros
    return divide_half_even(amount_micros * rate.numerator, rate.denominator)


def largest_convertible_micros(limit_micros: int, rate: Fraction) -> int:
    """The largest amount that `convert_micros` makes no more than an even `limit_micros` of: ties are rounded to it."""
    return (2 * limit_micros + 1) * rate.denominator // (2 * rate.numerator)


@lru_cache(maxsize=1_024)  # nothing and, in windows of many lengths, the same amount: both come again at once
def format_micros(amount_micros: int, minor_unit_digits: int, share: int = 1) -> str:
    """Base units as a decimal string, rounded half-even to the minor unit: `-12345000` → `"-12.34"`.

    With `share`, the amount divided by so many, rounded only once.
    """
    minor = divide_half_even(amount_micros, share * 10 ** (6 - minor_unit_digits))
    if minor_unit_digits == 0:
        return str(minor)
    whole, rest = divmod(abs(minor), 10**minor_unit_digits)
    return f"{'-' if minor < 0 else ''}{whole}.{rest:0{minor_unit_digits}d}"
