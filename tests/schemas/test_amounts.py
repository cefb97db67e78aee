"""Decimal strings to micro-units."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.amounts import parse_amount
from schemas.rejection import RefusedError


@pytest.mark.parametrize(
    ("text", "expected_micros"),
    [
        ("0", 0),
        ("0.00", 0),
        ("12.5", 12_500_000),
        ("12.345678", 12_345_678),
        ("0.000001", 1),
        ("007.50", 7_500_000),
        ("0" * 5000 + "7", 7_000_000),
        ("0" * 20, 0),
        ("1000000000.000001", 1_000_000_000_000_001),
        ("999999999999999.999999", 999_999_999_999_999_999_999),
    ],
)
def test_an_amount_is_its_micro_units(text: str, expected_micros: int) -> None:
    """The oracle is the decimal point moved six places by hand."""
    assert parse_amount(text) == expected_micros


@given(st.decimals(min_value=0, max_value=Decimal(10) ** 15 - 1, places=6))
def test_an_amount_agrees_with_decimal(amount: Decimal) -> None:
    """The oracle is `decimal.Decimal`."""
    assert parse_amount(f"{amount:f}") == int(amount.scaleb(6))


@pytest.mark.parametrize("text", ["0.0000001", "1.0000000", "1000000000000000", "1" + "0" * 30, "9" * 5000])
def test_more_than_six_decimals_or_an_absurd_size_is_out_of_range(text: str) -> None:
    """Seven decimals are too many even where they are zero; 10^15 units are too many in any currency."""
    with pytest.raises(RefusedError) as refused:
        parse_amount(text)
    assert refused.value.reason == "OutOfRange"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-1",
        "-0",
        "+1",
        "1e3",
        "1E3",
        ".5",
        "5.",
        ".",
        "1.2.3",
        " 1",
        "1 ",
        "1\n",
        "1_000",
        "1,000",
        "1,5",
        "NaN",
        "Infinity",
        "0x10",
        "١٢",
        "１２",
        "1.٥",
        "²",
        "12.50 USD",
        "1; DROP TABLE orders",
        "{{7*7}}",
    ],
)
def test_any_other_text_is_malformed(text: str) -> None:
    """No sign, exponent, space, separator or foreign digit is taken."""
    with pytest.raises(RefusedError) as refused:
        parse_amount(text)
    assert refused.value.reason == "Malformed"
