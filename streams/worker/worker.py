"""The worker: a member of the consumer group that runs one task for each partition it is assigned."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import replace

from aiokafka import ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import KafkaError

from enrichment.kernel import KernelError, core_of
from enrichment.model import Model
from schemas.topics import INPUT_TOPICS
from streams.errors import EbbtideError
from streams.kafka.clients import Consumer
from streams.kafka.size_limits import SizeLimits
from streams.metrics.metrics import Metrics
from streams.settings import Settings
from streams.timeouts import stop_within
from streams.worker.clients import Clients, RealClients
from streams.worker.clock import Clock, EventClock, WallClock
from streams.worker.partition_state import PartitionState, Status
from streams.worker.partition_task import PartitionTask
from streams.worker.runtime import Runtime
from streams.worker.watch import Watch

log = logging.getLogger(__name__)

GRACE_S = 10.0
"""How long a task may take to finish its micro-batch before it is cancelled."""
CANCELLED_WITHIN_S = 5.0
"""How long whatever was cancelled may take to end."""
LEFT_WITHIN_S = 5.0
"""How long leaving the group may take. One that was not left takes a member for dead after the session's timeout."""
PARTITION_CHECK_S = 5.0
METADATA_MAX_AGE_S = 30.0
"""Added partitions are noticed within this and `PARTITION_CHECK_S`; aiokafka's own age is five minutes."""


