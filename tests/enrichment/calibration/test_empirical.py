"""The empirical hazard, counted from histories of which the answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from enrichment.calibration.empirical import Gaps, fit_empirical_hazard
from enrichment.lifetime.empirical_hazard import EmpiricalHazard
from tests.enrichment.calibration.histories import orders, snapshots


def test_gaps_lie_between_purchase_days_and_the_last_is_open() -> None:
    """Two orders of one day are one purchase day. Oracle: by hand."""
    (snapshot,) = snapshots(
        orders({"a": [(0, 5.0), (0, 7.0), (10, 5.0), (14, 5.0)], "b": [(12, 5.0)], "c": [(40, 5.0)]}), 20
    )
    gaps = Gaps.of(snapshot)
    assert gaps.x.tolist() == [0, 1, 2, 0]
    assert gaps.t_x.tolist() == [0, 10, 14, 0]
    assert gaps.length.tolist() == [10, 4, 6, 8]
    assert gaps.bought.tolist() == [True, True, False, False]


def test_gaps_of_days_long_forgotten_keep_their_count() -> None:
    """A snapshot holds days of some 800 days; x and t_x still count from the first of all. Oracle: by hand."""
    days = [(0, 5.0), (30, 5.0), (1000, 5.0), (1900, 5.0)]
    (snapshot,) = snapshots(orders({"a": days}), 1950)
    gaps = Gaps.of(snapshot)
    assert gaps.x.tolist()[-1] == 3
    assert gaps.t_x.tolist()[-1] == 1900
    assert gaps.length.tolist()[-1] == 50


def test_hazards_of_a_known_process_are_found_again() -> None:
    """400 customers who buy every day with chance 0.05 while silent for at most 14 days, then 0.01; over two years.

    Oracle: those chances, within 10%.
    """
    random = np.random.default_rng(3)
    purchases = {}
    for customer in range(400):
        days, last = [0], 0
        for on, draw in enumerate(random.random(730), start=1):
            if draw < (0.05 if on - last <= 14 else 0.01):
                days.append(on)
                last = on
        purchases[f"c{customer}"] = [(on, 10.0) for on in days]
    (snapshot,) = snapshots(orders(purchases), 730)
    fitted = fit_empirical_hazard(snapshot, 1.0)
    assert isinstance(fitted, EmpiricalHazard)
    early, late = np.array(fitted.silences) < 14, np.array(fitted.silences) >= 14
    hazards, middle = np.array(fitted.hazards), len(fitted.paces) // 2
    assert hazards[middle, early].mean() == pytest.approx(0.05, rel=0.1)
    assert hazards[middle, late][:3].mean() == pytest.approx(0.01, rel=0.1)


def test_a_fit_in_weeks_is_the_fit_in_days() -> None:
    """Oracle: the same snapshot's fit in days."""
    random = np.random.default_rng(4)
    purchases = {
        f"c{customer}": [(int(on), 10.0) for on in random.choice(100, size=1 + customer % 9, replace=False)]
        for customer in range(120)
    }
    (snapshot,) = snapshots(orders(purchases), 120)
    days, weeks = fit_empirical_hazard(snapshot, 1.0), fit_empirical_hazard(snapshot, 7.0)
    assert isinstance(days, EmpiricalHazard)
    assert isinstance(weeks, EmpiricalHazard)
    predicted = days.expected_purchases(91.0, 3.0, 40.0, 75.0)
    assert weeks.expected_purchases(13.0, 3.0, 40 / 7, 75 / 7) == pytest.approx(predicted, rel=1e-9)


def test_rare_purchases_leave_no_hazard_of_zero() -> None:
    """One repeat purchase among thirty customers: every hazard is above zero, and falls with silence."""
    purchases = {f"c{customer}": [(customer, 10.0)] for customer in range(30)}
    purchases["c7"].append((20, 10.0))
    (snapshot,) = snapshots(orders(purchases), 600)
    fitted = fit_empirical_hazard(snapshot, 7.0)  # whose constructor refuses zeros and rising rows
    assert isinstance(fitted, EmpiricalHazard)
    assert 0 < fitted.expected_purchases(52.0, 0.0, 0.0, 80.0) < fitted.expected_purchases(52.0, 0, 0, 0) < 5


@pytest.mark.parametrize("purchases", [{}, {"a": [(0, 5.0)], "b": [(3, 5.0)]}])
def test_without_a_second_purchase_day_there_is_nothing_to_count(
    purchases: dict[str, list[tuple[int, float]]],
) -> None:
    """The reason is given instead of a model."""
    (snapshot,) = snapshots(orders(purchases), 30)
    assert fit_empirical_hazard(snapshot, 7.0) == "no customer has bought on a second day"
