"""Input as it comes: poison, repeats, late records, and a partition where nothing happens; each with workers killed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from itertools import pairwise

import orjson
import pytest
from aiokafka import AIOKafkaProducer

from schemas.topics import INPUT_TOPICS
from tests.faults.case import FaultCase
from tests.faults.conftest import MakeCase
from tests.faults.verdict import chain_breaks
from tests.faults.workload import PARTITIONS, Size, Workload, by_id, crowd
from tests.integration.corpus import EXAMPLES
from tests.integration.harness import Record, WorkerProcess, scrape
from tests.integration.log_files import LogFile, flip_a_bit
from tests.services import KafkaService, OwnRedis

pytestmark = [pytest.mark.real_kafka, pytest.mark.timeout(900)]

POISON_SHARE, REPEATED_SHARE, LATE_SHARE = 0.02, 0.05, 0.05
LARGE_BYTES = 10_000
STANDS_S = 3.0
FARTHEST = 2_000
"""By how many records, at most, a repeat comes after its original, and a late one after its place."""


def run_with_kills(case: FaultCase, until_share: float = 0.2) -> None:
    """Kill workers in mid-stream, spread over the part of the log that comes first."""
    kills = case.choose(full=3, short=1)
    for number in range(kills):
        with case.worker() as worker:
            case.until_batches(1, worker)
            case.until_backlog(1 - (1 - until_share) * (number + 0.5) / kills, worker)
            case.assert_mid_stream()
            worker.kill()
            case.injected()


def poisoned(good: Workload, seed: int) -> Workload:
    """With bad records strewn in, of every kind that needs no past; each large one comes once."""
    rng = random.Random(f"poison/{seed}")
    bad = [example for example in EXAMPLES if example.reason is not None and not example.before]
    small = [example for example in bad if len(example.value or b"") < LARGE_BYTES]
    due_once = {rng.randrange(len(good.records)): example for example in bad if example not in small}
    records: list[Record] = []
    poison: set[int] = set()
    for number, record in enumerate(good.records):
        records.append(record)
        example = due_once.get(number) or (rng.choice(small) if rng.random() < POISON_SHARE else None)
        if example is not None:
            poison.add(len(records))
            key = example.customer.encode() if example.key == b"" else example.key
            records.append(Record(example.topic, key, example.value, rng.randrange(PARTITIONS)))
    return Workload(records, like=good, poison=frozenset(poison))


@pytest.mark.fault_case("input", "poison records, SIGKILL", short=True)
def test_each_poison_record_becomes_one_dead_letter_and_nothing_else(
    make_case: MakeCase, kafka: KafkaService, own_redis: OwnRedis, common_crowd: Workload, random_seed: int
) -> None:
    """What comes of all the others is what comes without it."""
    workload = poisoned(common_crowd, random_seed)
    with make_case(kafka.bootstrap_servers, own_redis.url, workload=workload) as case:
        case.begin()
        case.injected(len(workload.poison))
        run_with_kills(case)
        case.finish()
        case.check()


def displaced(good: Workload, rng: random.Random, share: float, *, keep: bool) -> list[Record]:
    """Some records come again, or only, up to `FARTHEST` records later."""
    places: list[tuple[float, Record]] = []
    for number, record in enumerate(good.records):
        is_late = rng.random() < share
        if keep or not is_late:
            places.append((number, record))
        if is_late:
            places.append((number + rng.uniform(0.5, FARTHEST), record))
    return [record for _, record in sorted(places, key=lambda placed: placed[0])]


@pytest.mark.fault_case("input", "repeated records, SIGKILL")
def test_a_record_that_comes_again_counts_once(
    make_case: MakeCase, kafka: KafkaService, own_redis: OwnRedis, common_crowd: Workload, random_seed: int
) -> None:
    """Also where a worker was killed between the two."""
    records = displaced(common_crowd, random.Random(f"repeats/{random_seed}"), REPEATED_SHARE, keep=True)
    workload = Workload(records, like=common_crowd)
    with make_case(kafka.bootstrap_servers, own_redis.url, workload=workload) as case:
        case.begin()
        case.injected(len(workload.records) - len(common_crowd.records))
        run_with_kills(case)
        case.finish()
        case.check()


@pytest.mark.fault_case("input", "late records, SIGKILL")
def test_late_records_give_what_they_give_to_a_worker_without_faults(
    make_case: MakeCase,
    kafka: KafkaService,
    own_redis: OwnRedis,
    common_crowd: Workload,
    unique_prefix: str,
    random_seed: int,
) -> None:
    """Here the order of arrival matters: the oracle of changes is an undisturbed worker on a copy of the log.

    That of the aggregates, which it does not matter to, is replay.
    """
    records = displaced(common_crowd, random.Random(f"late/{random_seed}"), LATE_SHARE, keep=False)
    workload = Workload(records)
    servers = kafka.bootstrap_servers
    prefix = f"{unique_prefix}copy-"
    with make_case(servers, own_redis.url, workload=workload, topic_prefix=prefix) as undisturbed:
        undisturbed.begin()
        undisturbed.finish()
        seen = undisturbed.seen()
    assert not chain_breaks(seen.changes)
    expected = replace(
        workload.expected,
        changes=by_id("change_id", seen.changes),
        triggers=by_id("trigger_id", seen.triggers),
    )
    assert len(expected.changes) == len(seen.changes)
    assert expected.changes.keys() != workload.expected.changes.keys(), "the order made no difference"
    with make_case(servers, own_redis.url, workload=workload) as case:
        case.begin()
        case.injected(round(LATE_SHARE * len(records)))
        run_with_kills(case)
        case.finish()
        case.check(expected)


@pytest.mark.fault_case("input", "unreadable batches, SIGKILL")
def test_each_unreadable_batch_becomes_one_dead_letter_and_nothing_else(
    make_case: MakeCase, kafka: KafkaService, own_redis: OwnRedis, common_crowd: Workload
) -> None:
    """One in each partition, damaged on the broker's disk; what comes of all others is what comes without them."""
    records, places = list(common_crowd.records), list[int]()
    for partition in range(PARTITIONS):
        places.append(len(records) * (partition + 2) // (PARTITIONS + 3) + partition)
        records.insert(places[-1], Record("purchases", b"key", b"unreadable", partition))
    workload = Workload(records, like=common_crowd, poison=frozenset(places))
    with make_case(kafka.bootstrap_servers, own_redis.url, workload=workload) as case:
        case.begin(places[0])
        for place, following in pairwise((*places, None)):
            assert place is not None
            case.send(place, place + 1)
            case.send(place + 1, following)
        for place in places:
            partition = records[place].partition
            log = LogFile(case.own_settings, "purchases", partition)
            log.damage(
                sum(r.topic == "purchases" and r.partition == partition for r in records[:place]), flip_a_bit
            )
        case.injected(len(places))
        run_with_kills(case)
        case.finish()
        case.check()


IDLE = PARTITIONS - 1


def with_an_idle_partition(seed: int, size: Size) -> tuple[Workload, int]:
    """A workload whose last partition has purchases only, a few at the beginning and a few at the very end.

    Gives also how many records come before those.
    """
    events = size.events * PARTITIONS // (PARTITIONS - 1)
    made = crowd(seed, replace(size, events=events)).records
    few = events // 50
    stream = [
        record
        for number, record in enumerate(made)
        if record.partition != IDLE or (number < few and record.topic == "purchases")
    ]
    end = [record for record in made[-few:] if record.partition == IDLE and record.topic == "purchases"]
    return Workload(stream + end), len(stream)


@pytest.mark.fault_case("input", "a partition that stays idle, SIGKILL")
def test_an_idle_partition_is_taken_over_clean_each_time_and_goes_on_when_records_come(
    make_case: MakeCase, kafka: KafkaService, own_redis: OwnRedis, random_seed: int, size: Size
) -> None:
    """Two of its inputs stay empty to the end, and nobody waits for them."""
    workload, first = with_an_idle_partition(random_seed, size)
    with make_case(kafka.bootstrap_servers, own_redis.url, workload=workload) as case:
        case.begin(first)
        with case.worker() as worker:
            case.until(
                lambda: bool(worker.partitions().get(IDLE, {}).get("idle")), "an idle partition", worker
            )
            few = sum(record.partition == IDLE for record in workload.records[:first])
            assert case.progress.offsets()["purchases", IDLE] == few > 0
            batch = case.progress.partition_batches()[IDLE]
            case.assert_mid_stream()
            worker.kill()
            case.injected()
        run_with_kills(case)
        assert case.progress.partition_batches()[IDLE] == batch
        assert (
            case.logged(f"partition {IDLE}: recovery: Redis and Kafka agree (Redis at micro-batch {batch}/")
            > 0
        )
        with case.worker() as worker:
            still_to_send = len(workload.records) - first
            case.until(lambda: case.progress.backlog() == still_to_send, "all but the end", worker)
            case.send(first)
            case.finish(worker)
        case.check()


@asynccontextmanager
async def transactional(case: FaultCase, name: str) -> AsyncIterator[AIOKafkaProducer]:
    """Somebody's producer of inputs."""
    producer = AIOKafkaProducer(
        bootstrap_servers=case.own_settings.kafka_bootstrap_servers,
        transactional_id=f"{case.own_settings.topic_prefix}{name}",
        transaction_timeout_ms=600_000,
        acks="all",
    )
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


async def send_open(case: FaultCase, producer: AIOKafkaProducer, records: Iterable[Record]) -> None:
    """Put records into the inputs in a transaction, and leave it open."""
    await producer.begin_transaction()
    sent = [
        await producer.send(case.own_settings.topic(topic), key=key, value=value, partition=partition)
        for topic, key, value, partition in records
    ]
    await asyncio.gather(*sent)


def never_happened(record: Record, number: int) -> Record:
    """One like it, which would count beside it."""
    document = orjson.loads(record.value or b"")
    return record._replace(value=orjson.dumps({**document, "event_id": f"never-{number}"}))


async def send_in_transactions(case: FaultCase, start: int, end: int) -> None:
    """Events in a transaction that is committed, behind others like them in one that is aborted."""
    records = case.workload.records[start:end]
    async with transactional(case, "shop") as shop, transactional(case, "broken") as broken:
        await send_open(case, broken, [never_happened(record, start + n) for n, record in enumerate(records)])
        await broken.abort_transaction()
        await send_open(case, shop, records)
        await shop.commit_transaction()


def stands(worker: WorkerProcess) -> bool:
    """Whether a worker stands before an open transaction in every partition of every input, for some seconds."""
    if len(worker.partitions()) < PARTITIONS:
        return False
    stood_s = scrape(worker.settings).by("ebbtide_open_transaction_seconds", "topic", "partition")
    return sum(for_s >= STANDS_S for for_s in stood_s.values()) == PARTITIONS * len(INPUT_TOPICS)


async def run_before_an_open_transaction(case: FaultCase, start: int, middle: int, end: int) -> None:
    """One stays open before others that are committed; two workers, one after the other, stand there and are killed."""
    async with transactional(case, "slow") as slow:
        await send_open(case, slow, case.workload.records[start:middle])
        await send_in_transactions(case, middle, end)
        for log in ("first.log", "next.log"):
            with case.worker(case.folder / log) as worker:
                await asyncio.to_thread(
                    case.until, partial(stands, worker), "all partitions before it", worker
                )
                assert sum(state["records"] for state in worker.partitions().values()) <= start
                case.assert_mid_stream()
                worker.kill()
                case.injected()
        await slow.commit_transaction()


@pytest.mark.fault_case("input", "somebody's transactions: committed, aborted, left open; SIGKILL")
def test_what_others_abort_counts_for_nobody_and_what_they_leave_open_is_waited_for(case: FaultCase) -> None:
    """All but the first and the last of the events come in transactions; one is open before half of them."""
    cuts = [len(case.workload.records) * number // 8 for number in range(1, 8)]
    case.begin(cuts[0])
    for start, end in pairwise(cuts[:3]):
        asyncio.run(send_in_transactions(case, start, end))
        case.injected()
    asyncio.run(run_before_an_open_transaction(case, cuts[2], cuts[3], cuts[4]))
    for start, end in pairwise(cuts[4:]):
        asyncio.run(send_in_transactions(case, start, end))
        case.injected()
    case.sent_by_others(cuts[0], cuts[-1])
    case.send(cuts[-1])
    with case.worker() as worker:
        case.until_batches(1, worker)
        case.assert_mid_stream()
        worker.kill()
        case.injected()
    case.finish()
    case.check()
