"""A worker on real Kafka and Redis: settings of a test's own, topics, records in, records out, and waiting."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import orjson
import yaml
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from prometheus_client.parser import text_string_to_metric_families

from ebbtide.testing.services.worker import SESSION_TIMEOUT_S as SESSION_TIMEOUT_S
from ebbtide.testing.services.worker import Record as Record
from ebbtide.testing.services.worker import make_settings as make_settings
from ebbtide.testing.services.worker import partition_of as partition_of
from ebbtide.testing.services.worker import process_environment as process_environment
from ebbtide.testing.services.worker import readiness_of as readiness_of
from ebbtide.testing.services.worker import record_of as record_of
from schemas.topics import INPUT_TOPICS, InputTopic
from streams.checkpoint import Checkpoint
from streams.insight.profiles import export_profiles
from streams.kafka.clients import read_committed_offsets
from streams.kafka.committed_checkpoint import checkpoint_of
from streams.kafka.fetching import ExaminingConsumer
from streams.kafka.topics import create_topics
from streams.settings import Settings
from streams.worker.clients import RealClients
from streams.worker.worker import Worker
from tests.services.fork_server import start_forked

Document = dict[str, Any]
ROOT = Path(__file__).parents[2]
MARKERS_WITHIN_S = 2.0
BATCH_BYTES = 3_500_000


async def make_topics(settings: Settings, partitions: int = 1, replication_factor: int = 1) -> None:
    """All eight topics, as `ebbtide topics create` makes them, with a leader in every partition of the inputs.

    Where there is none yet, a producer tries again later, and what was sent first is appended last.
    """
    await asyncio.to_thread(create_topics, settings, partitions, replication_factor)
    await input_ends(settings)


def write_model(path: Path, document: Mapping[str, Any]) -> Path:
    """A model file."""
    path.write_text(yaml.safe_dump(dict(document), sort_keys=False), encoding="utf-8")
    return path


# ---------------------------------------------------------------- records in


def order_of_now(customer: str, event_id: str) -> Document:
    """An order of a minute ago, so that the customer has a standing."""
    return {
        "event_id": event_id,
        "customer_id": customer,
        "occurred_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 60)),
        "kind": "order",
        "order_id": event_id,
        "currency": "USD",
        "total": "10.00",
    }


def records_of(log: Mapping[str, Iterable[Mapping[str, Any]]], partitions: int = 1) -> list[Record]:
    """The records of a made-up log, one topic after the other."""
    return [record_of(topic, record, partitions) for topic in INPUT_TOPICS for record in log[topic]]


async def produce(settings: Settings, records: Iterable[Record]) -> None:
    """Send records, each input's in their order, and wait until Kafka has them."""
    producer = AIOKafkaProducer(
        bootstrap_servers=settings.kafka_bootstrap_servers,
        max_batch_size=BATCH_BYTES,
        max_request_size=2 * BATCH_BYTES,
        acks="all",
    )
    await producer.start()
    batches: dict[tuple[str, int], Any] = {}
    sent: list[Any] = []

    async def flush(at: tuple[str, int]) -> None:
        sent.append(await producer.send_batch(batches.pop(at), at[0], partition=at[1]))

    try:
        for number, (topic, key, value, partition) in enumerate(records):
            at = settings.topic(topic), partition
            batch = batches.setdefault(at, producer.create_batch())
            if batch.append(key=key, value=value, timestamp=None) is None:
                await flush(at)
                batch = batches[at] = producer.create_batch()
                assert batch.append(key=key, value=value, timestamp=None) is not None
            if number % 1_000 == 0:
                await asyncio.sleep(0)
        for at in list(batches):
            await flush(at)
        await asyncio.gather(*sent)
    finally:
        await producer.stop()


# --------------------------------------------------------------- records out


async def read_topic(
    settings: Settings, name: str, isolation_level: str = "read_committed"
) -> list[ConsumerRecord]:
    """Every record of a topic up to its present end (the last stable offset, by default), by partition."""
    async with AIOKafkaConsumer(
        bootstrap_servers=settings.kafka_bootstrap_servers,
        isolation_level=isolation_level,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        max_partition_fetch_bytes=8 * 1024 * 1024,
    ) as consumer:
        full = settings.topic(name)
        partitions = await _partitions(consumer, full)
        consumer.assign(partitions)
        ends = await _settled_ends(consumer, partitions)
        found: list[ConsumerRecord] = []
        for tp in partitions:
            # The embedded broker's end is that of the last batch's first record: what is beyond it belongs to us too.
            while await consumer.position(tp) < ends[tp]:
                for records in (await consumer.getmany(tp, timeout_ms=1_000)).values():
                    found += records
        return found


