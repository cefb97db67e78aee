"""Computing a step: from segments of records and due customers to everything that is to be stored and published."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Iterable
from typing import Any, cast

from enrichment.customer import Customer
from enrichment.enricher import Enricher
from enrichment.model import Model
from enrichment.results import Results
from schemas.dead_letters import Rejection
from schemas.events import Event
from streams.cache import CustomerCache
from streams.clock import Segment
from streams.decisions import decision_records
from streams.inputs import Arrived
from streams.output import OutputWriter, dead_letter
from streams.settings import Settings
from streams.size_limits import SizeLimits
from streams.state_store import StateStore, stored_state
from streams.step import Mark, OutputRecord, Step

PROFILE_BYTES = 2_500
"""About what one profile, decision and state take, for knowing when a step is large enough."""
SLICE_CUSTOMERS = 100
"""Customers swept before other partitions and heartbeats get their turn."""
RECORDS_SHARE = 0.75
"""Of a step's limits: what records may take while customers are due. The rest is the sweep's."""
SWEEP_S = 0.2
"""How long a step sweeps, at least one slice: records that come meanwhile wait for no more than that."""


class Computation:
    """One step being computed. Its customers come from the cache, which must be dropped if the step fails."""

    def __init__(
        self,
        settings: Settings,
        model: Model,
        enricher: Enricher,
        store: StateStore,
        cache: CustomerCache,
        writer: OutputWriter,
        limits: SizeLimits,
    ) -> None:
        self.results = Results(model)
        self.records = 0
        self.refused: Counter[tuple[str, str]] = Counter()
        """(topic, reason) → dead letters."""
        self.movers: list[tuple[str, int]] = []
        """(`broker` or `occurred_at`, microseconds): who says when an event came that changed a standing, and when."""
        self._settings = settings
        self._model = model
        self._enricher = enricher
        self._store = store
        self._cache = cache
        self._writer = writer
        self._limits = limits
        self._made: list[OutputRecord] = []
        self._made_bytes = 0
        self._collected = 0

    def is_full(self, share: float = 1.0) -> bool:
        """Whether the step has reached this share of a limit of records, customers or bytes."""
        touched, limits = len(self.results.touched), self._settings
        most_customers = share * limits.step_max_customers
        return (
            self.records >= share * limits.batch_max_records
            # Some are counted twice by the sum, which is asked first because it costs nothing.
            or (touched + len(self.results.put_off) >= most_customers and len(self._seen()) >= most_customers)
            or touched * PROFILE_BYTES + self._made_bytes >= share * limits.step_max_bytes
        )

    async def process(self, segment: Segment) -> None:
        """Take the records of a segment, in their order."""
        self.records += len(segment.arrived)
        taken = [arrived for arrived in segment.arrived if not isinstance(arrived.event, Rejection)]
        if len(taken) < len(segment.arrived):
            self._refuse_unreadable(segment.arrived)
        if not taken:
            return
        events = cast("list[Event]", [arrived.event for arrived in taken])
        customers = await self._customers(event.customer_id for event in events)
        first, first_change = len(self.results.rejected), len(self.results.changes)
        self._enricher.process(events, customers, segment.midnight_day, self.results)
        for at, refused in self.results.rejected[first:]:
            self._refuse(taken[at], refused)
        self._note_movers(taken, events, first_change)
        self._collect()

    async def sweep(self, midnight_day: int) -> int:
        """Pass midnights for a slice of those who are due; gives how many there were that this step had not seen.

        However much the records of the step have taken, there is room for some of them. When those whom the records
        have brought are due, only they know: Redis will be told by the end of the step.
        """
        limit, seen = self._settings.step_max_customers, self._seen()
        room = max(limit - len(seen), math.ceil((1 - RECORDS_SHARE) * limit))
        due = await self._store.due(midnight_day, len(seen) + room)
        unseen = [customer_id for customer_id in due if customer_id not in seen][:room]
        self._enricher.advance(seen.values(), midnight_day, self.results)
        loop = asyncio.get_running_loop()
        ends_s = loop.time() + SWEEP_S
        for start in range(0, len(unseen), SLICE_CUSTOMERS):
            if start and (self.is_full() or loop.time() >= ends_s):
                return start
            customers = await self._customers(unseen[start : start + SLICE_CUSTOMERS], keep=False)
            # The index is told anew of everyone whom it named, also of those to whom nothing happens.
            for customer_id, customer in customers.items():
                told = self.results.put_off if customer.is_known else self.results.touched
                told[customer_id] = customer
            self._enricher.advance(customers.values(), midnight_day, self.results)
            self._collect()
            await asyncio.sleep(0)
        return len(unseen)

    def step(self, before: Mark, after: Mark) -> Step:
        """Everything to store and to publish; raises `StoppedError` for what its topic could never take."""
        self._collect()
        results = self.results.finish()
        erased = {
            customer_id: (self._store.hash_of(customer_id), decision)
            for customer_id, decision in results.erased.items()
        }
        group_id = self._settings.group_id
        outbox = [*self._made, *self._writer.ends(results), *decision_records(results, erased, group_id)]
        self._limits.check(outbox)
        return Step(
            before,
            after,
            self._model.fingerprint,
            states=[stored_state(customer) for customer in results.touched.values()],
            erased=[
                (hashed, self._store.erased_value(decision.life, decision.erased_up_to_us or 0))
                for hashed, decision in erased.values()
            ],
            put_off=[
                (customer.id, customer.state.due_day)
                for customer in results.put_off.values()
                if customer.id not in results.touched and customer.state.due_day is not None
            ],
            outbox=outbox,
        )

    def _seen(self) -> dict[str, Customer]:
        """Everyone of whom the step writes something."""
        return {**self.results.put_off, **self.results.touched}

    async def _customers(self, customer_ids: Iterable[str], keep: bool = True) -> dict[str, Customer]:
        """From the cache or Redis; `keep` those in the cache for whom records come, not those of a sweep."""
        wanted = dict.fromkeys(customer_ids)
        found = {customer_id: self._cache.get(customer_id) for customer_id in wanted}
        absent = [customer_id for customer_id, customer in found.items() if customer is None]
        loaded = await self._store.load(absent) if absent else {}
        if keep:
            self._cache.put(loaded)
        return {customer_id: customer or loaded[customer_id] for customer_id, customer in found.items()}

    def _refuse_unreadable(self, records: Iterable[Arrived]) -> None:
        for arrived in records:
            if isinstance(arrived.event, Rejection):
                self._refuse(arrived, arrived.event)
                self.results.outcomes[arrived.topic, "dead_letter"] += 1

    def _refuse(self, arrived: Arrived, refused: Rejection) -> None:
        record = arrived.record
        self.refused[arrived.topic, refused.reason] += 1
        letter = dead_letter(refused, record.topic, record.partition, record.offset, record.key, record.value)
        self._add(self._limits.fitted(letter))

    def _note_movers(self, taken: list[Arrived], events: list[Event], first_change: int) -> None:
        """Look only where something changed: most records change nothing."""
        changes = cast("list[dict[str, Any]]", self.results.changes[first_change:])
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
                self.movers.append(moment)

    def _collect(self) -> None:
        """Make records of the changes that have come since the last time."""
        for change in self.results.changes[self._collected :]:
            self._add(self._writer.change(change))
        self._collected = len(self.results.changes)

    def _add(self, record: OutputRecord) -> None:
        self._made.append(record)
        self._made_bytes += record.size_bytes
