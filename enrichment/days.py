"""Time as integers: microseconds and days since the epoch.

A day is a UTC day; a midnight is its first instant.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta

DAY_US = 86_400_000_000
HOUR_US = 3_600_000_000
YEAR_DAYS = 365
FOREVER_DAY = 10_000_000
"""A day after every day that a record may carry (year 9999 ends at day 2,932,896)."""

_EPOCH_DAY = date(1970, 1, 1)
_EPOCH = datetime(1970, 1, 1)  # UTC, as all times here; an aware one takes three times as long to write


def day_of(time_us: int) -> int:
    """The UTC day, counted from 1970-01-01, that holds this time."""
    return time_us // DAY_US


def midnight_us(day: int) -> int:
    """The first instant of a day, in microseconds since the epoch."""
    return day * DAY_US


def format_day(day: int) -> str:
    """ISO 8601 date, such as `2025-01-09`."""
    return (_EPOCH_DAY + timedelta(day)).isoformat()


def format_time(time_us: int) -> str:
    """RFC 3339 with `Z`; a fraction is written only as far as it is not zero, as the schemas say."""
    text = (_EPOCH + timedelta(microseconds=time_us)).isoformat()
    return (text.rstrip("0") if "." in text else text) + "Z"
