"""Workers that die, are stopped, freeze, come and go."""

from __future__ import annotations

import asyncio
import os
import resource
import secrets
import signal
import time
from collections.abc import Collection, Mapping
from contextlib import ExitStack, suppress

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import ProducerFenced
from redis import Redis

from streams.settings import Settings
from streams.state.changelog import FACTS, FACTS_KEY, GROUP_HEADER, KIND_HEADER
from streams.state.keys import PartitionKeys
from tests.faults.case import FaultCase
from tests.faults.workload import PARTITIONS
from tests.integration.harness import WorkerProcess
from tests.services import OwnRedis

pytestmark = [pytest.mark.real_kafka, pytest.mark.timeout(900)]

SETTLED_AFTER_S = 1.0
"""After which a transaction that was about to be committed is."""
GOES_ON = ": goes on from micro-batch "
MOST_TRIES = 8
"""For each kill that is wanted at a certain instant: on a quick machine many come too late."""
GAPS_S = ((1.0, 3.0), (3.0, 7.0), (7.0, 15.0), (15.0, 30.0))


@pytest.mark.fault_case("workers", "SIGKILL after 0.1–1 s")
def test_killed_soon_after_each_start_every_change_is_there_once(case: FaultCase) -> None:
    """The time counts from the first micro-batch that the worker has published."""
    case.begin(feeds=True)
    for _ in range(case.choose(full=6, short=3)):
        with case.worker() as worker:
            case.until_batches(1, worker)
            time.sleep(case.random.uniform(0.1, 1.0))
            case.assert_mid_stream()
            worker.kill()
            case.injected()
    case.finish()
    case.check()


@pytest.mark.fault_case("workers", "SIGKILL after 1–30 s")
def test_killed_after_longer_and_longer_every_change_is_there_once(case: FaultCase) -> None:
    """Short times come first, so that the log is long enough for some of them; at least two are."""
    case.begin()
    for shortest_s, longest_s in GAPS_S:
        with case.worker() as worker:
            case.until_batches(1, worker)
            end = time.monotonic() + case.random.uniform(shortest_s, longest_s)
            case.until(lambda end=end: time.monotonic() > end or not case.is_mid_stream, "the time", worker)  # type: ignore[misc]
            if not case.is_mid_stream:
                break
            worker.kill()
            case.injected()
    assert case.faults >= 2
    case.finish()
    case.check()


def until_persisted(case: FaultCase, worker: WorkerProcess) -> None:
    """Return at the instant at which Redis has a micro-batch more."""
    batches = case.progress.redis_batches()
    case.until(lambda: case.progress.redis_batches() != batches, "a micro-batch in Redis", worker, poll_s=0)


def unpublished(case: FaultCase, places: Collection[int]) -> dict[int, int]:
    """Redis' micro-batches, of these partitions, that Kafka does not have after a while, with the worker at rest.

    MicroBatch 0 is in Kafka first: one that has not begun yet has nothing unpublished.
    """
    time.sleep(SETTLED_AFTER_S)
    published = case.progress.partition_batches()
    batches = case.progress.redis_batches()
    return {place: batches[place] for place in places if batches[place] > published.get(place, 0)}


def kill_between_persist_and_publish(case: FaultCase, worker: WorkerProcess) -> bool:
    """Kill it at the instant at which Redis has a micro-batch more; whether one was left that Kafka does not have."""
    until_persisted(case, worker)
    worker.kill()
    return bool(unpublished(case, range(case.workload.partitions)))


@pytest.mark.parametrize(
    "emptied",
    [
        pytest.param(False, marks=pytest.mark.fault_case("workers", "SIGKILL between persist and publish")),
        pytest.param(
            True,
            marks=pytest.mark.fault_case(
                "workers", "SIGKILL between persist and publish, Redis emptied once", short=True
            ),
        ),
    ],
)
def test_killed_between_persist_and_publish_every_change_is_there_once(
    case: FaultCase, own_redis: OwnRedis, emptied: bool
) -> None:
    """The kills are spread over the log, and Redis is emptied in its middle; those that came too late do not count."""
    case.begin(feeds=True)
    kills = case.choose(full=6, short=2)
    for number in range(MOST_TRIES * kills):
        with case.worker() as worker:
            case.until_batches(1, worker)
            case.until_backlog(1 - (case.faults + 0.5) / (kills + 1), worker)
            case.assert_mid_stream()
            if kill_between_persist_and_publish(case, worker):
                case.injected()
        if emptied and number == kills // 2:
            own_redis.flush()
            case.injected()
        if case.faults >= kills + emptied:
            break
    case.finish()
    assert case.logged("outbox of micro-batch") >= kills - emptied
    assert (case.logged("restored") > 0) == emptied
    case.check()


