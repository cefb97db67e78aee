"""Ids and texts of time: short ways to write them, against the standard library's long ones."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, date, datetime, timedelta

from hypothesis import example, given
from hypothesis import strategies as st

from enrichment.days import format_day, format_time
from enrichment.identity import identifier

PARTS = st.lists(st.text() | st.integers(), max_size=6)
YEAR_9999_ENDS_US = 253_402_300_800_000_000


@given(PARTS)
@example(['"', "\\", "\x00\x1f\x7f", "é", "🦊", "\u2028", "", -1])
def test_an_identifier_is_the_hash_of_its_parts_as_json(parts: list[str | int]) -> None:
    """The oracle is `json.dumps`: another encoding would give everything that was ever published a new id."""
    expected = hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()
    assert identifier(*parts) == expected


@given(st.integers(-62_135_596_800_000_000, YEAR_9999_ENDS_US - 1))
@example(0)
@example(100_000)
@example(-1)
@example(1_735_689_600_000_000)
@example(1_735_689_610_120_000)
def test_times_are_written_in_utc_without_needless_zeros(time_us: int) -> None:
    """The oracle is `datetime` with a time zone."""
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time_us)
    whole, fraction = at.strftime("%H:%M:%S"), f"{at.microsecond:06d}".rstrip("0")
    assert format_time(time_us) == f"{at.date()}T{whole}{'.' if fraction else ''}{fraction}Z"


@given(st.integers(-719_162, 2_932_896))
def test_days_are_iso_dates(day: int) -> None:
    """The oracle is `date`'s own count of days."""
    assert format_day(day) == date.fromordinal(date(1970, 1, 1).toordinal() + day).isoformat()
