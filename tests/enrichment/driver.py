"""Seeded logs as streams of events, and a `LocalStream` that keeps its customers as a worker does."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

from ebbtide.testing.local_stream import Item, LocalStream, between_midnights
from ebbtide.testing.records import DEFAULT_MODEL, event_of
from enrichment.customer.customer import Customer
from enrichment.customer.validation import Horizons
from enrichment.deciding.results import Results
from enrichment.model import Model
from schemas.documents import Document
from schemas.events import Event
from streams.state.codec import decode, encode
from tests.oracles.seeded_log import DAY_US, MODEL_OVERRIDES, MOST_DELAY_DAYS, TOPICS, SeededLog

SEEDED_MODEL: Document = {**DEFAULT_MODEL, **MODEL_OVERRIDES}
"""The model that seeded logs expect, as a document."""
Sweep = Callable[[list[Customer]], Iterable[Customer]]


def everyone(customers: list[Customer]) -> Iterable[Customer]:
    return customers


class WorkerLikeStream(LocalStream):
    """A `LocalStream` that does what a worker does around the core.

    With `stored`, states go through their stored form after every batch, as if a cache held nobody; with `stale`, that
    does not say until when a customer was put off since.
    `sweep` chooses who is looked at when a midnight passes; whom it leaves out is caught up with later.
    """

    def __init__(
        self,
        model: Model,
        *,
        horizons: Horizons | None = None,
        stored: bool = False,
        stale: bool = False,
        sweep: Sweep = everyone,
    ) -> None:
        super().__init__(model, horizons=horizons)
        self.stored = stored
        self.stale = stale
        self.states: dict[str, bytes] = {}
        self.sweep = sweep

    def _swept(self, customers: list[Customer]) -> Iterable[Customer]:
        return self.sweep(customers)

    def _publish(self, results: Results) -> list[Document]:
        changes = super()._publish(results)
        if self.stored:
            self._store(results)
        return changes

    def _store(self, results: Results) -> None:
        """As a micro-batch does: the state of whoever is touched, and of others the day to which they are put off."""
        self.states.update({customer.id: encode(customer.state) for customer in results.touched.values()})
        for customer in {**results.rescheduled, **results.touched}.values():
            state = decode(self.states[customer.id])
            if not self.stale:
                state.due_day = customer.state.due_day
            self.customers[customer.id] = Customer(customer.id, state, customer.model)


def through_storage(customer: Customer) -> Customer:
    """The customer as read back from what was stored."""
    return Customer(customer.id, decode(encode(customer.state)), customer.model)


def in_replay_order(log: SeededLog) -> list[Event]:
    """The events of a log as replay takes them."""
    ranks = {"consents": 0, "purchases": 1, "engagements": 2}
    dated = [
        (event.occurred_at_us, ranks[topic], event.customer_id, event.event_id, event)
        for topic in TOPICS
        for event in events_of(log, topic)
    ]
    return [entry[-1] for entry in sorted(dated, key=lambda entry: entry[:4])]


def events_of(log: SeededLog, topic: str) -> list[Event]:
    """One topic's events, in the log's own order."""
    return [event_of(topic, record) for record in log[topic]]


def in_arrival_order(log: SeededLog, seed: int) -> list[Item]:
    """The events of a log with some of them late, as far as they may be, and the midnights in between.

    Consents come in time, because what a denial deleted stays deleted.
    """
    rng = random.Random(seed)
    arriving = []
    for topic in TOPICS:
        for event in events_of(log, topic):
            most_us = MOST_DELAY_DAYS[topic] * DAY_US
            delay_us = rng.randint(0, most_us) if most_us and rng.random() < 0.2 else 0
            arriving.append((event.occurred_at_us + delay_us, topic, event.event_id, event))
    arriving.sort(key=lambda entry: entry[:3])
    return list(between_midnights((arrives_us, event) for arrives_us, _, _, event in arriving))