@pytest.mark.fault_case("workers", "SIGKILL in a restore")
def test_killed_in_a_restore_the_next_worker_restores_again(case: FaultCase, own_redis: OwnRedis) -> None:
    """A partition whose states are half written says so, and is not gone on with."""
    case.begin()
    with case.worker() as worker:
        case.until_backlog(0.5, worker)
        worker.kill()
        own_redis.flush()
        case.injected()
    for number in range(1, case.choose(full=4, short=2)):
        with case.worker(case.folder / f"restoring-{number}.log") as worker:
            case.until(lambda worker=worker: "restoring Redis" in worker.log_text(), "a restore", worker)  # type: ignore[misc]
            time.sleep(case.random.uniform(0.0, 0.3))
            worker.kill()
            assert worker.log_text().count("restored") < case.workload.partitions, "killed too late"
            case.injected()
    case.finish()
    assert case.logged("restored") >= case.workload.partitions
    case.check()


def owner_tokens(case: FaultCase, redis: Redis) -> list[object]:
    """Who has claimed each partition; None where nobody has."""
    metas = (PartitionKeys.of(case.settings, place).meta for place in range(case.workload.partitions))
    return [redis.hget(meta, "owner_token") for meta in metas]


@pytest.mark.fault_case("workers", "SIGKILL in a recovery")
def test_killed_in_a_recovery_the_next_worker_takes_over_again(case: FaultCase, own_redis: OwnRedis) -> None:
    """Each time there is an outbox to publish, and a partition that had been claimed had not gone on."""
    case.begin()
    kills = case.choose(full=4, short=2)
    with own_redis.client() as client:
        for number in range(MOST_TRIES * kills):
            with case.worker() as worker:
                case.until_batches(1, worker)
                case.until_backlog(1 - (case.faults + 0.5) / (kills + 1), worker)
                case.assert_mid_stream()
                has_outbox = kill_between_persist_and_publish(case, worker)
            tokens = owner_tokens(case, client)
            with case.worker(case.folder / f"taking-over-{number}.log") as worker:
                case.until(lambda: owner_tokens(case, client) != tokens, "a claim", worker, poll_s=0)  # noqa: B023
                time.sleep(case.random.uniform(0.0, 0.5))
                worker.kill()
                claimed = sum(a != b for a, b in zip(tokens, owner_tokens(case, client), strict=True))
                if has_outbox and worker.log_text().count(GOES_ON) < claimed:
                    case.injected()
            if case.faults >= kills:
                break
    assert case.faults >= kills
    case.finish()
    case.check()


@pytest.mark.fault_case("workers", "SIGTERM")
def test_told_to_stop_amid_its_work_it_leaves_nothing_to_mend(case: FaultCase) -> None:
    """Exit code 0 each time, and Redis and Kafka agree when the next one takes over."""
    case.begin(feeds=True)
    for _ in range(case.choose(full=6, short=2)):
        with case.worker() as worker:
            case.until_batches(1, worker)
            time.sleep(case.random.uniform(0.1, 1.0))
            case.assert_mid_stream()
            assert worker.terminate() == 0, worker.log_text()[-6_000:]
            case.injected()
    case.finish()
    assert case.logged("Redis and Kafka agree") == case.faults * case.workload.partitions
    assert case.logged("outbox of micro-batch") == case.logged("restoring Redis") == 0
    case.check()


def shared(*workers: WorkerProcess) -> bool:
    """Whether each worker holds a partition, and together they hold each once."""
    held = [set(worker.partitions()) for worker in workers]
    return all(held) and sum(map(len, held)) == len(set().union(*held)) == 4


def stop_between_persist_and_publish(case: FaultCase, worker: WorkerProcess) -> dict[int, int]:
    """Stop it when Redis has micro-batches of its partitions that Kafka does not have, and gives those."""
    for _ in range(100):
        held = set(worker.partitions())
        until_persisted(case, worker)
        os.kill(worker.process.pid, signal.SIGSTOP)
        if batches := unpublished(case, held):
            return batches
        os.kill(worker.process.pid, signal.SIGCONT)
    raise AssertionError("it was never stopped between the two")


