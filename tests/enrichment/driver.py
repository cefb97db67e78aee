"""A partition in memory: records and midnights go in, in any batches; what was published comes out.

It does what the stream does around the core, with nothing between: no broker, no Redis, no clock.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import repeat
from typing import Any

from enrichment.customer.customer import Customer, empty_state
from enrichment.customer.validation import Horizons, topic_of
from enrichment.days import day_of, midnight_us
from enrichment.deciding.results import Results
from enrichment.enricher import Enricher
from enrichment.model import Model
from schemas.events import Event
from schemas.profiles import DIMENSIONS
from streams.state.codec import decode, encode
from tests.enrichment.records import day, event_of
from tests.oracles.seeded_log import DAY_US, MOST_DELAY_DAYS, TOPICS, SeededLog

Document = dict[str, Any]
Item = Event | int
"""A record, or the day of a midnight that passes."""
Sweep = Callable[[list[Customer]], Iterable[Customer]]


def everyone(customers: list[Customer]) -> Iterable[Customer]:
    return customers


class Partition:
    """Customers of one partition and everything published about them.

    With `stored`, states go through their stored form after every step, as if a cache held nobody; with `stale`, that
    does not say until when a customer was put off since.
    `sweep` chooses who is looked at when a midnight passes; whom it leaves out is caught up with later.
    """

    def __init__(
        self,
        model: Model,
        *,
        namespace: str = "test",
        horizons: Horizons | None = None,
        stored: bool = False,
        stale: bool = False,
        sweep: Sweep = everyone,
    ) -> None:
        self.model = model
        self.enricher = Enricher(model, namespace, horizons)
        self.customers: dict[str, Customer] = {}
        self.midnight_day = 0
        self.stored = stored
        self.stale = stale
        self.states: dict[str, bytes] = {}
        self.sweep = sweep
        self.changes: list[Document] = []
        self.triggers: list[Document] = []
        self.triggers_dropped = 0
        self.published: list[tuple[str, Document | None]] = []
        self.profiles: dict[str, Document] = {}
        self.dead_letters: list[tuple[str, str, str]] = []
        self.outcomes: Counter[tuple[str, str]] = Counter()

    def take(self, *events: Event) -> list[Document]:
        """One batch, between two midnights; gives the changes that it brought."""
        for event in events:
            if event.customer_id not in self.customers:
                self.customers[event.customer_id] = Customer(event.customer_id, empty_state(), self.model)
        results = Results(self.model)
        self.enricher.process(events, self.customers, self.midnight_day, results)
        for at, refused in results.rejected:
            event = events[at]
            self.dead_letters.append((topic_of(event), event.event_id, refused.reason))
        return self._publish(results)

    def pass_midnight(self, date: str | int, catch_up: bool = False) -> list[Document]:
        """The midnight with which a day begins; gives the changes that came to light."""
        self.midnight_day = day(date) if isinstance(date, str) else date
        results = Results(self.model)
        customers = list(self.customers.values())
        self.enricher.advance(customers if catch_up else self.sweep(customers), self.midnight_day, results)
        return self._publish(results)

    def play(self, items: Iterable[Item], sizes: Iterable[int] = repeat(10_000)) -> Partition:
        """Records and midnights in order; a batch ends at its size or where a midnight falls in."""
        batch: list[Event] = []
        chosen = iter(sizes)
        size = next(chosen)
        for item in items:
            if not isinstance(item, int):
                batch.append(item)
            if batch and (isinstance(item, int) or len(batch) == size):
                self.take(*batch)
                batch, size = [], next(chosen)
            if isinstance(item, int):
                self.pass_midnight(item)
        if batch:
            self.take(*batch)
        self.pass_midnight(self.midnight_day, catch_up=True)
        return self

    def restart(self, model: Model) -> None:
        """Go on with another model."""
        self.model, self.enricher = model, Enricher(model, "test", self.enricher.horizons)
        for customer in list(self.customers.values()):
            self.customers[customer.id] = Customer(customer.id, customer.state, model)

    def profiles_at(self, time_us: int) -> dict[str, Document]:
        """Every known customer's profile at a time."""
        held = [customer for _, customer in sorted(self.customers.items()) if customer.is_known]
        documents = self.enricher.profiles(held, [time_us] * len(held))
        return {customer.id: document for customer, document in zip(held, documents, strict=True)}

    def profile(self, customer_id: str = "c") -> Document:
        """A customer's profile as of now."""
        customer = self.customers[customer_id]
        return self.enricher.profiles([customer], [customer.as_of_us(midnight_us(self.midnight_day))])[0]

    def standing(self, customer_id: str = "c") -> tuple[str | None, ...]:
        """A customer's segment, tier and lifecycle."""
        standing = self.profile(customer_id)["standing"]
        return tuple(standing[dimension] for dimension in DIMENSIONS)

    def by_customer(self) -> dict[str, Any]:
        """Everything published, in an order that does not depend on batches: each customer's own."""
        changes: dict[str, list[Document]] = {}
        for change in self.changes:
            changes.setdefault(change["customer_id"], []).append(change)
        triggers: dict[str, list[Document]] = {}
        for trigger in self.triggers:
            triggers.setdefault(trigger["customer_id"], []).append(trigger)
        return {
            "changes": changes,
            "triggers": triggers,
            "triggers_dropped": self.triggers_dropped,
            "profiles": self.profiles,
            "dead_letters": self.dead_letters,
            "outcomes": self.outcomes,
        }

    def _publish(self, results: Results) -> list[Document]:
        results.finish()
        self.changes += results.changes
        self.triggers += results.triggers
        self.triggers_dropped += results.triggers_dropped
        self.outcomes += results.outcomes
        self.published += results.profiles
        for customer_id, profile in results.profiles:
            if profile is None:
                self.profiles.pop(customer_id, None)
            else:
                self.profiles[customer_id] = profile
        if self.stored:
            self._store(results)
        return results.changes

    def _store(self, results: Results) -> None:
        """As a step does: the state of whoever is touched, and of others the day to which they are put off."""
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
    return list(_between_midnights((arrives_us, event) for arrives_us, _, _, event in arriving))


def with_midnights(events: Sequence[Event]) -> list[Item]:
    """Records with every midnight before the first record at or after it."""
    return list(_between_midnights((event.occurred_at_us, event) for event in events))


def _between_midnights(timed: Iterable[tuple[int, Event]]) -> Iterator[Item]:
    passed: int | None = None
    for time_us, event in timed:
        today = day_of(time_us)
        yield from range(today if passed is None else passed + 1, today + 1)
        passed = today
        yield event
