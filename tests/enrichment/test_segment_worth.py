"""What customers of each segment are worth, and by how much segments differ."""

from __future__ import annotations

import pandas as pd
import pytest

from ebbtide.testing.local_stream import LocalStream
from ebbtide.testing.records import consent, day, engagement, model, order
from enrichment.days import midnight_us
from enrichment.insight.segment_worth import expected_worth, later_worth, with_differences
from enrichment.model import Calibration, SegmentWorth

TODAY = "2024-12-31"


def town() -> LocalStream:
    """Twenty customers from rare to regular, one who denies profiling, and a prospect."""
    partition = LocalStream(model())
    events = [
        order(f"2024-{month:02d}-{1 + number:02d}", f"{3 * number + 2}.00", customer_id=f"c{number:02d}")
        for number in range(20)
        for month in range(12 - number // 2, 13)
    ]
    events.append(engagement("visited", "2024-06-01", customer_id="prospect"))
    events.append(consent("2024-12-30", "profiling", False, customer_id="c19"))
    for event in sorted(events, key=lambda event: (event.occurred_at_us, event.customer_id)):
        partition.take(event)
    partition.pass_midnight(TODAY)
    return partition


def test_expected_worth_is_the_mean_lifetime_value_of_a_segment() -> None:
    """Oracle: pandas over the profiles; without those who deny profiling and those without an order."""
    partition = town()
    profiles = [partition.profile(name) for name in sorted(partition.customers)]
    table = pd.DataFrame(
        {
            "segment": [profile["standing"]["segment"] for profile in profiles],
            "worth": [profile["traits"]["customer_lifetime_value_365d"] for profile in profiles],
        }
    )
    means = table.dropna().astype({"worth": float}).groupby("segment")["worth"].agg(["size", "mean"])
    found = expected_worth(list(partition.customers.values()), midnight_us(day(TODAY)), partition.model)
    assert len(means) >= 3
    assert {name: part["customers"] for name, part in found["segments"].items()} == means["size"].to_dict()
    for name, part in found["segments"].items():
        # Profiles give cents.
        assert part["mean"] == pytest.approx(means["mean"][name], abs=0.005)


def test_nobody_to_ask_is_no_worth_at_all() -> None:
    """Neither a figure nor NaN."""
    assert expected_worth([], 0, model())["segments"] == {}


def test_later_worth_is_what_the_calibration_kept() -> None:
    """And None where it kept nothing, as in the built-in model."""
    assert later_worth(model()) is None
    assert later_worth(model(calibration={"until": "2024-12-31", "customers": 3})) is None
    parts = {
        name: SegmentWorth(days=92, customers=10, revenue_per_customer=3 * mean, margin_per_customer=mean)
        for name, mean in (("low", 2.5), ("high", 40.0))
    }
    calibrated = model(calibration=Calibration(until="2024-12-31", customers=20, segments=parts).model_dump())
    assert later_worth(calibrated) == {
        "basis": "later_margin",
        "days": 92,
        "segments": {"high": {"customers": 10, "mean": 40.0}, "low": {"customers": 10, "mean": 2.5}},
    }


def test_differences_are_those_to_better_segments_with_a_figure() -> None:
    """From the top; none for the best segment, and none where one side has no figure."""
    worth = {
        "segments": {name: {"customers": 1, "mean": mean} for name, mean in (("high", 9.0), ("low", 2.5))}
    }
    assert with_differences(worth, "low")["differences"] == {"high": 6.5}
    assert with_differences(worth, "high")["differences"] == {}
    assert with_differences(worth, "prospect")["differences"] == {}
