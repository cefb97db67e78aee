"""The micro-batches of one partition: fetch, compute, persist and publish, one after the other."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from aiokafka.errors import KafkaError
from redis.exceptions import RedisError

from enrichment.customer.customer import Customer
from enrichment.days import FOREVER_DAY
from enrichment.enricher import UNDECIDED_DAY, Enricher
from schemas.topics import InputTopic
from streams.checkpoint import Checkpoint
from streams.errors import EbbtideError, one_line
from streams.garbage import look_in_small_portions
from streams.metrics.metrics import Stopwatch
from streams.micro_batch import MicroBatch
from streams.state.cache import CustomerCache
from streams.state.store import StateStore
from streams.state.stuck import Stuck
from streams.timeouts import within
from streams.worker.batch_processor import BatchProcessor
from streams.worker.clock import Clock
from streams.worker.compiled_batch import CompiledBatch
from streams.worker.compiled_core import CompiledCore
from streams.worker.first_load import next_records
from streams.worker.outputs import OutputWriter
from streams.worker.partition_state import PartitionState, Status
from streams.worker.publisher import Publisher
from streams.worker.reading.arrived import Arrived, Taken
from streams.worker.reading.errors import RecordError, StuckError
from streams.worker.reading.inputs import Inputs
from streams.worker.runtime import Runtime

log = logging.getLogger(__name__)

NARROWED_BY = 16
"""After an unexpected error the next micro-batch takes so many times fewer records, until it is past that place."""
UNIT_RECORDS = 500
"""Records computed before other partitions and heartbeats get their turn."""
COMPILED_LOAD_RECORDS = 5_000
"""The same for a first load by the compiled core: the more records of a customer come together, the less often a state
is read and written."""
FETCH_TIMEOUT_MS = 200
SWEEP_S = 0.2
"""How long a micro-batch sweeps where no records come."""
LONGEST_PAUSE_S = 5.0
"""Between two slices of a partition whose customers are due, whatever the pace says."""
LOOK_EVERY_S = 1.0
LOAD_BATCH_S = 30.0
"""How long a micro-batch of a first load goes on taking records: well below what a micro-batch may take."""
BATCH_TIMEOUT_S = 120.0
"""How long a batch may take besides its publication. Each request in it has a limit of its own; this is for what none
of them foresees, since a micro-batch that waits for ever looks from outside like one that has nothing to do."""
EXPECTED_ERRORS = (EbbtideError, KafkaError, RedisError, TimeoutError, OSError)
NO_DAY = -2
"""Below `UNDECIDED_DAY`: nothing has been swept yet."""


class BatchLoop:
    """Runs the micro-batches of one partition while it is owned.

    `begin` starts an ownership. How many records a micro-batch takes after an error is kept from one to the next.
    """

    def __init__(
        self, runtime: Runtime, clock: Clock, partition: int, store: StateStore, state: PartitionState
    ) -> None:
        self.settings = settings = runtime.settings
        self.partition = partition
        self.state = state
        self._customers: CustomerCache[Customer] = CustomerCache(settings.cache_customers)
        self._runtime = runtime
        self._clock = clock
        self._store = store
        self._enricher = Enricher(runtime.model, settings.change_namespace, settings.horizons)
        self._writer = OutputWriter(settings.change_namespace)
        self._watch = Stopwatch()
        self._core: CompiledCore | None = None
        self._most_records = settings.batch_max_records
        self._narrow_before: dict[InputTopic, int] = {}
        self._swept_day = NO_DAY
        self._swept_at_s = 0.0
        self._looked_at_s = 0.0

    @property
    def cache(self) -> CustomerCache[Any]:
        """The customers at hand, as the core in use keeps them."""
        return self._customers if self._core is None else self._core.cache

    def begin(self) -> None:
        """Know nothing of customers any more: somebody else may have owned the partition meanwhile."""
        self._customers.clear()
        self._core = None
        self._swept_day = NO_DAY

    def begin_reading(self, inputs: Inputs, namespace: str) -> None:
        """Make change ids in the namespace that the partition was begun with, by the compiled core if there is one.

        By the wall clock it reads the records by itself; the event clock must know when each of them occurred.
        """
        self._enricher = Enricher(self._runtime.model, namespace, self.settings.horizons)
        self._writer = OutputWriter(namespace)
        self._core = CompiledCore.of(self.settings, self._runtime.model, namespace)
        leaves_unread = self._core is not None and self.settings.clock == "wall"
        inputs.leave_unread(self._core.read_batch if self._core is not None and leaves_unread else None)

    async def run(self, checkpoint: Checkpoint, inputs: Inputs, publisher: Publisher) -> Checkpoint:
        """One micro-batch, or an error where it hangs."""
        async with within(BATCH_TIMEOUT_S + publisher.timeout_s, f"micro-batch {checkpoint.batch_id + 1}"):
            if checkpoint.is_loading:
                return await self._load_batch(checkpoint, inputs, publisher)
            after = await self._run_batch(checkpoint, inputs, publisher)
        if inputs.is_at_end:  # by now nothing holds the micro-batch any more
            look_in_small_portions()
        return after

    async def _run_batch(self, checkpoint: Checkpoint, inputs: Inputs, publisher: Publisher) -> Checkpoint:
        """One micro-batch, if there is anything to do.

        1. Fetch; while customers are due, some of them are swept first.
        2. Compute: records up to the midnights they lie behind.
        3. Persist.
        4. Publish.
        5. Empty the outbox, of which nothing is needed any more: so nothing of an erased customer stays in Redis.
        """
        work = self._begin_batch()
        day = checkpoint.midnight_day
        fetched = await self._sweep_and_fetch(work, day, inputs)
        with self._runtime.pace.records() if any(inputs.buffers.values()) else nullcontext():
            trusted_us = await self.trusted_now_us(publisher)
            if not fetched or self._clock.needs_ends(inputs, day, trusted_us):
                await inputs.ask_ends(trusted_us, with_high=self._clock.needs_high(inputs, day, trusted_us))
            self._watch.lap("fetch")
            while not work.records or not (work.is_full or work.records >= self._most_records):
                limit = min(UNIT_RECORDS, self.settings.batch_max_records, self._most_records)
                time_slice = self._clock.take(inputs, day, trusted_us, limit)
                if not time_slice.count and time_slice.midnight_day == day:
                    break
                if work.records:
                    await self._sweep(work, day)
                    # A small micro-batch has turns enough when it waits for Redis and Kafka.
                    await asyncio.sleep(0)
                day = time_slice.midnight_day
                records = Taken(time_slice.pieces)
                with self._narrowing_down(work, inputs, records):
                    await work.process(records, day)
            if work.records == 0 and work.swept == 0 and day == checkpoint.midnight_day:
                await self._look_after()
                is_caught_up = all(inputs.is_caught_up(topic) for topic in inputs.buffers)
                self.state.is_idle = is_caught_up and not self._is_sweeping(day)
                return checkpoint
            self.state.is_idle = False
            batch = work.micro_batch(checkpoint, checkpoint.next(day, inputs.offsets))
            self._watch.lap("compute")
            await self._finish(batch, publisher)
        self._note(work, batch)
        await self._store.empty_outbox()
        return batch.after

    async def _load_batch(self, checkpoint: Checkpoint, inputs: Inputs, publisher: Publisher) -> Checkpoint:
        """One micro-batch of the first load: folds records, or, once all have been, decides on some of the customers.

        Where an input is stuck, what came before is kept; the partition is then taken over anew, as always, since the
        consumer may have given records that nobody took.
        """
        assert checkpoint.load is not None
        work, ends_load = self._begin_batch(), False
        stuck: StuckError | None = None
        if checkpoint.is_folded:
            while not ends_load and not work.is_full:
                ends_load = await work.enter(checkpoint.midnight_day)
                await asyncio.sleep(0)
        else:
            unit = UNIT_RECORDS if self._core is None else COMPILED_LOAD_RECORDS
            limit = min(unit, self.settings.batch_max_records, self._most_records)
            ends_s = asyncio.get_running_loop().time() + LOAD_BATCH_S
            while not work.has_loaded_enough and work.records < self._most_records:
                try:
                    records = Taken(await next_records(inputs, checkpoint.load, limit))
                except StuckError as error:
                    if work.records == 0:
                        raise
                    stuck = error
                    break
                if not records:
                    break
                with self._narrowing_down(work, inputs, records):
                    await work.load(records, checkpoint.midnight_day)
                await asyncio.sleep(0)
                if asyncio.get_running_loop().time() >= ends_s:
                    break
            if inputs.offsets == checkpoint.offsets:
                await self._look_after()
                return checkpoint
        batch = work.micro_batch(
            checkpoint, checkpoint.next(checkpoint.midnight_day, inputs.offsets, ends_load=ends_load)
        )
        self._watch.lap("compute")
        await self._finish(batch, publisher)
        self._note(work, batch)
        await self._store.empty_outbox()
        await self.note_load(batch.after)
        if stuck is not None:
            raise stuck
        return batch.after

    async def note_load(self, checkpoint: Checkpoint) -> None:
        """Tell how far the first load has come, or that it is through."""
        progress = self.state.loading
        assert progress is not None
        customers = await self._store.count_due(FOREVER_DAY)
        if checkpoint.is_loading:
            progress.note(checkpoint, customers, await self._store.count_due(UNDECIDED_DAY))
            return
        log.info("partition %d: first load done: %d customers decided on", self.partition, customers)
        self.state.loading = None
        self.say_it_runs(checkpoint)

    def _begin_batch(self) -> BatchProcessor:
        self._watch = Stopwatch()
        own = self._runtime, self._enricher, self._store, self._customers, self._writer
        return BatchProcessor(*own) if self._core is None else CompiledBatch(self._core, *own)

    @contextmanager
    def _narrowing_down(self, work: BatchProcessor, inputs: Inputs, records: Taken) -> Iterator[None]:
        """Take records inside the block. An unexpected error names the record if there was only one."""
        try:
            yield
        except EXPECTED_ERRORS:
            raise
        except Exception as error:
            self._narrow_down(work, inputs)
            if work.records == 1:
                raise _record_error(records[0], error) from error
            raise

    def _narrow_down(self, work: BatchProcessor, inputs: Inputs) -> None:
        """Have the next micro-batches take fewer records, until what this one could not take is behind them.

        Of a record that no micro-batch survives, the offset is known once a micro-batch takes that record alone.
        """
        self._most_records = max(1, work.records // NARROWED_BY)
        self._narrow_before = inputs.offsets

    async def _sweep_and_fetch(self, work: BatchProcessor, day: int, inputs: Inputs) -> int:
        """Gives how many records came. While customers are due, slices of them are swept until some come."""
        if not self._is_sweeping(day):
            return await inputs.fill(0 if any(inputs.buffers.values()) else FETCH_TIMEOUT_MS)
        now_s = asyncio.get_running_loop().time
        ends_s = now_s() + SWEEP_S
        while True:
            swept = work.swept
            wait_s = await self._sweep(work, day)
            is_through = wait_s == 0 and work.swept == swept
            if is_through and swept == 0:
                self._swept_day = day
            self._watch.lap("compute")
            await asyncio.sleep(0)
            fetched = await inputs.fill(0 if any(inputs.buffers.values()) else math.ceil(wait_s * 1_000))
            self._watch.lap("fetch")
            if is_through or work.is_full or any(inputs.buffers.values()) or now_s() >= ends_s:
                return fetched

    async def _sweep(self, work: BatchProcessor, day: int) -> float:
        """Sweep a slice of the customers who are due if the pace allows; gives the seconds to wait if it does not."""
        if not self._is_sweeping(day):
            return 0.0
        now_s = asyncio.get_running_loop().time
        wait_s = self._runtime.pace.wait_s()
        if wait_s > 0 and now_s() < self._swept_at_s + LONGEST_PAUSE_S:
            return wait_s
        with self._runtime.pace.slice():
            await work.sweep(day)
        self._swept_at_s = now_s()
        return 0.0

    async def _finish(self, batch: MicroBatch, publisher: Publisher) -> None:
        """Persist, then publish: after a crash in between, the outbox is in Redis."""
        await self._store.persist(batch)
        self._watch.lap("persist")
        await publisher.publish(batch.outbox, batch.after)
        self._watch.lap("publish")

    async def _look_after(self) -> None:
        """While nothing comes, see that Redis has lost nothing: profiles are read there, and who is due."""
        now_s = asyncio.get_running_loop().time()
        if now_s - self._looked_at_s >= LOOK_EVERY_S:
            await self._store.check()
            self._looked_at_s = now_s

    def _is_sweeping(self, day: int) -> bool:
        """Whether anyone may still be due on a midnight up to this one."""
        return day >= 0 and self._swept_day != day

    async def trusted_now_us(self, publisher: Publisher) -> int | None:
        """The time, or None where no midnight may pass by it."""
        if self.settings.clock == "event":
            now_us: int | None = self._runtime.now_us()
        else:
            now_us = await self._runtime.clock_check.trusted_now_us(self._runtime.clients.redis, publisher)
        self.state.is_clock_trusted = now_us is not None
        return now_us

    def _note(self, work: BatchProcessor, batch: MicroBatch) -> None:
        checkpoint = batch.after
        self._runtime.metrics.note_batch(work, batch, self._watch, self._runtime.now_us())
        self._runtime.metrics.note_midnights(
            self.partition, batch.before.midnight_day, checkpoint.midnight_day
        )
        self._runtime.metrics.note_lookups(*self.cache.drain_counts())
        self.cache.trim()
        if all(checkpoint.offsets[topic] >= offset for topic, offset in self._narrow_before.items()):
            self._most_records = self.settings.batch_max_records
        self.state.checkpoint = checkpoint
        self.state.failing_since_s = None
        self.state.batches += 1
        self.state.outcomes += work.results.outcomes
        self.state.changes += work.change_counts.total()
        log.debug(
            "partition %d: micro-batch %d published: %d records, %d changes",
            self.partition,
            checkpoint.batch_id,
            work.records,
            work.change_counts.total(),
        )

    def say_it_runs(self, checkpoint: Checkpoint) -> None:
        """Tell that the partition runs, or loads."""
        self.state.status, self.state.reason = Status.LOADING if checkpoint.is_loading else Status.RUNNING, ""


def _record_error(arrived: Arrived, error: Exception) -> RecordError:
    """The error of a record that a micro-batch took alone, and failed."""
    topic, offset = arrived.topic, arrived.record.offset
    where = f"{arrived.record.topic}, partition {arrived.record.partition}: offset {offset}"
    reason = f"{where} ends every micro-batch that takes it: {type(error).__name__}: {one_line(error)}"
    return RecordError(Stuck(topic, offset, offset + 1, "record", reason))
