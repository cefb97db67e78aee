"""The seeded workload of all benchmarks: two months of a shop's records, in the order in which they arrive.

Popularity is Zipf-like: the customer of rank r has a share of 1 / (r + customers / 100), so that of 100,000 customers
the busiest has 0.02% of all records, not the 8% of a plain Zipf law. 30% of the records are purchases with their items,
65% engagement, 5% consents; 1% are dated some days before they arrive, within every horizon; 2% come a second time.
There are no erasures: other stream processors would have to be taught what Ebbtide remembers of the erased.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from ebbtide.testing.services.worker import Record, partition_of
from enrichment.days import DAY_US, midnight_us
from schemas.topics import InputTopic

DAYS = 60
SHARES: tuple[tuple[InputTopic, float], ...] = (
    ("purchases", 0.30),
    ("engagements", 0.65),
    ("consents", 0.05),
)
LATE_SHARE, DUPLICATE_SHARE = 0.01, 0.02
MOST_LATE_DAYS = 7
LONGEST_REPEAT_SHARE = 0.02
"""How much of the log lies between a record and its duplicate at most: little more than a day, never too late."""
PURCHASE_KINDS = {"order": 0.95, "refund": 0.03, "cancellation": 0.02}
ENGAGEMENTS = {
    ("delivered", "email"): 0.28,
    ("delivered", "push"): 0.10,
    ("opened", "email"): 0.20,
    ("opened", "push"): 0.05,
    ("clicked", "email"): 0.09,
    ("visited", "web"): 0.14,
    ("viewed", "web"): 0.10,
    ("cart_updated", "web"): 0.04,
}
PURPOSES = {"email": 0.5, "push": 0.3, "profiling": 0.2}
CATEGORIES = ("shoes", "shirts", "dresses", "outdoor", "kitchen", "books", "toys", "garden")
REGIONS = ("north", "south", "east", "west")
_MIX = np.uint64(0x9E3779B97F4A7C15)
Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Shape:
    """What a workload is made from. It ends before the midnight of `end_day` (days since 1970).

    Two workloads of different names share no customer. `is_uniform` makes every customer equally busy.
    """

    events: int
    customers: int
    seed: int
    end_day: int
    partitions: int = 8
    name: str = "c"
    is_uniform: bool = False
    days: int = DAYS


class _Draws:
    """All random choices of a workload, drawn at once."""

    def __init__(self, shape: Shape, count: int) -> None:
        random = np.random.default_rng(shape.seed)
        self.random = random
        self.customer = _customers(random, shape, count)
        self.topic = random.choice(len(SHARES), count, p=[share for _, share in SHARES])
        self.purchase = _choices(random, PURCHASE_KINDS, count)
        self.engagement = _choices(random, ENGAGEMENTS, count)
        self.purpose = _choices(random, PURPOSES, count)
        self.cents = np.maximum(np.round(random.lognormal(3.6, 0.9, count) * 100), 100).astype(np.int64)
        self.items = random.integers(1, 4, count)
        self.category = random.integers(0, len(CATEGORIES), count)
        self.campaign = random.integers(1, 25, count)
        self.has_attributes = random.random(count) < 0.1
        self.is_granted = random.random(count) < 0.85
        self.occurred_us = _times_us(random, shape, count)


def make_workload(shape: Shape) -> list[Record]:
    """As many records as asked for, in the order in which they arrive; the same for the same shape."""
    repeats = int(shape.events * DUPLICATE_SHARE)
    draws = _Draws(shape, shape.events - repeats)
    first = list(_records(shape, draws))
    return _with_repeats(first, repeats, draws.random)


def spread(records: Iterable[Record]) -> dict[tuple[InputTopic, int], list[Record]]:
    """The records of each partition of each topic, in their order."""
    places: dict[tuple[InputTopic, int], list[Record]] = {}
    for record in records:
        places.setdefault((record.topic, record.partition), []).append(record)
    return places


def customer_name(name: str, number: int) -> str:
    """An id that looks like a real one, of 20 characters with a name of one."""
    return f"{name}us_{_mixed(number):016x}"


def _records(shape: Shape, draws: _Draws) -> Iterator[Record]:
    names = {number: customer_name(shape.name, number) for number in np.unique(draws.customer).tolist()}
    keys = {number: name.encode() for number, name in names.items()}
    places = {number: partition_of(key, shape.partitions) for number, key in keys.items()}
    last_orders: dict[int, str] = {}
    # Plain lists are several times as fast to index as arrays are.
    customers, topics = draws.customer.tolist(), draws.topic.tolist()
    times_us = draws.occurred_us.tolist()
    for at, (customer, chosen) in enumerate(zip(customers, topics, strict=True)):
        topic = SHARES[chosen][0]
        document: dict[str, Any] = {
            "event_id": f"evt_{_mixed(shape.seed << 32 | at):016x}",
            "customer_id": names[customer],
            "occurred_at": _written(times_us[at]),
        }
        if topic == "purchases":
            document |= _purchase(draws, at, customer, last_orders)
        elif topic == "engagements":
            document |= _engagement(draws, at)
        else:
            document |= _consent(draws, at)
        yield Record(topic, keys[customer], orjson.dumps(document), places[customer])


def _purchase(draws: _Draws, at: int, customer: int, last_orders: dict[int, str]) -> dict[str, Any]:
    kind, cents = list(PURCHASE_KINDS)[draws.purchase[at]], int(draws.cents[at])
    known = last_orders.get(customer)
    if kind != "order" and known is not None:
        return {
            "kind": kind,
            "order_id": known,
            "currency": "USD",
            "total": _money(cents // 10) if kind == "refund" else "0.00",
        }
    order_id = last_orders[customer] = f"ord_{at:010d}"
    count = int(draws.items[at])
    category = int(draws.category[at])
    document: dict[str, Any] = {
        "kind": "order",
        "order_id": order_id,
        "currency": "USD",
        "total": _money(cents),
        "channel": "web" if at % 3 else "store",
        "items": [
            {
                "sku": f"sku-{category * 100 + number:04d}",
                "category": CATEGORIES[(category + number) % len(CATEGORIES)],
                "quantity": 1,
                "unit_price": _money(cents // count),
            }
            for number in range(count)
        ],
    }
    if draws.has_attributes[at]:
        document["attributes"] = {"region": REGIONS[at % len(REGIONS)], "customer_type": "private"}
    return document


def _engagement(draws: _Draws, at: int) -> dict[str, Any]:
    kind, channel = list(ENGAGEMENTS)[draws.engagement[at]]
    document = {"kind": kind, "channel": channel}
    if channel != "web":
        document["campaign_id"] = f"cmp_2025_{int(draws.campaign[at]):03d}"
    return document


def _consent(draws: _Draws, at: int) -> dict[str, Any]:
    purpose = list(PURPOSES)[draws.purpose[at]]
    return {"kind": "consent", "purpose": purpose, "granted": bool(draws.is_granted[at])}


def _with_repeats(records: list[Record], repeats: int, random: np.random.Generator) -> list[Record]:
    """The records with some of them a second time."""
    if repeats == 0:
        return records
    which = np.sort(random.choice(len(records), repeats, replace=False))
    longest = int(len(records) * LONGEST_REPEAT_SHARE) + 2
    after = which + random.integers(1, longest, repeats)
    order = np.argsort(np.concatenate([np.arange(len(records)), after]), kind="stable")
    everything = [*records, *(records[at] for at in which.tolist())]
    return [everything[at] for at in order.tolist()]


def _customers(random: np.random.Generator, shape: Shape, count: int) -> Numbers:
    if shape.is_uniform:
        return random.integers(0, shape.customers, count)
    weights = 1.0 / (np.arange(1, shape.customers + 1) + shape.customers / 100)
    cumulated = np.cumsum(weights)
    drawn: Numbers = np.searchsorted(cumulated, random.random(count) * cumulated[-1])
    return drawn


def _times_us(random: np.random.Generator, shape: Shape, count: int) -> Numbers:
    """Rising times that end before the last day does, and a few of them shifted to the past."""
    begin_us = midnight_us(shape.end_day - shape.days)
    times_us = begin_us + np.sort(random.integers(0, shape.days * DAY_US, count))
    is_late = random.random(count) < LATE_SHARE
    late_us = random.integers(DAY_US, MOST_LATE_DAYS * DAY_US, count)
    shifted: Numbers = np.where(is_late, times_us - late_us, times_us)
    return shifted


def _choices(random: np.random.Generator, shares: dict[Any, float], count: int) -> Numbers:
    drawn: Numbers = random.choice(len(shares), count, p=list(shares.values()))
    return drawn


def _mixed(number: int) -> int:
    """A number that looks random, another for every number."""
    value = (number + 1) * int(_MIX) & 0xFFFFFFFFFFFFFFFF
    return value ^ value >> 29


def _written(time_us: int) -> str:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time_us)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _money(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02d}"
