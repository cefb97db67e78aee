"""One partition's loop: take over, then fetch, compute, persist and publish, micro-batch after micro-batch."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from enum import Enum

from aiokafka.errors import KafkaError, OffsetOutOfRangeError
from redis.exceptions import RedisError

from enrichment.days import FOREVER_DAY
from enrichment.enricher import UNDECIDED_DAY, Enricher
from enrichment.model import Model
from schemas.topics import InputTopic
from streams.checkpoint import Checkpoint
from streams.errors import EbbtideError, one_line
from streams.garbage import look_in_small_portions
from streams.kafka.size_limits import SizeLimits, StoppedError
from streams.micro_batch import MicroBatch
from streams.settings import Settings
from streams.state.cache import CustomerCache
from streams.state.keys import PartitionKeys
from streams.state.store import FencedError, StateStore, Stop
from streams.state.stuck import LOOK_AGAIN_S, Stuck, Suspects
from streams.timeouts import within
from streams.worker.batch_processor import BatchProcessor
from streams.worker.clients import Clients
from streams.worker.clock import Clock
from streams.worker.clock_check import ClockCheck, wall_clock_us
from streams.worker.first_load import LoadProgress, next_records
from streams.worker.inputs import (
    Arrived,
    Inputs,
    OpenTransaction,
    RecordError,
    StuckError,
    UnreadableInputError,
    offsets_gone,
)
from streams.worker.metrics import Metrics, Stopwatch
from streams.worker.outputs import OutputWriter
from streams.worker.publisher import Publisher, make_publisher
from streams.worker.recovery import Recovery
from streams.worker.restore import LogTooShortError
from streams.worker.sweep_pace import SweepPace

log = logging.getLogger(__name__)

NARROWED_BY = 16
"""A micro-batch with a record that none survives is tried again with so many times fewer records."""
UNIT_RECORDS = 500
"""Records computed before other partitions and heartbeats get their turn."""
FETCH_TIMEOUT_MS = 200
SWEEP_S = 0.2
"""How long a micro-batch sweeps where no records come."""
LONGEST_PAUSE_S = 5.0
"""Between two slices of a partition whose customers are due, whatever the pace says."""
FIRST_BACK_OFF_S, LONGEST_BACK_OFF_S = 0.2, 10.0
LOOK_EVERY_S = 1.0
KEEP_STOP_TIMEOUT_S = 5.0
LOAD_BATCH_S = 30.0
"""How long a micro-batch of a first load goes on taking records: well below what a micro-batch may take."""
BATCH_TIMEOUT_S = 120.0
"""How long a batch may take besides its publication. Each request in it has a limit of its own; this is for what none
of them foresees, since a micro-batch that waits for ever looks from outside like one that has nothing to do."""
MOST_PATIENCE = 10
OPEN_TRANSACTION_S = 900.0
"""How long an input stands before an open transaction until that is called an error."""
RECOVERED_AFTER_S = 5.0
"""How long a partition must run after an error until a batch that finds nothing to do shows that it has recovered."""
STOPPING_ERRORS = (StoppedError, LogTooShortError, OffsetOutOfRangeError)
EXPECTED_ERRORS = (EbbtideError, KafkaError, RedisError, TimeoutError, OSError)


class Status(Enum):
    """Where a partition task is."""

    TAKING_OVER = "taking over"
    LOADING = "loading"
    RUNNING = "running"
    BACKING_OFF = "backing off"
    STOPPED = "stopped"


@dataclass(slots=True)
class PartitionState:
    """What the outside may know of a partition task; `is_tried` once its first recovery has ended, well or not."""

    status: Status = Status.TAKING_OVER
    reason: str = ""
    batches: int = 0
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    changes: int = 0
    is_idle: bool = False
    is_tried: bool = False
    is_clock_trusted: bool | None = None
    checkpoint: Checkpoint | None = None
    loading: LoadProgress | None = None
    """While the first load is under way."""


class PartitionTask:
    """Runs one partition until it is cancelled, told to stop, or must not go on."""

    def __init__(
        self,
        settings: Settings,
        model: Model,
        clients: Clients,
        clock: Clock,
        partition: int,
        now_us: Callable[[], int] | None = None,
        limits: SizeLimits | None = None,
        clock_check: ClockCheck | None = None,
        metrics: Metrics | None = None,
        pace: SweepPace | None = None,
    ) -> None:
        self._limits = limits or SizeLimits()
        self._metrics = metrics or Metrics()
        self._inputs: Inputs | None = None
        self._watch = Stopwatch()
        self.settings = settings
        self.model = model
        self.partition = partition
        self.state = PartitionState()
        self.stopping = asyncio.Event()
        self._clients = clients
        self._clock = clock
        self._now_us = now_us or wall_clock_us
        self._enricher = Enricher(model, settings.change_namespace, settings.horizons)
        self._writer = OutputWriter(settings.change_namespace)
        self._cache = CustomerCache(settings.cache_customers)
        keys = PartitionKeys.of(settings, partition)
        self._store = StateStore(clients.redis, keys, model, settings.erasure_keys)
        self._clock_check = clock_check or ClockCheck(settings.max_clock_skew_s, now_us)
        self._pace = pace or SweepPace()
        self._most_records = settings.batch_max_records
        self._narrow_before: dict[InputTopic, int] = {}
        self._suspects = Suspects()
        self._stuck: Stuck | None = None
        self._swept_day = -2
        self._swept_at_s = 0.0
        self._looked_at_s = 0.0
        self._told_of: dict[InputTopic, int] = {}
        self._failures = 0
        self._offsets: Mapping[InputTopic, int] = {}
        self._last_lag: dict[InputTopic, int] = {}
        self._last_error = ""
        self._failing_since_s: float | None = None
        self._running_since_s = 0.0
        self._is_told_failing = False

    @property
    def cached_customers(self) -> int:
        """How many customers are in memory."""
        return len(self._cache)

    def lag(self, ends: Mapping[InputTopic, int]) -> dict[InputTopic, int]:
        """Records of each input not yet taken, without those of no known end.

        `ends` are those that somebody else has asked for: while the partition does not run, it knows of none later than
        its last fetch.
        """
        if self._inputs is not None:
            return self._inputs.lag()
        beyond = {topic: max(0, ends[topic] - at) for topic, at in self._offsets.items() if topic in ends}
        return {**self._last_lag, **beyond}

    async def tell_failing(self, after_s: float, lives_s: float) -> None:
        """Keep in Redis by what the partition fails again and again, if it has for `after_s`, until it goes on.

        Redis forgets it by itself where it is not told again within `lives_s`.
        """
        if self._failing_since_s is None:
            if self._is_told_failing:
                self._is_told_failing = False
                await self._store.forget_failing()
            return
        failing_s = asyncio.get_running_loop().time() - self._failing_since_s
        if failing_s >= after_s:
            since_us = self._now_us() - int(failing_s * 1e6)
            self._is_told_failing = True
            await self._store.tell_failing(Stop(self._last_error, since_us), lives_s)

    def open_transactions(self) -> dict[InputTopic, OpenTransaction]:
        """What hides records of an input from this partition; empty while it does not run."""
        return {} if self._inputs is None else self._inputs.open_transactions()

    async def count_due(self) -> int | None:
        """How many customers the last midnight still has to reach; None while the partition does not run, or loads."""
        if self._inputs is None or self.state.checkpoint is None or self.state.checkpoint.is_loading:
            return None
        return await self._store.count_due(self.state.checkpoint.midnight_day)

    async def run(self) -> None:
        """Take over and work; after an error, take over again, later and later."""
        back_off_s = FIRST_BACK_OFF_S
        while not self.stopping.is_set():
            batches = self.state.batches
            try:
                await self._own_until_cancelled()
                return
            except STOPPING_ERRORS as error:
                await self._stop(_reason_of(error, self.partition))
                return
            except Exception as error:
                # Nothing is unsafe about taking over again; what must not go on says so by StoppedError.
                if not isinstance(error, EXPECTED_ERRORS):
                    log.exception("partition %d: unexpected error", self.partition)
                self._note_error(error)
                self._metrics.note_back_off(error)
                if self.state.batches > batches:
                    back_off_s, self._failures = FIRST_BACK_OFF_S, 1
                self.state.status, self.state.reason = Status.BACKING_OFF, self._last_error
                await self._note_stuck(error)
                if isinstance(error, UnreadableInputError):
                    back_off_s = LOOK_AGAIN_S
                level = logging.WARNING if isinstance(error, FencedError) else logging.ERROR
                log.log(
                    level,
                    "partition %d: %s; taking over again in %.1f s",
                    self.partition,
                    self.state.reason,
                    back_off_s,
                )
            try:
                await asyncio.wait_for(self.stopping.wait(), back_off_s)
            except TimeoutError:
                back_off_s = min(2 * back_off_s, LONGEST_BACK_OFF_S)

    def _note_error(self, error: Exception) -> None:
        self._failures += 1
        self._last_error = f"{type(error).__name__}: {error}"
        self.state.is_tried = True
        if self._failing_since_s is None:
            self._failing_since_s = asyncio.get_running_loop().time()

    async def _own_until_cancelled(self) -> None:
        """Own the partition; a cancellation that nobody asked for is an error like others.

        It comes out of aiokafka where a future that it waits for is cancelled, and would end this task without a word.
        """
        try:
            await self._own()
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            assert task is not None
            if task.cancelling():
                raise
            raise EbbtideError("a client of Kafka or Redis ended as if cancelled") from error

    async def _own(self) -> None:
        """Own the partition from recovery to the first error."""
        self._cache.clear()
        self._swept_day = -2
        self.state.status = Status.TAKING_OVER
        # A micro-batch that Kafka was too slow for is given more time at each attempt.
        timeout_s = self.settings.publish_timeout_s * min(1 + self._failures, MOST_PATIENCE)
        publisher = make_publisher(self.settings, self._clients, self.partition, timeout_s)
        inputs = Inputs(self.settings, self._clients, self.partition, self.model, self._suspects)
        recovery: Recovery | None = None
        try:
            await inputs.open()

            async def first_midnight_day() -> int | None:
                now_us = await self._trusted_now_us(publisher)
                return None if now_us is None else self._clock.first_midnight_day(now_us)

            recovery = Recovery(
                self.settings,
                self._clients,
                self.model,
                self.partition,
                self._store,
                publisher,
                inputs,
                first_midnight_day,
                self._metrics,
            )
            checkpoint = await recovery.run()
            assert self._store.facts is not None
            namespace = self._store.facts.change_namespace(self.settings)
            self._enricher = Enricher(self.model, namespace, self.settings.horizons)
            self._writer = OutputWriter(namespace)
            inputs.seek(checkpoint.offsets)
            self._stuck = await self._store.go_on()
            self._metrics.note_recovery(recovery.found.name.lower())
            self._inputs = inputs
            self.state.is_tried = True
            self._running_since_s = asyncio.get_running_loop().time()
            self.state.checkpoint = checkpoint
            self.state.loading = LoadProgress(self.partition) if checkpoint.is_loading else None
            if self._stuck is None:
                self._say_it_runs(checkpoint)
            else:
                self.state.reason = self._stuck.reason
                await self._take_request(inputs)
            if checkpoint.is_loading:
                await self._note_load(checkpoint)
            while not self.stopping.is_set():
                checkpoint = await self._batch_in_time(checkpoint, inputs, publisher)
                await self._look_whether_unstuck(checkpoint, inputs)
                self._tell_of_open_transactions()
                self._note_progress()
        except STOPPING_ERRORS:
            # Whoever has lost the partition meanwhile may have seen what is no more.
            await publisher.confirm()
            raise
        finally:
            self._keep_lag(recovery)
            self._inputs = None
            self._cache.clear()
            await asyncio.gather(inputs.close(), publisher.close(), return_exceptions=True)

    async def _take_request(self, inputs: Inputs) -> None:
        """Obey what `ebbtide skip` asked for, where the partition is stuck at that offset; else refuse it."""
        request = await self._store.skip_request()
        if request is None:
            return
        stuck = self._stuck
        if stuck is not None and stuck.holds(request.topic, request.offset):
            inputs.skip(request, stuck)
            return
        log.warning(
            "partition %d: %s asked to skip %s offset %d, but it is not stuck there: refused",
            self.partition,
            request.by,
            request.topic,
            request.offset,
        )
        await self._store.refuse_skip(request)

    async def _look_whether_unstuck(self, checkpoint: Checkpoint, inputs: Inputs) -> None:
        """Say that the partition runs, once it has come past where it was stuck."""
        if self._stuck is not None and inputs.is_past(self._stuck):
            await self._store.keep_stuck(None)
            self._stuck = None
            self._suspects.forget_before(checkpoint.offsets)
            self._say_it_runs(checkpoint)
            await self._take_request(inputs)  # one that was not needed any more

    def _say_it_runs(self, checkpoint: Checkpoint) -> None:
        self.state.status, self.state.reason = Status.LOADING if checkpoint.is_loading else Status.RUNNING, ""

    async def _note_stuck(self, error: Exception) -> None:
        """Keep where and why the partition is stuck, so that it can be looked up beside the worker."""
        if not isinstance(error, StuckError):
            return
        self._stuck = error.stuck
        try:
            async with asyncio.timeout(KEEP_STOP_TIMEOUT_S):
                await self._store.keep_stuck(error.stuck)
        except EXPECTED_ERRORS as failure:
            log.warning("partition %d: where it is stuck is not kept in Redis: %s", self.partition, failure)

    def _note_progress(self) -> None:
        """A micro-batch has ended well. One that found nothing to do may have come before what fails."""
        if asyncio.get_running_loop().time() - self._running_since_s >= RECOVERED_AFTER_S:
            self._failing_since_s = None

    def _keep_lag(self, recovery: Recovery | None) -> None:
        """Keep where the partition stood, for as long as it does not run."""
        if self._inputs is not None:
            self._last_lag = self._inputs.lag()
        if self.state.checkpoint is not None:
            self._offsets = self.state.checkpoint.offsets
        elif recovery is not None and recovery.stored is not None:
            self._offsets = recovery.stored.checkpoint.offsets

    async def _batch_in_time(
        self, checkpoint: Checkpoint, inputs: Inputs, publisher: Publisher
    ) -> Checkpoint:
        """One micro-batch, or an error where it hangs."""
        async with within(BATCH_TIMEOUT_S + publisher.timeout_s, f"micro-batch {checkpoint.batch_id + 1}"):
            if checkpoint.is_loading:
                return await self._load_batch(checkpoint, inputs, publisher)
            return await self._run_batch(checkpoint, inputs, publisher)

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
        with self._pace.records() if any(inputs.buffers.values()) else nullcontext():
            trusted_us = await self._trusted_now_us(publisher)
            if not fetched or self._clock.needs_ends(inputs, day, trusted_us):
                await inputs.ask_ends(trusted_us, with_high=self._clock.needs_high(inputs, day, trusted_us))
            self._watch.lap("fetch")
            while not work.records or not (work.is_full or work.records >= self._most_records):
                limit = min(UNIT_RECORDS, self.settings.batch_max_records, self._most_records)
                time_slice = self._clock.take(inputs, day, trusted_us, limit)
                if not time_slice.arrived and time_slice.midnight_day == day:
                    break
                if work.records:
                    await self._sweep(work, day)
                    await asyncio.sleep(
                        0
                    )  # a small micro-batch has turns enough when it waits for Redis and Kafka
                day = time_slice.midnight_day
                with self._narrowing_down(work, inputs, time_slice.arrived):
                    await work.process(time_slice)
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
        if inputs.is_at_end:
            look_in_small_portions()
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
            limit = min(UNIT_RECORDS, self.settings.batch_max_records, self._most_records)
            ends_s = asyncio.get_running_loop().time() + LOAD_BATCH_S
            while not work.has_loaded_enough and work.records < self._most_records:
                try:
                    records = await next_records(inputs, checkpoint.load, limit)
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
        await self._note_load(batch.after)
        if stuck is not None:
            raise stuck
        return batch.after

    async def _note_load(self, checkpoint: Checkpoint) -> None:
        """Tell how far the first load has come, or that it is through."""
        progress = self.state.loading
        assert progress is not None
        customers = await self._store.count_due(FOREVER_DAY)
        if checkpoint.is_loading:
            progress.note(checkpoint, customers, await self._store.count_due(UNDECIDED_DAY))
            return
        log.info("partition %d: first load done: %d customers decided on", self.partition, customers)
        self.state.loading = None
        self._say_it_runs(checkpoint)

    def _begin_batch(self) -> BatchProcessor:
        self._watch = Stopwatch()
        return BatchProcessor(
            self.settings, self.model, self._enricher, self._store, self._cache, self._writer, self._limits
        )

    @contextmanager
    def _narrowing_down(
        self, work: BatchProcessor, inputs: Inputs, records: Sequence[Arrived]
    ) -> Iterator[None]:
        """Take records inside the block; an error that nothing foresees is told with the record where it takes one."""
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
        wait_s = self._pace.wait_s()
        if wait_s > 0 and now_s() < self._swept_at_s + LONGEST_PAUSE_S:
            return wait_s
        with self._pace.slice():
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

    def _tell_of_open_transactions(self) -> None:
        """Log each input that has stood for long before an open transaction, once for the place where it stands."""
        for topic, found in self.open_transactions().items():
            if found.stands_for_s < OPEN_TRANSACTION_S or self._told_of.get(topic) == found.offset:
                continue
            self._told_of[topic] = found.offset
            log.error(
                "partition %d: %s has an open transaction at offset %d, for %.0f minutes now: %d records behind it "
                "cannot be read, and midnights wait; ebbtide doctor names its producer and the command that aborts it",
                self.partition,
                self.settings.topic(topic),
                found.offset,
                found.stands_for_s / 60,
                found.records,
            )

    def _is_sweeping(self, day: int) -> bool:
        """Whether anyone may still be due on a midnight up to this one."""
        return day >= 0 and self._swept_day != day

    async def _trusted_now_us(self, publisher: Publisher) -> int | None:
        """The time, or None where no midnight may pass by it."""
        if self.settings.clock == "event":
            now_us: int | None = self._now_us()
        else:
            now_us = await self._clock_check.trusted_now_us(self._clients.redis, publisher)
        self.state.is_clock_trusted = now_us is not None
        return now_us

    def _note(self, work: BatchProcessor, batch: MicroBatch) -> None:
        checkpoint = batch.after
        self._metrics.note_batch(work, batch, self._watch, self._now_us())
        self._metrics.note_midnights(self.partition, batch.before.midnight_day, checkpoint.midnight_day)
        self._metrics.note_lookups(*self._cache.drain_counts())
        self._cache.trim()
        if all(checkpoint.offsets[topic] >= offset for topic, offset in self._narrow_before.items()):
            self._most_records = self.settings.batch_max_records
        self.state.checkpoint = checkpoint
        self._failing_since_s = None
        self.state.batches += 1
        self.state.outcomes += work.results.outcomes
        self.state.changes += len(work.results.changes)
        log.debug(
            "partition %d: micro-batch %d published: %d records, %d changes",
            self.partition,
            checkpoint.batch_id,
            work.records,
            len(work.results.changes),
        )

    async def _stop(self, reason: str) -> None:
        self.state.status, self.state.reason, self.state.is_tried = Status.STOPPED, reason, True
        self._failing_since_s = None  # it is told as a stop
        log.critical("%s", reason)
        try:
            async with asyncio.timeout(KEEP_STOP_TIMEOUT_S):
                await self._store.keep_stop(Stop(reason, self._now_us()))
        except EXPECTED_ERRORS as error:
            log.warning("partition %d: the reason is not kept in Redis: %s", self.partition, error)


def _record_error(arrived: Arrived, error: Exception) -> RecordError:
    """The error of a record that a micro-batch took alone, and failed."""
    topic, offset = arrived.topic, arrived.record.offset
    where = f"{arrived.record.topic}, partition {arrived.record.partition}: offset {offset}"
    reason = f"{where} ends every micro-batch that takes it: {type(error).__name__}: {one_line(error)}"
    return RecordError(Stuck(topic, offset, offset + 1, "record", reason))


def _reason_of(error: Exception, partition: int) -> str:
    if isinstance(error, OffsetOutOfRangeError):
        error = offsets_gone(error.args[0], partition)
    said, named = str(error), f"partition {partition}: stopped: "
    return said if said.startswith(named) else named + said
