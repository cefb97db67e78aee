"""A million records in fuzzed batches through a worker process: `python -m tests.fuzz.million`, which is `make fuzz`.

Some batches are damaged on the broker's disk, others explode once decompressed. Each batch must be taken whole or
become one dead letter; no partition may stand still for more than a minute, and the worker must stay below a GiB.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import redis

from streams.settings import Settings
from streams.state.keys import PartitionKeys
from tests.fuzz.batches import Sent, any_damage, fill, producers
from tests.integration.harness import WorkerProcess, make_settings, make_topics, read_topic, worker_process
from tests.integration.log_files import LogFile
from tests.services import start_kafka, start_own_redis

PARTITIONS = 8
TOPIC = "purchases"
UNSENT_BATCHES = 200
"""Batches on their way at once."""
EXPLODING_BYTES = (70_000_000, 150_000_000, 250_000_000)
LARGEST_BATCH_BYTES = 260_000_000
LONGEST_STOP_S = 60.0
MOST_MEMORY_MIB = 1_024
POLL_S = 0.25

Place = tuple[int, int]
"""A partition, and the first offset of a batch."""


@dataclass
class Log:
    """What was sent: batches by place, and the places of those that cannot, or must not, be read."""

    batches: dict[Place, Sent] = field(default_factory=dict)
    unreadable: set[Place] = field(default_factory=set)
    ends: dict[int, int] = field(default_factory=dict)


@dataclass
class Watched:
    """How the worker fared: the longest time for which a partition stood still, and its peak of memory."""

    longest_stop_s: float = 0.0
    peak_mib: float = 0.0
    took_s: float = 0.0


def say(text: str) -> None:
    """Tell how far it is."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


