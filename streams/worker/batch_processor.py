"""Computing a batch: from records and due customers to everything that is to be stored and published."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import cast

from enrichment.customer.customer import Customer
from enrichment.deciding.results import Results
from enrichment.enricher import UNDECIDED_DAY, Enricher
from schemas.events import Event
from schemas.rejection import SKIPPED, Rejection
from streams.checkpoint import Checkpoint, Skipped
from streams.micro_batch import MicroBatch
from streams.outbox import OutputRecord
from streams.state.cache import CustomerCache
from streams.state.changelog import changelog_records, skip_records
from streams.state.store import StateStore, stored_state
from streams.worker.outputs import OFFSETS_HEADER, OutputWriter, dead_letter
from streams.worker.reading.arrived import Arrived, Taken
from streams.worker.runtime import Runtime

PROFILE_BYTES = 2_500
"""About what one profile, decision and state take, for knowing when a micro-batch is large enough."""
SLICE_CUSTOMERS = 100
"""Customers swept before records, other partitions and heartbeats get their turn. With fewer, the same arrays are made
for less: of 100 a customer takes 1.1 times as long as of 400, of 25 half as long again."""
SLICE_SHARE = 0.25
"""Of the customers that a batch may hold, for batches that hold fewer than a few slices: the rest is for records."""


class BatchProcessor:
    """One batch being computed. Its customers come from the cache, which must be dropped if the batch fails."""

    def __init__(
        self,
        runtime: Runtime,
        enricher: Enricher,
        store: StateStore,
        cache: CustomerCache[Customer],
        writer: OutputWriter,
    ) -> None:
        self.results = Results(runtime.model)
        self.records = 0
        self.swept = 0
        """Customers of whom Redis said that they were due."""
        self.refused: Counter[tuple[str, str]] = Counter()
        """(topic, reason) → dead letters."""
        self.change_counts: Counter[tuple[str, str, str]] = Counter()
        """(dimension, direction, trigger) → changes."""
        self.skipped: list[Skipped] = []
        self.latency_samples: list[tuple[str, int]] = []
        """(`broker` or `occurred_at`, microseconds): who says when an event came that changed a standing, and when."""
        self._settings = runtime.settings
        self._model = runtime.model
        self._enricher = enricher
        self._store = store
        self._cache = cache
        self._writer = writer
        self._limits = runtime.limits
        self._made: list[OutputRecord] = []
        self._made_bytes = 0
        self._collected = 0

    @property
    def is_full(self) -> bool:
        """Whether the micro-batch has reached a limit of records, customers or bytes."""
        touched, limits = len(self.touched), self._settings
        return (
            self.records >= limits.batch_max_records
            # Some are counted twice by the sum, which is asked first because it costs nothing.
            or (
                touched + self._put_off() >= limits.batch_max_customers
                and self._seen() >= limits.batch_max_customers
            )
            or touched * PROFILE_BYTES + self._bytes >= limits.batch_max_bytes
        )

    @property
    def has_loaded_enough(self) -> bool:
        """The same for a micro-batch of a first load, whose customers have no profiles yet."""
        limits = self._settings
        return (
            self.records >= limits.batch_max_records
            or len(self.touched) >= limits.batch_max_customers
            or self._bytes >= limits.batch_max_bytes
        )

    async def process(self, records: Taken, midnight_day: int) -> None:
        """Take records of which all come before the midnight after this one, in their order."""
        if records:
            await self._process(records, midnight_day)

    async def _process(self, records: Taken, midnight_day: int) -> None:
        taken, events, customers = await self._read(records)
        if not events:
            return
        first, first_change = len(self.results.rejected), len(self.results.changes)
        self._enricher.process(events, customers, midnight_day, self.results)
        for at, refused in self.results.rejected[first:]:
            self._refuse(taken[at], refused)
        self._note_latency_samples(taken, events, first_change)
        self._collect()

    async def load(self, records: Taken, midnight_day: int) -> None:
        """Take records of a first load, in their order."""
        taken, events, customers = await self._read(records)
        first = len(self.results.rejected)
        self._enricher.load(events, customers, midnight_day, self.results)
        for at, refused in self.results.rejected[first:]:
            self._refuse(taken[at], refused)

    async def _read(
        self, records: Collection[Arrived]
    ) -> tuple[list[Arrived], list[Event], dict[str, Customer]]:
        """Those of the records that say something, what they say, and everyone whom they name; refuse the others."""
        self.records += len(records)
        taken = [arrived for arrived in records if not isinstance(arrived.event, Rejection)]
        if len(taken) < len(records):
            self._refuse_unreadable(records)
        events = cast("list[Event]", [arrived.event for arrived in taken])
        customers = await self._customers(event.customer_id for event in events) if events else {}
        return taken, events, customers

    async def enter(self, midnight_day: int) -> bool:
        """Decide on a slice of those whom a first load has made known; tells whether that was the last one."""
        due = await self._store.due(UNDECIDED_DAY, self.swept, self._slice_customers)
        self.swept += len(due)
        await self._enter(due, midnight_day)
        return len(due) < self._slice_customers

    async def _enter(self, customer_ids: list[str], midnight_day: int) -> None:
        customers = await self._customers(customer_ids, keep=False)
        self._enricher.enter(customers.values(), midnight_day, self.results)
        self._collect()

    @property
    def _slice_customers(self) -> int:
        return min(SLICE_CUSTOMERS, math.ceil(SLICE_SHARE * self._settings.batch_max_customers))

    async def sweep(self, midnight_day: int) -> None:
        """Pass midnights for the next slice of those who are due by Redis; `swept` counts them.

        Redis is told at the end of the batch, so it goes on naming those of this one: whom earlier slices took are left
        out, and to whom records came nothing more happens.
        """
        due = await self._store.due_days(midnight_day, self.swept, self._slice_customers)
        self.swept += len(due)
        if due:
            await self._pass_midnights(due, midnight_day)

    async def _pass_midnights(self, due: Mapping[str, int], midnight_day: int) -> None:
        """Pass midnights for those who are due on these days by Redis."""
        customers = await self._customers(due, keep=False)
        # The index is told anew of everyone whom it named, also of those to whom nothing happens.
        for customer_id, customer in customers.items():
            told = self.results.rescheduled if customer.is_known else self.results.touched
            told[customer_id] = customer
        self._enricher.advance(customers.values(), midnight_day, self.results)
        self._collect()

    def micro_batch(self, before: Checkpoint, after: Checkpoint) -> MicroBatch:
        """Everything to store and to publish; raises `StoppedError` for what its topic could never take."""
        self._collect()
        results = self.results.finish()
        erased = {
            customer_id: (self._store.hash_of(customer_id), decision)
            for customer_id, decision in results.erased.items()
        }
        group_id = self._settings.group_id
        outbox = [*self._made, *self._writer.ends(results), *changelog_records(results, erased, group_id)]
        outbox += skip_records(self.skipped, group_id)
        self._limits.check(outbox)
        return MicroBatch(
            before,
            after,
            self._model.fingerprint,
            states=[stored_state(customer) for customer in results.touched.values()],
            erased=[
                (hashed, self._store.erased_value(decision.life, decision.erased_up_to_us or 0))
                for hashed, decision in erased.values()
            ],
            rescheduled=[
                (customer.id, customer.state.due_day)
                for customer in results.rescheduled.values()
                if customer.id not in results.touched and customer.state.due_day is not None
            ],
            skipped=self.skipped,
            obeys_request=any(reason == SKIPPED for _, reason in self.refused),
            outbox=outbox,
        )

    @property
    def _bytes(self) -> int:
        """About how much the micro-batch publishes, so far and without profiles."""
        return self._made_bytes

    @property
    def touched(self) -> Collection[str]:
        """Whose states the micro-batch writes."""
        return self.results.touched.keys()

    def _put_off(self) -> int:
        """How many customers are due on another day; of some the state may be written too."""
        return len(self.results.rescheduled)

    def _seen(self) -> int:
        """Of how many the micro-batch writes something."""
        return len(self.results.rescheduled.keys() | self.results.touched.keys())

    async def _customers(self, customer_ids: Iterable[str], keep: bool = True) -> dict[str, Customer]:
        """From the cache, this batch or Redis; `keep` in the cache those for whom records come, not a sweep's."""
        wanted = dict.fromkeys(customer_ids)
        held = {customer_id: self._held(customer_id) for customer_id in wanted}
        absent = [customer_id for customer_id, customer in held.items() if customer is None]
        loaded = await self._store.load(absent) if absent else {}
        customers = {customer_id: customer or loaded[customer_id] for customer_id, customer in held.items()}
        if keep:
            self._cache.put(customers)
        return customers

    def _held(self, customer_id: str) -> Customer | None:
        """Someone in memory; Redis may not know yet what a sweep has made of them in this micro-batch."""
        results = self.results
        return (
            self._cache.get(customer_id)
            or results.touched.get(customer_id)
            or results.rescheduled.get(customer_id)
        )

    def _refuse_unreadable(self, records: Iterable[Arrived]) -> None:
        for arrived in records:
            if isinstance(arrived.event, Rejection):
                self._refuse(arrived, arrived.event)
                if arrived.skipped is not None:
                    self.skipped.append(arrived.skipped)
                self.results.outcomes[arrived.topic, "dead_letter"] += 1

    def _refuse(self, arrived: Arrived, refused: Rejection) -> None:
        record, skipped = arrived.record, arrived.skipped
        self.refused[arrived.topic, refused.reason] += 1
        offset = record.offset if skipped is None else skipped.first
        letter = dead_letter(refused, record.topic, record.partition, offset, record.key, record.value)
        if skipped is not None:
            offsets = f"{skipped.first}-{skipped.next_offset - 1}".encode()
            letter = letter._replace(headers=(*letter.headers, (OFFSETS_HEADER, offsets)))
        self._add(self._limits.fitted(letter))

    def _note_latency_samples(self, taken: list[Arrived], events: list[Event], first_change: int) -> None:
        """Look only where something changed: most records change nothing."""
        changes = self.results.changes[first_change:]
        wanted = {
            (change["customer_id"], change["reason"]["event_id"])
            for change in changes
            if change["reason"]["event_id"] is not None
        }
        for arrived, event in zip(taken, events, strict=True) if wanted else ():
            who = event.customer_id, event.event_id
            if who in wanted:
                wanted.discard(who)
                stamped_us = arrived.broker_timestamp_us
                moment = (
                    ("occurred_at", event.occurred_at_us) if stamped_us is None else ("broker", stamped_us)
                )
                self.latency_samples.append(moment)

    def _collect(self) -> None:
        """Make records of the changes that have come since the last time."""
        for change in self.results.changes[self._collected :]:
            self._add(self._writer.change(change))
            self.change_counts[change["dimension"], change["direction"], change["reason"]["trigger"]] += 1
        self._collected = len(self.results.changes)

    def _add(self, record: OutputRecord) -> None:
        self._made.append(record)
        self._made_bytes += record.size_bytes
