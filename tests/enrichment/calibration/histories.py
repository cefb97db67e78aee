"""Snapshots for tests of calibration, made from orders as the product reads them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence

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


def snapshots(events: Iterable[Event], *days: int) -> list[Snapshot]:
    """Snapshots at the ends of these days, by the built-in model."""
    return list(take_snapshots(events, [FIRST_DAY + at for at in days], load_model()))