def passed(case: FaultCase, batches: Mapping[int, int]) -> bool:
    """Whether Kafka has gone beyond these micro-batches."""
    published = case.progress.partition_batches()
    return all(published[place] > batch for place, batch in batches.items())


@pytest.mark.fault_case("workers", "SIGSTOP past the session timeout, SIGCONT", short=True)
def test_a_worker_that_wakes_after_losing_its_partitions_publishes_nothing(case: FaultCase) -> None:
    """The zombie has persisted a batch, which the next owner publishes; it goes on to publish it too, and is fenced.

    Or, if it slept while Redis answered, it takes that for a timeout, and takes the partition over once more.
    """
    case.begin()
    with ExitStack() as ends:
        workers = [ends.enter_context(case.worker(case.folder / f"{name}.log")) for name in ("one", "two")]
        for number in range(case.choose(full=2, short=1)):
            case.until(lambda: shared(*workers), "two partitions each", *workers)
            case.until_batches(2, *workers)
            zombie, other = workers if number % 2 == 0 else reversed(workers)
            shut_out_before = shut_out(zombie)
            batches = stop_between_persist_and_publish(case, zombie)
            try:
                case.assert_mid_stream()
                case.until(lambda: passed(case, batches), "the other worker's micro-batches", other)  # noqa: B023
                assert "outbox of micro-batch" in other.log_text()
            finally:
                os.kill(zombie.process.pid, signal.SIGCONT)
            case.injected()
            case.until(lambda: shut_out(zombie) > shut_out_before, "the zombie shut out", *workers)  # noqa: B023
        case.finish(*workers)
    case.check()


def shut_out(worker: WorkerProcess) -> int:
    """How often a worker could not go on with a partition: refused by Redis or by Kafka, or without an answer."""
    return worker.log_text().count("taking over again")


@pytest.mark.fault_case("workers", "growing 1→3 and shrinking 3→1")
def test_workers_that_come_and_go_share_the_partitions(case: FaultCase) -> None:
    """Each of the four rebalances happens in mid-stream, and afterwards each worker holds partitions."""
    case.begin(feeds=True)
    with ExitStack() as ends:
        workers: list[WorkerProcess] = []
        for number in range(3):
            workers.append(ends.enter_context(case.worker(case.folder / f"worker-{number}.log")))
            case.until(lambda: shared(*workers), f"partitions shared by {len(workers)}", *workers)
            case.until_batches(4, *workers)
            case.assert_mid_stream()
            if number:
                case.injected()
        while len(workers) > 1:
            assert workers.pop(case.random.randrange(len(workers))).terminate() == 0
            case.fault_ended()
            case.until(lambda: shared(*workers), f"partitions shared by {len(workers)}", *workers)
            case.assert_mid_stream()
            case.faults += 1
        case.finish(*workers)
    case.check()


@pytest.mark.fault_case("workers", "a restore longer than the session timeout")
def test_a_member_stays_in_the_group_through_a_long_restore(case: FaultCase, own_redis: OwnRedis) -> None:
    """The worker is starved of its processor until the restore has taken half as long again as the session timeout."""
    case.begin()
    with case.worker() as worker:
        case.until_backlog(0.2, worker)
        assert worker.terminate() == 0
    own_redis.flush()
    log = case.folder / "restoring.log"
    with case.worker(log) as worker:
        case.until(lambda: worker.log_text().count("restoring Redis") == 4, "four restores", worker)
        started = time.monotonic()
        members = case.progress.members()
        assert len(members) == 1
        while time.monotonic() < started + 1.5 * case.settings.session_timeout_s:
            assert "restored" not in worker.log_text(), "the restore was too short"
            os.kill(worker.process.pid, signal.SIGSTOP)
            time.sleep(1.5)  # with a tenth of its time no machine is so fast that it is done too soon
            os.kill(worker.process.pid, signal.SIGCONT)
            time.sleep(0.15)  # enough for a heartbeat, also where other processes take their share
        case.assert_mid_stream()
        case.until(lambda: worker.log_text().count("restored") == 4, "restored", worker)
        case.injected()
        assert case.progress.members() == members
        case.finish(worker)
    assert log.read_text("utf-8").count("recovery:") == case.workload.partitions
    case.check()


