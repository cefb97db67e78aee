"""Micro-batches by the compiled core: states go in and come out as bytes.

What it declines (an unusual state, a customer near a limit) the Python core takes, a few hundred records or a slice of
customers at a time: both read and write the same states.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import msgspec
import orjson

from enrichment.customer.customer import Customer
from enrichment.customer.decision import Decision
from enrichment.deciding.changes import LOAD
from schemas.profiles import DIMENSIONS
from schemas.rejection import TOO_LATE, Rejection
from schemas.topics import INPUT_TOPICS
from streams.checkpoint import Checkpoint
from streams.micro_batch import MicroBatch, StoredState
from streams.outbox import BATCH_BYTES, OutputRecord, WrittenOutbox, WrittenRecords
from streams.state.codec import compressed, packed, unpacked
from streams.worker.batch_processor import BatchProcessor
from streams.worker.compiled_core import CompiledCore, PackedState
from streams.worker.reading.arrived import Taken, read

log = logging.getLogger(__name__)


class CompiledBatch(BatchProcessor):
    """A micro-batch. The core must forget what it keeps if the batch fails."""

    def __init__(self, core: CompiledCore, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._core = core
        self._states: dict[str, PackedState] = {}
        """Whose state changes: what it becomes."""
        self._rescheduled: dict[str, int] = {}
        """Of whom only the due day changes: what it becomes."""
        self._tombstones = 0
        """How many of `results.profiles` are ends of profiles that have been seen here."""
        self._out = core.compiled.outgoing()

    async def _process(self, records: Taken, midnight_day: int) -> None:
        self.records += len(records)  # first: after an unexpected error it says how many were under way
        try:
            part, refused = self._core.part(records, self._model)
            await self._live(part, part.customers(), midnight_day, records)
        except self._core.declined as error:
            log.debug("the Python core takes %d records: %s", len(records), error)
            self.records -= len(records)
            await super()._process(self._read_all(records), midnight_day)
            self._take_over()
            return
        self._refuse_unreadable(refused)

    async def load(self, records: Taken, midnight_day: int) -> None:
        """Take records of a first load, in their order."""
        self.records += len(records)
        try:
            await self._fold(records, midnight_day)
        except self._core.declined as error:
            log.debug("the Python core takes %d records: %s", len(records), error)
            self.records -= len(records)
            await super().load(self._read_all(records), midnight_day)
            self._take_over()

    def _read_all(self, records: Taken) -> Taken:
        """For the Python core."""
        return Taken([read(arrived, self._model) for arrived in records])

    async def _pass_midnights(self, due: Mapping[str, int], midnight_day: int) -> None:
        part = self._core.compiled.part()
        part.name(list(due))
        try:
            await self._live(part, list(due), midnight_day, Taken([]), due)
        except self._core.declined as error:
            log.debug("the Python core sweeps %d customers: %s", len(due), error)
            await super()._pass_midnights(due, midnight_day)
            self._take_over()

    async def _live(
        self,
        part: Any,
        customers: list[str],
        midnight_day: int,
        records: Taken,
        due: Mapping[str, int] | None = None,
    ) -> None:
        """Pass midnights for customers and take the records; whoever is due by Redis is told of in any case."""
        states = await self._packed(customers)
        behind = part.read([states[customer_id].state for customer_id in customers], midnight_day)
        filed = await self._filed([customers[at] for at in behind], states, due or {})
        filed_at = [(at, filed[customers[at]]) for at in behind if customers[at] in filed]
        lived = part.live(filed_at, midnight_day, self._out)
        outcomes, brought, triggers, triggers_dropped, change_counts, after = lived
        self._note_outcomes(records, *outcomes)
        for stamped_us, occurred_at_us in brought:
            sample = ("occurred_at", occurred_at_us) if stamped_us is None else ("broker", stamped_us)
            self.latency_samples.append(sample)
        self.results.triggers += map(orjson.loads, triggers)
        self.results.triggers_dropped += triggers_dropped
        for labels, count in change_counts:
            self.change_counts[labels] += count
        told_of = {*(due or ()), *(customers[at] for at in behind)}
        self._note_customers(customers, states, after, told_of, is_sweep=due is not None)

    def _note_customers(
        self,
        customers: list[str],
        states: Mapping[str, PackedState],
        after: list[Any],
        told_of: Collection[str],
        *,
        is_sweep: bool,
    ) -> None:
        """Keep what has become of customers; of those in `told_of` the timer index is told anew in any case."""
        kept: dict[str, PackedState] = {}
        cache = self._core.cache
        for at, state, due_day, tombstone_us, erased in after:
            customer_id = customers[at]
            if tombstone_us is not None:
                self.results.note_tombstone(customer_id, tombstone_us)
                self._tombstones += 1
            if erased is not None:
                self._note_erased(customer_id, *erased)
            before = states[customer_id].state
            if (
                state is not None
                or customer_id in self._states
                or (due_day is None and customer_id in told_of)
            ):
                self._states[customer_id] = PackedState(state or before, due_day)
                self._rescheduled.pop(customer_id, None)
            elif due_day is not None and customer_id in told_of:
                self._rescheduled[customer_id] = due_day
            # A sweep comes by everybody, and must not drive out those who come often.
            if not is_sweep or customer_id in cache:
                kept[customer_id] = PackedState(state or before, due_day)
        cache.put(kept)

    def _note_erased(self, customer_id: str, life: int, erased_up_to_us: int) -> None:
        self.results.erased[customer_id] = Decision(life=life, erased_up_to_us=erased_up_to_us)

    async def _filed(
        self, customer_ids: Iterable[str], states: Mapping[str, PackedState], due: Mapping[str, int]
    ) -> dict[str, int]:
        """Due days that may be later than those of the states."""
        filed: dict[str, int] = {}
        absent: list[str] = []
        for customer_id in customer_ids:
            own_day, by_redis = states[customer_id].due_day, due.get(customer_id)
            if own_day is not None:
                filed[customer_id] = own_day
            elif by_redis is not None:
                filed[customer_id] = by_redis
            else:
                absent.append(customer_id)
        return filed | (await self._store.filed_days(absent) if absent else {})

    async def _fold(self, records: Taken, midnight_day: int) -> None:
        part, refused = self._core.part(records, self._model)
        customers = part.customers()
        states = await self._packed(customers)
        outcomes, changed = part.fold([states[customer_id].state for customer_id in customers], midnight_day)
        self._refuse_unreadable(refused)
        self._note_outcomes(records, *outcomes)
        made = {customers[at]: PackedState(state, due_day) for at, state, due_day, _ in changed}
        for at, _, _, erased in changed:
            if erased is not None:
                self._note_erased(customers[at], *erased)
        self._states.update(made)
        self._core.cache.put(made)

    def _note_outcomes(
        self, records: Taken, counts: list[tuple[tuple[int, str], int]], refused: list[tuple[int, str]]
    ) -> None:
        for (rank, outcome), count in counts:
            self.results.outcomes[INPUT_TOPICS[rank], outcome] += count
        for at, why in refused:
            self._refuse(records[at], Rejection(TOO_LATE, why))

    async def _enter(self, customer_ids: list[str], midnight_day: int) -> None:
        states = await self._packed(customer_ids)
        held = [(customer_id, known) for customer_id, (known, _) in states.items() if known is not None]
        try:
            entered = self._core.compiled.enter(held, midnight_day, self._out)
        except self._core.declined as error:
            log.debug("the Python core decides on %d customers: %s", len(customer_ids), error)
            await super()._enter(customer_ids, midnight_day)
            self._take_over()
            return
        for (customer_id, _), (changes, state, due_day) in zip(held, entered, strict=True):
            if changes:
                self.change_counts.update((dimension, "entered", LOAD) for dimension in DIMENSIONS)
            self._states[customer_id] = PackedState(state, due_day)
            self._core.cache.drop(customer_id)

    def micro_batch(self, before: Checkpoint, after: Checkpoint) -> MicroBatch:
        """Everything to store and to publish; raises `StoppedError` for what its topic could never take."""
        batch = super().micro_batch(before, after)
        batch.states += [
            StoredState(customer_id, b"" if due_day is None else compressed(state or b""), due_day)
            for customer_id, (state, due_day) in self._states.items()
        ]
        batch.rescheduled += self._rescheduled.items()
        for record in batch.outbox:
            self._out.push(*record)
        packed_outbox, batches, of_topics = self._out.finish(BATCH_BYTES)
        for topic, _, largest in of_topics:
            self._limits.check_size(topic, largest)
        counts = Counter({topic: count for topic, count, _ in of_topics})
        batch.outbox = WrittenOutbox(packed_outbox, tuple(map(WrittenRecords._make, batches)), counts)
        return batch

    def _add(self, record: OutputRecord) -> None:
        self._out.push(*record)

    @property
    def _bytes(self) -> int:
        return int(self._out.size)

    @property
    def touched(self) -> Collection[str]:
        """Whose states the micro-batch writes."""
        return self._states.keys()

    def _put_off(self) -> int:
        return len(self._rescheduled)

    def _seen(self) -> int:
        return len(self._states) + len(self._rescheduled)

    def _take_over(self) -> None:
        """Take what the Python core has just made, so that either can go on with anyone."""
        self._collect()
        results = self.results.finish()
        made = results.profiles[self._tombstones :]
        for customer_id, document in made:
            if document is None:
                self._out.drop_profile(customer_id)
            else:
                record = self._writer.profile(document)
                self._out.put_profile(customer_id, record.value, record.headers)
        results.profiles[self._tombstones :] = [
            (customer_id, None) for customer_id, document in made if document is None
        ]
        self._tombstones = len(results.profiles)
        for customer_id in results.decided:
            customer = results.touched[customer_id]
            decision = msgspec.json.encode(customer.decision) if customer.is_known else None
            self._out.put_decision(customer_id, decision)
        results.decided.clear()
        for customer_id, customer in results.rescheduled.items():
            due_day = customer.state.due_day
            if customer_id in self._states:
                self._states[customer_id] = self._states[customer_id]._replace(due_day=due_day)
            elif due_day is not None:
                self._rescheduled[customer_id] = due_day
        for customer_id, customer in results.touched.items():
            due_day = customer.state.due_day if customer.is_known else None
            self._states[customer_id] = PackedState(packed(customer.state), due_day)
            self._rescheduled.pop(customer_id, None)
        for customer_id in [*results.rescheduled, *results.touched]:
            self._core.cache.drop(customer_id)
        results.rescheduled.clear()
        results.touched.clear()

    async def _customers(self, customer_ids: Iterable[str], keep: bool = True) -> dict[str, Customer]:
        """For the Python core; none is kept in its cache, where the compiled one would not change them."""
        return await super()._customers(customer_ids, keep=False)

    def _held(self, customer_id: str) -> Customer | None:
        """For the Python core: as the compiled one has made them in this micro-batch."""
        made = self._states.get(customer_id)
        if made is None or made.state is None:
            return super()._held(customer_id)
        customer = Customer(customer_id, unpacked(made.state), self._model)
        if made.due_day is not None:
            customer.state.due_day = made.due_day
        return customer

    async def _packed(self, customer_ids: list[str]) -> dict[str, PackedState]:
        """The states of these customers, from this micro-batch, from what is kept, or from Redis."""
        found: dict[str, PackedState] = {}
        absent: list[str] = []
        for customer_id in customer_ids:
            held = self._states.get(customer_id) or self._core.cache.get(customer_id)
            if held is None:
                absent.append(customer_id)
            else:
                found[customer_id] = held
        if absent:
            loaded = await self._store.load_packed(absent)
            found |= {customer_id: PackedState(state, None) for customer_id, state in loaded.items()}
        return {customer_id: found[customer_id] for customer_id in customer_ids}
