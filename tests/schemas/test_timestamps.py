"""RFC 3339 times to microseconds since the epoch."""

from __future__ import annotations

import calendar
from contextlib import suppress
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.rejection import RefusedError
from schemas.timestamps import END_TIME_US, parse_timestamp

NOON_US = 1_736_424_000_000_000  # `date -u -d 2025-01-09T12:00:00Z +%s`: 1736424000


@pytest.mark.parametrize(
    ("text", "expected_us"),
    [
        ("2025-01-09T12:00:00Z", NOON_US),
        ("2025-01-09t12:00:00z", NOON_US),
        ("2025-01-09 12:00:00Z", NOON_US),
        ("2025-01-09T12:00:00+00:00", NOON_US),
        ("2025-01-09T12:00:00-00:00", NOON_US),
        ("2025-01-09T13:30:00+01:30", NOON_US),
        ("2025-01-08T12:01:00-23:59", NOON_US),
        ("2025-01-09T12:00:00.5Z", NOON_US + 500_000),
        ("2025-01-09T12:00:00.000001Z", NOON_US + 1),
        ("2025-01-09T12:00:00.0000019999Z", NOON_US + 1),
        ("2025-01-09T12:00:00." + "9" * 5000 + "Z", NOON_US + 999_999),
        ("1970-01-01T00:00:00Z", 0),
        ("1969-12-31T23:30:00-01:00", 1_800_000_000),
        ("9999-12-31T23:59:59.999999Z", END_TIME_US - 1),
        ("2024-02-29T00:00:00Z", 1_709_164_800_000_000),
        ("2016-12-31T23:59:60Z", 1_483_228_799_999_999),
        ("2016-12-31T23:59:60.5Z", 1_483_228_799_999_999),
        ("2017-01-01T00:59:60+01:00", 1_483_228_799_999_999),
    ],
)
def test_a_time_is_its_microseconds_since_the_epoch(text: str, expected_us: int) -> None:
    """Every form of RFC 3339 is taken; the oracle for whole seconds is GNU date."""
    assert parse_timestamp(text) == expected_us


@given(
    st.datetimes(min_value=datetime(1970, 1, 3), max_value=datetime(9999, 12, 29)),
    st.integers(-23 * 60 - 59, 23 * 60 + 59),
)
def test_a_time_with_an_offset_agrees_with_timegm(local: datetime, offset_minutes: int) -> None:
    """The oracle is `calendar.timegm` on the local fields, less the offset."""
    sign = "-" if offset_minutes < 0 else "+"
    hours, minutes = divmod(abs(offset_minutes), 60)
    text = f"{local.isoformat(timespec='microseconds')}{sign}{hours:02}:{minutes:02}"
    expected_s = calendar.timegm(local.timetuple()) - offset_minutes * 60
    assert parse_timestamp(text) == expected_s * 1_000_000 + local.microsecond


@pytest.mark.parametrize(
    "text",
    [
        "1969-12-31T23:59:59.999999Z",
        "1970-01-01T00:00:00+00:01",
        "0001-01-01T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "-0001-01-01T00:00:00Z",
        "10000-01-01T00:00:00Z",
        "+10000-01-01T00:00:00Z",
        "02025-01-09T12:00:00Z",
        "9999-12-31T23:59:59-00:01",
        "1" * 5000 + "-01-01T00:00:00Z",
    ],
)
def test_a_year_outside_1970_to_9999_is_out_of_range(text: str) -> None:
    """The year is that of the time in UTC; a year that has not four digits is outside."""
    with pytest.raises(RefusedError) as refused:
        parse_timestamp(text)
    assert refused.value.reason == "OutOfRange"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2025-01-09",
        "2025-01-09T12:00:00",
        "2025-01-09T12:00Z",
        "2025-01-09T12:00:00+0100",
        "2025-01-09T12:00:00+01",
        "2025-01-09T12:00:00.Z",
        "2025-01-09T12:00:00,5Z",
        "2025-01-09T24:00:00Z",
        "2025-01-09T12:60:00Z",
        "2025-01-09T12:00:61Z",
        "2025-01-09T12:00:60Z",
        "2025-01-09T12:00:00+24:00",
        "2025-01-09T12:00:00+01:60",
        "2025-02-29T12:00:00Z",
        "2025-13-01T12:00:00Z",
        "2025-00-01T12:00:00Z",
        "2025-01-32T12:00:00Z",
        "+2025-01-09T12:00:00Z",
        "10000-13-01T00:00:00Z",
        "10000-01-01T00:00:00",
        "2025-W02-4T12:00:00Z",
        "20250109T120000Z",
        " 2025-01-09T12:00:00Z",
        "2025-01-09T12:00:00Z\n",
        "2025-01-09T12:00:00Zjunk",
        "2025-01-09_12:00:00Z",
        "٢٠٢٥-01-09T12:00:00Z",
        "1736424000",
    ],
)
def test_any_other_text_is_malformed(text: str) -> None:
    """No other notation is guessed at, and no impossible day or time is moved to a possible one."""
    with pytest.raises(RefusedError) as refused:
        parse_timestamp(text)
    assert refused.value.reason == "Malformed"


@given(st.text(max_size=40))
def test_no_text_raises_anything_but_a_refusal(text: str) -> None:
    """Arbitrary text is either a time or refused."""
    with suppress(RefusedError):
        assert 0 <= parse_timestamp(text) < END_TIME_US
