"""One measured drain: how long a contender takes from a log that lies ready to the last committed output.

What is measured is the worker at work, not its start:

1. It starts on a warm-up log of other customers, and works that off: it has joined its group, all code is loaded.
2. It is stopped (SIGSTOP), the log is appended, and it goes on (SIGCONT): the clock runs from here.
3. The clock stops when everything has been taken by its committed offsets, and its outputs have stopped growing; these
   are looked at from then on only, and nothing reads them meanwhile.
"""

from __future__ import annotations

import shutil
import signal
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import Consumer

from bench import broker
from bench.contenders import Contender, Progress, Start
from bench.processes import ProcessTree, cpu_s
from bench.root import ROOT
from bench.workload import spread
from ebbtide.testing.services import KafkaService, OwnRedis
from ebbtide.testing.services.worker import Record, make_settings, process_environment, readiness_of
from enrichment.days import day_of
from streams.demo.embedded import OwnedProcess
from streams.kafka.topics import create_topics
from streams.settings import Settings
from streams.worker.clock_check import wall_clock_us

PARTITIONS = 8
POLL_S, SETTLE_POLL_S = 0.05, 0.02
SETTLED_S = 0.4
"""Outputs that have not grown for so long are complete."""
LOG_TAIL_CHARACTERS = 4_000
STOP_TIMEOUT_S = 30.0
NAMESPACE = "bench"
"""One for all, so that equal changes have equal ids."""


@dataclass(frozen=True)
class Services:
    """Where everything runs."""

    kafka: KafkaService
    redis: OwnRedis

    @property
    def kafka_trees(self) -> list[ProcessTree]:
        """The broker's process; none where it is not ours to look at."""
        return [] if self.kafka.pid is None else [ProcessTree(self.kafka.pid)]

    @property
    def redis_trees(self) -> list[ProcessTree]:
        """The server's process."""
        with self.redis.client() as client:
            return [ProcessTree(int(client.info("server")["process_id"]))]


@dataclass(frozen=True)
class Drained:
    """What one drain took. Seconds of CPU are those between start and end of the clock."""

    events: int
    wall_s: float
    worker_cpu_s: float
    redis_cpu_s: float
    broker_cpu_s: float
    peak_mib: float
    changes: int

    @property
    def events_per_s(self) -> float:
        """The rate."""
        return self.events / self.wall_s


@dataclass(frozen=True)
class Run:
    """A contender's processes on topics of their own; `settings` are those of the first process."""

    contender: Contender
    settings: Settings
    services: Services
    processes: Sequence[OwnedProcess]
    partitions: int
    folder: Path
    launched_s: float
    """When the first process was started (monotonic)."""

    @property
    def trees(self) -> list[ProcessTree]:
        """Its processes."""
        return [ProcessTree(process.pid) for process in self.processes]

    def send(self, number: signal.Signals) -> None:
        """Send a signal to all of them."""
        for tree in self.trees:
            tree.send(number)

    def wait_for(self, records: Sequence[Record], client: Consumer, timeout_s: float) -> None:
        """Return once it has taken as many of each partition as these are; fail, with its log, if it does not."""
        goal: Progress = {place: len(own) for place, own in spread(records).items()}

        def is_there() -> bool:
            progress = self.contender.progress_of(self.settings, self.partitions, client)
            return all(progress.get(place, 0) >= offset for place, offset in goal.items())

        self.wait(is_there, POLL_S, timeout_s)

    def wait_until_ready(self, timeout_s: float) -> None:
        """Return once each process of the worker runs its share of the partitions."""
        share = self.partitions // len(self.processes)

        def is_ready(settings: Settings) -> bool:
            answer = readiness_of(settings)
            return answer is not None and answer[0] == 200 and len(answer[1]["partitions"]) == share

        own = [_settings_of(self.settings, number) for number in range(len(self.processes))]
        self.wait(lambda: all(map(is_ready, own)), POLL_S, timeout_s)

    def wait(self, condition: Callable[[], bool], poll_s: float, timeout_s: float) -> None:
        """Return once something is true."""
        deadline_s = time.monotonic() + timeout_s
        while not condition():
            for process in self.processes:
                assert process.is_running(), f"{self.contender.name} ended:\n{process.log_tail(60)}"
            assert time.monotonic() < deadline_s, (
                f"{self.contender.name} is not there in {timeout_s:g} s:\n"
                f"{self.processes[0].log_tail(60)[-LOG_TAIL_CHARACTERS:]}"
            )
            time.sleep(poll_s)


