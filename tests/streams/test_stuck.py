"""When a batch that cannot be read counts as unreadable."""

from __future__ import annotations

import pytest

from schemas.topics import InputTopic
from streams.kafka.batches import Unreadable
from streams.state.stuck import Suspects

BATCH = Unreadable(5, 9, "its checksum (CRC) is wrong", b"")
TOPIC: InputTopic = "purchases"


def looked_at(*seconds: float) -> Suspects:
    """A batch that could not be read at these times, each time through another connection."""
    suspects = Suspects()
    for now_s in seconds:
        suspects.note(TOPIC, [BATCH], object(), now_s)
    return suspects


@pytest.mark.parametrize(
    ("seconds", "is_settled"),
    [
        ((0.0,), False),
        ((0.0, 10.0, 20.0), False),
        ((0.0, 40.0, 80.0), False),
        ((0.0, 1.0, 2.0, 3.0), False),
        ((0.0, 10.0, 20.0, 29.9), False),
        ((0.0, 10.0, 20.0, 30.0), True),
        ((0.0, 40.0, 80.0, 120.0), True),
    ],
)
def test_three_more_fetches_by_new_connections_over_30_seconds_are_needed(
    seconds: tuple[float, ...], is_settled: bool
) -> None:
    """The oracle is docs/contract.md, section 3."""
    assert looked_at(*seconds).is_settled(TOPIC, BATCH, seconds[-1]) == is_settled


def test_fetches_through_one_connection_count_once() -> None:
    """What went wrong on the way may go wrong again in the same way."""
    suspects = looked_at(0.0)
    connection = object()
    for now_s in (10.0, 20.0, 30.0, 40.0):
        suspects.note(TOPIC, [BATCH], connection, now_s)
    assert not suspects.is_settled(TOPIC, BATCH, 40.0)
    assert "1 of 3 times" in suspects.progress(TOPIC, BATCH)


def test_batches_that_came_with_the_first_are_settled_with_it() -> None:
    """A topic with many of them is held up once for each answer, not once for each batch."""
    suspects, other = Suspects(), Unreadable(9, 12, "unknown codec 5", b"")
    for now_s in (0.0, 10.0, 20.0, 30.0):
        suspects.note(TOPIC, [BATCH, other], object(), now_s)
    suspects.note(TOPIC, [other], object(), 30.1)
    assert suspects.is_settled(TOPIC, other, 30.1)


def test_what_has_been_passed_is_forgotten() -> None:
    """Of each topic what lies before its offset."""
    suspects = looked_at(0.0)
    suspects.forget_before({"purchases": 5, "engagements": 100, "consents": 100})
    assert suspects
    suspects.forget_before({"purchases": 9, "engagements": 0, "consents": 0})
    assert not suspects
