"""One partition's loop: take over, then fetch, compute, persist and publish, step after step."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from enum import Enum

from aiokafka.errors import KafkaError, OffsetOutOfRangeError
from redis.exceptions import RedisError

from enrichment.acceptance import Topic
from enrichment.enricher import Enricher
from enrichment.model import Model
from streams.cache import CustomerCache
from streams.clients import Clients
from streams.clock import Clock
from streams.clock_check import ClockCheck, wall_clock_us
from streams.computation import Computation
from streams.deadlines import within
from streams.errors import EbbtideError
from streams.garbage import look_in_small_portions
from streams.inputs import Inputs, offsets_gone
from streams.metrics import Metrics, Stopwatch
from streams.output import OutputWriter
from streams.publisher import Publisher, make_publisher
from streams.rebuild import LogTooShortError
from streams.redis_keys import PartitionKeys
from streams.settings import Settings
from streams.size_limits import SizeLimits, StoppedError
from streams.state_store import FencedError, StateStore, Stop
from streams.step import Mark, Step
from streams.sweep_pace import SweepPace
from streams.take_over import TakeOver

log = logging.getLogger(__name__)

UNIT_RECORDS = 500
"""Records computed before other partitions and heartbeats get their turn."""
FETCH_TIMEOUT_MS = 200
SWEEP_S = 0.2
"""How long a step sweeps where no records come."""
LONGEST_PAUSE_S = 5.0
"""Between two slices of a partition whose customers are due, whatever the pace says."""
FIRST_BACK_OFF_S, LONGEST_BACK_OFF_S = 0.2, 10.0
LOOK_EVERY_S = 1.0
KEEP_STOP_TIMEOUT_S = 5.0
STEP_TIMEOUT_S = 120.0
"""How long a step may take besides its publication. Each request in it has a limit of its own; this is for what none of
them foresees, since a step that waits for ever looks from outside like one that has nothing to do."""
MOST_PATIENCE = 10
STOPPING_ERRORS = (StoppedError, LogTooShortError, OffsetOutOfRangeError)
EXPECTED_ERRORS = (EbbtideError, KafkaError, RedisError, TimeoutError, OSError)


class Status(Enum):
    """Where a partition task is."""

    TAKING_OVER = "taking over"
    RUNNING = "running"
    BACKING_OFF = "backing off"
    STOPPED = "stopped"


@dataclass(slots=True)
class PartitionState:
    """What the outside may know of a partition task."""

    status: Status = Status.TAKING_OVER
    reason: str = ""
    steps: int = 0
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    changes: int = 0
    is_idle: bool = False
    is_clock_trusted: bool | None = None
    mark: Mark | None = None


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
        self._swept_day = -2
        self._swept_at_s = 0.0
        self._looked_at_s = 0.0
        self._failures = 0

    @property
    def cached_customers(self) -> int:
        """How many customers are in memory."""
        return len(self._cache)

    def lag(self) -> dict[Topic, int]:
        """Records of each input not yet taken; empty while the partition does not run."""
        return {} if self._inputs is None else self._inputs.lag()

    async def count_due(self) -> int | None:
        """How many customers the last midnight still has to reach; None while the partition does not run."""
        if self._inputs is None or self.state.mark is None:
            return None
        return await self._store.count_due(self.state.mark.midnight_day)

    async def run(self) -> None:
        """Take over and work; after an error, take over again, later and later."""
        back_off_s = FIRST_BACK_OFF_S
        while not self.stopping.is_set():
            steps = self.state.steps
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
                self._failures += 1
                self._metrics.note_back_off(error)
                if self.state.steps > steps:
                    back_off_s, self._failures = FIRST_BACK_OFF_S, 1
                self.state.status, self.state.reason = Status.BACKING_OFF, f"{type(error).__name__}: {error}"
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
        """Own the partition from take-over to the first error."""
        self._cache.clear()
        self._swept_day = -2
        self.state.status = Status.TAKING_OVER
        # A step that Kafka was too slow for is given more time at each attempt.
        timeout_s = self.settings.publish_timeout_s * min(1 + self._failures, MOST_PATIENCE)
        publisher = make_publisher(self.settings, self._clients, self.partition, timeout_s)
        inputs = Inputs(self.settings, self._clients, self.partition, self.model)
        try:
            await inputs.open()

            async def first_midnight_day() -> int | None:
                now_us = await self._trusted_now_us(publisher)
                return None if now_us is None else self._clock.first_midnight_day(now_us)

            take_over = TakeOver(
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
            mark = await take_over.run()
            assert self._store.facts is not None
            namespace = self._store.facts.change_namespace(self.settings)
            self._enricher = Enricher(self.model, namespace, self.settings.horizons)
            self._writer = OutputWriter(namespace)
            inputs.seek(mark.offsets)
            await self._store.forget_stop()
            self._metrics.note_take_over(take_over.found)
            self._inputs = inputs
            self.state.status, self.state.reason = Status.RUNNING, ""
            self.state.mark = mark
            while not self.stopping.is_set():
                mark = await self._step_in_time(mark, inputs, publisher)
        except STOPPING_ERRORS:
            # Whoever has lost the partition meanwhile may have seen what is no more.
            await publisher.confirm()
            raise
        finally:
            self._inputs = None
            self._cache.clear()
            await asyncio.gather(inputs.close(), publisher.close(), return_exceptions=True)

    async def _step_in_time(self, mark: Mark, inputs: Inputs, publisher: Publisher) -> Mark:
        """One step, or an error where it hangs."""
        async with within(STEP_TIMEOUT_S + publisher.timeout_s, f"step {mark.step + 1}"):
            return await self._step(mark, inputs, publisher)

    async def _step(self, mark: Mark, inputs: Inputs, publisher: Publisher) -> Mark:
        """One step, if there is anything to do.

        1. Fetch; while customers are due, some of them are swept first.
        2. Compute: records up to the midnights they lie behind.
        3. Persist.
        4. Publish.
        5. Empty the outbox, of which nothing is needed any more: so nothing of an erased customer stays in Redis.
        """
        self._watch = Stopwatch()
        work = Computation(
            self.settings, self.model, self._enricher, self._store, self._cache, self._writer, self._limits
        )
        day = mark.midnight_day
        fetched = await self._sweep_and_fetch(work, day, inputs)
        with self._pace.records() if any(inputs.buffers.values()) else nullcontext():
            trusted_us = await self._trusted_now_us(publisher)
            if not fetched or self._clock.needs_ends(inputs, day, trusted_us):
                await inputs.ask_ends(trusted_us)
            self._watch.lap("fetch")
            while not work.records or not work.is_full:
                limit = min(UNIT_RECORDS, self.settings.batch_max_records)
                segment = self._clock.take(inputs, day, trusted_us, limit)
                if not segment.arrived and segment.midnight_day == day:
                    break
                if work.records:
                    await self._sweep(work, day)
                    await asyncio.sleep(0)  # a small step has turns enough when it waits for Redis and Kafka
                day = segment.midnight_day
                await work.process(segment)
            if work.records == 0 and work.swept == 0 and day == mark.midnight_day:
                await self._look_after()
                is_caught_up = all(inputs.is_caught_up(topic) for topic in inputs.buffers)
                self.state.is_idle = is_caught_up and not self._is_sweeping(day)
                return mark
            self.state.is_idle = False
            step = work.step(mark, mark.next(day, inputs.offsets))
            self._watch.lap("compute")
            await self._finish(step, publisher)
        self._note(work, step)
        await self._store.empty_outbox()
        if inputs.is_at_end:
            look_in_small_portions()
        return step.after

    async def _sweep_and_fetch(self, work: Computation, day: int, inputs: Inputs) -> int:
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

    async def _sweep(self, work: Computation, day: int) -> float:
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

    async def _finish(self, step: Step, publisher: Publisher) -> None:
        """Persist, then publish: after a crash in between, the outbox is in Redis."""
        await self._store.persist(step)
        self._watch.lap("persist")
        await publisher.publish(step.outbox, step.after)
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

    async def _trusted_now_us(self, publisher: Publisher) -> int | None:
        """The time, or None where no midnight may pass by it."""
        if self.settings.clock == "event":
            now_us: int | None = self._now_us()
        else:
            now_us = await self._clock_check.trusted_now_us(self._clients.redis, publisher)
        self.state.is_clock_trusted = now_us is not None
        return now_us

    def _note(self, work: Computation, step: Step) -> None:
        mark = step.after
        self._metrics.note_step(work, step, self._watch, self._now_us())
        self._metrics.note_midnights(self.partition, step.before.midnight_day, mark.midnight_day)
        self._metrics.note_lookups(*self._cache.drain_counts())
        self._cache.trim()
        self.state.mark = mark
        self.state.steps += 1
        self.state.outcomes += work.results.outcomes
        self.state.changes += len(work.results.changes)
        log.debug(
            "partition %d: step %d published: %d records, %d changes",
            self.partition,
            mark.step,
            work.records,
            len(work.results.changes),
        )

    async def _stop(self, reason: str) -> None:
        self.state.status, self.state.reason = Status.STOPPED, reason
        log.critical("%s", reason)
        try:
            async with asyncio.timeout(KEEP_STOP_TIMEOUT_S):
                await self._store.keep_stop(Stop(reason, self._now_us()))
        except EXPECTED_ERRORS as error:
            log.warning("partition %d: the reason is not kept in Redis: %s", self.partition, error)


def _reason_of(error: Exception, partition: int) -> str:
    if isinstance(error, OffsetOutOfRangeError):
        error = offsets_gone(error.args[0], partition)
    said, named = str(error), f"partition {partition}: stopped: "
    return said if said.startswith(named) else named + said
