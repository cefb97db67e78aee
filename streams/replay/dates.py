"""Dates of tables that are no ISO 8601: which number is the day is told by the whole column."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Final

_NUMBERS: Final = re.compile(
    r"\s*(\d{1,4})([./-])(\d{1,2})\2(\d{1,4})"
    r"(?:[ T]+(\d{1,2}):(\d{2})(?::(\d{2})(?:\.\d+)?)?\s*([AaPp][Mm])?)?\s*"
)
_MONTHS: Final = 12
_FIRST_YEAR: Final = 1000


def other_dates(values: Iterable[object]) -> Callable[[str], datetime | None] | None:
    """How to read texts such as `31/12/2024 8:26` of one column; None where it contradicts itself.

    A year comes first or last, in four digits. With dots between them, days come first. Otherwise one number above 12
    anywhere in the column tells; where none does, such texts are not read. What is read has no offset.
    """
    day_first, month_first = False, False
    for value in values:
        found = _NUMBERS.fullmatch(value) if isinstance(value, str) else None
        if found is None or int(found[1]) >= _FIRST_YEAR:
            continue
        day_first |= found[2] == "." or int(found[1]) > _MONTHS
        month_first |= found[2] != "." and int(found[3]) > _MONTHS
    if day_first and month_first:
        return None
    return lambda text: _read(text, day_first, month_first)


def _read(text: str, day_first: bool, month_first: bool) -> datetime | None:
    found = _NUMBERS.fullmatch(text)
    if found is None:
        return None
    first, second, third = int(found[1]), int(found[3]), int(found[4])
    hour, minute, seconds = int(found[5] or 0), int(found[6] or 0), int(found[7] or 0)
    if found[8]:
        hour = hour % 12 + (12 if found[8].lower() == "pm" else 0)
    if first >= _FIRST_YEAR:
        year, month, day = first, second, third
    elif day_first or month_first:
        year, month, day = (third, second, first) if day_first else (third, first, second)
    else:
        return None
    try:
        return datetime(year, month, day, hour, minute, seconds)
    except ValueError:
        return None
