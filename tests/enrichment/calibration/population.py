"""Populations for tests of calibration: real records, decoded as in the product, and snapshots of them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ebbtide.testing.records import day, engagement, model, order
from enrichment.calibration.snapshot import Snapshot, take_snapshots
from enrichment.model import Model
from schemas.events import Event

Document = dict[str, Any]
CDNOW = Path(__file__).parents[2] / "data" / "cdnow" / "CDNOW_sample.txt"


def document(**overrides: Any) -> Document:
    """The built-in model, with other numbers, as a document."""
    return model(**overrides).model_dump(mode="json")


def snapshots(events: Iterable[Event], *dates: str, by: Model | None = None) -> list[Snapshot]:
    """Everyone at the ends of these dates, ascending."""
    ordered = sorted(events, key=lambda event: (event.occurred_at_us, event.customer_id, event.event_id))
    return list(take_snapshots(ordered, [day(date) for date in dates], by or model()))


def cdnow() -> list[Event]:
    """All orders of the CDNOW sample, at noon."""
    rows = [line.split() for line in CDNOW.read_text("utf-8").splitlines()]
    return [
        order(
            f"{date[:4]}-{date[4:6]}-{date[6:]}",
            total,
            f"{number}",
            customer_id=customer,
            channel="web",
        )
        for number, (_, customer, date, _, total) in enumerate(rows)
    ]


def shop(customers: int = 60, seed: int = 1) -> list[Event]:
    """A year of a shop: lasting differences in how often and how much people buy, and how much they engage."""
    rng = np.random.default_rng(seed)
    records: list[Event] = []
    for number in range(customers):
        customer = f"{number:04d}"
        orders, price = 1 + rng.poisson(rng.gamma(1.0, 4.0)), rng.lognormal(3.5, 0.6)
        for turn, when in enumerate(sorted(rng.integers(0, 365, orders))):
            total = f"{price * rng.lognormal(0.0, 0.3):.2f}"
            records.append(order(_date(when), total, f"{customer}/{turn}", customer_id=customer))
        for turn, when in enumerate(rng.integers(0, 365, rng.poisson(rng.gamma(0.5, 8.0)))):
            kind = ("opened", "clicked", "visited")[turn % 3]
            records.append(
                engagement(
                    kind, _date(when), event_id=f"{customer}/{turn}", customer_id=customer, channel="web"
                )
            )
    return records


def _date(day_of_2024: int) -> str:
    return str(np.datetime64("2024-01-01") + int(day_of_2024))