async def send(settings: Settings, rng: random.Random, records: int, exploding: int) -> Log:
    """So many records in batches of every codec, `exploding` of them too large once decompressed."""
    log, sent_records, number = Log(), 0, 0
    waiting: list[tuple[int, Sent, Any]] = []

    async def settle() -> None:
        for partition, sent, answer in waiting:
            log.batches[partition, (await answer).offset] = sent
        waiting.clear()

    async with producers(settings, LARGEST_BATCH_BYTES) as of_each_codec:
        every = max(1, records // 12 // max(exploding, 1))
        while sent_records < records:
            is_exploding = exploding > 0 and number % every == every - 1
            # Blanks shrink to what a broker takes by these only.
            producer = rng.choice(of_each_codec[1:2] + of_each_codec[4:] if is_exploding else of_each_codec)
            batch, partition = producer.create_batch(), rng.randrange(PARTITIONS)
            sent = fill(rng, batch, number, rng.choice(EXPLODING_BYTES) if is_exploding else None)
            answer = await producer.send_batch(batch, settings.topic(TOPIC), partition=partition)
            waiting.append((partition, sent, answer))
            sent_records += len(sent.customers) + sent.refused
            number += 1
            if len(waiting) >= UNSENT_BATCHES or is_exploding:
                await settle()
            if number % 10_000 == 0:
                say(f"{sent_records:,} records in {number:,} batches sent")
        await settle()
    limit = settings.decompressed_max_bytes
    log.unreadable = {place for place, sent in log.batches.items() if sent.size_bytes > limit}
    for (partition, first), sent in log.batches.items():
        end = first + len(sent.customers) + sent.refused
        log.ends[partition] = max(end, log.ends.get(partition, 0))
    return log


def damage(settings: Settings, rng: random.Random, log: Log, damaged: int) -> None:
    """Damage so many batches, spread over the partitions: at most two that are neighbours."""
    for partition in range(PARTITIONS):
        file = LogFile(settings, TOPIC, partition)
        batches = list(file.batches())
        for batch in rng.sample(batches, min(damaged // PARTITIONS, len(batches))):
            file.damage_batch(batch, any_damage(rng))
            log.unreadable.add((partition, batch.first))


def watch(settings: Settings, log: Log, worker: WorkerProcess) -> Watched:
    """Wait until all has been taken, and look how long each partition stands still meanwhile."""
    watched, started_s = Watched(), time.monotonic()
    moved: dict[int, tuple[int, float]] = {}
    with redis.Redis.from_url(settings.redis_url) as client:
        while True:
            now_s, left = time.monotonic(), 0
            for partition, end in log.ends.items():
                kept: Any = client.hget(PartitionKeys.of(settings, partition).meta, "offsets")
                if kept is None:  # not begun yet
                    left += end
                    continue
                at = msgspec.json.decode(kept)[TOPIC]
                before, since_s = moved.get(partition, (-1, now_s))
                if at != before:
                    moved[partition] = at, now_s
                elif at < end:
                    watched.longest_stop_s = max(watched.longest_stop_s, now_s - since_s)
                left += max(0, end - at)
            watched.peak_mib = max(watched.peak_mib, _peak_mib(worker.process.pid))
            watched.took_s = now_s - started_s
            assert worker.process.poll() is None, worker.log_text()[-6_000:]
            if left == 0 and worker.is_idle(PARTITIONS):
                return watched
            assert watched.longest_stop_s < 10 * LONGEST_STOP_S, worker.log_text()[-6_000:]
            time.sleep(POLL_S)


def _peak_mib(pid: int) -> float:
    """The most memory that a process has held so far."""
    lines = Path(f"/proc/{pid}/status").read_text("ascii").splitlines()
    return next((int(line.split()[1]) / 1_024 for line in lines if line.startswith("VmHWM:")), 0.0)


async def problems_of(settings: Settings, log: Log) -> list[str]:
    """What was lost or came twice: customers in Redis and dead letters, against what was sent."""
    readable = [sent for place, sent in log.batches.items() if place not in log.unreadable]
    expected = {customer for sent in readable for customer in sent.customers}
    with redis.Redis.from_url(settings.redis_url) as client:
        held = {
            customer.decode()
            for partition in range(PARTITIONS)
            for customer in client.zrange(PartitionKeys.of(settings, partition).due, 0, -1)
        }
    found, others = Counter[Place](), 0
    for letter in await read_topic(settings, "dead-letters"):
        said = {name.rpartition(".")[2]: value.decode() for name, value in letter.headers}
        if said["exception"] == "Unreadable":
            found[letter.partition, int(said["offset"])] += 1
        else:
            others += 1
    refused = sum(sent.refused for sent in readable)
    problems = [f"batch {place}: {count} dead letters" for place, count in found.items() if count != 1]
    problems += [f"batch {place}: no dead letter" for place in sorted(log.unreadable - found.keys())]
    whole = sorted(found.keys() - log.unreadable)
    problems += [f"batch {place}: a dead letter, though it is whole" for place in whole]
    if lost := expected - held:
        problems.append(f"{len(lost)} customers lost")
    if more := held - expected:
        problems.append(f"{len(more)} customers too many")
    if others != refused:
        problems.append(f"{others} other dead letters for {refused}")
    return problems


def main() -> int:
    """What the command line asks for; 1 if anything does not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.million", description=__doc__)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument(
        "--damaged", type=int, default=160, help="batches damaged on disk; each stops a partition for 30 s"
    )
    parser.add_argument("--exploding", type=int, default=24, help="batches too large once decompressed")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    rng = random.Random(f"fuzz/{chosen.seed}")
    with tempfile.TemporaryDirectory() as folder, start_kafka() as kafka, start_own_redis() as own_redis:
        settings = make_settings(kafka.bootstrap_servers, own_redis.url, "fuzz-")
        asyncio.run(make_topics(settings, PARTITIONS))
        log = asyncio.run(send(settings, rng, chosen.records, chosen.exploding))
        damage(settings, rng, log, chosen.damaged)
        say(
            f"{sum(log.ends.values()):,} records; {len(log.unreadable)} of {len(log.batches):,} batches unreadable"
        )
        with worker_process(settings, Path(folder) / "worker.log") as worker:
            watched = watch(settings, log, worker)
        problems = asyncio.run(problems_of(settings, log))
    if watched.longest_stop_s > LONGEST_STOP_S:
        problems.append(f"a partition stood still for {watched.longest_stop_s:.0f} s")
    if watched.peak_mib > MOST_MEMORY_MIB:
        problems.append(f"the worker held {watched.peak_mib:.0f} MiB")
    batches = f"{len(log.batches):,} batches, {len(log.unreadable)} of them unreadable"
    print(f"seed {chosen.seed}: {sum(log.ends.values()):,} records in {batches}, in {watched.took_s:.0f} s")
    stop, peak = f"{watched.longest_stop_s:.0f} s", f"{watched.peak_mib:.0f} MiB"
    print(f"the longest stop of a partition was {stop}, the worker's peak {peak}")
    print(f"{len(problems)} problems")
    print(*problems[:20], sep="\n")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
