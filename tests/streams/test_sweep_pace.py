"""When a slice of a sweep may begin, by a clock that is turned by hand."""

from __future__ import annotations

import pytest

from streams.worker import sweep_pace
from streams.worker.sweep_pace import ASK_AGAIN_S, REST, SweepPace


class Hand:
    """Seconds of a clock."""

    now_s = 100.0


@pytest.fixture
def hand(monkeypatch: pytest.MonkeyPatch) -> Hand:
    made = Hand()
    monkeypatch.setattr(sweep_pace, "_now_s", lambda: made.now_s)
    return made


def sweep(pace: SweepPace, hand: Hand, seconds: float) -> None:
    """A slice that takes so long."""
    with pace.slice():
        hand.now_s += seconds


def test_slices_follow_each_other_while_no_records_are_under_way(hand: Hand) -> None:
    pace = SweepPace()
    assert pace.wait_s() == 0
    sweep(pace, hand, 2.0)
    assert pace.wait_s() == 0


def test_they_rest_in_proportion_while_records_are_under_way(hand: Hand) -> None:
    """Whichever partition swept, and whichever has records; also those that have come since."""
    pace = SweepPace()
    sweep(pace, hand, 2.0)
    with pace.records():
        assert pace.wait_s() == pytest.approx(REST * 2.0)
        with pace.records():
            hand.now_s += 0.5
        assert pace.wait_s() == pytest.approx(REST * 2.0 - 0.5)
        hand.now_s += REST * 2.0
        assert pace.wait_s() == 0
        sweep(pace, hand, 1.0)
        assert pace.wait_s() == pytest.approx(REST * 1.0)
    assert pace.wait_s() == 0


def test_one_slice_at_a_time(hand: Hand) -> None:
    """Also while no records are under way."""
    pace = SweepPace()
    with pace.slice():
        assert pace.wait_s() == ASK_AGAIN_S
    assert pace.wait_s() == 0


def test_a_slice_that_failed_is_over(hand: Hand) -> None:
    pace = SweepPace()
    with pytest.raises(ConnectionError), pace.slice():
        raise ConnectionError
    assert pace.wait_s() == 0


def test_records_that_failed_are_no_longer_under_way(hand: Hand) -> None:
    pace = SweepPace()
    sweep(pace, hand, 2.0)
    with pytest.raises(ConnectionError), pace.records():
        raise ConnectionError
    assert pace.wait_s() == 0
