"""Growth: revenue per day of the last 90 days against that of the year, or of the time since the first order."""

from __future__ import annotations

import numpy as np
import pytest

from ebbtide.testing.records import model, order
from enrichment.model import METRICS
from enrichment.scoring.scores import score
from tests.enrichment.calibration.snapshots import snapshots


def growth(*orders: tuple[str, str], on: str) -> float:
    """Of a customer with orders of these dates and totals, at the end of a day."""
    (snapshot,) = snapshots([order(date, total) for date, total in orders], on)
    scored = score(snapshot.features(model()), model())
    return float(scored.metrics[0, METRICS.index("growth")])


@pytest.mark.parametrize(
    ("orders", "on", "expected"),
    [
        # 100 days with the first and the last: 90 of them are counted, with all but the first order.
        pytest.param([("2024-01-01", "100"), ("2024-02-01", "100")], "2024-04-09", (100 / 90) / (200 / 100)),
        pytest.param([("2023-01-01", "100"), ("2024-03-01", "300")], "2024-04-09", (300 / 90) / (300 / 365)),
        pytest.param(
            [("2024-01-01", "100"), ("2024-02-01", "100")], "2024-03-30", np.nan, id="below 90 days"
        ),
        pytest.param(
            [("2024-01-01", "100"), ("2024-02-01", "100")],
            "2024-03-31",
            (100 / 90) / (200 / 91),
            id="90 days",
        ),
    ],
)
def test_growth_is_recent_revenue_per_day_against_the_years(
    orders: list[tuple[str, str]], on: str, expected: float
) -> None:
    """Oracle: docs/scores.md, by hand; the day of the first order counts as one of the days."""
    assert growth(*orders, on=on) == pytest.approx(expected, abs=5e-7, nan_ok=True)
