"""Snapshots for tests of calibration, made from orders as the product reads them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from ebbtide.testing.records import day, order
from enrichment.calibration.snapshot import Snapshot, take_snapshots
from enrichment.model import load_model
from schemas.events import Event

FIRST_DATE = dt.date(2024, 1, 1)
"""Day 0 of the histories below."""
FIRST_DAY = day("2024-01-01")

Purchases = Mapping[str, Sequence[tuple[int, float]]]
"""Per customer, the days (0 is FIRST_DATE) and totals of their orders."""


def orders(purchases: Purchases) -> list[Event]:
    """One order for each, in the order of time."""
    dated = sorted((on, customer_id, total) for customer_id, days in purchases.items() for on, total in days)
    return [
        order(
            str(FIRST_DATE + dt.timedelta(days=on)),
            f"{total:.2f}",
            f"{customer_id}-{number}",
            customer_id=customer_id,
        )
        for number, (on, customer_id, total) in enumerate(dated)
    ]


def subscriptions(
    customers: int, leave: float, until: int, seed: int = 11
) -> dict[str, list[tuple[int, float]]]:
    """Subscribers who begin within 240 days, renew every 29 to 31, and may leave after each payment."""
    random = np.random.default_rng(seed)
    purchases = {}
    for number in range(customers):
        on, mine = int(random.integers(0, 240)), []
        while on <= until:
            mine.append((on, 20.0))
            if random.random() < leave:
                break
            on += 30 + int(random.integers(-1, 2))
        purchases[f"c{number:04d}"] = mine
    return purchases


def snapshots(events: Iterable[Event], *days: int) -> list[Snapshot]:
    """Snapshots at the ends of these days, by the built-in model."""
    return list(take_snapshots(events, [FIRST_DAY + at for at in days], load_model()))