async def _settled_ends(
    consumer: AIOKafkaConsumer, partitions: list[TopicPartition]
) -> dict[TopicPartition, int]:
    """The ends, once what has been committed shows: a commit is answered before its markers are in the logs.

    A transaction that somebody has left open is waited for for a moment only.
    """
    deadline = time.monotonic() + MARKERS_WITHIN_S
    while True:
        ends: dict[TopicPartition, int] = await consumer.end_offsets(partitions)
        high = await ExaminingConsumer.high_watermarks(consumer, partitions)
        if ends == high or time.monotonic() > deadline:
            return ends
        await asyncio.sleep(0.02)


async def _partitions(consumer: AIOKafkaConsumer, topic: str) -> list[TopicPartition]:
    known = await consumer._client.fetch_all_metadata()
    return [TopicPartition(topic, number) for number in sorted(known.partitions_for_topic(topic) or ())]


async def read_documents(settings: Settings, name: str) -> list[Document]:
    """The values of an output topic, tombstones left out."""
    return [orjson.loads(record.value) for record in await read_topic(settings, name) if record.value]


async def changes_of(settings: Settings) -> list[Document]:
    """Every change that a read_committed consumer sees."""
    return await read_documents(settings, "segment-changes")


async def input_ends(settings: Settings) -> dict[tuple[InputTopic, int], int]:
    """The end offset of every input partition."""
    async with AIOKafkaConsumer(bootstrap_servers=settings.kafka_bootstrap_servers) as consumer:
        ends = {}
        for topic in INPUT_TOPICS:
            partitions = await _partitions(consumer, settings.topic(topic))
            found = await consumer.end_offsets(partitions)
            ends.update({(topic, tp.partition): found[tp] for tp in partitions})
        return ends


# ------------------------------------------------------------- what is stored


async def stored_profiles(settings: Settings, until_us: int | None = None) -> dict[str, Document]:
    """Every customer's profile from Redis, as `ebbtide profiles` writes them."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "profiles.jsonl"
        await asyncio.to_thread(export_profiles, settings, out, until_us)
        documents = [json.loads(line) for line in out.read_bytes().splitlines()]
    return {document["customer_id"]: document for document in documents}


# ------------------------------------------------------------------- a worker


@asynccontextmanager
async def running(settings: Settings, now_us: Callable[[], int] | None = None) -> AsyncIterator[Worker]:
    """A worker in this process, stopped at the end of the block."""
    worker = Worker(settings, now_us)
    await worker.start()
    try:
        yield worker
    finally:
        await worker.stop()


@asynccontextmanager
async def real_clients(settings: Settings) -> AsyncIterator[RealClients]:
    """The clients of a worker at these settings, for a partition task of one's own."""
    clients = RealClients(settings)
    try:
        yield clients
    finally:
        await clients.redis.aclose()


async def until(condition: Callable[[], bool], what: str, timeout_s: float = 60.0) -> None:
    """Wait for something to become true; fail, saying what, if it does not."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what}"
        await asyncio.sleep(0.02)


async def until_idle(settings: Settings, worker: Worker, timeout_s: float = 120.0) -> None:
    """Wait until a worker that has all partitions has published everything that the inputs hold by now."""
    ends = await input_ends(settings)

    def is_done() -> bool:
        checkpoints = {partition: state.checkpoint for partition, state in worker.states().items()}
        taken = all(
            (checkpoint := checkpoints.get(partition)) is not None and checkpoint.offsets[topic] >= end
            for (topic, partition), end in ends.items()
        )
        return taken and worker.is_idle

    try:
        await until(is_done, "idle", timeout_s)
    except AssertionError as error:
        raise AssertionError(f"{error}: {worker.failure} {worker.states()}") from None


async def run_to_the_end(settings: Settings, timeout_s: float = 120.0) -> None:
    """Run a worker until it has taken everything, and stop it."""
    async with running(settings) as worker:
        await until_idle(settings, worker, timeout_s)


def partitions_of(settings: Settings) -> dict[int, Document]:
    """What that `/readyz` says of each partition."""
    answer = readiness_of(settings)
    return {} if answer is None else {int(number): said for number, said in answer[1]["partitions"].items()}


class Scrape:
    """What `/metrics` said, in Prometheus' text format."""

    def __init__(self, text: str) -> None:
        families = list(text_string_to_metric_families(text))
        self.names = {family.name + ("_total" if family.type == "counter" else "") for family in families}
        self.samples = [sample for family in families for sample in family.samples]

    def sum(self, name: str, **labels: str) -> float:
        """All samples of a name with these labels, added up; fails where there is none."""
        values = [
            sample.value
            for sample in self.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ]
        assert values, f"no {name} {labels}"
        return sum(values)

    def by(self, name: str, *labels: str) -> dict[tuple[str, ...], float]:
        """What is not zero of a name, by the values of these labels."""
        found: Counter[tuple[str, ...]] = Counter()
        for sample in self.samples:
            if sample.name == name and sample.value:
                found[tuple(sample.labels[label] for label in labels)] += sample.value  # type: ignore[assignment]
        return dict(found)


