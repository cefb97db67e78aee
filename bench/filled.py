"""Redis filled with very many customers who are made from a few templates, as a restore writes them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

from bench.workload import customer_name
from ebbtide.testing.local_stream import LocalStream
from ebbtide.testing.records import consent, engagement, order
from ebbtide.testing.services.worker import partition_of
from enrichment.customer.customer import Customer
from enrichment.days import day_of
from enrichment.model import Model
from schemas.topics import INPUT_TOPICS
from streams.checkpoint import Checkpoint
from streams.micro_batch import StoredState
from streams.settings import Settings
from streams.state.keys import PartitionKeys
from streams.state.store import StateStore, stored_state
from streams.worker.clients import RealClients
from streams.worker.clock_check import wall_clock_us
from streams.worker.publisher import Publisher, make_publisher

DUE_TEMPLATES, YEARLY_TEMPLATES = 60, 20
CHUNK = 2_000
ORDERS_A_YEAR, ENGAGEMENTS_A_YEAR, CONSENTS_A_YEAR = 9, 19, 2
"""Thirty events a year, in the shares of the workload."""


def due_customers(model: Model) -> Iterator[StoredState]:
    """In all ages since the last order, from some days to a year ago; all due today, and a few of them move then."""
    today = day_of(wall_clock_us())
    for number in range(DUE_TEMPLATES):
        ages = [(1 + number) * 6 + gap for gap in (0, 31, 75, 140)]
        partition = LocalStream(model)
        for age in sorted(ages, reverse=True):
            when = (datetime.now(UTC) - timedelta(days=age)).isoformat()
            partition.pass_midnight(today - age)
            partition.take(
                order(when, f"{20 + number}.00", f"o{age}", channel="web"),
                engagement("clicked", when, channel="email"),
            )
        partition.pass_midnight(today - 1)
        customer = partition.customers["c"]
        customer.state.due_day = today
        yield stored_state(customer)


def yearly_customers(model: Model) -> Iterator[StoredState]:
    """With thirty events in the last year, of which the last was up to twelve days ago; none due before tomorrow."""
    for number in range(YEARLY_TEMPLATES):
        yield stored_state(_yearly_customer(model, number))


def _yearly_customer(model: Model, number: int) -> Customer:
    today = day_of(wall_clock_us())
    kinds = ["order"] * ORDERS_A_YEAR + ["engagement"] * ENGAGEMENTS_A_YEAR + ["consent"] * CONSENTS_A_YEAR
    partition = LocalStream(model)
    for at in range(len(kinds)):
        # Seven is prime to thirty, so that the kinds are mixed evenly.
        kind, age = kinds[at * 7 % len(kinds)], 12 * (len(kinds) - at) - number % 12
        when = (datetime.now(UTC) - timedelta(days=age, seconds=37 * at)).isoformat(timespec="milliseconds")
        partition.pass_midnight(today - age)
        name = f"{number:03d}{at:07d}"
        if kind == "order":
            item = {
                "sku": f"sku-{at:04d}",
                "category": ("shoes", "books", "toys")[at % 3],
                "unit_price": "20",
            }
            partition.take(order(when, f"{15 + number}.90", f"ord_{name}", channel="web", items=[item]))
        elif kind == "engagement":
            chosen, channel = (("opened", "email"), ("clicked", "email"), ("visited", "web"))[at % 3]
            partition.take(engagement(chosen, when, channel=channel, campaign_id=f"cmp_{at % 4}"))
        else:
            partition.take(consent(when, "email" if at % 2 else "push", True))
    partition.pass_midnight(today)
    return partition.customers["c"]


async def fill(
    settings: Settings, templates: Sequence[StoredState], customers: int, partitions: int, midnight_day: int
) -> None:
    """Write the customers as a restore does, and commit the same checkpoint to Kafka; inputs are read from the start.

    Names are those of the workload of name `c`, so that its records meet them.
    """
    clients = RealClients(settings)
    filled = [_Filled(settings, clients, partition, midnight_day) for partition in range(partitions)]
    for one in filled:
        await one.begin()
    for number in range(customers):
        name = customer_name("c", number)
        one = filled[partition_of(name.encode(), partitions)]
        await one.put(templates[number % len(templates)]._replace(customer_id=name))
    for one in filled:
        await one.end()
    await clients.redis.aclose()


class _Filled:
    """One partition that is being filled."""

    def __init__(self, settings: Settings, clients: RealClients, partition: int, midnight_day: int) -> None:
        model = settings.load_model()
        keys = PartitionKeys.of(settings, partition)
        self._store = StateStore(clients.redis, keys, model, settings.erasure_keys)
        self._publisher: Publisher = make_publisher(settings, clients, partition, 60.0)
        self._checkpoint = Checkpoint(1, uuid.uuid4().hex[:16], midnight_day, dict.fromkeys(INPUT_TOPICS, 0))
        self._model = model.fingerprint
        self._states: list[StoredState] = []

    async def begin(self) -> None:
        await self._publisher.open()
        await self._store.claim("bench")
        await self._store.begin_restore(self._checkpoint, self._model)

    async def put(self, state: StoredState) -> None:
        self._states.append(state)
        if len(self._states) >= CHUNK:
            await self._write()

    async def end(self) -> None:
        await self._write()
        await self._store.end_restore(self._checkpoint, self._model)
        await self._publisher.publish([], self._checkpoint)
        await self._publisher.close()

    async def _write(self) -> None:
        await self._store.put_restored(self._states)
        self._states.clear()
