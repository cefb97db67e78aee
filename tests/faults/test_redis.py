"""Redis that loses its last second or everything, refuses, fails over to a replica that lags, or answers to nobody."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import resources

import pytest

from streams.state.keys import PartitionKeys
from streams.worker.recovery import OWNER_PREFIX
from tests.faults.case import FaultCase
from tests.faults.conftest import MakeCase
from tests.integration.harness import WorkerProcess
from tests.services import JournaledRedis, KafkaService, OwnRedis, ReplicatedRedis, TcpProxy, start_proxy

pytestmark = [pytest.mark.real_kafka, pytest.mark.timeout(900)]

LOST_WRITES = "recovery: Redis has lost writes"
UNPUBLISHED = "recovery: a micro-batch was persisted but not published"
RECOVERY = ": recovery: "
OLD_BATCHES = 5
"""How far back, at least, an old snapshot is."""


def until_logged(case: FaultCase, worker: WorkerProcess, text: str, times: int) -> None:
    """Wait until the worker has said something so often."""
    case.until(lambda: case.logged(text) >= times, f"{text!r} {times} times", worker)


def until_all_publish_what_redis_lacks(case: FaultCase, worker: WorkerProcess) -> None:
    """Wait until every partition has published a micro-batch that Redis does not have at this moment."""
    before = dict(enumerate(case.progress.redis_batches()))

    def have_published() -> bool:
        published = case.progress.partition_batches()
        return all(published.get(partition, -1) > batch for partition, batch in before.items())

    case.until(have_published, "a newer micro-batch of every partition in Kafka", worker)


@pytest.mark.fault_case("Redis", "restart without its last second")
def test_a_redis_without_its_last_second_is_restored(
    make_case: MakeCase, kafka: KafkaService, journaled_redis: JournaledRedis
) -> None:
    """By its journal it is behind Kafka in every partition."""
    with make_case(kafka.bootstrap_servers, journaled_redis.url) as case:
        case.begin(feeds=True)
        with case.worker() as worker:
            for times in range(1, case.choose(full=4, short=2)):
                case.until_batches(8, worker)
                kept = journaled_redis.journal_bytes()
                time.sleep(1.0)
                until_all_publish_what_redis_lacks(case, worker)
                case.assert_mid_stream()
                journaled_redis.lose_power(kept)
                journaled_redis.start()
                case.injected()
                until_logged(case, worker, LOST_WRITES, times * case.workload.partitions)
            case.finish(worker)
        case.check()


@pytest.mark.fault_case("Redis", "FLUSHALL", short=True)
def test_an_emptied_redis_is_restored(case: FaultCase, own_redis: OwnRedis) -> None:
    case.begin(feeds=True)
    with case.worker() as worker:
        for times in range(1, case.choose(full=4, short=2)):
            case.until_batches(8, worker)
            case.until(
                lambda: len(case.progress.partition_batches()) == case.workload.partitions,
                "all begun",
                worker,
            )
            case.assert_mid_stream()
            own_redis.flush()
            case.injected()
            until_logged(case, worker, LOST_WRITES, times * case.workload.partitions)
        case.finish(worker)
    case.check()


@pytest.mark.fault_case("Redis", "failover to a replica that lags")
def test_a_replica_that_lagged_is_restored(
    make_case: MakeCase, kafka: KafkaService, replicated_redis: ReplicatedRedis
) -> None:
    """What the master took while replication was held up is lost, in every partition."""
    with make_case(kafka.bootstrap_servers, replicated_redis.url) as case:
        case.begin(feeds=True)
        with case.worker() as worker:
            for times in range(1, case.choose(full=4, short=2)):
                case.until_batches(8, worker)
                replicated_redis.hold_up_replication()
                until_all_publish_what_redis_lacks(case, worker)
                case.assert_mid_stream()
                replicated_redis.fail_over()
                case.injected()
                until_logged(case, worker, LOST_WRITES, times * case.workload.partitions)
                replicated_redis.add_replica()
            case.finish(worker)
        case.check()


def lost_at(case: FaultCase) -> list[tuple[int, int]]:
    """At which batch Redis was where a recovery found that it had lost writes, with the partition, in their order."""
    said = r"partition (\d+): recovery: Redis has lost writes \(Redis at micro-batch (\d+)/"
    return [(int(place), int(batch)) for place, batch in re.findall(said, case.log.read_text("utf-8"))]


@pytest.mark.fault_case("Redis", "restart from an old snapshot")
def test_a_redis_that_comes_back_as_it_once_was_is_restored(case: FaultCase, own_redis: OwnRedis) -> None:
    """Many micro-batches back, in every partition: whole, but of long ago."""
    case.begin(feeds=True)
    with case.worker() as worker, own_redis.client() as client:
        for _ in range(1, case.choose(full=4, short=2)):
            case.until_batches(8, worker)
            known = len(lost_at(case))
            before = case.progress.redis_batches()
            client.save()
            after = case.progress.redis_batches()
            assert min(before) >= 0
            case.until(
                lambda after=after: all(  # type: ignore[misc]
                    case.progress.partition_batches()[place] >= batch + OLD_BATCHES
                    for place, batch in enumerate(after)
                ),
                f"{OLD_BATCHES} more micro-batches of every partition",
                worker,
            )
            case.assert_mid_stream()
            own_redis.kill()
            own_redis.start()
            case.injected()
            # One whose restore was interrupted says it again; what it says first counts.
            case.until(
                lambda known=known: len(dict(lost_at(case)[known:])) == case.workload.partitions,  # type: ignore[misc]
                "lost writes found in every partition",
                worker,
            )
            found = dict(reversed(lost_at(case)[known:]))
            assert all(before[place] <= found[place] <= after[place] for place in found)
        case.finish(worker)
    case.check()


@pytest.mark.fault_case("Redis", "owner tokens of somebody else")
def test_a_worker_whose_partitions_are_claimed_behind_its_back_takes_them_over_anew(
    case: FaultCase, own_redis: OwnRedis
) -> None:
    """Redis refuses whatever it was about to do in each of them; one that has nothing to do does not notice."""
    case.begin(feeds=True)
    with case.worker() as worker, own_redis.client() as client:
        for number in range(case.choose(full=6, short=3)):
            case.until_batches(8, worker)
            if number > 1 and not case.has_half_to_feed:
                break
            case.assert_mid_stream()
            due = case.failures_due("FencedError")
            for partition in range(case.workload.partitions):
                meta = PartitionKeys.of(case.settings, partition).meta
                client.hset(meta, "owner_token", f"{OWNER_PREFIX}somebody else {number}")
            case.until_all_fail(worker, error="FencedError", due=due)
            case.injected()
        case.finish(worker)
    case.check()


@pytest.mark.fault_case("Redis", "writes refused for lack of memory")
def test_a_redis_that_refuses_for_a_while_costs_nothing(case: FaultCase, own_redis: OwnRedis) -> None:
    """Every partition is refused, micro-batches and claims alike, and goes on when there is memory again."""
    case.begin(feeds=True)
    with case.worker() as worker, own_redis.client() as client:
        for _ in range(case.choose(full=3, short=1)):
            case.until_batches(8, worker)
            case.assert_mid_stream()
            client.config_set("maxmemory", 1)
            case.until_all_fail(worker, error="OutOfMemoryError", more=3)
            client.config_set("maxmemory", 0)
            case.injected()
        case.finish(worker)
    case.check()


@contextmanager
def case_by_proxy(
    make_case: MakeCase, kafka: KafkaService, own_redis: OwnRedis
) -> Iterator[tuple[FaultCase, TcpProxy]]:
    """A case whose way to Redis leads through a proxy."""
    with start_proxy(own_redis.port) as proxy:
        url = own_redis.url.replace(str(own_redis.port), str(proxy.port))
        with make_case(kafka.bootstrap_servers, url) as case:
            yield case, proxy


def first_with(text: bytes) -> Callable[[bytes], bool]:
    """True of the first chunk that contains this text, and of no other."""
    waiting = [text]

    def is_it(chunk: bytes) -> bool:
        if not waiting or text not in chunk:
            return False
        waiting.clear()
        return True

    return is_it


def withheld(proxy: TcpProxy, times: int) -> bool:
    return proxy.answers_withheld >= times


@pytest.mark.fault_case("Redis", "connection reset in mid-script")
def test_a_micro_batch_that_was_persisted_without_anybody_hearing_of_it_is_published_once(
    make_case: MakeCase, kafka: KafkaService, own_redis: OwnRedis
) -> None:
    """The script runs, and its connection is reset before the answer: the next recovery finds the batch in Redis."""
    script = resources.files("streams.state").joinpath("scripts", "persist.lua").read_bytes()
    called = hashlib.sha1(script).hexdigest().encode()
    with case_by_proxy(make_case, kafka, own_redis) as (case, proxy):
        case.begin(feeds=True)
        with case.worker() as worker:
            for times in range(1, case.choose(full=13, short=4)):
                case.until_batches(4, worker)
                case.assert_mid_stream()
                proxy.withhold_answers(first_with(called))
                case.until(partial(withheld, proxy, times), "a withheld answer", worker)
                case.injected()
                until_logged(case, worker, UNPUBLISHED, times)
            case.finish(worker)
        case.check()


@pytest.mark.fault_case("Redis", "requests that arrive after the next recovery")
def test_what_arrives_late_is_refused(make_case: MakeCase, kafka: KafkaService, own_redis: OwnRedis) -> None:
    """Requests stay on their way until a partition that waits for one has been taken over by a new connection."""
    with case_by_proxy(make_case, kafka, own_redis) as (case, proxy):
        case.begin(feeds=True)
        with case.worker() as worker:
            for _ in range(case.choose(full=3, short=1)):
                case.until_batches(8, worker)
                case.assert_mid_stream()
                before = case.logged(RECOVERY)
                proxy.hold(only_present=True)
                until_logged(case, worker, RECOVERY, before + 1)
                proxy.release()
                case.injected()
            case.finish(worker)
        case.check()
