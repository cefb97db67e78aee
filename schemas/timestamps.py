"""Points in time as they are written in input records: RFC 3339 with an offset."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from schemas.rejection import OUT_OF_RANGE, RefusedError

MIN_TIME_US: Final = 0
"""1970-01-01T00:00:00Z."""
END_TIME_US: Final = 253_402_300_800_000_000
"""10000-01-01T00:00:00Z, the first instant that is out of range."""
TIME_PATTERN: Final = (
    r"^[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])"
    r"[Tt ](?:[01][0-9]|2[0-3]):[0-5][0-9]:(?:[0-5][0-9]|60)(?:\.[0-9]+)?"
    r"(?:[Zz]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])$"
)
"""What `parse_timestamp` takes, as a pattern for JSON Schema; the calendar and the range are not in it."""

_RFC_3339: Final = re.compile(TIME_PATTERN)
# No year of RFC 3339, but a year, and one outside the range.
_OTHER_YEAR: Final = re.compile(r"[+-]?[0-9]{5,}|-[0-9]{4}")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_S: Final = 86_400
_SECOND_US: Final = 1_000_000
_MINUTE_US: Final = {
    f"T{minute // 60:02}:{minute % 60:02}": minute * 60 * _SECOND_US for minute in range(24 * 60)
}
_FRACTION_UNIT_US: Final = (0, 100_000, 10_000, 1_000, 100, 10, 1)
_SECOND_OF_MINUTE_US: Final = {f":{second:02}": second * _SECOND_US for second in range(60)}


def parse_timestamp(text: str) -> int:
    """Microseconds since the epoch, UTC, of an RFC 3339 time such as `2025-01-09T12:00:00.5+01:00`.

    `T`, `t` or a space between date and time; `Z`, `z` or an offset; any number of fraction digits, of which
    those beyond microseconds are cut off. A leap second (23:59:60 UTC) is the last microsecond before it.

    Raises:
        RefusedError: `Malformed` for any other text, a time without offset and a date alone among them;
            `OutOfRange` where the UTC year is not 1970-9999 or the year has not four digits.
    """
    minute_us, second_us = _MINUTE_US.get(text[10:16]), _SECOND_OF_MINUTE_US.get(text[16:19])
    fraction_us = _fraction_us(text[19:])
    if minute_us is None or second_us is None or fraction_us is None:
        return _parse(text)  # an offset, a leap second, or no time at all
    return _midnight_us(text[:10]) + minute_us + second_us + fraction_us


@lru_cache(maxsize=4_096)
def _midnight_us(date: str) -> int:
    """Records of a log are of few days. What is wrong with a date is wrong at any time of that day."""
    return _parse(f"{date}T00:00:00Z")


def _fraction_us(text: str) -> int | None:
    """Of a second, written as `Z` or `.25Z`; None for any other text."""
    if text == "Z":
        return 0
    digits = text[1:-1]
    if text[:1] == "." and text[-1] == "Z" and len(digits) <= 6 and digits.isdigit() and digits.isascii():
        return int(digits) * _FRACTION_UNIT_US[len(digits)]
    return None


def _parse(text: str) -> int:
    if _RFC_3339.fullmatch(text) is None:
        raise _refusal(text)
    is_leap_second = text[17:19] == "60"
    if is_leap_second:
        text = f"{text[:17]}59{text[19:]}"
    try:
        since_epoch = datetime.fromisoformat(text.upper()) - _EPOCH
    except ValueError:
        raise _out_of_range() if text.startswith("0000") else RefusedError("no such day") from None
    time_us = (since_epoch.days * _DAY_S + since_epoch.seconds) * _SECOND_US + since_epoch.microseconds
    if is_leap_second:
        time_us = _end_of_second_us(time_us)
    if not MIN_TIME_US <= time_us < END_TIME_US:
        raise _out_of_range()
    return time_us


def _end_of_second_us(time_us: int) -> int:
    second = time_us // _SECOND_US
    if second % _DAY_S != _DAY_S - 1:
        raise RefusedError("a leap second is at 23:59:60 UTC")
    return second * _SECOND_US + _SECOND_US - 1


def _refusal(text: str) -> RefusedError:
    year = _OTHER_YEAR.match(text)
    if year is not None and _RFC_3339.fullmatch("2000" + text[year.end() :]) is not None:
        return _out_of_range()
    return RefusedError('a time is RFC 3339 with an offset, such as "2025-01-09T12:00:00Z"')


def _out_of_range() -> RefusedError:
    return RefusedError("the year is outside 1970-9999 (UTC)", reason=OUT_OF_RANGE)