@pytest.mark.fault_case("workers", "no file descriptors left for a while")
def test_a_worker_that_can_open_nothing_goes_on_once_it_can(case: FaultCase, own_redis: OwnRedis) -> None:
    """Redis ends its connections meanwhile, so that every partition needs new ones, and then new ones to Kafka."""
    case.begin()
    with case.worker() as worker, own_redis.client() as client:
        for _ in range(case.choose(full=3, short=2)):
            case.until_batches(8, worker)
            case.assert_mid_stream()
            pid = worker.process.pid
            allowed, most = resource.prlimit(pid, resource.RLIMIT_NOFILE)
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (0, most))
            assert client.client_kill_filter(_type="normal", skipme=True) > 0
            said = case.logged("Too many open files")
            case.until_all_fail(worker, more=2)
            assert case.logged("Too many open files") > said
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (allowed, most))
            case.injected()
        case.finish(worker)
    case.check()


async def open_as_0_1(settings: Settings, partition: int) -> AIOKafkaProducer:
    """A producer by the transactional id of Ebbtide 0.1, in a transaction with a change of nobody's."""
    producer = AIOKafkaProducer(
        bootstrap_servers=settings.kafka_bootstrap_servers,
        transactional_id=f"ebbtide-{settings.joined_by_0_1}-{partition}",
        acks="all",
    )
    await producer.start()
    await producer.begin_transaction()
    await producer.send_and_wait(settings.topic("segment-changes"), b"{}", partition=partition)
    return producer


async def recovery_from_0_1(case: FaultCase, redis: Redis, *, emptied: bool) -> None:
    """Leave things as 0.1 does when it is killed, start this version, and have a worker of 0.1 go on that slept.

    0.1 kept neither facts nor the topics' ids, named its owners otherwise, and emptied no outbox.
    """
    partitions = range(case.workload.partitions)
    for partition in partitions:
        meta = PartitionKeys.of(case.settings, partition).meta
        assert redis.hdel(meta, "facts", "topic_ids") == 2
        redis.hset(meta, "owner_token", secrets.token_hex(8))
    await delete_facts(case.own_settings)
    if emptied:
        redis.flushall()
        case.injected()
    asleep = [await open_as_0_1(case.own_settings, partition) for partition in partitions]
    try:
        with case.worker() as worker:
            before = case.logged(GOES_ON)
            await asyncio.to_thread(
                case.until, lambda: case.logged(GOES_ON) >= before + len(partitions), "taken over", worker
            )
            for producer in asleep:
                with pytest.raises(ProducerFenced):
                    await producer.commit_transaction()
            case.injected()
            await asyncio.to_thread(case.until_batches, 8, worker)
            case.assert_mid_stream()
            worker.kill()
            case.injected()
    finally:
        for producer in asleep:
            with suppress(Exception):
                await producer.stop()


async def delete_facts(settings: Settings) -> None:
    """Delete the facts of each partition in Kafka."""
    said = [(KIND_HEADER, FACTS), (GROUP_HEADER, settings.group_id.encode())]
    topic = settings.topic("ebbtide-decisions")
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka_bootstrap_servers, acks="all") as producer:
        for partition in range(PARTITIONS):
            await producer.send_and_wait(topic, None, key=FACTS_KEY, partition=partition, headers=said)


@pytest.mark.parametrize(
    "emptied",
    [
        pytest.param(False, marks=pytest.mark.fault_case("workers", "version 0.1 killed, this one goes on")),
        pytest.param(
            True,
            marks=pytest.mark.fault_case("workers", "version 0.1 killed, this one goes on, Redis emptied"),
        ),
    ],
)
def test_what_version_0_1_left_is_taken_over(case: FaultCase, own_redis: OwnRedis, emptied: bool) -> None:
    """By fields: what 0.1 did not write is taken away. Its worker had slept, and is fenced when it wakes."""
    case.begin()
    with own_redis.client() as client:
        for number in range(case.choose(full=3, short=1)):
            with case.worker() as worker:
                case.until_batches(8, worker)
                case.until_backlog(0.9 - 0.25 * number, worker)
                case.assert_mid_stream()
                worker.kill()
            asyncio.run(recovery_from_0_1(case, client, emptied=emptied))
    case.finish()
    assert (case.logged("restored") > 0) == emptied
    case.check()
