"""A sweep of very many customers while live events flow: how fast it is, and what the events notice of it.

    python -m bench.sweep --customers 1000000 --partitions 4 --events-per-s 200

Fills Redis with customers made from templates, all of them due at a midnight that has come, starts a worker of one
process, sends the first orders of new customers at a steady rate, and measures for each the time from the broker's
stamp of the order to the arrival of its change at a read_committed consumer, until the sweep is done and for as long
as `--after-s` says afterwards. Kafka and Redis are those that tests use.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import orjson
import redis as redis_sync
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from enrichment.acceptance import Topic
from enrichment.days import day_of
from enrichment.model import Model
from streams.clients import RealClients
from streams.clock_check import wall_clock_us
from streams.publisher import make_publisher
from streams.redis_keys import PartitionKeys
from streams.settings import Settings
from streams.state_store import StateStore, stored_state
from streams.step import Mark, StoredState
from tests.enrichment.driver import Partition
from tests.enrichment.records import engagement, order
from tests.integration.harness import WorkerProcess, make_settings, make_topics, partition_of, worker_process
from tests.services import start_kafka, start_own_redis

TEMPLATES = 60
"""Customers in all ages since the last order, from yesterday to a year ago: a few of them move on the midnight."""
CHUNK = 2_000
POLL_S = 0.5
START_OFFSETS: dict[Topic, int] = {"purchases": 0, "engagements": 0, "consents": 0}


@dataclass(slots=True)
class Measured:
    """Latency in ms by arrival time, and how many were due at which time (seconds, monotonic)."""

    arrived: list[tuple[float, float]] = field(default_factory=list)
    due: list[tuple[float, int]] = field(default_factory=list)
    swept_changes: int = 0


def templates(model: Model, today: int) -> Iterator[StoredState]:
    """States as yesterday's midnight left them, due today."""
    for number in range(TEMPLATES):
        ages = [(1 + number) * 6 + gap for gap in (0, 31, 75, 140)]
        partition = Partition(model)
        for age in sorted(ages, reverse=True):
            when = (datetime.now(UTC) - timedelta(days=age)).isoformat()
            partition.pass_midnight(today - age)
            partition.take(
                order(when, f"{20 + number}.00", f"o{age}", channel="web"),
                engagement("clicked", when, channel="email"),
            )
        partition.pass_midnight(today - 1)
        customer = partition.customers["c"]
        customer.state.due_day = today
        yield stored_state(customer)


async def fill(settings: Settings, customers: int, partitions: int) -> None:
    """Write the customers as a rebuild does, and commit the same mark to Kafka."""
    model, today = settings.load_model(), day_of(wall_clock_us())
    states = list(templates(model, today))
    of_partition: list[list[str]] = [[] for _ in range(partitions)]
    for number in range(customers):
        name = f"customer-{number:08d}"
        of_partition[partition_of(name.encode(), partitions)].append(name)
    clients = RealClients(settings)
    for partition, names in enumerate(of_partition):
        publisher = make_publisher(settings, clients, partition, 60.0)
        await publisher.open()
        key = settings.erasure_key.get_secret_value().encode()
        store = StateStore(clients.redis, PartitionKeys.of(settings, partition), model, key)
        await store.claim("bench")
        mark = Mark(1, uuid.uuid4().hex[:16], today - 1, START_OFFSETS)
        await store.begin_rebuild(mark, model.fingerprint)
        for start in range(0, len(names), CHUNK):
            chunk = names[start : start + CHUNK]
            await store.put_rebuilt(
                [states[hash(name) % TEMPLATES]._replace(customer_id=name) for name in chunk]
            )
        await store.end_rebuild(mark, model.fingerprint)
        await publisher.publish([], mark)
        await publisher.close()
    await clients.redis.aclose()


class LiveEvents:
    """First orders of new customers at a steady rate; when the broker stamped each is noted by its id."""

    def __init__(self, settings: Settings, partitions: int, per_s: float) -> None:
        self.stamped_ms: dict[str, int] = {}
        self.stopped = asyncio.Event()
        self._settings = settings
        self._partitions = partitions
        self._per_s = per_s

    async def send(self) -> None:
        """Send until stopped."""
        producer = AIOKafkaProducer(bootstrap_servers=self._settings.kafka_bootstrap_servers, linger_ms=5)
        await producer.start()
        pending: set[asyncio.Task[None]] = set()
        began_s, sent = time.monotonic(), 0
        while not self.stopped.is_set():
            while sent < (time.monotonic() - began_s) * self._per_s:
                task = asyncio.create_task(self._send_one(producer, f"live-{sent:08d}"))
                pending.add(task)
                task.add_done_callback(pending.discard)
                sent += 1
            await asyncio.sleep(0.005)
        await asyncio.gather(*pending)
        await producer.stop()

    async def _send_one(self, producer: AIOKafkaProducer, name: str) -> None:
        document = {
            "event_id": name,
            "customer_id": name,
            "occurred_at": datetime.now(UTC).isoformat(),
            "kind": "order",
            "order_id": name,
            "currency": "USD",
            "total": "20.00",
        }
        taken = await producer.send_and_wait(
            self._settings.topic("purchases"),
            orjson.dumps(document),
            name.encode(),
            partition=partition_of(name.encode(), self._partitions),
        )
        self.stamped_ms[name] = taken.timestamp


