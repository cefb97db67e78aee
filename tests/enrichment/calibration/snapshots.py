"""Snapshots for tests: of histories made of records in one line each, and of CDNOW's real one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from ebbtide.testing.records import day, order
from enrichment.calibration.snapshot import Snapshot, take_snapshots
from enrichment.model import Model, load_model
from schemas.events import Event

CDNOW = Path(__file__).parents[2] / "data" / "cdnow" / "CDNOW_sample.txt"
CDNOW_CUT, CDNOW_END = "1997-09-30", "1998-06-30"


def snapshots(events: Iterable[Event], *dates: str, model: Model | None = None) -> list[Snapshot]:
    """Snapshots at the ends of these dates, of events in any order."""
    ordered = sorted(events, key=lambda event: (event.occurred_at_us, event.customer_id, event.event_id))
    return list(take_snapshots(ordered, [day(date) for date in dates], model or load_model()))


class Sale(NamedTuple):
    """A line of the CDNOW sample; `customer` is its id within the sample."""

    customer: str
    date: str
    dollars: float


def cdnow_sales() -> Iterator[Sale]:
    """All lines of the CDNOW sample: 6,919 orders of 2,357 customers."""
    for line in CDNOW.read_text().splitlines():
        _, customer, date, _, dollars = line.split()
        yield Sale(customer, f"{date[:4]}-{date[4:6]}-{date[6:]}", float(dollars))


@cache
def cdnow() -> tuple[Snapshot, Snapshot]:
    """The CDNOW sample at the end of September 1997, and of June 1998."""
    events = [
        order(sale.date, f"{sale.dollars:.2f}", f"o{number}", customer_id=sale.customer)
        for number, sale in enumerate(cdnow_sales())
    ]
    cut, end = snapshots(events, CDNOW_CUT, CDNOW_END)
    return cut, end


def written(document: object) -> str:
    """A document as JSON; NaN and infinity are refused."""
    return json.dumps(document, allow_nan=False, sort_keys=True)
