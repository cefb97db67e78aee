"""A stream in memory: records and midnights go in, in batches of any size; what would be published comes out.

No broker, no Redis and no clock: only the `Enricher` that the worker and replay use.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import repeat
from typing import Self, cast

from ebbtide.testing.records import day
from enrichment.customer.customer import Customer
from enrichment.customer.validation import Horizons, topic_of
from enrichment.days import day_of, midnight_us
from enrichment.deciding.results import Results
from enrichment.enricher import Enricher
from enrichment.model import Model, load_model
from schemas.documents import Document
from schemas.events import Event
from schemas.profiles import DIMENSIONS

Item = Event | int
"""A record, or the day of a midnight that passes (UTC days since 1970)."""
BATCH_RECORDS = 10_000


class LocalStream:
    """Customers in memory, and everything published about them; made for tests and for trying a model out.

        stream = LocalStream()
        stream.take(order("2025-01-09", "120.00"), engagement("clicked", "2025-01-10"))
        stream.pass_midnight("2026-01-09")
        stream.standing("c")  # ('low', 'inside', 'lapsed')

    Records are events, as `ebbtide.decode` and the builders of `ebbtide.testing` make them. Midnights are passed by
    hand, in order. A record counts as of its own date, or of the last midnight where that is later.

    `changes`, `triggers` and `dead_letters` (topic, event id, reason) hold everything so far, in the order of
    publication; `profiles` holds the latest one of each customer.

    Args:
        model: The value model; None takes the built-in one.
        namespace: What every `change_id` is made from, beside the customer and the sequence.
        horizons: How late a record may be; None takes the contract's limits.
    """

    def __init__(
        self, model: Model | None = None, *, namespace: str = "test", horizons: Horizons | None = None
    ) -> None:
        self.model = load_model() if model is None else model
        self.namespace = namespace
        self.enricher = Enricher(self.model, namespace, horizons)
        self.customers: dict[str, Customer] = {}
        self.midnight_day = 0
        self.changes: list[Document] = []
        self.triggers: list[Document] = []
        self.triggers_dropped = 0
        self.published: list[tuple[str, Document | None]] = []
        """(customer, profile) in the order of publication; None ends a profile."""
        self.profiles: dict[str, Document] = {}
        self.dead_letters: list[tuple[str, str, str]] = []
        self.outcomes: Counter[tuple[str, str]] = Counter()
        """(topic, `accepted` | `duplicate` | `erased` | `dead_letter`) → records."""

    def take(self, *events: Event) -> list[Document]:
        """Take one batch of records between two midnights; gives the changes that it brought."""
        for event in events:
            if event.customer_id not in self.customers:
                self.customers[event.customer_id] = Customer.unknown(event.customer_id, self.model)
        results = Results(self.model)
        self.enricher.process(events, self.customers, self.midnight_day, results)
        for at, refused in results.rejected:
            event = events[at]
            self.dead_letters.append((topic_of(event), event.event_id, refused.reason))
        return self._publish(results)

    def pass_midnight(self, date: str | int, catch_up: bool = False) -> list[Document]:
        """Pass the midnight with which a day begins, and all before it; gives the changes that it brought.

        Args:
            date: The day, as `2025-06-01` or in UTC days since 1970.
            catch_up: Look at everyone who is due, also where a subclass would leave some for later.
        """
        self.midnight_day = day(date) if isinstance(date, str) else date
        results = Results(self.model)
        customers = list(self.customers.values())
        self.enricher.advance(customers if catch_up else self._swept(customers), self.midnight_day, results)
        return self._publish(results)

    def play(self, items: Iterable[Item], sizes: Iterable[int] = repeat(BATCH_RECORDS)) -> Self:
        """Take records and midnights in order, such as those of `with_midnights`.

        A batch ends where a midnight falls in, or once it holds as many records as the next of `sizes` says.
        """
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
        """Go on with another model; its first look at each customer is a change of reason `model`, if at all."""
        self.model, self.enricher = model, Enricher(model, self.namespace, self.enricher.horizons)
        for customer in list(self.customers.values()):
            self.customers[customer.id] = Customer(customer.id, customer.state, model)

    def profiles_at(self, time_us: int) -> dict[str, Document]:
        """Every known customer's profile at a time (µs since 1970) that is not before their latest record."""
        held = [customer for _, customer in sorted(self.customers.items()) if customer.is_known]
        documents = cast("list[Document]", self.enricher.profiles(held, [time_us] * len(held)))
        return {customer.id: document for customer, document in zip(held, documents, strict=True)}

    def profile(self, customer_id: str = "c") -> Document:
        """A customer's profile as of the last midnight, or of their latest record if that is later."""
        customer = self.customers[customer_id]
        as_of_us = customer.as_of_us(midnight_us(self.midnight_day))
        return cast("Document", self.enricher.profiles([customer], [as_of_us])[0])

    def standing(self, customer_id: str = "c") -> tuple[str | None, ...]:
        """A customer's segment, tier and lifecycle; None where there is none."""
        standing = self.profile(customer_id)["standing"]
        return tuple(standing[dimension] for dimension in DIMENSIONS)

    def by_customer(self) -> Document:
        """Everything published, each customer's in its own order: this does not depend on batches."""
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

    def _swept(self, customers: list[Customer]) -> Iterable[Customer]:
        """Who is looked at when a midnight passes; a subclass may leave some for later."""
        return customers

    def _publish(self, results: Results) -> list[Document]:
        results.finish()
        changes = cast("list[Document]", results.changes)
        self.changes += changes
        self.triggers += cast("list[Document]", results.triggers)
        self.triggers_dropped += results.triggers_dropped
        self.outcomes += results.outcomes
        published = cast("list[tuple[str, Document | None]]", results.profiles)
        self.published += published
        for customer_id, profile in published:
            if profile is None:
                self.profiles.pop(customer_id, None)
            else:
                self.profiles[customer_id] = profile
        return changes


def with_midnights(events: Iterable[Event]) -> list[Item]:
    """Records in the order of their dates, with every midnight before the first record at or after it."""
    return list(between_midnights((event.occurred_at_us, event) for event in events))


def between_midnights(timed: Iterable[tuple[int, Event]]) -> Iterator[Item]:
    """Records with the time (µs since 1970) at which each arrives, in that order, and the midnights in between."""
    passed: int | None = None
    for time_us, event in timed:
        today = day_of(time_us)
        yield from range(today if passed is None else passed + 1, today + 1)
        passed = today
        yield event