async def collect(settings: Settings, live: LiveEvents, measured: Measured) -> None:
    """Note when each live customer's first change is seen, until cancelled."""
    seen: set[str] = set()
    async with AIOKafkaConsumer(
        settings.topic("segment-changes"),
        bootstrap_servers=settings.kafka_bootstrap_servers,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        fetch_max_wait_ms=10,
    ) as consumer:
        while True:
            fetched = await consumer.getmany(timeout_ms=50, max_records=5_000)
            now_s, now_ms = time.monotonic(), time.time() * 1_000
            for records in fetched.values():
                for record in records:
                    name = record.key.decode()
                    if not name.startswith("live-"):
                        measured.swept_changes += 1
                    elif name not in seen:
                        seen.add(name)
                        while name not in live.stamped_ms:  # the broker's answer may come after the change
                            await asyncio.sleep(0.001)
                        measured.arrived.append((now_s, now_ms - live.stamped_ms[name]))


async def watch(settings: Settings, partitions: int, today: int, measured: Measured, after_s: float) -> None:
    """Count those who are due until nobody is, and wait some time more."""
    client = redis_sync.Redis.from_url(settings.redis_url)
    keys = [PartitionKeys.of(settings, partition).due for partition in range(partitions)]
    done_s: float | None = None
    while done_s is None or time.monotonic() < done_s + after_s:
        due = sum(int(str(client.zcount(key, "-inf", today))) for key in keys)
        measured.due.append((time.monotonic(), due))
        if due == 0 and done_s is None:
            done_s = time.monotonic()
        await asyncio.sleep(POLL_S)
    client.close()


def peak_mib(worker: WorkerProcess) -> float:
    """The most memory that the worker has had resident."""
    status = Path(f"/proc/{worker.process.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) / 1024 if found else float("nan")


def told(name: str, latencies_ms: Sequence[float]) -> str:
    """One line of figures."""
    if not latencies_ms:
        return f"{name}: no live event"
    p50, p99, most = np.percentile(latencies_ms, [50, 99, 100])
    return (
        f"{name}: {len(latencies_ms):,} live events, p50 {p50:,.0f} ms, p99 {p99:,.0f} ms, max {most:,.0f} ms"
    )


async def run(settings: Settings, options: argparse.Namespace, log: Path) -> None:
    today = day_of(wall_clock_us())
    await make_topics(settings, options.partitions)
    began_s = time.monotonic()
    await fill(settings, options.customers, options.partitions)
    with redis_sync.Redis.from_url(settings.redis_url) as client:
        used = client.info("memory")["used_memory"] / 2**20
    print(
        f"{options.customers:,} customers written in {time.monotonic() - began_s:.0f} s, {used:,.0f} MiB in Redis"
    )
    measured = Measured()
    live = LiveEvents(settings, options.partitions, options.events_per_s)
    with worker_process(settings, log) as worker:
        await worker.until(lambda: len(worker.partitions()) == options.partitions, "assigned", 120)
        sending = asyncio.create_task(live.send())
        collecting = asyncio.create_task(collect(settings, live, measured))
        await watch(settings, options.partitions, today, measured, options.after_s)
        live.stopped.set()
        await sending
        await asyncio.sleep(3)
        collecting.cancel()
        report(options, measured, peak_mib(worker))
        worker.terminate()


def report(options: argparse.Namespace, measured: Measured, peak: float) -> None:
    """Print the figures; the sweep's begin when the first are swept, without the start of the worker."""
    begun_s = next(at_s for at_s, due in measured.due if due < options.customers)
    ended_s = next(at_s for at_s, due in measured.due if due == 0)
    before = next(due for at_s, due in measured.due if at_s == begun_s)
    rate = before / (ended_s - begun_s) if ended_s > begun_s else float("nan")
    print(f"swept {before:,} customers in {ended_s - begun_s:.0f} s: {rate:,.0f} a second")
    print(f"changes by the sweep: {measured.swept_changes:,}; worker's peak memory {peak:,.0f} MiB")
    print(told("during the sweep", [ms for at_s, ms in measured.arrived if begun_s + 2 <= at_s <= ended_s]))
    print(told("without a sweep", [ms for at_s, ms in measured.arrived if at_s > ended_s + 2]))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--customers", type=int, default=1_000_000)
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--events-per-s", type=float, default=200.0)
    parser.add_argument("--after-s", type=float, default=60.0)
    options = parser.parse_args()
    with start_kafka() as kafka, start_own_redis() as redis, tempfile.TemporaryDirectory() as folder:
        print(f"{kafka.origin}; {redis.origin}")
        settings = make_settings(kafka.bootstrap_servers, redis.url, f"b{uuid.uuid4().hex[:8]}-")
        asyncio.run(run(settings, options, Path(folder) / "worker.log"))


if __name__ == "__main__":
    main()