@contextmanager
def running(
    contender: Contender,
    services: Services,
    commit_every: int,
    partitions: int = PARTITIONS,
    prepare: Callable[[Settings], None] | None = None,
) -> Iterator[Run]:
    """A contender on new topics and an empty Redis, which `prepare` may fill; all is gone after the block."""
    services.redis.flush()
    prefix = f"b{uuid.uuid4().hex[:8]}-"
    chosen = {"namespace": NAMESPACE, **contender.settings}
    settings = make_settings(services.kafka.bootstrap_servers, services.redis.url, prefix, **chosen)
    folder = Path(tempfile.mkdtemp(prefix="ebbtide-bench-"))
    create_topics(settings, partitions, 1)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        stack.callback(broker.delete_topics, settings)
        if prepare is not None:
            prepare(settings)
        start = Start(settings, folder, day_of(wall_clock_us()), commit_every)
        yield stack.enter_context(_launched(contender, settings, services, partitions, start))


@contextmanager
def relaunch(run: Run) -> Iterator[Run]:
    """The same worker started again, where the one before has ended."""
    start = Start(run.settings, run.folder, day_of(wall_clock_us()), 0)
    with _launched(run.contender, run.settings, run.services, run.partitions, start) as again:
        yield again


@contextmanager
def _launched(
    contender: Contender, settings: Settings, services: Services, partitions: int, start: Start
) -> Iterator[Run]:
    processes: list[OwnedProcess] = []
    launched_s = time.monotonic()
    run = Run(contender, settings, services, processes, partitions, start.folder, launched_s)
    try:
        for number in range(contender.processes):
            environment = process_environment(_settings_of(settings, number))
            log = start.folder / f"worker-{number}.log"
            command = contender.command(start)
            processes.append(
                OwnedProcess(
                    command, log_path=log, cwd=ROOT, environment=environment, stop_timeout_s=STOP_TIMEOUT_S
                )
            )
        yield run
    finally:
        for process in processes:
            process.kill()


def _settings_of(settings: Settings, number: int) -> Settings:
    """Those of one of several processes, which has a web port of its own."""
    return settings.model_copy(update={"web_port": settings.web_port + number})


def drain(
    run: Run,
    warm_up: Sequence[Record],
    records: Sequence[Record],
    timeout_s: float,
    beside: AbstractContextManager[object] | None = None,
) -> Drained:
    """Measure one drain; the numbered micro-batches are those at the top. `beside` is entered while the clock runs."""
    settings, services = run.settings, run.services
    with broker.consumer(settings, settings.group_id) as client:
        if run.contender.tells_readiness:  # 1: else the warm-up log would be a first load
            run.wait_until_ready(timeout_s)
        broker.feed(settings, warm_up)
        run.wait_for(warm_up, client, timeout_s)
        run.send(signal.SIGSTOP)  # 2
        broker.feed(settings, records)
        trees = run.trees, services.redis_trees, services.kafka_trees
        before_s = [cpu_s(of) for of in trees]
        began_s = time.monotonic()
        run.send(signal.SIGCONT)
        with beside or nullcontext():
            run.wait_for([*warm_up, *records], client, timeout_s)  # 3
        ended_s = settled_at_s(client, run)
        after_s = [cpu_s(of) for of in trees]
    worker_s, redis_s, broker_s = (after - before for before, after in zip(before_s, after_s, strict=True))
    return Drained(
        events=len(records),
        wall_s=ended_s - began_s,
        worker_cpu_s=worker_s,
        redis_cpu_s=redis_s,
        broker_cpu_s=broker_s,
        peak_mib=sum(tree.peak_mib() for tree in run.trees),
        changes=_count_changes(run, records),
    )


def _count_changes(run: Run, records: Sequence[Record]) -> int:
    """How many changes there are of the customers of these records."""
    measured = {record.key for record in records}
    found = broker.values(run.settings, "segment-changes", run.partitions)
    return sum(message.key() in measured for message in found)


def settled_at_s(client: Consumer, run: Run) -> float:
    """When the outputs grew for the last time, or now."""
    changed_s = time.monotonic()
    seen = broker.ends(client, run.settings, broker.OUTPUTS, run.partitions)
    while time.monotonic() < changed_s + SETTLED_S:
        time.sleep(SETTLE_POLL_S)
        found = broker.ends(client, run.settings, broker.OUTPUTS, run.partitions)
        if found != seen:
            seen, changed_s = found, time.monotonic()
    return changed_s