def scrape(settings: Settings) -> Scrape:
    """What the `/metrics` at these settings' port says."""
    url = f"http://{settings.web_bind}:{settings.web_port}/metrics"
    with urllib.request.urlopen(url, timeout=5) as answer:
        return Scrape(answer.read().decode())


class WorkerProcess:
    """`python -m streams run`, or another module, forked, with its log in a file; it dies with this process."""

    def __init__(
        self, settings: Settings, log: Path, *arguments: str, command: Sequence[str] = ("streams", "run")
    ) -> None:
        self.settings = settings
        self.log = log
        with log.open("ab") as output:
            environment = process_environment(settings)
            self.process = start_forked([*command, *arguments], environment, output.fileno())

    def kill(self) -> None:
        """End it and all processes that it has started at once, as a crash of the machine would."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def terminate(self, timeout_s: float = 30.0) -> int:
        """Ask it to stop; gives the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout_s)

    def log_text(self) -> str:
        """What it has logged so far."""
        return self.log.read_text("utf-8", errors="replace")

    def readiness(self) -> tuple[int, Document] | None:
        """The status and answer of `/readyz`; None while there is none."""
        return readiness_of(self.settings)

    def partitions(self) -> dict[int, Document]:
        """What `/readyz` says of each partition that this worker holds."""
        return partitions_of(self.settings)

    def is_idle(self, partitions: int) -> bool:
        """Whether it holds so many partitions, and each has taken all there is."""
        held = self.partitions()
        return len(held) == partitions and all(state["idle"] for state in held.values())

    async def until(self, condition: Callable[[], bool], what: str, timeout_s: float = 60.0) -> None:
        """Wait for something to become true while the process lives; fail with its log if it does not."""
        try:
            await until(lambda: self.process.poll() is not None or condition(), what, timeout_s)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log_text()[-6_000:]}") from None
        assert self.process.poll() is None, f"ended before: {what}\n{self.log_text()[-6_000:]}"


@contextmanager
def worker_process(
    settings: Settings, log: Path, *arguments: str, command: Sequence[str] = ("streams", "run")
) -> Iterator[WorkerProcess]:
    """A worker in a process of its own, with more arguments for its command; it does not outlive the block."""
    worker = WorkerProcess(settings, log, *arguments, command=command)
    try:
        yield worker
    finally:
        worker.kill()


@contextmanager
def paused(pid: int | None) -> Iterator[None]:
    """A process that does nothing inside the block; its connections stay, and nobody is told."""
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


# -------------------------------------------------------------- what must hold


def check_sequences(changes: Sequence[Document]) -> None:
    """Each change is there once; sequences have no gap; `previous` is the last `current` of the dimension.

    A second life of a customer begins again at 1, with nothing before it.
    """
    ids = [change["change_id"] for change in changes]
    assert len(ids) == len(set(ids)), "a change_id twice"
    by_life: dict[tuple[str, int], list[Document]] = {}
    for change in changes:
        by_life.setdefault((change["customer_id"], change["life"]), []).append(change)
    for life, own in by_life.items():
        assert [change["sequence"] for change in own] == list(range(1, len(own) + 1)), life
        current: dict[str, Any] = {}
        for change in own:
            assert change["previous"] == current.get(change["dimension"]), change
            current[change["dimension"]] = change["current"]


def aggregates(profiles: Mapping[str, Any] | Iterable[Any]) -> dict[str, Document]:
    """Aggregates and consents by customer: what does not depend on when anything was evaluated."""
    documents: Iterable[Any] = profiles.values() if isinstance(profiles, Mapping) else profiles
    return {
        str(document["customer_id"]): {"aggregates": document["aggregates"], "consents": document["consents"]}
        for document in documents
    }


def read_committed_checkpoint(settings: Settings, partition: int) -> Checkpoint | None:
    """Kafka's committed offsets of a partition, once no transaction on them is pending; None if there are none.

    Raises `StoppedError` for offsets that are not ours.
    """
    return checkpoint_of(read_committed_offsets(settings, partition), settings.group_id, partition)
