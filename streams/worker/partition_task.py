"""One partition, from recovery to the next error: it is recovered, its micro-batches run, and errors are met.

What must not go on stops the partition; after any other error it is recovered anew, later and later.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from aiokafka.errors import OffsetOutOfRangeError

from schemas.topics import InputTopic
from streams.checkpoint import Checkpoint
from streams.errors import EbbtideError
from streams.kafka.size_limits import StoppedError
from streams.state.keys import PartitionKeys
from streams.state.store import FencedError, StateStore, Stop
from streams.state.stuck import LOOK_AGAIN_S, Stuck, Suspects
from streams.worker.batch_loop import EXPECTED_ERRORS, BatchLoop
from streams.worker.clock import Clock
from streams.worker.first_load import LoadProgress
from streams.worker.partition_state import PartitionState, Status
from streams.worker.publisher import make_publisher
from streams.worker.reading.errors import StuckError, UnreadableInputError, offsets_gone
from streams.worker.reading.inputs import Inputs, OpenTransaction
from streams.worker.recovery import Recovery
from streams.worker.restoring.restore import LogTooShortError
from streams.worker.runtime import Runtime

log = logging.getLogger(__name__)

FIRST_BACK_OFF_S, LONGEST_BACK_OFF_S = 0.2, 10.0
KEEP_STOP_TIMEOUT_S = 5.0
MOST_PATIENCE = 10
OPEN_TRANSACTION_S = 900.0
"""How long an input stands before an open transaction until that is called an error."""
RECOVERED_AFTER_S = 5.0
"""How long a partition must run after an error until a batch that finds nothing to do shows that it has recovered."""
STOPPING_ERRORS = (StoppedError, LogTooShortError, OffsetOutOfRangeError)


class PartitionTask:
    """Runs one partition until it is cancelled, told to stop, or must not go on."""

    def __init__(self, runtime: Runtime, clock: Clock, partition: int) -> None:
        self.settings = settings = runtime.settings
        self.partition = partition
        self.state = PartitionState()
        self.stopping = asyncio.Event()
        self._runtime = runtime
        self._clock = clock
        keys = PartitionKeys.of(settings, partition)
        self._store = StateStore(runtime.clients.redis, keys, runtime.model, settings.erasure_keys)
        self._batches = BatchLoop(runtime, clock, partition, self._store, self.state)
        self._inputs: Inputs | None = None
        self._suspects = Suspects()
        self._stuck: Stuck | None = None
        self._told_of: dict[InputTopic, int] = {}
        self._failures = 0
        self._offsets: Mapping[InputTopic, int] = {}
        self._last_lag: dict[InputTopic, int] = {}
        self._last_error = ""
        self._running_since_s = 0.0
        self._is_told_failing = False

    @property
    def cached_customers(self) -> int:
        """How many customers are in memory."""
        return len(self._batches.cache)

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
        if self.state.failing_since_s is None:
            if self._is_told_failing:
                self._is_told_failing = False
                await self._store.forget_failing()
            return
        failing_s = asyncio.get_running_loop().time() - self.state.failing_since_s
        if failing_s >= after_s:
            since_us = self._runtime.now_us() - int(failing_s * 1e6)
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
                self._runtime.metrics.note_back_off(error)
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
        if self.state.failing_since_s is None:
            self.state.failing_since_s = asyncio.get_running_loop().time()

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
        settings, clients = self.settings, self._runtime.clients
        self._batches.begin()
        self.state.status = Status.TAKING_OVER
        # A micro-batch that Kafka was too slow for is given more time at each attempt.
        timeout_s = settings.publish_timeout_s * min(1 + self._failures, MOST_PATIENCE)
        publisher = make_publisher(settings, clients, self.partition, timeout_s)
        inputs = Inputs(settings, clients, self.partition, self._runtime.model, self._suspects)
        recovery: Recovery | None = None
        try:
            await inputs.open()

            async def first_midnight_day() -> int | None:
                now_us = await self._batches.trusted_now_us(publisher)
                return None if now_us is None else self._clock.first_midnight_day(now_us)

            recovery = Recovery(
                self._runtime, self.partition, self._store, publisher, inputs, first_midnight_day
            )
            checkpoint = await recovery.run()
            assert self._store.facts is not None
            self._batches.begin_reading(inputs, self._store.facts.change_namespace(settings))
            inputs.seek(checkpoint.offsets)
            self._stuck = await self._store.go_on()
            self._runtime.metrics.note_recovery(recovery.found.name.lower())
            self._inputs = inputs
            self.state.is_tried = True
            self._running_since_s = asyncio.get_running_loop().time()
            self.state.checkpoint = checkpoint
            self.state.loading = LoadProgress(self.partition) if checkpoint.is_loading else None
            if self._stuck is None:
                self._batches.say_it_runs(checkpoint)
            else:
                self.state.reason = self._stuck.reason
                await self._take_request(inputs)
            if checkpoint.is_loading:
                await self._batches.note_load(checkpoint)
            while not self.stopping.is_set():
                checkpoint = await self._batches.run(checkpoint, inputs, publisher)
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
            self._batches.cache.clear()
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
            self._batches.say_it_runs(checkpoint)
            await self._take_request(inputs)  # one that was not needed any more

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
            self.state.failing_since_s = None

    def _keep_lag(self, recovery: Recovery | None) -> None:
        """Keep where the partition stood, for as long as it does not run."""
        if self._inputs is not None:
            self._last_lag = self._inputs.lag()
        if self.state.checkpoint is not None:
            self._offsets = self.state.checkpoint.offsets
        elif recovery is not None and recovery.stored is not None:
            self._offsets = recovery.stored.checkpoint.offsets

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

    async def _stop(self, reason: str) -> None:
        self.state.status, self.state.reason, self.state.is_tried = Status.STOPPED, reason, True
        self.state.failing_since_s = None  # it is told as a stop
        log.critical("%s", reason)
        try:
            async with asyncio.timeout(KEEP_STOP_TIMEOUT_S):
                await self._store.keep_stop(Stop(reason, self._runtime.now_us()))
        except EXPECTED_ERRORS as error:
            log.warning("partition %d: the reason is not kept in Redis: %s", self.partition, error)


def _reason_of(error: Exception, partition: int) -> str:
    if isinstance(error, OffsetOutOfRangeError):
        error = offsets_gone(error.args[0], partition)
    said, named = str(error), f"partition {partition}: stopped: "
    return said if said.startswith(named) else named + said
