"""Odd worlds: each gets its honest sentence, and an even one none."""

from __future__ import annotations

import numpy as np
import pytest

from enrichment.calibration.peculiarities import peculiarities
from enrichment.calibration.snapshot import Snapshot
from tests.enrichment.calibration.histories import orders, snapshots

Purchases = dict[str, list[tuple[int, float]]]

LAST_DAY = 729
"""Two years, but for a day."""


def even(customers: int = 240, seed: int = 1) -> Purchases:
    """Customers who come evenly over the first 400 days, and buy by chance until the end."""
    random = np.random.default_rng(seed)
    purchases: Purchases = {}
    for number in range(customers):
        days = (number * 400) // customers + np.concatenate(
            [[0.0], np.cumsum(random.exponential(40, size=30))]
        )
        purchases[f"c{number:03d}"] = [(int(day), 10.0) for day in days if day <= LAST_DAY]
    return purchases


def told(purchases: Purchases) -> list[str]:
    return peculiarities(at_end(purchases))[1]


def at_end(purchases: Purchases) -> Snapshot:
    (snapshot,) = snapshots(orders(purchases), LAST_DAY)
    return snapshot


def test_of_an_even_history_nothing_is_said() -> None:
    found, sentences = peculiarities(at_end(even()))
    assert sentences == []
    assert found["late_share"] == 0
    assert found["busiest_month"]["times"] < 1.5


def test_an_import_is_told_by_its_day() -> None:
    """Every third customer begins on one day."""
    purchases = even()
    for number, (customer_id, days) in enumerate(purchases.items()):
        if number % 3 == 0:
            purchases[customer_id] = [(60, 10.0), *(day for day in days if day[0] > 60)]
    (sentence,) = told(purchases)
    assert "33% of the customers have their first order on" in sentence
    assert "cannot be cut into fifths" in sentence


def test_subscribers_are_told() -> None:
    """Every 30 days, a day more or less."""
    random = np.random.default_rng(3)
    purchases: Purchases = {
        f"c{number:03d}": [
            (int(day + random.integers(-1, 2)), 12.0) for day in range(5 + number, LAST_DAY - 5, 30)
        ]
        for number in range(300)
    }
    (sentence,) = told(purchases)
    assert sentence.startswith("100% of the customers with 4 purchase days or more buy at regular gaps")


def test_growth_is_told() -> None:
    """Three customers of five in the last half year."""
    purchases = even(160) | {f"new{number}": [(600 + number % 100, 10.0)] for number in range(240)}
    (sentence,) = told(purchases)
    assert sentence.startswith("60% of the customers came in the last quarter of the history")


def test_a_season_is_told_by_its_month() -> None:
    """Everyone buys in the same three weeks of each year too; oracle: the month with most days of all purchases."""
    purchases = even()
    for number, days in enumerate(purchases.values()):
        days += [(day + number % 20, 10.0) for day in (345, 345 + 365) if day + number % 20 > days[0][0]]
        days.sort()
    snapshot = at_end(purchases)
    found, (sentence,) = peculiarities(snapshot)
    month = found["busiest_month"]
    assert month["times"] > 2
    assert sentence.startswith(f"{month['month']} has {month['times']:.1f} times as many purchase days")


@pytest.mark.parametrize("customers", [0, 1, 19])
def test_few_customers_are_no_world(customers: int) -> None:
    assert peculiarities(at_end({f"c{number}": [(5, 10.0)] for number in range(customers)})) == ({}, [])
