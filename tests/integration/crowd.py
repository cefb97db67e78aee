"""A large log that is cheap to process: a crowd of customers with a short history over a few days, in order of time."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from schemas.topics import InputTopic
from tests.integration.harness import Record, partition_of

START = datetime(2025, 3, 3, tzinfo=UTC)
ENGAGEMENTS = ("opened", "clicked", "visited", "viewed", "cart_updated", "delivered")
CHANNELS = ("email", "web", "sms", "app")


def make_crowd(seed: int, events: int, customers: int, days: int, partitions: int) -> Iterator[Record]:
    """As many events as asked for, evenly over the days; the same for the same seed."""
    rng = random.Random(f"crowd/{seed}")
    names = [f"customer-{number:06d}" for number in range(customers)]
    places = [partition_of(name.encode(), partitions) for name in names]
    interval = timedelta(days=days) / events
    for number in range(events):
        at = rng.randrange(customers)
        moment = (START + number * interval).isoformat(timespec="microseconds").replace("+00:00", "Z")
        topic, rest = _body(rng, number)
        head = f'{{"event_id":"{number}","customer_id":"{names[at]}","occurred_at":"{moment}",'
        yield Record(topic, names[at].encode(), (head + rest).encode(), places[at])


def _body(rng: random.Random, number: int) -> tuple[InputTopic, str]:
    kind = rng.random()
    if kind < 0.35:
        total = f"{rng.lognormvariate(3.5, 1.0):.2f}"
        return "purchases", f'"kind":"order","order_id":"o{number}","currency":"USD","total":"{total}"}}'
    if kind < 0.95:
        chosen, channel = rng.choice(ENGAGEMENTS), rng.choice(CHANNELS)
        return "engagements", f'"kind":"{chosen}","channel":"{channel}"}}'
    granted = "true" if kind < 0.99 else "false"
    purpose = "profiling" if kind > 0.995 else rng.choice(CHANNELS)
    return "consents", f'"kind":"consent","purpose":"{purpose}","granted":{granted}}}'
