"""One simulated run: inputs that come, workers that go, faults; then peace, until everything has been taken."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import accumulate
from unittest import mock

from aiokafka import TopicPartition

from ebbtide.testing.simulation.clients import Servers, SimulatedClients, Wires
from ebbtide.testing.simulation.kafka import Group, Kafka, Log
from ebbtide.testing.simulation.loop import START_S, run
from ebbtide.testing.simulation.process import Network, Process
from ebbtide.testing.simulation.redis import RedisServer
from enrichment.days import DAY_US
from enrichment.kernel import Wanted
from enrichment.model import Model
from schemas.timestamps import parse_timestamp
from schemas.topics import INPUT_TOPICS
from streams.kafka.topics import TOPICS as ALL_TOPICS
from streams.replay.replay import NAMESPACE
from streams.settings import Settings
from streams.worker import batch_loop, compiled_batch, first_load
from streams.worker.partition_state import Status
from streams.worker.worker import Worker
from tests.simulation import workload
from tests.simulation.faults import Faults

PARTITIONS = 2
PRODUCING_S = 40.0
PEACE_S = 400.0
QUIET_S = 4
LAST_DAYS = 1.2
"""By the wall clock time ends after the inputs have, at so many times their days: each midnight is a batch more."""
SESSION_S = 6.0
LONGEST_OPEN_S = 8.0
"""Of a foreign transaction: more than a day of the wall clock."""
START_US = parse_timestamp("2025-02-20T00:00:00Z")


@dataclass(slots=True)
class Scenario:
    """What a seed chooses before anything happens."""

    seed: int
    clock: str
    is_backlog: bool
    """By the event clock: everything lies in the inputs before any worker starts, loaded one topic after another."""
    history_days: int
    """By the wall clock: so many of the days lie in the inputs before any worker starts, as its first load."""
    is_ordered: bool
    days: int
    workers: int
    batch_max_records: int
    batch_max_customers: int
    cache_customers: int
    has_transactions: bool
    """Whether other producers of the inputs use transactions, which stay open for a while."""

    @classmethod
    def of(cls, seed: int, rng: random.Random) -> Scenario:
        """The scenario of a seed."""
        clock = rng.choice(("event", "wall"))
        days = rng.randint(5, 14)
        return cls(
            seed,
            clock,
            is_backlog=clock == "event" and rng.random() < 0.3,
            history_days=rng.randint(1, days - 2) if clock == "wall" and rng.random() < 0.6 else 0,
            is_ordered=rng.random() < 0.7,
            days=days,
            workers=rng.randint(1, 3),
            batch_max_records=rng.choice((1, 4, 10_000)),
            batch_max_customers=rng.choice((1, 3, 2_000)),
            cache_customers=rng.choice((0, 2, 200_000)),
            has_transactions=rng.random() < 0.4,
        )


@dataclass(slots=True)
class Machine:
    """A process and the worker on it."""

    process: Process
    worker: Worker
    main: asyncio.Task[None] | None = None
    stopping: asyncio.Task[None] | None = None


@dataclass(slots=True)
class Outcome:
    """What is left when a run has ended, and how it went."""

    scenario: Scenario
    settings: Settings
    model: Model
    inputs: list[workload.Input]
    kafka: Kafka
    redis: RedisServer
    faults: dict[str, int]
    stopped: dict[int, str]
    unfinished: list[str]
    trace: list[str] = field(default_factory=list)


class World:
    """Servers, processes and inputs of one run."""

    def __init__(self, seed: int, core: Wanted = "auto") -> None:
        self._rng = rng = random.Random(f"simulation/{seed}")
        self.scenario = scenario = Scenario.of(seed, rng)
        self.model = workload.fast_model()
        self.inputs = workload.make_inputs(
            rng,
            PARTITIONS,
            scenario.days,
            is_ordered=scenario.is_ordered,
            topic_by_topic=scenario.is_backlog,
        )
        self.settings = settings_of(scenario, core)
        self.trace: list[str] = []
        self.network = Network()
        self.servers = Servers()
        self.kafka = Kafka(rng, lambda: self.now_us() // 1_000)
        self.redis = RedisServer(lambda: asyncio.get_running_loop().time())
        self.faults = Faults(rng, self)
        self.machines: list[Machine] = []
        for topic in ALL_TOPICS:
            for partition in range(PARTITIONS):
                self.kafka.logs[TopicPartition(self.settings.topic(topic.name), partition)] = Log()
        self.kafka.groups[self.settings.group_id] = Group(PARTITIONS, SESSION_S)

    @property
    def processes(self) -> list[Process]:
        """All that there ever were."""
        return [machine.process for machine in self.machines]

    @property
    def is_loading(self) -> bool:
        """Whether some worker is at work on a first load."""
        return any(
            task.state.loading is not None
            for machine in self.machines
            for task in machine.worker.tasks.values()
        )

    def now_us(self) -> int:
        """The true time. By the wall clock the log's days pass while it is produced; else they are long past."""
        passed_s = asyncio.get_running_loop().time() - START_S
        if self.scenario.clock == "event":
            return START_US + 400 * DAY_US + int(passed_s * 1e6)
        days = min(passed_s / PRODUCING_S, LAST_DAYS) * self._live_days
        return self._live_from_us + int(days * DAY_US)

    @property
    def _live_days(self) -> int:
        return self.scenario.days - self.scenario.history_days

    @property
    def _live_from_us(self) -> int:
        """Where the time begins that passes while records are produced: history is what is dated before."""
        return START_US + self.scenario.history_days * DAY_US

    def note(self, what: str) -> None:
        """Add a line to the trace."""
        self.trace.append(f"{asyncio.get_running_loop().time() - START_S:9.3f} {what}")

    # ------------------------------------------------------------ workers

    def living(self) -> int:
        """How many workers there are that are not told to stop."""
        return sum(machine.main is not None and not machine.process.is_dead for machine in self.machines)

    def start_worker(self) -> Process:
        """One more worker."""
        process = Process(f"worker-{len(self.machines)}", self._rng, self.network, self.faults)
        wires = Wires(process, self.kafka, self.redis, self._rng, self.servers)
        clients = SimulatedClients(wires, self.settings, PARTITIONS, self.now_us)
        with mock.patch.object(Settings, "load_model", return_value=self.model):
            worker = Worker(
                self.settings, lambda: self.now_us() + process.clock_offset_us, clients, self.now_us
            )
        machine = Machine(process, worker)
        machine.main = asyncio.create_task(self._run(machine))
        self.machines.append(machine)
        self.note(f"{process.name} starts")
        return process

    async def _run(self, machine: Machine) -> None:
        try:
            await machine.worker.start()
        except Exception as error:
            self.note(f"{machine.process.name} could not start: {error!r}")
            machine.process.kill()

    def stop_worker(self, process: Process) -> None:
        """Ask a worker to stop, unless it is the last one."""
        machine = next(machine for machine in self.machines if machine.process is process)
        if machine.main is None or process.is_dead or self.living() < 2:
            return
        starting, machine.main = machine.main, None

        async def stop() -> None:
            await starting
            await machine.worker.stop()
            process.kill()

        machine.stopping = asyncio.create_task(stop())

    # ------------------------------------------------------------ the run

    async def run(self) -> Outcome:
        """Everything, to the end."""
        waiting = self.inputs
        if self.scenario.is_backlog:
            await self._append_at_once(waiting)
        elif self.scenario.history_days:
            history = self._history()
            waiting = waiting[len(history) :]
            await self._append_at_once(history)
        for _ in range(self.scenario.workers):
            self.start_worker()
        if self.scenario.is_backlog:
            await asyncio.sleep(PRODUCING_S)
        else:
            await self._produce(waiting)
        self.faults.stop()
        self.note("peace")
        if not self.living():
            self.start_worker()
        unfinished, stopped = await self._settle(), self._stopped()
        await self._end()
        return Outcome(
            self.scenario,
            self.settings,
            self.model,
            self.inputs,
            self.kafka,
            self.redis,
            dict(self.faults.counts),
            stopped,
            unfinished,
            self.trace,
        )

    async def _end(self) -> None:
        """Let go of all workers, dead or alive."""
        for process in self.processes:
            process.end()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    def _history(self) -> list[workload.Input]:
        """The records that come before the first worker."""
        reached_us = list(accumulate((record.occurred_at_us for record in self.inputs), max))
        return [
            record
            for record, at_us in zip(self.inputs, reached_us, strict=True)
            if at_us < self._live_from_us
        ]

    async def _append_at_once(self, records: Iterable[workload.Input]) -> None:
        """Each has a millisecond of its own, so that the broker's stamps tell the order."""
        for record in records:
            await asyncio.sleep(0.001)
            self._append(record)

    async def _produce(self, records: Iterable[workload.Input]) -> None:
        """By the wall clock each record comes when its time has come, else in bursts."""
        loop = asyncio.get_running_loop()
        gap_s = PRODUCING_S / (len(self.inputs) + 1)
        reached_us = 0
        for record in records:
            if self.scenario.clock == "wall":
                reached_us = max(reached_us, record.occurred_at_us)
                due_s = START_S + (reached_us - self._live_from_us) / DAY_US / self._live_days * PRODUCING_S
                await asyncio.sleep(max(0.0, due_s - loop.time()))
            else:
                await asyncio.sleep(self._rng.choice((0.0, 0.0, 3 * gap_s)))
            self._append(record)
        await asyncio.sleep(max(0.0, START_S + PRODUCING_S - loop.time()))

    def _append(self, record: workload.Input) -> None:
        tp = TopicPartition(self.settings.topic(record.topic), record.partition)
        if self._rng.random() < 0.05:
            self.kafka.skip(tp)
        if not self.scenario.has_transactions or self._rng.random() < 0.7:
            self.kafka.append(tp, [(record.key, record.value, ())])
            return
        is_kept = self._rng.random() < 0.7
        self._append_in_transaction(tp, record, is_kept)
        if not is_kept:
            self.kafka.append(tp, [(record.key, record.value, ())])

    def _append_in_transaction(self, tp: TopicPartition, record: workload.Input, commit: bool) -> None:
        """By a producer of its own, which ends the transaction some time later: others' records wait behind it."""
        name = f"foreign-{len(self.kafka.transactional)}"
        _, epoch = self.kafka.init_producer_id(name)
        self.kafka.add_to_transaction(name, epoch, tp)
        self.kafka.produce(
            name, epoch, tp, -1 - len(self.kafka.transactional), [(record.key, record.value, ())]
        )
        self.faults.counts["foreign_transactions"] += 1
        loop = asyncio.get_running_loop()
        open_s = self._rng.choice((0.01, 0.3, LONGEST_OPEN_S)) * self._rng.random()
        loop.call_later(open_s, self.kafka.end_transaction, name, epoch, commit)

    async def _settle(self) -> list[str]:
        """Wait until every partition is idle at the inputs' ends, or has stopped; gives what is not, in the end."""
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + PEACE_S
        await asyncio.sleep(PRODUCING_S * (LAST_DAYS - 1))
        quiet_s = 0
        while True:
            await asyncio.sleep(1.0)
            left = self._unfinished()
            quiet_s = 0 if left else quiet_s + 1
            if quiet_s >= QUIET_S or loop.time() > deadline_s:
                return left

    def _unfinished(self) -> list[str]:
        left = []
        for partition in range(PARTITIONS):
            states = [
                machine.worker.tasks[partition].state
                for machine in self.machines
                if not machine.process.is_dead and partition in machine.worker.tasks
            ]
            if len(states) != 1:
                left.append(f"partition {partition} has {len(states)} owners")
            elif states[0].status is not Status.STOPPED:
                checkpoint = states[0].checkpoint
                ends = {topic: len(self._log(topic, partition).entries) for topic in INPUT_TOPICS}
                if not states[0].is_idle or checkpoint is None:
                    left.append(f"partition {partition} is {states[0].status.value}: {states[0].reason}")
                elif any(
                    self._has_records(topic, partition, checkpoint.offsets[topic]) for topic in INPUT_TOPICS
                ):
                    left.append(f"partition {partition} is at {checkpoint.offsets} of {ends}")
        return left

    def _log(self, topic: str, partition: int) -> Log:
        return self.kafka.logs[TopicPartition(self.settings.topic(topic), partition)]

    def _has_records(self, topic: str, partition: int, offset: int) -> bool:
        return any(entry.offset >= offset for entry in self._log(topic, partition).committed())

    def _stopped(self) -> dict[int, str]:
        return {
            partition: task.state.reason
            for machine in self.machines
            if not machine.process.is_dead
            for partition, task in machine.worker.tasks.items()
            if task.state.status is Status.STOPPED
        }


