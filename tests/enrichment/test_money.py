"""Money: half-even rounding, exact rates, minor units. Oracle: `decimal` and `fractions`."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enrichment.money import (
    convert_micros,
    divide_half_even,
    format_micros,
    largest_convertible_micros,
    minor_unit_digits,
)

amounts = st.integers(-(10**18), 10**18)


@pytest.mark.parametrize(
    ("micros", "text"),
    [
        (0, "0.00"),
        (5_000, "0.00"),
        (5_001, "0.01"),
        (15_000, "0.02"),
        (25_000, "0.02"),
        (-5_000, "0.00"),
        (-15_000, "-0.02"),
        (-12_345_000, "-12.34"),
        (-12_355_000, "-12.36"),
        (812_400_000, "812.40"),
        (999_995_000, "1000.00"),
    ],
)
def test_output_is_rounded_half_even_to_the_minor_unit(micros: int, text: str) -> None:
    """A tie goes to the even neighbour, on either side of zero; there is no minus zero."""
    assert format_micros(micros, 2) == text


@given(amount=amounts, digits=st.sampled_from([0, 2, 3]))
def test_output_equals_decimal_quantize(amount: int, digits: int) -> None:
    """For any amount and number of decimals."""
    quantum = Decimal(1).scaleb(-digits)
    expected = (Decimal(amount) / 10**6).quantize(quantum, ROUND_HALF_EVEN)
    assert Decimal(format_micros(amount, digits)) == expected
    assert format_micros(amount, digits) == f"{expected + 0:.{digits}f}"


@given(amount=amounts, share=st.integers(1, 1_000))
def test_an_average_is_rounded_once(amount: int, share: int) -> None:
    """From the exact quotient; oracle: Python's rounding of fractions."""
    assert Decimal(format_micros(amount, 2, share)) * 100 == round(Fraction(amount, share * 10**4))


@given(numerator=amounts, denominator=st.integers(1, 10**12))
def test_division_is_half_even(numerator: int, denominator: int) -> None:
    """Oracle: Python's rounding of fractions."""
    assert divide_half_even(numerator, denominator) == round(Fraction(numerator, denominator))


@given(amount=amounts, rate=st.decimals("0.000001", "10000", places=6))
def test_conversion_is_exact_and_half_even(amount: int, rate: Decimal) -> None:
    """Integers and the rate's own decimals, never a float."""
    assert convert_micros(amount, Fraction(rate)) == round(amount * Fraction(rate))


def test_minor_units_are_those_of_iso_4217() -> None:
    """None for the yen, three for the Kuwaiti dinar, two for most."""
    assert [minor_unit_digits(currency) for currency in ("JPY", "KRW", "KWD", "USD", "EUR")] == [
        0,
        0,
        3,
        2,
        2,
    ]
    assert format_micros(1_500_000, 0) == "2"
    assert format_micros(2_500_000, 0) == "2"
    assert format_micros(1_234_500, 3) == "1.234"


@given(half_limit=st.integers(0, 10**15), rate=st.fractions("1/1000000", 10_000))
def test_one_micro_more_than_the_largest_convertible_is_above_the_limit(
    half_limit: int, rate: Fraction
) -> None:
    """Ties go to the limit, which is even."""
    limit = 2 * half_limit
    largest = largest_convertible_micros(limit, rate)
    assert convert_micros(largest, rate) <= limit < convert_micros(largest + 1, rate)
