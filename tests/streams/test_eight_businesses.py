"""The built-in model on businesses that it was not made for: it must tell their customers apart all the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
import pytest

import ebbtide

DAYS = 730
CUSTOMERS = 400
Draw = Callable[[np.random.Generator], float]


class Business(NamedTuple):
    """Days between purchases, what one comes to, and the chance that it is the customer's last."""

    gap_days: Draw
    amount: Draw
    last: float


BUSINESSES: Mapping[str, Business] = {
    "daily groceries": Business(
        lambda rng: rng.exponential(rng.choice([2, 4, 8])), lambda rng: rng.lognormal(3.0, 0.5), 0.01
    ),
    "weekly": Business(lambda rng: rng.gamma(4, 7 / 4), lambda rng: rng.lognormal(3.5, 0.5), 0.02),
    "monthly": Business(lambda rng: rng.exponential(30), lambda rng: rng.lognormal(3.8, 0.6), 0.08),
    "twice a year": Business(lambda rng: rng.exponential(180), lambda rng: rng.lognormal(4.5, 0.6), 0.25),
    "B2B": Business(lambda rng: rng.exponential(45), lambda rng: rng.lognormal(7.5, 1.2), 0.05),
    "subscription": Business(lambda rng: 30.0 + float(rng.integers(-1, 2)), lambda rng: 12.0, 0.05),
}


def purchases_of(business: Business, rng: np.random.Generator, first: float) -> list[tuple[float, float]]:
    """One customer's days and amounts, from their first day on."""
    day, made = first, []
    while day < DAYS:
        made.append((day, business.amount(rng)))
        if rng.random() < business.last:
            break
        day += max(business.gap_days(rng), 0.5)
    return made


def seasonal(rng: np.random.Generator, first: float) -> list[tuple[float, float]]:
    """Before Christmas three customers of five buy, and at any other time one in seven."""
    made = [(first, rng.lognormal(4, 0.5))]
    for year in range(DAYS // 365):
        for chance, begin, length in ((0.6, 320, 35), (0.15, 0, 365)):
            day = 365 * year + begin + float(rng.integers(0, length))
            if rng.random() < chance and day >= first:
                made.append((day, rng.lognormal(4, 0.5)))
    return made


def orders(name: str) -> list[dict[str, Any]]:
    """The orders of a business whose customers come evenly over two years."""
    rng, rows = np.random.default_rng(len(name)), []
    for customer in range(CUSTOMERS):
        first = float(rng.integers(0, DAYS - 5))
        made = seasonal(rng, first) if name == "seasonal" else purchases_of(BUSINESSES[name], rng, first)
        for number, (day, amount) in enumerate(made):
            when = datetime(2023, 1, 1) + timedelta(days=day)
            rows.append(
                {
                    "customer_id": f"c{customer}",
                    "order_id": f"o{customer}-{number}",
                    "date": when.isoformat(),
                    "amount": f"{amount:.2f}",
                }
            )
    return rows


@pytest.mark.parametrize("name", [*BUSINESSES, "seasonal"])
def test_no_class_of_the_built_in_model_holds_four_customers_of_five(name: str) -> None:
    """In none of the three dimensions, whatever the rhythm of the business and the size of its orders."""
    analysis = ebbtide.analyze(orders(name), history=False, until="2025-01-01")
    assert len(analysis.profiles) == CUSTOMERS
    for dimension in ("segment", "tier", "lifecycle"):
        largest = analysis.profiles[dimension].value_counts(normalize=True).iloc[0]
        assert largest < 0.8, dimension