def settings_of(scenario: Scenario, core: Wanted) -> Settings:
    """Of a group with a clock that days pass quickly on."""
    return Settings.model_validate(
        {
            "core": core,
            "clock": scenario.clock,
            "namespace": NAMESPACE,
            "erasure_key": "an erasure key for simulations",
            "session_timeout_s": SESSION_S,
            "max_clock_skew_s": 3_600,
            "batch_max_records": scenario.batch_max_records,
            "batch_max_customers": scenario.batch_max_customers,
            "cache_customers": scenario.cache_customers,
        }
    )


@contextmanager
def quiet() -> Iterator[None]:
    """No log lines: thousands of runs would have millions."""
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def simulate(seed: int, *, is_quiet: bool = True, core: Wanted = "auto") -> Outcome:
    """The run of a seed; first loads are by a core."""

    async def main() -> Outcome:
        return await World(seed, core).run()

    with (
        mock.patch.object(batch_loop, "FETCH_TIMEOUT_MS", 1_000),
        # So that several batches make a micro-batch.
        mock.patch.object(compiled_batch, "BATCH_BYTES", 8_000),
        mock.patch.object(first_load, "FETCH_TIMEOUT_MS", 1_000),
    ):
        if is_quiet:
            with quiet():
                return run(main())
        return run(main())