class Worker:
    """Joins the group, and keeps one `PartitionTask` per assigned partition.

    The member only holds the assignment. Each task reads its three inputs through a consumer of its own, so that one
    partition's recovery, restore or error holds up no other.
    """

    def __init__(
        self,
        settings: Settings,
        now_us: Callable[[], int] | None = None,
        clients: Clients | None = None,
        elapsed_us: Callable[[], int] | None = None,
    ) -> None:
        self.settings = settings
        self.runtime = Runtime.of(
            settings, clients or RealClients(settings), now_us=now_us, elapsed_us=elapsed_us
        )
        self.tasks: dict[int, PartitionTask] = {}
        self.failure: str | None = None
        self._runs: dict[int, asyncio.Task[None]] = {}
        self._wanted: frozenset[int] = frozenset()
        self._rebalanced = asyncio.Event()
        self._joined = False
        self._background: list[asyncio.Task[None]] = []
        self.partitions = 0
        self._member: Consumer | None = None
        self.watch = Watch(settings, self.runtime.clients, self.tasks)

    async def start(self) -> None:
        """Connect and join the group; partitions are taken over in the background.

        Raises:
            EbbtideError: The inputs have unequal numbers of partitions; or the compiled core is asked for, and not
                built.
        """
        settings = self.settings
        try:
            core_of(settings.core)
        except KernelError as error:
            raise EbbtideError(str(error)) from None
        self._member = self.runtime.clients.consumer(
            client_id=f"ebbtide-{settings.group_id}",
            group_id=settings.group_id,
            partition_assignment_strategy=(RangePartitionAssignor,),
            enable_auto_commit=False,
            auto_offset_reset="latest",
            session_timeout_ms=int(settings.session_timeout_s * 1_000),
            heartbeat_interval_ms=int(settings.session_timeout_s * 1_000 / 4),
            metadata_max_age_ms=int(METADATA_MAX_AGE_S * 1_000),
        )
        self._member.subscribe([settings.topic(topic) for topic in INPUT_TOPICS], listener=_Listener(self))
        await self._member.start()
        counts = [
            len(self._member.partitions_for_topic(settings.topic(topic)) or ()) for topic in INPUT_TOPICS
        ]
        self.partitions = counts[0]
        report = await self.runtime.clients.check_topics()
        limits = SizeLimits({topic.definition.name: topic.max_message_bytes for topic in report.topics})
        self.runtime = replace(self.runtime, limits=limits)
        if len(set(counts)) != 1 or self.partitions == 0:
            raise EbbtideError(
                f"the inputs have unequal numbers of partitions: {dict(zip(INPUT_TOPICS, counts, strict=True))}"
            )
        self._background = [
            asyncio.create_task(self._supervise(), name="ebbtide-supervisor"),
            asyncio.create_task(self._poll_member(), name="ebbtide-member"),
        ]
        for task in self._background:
            task.add_done_callback(self._note_end)

    async def stop(self) -> None:
        """Finish the batches under way, leave the group, and close all connections; waits for nothing without end."""
        for task in self._background:
            task.cancel()
        await self.watch.stop()
        if self._background:
            await asyncio.wait(self._background, timeout=CANCELLED_WITHIN_S)
        await self._end(list(self._runs))
        if self._member is not None:
            await stop_within(LEFT_WITHIN_S, self._member)
        with suppress(TimeoutError):
            await asyncio.wait_for(self.runtime.clients.redis.aclose(), CANCELLED_WITHIN_S)

    @property
    def model(self) -> Model:
        """The value model that all partitions decide by."""
        return self.runtime.model

    @property
    def metrics(self) -> Metrics:
        """What the worker has done."""
        return self.runtime.metrics

    @property
    def not_ready_because(self) -> str | None:
        """Why this worker can't work; None where it can.

        It can where the group has given its assignment, Kafka and Redis answer, and the first recovery of each
        partition has ended. How it ended does not matter: a partition that no worker can run says nothing of this one.
        """
        if self.failure is not None:
            return self.failure
        if (problem := self.watch.problem) is not None:
            return problem
        if not self._joined:
            return "the group has assigned nothing yet"
        trying = [partition for partition, task in sorted(self.tasks.items()) if not task.state.is_tried]
        if trying or self._kept - self.tasks.keys():
            return f"partitions are being taken over: {', '.join(map(str, trying)) or 'all'}"
        return None

    @property
    def is_ready(self) -> bool:
        """Whether this worker can work, whatever its partitions say."""
        return self.not_ready_because is None

    @property
    def is_running(self) -> bool:
        """Whether the group has given its assignment and every partition of it runs, or loads."""
        states = [task.state for task in self.tasks.values()]
        runs = (Status.RUNNING, Status.LOADING)
        return self._joined and self.failure is None and all(state.status in runs for state in states)

    @property
    def is_idle(self) -> bool:
        """Whether every partition has taken all there was, and nobody is due."""
        return (
            self.is_running and bool(self.tasks) and all(task.state.is_idle for task in self.tasks.values())
        )

    def states(self) -> dict[int, PartitionState]:
        """What is known of each partition, by its number."""
        return {partition: self.tasks[partition].state for partition in sorted(self.tasks)}

    def note_assignment(self, assigned: Collection[TopicPartition] | None) -> None:
        """Record an assignment, or that there is none at the moment; the supervisor does the rest."""
        if assigned is None:
            self._joined = False
            return
        held = {tp.partition for tp in assigned}
        whole = {p for p in held if sum(tp.partition == p for tp in assigned) == len(INPUT_TOPICS)}
        if held != whole:
            # Partitions that one input has and another has not are separated by any assignor.
            self._check_partitions()
            self._fail(
                "the assignor separated equal partition numbers of the inputs: all members must be Ebbtide"
            )
            whole = set()
        self._wanted = frozenset(whole)
        self._joined = True
        self._rebalanced.set()

    async def _poll_member(self) -> None:
        """Poll, as the group demands of its members; all is paused, so only errors of the membership can come."""
        assert self._member is not None
        while True:
            await asyncio.sleep(PARTITION_CHECK_S)
            try:
                await self._member.getmany(timeout_ms=0)
            except KafkaError as error:
                self._fail(f"the group membership failed: {type(error).__name__}: {error}")

    def _fail(self, reason: str) -> None:
        """End all partitions: something is wrong that no recovery can mend.

        Only the first reason is news to the supervisor: it reports some itself, and would wake itself without end.
        """
        if self.failure is None:
            self.failure = reason
            log.critical("%s; stopped", reason)
            self._rebalanced.set()

    def _note_end(self, task: asyncio.Task[None]) -> None:
        """Fail where a task of the worker's own ends by an error: no partition would be begun or ended any more."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(f"{task.get_name()} ended: {type(error).__name__}: {error}")

    async def _supervise(self) -> None:
        """Follow the assignment, and stop everything if the number of partitions changes."""
        while True:
            # Not `wait_for`: where it is cancelled just as the event comes, it forgets the cancellation.
            with suppress(TimeoutError):
                async with asyncio.timeout(PARTITION_CHECK_S):
                    await self._rebalanced.wait()
            self._rebalanced.clear()
            self._check_partitions()
            await self._end([partition for partition in self._runs if partition not in self._kept])
            for partition in sorted(self._kept - self._runs.keys()):
                self._begin(partition)

    @property
    def _kept(self) -> frozenset[int]:
        return frozenset() if self.failure else self._wanted

    def _begin(self, partition: int) -> None:
        clock: Clock = EventClock() if self.settings.clock == "event" else WallClock()
        task = PartitionTask(self.runtime, clock, partition)
        self.tasks[partition] = task
        self._runs[partition] = asyncio.create_task(self._run(task), name=f"ebbtide-partition-{partition}")

    async def _run(self, task: PartitionTask) -> None:
        """A task that ends by an error that nobody foresaw stops loudly, like one that must not go on."""
        try:
            await task.run()
        except Exception as error:
            log.exception("partition %d: unexpected error", task.partition)
            task.state.status, task.state.reason = Status.STOPPED, f"{type(error).__name__}: {error}"

    async def _end(self, partitions: Collection[int]) -> None:
        runs = [self._runs[partition] for partition in partitions]
        for partition in partitions:
            self.tasks[partition].stopping.set()
        if not runs:
            return
        _, late = await asyncio.wait(runs, timeout=GRACE_S)
        for run in late:
            run.cancel()
        if late:
            await asyncio.wait(late, timeout=CANCELLED_WITHIN_S)
        for partition in partitions:
            del self._runs[partition], self.tasks[partition]

    def _check_partitions(self) -> None:
        """Fail where an input has another number of partitions than at the start; before it, `start` compares."""
        if self._member is None or self.partitions == 0:
            return
        for topic in INPUT_TOPICS:
            name = self.settings.topic(topic)
            count = len(self._member.partitions_for_topic(name) or ())
            if count not in (0, self.partitions):
                self._fail(
                    f"{name}: the number of partitions changed from {self.partitions} to {count}: "
                    "customers would move between partitions"
                )


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka carries no types
    """Only pauses and records: heartbeats start after these calls return."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        self._worker.note_assignment(None)

    def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        member = self._worker._member
        assert member is not None
        member.pause(*assigned)
        self._worker.note_assignment(assigned)
