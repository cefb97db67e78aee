"""Offsets that were skipped, as `ebbtide-decisions` tells a restore of them."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from streams.checkpoint import Skipped
from streams.kafka.size_limits import StoppedError
from streams.state.changelog import DecisionTable, skip_records
from streams.worker.restoring.restore import kept_ranges


def ranges(*pairs: tuple[int, int]) -> list[Skipped]:
    return [Skipped("purchases", first, next_offset) for first, next_offset in pairs]


@pytest.mark.parametrize(
    ("skipped", "expected"),
    [
        ([], [(0, 20)]),
        ([(5, 9)], [(0, 5), (9, 20)]),
        ([(0, 3), (18, 20)], [(3, 18)]),
        ([(9, 12), (5, 9)], [(0, 5), (12, 20)]),
        ([(5, 9), (7, 8)], [(0, 5), (9, 20)]),
        ([(25, 30)], [(0, 20)]),
        ([(0, 20)], []),
    ],
)
def test_what_was_not_skipped_is_read(
    skipped: Iterable[tuple[int, int]], expected: list[tuple[int, int]]
) -> None:
    """The oracle is a set of offsets."""
    found = list(kept_ranges(0, 20, ranges(*skipped)))
    left = set(range(20)) - {offset for pair in skipped for offset in range(*pair)}
    assert {offset for pair in found for offset in range(*pair)} == left
    assert found == expected


def test_records_of_skipped_ranges_come_back_and_are_no_decisions() -> None:
    """Their keys can be no customer's; those of another group stop the reader like its decisions."""
    skipped = ranges((5, 9), (12, 13))
    table = DecisionTable("group")
    for record in skip_records(skipped, "group"):
        assert record.key is not None
        with pytest.raises(UnicodeDecodeError):
            record.key.decode()
        table.put(record.key, record.value, record.headers)
    assert (table.skipped, table.decisions, table.erased) == (skipped, {}, {})
    (record,) = skip_records(skipped[:1], "another")
    assert record.key is not None
    with pytest.raises(StoppedError, match="another"):
        table.put(record.key, record.value, record.headers)
